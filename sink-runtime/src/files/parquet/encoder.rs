//! The encoded part of a file, row group by row group. Between two of them nothing is held but encoded bytes and what the
//! footer will say of them, in the bytes it will say it in: writers, dictionaries and compression contexts live no longer
//! than their row group. That is what lets thousands of files be open.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor};

use super::super::nan::NanCounts;
use super::super::sink::PartSink;
use super::super::writer::KeyValues;
use super::{describe, properties};
use crate::plan::ParquetOptions;

const MAGIC: &[u8; 4] = b"PAR1";

/// Behind a footer: its length and the magic.
const TAIL: usize = 8;

/// Version of the format: that of data pages, which all readers read.
const VERSION: i32 = 1;

pub(super) struct Encoder {
    sink: PartSink,
    schema: SchemaRef,
    properties: WriterPropertiesPtr,
    row_group_rows: usize,
    row_group_bytes: usize,
    /// `None` where nobody asks: no field ids, no metrics.
    nans: Option<NanCounts>,
    row_group: Option<RowGroup>,
    /// A footer for each row group that was ended.
    ended: Vec<Box<[u8]>>,
    /// In-memory bytes of the rows encoded so far.
    consumed: usize,
    /// Bytes of all columns' compression contexts.
    contexts: usize,
}

/// One that takes rows.
struct RowGroup {
    descriptor: SchemaDescPtr,
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

/// A file whose footer is written.
pub(super) struct Encoded {
    pub(super) footer: ParquetMetaData,
    pub(super) nans: Option<NanCounts>,
    pub(super) sink: PartSink,
}

impl Encoder {
    /// `context` is the size of one column's compression context; `waiting` shows what the columns are like.
    pub(super) fn begin(
        options: &ParquetOptions,
        schema: &SchemaRef,
        part_size: usize,
        waiting: &[RecordBatch],
        context: usize,
    ) -> Result<Self, ParquetError> {
        let descriptor = describe(schema)?;
        let has_ids = descriptor
            .columns()
            .iter()
            .any(|c| c.self_type().get_basic_info().has_id());
        let properties = properties(options, schema, waiting)?;
        // Numbers of dictionary entries make small pages, and those small contexts.
        let contexts = descriptor
            .columns()
            .iter()
            .map(|c| match properties.dictionary_enabled(c.path()) {
                true => context / 2,
                false => context,
            })
            .sum();
        let mut sink = PartSink::new(part_size);
        sink.write_all(MAGIC)?;
        Ok(Self {
            sink,
            schema: schema.clone(),
            properties: Arc::new(properties),
            row_group_rows: options.row_group_rows.max(1),
            row_group_bytes: options.row_group_bytes.max(1),
            nans: has_ids.then(|| NanCounts::new(schema)),
            row_group: None,
            ended: Vec::new(),
            consumed: 0,
            contexts,
        })
    }

    /// `bytes` is what the rows took in memory.
    pub(super) fn write(
        &mut self,
        batches: &[RecordBatch],
        bytes: usize,
    ) -> Result<(), ParquetError> {
        self.consumed += bytes;
        for batch in batches {
            if let Some(nans) = &mut self.nans {
                nans.add(batch.columns());
            }
            let mut at = 0;
            while at < batch.num_rows() {
                at += self.write_some(&batch.slice(at, batch.num_rows() - at))?;
            }
        }
        Ok(())
    }

    /// As many rows as the row group may still have; tells how many.
    fn write_some(&mut self, batch: &RecordBatch) -> Result<usize, ParquetError> {
        let group = match self.row_group.take() {
            Some(group) => group,
            None => RowGroup::begin(&self.schema, &self.properties, self.ended.len())?,
        };
        let group = self.row_group.insert(group);
        let rows = batch.num_rows().min(self.row_group_rows - group.rows);
        group.write(&self.schema, &batch.slice(0, rows))?;
        if group.rows >= self.row_group_rows || group.memory() >= self.row_group_bytes {
            self.end_row_group()?;
        }
        Ok(rows)
    }

    pub(super) fn end_row_group(&mut self) -> Result<(), ParquetError> {
        if let Some(group) = self.row_group.take() {
            let ended = self.close(group)?;
            self.ended.push(put_by(ended)?);
        }
        Ok(())
    }

    pub(super) fn has_begun(&self) -> bool {
        self.row_group.is_some()
    }

    pub(super) fn drain(&mut self) -> Vec<Bytes> {
        self.sink.drain()
    }

    /// Encoded bytes, those of the row group at work estimated.
    pub(super) fn size(&self) -> u64 {
        self.sink.written() + self.in_progress() as u64
    }

    /// Encoded bytes for each byte of rows in memory.
    pub(super) fn ratio(&self) -> f64 {
        self.size() as f64 / self.consumed.max(1) as f64
    }

    pub(super) fn in_progress(&self) -> usize {
        let columns = self.row_group.iter().flat_map(|group| &group.columns);
        columns
            .map(ArrowColumnWriter::get_estimated_total_bytes)
            .sum()
    }

    /// What the end of the row group gives back, but for the encoded bytes.
    pub(super) fn row_group_memory(&self) -> usize {
        self.row_group
            .as_ref()
            .map_or(0, |group| group.memory() + self.contexts)
    }

    pub(super) fn memory(&self) -> usize {
        let footers: usize = self.ended.iter().map(|footer| footer.len()).sum();
        let own = size_of::<Self>() + PROPERTIES;
        self.row_group_memory() + footers + self.sink.memory() + own
    }

