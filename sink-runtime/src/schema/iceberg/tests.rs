#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use proptest::prelude::*;

use super::*;

fn orders() -> Schema {
    Schema {
        fields: vec![
            Field::required("id", Type::Long),
            Field::optional(
                "address",
                Type::Struct(vec![
                    Field::optional("street", Type::String),
                    Field::optional("zip", Type::Int),
                ]),
            ),
            Field::optional(
                "tags",
                Type::List(Box::new(Field::optional("element", Type::String))),
            ),
            Field::optional(
                "attributes",
                Type::Map(Box::new(Field::optional("value", Type::Double))),
            ),
            Field::required("ts", Type::Timestamptz),
        ],
    }
}

#[test]
fn ids_go_level_by_level_as_the_reference_assigns_them() {
    let schema = to_iceberg(&orders()).unwrap();
    let id = |name: &str| schema.field_id_by_name(name).unwrap();
    assert_eq!(
        ["id", "address", "tags", "attributes", "ts"].map(id),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(id("address.street"), 6);
    assert_eq!(id("address.zip"), 7);
    assert_eq!(id("tags.element"), 8);
    assert_eq!(id("attributes.key"), 9);
    assert_eq!(id("attributes.value"), 10);
    assert_eq!(schema.highest_field_id(), 10);
}

#[test]
fn a_schema_survives_the_way_there_and_back() {
    let schema = orders();
    assert_eq!(writable(&to_iceberg(&schema).unwrap()), (schema, vec![]));
}

#[test]
fn partition_fields_get_the_usual_names_and_ids_from_1000() {
    let schema = to_iceberg(&orders()).unwrap();
    let by = |column: &str, transform| PartitionField {
        column: column.to_owned(),
        transform,
        name: None,
    };
    let spec = partition_spec(
        &schema,
        &[
            by("ts", PartitionTransform::Hour),
            by("id", PartitionTransform::Bucket(16)),
            by("address.street", PartitionTransform::Truncate(4)),
        ],
    )
    .unwrap();
    let seen: Vec<_> = spec
        .fields()
        .iter()
        .map(|f| (f.name.as_str(), f.field_id, f.source_id))
        .collect();
    assert_eq!(
        seen,
        [
            ("ts_hour", 1000, 5),
            ("id_bucket_16", 1001, 1),
            ("address_street_trunc_4", 1002, 6)
        ]
    );
}

#[test]
fn a_transform_that_does_not_take_the_type_is_refused_by_name() {
    let schema = to_iceberg(&orders()).unwrap();
    let refused = partition_spec(
        &schema,
        &[PartitionField {
            column: "id".into(),
            transform: PartitionTransform::Hour,
            name: None,
        }],
    );
    assert!(
        matches!(refused, Err(MappingError::Transform { ref column, .. }) if column == "id"),
        "{refused:?}"
    );
}

#[test]
fn a_sort_order_refers_to_field_ids() {
    let schema = to_iceberg(&orders()).unwrap();
    let order = sort_order(
        &schema,
        &[SortField {
            column: "ts".into(),
            transform: PartitionTransform::Identity,
            descending: true,
            nulls_first: false,
        }],
    )
    .unwrap();
    assert_eq!(order.order_id, 1);
    assert_eq!(order.fields[0].source_id, 5);
    assert!(sort_order(&schema, &[]).unwrap().is_unsorted());
}

fn any_type() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Boolean),
        Just(Type::Int),
        Just(Type::Long),
        Just(Type::Decimal {
            precision: 18,
            scale: 2
        }),
        Just(Type::Date),
        Just(Type::Time),
        Just(Type::Timestamp),
        Just(Type::Timestamptz),
        Just(Type::String),
        Just(Type::Uuid),
        Just(Type::Binary),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-z]{1,6}", inner.clone(), 1..4).prop_map(|fields| {
                Type::Struct(
                    fields
                        .into_iter()
                        .map(|(n, t)| Field::optional(n, t))
                        .collect(),
                )
            }),
            inner
                .clone()
                .prop_map(|t| Type::List(Box::new(Field::optional("element", t)))),
            inner.prop_map(|t| Type::Map(Box::new(Field::optional("value", t)))),
        ]
    })
}

proptest! {
    #[test]
    fn every_schema_survives_the_way_there_and_back_with_distinct_ids(
        fields in prop::collection::btree_map("[a-z]{1,6}", any_type(), 1..6)
    ) {
        let schema = Schema {
            fields: fields.into_iter().map(|(n, t)| Field::optional(n, t)).collect(),
        };
        let mapped = to_iceberg(&schema).unwrap();
        let ids = mapped.field_id_to_fields();
        prop_assert_eq!(ids.len() as i32, mapped.highest_field_id());
        prop_assert_eq!(writable(&mapped), (schema, vec![]));
    }
}
