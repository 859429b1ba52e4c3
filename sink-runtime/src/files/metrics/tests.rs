#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, LargeBinaryArray, ListArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef};
use iceberg::spec::{ListType, NestedField, Schema, Type};
use proptest::prelude::*;

use super::*;
use crate::files::conform::table_schema;
use crate::files::{Finished, Format};
use crate::plan::{OutputFormat, ParquetCompression, ParquetOptions};

fn options(row_group_rows: usize) -> ParquetOptions {
    ParquetOptions {
        compression: ParquetCompression::Snappy,
        row_group_rows,
        row_group_bytes: 128 << 20,
        page_bytes: 1 << 20,
        dictionary: true,
        statistics: true,
        bloom_filters: Default::default(),
    }
}

fn write(schema: &SchemaRef, batch: &RecordBatch, row_group_rows: usize) -> Finished {
    let format = Format::new(OutputFormat::Parquet(options(row_group_rows)), 8 << 20);
    let mut file = format.open(schema);
    file.write(batch).unwrap();
    file.finish(Vec::new()).unwrap()
}

fn metrics_of(schema: &SchemaRef, columns: Vec<ArrayRef>, row_group_rows: usize) -> Metrics {
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    write(schema, &batch, row_group_rows)
        .metrics
        .unwrap()
        .kept(&Modes::default())
}

fn one_column(ty: PrimitiveType) -> SchemaRef {
    let field = NestedField::optional(1, "c", Type::Primitive(ty));
    let schema = Schema::builder().with_fields([field.into()]).build();
    table_schema(&schema.unwrap()).unwrap()
}

fn strings(values: &[&str], row_group_rows: usize) -> (Option<String>, Option<String>) {
    let column: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let metrics = metrics_of(
        &one_column(PrimitiveType::String),
        vec![column],
        row_group_rows,
    );
    let text = |d: Option<&Datum>| d.map(Datum::to_human_string);
    (
        text(metrics.lower_bounds.get(&1)),
        text(metrics.upper_bounds.get(&1)),
    )
}

/// Parquet cuts statistics at 64 bytes and says that they are not exact; they bound the column all the same.
#[test]
fn a_row_group_of_long_strings_widens_the_bounds() {
    let (high, low) = ("z".repeat(100), "A".repeat(100));
    let (lower, upper) = strings(&["b", "c", &high, &low], 2);
    assert_eq!(lower.unwrap(), "A".repeat(16));
    assert_eq!(upper.unwrap(), "z".repeat(15) + "{");
}

#[test]
fn bounds_are_cut_between_code_points_and_rounded_outwards() {
    let snow = "☃".repeat(20);
    let (lower, upper) = strings(&[&snow], 10);
    assert_eq!(lower.unwrap(), "☃".repeat(16));
    assert_eq!(upper.unwrap(), "☃".repeat(15) + "☄");

    let sixteen = "é".repeat(16);
    let (lower, upper) = strings(&[&sixteen], 10);
    assert_eq!((lower.unwrap(), upper.unwrap()), (sixteen.clone(), sixteen));

    // No code point is above the last one: its predecessor is incremented instead.
    let last = format!("{}{}", "a".repeat(10), "\u{10FFFF}".repeat(20));
    assert_eq!(strings(&[&last], 10).1.unwrap(), "a".repeat(9) + "b");
    // Surrogates are skipped.
    let before_surrogates = "\u{D7FF}".repeat(17);
    assert_eq!(
        strings(&[&before_surrogates], 10).1.unwrap(),
        "\u{D7FF}".repeat(15) + "\u{E000}"
    );
}

#[test]
fn a_bound_that_cannot_be_rounded_outwards_is_left_out() {
    assert_eq!(strings(&[&"\u{10FFFF}".repeat(17)], 10).1, None);
    let column: ArrayRef = Arc::new(LargeBinaryArray::from_iter_values([vec![0xFF; 20]]));
    let metrics = metrics_of(&one_column(PrimitiveType::Binary), vec![column], 10);
    assert!(metrics.upper_bounds.is_empty());
    assert_eq!(
        metrics.lower_bounds[&1].to_bytes().unwrap().as_ref(),
        [0xFF; 16]
    );
}

