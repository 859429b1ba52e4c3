//! Cost of splitting a decoded batch by partition: all rows in one (the usual case), and interleaved over eighty.

#![allow(clippy::unwrap_used, reason = "bench")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidewater_runtime::layout::{HiveSplitter, Rows};
use tidewater_runtime::plan::{PartitionExpr, TimeLevel, TimeSource};
use tidewater_runtime::record::TopicPartition;

const ROWS: usize = 10_000;
const HOUR: i64 = 3_600_000_000;
const NOON: i64 = 1_795_262_400_000_000;

/// `hours` hours and `countries` countries, in turn, row by row.
fn rows(hours: i64, countries: usize) -> Rows {
    let count = i64::try_from(ROWS).unwrap();
    let names = ["ES", "PT", "FR", "IT", "DE", "PL", "SE", "FI"];
    let times = (0..count).map(|n| NOON + n % hours * HOUR + n);
    let country = (0..ROWS).map(|n| names[n % countries]);
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..count))),
        (
            "created_at",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        ),
        ("country", Arc::new(StringArray::from_iter_values(country))),
        (
            "payload",
            Arc::new(StringArray::from_iter_values(
                (0..ROWS).map(|n| format!("payload of record {n:08}")),
            )),
        ),
    ];
    Rows {
        tp: TopicPartition::new("orders", 0),
        batch: RecordBatch::try_from_iter(columns).unwrap(),
        offsets: (0..count).collect(),
        timestamps: vec![NOON / 1000; ROWS],
    }
}

fn splits(criterion: &mut Criterion) {
    let level = |label: &str, format: &str| TimeLevel {
        label: Some(label.to_owned()),
        format: format.to_owned(),
    };
    let exprs = [
        PartitionExpr::Time {
            source: TimeSource::Column("created_at".to_owned()),
            timezone: chrono_tz::Europe::Madrid,
            levels: vec![level("dt", "%Y-%m-%d"), level("hour", "%H")],
        },
        PartitionExpr::Column {
            column: "country".to_owned(),
            label: "country".to_owned(),
        },
    ];
    let mut group = criterion.benchmark_group("layout");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, hours, countries, partitions) in [
        ("one_partition", 1, 1, 1),
        // 16 and 5 have no common divisor: every pair comes up, each row in another partition than the one before.
        ("eighty_partitions_interleaved", 16, 5, 80),
    ] {
        let rows = rows(hours, countries);
        let mut splitter = HiveSplitter::new(&exprs, &rows.batch.schema()).unwrap();
        assert_eq!(
            splitter.split(&rows, 0, 1024).unwrap().slices.len(),
            partitions
        );
        group.bench_function(name, |bencher| {
            bencher.iter(|| splitter.split(black_box(&rows), 0, 1024).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, splits);
criterion_main!(benches);
