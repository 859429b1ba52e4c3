//! `IcebergTable` → [`Plan`]: table, layout, evolution, rotation. Pure.

use std::collections::BTreeSet;

use tidewater_crds::{
    IcebergTableSpec, OnDestinationReset as ResetSpec, TableCommitSpec, WarehouseS3Spec,
};

use super::cluster;
use super::columns::{Columns, check_spellings};
use super::decode::{self, DecodeSpec};
use super::problem::Checks;
use super::secrets::Secrets;
use super::store::{self, Asking};
use super::{
    CatalogPlan, CommitPlan, Container, Destination, Evolution, IcebergPlan, Inference,
    OnDestinationReset, PartitionField, PartitionTransform, Placed, Plan, Rotation, S3Plan, SinkId,
    SortField, ValueSchema, expression, parquet, pod, source,
};
use crate::schema::iceberg::partition_name;
use crate::schema::precedent;

mod catalog;
mod properties;

pub use properties::unheeded;

pub(super) fn plan(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    container: Container,
    sink: SinkId,
    spec: &IcebergTableSpec,
) -> Plan {
    let pod = pod::plan(checks, &spec.pod, container);
    let source = source::plan(checks, secrets, &sink, &spec.source, pod.memory_budget);
    checks.exactly_one(
        "spec",
        &[
            ("schema", spec.schema.is_some()),
            ("value.infer", spec.value.infer.is_some()),
        ],
    );
    let mut decode = decode::plan(
        checks,
        &DecodeSpec {
            schema_path: "spec.schema",
            schema: spec.schema.as_ref(),
            infer: spec.value.infer.as_ref(),
            on_error: spec.on_error,
            tombstones: spec.tombstones,
            metadata: spec.metadata_columns.as_ref(),
            dead_letter: spec.dead_letter.as_ref(),
        },
    );
    let columns = Columns::of(&decode);
    cluster::check(checks, spec.autoscaling.as_ref(), &spec.pod);
    let pods = cluster::most_pods(spec.replicas, spec.autoscaling.as_ref());
    source::check_static_member(checks, &spec.source, pods);
    let asking = Asking {
        secrets,
        sink: &sink,
        memory_budget: pod.memory_budget,
    };
    let commit = commit(checks, &spec.commit);
    let letters = spec.dead_letter.as_ref();
    let dead_letter = decode::dead_letter(checks, letters, &spec.source, &source.topics);
    if let Some(name) = columns.twins() {
        let field = match &spec.schema {
            Some(_) => "spec.schema.fields",
            None => "spec.value.infer.hints",
        };
        let remedy = "a column and a nested field have this name together, and a table has one column of a name: rename one";
        checks.add(field, name, remedy);
    }
    let destination = table(checks, &asking, &columns, spec);
    if let Some(s3) = &destination.storage {
        let part = ("spec.storage.s3.partSize", s3.part_size);
        store::check_parts(checks, "spec.targetFileSize", spec.target_file_size, part);
    }
    if let ValueSchema::Inferred(inference) = &mut decode.value {
        lay_out(inference, &columns, &destination);
        let partitioned = destination.partition_by.iter();
        let partitioned = partitioned.map(|f| ("spec.partitionBy", f.column.as_str()));
        let sorted = destination.sort_order.iter();
        let sorted = sorted.map(|f| ("spec.sortOrder", f.column.as_str()));
        check_spellings(checks, &columns, partitioned.chain(sorted));
    }
    Plan {
        rotation: Rotation {
            max_bytes: destination.target_file_bytes,
            max_records: None,
            max_open: commit.interval,
            max_idle: None,
            schedule: None,
            partition_close: None,
            max_open_files: spec.max_open_files as usize,
        },
        destination: Destination::Iceberg(destination),
        sink,
        paused: spec.paused,
        source,
        decode,
        commit,
        dead_letter,
        pod,
    }
}

