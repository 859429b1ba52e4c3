//! The simulated store, and the oracle that looks at it after every action.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::{SINK, tp};
use crate::ledger::machine::Proposal;
use crate::ledger::{Claim, CommitId, LedgerDocument, PendingFile, Verdict, judge};
use crate::record::{Offset, OffsetRange};
use crate::store::{Completed, Expect, ObjectKey, UploadId, Version};

/// What the store does that the protocol must live with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// Preconditions of puts are checked.
    pub(super) compare_and_swap: bool,
    /// Completing a finished upload again says "done" for ever (Amazon S3), or only that it is unknown.
    pub(super) remembers_finished: bool,
    /// Staged uploads are aborted by strangers.
    pub(super) vanishing: bool,
    /// A completion takes its time: whoever asks meanwhile is told that there is no such upload, nor an object.
    pub(super) slow_completions: bool,
    /// Strangers move rows of visible files elsewhere, as a compaction does: of which files.
    pub(super) compacting: Compacting,
    /// Brokers tell the id of a topic.
    pub(super) topic_ids: bool,
    /// What an owner leaves out of the protocol.
    pub(super) leaves_out: Option<Omission>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compacting {
    /// Those that the ledger does not name.
    AtRest,
    /// Those of the last commit too, which the ledger may still name.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Omission {
    /// A claim is made in whatever generation the ledger has.
    Generation,
    /// Files of a commit that is taken back are deleted, and their uploads left as they are.
    AbortBeforeDelete,
    /// A put without an answer is taken for done.
    Reread,
}

/// Offsets of one topic of the name; it may be deleted and made anew.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) topic: u64,
    pub(super) offsets: Vec<i64>,
}

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Get,
    Put(Bytes, Expect),
    Complete(PendingFile),
    Head(ObjectKey),
    Abort(UploadId),
    Delete(ObjectKey),
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Got(Option<(Bytes, Version)>),
    Put(Version),
    Conflict,
    Completed(Completed),
    Headed(Option<u64>),
    Aborted,
    Deleted,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) body: Bytes,
    pub(super) version: Version,
    pub(super) document: LedgerDocument,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) manners: Manners,
    pub(super) ledger: Option<Stored>,
    /// The topic that there is now, counted from 0.
    pub(super) topic: u64,
    /// Of which topic the ledger is and from which offset on, by the generation since which it is.
    pub(super) topics: BTreeMap<u64, (u64, i64)>,
    /// How often each offset of each topic is visible.
    pub(super) visible: Vec<Vec<u8>>,
    pub(super) objects: BTreeMap<ObjectKey, Batch>,
    /// In files of others.
    pub(super) compacted: Vec<Batch>,
    pub(super) uploads: BTreeMap<String, (ObjectKey, Batch)>,
    pub(super) finished: Vec<String>,
    /// Requests whose sender gave up waiting. They arrive later, or never.
    pub(super) late: Vec<Operation>,
    pub(super) ids: u64,
    /// A commit that was told to be fenced, while the store has it or would take it.
    pub(super) wrongly_fenced: Option<String>,
    pub(super) tally: Tally,
}

/// What the schedules led to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) commits: u64,
    pub(super) found: u64,
    pub(super) fenced: u64,
    pub(super) lost: u64,
    /// Files that were visible and had to be removed.
    pub(super) removed: u64,
    /// Commits that began with a version of the ledger before the last known.
    pub(super) stale: u64,
    pub(super) resets: u64,
    pub(super) compacted: u64,
}

/// Like an S3 ETag: equal content, equal version.
pub(super) fn version(body: &Bytes) -> Version {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    Version(format!("{:x}", hasher.finish()))
}