#[test]
fn columns_of_nothing_but_nulls_or_nan_have_counts_and_no_bounds() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::NAN), None]));
    let metrics = metrics_of(&one_column(PrimitiveType::Double), vec![column], 2);
    assert_eq!(metrics.value_counts[&1], 3);
    assert_eq!(metrics.null_value_counts[&1], 2);
    assert_eq!(metrics.nan_value_counts[&1], 1);
    assert!(metrics.lower_bounds.is_empty() && metrics.upper_bounds.is_empty());
}

#[test]
fn decimals_of_every_width_have_signed_bounds() {
    for precision in [5u32, 15, 30] {
        let ty = PrimitiveType::Decimal {
            precision,
            scale: 2,
        };
        let values = [-12_345i128, 7, -1, 99_999];
        let column: ArrayRef = Arc::new(
            Decimal128Array::from_iter_values(values)
                .with_data_type(DataType::Decimal128(precision as u8, 2)),
        );
        let metrics = metrics_of(&one_column(ty), vec![column], 1);
        let literal = |d: &Datum| d.literal().clone();
        assert_eq!(
            literal(&metrics.lower_bounds[&1]),
            PrimitiveLiteral::Int128(-12_345)
        );
        assert_eq!(
            literal(&metrics.upper_bounds[&1]),
            PrimitiveLiteral::Int128(99_999)
        );
    }
}

#[test]
fn every_primitive_type_has_bounds_of_its_own_type() {
    use PrimitiveType as P;
    let types = [
        P::Boolean,
        P::Int,
        P::Long,
        P::Float,
        P::Double,
        P::Date,
        P::Time,
        P::Timestamp,
        P::Timestamptz,
        P::TimestampNs,
        P::TimestamptzNs,
        P::String,
        P::Uuid,
        P::Fixed(16),
        P::Fixed(3),
        P::Binary,
        P::Decimal {
            precision: 38,
            scale: 10,
        },
    ];
    for ty in types {
        let schema = one_column(ty.clone());
        let arrow = schema.field(0).data_type();
        let column = match arrow {
            DataType::Boolean => Arc::new(arrow::array::BooleanArray::from(vec![true])) as ArrayRef,
            DataType::FixedSizeBinary(width) => {
                let value = vec![b'x'; *width as usize];
                Arc::new(
                    arrow::array::FixedSizeBinaryArray::try_from_iter([value].into_iter()).unwrap(),
                )
            }
            DataType::LargeBinary => Arc::new(LargeBinaryArray::from_iter_values([b"x"])),
            other => {
                let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
                match arrow::compute::cast(&one, other) {
                    Ok(cast) => cast,
                    Err(_) => {
                        let narrow = arrow::compute::cast(&one, &DataType::Int32).unwrap();
                        arrow::compute::cast(&narrow, other).unwrap()
                    }
                }
            }
        };
        let metrics = metrics_of(&schema, vec![column], 10);
        assert_eq!(metrics.lower_bounds[&1].data_type(), &ty);
        assert_eq!(metrics.upper_bounds[&1].data_type(), &ty);
    }
}

fn nested_schema() -> Schema {
    let double = || Type::Primitive(PrimitiveType::Double);
    let inner = Type::Struct(iceberg::spec::StructType::new(vec![
        NestedField::optional(3, "x", double()).into(),
    ]));
    let list = Type::List(ListType::new(
        NestedField::list_element(5, double(), false).into(),
    ));
    Schema::builder()
        .with_fields([
            NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
            NestedField::optional(2, "s", inner).into(),
            NestedField::optional(4, "l", list).into(),
        ])
        .build()
        .unwrap()
}

