#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use iceberg::spec::{
    FormatVersion, NestedField, PartitionSpec, PrimitiveType, Schema, SortOrder,
    TableMetadataBuilder, Transform, Type,
};

use super::*;

#[test]
fn names_and_separators_are_encoded_as_path_segments() {
    assert_eq!(segment("a b/c"), "a%20b%2Fc");
    assert_eq!(separator(None), "%1F");
    assert_eq!(separator(Some("%2E")), "%2E");
    assert_eq!(separator(Some(".")), ".");
}

#[test]
fn a_new_schema_tells_older_servers_its_last_column_id() {
    let schema = Schema::builder()
        .with_fields([NestedField::optional(7, "c", Type::Primitive(PrimitiveType::Int)).into()])
        .build()
        .unwrap();
    let sent = updates(vec![
        TableUpdate::AddSchema { schema },
        TableUpdate::SetCurrentSchema { schema_id: -1 },
    ])
    .unwrap();
    assert_eq!(sent[0]["action"], "add-schema");
    assert_eq!(sent[0]["last-column-id"], 7);
    assert!(sent[1].get("last-column-id").is_none());
}

#[test]
fn a_missing_main_branch_is_required_by_name() {
    let requirement = TableRequirement::RefSnapshotIdMatch {
        r#ref: "main".to_owned(),
        snapshot_id: None,
    };
    assert_eq!(
        serde_json::to_value(requirement).unwrap(),
        json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null})
    );
}

#[test]
fn a_table_is_asked_for_with_the_ids_of_its_partition_fields() {
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "c", Type::Primitive(PrimitiveType::Int)).into()])
        .build()
        .unwrap();
    let spec = PartitionSpec::builder(schema.clone())
        .add_partition_field("c", "shard", Transform::Bucket(4))
        .and_then(|builder| builder.add_partition_field("c", "c", Transform::Identity))
        .and_then(|builder| builder.build())
        .unwrap();
    let asked = |location: &str| {
        let initial = TableMetadataBuilder::new(
            schema.clone(),
            spec.clone(),
            SortOrder::unsorted_order(),
            location.to_owned(),
            FormatVersion::V3,
            HashMap::new(),
        );
        let initial = initial.and_then(TableMetadataBuilder::build).unwrap();
        serde_json::to_value(creation("t", &initial.metadata)).unwrap()
    };
    let request = asked("s3://lake/t");
    let field = |at: usize| request["partition-spec"]["fields"][at].clone();
    assert_eq!(
        field(0),
        json!({"source-id": 1, "field-id": 1000, "name": "shard", "transform": "bucket[4]"})
    );
    assert_eq!(field(1)["field-id"], 1001);
    assert_eq!(request["properties"]["format-version"], "3");
    assert_eq!(request["location"], "s3://lake/t");
    // A server that chooses the place is told none.
    assert!(asked("").get("location").is_none());
}
