//! `spec.glue` → [`HivePlan`]. Pure.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tidewater_crds::{GlueDeletionPolicy, GluePartitions, GlueTableSpec, ProjectionSpec};

use crate::catalog::hive::projection::{self, Projected};
use crate::catalog::hive::{
    self, Allowed, Deletion, HiveFormat, HivePlan, PartitionKey, Partitions,
};
use crate::files::conform::dataset_schema;
use crate::layout::HiveSplitter;
use crate::layout::hive::escape;
use crate::plan::columns::Columns;
use crate::plan::problem::Checks;
use crate::plan::store::{self, AccessSpec, Asking};
use crate::plan::{
    DatasetPlan, DecodePlan, GlueAccess, OutputFormat, PartitionExpr, StorePlan, Topics,
    ValueSchema,
};
use crate::schema::arrow::arrow_schema;
use crate::schema::{Schema, Type};

const PATH: &str = "spec.glue";

pub(super) fn plan(
    checks: &mut Checks,
    asking: &Asking<'_>,
    spec: &GlueTableSpec,
    topics: &Topics,
    decode: &DecodePlan,
    dataset: &DatasetPlan,
) -> Option<HivePlan> {
    store::needs_cloud(checks, PATH, "Glue catalog");
    let StorePlan::S3(s3) = &dataset.store else {
        let remedy = "Glue shows files on S3 only: use destination.s3, or remove it";
        checks.add(PATH, "", remedy);
        return None;
    };
    let format = match &dataset.output {
        OutputFormat::Parquet(_) => HiveFormat::Parquet,
        OutputFormat::JsonLines { .. } => HiveFormat::Json,
    };
    check_name(checks, "database", &spec.database);
    let table = table(checks, spec.table.as_deref(), topics);
    if spec.repair_interval.duration().is_zero() {
        let field = format!("{PATH}.repairInterval");
        checks.add(field, spec.repair_interval, "give more than 0s");
    }
    let location = if s3.prefix.is_empty() {
        format!("s3://{}/", s3.bucket)
    } else {
        format!("s3://{}/{}/", s3.bucket, s3.prefix)
    };
    let levels = levels(checks, &dataset.partitioning, decode);
    let columns = columns(checks, decode, &dataset.partitioning, format);
    let keys: Vec<PartitionKey> = levels.iter().map(|level| level.key.clone()).collect();
    let partitions = match spec.partitions {
        GluePartitions::Register => Partitions::Register,
        GluePartitions::None => Partitions::None,
        GluePartitions::Projection => {
            let spec = spec.projection.clone().unwrap_or_else(|| ProjectionSpec {
                since: "2020-01-01".to_owned(),
                columns: BTreeMap::new(),
            });
            Partitions::Projection(projected(checks, &spec, &keys, &levels, &location))
        }
    };
    if spec.projection.is_some() && spec.partitions != GluePartitions::Projection {
        let remedy = "goes with partitions: Projection only: remove it";
        checks.add(format!("{PATH}.projection"), "", remedy);
    }
    let mut access = store::access(
        checks,
        asking,
        PATH,
        AccessSpec {
            region: spec.region.as_deref(),
            endpoint: spec.endpoint.as_deref(),
            path_style: false,
            credentials: spec.credentials.as_ref(),
            assume_role: spec.assume_role.as_ref(),
        },
    );
    // Who may write the files is who shows them, unless told otherwise.
    access.region = access.region.or_else(|| s3.access.region.clone());
    if spec.credentials.is_none() {
        access.credentials = s3.access.credentials.clone();
        access.assume_role = access.assume_role.or_else(|| s3.access.assume_role.clone());
    }
    Some(HivePlan {
        sink: asking.sink.clone(),
        access: GlueAccess {
            access,
            catalog_id: spec.catalog_id.clone(),
            timeouts: store::timeouts(checks, PATH, &spec.timeouts),
        },
        database: spec.database.clone(),
        table,
        create_database: spec.create_database,
        adopt: spec.adopt,
        location,
        format,
        keys,
        columns,
        partitions,
        allowed: Allowed {
            add_columns: spec.evolution.add_columns,
            widen: spec.evolution.widen,
        },
        repair_interval: spec.repair_interval.duration(),
        deletion: match spec.deletion_policy {
            GlueDeletionPolicy::Retain => Deletion::Retain,
            GlueDeletionPolicy::Delete => Deletion::Delete,
        },
    })
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
}

fn check_name(checks: &mut Checks, field: &str, name: &str) {
    if name.is_empty() || name.len() > 255 || !name.chars().all(is_name_character) {
        let remedy = "use lower case letters, digits, _ and - only: Glue folds names to lower case, and readers take no others";
        checks.add(format!("{PATH}.{field}"), name, remedy);
    }
}

