//! What the outside sees of a running sink: metrics, status, health and logs. The engine writes into [`Progress`];
//! `http` serves it. No record contents and no secrets pass here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use crate::budget::Budget;
use crate::deadletter::Delivered;
use crate::engine::worker::Counters;
use crate::errors::Class;
use crate::record::{Offset, TopicPartition};

mod extent;
mod health;
pub mod http;
pub mod logs;
pub mod metrics;
mod table;
mod trouble;

use extent::Slow;

pub use extent::Extent;
use health::{Ailment, Health};
pub use table::TableProgress;
use trouble::Troubles;

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
    /// Where reading began, where the destination knew nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    began: Option<Offset>,
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
    slow: Slow,
    partitions: BTreeMap<TopicPartition, PartitionProgress>,
    commit: CommitProgress,
    troubles: Troubles,
    health: Health,
    /// Partitions are assigned, and none could be started yet.
    starting: bool,
    ready: bool,
    statistics: metrics::ClientStatistics,
    dead_letters: Delivered,
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

impl Inner {
    /// After whatever changes lag.
    fn look_at_lag(&mut self) {
        let behind = |partition: &PartitionProgress| partition.lag().is_some_and(|lag| lag > 0);
        let work = self.starting || self.partitions.values().any(behind);
        self.health.waits(work, Instant::now());
    }

    /// After whatever changes troubles.
    fn look_at_troubles(&mut self) {
        self.commit.consecutive_failures = self.troubles.failures();
        let latest = self.troubles.latest();
        self.commit.last_error_reason = latest.map(|(reason, _)| reason);
        self.commit.last_error = latest.map(|(_, message)| message.to_owned());
    }
}

/// Over all owned partitions; unknown before there is any.
fn lag(partitions: &BTreeMap<TopicPartition, PartitionProgress>) -> Option<i64> {
    if partitions.is_empty() {
        return None;
    }
    partitions.values().map(PartitionProgress::lag).sum()
}

fn first_waiting(
    partitions: &BTreeMap<TopicPartition, PartitionProgress>,
) -> Option<(&TopicPartition, &Waits)> {
    let mut each = partitions.iter();
    each.find_map(|(tp, partition)| Some((tp, partition.waits.as_ref()?)))
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
    pub dead_letters_cut: u64,
    pub dead_letters_lost: u64,
    pub rejected: BTreeMap<String, u64>,
    pub expired_records: u64,
    pub open_files: u64,
    pub memory_used: usize,
    pub memory_budget: usize,
}

