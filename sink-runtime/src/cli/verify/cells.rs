//! The values of a batch as hashes, a column each: what is compared of a record and its row. A struct's fields are
//! columns of their own; a list or a map is one value. Hashes are of the value, not of how a type stores it, so that a
//! column that was narrower when its file was written compares with what it is now. Pure.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit,
};

/// The hash of a null, and of no other value.
pub(super) const NULL: u32 = 0;

/// One column of a batch.
#[derive(Debug)]
pub(super) struct Cells {
    /// Dotted, as in `place.city`.
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) hashes: Vec<u32>,
    /// Of a double: as a float has it.
    pub(super) single: Option<Vec<u32>>,
}

const FLOAT: &str = "float";
const DOUBLE: &str = "double";
const INTEGER: &str = "integer";
const DECIMAL: &str = "decimal";
const STRING: &str = "string";
const UUID: &str = "uuid";

/// The columns of a batch. `name`: what to call the column of this field, whose path in the batch is given; `None`
/// leaves it out, with all that is in it.
pub(super) fn cells(
    batch: &RecordBatch,
    name: &dyn Fn(&FieldRef, &str) -> Option<String>,
) -> Vec<Cells> {
    let mut all = Vec::new();
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        add(&mut all, field, column, field.name(), None, name);
    }
    all
}

fn add(
    all: &mut Vec<Cells>,
    field: &FieldRef,
    column: &ArrayRef,
    path: &str,
    above: Option<&NullBuffer>,
    name: &dyn Fn(&FieldRef, &str) -> Option<String>,
) {
    let Some(named) = name(field, path) else {
        return;
    };
    if let Some(fields) = column.as_struct_opt() {
        let above = NullBuffer::union(above, fields.nulls());
        for (field, column) in fields.fields().iter().zip(fields.columns()) {
            let path = format!("{path}.{}", field.name());
            add(all, field, column, &path, above.as_ref(), name);
        }
        return;
    }
    let Some(mut hashes) = hashes(column) else {
        return;
    };
    let mut single = (kind(column.data_type()) == DOUBLE)
        .then(|| cast(column, &DataType::Float32).ok())
        .flatten()
        .and_then(|floats| self::hashes(&floats));
    if let Some(above) = above {
        for hashes in [Some(&mut hashes), single.as_mut()].into_iter().flatten() {
            let null = |(row, hash): (usize, &mut u32)| {
                if above.is_null(row) {
                    *hash = NULL;
                }
            };
            hashes.iter_mut().enumerate().for_each(null);
        }
    }
    all.push(Cells {
        path: named,
        kind: kind(column.data_type()),
        hashes,
        single,
    });
}

/// Hashes of what was sent, and of what was read.
pub(super) type Pair<'a> = (&'a [u32], &'a [u32]);

/// What a sent value and a value read have to be the same as; `None` where their kinds say nothing of one another.
pub(super) fn comparable<'a>(
    sent: (&str, &'a [u32], Option<&'a [u32]>),
    read: (&str, &'a Cells),
) -> Option<Pair<'a>> {
    let (sent_kind, sent, sent_single) = sent;
    let (read_kind, cells) = read;
    if sent_kind == read_kind {
        return Some((sent, &cells.hashes));
    }
    match (sent_kind, read_kind) {
        (DOUBLE, FLOAT) => Some((sent_single?, &cells.hashes)),
        (FLOAT, DOUBLE) => Some((sent, cells.single.as_deref()?)),
        // Numbers without a fraction hash alike.
        (DECIMAL | DOUBLE, INTEGER) | (INTEGER, DECIMAL) => Some((sent, &cells.hashes)),
        // As its usual text, which is what datasets have.
        (UUID, STRING) => Some((sent, &cells.hashes)),
        _ => None,
    }
}

/// Types whose values are of one sort.
fn kind(ty: &DataType) -> String {
    use DataType as T;
    let plain = match ty {
        T::Boolean => "boolean",
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => INTEGER,
        T::Float32 => FLOAT,
        T::Float64 => DOUBLE,
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) => DECIMAL,
        T::Date32 | T::Date64 => "date",
        T::Time32(_) | T::Time64(_) => "time",
        T::Timestamp(TimeUnit::Nanosecond, _) => "timestamp in nanoseconds",
        T::Timestamp(..) => "timestamp",
        T::Utf8 | T::LargeUtf8 | T::Utf8View => STRING,
        T::FixedSizeBinary(16) => UUID,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "binary",
        T::Dictionary(_, of) => return kind(of),
        T::List(of) | T::LargeList(of) => return format!("list of {}", kind(of.data_type())),
        T::Map(entries, _) => return format!("map of {}", kind(entries.data_type())),
        T::Struct(fields) => {
            let mut named: Vec<_> = fields
                .iter()
                .map(|field| (field.name(), kind(field.data_type())))
                .collect();
            named.sort();
            let mut text = String::from("{");
            for (name, kind) in named {
                // Writing to a String cannot fail.
                let _ = write!(text, "{name}: {kind}, ");
            }
            return text + "}";
        }
        other => return other.to_string(),
    };
    plain.to_owned()
}

