//! How a sink stands in a table as loaded: what its ledger says, whether the table was rolled back under it, whether a
//! commit is in it. Pure decisions on metadata.

use std::collections::BTreeMap;

use iceberg::spec::{SnapshotRef, TableMetadata};

use super::table_ledger::{COMMIT_ID, Keys, Offsets, TableLedger, Unreadable};
use crate::ledger::{Claim, CommitId, Verdict};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Settled(TableLedger),
    /// The properties promise rows that `main` does not hold.
    RolledBack {
        recorded: TableLedger,
        /// What `main` holds, where it tells.
        held: Option<Offsets>,
    },
}

/// `main`'s snapshots, newest first, as far as they are retained.
fn lineage(metadata: &TableMetadata) -> impl Iterator<Item = &SnapshotRef> {
    // Bounded by the number of snapshots, should parents ever form a ring.
    let mut left = metadata.snapshots().len();
    std::iter::successors(metadata.current_snapshot(), move |snapshot| {
        left = left.checked_sub(1)?;
        metadata.snapshot_by_id(snapshot.parent_snapshot_id()?)
    })
}

/// # Errors
/// A property or a summary that somebody else wrote into.
pub fn standing(metadata: &TableMetadata, keys: &Keys) -> Result<Standing, Unreadable> {
    let mut recorded = keys.read(metadata.properties())?;
    let mut held = None;
    for snapshot in lineage(metadata) {
        held = keys.read_offsets(&snapshot.summary().additional_properties)?;
        if held.is_some() {
            break;
        }
    }
    Ok(match held {
        Some(held) => {
            let behind = recorded
                .next
                .iter()
                .any(|(tp, next)| held.get(tp).is_none_or(|held| held < next));
            if behind {
                Standing::RolledBack {
                    recorded,
                    held: Some(held),
                }
            } else {
                // Never less than recorded; more, when the properties were removed or restored.
                recorded.next = held;
                Standing::Settled(recorded)
            }
        }
        None if recorded.next.is_empty() => Standing::Settled(recorded),
        None => match abandoned(metadata, &recorded) {
            Some(held) => Standing::RolledBack { recorded, held },
            // Expired, or compacted away: the properties are what is left.
            None => Standing::Settled(recorded),
        },
    })
}

/// No snapshot of `main` tells our offsets. A rollback is certain only when there is no snapshot at all, or when our
/// last one is retained off `main`. Gives what `main` holds then: nothing, if its lineage is complete.
fn abandoned(metadata: &TableMetadata, recorded: &TableLedger) -> Option<Option<Offsets>> {
    let Some(oldest) = lineage(metadata).last() else {
        return Some(Some(Offsets::new()));
    };
    let ours = recorded.snapshot_id?;
    let retained = metadata.snapshot_by_id(ours).is_some();
    let on_main = lineage(metadata).any(|s| s.snapshot_id() == ours);
    (retained && !on_main).then(|| oldest.parent_snapshot_id().is_none().then(Offsets::new))
}

/// Where a commit is found: its snapshot, where that is still retained.
pub fn find_commit(
    metadata: &TableMetadata,
    ledger: &TableLedger,
    id: CommitId,
    attempts: &[i64],
) -> Option<Option<i64>> {
    let text = id.to_string();
    lineage(metadata)
        .find(|s| {
            attempts.contains(&s.snapshot_id())
                || s.summary().additional_properties.get(COMMIT_ID) == Some(&text)
        })
        .map(|s| Some(s.snapshot_id()))
        .or_else(|| {
            let recorded =
                ledger.commit_id == Some(id) || ledger.commits.values().any(|c| *c == id);
            recorded.then_some(None)
        })
}

/// Judges claims against a table's ledger. `floor` proves holes: below it this destination, too, is complete.
/// Claims of one topic-partition follow each other.
pub fn judge(known: &Offsets, floor: &Offsets, claims: &[Claim]) -> Verdict {
    let mut next = known.clone();
    let mut fenced = BTreeMap::new();
    for claim in claims {
        let found = next.get(&claim.tp).copied();
        let start = claim.range.start;
        let proven = found.is_none_or(|next| {
            start == next || (start > next && floor.get(&claim.tp).is_some_and(|f| *f >= start))
        });
        if found != claim.expected || !proven || claim.range.end < start {
            fenced.insert(claim.tp.clone(), known.get(&claim.tp).copied());
        } else {
            next.insert(claim.tp.clone(), claim.range.end);
        }
    }
    if fenced.is_empty() {
        Verdict::Commit
    } else {
        Verdict::Fenced { found: fenced }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::record::{Offset, OffsetRange, TopicPartition};

    fn claim(partition: i32, expected: Option<i64>, start: i64, end: i64) -> Claim {
        Claim {
            tp: TopicPartition::new("t", partition),
            expected: expected.map(Offset),
            range: OffsetRange {
                start: Offset(start),
                end: Offset(end),
            },
        }
    }

    fn offsets(of: &[(i32, i64)]) -> Offsets {
        of.iter()
            .map(|(p, o)| (TopicPartition::new("t", *p), Offset(*o)))
            .collect()
    }

    #[test]
    fn a_claim_that_continues_the_ledger_commits() {
        let known = offsets(&[(0, 10)]);
        assert_eq!(
            judge(&known, &offsets(&[]), &[claim(0, Some(10), 10, 20)]),
            Verdict::Commit
        );
        assert_eq!(
            judge(
                &known,
                &offsets(&[]),
                &[claim(0, Some(10), 10, 20), claim(0, Some(20), 20, 30)]
            ),
            Verdict::Commit
        );
    }

    #[test]
    fn the_first_claim_of_a_partition_may_start_anywhere() {
        assert_eq!(
            judge(&offsets(&[]), &offsets(&[]), &[claim(3, None, 500, 600)]),
            Verdict::Commit
        );
    }

    #[test]
    fn a_hole_needs_the_floor_as_proof() {
        let known = offsets(&[(0, 10)]);
        let claims = [claim(0, Some(10), 15, 20)];
        assert!(matches!(
            judge(&known, &offsets(&[(0, 14)]), &claims),
            Verdict::Fenced { .. }
        ));
        assert_eq!(
            judge(&known, &offsets(&[(0, 15)]), &claims),
            Verdict::Commit
        );
    }

    #[test]
    fn one_fenced_claim_fences_the_commit_and_tells_what_was_found() {
        let known = offsets(&[(0, 10), (1, 7)]);
        let verdict = judge(
            &known,
            &offsets(&[]),
            &[
                claim(0, Some(10), 10, 20),
                claim(1, Some(5), 5, 9),
                claim(2, Some(4), 4, 5),
            ],
        );
        let found = [
            (TopicPartition::new("t", 1), Some(Offset(7))),
            (TopicPartition::new("t", 2), None),
        ]
        .into();
        assert_eq!(verdict, Verdict::Fenced { found });
    }

    #[test]
    fn a_range_that_starts_below_the_ledger_or_runs_backwards_is_fenced() {
        let known = offsets(&[(0, 10)]);
        for claims in [[claim(0, Some(10), 9, 20)], [claim(0, Some(10), 10, 8)]] {
            assert!(matches!(
                judge(&known, &known, &claims),
                Verdict::Fenced { .. }
            ));
        }
    }
}
