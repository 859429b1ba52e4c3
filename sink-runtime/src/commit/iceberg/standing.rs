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
        /// What `main` holds, where it tells and the offsets mean what those recorded do.
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
    if told.is_nothing() && recorded.next.is_empty() {
        return Ok(Standing::Settled(recorded));
    }
    // Offsets of another generation do not compare: they are of another topic, of a log that was cut since, or of before
    // somebody set them or took them over.
    let comparable = told.generations == told::generations(&recorded);
    let ours = recorded.snapshot_id;
    let gone = ours.is_some_and(|id| metadata.snapshot_by_id(id).is_none());
    let earlier = !told.is_nothing() && gone && !comparable;
    if abandoned(metadata, ours) || earlier || told.is_behind(&recorded.next) {
        let complete = told.whole || (told.is_nothing() && is_complete(metadata));
        return Ok(Standing::RolledBack {
            recorded,
            held: (complete && comparable).then_some(told.offsets),
        });
    }
    if told.whole {
        // Never less than recorded; more, when the properties were removed or restored.
        recorded.next = told.offsets;
    }
    // Otherwise expired, or compacted away: the properties are what is left.
    Ok(Standing::Settled(recorded))
}

/// Whether `main` is certainly without our last snapshot: it has none at all, or ours is retained off it.
fn abandoned(metadata: &TableMetadata, ours: Option<i64>) -> bool {
    let off_main = |id| {
        metadata.snapshot_by_id(id).is_some()
            && lineage(metadata).all(|snapshot| snapshot.snapshot_id() != id)
    };
    metadata.current_snapshot().is_none() || ours.is_some_and(off_main)
}

/// Whether every snapshot that `main` goes back to is retained.
fn is_complete(metadata: &TableMetadata) -> bool {
    let oldest = lineage(metadata).last();
    oldest.is_none_or(|oldest| oldest.parent_snapshot_id().is_none())
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