/// Of each row; `None` of types that no column has.
fn hashes(column: &ArrayRef) -> Option<Vec<u32>> {
    let cast_to = |ty: &DataType| cast(column, ty).ok();
    let plain = match column.data_type() {
        DataType::Dictionary(_, of) => return hashes(&cast_to(of)?),
        DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) => lists(column)?,
        DataType::Struct(_) => structs(column.as_struct())?,
        DataType::Boolean => each(column, column.as_boolean().iter()),
        DataType::Float32 => each(
            column,
            column.as_primitive::<Float32Type>().iter().map(float),
        ),
        DataType::Float64 => each(
            column,
            column.as_primitive::<Float64Type>().iter().map(double),
        ),
        DataType::Decimal128(_, scale) => {
            let scale = i64::from(*scale);
            let values = column.as_primitive::<Decimal128Type>().iter();
            each(
                column,
                values.map(|value| value.map(|value| number(value, scale))),
            )
        }
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            return hashes(&cast_to(&DataType::Decimal128(*precision, *scale))?);
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let raw = cast_to(&DataType::Int64)?;
            each(column, raw.as_primitive::<Int64Type>().iter())
        }
        DataType::Timestamp(_, zone) => {
            let micros = cast_to(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let raw = cast(&micros, &DataType::Int64).ok()?;
            each(column, raw.as_primitive::<Int64Type>().iter())
        }
        DataType::Date32 => {
            let raw = cast_to(&DataType::Int32)?;
            return hashes(&cast(&raw, &DataType::Int64).ok()?);
        }
        DataType::Date64 => return hashes(&cast_to(&DataType::Date32)?),
        DataType::Time32(_) | DataType::Time64(_) => {
            let micros = cast_to(&DataType::Time64(TimeUnit::Microsecond))?;
            let raw = cast(&micros, &DataType::Int64).ok()?;
            each(column, raw.as_primitive::<Int64Type>().iter())
        }
        DataType::Utf8 => each(column, column.as_string::<i32>().iter()),
        DataType::LargeUtf8 => each(column, column.as_string::<i64>().iter()),
        DataType::Utf8View => each(column, column.as_string_view().iter()),
        DataType::Binary => each(column, column.as_binary::<i32>().iter()),
        DataType::LargeBinary => each(column, column.as_binary::<i64>().iter()),
        DataType::BinaryView => each(column, column.as_binary_view().iter()),
        DataType::FixedSizeBinary(16) => {
            let texts = column.as_fixed_size_binary().iter().map(|value| {
                let bytes = <[u8; 16]>::try_from(value?).ok()?;
                Some(uuid::Uuid::from_bytes(bytes).to_string())
            });
            each(column, texts)
        }
        DataType::FixedSizeBinary(_) => each(column, column.as_fixed_size_binary().iter()),
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().iter();
            each(
                column,
                values.map(|value| value.map(|value| number(value.into(), 0))),
            )
        }
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => return hashes(&cast_to(&DataType::Int64)?),
        _ => return None,
    };
    Some(plain)
}

fn each<T: Hash>(column: &ArrayRef, values: impl Iterator<Item = Option<T>>) -> Vec<u32> {
    let mut all = Vec::with_capacity(column.len());
    all.extend(values.map(|value| value.map_or(NULL, |value| hash_of(&value))));
    all
}

fn hash_of(value: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    // Nothing but a null is null.
    ((hasher.finish() >> 32) as u32).max(1)
}

/// A number without its trailing zeros: 1.50 and 1.5, 17 and 17.00 are the same.
fn number(mut digits: i128, mut scale: i64) -> Number {
    while digits != 0 && digits % 10 == 0 {
        digits /= 10;
        scale -= 1;
    }
    match digits {
        0 => Number::Decimal(0, 0),
        _ => Number::Decimal(digits, scale),
    }
}

/// Zeros are one value, and so are all that are no number.
#[derive(Hash)]
enum Number {
    /// Digits and scale.
    Decimal(i128, i64),
    /// Bits of a double that is no whole number, or beyond those that it can tell apart.
    Fraction(u64),
    Nan,
}

fn double(value: Option<f64>) -> Option<Number> {
    // Up to here every whole number is a double.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    Some(match value? {
        value if value.is_nan() => Number::Nan,
        value if value.fract() == 0.0 && value.abs() <= WHOLE => number(value as i128, 0),
        value => Number::Fraction(value.to_bits()),
    })
}

fn float(value: Option<f32>) -> Option<Number> {
    double(value.map(f64::from))
}

fn lists(column: &ArrayRef) -> Option<Vec<u32>> {
    let (elements, ends): (ArrayRef, Vec<usize>) = if let Some(lists) = column.as_list_opt::<i32>()
    {
        let ends = lists.offsets().iter().map(|end| *end as usize).collect();
        (lists.values().clone(), ends)
    } else if let Some(lists) = column.as_list_opt::<i64>() {
        let ends = lists.offsets().iter().map(|end| *end as usize).collect();
        (lists.values().clone(), ends)
    } else {
        let maps = column.as_map_opt()?;
        let ends = maps.offsets().iter().map(|end| *end as usize).collect();
        (std::sync::Arc::new(maps.entries().clone()), ends)
    };
    let hashed = hashes(&elements)?;
    let of_row = |(row, bounds): (usize, &[usize])| match column.is_null(row) {
        true => NULL,
        false => hash_of(&&hashed[bounds[0]..bounds[1]]),
    };
    Some(ends.windows(2).enumerate().map(of_row).collect())
}

/// Fields in the order of their names.
fn structs(column: &StructArray) -> Option<Vec<u32>> {
    let mut fields = Vec::new();
    for (field, values) in column.fields().iter().zip(column.columns()) {
        fields.push((field.name(), hashes(values)?));
    }
    fields.sort_by_key(|(name, _)| *name);
    let of_row = |row: usize| match column.is_null(row) {
        true => NULL,
        false => {
            let said = fields.iter().filter(|(_, hashes)| hashes[row] != NULL);
            hash_of(
                &said
                    .map(|(name, hashes)| (*name, hashes[row]))
                    .collect::<Vec<_>>(),
            )
        }
    };
    Some((0..column.len()).map(of_row).collect())
}
