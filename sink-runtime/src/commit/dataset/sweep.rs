//! Clears away staged uploads that no process will ever complete: left by one that died between staging and commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{CommitFailure, DatasetCommitter, DatasetFileName, retried};
use crate::commit::backoff::Pacer;
use crate::ledger::document::LEDGER_ROOT;
use crate::ledger::{LedgerDocument, ledger_key};
use crate::record::TopicPartition;
use crate::store::{ObjectKey, OpenUpload};

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub aborted: Vec<ObjectKey>,
    /// Old, but named by a ledger, or not surely this sink's.
    pub kept: usize,
}

impl DatasetCommitter {
    /// Aborts this sink's uploads that began more than `older_than` ago, by the store's own clock, and that no ledger
    /// names. An upload is this sink's when its name is of a topic-partition of which this sink alone has a ledger here
    /// that was not moved away, and no dataset of its own begins at a folder above it.
    ///
    /// `older_than` has to be longer than any file stays open. Should an upload be swept that its owner commits at
    /// that very moment, the commit is taken back and its range read again: nothing is lost.
    pub async fn sweep(&self, older_than: Duration) -> Result<Swept, CommitFailure> {
        let pacer = Pacer::start(self.policy);
        let Some(now) = retried(&pacer, || self.store.now()).await? else {
            return Ok(Swept::default());
        };
        let uploads = retried(&pacer, || self.store.list_uploads("")).await?;
        let old: Vec<(TopicPartition, OpenUpload)> = uploads
            .into_iter()
            .filter(|upload| {
                let age = upload.initiated.and_then(|at| now.duration_since(at).ok());
                age.is_some_and(|age| age > older_than)
            })
            .filter_map(|upload| Some((DatasetFileName::parse(&upload.key)?.tp, upload)))
            .collect();
        let mut swept = Swept::default();
        if old.is_empty() {
            return Ok(swept);
        }
        let ledgers = retried(&pacer, || self.store.list(LEDGER_ROOT)).await?;
        let ledgers: Vec<ObjectKey> = ledgers.into_iter().map(|info| info.key).collect();
        let of: BTreeSet<&TopicPartition> = old.iter().map(|(tp, _)| tp).collect();
        // The ledgers are read after the uploads were listed: a commit that came in between is seen.
        let (mut mine, mut named) = (BTreeSet::new(), BTreeSet::new());
        for tp in of {
            let Some(document) = self.mine_alone(&pacer, &ledgers, tp).await? else {
                continue;
            };
            mine.insert(tp);
            let retracting = document.retracting.into_iter().flat_map(|r| r.files);
            let files = document.pending.into_iter().chain(retracting);
            named.extend(files.map(|file| (file.key, file.upload.0)));
        }
        let mut roots = BTreeMap::new();
        for (tp, upload) in &old {
            let OpenUpload { key, id, .. } = upload;
            if !mine.contains(tp)
                || named.contains(&(key.clone(), id.0.clone()))
                || self.is_nested(&pacer, key, &mut roots).await?
            {
                swept.kept += 1;
                continue;
            }
            retried(&pacer, || self.store.abort(key, id)).await?;
            swept.aborted.push(key.clone());
        }
        Ok(swept)
    }

    /// Whether another dataset begins below this one's root and above the key. `roots`: folders that were looked at.
    async fn is_nested(
        &self,
        pacer: &Pacer,
        key: &str,
        roots: &mut BTreeMap<String, bool>,
    ) -> Result<bool, CommitFailure> {
        for (end, _) in key.match_indices('/') {
            let ledgers = format!("{}/{LEDGER_ROOT}", &key[..end]);
            let found = match roots.get(&ledgers) {
                Some(found) => *found,
                None => {
                    let found = retried(pacer, || self.store.holds_any(&ledgers)).await?;
                    roots.insert(ledgers, found);
                    found
                }
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// This sink's ledger of the topic-partition, where no other sink goes on with one.
    async fn mine_alone(
        &self,
        pacer: &Pacer,
        ledgers: &[ObjectKey],
        tp: &TopicPartition,
    ) -> Result<Option<LedgerDocument>, CommitFailure> {
        let ending = format!("/{}/{}.json", tp.topic, tp.partition);
        let sinks = ledgers
            .iter()
            .filter_map(|key| key.strip_prefix(LEDGER_ROOT)?.strip_suffix(&ending));
        for sink in sinks.filter(|sink| *sink != self.sink) {
            let key = ledger_key(sink, tp);
            // What cannot be read may be anybody's.
            let moved = match retried(pacer, || self.store.get(&key)).await? {
                Some((body, _)) => LedgerDocument::read(&body, sink, tp)
                    .is_ok_and(|ledger| ledger.moved_to.is_some()),
                None => false,
            };
            if !moved {
                return Ok(None);
            }
        }
        let key = ledger_key(&self.sink, tp);
        let Some((body, _)) = retried(pacer, || self.store.get(&key)).await? else {
            return Ok(None);
        };
        let own = LedgerDocument::read(&body, &self.sink, tp)?;
        Ok(own.moved_to.is_none().then_some(own))
    }
}
