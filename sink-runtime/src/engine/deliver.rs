//! What the engine asks of a destination: where its ledger stands, and to commit a cut. `dataset` and `table` answer.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::coordinator::CutScope;
use crate::errors::{Class, Classified, OneLine, Retry, class};
use crate::ledger::{CommitId, Origin, Progress as Known, Said};
use crate::observe::CommitOutcome;
use crate::record::{Census, LastRead, Offset, OffsetRange, TopicPartition};
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
    /// Log and ledger do not fit, which a look that asks Kafka anew has to confirm: what the ledger said of each.
    Doubt {
        said: Doubts,
        class: Class,
        message: String,
    },
}

/// What ledgers said that did not fit their logs.
pub type Doubts = BTreeMap<TopicPartition, Said>;

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
    /// are not read in one moment, and others may commit, or set the ledger back, in between: that they do not fit is a
    /// doubt, whatever the policies say, unless the ledger says what it said when it was `doubted`, before Kafka was asked.
    async fn recover(
        &self,
        asked: &BTreeMap<TopicPartition, Facts>,
        doubted: &Doubts,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure>;

    /// The topics as they were when the sink first started, which is what "the end" was said of: as written down then, or
    /// `now`, which is written down, where the destination does not know the sink. Empty where it knows the sink and
    /// nobody wrote anything down.
    async fn census(&self, now: &Census) -> Result<Census, Failure>;

    /// Writes a first ledger entry that holds nothing, so that a start "at the end" stays where it was chosen. False
    /// where there is nothing to write it into yet. `generation`: of the ledger, which may know the partition's past and no
    /// offset of it.
    async fn anchor(
        &self,
        tp: &TopicPartition,
        at: Offset,
        generation: u64,
        facts: &Facts,
    ) -> Result<bool, Failure>;

    /// Commits, with bounded tries of its own. The job stays usable after `Trouble` that may pass.
    async fn commit(&self, job: &mut Job<Self::File>) -> Result<Landed, Failure>;

    /// Gives up sealed files that will not be committed.
    fn abandon(&self, files: Vec<Self::File>);

    /// Nothing more is committed for these soon: what the ledger says of their last commit is brought to rest. Returns
    /// those for which it was not.
    async fn settle(&self, lanes: &[TopicPartition]) -> Unsettled;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;
    use crate::plan::{NoSecrets, Plan};

    /// A sink that goes on whatever became of its log.
    pub(in crate::engine) fn plan() -> Plan {
        let spec = "
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata: {name: orders}
spec:
  source: {bootstrapServers: 'kafka:9092', topics: [orders], onLogTruncated: Continue, onSourceReset: Restart}
  value: {schema: {fields: [{name: id, type: long}]}}
  destination: {local: {path: /tmp/orders}}
";
        Plan::from_yaml(spec, &NoSecrets).unwrap().remove(0)
    }

    /// How a log betrays that it lost what a ledger holds.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::engine) enum Held {
        ShorterLog,
        Cut,
        /// As the first, where no topic id is told: it may be another topic.
        ShorterLogOfUnknownTopic,
    }

    impl Held {
        pub(in crate::engine) const ALL: [Self; 3] =
            [Self::ShorterLog, Self::Cut, Self::ShorterLogOfUnknownTopic];

        pub(in crate::engine) fn resumed(self) -> Offset {
            match self {
                Self::ShorterLog | Self::Cut => Offset(100),
                Self::ShorterLogOfUnknownTopic => Offset(0),
            }
        }
    }

    /// What Kafka says of a log that was cut at 100.
    pub(in crate::engine) fn of_log(held: Held) -> BTreeMap<TopicPartition, Facts> {
        let known = !matches!(held, Held::ShorterLogOfUnknownTopic);
        let grown = matches!(held, Held::Cut);
        let facts = Facts {
            cluster_id: Some("c".to_owned()),
            topic_id: known.then(|| "o1".to_owned()),
            log_start: Offset(0),
            log_end: Offset(if grown { 160 } else { 100 }),
            leader_epoch: None,
            cut: grown.then_some(Offset(100)),
        };
        [(TopicPartition::new("orders", 0), facts)].into()
    }

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