/// What the table's layout asks of columns that are found in records.
fn lay_out(inference: &mut Inference, columns: &Columns, table: &IcebergPlan) {
    use PartitionTransform::{Bucket, Truncate};

    inference.whole_names = true;
    let partitioned = table.partition_by.iter().map(|f| (&f.column, f.transform));
    let sorted = table.sort_order.iter().map(|f| (&f.column, f.transform));
    for (column, transform) in partitioned.chain(sorted) {
        if !columns.awaits(column) {
            continue;
        }
        let any = !matches!(transform, Bucket(_) | Truncate(_));
        match inference.placed.iter_mut().find(|p| p.column == *column) {
            Some(placed) => {
                placed.boolean &= any;
                placed.double &= any;
            }
            None => inference.placed.push(Placed {
                column: column.clone(),
                boolean: any,
                double: any,
            }),
        }
    }
    for field in &table.partition_by {
        let name = partition_field_name(field);
        if name != field.column {
            let why = precedent::partition_field();
            inference.taken.insert(name.to_lowercase(), why);
        }
    }
}

fn partition_field_name(field: &PartitionField) -> String {
    let usual = || partition_name(&field.column, field.transform);
    field.name.clone().unwrap_or_else(usual)
}

fn table(
    checks: &mut Checks,
    asking: &Asking<'_>,
    columns: &Columns,
    spec: &IcebergTableSpec,
) -> IcebergPlan {
    let catalog = catalog::plan(checks, asking, &spec.catalog);
    let namespace: Vec<String> = spec.namespace.split('.').map(str::to_owned).collect();
    if namespace
        .iter()
        .any(|level| level.is_empty() || level.chars().any(char::is_control))
    {
        checks.add(
            "spec.namespace",
            &spec.namespace,
            "give names separated by single dots",
        );
    }
    if spec
        .table
        .chars()
        .any(|c| c.is_control() || matches!(c, '/' | '.'))
    {
        checks.add(
            "spec.table",
            &spec.table,
            "give a name without '.', '/' and control characters",
        );
    }
    if spec.catalog.glue.is_some() {
        let legal = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let remedy = "Glue takes lower case letters, digits and '_', and one level of namespace";
        for (field, name) in [
            ("spec.namespace", &spec.namespace),
            ("spec.table", &spec.table),
        ] {
            if !legal(name) {
                checks.add(field, name, remedy);
            }
        }
    }
    if spec.target_file_size.as_u64() < 64 << 10 {
        checks.add(
            "spec.targetFileSize",
            spec.target_file_size,
            "give at least 64Ki",
        );
    }
    let plan = IcebergPlan {
        storage: storage(checks, asking, spec, &catalog),
        catalog,
        namespace,
        table: spec.table.clone(),
        create_if_missing: spec.create_if_missing,
        location: spec.location.clone(),
        format_version: spec.format_version,
        partition_by: partition_by(checks, columns, &spec.partition_by),
        sort_order: sort_order(checks, columns, &spec.sort_order),
        properties: spec.properties.clone(),
        evolution: Evolution {
            add_columns: spec.evolution.add_columns,
            widen: spec.evolution.widen,
            make_optional: spec.evolution.make_optional,
            recreate_columns: spec.evolution.recreate_columns,
        },
        parquet: parquet::options(checks, columns, "spec.parquet", &(&spec.parquet).into()),
        target_file_bytes: spec.target_file_size.as_usize(),
        on_destination_reset: match spec.on_destination_reset {
            ResetSpec::Stop => OnDestinationReset::Stop,
            ResetSpec::Reread => OnDestinationReset::Reread,
            ResetSpec::Continue => OnDestinationReset::Continue,
        },
    };
    properties::check(checks, columns, &plan);
    plan
}

