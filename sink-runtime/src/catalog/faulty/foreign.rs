//! What other engines do to a table, as far as its metadata shows it. For tests: errors come back as text.

use std::collections::HashMap;

use iceberg::spec::{
    MAIN_BRANCH, NestedField, Operation, PrimitiveType, Schema, Snapshot, SnapshotReference,
    SnapshotRetention, Summary, TableMetadata, TableMetadataBuilder, Transform, Type,
    UnboundPartitionSpec,
};

use crate::catalog::TableOps;
use crate::catalog::stage::fresh_snapshot_id;

type Outcome = Result<(), String>;

async fn change(
    table: &dyn TableOps,
    edit: impl Fn(&TableMetadata, TableMetadataBuilder) -> iceberg::Result<TableMetadataBuilder>,
) -> Outcome {
    for _ in 0..100 {
        let base = table.load().await.map_err(|e| e.to_string())?;
        let builder =
            TableMetadata::clone(&base.metadata).into_builder(base.metadata_location.clone());
        let built = edit(&base.metadata, builder)
            .and_then(TableMetadataBuilder::build)
            .map_err(|e| e.to_string())?;
        match table.commit(&base, built, Vec::new()).await {
            Err(crate::catalog::CommitError::Conflict) => {}
            other => return other.map_err(|e| e.to_string()),
        }
    }
    Err("conflicts without end".to_owned())
}

/// A snapshot of another engine on top: what compaction and appends look like to us. Our summary is not copied.
///
/// # Errors
/// What the table answers.
pub async fn compact(table: &dyn TableOps) -> Outcome {
    change(table, |metadata, builder| {
        let current = metadata.current_snapshot();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(fresh_snapshot_id(metadata))
            .with_parent_snapshot_id(metadata.current_snapshot_id())
            .with_sequence_number(metadata.next_sequence_number())
            .with_timestamp_ms(metadata.last_updated_ms())
            .with_manifest_list(current.map_or("none", |s| s.manifest_list()))
            .with_summary(Summary {
                operation: Operation::Replace,
                additional_properties: HashMap::new(),
            })
            .with_schema_id(metadata.current_schema_id());
        let snapshot = if metadata.format_version() >= iceberg::spec::FormatVersion::V3 {
            snapshot.with_row_range(metadata.next_row_id(), 0).build()
        } else {
            snapshot.build()
        };
        builder.set_branch_snapshot(snapshot, MAIN_BRANCH)
    })
    .await
}

/// Every snapshot but the current one expires.
///
/// # Errors
/// What the table answers.
pub async fn expire(table: &dyn TableOps) -> Outcome {
    change(table, |metadata, builder| {
        let current = metadata.current_snapshot_id();
        let old: Vec<i64> = metadata
            .snapshots()
            .map(|s| s.snapshot_id())
            .filter(|id| Some(*id) != current)
            .collect();
        Ok(builder.remove_snapshots(&old))
    })
    .await
}

/// `main` goes back to `snapshot_id`.
///
/// # Errors
/// What the table answers.
pub async fn roll_back(table: &dyn TableOps, snapshot_id: i64) -> Outcome {
    change(table, |_, builder| {
        builder.set_ref(
            MAIN_BRANCH,
            SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None)),
        )
    })
    .await
}

/// # Errors
/// What the table answers.
pub async fn add_column(table: &dyn TableOps, name: &str) -> Outcome {
    change(table, |metadata, builder| {
        let schema = metadata.current_schema();
        let mut fields = schema.as_struct().fields().to_vec();
        fields.push(
            NestedField::optional(
                metadata.last_column_id() + 1,
                name,
                Type::Primitive(PrimitiveType::String),
            )
            .into(),
        );
        builder.add_current_schema(Schema::builder().with_fields(fields).build()?)
    })
    .await
}

/// # Errors
/// What the table answers.
pub async fn rename_column(table: &dyn TableOps, name: &str, to: &str) -> Outcome {
    change(table, |metadata, builder| {
        let fields = metadata.current_schema().as_struct().fields().iter();
        let renamed = fields.map(|field| {
            let mut field = NestedField::clone(field);
            if field.name == name {
                field.name = to.to_owned();
            }
            field.into()
        });
        builder.add_current_schema(Schema::builder().with_fields(renamed).build()?)
    })
    .await
}

/// # Errors
/// What the table answers.
pub async fn drop_column(table: &dyn TableOps, name: &str) -> Outcome {
    change(table, |metadata, builder| {
        let fields = metadata.current_schema().as_struct().fields().iter();
        let others = fields.filter(|field| field.name != name).cloned();
        builder.add_current_schema(Schema::builder().with_fields(others).build()?)
    })
    .await
}

/// # Errors
/// What the table answers.
pub async fn remove_properties(table: &dyn TableOps, keys: &[String]) -> Outcome {
    change(table, |_, builder| builder.remove_properties(keys)).await
}

/// # Errors
/// What the table answers.
pub async fn set_property(table: &dyn TableOps, key: &str, value: &str) -> Outcome {
    change(table, |_, builder| {
        builder.set_properties([(key.to_owned(), value.to_owned())].into())
    })
    .await
}

/// The table is partitioned by buckets of a column, besides what it was partitioned by.
///
/// # Errors
/// What the table answers.
pub async fn add_buckets(table: &dyn TableOps, column: &str, name: &str) -> Outcome {
    change(table, |metadata, builder| {
        let source = metadata.current_schema().field_id_by_name(column);
        let had = metadata.default_partition_spec().fields().iter();
        let had = had.map(|field| field.clone().into_unbound());
        let spec = UnboundPartitionSpec::builder().add_partition_fields(had)?;
        let spec =
            spec.add_partition_field(source.unwrap_or_default(), name, Transform::Bucket(4))?;
        builder.add_default_partition_spec(spec.build())
    })
    .await
}

/// Partition specs that are not the default one are cleaned away.
///
/// # Errors
/// What the table answers.
pub async fn remove_old_specs(table: &dyn TableOps) -> Outcome {
    change(table, |metadata, builder| {
        let default = metadata.default_partition_spec_id();
        let old: Vec<i32> = metadata
            .partition_specs_iter()
            .map(|spec| spec.spec_id())
            .filter(|id| *id != default)
            .collect();
        builder.remove_partition_specs(&old)
    })
    .await
}
