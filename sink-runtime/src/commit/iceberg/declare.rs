//! Declaring a table: it is made where it is missing, and its columns, partitions, order and properties become what the
//! resource says, as changes of metadata alone. All or nothing: what cannot be done is told, and then nothing is. No rows
//! are touched, and a sink that runs meanwhile loses nothing: files are committed with the partition spec they were
//! written with.
//!
//! Doing it twice does it once: after an answer that says nothing, the table is looked at.

use crate::catalog::{Base, CatalogError, CommitError, TableOps};
use crate::errors::{Classified, OneLine, Retry};
use crate::plan::SinkId;

use super::{IcebergFailure, Pace, opening};

mod build;
mod changes;
mod layout;

pub use changes::{CREATED_BY, Changes, Declaration, Step, plan_changes};

/// What became of a declaration.
#[derive(Clone, Debug)]
pub enum Declared {
    /// The table is as it shall be.
    Synced {
        table: Base,
        /// By this call.
        created: bool,
        /// Taken by this call.
        steps: Vec<Step>,
    },
    /// Nothing was changed, since not everything can be.
    Refused { table: Base, changes: Changes },
    /// There is no table, and its columns come with the first records.
    Awaiting,
}

/// Makes the table what is declared.
///
/// # Errors
/// A table that is missing and not to be made; a catalog that does not answer or refuses.
pub async fn declare(
    ops: &dyn TableOps,
    wanted: &Declaration,
    pace: Pace,
    clock: fn() -> i64,
) -> Result<Declared, IcebergFailure> {
    let mut asked = Asked::new(ops, pace);
    let mut created = false;
    let mut sent: Option<Changes> = None;
    while asked.again().await {
        let base = match ops.load().await {
            Ok(base) => base,
            Err(CatalogError::NoSuchTable { .. }) => {
                let Some(columns) = &wanted.columns else {
                    return Ok(Declared::Awaiting);
                };
                if !wanted.plan.create_if_missing {
                    let table = ops.describe();
                    return Err(IcebergFailure::TableMissing { table });
                }
                let initial = opening::initial(&wanted.sink, &wanted.plan, columns)?;
                asked.sent += 1;
                match ops.create(initial).await {
                    Ok(_) => {
                        created = true;
                        asked.went_well();
                    }
                    Err(CatalogError::TableExists { .. }) => {}
                    Err(error) => asked.failed("create table", error)?,
                }
                continue;
            }
            Err(error) => {
                asked.failed("load table", error)?;
                continue;
            }
        };
        let mut changes = plan_changes(&base.metadata, wanted);
        if changes.is_settled() {
            let steps = sent.map_or_else(Vec::new, |sent| sent.steps);
            return Ok(Declared::Synced {
                table: base,
                created,
                steps,
            });
        }
        if asked.well && sent.as_ref() == Some(&changes) {
            let why = "the catalog took the changes and does not show them";
            changes.refused.push(why.to_owned());
        }
        if !changes.refused.is_empty() {
            let table = base;
            return Ok(Declared::Refused { table, changes });
        }
        if let Some(error) = build::too_early(&base, clock()) {
            asked.failed("change table", error)?;
            continue;
        }
        let built = match build::build(&base.metadata, base.metadata_location.clone(), &changes) {
            Ok(built) => built,
            Err(error) => {
                changes.refused.push(OneLine(&error).to_string());
                let table = base;
                return Ok(Declared::Refused { table, changes });
            }
        };
        let requirements = build::requirements(&base.metadata);
        asked.sent += 1;
        sent = Some(changes);
        match ops.commit(&base, built, requirements).await {
            Ok(()) => asked.went_well(),
            Err(CommitError::Refused(error)) => asked.failed("change table", error)?,
            // It may have been applied: the next look tells.
            Err(error) => asked.last = Some(error),
        }
    }
    Err(asked.exhausted())
}

