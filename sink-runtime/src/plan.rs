//! A resource's spec, checked and made typed: what the rest of the runtime runs on. `Plan::from_*` reports every
//! problem at once, each with field path, value and remedy. Pure: secrets are resolved through a trait given in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::hive::HivePlan;
use crate::record::{TopicName, TopicPartition};
use crate::schema::Schema;

mod access;
mod cluster;
mod columns;
mod dataset;
mod decode;
mod document;
mod expression;
mod iceberg;
mod parquet;
mod pod;
mod problem;
mod secrets;
mod shape;
mod source;
mod store;
mod table;

#[cfg(test)]
mod tests;

pub use access::{
    AssumeRole, AwsCredentials, Checksum, Encryption, GlueAccess, GluePlan, RestAuth, RestPlan,
    S3Access, S3Plan, Timeouts,
};
pub use iceberg::unheeded;
pub use pod::{BudgetOrigin, Container, PodPlan};
pub use problem::{PlanErrors, Problem};
pub use secrets::{NoSecrets, SecretFolder, Secrets};
pub(crate) use source::is_for_consumers;
pub use table::{
    CatalogPlan, Evolution, IcebergPlan, OnDestinationReset, PartitionField, PartitionTransform,
    SortField,
};

/// Everything one process needs to run one resource.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Identity of the sink in ledgers and group ids: `<namespace>.<name>`, `default.<name>` without a namespace.
    pub sink: SinkId,
    /// Runs nothing while true.
    pub paused: bool,
    pub source: SourcePlan,
    pub decode: DecodePlan,
    pub destination: Destination,
    pub rotation: Rotation,
    /// For Iceberg, when a commit is due; for S3 `rotation` alone decides.
    pub commit: CommitPlan,
    pub dead_letter: Option<DeadLetter>,
    pub pod: PodPlan,
}

/// `<namespace>.<name>` of the resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId(pub String);

impl SinkId {
    /// Under this key a file's metadata name the sink that wrote it.
    pub const FILE_KEY: &str = "tidewater.sink";
}

impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that no log, event, status or metric may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

// ---------------------------------------------------------------- source

#[derive(Clone, Debug)]
pub struct SourcePlan {
    pub bootstrap_servers: String,
    pub topics: Topics,
    pub group_id: String,
    pub startup: Startup,
    pub isolation: Isolation,
    /// librdkafka properties, complete: typed fields (security among them) already folded in, protocol keys set.
    pub properties: BTreeMap<String, Property>,
    /// Those of them that the typed fields of security make: what somebody needs who only looks.
    pub connection: BTreeMap<String, Property>,
    pub on_source_reset: OnSourceReset,
    pub on_records_expired: OnRecordsExpired,
    pub on_log_truncated: OnLogTruncated,
    /// How long a revoke or a shutdown may take to commit before the work is dropped.
    pub drain_timeout: Duration,
    /// Records per raw batch at the most.
    pub batch_records: usize,
}

impl SourcePlan {
    /// Whether the brokers' certificates are not looked at.
    pub fn trusts_anybody(&self) -> bool {
        let check = self.connection.get("enable.ssl.certificate.verification");
        check.is_some_and(|check| check.expose() == "false")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    Plain(String),
    Secret(Secret),
}

impl Property {
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(value) => value.expose(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    List(Vec<TopicName>),
    /// A regular expression over whole topic names.
    Pattern(String),
}

/// Where a partition starts that neither the destination nor the floor knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// The group's committed offset, else earliest.
    GroupOffsets,
    Earliest,
    Latest,
    /// First record at or after it, milliseconds since the epoch.
    Timestamp(i64),
    /// Partitions not named start at earliest.
    Offsets(BTreeMap<TopicPartition, i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

/// The topic or cluster was recreated: its offsets mean something else now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSourceReset {
    Stop,
    /// Read the new topic from its start, after what the destination already holds.
    Restart,
}

/// Retention removed records before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecordsExpired {
    Stop,
    /// Go on at the log's start; the gap is logged, counted and reported.
    Skip,
}

/// The topic's log ends below what the destination holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLogTruncated {
    Stop,
    /// Go on at the log's end; rows of the lost records stay.
    Continue,
}

// ---------------------------------------------------------------- decode

#[derive(Clone, Debug)]
pub struct DecodePlan {
    pub value: ValueSchema,
    pub on_error: OnError,
    pub tombstones: Tombstones,
    pub metadata: MetadataColumns,
}

impl DecodePlan {
    /// Whether the source must keep record keys.
    pub fn needs_keys(&self, dead_letter: bool) -> bool {
        self.metadata.key.is_some() || dead_letter
    }

    pub fn needs_headers(&self, dead_letter: bool) -> bool {
        self.metadata.headers.is_some() || dead_letter
    }
}

#[derive(Clone, Debug)]
pub enum ValueSchema {
    /// Fields of the records that the schema does not name go by `unknown`.
    Declared {
        schema: Schema,
        unknown: UnknownFields,
    },
    /// From the first records, then widened by rule.
    Inferred(Inference),
}

