#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
use std::collections::BTreeMap;

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use iceberg::spec::{
    Datum, Literal, NestedField, PartitionSpecBuilder, PrimitiveLiteral, Transform,
};
use iceberg::transform::create_transform_function;
use proptest::prelude::*;

use super::*;
use crate::files::conform::table_schema;
use crate::record::TopicPartition;

mod bounds;
mod by_value;

fn rows(batch: RecordBatch) -> Rows {
    let count = batch.num_rows() as i64;
    Rows {
        tp: TopicPartition::new("orders", 0),
        batch,
        offsets: (0..count).map(|n| 100 + n * 2).collect(),
        timestamps: vec![-1; count as usize],
    }
}

fn spec(schema: &Schema, fields: &[(&str, Transform)]) -> PartitionSpec {
    let mut builder = PartitionSpecBuilder::new(schema.clone()).with_spec_id(7);
    for (n, (column, transform)) in fields.iter().enumerate() {
        let name = match transform {
            Transform::Identity => (*column).to_owned(),
            _ => format!("{}_p{n}", column.replace('.', "_")),
        };
        builder = builder
            .add_partition_field(column, name, *transform)
            .unwrap();
    }
    builder.build().unwrap()
}

/// One optional column `c`, partitioned by one field.
fn split_column(
    ty: PrimitiveType,
    transform: Transform,
    values: ArrayRef,
) -> Vec<Slice<IcebergPartition>> {
    let field = NestedField::optional(1, "c", Type::Primitive(ty));
    let schema = Schema::builder()
        .with_fields([field.into()])
        .build()
        .unwrap();
    let arrow = table_schema(&schema).unwrap();
    let values = cast(&values, arrow.field(0).data_type()).unwrap();
    let batch = RecordBatch::try_new(arrow, vec![values]).unwrap();
    let spec = spec(&schema, &[("c", transform)]);
    IcebergLayout::new(&schema, &spec)
        .unwrap()
        .split(&rows(batch))
        .unwrap()
        .slices
}

fn literals(slices: &[Slice<IcebergPartition>]) -> Vec<Option<PrimitiveLiteral>> {
    slices
        .iter()
        .map(|s| {
            s.key.tuple[0]
                .as_ref()
                .map(|l| l.as_primitive_literal().unwrap())
        })
        .collect()
}

fn paths(slices: &[Slice<IcebergPartition>]) -> Vec<&str> {
    slices.iter().map(|s| s.key.path.as_str()).collect()
}

#[test]
fn rows_of_one_partition_are_not_copied() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![5; 1000]));
    let before = values.to_data().buffers()[0].as_ptr();
    let slices = split_column(PrimitiveType::Long, Transform::Identity, values);
    assert_eq!(slices.len(), 1);
    let after = slices[0].batch.column(0).to_data().buffers()[0].as_ptr();
    assert_eq!(before, after);
    assert_eq!(
        (slices[0].first_offset, slices[0].last_offset),
        (100, 100 + 999 * 2)
    );
}

#[test]
fn an_unpartitioned_table_has_one_partition_without_values() {
    let field = NestedField::optional(1, "c", Type::Primitive(PrimitiveType::Int));
    let schema = Schema::builder()
        .with_fields([field.into()])
        .build()
        .unwrap();
    let batch = RecordBatch::try_new(
        table_schema(&schema).unwrap(),
        vec![Arc::new(Int32Array::from(vec![1, 2]))],
    )
    .unwrap();
    let mut layout = IcebergLayout::new(&schema, &PartitionSpec::unpartition_spec()).unwrap();
    let slices = layout.split(&rows(batch.clone())).unwrap().slices;
    assert_eq!((slices.len(), slices[0].key.path.as_str()), (1, ""));
    assert_eq!(slices[0].key.tuple, Struct::empty());
    assert!(
        layout
            .split(&rows(batch.slice(0, 0)))
            .unwrap()
            .slices
            .is_empty()
    );

    // Every field void: nothing is told apart, but the tuple has its places.
    let voided = spec(&schema, &[("c", Transform::Void)]);
    let slices = IcebergLayout::new(&schema, &voided)
        .unwrap()
        .split(&rows(batch))
        .unwrap()
        .slices;
    assert_eq!((slices.len(), literals(&slices)), (1, vec![None]));
}

