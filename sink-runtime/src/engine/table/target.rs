//! The open table that all workers of a process write to: one schema (with the columns the next commit will add, their
//! ids predicted), one partition spec, one place for data files. Workers extend it together, so that they predict alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::spec::{PartitionSpecRef, SortOrderRef};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use uuid::Uuid;

use self::opening::Opening;
use super::wishes::Wishes;
use crate::budget::Budget;
use crate::commit::iceberg::{
    Committed, Declared, IcebergCommit, IcebergCommitter, IcebergFailure, NotCommitted, Opened,
    TableLedger,
};
use crate::engine::worker::ShelfError;
use crate::errors::{Classified, OneLine, class};
use crate::files::conform::table_schema;
use crate::ledger::Said;
use crate::plan::{DecodePlan, IcebergPlan, S3Plan, StorePlan, ValueSchema, unheeded};
use crate::record::{Census, Offset, OffsetRange, TopicName, TopicPartition};
use crate::schema::evolution::{Incompatible, TableColumns, plan_evolution};
use crate::schema::iceberg::writable;
use crate::schema::precedent::{Precedent, with_missing};
use crate::schema::{Schema, arrow as arrow_schema};
use crate::store::StoreError;
use crate::store::upload::Uploader;

/// Part size and parts in flight where the warehouse is a file system.
const LOCAL: (usize, usize) = (8 << 20, 4);

/// What rows are written against. Later targets of one opening of the table hold all columns of earlier ones.
#[derive(Debug)]
pub struct Target {
    /// Of the table.
    pub uuid: Uuid,
    opening: Uuid,
    pub columns: TableColumns,
    pub arrow: ArrowSchemaRef,
    pub spec: PartitionSpecRef,
    pub order: SortOrderRef,
    pub location: String,
    pub wishes: Arc<Wishes>,
    pub uploader: Uploader,
}

impl Target {
    /// Whether both came of one opening: another one may have other columns under the same ids, and another layout.
    pub fn is_of_opening(&self, other: &Self) -> bool {
        self.opening == other.opening
    }

    /// The same opening with other columns, which must hold these under the same ids.
    fn with(&self, columns: TableColumns) -> Result<Self, TargetError> {
        let arrow =
            table_schema(&columns.schema).map_err(|error| TargetError::Schema(error.into()))?;
        Ok(Self {
            uuid: self.uuid,
            opening: self.opening,
            columns,
            arrow,
            spec: Arc::clone(&self.spec),
            order: Arc::clone(&self.order),
            location: self.location.clone(),
            wishes: Arc::clone(&self.wishes),
            uploader: self.uploader.clone(),
        })
    }

    /// This target over the table's columns as they are by now; `None` where files of it are wrong there.
    fn over(&self, table: &TableColumns) -> Option<Self> {
        let sources: Vec<i32> = self.spec.fields().iter().map(|f| f.source_id).collect();
        let columns = self
            .columns
            .over(table, &sources)
            .inspect_err(|moved| tracing::warn!(%moved, "somebody changed the table's columns"))
            .ok()?;
        self.with(columns).ok()
    }
}

