//! Parquet options that datasets and tables share.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::ByteSize;

/// Compression of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParquetCompression {
    None,
    Snappy,
    Gzip,
    Lz4,
    #[default]
    Zstd,
}

/// A column's Bloom filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BloomFilterSpec {
    /// Column. Example: `customer`.
    #[schemars(length(min = 1, max = 255))]
    pub column: String,
    /// How often the filter may wrongly say "perhaps", between 0 and 1. Example: `0.05`.
    #[serde(default = "false_positive_probability")]
    pub false_positive_probability: f64,
}

fn false_positive_probability() -> f64 {
    0.01
}

/// How a table's Parquet files are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.level) || self.compression in ['Gzip', 'Zstd']").message("level goes with compression Gzip and Zstd only").field_path(".level"))]
pub struct ParquetSpec {
    /// `None`, `Snappy`, `Gzip`, `Lz4` or `Zstd`. Example: `Snappy`.
    #[serde(default)]
    pub compression: ParquetCompression,
    /// How hard to compress: 1 to 22 with `Zstd`, 0 to 9 with `Gzip`. Default: 3 with `Zstd`, 6 with `Gzip`. Example:
    /// `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 22))]
    pub level: Option<i32>,
    /// Bytes of a row group. Example: `64Mi`.
    #[serde(default = "row_group_size")]
    pub row_group_size: ByteSize,
    /// Most rows of a row group. Example: `100000`.
    #[serde(default = "row_group_rows")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub row_group_rows: u32,
    /// Bytes of a page. Example: `512Ki`.
    #[serde(default = "page_size")]
    pub page_size: ByteSize,
    /// Whether repeated values are stored once. Example: `false`.
    #[serde(default = "yes")]
    pub dictionary: bool,
    /// Whether row groups and pages carry least and greatest values. Example: `false`.
    #[serde(default = "yes")]
    pub statistics: bool,
    /// Columns with a Bloom filter. Default: none. Example: `[{column: customer}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub bloom_filters: Vec<BloomFilterSpec>,
}

impl Default for ParquetSpec {
    fn default() -> Self {
        Self {
            compression: ParquetCompression::default(),
            level: None,
            row_group_size: row_group_size(),
            row_group_rows: row_group_rows(),
            page_size: page_size(),
            dictionary: true,
            statistics: true,
            bloom_filters: Vec::new(),
        }
    }
}

fn row_group_size() -> ByteSize {
    ByteSize::mebibytes(128)
}

fn row_group_rows() -> u32 {
    1_048_576
}

fn page_size() -> ByteSize {
    ByteSize::mebibytes(1)
}

pub(crate) fn yes() -> bool {
    true
}