#[test]
fn struct_fields_have_bounds_and_list_items_only_counts() {
    let schema = table_schema(&nested_schema()).unwrap();
    let DataType::Struct(fields) = schema.field(1).data_type() else {
        panic!("not a struct");
    };
    let DataType::List(item) = schema.field(2).data_type() else {
        panic!("not a list");
    };
    let nan = f64::NAN;
    // The NaN behind the null struct is no value.
    let s = StructArray::new(
        fields.clone(),
        vec![Arc::new(Float64Array::from(vec![nan, 2.0, nan, -3.0]))],
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let l = ListArray::new(
        item.clone(),
        OffsetBuffer::from_lengths([2, 0, 1, 0]),
        Arc::new(Float64Array::from(vec![Some(nan), None, Some(1.0)])),
        None,
    );
    let id = Int64Array::from(vec![4, 3, 2, 1]);
    let metrics = metrics_of(&schema, vec![Arc::new(id), Arc::new(s), Arc::new(l)], 2);
    assert_eq!(metrics.record_count, 4);
    assert_eq!(metrics.split_offsets.len(), 2);
    assert_eq!(metrics.lower_bounds[&1], Datum::long(1));
    assert_eq!(metrics.lower_bounds[&3], Datum::double(-3.0));
    assert_eq!(metrics.upper_bounds[&3], Datum::double(2.0));
    assert_eq!(metrics.nan_value_counts[&3], 1);
    assert_eq!(metrics.null_value_counts[&3], 1);
    assert_eq!(metrics.nan_value_counts[&5], 1);
    assert!(metrics.value_counts.contains_key(&5) && metrics.column_sizes[&5] > 0);
    assert!(!metrics.lower_bounds.contains_key(&5) && !metrics.upper_bounds.contains_key(&5));
    assert!(!metrics.value_counts.contains_key(&2), "only leaves count");
}

#[test]
fn the_manifest_entry_carries_everything() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![5, 6]));
    let schema = one_column(PrimitiveType::Long);
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let finished = write(&schema, &batch, 10);
    let metrics = finished.metrics.unwrap();
    let file = metrics
        .data_file(
            "s3://b/t/f.parquet".to_owned(),
            finished.size,
            3,
            Struct::empty(),
        )
        .unwrap();
    assert_eq!(file.record_count(), 2);
    assert_eq!(file.file_size_in_bytes(), finished.size);
    assert_eq!(file.lower_bounds()[&1], Datum::long(5));
    assert_eq!(file.split_offsets().unwrap(), [4]);
    assert_eq!(file.file_path(), "s3://b/t/f.parquet");
}

