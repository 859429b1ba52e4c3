//! Commits to an S3-style dataset: drives the ledger machine against a [`Store`]. Reads the clock for the ledger's
//! human-readable stamp only; sleeps between retries.
//!
//! Safe to cancel anywhere: a commit whose future is dropped midway is found, and finished or fenced, by the next call.
//! What is remembered of a ledger is given away when a call begins and taken back when it ended well, so that no call
//! ever builds on a half-done one. A steady commit is one conditional put and the completions, no read.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::commit::backoff::{BackoffPolicy, Pacer};
use crate::errors::{Classified, OneLine, Retry};
use crate::failpoint;
use crate::ledger::machine::{
    Event, Intent, Machine, Outcome, Problem, Proposal, Purpose, Restart, Seen, Step,
};
use crate::ledger::{LedgerDocument, PendingFile, Stamp};
use crate::record::{OffsetRange, TopicPartition};
use crate::store::{Completed, Expect, ObjectKey, Store, StoreError, Version};

mod by_hand;
mod census;
mod name;
mod request;
mod sweep;

pub use by_hand::ledgers;
pub use name::DatasetFileName;
use request::check;
pub use request::{CommitFailure, CommitRequest, Committed, Recovered, ResetRequest};
pub use sweep::Swept;

/// Files of one commit that are completed (or removed) at the same time.
const FILES_AT_ONCE: usize = 8;

/// The ledger of an opened topic-partition.
#[derive(Clone, Debug)]
struct Known {
    /// `Unknown` while a call is under way and after one that failed.
    seen: Seen,
    /// The newest revision that was ever seen of it.
    revision: u64,
    generation: u64,
    /// Which opening this is of: a call that outlives it has nothing to remember.
    opening: u64,
}

/// Commits of one sink to one dataset. One call per topic-partition at a time is the intended use; more are safe and
/// fence each other.
#[derive(Debug)]
pub struct DatasetCommitter {
    store: Arc<dyn Store>,
    sink: String,
    writer: String,
    policy: BackoffPolicy,
    known: Mutex<BTreeMap<TopicPartition, Known>>,
    openings: AtomicU64,
}

impl DatasetCommitter {
    /// `writer`: host name and process id, for people who read ledgers.
    pub fn new(
        store: Arc<dyn Store>,
        sink: impl Into<String>,
        writer: impl Into<String>,
        policy: BackoffPolicy,
    ) -> Self {
        Self {
            store,
            sink: sink.into(),
            writer: writer.into(),
            policy,
            known: Mutex::new(BTreeMap::new()),
            openings: AtomicU64::new(0),
        }
    }

    /// Loads the ledger and finishes whatever its last owner left: on assignment, and after every failure that is not
    /// retried.
    pub async fn open(&self, tp: &TopicPartition) -> Result<Recovered, CommitFailure> {
        self.forget(tp);
        let mut machine = self.machine(tp, Seen::Unknown, 0, Intent::Open);
        match self.drive(&mut machine).await? {
            Outcome::Whole => {}
            other => return Err(failure(other, &mut machine, None)),
        }
        let (completed, lost) = (machine.completed().to_vec(), machine.lost().cloned());
        let seen = machine.into_seen();
        let document = document_of(&seen).cloned();
        let generation = document.as_ref().map_or(0, |d| d.generation);
        let known = Known {
            seen,
            revision: document.as_ref().map_or(0, |d| d.revision),
            generation,
            opening: self.openings.fetch_add(1, Ordering::Relaxed),
        };
        self.known.lock().insert(tp.clone(), known);
        Ok(Recovered {
            next: document.as_ref().map(|d| d.next),
            document,
            completed,
            lost,
        })
    }