/// Bucket and folder are those that the table's location is in, else the warehouse's: dead letters go there. A REST
/// catalog may name them only when the table is loaded.
fn storage(
    checks: &mut Checks,
    asking: &Asking<'_>,
    spec: &IcebergTableSpec,
    catalog: &CatalogPlan,
) -> Option<S3Plan> {
    let located = spec.location.as_ref().and_then(|location| {
        let found = store::s3_location(checks, "spec.location", location);
        let local = matches!(catalog, CatalogPlan::Local { .. });
        if local && found.is_some() {
            let remedy = "a local catalog keeps its tables in its folder: remove it";
            checks.add("spec.location", location, remedy);
        } else if !local && found.is_none() && !location.starts_with("file://") {
            let remedy = "give a location of the form s3://bucket/prefix";
            checks.add("spec.location", location, remedy);
        }
        found
    });
    let warehouse = match catalog {
        CatalogPlan::Local { .. } => {
            if spec.storage.is_some() {
                checks.add(
                    "spec.storage",
                    "",
                    "does not go with catalog.local: remove it",
                );
            }
            return None;
        }
        CatalogPlan::Rest(rest) => rest.warehouse.as_ref().and_then(|warehouse| {
            store::s3_location(checks, "spec.catalog.rest.warehouse", warehouse)
        }),
        CatalogPlan::Glue(glue) => {
            store::s3_location(checks, "spec.catalog.glue.warehouse", &glue.warehouse)
        }
    };
    let above = |(bucket, prefix): (String, String)| {
        let folder = prefix.rsplit_once('/').map_or("", |(above, _)| above);
        (bucket, folder.to_owned())
    };
    let (bucket, prefix) = located.map(above).or(warehouse).unwrap_or_default();
    let defaults = WarehouseS3Spec::default();
    let s3 = spec
        .storage
        .as_ref()
        .map_or(&defaults, |storage| &storage.s3);
    Some(store::s3(
        checks,
        asking,
        "spec.storage.s3",
        &s3.options(),
        bucket,
        prefix,
    ))
}

fn partition_by(checks: &mut Checks, columns: &Columns, texts: &[String]) -> Vec<PartitionField> {
    let mut names = BTreeSet::new();
    let mut fields = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let path = format!("spec.partitionBy[{i}]");
        let field = match expression::partition(text) {
            Ok(field) => field,
            Err(remedy) => {
                checks.add(path, text, remedy);
                continue;
            }
        };
        let transform = (field.transform, text.as_str());
        let ty = columns.find_for(checks, &path, &field.column, transform);
        if let Some(remedy) = ty.and_then(|ty| expression::misfit(field.transform, ty)) {
            checks.add(&path, text, remedy);
        }
        let name = partition_field_name(&field);
        if !names.insert(name.to_lowercase()) {
            let remedy = format!(
                "two partition fields are named \"{name}\": remove one, or name it: … as other"
            );
            checks.add(path, text, remedy);
        } else if name != field.column && columns.holds(&name) {
            let remedy =
                format!("there is a column \"{name}\" already: name the field: … as other");
            checks.add(path, text, remedy);
        }
        fields.push(field);
    }
    fields
}

fn sort_order(checks: &mut Checks, columns: &Columns, texts: &[String]) -> Vec<SortField> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let path = format!("spec.sortOrder[{i}]");
        let field = match expression::sort(text) {
            Ok(field) => field,
            Err(remedy) => {
                checks.add(path, text, remedy);
                continue;
            }
        };
        let transform = (field.transform, text.as_str());
        let ty = columns.find_for(checks, &path, &field.column, transform);
        if let Some(remedy) = ty.and_then(|ty| expression::misfit(field.transform, ty)) {
            checks.add(&path, text, remedy);
        }
        if !seen.insert((field.column.clone(), format!("{:?}", field.transform))) {
            checks.add(path, text, "named twice: remove one");
        }
        fields.push(field);
    }
    fields
}

fn commit(checks: &mut Checks, spec: &TableCommitSpec) -> CommitPlan {
    if spec.interval.duration().is_zero() {
        checks.add("spec.commit.interval", spec.interval, "give more than 0s");
    }
    store::check_open(checks, "spec.commit.interval", spec.interval);
    if let Some(bytes) = spec.max_bytes.filter(|bytes| bytes.as_u64() == 0) {
        checks.add("spec.commit.maxBytes", bytes, "give more than 0");
    }
    CommitPlan {
        interval: spec.interval.duration(),
        max_bytes: spec.max_bytes.map(|bytes| bytes.as_usize()),
        max_records: spec.max_records,
        max_consecutive_failures: spec.max_consecutive_failures,
    }
}
