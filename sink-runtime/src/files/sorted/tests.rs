#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Int64Type, SchemaRef};
use iceberg::spec::{
    NestedField, NullOrder, PrimitiveType, Schema, SortDirection, SortField, SortOrder, Transform,
    Type,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;
use crate::files::Format;
use crate::files::conform::table_schema;
use crate::plan::{OutputFormat, ParquetCompression, ParquetOptions};

fn table() -> Schema {
    let fields = [
        NestedField::optional(1, "n", Type::Primitive(PrimitiveType::Long)),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)),
    ];
    let builder = Schema::builder().with_fields(fields.map(Into::into));
    builder.build().unwrap()
}

/// By `n`, ascending, without values last.
fn order() -> Arc<RowOrder> {
    let field = SortField {
        source_id: 1,
        transform: Transform::Identity,
        direction: SortDirection::Ascending,
        null_order: NullOrder::Last,
    };
    let order = SortOrder {
        order_id: 5,
        fields: vec![field],
    };
    Arc::new(RowOrder::new(&table(), &order).unwrap().unwrap())
}

fn open(row_group_rows: usize, order: Option<Arc<RowOrder>>) -> (SchemaRef, Box<dyn FileWriter>) {
    let options = ParquetOptions {
        compression: ParquetCompression::Snappy,
        row_group_rows,
        row_group_bytes: 128 << 20,
        page_bytes: 1 << 20,
        dictionary: true,
        statistics: true,
        bloom_filters: BTreeMap::new(),
    };
    let schema = table_schema(&table()).unwrap();
    let mut format = Format::new(OutputFormat::Parquet(options), 8 << 20);
    format.sort_by(order);
    let file = format.open(&schema);
    (schema, file)
}

/// Rows of these numbers, each named by its place of all rows written.
fn rows(schema: &SchemaRef, first: usize, numbers: &[Option<i64>]) -> RecordBatch {
    let names = (first..first + numbers.len()).map(|place| format!("row {place}"));
    let names = StringArray::from_iter_values(names);
    let names = cast(&names, schema.field(1).data_type()).unwrap();
    let numbers = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_new(schema.clone(), vec![numbers, names]).unwrap()
}

struct Written {
    finished: Finished,
    /// Numbers and names of each row group.
    groups: Vec<Vec<(Option<i64>, String)>>,
}

fn written(mut file: Box<dyn FileWriter>, batches: &[RecordBatch]) -> Written {
    let mut bytes = Vec::new();
    for batch in batches {
        file.write(batch).unwrap();
        bytes.extend(file.drain());
    }
    let finished = file.finish(Vec::new()).unwrap();
    bytes.extend(finished.rest.iter().cloned());
    let bytes = Bytes::from(bytes.concat());
    assert_eq!(bytes.len() as u64, finished.size);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let groups = (0..builder.metadata().num_row_groups()).map(|group| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        let schema = builder.schema().clone();
        let reader = builder.with_row_groups(vec![group]).build().unwrap();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let batch = concat_batches(&schema, &batches).unwrap();
        let numbers = batch.column(0).as_primitive::<Int64Type>().clone();
        let names = cast(batch.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
        let names = names.as_string::<i32>();
        (0..batch.num_rows())
            .map(|row| {
                let number = (!numbers.is_null(row)).then(|| numbers.value(row));
                (number, names.value(row).to_owned())
            })
            .collect()
    });
    Written {
        groups: groups.collect(),
        finished,
    }
}

/// What the manifest will say.
fn told(written: &Written) -> Option<i32> {
    written.finished.metrics.as_ref().unwrap().sort_order_id
}

#[test]
fn a_file_of_one_row_group_is_sorted_and_says_so_and_equal_rows_keep_their_order() {
    let (schema, file) = open(1_000_000, Some(order()));
    let batches = [
        rows(&schema, 0, &[Some(3), None, Some(1)]),
        rows(&schema, 3, &[Some(2), Some(1), None]),
    ];
    let written = written(file, &batches);
    let names: Vec<&str> = written.groups[0].iter().map(|(_, n)| n.as_str()).collect();
    assert_eq!(
        names,
        ["row 2", "row 4", "row 3", "row 0", "row 1", "row 5"]
    );
    assert_eq!((written.groups.len(), told(&written)), (1, Some(5)));
    assert_eq!(written.finished.rows, 6);
}

