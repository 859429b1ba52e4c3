//! What a dataset looks like: partition folders, file format, and when files are closed.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parquet::{BloomFilterSpec, ParquetCompression};
use crate::quantity::{ByteSize, TimeSpan};

/// One step of the folder path: a time, or a column's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.time) != has(self.column)").message("give exactly one of time and column").field_path(".time"))]
#[x_kube(validation = Rule::new("!has(self.label) || has(self.column)").message("label goes with column only; label times by their format").field_path(".label"))]
pub struct PartitioningSpec {
    /// Folders by time. Example: `{granularity: Hour, column: created_at}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimePartitionSpec>,
    /// Folders by a column's value, `<label>=<value>`. Example: `country`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub column: Option<String>,
    /// Name in the folder, with `column`; not that of another column of the files. Default: the column's name. Example:
    /// `land`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub label: Option<String>,
}

/// Folders by time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.granularity) != has(self.format)").message("give exactly one of granularity and format").field_path(".granularity"))]
#[x_kube(validation = Rule::new("!(has(self.column) && has(self.source))").message("give one of column and source").field_path(".source"))]
pub struct TimePartitionSpec {
    /// `Year`, `Month`, `Day` or `Hour`: folders `year=2026/month=07/day=04/hour=15` down to it. Where the files have a
    /// column `year`, `month`, `day` or `hour`, use `format` with other labels: readers would see one of the two. With
    /// `infer` records that bring such a field do not fit. Example: `Hour`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<Granularity>,
    /// Folders of your own, in place of `granularity`: strftime specifiers, one folder per slash, `label=` in front
    /// where wanted. Example: `dt=%Y-%m-%d/hr=%H`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub format: Option<String>,
    /// Column with the time: `timestamp`, `timestamptz` or `date`. Example: `created_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub column: Option<String>,
    /// In place of `column`: `RecordTimestamp` (Kafka's; the default) or `WallClock` (when the record is written).
    /// Example: `WallClock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PartitionTime>,
    /// Time zone of the folders. Example: `Europe/Madrid`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub timezone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// How fine time folders are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Granularity {
    Year,
    Month,
    Day,
    Hour,
}

/// Time of a record that is not one of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PartitionTime {
    RecordTimestamp,
    WallClock,
}

/// File format of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.format == 'Parquet' || !(has(self.rowGroupSize) || has(self.rowGroupRows) || has(self.pageSize) || has(self.dictionary) || has(self.statistics) || has(self.bloomFilters))").message("rowGroupSize, rowGroupRows, pageSize, dictionary, statistics and bloomFilters go with format: Parquet only").field_path(".format"))]
#[x_kube(validation = Rule::new("self.format == 'Parquet' || !has(self.compression) || self.compression in ['None', 'Gzip', 'Zstd']").message("format: Json goes with compression None, Gzip or Zstd").field_path(".compression"))]
#[x_kube(validation = Rule::new("!has(self.level) || !has(self.compression) || self.compression in ['Gzip', 'Zstd']").message("level goes with compression Gzip and Zstd only").field_path(".level"))]
#[x_kube(validation = Rule::new("!has(self.level) || (has(self.compression) && self.compression == 'Gzip' ? self.level <= 9 : self.level >= 1)").message("give 1 to 22 with Zstd, 0 to 9 with Gzip").field_path(".level"))]
pub struct OutputSpec {
    /// `Parquet`, or `Json` (one object per line). Example: `Json`.
    #[serde(default)]
    pub format: FileFormat,
    /// `None`, `Snappy`, `Gzip`, `Lz4` or `Zstd` for Parquet; `None`, `Gzip` or `Zstd` for Json. Default: `Zstd`.
    /// Example: `Snappy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<ParquetCompression>,
    /// How hard to compress: 1 to 22 with `Zstd`, 0 to 9 with `Gzip` (Parquet). Default: 3 with `Zstd`, 6 with `Gzip`.
    /// Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 22))]
    pub level: Option<i32>,
    /// Parquet: bytes of a row group. Default: `128Mi`. Example: `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_group_size: Option<ByteSize>,
    /// Parquet: most rows of a row group. Default: `1048576`. Example: `100000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub row_group_rows: Option<u32>,
    /// Parquet: bytes of a page. Default: `1Mi`. Example: `512Ki`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<ByteSize>,
    /// Parquet: whether repeated values are stored once. Default: `true`. Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dictionary: Option<bool>,
    /// Parquet: whether row groups and pages carry least and greatest values. Default: `true`. Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<bool>,
    /// Parquet: columns with a Bloom filter. Default: none. Example: `[{column: customer}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub bloom_filters: Option<Vec<BloomFilterSpec>>,
}

