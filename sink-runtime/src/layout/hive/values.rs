//! A column that partitions by value: one code for each distinct value, and the text it has in a path. Pure.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, UInt8Type, UInt16Type, UInt32Type,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};

use super::DEFAULT_PARTITION;
use super::codes::{Codes, StringCodes};
use super::level::{Coded, DEFAULT, Directories, Unnamed, collect, per_second, ticks_of};
use super::time::CALENDAR;
use crate::layout::NAME_LIMIT;

pub(super) fn is_value_type(found: &DataType) -> bool {
    matches!(
        found,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::Float64
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(..)
            | DataType::Decimal128(..)
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::FixedSizeBinary(16)
    )
}

/// Encodes a column by value.
pub(super) struct Values<'a> {
    pub(super) label: &'a str,
    pub(super) directories: &'a mut Directories,
    pub(super) integers: &'a mut Codes<i64>,
    pub(super) wide: &'a mut Codes<i128>,
    pub(super) strings: &'a mut StringCodes,
}

impl Values<'_> {
    pub(super) fn encode(&mut self, array: &ArrayRef, nulls: Option<&NullBuffer>) -> Coded {
        match array.data_type() {
            DataType::Boolean => {
                let values = array.as_boolean().values();
                let bits = values.iter().map(i64::from);
                self.integers(bits, nulls, |bit| Some((bit != 0).to_string()))
            }
            DataType::Int8 => self.primitive::<Int8Type>(array, nulls),
            DataType::Int16 => self.primitive::<Int16Type>(array, nulls),
            DataType::Int32 => self.primitive::<Int32Type>(array, nulls),
            DataType::Int64 => self.primitive::<Int64Type>(array, nulls),
            DataType::UInt8 => self.primitive::<UInt8Type>(array, nulls),
            DataType::UInt16 => self.primitive::<UInt16Type>(array, nulls),
            DataType::UInt32 => self.primitive::<UInt32Type>(array, nulls),
            // Found in records only, where a later one may make the column text: whole numbers have the same folder
            // before and after.
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                let bits = values.iter().map(|value| value.to_bits().cast_signed());
                self.integers(bits, nulls, |bits| {
                    Some(double_text(f64::from_bits(bits.cast_unsigned())))
                })
            }
            DataType::Time64(_) => {
                let times = array.as_primitive::<Time64MicrosecondType>().values();
                self.integers(times.iter().copied(), nulls, time_text)
            }
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().values();
                self.integers(days.iter().copied().map(i64::from), nulls, date_text)
            }
            DataType::Timestamp(unit, _) => {
                let (times, per_second) = (ticks_of(*unit, array), per_second(*unit));
                let text = |time| timestamp_text(time, per_second);
                self.integers(times.iter().copied(), nulls, text)
            }
            DataType::Decimal128(precision, scale) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                self.wide(values.iter().copied(), nulls, |value| {
                    Decimal128Type::format_decimal(value, *precision, *scale)
                })
            }
            DataType::FixedSizeBinary(16) => {
                let values = array.as_fixed_size_binary();
                let bytes = (0..values.len()).map(|row| {
                    let bytes = <[u8; 16]>::try_from(values.value(row)).unwrap_or_default();
                    i128::from_be_bytes(bytes)
                });
                self.wide(bytes, nulls, |bytes| {
                    uuid::Uuid::from_bytes(bytes.to_be_bytes()).to_string()
                })
            }
            DataType::Utf8 => {
                let values = array.as_string::<i32>();
                self.strings((0..values.len()).map(|row| values.value(row)), nulls)
            }
            DataType::LargeUtf8 => {
                let values = array.as_string::<i64>();
                self.strings((0..values.len()).map(|row| values.value(row)), nulls)
            }
            DataType::Utf8View => {
                let values = array.as_string_view();
                self.strings((0..values.len()).map(|row| values.value(row)), nulls)
            }
            // All null; other types did not bind.
            _ => Coded::All(DEFAULT),
        }
    }

    fn primitive<T>(&mut self, array: &ArrayRef, nulls: Option<&NullBuffer>) -> Coded
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        let values = array.as_primitive::<T>().values();
        let values = values.iter().map(|&value| value.into());
        self.integers(values, nulls, |value| Some(value.to_string()))
    }

    fn integers(
        &mut self,
        values: impl ExactSizeIterator<Item = i64>,
        nulls: Option<&NullBuffer>,
        text: impl Fn(i64) -> Option<String>,
    ) -> Coded {
        let (label, directories) = (self.label, &mut *self.directories);
        encode_by(values, nulls, |value| {
            self.integers.code(value, |value| match text(value) {
                Some(text) => intern(directories, label, &text),
                None => directories.refuse(Unnamed::NoDate),
            })
        })
    }

    fn wide(
        &mut self,
        values: impl ExactSizeIterator<Item = i128>,
        nulls: Option<&NullBuffer>,
        text: impl Fn(i128) -> String,
    ) -> Coded {
        let (label, directories) = (self.label, &mut *self.directories);
        encode_by(values, nulls, |value| {
            self.wide
                .code(value, |value| intern(directories, label, &text(value)))
        })
    }

    fn strings<'v>(
        &mut self,
        values: impl ExactSizeIterator<Item = &'v str>,
        nulls: Option<&NullBuffer>,
    ) -> Coded {
        let (label, directories) = (self.label, &mut *self.directories);
        encode_by(values, nulls, |value| {
            // Not remembered: it may be of any length.
            if value.len() > NAME_LIMIT {
                return directories.refuse(Unnamed::TooLong);
            }
            self.strings
                .code(value, |value| intern(directories, label, value))
        })
    }
}

fn encode_by<V>(
    values: impl ExactSizeIterator<Item = V>,
    nulls: Option<&NullBuffer>,
    mut code: impl FnMut(V) -> u32,
) -> Coded {
    collect(values.enumerate().map(|(row, value)| match nulls {
        Some(nulls) if nulls.is_null(row) => DEFAULT,
        _ => code(value),
    }))
}

/// The empty string shares null's directory, and so its code.
fn intern(directories: &mut Directories, label: &str, text: &str) -> u32 {
    if text.is_empty() || text == DEFAULT_PARTITION {
        return DEFAULT;
    }
    directories.add([(Some(label), Some(text))].into_iter())
}

/// The shortest text that reads as the same number.
fn double_text(value: f64) -> String {
    let text = value.to_string();
    // 1e300 is no folder of 301 digits.
    if text.len() > 24 {
        format!("{value:e}")
    } else {
        text
    }
}

fn date_text(day: i64) -> Option<String> {
    let date = NaiveDate::from_epoch_days(i32::try_from(day).ok()?)?;
    CALENDAR.contains(&date.year()).then(|| date.to_string())
}

fn time_text(micros: i64) -> Option<String> {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
    let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1000).ok()?;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)?;
    Some(time.to_string())
}

fn timestamp_text(time: i64, per_second: i64) -> Option<String> {
    let nanos = u32::try_from(time.rem_euclid(per_second) * (1_000_000_000 / per_second)).ok()?;
    let instant = DateTime::from_timestamp(time.div_euclid(per_second), nanos)?;
    CALENDAR
        .contains(&instant.year())
        .then(|| instant.format("%Y-%m-%d %H:%M:%S%.f").to_string())
}
