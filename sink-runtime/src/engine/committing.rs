//! One cut's way into the destination, as a task of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::coordinator::Settled;
use super::deliver::{Deliver, Failure, Job};
use super::identity::{self, Identity};
use super::{EngineError, RETRY};
use crate::deadletter::{DeadLetters, Letter};
use crate::errors::{Class, Retry, class};
use crate::failpoint;
use crate::observe::Progress;
use crate::record::TopicPartition;

/// What lies between a cut and its destination.
pub(super) struct Way<D> {
    pub(super) deliver: Arc<D>,
    pub(super) identity: Arc<Identity>,
    pub(super) letters: DeadLetters,
    pub(super) progress: Progress,
    /// In a row.
    pub(super) max_failures: u32,
    /// How often there is to be one; `None` where files last longer than any commit takes.
    pub(super) interval: Option<Duration>,
    /// What is given up after this commit.
    pub(super) settle: Vec<TopicPartition>,
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
        interval,
        settle,
    } = way;
    let tps: Vec<TopicPartition> = job.lanes.iter().map(|lane| lane.tp.clone()).collect();
    let mut tries = 0;
    let mut identified = job.lanes.is_empty();
    let mut undelivered = !dead.is_empty();
    loop {
        let attempt = async {
            // All was read before this. What the ledger may name by a later try stays, whatever becomes of the topic.
            if !identified {
                let topics = job.lanes.iter().map(|lane| lane.tp.topic.clone());
                let ids = identity.ids(topics.collect()).await;
                identity::check(&mut job.lanes, &ids).map_err(|why| Failure::Reread {
                    class: class::SOURCE_RESET,
                    why,
                })?;
                identified = true;
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
            Ok(None) => {
                deliver.settle(&settle).await;
                return Ok(Settled::Committed(BTreeMap::new()));
            }
            Ok(Some(landed)) => {
                let rows = job.lanes.iter().map(|lane| lane.rows).sum();
                let took = began.elapsed();
                progress.latency.observe(took.as_secs_f64());
                // What failed on the way says itself why it took long.
                if let Some(interval) = interval.filter(|_| tries == 0) {
                    progress.took(took, interval);
                }
                let id = job.commit_id.to_string();
                tracing::debug!(commit = %id, rows, files = landed.files, "committed");
                let (files, outcome) = (landed.files, landed.outcome);
                progress.committed(&tps, id, landed.snapshot_id, rows, files, outcome);
                failpoint::pass("engine.committed");
                deliver.settle(&settle).await;
                return Ok(Settled::Committed(landed.next));
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Reread { class, why } => {
                tracing::warn!(%why, "what was written is dropped and read again");
                let mut failures = 0;
                if class == class::FENCED {
                    progress.fenced(class, &why);
                } else {
                    failures = progress.commit_failed(&tps, class, &why);
                }
                deliver.abandon(job.files);
                // Written again and again, and never there: reading again mends nothing.
                if failures >= max_failures {
                    return Err(EngineError::Stopped {
                        class,
                        message: why,
                    });
                }
                return Ok(Settled::Reread);
            }
            // A commit doubts nothing.
            Failure::Trouble { class, message } | Failure::Doubt { class, message, .. } => {
                tracing::warn!(error = %message, advice = class.advice, "commit failed");
                let failures = progress.commit_failed(&tps, class, &message);
                tries += 1;
                if ends(class, failures, max_failures) {
                    return Err(EngineError::Stopped { class, message });
                }
                // Nobody waits for it any more. What the ledger may name of it stays; its new owner looks.
                if !progress.owns(|tp| tps.contains(tp)) {
                    return Ok(Settled::Failed);
                }
                RETRY.pause(tries).await;
            }
        }
    }
}

/// Whether failures in a row end the sink: at once what only a person can mend, never what waiting may.
pub(crate) fn ends(class: Class, failures: u32, max: u32) -> bool {
    match class.retry {
        Retry::Never => true,
        Retry::Backoff => false,
        // An answer that was lost is an outage, too.
        Retry::Reload => class != class::CATALOG_UNKNOWN && failures >= max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wait_may_mend_never_ends_a_sink_and_what_only_a_person_can_mend_does_at_once() {
        for class in class::ALL {
            let (first, fifth) = (ends(*class, 1, 5), ends(*class, 5, 5));
            let long = ends(*class, 100_000, 5);
            let expected = match class.retry {
                Retry::Never => (true, true, true),
                Retry::Backoff => (false, false, false),
                Retry::Reload if class.reason == "CommitStateUnknown" => (false, false, false),
                Retry::Reload => (false, true, true),
            };
            assert_eq!((first, fifth, long), expected, "{}", class.reason);
        }
    }
}
