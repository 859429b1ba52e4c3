//! One partition expression at work: a code per row, and the directory of each code. Pure.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use chrono::{DateTime, Days, NaiveDate};

use super::codes::{Codes, StringCodes};
use super::names::directory;
use super::time::{TimePath, Unit};
use super::{Place, fetch, find};
use crate::layout::{HivePartition, LayoutError, Rows};
use crate::plan::{PartitionExpr, TimeSource};

/// Bytes of one directory name: what file systems take (an object key has 1024 in all).
const NAME_LIMIT: usize = 255;

/// Code of the default partition, in every level.
const DEFAULT: u32 = 0;

/// Codes of a batch's rows.
#[derive(Debug)]
pub(super) enum Coded {
    All(u32),
    Each(Vec<u32>),
}

impl Coded {
    #[inline]
    pub(super) fn at(&self, row: usize) -> u32 {
        match self {
            Self::All(code) => *code,
            Self::Each(codes) => codes[row],
        }
    }
}

#[derive(Debug)]
enum What {
    Time { path: TimePath, source: TimeSource },
    Column { column: String, label: String },
}

#[derive(Debug)]
pub(super) struct Level {
    what: What,
    /// Of the column it reads, in the schema it is bound to.
    place: Option<Place>,
    integers: Codes<i64>,
    wide: Codes<i128>,
    strings: StringCodes,
    directories: Directories,
    coded: Coded,
}

/// Directories by code.
#[derive(Debug)]
struct Directories {
    known: Vec<Arc<HivePartition>>,
    /// Code and longest name of a directory that cannot be.
    too_long: Option<(u32, usize)>,
}

impl Directories {
    fn add<'a>(&mut self, names: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> u32 {
        let (paths, values): (Vec<_>, Vec<_>) = names
            .map(|(label, value)| directory(label, value))
            .collect();
        let path = paths.join("/");
        let code = index(self.known.len());
        let longest = path.split('/').map(str::len).max().unwrap_or(0);
        if longest > NAME_LIMIT {
            self.too_long.get_or_insert((code, longest));
        }
        self.known.push(Arc::new(HivePartition { path, values }));
        code
    }
}

/// Codes are bounded by the rows of a batch plus what is remembered.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a batch of 2^32 rows does not fit the memory budget"
)]
pub(super) fn index(n: usize) -> u32 {
    n as u32
}

impl Level {
    pub(super) fn new(expr: &PartitionExpr) -> Result<Self, LayoutError> {
        let what = match expr {
            PartitionExpr::Time {
                source,
                timezone,
                levels,
            } => What::Time {
                path: TimePath::new(*timezone, levels)?,
                source: source.clone(),
            },
            PartitionExpr::Column { column, label } => What::Column {
                column: column.clone(),
                label: label.clone(),
            },
        };
        Ok(Self {
            what,
            place: None,
            integers: Codes::default(),
            wide: Codes::default(),
            strings: StringCodes::default(),
            directories: Directories {
                known: Vec::new(),
                too_long: None,
            },
            coded: Coded::All(DEFAULT),
        })
    }

    fn column(&self) -> Option<&str> {
        match &self.what {
            What::Time {
                source: TimeSource::Column(column),
                ..
            }
            | What::Column { column, .. } => Some(column),
            What::Time { .. } => None,
        }
    }

    /// Whether the path holds this column under its own name.
    pub(super) fn replaces(&self, name: &str) -> bool {
        match &self.what {
            What::Column { column, label } => column == name && label.eq_ignore_ascii_case(name),
            What::Time { .. } => false,
        }
    }

    pub(super) fn bind(&mut self, schema: &Schema) -> Result<(), LayoutError> {
        let found = self.column().and_then(|column| find(schema, column));
        if let Some((_, found)) = &found {
            let (fits, wanted) = match &self.what {
                What::Time { .. } => (
                    matches!(found, DataType::Timestamp(..) | DataType::Date32),
                    "by time",
                ),
                What::Column { .. } => (is_value_type(found), "by value"),
            };
            if !fits && *found != DataType::Null {
                return Err(LayoutError::ColumnType {
                    column: self.column().unwrap_or_default().to_owned(),
                    found: found.to_string(),
                    wanted,
                });
            }
        }
        self.place = found.map(|(place, _)| place);
        Ok(())
    }

    pub(super) fn known(&self) -> usize {
        let time = match &self.what {
            What::Time { path, .. } => path.known(),
            What::Column { .. } => 0,
        };
        let values = self.integers.len() + self.wide.len() + self.strings.len();
        time.max(values)
    }

