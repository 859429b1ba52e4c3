//! Which file a row belongs to: splits decoded batches by partition. Per record, never per batch. Pure.
//! `hive` gives directory paths for datasets, `iceberg` partition tuples for tables.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::record::TopicPartition;

pub mod iceberg;

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
