//! The two kinds. Fields that both have stand in both (as the fields of `value`'s column stand in its element): serde
//! refuses `flatten` beside `deny_unknown_fields`, and a field that nobody knows must be refused, not dropped.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::autoscaling::AutoscalingSpec;
use crate::catalog::{
    CatalogSpec, DeletionPolicy, EvolutionSpec, OnDestinationReset, StorageSpec, TableCommitSpec,
};
use crate::dataset::{
    DatasetCommitSpec, Delivery, OutputSpec, PartitioningSpec, RotationSpec, max_open_files,
};
use crate::glue::GlueTableSpec;
use crate::parquet::{ParquetSpec, yes};
use crate::pod::PodSpec;
use crate::quantity::ByteSize;
use crate::source::SourceSpec;
use crate::status::SinkStatus;
use crate::store::DestinationSpec;
use crate::value::{
    DeadLetterSpec, MetadataColumnsSpec, OnError, SchemaSpec, TableValueSpec, Tombstones, ValueSpec,
};

/// Kafka topics into a dataset of files on S3.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[kube(
    group = "tidewater.dev",
    version = "v1alpha1",
    kind = "KafkaS3Sink",
    plural = "kafkas3sinks",
    shortname = "ks3",
    category = "tidewater",
    namespaced,
    status = "SinkStatus",
    derive = "PartialEq",
    doc = "Kafka topics into a dataset of files on S3, exactly once.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}"#,
    printcolumn = r#"{"name": "Available", "type": "integer", "jsonPath": ".status.readyReplicas"}"#,
    printcolumn = r#"{"name": "Lag", "type": "integer", "jsonPath": ".status.lag.records"}"#,
    printcolumn = r#"{"name": "Last-commit", "type": "date", "jsonPath": ".status.commit.lastCommitTime"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Topic", "type": "string", "jsonPath": ".spec.source.topics", "priority": 1}"#,
    printcolumn = r#"{"name": "Bucket", "type": "string", "jsonPath": ".spec.destination.s3.bucket", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message", "priority": 1}"#
)]
#[x_kube(validation = Rule::new("has(self.deadLetter) || !has(self.onError) || self.onError != 'DeadLetter'").message("onError: DeadLetter needs deadLetter").field_path(".onError"))]
#[x_kube(validation = Rule::new("has(self.deadLetter) || self.tombstones != 'DeadLetter'").message("tombstones: DeadLetter needs deadLetter").field_path(".tombstones"))]
#[x_kube(validation = Rule::new("!has(self.deadLetter) || !has(self.deadLetter.topic) || !has(self.source.topics) || !(self.deadLetter.topic in self.source.topics)").message("the source reads this topic: it would feed itself; choose another").field_path(".deadLetter"))]
#[x_kube(validation = Rule::new("!has(self.glue) || has(self.destination.s3)").message("glue needs destination.s3").field_path(".glue"))]
#[x_kube(validation = Rule::new("!has(self.glue) || has(self.glue.table) || (has(self.source.topics) && self.source.topics.size() == 1)").message("a dataset of several topics is one table: give glue.table a name").field_path(".glue"))]
#[x_kube(validation = Rule::new("!has(self.rotation.partitionClose) || (has(self.partitioning) && self.partitioning.exists_one(p, has(p.time) && !(has(p.time.source) && p.time.source == 'WallClock')))").message("partitionClose needs exactly one time in partitioning that is not by wall clock").field_path(".rotation"))]
pub struct KafkaS3SinkSpec {
    /// Pods that share the work; leave it out when an autoscaler owns it. More than the topics have partitions stand
    /// idle. Example: `3`.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Whether the sink rests: no pods, whatever `replicas` says. Example: `true`.
    #[serde(default)]
    pub paused: bool,
    /// Pods by lag, in a cluster; `replicas` is then left out. Default: as many as `replicas` says. Example: `{maxReplicas:
    /// 12, lagPerReplica: 50000}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
    /// Any change of this number restarts the pods, one after the other, with the operator's current image. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_nonce: Option<i64>,
    /// The Kafka topics that are read, and how. Example: `{bootstrapServers: "kafka:9092", topics: [orders]}`.
    pub source: SourceSpec,
    /// How the records' values are read. Example: `{format: Json, schema: {fields: [{name: id, type: long}]}}`.
    pub value: ValueSpec,
    /// What happens to a record that does not fit: `DeadLetter`, `Skip` (counted, then dropped) or `Fail` (the process
    /// stops at it). Default: `DeadLetter` when `deadLetter` is given, else `Fail`. Example: `Skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// What happens to a record without a value: `Skip` or `DeadLetter`. Example: `DeadLetter`.
    #[serde(default)]
    pub tombstones: Tombstones,
    /// Columns that carry what Kafka knows of a record. Default: none. Example: `{partition: kafka_partition, offset:
    /// kafka_offset}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_columns: Option<MetadataColumnsSpec>,
    /// Folders below the destination, outermost first. Default: none. Example: `[{time: {granularity: Hour, column:
    /// created_at}}, {column: country}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub partitioning: Vec<PartitioningSpec>,
    /// File format. Example: `{format: Parquet, compression: Zstd}`.
    #[serde(default)]
    pub output: OutputSpec,
    /// When an open file is closed and committed. Example: `{maxBytes: 64Mi, maxOpen: 5m}`.
    #[serde(default)]
    pub rotation: RotationSpec,
    /// When to give up. Example: `{maxConsecutiveFailures: 10}`.
    #[serde(default)]
    pub commit: DatasetCommitSpec,
    /// Where the files go. Cannot be changed. Example: `{s3: {bucket: lake, prefix: raw/orders}}`.
    pub destination: DestinationSpec,
    /// The table of the AWS Glue Data Catalog that shows the files on S3 to Athena, Spark and others. Default: none.
    /// Example: `{database: raw, table: orders, partitions: Register}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glue: Option<GlueTableSpec>,
    /// `ExactlyOnce`, or `AtLeastOnce` for stores without conditional writes. Example: `AtLeastOnce`.
    #[serde(default)]
    pub delivery: Delivery,
    /// Where records go that do not fit. Default: nowhere. Example: `{topic: orders.dlq}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterSpec>,
    /// What a process may use, and what its pods are like. Example: `{memoryBudget: 512Mi}`.
    #[serde(default)]
    pub pod: PodSpec,
}

