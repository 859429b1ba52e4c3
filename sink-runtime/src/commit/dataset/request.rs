//! What is asked of a dataset's committer, and its answers. Pure.

use std::collections::BTreeSet;

use crate::errors::{Class, Classified, class};
use crate::ledger::machine::RangeLost;
use crate::ledger::{CommitId, DocumentError, LedgerDocument, PendingFile};
use crate::record::{LastRead, Offset, OffsetRange, TopicPartition};
use crate::store::{ObjectKey, StoreError};

/// What a topic-partition's ledger is to be moved on by.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub tp: TopicPartition,
    /// `next` as last seen: from [`Recovered`] or [`Committed`].
    pub expected: Option<Offset>,
    /// Empty, and without files, to mark how far was read: the first position of a partition that has no ledger yet, or
    /// a topic id that became known.
    pub range: OffsetRange,
    /// Of the ledger as it was opened before the files were begun: a ledger that was set otherwise since fences them.
    pub generation: u64,
    /// Every destination of the sink holds every record below it.
    pub floor: Offset,
    /// The last record of the range, where the brokers tell its epoch.
    pub last_read: Option<LastRead>,
    /// Staged, all parts there, not completed; keys never used before.
    pub files: Vec<PendingFile>,
    /// The same over retries of the same content.
    pub commit_id: CommitId,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
}

/// A new start, chosen by the user's policy.
#[derive(Clone, Debug)]
pub struct ResetRequest {
    pub tp: TopicPartition,
    /// `next` as it was when this was decided: of a ledger that moved on since nothing is changed.
    pub expected: Option<Offset>,
    /// Of the ledger then.
    pub generation: u64,
    pub next: Offset,
    /// The topic is another one: what the dataset holds of it so far is of an earlier topic.
    pub recreated: bool,
    pub commit_id: CommitId,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
}

/// What a ledger says once everything in it is finished.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// `None`: the dataset knows nothing of the topic-partition.
    pub next: Option<Offset>,
    pub document: Option<LedgerDocument>,
    /// Files of the last commit that were still named as pending, visible now. Their partitions may be unknown to the
    /// catalog.
    pub completed: Vec<PendingFile>,
    /// A commit whose staged files had vanished: `next` went back to its start.
    pub lost: Option<RangeLost>,
}

#[derive(Clone, Debug)]
pub struct Committed {
    pub next: Offset,
    /// The request's files, all visible.
    pub files: Vec<PendingFile>,
    /// Of an earlier commit, found pending and completed on the way.
    pub recovered: Vec<PendingFile>,
    /// It was there: the reply to an earlier attempt had been lost.
    pub already: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum CommitFailure {
    /// Another owner went on. The request's uploads are aborted. Open again and resume from what the ledger says.
    #[error("fenced: another owner moved the ledger on")]
    Fenced { found: Option<Offset> },
    /// The request's staged files vanished before they were visible; what was visible of them is removed. Open again
    /// and read from `next`.
    #[error("staged files of {range} vanished; it is read again from {next}")]
    Lost { range: OffsetRange, next: Offset },
    /// The outcome is open: ask again with the same request, or open. `gave_up`: by the policy's bounds, otherwise the
    /// error is one that no retry mends.
    #[error("drive commit")]
    Store {
        #[source]
        source: StoreError,
        gave_up: bool,
    },
    #[error("read ledger")]
    Ledger(#[from] DocumentError),
    /// A pending file's key holds something of another size.
    #[error("\"{key}\" has {found} bytes where the ledger says {expected}")]
    Altered {
        key: ObjectKey,
        expected: u64,
        found: u64,
    },
    /// A call that breaks this module's contract.
    #[error("commit request makes no sense: {0}")]
    Misused(&'static str),
}

impl Classified for CommitFailure {
    fn class(&self) -> Class {
        match self {
            Self::Fenced { .. } => class::FENCED,
            Self::Lost { .. } => class::FILES_LOST,
            // The store was away when patience ended: the same request is asked again, and looks first.
            Self::Store {
                source: StoreError::Unknown { .. },
                ..
            } => class::STORE_UNAVAILABLE,
            Self::Store { source, .. } => source.class(),
            Self::Ledger(source) => source.class(),
            Self::Altered { .. } => class::FILE_ALTERED,
            Self::Misused(_) => class::INTERNAL,
        }
    }
}

pub(super) fn check(request: &CommitRequest) -> Result<(), CommitFailure> {
    let CommitRequest { range, files, .. } = request;
    if range.end < range.start {
        return Err(CommitFailure::Misused("the range ends before it starts"));
    }
    let outside = |file: &PendingFile| {
        file.first_offset < range.start
            || file.last_offset >= range.end
            || file.last_offset < file.first_offset
    };
    if files.iter().any(outside) {
        return Err(CommitFailure::Misused(
            "a file holds offsets outside the range",
        ));
    }
    let keys: BTreeSet<&ObjectKey> = files.iter().map(|file| &file.key).collect();
    if keys.len() != files.len() {
        return Err(CommitFailure::Misused("two files have one key"));
    }
    Ok(())
}