    pub async fn commit(&self, request: CommitRequest) -> Result<Committed, CommitFailure> {
        check(&request)?;
        let CommitRequest { tp, range, .. } = request;
        let proposal = Proposal {
            expected: request.expected,
            range,
            floor: request.floor,
            last_read: request.last_read,
            files: request.files.clone(),
            commit_id: request.commit_id,
            cluster_id: request.cluster_id,
            topic_id: request.topic_id,
        };
        let known = self.borrow(&tp)?;
        let generation = request.generation;
        let mut machine = self.machine(&tp, known.seen, generation, Intent::Commit(proposal));
        failpoint::pass("dataset.staged");
        let already = match self.drive(&mut machine).await? {
            Outcome::Stands { already } => already,
            other => return Err(failure(other, &mut machine, Some(range))),
        };
        let mine: BTreeSet<&ObjectKey> = request.files.iter().map(|file| &file.key).collect();
        let recovered = machine.completed().iter();
        let recovered = recovered.filter(|file| !mine.contains(&file.key));
        let recovered = recovered.cloned().collect();
        self.remember(&tp, machine.into_seen(), generation, known.opening);
        Ok(Committed {
            next: range.end,
            files: request.files,
            recovered,
            already,
        })
    }

    /// Clears the ledger's list of pending files, all of which are visible. Worth a put when nothing follows for a
    /// while: until the list is cleared, a visible file that somebody deletes counts as lost.
    pub async fn settle(&self, tp: &TopicPartition) -> Result<(), CommitFailure> {
        let known = self.borrow(tp)?;
        let mut machine = self.machine(tp, known.seen, known.generation, Intent::Settle);
        match self.drive(&mut machine).await? {
            Outcome::Whole => {}
            other => return Err(failure(other, &mut machine, None)),
        }
        let seen = machine.into_seen();
        let document = document_of(&seen);
        if document.map_or(0, |d| d.generation) != known.generation {
            let found = document.map(|d| d.next);
            return Err(CommitFailure::Fenced { found });
        }
        self.remember(tp, seen, known.generation, known.opening);
        Ok(())
    }

    /// Gives an opened topic-partition a new start, in a new generation: what was claimed before is fenced.
    pub async fn reset(&self, request: ResetRequest) -> Result<Committed, CommitFailure> {
        let tp = request.tp;
        let known = self.borrow(&tp)?;
        let restart = Restart {
            expected: request.expected,
            next: request.next,
            recreated: request.recreated,
            commit_id: request.commit_id,
            cluster_id: request.cluster_id,
            topic_id: request.topic_id,
        };
        let generation = request.generation;
        let mut machine = self.machine(&tp, known.seen, generation, Intent::Reset(restart));
        let already = match self.drive(&mut machine).await? {
            Outcome::Stands { already } => already,
            other => return Err(failure(other, &mut machine, None)),
        };
        let recovered = machine.completed().to_vec();
        self.remember(&tp, machine.into_seen(), generation + 1, known.opening);
        Ok(Committed {
            next: request.next,
            files: Vec::new(),
            recovered,
            already,
        })
    }

    /// The generation that an opened topic-partition is written under.
    pub fn generation(&self, tp: &TopicPartition) -> u64 {
        let known = self.known.lock();
        known.get(tp).map_or(0, |known| known.generation)
    }

    /// The topic-partition is not ours any more.
    pub fn forget(&self, tp: &TopicPartition) {
        self.known.lock().remove(tp);
    }

    fn machine(&self, tp: &TopicPartition, seen: Seen, generation: u64, intent: Intent) -> Machine {
        let now = chrono::Utc::now();
        let stamp = Stamp {
            writer: self.writer.clone(),
            written_at: now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        };
        Machine::new(&self.sink, tp.clone(), stamp, seen, generation, intent)
    }

    fn borrow(&self, tp: &TopicPartition) -> Result<Known, CommitFailure> {
        match self.known.lock().get_mut(tp) {
            Some(known) => Ok(Known {
                seen: std::mem::replace(&mut known.seen, Seen::Unknown),
                ..known.clone()
            }),
            None => Err(CommitFailure::Misused("the topic-partition is not open")),
        }
    }