#[test]
fn paths_read_as_those_of_iceberg_itself() {
    let micros = 1_795_251_600_123_456; // 2026-11-21 09:00:00.123456
    let instants = || -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![micros, -1]).with_timezone("+00:00"))
    };
    for (transform, first, second) in [
        (Transform::Year, "2026", "1969"),
        (Transform::Month, "2026-11", "1969-12"),
        (Transform::Day, "2026-11-21", "1969-12-31"),
        (Transform::Hour, "2026-11-21-09", "1969-12-31-23"),
    ] {
        let slices = split_column(PrimitiveType::Timestamptz, transform, instants());
        assert_eq!(
            paths(&slices),
            [format!("c_p0={first}"), format!("c_p0={second}")]
        );
    }
    let cases: Vec<(PrimitiveType, Transform, ArrayRef, &str)> = vec![
        (
            PrimitiveType::String,
            Transform::Identity,
            Arc::new(StringArray::from(vec!["a b/ñ=%"])),
            "c=a+b%2F%C3%B1%3D%25",
        ),
        (
            PrimitiveType::String,
            Transform::Truncate(3),
            Arc::new(StringArray::from(vec!["☃☃☃☃"])),
            "c_p0=%E2%98%83%E2%98%83%E2%98%83",
        ),
        (
            PrimitiveType::String,
            Transform::Identity,
            Arc::new(StringArray::from(vec![None::<&str>])),
            "c=null",
        ),
        (
            PrimitiveType::Date,
            Transform::Identity,
            Arc::new(Date32Array::from(vec![-1])),
            "c=1969-12-31",
        ),
        (
            PrimitiveType::Decimal {
                precision: 9,
                scale: 2,
            },
            Transform::Truncate(50),
            Arc::new(Decimal128Array::from(vec![-1065]).with_data_type(DataType::Decimal128(9, 2))),
            "c_p0=-11.00",
        ),
        (
            PrimitiveType::Binary,
            Transform::Truncate(2),
            Arc::new(BinaryArray::from_vec(vec![b"\xff\xfe\x00"])),
            "c_p0=%2F%2F4%3D",
        ),
        (
            PrimitiveType::Uuid,
            Transform::Identity,
            Arc::new(FixedSizeBinaryArray::try_from_iter([[0x11; 16]].into_iter()).unwrap()),
            "c=11111111-1111-1111-1111-111111111111",
        ),
        (
            PrimitiveType::Timestamptz,
            Transform::Identity,
            instants().slice(0, 1),
            "c=2026-11-21T09%3A00%3A00.123456Z",
        ),
        (
            PrimitiveType::Boolean,
            Transform::Identity,
            Arc::new(arrow::array::BooleanArray::from(vec![true])),
            "c=true",
        ),
    ];
    for (ty, transform, values, path) in cases {
        let slices = split_column(ty, transform, values);
        assert_eq!(paths(&slices), [path]);
    }
}

/// Hash values of the table specification's appendix B.
#[test]
fn buckets_are_those_of_the_specification() {
    let uuid = uuid::Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").unwrap();
    let instant = 1_510_871_468_000_000; // 2017-11-16T22:31:08
    let cases: Vec<(PrimitiveType, ArrayRef, i32)> = vec![
        (
            PrimitiveType::Int,
            Arc::new(Int32Array::from(vec![34])),
            2_017_239_379,
        ),
        (
            PrimitiveType::Long,
            Arc::new(Int64Array::from(vec![34])),
            2_017_239_379,
        ),
        (
            PrimitiveType::Decimal {
                precision: 9,
                scale: 2,
            },
            Arc::new(Decimal128Array::from(vec![1420]).with_data_type(DataType::Decimal128(9, 2))),
            -500_754_589,
        ),
        (
            PrimitiveType::Date,
            Arc::new(Date32Array::from(vec![17_486])),
            -653_330_422,
        ),
        (
            PrimitiveType::Timestamptz,
            Arc::new(TimestampMicrosecondArray::from(vec![instant]).with_timezone("+00:00")),
            -2_047_944_441,
        ),
        (
            PrimitiveType::TimestampNs,
            Arc::new(arrow::array::TimestampNanosecondArray::from(vec![
                instant * 1000 + 1,
            ])),
            -2_047_944_441,
        ),
        (
            PrimitiveType::String,
            Arc::new(StringArray::from(vec!["iceberg"])),
            1_210_000_089,
        ),
        (
            PrimitiveType::Uuid,
            Arc::new(FixedSizeBinaryArray::try_from_iter([uuid.as_bytes()].into_iter()).unwrap()),
            1_488_055_340,
        ),
        (
            PrimitiveType::Binary,
            Arc::new(BinaryArray::from_vec(vec![&[0, 1, 2, 3]])),
            -188_683_207,
        ),
    ];
    for (ty, values, hash) in cases {
        let slices = split_column(ty.clone(), Transform::Bucket(1000), values);
        let bucket = (hash & i32::MAX) % 1000;
        assert_eq!(
            literals(&slices),
            [Some(PrimitiveLiteral::Int(bucket))],
            "{ty}"
        );
    }
}

