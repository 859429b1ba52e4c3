//! CPU of encoding nine-column orders of about 200 bytes of JSON, per row; of sorting them by a table's order; and of
//! splitting them by Iceberg partition.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark has nobody to report an error to"
)]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::RecordBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iceberg::spec::{
    NullOrder, PartitionSpecBuilder, Schema, SortDirection, SortField, SortOrder, Transform,
};
use tidewater_runtime::files::{Conformer, Format, conform};
use tidewater_runtime::layout::Rows;
use tidewater_runtime::layout::iceberg::{IcebergLayout, RowOrder};
use tidewater_runtime::plan::{JsonCompression, OutputFormat, ParquetCompression, ParquetOptions};
use tidewater_runtime::record::TopicPartition;

#[path = "../src/files/samples.rs"]
mod samples;

const ROWS: i64 = 200_000;
const BATCH: i64 = 10_000;

fn batches() -> Vec<RecordBatch> {
    (0..ROWS / BATCH)
        .map(|n| samples::orders(n * BATCH, BATCH as usize))
        .collect()
}

fn parquet(compression: ParquetCompression) -> OutputFormat {
    OutputFormat::Parquet(ParquetOptions {
        compression,
        row_group_rows: 1_000_000,
        row_group_bytes: 128 << 20,
        page_bytes: 1 << 20,
        dictionary: true,
        statistics: true,
        bloom_filters: Default::default(),
    })
}

fn encode(format: &Format, batches: &[RecordBatch]) -> u64 {
    let mut file = format.open(batches[0].schema_ref());
    for batch in batches {
        file.write(batch).unwrap();
        black_box(file.drain());
    }
    file.finish(Vec::new()).unwrap().size
}

const FILES: usize = 80;

/// The same rows in the order they come when each batch has some for every file.
fn scatter(format: &Format, batches: &[RecordBatch]) -> u64 {
    let schema = batches[0].schema_ref();
    let mut files: Vec<_> = (0..FILES).map(|_| format.open(schema)).collect();
    for batch in batches {
        let rows = batch.num_rows() / FILES;
        for (n, file) in files.iter_mut().enumerate() {
            file.write(&batch.slice(n * rows, rows)).unwrap();
        }
    }
    let finished = files
        .into_iter()
        .map(|file| file.finish(Vec::new()).unwrap());
    finished.map(|file| file.size).sum()
}

fn files(c: &mut Criterion) {
    let batches = batches();
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(10);
    for (name, output) in [
        (
            "parquet-zstd-3",
            parquet(ParquetCompression::Zstd { level: 3 }),
        ),
        (
            "parquet-zstd-1",
            parquet(ParquetCompression::Zstd { level: 1 }),
        ),
        ("parquet-snappy", parquet(ParquetCompression::Snappy)),
        ("parquet-none", parquet(ParquetCompression::None)),
        (
            "json-zstd-3",
            OutputFormat::JsonLines {
                compression: JsonCompression::Zstd { level: 3 },
            },
        ),
    ] {
        let format = Format::new(output, 8 << 20);
        println!(
            "{name}: {} bytes per row",
            encode(&format, &batches) as f64 / ROWS as f64
        );
        group.bench_function(name, |b| b.iter(|| encode(&format, &batches)));
    }
    let format = Format::new(parquet(ParquetCompression::Zstd { level: 3 }), 8 << 20);
    group.bench_function("parquet-zstd-3-in-eighty-files", |b| {
        b.iter(|| scatter(&format, &batches));
    });
    group.finish();
}

/// The same rows as an Iceberg table has them.
fn table() -> (Arc<Schema>, Vec<Rows>) {
    let batches = batches();
    let schema =
        iceberg::arrow::arrow_schema_to_schema_auto_assign_ids(&samples::orders_schema()).unwrap();
    let to = conform::table_schema(&schema).unwrap();
    let conformer = Conformer::new(batches[0].schema_ref(), &to).unwrap();
    let rows = batches.iter().map(|batch| Rows {
        tp: TopicPartition::new("orders", 0),
        batch: conformer.apply(batch).unwrap(),
        offsets: (0..BATCH).collect(),
        timestamps: vec![-1; BATCH as usize],
    });
    (Arc::new(schema), rows.collect())
}

fn order(schema: &Schema, column: &str) -> Arc<RowOrder> {
    let field = SortField {
        source_id: schema.field_id_by_name(column).unwrap(),
        transform: Transform::Identity,
        direction: SortDirection::Ascending,
        null_order: NullOrder::First,
    };
    let order = SortOrder {
        order_id: 1,
        fields: vec![field],
    };
    Arc::new(RowOrder::new(schema, &order).unwrap().unwrap())
}

fn sorting(c: &mut Criterion) {
    let (schema, rows) = table();
    let batches: Vec<RecordBatch> = rows.into_iter().map(|rows| rows.batch).collect();
    let mut group = c.benchmark_group("iceberg-sort");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(10);
    for (name, order) in [
        ("unsorted", None),
        ("as-it-comes", Some(order(&schema, "created_at"))),
        ("scattered", Some(order(&schema, "customer"))),
    ] {
        let zstd = ParquetCompression::Zstd { level: 3 };
        let mut format = Format::new(parquet(zstd), 8 << 20);
        format.sort_by(order);
        group.bench_function(name, |b| b.iter(|| encode(&format, &batches)));
    }
    group.finish();
}

fn layout(c: &mut Criterion) {
    let (schema, rows) = table();
    let mut group = c.benchmark_group("iceberg-split");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(10);
    for (name, column, transform) in [
        ("one-partition", "created_at", Transform::Day),
        ("eight-scattered", "country", Transform::Identity),
        ("sixteen-buckets", "customer", Transform::Bucket(16)),
    ] {
        let spec = PartitionSpecBuilder::new(schema.clone())
            .add_partition_field(column, format!("{column}_part"), transform)
            .unwrap()
            .build()
            .unwrap();
        let mut layout = IcebergLayout::new(&schema, &spec).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                for rows in &rows {
                    black_box(layout.split(rows).unwrap());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, files, sorting, layout);
criterion_main!(benches);
