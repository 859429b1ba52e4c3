//! The columns that carry what Kafka knows of each record. Pure.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, LargeBinaryBuilder, ListArray, NullBufferBuilder,
    StringBuilder, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};

use super::column::constant;
use super::temporal::in_calendar;
use crate::plan::MetadataColumns;
use crate::record::{Arena, Headers, RawBatch, TimestampType};
use crate::schema::arrow::{ELEMENT, UTC, header_fields};

/// Whether the record's timestamp fits its column; one in microseconds by a producer's mistake does not.
pub(super) fn timestamp_fits(columns: &MetadataColumns, raw: &RawBatch, row: usize) -> bool {
    let micros = raw.timestamps[row].checked_mul(1000);
    columns.timestamp.is_none() || micros.is_some_and(in_calendar)
}

/// In the order of `schema::arrow::metadata_fields`, for these rows of the raw batch.
pub(super) fn arrays(columns: &MetadataColumns, raw: &RawBatch, rows: &[u32]) -> Vec<ArrayRef> {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    if columns.topic.is_some() {
        arrays.push(constant(raw.tp.topic.as_str(), rows.len()));
    }
    if columns.partition.is_some() {
        let partition = vec![raw.tp.partition; rows.len()];
        arrays.push(Arc::new(Int32Array::from(partition)));
    }
    if columns.offset.is_some() {
        let offsets = rows.iter().map(|row| raw.offsets[*row as usize]);
        arrays.push(Arc::new(Int64Array::from_iter_values(offsets)));
    }
    if columns.timestamp.is_some() {
        arrays.push(timestamps(raw, rows));
    }
    if columns.timestamp_type.is_some() {
        arrays.push(match raw.timestamp_type {
            TimestampType::NotAvailable => new_null_array(&DataType::Utf8, rows.len()),
            TimestampType::CreateTime => constant("CreateTime", rows.len()),
            TimestampType::LogAppendTime => constant("LogAppendTime", rows.len()),
        });
    }
    if columns.key.is_some() {
        arrays.push(match &raw.keys {
            Some(keys) => binaries(keys, rows),
            None => new_null_array(&DataType::LargeBinary, rows.len()),
        });
    }
    if columns.headers.is_some() {
        arrays.push(headers(raw.headers.as_deref(), rows));
    }
    arrays
}

fn timestamps(raw: &RawBatch, rows: &[u32]) -> ArrayRef {
    let mut values = Vec::with_capacity(rows.len());
    let mut validity = NullBufferBuilder::new(rows.len());
    for row in rows {
        let millis = raw.timestamps[*row as usize];
        validity.append(millis != -1);
        // Rows that would saturate were refused.
        values.push(millis.saturating_mul(1000));
    }
    let values = ScalarBuffer::from(values);
    Arc::new(TimestampMicrosecondArray::new(values, validity.finish()).with_timezone(UTC))
}

fn binaries(arena: &Arena, rows: &[u32]) -> ArrayRef {
    let mut builder = LargeBinaryBuilder::with_capacity(rows.len(), arena.bytes.len());
    // Rows and nulls both ascend.
    let mut nulls = arena.nulls.iter().peekable();
    for row in rows {
        while nulls.next_if(|null| *null < row).is_some() {}
        if nulls.peek() == Some(&row) {
            builder.append_null();
        } else {
            builder.append_value(arena.slice(*row as usize));
        }
    }
    Arc::new(builder.finish())
}

fn headers(headers: Option<&[Headers]>, rows: &[u32]) -> ArrayRef {
    let mut names = StringBuilder::new();
    let mut values = LargeBinaryBuilder::new();
    let mut lengths = Vec::with_capacity(rows.len());
    for row in rows {
        let of_row = headers.and_then(|h| h.get(*row as usize));
        for (name, value) in of_row.into_iter().flatten() {
            names.append_value(name);
            values.append_option(value.as_deref());
        }
        lengths.push(of_row.map_or(0, Vec::len));
    }
    let pairs: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(values.finish())];
    let fields = header_fields();
    let element = Field::new(ELEMENT, DataType::Struct(fields.clone()), false);
    let nulls: Option<NullBuffer> = None;
    Arc::new(ListArray::new(
        Arc::new(element),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(StructArray::new(fields, pairs, None)),
        nulls,
    ))
}
