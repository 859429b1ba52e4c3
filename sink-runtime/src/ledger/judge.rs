//! Claims against a ledger: who may move it on. Pure, and called on exactly the version that the compare-and-swap names.

use std::collections::BTreeMap;

use super::{Claim, CommitId, LedgerDocument, Verdict};
use crate::record::{Offset, TopicPartition};

/// Judges one claim on a dataset's ledger.
pub fn judge(ledger: Option<&LedgerDocument>, claim: &Claim, my_commit: CommitId) -> Verdict {
    let current = ledger.is_none_or(|document| document.generation == claim.generation);
    if let Some(document) = ledger
        && current
        && document.commit_id == my_commit
        && document.range == claim.range
    {
        return Verdict::AlreadyCommitted;
    }
    let found = ledger.map(|document| document.next);
    let idle = ledger.is_none_or(|document| document.retracting.is_none());
    if current && idle && follows(found, claim) {
        Verdict::Commit
    } else {
        Verdict::Fenced {
            found: BTreeMap::from([(claim.tp.clone(), found)]),
        }
    }
}

/// Judges claims on a ledger of many topic-partitions: all or nothing. Claims on one topic-partition are taken in
/// order, each on top of the one before. Whether my own commit is there already is looked up before. `generations` of
/// those that were ever set back.
pub fn judge_all(
    known: &BTreeMap<TopicPartition, Offset>,
    generations: &BTreeMap<TopicPartition, u64>,
    claims: &[Claim],
) -> Verdict {
    let mut moved: BTreeMap<&TopicPartition, Offset> = BTreeMap::new();
    let mut fenced = BTreeMap::new();
    for claim in claims {
        let stored = known.get(&claim.tp).copied();
        let next = moved.get(&claim.tp).copied().or(stored);
        // Offsets that fit again after they were set back may be those of other records.
        let current = generations.get(&claim.tp).copied().unwrap_or(0) == claim.generation;
        if current && follows(next, claim) {
            moved.insert(&claim.tp, claim.range.end);
        } else {
            fenced.insert(claim.tp.clone(), stored);
        }
    }
    if fenced.is_empty() {
        Verdict::Commit
    } else {
        Verdict::Fenced { found: fenced }
    }
}

/// Without a hole: a sink has one destination, and what lies between was read by nobody.
fn follows(next: Option<Offset>, claim: &Claim) -> bool {
    claim.expected == next
        && claim.range.end >= claim.range.start
        && next.is_none_or(|next| claim.range.start == next)
}

#[cfg(test)]
mod tests;
