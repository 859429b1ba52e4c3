//! Which file a row belongs to: splits decoded batches by partition. Per record, never per batch. Pure.
//! `hive` gives directory paths for datasets, `iceberg` partition tuples for tables.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::errors::{Class, Classified, class};
use crate::record::TopicPartition;

mod grouping;
pub mod hive;
pub mod iceberg;

pub use hive::HiveSplitter;

/// Decoded rows of one topic-partition with what Kafka knows of each.
#[derive(Clone, Debug)]
pub struct Rows {
    pub tp: TopicPartition,
    pub batch: RecordBatch,
    /// Offset of each row; ascending.
    pub offsets: Vec<i64>,
    /// Kafka timestamp of each row, milliseconds since the epoch, -1 where there is none.
    pub timestamps: Vec<i64>,
}

/// The rows of one partition, in offset order.
#[derive(Clone, Debug)]
pub struct Slice<K> {
    pub key: Arc<K>,
    pub batch: RecordBatch,
    pub first_offset: i64,
    pub last_offset: i64,
}

/// Directory of a dataset's partition, e.g. `dt=2026-11-21/country=ES` (empty when unpartitioned), and the values as
/// Glue wants them: one per partition key, unescaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HivePartition {
    pub path: String,
    pub values: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("time format \"{format}\" cannot be read")]
    Format { format: String },
    #[error("column \"{column}\" of type {found} cannot partition {wanted}")]
    ColumnType {
        column: String,
        found: String,
        /// `by time` or `by value`.
        wanted: &'static str,
    },
    /// No directory can be named so, and the value stands in its name only.
    #[error(
        "the partition value of \"{column}\" at {tp} offset {offset} needs {length} bytes in a path, more than {limit}"
    )]
    ValueTooLong {
        column: String,
        tp: TopicPartition,
        offset: i64,
        length: usize,
        limit: usize,
    },
    #[error("rows could not be regrouped by partition")]
    Regroup(#[source] arrow::error::ArrowError),
}

impl Classified for LayoutError {
    fn class(&self) -> Class {
        match self {
            Self::Format { .. } | Self::ColumnType { .. } => class::INVALID_SPEC,
            Self::ValueTooLong { .. } => class::RECORD_REFUSED,
            Self::Regroup(_) => class::INTERNAL,
        }
    }
}
