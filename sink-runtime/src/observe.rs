//! What the outside sees of a running sink: metrics, status, health and logs. The engine writes into [`Progress`];
//! `http` serves it. No record contents and no secrets pass here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use crate::budget::Budget;
use crate::engine::worker::Counters;
use crate::errors::Class;
use crate::record::{Offset, TopicPartition};

mod extent;
pub mod http;
pub mod logs;
pub mod metrics;
mod table;

pub use extent::Extent;
pub use table::TableProgress;

/// How a commit ended, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed,
    AlreadyCommitted,
    Fenced,
    Failed,
}

impl CommitOutcome {
    pub const ALL: [Self; 4] = [
        Self::Committed,
        Self::AlreadyCommitted,
        Self::Fenced,
        Self::Failed,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::AlreadyCommitted => "already_committed",
            Self::Fenced => "fenced",
            Self::Failed => "failed",
        }
    }
}

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
}

impl PartitionProgress {
    /// Records not yet in the destination; `None` when unknown.
    pub fn lag(&self) -> Option<i64> {
        let end = self.end?.0;
        let from = match (self.committed, self.start) {
            (Some(committed), Some(start)) => committed.0.max(start.0),
            (Some(committed), None) => committed.0,
            (None, Some(start)) => start.0,
            (None, None) => return None,
        };
        Some((end - from).max(0))
    }
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitProgress {
    pub last_commit_id: Option<String>,
    /// RFC 3339.
    pub last_commit_time: Option<String>,
    pub snapshot_id: Option<i64>,
    pub commits: u64,
    pub committed_rows: u64,
    pub committed_files: u64,
    pub files_in_flight: u64,
    pub consecutive_failures: u32,
    pub last_error: Option<String>,
    /// Its reason in the table of errors.
    pub last_error_reason: Option<&'static str>,
    pub outcomes: BTreeMap<&'static str, u64>,
}

/// A sink that stopped, as `/status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// What happened, and what to do.
    pub message: String,
    /// RFC 3339.
    pub since: String,
    /// Seconds from then until it is started again; absent when it is not.
    pub again_after: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    stopped: Option<Stop>,
    table: Option<TableProgress>,
    extent: Option<Extent>,
    partitions: BTreeMap<TopicPartition, PartitionProgress>,
    commit: CommitProgress,
    /// Last time the consumer thread was heard of, and last time a commit ended well or there was none to make.
    polled: Instant,
    settled: Instant,
    ready: bool,
    statistics: metrics::ClientStatistics,
    dead_letters: u64,
    gap_records: u64,
}

/// Shared state of one sink: written by the engine, read by HTTP, the terminal and the tests.
#[derive(Clone, Debug)]
pub struct Progress {
    pub sink: Arc<str>,
    pub counters: Arc<Counters>,
    pub budget: Budget,
    inner: Arc<Mutex<Inner>>,
    pub latency: prometheus::Histogram,
    stalled_after: Duration,
}

/// Over all owned partitions; unknown before there is any.
fn lag(partitions: &BTreeMap<TopicPartition, PartitionProgress>) -> Option<i64> {
    if partitions.is_empty() {
        return None;
    }
    partitions.values().map(PartitionProgress::lag).sum()
}

/// What `/status` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub sink: String,
    pub ready: bool,
    /// Absent while the sink runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stop>,
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
    pub rejected: BTreeMap<String, u64>,
    pub expired_records: u64,
    pub open_files: u64,
    pub memory_used: usize,
    pub memory_budget: usize,
}

impl Progress {
    /// `stalled_after`: how long commits may make no progress before the sink is called unhealthy.
    pub fn new(sink: &str, budget: Budget, stalled_after: Duration) -> Self {
        let now = Instant::now();
        Self {
            sink: sink.into(),
            counters: Arc::default(),
            budget,
            inner: Arc::new(Mutex::new(Inner {
                stopped: None,
                table: None,
                extent: None,
                partitions: BTreeMap::new(),
                commit: CommitProgress::default(),
                polled: now,
                settled: now,
                ready: false,
                statistics: metrics::ClientStatistics::default(),
                dead_letters: 0,
                gap_records: 0,
            })),
            latency: metrics::latency_histogram(sink),
            stalled_after,
        }
    }

