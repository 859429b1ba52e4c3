//! The engine's parts for a dataset: each worker's shelf of open files, and commits through the dataset's ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::file::Whereabouts;
use super::coordinator::CutScope;
use super::deliver::{Deliver, Doubts, Facts, Failure, Job, Landed, Unsettled};
use crate::catalog::hive::Registrar;
use crate::commit::dataset::{CommitFailure, CommitRequest, DatasetCommitter, ResetRequest};
use crate::errors::{OneLine, Retry, class};
use crate::ledger::{
    CommitId, LedgerDocument, PendingFile, Progress as Known, Recorded, Resume, Said, SourceCheck,
    after_expiry, after_truncation, check_source, truncation,
};
use crate::observe::{CommitOutcome, Progress};
use crate::plan::{OnLogTruncated, OnRecordsExpired, OnSourceReset, Plan};
use crate::record::{Census, Offset, OffsetRange, TopicPartition};
use crate::store::upload::Uploader;

mod file;
mod shelf;

pub use self::file::DatasetFile;
pub use self::shelf::DatasetShelf;

/// Ledgers read at once after an assignment.
const LEDGERS_AT_ONCE: usize = 16;

/// Commits to a dataset, one ledger for each topic-partition.
#[derive(Debug)]
pub struct DatasetDeliver {
    committer: Arc<DatasetCommitter>,
    uploader: Uploader,
    progress: Progress,
    /// Told of what became visible, where a table shows the dataset.
    registrar: Option<Arc<Registrar>>,
    on_source_reset: OnSourceReset,
    on_records_expired: OnRecordsExpired,
    on_log_truncated: OnLogTruncated,
    cluster: parking_lot::Mutex<Option<String>>,
}

impl DatasetDeliver {
    pub fn new(
        plan: &Plan,
        committer: Arc<DatasetCommitter>,
        uploader: Uploader,
        progress: Progress,
        registrar: Option<Arc<Registrar>>,
    ) -> Self {
        Self {
            committer,
            uploader,
            progress,
            registrar,
            on_source_reset: plan.source.on_source_reset,
            on_records_expired: plan.source.on_records_expired,
            on_log_truncated: plan.source.on_log_truncated,
            cluster: parking_lot::Mutex::new(None),
        }
    }

    async fn recover_one(
        &self,
        tp: &TopicPartition,
        facts: &Facts,
        doubted: Option<&Said>,
    ) -> Result<Known, Failure> {
        let recovered = self.committer.open(tp).await.map_err(failure)?;
        if let Some(lost) = &recovered.lost {
            tracing::warn!(%tp, ?lost, "staged files of a commit had vanished; the range is read again");
        }
        let Some(document) = &recovered.document else {
            return Ok(Known::default());
        };
        // Whoever made them visible may have died before it told Glue.
        self.tell(recovered.completed.iter().chain(&document.pending));
        let mut topic_id = facts.topic_id.clone();
        let check = check_source(Recorded::from(document), &facts.origin());
        let recreated = matches!(check, SourceCheck::Recreated { .. });
        let mut expired = 0;
        let (resume, class, message) = match check {
            SourceCheck::Fine => {
                if document.topic_id.is_none() && topic_id.is_some() {
                    self.adopt(tp, document, facts).await?;
                }
                return Ok(Known {
                    next: recovered.next,
                    floor: Some(document.floor),
                    generation: document.generation,
                    last_read: document.last_read,
                    ..Known::default()
                });
            }
            SourceCheck::RecordsExpired { gap } => {
                let message = format!("{tp}: records {gap} expired before they were read");
                expired = (gap.end.0 - gap.start.0) as u64;
                (
                    after_expiry(self.on_records_expired, facts.log_start),
                    class::OFFSET_OUT_OF_RANGE,
                    message,
                )
            }
            SourceCheck::Truncated { end, next } => (
                after_truncation(self.on_log_truncated, end),
                class::LOG_TRUNCATED,
                format!("{tp}: {}", truncation(end, next, &facts.origin())),
            ),
            SourceCheck::Recreated { why } => {
                let message = format!("{tp}: the topic is not the one the ledger speaks of: {why}");
                topic_id = topic_id.filter(|_| why.knows_topic());
                (
                    why.resume(self.on_source_reset, facts.log_start),
                    class::SOURCE_RESET,
                    message,
                )
            }
        };
        let said = Said::from(document);
        if class != class::OFFSET_OUT_OF_RANGE && doubted != Some(&said) {
            return Err(Failure::Doubt {
                said: [(tp.clone(), said)].into(),
                class,
                message,
            });
        }
        let Resume::ResetTo(next) = resume else {
            return Err(Failure::Trouble { class, message });
        };
        tracing::warn!(%tp, %next, "{message}; the ledger starts anew");
        let request = ResetRequest {
            tp: tp.clone(),
            expected: said.next,
            generation: said.generation,
            next,
            recreated,
            commit_id: CommitId::fresh(),
            cluster_id: facts.cluster_id.clone(),
            topic_id,
        };
        self.committer.reset(request).await.map_err(failure)?;
        // Counted when the ledger has passed them: a look that fails is taken again.
        self.progress.expired(expired);
        Ok(Known {
            next: Some(next),
            floor: Some(next),
            generation: document.generation + 1,
            ..Known::default()
        })
    }