/// Kafka topics into an Apache Iceberg table.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[kube(
    group = "tidewater.dev",
    version = "v1alpha1",
    kind = "IcebergTable",
    plural = "icebergtables",
    shortname = "icet",
    category = "tidewater",
    namespaced,
    status = "SinkStatus",
    derive = "PartialEq",
    doc = "Kafka topics into an Apache Iceberg table, exactly once.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}"#,
    printcolumn = r#"{"name": "Available", "type": "integer", "jsonPath": ".status.readyReplicas"}"#,
    printcolumn = r#"{"name": "Lag", "type": "integer", "jsonPath": ".status.lag.records"}"#,
    printcolumn = r#"{"name": "Last-commit", "type": "date", "jsonPath": ".status.commit.lastCommitTime"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Topic", "type": "string", "jsonPath": ".spec.source.topics", "priority": 1}"#,
    printcolumn = r#"{"name": "Table", "type": "string", "jsonPath": ".spec.table", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message", "priority": 1}"#
)]
#[x_kube(validation = Rule::new("has(self.schema) != has(self.value.infer)").message("give exactly one of schema and value.infer").field_path(".schema"))]
#[x_kube(validation = Rule::new("has(self.deadLetter) || !has(self.onError) || self.onError != 'DeadLetter'").message("onError: DeadLetter needs deadLetter").field_path(".onError"))]
#[x_kube(validation = Rule::new("has(self.deadLetter) || self.tombstones != 'DeadLetter'").message("tombstones: DeadLetter needs deadLetter").field_path(".tombstones"))]
#[x_kube(validation = Rule::new("!has(self.deadLetter) || !has(self.deadLetter.topic) || !has(self.source.topics) || !(self.deadLetter.topic in self.source.topics)").message("the source reads this topic: it would feed itself; choose another").field_path(".deadLetter"))]
#[x_kube(validation = Rule::new("!(has(self.storage) && has(self.catalog.local))").message("storage does not go with catalog.local").field_path(".storage"))]
pub struct IcebergTableSpec {
    /// Pods that share the work; leave it out when an autoscaler owns it. More than the topics have partitions stand
    /// idle. Example: `3`.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Whether the sink rests: no pods, whatever `replicas` says. Example: `true`.
    #[serde(default)]
    pub paused: bool,
    /// Pods by lag, in a cluster; `replicas` is then left out. Default: as many as `replicas` says. Example: `{maxReplicas:
    /// 12, lagPerReplica: 50000}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
    /// Any change of this number restarts the pods, one after the other, with the operator's current image. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_nonce: Option<i64>,
    /// The catalog that knows the table. Its kind cannot be changed. Example: `{rest: {uri: "http://catalog:8181"}}`.
    pub catalog: CatalogSpec,
    /// Namespace of the table; dots separate levels. Cannot be changed. Example: `sales`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the table cannot be changed: create a new resource"))]
    #[x_kube(validation = Rule::new("!self.startsWith('.') && !self.endsWith('.') && !self.contains('..')").message("give names separated by single dots"))]
    pub namespace: String,
    /// Name of the table. Cannot be changed. Example: `orders`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the table cannot be changed: create a new resource"))]
    #[x_kube(validation = Rule::new("!self.matches('[./[:cntrl:]]')").message("give a name without '.', '/' and control characters"))]
    pub table: String,
    /// Whether a missing table (and its namespace) is made. Example: `false`.
    #[serde(default = "yes")]
    pub create_if_missing: bool,
    /// What becomes of the table when this resource is deleted from a cluster: `Retain`, or `Delete`, which drops it once
    /// the last pod has ended, if it was made for this resource and no other sink has written to it. A REST catalog is
    /// asked to purge the files too; of a table in Glue the entry goes and the files stay; a table of a local catalog stays,
    /// since the operator cannot see it. What cannot be dropped within ten minutes stays. Example: `Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Where a new table's files go. Default: the catalog's choice. Example: `s3://lake/warehouse/sales/orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('s3://')").message("give s3://bucket/prefix"))]
    pub location: Option<String>,
    /// Iceberg format version of a new table: 2 or 3. With 3 an older table is upgraded; no table is ever downgraded.
    /// Example: `3`.
    #[serde(default = "format_version")]
    #[schemars(range(min = 2, max = 3))]
    pub format_version: u8,
    /// The columns, declared. Exactly one of `schema` and `value.infer` is needed. Example: `{fields: [{name: id, type:
    /// long, required: true}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSpec>,
    /// How the records' values are read. Example: `{format: Json}`.
    #[serde(default)]
    pub value: TableValueSpec,
    /// Partitions of the table, from the next file on; files that are there stay as they are. A column, or `year(c)`,
    /// `month(c)`, `day(c)`, `hour(c)`, `bucket(n, c)`, `truncate(n, c)` or `void(c)` of one, with ` as name` where wanted.
    /// Default: none for a new table, its own for one that was there; what this resource said before and does not say any
    /// more goes. Example: `["hour(created_at)", "bucket(16, customer)"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 600)))]
    pub partition_by: Vec<String>,
    /// Sort order of the table, from the next file on. A column or transform as in `partitionBy`, then `asc` or `desc`,
    /// then `nulls first` or `nulls last`. Rows are sorted by the table's order, this one or its own where none is given,
    /// within each row group, which then holds at most 32Mi of rows in memory; a file that is in order from its first row
    /// to its last says so in the manifest (`sort_order_id`). Default: as for `partitionBy`. Example: `["created_at desc nulls last"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 600)))]
    pub sort_order: Vec<String>,
    /// Properties of the table. One that is taken out here is removed from the table; those that others set stay. Of
    /// `write.*` those are refused that nobody would obey, or that contradict a field here. Default: none. Example:
    /// `{write.metadata.metrics.default: counts}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 200))]
    pub properties: BTreeMap<String, String>,
    /// What may be changed in an existing table to hold the records. Example: `{addColumns: false}`.
    #[serde(default)]
    pub evolution: EvolutionSpec,
    /// How the Parquet files are written. Example: `{compression: Snappy}`.
    #[serde(default)]
    pub parquet: ParquetSpec,
    /// Bytes at which a file is closed and the next one started. Example: `128Mi`.
    #[serde(default = "target_file_size")]
    pub target_file_size: ByteSize,
    /// Open files per process, all workers together; beyond it the longest open is closed. Example: `500`.
    #[serde(default = "max_open_files")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_open_files: u32,
    /// What to do when the table was rolled back, or dropped and made anew: `Stop`, `Reread` (from what the table holds
    /// now) or `Continue` (from the recorded offsets, leaving the hole). Example: `Reread`.
    #[serde(default)]
    pub on_destination_reset: OnDestinationReset,
    /// The store of the table's files. What stands here goes first; then what a REST catalog gives with the table
    /// (keys, endpoint, region, path style; keys are asked for again before they end); then the environment. With keys or a
    /// role of its own, the catalog is asked for none. Default: as catalog and environment say. Example: `{s3: {endpoint:
    /// "http://minio.lake:9000", pathStyle: true}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// The Kafka topics that are read, and how. Example: `{bootstrapServers: "kafka:9092", topics: [orders]}`.
    pub source: SourceSpec,
    /// What happens to a record that does not fit: `DeadLetter`, `Skip` (counted, then dropped) or `Fail` (the process
    /// stops at it). Default: `DeadLetter` when `deadLetter` is given, else `Fail`. Example: `Skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// What happens to a record without a value: `Skip` or `DeadLetter`. Example: `DeadLetter`.
    #[serde(default)]
    pub tombstones: Tombstones,
    /// Columns that carry what Kafka knows of a record. Default: none. Example: `{partition: kafka_partition, offset:
    /// kafka_offset}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_columns: Option<MetadataColumnsSpec>,
    /// When a commit is due. Example: `{interval: 5m}`.
    #[serde(default)]
    pub commit: TableCommitSpec,
    /// Where records go that do not fit. Default: nowhere. Example: `{topic: orders.dlq}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterSpec>,
    /// What a process may use, and what its pods are like. Example: `{memoryBudget: 512Mi}`.
    #[serde(default)]
    pub pod: PodSpec,
}

fn one() -> i32 {
    1
}

fn format_version() -> u8 {
    2
}

fn target_file_size() -> ByteSize {
    ByteSize::mebibytes(256)
}
