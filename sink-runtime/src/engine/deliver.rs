//! What the engine asks of a destination: where its ledger stands, and to commit a cut. `dataset` and `table` answer.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::coordinator::CutScope;
use crate::errors::{Class, Classified, OneLine, Retry, class};
use crate::ledger::{CommitId, Origin, Progress as Known};
use crate::observe::CommitOutcome;
use crate::record::{LastRead, Offset, OffsetRange, TopicName, TopicPartition};
use crate::store::upload::NotStaged;

/// What Kafka says of a topic-partition now.
#[derive(Clone, Debug)]
pub struct Facts {
    pub cluster_id: Option<String>,
    /// `None` where the brokers do not tell.
    pub topic_id: Option<String>,
    pub log_start: Offset,
    /// The high watermark: records of open transactions are below it.
    pub log_end: Offset,
    /// The latest in the log, where the brokers tell.
    pub leader_epoch: Option<i32>,
    /// Where the log was cut below what the destination holds, however far it has grown since.
    pub cut: Option<Offset>,
}

/// Topics by their number of partitions.
pub type Census = BTreeMap<TopicName, i32>;

impl Facts {
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            cluster_id: self.cluster_id.as_deref(),
            topic_id: self.topic_id.as_deref(),
            log_start: self.log_start,
            log_end: self.log_end,
            cut: self.cut,
        }
    }
}

/// One lane of a cut.
#[derive(Clone, Debug)]
pub struct JobLane {
    pub tp: TopicPartition,
    pub expected: Option<Offset>,
    pub range: OffsetRange,
    pub rows: u64,
    pub last_read: Option<LastRead>,
    /// Of the topic that the records came from, if known.
    pub topic_id: Option<String>,
    /// Of the ledger as it was recovered before the first of the records was read.
    pub generation: u64,
}

/// A cut to be committed.
#[derive(Debug)]
pub struct Job<F> {
    pub commit_id: CommitId,
    /// Never empty ranges.
    pub lanes: Vec<JobLane>,
    pub files: Vec<F>,
}

/// A commit that is durable and visible.
#[derive(Clone, Debug)]
pub struct Landed {
    pub outcome: CommitOutcome,
    pub next: BTreeMap<TopicPartition, Offset>,
    pub snapshot_id: Option<i64>,
    pub files: u64,
}

/// Why a destination did not do as asked.
#[derive(Clone, Debug)]
pub enum Failure {
    /// What was written is of no use (fenced, staged data gone, schema moved): ask the ledger, read again.
    Reread { class: Class, why: String },
    /// As the class says: again later, or never.
    Trouble { class: Class, message: String },
}

impl Failure {
    pub fn of(error: &(impl Classified + 'static)) -> Self {
        Self::Trouble {
            class: error.class(),
            message: OneLine(error).to_string(),
        }
    }

    /// What was written is dropped, for this reason.
    pub fn reread(error: &(impl Classified + 'static)) -> Self {
        Self::Reread {
            class: error.class(),
            why: OneLine(error).to_string(),
        }
    }

    /// The files of a commit are not all there any more.
    pub fn lost(why: String) -> Self {
        Self::Reread {
            class: class::FILES_LOST,
            why,
        }
    }

    /// An upload is as lost as the store says: what may pass is waited for, a vanished one is written again, and of
    /// anything else the reason is the store's.
    pub fn of_upload(what: &impl std::fmt::Display, error: &NotStaged) -> Self {
        let class = error.class();
        let message = format!("{what}: {error}");
        match class.retry {
            Retry::Reload => Self::Reread {
                class,
                why: message,
            },
            Retry::Backoff | Retry::Never => Self::Trouble { class, message },
        }
    }
}

/// Lanes whose last commit could not be brought to rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// To be tried again.
    pub later: Vec<TopicPartition>,
    /// The ledger is not as it was left, or not to be used: it has to be opened again.
    pub moved: Vec<TopicPartition>,
}

#[async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// A sealed file, its bytes on their way.
    type File: Send + std::fmt::Debug + 'static;

    fn scope(&self) -> CutScope;

    /// What the ledger says of each, interrupted commits finished first and the reset policies applied. Log and ledger
    /// are not read in one moment, and a commit on its way out may come between: that they do not fit is an error, whatever
    /// the policies say, unless `confirmed` by an earlier look.
    async fn recover(
        &self,
        asked: &BTreeMap<TopicPartition, Facts>,
        confirmed: bool,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure>;

    /// The topics as they were when the sink first started, which is what "the end" was said of: as written down then, or
    /// `now`, which is written down, where the destination does not know the sink. Empty where it knows the sink and
    /// nobody wrote anything down.
    async fn census(&self, now: &Census) -> Result<Census, Failure>;

    /// Writes a first ledger entry that holds nothing, so that a start "at the end" stays where it was chosen. False
    /// where there is nothing to write it into yet.
    async fn anchor(&self, tp: &TopicPartition, at: Offset, facts: &Facts)
    -> Result<bool, Failure>;

    /// Commits, with bounded tries of its own. The job stays usable after `Trouble` that may pass.
    async fn commit(&self, job: &mut Job<Self::File>) -> Result<Landed, Failure>;

    /// Gives up sealed files that will not be committed.
    fn abandon(&self, files: Vec<Self::File>);

    /// Nothing more is committed for these soon: what the ledger says of their last commit is brought to rest. Returns
    /// those for which it was not.
    async fn settle(&self, lanes: &[TopicPartition]) -> Unsettled;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uploads_failure_is_what_the_store_said() {
        let of = |class| {
            let why = "put part".to_owned();
            Failure::of_upload(&"upload", &NotStaged::Failed { class, why })
        };
        for class in [class::STORE_DENIED, class::STORE_MISSING] {
            let failure = of(class);
            let own = matches!(&failure, Failure::Trouble { class: found, .. } if *found == class);
            assert!(own, "{failure:?}");
        }
        let lost = of(class::FILES_LOST);
        assert!(matches!(lost, Failure::Reread { .. }), "{lost:?}");
        // What is tried on leaves the job as it is.
        let (class, why) = (class::STORE_UNAVAILABLE, "busy".to_owned());
        let busy = Failure::of_upload(&"upload", &NotStaged::Yet { class, why });
        assert!(matches!(busy, Failure::Trouble { .. }), "{busy:?}");
    }
}
