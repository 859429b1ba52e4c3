//! The heart: what a destination holds of each topic-partition, and who may move that on. A state machine without
//! I/O and without a clock: events in, the next step out. `commit` drives it against a store or a catalog.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::{Offset, OffsetRange, TopicPartition};
use crate::store::{ObjectKey, PartTag, UploadId};

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

/// Ledger of one topic-partition of one dataset, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LedgerDocument {
    /// Of this document: 1.
    pub format: u32,
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
    /// The destination holds every record below it and none at or above it.
    pub next: Offset,
    /// Every destination of the sink holds every record below it, as known at this commit.
    pub floor: Offset,
    pub commit_id: CommitId,
    /// Of the last commit that moved `next`: what it covered.
    pub range: OffsetRange,
    /// Files of this commit that may still be invisible. The next owner completes them first.
    pub pending: Vec<PendingFile>,
    /// Rows committed since the ledger began.
    pub rows: u64,
    /// Who wrote it (host name and process id) and when (RFC 3339): for people, never for decisions.
    pub writer: String,
    pub written_at: String,
}

/// A wish to move a destination's ledger on for one topic-partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub tp: TopicPartition,
    /// `next` as the owner last saw it; `None` when the destination knew nothing of the topic-partition.
    pub expected: Option<Offset>,
    pub range: OffsetRange,
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
