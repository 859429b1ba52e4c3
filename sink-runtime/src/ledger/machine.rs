//! Commit, recovery, settling and reset of one dataset ledger as a state machine: events in, the next step out. Pure.
//!
//! Everything goes through one loop. Whatever version of the ledger is at hand is first made whole (a retraction is
//! finished, pending files are completed, a commit whose files vanished is taken back), then the intent is judged
//! against it, then one conditional put on exactly that version moves it on. A put whose reply is lost or refused
//! leads back to reading. So each step may be repeated, by this process or another, and no step trusts memory over
//! the store.
//!
//! Invariants: a ledger version with pending files is only ever replaced after they are all visible, or by one that
//! takes them back; files are deleted only while the stored ledger says `retracting`; an upload is aborted only when
//! no stored version can name it again.

use bytes::Bytes;

use super::document::{DocumentError, LedgerDocument, Stamp, ledger_key};
use super::{Claim, PendingFile, Verdict, judge};
use crate::record::{Offset, TopicPartition};
use crate::store::{Completed, Expect, ObjectKey, UploadId, Version};

mod step;

pub use step::{
    Event, Intent, Outcome, Problem, Proposal, Purpose, RangeLost, Restart, Seen, Step,
};

#[derive(Clone, Debug)]
enum Waiting {
    Begin,
    Get,
    Put(Box<LedgerDocument>, Purpose),
    Complete,
    Head,
    AbortRetracted,
    DeleteRetracted,
    AbortOwn(Option<Offset>),
    Done,
}

#[derive(Debug)]
pub struct Machine {
    sink: String,
    tp: TopicPartition,
    stamp: Stamp,
    intent: Intent,
    /// Of the ledger as the owner opened it, or began its files under.
    generation: u64,
    seen: Seen,
    /// This run has read that version, or written it: what it was given may be older than the store's.
    looked: bool,
    waiting: Waiting,
    /// This run's own put of the intent succeeded.
    put_by_me: bool,
    completed: Vec<PendingFile>,
    lost: Option<RangeLost>,
    document_error: Option<DocumentError>,
}

impl Machine {
    /// `seen` may be stale, and `Seen::Unknown` is always right; `generation` is that of the ledger when it was
    /// opened (0 when it was absent).
    pub fn new(
        sink: &str,
        tp: TopicPartition,
        stamp: Stamp,
        seen: Seen,
        generation: u64,
        intent: Intent,
    ) -> Self {
        Self {
            sink: sink.to_owned(),
            tp,
            stamp,
            intent,
            generation,
            seen,
            looked: false,
            waiting: Waiting::Begin,
            put_by_me: false,
            completed: Vec::new(),
            lost: None,
            document_error: None,
        }
    }

    pub fn tp(&self) -> &TopicPartition {
        &self.tp
    }