    /// Unless a call that ran beside this one saw a later version.
    fn remember(&self, tp: &TopicPartition, seen: Seen, generation: u64, opening: u64) {
        let revision = document_of(&seen).map_or(0, |document| document.revision);
        if let Some(known) = self.known.lock().get_mut(tp)
            && known.opening == opening
            && known.revision <= revision
        {
            *known = Known {
                seen,
                revision,
                generation,
                opening,
            };
        }
    }

    async fn drive(&self, machine: &mut Machine) -> Result<Outcome, CommitFailure> {
        let mut pacer = Pacer::start(self.policy);
        let mut step = machine.step(Event::Begin);
        loop {
            let event = match step {
                Step::Done(outcome) => {
                    report_lost(machine);
                    return Ok(outcome);
                }
                Step::Get { key } => Event::Got(retried(&pacer, || self.store.get(&key)).await?),
                Step::Put {
                    key,
                    body,
                    expect,
                    purpose,
                } => {
                    before_put(purpose);
                    let event = self.put(&mut pacer, &key, body, expect).await?;
                    after_put(purpose, &event);
                    event
                }
                Step::Complete(files) => Event::Completed(self.complete(&pacer, files).await?),
                Step::Head(keys) => Event::Headed(self.sizes(&pacer, keys).await?),
                Step::Abort { uploads, required } => {
                    let aborts = uploads.into_iter().map(|(key, id)| {
                        let pacer = &pacer;
                        async move {
                            if required {
                                return retried(pacer, || self.store.abort(&key, &id)).await;
                            }
                            // What stays is swept one day; being fenced is the news.
                            if let Err(error) = self.store.abort(&key, &id).await {
                                tracing::debug!(key, error = %OneLine(&error), "abort failed");
                            }
                            Ok(())
                        }
                    });
                    let aborts = stream::iter(aborts).buffered(FILES_AT_ONCE);
                    aborts.try_collect::<()>().await?;
                    Event::Aborted
                }
                Step::Delete(keys) => {
                    let deletes = keys.into_iter().map(|key| {
                        let pacer = &pacer;
                        async move { retried(pacer, || self.store.delete(&key)).await }
                    });
                    let deletes = stream::iter(deletes).buffered(FILES_AT_ONCE);
                    deletes.try_collect::<()>().await?;
                    failpoint::pass("dataset.after-delete");
                    Event::Deleted
                }
            };
            step = machine.step(event);
        }
    }

