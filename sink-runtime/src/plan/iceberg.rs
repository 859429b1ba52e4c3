//! `IcebergTable` → [`Plan`]: table, layout, evolution, rotation. Pure.

use std::collections::BTreeSet;

use tidewater_crds::{
    IcebergTableSpec, OnDestinationReset as ResetSpec, TableCommitSpec, WarehouseS3Spec,
};

use super::cluster;
use super::columns::Columns;
use super::decode::{self, DecodeSpec};
use super::problem::Checks;
use super::secrets::Secrets;
use super::store::{self, Asking};
use super::{
    CatalogPlan, CommitPlan, Container, Destination, Evolution, IcebergPlan, OnDestinationReset,
    PartitionField, Plan, Rotation, S3Plan, SinkId, SortField, expression, parquet, pod, source,
};
use crate::schema::iceberg::partition_name;

mod catalog;

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
    if spec.value.infer.is_some() && !spec.evolution.add_columns {
        let remedy = "value.infer finds columns as it goes: it needs addColumns: true";
        checks.add("spec.evolution.addColumns", false, remedy);
    }
    let decode = decode::plan(
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
    let asking = Asking {
        secrets,
        sink: &sink,
        memory_budget: pod.memory_budget,
    };
    let commit = commit(checks, &spec.commit);
    let dead_letter = decode::dead_letter(checks, spec.dead_letter.as_ref(), &source.topics);
    let destination = table(checks, &asking, &columns, spec);
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
    check_properties(checks, spec);
    IcebergPlan {
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
        },
        parquet: parquet::options(checks, columns, "spec.parquet", &(&spec.parquet).into()),
        target_file_bytes: spec.target_file_size.as_usize(),
        on_destination_reset: match spec.on_destination_reset {
            ResetSpec::Stop => OnDestinationReset::Stop,
            ResetSpec::Reread => OnDestinationReset::Reread,
            ResetSpec::Continue => OnDestinationReset::Continue,
        },
    }
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

fn check_properties(checks: &mut Checks, spec: &IcebergTableSpec) {
    for (key, value) in &spec.properties {
        let number = value.parse::<u64>().is_ok_and(|n| n > 0);
        let remedy = match key.as_str() {
            "commit.manifest.min-count-to-merge" | "commit.manifest.target-size-bytes"
                if !number =>
            {
                "give a number above 0"
            }
            "commit.manifest-merge.enabled" if !matches!(value.as_str(), "true" | "false") => {
                "give true or false"
            }
            "format-version" => "set spec.formatVersion instead",
            "write.format.default" if value != "parquet" => "files are Parquet: remove it",
            "write.target-file-size-bytes" => "set spec.targetFileSize instead",
            _ if key.starts_with("tidewater.") => {
                "\"tidewater.\" is where progress is kept: choose another name"
            }
            _ if key.trim() != key || key.is_empty() => "give a name without spaces at its ends",
            _ => continue,
        };
        checks.add(format!("spec.properties[\"{key}\"]"), value, remedy);
    }
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
        let ty = columns.find(checks, &path, &field.column);
        if let Some(remedy) = ty.and_then(|ty| expression::misfit(field.transform, ty)) {
            checks.add(&path, text, remedy);
        }
        let name = field
            .name
            .clone()
            .unwrap_or_else(|| partition_name(&field.column, field.transform));
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
        let ty = columns.find(checks, &path, &field.column);
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
