//! Transforms by value: what the specification says of values that are easily got wrong, below zero above all.

use arrow::array::TimestampNanosecondArray;

use super::*;

fn int(n: i32) -> PrimitiveLiteral {
    PrimitiveLiteral::Int(n)
}

fn long(n: i64) -> PrimitiveLiteral {
    PrimitiveLiteral::Long(n)
}

/// The partition of one value.
fn of(ty: &PrimitiveType, transform: Transform, value: ArrayRef) -> Option<PrimitiveLiteral> {
    let slices = split_column(ty.clone(), transform, value);
    assert_eq!(slices.len(), 1);
    literals(&slices).remove(0)
}

#[test]
fn truncating_goes_down_and_not_towards_zero() {
    for (value, wanted) in [(0, 0), (9, 0), (10, 10), (-1, -10), (-10, -10), (-11, -20)] {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![value]));
        let longs: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(value)]));
        let (as_int, as_long) = (PrimitiveType::Int, PrimitiveType::Long);
        let truncate = Transform::Truncate(10);
        assert_eq!(of(&as_int, truncate, ints), Some(int(wanted)), "{value}");
        assert_eq!(
            of(&as_long, truncate, longs),
            Some(long(wanted.into())),
            "{value}"
        );
    }
    let decimal = PrimitiveType::Decimal {
        precision: 9,
        scale: 2,
    };
    // Of the digits as a whole number: 10.65 by 50 is 10.50.
    for (value, wanted) in [(1065, 1050), (-1065, -1100), (-1, -50), (50, 50)] {
        let values = Decimal128Array::from(vec![value]).with_data_type(DataType::Decimal128(9, 2));
        let found = of(&decimal, Transform::Truncate(50), Arc::new(values));
        assert_eq!(found, Some(PrimitiveLiteral::Int128(wanted)), "{value}");
    }
}

#[test]
fn texts_are_truncated_by_letters_and_binaries_by_bytes() {
    for (text, wanted) in [("iceberg", "ice"), ("𝄞äß!", "𝄞äß"), ("ab", "ab"), ("", "")] {
        let texts = Arc::new(StringArray::from(vec![text]));
        let found = of(&PrimitiveType::String, Transform::Truncate(3), texts);
        assert_eq!(found, Some(PrimitiveLiteral::String(wanted.to_owned())));
    }
    let binary = Arc::new(BinaryArray::from_vec(vec![&[0xf0, 0x9f, 0x98, 0x80]]));
    let found = of(&PrimitiveType::Binary, Transform::Truncate(3), binary);
    assert_eq!(
        found,
        Some(PrimitiveLiteral::Binary(vec![0xf0, 0x9f, 0x98]))
    );
}

#[test]
fn the_moment_before_1970_is_in_the_hour_day_month_and_year_before_it() {
    use Transform::{Day, Hour, Month, Year};
    let date = |days: i32| -> ArrayRef { Arc::new(Date32Array::from(vec![days])) };
    for (days, day, month, year) in [
        (0, 0, 0, 0),
        (-1, -1, -1, -1),
        (-31, -31, -1, -1),
        (-32, -32, -2, -1),
        (-365, -365, -12, -1),
        (-366, -366, -13, -2),
        // 2024-02-29
        (19_782, 19_782, 649, 54),
    ] {
        for (transform, wanted) in [(Day, day), (Month, month), (Year, year)] {
            let found = of(&PrimitiveType::Date, transform, date(days));
            assert_eq!(found, Some(int(wanted)), "{transform} of day {days}");
        }
    }
    const DAY: i64 = 86_400_000_000;
    for (micros, hour, day, month, year) in [
        (0, 0, 0, 0, 0),
        (-1, -1, -1, -1, -1),
        (-3_600_000_000, -1, -1, -1, -1),
        (-3_600_000_001, -2, -1, -1, -1),
        (-DAY, -24, -1, -1, -1),
        (-DAY - 1, -25, -2, -1, -1),
        (-365 * DAY - 1, -8761, -366, -13, -2),
        (31 * DAY, 744, 31, 1, 0),
    ] {
        for (transform, wanted) in [(Hour, hour), (Day, day), (Month, month), (Year, year)] {
            let values = TimestampMicrosecondArray::from(vec![micros]);
            let found = of(
                &PrimitiveType::Timestamp,
                transform,
                Arc::new(values.clone()),
            );
            assert_eq!(found, Some(int(wanted)), "{transform} of {micros}");
            let zoned = Arc::new(values.with_timezone("+00:00"));
            let found = of(&PrimitiveType::Timestamptz, transform, zoned);
            assert_eq!(found, Some(int(wanted)), "{transform} of {micros} in UTC");
            let nanos = Arc::new(TimestampNanosecondArray::from(vec![micros * 1000]));
            let found = of(&PrimitiveType::TimestampNs, transform, nanos);
            assert_eq!(found, Some(int(wanted)), "{transform} of {micros} in ns");
        }
    }
    for (nanos, wanted) in [(-1, -1), (3_599_999_999_999, 0), (3_600_000_000_000, 1)] {
        let values = Arc::new(TimestampNanosecondArray::from(vec![nanos]));
        let found = of(&PrimitiveType::TimestampNs, Hour, values);
        assert_eq!(found, Some(int(wanted)), "hour of {nanos} ns");
    }
}

#[test]
fn fixed_values_are_in_the_bucket_of_their_bytes() {
    let fixed = FixedSizeBinaryArray::try_from_iter([[0_u8, 1, 2, 3]].into_iter()).unwrap();
    let found = of(
        &PrimitiveType::Fixed(4),
        Transform::Bucket(1000),
        Arc::new(fixed),
    );
    assert_eq!(found, Some(int((-188_683_207 & i32::MAX) % 1000)));
}