#[test]
fn every_transform_takes_every_type_it_is_defined_for_and_nulls() {
    use PrimitiveType as P;
    let types = [
        P::Boolean,
        P::Int,
        P::Long,
        P::Float,
        P::Double,
        P::Decimal {
            precision: 20,
            scale: 4,
        },
        P::Date,
        P::Time,
        P::Timestamp,
        P::Timestamptz,
        P::TimestampNs,
        P::TimestamptzNs,
        P::String,
        P::Uuid,
        P::Fixed(5),
        P::Binary,
    ];
    let transforms = [
        Transform::Identity,
        Transform::Void,
        Transform::Year,
        Transform::Month,
        Transform::Day,
        Transform::Hour,
        Transform::Bucket(16),
        Transform::Truncate(4),
    ];
    let mut undefined = 0;
    for ty in types {
        for transform in transforms {
            let field = NestedField::optional(1, "c", Type::Primitive(ty.clone()));
            let schema = Schema::builder()
                .with_fields([field.into()])
                .build()
                .unwrap();
            let arrow = table_schema(&schema).unwrap();
            if transform.result_type(&Type::Primitive(ty.clone())).is_err() {
                undefined += 1;
                continue;
            }
            let nulls = arrow::array::new_null_array(arrow.field(0).data_type(), 3);
            let batch = RecordBatch::try_new(arrow, vec![nulls]).unwrap();
            let spec = spec(&schema, &[("c", transform)]);
            let slices = IcebergLayout::new(&schema, &spec)
                .unwrap()
                .split(&rows(batch))
                .unwrap()
                .slices;
            assert_eq!(literals(&slices), [None], "{transform} of {ty}");
        }
    }
    assert!(undefined > 30, "{undefined}");
}

