#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
use arrow::array::{ArrayRef, StringArray, StructArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;
use crate::files::Format;
use crate::files::samples::{orders, orders_schema};
use crate::plan::OutputFormat;

fn options(compression: ParquetCompression) -> ParquetOptions {
    ParquetOptions {
        compression,
        row_group_rows: 1_000_000,
        row_group_bytes: 128 << 20,
        page_bytes: 1 << 20,
        dictionary: true,
        statistics: true,
        bloom_filters: Default::default(),
    }
}

fn open(options: ParquetOptions, part_size: usize) -> Box<dyn FileWriter> {
    Format::new(OutputFormat::Parquet(options), part_size).open(&orders_schema())
}

fn read(bytes: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn same_rows(a: &RecordBatch, b: &RecordBatch) {
    assert_eq!(a.num_rows(), b.num_rows());
    for (a, b) in a.columns().iter().zip(b.columns()) {
        // The zone of instants is spelt "UTC" by the reader.
        assert_eq!(&arrow::compute::cast(a, b.data_type()).unwrap(), b);
    }
}

#[test]
fn rows_come_back_under_every_compression() {
    let batch = orders(0, 3000);
    for (compression, codec) in [
        (ParquetCompression::None, "UNCOMPRESSED"),
        (ParquetCompression::Snappy, "SNAPPY"),
        (ParquetCompression::Gzip { level: 6 }, "GZIP"),
        // Not LZ4, whose frames no two readers agree on.
        (ParquetCompression::Lz4, "LZ4_RAW"),
        (ParquetCompression::Zstd { level: 3 }, "ZSTD"),
    ] {
        let mut file = open(options(compression), 1 << 20);
        for start in (0..3000).step_by(100) {
            file.write(&batch.slice(start, 100)).unwrap();
        }
        let finished = file.finish(Vec::new()).unwrap();
        let bytes = Bytes::from(finished.rest.concat());
        assert_eq!((finished.rows, finished.size), (3000, bytes.len() as u64));
        assert!(finished.metrics.is_none(), "no field ids, no metrics");
        let reader = SerializedFileReader::new(bytes.clone()).unwrap();
        let said = reader.metadata().row_group(0).column(0).compression();
        assert!(said.to_string().starts_with(codec), "{said}");
        same_rows(&batch, &read(bytes));
    }
}

#[test]
fn parts_leave_while_rows_come_and_add_up_to_the_file() {
    let mut plan = options(ParquetCompression::Snappy);
    plan.row_group_rows = 20_000;
    let mut file = open(plan, 64 << 10);
    let mut parts = Vec::new();
    for n in 0..10 {
        file.write(&orders(n * 10_000, 10_000)).unwrap();
        parts.extend(file.drain());
    }
    assert!(parts.len() > 10);
    assert!(parts.iter().all(|p| p.len() == 64 << 10));
    let finished = file.finish(Vec::new()).unwrap();
    parts.extend(finished.rest);
    let bytes = Bytes::from(parts.concat());
    assert_eq!(finished.size, bytes.len() as u64);
    same_rows(&orders(0, 100_000), &read(bytes));
}

#[test]
fn row_groups_end_at_their_limits_so_that_memory_does_not_grow_with_the_file() {
    let mut plan = options(ParquetCompression::Zstd { level: 1 });
    plan.row_group_bytes = 1 << 20;
    let mut file = open(plan, 256 << 10);
    let mut high = 0;
    for n in 0..30 {
        file.write(&orders(n * 10_000, 10_000)).unwrap();
        file.drain();
        high = high.max(file.memory());
    }
    // A row group, a megabyte of rows that wait, and a context per column.
    assert!(high < 16 << 20, "{high}");
    let size = file.finish(Vec::new()).unwrap().size;
    assert!(size > 3 << 20, "{size}: not enough to tell");
}

#[test]
fn the_estimated_size_is_near_the_real_one() {
    let mut file = open(options(ParquetCompression::Zstd { level: 3 }), 8 << 20);
    for n in 0..20 {
        file.write(&orders(n * 5_000, 5_000)).unwrap();
    }
    let estimate = file.size() as f64;
    let real = file.finish(Vec::new()).unwrap().size as f64;
    assert!((0.5..2.5).contains(&(estimate / real)), "{estimate} {real}");
}

#[test]
fn the_footer_says_who_wrote_it_and_what() {
    let mut plan = options(ParquetCompression::Snappy);
    plan.bloom_filters.insert("customer".to_owned(), 0.01);
    let mut file = open(plan, 8 << 20);
    file.write(&orders(0, 100)).unwrap();
    let metadata = vec![("tidewater.topic".to_owned(), "orders".to_owned())];
    let bytes = Bytes::from(file.finish(metadata).unwrap().rest.concat());
    let reader = SerializedFileReader::new(bytes).unwrap();
    let footer = reader.metadata();
    let by = footer.file_metadata().created_by().unwrap();
    assert!(by.starts_with("tidewater "), "{by}");
    let pairs = footer.file_metadata().key_value_metadata().unwrap();
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0].value.as_deref(), Some("orders"));
    let group = footer.row_group(0);
    let filters = group.columns().iter().map(|c| c.bloom_filter_offset());
    assert_eq!(filters.map(|f| f.is_some()).filter(|f| *f).count(), 1);
    // A hundred values do not need the room of a million.
    assert!(footer.row_group(0).column(1).bloom_filter_length().unwrap() < 4096);
}

