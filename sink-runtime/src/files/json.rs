//! JSON lines, one object per row, as our own JSON decoder reads them back: times in ISO 8601, instants in UTC with
//! `Z`, decimals as numbers with all their digits, binaries in base64, UUIDs in their usual text. Columns that are null
//! are left out. What JSON cannot say (NaN, infinities) becomes null.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, RecordBatch, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{
    DataType, FieldRef, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, NullableEncoder};
use arrow::json::{Encoder, EncoderFactory, EncoderOptions, WriterBuilder};
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};

use super::FileError;
use super::buffer::RowBuffer;
use super::sink::PartSink;
use super::writer::{FileWriter, Finished, KeyValues};
use crate::plan::JsonCompression;

const FORMAT: &str = "JSON lines";

/// Rows that wait for a compressor, which holds up to a few megabytes.
const BEGIN_BYTES: usize = 1 << 20;
const CONTINUE_BYTES: usize = 256 << 10;
/// Text per in-memory byte, before compression.
const TEXT_RATIO: f64 = 1.5;

pub(super) struct JsonFile {
    compression: JsonCompression,
    part_size: usize,
    /// Maps keep keys whose value is null; that needs nulls to be written everywhere.
    explicit_nulls: bool,
    buffer: RowBuffer,
    encoder: Option<Compressor>,
    consumed: usize,
    rows: u64,
}

/// The sink behind its compression.
enum Compressor {
    None(PartSink),
    Gzip(Box<flate2::write::GzEncoder<PartSink>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, PartSink>>),
}

impl JsonFile {
    pub(super) fn new(compression: JsonCompression, schema: SchemaRef, part_size: usize) -> Self {
        Self {
            compression,
            part_size,
            explicit_nulls: schema.fields().iter().any(has_nullable_map),
            buffer: RowBuffer::default(),
            encoder: None,
            consumed: 0,
            rows: 0,
        }
    }

    fn encode(&mut self) -> Result<&mut Compressor, FileError> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => {
                Compressor::new(self.compression, self.part_size).map_err(|e| FileError::Open {
                    format: FORMAT,
                    source: Box::new(e),
                })?
            }
        };
        let encoder = self.encoder.insert(encoder);
        self.consumed += self.buffer.bytes();
        let mut lines = WriterBuilder::new()
            .with_explicit_nulls(self.explicit_nulls)
            .with_encoder_factory(Arc::new(OwnForms))
            .build::<_, LineDelimited>(&mut *encoder);
        for batch in self.buffer.take().map_err(FileError::Gather)? {
            lines.write(&batch).map_err(encode_error)?;
        }
        lines.finish().map_err(encode_error)?;
        drop(lines);
        Ok(encoder)
    }
}

impl FileWriter for JsonFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), FileError> {
        self.rows += batch.num_rows() as u64;
        self.buffer.push(batch.clone()).map_err(FileError::Gather)?;
        let enough = match self.encoder {
            None => BEGIN_BYTES,
            Some(_) => CONTINUE_BYTES,
        };
        if self.buffer.bytes() >= enough {
            self.encode()?;
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.buffer.bytes() + self.encoder.as_ref().map_or(0, Compressor::memory)
    }

