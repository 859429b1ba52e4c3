//! Changes → the metadata to publish, and what must hold when they are. Pure.

use iceberg::TableRequirement;
use iceberg::spec::{
    PartitionSpecRef, SortOrder, TableMetadata, TableMetadataBuildResult, UnboundPartitionField,
    UnboundPartitionSpec,
};

use super::changes::{Changes, Step};
use crate::catalog::{Base, CatalogError};

/// Metadata that are this much older than what they replace are refused by readers and writers alike.
const SKEW_MS: i64 = 60_000;

fn known_spec(table: &TableMetadata, fields: &[UnboundPartitionField]) -> Option<i32> {
    let same = |spec: &&PartitionSpecRef| {
        let fields = fields
            .iter()
            .map(|field| (field.source_id, field.transform, field.name.as_str()));
        let have = spec.fields().iter();
        have.map(|field| (field.source_id, field.transform, field.name.as_str()))
            .eq(fields)
    };
    let known = table.partition_specs_iter().find(same);
    known.map(|spec| spec.spec_id())
}

fn known_order(table: &TableMetadata, order: &SortOrder) -> Option<i64> {
    let mut known = table.sort_orders_iter();
    known
        .find(|known| known.fields == order.fields)
        .map(|known| known.order_id)
}

/// The metadata with all steps taken, unpublished.
///
/// # Errors
/// What does not make valid metadata.
pub(super) fn build(
    table: &TableMetadata,
    location: Option<String>,
    changes: &Changes,
) -> Result<TableMetadataBuildResult, iceberg::Error> {
    let mut builder = table.clone().into_builder(location);
    let mut set = std::collections::HashMap::new();
    let mut remove = Vec::new();
    for step in &changes.steps {
        builder = match step {
            Step::Upgrade { to, .. } => builder.upgrade_format_version(*to)?,
            Step::Columns { schema, .. } => builder.add_current_schema(schema.as_ref().clone())?,
            // What the table had before is named, not added: catalogs refuse to make an addition of it.
            Step::Partition { fields, .. } => match known_spec(table, fields) {
                Some(id) => builder.set_default_partition_spec(id)?,
                None => {
                    let spec = UnboundPartitionSpec::builder();
                    let spec = spec.add_partition_fields(fields.clone())?.build();
                    builder.add_default_partition_spec(spec)?
                }
            },
            Step::Sort { order, .. } => match known_order(table, order) {
                Some(id) => builder.set_default_sort_order(id)?,
                None => builder
                    .add_sort_order(order.clone())?
                    .set_default_sort_order(-1)?,
            },
            Step::Set { key, value, .. } => {
                set.insert(key.clone(), value.clone());
                builder
            }
            Step::Remove { key } => {
                remove.push(key.clone());
                builder
            }
        };
    }
    match &changes.record {
        Some((key, Some(text))) => drop(set.insert(key.clone(), text.clone())),
        Some((key, None)) => remove.push(key.clone()),
        None => {}
    }
    if !set.is_empty() {
        builder = builder.set_properties(set)?;
    }
    if !remove.is_empty() {
        builder = builder.remove_properties(&remove)?;
    }
    builder.build()
}

/// What must still hold when the steps are published. Rows may come meanwhile.
pub(super) fn requirements(table: &TableMetadata) -> Vec<TableRequirement> {
    vec![
        TableRequirement::UuidMatch { uuid: table.uuid() },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: table.current_schema_id(),
        },
        TableRequirement::LastAssignedFieldIdMatch {
            last_assigned_field_id: table.last_column_id(),
        },
        TableRequirement::DefaultSpecIdMatch {
            default_spec_id: table.default_partition_spec_id(),
        },
        TableRequirement::LastAssignedPartitionIdMatch {
            last_assigned_partition_id: table.last_partition_id(),
        },
        TableRequirement::DefaultSortOrderIdMatch {
            default_sort_order_id: table.default_sort_order_id(),
        },
    ]
}

/// Publishing has to wait while our clock is that far behind whoever changed the table last.
pub(super) fn too_early(base: &Base, now_ms: i64) -> Option<CatalogError> {
    let ahead = base.metadata.last_updated_ms() - now_ms;
    (ahead > SKEW_MS).then(|| CatalogError::Unavailable {
        operation: "change table metadata",
        source: format!(
            "the clock of its last writer is {} s ahead of ours",
            ahead / 1000
        )
        .into(),
    })
}
