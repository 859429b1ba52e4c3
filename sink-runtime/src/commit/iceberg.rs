//! Commits to one Iceberg table, exactly once: load, look, judge, stage, publish; whatever the answer but success or
//! refusal, the whole again. See `docs/commit-protocol-iceberg.md`.
//!
//! What always holds: nothing is published that was not judged against the very metadata it replaces; an unknown
//! outcome is looked up in the table, never guessed; staged files are deleted only when no metadata can name them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use iceberg::spec::{DataFile, PartitionSpecRef, TableMetadata};
use uuid::Uuid;

use crate::catalog::merge::LeftAlone;
use crate::catalog::stage::{self, Change, Staged, fresh_snapshot_id};
use crate::catalog::{Base, CatalogError, CommitError, TableOps};
use crate::errors::{Class, Classified, OneLine, Retry};
use crate::failpoint;
use crate::ledger::{Claim, CommitId, Verdict, judge_all};
use crate::observe::Extent;
use crate::plan::{IcebergPlan, SinkId};
use crate::record::{Census, LastRead, Offset, TopicName, TopicPartition};
use crate::schema::Schema;
use crate::schema::evolution::{self, NewSchema, Partitions, TableColumns};

mod by_hand;
pub mod declare;
mod failure;
mod opening;
mod pace;
mod resets;
mod standing;
pub mod table_ledger;
mod told;

pub use by_hand::SetByHand;
pub use declare::{Declaration, Declared};
pub use failure::{IcebergFailure, NotCommitted};
pub use opening::{Opened, Reset};
pub use pace::Pace;
pub use standing::{Standing, find_commit, standing};
pub use table_ledger::{Keys, Offsets, TableLedger};

use told::Told;

/// One commit to one table: files, and the ranges whose records they hold.
#[derive(Clone, Debug)]
pub struct IcebergCommit {
    /// The table the files were written for.
    pub table: Uuid,
    /// Kept over every retry of this very content.
    pub commit_id: CommitId,
    pub claims: Vec<Claim>,
    /// The sink's floor as known now; the table keeps the highest it was told.
    pub floor: Offsets,
    pub cluster_id: Option<String>,
    /// The topics as they were when the sink first started: written down by its first commit.
    pub census: Option<Census>,
    pub topic_ids: BTreeMap<TopicName, String>,
    /// The last record of each claim, where the brokers tell its epoch.
    pub last_reads: BTreeMap<TopicPartition, LastRead>,
    /// May be none: progress over records that left no row here.
    pub files: Vec<DataFile>,
    /// The partition spec the files were written with.
    pub spec: PartitionSpecRef,
    /// The columns the files were written with, predicted ones included ([`Opened::columns`]).
    pub columns: TableColumns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// `None` when an earlier attempt was found whose snapshot is gone by now.
    pub snapshot_id: Option<i64>,
    /// Commits sent, this call.
    pub attempts: u32,
    /// Found in the table rather than acknowledged: the reply to an earlier attempt was lost.
    pub already: bool,
    /// As the table has it after the commit.
    pub ledger: TableLedger,
    /// Steps of the schema change that went with it.
    pub schema_changes: Vec<evolution::Change>,
    /// The table's after the commit: what the next new columns are predicted from.
    pub columns: TableColumns,
    /// Of the table after the commit, where this call made it.
    pub extent: Option<Extent>,
}

/// Commits of one sink to one table. Several processes may each have one.
#[derive(Debug)]
pub struct IcebergCommitter {
    ops: Arc<dyn TableOps>,
    hears: Option<Arc<dyn Hears>>,
    sink: SinkId,
    keys: Keys,
    pace: Pace,
    clock: fn() -> i64,
    /// Manifests that cannot be merged.
    left_alone: Arc<LeftAlone>,
    /// The table that was opened, and its ledger as last seen.
    known: Option<(Uuid, TableLedger)>,
}