/// Formats of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FileFormat {
    #[default]
    Parquet,
    Json,
}

/// When an open file is closed and committed. The first rule that holds decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationSpec {
    /// Bytes written, compressed. Example: `64Mi`.
    #[serde(default = "max_bytes")]
    pub max_bytes: ByteSize,
    /// Records written. Default: no limit. Example: `1000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_records: Option<u64>,
    /// Time since the first record, 6 days at most; how late a record may be visible. Example: `5m`.
    #[serde(default = "max_open")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("give more than 0s"))]
    pub max_open: TimeSpan,
    /// Time since the last record. Default: no limit. Example: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("give more than 0s"))]
    pub max_idle: Option<TimeSpan>,
    /// Moments of the wall clock at which all files are closed. Default: none. Example: `{cron: "0 * * * *"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// Whether files are also closed when the time of their folder is over, by the records' own time. Needs exactly one
    /// `time` in `partitioning` that is not by wall clock. Default: not. Example: `{allowedLateness: 10m}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_close: Option<PartitionCloseSpec>,
    /// Open files per process, all workers together; beyond it the longest open is closed. Example: `500`.
    #[serde(default = "max_open_files")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_open_files: u32,
}

impl Default for RotationSpec {
    fn default() -> Self {
        Self {
            max_bytes: max_bytes(),
            max_records: None,
            max_open: max_open(),
            max_idle: None,
            schedule: None,
            partition_close: None,
            max_open_files: max_open_files(),
        }
    }
}

fn max_bytes() -> ByteSize {
    ByteSize::mebibytes(128)
}

fn max_open() -> TimeSpan {
    TimeSpan::seconds(60)
}

pub(crate) fn max_open_files() -> u32 {
    2000
}

/// Moments of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Cron expression: minute, hour, day of month, month, day of week; seconds may stand in front. Example:
    /// `*/15 * * * *`.
    #[schemars(length(min = 1, max = 255))]
    pub cron: String,
    /// Time zone of the expression. Example: `Europe/Madrid`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub timezone: String,
}

/// When the time of a folder is over. Each topic-partition has a watermark: the latest time among its records, not
/// ahead of the machine's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionCloseSpec {
    /// How far the watermark must be past the end of the folder's time. Records that come later still go to their own
    /// folder, and wait for the other rules. Example: `10m`.
    #[serde(default = "allowed_lateness")]
    pub allowed_lateness: TimeSpan,
}

fn allowed_lateness() -> TimeSpan {
    TimeSpan::seconds(300)
}

/// What a reader of the dataset may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    #[default]
    ExactlyOnce,
    AtLeastOnce,
}

/// When a dataset sink gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatasetCommitSpec {
    /// Failures in a row of one commit before the sink stops and starts afresh; what waiting may mend is waited for.
    /// Example: `10`.
    #[serde(default = "max_consecutive_failures")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_consecutive_failures: u32,
}

impl Default for DatasetCommitSpec {
    fn default() -> Self {
        Self {
            max_consecutive_failures: max_consecutive_failures(),
        }
    }
}

pub(crate) fn max_consecutive_failures() -> u32 {
    5
}
