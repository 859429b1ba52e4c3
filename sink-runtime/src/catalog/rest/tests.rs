#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};

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
