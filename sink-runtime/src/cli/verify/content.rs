//! What one data file holds: rows, and the offsets of its metadata columns. Files of Parquet and JSON lines.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::CliError;
use crate::plan::{MetadataColumns, Plan, SinkId, Topics};
use crate::record::{TopicName, TopicPartition};

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) rows: u64,
    /// The sink that wrote it, where the file says so.
    pub(super) sink: Option<String>,
    pub(super) offsets: BTreeMap<TopicPartition, Vec<i64>>,
}

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

pub(super) fn of_parquet(plan: &Plan, bytes: Bytes, name: &str) -> Result<Content, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError(format!("read {name}: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| failed(&e))?;
    let metadata = builder.metadata().file_metadata();
    let named = metadata.key_value_metadata();
    let named = named.into_iter().flatten();
    let mut content = Content {
        rows: metadata.num_rows().unsigned_abs(),
        sink: named
            .filter(|pair| pair.key == SinkId::FILE_KEY)
            .find_map(|pair| pair.value.clone()),
        ..Content::default()
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
    let wanted: Vec<&str> = [topic, partition, offset]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(65_536)
        .build()
        .map_err(|e| failed(&e))?;
    let only = only_topic(plan).map(TopicName::as_str);
    for batch in reader {
        let batch = batch.map_err(|e| failed(&e))?;
        add(&mut content, &batch, &plan.decode.metadata, only)
            .ok_or_else(|| failed(&"the metadata columns are not as the plan says"))?;
    }
    Ok(content)
}

fn add(
    content: &mut Content,
    batch: &RecordBatch,
    columns: &MetadataColumns,
    only: Option<&str>,
) -> Option<()> {
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
    let mut current: Option<(TopicPartition, Vec<i64>)> = None;
    for row in 0..batch.num_rows() {
        let topic = topics.map_or(only, |topics| {
            topics.is_valid(row).then(|| topics.value(row))
        })?;
        let partition = partitions.value(row);
        let same = current
            .as_ref()
            .is_some_and(|(tp, _)| tp.partition == partition && tp.topic.as_str() == topic);
        if !same {
            if let Some((tp, mut offsets)) = current.take() {
                content.offsets.entry(tp).or_default().append(&mut offsets);
            }
            current = Some((TopicPartition::new(topic, partition), Vec::new()));
        }
        if let Some((_, list)) = &mut current {
            list.push(offsets.value(row));
        }
    }
    if let Some((tp, mut offsets)) = current {
        content.offsets.entry(tp).or_default().append(&mut offsets);
    }
    Some(())
}

pub(super) fn of_json_lines(plan: &Plan, bytes: &[u8], name: &str) -> Result<Content, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError(format!("read {name}: {error}"));
    let MetadataColumns {
        topic,
        partition,
        offset,
        ..
    } = &plan.decode.metadata;
    let only = only_topic(plan).map(TopicName::as_str);
    let mut content = Content::default();
    for line in lines(bytes, name)? {
        let line = line.map_err(|e| failed(&e))?;
        content.rows += 1;
        if !has_offsets(plan) {
            continue;
        }
        let row: serde_json::Value = serde_json::from_str(&line).map_err(|e| failed(&e))?;
        let field = |name: &Option<String>| name.as_ref().and_then(|name| row.get(name));
        let topic = field(topic).and_then(|t| t.as_str()).or(only);
        let partition = field(partition).and_then(serde_json::Value::as_i64);
        let offset = field(offset).and_then(serde_json::Value::as_i64);
        let (Some(topic), Some(partition), Some(offset)) = (topic, partition, offset) else {
            return Err(failed(&"a row without its metadata columns"));
        };
        let tp = TopicPartition::new(topic, i32::try_from(partition).unwrap_or(-1));
        content.offsets.entry(tp).or_default().push(offset);
    }
    Ok(content)
}

type Lines<'a> = Box<dyn Iterator<Item = std::io::Result<String>> + 'a>;

fn lines<'a>(bytes: &'a [u8], name: &str) -> Result<Lines<'a>, CliError> {
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