/// How columns are found in records.
#[derive(Clone, Debug)]
pub struct Inference {
    /// Records looked at before the first columns are settled.
    pub sample_records: usize,
    pub on_conflict: OnConflict,
    /// Fields of all levels that there may be.
    pub max_columns: usize,
    /// Columns that are known before any record.
    pub hints: Schema,
    /// Columns that the destination is laid out by.
    pub placed: Vec<Placed>,
    /// Names, in lower case, that no column may have, and why.
    pub taken: BTreeMap<String, String>,
    /// No two columns have one full name: `a.b` is a field `b` in `a`, or a key with a dot, never both.
    pub whole_names: bool,
}

impl Inference {
    pub fn new(sample_records: usize, on_conflict: OnConflict) -> Self {
        Self {
            sample_records,
            on_conflict,
            max_columns: 1000,
            hints: Schema::default(),
            placed: Vec::new(),
            taken: BTreeMap::new(),
            whole_names: false,
        }
    }

    /// Full names of the columns in `placed`, and of what they stand in.
    pub fn placed_names(&self) -> impl Iterator<Item = &str> {
        let names = self.placed.iter().map(|placed| placed.column.as_str());
        names.flat_map(columns::outermost_first)
    }
}

/// A column that rows are placed or sorted by: a scalar, and text where the records' values have no other type that can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// With dots for levels.
    pub column: String,
    /// Whether it may be a boolean.
    pub boolean: bool,
    /// Whether it may be a double.
    pub double: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    Ignore,
    /// The record does not fit.
    Reject,
}

/// A scalar met a column of another scalar type that cannot widen to hold both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The column becomes a string column.
    String,
    /// The record does not fit.
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    DeadLetter,
    /// Counted, then dropped.
    Skip,
    /// The process stops at the record.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    Skip,
    DeadLetter,
}

/// Names of the columns that carry what Kafka knows of a record; `None` leaves one out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataColumns {
    /// string
    pub topic: Option<String>,
    /// int
    pub partition: Option<String>,
    /// long
    pub offset: Option<String>,
    /// timestamptz
    pub timestamp: Option<String>,
    /// string: `CreateTime` or `LogAppendTime`
    pub timestamp_type: Option<String>,
    /// binary
    pub key: Option<String>,
    /// list<struct<name: string, value: binary>>
    pub headers: Option<String>,
}

// ---------------------------------------------------------------- destination

#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per process: its size costs nothing, a box would cost every reader"
)]
pub enum Destination {
    Dataset(DatasetPlan),
    Iceberg(IcebergPlan),
}

/// A directory tree of files on an object store or a file system.
#[derive(Clone, Debug)]
pub struct DatasetPlan {
    pub store: StorePlan,
    pub partitioning: Vec<PartitionExpr>,
    pub output: OutputFormat,
    pub delivery: Delivery,
    /// The Glue table that shows it.
    pub glue: Option<HivePlan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per process: its size costs nothing, a box would cost every reader"
)]
pub enum StorePlan {
    S3(S3Plan),
    Local { path: PathBuf },
}

/// One directory level (or several, for a time path) of a Hive layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionExpr {
    Time {
        source: TimeSource,
        timezone: chrono_tz::Tz,
        levels: Vec<TimeLevel>,
    },
    /// `label=<value>`; the value is the column's.
    Column { column: String, label: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSource {
    Column(String),
    RecordTimestamp,
    WallClock,
}

/// `label=<strftime(format)>`, or the bare `strftime(format)` without a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLevel {
    pub label: Option<String>,
    /// chrono's strftime.
    pub format: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OutputFormat {
    Parquet(ParquetOptions),
    JsonLines { compression: JsonCompression },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonCompression {
    None,
    Gzip,
    Zstd { level: i32 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ParquetOptions {
    pub compression: ParquetCompression,
    pub row_group_rows: usize,
    pub row_group_bytes: usize,
    pub page_bytes: usize,
    pub dictionary: bool,
    pub statistics: bool,
    /// Column -> false positive probability.
    pub bloom_filters: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParquetCompression {
    None,
    Snappy,
    Gzip { level: u32 },
    Lz4,
    Zstd { level: i32 },
}

// ---------------------------------------------------------------- rotation, commit, dead letter

/// When an open file is sealed. The first rule that holds decides. Time is monotonic.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Bytes written (encoded).
    pub max_bytes: usize,
    pub max_records: Option<u64>,
    /// A topic-partition's files are committed at the latest this long after the first record in them.
    pub max_open: Duration,
    pub max_idle: Option<Duration>,
    /// Cron expression and zone: files are also committed at these wall-clock moments.
    pub schedule: Option<(String, chrono_tz::Tz)>,
    /// A topic-partition's files are committed once its watermark is this far past the end of the time of one of their
    /// folders.
    pub partition_close: Option<Duration>,
    /// Open files per process; beyond it the longest open is sealed.
    pub max_open_files: usize,
}

#[derive(Clone, Debug)]
pub struct CommitPlan {
    pub interval: Duration,
    pub max_bytes: Option<usize>,
    pub max_records: Option<u64>,
    /// Commit attempts in a row that may fail before the process exits.
    pub max_consecutive_failures: u32,
}

#[derive(Clone, Debug)]
pub enum DeadLetter {
    Topic {
        topic: TopicName,
    },
    /// JSON lines under `<prefix>` of the destination's store.
    Prefix {
        prefix: String,
    },
}
