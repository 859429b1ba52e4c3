//! The ledger of one topic-partition of one dataset, as stored, and its lawful successors. Pure.
//!
//! Every version's bytes differ from every other's of the same ledger: `revision` counts them. A store that names
//! versions by a hash of the content (an S3 ETag) would otherwise take an old version for the current one.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{CommitId, PendingFile, Progress};
use crate::errors::{Class, Classified, class};
use crate::record::{LastRead, Offset, OffsetRange, TopicPartition};
use crate::store::ObjectKey;

/// Newest format that this code reads. Each version is written in the lowest that can say it: a field that an older
/// program must not pass over raises the number, for it would drop the field with its next commit; so it must not go on,
/// and has to say why.
pub const FORMAT: u32 = 3;

/// What a ledger says of commits.
pub const PLAIN: u32 = 1;

/// That the ledger was moved to another sink.
const MOVED: u32 = 2;

/// The leader epoch of the last record: whoever dropped it would have the next owner take a log that was cut for whole.
const LAST_READ: u32 = 3;

/// The fields of [`FORMAT`].
const FIELDS: [&str; 21] = [
    "format",
    "sink",
    "topic",
    "partition",
    "revision",
    "generation",
    "topicSince",
    "clusterId",
    "topicId",
    "next",
    "floor",
    "reread",
    "lastRead",
    "commitId",
    "range",
    "pending",
    "retracting",
    "movedTo",
    "rows",
    "writer",
    "writtenAt",
];

/// Directory of all ledgers under a dataset's root. Readers of datasets skip names with a leading underscore.
pub const LEDGER_ROOT: &str = "_tidewater/";

/// Key of a topic-partition's ledger, relative to the dataset's root.
pub fn ledger_key(sink: &str, tp: &TopicPartition) -> ObjectKey {
    format!("{LEDGER_ROOT}{sink}/{}/{}.json", tp.topic, tp.partition)
}

/// Ledger of one topic-partition of one dataset. A field that a newer release may add without raising the format is
/// passed by, and is not in the next version that is written here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerDocument {
    pub format: u32,
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    /// Counts the versions of this ledger, from 1.
    pub revision: u64,
    /// Counts how often `next` was set other than by a commit: a source reset, or files that vanished. A claim made
    /// under an earlier generation is void.
    pub generation: u64,
    /// The generation in which the topic was last found recreated: files of earlier ones hold rows of an earlier topic.
    #[serde(default, skip_serializing_if = "is_first")]
    pub topic_since: u64,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
    /// The destination holds every record below it and none at or above it, once `pending` is complete and
    /// `retracting` done.
    pub next: Offset,
    /// Every destination of the sink holds every record below it, as known at this commit.
    pub floor: Offset,
    /// Records from `next` on must be read again, whatever group offsets and other destinations' floors say.
    pub reread: bool,
    /// The last record below `next` that was read of the log as it is, where the brokers tell its epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_read: Option<LastRead>,
    /// Of the last commit (or reset) in this ledger. A document that only settles or retracts keeps it.
    pub commit_id: CommitId,
    /// What the last commit covered; empty at `next` after a reset or a retraction.
    pub range: OffsetRange,
    /// Files of the last commit that may still be invisible. Whoever loads the ledger completes them first.
    pub pending: Vec<PendingFile>,
    /// A commit being taken back. Whoever loads the ledger finishes that first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retracting: Option<Retraction>,
    /// The sink that goes on with what this ledger says: nobody else may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// Rows committed since the ledger began.
    pub rows: u64,
    /// Who wrote it (host name and process id) and when (RFC 3339): for people, never for decisions.
    pub writer: String,
    pub written_at: String,
}

/// A commit some of whose files vanished before they became visible: the others are removed, then its range is read
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retraction {
    pub commit_id: CommitId,
    pub range: OffsetRange,
    /// All files of the commit: each upload is aborted, then each key deleted.
    pub files: Vec<PendingFile>,
}

/// Who writes a version, and when: for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub writer: String,
    pub written_at: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("ledger \"{key}\" is not a ledger document")]
    Malformed {
        key: ObjectKey,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "ledger \"{key}\" has format {found}, newer than {FORMAT}: a newer release wrote it and only such a one may go on"
    )]
    NewerFormat { key: ObjectKey, found: u32 },
    #[error(
        "ledger \"{key}\" has the field \"{field}\", which this release does not know: a newer one wrote it and only such a \
         one may go on"
    )]
    NewerField { key: ObjectKey, field: String },
    #[error("ledger \"{key}\" has the unknown format {found}")]
    UnknownFormat { key: ObjectKey, found: u32 },
    #[error("ledger \"{key}\" is that of sink \"{sink}\", {topic}-{partition}: it was copied here")]
    Foreign {
        key: ObjectKey,
        sink: String,
        topic: String,
        partition: i32,
    },
    #[error("ledger \"{key}\" was moved to sink \"{to}\", which goes on with it")]
    Moved { key: ObjectKey, to: String },
    #[error(
        "ledger \"{key}\" is to be that of sink \"{from}\", which has not arrived: finish it by tidewater ledger move --from \
         {from}"
    )]
    Reserved { key: ObjectKey, from: String },
}

