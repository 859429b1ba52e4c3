//! The heart: what a destination holds of each topic-partition, and who may move that on. Pure: no I/O, no clock, no
//! randomness; commit ids and times are given in. `commit` drives it against a store or a catalog.
//!
//! * [`by_hand`]: where a person wants a partition to be read on.
//! * [`document`]: the ledger of one topic-partition of one dataset, as stored.
//! * [`judge`](mod@judge): claims against a ledger.
//! * [`machine`]: commit, recovery, settling and reset of a dataset's ledger, step by step.
//! * [`positions`](mod@positions): where to read on after an assignment.
//! * [`origin`]: whether the topic is still the one that the ledger speaks of.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::{Offset, OffsetRange, TopicPartition};
use crate::store::{ObjectKey, PartTag, UploadId};

pub mod by_hand;
pub mod document;
pub mod judge;
pub mod machine;
pub mod origin;
pub mod positions;

pub use document::{DocumentError, LedgerDocument, Retraction, Stamp, ledger_key};
pub use judge::{judge, judge_all};
pub use origin::{
    FirstCheck, Origin, Recorded, Recreation, Resume, Said, SourceCheck, after_expiry,
    after_truncation, check_first, check_source, truncation,
};
pub use positions::{Progress, StartPosition, positions};

/// Names one attempt to move a ledger on; fresh for every attempt's content, kept over its retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub uuid::Uuid);

impl CommitId {
    /// Time-ordered, so that a listing shows the order of commits.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// Last twelve hex digits (the random part): for object names.
    pub fn short(&self) -> String {
        let hex = self.0.simple().to_string();
        hex[hex.len() - 12..].to_owned()
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file of a commit that was staged and may not be visible yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingFile {
    pub key: ObjectKey,
    pub upload: UploadId,
    pub parts: Vec<PartTag>,
    /// Bytes.
    pub size: u64,
    pub rows: u64,
    /// Values of the partition keys, for the catalog.
    pub partition: Vec<String>,
    /// Offsets of the file's first and last record.
    pub first_offset: Offset,
    pub last_offset: Offset,
}

/// A wish to move a destination's ledger on for one topic-partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub tp: TopicPartition,
    /// `next` as the owner last saw it; `None` when the destination knew nothing of the topic-partition.
    pub expected: Option<Offset>,
    pub range: OffsetRange,
    /// Of the ledger as the owner recovered it, before the first record of the range was read; 0 where there was none.
    pub generation: u64,
}

/// A ledger's answer to claims, given in the same atomic step that would apply them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Commit,
    /// My own commit id is there: the reply to an earlier attempt was lost.
    AlreadyCommitted,
    Fenced {
        found: BTreeMap<TopicPartition, Option<Offset>>,
    },
}
