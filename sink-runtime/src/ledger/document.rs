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
use crate::record::{Offset, OffsetRange, TopicPartition};
use crate::store::ObjectKey;

/// Format that this code writes and the newest that it reads. Whoever adds a field raises it: an older program would
/// drop the field with its next commit, so it must not go on, and has to say why.
pub const FORMAT: u32 = 1;

/// The fields of [`FORMAT`].
const FIELDS: [&str; 19] = [
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
    "commitId",
    "range",
    "pending",
    "retracting",
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

/// Ledger of one topic-partition of one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    /// Of the last commit (or reset) in this ledger. A document that only settles or retracts keeps it.
    pub commit_id: CommitId,
    /// What the last commit covered; empty at `next` after a reset or a retraction.
    pub range: OffsetRange,
    /// Files of the last commit that may still be invisible. Whoever loads the ledger completes them first.
    pub pending: Vec<PendingFile>,
    /// A commit being taken back. Whoever loads the ledger finishes that first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retracting: Option<Retraction>,
    /// Rows committed since the ledger began.
    pub rows: u64,
    /// Who wrote it (host name and process id) and when (RFC 3339): for people, never for decisions.
    pub writer: String,
    pub written_at: String,
}

/// A commit some of whose files vanished before they became visible: the others are removed, then its range is read
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
}

impl Classified for DocumentError {
    fn class(&self) -> Class {
        class::LEDGER_UNREADABLE
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
    pub commit_id: CommitId,
    pub files: &'a [PendingFile],
    pub cluster_id: Option<&'a str>,
    pub topic_id: Option<&'a str>,
}

impl LedgerDocument {
    /// # Errors
    /// When the bytes are no ledger, or that of another sink or topic-partition, or of a format unknown here.
    pub fn parse(bytes: &[u8], sink: &str, tp: &TopicPartition) -> Result<Self, DocumentError> {
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
        if format != FORMAT {
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
            format: FORMAT,
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
            commit_id: entry.commit_id,
            range: entry.range,
            pending: entry.files.to_vec(),
            retracting: None,
            rows: base.map_or(0, |b| b.rows) + rows_of(entry.files),
            writer: stamp.writer.clone(),
            written_at: stamp.written_at.clone(),
        }
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
            ..Self::committed(base, sink, tp, entry, stamp)
        }
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::store::{PartTag, UploadId};

    fn stamp() -> Stamp {
        Stamp {
            writer: "pod-0/1".into(),
            written_at: "2026-01-01T00:00:00Z".into(),
        }
    }

    fn tp() -> TopicPartition {
        TopicPartition::new("orders", 3)
    }

    fn file() -> PendingFile {
        PendingFile {
            key: "dt=1/orders-3-0010.abc.parquet".into(),
            upload: UploadId("u1".into()),
            parts: vec![PartTag {
                number: 1,
                etag: "e".into(),
                checksum: None,
            }],
            size: 7,
            rows: 10,
            partition: vec!["1".into()],
            first_offset: Offset(10),
            last_offset: Offset(19),
        }
    }

    fn document() -> LedgerDocument {
        LedgerDocument::committed(
            None,
            "default.orders",
            &tp(),
            Entry {
                range: OffsetRange {
                    start: Offset(10),
                    end: Offset(20),
                },
                floor: Offset(10),
                commit_id: CommitId(uuid::Uuid::from_u128(7)),
                files: &[file()],
                cluster_id: Some("c"),
                topic_id: None,
            },
            &stamp(),
        )
    }

    #[test]
    fn a_document_survives_being_stored() {
        for document in [document(), document().retracting(&stamp())] {
            let back = LedgerDocument::parse(&document.to_bytes(), "default.orders", &tp());
            assert_eq!(back.unwrap(), document);
        }
    }

    #[test]
    fn a_document_of_a_newer_format_is_refused_by_its_number() {
        let bytes = br#"{"format": 2, "something": "new"}"#;
        let error = LedgerDocument::parse(bytes, "default.orders", &tp()).unwrap_err();
        assert!(matches!(error, DocumentError::NewerFormat { found: 2, .. }));
        assert!(error.to_string().contains("newer"));
    }

    #[test]
    fn a_field_of_a_newer_release_is_named_and_not_dropped() {
        let text = String::from_utf8(document().to_bytes().to_vec()).unwrap();
        let newer = text.replacen('{', r#"{"leaderEpoch":7,"#, 1);
        let error = LedgerDocument::parse(newer.as_bytes(), "default.orders", &tp()).unwrap_err();
        assert!(
            matches!(&error, DocumentError::NewerField { field, .. } if field == "leaderEpoch")
        );
        assert!(error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn the_fields_are_those_of_the_format() {
        let mut all = document().retracting(&stamp());
        all.topic_since = 1;
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&all.to_bytes()).unwrap();
        let mut expected = FIELDS.to_vec();
        expected.sort_unstable();
        let mut found: Vec<_> = fields.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(
            (FORMAT, found),
            (1, expected),
            "a new field raises the format"
        );
    }

    #[test]
    fn bytes_that_are_no_ledger_are_refused() {
        for bytes in [
            &b""[..],
            b"{}",
            b"{\"format\": 1}",
            b"[]",
            b"{\"format\": 0}",
        ] {
            assert!(LedgerDocument::parse(bytes, "default.orders", &tp()).is_err());
        }
    }

    #[test]
    fn a_ledger_copied_from_another_sink_or_partition_is_refused() {
        let bytes = document().to_bytes();
        let other = TopicPartition::new("orders", 4);
        for result in [
            LedgerDocument::parse(&bytes, "default.other", &tp()),
            LedgerDocument::parse(&bytes, "default.orders", &other),
        ] {
            assert!(matches!(result, Err(DocumentError::Foreign { .. })));
        }
    }

    #[test]
    fn the_documented_example_is_a_ledger() {
        let page = include_str!("../../../docs/commit-protocol.md");
        let example = page.split("```json").nth(1).unwrap().split("```").next();
        let bytes = example.unwrap().as_bytes();
        let document = LedgerDocument::parse(bytes, "default.orders", &tp()).unwrap();
        let ending = format!(".{}.parquet", document.commit_id.short());
        assert!(document.pending[0].key.ends_with(&ending));
    }

    #[test]
    fn a_commit_adds_an_id_that_became_known_and_keeps_one_that_is_not_told() {
        let entry = Entry {
            range: OffsetRange {
                start: Offset(20),
                end: Offset(20),
            },
            floor: Offset(10),
            commit_id: CommitId(uuid::Uuid::from_u128(8)),
            files: &[],
            cluster_id: None,
            topic_id: Some("t"),
        };
        let next =
            LedgerDocument::committed(Some(&document()), "default.orders", &tp(), entry, &stamp());
        assert_eq!(next.cluster_id.as_deref(), Some("c"));
        assert_eq!(next.topic_id.as_deref(), Some("t"));
        assert_eq!((next.next, next.rows), (Offset(20), 10));
    }

    #[test]
    fn taking_a_commit_back_leaves_rows_and_next_as_before_it() {
        let retracted = document().retracting(&stamp()).retracted(&stamp());
        assert_eq!(retracted.next, Offset(10));
        assert_eq!(retracted.rows, 0);
        assert_eq!(retracted.generation, 1);
        assert_eq!(retracted.revision, 3);
        assert!(retracted.reread && retracted.pending.is_empty() && retracted.retracting.is_none());
    }
}
