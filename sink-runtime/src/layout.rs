//! Which file a row belongs to: splits decoded batches by partition. Per record, never per batch. Pure.
//! `hive` gives directory paths for datasets, `iceberg` partition tuples for tables.
//!
//! A row that has no place is given back with the reason, and the others are split without it: one record never costs
//! another its place. Whether rows have one is decided per distinct value and per slice.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use crate::decode::RejectClass;
use crate::errors::{Class, Classified, class};
use crate::record::TopicPartition;

mod grouping;
pub mod hive;
pub mod iceberg;

pub use hive::HiveSplitter;

/// Bytes of one name in a path: what file systems take.
pub const NAME_LIMIT: usize = 255;
/// Bytes of an object's key: what S3 takes.
pub const KEY_LIMIT: usize = 1024;

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

impl Rows {
    /// The others.
    ///
    /// # Errors
    /// When Arrow cannot filter a column.
    pub fn without(&self, unfit: &[Unfit]) -> Result<Self, ArrowError> {
        let mut fits = vec![true; self.offsets.len()];
        for unfit in unfit {
            fits[unfit.row] = false;
        }
        let pick = |from: &[i64]| {
            let rows = from.iter().zip(&fits).filter(|(_, fits)| **fits);
            rows.map(|(value, _)| *value).collect()
        };
        Ok(Self {
            tp: self.tp.clone(),
            offsets: pick(&self.offsets),
            timestamps: pick(&self.timestamps),
            batch: filter_record_batch(&self.batch, &BooleanArray::from(fits))?,
        })
    }
}

/// A row without a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Among the rows that were to be split.
    pub row: usize,
    pub why: Arc<Refusal>,
}

/// Why a value has no place. The message names the column and what to do, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub class: RejectClass,
    pub message: String,
}

/// What a batch was split into: each row is in one slice, or unfit.
#[derive(Clone, Debug)]
pub struct Split<K> {
    pub slices: Vec<Slice<K>>,
    /// Ascending by row.
    pub unfit: Vec<Unfit>,
}

impl<K> From<Vec<Slice<K>>> for Split<K> {
    fn from(slices: Vec<Slice<K>>) -> Self {
        Self {
            slices,
            unfit: Vec::new(),
        }
    }
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
    #[error("rows could not be regrouped by partition")]
    Regroup(#[source] ArrowError),
}

impl Classified for LayoutError {
    fn class(&self) -> Class {
        match self {
            Self::Format { .. } => class::INVALID_SPEC,
            Self::Regroup(_) => class::INTERNAL,
        }
    }
}