/// Hears why a step is tried again, long before all attempts are used up.
pub trait Hears: fmt::Debug + Send + Sync {
    fn tried_again(&self, class: Class, why: &str);
}

/// What earlier attempts of one call left behind.
#[derive(Debug, Default)]
struct Attempts {
    sent: u32,
    snapshots: Vec<i64>,
    /// Answered with a conflict: garbage, unless the table says otherwise.
    lost: Vec<(i64, Vec<String>)>,
    /// Some attempt may have been applied, or may yet be.
    uncertain: bool,
    last: Option<CommitError>,
}

enum Look {
    Done(Committed),
    Publish {
        ledger: TableLedger,
        schema: Option<Box<NewSchema>>,
    },
}

impl IcebergCommitter {
    /// `clock` gives milliseconds since the Unix epoch.
    pub fn new(ops: Arc<dyn TableOps>, sink: &SinkId, pace: Pace, clock: fn() -> i64) -> Self {
        Self {
            ops,
            hears: None,
            sink: sink.clone(),
            keys: Keys::of(&sink.0),
            pace,
            clock,
            left_alone: Arc::default(),
            known: None,
        }
    }

    /// With somebody who hears of every step that has to be tried again.
    #[must_use]
    pub fn heard_by(mut self, hears: Arc<dyn Hears>) -> Self {
        self.hears = Some(hears);
        self
    }

    pub fn table(&self) -> &Arc<dyn TableOps> {
        &self.ops
    }

    /// Makes the table what the plan says of it beyond the columns that records need. `columns`: those known before any
    /// record.
    ///
    /// # Errors
    /// As for [`declare::declare`].
    pub async fn declare(
        &self,
        plan: &IcebergPlan,
        columns: Option<Schema>,
    ) -> Result<Declared, IcebergFailure> {
        let wanted = Declaration {
            sink: self.sink.clone(),
            plan: plan.clone(),
            columns,
        };
        Box::pin(declare::declare(&*self.ops, &wanted, self.pace, self.clock)).await
    }

    /// # Errors
    /// Why the commit is not in the table, and whether its files may be deleted.
    pub async fn commit(&mut self, wish: &IcebergCommit) -> Result<Committed, NotCommitted> {
        let mut attempts = Attempts::default();
        if wish.claims.is_empty() && !wish.files.is_empty() {
            return Err(NotCommitted {
                failure: IcebergFailure::Unclaimed,
                maybe_applied: false,
            });
        }
        match self.try_commit(wish, &mut attempts).await {
            Ok(committed) => {
                if let Some((_, ledger)) = &mut self.known {
                    ledger.clone_from(&committed.ledger);
                }
                Ok(committed)
            }
            Err(failure) => Err(NotCommitted {
                failure,
                maybe_applied: attempts.uncertain,
            }),
        }
    }

    async fn try_commit(
        &self,
        wish: &IcebergCommit,
        attempts: &mut Attempts,
    ) -> Result<Committed, IcebergFailure> {
        for round in 0..=self.pace.attempts {
            if round > 0 {
                self.pace.pause(round).await;
            }
            let Some(base) = self.load(attempts).await? else {
                continue;
            };
            let (ledger, schema) = match self.look(&base, wish, attempts)? {
                Look::Done(committed) => return Ok(committed),
                Look::Publish { ledger, schema } => (ledger, schema),
            };
            self.discard_lost(&base, attempts).await;
            if round == self.pace.attempts {
                break;
            }
            failpoint::pass("iceberg.before-stage");
            let Some((staged, ledger)) = self
                .stage(&base, wish, ledger, schema.as_deref(), attempts)
                .await?
            else {
                continue;
            };
            let snapshot_id = staged.snapshot_id;
            let columns = columns_after(&staged.built.metadata, wish);
            let extent = extent(&base, &staged);
            if self.publish(&base, staged, attempts).await? {
                return Ok(Committed {
                    snapshot_id: Some(snapshot_id),
                    attempts: attempts.sent,
                    already: false,
                    ledger,
                    schema_changes: schema.map_or_else(Vec::new, |s| s.changes),
                    columns,
                    extent: Some(extent),
                });
            }
        }
        Err(IcebergFailure::Exhausted {
            table: self.ops.describe(),
            attempts: attempts.sent,
            source: attempts.last.take().unwrap_or(CommitError::Conflict),
        })
    }