/// Why the table cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Table(#[from] IcebergFailure),
    #[error("open the table's storage")]
    Store(#[source] StoreError),
    #[error("table location \"{location}\" is on a storage that the resource does not describe")]
    Location { location: String },
    #[error("use the table's schema")]
    Schema(#[source] crate::store::BoxError),
}

impl Classified for TargetError {
    fn class(&self) -> crate::errors::Class {
        match self {
            Self::Table(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Location { .. } => class::INVALID_SPEC,
            Self::Schema(_) => class::TABLE_INCOMPATIBLE,
        }
    }
}

/// The table as this process has it open.
#[derive(Debug)]
pub struct Targets {
    plan: IcebergPlan,
    /// Columns known before any record: declared ones, and the metadata columns.
    declared: Option<Schema>,
    /// Those of them that are known where the others are found in records.
    hinted: Schema,
    /// Fields that found columns may come to.
    max_columns: usize,
    committer: tokio::sync::Mutex<IcebergCommitter>,
    runtime: Handle,
    budget: Budget,
    current: Mutex<Option<Arc<Target>>>,
    opening: Mutex<Opening>,
    /// In a row, of those that waiting alone does not mend.
    max_failures: u32,
    /// This process has declared the table, well or not: later, it may be a newer resource that changed it.
    told: AtomicBool,
    /// Length of the table's metadata as last loaded.
    metadata_bytes: AtomicUsize,
}

impl Targets {
    pub fn new(
        plan: IcebergPlan,
        decode: &DecodePlan,
        committer: IcebergCommitter,
        runtime: Handle,
        budget: Budget,
        max_failures: u32,
    ) -> Self {
        let metadata = arrow_schema::metadata_schema(&decode.metadata);
        let (known, inference) = match &decode.value {
            ValueSchema::Declared { schema, .. } => (schema, None),
            ValueSchema::Inferred(inference) => (&inference.hints, Some(inference)),
        };
        let mut fields = known.fields.clone();
        fields.extend(metadata.fields);
        let known = Schema { fields };
        let (declared, hinted) = match inference {
            None => (Some(known), Schema::default()),
            Some(_) => (None, known),
        };
        let committer = tokio::sync::Mutex::new(committer);
        Self {
            plan,
            declared,
            hinted,
            max_columns: inference.map_or(usize::MAX, |inference| inference.max_columns),
            committer,
            runtime,
            budget,
            current: Mutex::new(None),
            opening: Mutex::default(),
            max_failures,
            told: AtomicBool::new(false),
            metadata_bytes: AtomicUsize::new(0),
        }
    }

    pub fn part_size(&self) -> usize {
        self.plan
            .storage
            .as_ref()
            .map_or(LOCAL.0, |s3| s3.part_size)
    }

    pub fn current(&self) -> Option<Arc<Target>> {
        self.current.lock().clone()
    }

    pub fn is_current(&self, target: &Arc<Target>) -> bool {
        self.current
            .lock()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, target))
    }

    /// The table moved under us: the next one to ask opens it anew.
    pub fn forget(&self) {
        *self.current.lock() = None;
    }

    /// The table's columns were seen: new ones are predicted from them from now on, and who renamed, dropped or added one, or
    /// a partition field, is followed. `None` is left, and returned, where no target is open or what is being written is wrong by now.
    fn follow(&self, table: Uuid, seen: &TableColumns) -> Option<Arc<Target>> {
        let mut current = self.current.lock();
        let target = current.as_ref().filter(|target| target.uuid == table)?;
        let same = target.columns.agrees_with(seen)
            && target.columns.former == seen.former
            && target.columns.partition_fields == seen.partition_fields;
        if !same {
            *current = target.over(seen).map(Arc::new);
        }
        current.clone()
    }

    /// Opens the table (again) and tells its ledger. `None`: it does not exist and nothing is known yet of the columns
    /// to create it with.
    pub async fn open(&self) -> Result<Option<TableLedger>, TargetError> {
        let known = match (self.current(), &self.declared) {
            (Some(target), _) => Some(columns(&target)),
            (None, declared) => declared.clone(),
        };
        let opened = match &known {
            Some(schema) => self.open_with(schema).await,
            None => return self.open_existing().await,
        };
        match opened {
            // What this process saw of the table may be gone; what its resource declares is not for us to leave out.
            Err(TargetError::Table(IcebergFailure::Incompatible(_))) if self.declared.is_none() => {
                self.forget();
                self.open_existing().await
            }
            opened => opened.map(|(_, ledger)| Some(ledger)),
        }
    }

    /// With inferred columns an absent table is created by the first records, and one that exists stays as it is until
    /// records ask for more.
    async fn open_existing(&self) -> Result<Option<TableLedger>, TargetError> {
        let ops = Arc::clone(self.committer.lock().await.table());
        let known = self.hinted.clone();
        let columns = match ops.load().await {
            Err(crate::catalog::CatalogError::NoSuchTable { .. })
                if self.plan.create_if_missing =>
            {
                return Ok(None);
            }
            Ok(table) => found::with_required(known, table.metadata.current_schema()),
            Err(_) => known,
        };
        self.open_with(&columns)
            .await
            .map(|(_, ledger)| Some(ledger))
    }

    async fn open_with(&self, schema: &Schema) -> Result<(Arc<Target>, TableLedger), TargetError> {
        let mut committer = self.committer.lock().await;
        let mut opened = Box::pin(committer.open(&self.plan, schema)).await?;
        tell(&opened);
        if !self.told.swap(true, Ordering::Relaxed) {
            if self.declare(&committer).await {
                opened = Box::pin(committer.open(&self.plan, schema)).await?;
            }
            for why in unheeded(&opened.properties, &self.plan) {
                tracing::warn!(%why, "a property of the table has no effect on the sink's files");
            }
        }
        drop(committer);
        let ledger = opened.ledger.clone();
        if let Some(target) = self.follow(opened.uuid, &opened.table_columns) {
            return Ok((target, ledger));
        }
        let target = Arc::new(self.target(&opened).await?);
        let mut current = self.current.lock();
        let of_this_table = |target: &&Arc<Target>| target.uuid == opened.uuid;
        if let Some(target) = current.as_ref().filter(of_this_table) {
            return Ok((Arc::clone(target), ledger));
        }
        *current = Some(Arc::clone(&target));
        Ok((target, ledger))
    }

    /// Brings the table to what the resource says, where that can be done; whether that changed it. A table that stays
    /// otherwise is written to as it is, and so is one whose catalog did not take the changes: it was opened, and data
    /// do not wait for a better one.
    async fn declare(&self, committer: &IcebergCommitter) -> bool {
        let declared = committer.declare(&self.plan, self.declared.clone());
        match Box::pin(declared).await {
            Ok(Declared::Synced { steps, .. }) => {
                for step in &steps {
                    tracing::info!(%step, "the table was changed to what the resource says");
                }
                !steps.is_empty()
            }
            Ok(Declared::Refused { changes, .. }) => {
                for why in &changes.refused {
                    tracing::warn!(%why, "the table differs from the resource and stays as it is");
                }
                false
            }
            Ok(Declared::Awaiting) => false,
            Err(error) => {
                let (why, advice) = (OneLine(&error).to_string(), error.class().advice);
                tracing::warn!(%why, advice, "the table was not changed to what the resource says; it is used as it is");
                false
            }
        }
    }

    async fn target(&self, opened: &Opened) -> Result<Target, TargetError> {
        let location = opened.location.trim_end_matches('/').to_owned();
        let (store, parts) = match (s3_location(&location), &self.plan.storage) {
            (Some((bucket, prefix)), Some(s3)) => {
                let plan = S3Plan {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                    ..s3.clone()
                };
                let ops = Arc::clone(self.committer.lock().await.table());
                (ops.store(&plan).await, s3.upload_concurrency)
            }
            (Some(_), None) => return Err(TargetError::Location { location }),
            (None, _) => {
                let path = location.strip_prefix("file://").unwrap_or(&location);
                let plan = StorePlan::Local { path: path.into() };
                (crate::store::open(&plan).await, LOCAL.1)
            }
        };
        let store = store.map_err(TargetError::Store)?;
        let columns = opened.columns.clone();
        let arrow =
            table_schema(&columns.schema).map_err(|error| TargetError::Schema(error.into()))?;
        Ok(Target {
            uuid: opened.uuid,
            opening: Uuid::new_v4(),
            columns,
            arrow,
            spec: Arc::clone(&opened.spec),
            order: Arc::clone(&opened.sort_order),
            location,
            wishes: Arc::new(Wishes::new(opened.properties.clone())),
            uploader: Uploader::new(store, self.runtime.clone(), parts, self.budget.clone()),
        })
    }

    /// What the table says of columns that are found in records; `None` where they are declared.
    pub(super) fn precedent(&self, target: &Target) -> Option<Arc<Precedent>> {
        self.declared.is_none().then(|| {
            let names = target.columns.partition_fields.iter();
            Arc::new(Precedent::of(
                &target.columns.schema,
                names,
                self.plan.evolution,
            ))
        })
    }

    /// The table for rows of these columns, made if it is missing.
    async fn open_for(&self, wanted: &Schema) -> Result<Arc<Target>, TargetError> {
        if self.declared.is_some() {
            return Ok(self.open_with(wanted).await?.0);
        }
        // Where somebody made it meanwhile, it is its columns that count.
        if self.open_existing().await?.is_some()
            && let Some(target) = self.current()
        {
            return Ok(target);
        }
        let placed = self.plan.partition_by.iter().map(|field| &field.column);
        let sorted = self.plan.sort_order.iter().map(|field| &field.column);
        let wanted = found::with_docs(wanted.clone(), &self.hinted);
        let wanted = with_missing(wanted, placed.chain(sorted).map(String::as_str));
        let opened = self.open_with(&wanted).await;
        if let Err(TargetError::Table(IcebergFailure::Incompatible(_))) = &opened
            && self.open_existing().await?.is_some()
            && let Some(target) = self.current()
        {
            return Ok(target);
        }
        Ok(opened?.0)
    }

    /// The target for rows of this schema, extended by what they need. Called on worker threads.
    pub(super) fn for_rows(
        self: &Arc<Self>,
        rows: &ArrowSchemaRef,
    ) -> Result<Arc<Target>, ShelfError> {
        let fatal = |error: &(dyn std::error::Error + 'static), class| {
            ShelfError::Fatal(OneLine(error).to_string(), "table".into(), class)
        };
        let wanted =
            arrow_schema::schema(rows).map_err(|error| fatal(&error, class::TABLE_INCOMPATIBLE))?;
        let target = match self.current() {
            Some(target) => target,
            None => self.opened_for(&wanted)?,
        };
        // Held over the planning: two workers that meet the same new column predict one id.
        let mut current = self.current.lock();
        let base = current.as_ref().map_or(&target, |current| current);
        let planned = plan_evolution(&base.columns, &wanted, self.plan.evolution);
        let unlike = |error: Incompatible| {
            let why = fatal(&error, class::TABLE_INCOMPATIBLE);
            match self.precedent(base) {
                Some(precedent) => ShelfError::Unlike {
                    precedent,
                    column: error.column,
                    why: Box::new(why),
                },
                None => why,
            }
        };
        let Some(new) = planned.map_err(unlike)? else {
            return Ok(Arc::clone(base));
        };
        if self.declared.is_none()
            && let Some(refused) = found::one_too_many(&new, self.max_columns)
        {
            return Err(unlike(refused));
        }
        for change in &new.changes {
            tracing::info!(%change, "the next commit evolves the table's schema");
        }
        let extended = base
            .with(base.columns.evolved(new.schema))
            .map_err(|error| fatal(&error, error.class()))?;
        let extended = Arc::new(extended);
        *current = Some(Arc::clone(&extended));
        Ok(extended)
    }

    pub async fn commit(&self, wish: &IcebergCommit) -> Result<Committed, NotCommitted> {
        let mut committer = self.committer.lock().await;
        // The metadata as text and as what is made of it, before and after; they go by themselves.
        let metadata = 4 * self.metadata_bytes.load(Ordering::Relaxed);
        let held = self.budget.reserve(metadata).leaving();
        let committed = Box::pin(committer.commit(wish)).await;
        drop(held);
        if let Ok(Committed {
            extent: Some(extent),
            ..
        }) = &committed
        {
            let bytes = usize::try_from(extent.metadata_bytes).unwrap_or_default();
            self.metadata_bytes.store(bytes, Ordering::Relaxed);
        }
        let committed = committed?;
        self.follow(wish.table, &committed.columns);
        Ok(committed)
    }

    /// Topics were recreated: their partitions among these begin anew, each at its log's start.
    pub async fn restart_source(
        &self,
        cluster_id: Option<&str>,
        topic_ids: &BTreeMap<TopicName, String>,
        logs: &BTreeMap<TopicPartition, OffsetRange>,
        said: &BTreeMap<TopicPartition, Said>,
    ) -> Result<TableLedger, TargetError> {
        let mut committer = self.committer.lock().await;
        let restart = committer.restart_source(cluster_id, topic_ids, logs, said);
        Ok(Box::pin(restart).await?)
    }

    /// Kafka lost records that the table holds: these go on where their logs end.
    pub async fn truncate_source(
        &self,
        ends: &BTreeMap<TopicPartition, Offset>,
        said: &BTreeMap<TopicPartition, Said>,
    ) -> Result<TableLedger, TargetError> {
        let mut committer = self.committer.lock().await;
        Ok(Box::pin(committer.truncate_source(ends, said)).await?)
    }

    /// The topics as they were when the sink first started; `now` where it starts now.
    pub async fn census(&self, now: &Census) -> Result<Census, TargetError> {
        let mut committer = self.committer.lock().await;
        Ok(Box::pin(committer.census(now)).await?)
    }
}

/// Those that values can be written to: the others stay as they are.
fn columns(target: &Target) -> Schema {
    writable(&target.columns.schema).0
}

fn tell(opened: &Opened) {
    if opened.created {
        tracing::info!(location = %opened.location, "table created");
    }
    if let Some(reset) = &opened.reset {
        tracing::warn!(
            ?reset,
            "the table was reset; settled as spec.onDestinationReset says"
        );
    }
}

/// Bucket and prefix of an object-store location.
pub(super) fn s3_location(location: &str) -> Option<(&str, &str)> {
    let rest = ["s3://", "s3a://", "s3n://"]
        .iter()
        .find_map(|scheme| location.strip_prefix(scheme))?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

mod found;
mod opening;

#[cfg(test)]
mod tests;