    /// Ends the file. `metadata` goes into the footer.
    pub(super) fn finish(mut self, metadata: KeyValues) -> Result<Encoded, ParquetError> {
        let last = match self.row_group.take() {
            Some(group) => Some(self.close(group)?),
            None => None,
        };
        let ended = self.ended.iter().map(|footer| taken_out(footer));
        let mut groups = ended.collect::<Result<Vec<_>, _>>()?;
        groups.extend(last);
        let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
        let metadata: Vec<_> = metadata
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, value))
            .collect();
        let file = FileMetaData::new(
            VERSION,
            rows,
            Some(format!("tidewater {}", env!("CARGO_PKG_VERSION"))),
            (!metadata.is_empty()).then_some(metadata),
            Arc::new(describe(&self.schema)?),
            None,
        );
        let footer = ParquetMetaData::new(file, groups);
        ParquetMetaDataWriter::new(&mut self.sink, &footer).finish()?;
        Ok(Encoded {
            footer,
            nans: self.nans,
            sink: self.sink,
        })
    }

    /// Moves the row group into the sink.
    fn close(&mut self, group: RowGroup) -> Result<RowGroupMetaData, ParquetError> {
        let number = i16::try_from(self.ended.len()).map_err(|_| {
            ParquetError::General("more row groups than a file may have".to_owned())
        })?;
        let start = self.sink.written() as i64;
        let mut ended = None;
        let mut out = TrackedWrite::new(&mut self.sink);
        let mut writer = SerializedRowGroupWriter::new(
            group.descriptor,
            Arc::clone(&self.properties),
            &mut out,
            number,
            Some(Box::new(|out, metadata, filters, _, _| {
                ended = Some(placed(out, metadata, filters, start)?);
                Ok(())
            })),
        );
        for column in group.columns {
            column.close()?.append_to_row_group(&mut writer)?;
        }
        writer.close()?;
        out.flush()?;
        drop(out);
        ended.ok_or_else(|| ParquetError::General("a row group ended without a word".to_owned()))
    }
}

/// Heap bytes of writer properties.
const PROPERTIES: usize = 1024;

impl RowGroup {
    fn begin(
        schema: &SchemaRef,
        properties: &WriterPropertiesPtr,
        number: usize,
    ) -> Result<Self, ParquetError> {
        // Writes nothing: it knows how to make column writers.
        let shell = SerializedFileWriter::new(
            io::sink(),
            describe(schema)?.root_schema_ptr(),
            Arc::clone(properties),
        )?;
        let columns = ArrowRowGroupWriterFactory::new(&shell, schema.clone())
            .create_column_writers(number)?;
        Ok(Self {
            descriptor: Arc::new(SchemaDescriptor::clone(shell.schema_descr())),
            columns,
            rows: 0,
        })
    }

    fn write(&mut self, schema: &SchemaRef, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += batch.num_rows();
        let mut columns = self.columns.iter_mut();
        for (field, values) in schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, values)? {
                if let Some(column) = columns.next() {
                    column.write(&leaf)?;
                }
            }
        }
        Ok(())
    }

    /// Neither figure of a column's holds all of it: one leaves out pages that wait for their dictionary, the other the
    /// dictionary's hash table.
    fn memory(&self) -> usize {
        let columns = self.columns.iter();
        columns
            .map(|column| column.memory_size().max(column.get_estimated_total_bytes()))
            .sum()
    }
}

/// What the footer will say of a row group that was written from `start` on, whose own places are counted from there.
fn placed<W: Write>(
    out: &mut TrackedWrite<W>,
    metadata: RowGroupMetaData,
    filters: Vec<Option<Sbbf>>,
    start: i64,
) -> Result<RowGroupMetaData, ParquetError> {
    let mut columns = Vec::with_capacity(metadata.num_columns());
    for (column, filter) in metadata.columns().iter().zip(filters) {
        let dictionary = column.dictionary_page_offset();
        let mut moved = column
            .clone()
            .into_builder()
            .set_data_page_offset(column.data_page_offset() + start)
            .set_dictionary_page_offset(dictionary.map(|offset| offset + start));
        if let Some(filter) = filter {
            let before = out.bytes_written();
            filter.write(&mut *out)?;
            let length = i32::try_from(out.bytes_written() - before).ok();
            moved = moved
                .set_bloom_filter_offset(Some(before as i64 + start))
                .set_bloom_filter_length(length);
        }
        columns.push(moved.build()?);
    }
    let offset = metadata.file_offset().unwrap_or(0) + start;
    metadata
        .into_builder()
        .set_column_metadata(columns)
        .set_file_offset(offset)
        .build()
}

/// A tenth of what it takes as structs.
fn put_by(row_group: RowGroupMetaData) -> Result<Box<[u8]>, ParquetError> {
    let (rows, schema) = (row_group.num_rows(), row_group.schema_descr_ptr());
    let file = FileMetaData::new(VERSION, rows, None, None, schema, None);
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, &ParquetMetaData::new(file, vec![row_group]))
        .finish()?;
    bytes.truncate(bytes.len().saturating_sub(TAIL));
    Ok(bytes.into_boxed_slice())
}

fn taken_out(footer: &[u8]) -> Result<RowGroupMetaData, ParquetError> {
    let whole = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    let read = ParquetMetaDataReader::decode_metadata_with_options(footer, Some(&whole))?;
    let only = read.into_builder().take_row_groups().into_iter().next();
    only.ok_or_else(|| ParquetError::General("a footer without its row group".to_owned()))
}