    /// `None`: not now.
    async fn load(&self, attempts: &mut Attempts) -> Result<Option<Base>, IcebergFailure> {
        match self.ops.load().await {
            Ok(base) => Ok(Some(base)),
            Err(error) => self.later("load table", error, attempts).map(|()| None),
        }
    }

    /// Remembers what may pass; gives up on what will not.
    fn later(
        &self,
        step: &'static str,
        error: CatalogError,
        attempts: &mut Attempts,
    ) -> Result<(), IcebergFailure> {
        let class = error.class();
        if class.retry != Retry::Backoff {
            return Err(self.failed(step, error));
        }
        self.tried_again(step, class, &error);
        attempts.last = Some(CommitError::Unavailable(error.into()));
        Ok(())
    }

    fn tried_again(&self, step: &'static str, class: Class, why: &dyn std::error::Error) {
        if let Some(hears) = &self.hears {
            hears.tried_again(class, &format!("{step}: {}", OneLine(why)));
        }
    }

    fn failed(&self, step: &'static str, error: CatalogError) -> IcebergFailure {
        let table = self.ops.describe();
        match error {
            CatalogError::NoSuchTable { .. } => IcebergFailure::TableMissing { table },
            source => IcebergFailure::Catalog {
                table,
                step,
                source,
            },
        }
    }

    /// Decides on the table as loaded; changes nothing.
    fn look(
        &self,
        base: &Base,
        wish: &IcebergCommit,
        attempts: &Attempts,
    ) -> Result<Look, IcebergFailure> {
        let table = &base.metadata;
        self.check_identity(base)?;
        if wish.table != table.uuid() {
            return Err(self.replaced(wish.table, base));
        }
        let ledger = self.settled(base)?;
        if let Some(snapshot_id) = find_commit(table, &ledger, wish.commit_id, &attempts.snapshots)
        {
            return Ok(Look::Done(Committed {
                snapshot_id,
                attempts: attempts.sent,
                already: true,
                ledger,
                schema_changes: Vec::new(),
                columns: columns_after(table, wish),
                extent: None,
            }));
        }
        self.check_source(&ledger, wish.cluster_id.as_deref(), &wish.topic_ids)?;
        let next = advance(&ledger, wish);
        if let Verdict::Fenced { found } =
            judge_all(&ledger.next, &ledger.generations, &wish.claims)
        {
            return Err(IcebergFailure::Fenced { found });
        }
        let spec_id = wish.spec.spec_id();
        // Ids of specs that were cleaned away are given out again.
        let spec = table
            .partition_spec_by_id(spec_id)
            .filter(|spec| spec.is_compatible_with(&wish.spec));
        if spec.is_none() && !wish.files.is_empty() {
            return Err(IcebergFailure::LayoutMoved { spec_id });
        }
        let sources: Vec<i32> = spec
            .iter()
            .flat_map(|spec| spec.fields())
            .map(|field| field.source_id)
            .collect();
        let schema = evolution::reconcile(
            table.current_schema(),
            table.last_column_id(),
            &wish.columns.schema,
            Partitions {
                sources: &sources,
                names: &evolution::partition_fields(table),
            },
        )
        .map_err(IcebergFailure::SchemaMoved)?;
        Ok(Look::Publish {
            ledger: next,
            schema: schema.map(Box::new),
        })
    }

    fn check_identity(&self, base: &Base) -> Result<(), IcebergFailure> {
        match &self.known {
            Some((uuid, _)) if *uuid != base.metadata.uuid() => Err(self.replaced(*uuid, base)),
            _ => Ok(()),
        }
    }

