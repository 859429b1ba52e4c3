//! Batches for the tests of open files: nine-column orders of about 200 bytes of JSON each.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub(crate) fn orders_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("customer", DataType::Utf8, true),
        Field::new("country", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("quantity", DataType::Int32, true),
        Field::new("score", DataType::Float64, true),
        Field::new("paid", DataType::Boolean, true),
        Field::new("note", DataType::Utf8, true),
        Field::new(
            "created_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            true,
        ),
    ]))
}

/// `count` orders from number `first`; the same numbers give the same orders.
pub(crate) fn orders(first: i64, count: usize) -> RecordBatch {
    const COUNTRIES: [&str; 8] = ["ES", "DE", "FR", "IT", "PT", "NL", "SE", "PL"];
    let numbers: Vec<i64> = (first..first + count as i64).collect();
    // SplitMix64: without its full mixing the columns would have patterns for a compressor to find.
    let mixed = |n: i64, salt: u64| {
        let x = (n as u64 ^ (salt << 56)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    let column = |f: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| f(*n))))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers.iter().copied())),
        column(&|n| format!("customer-{:06}", mixed(n, 1) % 200_000)),
        column(&|n| COUNTRIES[(mixed(n, 2) % 8) as usize].to_owned()),
        Arc::new(
            Decimal128Array::from_iter_values(
                numbers.iter().map(|n| i128::from(mixed(*n, 3) % 1_000_000)),
            )
            .with_data_type(DataType::Decimal128(12, 2)),
        ),
        Arc::new(Int32Array::from_iter_values(
            numbers.iter().map(|n| (mixed(*n, 4) % 20) as i32),
        )),
        Arc::new(Float64Array::from_iter_values(
            numbers
                .iter()
                .map(|n| (mixed(*n, 5) % 10_000) as f64 / 100.0),
        )),
        Arc::new(BooleanArray::from_iter(
            numbers.iter().map(|n| Some(mixed(*n, 6) % 3 > 0)),
        )),
        column(&|n| {
            format!(
                "leave at door {} of house {}",
                mixed(n, 7) % 100,
                mixed(n, 8) % 1000
            )
        }),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(
                numbers.iter().map(|n| 1_763_700_000_000_000 + n * 1_000),
            )
            .with_timezone("+00:00"),
        ),
    ];
    RecordBatch::try_new(orders_schema(), columns).unwrap_or_else(|e| unreachable!("{e}"))
}
