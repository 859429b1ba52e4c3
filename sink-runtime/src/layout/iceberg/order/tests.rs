#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use iceberg::spec::{NestedField, PrimitiveType, SortField as TableSortField, StructType};

use super::*;
use crate::files::conform::table_schema;
use SortDirection::{Ascending, Descending};

const HOUR: i64 = 3_600_000_000;

fn by(source_id: i32, transform: Transform) -> TableSortField {
    TableSortField {
        source_id,
        transform,
        direction: SortDirection::Ascending,
        null_order: NullOrder::First,
    }
}

fn order(fields: Vec<TableSortField>) -> SortOrder {
    SortOrder {
        order_id: 3,
        fields,
    }
}

/// Row numbers in the order's order; rows of equal keys in theirs.
fn sorted(schema: &Schema, fields: Vec<TableSortField>, columns: Vec<ArrayRef>) -> Vec<usize> {
    let arrow = table_schema(schema).unwrap();
    let columns = columns
        .iter()
        .zip(arrow.fields())
        .map(|(values, field)| cast(values, field.data_type()).unwrap());
    let batch = RecordBatch::try_new(arrow.clone(), columns.collect()).unwrap();
    let order = RowOrder::new(schema, &order(fields)).unwrap().unwrap();
    assert_eq!(order.id(), 3);
    let keys = order.keys(&batch).unwrap();
    let mut rows: Vec<usize> = (0..batch.num_rows()).collect();
    rows.sort_by(|a, b| keys.row(*a).cmp(&keys.row(*b)));
    rows
}

fn one(ty: PrimitiveType) -> Schema {
    let field = NestedField::optional(1, "c", Type::Primitive(ty));
    Schema::builder()
        .with_fields([field.into()])
        .build()
        .unwrap()
}

#[test]
fn rows_are_ordered_by_direction_and_place_of_nulls() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(-1), Some(7)]));
    let sort = |direction, null_order| {
        let field = TableSortField {
            direction,
            null_order,
            ..by(1, Transform::Identity)
        };
        sorted(&one(PrimitiveType::Long), vec![field], vec![values.clone()])
    };
    assert_eq!(sort(Ascending, NullOrder::First), [1, 2, 0, 3]);
    assert_eq!(sort(Ascending, NullOrder::Last), [2, 0, 3, 1]);
    assert_eq!(sort(Descending, NullOrder::First), [1, 3, 0, 2]);
    assert_eq!(sort(Descending, NullOrder::Last), [3, 0, 2, 1]);
}

#[test]
fn values_are_ordered_as_iceberg_orders_their_type() {
    let floats = vec![f64::NAN, 1.5, f64::NEG_INFINITY, -0.0, 0.0, f64::INFINITY];
    let found = sorted(
        &one(PrimitiveType::Double),
        vec![by(1, Transform::Identity)],
        vec![Arc::new(Float64Array::from(floats))],
    );
    assert_eq!(found, [2, 3, 4, 1, 5, 0], "NaN is the greatest");

    let texts = vec!["b", "ä", "a", "B", ""];
    let found = sorted(
        &one(PrimitiveType::String),
        vec![by(1, Transform::Identity)],
        vec![Arc::new(StringArray::from(texts))],
    );
    assert_eq!(found, [4, 3, 2, 0, 1], "by UTF-8 bytes");

    let decimals = Decimal128Array::from(vec![-5, 100, 99, -50])
        .with_precision_and_scale(9, 2)
        .unwrap();
    let ty = PrimitiveType::Decimal {
        precision: 9,
        scale: 2,
    };
    let found = sorted(
        &one(ty),
        vec![by(1, Transform::Identity)],
        vec![Arc::new(decimals)],
    );
    assert_eq!(found, [3, 0, 2, 1]);
}

#[test]
fn transforms_come_before_the_fields_after_them() {
    let fields = [
        NestedField::optional(1, "at", Type::Primitive(PrimitiveType::Timestamptz)),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)),
    ];
    let schema = Schema::builder()
        .with_fields(fields.map(Into::into))
        .build()
        .unwrap();
    let at = vec![2 * HOUR, HOUR + 2, HOUR + 1, -1, -HOUR];
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(at).with_timezone("+00:00"));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["x", "bb", "ba", "d", "c"]));
    let sort = |fields| sorted(&schema, fields, vec![at.clone(), names.clone()]);
    let hour = by(1, Transform::Hour);
    let name = by(2, Transform::Identity);
    assert_eq!(sort(vec![hour.clone(), name]), [4, 3, 2, 1, 0]);
    // Equal in their first letter: as they came.
    let letter = by(2, Transform::Truncate(1));
    assert_eq!(sort(vec![hour, letter]), [4, 3, 1, 2, 0]);

    // Whatever the buckets are, rows of one stand together.
    let found = sort(vec![
        by(2, Transform::Bucket(2)),
        by(2, Transform::Identity),
    ]);
    let mut all = found.clone();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4]);
}

#[test]
fn a_nested_column_orders_rows_and_a_missing_struct_is_a_null() {
    let city = NestedField::optional(2, "city", Type::Primitive(PrimitiveType::String));
    let place = NestedField::optional(1, "place", Type::Struct(StructType::new(vec![city.into()])));
    let schema = Schema::builder()
        .with_fields([place.into()])
        .build()
        .unwrap();
    let arrow = table_schema(&schema).unwrap();
    let arrow::datatypes::DataType::Struct(inner) = arrow.field(0).data_type() else {
        panic!("a struct");
    };
    let cities: ArrayRef = Arc::new(StringArray::from(vec!["Rom", "Ulm", "Bern"]));
    let cities = cast(&cities, inner[0].data_type()).unwrap();
    let nulls = vec![true, false, true].into();
    let places = StructArray::new(inner.clone(), vec![cities], Some(nulls));
    let found = sorted(
        &schema,
        vec![by(2, Transform::Identity)],
        vec![Arc::new(places)],
    );
    assert_eq!(found, [1, 2, 0]);
}

#[test]
fn an_order_that_cannot_be_followed_says_why_and_no_order_is_none() {
    let schema = one(PrimitiveType::String);
    let unsorted = RowOrder::new(&schema, &SortOrder::unsorted_order());
    assert!(unsorted.unwrap().is_none());
    let missing = RowOrder::new(&schema, &order(vec![by(9, Transform::Identity)]));
    assert!(matches!(
        missing,
        Err(OrderError::NoSource { source_id: 9, .. })
    ));
    let undefined = RowOrder::new(&schema, &order(vec![by(1, Transform::Hour)]));
    assert!(matches!(undefined, Err(OrderError::Undefined { .. })));
    let unknown = RowOrder::new(&schema, &order(vec![by(1, Transform::Unknown)]));
    assert!(matches!(unknown, Err(OrderError::Undefined { .. })));
}