/// What a declaration would change, changing nothing; `None`: there is no table.
///
/// # Errors
/// A catalog that does not answer or refuses.
pub async fn preview(
    ops: &dyn TableOps,
    wanted: &Declaration,
    clock: fn() -> i64,
) -> Result<Option<Changes>, CatalogError> {
    let base = match ops.load().await {
        Ok(base) => base,
        Err(CatalogError::NoSuchTable { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut changes = plan_changes(&base.metadata, wanted);
    if changes.refused.is_empty()
        && build::too_early(&base, clock()).is_none()
        && let Err(error) = build::build(&base.metadata, None, &changes)
    {
        changes.refused.push(OneLine(&error).to_string());
    }
    Ok(Some(changes))
}

/// What became of a table that was to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    Dropped,
    /// There was none.
    Absent,
    /// It is not ours to drop, and why.
    Kept(String),
}

/// Drops the table if this sink made it and no other sink has written to it. One that has its name after a drop was
/// tried is another one, and stays.
///
/// # Errors
/// A catalog that does not answer or refuses.
pub async fn drop_made(
    ops: &dyn TableOps,
    sink: &SinkId,
    pace: Pace,
) -> Result<Dropped, IcebergFailure> {
    let mut asked = Asked::new(ops, pace);
    let mut tried = None;
    while asked.again().await {
        let base = match ops.load().await {
            Ok(base) => base,
            Err(CatalogError::NoSuchTable { .. }) => {
                return Ok(if asked.sent > 0 {
                    Dropped::Dropped
                } else {
                    Dropped::Absent
                });
            }
            Err(error) => {
                asked.failed("load table", error)?;
                continue;
            }
        };
        let uuid = base.metadata.uuid();
        if *tried.get_or_insert(uuid) != uuid {
            return Ok(Dropped::Dropped);
        }
        if let Some(why) = changes::kept(&base.metadata, sink) {
            return Ok(Dropped::Kept(why));
        }
        asked.sent += 1;
        match ops.drop_table(&base).await {
            Ok(()) | Err(CatalogError::NoSuchTable { .. }) => return Ok(Dropped::Dropped),
            Err(error) => asked.failed("drop table", error)?,
        }
    }
    Err(asked.exhausted())
}

/// Attempts of one call, bounded and ever slower.
struct Asked<'a> {
    ops: &'a dyn TableOps,
    pace: Pace,
    rounds: u32,
    sent: u32,
    /// The last request did what it should.
    well: bool,
    last: Option<CommitError>,
}

impl<'a> Asked<'a> {
    fn new(ops: &'a dyn TableOps, pace: Pace) -> Self {
        Self {
            ops,
            pace,
            rounds: 0,
            sent: 0,
            well: false,
            last: None,
        }
    }

    /// Waits where there is something to wait for; false when it was enough.
    async fn again(&mut self) -> bool {
        if self.rounds > self.pace.attempts {
            return false;
        }
        if self.rounds > 0 && self.last.is_some() {
            self.pace.pause(self.rounds).await;
        }
        self.well = self.rounds > 0 && self.last.is_none();
        self.rounds += 1;
        true
    }

    fn went_well(&mut self) {
        self.last = None;
    }

    /// Remembers what may pass; gives up on what will not.
    fn failed(&mut self, step: &'static str, source: CatalogError) -> Result<(), IcebergFailure> {
        if source.class().retry != Retry::Backoff {
            let table = self.ops.describe();
            return Err(match source {
                CatalogError::NoSuchTable { .. } => IcebergFailure::TableMissing { table },
                source => IcebergFailure::Catalog {
                    table,
                    step,
                    source,
                },
            });
        }
        self.last = Some(CommitError::Unavailable(source.into()));
        Ok(())
    }

    fn exhausted(self) -> IcebergFailure {
        IcebergFailure::Exhausted {
            table: self.ops.describe(),
            attempts: self.sent,
            source: self.last.unwrap_or(CommitError::Conflict),
        }
    }
}

#[cfg(test)]
mod tests;
