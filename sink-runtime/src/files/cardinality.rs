//! Which columns deserve a dictionary. One that outgrows its page is given up by the encoder after it has hashed every
//! value in vain; the rows that wait for the encoder tell beforehand.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use twox_hash::XxHash64;

/// Below this many rows the guess is poor and a dictionary costs little.
const ENOUGH_ROWS: usize = 8192;
/// Rows looked at.
const SAMPLE: usize = 16_384;
/// Parquet's limit of a dictionary page.
const DICTIONARY_BYTES: f64 = 1024.0 * 1024.0;

/// Whether a dictionary of this column would outgrow its page.
pub(super) fn outgrows_dictionary(column: &ArrayRef) -> bool {
    let rows = column.len().min(SAMPLE);
    if rows < ENOUGH_ROWS {
        return false;
    }
    let Some(sample) = sample(&column.slice(0, rows)) else {
        return false;
    };
    if sample.values < ENOUGH_ROWS {
        return false;
    }
    let width = sample.bytes as f64 / sample.values as f64;
    cardinality(sample.values as f64, sample.distinct as f64) * width > DICTIONARY_BYTES
}

struct Sample {
    values: usize,
    distinct: usize,
    bytes: usize,
}

fn sample(column: &ArrayRef) -> Option<Sample> {
    macro_rules! primitive {
        ($ty:ty, $width:literal) => {
            of(column
                .as_primitive::<$ty>()
                .iter()
                .flatten()
                .map(|v| ($width, XxHash64::oneshot(0, &v.to_le_bytes()))))
        };
    }
    let bytes = |b: &[u8]| (b.len() + 4, XxHash64::oneshot(0, b));
    Some(match column.data_type() {
        DataType::Int32 => primitive!(Int32Type, 4),
        DataType::Int64 => primitive!(Int64Type, 8),
        DataType::Float64 => primitive!(Float64Type, 8),
        DataType::Date32 => primitive!(Date32Type, 4),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => {
            primitive!(TimestampMicrosecondType, 8)
        }
        DataType::Decimal128(_, _) => primitive!(Decimal128Type, 8),
        DataType::Utf8 => of(column
            .as_string::<i32>()
            .iter()
            .flatten()
            .map(|s| bytes(s.as_bytes()))),
        DataType::Binary => of(column.as_binary::<i32>().iter().flatten().map(bytes)),
        DataType::LargeBinary => of(column.as_binary::<i64>().iter().flatten().map(bytes)),
        DataType::FixedSizeBinary(_) => of(column
            .as_fixed_size_binary()
            .iter()
            .flatten()
            .map(|b| (b.len(), XxHash64::oneshot(0, b)))),
        _ => return None,
    })
}

fn of(values: impl Iterator<Item = (usize, u64)>) -> Sample {
    let mut seen = HashSet::with_capacity(SAMPLE);
    let mut sample = Sample {
        values: 0,
        distinct: 0,
        bytes: 0,
    };
    for (width, hash) in values {
        sample.values += 1;
        sample.bytes += width;
        seen.insert(hash);
    }
    sample.distinct = seen.len();
    sample
}

/// How many different values there are, if `distinct` of them showed in `drawn` even draws: the solution of
/// `distinct = c (1 - e^(-drawn/c))`, by halving.
fn cardinality(drawn: f64, distinct: f64) -> f64 {
    let (mut low, mut high) = (distinct, 1e9);
    while high / low > 1.05 {
        let middle = (low * high).sqrt();
        if middle * (1.0 - (-drawn / middle).exp()) < distinct {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn longs(modulus: u64) -> ArrayRef {
        let hash = |n: u64| XxHash64::oneshot(1, &n.to_le_bytes());
        Arc::new(Int64Array::from_iter_values(
            (0..16_384).map(|n| (hash(n) % modulus) as i64),
        ))
    }

    #[test]
    fn only_columns_that_would_outgrow_it_go_without_a_dictionary() {
        assert!(!outgrows_dictionary(&longs(50_000)));
        assert!(outgrows_dictionary(&longs(10_000_000)));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..16_384).map(|n| format!("country-{}", n % 200)),
        ));
        assert!(!outgrows_dictionary(&words));
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..16_384).map(|n| format!("order-id-that-is-unique-{n}")),
        ));
        assert!(outgrows_dictionary(&ids));
    }

    #[test]
    fn few_rows_keep_their_dictionary() {
        assert!(!outgrows_dictionary(&longs(10_000_000).slice(0, 4096)));
    }
}
