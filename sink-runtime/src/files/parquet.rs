//! Parquet files.
//!
//! What readers get: statistics per row group (DuckDB, Athena and Iceberg prune by them); no page index, which costs
//! CPU and footer on every file and pays only for point look-ups; no embedded Arrow schema, since the Parquet types say
//! it all. Columns with field ids (Iceberg tables) keep them, and UUIDs are annotated as such; see
//! [`super::conform::dataset_schema`] for what plain datasets hold instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef};
use bytes::Bytes;
use parquet::arrow::{ArrowSchemaConverter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, GzipLevel, LogicalType, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type, TypePtr};

use self::encoder::Encoder;
use super::buffer::RowBuffer;
use super::cardinality::outgrows_dictionary;
use super::metrics::Metrics;
use super::writer::{FileWriter, Finished, KeyValues};
use super::{FileError, conform};
use crate::plan::{ParquetCompression, ParquetOptions};

mod encoder;

const FORMAT: &str = "Parquet";

/// Rows or bytes that must wait before a row group is begun: its encoder costs about a megabyte per column.
const BEGIN_ROWS: usize = 16_384;
const BEGIN_BYTES: usize = 4 << 20;
/// The same for going on with one: small writes cost more per row.
const CONTINUE_ROWS: usize = 4096;
const CONTINUE_BYTES: usize = 1 << 20;

/// What the footer says of one column chunk.
const FOOTER_BYTES: usize = 128;

/// Encoded size of rows not encoded yet, as a share of their size in memory, before the file itself tells.
const USUAL_RATIO: f64 = 0.25;

/// More distinct values per row group than a bloom filter is laid out for make it larger than what it saves.
const BLOOM_VALUES: u64 = 1_000_000;

pub(super) struct ParquetFile {
    options: ParquetOptions,
    schema: SchemaRef,
    part_size: usize,
    buffer: RowBuffer,
    encoder: Option<Box<Encoder>>,
    rows: u64,
}

impl ParquetFile {
    pub(super) fn new(options: ParquetOptions, schema: SchemaRef, part_size: usize) -> Self {
        Self {
            options,
            schema,
            part_size,
            buffer: RowBuffer::default(),
            encoder: None,
            rows: 0,
        }
    }

    fn is_due(&self) -> bool {
        let begun = self.encoder.as_ref().is_some_and(|e| e.has_begun());
        if begun {
            self.buffer.rows() >= CONTINUE_ROWS || self.buffer.bytes() >= CONTINUE_BYTES
        } else {
            self.buffer.rows() >= BEGIN_ROWS || self.buffer.bytes() >= BEGIN_BYTES
        }
    }

    /// The encoder with the buffered rows in it.
    fn encode(&mut self) -> Result<Box<Encoder>, FileError> {
        let bytes = self.buffer.bytes();
        let batches = self.buffer.take().map_err(FileError::Gather)?;
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => {
                let context = context_bytes(self.options.compression);
                let (options, schema) = (&self.options, &self.schema);
                let begun = Encoder::begin(options, schema, self.part_size, &batches, context);
                Box::new(begun.map_err(open_error)?)
            }
        };
        encoder.write(&batches, bytes).map_err(encode_error)?;
        Ok(encoder)
    }
}

impl FileWriter for ParquetFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), FileError> {
        self.rows += batch.num_rows() as u64;
        self.buffer.push(batch.clone()).map_err(FileError::Gather)?;
        if self.is_due() {
            self.encoder = Some(self.encode()?);
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.buffer.bytes() + self.encoder.as_ref().map_or(0, |e| e.memory())
    }

    fn relievable(&self) -> usize {
        let (row_group, encoded) = self
            .encoder
            .as_ref()
            .map_or((0, 0), |e| (e.row_group_memory(), e.in_progress()));
        let waiting = self.buffer.bytes();
        // What comes of them stays: encoded, and told by the footer.
        let left = encoded + (waiting as f64 * USUAL_RATIO) as usize;
        (row_group + waiting).saturating_sub(left + self.schema.fields().len() * FOOTER_BYTES)
    }

    /// Ends the row group with the rows that wait: they, its compression contexts and its dictionaries go.
    fn relieve(&mut self) -> Result<(), FileError> {
        if self.buffer.rows() > 0 {
            self.encoder = Some(self.encode()?);
        }
        match &mut self.encoder {
            Some(encoder) => encoder.end_row_group().map_err(encode_error),
            None => Ok(()),
        }
    }