impl World {
    pub(super) fn apply(&mut self, operation: &Operation) -> Reply {
        match operation {
            Operation::Get => Reply::Got(
                self.ledger
                    .as_ref()
                    .map(|stored| (stored.body.clone(), stored.version.clone())),
            ),
            Operation::Put(body, expect) => {
                let holds = match (expect, &self.ledger) {
                    (Expect::Anything, _) | (Expect::Absent, None) => true,
                    (Expect::Unchanged(wanted), Some(stored)) => *wanted == stored.version,
                    _ => false,
                };
                if holds || !self.manners.compare_and_swap {
                    let version = version(body);
                    let document = LedgerDocument::parse(body, SINK, &tp()).unwrap();
                    let (topic, start) = (&document.writer, document.range.start.0);
                    let topics = &mut self.topics;
                    topics
                        .entry(document.topic_since)
                        .or_insert_with(|| (topic.parse().unwrap(), start));
                    self.ledger = Some(Stored {
                        body: body.clone(),
                        version: version.clone(),
                        document,
                    });
                    Reply::Put(version)
                } else {
                    Reply::Conflict
                }
            }
            Operation::Complete(file) if self.is_being_completed(file) => {
                Reply::Completed(Completed::NoSuchUpload)
            }
            Operation::Complete(file) => {
                let id = &file.upload.0;
                Reply::Completed(match self.uploads.remove(id) {
                    Some((key, batch)) => {
                        let topic = usize::try_from(batch.topic).unwrap();
                        let topics = self.visible.len().max(topic + 1);
                        self.visible.resize(topics, Vec::new());
                        let visible = &mut self.visible[topic];
                        for offset in &batch.offsets {
                            let offset = usize::try_from(*offset).unwrap();
                            visible.resize(visible.len().max(offset + 1), 0);
                            visible[offset] += 1;
                        }
                        self.objects.insert(key, batch);
                        self.finished.push(id.clone());
                        Completed::Done
                    }
                    None if self.manners.remembers_finished && self.finished.contains(id) => {
                        Completed::Done
                    }
                    None => Completed::NoSuchUpload,
                })
            }
            Operation::Head(key) => {
                let found = self.objects.get(key);
                Reply::Headed(found.map(|batch| batch.offsets.len() as u64))
            }
            Operation::Abort(id) => {
                self.uploads.remove(&id.0);
                Reply::Aborted
            }
            Operation::Delete(key) => {
                let removed = self.objects.remove(key);
                self.tally.removed += u64::from(removed.is_some());
                if let Some(batch) = removed {
                    let visible = &mut self.visible[usize::try_from(batch.topic).unwrap()];
                    for offset in batch.offsets {
                        visible[usize::try_from(offset).unwrap()] -= 1;
                    }
                }
                Reply::Deleted
            }
        }
    }

    fn is_being_completed(&self, file: &PendingFile) -> bool {
        let by = |late: &Operation| matches!(late, Operation::Complete(one) if one.upload == file.upload);
        self.manners.slow_completions && self.late.iter().any(by)
    }

    pub(super) fn document(&self) -> Option<&LedgerDocument> {
        self.ledger.as_ref().map(|stored| &stored.document)
    }

    pub(super) fn look_at_fenced(&mut self, proposal: &Proposal, generation: u64) {
        let claim = Claim {
            tp: tp(),
            expected: proposal.expected,
            range: proposal.range,
            generation,
        };
        match judge(self.document(), &claim, proposal.commit_id) {
            Verdict::Fenced { .. } => {}
            verdict => self.wrongly_fenced = Some(format!("fenced: {claim:?}, but {verdict:?}")),
        }
    }

    /// The topic whose records a ledger counts, and the first of them.
    pub(super) fn topic_of(&self, document: &LedgerDocument) -> (u64, i64) {
        self.topics[&document.topic_since]
    }

    /// What a ledger or a claim says of a topic's id.
    pub(super) fn id_of(&self, topic: u64) -> Option<String> {
        self.manners.topic_ids.then(|| topic.to_string())
    }