#[test]
fn nested_sources_are_null_where_their_parent_is() {
    let inner = iceberg::spec::StructType::new(vec![
        NestedField::optional(3, "x", Type::Primitive(PrimitiveType::Long)).into(),
    ]);
    let schema = Schema::builder()
        .with_fields([
            NestedField::optional(1, "a", Type::Primitive(PrimitiveType::Int)).into(),
            NestedField::optional(2, "s", Type::Struct(inner)).into(),
        ])
        .build()
        .unwrap();
    let arrow = table_schema(&schema).unwrap();
    let DataType::Struct(fields) = arrow.field(1).data_type() else {
        panic!("not a struct");
    };
    let s = StructArray::new(
        fields.clone(),
        vec![Arc::new(Int64Array::from(vec![1, 2, 1]))],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let a = Int32Array::from(vec![10, 20, 30]);
    let batch = RecordBatch::try_new(arrow, vec![Arc::new(a), Arc::new(s)]).unwrap();
    let spec = spec(&schema, &[("s.x", Transform::Identity)]);
    let slices = IcebergLayout::new(&schema, &spec)
        .unwrap()
        .split(&rows(batch))
        .unwrap()
        .slices;
    assert_eq!(literals(&slices), [Some(PrimitiveLiteral::Long(1)), None]);
    assert_eq!(slices[0].batch.num_rows(), 2);
    assert_eq!((slices[0].first_offset, slices[0].last_offset), (100, 104));
    assert_eq!((slices[1].first_offset, slices[1].last_offset), (102, 102));
}

#[test]
fn the_text_null_is_no_null_and_partitions_of_two_specs_differ() {
    let values: ArrayRef = Arc::new(StringArray::from(vec![Some("null"), None, Some("null")]));
    let slices = split_column(PrimitiveType::String, Transform::Identity, values);
    assert_eq!(paths(&slices), ["c=null", "c=null"]);
    assert_ne!(slices[0].key, slices[1].key);
    let mut other = slices[0].key.as_ref().clone();
    other.spec_id = 8;
    assert_ne!(&other, slices[0].key.as_ref());
}

#[test]
fn a_source_column_that_is_gone_is_reported() {
    let field = |id: i32, name: &str| {
        NestedField::optional(id, name, Type::Primitive(PrimitiveType::Int)).into()
    };
    let old = Schema::builder()
        .with_fields([field(1, "a"), field(2, "b")])
        .build()
        .unwrap();
    let new = Schema::builder()
        .with_fields([field(1, "a")])
        .build()
        .unwrap();
    let error = IcebergLayout::new(&new, &spec(&old, &[("b", Transform::Identity)])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "partition field \"b\" has no source column in the schema"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_row_is_in_the_slice_of_its_own_tuple(
        values in prop::collection::vec(
            (prop::option::of(-5_000_000_000_000i64..5_000_000_000_000), 0..3i64, 1..6usize),
            1..60,
        ),
    ) {
        let schema = Schema::builder()
            .with_fields([
                NestedField::required(1, "n", Type::Primitive(PrimitiveType::Long)).into(),
                NestedField::optional(2, "at", Type::Primitive(PrimitiveType::Timestamptz)).into(),
                NestedField::required(3, "k", Type::Primitive(PrimitiveType::Long)).into(),
            ])
            .build()
            .unwrap();
        let values: Vec<_> = values
            .into_iter()
            .flat_map(|(at, k, times)| std::iter::repeat_n((at, k), times))
            .collect();
        let n = Int64Array::from_iter_values(0..values.len() as i64);
        let at = TimestampMicrosecondArray::from_iter(values.iter().map(|v| v.0));
        let k = Int64Array::from_iter_values(values.iter().map(|v| v.1));
        let batch = RecordBatch::try_new(
            table_schema(&schema).unwrap(),
            vec![Arc::new(n), Arc::new(at.with_timezone("+00:00")), Arc::new(k)],
        )
        .unwrap();
        let spec = spec(&schema, &[("at", Transform::Day), ("k", Transform::Bucket(2))]);
        let slices = IcebergLayout::new(&schema, &spec).unwrap().split(&rows(batch)).unwrap().slices;

        let bucket = create_transform_function(&Transform::Bucket(2)).unwrap();
        let mut found: BTreeMap<i64, (Option<Literal>, Option<Literal>)> = BTreeMap::new();
        for slice in &slices {
            let ids = slice.batch.column(0).as_primitive::<Int64Type>().values();
            prop_assert!(ids.is_sorted());
            prop_assert_eq!(Some(slice.first_offset), ids.first().map(|n| 100 + n * 2));
            prop_assert_eq!(Some(slice.last_offset), ids.last().map(|n| 100 + n * 2));
            for id in ids {
                let tuple = &slice.key.tuple;
                prop_assert!(found.insert(*id, (tuple[0].clone(), tuple[1].clone())).is_none());
            }
        }
        prop_assert_eq!(found.len(), values.len());
        for (id, (day, in_bucket)) in found {
            let (at, k) = values[id as usize];
            prop_assert_eq!(day, at.map(|at| Literal::date(at.div_euclid(86_400_000_000) as i32)));
            let expected = bucket.transform_literal(&Datum::long(k)).unwrap().unwrap();
            prop_assert_eq!(in_bucket, Some(Literal::from(expected)));
        }
        let mut keys: Vec<_> = slices.iter().map(|s| s.key.clone()).collect();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), slices.len());
    }
}
