//! All that is known of a sink at one moment.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::partition::{first_waiting, lag};
use super::{CommitProgress, Extent, PartitionProgress, Progress, Stop, TableProgress};

/// What `/status` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub sink: String,
    pub ready: bool,
    /// Absent while the sink runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stop>,
    /// Whether the consumer is connected to any broker. Absent until it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brokers_connected: Option<bool>,
    pub partitions: BTreeMap<String, PartitionProgress>,
    /// Absent while unknown for any partition.
    pub lag_records: Option<i64>,
    pub commit: CommitProgress,
    /// Absent where no table in Glue is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableProgress>,
    /// Absent for datasets, and before the first commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Extent>,
    pub records: u64,
    pub bytes: u64,
    pub rows: u64,
    pub dead_letters: u64,
    pub dead_letters_cut: u64,
    pub dead_letters_lost: u64,
    pub rejected: BTreeMap<String, u64>,
    pub expired_records: u64,
    pub open_files: u64,
    pub memory_used: usize,
    pub memory_budget: usize,
}

impl Progress {
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.inner.lock();
        let counters = &self.counters;
        let mut commit = inner.commit.clone();
        if commit.last_error.is_none()
            && let Some((tp, waits)) = first_waiting(&inner.partitions)
        {
            commit.last_error = Some(format!("{tp} waits: {}", waits.message));
            commit.last_error_reason = Some(waits.reason);
        }
        let rejected = crate::decode::RejectClass::ALL
            .iter()
            .map(|class| {
                (
                    format!("{class:?}"),
                    counters.rejected[*class as usize].load(Relaxed),
                )
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        Snapshot {
            sink: self.sink.to_string(),
            ready: inner.ready,
            stopped: inner.stopped.clone(),
            brokers_connected: inner.statistics.connected,
            partitions: inner
                .partitions
                .iter()
                .map(|(tp, p)| (tp.to_string(), p.clone()))
                .collect(),
            lag_records: lag(&inner.partitions),
            commit,
            table: inner.table.clone(),
            metadata: inner.extent,
            records: counters.records.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            rows: counters.rows.load(Relaxed),
            dead_letters: inner.dead_letters.letters,
            dead_letters_cut: inner.dead_letters.cut,
            dead_letters_lost: inner.dead_letters.lost,
            rejected,
            expired_records: inner.gap_records,
            open_files: counters.open_files.load(Relaxed),
            memory_used: self.budget.used(),
            memory_budget: self.budget.total(),
        }
    }
}