    fn replaced(&self, expected: Uuid, base: &Base) -> IcebergFailure {
        IcebergFailure::TableReplaced {
            table: self.ops.describe(),
            expected,
            found: base.metadata.uuid(),
        }
    }

    fn settled(&self, base: &Base) -> Result<TableLedger, IcebergFailure> {
        match standing(&base.metadata, &self.keys).map_err(IcebergFailure::LedgerUnreadable)? {
            Standing::Settled(ledger) => self.ours(ledger),
            Standing::RolledBack { recorded, held } => Err(IcebergFailure::RolledBack {
                table: self.ops.describe(),
                recorded: recorded.next,
                held,
            }),
        }
    }

    /// A ledger to go on with.
    fn ours(&self, ledger: TableLedger) -> Result<TableLedger, IcebergFailure> {
        match ledger.moved_to {
            None => Ok(ledger),
            Some(to) => Err(IcebergFailure::LedgerMoved {
                table: self.ops.describe(),
                sink: self.sink.to_string(),
                to,
            }),
        }
    }

    fn check_source(
        &self,
        ledger: &TableLedger,
        cluster_id: Option<&str>,
        topic_ids: &BTreeMap<TopicName, String>,
    ) -> Result<(), IcebergFailure> {
        let reset = |recorded: &str, found: &str| IcebergFailure::SourceReset {
            recorded: recorded.to_owned(),
            found: found.to_owned(),
        };
        if let (Some(recorded), Some(found)) = (ledger.cluster_id.as_deref(), cluster_id)
            && recorded != found
        {
            return Err(reset(recorded, found));
        }
        for (topic, found) in topic_ids {
            if let Some(recorded) = ledger.topic_ids.get(topic)
                && recorded != found
            {
                return Err(reset(recorded, found));
            }
        }
        Ok(())
    }

    /// Manifests of attempts that lost: the table was loaded after them and does not know them.
    async fn discard_lost(&self, base: &Base, attempts: &mut Attempts) {
        for (snapshot_id, paths) in attempts.lost.drain(..) {
            if base.metadata.snapshot_by_id(snapshot_id).is_none() {
                stage::discard(&self.ops.file_io(), &paths).await;
            }
        }
    }

    async fn stage(
        &self,
        base: &Base,
        wish: &IcebergCommit,
        mut ledger: TableLedger,
        schema: Option<&NewSchema>,
        attempts: &mut Attempts,
    ) -> Result<Option<(Staged, TableLedger)>, IcebergFailure> {
        let snapshot_id = fresh_snapshot_id(&base.metadata);
        ledger.snapshot_id = Some(snapshot_id);
        let told =
            Told::by(&base.metadata, &self.keys).map_err(IcebergFailure::LedgerUnreadable)?;
        let change = Change {
            snapshot_id,
            commit_uuid: Uuid::new_v4(),
            now_ms: (self.clock)(),
            files: wish.files.clone(),
            spec_id: if wish.files.is_empty() {
                base.metadata.default_partition_spec_id()
            } else {
                wish.spec.spec_id()
            },
            schema: schema.map(|s| s.schema.clone()),
            set_properties: self.keys.properties(&ledger),
            remove_properties: Vec::new(),
            summary: self.keys.summary(&ledger, &told),
            merge: Some(Arc::clone(&self.left_alone)),
        };
        match Box::pin(stage::stage(&self.ops.file_io(), base, change)).await {
            Ok(staged) => Ok(Some((staged, ledger))),
            Err(error) => self.later("stage snapshot", error, attempts).map(|()| None),
        }
    }

    /// Whether the table has another format version, other columns or other partition fields by now.
    async fn is_another(&self, base: &Base) -> bool {
        let shape = |table: &TableMetadata| {
            (
                table.format_version(),
                table.current_schema_id(),
                table.last_column_id(),
                table.default_partition_spec_id(),
                table.last_partition_id(),
            )
        };
        let had = shape(&base.metadata);
        let now = self.ops.load().await;
        now.is_ok_and(|now| shape(&now.metadata) != had)
    }