impl Classified for DocumentError {
    fn class(&self) -> Class {
        match self {
            Self::Moved { .. } | Self::Reserved { .. } => class::LEDGER_MOVED,
            _ => class::LEDGER_UNREADABLE,
        }
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// What a commit writes, beside what its predecessor says.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub range: OffsetRange,
    pub floor: Offset,
    pub last_read: Option<LastRead>,
    pub commit_id: CommitId,
    pub files: &'a [PendingFile],
    pub cluster_id: Option<&'a str>,
    pub topic_id: Option<&'a str>,
}

impl LedgerDocument {
    /// A ledger to go on with.
    ///
    /// # Errors
    /// When the bytes are no ledger, or that of another sink or topic-partition, or of a format unknown here, or one that
    /// was moved away.
    pub fn parse(bytes: &[u8], sink: &str, tp: &TopicPartition) -> Result<Self, DocumentError> {
        Self::read(bytes, sink, tp)?.here()
    }

    /// This ledger, to go on with.
    ///
    /// # Errors
    /// When it was moved away.
    pub fn here(self) -> Result<Self, DocumentError> {
        let key = ledger_key(&self.sink, &self.tp());
        match &self.moved_to {
            None => Ok(self),
            Some(from) if self.is_reserved() => Err(DocumentError::Reserved {
                key,
                from: from.clone(),
            }),
            Some(to) => Err(DocumentError::Moved {
                key,
                to: to.clone(),
            }),
        }
    }

    /// Whether it only keeps the place of the ledger of the sink that it names: this one never had any.
    pub fn is_reserved(&self) -> bool {
        self.revision == 1 && self.moved_to.is_some()
    }

    /// The same, of a ledger that may have been moved away.
    ///
    /// # Errors
    /// As for [`Self::parse`], but for that.
    pub fn read(bytes: &[u8], sink: &str, tp: &TopicPartition) -> Result<Self, DocumentError> {
        let key = || ledger_key(sink, tp);
        let malformed = |source| DocumentError::Malformed { key: key(), source };
        // The format first: a newer document may have any other fields.
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format > FORMAT {
            return Err(DocumentError::NewerFormat {
                key: key(),
                found: format,
            });
        }
        if format < PLAIN {
            return Err(DocumentError::UnknownFormat {
                key: key(),
                found: format,
            });
        }
        let fields: BTreeMap<String, IgnoredAny> =
            serde_json::from_slice(bytes).map_err(malformed)?;
        if let Some(field) = fields.into_keys().find(|f| !FIELDS.contains(&f.as_str())) {
            return Err(DocumentError::NewerField { key: key(), field });
        }
        let document: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if document.sink != sink
            || document.topic != tp.topic.as_str()
            || document.partition != tp.partition
        {
            return Err(DocumentError::Foreign {
                key: key(),
                sink: document.sink,
                topic: document.topic,
                partition: document.partition,
            });
        }
        Ok(document)
    }

