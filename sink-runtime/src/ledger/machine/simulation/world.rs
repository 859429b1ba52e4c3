//! The simulated store, and the oracle that looks at it after every action.

use std::collections::BTreeMap;
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
    /// How often each offset is visible.
    pub(super) visible: Vec<u8>,
    pub(super) objects: BTreeMap<ObjectKey, Vec<i64>>,
    pub(super) uploads: BTreeMap<String, (ObjectKey, Vec<i64>)>,
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
                    self.ledger = Some(Stored {
                        body: body.clone(),
                        version: version.clone(),
                        document: LedgerDocument::parse(body, SINK, &tp()).unwrap(),
                    });
                    Reply::Put(version)
                } else {
                    Reply::Conflict
                }
            }
            Operation::Complete(file) => {
                let id = &file.upload.0;
                Reply::Completed(match self.uploads.remove(id) {
                    Some((key, offsets)) => {
                        for offset in &offsets {
                            let offset = usize::try_from(*offset).unwrap();
                            self.visible.resize(self.visible.len().max(offset + 1), 0);
                            self.visible[offset] += 1;
                        }
                        self.objects.insert(key, offsets);
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
                Reply::Headed(self.objects.get(key).map(|offsets| offsets.len() as u64))
            }
            Operation::Abort(id) => {
                self.uploads.remove(&id.0);
                Reply::Aborted
            }
            Operation::Delete(key) => {
                let removed = self.objects.remove(key);
                self.tally.removed += u64::from(removed.is_some());
                for offset in removed.into_iter().flatten() {
                    self.visible[usize::try_from(offset).unwrap()] -= 1;
                }
                Reply::Deleted
            }
        }
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

    pub(super) fn fresh(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Stages a commit of `[start, start + len)` in `files` files whose offsets interleave.
    pub(super) fn stage(
        &mut self,
        expected: Option<Offset>,
        start: i64,
        len: i64,
        files: i64,
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
            self.uploads.insert(upload, (key, offsets));
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
            topic_id: None,
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
        let visible = &world.visible;
        if let Some(offset) = visible.iter().position(|times| *times > 1) {
            return Err(format!(
                "offset {offset} is visible {} times",
                visible[offset]
            ));
        }
        let seen = |offset: &i64| visible.get(usize::try_from(*offset).unwrap()) == Some(&1);
        let Some(document) = world.document() else {
            return match visible.iter().all(|times| *times == 0) {
                true => Ok(()),
                false => Err("rows are visible without a ledger".into()),
            };
        };
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
        if let Some(hole) = (0..complete_below).find(|offset| !seen(offset)) {
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