    fn size(&self) -> u64 {
        let written = self.encoder.as_ref().map_or(0, |e| e.sink().written());
        let ratio = if written > 0 {
            written as f64 / self.consumed.max(1) as f64
        } else {
            match self.compression {
                JsonCompression::None => TEXT_RATIO,
                JsonCompression::Gzip | JsonCompression::Zstd { .. } => TEXT_RATIO / 6.0,
            }
        };
        written + (self.buffer.bytes() as f64 * ratio) as u64
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn drain(&mut self) -> Vec<Bytes> {
        match &mut self.encoder {
            Some(encoder) => encoder.sink_mut().drain(),
            None => Vec::new(),
        }
    }

    fn finish(mut self: Box<Self>, _metadata: KeyValues) -> Result<Finished, FileError> {
        self.encode()?;
        let sink = match self.encoder.take() {
            Some(encoder) => encoder.finish().map_err(|e| FileError::Finish {
                format: FORMAT,
                source: Box::new(e),
            })?,
            None => PartSink::new(self.part_size),
        };
        Ok(Finished {
            rows: self.rows,
            size: sink.written(),
            rest: sink.into_rest(),
            metrics: None,
        })
    }
}

impl Compressor {
    fn new(compression: JsonCompression, part_size: usize) -> io::Result<Self> {
        let sink = PartSink::new(part_size);
        Ok(match compression {
            JsonCompression::None => Self::None(sink),
            JsonCompression::Gzip => Self::Gzip(Box::new(flate2::write::GzEncoder::new(
                sink,
                flate2::Compression::default(),
            ))),
            JsonCompression::Zstd { level } => {
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(sink, level)?))
            }
        })
    }

    fn sink(&self) -> &PartSink {
        match self {
            Self::None(sink) => sink,
            Self::Gzip(gzip) => gzip.get_ref(),
            Self::Zstd(zstd) => zstd.get_ref(),
        }
    }

    fn sink_mut(&mut self) -> &mut PartSink {
        match self {
            Self::None(sink) => sink,
            Self::Gzip(gzip) => gzip.get_mut(),
            Self::Zstd(zstd) => zstd.get_mut(),
        }
    }

    fn memory(&self) -> usize {
        let context = match self {
            Self::None(_) => 0,
            Self::Gzip(_) => 300 << 10,
            // Window, tables and buffers of a stream at the usual levels.
            Self::Zstd(_) => 4 << 20,
        };
        context + self.sink().memory()
    }

    fn finish(self) -> io::Result<PartSink> {
        match self {
            Self::None(sink) => Ok(sink),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(sink) => sink.write(buf),
            Self::Gzip(gzip) => gzip.write(buf),
            Self::Zstd(zstd) => zstd.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A flush would end a compression block for nothing.
        Ok(())
    }
}

fn has_nullable_map(field: &FieldRef) -> bool {
    match field.data_type() {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair
                .get(1)
                .is_some_and(|v| v.is_nullable() || has_nullable_map(v)),
            _ => false,
        },
        DataType::Struct(fields) => fields.iter().any(has_nullable_map),
        DataType::List(item) | DataType::LargeList(item) => has_nullable_map(item),
        _ => false,
    }
}

/// The forms in which Arrow's own JSON writer differs from what our decoder reads.
#[derive(Debug)]
struct OwnForms;

impl EncoderFactory for OwnForms {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                Box::new(Base64(move |row| array.value(row)))
            }
            DataType::LargeBinary => {
                let array = array.as_binary::<i64>();
                Box::new(Base64(move |row| array.value(row)))
            }
            DataType::FixedSizeBinary(16) => Box::new(UuidText(array.as_fixed_size_binary())),
            DataType::FixedSizeBinary(_) => {
                let array = array.as_fixed_size_binary();
                Box::new(Base64(move |row| array.value(row)))
            }
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Box::new(Micros(array.as_primitive::<TimestampMicrosecondType>()))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
                Box::new(Nanos(array.as_primitive::<TimestampNanosecondType>()))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Base64<F>(F);

impl<'a, F: Fn(usize) -> &'a [u8]> Encoder for Base64<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let bytes = (self.0)(row);
        quoted(out, base64::display::Base64Display::new(bytes, &STANDARD));
    }
}

struct UuidText<'a>(&'a FixedSizeBinaryArray);

impl Encoder for UuidText<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let mut id = [0; 16];
        id.copy_from_slice(self.0.value(row));
        quoted(out, uuid::Uuid::from_bytes(id).as_hyphenated());
    }
}

struct Micros<'a>(&'a TimestampMicrosecondArray);

impl Encoder for Micros<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        instant(DateTime::from_timestamp_micros(self.0.value(row)), out);
    }
}

struct Nanos<'a>(&'a TimestampNanosecondArray);

impl Encoder for Nanos<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        instant(Some(DateTime::from_timestamp_nanos(self.0.value(row))), out);
    }
}

fn instant(at: Option<DateTime<chrono::Utc>>, out: &mut Vec<u8>) {
    match at {
        Some(at) => quoted(out, at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        // Further than the calendar goes.
        None => out.extend_from_slice(b"null"),
    }
}

/// For values that need no escaping.
fn quoted(out: &mut Vec<u8>, value: impl fmt::Display) {
    out.push(b'"');
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
    out.push(b'"');
}

fn encode_error(source: ArrowError) -> FileError {
    FileError::Encode {
        format: FORMAT,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;