    /// Canonical: equal documents have equal bytes.
    #[allow(
        clippy::expect_used,
        reason = "strings, integers and lists of them always serialise"
    )]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = serde_json::to_vec(self).expect("a ledger document is JSON");
        bytes.push(b'\n');
        bytes.into()
    }

    pub fn tp(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// For [`super::positions`](mod@super::positions).
    pub fn progress(&self) -> Progress {
        Progress {
            next: Some(self.next),
            floor: Some(self.floor),
            reread: self.reread,
            generation: self.generation,
            anew: false,
            last_read: self.last_read,
        }
    }

    /// The version after a commit on top of `base`.
    pub fn committed(
        base: Option<&Self>,
        sink: &str,
        tp: &TopicPartition,
        entry: Entry<'_>,
        stamp: &Stamp,
    ) -> Self {
        let known = |given: Option<&str>, old: Option<&String>| {
            given.map(str::to_owned).or_else(|| old.cloned())
        };
        Self {
            format: PLAIN,
            sink: sink.to_owned(),
            topic: tp.topic.as_str().to_owned(),
            partition: tp.partition,
            revision: base.map_or(0, |b| b.revision) + 1,
            generation: base.map_or(0, |b| b.generation),
            topic_since: base.map_or(0, |b| b.topic_since),
            cluster_id: known(entry.cluster_id, base.and_then(|b| b.cluster_id.as_ref())),
            topic_id: known(entry.topic_id, base.and_then(|b| b.topic_id.as_ref())),
            next: entry.range.end,
            floor: base.map_or(entry.floor, |b| b.floor.max(entry.floor)),
            // A commit of nothing read nothing.
            reread: entry.range.is_empty() && base.is_some_and(|b| b.reread),
            last_read: entry.last_read.or(base.and_then(|b| b.last_read)),
            commit_id: entry.commit_id,
            range: entry.range,
            pending: entry.files.to_vec(),
            retracting: None,
            moved_to: None,
            rows: base.map_or(0, |b| b.rows) + rows_of(entry.files),
            writer: stamp.writer.clone(),
            written_at: stamp.written_at.clone(),
        }
        .in_lowest_format()
    }

    /// The version after every pending file became visible.
    pub fn settled(&self, stamp: &Stamp) -> Self {
        Self {
            pending: Vec::new(),
            ..self.successor(stamp)
        }
    }

    /// The first of the two versions that take the last commit back: from here on its files are being removed.
    pub fn retracting(&self, stamp: &Stamp) -> Self {
        let start = self.range.start;
        Self {
            generation: self.generation + 1,
            next: start,
            floor: self.floor.min(start),
            reread: true,
            last_read: None,
            range: OffsetRange { start, end: start },
            pending: Vec::new(),
            retracting: Some(Retraction {
                commit_id: self.commit_id,
                range: self.range,
                files: self.pending.clone(),
            }),
            rows: self.rows.saturating_sub(rows_of(&self.pending)),
            ..self.successor(stamp)
        }
        .in_lowest_format()
    }

    /// The second: nothing of the commit is there any more.
    pub fn retracted(&self, stamp: &Stamp) -> Self {
        Self {
            retracting: None,
            ..self.successor(stamp)
        }
    }

    /// The version that gives the topic-partition a new start, in a generation of its own. `recreated`: the rows held so
    /// far are of an earlier topic.
    pub fn reset(
        base: Option<&Self>,
        sink: &str,
        tp: &TopicPartition,
        entry: Entry<'_>,
        recreated: bool,
        stamp: &Stamp,
    ) -> Self {
        let generation = base.map_or(0, |b| b.generation) + 1;
        let topic_since = base.map_or(0, |b| b.topic_since);
        Self {
            generation,
            topic_since: if recreated { generation } else { topic_since },
            cluster_id: entry.cluster_id.map(str::to_owned),
            topic_id: entry.topic_id.map(str::to_owned),
            floor: entry.range.start,
            reread: true,
            last_read: None,
            ..Self::committed(base, sink, tp, entry, stamp)
        }
        .in_lowest_format()
    }

    /// The last version of a ledger that is whole: another sink goes on.
    pub fn moved(&self, to: &str, stamp: &Stamp) -> Self {
        Self {
            pending: Vec::new(),
            moved_to: Some(to.to_owned()),
            ..self.successor(stamp)
        }
        .in_lowest_format()
    }

    /// The first version of a ledger that comes from another sink, before that one leaves it. It says that it was moved
    /// there: so nobody goes on with it, no release, and what arrives takes its place.
    pub fn reserved(
        sink: &str,
        tp: &TopicPartition,
        from: &str,
        next: Offset,
        commit_id: CommitId,
        stamp: &Stamp,
    ) -> Self {
        let entry = Entry {
            range: OffsetRange {
                start: next,
                end: next,
            },
            floor: next,
            last_read: None,
            commit_id,
            files: &[],
            cluster_id: None,
            topic_id: None,
        };
        Self {
            moved_to: Some(from.to_owned()),
            ..Self::committed(None, sink, tp, entry, stamp)
        }
        .in_lowest_format()
    }

    /// This ledger, moved away, as `sink` goes on with it, in a generation of its own. `base`: what that sink had, which
    /// was moved away from it.
    pub fn moved_in(&self, sink: &str, base: Option<&Self>, stamp: &Stamp) -> Self {
        let generation = base.map_or(0, |base| base.generation);
        Self {
            sink: sink.to_owned(),
            revision: base.map_or(0, |base| base.revision) + 1,
            generation: self.generation.max(generation) + 1,
            moved_to: None,
            writer: stamp.writer.clone(),
            written_at: stamp.written_at.clone(),
            ..self.clone()
        }
        .in_lowest_format()
    }

    fn in_lowest_format(self) -> Self {
        let format = match (&self.last_read, &self.moved_to) {
            (Some(_), _) => LAST_READ,
            (None, Some(_)) => MOVED,
            (None, None) => PLAIN,
        };
        Self { format, ..self }
    }

    fn successor(&self, stamp: &Stamp) -> Self {
        Self {
            revision: self.revision + 1,
            writer: stamp.writer.clone(),
            written_at: stamp.written_at.clone(),
            ..self.clone()
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn is_first(generation: &u64) -> bool {
    *generation == 0
}

fn rows_of(files: &[PendingFile]) -> u64 {
    files.iter().map(|file| file.rows).sum()
}

#[cfg(test)]
mod tests;
