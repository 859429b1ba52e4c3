//! Iceberg's partition transforms over Arrow arrays.
//!
//! Bucket hashes and most truncations are the `iceberg` crate's. Dates and times are ours: the crate's release puts
//! instants before 1970 with a fraction of a second into the wrong day, and has no hour of nanoseconds; so is the
//! truncation of binaries, which it lacks, and of numbers, which it lets overflow.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use chrono::{DateTime, Datelike};
use iceberg::spec::{PrimitiveType, Transform};
use iceberg::transform::{BoxedTransformFunction, create_transform_function};

const SECONDS_PER_HOUR: i64 = 3600;
const HOURS_PER_DAY: i64 = 24;

/// A transform bound to a type that it is defined for.
#[derive(Debug)]
pub(super) enum Apply {
    Identity,
    Void,
    Time(Granularity),
    /// Nanoseconds are hashed as microseconds.
    Bucket {
        function: BoxedTransformFunction,
        nanoseconds: bool,
    },
    /// Of text.
    Truncate(BoxedTransformFunction),
    TruncateBinary(usize),
    TruncateNumber(i128),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granularity {
    Year,
    Month,
    Day,
    Hour,
}

#[derive(Debug)]
pub(super) enum Failure {
    /// A value that the transform has no result for, or none that its type can hold.
    Value,
    Broken(Box<dyn Error + Send + Sync>),
}

impl Failure {
    pub(super) fn into_error(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Value => "the transform has no result for a value".into(),
            Self::Broken(error) => error,
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl Apply {
    /// `None` when the transform is not defined for the type.
    pub(super) fn new(transform: Transform, source: &PrimitiveType) -> Option<Self> {
        use PrimitiveType as P;
        let function = || create_transform_function(&transform).ok();
        Some(match transform {
            Transform::Identity => Self::Identity,
            Transform::Void => Self::Void,
            Transform::Year => Self::Time(Granularity::Year),
            Transform::Month => Self::Time(Granularity::Month),
            Transform::Day => Self::Time(Granularity::Day),
            Transform::Hour if *source != P::Date => Self::Time(Granularity::Hour),
            Transform::Hour => return None,
            Transform::Bucket(_) => Self::Bucket {
                function: function()?,
                nanoseconds: matches!(source, P::TimestampNs | P::TimestamptzNs),
            },
            Transform::Truncate(width) if *source == P::Binary => {
                Self::TruncateBinary(width as usize)
            }
            Transform::Truncate(width)
                if matches!(source, P::Int | P::Long | P::Decimal { .. }) =>
            {
                // A table that says 0 is not to be divided by.
                Self::TruncateNumber(i128::from(width.max(1)))
            }
            Transform::Truncate(_) => Self::Truncate(function()?),
            Transform::Unknown => return None,
        })
    }

    pub(super) fn granularity(&self) -> Option<Granularity> {
        match self {
            Self::Time(granularity) => Some(*granularity),
            _ => None,
        }
    }

    pub(super) fn apply(&self, source: &ArrayRef) -> Result<ArrayRef, Failure> {
        Ok(match self {
            Self::Identity => source.clone(),
            Self::Void => new_null_array(source.data_type(), source.len()),
            Self::Time(granularity) => granularity.of(source)?,
            Self::Bucket {
                function,
                nanoseconds: true,
            } => {
                let nanos = cast(source, &DataType::Int64)?;
                let micros = nanos
                    .as_primitive::<Int64Type>()
                    .unary::<_, Int64Type>(|v| v.div_euclid(1000));
                function.transform(Arc::new(micros))?
            }
            Self::Bucket { function, .. } | Self::Truncate(function) => {
                function.transform(source.clone())?
            }
            Self::TruncateNumber(width) => truncated(source, *width)?,
            Self::TruncateBinary(width) => {
                let cut = |v: &[u8]| v[..v.len().min(*width)].to_vec();
                let values = source.as_binary::<i64>();
                Arc::new(LargeBinaryArray::from_iter(
                    values.iter().map(|v| v.map(cut)),
                ))
            }
        })
    }
}

impl Apply {
    /// Adds the rows whose values fail, counted from `first`. By halves: they are few.
    pub(super) fn failing(
        &self,
        source: &ArrayRef,
        first: usize,
        rows: &mut Vec<usize>,
    ) -> Result<(), Failure> {
        match self.apply(source) {
            Err(Failure::Value) if source.len() > 1 => {
                let half = source.len() / 2;
                self.failing(&source.slice(0, half), first, rows)?;
                let rest = source.slice(half, source.len() - half);
                self.failing(&rest, first + half, rows)
            }
            Err(Failure::Value) => {
                rows.push(first);
                Ok(())
            }
            done => done.map(|_| ()),
        }
    }
}

/// Down to a multiple of `width`, below zero too.
fn truncated(source: &ArrayRef, width: i128) -> Result<ArrayRef, Failure> {
    let down = |v: i128| v.checked_sub(v.rem_euclid(width)).ok_or(Failure::Value);
    Ok(match source.data_type() {
        DataType::Int32 => {
            let values = source.as_primitive::<Int32Type>();
            let narrow = |v| i32::try_from(v).map_err(|_| Failure::Value);
            let down = |v: i32| down(v.into()).and_then(narrow);
            Arc::new(values.try_unary::<_, Int32Type, _>(down)?)
        }
        DataType::Int64 => {
            let values = source.as_primitive::<Int64Type>();
            let narrow = |v| i64::try_from(v).map_err(|_| Failure::Value);
            let down = |v: i64| down(v.into()).and_then(narrow);
            Arc::new(values.try_unary::<_, Int64Type, _>(down)?)
        }
        DataType::Decimal128(precision, scale) => {
            let values = source.as_primitive::<Decimal128Type>();
            let above = 10_u128.checked_pow((*precision).into());
            let fits = |v: &i128| above.is_none_or(|above| v.unsigned_abs() < above);
            let down = |v| down(v).and_then(|v| Some(v).filter(fits).ok_or(Failure::Value));
            let values = values.try_unary::<_, Decimal128Type, _>(down)?;
            Arc::new(values.with_precision_and_scale(*precision, *scale)?)
        }
        other => return Err(format!("no truncation of {other}").into()),
    })
}

impl Granularity {
    fn of(self, source: &ArrayRef) -> Result<ArrayRef, Failure> {
        macro_rules! each {
            ($ty:ty, $ticks_per_second:literal) => {{
                let values = source.as_primitive::<$ty>();
                let at = |v: i64| self.at(v.div_euclid($ticks_per_second * SECONDS_PER_HOUR));
                // Values behind nulls may be anything: only valid ones are looked at.
                match self {
                    Self::Day => {
                        Arc::new(values.try_unary::<_, Date32Type, Failure>(at)?) as ArrayRef
                    }
                    _ => Arc::new(values.try_unary::<_, Int32Type, Failure>(at)?),
                }
            }};
        }
        Ok(match source.data_type() {
            DataType::Date32 => {
                let days = source.as_primitive::<Date32Type>();
                match self {
                    Self::Day => source.clone(),
                    _ => Arc::new(days.try_unary::<_, Int32Type, Failure>(|day| {
                        self.at(i64::from(day) * HOURS_PER_DAY)
                    })?),
                }
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                each!(TimestampMicrosecondType, 1_000_000)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                each!(TimestampNanosecondType, 1_000_000_000)
            }
            other => return Err(format!("no calendar of {other}").into()),
        })
    }

    /// What the hour since the epoch falls into, counted since the epoch.
    fn at(self, hour: i64) -> Result<i32, Failure> {
        let count = match self {
            Self::Hour => hour,
            Self::Day => hour.div_euclid(HOURS_PER_DAY),
            Self::Year | Self::Month => {
                let date =
                    DateTime::from_timestamp(hour * SECONDS_PER_HOUR, 0).ok_or(Failure::Value)?;
                let years = i64::from(date.year()) - 1970;
                match self {
                    Self::Year => years,
                    _ => years * 12 + i64::from(date.month0()),
                }
            }
        };
        i32::try_from(count).map_err(|_| Failure::Value)
    }
}
