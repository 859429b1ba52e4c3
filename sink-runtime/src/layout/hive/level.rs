//! One partition expression at work: a code per row, and the directory of each code. Pure.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use super::codes::{Codes, StringCodes};
use super::names::directory;
use super::time::{TimePath, Unit};
use super::values::{Values, is_value_type};
use super::{Place, fetch, find};
use crate::decode::RejectClass;
use crate::layout::{HivePartition, LayoutError, NAME_LIMIT, Refusal, Rows};
use crate::plan::{PartitionExpr, TimeSource};

/// Code of the default partition, in every level.
pub(super) const DEFAULT: u32 = 0;

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
    /// Whether values of the column's type do. Columns found in records may be of any type.
    makes_folders: bool,
    integers: Codes<i64>,
    wide: Codes<i128>,
    strings: StringCodes,
    directories: Directories,
    coded: Coded,
}

/// Where rows of one code go, or why they go nowhere.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) partition: Arc<HivePartition>,
    pub(super) refusal: Option<Arc<Refusal>>,
}

/// Why a value makes no directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// Its name would be longer than any file system takes.
    TooLong,
    /// A time beyond the calendar.
    NoDate,
    /// A value of a type that has no text of its own.
    NoText,
}

/// Directories by code.
#[derive(Debug)]
pub(super) struct Directories {
    /// What the values are, for messages.
    subject: String,
    known: Vec<Directory>,
    /// One code for all values that are refused for the same reason: they are not worth remembering.
    refused: Vec<(Unnamed, u32)>,
}

impl Directories {
    pub(super) fn add<'a>(
        &mut self,
        names: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
    ) -> u32 {
        let (paths, values): (Vec<_>, Vec<_>) = names
            .map(|(label, value)| directory(label, value))
            .collect();
        let path = paths.join("/");
        if path.split('/').any(|name| name.len() > NAME_LIMIT) {
            return self.refuse(Unnamed::TooLong);
        }
        self.push(HivePartition { path, values }, None)
    }

    #[cold]
    pub(super) fn refuse(&mut self, why: Unnamed) -> u32 {
        if let Some((_, code)) = self.refused.iter().find(|(known, _)| *known == why) {
            return *code;
        }
        let subject = &self.subject;
        let (class, what) = match why {
            Unnamed::TooLong => (
                RejectClass::OutOfRange,
                format!(
                    "its folder's name needs more than {NAME_LIMIT} bytes: send shorter values, or partition by another column"
                ),
            ),
            Unnamed::NoDate => (
                RejectClass::OutOfRange,
                "a time outside of the years 0000 to 9999 has no folder: is its unit right?"
                    .to_owned(),
            ),
            Unnamed::NoText => (
                RejectClass::TypeMismatch,
                "a value of this type makes no folder: send a scalar, or declare the column"
                    .to_owned(),
            ),
        };
        let refusal = Refusal {
            class,
            message: format!("{subject}: {what}"),
        };
        let nowhere = HivePartition {
            path: String::new(),
            values: Vec::new(),
        };
        let code = self.push(nowhere, Some(Arc::new(refusal)));
        self.refused.push((why, code));
        code
    }

    fn push(&mut self, partition: HivePartition, refusal: Option<Arc<Refusal>>) -> u32 {
        self.known.push(Directory {
            partition: Arc::new(partition),
            refusal,
        });
        index(self.known.len() - 1)
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
        let subject = match &what {
            What::Time {
                source: TimeSource::Column(column),
                ..
            }
            | What::Column { column, .. } => format!("field `{column}`"),
            What::Time { .. } => "the record's timestamp".to_owned(),
        };
        Ok(Self {
            what,
            place: None,
            makes_folders: true,
            integers: Codes::default(),
            wide: Codes::default(),
            strings: StringCodes::default(),
            directories: Directories {
                subject,
                known: Vec::new(),
                refused: Vec::new(),
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

    pub(super) fn bind(&mut self, schema: &Schema) {
        let found = self.column().and_then(|column| find(schema, column));
        self.makes_folders = found.as_ref().is_none_or(|(_, found)| match &self.what {
            _ if *found == DataType::Null => true,
            What::Time { .. } => matches!(found, DataType::Timestamp(..) | DataType::Date32),
            What::Column { .. } => is_value_type(found),
        });
        self.place = found.map(|(place, _)| place);
    }

    /// The column, or what else the folder is by.
    pub(super) fn subject(&self) -> &str {
        &self.directories.subject
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
        self.directories.refused.clear();
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

    pub(super) fn directory(&self, code: u32) -> &Directory {
        &self.directories.known[code as usize]
    }

    pub(super) fn directories(&self) -> &[Directory] {
        &self.directories.known
    }

    /// Of the batch last encoded.
    pub(super) fn take_codes(&mut self) -> Coded {
        std::mem::replace(&mut self.coded, Coded::All(DEFAULT))
    }

    /// Finds the code of every row.
    pub(super) fn encode(&mut self, rows: &Rows, wall_clock_ms: i64) {
        let column = match &self.place {
            Some(place) => fetch(&rows.batch, place),
            None => None,
        };
        let directories = &mut self.directories;
        self.coded = match (&mut self.what, column) {
            (_, Some((array, nulls))) if !self.makes_folders => {
                let refused = directories.refuse(Unnamed::NoText);
                collect((0..array.len()).map(|row| match &nulls {
                    Some(nulls) if nulls.is_null(row) => DEFAULT,
                    _ => refused,
                }))
            }
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
    }
}

const MILLIS: Unit = Unit {
    per_second: 1000,
    local: false,
};

/// One code for all when they are equal; else one each.
pub(super) fn collect(codes: impl ExactSizeIterator<Item = u32>) -> Coded {
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
        None => directories.refuse(Unnamed::NoDate),
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
            encode(ticks_of(*unit, array), per_second(*unit), zone.is_none())
        }
        _ => Coded::All(DEFAULT),
    }
}

/// Of an array of timestamps in this unit.
pub(super) fn ticks_of(unit: TimeUnit, array: &ArrayRef) -> &[i64] {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
}

pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}
