//! Fields of structs go by name, wherever the struct is: two of one type stand in another order in source and target.

use super::*;

const SOURCE: [&str; 2] = ["b", "a"];
const TARGET: [&str; 2] = ["a", "b"];

fn fields(names: [&str; 2]) -> Fields {
    let field = |name| Field::new(name, DataType::Utf8, true);
    names.map(field).to_vec().into()
}

/// Rows whose values say which field of which row they are.
fn structs(rows: usize) -> StructArray {
    let column = |name: &str| -> ArrayRef {
        let values = (0..rows).map(|row| format!("{name}{row}"));
        Arc::new(StringArray::from_iter_values(values))
    };
    StructArray::new(fields(SOURCE), SOURCE.map(column).to_vec(), None)
}

fn assert_by_name(fitted: &StructArray) {
    for name in TARGET {
        let values = fitted.column_by_name(name).unwrap().as_string::<i32>();
        for row in 0..fitted.len() {
            assert_eq!(values.value(row), format!("{name}{row}"));
        }
    }
}

fn list_of(names: [&str; 2]) -> DataType {
    let item = Field::new("element", DataType::Struct(fields(names)), true);
    DataType::List(Arc::new(item))
}

fn map_of(names: [&str; 2]) -> DataType {
    let entry = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Struct(fields(names)), true),
    ];
    let entries = Field::new("key_value", DataType::Struct(entry.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn source() -> RecordBatch {
    let DataType::List(item) = list_of(SOURCE) else {
        panic!("not a list");
    };
    let DataType::Map(entries, _) = map_of(SOURCE) else {
        panic!("not a map");
    };
    let DataType::Struct(of_entry) = entries.data_type().clone() else {
        panic!("not a struct");
    };
    let lists = ListArray::new(
        item,
        OffsetBuffer::from_lengths([1, 2]),
        Arc::new(structs(3)),
        None,
    );
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let entry = StructArray::new(of_entry, vec![keys, Arc::new(structs(3))], None);
    let offsets = OffsetBuffer::from_lengths([2, 1]);
    let maps = arrow::array::MapArray::new(entries, offsets, entry, None, false);
    batch(vec![
        ("s", Arc::new(structs(2))),
        ("l", Arc::new(lists)),
        ("m", Arc::new(maps)),
    ])
}

fn assert_all_by_name(fitted: &RecordBatch) {
    assert_by_name(fitted.column_by_name("s").unwrap().as_struct());
    let lists = fitted.column_by_name("l").unwrap().as_list::<i32>();
    assert_by_name(lists.values().as_struct());
    let maps = fitted.column_by_name("m").unwrap().as_map();
    assert_by_name(maps.values().as_struct());
}

#[test]
fn nested_fields_of_one_type_in_another_order_keep_their_values() {
    let from = source();
    let to = schema(vec![
        Field::new("m", map_of(TARGET), true),
        Field::new("s", DataType::Struct(fields(TARGET)), true),
        Field::new("l", list_of(TARGET), true),
    ]);
    let fitted = Conformer::new(from.schema_ref(), &to)
        .unwrap()
        .apply(&from)
        .unwrap();
    assert_eq!(fitted.schema(), to);
    assert_all_by_name(&fitted);
}

#[test]
fn a_union_of_structs_in_two_orders_keeps_the_values_of_both() {
    let from = source();
    let other = schema(vec![
        Field::new("s", DataType::Struct(fields(TARGET)), true),
        Field::new("l", list_of(TARGET), true),
        Field::new("m", map_of(TARGET), true),
    ]);
    for both in [
        union(from.schema_ref(), &other).unwrap(),
        union(&other, from.schema_ref()).unwrap(),
    ] {
        let fitted = Conformer::new(from.schema_ref(), &both)
            .unwrap()
            .apply(&from)
            .unwrap();
        assert_all_by_name(&fitted);
    }
}
