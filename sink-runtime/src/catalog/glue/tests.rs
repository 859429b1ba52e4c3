#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::HashMap;

use iceberg::spec::{
    FormatVersion, NestedField, PartitionSpec, PrimitiveType, Schema, SortOrder,
    TableMetadataBuilder, Type,
};

use super::*;

fn metadata(column: &str) -> TableMetadata {
    let schema = Schema::builder()
        .with_fields([NestedField::optional(
            1,
            column,
            Type::Primitive(PrimitiveType::Timestamptz),
        )
        .into()])
        .build()
        .unwrap();
    TableMetadataBuilder::new(
        schema,
        PartitionSpec::unpartition_spec(),
        SortOrder::unsorted_order(),
        "s3://b/t".to_owned(),
        FormatVersion::V2,
        HashMap::new(),
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

#[test]
fn an_update_keeps_what_others_stored_with_the_table() {
    let current = Table::builder()
        .name("t")
        .description("theirs")
        .owner("them")
        .retention(7)
        .parameters("their.key", "their value")
        .parameters(
            "metadata_location",
            "s3://b/t/metadata/00001-a.metadata.json",
        )
        .storage_descriptor(
            StorageDescriptor::builder()
                .location("s3://b/t")
                .additional_locations("s3://b/t/data")
                .build(),
        )
        .build()
        .unwrap();
    let input = table_input(
        "t",
        Some(&current),
        &metadata("c"),
        "s3://b/t/metadata/00002",
    )
    .unwrap();
    assert_eq!(input.description(), Some("theirs"));
    assert_eq!(input.owner(), Some("them"));
    assert_eq!(input.retention(), 7);
    let parameters = input.parameters().unwrap();
    assert_eq!(parameters["their.key"], "their value");
    assert_eq!(parameters["metadata_location"], "s3://b/t/metadata/00002");
    assert_eq!(
        parameters["previous_metadata_location"],
        "s3://b/t/metadata/00001-a.metadata.json"
    );
    let descriptor = input.storage_descriptor().unwrap();
    assert_eq!(descriptor.additional_locations(), ["s3://b/t/data"]);
    let names: Vec<_> = descriptor.columns().iter().map(|c| c.name()).collect();
    assert_eq!(names, ["c"]);
}

#[test]
fn a_glue_table_that_is_not_iceberg_is_refused() {
    let hive = Table::builder().name("t").build().unwrap();
    assert!(matches!(
        metadata_location(&hive),
        Err(CatalogError::Refused { .. })
    ));
}