    pub(super) fn forget(&mut self) {
        self.integers.forget();
        self.wide.forget();
        self.strings.forget();
        self.directories.known.clear();
        self.directories.too_long = None;
        self.coded = Coded::All(DEFAULT);
        match &mut self.what {
            What::Time { path, .. } => {
                path.forget();
                let nulls = path.labels().map(|label| (label, None));
                self.directories.add(nulls);
            }
            What::Column { label, .. } => {
                let null = [(Some(label.as_str()), None)];
                self.directories.add(null.into_iter());
            }
        }
    }

    pub(super) fn directory(&self, code: u32) -> &HivePartition {
        &self.directories.known[code as usize]
    }

    pub(super) fn directories(&self) -> &[Arc<HivePartition>] {
        &self.directories.known
    }

    /// Of the batch last encoded.
    pub(super) fn take_codes(&mut self) -> Coded {
        std::mem::replace(&mut self.coded, Coded::All(DEFAULT))
    }

    /// Finds the code of every row.
    pub(super) fn encode(&mut self, rows: &Rows, wall_clock_ms: i64) -> Result<(), LayoutError> {
        let column = match &self.place {
            Some(place) => fetch(&rows.batch, place),
            None => None,
        };
        let directories = &mut self.directories;
        self.coded = match (&mut self.what, column) {
            (What::Time { path, source }, column) => match (source, column) {
                (TimeSource::WallClock, _) => {
                    encode_times(path, directories, &[wall_clock_ms], None, MILLIS)
                }
                (TimeSource::RecordTimestamp, _) => {
                    let times = rows.timestamps.as_slice();
                    let absent = times.contains(&-1);
                    let nulls = absent.then(|| times.iter().map(|time| *time != -1).collect());
                    encode_times(path, directories, times, nulls.as_ref(), MILLIS)
                }
                (TimeSource::Column(_), Some((array, nulls))) => {
                    encode_time_column(path, directories, &array, nulls.as_ref())
                }
                (TimeSource::Column(_), None) => Coded::All(DEFAULT),
            },
            (What::Column { .. }, None) => Coded::All(DEFAULT),
            (What::Column { label, .. }, Some((array, nulls))) => {
                let mut values = Values {
                    label,
                    directories,
                    integers: &mut self.integers,
                    wide: &mut self.wide,
                    strings: &mut self.strings,
                };
                values.encode(&array, nulls.as_ref())
            }
        };
        self.check_lengths(rows)
    }

    fn check_lengths(&self, rows: &Rows) -> Result<(), LayoutError> {
        let Some((code, length)) = self.directories.too_long else {
            return Ok(());
        };
        let row = (0..rows.offsets.len()).find(|row| self.coded.at(*row) == code);
        Err(LayoutError::ValueTooLong {
            column: self.column().unwrap_or("time").to_owned(),
            tp: rows.tp.clone(),
            offset: row.map_or(-1, |row| rows.offsets[row]),
            length,
            limit: NAME_LIMIT,
        })
    }
}

const MILLIS: Unit = Unit {
    per_second: 1000,
    local: false,
};

fn is_value_type(found: &DataType) -> bool {
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
            | DataType::Date32
            | DataType::Timestamp(..)
            | DataType::Decimal128(..)
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::FixedSizeBinary(16)
    )
}

/// One code for all when they are equal; else one each.
fn collect(codes: impl ExactSizeIterator<Item = u32>) -> Coded {
    let length = codes.len();
    let mut codes = codes.peekable();
    let Some(&first) = codes.peek() else {
        return Coded::All(DEFAULT);
    };
    let mut same = 0;
    while codes.next_if_eq(&first).is_some() {
        same += 1;
    }
    if same == length {
        return Coded::All(first);
    }
    let mut each = Vec::with_capacity(length);
    each.resize(same, first);
    each.extend(codes);
    Coded::Each(each)
}

fn encode_times(
    path: &mut TimePath,
    directories: &mut Directories,
    times: &[i64],
    nulls: Option<&NullBuffer>,
    unit: Unit,
) -> Coded {
    path.use_unit(unit);
    let labels: Vec<_> = path.labels().map(|l| l.map(str::to_owned)).collect();
    let mut intern = |texts: Option<&[String]>| match texts {
        None => DEFAULT,
        Some(texts) => {
            let labels = labels.iter().map(Option::as_deref);
            directories.add(labels.zip(texts.iter().map(|text| Some(text.as_str()))))
        }
    };
    if nulls.is_none()
        && let Some(&first) = times.first()
    {
        path.code(first, &mut intern);
        if let Some(code) = path.constant(times) {
            return Coded::All(code);
        }
    }
    collect(times.iter().enumerate().map(|(row, &time)| match nulls {
        Some(nulls) if nulls.is_null(row) => DEFAULT,
        _ => path.code(time, &mut intern),
    }))
}