fn text() -> impl Strategy<Value = String> {
    // Long common prefixes, so that what is cut away matters; every width of UTF-8.
    let odd = prop::sample::select(vec!['a', 'z', 'é', '☃', '\u{D7FF}', '😀', '\u{10FFFF}']);
    prop::collection::vec(odd, 0..40).prop_flat_map(|tail| {
        (0..40usize).prop_map(move |head| {
            let tail: String = tail.iter().collect();
            "a".repeat(head) + &tail
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bounds_hold_every_value_and_are_the_reference_ones(
        rows in prop::collection::vec(
            (
                prop::option::of(text()),
                prop::option::of(prop::collection::vec(any::<u8>(), 0..90)),
                prop::option::of(-10_i128.pow(17)..10_i128.pow(17)),
                prop::option::of(prop_oneof![Just(f64::NAN), any::<f64>()]),
            ),
            1..60,
        ),
        row_group_rows in 1usize..20,
    ) {
        let types = [
            PrimitiveType::String,
            PrimitiveType::Binary,
            PrimitiveType::Decimal { precision: 18, scale: 3 },
            PrimitiveType::Double,
        ];
        let fields = types.iter().enumerate().map(|(i, ty)| {
            let id = i as i32 + 1;
            NestedField::optional(id, format!("c{id}"), Type::Primitive(ty.clone())).into()
        });
        let schema = Schema::builder().with_fields(fields).build().unwrap();
        let schema = table_schema(&schema).unwrap();
        let s = StringArray::from_iter(rows.iter().map(|r| r.0.as_deref()));
        let b = LargeBinaryArray::from_iter(rows.iter().map(|r| r.1.as_deref()));
        let d = Decimal128Array::from_iter(rows.iter().map(|r| r.2))
            .with_data_type(DataType::Decimal128(18, 3));
        let f = Float64Array::from_iter(rows.iter().map(|r| r.3));
        let metrics = metrics_of(
            &schema,
            vec![Arc::new(s), Arc::new(b), Arc::new(d), Arc::new(f)],
            row_group_rows,
        );

        let cut = |s: &str| s.chars().take(16).collect::<String>();
        let min = rows.iter().filter_map(|r| r.0.as_deref()).min();
        prop_assert_eq!(
            metrics.lower_bounds.get(&1).map(Datum::to_human_string),
            min.map(cut)
        );
        let max = rows.iter().filter_map(|r| r.0.as_deref()).max();
        if let (Some(upper), Some(max)) = (metrics.upper_bounds.get(&1), max) {
            let upper = upper.to_human_string();
            prop_assert!(upper.as_str() >= max);
            prop_assert!(upper.chars().count() <= 16);
        } else if let Some(max) = max {
            prop_assert!(max.chars().take(16).all(|c| c == char::MAX));
        }

        let min = rows.iter().filter_map(|r| r.1.as_deref()).min();
        prop_assert_eq!(
            metrics.lower_bounds.get(&2).map(|d| d.to_bytes().unwrap().into_vec()),
            min.map(|b| b[..b.len().min(16)].to_vec())
        );
        if let Some(max) = rows.iter().filter_map(|r| r.1.as_deref()).max() {
            match metrics.upper_bounds.get(&2) {
                Some(upper) => prop_assert!(upper.to_bytes().unwrap().as_ref() >= max),
                None => prop_assert!(max[..16].iter().all(|b| *b == 0xFF), "bound missing"),
            }
        }

        let int = |d: &Datum| match d.literal() {
            PrimitiveLiteral::Int128(v) => *v,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(metrics.lower_bounds.get(&3).map(int), rows.iter().filter_map(|r| r.2).min());
        prop_assert_eq!(metrics.upper_bounds.get(&3).map(int), rows.iter().filter_map(|r| r.2).max());

        let floats = || rows.iter().filter_map(|r| r.3);
        prop_assert_eq!(metrics.nan_value_counts[&4], floats().filter(|v| v.is_nan()).count() as u64);
        let numbers: Vec<f64> = floats().filter(|v| !v.is_nan()).collect();
        prop_assert_eq!(metrics.lower_bounds.contains_key(&4), !numbers.is_empty());
        for v in numbers {
            let (low, high) = (&metrics.lower_bounds[&4], &metrics.upper_bounds[&4]);
            let double = |d: &Datum| match d.literal() {
                PrimitiveLiteral::Double(v) => v.0,
                other => panic!("{other:?}"),
            };
            prop_assert!(double(low) <= v && v <= double(high));
        }
        for id in 1..=4 {
            prop_assert_eq!(metrics.value_counts[&id], rows.len() as u64);
        }
        let nulls = rows.iter().filter(|r| r.0.is_none()).count() as u64;
        prop_assert_eq!(metrics.null_value_counts[&1], nulls);
    }
}

#[test]
fn without_statistics_there_are_sizes_and_no_bounds() {
    let schema = one_column(PrimitiveType::Long);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let plan = ParquetOptions {
        statistics: false,
        ..options(10)
    };
    let mut file = Format::new(OutputFormat::Parquet(plan), 8 << 20).open(&schema);
    file.write(&RecordBatch::try_new(schema.clone(), vec![column]).unwrap())
        .unwrap();
    let metrics = file.finish(Vec::new()).unwrap().metrics.unwrap();
    assert!(metrics.lower_bounds.is_empty() && metrics.null_value_counts.is_empty());
    assert_eq!(metrics.value_counts[&1], 2);
}

#[test]
fn a_manifest_holds_of_each_column_what_the_table_wants() {
    let schema = one_column(PrimitiveType::String);
    let text = "abcdefghijklmnopqrst";
    let column: ArrayRef = Arc::new(StringArray::from(vec![Some(text), None]));
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let whole = write(&schema, &batch, 10).metrics.unwrap();
    let unsorted = iceberg::spec::SortOrder::unsorted_order();
    let table = Schema::builder()
        .with_fields([NestedField::optional(1, "c", Type::Primitive(PrimitiveType::String)).into()])
        .build()
        .unwrap();
    for (mode, counted, lower, upper) in [
        ("none", false, None, None),
        ("counts", true, None, None),
        ("truncate(3)", true, Some("abc"), Some("abd")),
        (
            "truncate(16)",
            true,
            Some("abcdefghijklmnop"),
            Some("abcdefghijklmnoq"),
        ),
        ("full", true, Some(text), Some(text)),
    ] {
        let said = [(modes::DEFAULT.to_owned(), mode.to_owned())].into();
        let kept = whole.clone().kept(&Modes::of(&said, &table, &unsorted));
        let text = |bounds: &HashMap<i32, Datum>| bounds.get(&1).map(Datum::to_human_string);
        assert_eq!(text(&kept.lower_bounds).as_deref(), lower, "{mode}");
        assert_eq!(text(&kept.upper_bounds).as_deref(), upper, "{mode}");
        assert_eq!(kept.value_counts.contains_key(&1), counted, "{mode}");
        assert_eq!(kept.null_value_counts.contains_key(&1), counted, "{mode}");
        assert_eq!(kept.record_count, 2, "{mode}");
        assert!(kept.column_sizes.contains_key(&1), "{mode}");
    }
}