#[test]
fn a_file_whose_row_groups_overlap_has_each_sorted_and_does_not_call_itself_sorted() {
    let (schema, file) = open(2, Some(order()));
    let numbers = [Some(4), Some(1), Some(3), Some(2)];
    let overlapping = written(file, &[rows(&schema, 0, &numbers)]);
    let numbers: Vec<Vec<Option<i64>>> = overlapping
        .groups
        .iter()
        .map(|group| group.iter().map(|(n, _)| *n).collect())
        .collect();
    assert_eq!(numbers, [[Some(1), Some(4)], [Some(2), Some(3)]]);
    assert_eq!(told(&overlapping), None);

    // Rows that come in order, as times do, are in order whatever the number of row groups.
    let (schema, file) = open(2, Some(order()));
    let numbers = [Some(2), Some(1), Some(2), Some(3), None];
    let following = written(file, &[rows(&schema, 0, &numbers)]);
    assert_eq!((following.groups.len(), told(&following)), (3, Some(5)));
}

#[test]
fn memory_under_pressure_comes_back_by_ending_the_row_group() {
    let (schema, mut file) = open(1_000_000, Some(order()));
    let numbers: Vec<_> = (0..20_000).map(|n| Some(n * 7919 % 20_000)).collect();
    file.write(&rows(&schema, 0, &numbers)).unwrap();
    let held = file.memory();
    file.relieve().unwrap();
    drop(file.drain());
    assert!(file.memory() < held / 2, "{} of {held}", file.memory());
    let more = written(file, &[rows(&schema, 20_000, &[Some(0)])]);
    let groups: Vec<usize> = more.groups.iter().map(Vec::len).collect();
    assert_eq!((groups, told(&more)), (vec![20_000, 1], None));
}

#[test]
fn rows_that_wait_are_bounded_however_large_the_row_group_may_be() {
    let (schema, mut file) = open(usize::MAX, Some(order()));
    let mut most = 0;
    for n in 0..60_i64 {
        let numbers: Vec<_> = (0..20_000)
            .map(|m| Some((n * 20_000 + m) * 7919 % 1_000_003))
            .collect();
        file.write(&rows(&schema, 0, &numbers)).unwrap();
        drop(file.drain());
        most = most.max(file.memory());
    }
    assert!(most > RUN_BYTES / 2, "enough to fill a row group: {most}");
    assert!(most < 3 * RUN_BYTES, "{most}");
}

#[test]
fn a_table_without_a_sort_order_has_its_rows_as_they_came() {
    let (schema, file) = open(1_000_000, None);
    let plain = written(file, &[rows(&schema, 0, &[Some(1), Some(2)])]);
    assert_eq!(told(&plain), None);
    assert_eq!(plain.groups[0][0], (Some(1), "row 0".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_row_is_in_the_file_once_and_each_row_group_is_sorted(
        batches in prop::collection::vec(prop::collection::vec(prop::option::of(-5_i64..5), 0..20), 0..8),
        row_group_rows in 1_usize..40,
    ) {
        let (schema, file) = open(row_group_rows, Some(order()));
        let mut count = 0;
        let batches: Vec<RecordBatch> = batches
            .iter()
            .map(|numbers| {
                let batch = rows(&schema, count, numbers);
                count += numbers.len();
                batch
            })
            .collect();
        let written = written(file, &batches);
        let key = |n: &Option<i64>| (n.is_none(), *n);
        let mut last = None;
        let mut whole = true;
        let mut names = BTreeSet::new();
        for group in &written.groups {
            prop_assert!(group.len() <= row_group_rows);
            prop_assert!(group.is_sorted_by_key(|(n, _)| key(n)), "{group:?}");
            whole &= last.is_none_or(|last| group.first().is_none_or(|(n, _)| last <= key(n)));
            last = group.last().map(|(n, _)| key(n)).or(last);
            names.extend(group.iter().map(|(_, name)| name.clone()));
        }
        prop_assert_eq!(names.len(), count);
        prop_assert_eq!(told(&written).is_some(), whole);
    }
}
