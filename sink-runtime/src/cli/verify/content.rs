//! What one data file holds: rows, the offsets of its metadata columns, and values. Files of Parquet and JSON lines.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Int32Type, Int64Type, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, ProjectionMask};

use super::super::CliError;
use super::cells::{Cells, cells};
use crate::decode::{Decoder, decoder};
use crate::plan::{MetadataColumns, Plan, SinkId, Topics, ValueSchema};
use crate::record::{Arena, AssignmentEpoch, RawBatch, TimestampType, TopicName, TopicPartition};
use crate::schema::{Field, Type};

/// Rows read at once.
const BATCH: usize = 16_384;

/// How a file is read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) plan: Arc<Plan>,
    pub(super) values: bool,
    /// Paths of a table's columns as they are now, by id. Readers go by ids, whatever name the file has for one.
    pub(super) names: Option<BTreeMap<i32, String>>,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) rows: u64,
    /// The sink that wrote it, where the file says so.
    pub(super) sink: Option<String>,
}

/// Consecutive rows of one topic-partition.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) tp: TopicPartition,
    /// Of the first row in its batch.
    pub(super) first: usize,
    pub(super) offsets: Vec<i64>,
}

/// Rows of a file, in the order it holds them, with their values where they were asked for.
pub(super) type Each<'a> = dyn FnMut(&Content, &[Stretch], &[Cells]) + Send + 'a;

/// Whether rows carry their topic-partition and offset.
pub(super) fn has_offsets(plan: &Plan) -> bool {
    let columns = &plan.decode.metadata;
    let topic_known = columns.topic.is_some() || only_topic(plan).is_some();
    columns.partition.is_some() && columns.offset.is_some() && topic_known
}

/// The topic of every row, where there is but one.
pub(super) fn only_topic(plan: &Plan) -> Option<&TopicName> {
    match &plan.source.topics {
        Topics::List(topics) if topics.len() == 1 => topics.first(),
        _ => None,
    }
}

pub(super) fn of_parquet(
    reading: &Reading,
    bytes: Bytes,
    name: &str,
    each: &mut Each<'_>,
) -> Result<Content, CliError> {
    let plan = &reading.plan;
    let failed = |error: &dyn std::fmt::Display| CliError(format!("read {name}: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| failed(&e))?;
    let metadata = builder.metadata().file_metadata();
    let named = metadata.key_value_metadata();
    let named = named.into_iter().flatten();
    let content = Content {
        rows: metadata.num_rows().unsigned_abs(),
        sink: named
            .filter(|pair| pair.key == SinkId::FILE_KEY)
            .find_map(|pair| pair.value.clone()),
    };
    if !has_offsets(plan) {
        return Ok(content);
    }
    let MetadataColumns {
        topic,
        partition,
        offset,
        ..
    } = &plan.decode.metadata;
    let mask = match reading.values {
        true => ProjectionMask::all(),
        false => {
            let wanted = [topic, partition, offset].into_iter().flatten();
            ProjectionMask::columns(builder.parquet_schema(), wanted.map(String::as_str))
        }
    };
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH)
        .build()
        .map_err(|e| failed(&e))?;
    let only = only_topic(plan).map(TopicName::as_str);
    for batch in reader {
        let batch = batch.map_err(|e| failed(&e))?;
        let stretches = stretches(&batch, &plan.decode.metadata, only)
            .ok_or_else(|| failed(&"the metadata columns are not as the plan says"))?;
        let cells = match reading.values {
            true => cells(&batch, &|field, path| reading.name(field, path)),
            false => Vec::new(),
        };
        each(&content, &stretches, &cells);
    }
    Ok(content)
}

impl Reading {
    /// What a file's column is called now; `None` of one that the table has no more.
    fn name(&self, field: &FieldRef, path: &str) -> Option<String> {
        let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY);
        match (&self.names, id.and_then(|id| id.parse().ok())) {
            (Some(names), Some(id)) => names.get::<i32>(&id).cloned(),
            _ => Some(path.to_owned()),
        }
    }
}

fn stretches(
    batch: &RecordBatch,
    columns: &MetadataColumns,
    only: Option<&str>,
) -> Option<Vec<Stretch>> {
    let partitions = batch
        .column_by_name(columns.partition.as_deref()?)?
        .as_primitive_opt::<Int32Type>()?;
    let offsets = batch
        .column_by_name(columns.offset.as_deref()?)?
        .as_primitive_opt::<Int64Type>()?;
    let topics = match &columns.topic {
        Some(name) => Some(
            arrow::compute::cast(
                batch.column_by_name(name)?,
                &arrow::datatypes::DataType::Utf8,
            )
            .ok()?,
        ),
        None => None,
    };
    let topics = topics.as_ref().map(|topics| topics.as_string::<i32>());
    let mut stretches = Vec::new();
    for row in 0..batch.num_rows() {
        let topic = topics.map_or(only, |topics| {
            topics.is_valid(row).then(|| topics.value(row))
        })?;
        stretch(
            &mut stretches,
            row,
            (topic, partitions.value(row)),
            offsets.value(row),
        );
    }
    Some(stretches)
}

fn stretch(stretches: &mut Vec<Stretch>, row: usize, of: (&str, i32), offset: i64) {
    let (topic, partition) = of;
    match stretches.last_mut() {
        Some(last) if last.tp.partition == partition && last.tp.topic.as_str() == topic => {
            last.offsets.push(offset);
        }
        _ => stretches.push(Stretch {
            tp: TopicPartition::new(topic, partition),
            first: row,
            offsets: vec![offset],
        }),
    }
}

