#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
use arrow::array::{
    Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array, ListArray, MapBuilder,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, StructType, Type};

use super::*;

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

#[test]
fn columns_go_by_name_and_absent_ones_become_null() {
    let to = schema(vec![
        Field::new("new", DataType::Utf8, true),
        Field::new("b", DataType::Int64, true),
        Field::new("a", DataType::Int32, true),
    ]);
    let from = batch(vec![("a", ints(&[1, 2])), ("b", ints(&[3, 4]))]);
    let fitted = Conformer::new(from.schema_ref(), &to)
        .unwrap()
        .apply(&from)
        .unwrap();
    assert_eq!(fitted.schema(), to);
    assert_eq!(fitted.column(0).null_count(), 2);
    assert_eq!(fitted.column(1).as_ref(), &Int64Array::from(vec![3, 4]));
    let kept = fitted.column(2).to_data().buffers()[0].as_ptr();
    assert_eq!(
        kept,
        from.column(0).to_data().buffers()[0].as_ptr(),
        "no copy"
    );
}

#[test]
fn what_does_not_fit_is_named_by_its_path() {
    let inner = |fields: Vec<Field>| DataType::Struct(fields.into());
    let to = schema(vec![Field::new(
        "s",
        inner(vec![Field::new("x", DataType::Int32, true)]),
        true,
    )]);
    let said = |field: Field| {
        let error = Conformer::new(&schema(vec![field]), &to).unwrap_err();
        error.to_string()
    };
    let wider = inner(vec![Field::new("x", DataType::Int64, true)]);
    assert_eq!(
        said(Field::new("s", wider, true)),
        "column \"s.x\" is Int64, which does not widen to Int32"
    );
    let other = inner(vec![Field::new("y", DataType::Int32, true)]);
    assert_eq!(
        said(Field::new("s", other, true)),
        "column \"s.y\" is not in the schema"
    );
    assert_eq!(
        said(Field::new("t", DataType::Int32, true)),
        "column \"t\" is not in the schema"
    );
    let required = schema(vec![Field::new("r", DataType::Int32, false)]);
    let error = Conformer::new(&schema(vec![]), &required).unwrap_err();
    assert_eq!(error.to_string(), "required column \"r\" is missing");
    let nulls = batch(vec![("r", Arc::new(Int32Array::from(vec![None, Some(1)])))]);
    let conformer = Conformer::new(nulls.schema_ref(), &required).unwrap();
    assert_eq!(
        conformer.apply(&nulls).unwrap_err().to_string(),
        "required column \"r\" has nulls"
    );
}

#[test]
fn narrower_types_widen_and_no_value_changes() {
    let cases: Vec<(ArrayRef, DataType)> = vec![
        (ints(&[i32::MIN, i32::MAX]), DataType::Int64),
        (
            Arc::new(arrow::array::Float32Array::from(vec![0.5f32])),
            DataType::Float64,
        ),
        (
            Arc::new(Decimal128Array::from(vec![-1]).with_data_type(DataType::Decimal128(5, 2))),
            DataType::Decimal128(20, 2),
        ),
        (
            Arc::new(arrow::array::BinaryArray::from_vec(vec![b"x"])),
            DataType::LargeBinary,
        ),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![7]).with_timezone("UTC")),
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        ),
    ];
    for (array, to) in cases {
        let from = batch(vec![("c", array.clone())]);
        let target = schema(vec![Field::new("c", to.clone(), true)]);
        let fitted = Conformer::new(from.schema_ref(), &target)
            .unwrap()
            .apply(&from)
            .unwrap();
        assert_eq!(
            arrow::compute::cast(fitted.column(0), array.data_type())
                .unwrap()
                .as_ref(),
            array.as_ref(),
            "{to}"
        );
        // And never the other way round.
        assert!(
            Conformer::new(&target, from.schema_ref()).is_err()
                || matches!(to, DataType::Timestamp(..))
        );
    }
}

