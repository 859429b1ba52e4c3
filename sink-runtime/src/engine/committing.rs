//! One cut's way into the destination, as a task of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::coordinator::Settled;
use super::deliver::{Deliver, Failure, Job};
use super::identity::{self, Identity};
use super::{EngineError, RETRY};
use crate::deadletter::{DeadLetters, Letter};
use crate::errors::{Retry, class};
use crate::failpoint;
use crate::observe::{CommitOutcome, Progress};

/// What lies between a cut and its destination.
pub(super) struct Way<D> {
    pub(super) deliver: Arc<D>,
    pub(super) identity: Arc<Identity>,
    pub(super) letters: DeadLetters,
    pub(super) progress: Progress,
    /// In a row.
    pub(super) max_failures: u32,
}

/// First the topics' identity, then dead letters, then the commit; what may pass is tried again until it passes or the
/// failures in a row are too many.
pub(super) async fn commit<D: Deliver>(
    way: Way<D>,
    mut job: Job<D::File>,
    dead: Vec<Letter>,
    began: Instant,
) -> Result<Settled, EngineError> {
    let Way {
        deliver,
        identity,
        letters,
        progress,
        max_failures,
    } = way;
    let mut tries = 0;
    let mut undelivered = !dead.is_empty();
    loop {
        let attempt = async {
            if !job.lanes.is_empty() {
                let topics = job.lanes.iter().map(|lane| lane.tp.topic.clone());
                let ids = identity.ids(topics.collect()).await;
                identity::check(&mut job.lanes, &ids)
                    .map_err(|why| Failure::Reread { why, fenced: false })?;
            }
            if undelivered {
                let delivered = letters.deliver(&dead).await;
                progress.dead_letters(delivered.map_err(|error| Failure::of(&error))?);
                undelivered = false;
            }
            failpoint::pass("engine.letters-delivered");
            if job.lanes.is_empty() {
                return Ok(None);
            }
            deliver.commit(&mut job).await.map(Some)
        };
        let failure = match attempt.await {
            Ok(None) => return Ok(Settled::Committed(BTreeMap::new())),
            Ok(Some(landed)) => {
                let rows = job.lanes.iter().map(|lane| lane.rows).sum();
                progress.latency.observe(began.elapsed().as_secs_f64());
                let id = job.commit_id.to_string();
                tracing::debug!(commit = %id, rows, files = landed.files, "committed");
                progress.committed(id, landed.snapshot_id, rows, landed.files, landed.outcome);
                failpoint::pass("engine.committed");
                return Ok(Settled::Committed(landed.next));
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Reread { why, fenced } => {
                let outcome = if fenced {
                    CommitOutcome::Fenced
                } else {
                    CommitOutcome::Failed
                };
                tracing::warn!(%why, "what was written is dropped and read again");
                let class = if fenced {
                    class::FENCED
                } else {
                    class::FILES_LOST
                };
                progress.not_committed(outcome, class, why);
                deliver.abandon(job.files);
                return Ok(Settled::Reread);
            }
            Failure::Trouble { class, message } => {
                tracing::warn!(error = %message, advice = class.advice, "commit failed");
                let failures =
                    progress.not_committed(CommitOutcome::Failed, class, message.clone());
                if class.retry == Retry::Never || failures >= max_failures {
                    return Err(EngineError::Stopped { class, message });
                }
                tries += 1;
                RETRY.pause(tries).await;
            }
        }
    }
}
