//! What people do to a table's ledger, beside the resets that a policy makes: set positions, and go on with the ledger of
//! a sink of another name.

use std::collections::BTreeMap;

use super::table_ledger::{Keys, TableLedger};
use super::{Attempts, IcebergCommitter, IcebergFailure, Standing, standing};
use crate::catalog::{Base, CommitError};
use crate::plan::SinkId;
use crate::record::{Offset, TopicName, TopicPartition};

/// Positions as they are to be, each decided on what the ledger said before.
#[derive(Clone, Debug, Default)]
pub struct SetByHand {
    /// `next` as it was when this was decided, and as it is to be.
    pub positions: BTreeMap<TopicPartition, (Option<Offset>, Offset)>,
    pub cluster_id: Option<String>,
    pub topic_ids: BTreeMap<TopicName, String>,
}

impl IcebergCommitter {
    /// The ledger of a sink in the table, as it is now.
    ///
    /// # Errors
    /// When the table is not there or does not tell, and when it was rolled back below the ledger.
    pub async fn ledger_of(&self, sink: &SinkId) -> Result<TableLedger, IcebergFailure> {
        let base = self.ops.load().await;
        let base = base.map_err(|error| self.failed("load table", error))?;
        self.standing_of(&base, &Keys::of(&sink.0))
    }

    /// Sets all of the positions, or none. Doing it twice does it once.
    ///
    /// # Errors
    /// As for a commit; fenced where the ledger moved on since.
    pub async fn set_by_hand(&mut self, wish: &SetByHand) -> Result<TableLedger, IcebergFailure> {
        let change = |ledger: &TableLedger, _| Ok(set(ledger, wish));
        let ledger = self.rewrite_until_settled(change).await?;
        let there = |tp: &TopicPartition| ledger.next.get(tp).copied();
        let mut positions = wish.positions.iter();
        if positions.all(|(tp, (_, to))| there(tp) == Some(*to)) {
            return Ok(ledger);
        }
        let found = wish.positions.keys();
        Err(IcebergFailure::Fenced {
            found: found.map(|tp| (tp.clone(), there(tp))).collect(),
        })
    }

    /// Goes on with the ledger of another sink, which may not go on itself from here on. Doing it twice does it once.
    ///
    /// # Errors
    /// As for a commit; fenced where this sink has a ledger of its own, or the other one has none.
    pub async fn take_over(&mut self, from: &SinkId) -> Result<TableLedger, IcebergFailure> {
        let theirs = Keys::of(&from.0);
        let mut attempts = Attempts::default();
        for round in 0..=self.pace.attempts {
            if round > 0 {
                self.pace.pause(round).await;
            }
            let Some(base) = self.load(&mut attempts).await? else {
                continue;
            };
            let mut other = self.standing_of(&base, &theirs)?;
            let mine = self.standing_of(&base, &self.keys)?;
            match other.moved_to {
                Some(to) if to == self.sink.0 => return Ok(mine),
                Some(to) => {
                    return Err(IcebergFailure::LedgerMoved {
                        table: self.ops.describe(),
                        sink: from.to_string(),
                        to,
                    });
                }
                None => {}
            }
            let own = mine.moved_to.is_none() && !mine.next.is_empty();
            if own || other.next.is_empty() {
                let found = mine.next.into_iter().map(|(tp, next)| (tp, Some(next)));
                return Err(IcebergFailure::Fenced {
                    found: found.collect(),
                });
            }
            for tp in other.next.keys().cloned().collect::<Vec<_>>() {
                other.begin_anew(&tp);
            }
            let beside = theirs.left_to(&self.sink.0);
            self.rewrite_beside(&base, other, beside, &mut attempts)
                .await?;
        }
        Err(IcebergFailure::Exhausted {
            table: self.ops.describe(),
            attempts: attempts.sent,
            source: attempts.last.unwrap_or(CommitError::Conflict),
        })
    }

    fn standing_of(&self, base: &Base, keys: &Keys) -> Result<TableLedger, IcebergFailure> {
        match standing(&base.metadata, keys).map_err(IcebergFailure::LedgerUnreadable)? {
            Standing::Settled(ledger) => Ok(ledger),
            Standing::RolledBack { recorded, held } => Err(IcebergFailure::RolledBack {
                table: self.ops.describe(),
                recorded: recorded.next,
                held,
            }),
        }
    }
}

/// `None`: the positions are set, or the ledger moved on.
fn set(ledger: &TableLedger, wish: &SetByHand) -> Option<TableLedger> {
    let mut changed = ledger.clone();
    for (tp, (expected, to)) in &wish.positions {
        let next = changed.next.insert(tp.clone(), *to);
        if next != *expected && next != Some(*to) {
            return None;
        }
        if next != Some(*to) {
            // What a sink that runs on has read and not committed is void, also where its offsets fit again.
            changed.begin_anew(tp);
        }
        changed.floor.insert(tp.clone(), *to);
        // A late reply to a commit from before is not looked up any more.
        changed.commits.remove(tp);
    }
    if changed.next == ledger.next {
        return None;
    }
    if wish.cluster_id.is_some() {
        changed.cluster_id.clone_from(&wish.cluster_id);
    }
    changed.topic_ids.extend(wish.topic_ids.clone());
    Some(changed)
}