    fn tell<'a>(&self, visible: impl Iterator<Item = &'a PendingFile>) {
        if let Some(registrar) = &self.registrar {
            registrar.visible(visible.map(|file| file.key.as_str()));
        }
    }

    /// A ledger from before the topic's id was known takes it now, not when records come: what is recreated meanwhile
    /// would pass for the old.
    async fn adopt(
        &self,
        tp: &TopicPartition,
        document: &LedgerDocument,
        facts: &Facts,
    ) -> Result<(), Failure> {
        let at = document.next;
        let request = CommitRequest {
            expected: Some(at),
            generation: document.generation,
            floor: document.floor,
            ..mark(tp, at, facts)
        };
        self.committer.commit(request).await.map_err(failure)?;
        Ok(())
    }
}

/// Says how far was read, and of which topic.
fn mark(tp: &TopicPartition, at: Offset, facts: &Facts) -> CommitRequest {
    CommitRequest {
        tp: tp.clone(),
        expected: None,
        range: OffsetRange { start: at, end: at },
        generation: 0,
        floor: at,
        last_read: None,
        files: Vec::new(),
        commit_id: CommitId::fresh(),
        cluster_id: facts.cluster_id.clone(),
        topic_id: facts.topic_id.clone(),
    }
}

fn failure(error: CommitFailure) -> Failure {
    match &error {
        CommitFailure::Fenced { .. } | CommitFailure::Lost { .. } => Failure::reread(&error),
        _ => Failure::of(&error),
    }
}

#[async_trait]
impl Deliver for DatasetDeliver {
    type File = DatasetFile;

    fn scope(&self) -> CutScope {
        CutScope::Lane
    }

    async fn recover(
        &self,
        asked: &BTreeMap<TopicPartition, Facts>,
        doubted: &Doubts,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
        use futures::StreamExt;
        if let Some(facts) = asked.values().next() {
            self.cluster.lock().clone_from(&facts.cluster_id);
        }
        let mut open = Vec::with_capacity(asked.len());
        for (tp, facts) in asked {
            let recovered = self.recover_one(tp, facts, doubted.get(tp));
            open.push(async move { (tp.clone(), recovered.await) });
        }
        let mut opened = futures::stream::iter(open).buffer_unordered(LEDGERS_AT_ONCE);
        let (mut found, mut doubt) = (BTreeMap::new(), None);
        while let Some((tp, recovered)) = opened.next().await {
            match recovered {
                Ok(known) => drop(found.insert(tp, known)),
                // All that a look doubts is confirmed by the next.
                Err(Failure::Doubt {
                    said,
                    class,
                    message,
                }) => {
                    let first = || (Doubts::new(), class, message);
                    doubt.get_or_insert_with(first).0.extend(said);
                }
                Err(failure) => return Err(failure),
            }
        }
        match doubt {
            None => Ok(found),
            Some((said, class, message)) => Err(Failure::Doubt {
                said,
                class,
                message,
            }),
        }
    }

    async fn census(&self, now: &Census) -> Result<Census, Failure> {
        self.committer.census(now).await.map_err(failure)
    }

    async fn anchor(
        &self,
        tp: &TopicPartition,
        at: Offset,
        generation: u64,
        facts: &Facts,
    ) -> Result<bool, Failure> {
        let request = CommitRequest {
            generation,
            ..mark(tp, at, facts)
        };
        let marked = self.committer.commit(request).await;
        marked.map(|_| true).map_err(failure)
    }

    async fn commit(&self, job: &mut Job<DatasetFile>) -> Result<Landed, Failure> {
        let mut pending = Vec::with_capacity(job.files.len());
        for file in &mut job.files {
            pending.push(file.staged().await?);
        }
        let mut landed = Landed {
            outcome: CommitOutcome::Committed,
            next: BTreeMap::new(),
            snapshot_id: None,
            files: 0,
        };
        // Lanes of a dataset are cut one by one.
        for lane in &job.lanes {
            let request = CommitRequest {
                tp: lane.tp.clone(),
                expected: lane.expected,
                range: lane.range,
                generation: lane.generation,
                floor: lane.range.end,
                last_read: lane.last_read,
                files: std::mem::take(&mut pending),
                commit_id: job.commit_id,
                cluster_id: self.cluster.lock().clone(),
                topic_id: lane.topic_id.clone(),
            };
            landed.files += request.files.len() as u64;
            let committed = self.committer.commit(request).await.map_err(failure)?;
            if committed.already {
                landed.outcome = CommitOutcome::AlreadyCommitted;
            }
            self.tell(committed.files.iter().chain(&committed.recovered));
            landed.next.insert(lane.tp.clone(), committed.next);
        }
        for file in &mut job.files {
            file.bytes = Whereabouts::Gone;
        }
        Ok(landed)
    }

    fn abandon(&self, files: Vec<DatasetFile>) {
        for file in files {
            match file.bytes {
                Whereabouts::Staged(staged) => self.uploader.discard(staged),
                Whereabouts::Going(_) | Whereabouts::Gone => {}
            }
        }
    }

    async fn settle(&self, lanes: &[TopicPartition]) -> Unsettled {
        use futures::StreamExt;
        let mut settle = Vec::with_capacity(lanes.len());
        for tp in lanes {
            settle.push(async move { (tp.clone(), self.committer.settle(tp).await) });
        }
        let mut settled = futures::stream::iter(settle).buffer_unordered(LEDGERS_AT_ONCE);
        let mut unsettled = Unsettled::default();
        while let Some((tp, result)) = settled.next().await {
            let Err(error) = result else { continue };
            let why = OneLine(&error).to_string();
            match failure(error) {
                Failure::Trouble { class, .. } if class.retry != Retry::Never => {
                    tracing::debug!(%tp, error = why, "the ledger's pending list stays for now");
                    unsettled.later.push(tp);
                }
                _ => {
                    tracing::warn!(%tp, error = why, "the ledger is not as it was left");
                    unsettled.moved.push(tp);
                }
            }
        }
        unsettled
    }
}

#[cfg(test)]
mod tests;