/// One dataset is one table: the files of all its topics share folders and columns.
fn table(checks: &mut Checks, given: Option<&str>, topics: &Topics) -> String {
    let field = format!("{PATH}.table");
    if let Some(given) = given {
        if given.contains("${") {
            let remedy = "the topics of a sink share its folders, and so one table: give it one name, or a sink to each topic";
            checks.add(field, given, remedy);
        } else {
            check_name(checks, "table", given);
        }
        return given.to_owned();
    }
    let Topics::List(topics) = topics else {
        let remedy =
            "required with topicPattern: the topics of a sink share its folders, and so one table";
        checks.add(field, "", remedy);
        return String::new();
    };
    let [topic] = topics.as_slice() else {
        let remedy =
            "required with several topics: they share the sink's folders, and so one table";
        checks.add(field, "", remedy);
        return String::new();
    };
    let of_topic = topic.as_str().to_lowercase();
    of_topic
        .chars()
        .map(|c| {
            if is_name_character(c) && c != '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

struct Level {
    /// Of the field that makes it.
    field: String,
    label: String,
    key: PartitionKey,
    projected: Projected,
    /// By a column's value.
    of_column: bool,
}

fn levels(checks: &mut Checks, exprs: &[PartitionExpr], decode: &DecodePlan) -> Vec<Level> {
    let mut levels = Vec::new();
    let known = Columns::of(decode);
    for (i, expr) in exprs.iter().enumerate() {
        let field = format!("spec.partitioning[{i}]");
        match expr {
            PartitionExpr::Time { levels: times, .. } => {
                for time in times {
                    let Some(label) = &time.label else {
                        let remedy = format!(
                            "spec.glue needs a label for each folder, the name of its column: use label={}",
                            time.format
                        );
                        checks.add(format!("{field}.time.format"), &time.format, remedy);
                        continue;
                    };
                    levels.push(Level {
                        field: field.clone(),
                        label: label.clone(),
                        key: key(label, "string"),
                        projected: Projected::Time {
                            format: time.format.clone(),
                        },
                        of_column: false,
                    });
                }
            }
            PartitionExpr::Column { column, label } => {
                let ty = known.get(column);
                let (name, projected) = match ty {
                    Some(Type::Int) => ("int", Projected::Injected),
                    Some(Type::Long) => ("bigint", Projected::Injected),
                    Some(Type::Date) => (
                        "date",
                        Projected::Time {
                            format: "%Y-%m-%d".to_owned(),
                        },
                    ),
                    _ => ("string", Projected::Injected),
                };
                levels.push(Level {
                    field: field.clone(),
                    label: label.clone(),
                    key: key(label, name),
                    projected,
                    of_column: true,
                });
            }
        }
    }
    levels
}

fn key(label: &str, ty: &str) -> PartitionKey {
    let mut folder = String::new();
    escape(label, &mut folder);
    folder.push('=');
    PartitionKey {
        name: label.to_lowercase(),
        folder,
        ty: ty.to_owned(),
    }
}

/// Columns of the files, where the resource declares them.
fn columns(
    checks: &mut Checks,
    decode: &DecodePlan,
    exprs: &[PartitionExpr],
    format: HiveFormat,
) -> Option<Vec<hive::Column>> {
    let ValueSchema::Declared { schema, .. } = &decode.value else {
        return None;
    };
    let files = dataset_schema(&arrow_schema(schema, &decode.metadata));
    // A format that makes no folders is told where it stands.
    let splitter = HiveSplitter::new(exprs, &files).ok()?;
    let (mut columns, unfit) = hive::columns(splitter.file_schema(), format);
    if let Some(unfit) = unfit {
        let remedy = format!("{} (or remove spec.glue)", unfit.why);
        checks.add("spec.value.schema", &unfit.column, remedy);
        return None;
    }
    for column in &mut columns {
        column.comment = comment(schema, &column.name);
    }
    Some(columns)
}

fn comment(schema: &Schema, name: &str) -> Option<String> {
    let field = schema.fields.iter().find(|f| f.name.to_lowercase() == name);
    field?.doc.clone()
}

fn projected(
    checks: &mut Checks,
    spec: &ProjectionSpec,
    keys: &[PartitionKey],
    levels: &[Level],
    location: &str,
) -> BTreeMap<String, String> {
    let path = format!("{PATH}.projection");
    if levels.is_empty() {
        let remedy = "there are no folders to compute: set spec.partitioning, or leave it out";
        checks.add(format!("{PATH}.partitions"), "Projection", remedy);
    }
    let since = spec.since.parse().unwrap_or_else(|_| {
        let remedy = "not a day: write it as 2026-01-31";
        checks.add(format!("{path}.since"), &spec.since, remedy);
        NaiveDate::default()
    });
    for (label, values) in &spec.columns {
        let field = format!("{path}.columns[\"{label}\"]");
        let of_columns = levels.iter().filter(|level| level.of_column);
        let labels: Vec<&str> = of_columns.map(|level| level.label.as_str()).collect();
        if !labels.contains(&label.as_str()) {
            let remedy = match labels.as_slice() {
                [] => "no folders by column: remove it".to_owned(),
                labels => format!(
                    "no folders by column of that label: use {}",
                    labels.join(", ")
                ),
            };
            checks.add(&field, label, remedy);
        }
        match (&values.values, values.min, values.max) {
            (Some(_), None, None) => {}
            (None, Some(min), Some(max)) if min <= max => {}
            (None, Some(min), Some(max)) => {
                checks.add(&field, format!("{min}, {max}"), "min is above max");
            }
            _ => checks.add(&field, "", "give values, or min and max"),
        }
    }
    let of_level = |level: &Level| {
        let given = spec.columns.get(&level.label).filter(|_| level.of_column);
        match given.map(|given| (&given.values, given.min, given.max)) {
            Some((Some(values), ..)) => Projected::List(values.clone()),
            Some((None, Some(min), Some(max))) => Projected::Range(min, max),
            _ => level.projected.clone(),
        }
    };
    let values: Vec<Projected> = levels.iter().map(of_level).collect();
    match projection::parameters(keys, &values, location, since) {
        Ok(parameters) => parameters,
        Err((n, why)) => {
            let level = levels.get(n);
            let field = level.map_or(path.clone(), |level| match &level.projected {
                Projected::Time { .. } if !level.of_column => format!("{}.time", level.field),
                _ => format!("{path}.columns[\"{}\"]", level.label),
            });
            let label = level.map_or("", |level| level.label.as_str());
            checks.add(field, label, why);
            BTreeMap::new()
        }
    }
}
