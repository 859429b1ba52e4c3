//! `KafkaS3Sink` → [`Plan`]: destination, partition folders, file format, rotation. Pure.

use std::path::PathBuf;

use chrono_tz::Tz;
use tidewater_crds::{
    Delivery as DeliverySpec, FileFormat, KafkaS3SinkSpec, OutputSpec, PartitioningSpec,
    RotationSpec,
};

use super::cluster;
use super::columns::{Columns, check_spellings, is_scalar, type_name};
use super::decode::{self, DecodeSpec};
use super::parquet::{self, ParquetParts};
use super::problem::Checks;
use super::secrets::Secrets;
use super::store::{self, Asking};
use super::{
    CommitPlan, Container, DatasetPlan, DeadLetter, DecodePlan, Delivery, Destination,
    JsonCompression, OutputFormat, PartitionExpr, Placed, Plan, Rotation, S3Plan, SinkId,
    StorePlan, TimeSource, ValueSchema, pod, source,
};
use crate::schema::Type;

mod folders;
mod glue;

pub(super) fn plan(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    container: Container,
    sink: SinkId,
    spec: &KafkaS3SinkSpec,
) -> Plan {
    let pod = pod::plan(checks, &spec.pod, container);
    let source = source::plan(checks, secrets, &sink, &spec.source, pod.memory_budget);
    checks.exactly_one(
        "spec.value",
        &[
            ("schema", spec.value.schema.is_some()),
            ("infer", spec.value.infer.is_some()),
        ],
    );
    let mut decode = decode::plan(
        checks,
        &DecodeSpec {
            schema_path: "spec.value.schema",
            schema: spec.value.schema.as_ref(),
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
    let mut dataset = DatasetPlan {
        store: destination(checks, &asking, spec),
        partitioning: partitioning(checks, &columns, &decode, &spec.partitioning),
        output: output(checks, &columns, &spec.output),
        delivery: match spec.delivery {
            DeliverySpec::ExactlyOnce => Delivery::ExactlyOnce,
            DeliverySpec::AtLeastOnce => Delivery::AtLeastOnce,
        },
        glue: None,
    };
    if let ValueSchema::Inferred(inference) = &mut decode.value {
        inference.placed = placed(&columns, &dataset.partitioning);
        inference.taken = folders::labels(&dataset.partitioning);
        let placed = inference.placed.iter();
        let placed = placed.map(|p| ("spec.partitioning", p.column.as_str()));
        check_spellings(checks, &columns, placed);
    }
    if let Some(spec) = &spec.glue {
        let topics = &source.topics;
        dataset.glue = glue::plan(checks, &asking, spec, topics, &decode, &dataset);
    }
    let rotation = rotation(checks, &spec.rotation, &dataset.partitioning);
    if let StorePlan::S3(s3) = &dataset.store {
        let part = ("spec.destination.s3.partSize", s3.part_size);
        store::check_parts(
            checks,
            "spec.rotation.maxBytes",
            spec.rotation.max_bytes,
            part,
        );
    }
    let letters = spec.dead_letter.as_ref();
    let dead_letter = decode::dead_letter(checks, letters, &spec.source, &source.topics);
    if let Some(DeadLetter::Prefix { prefix }) = &dead_letter {
        check_letters_beside_data(checks, prefix, &dataset.store);
    }
    Plan {
        dead_letter,
        commit: CommitPlan {
            interval: rotation.max_open,
            max_bytes: None,
            max_records: None,
            max_consecutive_failures: spec.commit.max_consecutive_failures,
        },
        sink,
        paused: spec.paused,
        source,
        decode,
        destination: Destination::Dataset(dataset),
        rotation,
        pod,
    }
}

fn destination(checks: &mut Checks, asking: &Asking<'_>, spec: &KafkaS3SinkSpec) -> StorePlan {
    let conditional_writes = spec.delivery == DeliverySpec::ExactlyOnce;
    let spec = &spec.destination;
    let given = [("s3", spec.s3.is_some()), ("local", spec.local.is_some())];
    checks.exactly_one("spec.destination", &given);
    if let Some(s3) = &spec.s3 {
        let path = "spec.destination.s3";
        store::needs_cloud(checks, path, "S3");
        store::check_bucket(checks, &format!("{path}.bucket"), &s3.bucket);
        store::check_prefix(checks, &format!("{path}.prefix"), &s3.prefix);
        let (bucket, prefix) = (s3.bucket.clone(), s3.prefix.clone());
        let s3 = store::s3(checks, asking, path, &s3.options(), bucket, prefix);
        return StorePlan::S3(S3Plan {
            conditional_writes,
            ..s3
        });
    }
    let path = spec.local.as_ref().map(|local| local.path.as_str());
    StorePlan::Local {
        path: PathBuf::from(path.unwrap_or_default()),
    }
}

/// Bytes of a key that a letters' file needs below its prefix: a topic of 249, a partition, two offsets.
const LETTERS_NAME: usize = 310;
/// Longest key on S3.
const KEY: usize = 1024;

/// Readers of a folder take what is below it for data, or its folders for partitions, but for what is hidden.
fn check_letters_beside_data(checks: &mut Checks, prefix: &str, store: &StorePlan) {
    let field = "spec.deadLetter.prefix";
    if !prefix.starts_with(['_', '.']) {
        let remedy = format!(
            "readers of the dataset would take the files there for data: begin it with _, such as _{prefix}"
        );
        checks.add(field, prefix, remedy);
    }
    let above = match store {
        StorePlan::S3(s3) => s3.prefix.len(),
        StorePlan::Local { .. } => 0,
    };
    if above + prefix.len() + LETTERS_NAME > KEY {
        let most = (KEY - LETTERS_NAME).saturating_sub(above);
        let remedy = format!("the files' names would be too long: give at most {most} bytes");
        checks.add(field, prefix, remedy);
    }
}

fn partitioning(
    checks: &mut Checks,
    columns: &Columns,
    decode: &DecodePlan,
    specs: &[PartitioningSpec],
) -> Vec<PartitionExpr> {
    let mut labels = folders::Labels::default();
    let mut exprs = Vec::with_capacity(specs.len());
    for (i, spec) in specs.iter().enumerate() {
        let path = format!("spec.partitioning[{i}]");
        let given = [
            ("time", spec.time.is_some()),
            ("column", spec.column.is_some()),
        ];
        checks.exactly_one(&path, &given);
        if spec.label.is_some() && spec.column.is_none() {
            let remedy = "goes with column only; label times in their format";
            checks.add(format!("{path}.label"), "", remedy);
        }
        if let Some(time) = &spec.time {
            let path = format!("{path}.time");
            let expr = folders::time(checks, columns, &path, time);
            if let PartitionExpr::Time { levels, .. } = &expr {
                for label in levels.iter().filter_map(|level| level.label.as_ref()) {
                    labels.add(checks, &path, label);
                }
            }
            exprs.push(expr);
        } else if let Some(column) = &spec.column {
            let field = format!("{path}.column");
            if let Some(ty) = columns.find(checks, &field, column)
                && (!is_scalar(ty) || matches!(ty, Type::Float | Type::Double | Type::Binary))
            {
                let remedy = format!("a column of type {} makes no folders", type_name(ty));
                checks.add(&field, column, remedy);
            }
            let last = column.rsplit('.').next().unwrap_or(column);
            let label = spec.label.clone().unwrap_or_else(|| last.to_owned());
            let field = if spec.label.is_some() {
                format!("{path}.label")
            } else {
                field
            };
            labels.add(checks, &field, &label);
            exprs.push(PartitionExpr::Column {
                column: column.clone(),
                label,
            });
        }
    }
    labels.check_against_files(checks, &exprs, decode);
    exprs
}

/// What the folders ask of columns that are found in records.
fn placed(columns: &Columns, partitioning: &[PartitionExpr]) -> Vec<Placed> {
    let awaited = partitioning.iter().filter_map(|expr| match expr {
        PartitionExpr::Column { column, .. } if columns.awaits(column) => Some(column),
        _ => None,
    });
    let placed = |column: &String| Placed {
        column: column.clone(),
        boolean: true,
        double: false,
    };
    awaited.map(placed).collect()
}

fn output(checks: &mut Checks, columns: &Columns, spec: &OutputSpec) -> OutputFormat {
    use tidewater_crds::ParquetCompression as Compression;

    let path = "spec.output";
    let compression = spec.compression.unwrap_or_default();
    let parts = ParquetParts {
        compression,
        level: spec.level,
        row_group_size: spec.row_group_size,
        row_group_rows: spec.row_group_rows,
        page_size: spec.page_size,
        dictionary: spec.dictionary,
        statistics: spec.statistics,
        bloom_filters: spec.bloom_filters.as_deref().unwrap_or_default(),
    };
    if spec.format == FileFormat::Parquet {
        return OutputFormat::Parquet(parquet::options(checks, columns, path, &parts));
    }
    for (name, given) in [
        ("rowGroupSize", spec.row_group_size.is_some()),
        ("rowGroupRows", spec.row_group_rows.is_some()),
        ("pageSize", spec.page_size.is_some()),
        ("dictionary", spec.dictionary.is_some()),
        ("statistics", spec.statistics.is_some()),
        ("bloomFilters", spec.bloom_filters.is_some()),
    ] {
        if given {
            let remedy = "goes with format: Parquet only: remove it";
            checks.add(format!("{path}.{name}"), "", remedy);
        }
    }
    let compression = match compression {
        Compression::None => JsonCompression::None,
        Compression::Gzip => JsonCompression::Gzip,
        Compression::Zstd => JsonCompression::Zstd {
            level: parquet::zstd_level(checks, path, spec.level),
        },
        other => {
            let remedy = "format: Json goes with None, Gzip or Zstd";
            checks.add(format!("{path}.compression"), format!("{other:?}"), remedy);
            JsonCompression::None
        }
    };
    if let (Some(level), false) = (
        spec.level,
        matches!(compression, JsonCompression::Zstd { .. }),
    ) {
        let remedy = "format: Json takes a level with Zstd only: remove it";
        checks.add(format!("{path}.level"), level, remedy);
    }
    OutputFormat::JsonLines { compression }
}

fn rotation(checks: &mut Checks, spec: &RotationSpec, partitioning: &[PartitionExpr]) -> Rotation {
    let path = "spec.rotation";
    if spec.max_bytes.as_u64() == 0 {
        checks.add(
            format!("{path}.maxBytes"),
            spec.max_bytes,
            "give more than 0",
        );
    }
    for (name, span) in [("maxOpen", Some(spec.max_open)), ("maxIdle", spec.max_idle)] {
        if let Some(span) = span.filter(|span| span.duration().is_zero()) {
            checks.add(format!("{path}.{name}"), span, "give more than 0s");
        }
    }
    store::check_open(checks, &format!("{path}.maxOpen"), spec.max_open);
    let schedule = spec.schedule.as_ref().map(|schedule| {
        let path = format!("{path}.schedule");
        if let Err(error) = schedule.cron.parse::<croner::Cron>() {
            let remedy = format!("not a cron expression: {error}");
            checks.add(format!("{path}.cron"), &schedule.cron, remedy);
        }
        let zone = timezone(checks, &format!("{path}.timezone"), &schedule.timezone);
        (schedule.cron.clone(), zone)
    });
    let by_event = |expr: &&PartitionExpr| matches!(expr, PartitionExpr::Time { source, .. } if *source != TimeSource::WallClock);
    let event_times = partitioning.iter().filter(by_event).count();
    if spec.partition_close.is_some() && event_times != 1 {
        let remedy = "needs exactly one time in spec.partitioning that is not by wall clock: add one, or remove this";
        checks.add(format!("{path}.partitionClose"), "", remedy);
    }
    let partition_close = spec.partition_close.as_ref();
    Rotation {
        max_bytes: spec.max_bytes.as_usize(),
        max_records: spec.max_records,
        max_open: spec.max_open.duration(),
        max_idle: spec.max_idle.map(|span| span.duration()),
        schedule,
        partition_close: partition_close.map(|close| close.allowed_lateness.duration()),
        max_open_files: spec.max_open_files as usize,
    }
}

pub(super) fn timezone(checks: &mut Checks, field: &str, name: &str) -> Tz {
    name.parse().unwrap_or_else(|_| {
        checks.add(
            field,
            name,
            "no such time zone: give an IANA name such as Europe/Madrid",
        );
        Tz::UTC
    })
}
