//! How a sink stands in a table as loaded: what its ledger says, whether the table was rolled back under it, whether a
//! commit is in it. Pure decisions on metadata.

use iceberg::spec::TableMetadata;

use super::table_ledger::{COMMIT_ID, Keys, Offsets, TableLedger, Unreadable};
use super::told::{self, Told, lineage};
use crate::ledger::CommitId;

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

/// # Errors
/// A property or a summary that somebody else wrote into.
pub fn standing(metadata: &TableMetadata, keys: &Keys) -> Result<Standing, Unreadable> {
    let mut recorded = keys.read(metadata.properties())?;
    if recorded.moved_to.is_some() {
        // What older summaries tell is another sink's by now.
        return Ok(Standing::Settled(recorded));
    }
    let told = Told::by(metadata, keys)?;
    if told.whole {
        let held = told.offsets;
        let behind = recorded
            .next
            .iter()
            .any(|(tp, next)| held.get(tp).is_none_or(|held| held < next));
        return Ok(if behind {
            Standing::RolledBack {
                recorded,
                held: Some(held),
            }
        } else {
            // Never less than recorded; more, when the properties were removed or restored.
            recorded.next = held;
            Standing::Settled(recorded)
        });
    }
    if !told.is_nothing() {
        // The summary that told the rest has expired. Whether the properties are those of the newest one it still says.
        return Ok(match told.digest == Some(told::digest(&recorded.next)) {
            true => Standing::Settled(recorded),
            false => Standing::RolledBack {
                recorded,
                held: None,
            },
        });
    }
    if recorded.next.is_empty() {
        return Ok(Standing::Settled(recorded));
    }
    Ok(match abandoned(metadata, &recorded) {
        Some(held) => Standing::RolledBack { recorded, held },
        // Expired, or compacted away: the properties are what is left.
        None => Standing::Settled(recorded),
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