pub(super) fn of_json_lines(
    reading: &Reading,
    bytes: &[u8],
    name: &str,
    each: &mut Each<'_>,
) -> Result<Content, CliError> {
    let plan = &reading.plan;
    let failed = |error: &dyn std::fmt::Display| CliError(format!("read {name}: {error}"));
    let only = only_topic(plan).map(TopicName::as_str);
    let mut content = Content::default();
    let mut decoder = written_decoder(plan);
    let mut pending = Lines::default();
    for line in lines(bytes, name)? {
        let line = line.map_err(|e| failed(&e))?;
        content.rows += 1;
        if !has_offsets(plan) {
            continue;
        }
        let row: serde_json::Value = serde_json::from_str(&line).map_err(|e| failed(&e))?;
        pending
            .add(&plan.decode.metadata, only, &row, &line)
            .ok_or_else(|| failed(&"a row without its metadata columns"))?;
        if pending.texts.len() == BATCH {
            std::mem::take(&mut pending).give(reading, &mut *decoder, &content, each);
        }
    }
    pending.give(reading, &mut *decoder, &content, each);
    Ok(content)
}

/// Lines that wait to be decoded.
#[derive(Default)]
struct Lines {
    stretches: Vec<Stretch>,
    texts: Arena,
}

impl Lines {
    fn add(
        &mut self,
        columns: &MetadataColumns,
        only: Option<&str>,
        row: &serde_json::Value,
        line: &str,
    ) -> Option<()> {
        let field = |name: &Option<String>| name.as_ref().and_then(|name| row.get(name));
        let topic = field(&columns.topic).and_then(|t| t.as_str()).or(only)?;
        let partition = field(&columns.partition)?.as_i64()?;
        let offset = field(&columns.offset)?.as_i64()?;
        let partition = i32::try_from(partition).unwrap_or(-1);
        stretch(
            &mut self.stretches,
            self.texts.len(),
            (topic, partition),
            offset,
        );
        self.texts.push(Some(line.as_bytes()));
        Some(())
    }

    fn give(
        self,
        reading: &Reading,
        decoder: &mut dyn Decoder,
        content: &Content,
        each: &mut Each<'_>,
    ) {
        let Lines { stretches, texts } = self;
        if texts.is_empty() {
            return;
        }
        let rows = texts.len();
        let raw = RawBatch {
            tp: stretches[0].tp.clone(),
            epoch: AssignmentEpoch(0),
            values: texts,
            offsets: vec![0; rows],
            timestamps: vec![-1; rows],
            timestamp_type: TimestampType::NotAvailable,
            keys: None,
            headers: None,
            leader_epoch: None,
        };
        let mut values = Vec::new();
        if reading.values {
            let decoded = decoder.decode(&raw);
            // What we wrote we can read; of lines that somebody else wrote the offsets are compared.
            if decoded.rows.len() == rows {
                values = cells(&decoded.batch, &|_, path| Some(path.to_owned()));
            }
        }
        each(content, &stretches, &values);
    }
}

/// Decodes what the sink has written: its fields, in the encodings of files.
fn written_decoder(plan: &Plan) -> Box<dyn Decoder> {
    let mut decode = plan.decode.clone();
    decode.metadata = MetadataColumns::default();
    if let ValueSchema::Declared { schema, .. } = &mut decode.value {
        schema.fields.iter_mut().for_each(plain);
    }
    decoder(&Arc::new(decode))
}

/// As files have it: each type in its usual text.
fn plain(field: &mut Field) {
    field.encoding = None;
    match &mut field.ty {
        Type::Struct(fields) => fields.iter_mut().for_each(plain),
        Type::List(inner) | Type::Map(inner) => plain(inner),
        _ => {}
    }
}

type Texts<'a> = Box<dyn Iterator<Item = std::io::Result<String>> + 'a>;

fn lines<'a>(bytes: &'a [u8], name: &str) -> Result<Texts<'a>, CliError> {
    let reader: Box<dyn Read + 'a> = if name.ends_with(".gz") {
        Box::new(flate2::read::MultiGzDecoder::new(bytes))
    } else if name.ends_with(".zst") {
        Box::new(zstd::Decoder::new(bytes).map_err(|e| CliError(format!("read {name}: {e}")))?)
    } else {
        Box::new(bytes)
    };
    Ok(Box::new(BufReader::new(reader).lines()))
}

/// The JSON writer knows zones by offset only; Parquet's instants are in "UTC".
fn with_plain_zones(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let ty = match field.data_type() {
            DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
            other => other.clone(),
        };
        let data = column
            .to_data()
            .into_builder()
            .data_type(ty.clone())
            .build()?;
        columns.push(arrow::array::make_array(data));
        fields.push(field.as_ref().clone().with_data_type(ty));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The first rows as JSON lines.
pub(super) fn sample(bytes: Bytes, name: &str, rows: usize) -> Result<String, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError(format!("read {name}: {error}"));
    if !name.ends_with(".parquet") {
        let taken: Result<Vec<_>, _> = lines(&bytes, name)?.take(rows).collect();
        return Ok(taken.map_err(|e| failed(&e))?.join("\n"));
    }
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| failed(&e))?;
    let reader = builder
        .with_batch_size(rows)
        .build()
        .map_err(|e| failed(&e))?;
    let mut text = Vec::new();
    for batch in reader.take(1) {
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut text);
        let batch = with_plain_zones(&batch.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
        writer.write(&batch).map_err(|e| failed(&e))?;
        writer.finish().map_err(|e| failed(&e))?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