    /// The ledger as known at the end.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    pub fn into_seen(self) -> Seen {
        self.seen
    }

    /// Files that this run found pending and saw visible: their partitions may be new to the catalog.
    pub fn completed(&self) -> &[PendingFile] {
        &self.completed
    }

    /// A commit that this run took back, or helped to.
    pub fn lost(&self) -> Option<&RangeLost> {
        self.lost.as_ref()
    }

    pub fn take_document_error(&mut self) -> Option<DocumentError> {
        self.document_error.take()
    }

    /// Takes the reply to the last step and says the next one. A reply that does not belong to the last step makes
    /// it read the ledger anew.
    pub fn step(&mut self, event: Event) -> Step {
        match (std::mem::replace(&mut self.waiting, Waiting::Done), event) {
            (Waiting::Begin, Event::Begin) => self.advance(),
            (Waiting::Get, Event::Got(found)) => self.got(found),
            (Waiting::Put(document, purpose), Event::Put(version)) => {
                self.put_by_me |=
                    matches!(purpose, Purpose::Commit | Purpose::Reset | Purpose::Move);
                let whole = document.pending.is_empty() && document.retracting.is_none();
                self.looked = true;
                self.seen = Seen::Present {
                    document,
                    version,
                    whole,
                };
                self.advance()
            }
            (Waiting::Complete, Event::Completed(replies)) => self.after_completes(&replies),
            (Waiting::Head, Event::Headed(sizes)) => self.after_heads(&sizes),
            (Waiting::AbortRetracted, Event::Aborted) => self.delete_retracted(),
            (Waiting::DeleteRetracted, Event::Deleted) => self.put_retracted(),
            (Waiting::AbortOwn(found), Event::Aborted) => Step::Done(Outcome::Fenced { found }),
            _ => self.load(),
        }
    }

    fn load(&mut self) -> Step {
        self.seen = Seen::Unknown;
        self.waiting = Waiting::Get;
        Step::Get {
            key: ledger_key(&self.sink, &self.tp),
        }
    }

    fn got(&mut self, found: Option<(Bytes, Version)>) -> Step {
        self.looked = true;
        self.seen = match found {
            None => Seen::Absent,
            Some((body, version)) => match self.parsed(&body) {
                Ok(document) => Seen::Present {
                    whole: document.pending.is_empty() && document.retracting.is_none(),
                    document: Box::new(document),
                    version,
                },
                Err(error) => {
                    self.document_error = Some(error);
                    return Step::Done(Outcome::Unreadable(Problem::Document));
                }
            },
        };
        self.advance()
    }

    fn parsed(&self, body: &[u8]) -> Result<LedgerDocument, DocumentError> {
        let (sink, tp) = (&self.sink, &self.tp);
        match &self.intent {
            // What was moved away may be moved again, and to where it went.
            Intent::Reserve { .. } | Intent::Leave { .. } | Intent::Arrive(_) => {
                LedgerDocument::read(body, sink, tp)
            }
            _ => LedgerDocument::parse(body, sink, tp),
        }
    }

    /// First makes the ledger whole, then acts.
    fn advance(&mut self) -> Step {
        match &self.seen {
            Seen::Unknown => self.load(),
            Seen::Absent => self.act(),
            Seen::Present { whole: true, .. } => self.act(),
            Seen::Present { document, .. } => {
                if let Some(retraction) = &document.retracting {
                    self.lost = Some(RangeLost {
                        commit_id: retraction.commit_id,
                        range: retraction.range,
                        files: retraction.files.len(),
                    });
                    self.waiting = Waiting::AbortRetracted;
                    // Before the deletes: afterwards no late completion can make a file visible again.
                    Step::Abort {
                        uploads: uploads_of(&retraction.files),
                        required: true,
                    }
                } else {
                    self.waiting = Waiting::Complete;
                    Step::Complete(document.pending.clone())
                }
            }
        }
    }

    fn after_completes(&mut self, replies: &[Completed]) -> Step {
        let Seen::Present { document, .. } = &self.seen else {
            return self.load();
        };
        if replies.len() != document.pending.len() {
            return self.load();
        }
        if replies.iter().all(|reply| *reply == Completed::Done) {
            return self.now_whole();
        }
        // The upload is unknown where an earlier completion succeeded, too. All are looked at: of a commit that has
        // to be taken back, every file counts.
        self.waiting = Waiting::Head;
        Step::Head(
            document
                .pending
                .iter()
                .map(|file| file.key.clone())
                .collect(),
        )
    }

    fn after_heads(&mut self, sizes: &[Option<u64>]) -> Step {
        let Seen::Present { document, .. } = &self.seen else {
            return self.load();
        };
        if sizes.len() != document.pending.len() {
            return self.load();
        }
        for (file, size) in document.pending.iter().zip(sizes) {
            if let Some(found) = *size
                && found != file.size
            {
                return Step::Done(Outcome::Unreadable(Problem::Altered {
                    key: file.key.clone(),
                    expected: file.size,
                    found,
                }));
            }
        }
        if sizes.iter().all(Option::is_some) {
            return self.now_whole();
        }
        let next = document.retracting(&self.stamp);
        self.put(next, Purpose::Retracting)
    }

    fn now_whole(&mut self) -> Step {
        if let Seen::Present {
            document, whole, ..
        } = &mut self.seen
        {
            *whole = true;
            self.completed.extend(document.pending.iter().cloned());
        }
        self.act()
    }

    fn delete_retracted(&mut self) -> Step {
        match &self.seen {
            Seen::Present { document, .. } => {
                let files = document.retracting.iter().flat_map(|r| &r.files);
                let keys = files.map(|file| file.key.clone()).collect();
                self.waiting = Waiting::DeleteRetracted;
                Step::Delete(keys)
            }
            _ => self.load(),
        }
    }

    fn put_retracted(&mut self) -> Step {
        match &self.seen {
            Seen::Present { document, .. } => {
                let next = document.retracted(&self.stamp);
                self.put(next, Purpose::Retracted)
            }
            _ => self.load(),
        }
    }

    /// The ledger is whole or absent.
    fn act(&mut self) -> Step {
        let document = match &self.seen {
            Seen::Present { document, .. } => Some(document.as_ref()),
            _ => None,
        };
        match &self.intent {
            Intent::Open => Step::Done(Outcome::Whole),
            Intent::Settle => match document {
                Some(document) if !document.pending.is_empty() => {
                    let next = document.settled(&self.stamp);
                    self.put(next, Purpose::Settle)
                }
                _ => Step::Done(Outcome::Whole),
            },
            Intent::Commit(proposal) => {
                let claim = Claim {
                    tp: self.tp.clone(),
                    expected: proposal.expected,
                    range: proposal.range,
                    generation: self.generation,
                };
                let verdict = judge(document, &claim, proposal.commit_id);
                match verdict {
                    Verdict::AlreadyCommitted => self.stands(),
                    Verdict::Commit if same_source(document, proposal) => {
                        let entry = proposal.entry();
                        let (sink, tp) = (&self.sink, &self.tp);
                        let next =
                            LedgerDocument::committed(document, sink, tp, entry, &self.stamp);
                        self.put(next, Purpose::Commit)
                    }
                    _ => self.fenced(),
                }
            }
            Intent::Reset(restart) => {
                let generation = document.map_or(0, |d| d.generation);
                let mine = document.is_some_and(|d| d.commit_id == restart.commit_id);
                if mine && generation == self.generation + 1 {
                    self.stands()
                } else if generation == self.generation
                    && document.map(|d| d.next) == restart.expected
                {
                    let (sink, tp, entry) = (&self.sink, &self.tp, restart.entry());
                    let recreated = restart.recreated;
                    let next =
                        LedgerDocument::reset(document, sink, tp, entry, recreated, &self.stamp);
                    self.put(next, Purpose::Reset)
                } else {
                    self.fenced()
                }
            }
            Intent::Reserve {
                from,
                next,
                commit_id,
            } => match document {
                None => {
                    let (sink, tp) = (&self.sink, &self.tp);
                    let next =
                        LedgerDocument::reserved(sink, tp, from, *next, *commit_id, &self.stamp);
                    self.put(next, Purpose::Move)
                }
                Some(document) if is_here(document) => self.fenced(),
                Some(document)
                    if document.is_reserved() && document.moved_to.as_ref() != Some(from) =>
                {
                    self.fenced()
                }
                Some(_) => self.stands(),
            },
            Intent::Leave { to } => match document {
                Some(document) if document.moved_to.as_ref() == Some(to) => self.stands(),
                Some(document) if document.moved_to.is_none() => {
                    let next = document.moved(to, &self.stamp);
                    self.put(next, Purpose::Move)
                }
                _ => self.fenced(),
            },
            Intent::Arrive(left) => match document {
                Some(document) if document.commit_id == left.commit_id && is_here(document) => {
                    self.stands()
                }
                Some(document) if is_here(document) => self.fenced(),
                _ => {
                    let next = left.moved_in(&self.sink, document, &self.stamp);
                    self.put(next, Purpose::Move)
                }
            },
        }
    }

    fn stands(&self) -> Step {
        Step::Done(Outcome::Stands {
            already: !self.put_by_me,
        })
    }

    /// The stored version is not the one that any put of this proposal named, and versions never recur: nothing can
    /// make its uploads part of a ledger any more, unless they were and are complete. Of a version that was only
    /// remembered none of this is known: the store is asked first.
    fn fenced(&mut self) -> Step {
        if !self.looked {
            return self.load();
        }
        let found = match &self.seen {
            Seen::Present { document, .. } => Some(document.next),
            _ => None,
        };
        if let (Intent::Commit(proposal), Some(lost), Some(next)) =
            (&self.intent, &self.lost, found)
            && lost.commit_id == proposal.commit_id
        {
            return Step::Done(Outcome::Lost { next });
        }
        match &self.intent {
            Intent::Commit(proposal) if !proposal.files.is_empty() => {
                self.waiting = Waiting::AbortOwn(found);
                Step::Abort {
                    uploads: uploads_of(&proposal.files),
                    required: false,
                }
            }
            _ => Step::Done(Outcome::Fenced { found }),
        }
    }

    fn put(&mut self, document: LedgerDocument, purpose: Purpose) -> Step {
        let expect = match &self.seen {
            Seen::Present { version, .. } => Expect::Unchanged(version.clone()),
            _ => Expect::Absent,
        };
        let body = document.to_bytes();
        self.waiting = Waiting::Put(Box::new(document), purpose);
        Step::Put {
            key: ledger_key(&self.sink, &self.tp),
            body,
            expect,
            purpose,
        }
    }
}

fn is_here(document: &LedgerDocument) -> bool {
    document.moved_to.is_none()
}

/// Records of another cluster or topic never continue a ledger; an unknown id proves nothing.
fn same_source(document: Option<&LedgerDocument>, proposal: &Proposal) -> bool {
    let same = |was: &Option<String>, is: &Option<String>| match (was, is) {
        (Some(was), Some(is)) => was == is,
        _ => true,
    };
    document.is_none_or(|document| {
        same(&document.cluster_id, &proposal.cluster_id)
            && same(&document.topic_id, &proposal.topic_id)
    })
}

fn uploads_of(files: &[PendingFile]) -> Vec<(ObjectKey, UploadId)> {
    files
        .iter()
        .map(|file| (file.key.clone(), file.upload.clone()))
        .collect()
}

#[cfg(test)]
mod simulation;