#[test]
fn a_bloom_filter_is_on_the_column_that_has_the_name_with_its_dots_or_by_its_levels() {
    use arrow::datatypes::Field as ArrowField;
    let names: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let field = |name: &str| Arc::new(ArrowField::new(name, DataType::Utf8, true));
    let nested = StructArray::from(vec![
        (field("c"), Arc::clone(&names)),
        (field("d"), Arc::clone(&names)),
    ]);
    let batch = RecordBatch::try_from_iter([
        ("a.b", Arc::clone(&names)),
        ("a", Arc::new(nested.clone()) as ArrayRef),
        ("x.y", Arc::new(nested) as ArrayRef),
    ])
    .unwrap();
    let mut plan = options(ParquetCompression::Snappy);
    for column in ["a.b", "a.d", "x.y.c", "not.there"] {
        plan.bloom_filters.insert(column.to_owned(), 0.01);
    }
    let format = Format::new(OutputFormat::Parquet(plan), 8 << 20);
    let mut file = format.open(&batch.schema());
    file.write(&batch).unwrap();
    let bytes = Bytes::from(file.finish(Vec::new()).unwrap().rest.concat());
    let reader = SerializedFileReader::new(bytes).unwrap();
    let group = reader.metadata().row_group(0).clone();
    let with = group
        .columns()
        .iter()
        .filter(|c| c.bloom_filter_offset().is_some());
    let with: Vec<_> = with.map(|c| c.column_path().parts().to_vec()).collect();
    assert_eq!(with, [vec!["a.b"], vec!["a", "d"], vec!["x.y", "c"]]);
}

#[test]
fn uuids_of_tables_are_annotated_and_other_fixed_values_are_not() {
    use iceberg::spec::{ListType, NestedField, PrimitiveType, Schema, Type as IcebergType};
    let primitive = |ty: PrimitiveType| IcebergType::Primitive(ty);
    let schema = Schema::builder()
        .with_fields([
            NestedField::optional(1, "u", primitive(PrimitiveType::Uuid)).into(),
            NestedField::optional(2, "f", primitive(PrimitiveType::Fixed(16))).into(),
            NestedField::optional(
                3,
                "l",
                IcebergType::List(ListType::new(
                    NestedField::list_element(4, primitive(PrimitiveType::Uuid), false).into(),
                )),
            )
            .into(),
        ])
        .build()
        .unwrap();
    let arrow = conform::table_schema(&schema).unwrap();
    let format = Format::new(
        OutputFormat::Parquet(options(ParquetCompression::None)),
        1 << 20,
    );
    let mut file = format.open(&arrow);
    let columns = arrow
        .fields()
        .iter()
        .map(|f| arrow::array::new_null_array(f.data_type(), 2));
    file.write(&RecordBatch::try_new(arrow.clone(), columns.collect()).unwrap())
        .unwrap();
    let bytes = Bytes::from(file.finish(Vec::new()).unwrap().rest.concat());
    let reader = SerializedFileReader::new(bytes).unwrap();
    let descriptor = reader.metadata().file_metadata().schema_descr();
    let found: Vec<_> = descriptor
        .columns()
        .iter()
        .map(|c| {
            let info = c.self_type().get_basic_info();
            (
                info.id(),
                info.logical_type_ref() == Some(&LogicalType::Uuid),
            )
        })
        .collect();
    assert_eq!(found, [(1, true), (2, false), (4, true)]);
}

#[test]
fn unique_columns_do_without_a_dictionary() {
    let mut file = open(options(ParquetCompression::None), 64 << 20);
    file.write(&orders(0, 20_000)).unwrap();
    let bytes = Bytes::from(file.finish(Vec::new()).unwrap().rest.concat());
    let reader = SerializedFileReader::new(bytes).unwrap();
    let group = reader.metadata().row_group(0);
    let has = |i: usize| group.column(i).dictionary_page_offset().is_some();
    assert!(!has(0), "id");
    assert!(has(2), "country");
}

/// 24 partitions by 80 paths: as many files, each of few rows, fit a small pod.
#[test]
fn nearly_two_thousand_small_files_cost_little_more_than_their_rows() {
    let batch = orders(0, 1920 * 20);
    let mut files: Vec<_> = (0..1920)
        .map(|_| open(options(ParquetCompression::Zstd { level: 3 }), 8 << 20))
        .collect();
    let take = |first: usize, count: usize| {
        let indices = UInt32Array::from_iter_values(first as u32..(first + count) as u32);
        take_record_batch(&batch, &indices).unwrap()
    };
    // Ten arrivals of two rows each, as a split of mixed batches gives them.
    for round in 0..10 {
        for (n, file) in files.iter_mut().enumerate() {
            file.write(&take(n * 20 + round * 2, 2)).unwrap();
        }
    }
    let counted: usize = files.iter().map(|f| f.memory()).sum();
    // As if each file had got its rows at once: that much is held at the least.
    let compact: usize = (0..1920)
        .map(|n| take(n * 20, 20).get_array_memory_size())
        .sum();
    assert!(compact <= counted, "{compact} {counted}");
    assert!(counted < 64 << 20, "{counted}");
    let rows: u64 = files.iter().map(|f| f.rows()).sum();
    assert_eq!(rows, 1920 * 20);
}