impl Progress {
    /// `stalled_after`: how long records may wait while nothing moves before the sink is called unhealthy.
    pub fn new(sink: &str, budget: Budget, stalled_after: Duration) -> Self {
        Self {
            sink: sink.into(),
            counters: Arc::default(),
            budget,
            inner: Arc::new(Mutex::new(Inner {
                stopped: None,
                table: None,
                extent: None,
                slow: Slow::default(),
                partitions: BTreeMap::new(),
                commit: CommitProgress::default(),
                troubles: Troubles::default(),
                health: Health::new(Instant::now()),
                starting: false,
                ready: false,
                statistics: metrics::ClientStatistics::default(),
                dead_letters: Delivered::default(),
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
        inner.starting = false;
        inner.statistics = metrics::ClientStatistics::default();
        inner.commit.files_in_flight = 0;
        self.counters.open_files.store(0, Relaxed);
    }

    /// The sink is started, for the first time or again.
    pub fn started(&self) {
        let mut inner = self.inner.lock();
        inner.health = Health::new(Instant::now());
        inner.stopped = None;
        inner.troubles = Troubles::default();
        inner.look_at_troubles();
        self.counters.uncut_bytes.store(0, Relaxed);
        self.counters.uncut_records.store(0, Relaxed);
    }

    /// Why the sink does not run, if it stopped.
    pub fn why_stopped(&self) -> Option<String> {
        let inner = self.inner.lock();
        inner.stopped.as_ref().map(|stop| stop.message.clone())
    }

    pub fn polled(&self) {
        self.inner.lock().health.polled(Instant::now());
    }

    /// Whether partitions are assigned and none of them could be started yet.
    pub fn starting(&self, none_runs: bool) {
        let mut inner = self.inner.lock();
        if inner.starting != none_runs {
            inner.starting = none_runs;
            inner.look_at_lag();
        }
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
        partition.waits = None;
        if let Some((start, end)) = watermarks {
            partition.start = Some(start);
            partition.end = Some(end);
        }
        inner.look_at_lag();
    }

    /// Where an owned partition is read from.
    pub fn begins(&self, tp: &TopicPartition, at: Offset) {
        let mut inner = self.inner.lock();
        if let Some(partition) = inner.partitions.get_mut(tp) {
            partition.began = Some(at);
        }
        inner.look_at_lag();
    }

    /// The partition is ours, and the brokers do not say where it stands.
    pub fn waits(&self, tp: &TopicPartition, class: Class, why: String) {
        let mut inner = self.inner.lock();
        let partition = inner.partitions.entry(tp.clone()).or_default();
        // What was known of its log is not known any more.
        *partition = PartitionProgress {
            waits: Some(Waits {
                reason: class.reason,
                message: why,
            }),
            ..PartitionProgress::default()
        };
    }

    /// The series of a partition that is not ours any more goes away.
    pub fn disowned(&self, tps: &[TopicPartition]) {
        let mut inner = self.inner.lock();
        for tp in tps {
            inner.partitions.remove(tp);
        }
        inner.troubles.forget(tps);
        inner.look_at_troubles();
        inner.look_at_lag();
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
        inner.health.polled(Instant::now());
        inner.look_at_lag();
        inner.statistics = statistics;
    }

    pub fn filed(&self, files: u64) {
        self.inner.lock().commit.files_in_flight = files;
    }

    /// Says so where some went without their value.
    pub fn dead_letters(&self, delivered: Delivered) {
        if delivered.cut > 0 {
            tracing::warn!(
                letters = delivered.cut,
                "the dead-letter topic refused letters for their size: they went without the record's value"
            );
        }
        self.inner.lock().dead_letters += delivered;
    }

    pub fn expired(&self, records: u64) {
        self.inner.lock().gap_records += records;
    }

    pub fn committed(
        &self,
        lanes: &[TopicPartition],
        commit_id: String,
        snapshot_id: Option<i64>,
        rows: u64,
        files: u64,
        outcome: CommitOutcome,
    ) {
        let mut inner = self.inner.lock();
        inner.health.moved(Instant::now());
        inner.troubles.committed(lanes);
        inner.look_at_troubles();
        let commit = &mut inner.commit;
        commit.last_commit_id = Some(commit_id);
        commit.last_commit_time =
            Some(chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).to_rfc3339());
        commit.snapshot_id = snapshot_id.or(commit.snapshot_id);
        commit.commits += 1;
        commit.committed_rows += rows;
        commit.committed_files += files;
        *commit.outcomes.entry(outcome.label()).or_default() += 1;
    }

    pub fn next(&self, next: &BTreeMap<TopicPartition, Offset>) {
        let mut inner = self.inner.lock();
        for (tp, offset) in next {
            if let Some(partition) = inner.partitions.get_mut(tp) {
                partition.committed = Some(*offset);
            }
        }
        inner.health.moved(Instant::now());
        inner.look_at_lag();
    }

    /// The destination answers: what kept it from being opened is over. What commits met is not.
    pub fn reached(&self) {
        let mut inner = self.inner.lock();
        inner.troubles.opened();
        inner.look_at_troubles();
    }

    /// The destination cannot be opened, or partitions cannot be recovered. Returns the failures in a row.
    pub fn not_committed(&self, outcome: CommitOutcome, class: Class, error: String) -> u32 {
        let mut inner = self.inner.lock();
        *inner.commit.outcomes.entry(outcome.label()).or_default() += 1;
        let failures = inner.troubles.not_opened(class, &error);
        inner.look_at_troubles();
        failures
    }

    /// A commit of these lanes failed. Returns the failures in a row, of the lane that has most; 0 when none of them is
    /// ours any more.
    pub fn commit_failed(&self, lanes: &[TopicPartition], class: Class, error: &str) -> u32 {
        let mut inner = self.inner.lock();
        let failed = CommitOutcome::Failed.label();
        *inner.commit.outcomes.entry(failed).or_default() += 1;
        let Inner {
            troubles,
            partitions,
            ..
        } = &mut *inner;
        let ours = lanes.iter().filter(|lane| partitions.contains_key(lane));
        let failures = troubles.not_committed(ours, class, error);
        inner.look_at_troubles();
        failures
    }

    /// Another owner went on; the recovery that follows mends it.
    pub fn fenced(&self, class: Class, why: &str) {
        let mut inner = self.inner.lock();
        let fenced = CommitOutcome::Fenced.label();
        *inner.commit.outcomes.entry(fenced).or_default() += 1;
        inner.troubles.hindered(class, why);
        inner.look_at_troubles();
    }

    /// What is in the way of a step that is being tried again; nothing has failed yet.
    pub fn hindered(&self, class: Class, why: String) {
        let mut inner = self.inner.lock();
        inner.troubles.hindered(class, &why);
        inner.look_at_troubles();
    }

    /// Whether a partition that this holds of is ours.
    pub fn owns(&self, holds: impl Fn(&TopicPartition) -> bool) -> bool {
        self.inner.lock().partitions.keys().any(holds)
    }

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

    /// Why the sink is not alive, if so: the consumer thread is silent, or records wait and nothing moves. One that
    /// stopped and is started again in time is none of these: a restart of the process would do no more for it.
    pub fn unhealthy(&self) -> Option<String> {
        let inner = self.inner.lock();
        if inner.stopped.is_some() {
            return None;
        }
        let ailment = inner.health.ailment(Instant::now(), self.stalled_after)?;
        let error = inner.commit.last_error.as_deref();
        let error = error.unwrap_or("no error so far");
        Some(match ailment {
            Ailment::Silent(time) if !inner.ready => {
                format!("not open for {} s: {error}", time.as_secs())
            }
            Ailment::Silent(time) => {
                format!("the consumer has not been polled for {} s", time.as_secs())
            }
            Ailment::Stuck(time) => format!(
                "records wait, and nothing has moved for {} s: {error}",
                time.as_secs()
            ),
        })
    }

    pub fn ready(&self) -> bool {
        self.inner.lock().ready
    }
}

#[cfg(test)]
mod tests;
