//! The machine's vocabulary: what is wished, what to do next, what came of it. Pure data.

use bytes::Bytes;

use crate::ledger::document::{Entry, LedgerDocument};
use crate::ledger::{CommitId, PendingFile};
use crate::record::{LastRead, Offset, OffsetRange};
use crate::store::{Completed, Expect, ObjectKey, UploadId, Version};

/// What a ledger is to be moved on by.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub expected: Option<Offset>,
    /// Empty and without files: only marks how far was read.
    pub range: OffsetRange,
    /// The sink's floor as known now.
    pub floor: Offset,
    pub last_read: Option<LastRead>,
    pub files: Vec<PendingFile>,
    pub commit_id: CommitId,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
}

/// A new start of the topic-partition, decided by the user's policy.
#[derive(Clone, Debug)]
pub struct Restart {
    /// `next` as it was when this was decided.
    pub expected: Option<Offset>,
    pub next: Offset,
    /// The topic is another one: what the dataset holds of it so far is of an earlier topic.
    pub recreated: bool,
    pub commit_id: CommitId,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Intent {
    /// Make the ledger whole and tell what it says.
    Open,
    /// Clear `pending`.
    Settle,
    Commit(Proposal),
    Reset(Restart),
    /// Keep this place for a ledger that comes from another sink: until it has arrived nobody begins one here.
    Reserve {
        from: String,
        /// As known now, for people.
        next: Offset,
        commit_id: CommitId,
    },
    /// Leave the ledger to another sink.
    Leave {
        to: String,
    },
    /// Go on with a ledger that was left to this sink.
    Arrive(Box<LedgerDocument>),
}

/// The ledger as last seen in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Unknown,
    Absent,
    Present {
        document: Box<LedgerDocument>,
        version: Version,
        /// Nothing is left to finish: no retraction, and all pending files are visible.
        whole: bool,
    },
}

/// Why a version is put; names the failpoints on both sides of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Commit,
    Settle,
    Retracting,
    Retracted,
    Reset,
    Move,
}

/// What to do next. Lists are answered by one event, in the same order; their items may be done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Get {
        key: ObjectKey,
    },
    Put {
        key: ObjectKey,
        body: Bytes,
        expect: Expect,
        purpose: Purpose,
    },
    Complete(Vec<PendingFile>),
    Head(Vec<ObjectKey>),
    Abort {
        uploads: Vec<(ObjectKey, UploadId)>,
        /// Otherwise it only tidies up, and may fail.
        required: bool,
    },
    Delete(Vec<ObjectKey>),
    Done(Outcome),
}

/// The reply to a step. A step other than a put that failed is simply done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Begin,
    Got(Option<(Bytes, Version)>),
    /// The put succeeded.
    Put(Version),
    /// The put's precondition did not hold.
    Conflict,
    /// The put may have happened.
    Unknown,
    Completed(Vec<Completed>),
    /// Sizes.
    Headed(Vec<Option<u64>>),
    Aborted,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of `Open` and `Settle`: the ledger is whole; see [`Machine::seen`].
    Whole,
    /// Of all others: it stands, and all its files are visible. `already`: found, not made.
    Stands {
        already: bool,
    },
    Fenced {
        found: Option<Offset>,
    },
    /// This proposal's own files vanished; it was taken back and its range must be read again.
    Lost {
        next: Offset,
    },
    Unreadable(Problem),
}

/// A state that no retry mends and no guess should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// See [`Machine::take_document_error`].
    Document,
    /// The key of a pending file holds something else.
    Altered {
        key: ObjectKey,
        expected: u64,
        found: u64,
    },
}

/// A range that was taken back because its staged files vanished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeLost {
    pub commit_id: CommitId,
    pub range: OffsetRange,
    pub files: usize,
}

impl Proposal {
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            range: self.range,
            floor: self.floor,
            last_read: self.last_read,
            commit_id: self.commit_id,
            files: &self.files,
            cluster_id: self.cluster_id.as_deref(),
            topic_id: self.topic_id.as_deref(),
        }
    }
}

impl Restart {
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            range: OffsetRange {
                start: self.next,
                end: self.next,
            },
            floor: self.next,
            last_read: None,
            commit_id: self.commit_id,
            files: &[],
            cluster_id: self.cluster_id.as_deref(),
            topic_id: self.topic_id.as_deref(),
        }
    }
}
