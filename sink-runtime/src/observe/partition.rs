//! How far the sink is in each topic-partition that it owns.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::{Offset, TopicPartition};

/// One owned topic-partition, as `/status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionProgress {
    /// The ledger's `next`.
    pub committed: Option<Offset>,
    /// The log's end, where known.
    pub end: Option<Offset>,
    /// The log's start, where known.
    pub start: Option<Offset>,
    /// What is read next, where anything was read.
    pub position: Option<Offset>,
    /// Where reading began, where the destination knew nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) began: Option<Offset>,
    /// Absent where it is known where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
}

/// Why a partition is not read yet: the brokers do not say enough of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// As in the table of errors.
    pub reason: &'static str,
    pub message: String,
}

impl PartitionProgress {
    /// Records not yet in the destination; `None` when unknown.
    pub fn lag(&self) -> Option<i64> {
        let end = self.end?.0;
        let from = match (self.committed.or(self.began), self.start) {
            (Some(committed), Some(start)) => committed.0.max(start.0),
            (Some(committed), None) => committed.0,
            (None, Some(start)) => start.0,
            (None, None) => return None,
        };
        Some((end - from).max(0))
    }
}

/// Over all owned partitions; unknown before there is any.
pub(super) fn lag(partitions: &BTreeMap<TopicPartition, PartitionProgress>) -> Option<i64> {
    if partitions.is_empty() {
        return None;
    }
    partitions.values().map(PartitionProgress::lag).sum()
}

pub(super) fn first_waiting(
    partitions: &BTreeMap<TopicPartition, PartitionProgress>,
) -> Option<(&TopicPartition, &Waits)> {
    let mut each = partitions.iter();
    each.find_map(|(tp, partition)| Some((tp, partition.waits.as_ref()?)))
}