    fn size(&self) -> u64 {
        let encoder = self.encoder.as_ref();
        let (encoded, ratio) = encoder.map_or((0, USUAL_RATIO), |e| (e.size(), e.ratio()));
        encoded + (self.buffer.bytes() as f64 * ratio) as u64
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn drain(&mut self) -> Vec<Bytes> {
        match &mut self.encoder {
            Some(encoder) => encoder.drain(),
            None => Vec::new(),
        }
    }

    fn finish(mut self: Box<Self>, metadata: KeyValues) -> Result<Finished, FileError> {
        let rows = self.rows;
        let encoded = self.encode()?.finish(metadata);
        let encoded = encoded.map_err(|e| FileError::Finish {
            format: FORMAT,
            source: Box::new(e),
        })?;
        let metrics = match &encoded.nans {
            Some(nans) => Metrics::of(&encoded.footer, nans)?,
            None => None,
        };
        Ok(Finished {
            rows,
            size: encoded.sink.written(),
            rest: encoded.sink.into_rest(),
            metrics,
        })
    }
}

/// Memory of a compression context, allocated per column with the first page (zstd: hash tables for pages of a
/// megabyte at the usual levels; others need next to nothing).
fn context_bytes(compression: ParquetCompression) -> usize {
    match compression {
        ParquetCompression::Zstd { level } if level <= 1 => 512 << 10,
        ParquetCompression::Zstd { level } if level <= 4 => 1 << 20,
        ParquetCompression::Zstd { .. } => 4 << 20,
        ParquetCompression::Gzip { .. } => 256 << 10,
        ParquetCompression::None | ParquetCompression::Snappy | ParquetCompression::Lz4 => 0,
    }
}

fn properties(
    options: &ParquetOptions,
    schema: &SchemaRef,
    waiting: &[RecordBatch],
) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression(options.compression)?)
        .set_data_page_size_limit(options.page_bytes)
        .set_dictionary_enabled(options.dictionary)
        .set_offset_index_disabled(true)
        .set_statistics_enabled(if options.statistics {
            EnabledStatistics::Chunk
        } else {
            EnabledStatistics::None
        });
    if options.dictionary
        && let Some(sample) = waiting.iter().max_by_key(|b| b.num_rows())
    {
        for (field, column) in schema.fields().iter().zip(sample.columns()) {
            if outgrows_dictionary(column) {
                let path = ColumnPath::new(vec![field.name().clone()]);
                builder = builder.set_column_dictionary_enabled(path, false);
            }
        }
    }
    for (column, fpp) in &options.bloom_filters {
        // Inferred columns may come later, with other files.
        let Some(path) = leaf(schema.fields(), column) else {
            continue;
        };
        let path = ColumnPath::new(path);
        let values = (options.row_group_rows as u64).clamp(1, BLOOM_VALUES);
        builder = builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), *fpp)
            // The filter is folded to what it holds when the row group ends.
            .set_column_bloom_filter_ndv(path, values);
    }
    Ok(builder.build())
}

/// The path to the column of this name: dots lead into structs, or are part of a name.
fn leaf(fields: &Fields, name: &str) -> Option<Vec<String>> {
    fields.iter().find_map(|field| {
        if field.name() == name {
            return Some(vec![name.to_owned()]);
        }
        let DataType::Struct(inner) = field.data_type() else {
            return None;
        };
        let rest = name.strip_prefix(field.name().as_str())?;
        let mut path = leaf(inner, rest.strip_prefix('.')?)?;
        path.insert(0, field.name().clone());
        Some(path)
    })
}

fn compression(compression: ParquetCompression) -> Result<Compression, ParquetError> {
    Ok(match compression {
        ParquetCompression::None => Compression::UNCOMPRESSED,
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Gzip { level } => Compression::GZIP(GzipLevel::try_new(level)?),
        // Plain LZ4 in Parquet is a framing that readers disagree on.
        ParquetCompression::Lz4 => Compression::LZ4_RAW,
        ParquetCompression::Zstd { level } => Compression::ZSTD(ZstdLevel::try_new(level)?),
    })
}

/// The file's schema in Parquet's terms.
fn describe(schema: &SchemaRef) -> Result<SchemaDescriptor, ParquetError> {
    let descriptor = ArrowSchemaConverter::new().convert(schema)?;
    annotate_uuids(descriptor, schema)
}

/// Gives the columns that [`conform::table_schema`] marked their annotation, which Iceberg asks for and Arrow's own
/// mapping leaves out.
fn annotate_uuids(
    descriptor: SchemaDescriptor,
    schema: &SchemaRef,
) -> Result<SchemaDescriptor, ParquetError> {
    let mut ids = BTreeSet::new();
    uuid_ids(schema.fields(), &mut ids);
    if ids.is_empty() {
        return Ok(descriptor);
    }
    Ok(SchemaDescriptor::new(annotate(
        &descriptor.root_schema_ptr(),
        &ids,
    )?))
}

fn uuid_ids(fields: &Fields, ids: &mut BTreeSet<i32>) {
    for field in fields {
        if conform::is_uuid(field)
            && let Some(id) = field_id(field)
        {
            ids.insert(id);
        }
        match field.data_type() {
            DataType::Struct(inner) => uuid_ids(inner, ids),
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                uuid_ids(&Fields::from(vec![item.clone()]), ids);
            }
            _ => {}
        }
    }
}

fn field_id(field: &FieldRef) -> Option<i32> {
    field
        .metadata()
        .get(PARQUET_FIELD_ID_META_KEY)?
        .parse()
        .ok()
}

fn annotate(ty: &TypePtr, ids: &BTreeSet<i32>) -> Result<TypePtr, ParquetError> {
    let info = ty.get_basic_info();
    let id = info.has_id().then(|| info.id());
    if ty.is_group() {
        let fields = ty
            .get_fields()
            .iter()
            .map(|field| annotate(field, ids))
            .collect::<Result<_, _>>()?;
        let mut group = Type::group_type_builder(ty.name())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(fields)
            .with_id(id);
        if info.has_repetition() {
            group = group.with_repetition(info.repetition());
        }
        return Ok(Arc::new(group.build()?));
    }
    if !id.is_some_and(|id| ids.contains(&id)) {
        return Ok(ty.clone());
    }
    let uuid = Type::primitive_type_builder(ty.name(), PhysicalType::FIXED_LEN_BYTE_ARRAY)
        .with_repetition(info.repetition())
        .with_length(16)
        .with_logical_type(Some(LogicalType::Uuid))
        .with_id(id)
        .build()?;
    Ok(Arc::new(uuid))
}

fn open_error(source: ParquetError) -> FileError {
    FileError::Open {
        format: FORMAT,
        source: Box::new(source),
    }
}

fn encode_error(source: ParquetError) -> FileError {
    FileError::Encode {
        format: FORMAT,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;