    /// A stranger moves the rows of a visible file into one of his own.
    pub(super) fn compact(&mut self, choice: usize) {
        let named: BTreeSet<&ObjectKey> = match (self.manners.compacting, self.document()) {
            (Compacting::AtRest, Some(document)) => {
                let retracting = document.retracting.iter().flat_map(|r| &r.files);
                let files = document.pending.iter().chain(retracting);
                files.map(|file| &file.key).collect()
            }
            _ => BTreeSet::new(),
        };
        let free: Vec<&ObjectKey> = self
            .objects
            .keys()
            .filter(|key| !named.contains(key))
            .collect();
        let chosen = free.get(choice % free.len().max(1)).copied().cloned();
        if let Some(batch) = chosen.and_then(|key| self.objects.remove(&key)) {
            self.compacted.push(batch);
            self.tally.compacted += 1;
        }
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Stages a commit of `[start, start + len)` in `files` files whose offsets interleave.
    pub(super) fn stage(
        &mut self,
        topic: u64,
        expected: Option<Offset>,
        start: i64,
        (len, files): (i64, i64),
    ) -> Proposal {
        let commit = self.fresh();
        let mut staged = Vec::new();
        for n in 0..files.min(len) {
            let offsets: Vec<i64> = (start..start + len)
                .filter(|o| (o - start) % files == n)
                .collect();
            let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
                continue;
            };
            let upload = format!("u{}", self.fresh());
            let key = format!("orders-0-{start:020}.{n}.{commit:012x}.parquet");
            staged.push(PendingFile {
                key: key.clone(),
                upload: UploadId(upload.clone()),
                parts: Vec::new(),
                size: offsets.len() as u64,
                rows: offsets.len() as u64,
                partition: Vec::new(),
                first_offset: Offset(*first),
                last_offset: Offset(*last),
            });
            self.uploads.insert(upload, (key, Batch { topic, offsets }));
        }
        Proposal {
            expected,
            range: OffsetRange {
                start: Offset(start),
                end: Offset(start + len),
            },
            floor: Offset(start),
            last_read: None,
            files: staged,
            commit_id: CommitId(uuid::Uuid::from_u128(commit.into())),
            cluster_id: None,
            topic_id: self.id_of(topic),
        }
    }
}

/// What must hold after every action.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) generation: u64,
    pub(super) next: i64,
    pub(super) revision: u64,
}

impl Oracle {
    pub(super) fn check(&mut self, world: &World) -> Result<(), String> {
        if let Some(wrong) = &world.wrongly_fenced {
            return Err(wrong.clone());
        }
        for (topic, visible) in world.visible.iter().enumerate() {
            if let Some(offset) = visible.iter().position(|times| *times > 1) {
                let times = visible[offset];
                return Err(format!(
                    "offset {offset} of topic {topic} is visible {times} times"
                ));
            }
        }
        let Some(document) = world.document() else {
            let nothing = world.visible.iter().flatten().all(|times| *times == 0);
            return match nothing {
                true => Ok(()),
                false => Err("rows are visible without a ledger".into()),
            };
        };
        let (topic, start) = world.topic_of(document);
        let visible = world.visible.get(usize::try_from(topic).unwrap());
        let visible = visible.map_or(&[][..], Vec::as_slice);
        let seen = |offset: &i64| visible.get(usize::try_from(*offset).unwrap()) == Some(&1);
        let next = document.next.0;
        if document.revision < self.revision || document.generation < self.generation {
            return Err("an old version of the ledger came back".into());
        }
        if next < self.next && document.generation == self.generation {
            return Err(format!("next went back from {} to {next}", self.next));
        }
        (self.revision, self.generation) = (document.revision, document.generation);
        self.next = next;
        let complete_below = match document.pending.is_empty() {
            true => next,
            false => document.range.start.0,
        };
        if let Some(hole) = (start..complete_below).find(|offset| !seen(offset)) {
            return Err(format!("offset {hole} is missing below {complete_below}"));
        }
        if document.retracting.is_none()
            && let Some(beyond) = (next..visible.len() as i64).find(seen)
        {
            return Err(format!("offset {beyond} is visible beyond next, {next}"));
        }
        Ok(())
    }
}