#[test]
fn nested_columns_take_the_ids_and_types_of_a_table() {
    let primitive = Type::Primitive;
    let point = |id: i32| {
        Type::Struct(StructType::new(vec![
            NestedField::optional(id, "x", primitive(PrimitiveType::Long)).into(),
            NestedField::optional(id + 1, "added", primitive(PrimitiveType::String)).into(),
        ]))
    };
    let table = iceberg::spec::Schema::builder()
        .with_fields([
            NestedField::optional(1, "s", point(10)).into(),
            NestedField::optional(
                2,
                "l",
                Type::List(ListType::new(
                    NestedField::list_element(3, point(20), false).into(),
                )),
            )
            .into(),
            NestedField::optional(
                4,
                "m",
                Type::Map(MapType::new(
                    NestedField::map_key_element(5, primitive(PrimitiveType::String)).into(),
                    NestedField::map_value_element(6, primitive(PrimitiveType::String), false)
                        .into(),
                )),
            )
            .into(),
        ])
        .build()
        .unwrap();
    let to = table_schema(&table).unwrap();

    let x = Fields::from(vec![Field::new("x", DataType::Int32, true)]);
    let s = StructArray::new(
        x.clone(),
        vec![ints(&[1, 2])],
        Some(NullBuffer::from(vec![true, false])),
    );
    let items = StructArray::new(x.clone(), vec![ints(&[3, 4, 5])], None);
    let item = Arc::new(Field::new("item", DataType::Struct(x), true));
    let l = ListArray::new(
        item,
        OffsetBuffer::from_lengths([1, 2]),
        Arc::new(items),
        None,
    );
    let mut m = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for word in ["a", "b"] {
        m.keys().append_value(word);
        m.values().append_value(word);
        m.append(true).unwrap();
    }
    let from = batch(vec![
        ("m", Arc::new(m.finish())),
        ("l", Arc::new(l)),
        ("s", Arc::new(s)),
    ]);
    let fitted = Conformer::new(from.schema_ref(), &to)
        .unwrap()
        .apply(&from)
        .unwrap();
    assert_eq!(fitted.schema(), to);
    let s = fitted.column(0).as_struct();
    assert!(s.is_null(1) && s.column(1).null_count() == 2);
    assert_eq!(s.column(0).as_ref(), &Int64Array::from(vec![1, 2]));
    let second = fitted.column(1).as_list::<i32>().value(1);
    let x = second.as_struct().column(0).clone();
    assert_eq!(x.as_ref(), &Int64Array::from(vec![4, 5]));
    assert_eq!(fitted.column(2).as_map().value(1).len(), 1);
}

mod by_name;

#[test]
fn uuids_are_text_in_datasets_and_marked_in_tables() {
    let id = uuid::Uuid::from_u128(7);
    let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        [Some(id.as_bytes()), None].into_iter(),
        16,
    );
    let from = batch(vec![("u", Arc::new(ids.unwrap()))]);
    let to = dataset_schema(from.schema_ref());
    assert_eq!(to.field(0).data_type(), &DataType::Utf8);
    let fitted = Conformer::new(from.schema_ref(), &to)
        .unwrap()
        .apply(&from)
        .unwrap();
    let text = fitted.column(0).as_string::<i32>();
    assert_eq!(text.value(0), id.to_string());
    assert!(text.is_null(1));
}

#[test]
fn a_union_holds_both_schemas_whichever_comes_first() {
    let a = schema(vec![
        Field::new("id", DataType::Int32, false),
        Field::new("gone", DataType::Utf8, false),
        Field::new(
            "s",
            DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into()),
            true,
        ),
    ]);
    let b = schema(vec![
        Field::new("id", DataType::Int64, false),
        Field::new(
            "s",
            DataType::Struct(vec![Field::new("y", DataType::Int32, true)].into()),
            true,
        ),
        Field::new("new", DataType::Boolean, false),
    ]);
    for (first, second) in [(&a, &b), (&b, &a)] {
        let both = union(first, second).unwrap();
        Conformer::new(first, &both).unwrap();
        Conformer::new(second, &both).unwrap();
        assert_eq!(union(&both, first).unwrap(), both);
        assert_eq!(
            both.field_with_name("id").unwrap().data_type(),
            &DataType::Int64
        );
        assert!(!both.field_with_name("id").unwrap().is_nullable());
        assert!(both.field_with_name("gone").unwrap().is_nullable());
    }
    let c = schema(vec![Field::new("id", DataType::Utf8, false)]);
    assert!(matches!(union(&a, &c), Err(Misfit::Type { column, .. }) if column == "id"));
}