    /// Whether it is certainly published.
    async fn publish(
        &self,
        base: &Base,
        staged: Staged,
        attempts: &mut Attempts,
    ) -> Result<bool, IcebergFailure> {
        let Staged {
            snapshot_id,
            built,
            requirements,
            paths,
            ..
        } = staged;
        attempts.sent += 1;
        attempts.snapshots.push(snapshot_id);
        failpoint::pass("iceberg.before-commit");
        let answer = self.ops.commit(base, built, requirements).await;
        failpoint::pass("iceberg.after-commit");
        match answer {
            Ok(()) => return Ok(true),
            Err(CommitError::Conflict) => {
                attempts.lost.push((snapshot_id, paths));
                attempts.last = Some(CommitError::Conflict);
            }
            // "Not now" may come from a gateway that gave up waiting: no more certain than no answer.
            Err(answer @ (CommitError::Unknown(_) | CommitError::Unavailable(_))) => {
                attempts.uncertain = true;
                self.tried_again("commit", answer.class(), &answer);
                attempts.last = Some(answer);
            }
            // Staged for the table as it was: where it was upgraded meanwhile, or a partition field got a column's name,
            // that is refused, not told a conflict.
            Err(CommitError::Refused(_)) if self.is_another(base).await => {
                attempts.lost.push((snapshot_id, paths));
                attempts.last = Some(CommitError::Conflict);
            }
            Err(CommitError::Refused(error)) => {
                stage::discard(&self.ops.file_io(), &paths).await;
                return Err(self.failed("commit", error));
            }
        }
        if let Some(last) = &attempts.last {
            let error = crate::errors::OneLine(last);
            tracing::info!(table = %self.ops.describe(), attempt = attempts.sent, %error, "commit not acknowledged; looking at the table");
        }
        Ok(false)
    }
}

/// The columns of a table that holds the commit: mostly those that its files were written with.
fn columns_after(table: &TableMetadata, wish: &IcebergCommit) -> TableColumns {
    let unchanged = table.last_column_id() == wish.columns.last_column_id
        && evolution::partition_fields(table) == *wish.columns.partition_fields
        && table.current_schema().as_struct() == wish.columns.schema.as_struct();
    match unchanged {
        true => wish.columns.clone(),
        false => TableColumns::of(table),
    }
}

fn extent(base: &Base, staged: &Staged) -> Extent {
    let snapshots = staged.built.metadata.snapshots().len();
    let [snapshots, manifests, bytes] =
        [snapshots, staged.manifests, base.metadata_bytes].map(|n| n as u64);
    Extent::new(snapshots, manifests, bytes)
}

/// The ledger after the commit.
fn advance(ledger: &TableLedger, wish: &IcebergCommit) -> TableLedger {
    let mut next = ledger.clone();
    if ledger.next.is_empty() && ledger.census.is_none() {
        next.census.clone_from(&wish.census);
    }
    for claim in &wish.claims {
        next.next.insert(claim.tp.clone(), claim.range.end);
        next.commits.insert(claim.tp.clone(), wish.commit_id);
    }
    for (tp, floor) in &wish.floor {
        let known = next.floor.entry(tp.clone()).or_insert(*floor);
        *known = (*known).max(*floor);
    }
    if wish.cluster_id.is_some() {
        next.cluster_id.clone_from(&wish.cluster_id);
    }
    next.topic_ids.extend(wish.topic_ids.clone());
    next.last_reads.extend(wish.last_reads.clone());
    next.commit_id = Some(wish.commit_id);
    next
}

/// Where each claim's topic-partition stands, for the owner who was fenced.
pub type Found = BTreeMap<TopicPartition, Option<Offset>>;

#[cfg(test)]
mod tests;