    /// Every reply that sends the machine back to reading costs one of the bounded attempts.
    async fn put(
        &self,
        pacer: &mut Pacer,
        key: &str,
        body: bytes::Bytes,
        expect: Expect,
    ) -> Result<Event, CommitFailure> {
        loop {
            let reply: Result<Version, StoreError> =
                self.store.put(key, body.clone(), expect.clone()).await;
            let (source, event) = match reply {
                Ok(version) => return Ok(Event::Put(version)),
                Err(source @ StoreError::Conflict { .. }) => (source, Some(Event::Conflict)),
                Err(source @ StoreError::Unknown { .. }) => (source, Some(Event::Unknown)),
                Err(source) if source.class().retry == Retry::Never => {
                    return Err(CommitFailure::Store {
                        source,
                        gave_up: false,
                    });
                }
                Err(source) => (source, None),
            };
            tracing::debug!(key, error = %OneLine(&source), "ledger put failed");
            if !pacer.again().await {
                return Err(CommitFailure::Store {
                    source,
                    gave_up: true,
                });
            }
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    async fn complete(
        &self,
        pacer: &Pacer,
        files: Vec<PendingFile>,
    ) -> Result<Vec<Completed>, CommitFailure> {
        let calls = files.into_iter().map(|file| async move {
            let call = || self.store.complete(&file.key, &file.upload, &file.parts);
            let completed = retried(pacer, call).await;
            failpoint::pass("dataset.after-first-complete");
            completed
        });
        let calls = stream::iter(calls).buffered(FILES_AT_ONCE);
        let replies = calls.try_collect().await?;
        failpoint::pass("dataset.after-completes");
        Ok(replies)
    }

    async fn sizes(
        &self,
        pacer: &Pacer,
        keys: Vec<ObjectKey>,
    ) -> Result<Vec<Option<u64>>, CommitFailure> {
        let calls = keys.into_iter().map(|key| async move {
            let info = retried(pacer, || self.store.head(&key)).await?;
            Ok(info.map(|info| info.size))
        });
        stream::iter(calls)
            .buffered(FILES_AT_ONCE)
            .try_collect()
            .await
    }
}

/// Repeats an idempotent call until it works, never will, or the bounds are reached.
async fn retried<T, F, Fut>(pacer: &Pacer, call: F) -> Result<T, CommitFailure>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut pacer = pacer.part();
    loop {
        let source = match call().await {
            Ok(value) => return Ok(value),
            Err(source) => source,
        };
        if source.class().retry == Retry::Never {
            return Err(CommitFailure::Store {
                source,
                gave_up: false,
            });
        }
        if !pacer.again().await {
            return Err(CommitFailure::Store {
                source,
                gave_up: true,
            });
        }
    }
}

fn document_of(seen: &Seen) -> Option<&LedgerDocument> {
    match seen {
        Seen::Present { document, .. } => Some(document),
        _ => None,
    }
}

fn failure(outcome: Outcome, machine: &mut Machine, range: Option<OffsetRange>) -> CommitFailure {
    match outcome {
        Outcome::Fenced { found } => CommitFailure::Fenced { found },
        Outcome::Lost { next } => CommitFailure::Lost {
            range: range.unwrap_or(OffsetRange {
                start: next,
                end: next,
            }),
            next,
        },
        Outcome::Unreadable(Problem::Altered {
            key,
            expected,
            found,
        }) => CommitFailure::Altered {
            key,
            expected,
            found,
        },
        Outcome::Unreadable(Problem::Document) => match machine.take_document_error() {
            Some(error) => CommitFailure::Ledger(error),
            None => CommitFailure::Misused("an error was reported twice"),
        },
        Outcome::Whole | Outcome::Stands { .. } => {
            CommitFailure::Misused("an outcome that does not belong to the call")
        }
    }
}

fn report_lost(machine: &Machine) {
    if let Some(lost) = machine.lost() {
        let (topic, partition) = (machine.tp().topic.as_str(), machine.tp().partition);
        let (range, commit) = (lost.range.to_string(), lost.commit_id.to_string());
        tracing::warn!(
            topic,
            partition,
            range,
            commit,
            files = lost.files,
            "staged files vanished; the commit was taken back and its range is read again"
        );
    }
}

fn before_put(purpose: Purpose) {
    match purpose {
        Purpose::Commit => failpoint::pass("dataset.before-cas"),
        Purpose::Settle => failpoint::pass("dataset.before-settle"),
        Purpose::Retracting => failpoint::pass("dataset.before-retracting"),
        Purpose::Retracted => failpoint::pass("dataset.before-retracted"),
        Purpose::Reset => failpoint::pass("dataset.before-reset"),
        Purpose::Move => {}
    }
}

fn after_put(purpose: Purpose, event: &Event) {
    if !matches!(event, Event::Put(_)) {
        return;
    }
    match purpose {
        Purpose::Commit => failpoint::pass("dataset.after-cas"),
        Purpose::Settle => failpoint::pass("dataset.after-settle"),
        Purpose::Retracting => failpoint::pass("dataset.after-retracting"),
        Purpose::Retracted => failpoint::pass("dataset.after-retracted"),
        Purpose::Reset => failpoint::pass("dataset.after-reset"),
        Purpose::Move => {}
    }
}

#[cfg(test)]
mod tests;