fn encode_time_column(
    path: &mut TimePath,
    directories: &mut Directories,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Coded {
    let mut encode = |times: &[i64], per_second, local| {
        let unit = Unit { per_second, local };
        encode_times(path, directories, times, nulls, unit)
    };
    match array.data_type() {
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().values();
            let seconds: Vec<_> = days.iter().map(|&day| i64::from(day) * 86_400).collect();
            encode(&seconds, 1, true)
        }
        DataType::Timestamp(unit, zone) => {
            let local = zone.is_none();
            match unit {
                TimeUnit::Second => encode(ticks_of::<TimestampSecondType>(array), 1, local),
                TimeUnit::Millisecond => {
                    encode(ticks_of::<TimestampMillisecondType>(array), 1000, local)
                }
                TimeUnit::Microsecond => encode(
                    ticks_of::<TimestampMicrosecondType>(array),
                    1_000_000,
                    local,
                ),
                TimeUnit::Nanosecond => encode(
                    ticks_of::<TimestampNanosecondType>(array),
                    1_000_000_000,
                    local,
                ),
            }
        }
        _ => Coded::All(DEFAULT),
    }
}

fn ticks_of<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> &[i64] {
    array.as_primitive::<T>().values()
}

/// Encodes a column by value.
struct Values<'a> {
    label: &'a str,
    directories: &'a mut Directories,
    integers: &'a mut Codes<i64>,
    wide: &'a mut Codes<i128>,
    strings: &'a mut StringCodes,
}

impl Values<'_> {
    fn encode(&mut self, array: &ArrayRef, nulls: Option<&NullBuffer>) -> Coded {
        match array.data_type() {
            DataType::Boolean => {
                let values = array.as_boolean().values();
                let bits = values.iter().map(i64::from);
                self.integers(bits, nulls, |bit| (bit != 0).to_string())
            }
            DataType::Int8 => self.primitive::<Int8Type>(array, nulls),
            DataType::Int16 => self.primitive::<Int16Type>(array, nulls),
            DataType::Int32 => self.primitive::<Int32Type>(array, nulls),
            DataType::Int64 => self.primitive::<Int64Type>(array, nulls),
            DataType::UInt8 => self.primitive::<UInt8Type>(array, nulls),
            DataType::UInt16 => self.primitive::<UInt16Type>(array, nulls),
            DataType::UInt32 => self.primitive::<UInt32Type>(array, nulls),
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().values();
                self.integers(days.iter().copied().map(i64::from), nulls, date_text)
            }
            DataType::Timestamp(unit, _) => {
                let (times, per_second) = match unit {
                    TimeUnit::Second => (ticks_of::<TimestampSecondType>(array), 1),
                    TimeUnit::Millisecond => (ticks_of::<TimestampMillisecondType>(array), 1000),
                    TimeUnit::Microsecond => {
                        (ticks_of::<TimestampMicrosecondType>(array), 1_000_000)
                    }
                    TimeUnit::Nanosecond => {
                        (ticks_of::<TimestampNanosecondType>(array), 1_000_000_000)
                    }
                };
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
        self.integers(values, nulls, |value| value.to_string())
    }

    fn integers(
        &mut self,
        values: impl ExactSizeIterator<Item = i64>,
        nulls: Option<&NullBuffer>,
        text: impl Fn(i64) -> String,
    ) -> Coded {
        let (label, directories) = (self.label, &mut *self.directories);
        encode_by(values, nulls, |value| {
            self.integers
                .code(value, |value| intern(directories, label, &text(value)))
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
    if text.is_empty() || text == super::DEFAULT_PARTITION {
        return DEFAULT;
    }
    directories.add([(Some(label), Some(text))].into_iter())
}

/// A number where the calendar ends: the value is still told from others.
fn date_text(day: i64) -> String {
    let epoch = NaiveDate::default();
    let days = Days::new(day.unsigned_abs());
    let date = if day < 0 {
        epoch.checked_sub_days(days)
    } else {
        epoch.checked_add_days(days)
    };
    date.map_or_else(|| day.to_string(), |date| date.to_string())
}

fn timestamp_text(time: i64, per_second: i64) -> String {
    let nanos = time.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let instant = u32::try_from(nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(time.div_euclid(per_second), nanos));
    instant.map_or_else(
        || time.to_string(),
        |instant| instant.format("%Y-%m-%d %H:%M:%S%.f").to_string(),
    )
}