    pub fn set_ready(&self) {
        self.inner.lock().ready = true;
    }

    /// The sink could not go on. It owns nothing any more.
    pub fn stopped(&self, message: String, again_after: Option<Duration>) {
        let mut inner = self.inner.lock();
        inner.stopped = Some(Stop {
            message,
            since: chrono::Utc::now().to_rfc3339(),
            again_after: again_after.map(|wait| wait.as_secs()),
        });
        inner.ready = false;
        inner.partitions.clear();
        inner.statistics = metrics::ClientStatistics::default();
        inner.commit.files_in_flight = 0;
        self.counters.open_files.store(0, Relaxed);
    }

    /// The sink is started, for the first time or again.
    pub fn started(&self) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        (inner.polled, inner.settled) = (now, now);
        inner.stopped = None;
        inner.commit.consecutive_failures = 0;
        self.counters.uncut_bytes.store(0, Relaxed);
        self.counters.uncut_records.store(0, Relaxed);
    }

    /// Why the sink does not run, if it stopped.
    pub fn why_stopped(&self) -> Option<String> {
        let inner = self.inner.lock();
        inner.stopped.as_ref().map(|stop| stop.message.clone())
    }

    pub fn polled(&self) {
        self.inner.lock().polled = Instant::now();
    }

    /// No commit is due or in flight: idleness is health.
    pub fn idle(&self) {
        self.inner.lock().settled = Instant::now();
    }

    pub fn owned(
        &self,
        tp: &TopicPartition,
        committed: Option<Offset>,
        watermarks: Option<(Offset, Offset)>,
    ) {
        let mut inner = self.inner.lock();
        let partition = inner.partitions.entry(tp.clone()).or_default();
        partition.committed = committed;
        if let Some((start, end)) = watermarks {
            partition.start = Some(start);
            partition.end = Some(end);
        }
    }

    /// The series of a partition that is not ours any more goes away.
    pub fn disowned(&self, tps: &[TopicPartition]) {
        let mut inner = self.inner.lock();
        for tp in tps {
            inner.partitions.remove(tp);
        }
    }

    pub fn statistics(&self, statistics: metrics::ClientStatistics) {
        let mut inner = self.inner.lock();
        for (tp, watermarks) in &statistics.watermarks {
            if let Some(partition) = inner.partitions.get_mut(tp) {
                partition.start = Some(watermarks.0);
                partition.end = Some(watermarks.1);
            }
        }
        for (tp, position) in &statistics.positions {
            if let Some(partition) = inner.partitions.get_mut(tp) {
                partition.position = Some(*position);
            }
        }
        inner.polled = Instant::now();
        inner.statistics = statistics;
    }

    pub fn filed(&self, files: u64) {
        self.inner.lock().commit.files_in_flight = files;
    }

    pub fn dead_letters(&self, letters: u64) {
        self.inner.lock().dead_letters += letters;
    }

    pub fn expired(&self, records: u64) {
        self.inner.lock().gap_records += records;
    }

    pub fn committed(
        &self,
        commit_id: String,
        snapshot_id: Option<i64>,
        rows: u64,
        files: u64,
        outcome: CommitOutcome,
    ) {
        let mut inner = self.inner.lock();
        inner.settled = Instant::now();
        let commit = &mut inner.commit;
        commit.last_commit_id = Some(commit_id);
        commit.last_commit_time =
            Some(chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).to_rfc3339());
        commit.snapshot_id = snapshot_id.or(commit.snapshot_id);
        commit.commits += 1;
        commit.committed_rows += rows;
        commit.committed_files += files;
        commit.consecutive_failures = 0;
        commit.last_error = None;
        commit.last_error_reason = None;
        *commit.outcomes.entry(outcome.label()).or_default() += 1;
    }

    pub fn next(&self, next: &BTreeMap<TopicPartition, Offset>) {
        let mut inner = self.inner.lock();
        for (tp, offset) in next {
            if let Some(partition) = inner.partitions.get_mut(tp) {
                partition.committed = Some(*offset);
            }
        }
    }

    /// The destination answers: earlier failures are over.
    pub fn reached(&self) {
        let mut inner = self.inner.lock();
        inner.commit.consecutive_failures = 0;
        inner.commit.last_error = None;
        inner.commit.last_error_reason = None;
    }

    /// Returns the failures in a row.
    pub fn not_committed(&self, outcome: CommitOutcome, class: Class, error: String) -> u32 {
        let mut inner = self.inner.lock();
        let commit = &mut inner.commit;
        *commit.outcomes.entry(outcome.label()).or_default() += 1;
        commit.last_error = Some(error);
        commit.last_error_reason = Some(class.reason);
        if outcome == CommitOutcome::Failed {
            commit.consecutive_failures += 1;
        }
        commit.consecutive_failures
    }

    /// What is in the way of a step that is being tried again; nothing has failed yet.
    pub fn hindered(&self, class: Class, why: String) {
        let mut inner = self.inner.lock();
        inner.commit.last_error = Some(why);
        inner.commit.last_error_reason = Some(class.reason);
    }

    /// Whether a partition that this holds of is ours.
    pub fn owns(&self, holds: impl Fn(&TopicPartition) -> bool) -> bool {
        self.inner.lock().partitions.keys().any(holds)
    }

    pub fn snapshot(&self) -> Snapshot {
        let inner = self.inner.lock();
        let counters = &self.counters;
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
            partitions: inner
                .partitions
                .iter()
                .map(|(tp, p)| (tp.to_string(), p.clone()))
                .collect(),
            lag_records: lag(&inner.partitions),
            commit: inner.commit.clone(),
            table: inner.table.clone(),
            metadata: inner.extent,
            records: counters.records.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            rows: counters.rows.load(Relaxed),
            dead_letters: inner.dead_letters,
            rejected,
            expired_records: inner.gap_records,
            open_files: counters.open_files.load(Relaxed),
            memory_used: self.budget.used(),
            memory_budget: self.budget.total(),
        }
    }

    /// Why the sink is not alive, if so: the consumer thread is silent, or commits make no progress. One that stopped
    /// and is started again in time is none of these: a restart of the process would do no more for it.
    pub fn unhealthy(&self) -> Option<String> {
        let inner = self.inner.lock();
        if inner.stopped.is_some() {
            return None;
        }
        let silent = inner.polled.elapsed();
        if silent > self.stalled_after {
            return Some(format!(
                "the consumer has not been polled for {} s",
                silent.as_secs()
            ));
        }
        let stalled = inner.settled.elapsed();
        if stalled > self.stalled_after {
            let error = inner
                .commit
                .last_error
                .as_deref()
                .unwrap_or("no error so far");
            return Some(format!("no commit for {} s: {error}", stalled.as_secs()));
        }
        None
    }

    pub fn ready(&self) -> bool {
        self.inner.lock().ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_stopped_says_why_owns_nothing_and_costs_the_process_no_restart() {
        let progress = Progress::new("default.orders", Budget::new(1), Duration::ZERO);
        progress.started();
        progress.set_ready();
        let tp = TopicPartition::new("orders", 0);
        progress.owned(&tp, Some(Offset(7)), Some((Offset(0), Offset(10))));
        assert!(progress.unhealthy().is_some(), "nothing was heard of it");

        let again = Duration::from_secs(10);
        progress.stopped("the bucket is gone".to_owned(), Some(again));
        let status = progress.snapshot();
        let stop = status.stopped.as_ref();
        let said = stop.map(|stop| (stop.message.as_str(), stop.again_after));
        assert_eq!(said, Some(("the bucket is gone", Some(10))));
        assert!(!status.ready && status.partitions.is_empty());
        assert_eq!(status.lag_records, None);
        assert_eq!(progress.unhealthy(), None);

        progress.started();
        assert_eq!(progress.snapshot().stopped, None);
    }
}
