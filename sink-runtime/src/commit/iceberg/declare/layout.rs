//! Partitions and sort orders: compared, numbered, and as people read them. Pure.

use iceberg::spec::{
    NullOrder, PartitionSpec, Schema as IcebergSchema, SortDirection, SortOrder, TableMetadata,
    Transform, UnboundPartitionField,
};

/// Ids of partition fields start here.
const FIRST_PARTITION_ID: i32 = 1000;

/// `named`: which of the wanted fields have a name of the user's choice. Fields that are void take no part.
pub(super) fn same_partitions(
    have: &PartitionSpec,
    wanted: &PartitionSpec,
    named: &[bool],
) -> bool {
    let void = |transform: Transform| transform == Transform::Void;
    let keep_void = wanted.fields().iter().any(|field| void(field.transform));
    let have: Vec<_> = have
        .fields()
        .iter()
        .filter(|field| keep_void || !void(field.transform))
        .collect();
    have.len() == wanted.fields().len()
        && have
            .iter()
            .zip(wanted.fields())
            .enumerate()
            .all(|(i, (have, wanted))| {
                have.source_id == wanted.source_id
                    && have.transform == wanted.transform
                    && (!named.get(i).copied().unwrap_or_default() || have.name == wanted.name)
            })
}

/// With the id that the table gave the same field before, or else a fresh one. Said outright: a catalog that numbers by
/// itself may give one that is taken.
pub(super) fn numbered(table: &TableMetadata, spec: &PartitionSpec) -> Vec<UnboundPartitionField> {
    let mut last = table.last_partition_id().max(FIRST_PARTITION_ID - 1);
    let known = |source_id: i32, transform: Transform| {
        table
            .partition_specs_iter()
            .flat_map(|spec| spec.fields())
            .find(|field| field.source_id == source_id && field.transform == transform)
            .map(|field| field.field_id)
    };
    let numbered = spec.fields().iter().map(|field| {
        let id = known(field.source_id, field.transform).unwrap_or_else(|| {
            last += 1;
            last
        });
        UnboundPartitionField {
            source_id: field.source_id,
            field_id: Some(id),
            name: field.name.clone(),
            transform: field.transform,
        }
    });
    numbered.collect()
}

fn applied(schema: &IcebergSchema, source_id: i32, transform: Transform) -> String {
    let column = schema.name_by_field_id(source_id).unwrap_or("?");
    match transform {
        Transform::Identity => column.to_owned(),
        Transform::Bucket(n) => format!("bucket({n}, {column})"),
        Transform::Truncate(n) => format!("truncate({n}, {column})"),
        other => format!("{other}({column})"),
    }
}

fn listed(fields: &[String]) -> String {
    if fields.is_empty() {
        "nothing".to_owned()
    } else {
        fields.join(", ")
    }
}

pub(super) fn partition_text(schema: &IcebergSchema, spec: &PartitionSpec) -> String {
    let fields = spec.fields().iter();
    let fields: Vec<_> = fields
        .map(|field| applied(schema, field.source_id, field.transform))
        .collect();
    listed(&fields)
}

pub(super) fn sort_text(schema: &IcebergSchema, order: &SortOrder) -> String {
    let fields = order.fields.iter();
    let fields: Vec<_> = fields
        .map(|field| {
            let what = applied(schema, field.source_id, field.transform);
            let direction = match field.direction {
                SortDirection::Ascending => "asc",
                SortDirection::Descending => "desc",
            };
            let nulls = match field.null_order {
                NullOrder::First => "first",
                NullOrder::Last => "last",
            };
            format!("{what} {direction} nulls {nulls}")
        })
        .collect();
    listed(&fields)
}
