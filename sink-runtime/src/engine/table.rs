//! The engine's parts for an Iceberg table: each worker's shelf of open data files, and commits of all lanes together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;

use self::target::{Target, Targets};
use super::coordinator::CutScope;
use super::deliver::{Deliver, Facts, Failure, Job, Landed};
use super::worker::{Shelf, ShelfError};
use crate::budget::Budget;
use crate::commit::iceberg::{IcebergCommit, IcebergFailure, NotCommitted};
use crate::errors::{OneLine, class};
use crate::files::{Conformer, Format, Limits, OpenFiles, Opening, Outlet, Sealed};
use crate::layout::Rows;
use crate::layout::iceberg::{IcebergLayout, IcebergPartition};
use crate::ledger::{Claim, CommitId, Progress as Known};
use crate::observe::{CommitOutcome, Progress};
use crate::plan::{IcebergPlan, OnRecordsExpired, OnSourceReset, OutputFormat, Plan};
use crate::record::{Offset, OffsetRange, TopicPartition};
use crate::store::Completed;
use crate::store::upload::{Finish, StagedObject, Upload};

pub mod target;

/// A worker's open data files. One group: everything of the worker is cut together.
pub struct TableShelf {
    targets: Arc<Targets>,
    files: OpenFiles<(), IcebergPartition, DataUpload>,
    /// How batches of the last schema become rows of the target.
    path: Option<Path>,
    began: Instant,
    /// Lanes with rows in the open files: all of them are due together.
    writing: Vec<TopicPartition>,
}

struct Path {
    from: SchemaRef,
    target: Arc<Target>,
    conformer: Conformer,
    layout: IcebergLayout,
}

/// A data file on its way.
#[derive(Debug)]
pub struct DataUpload {
    upload: Upload,
    target: Arc<Target>,
}

/// Every data file goes up as one staged upload, under the table's location.
struct DataFiles {
    target: Arc<Target>,
}

impl Outlet<(), IcebergPartition> for DataFiles {
    type Upload = DataUpload;

    fn begin(&mut self, opening: &Opening<'_, (), IcebergPartition>) -> DataUpload {
        // Unique to this attempt: no other can overwrite it.
        let name = format!(
            "{:05}-{}.parquet",
            opening.first.0.partition,
            CommitId::fresh()
        );
        let path = &opening.key.path;
        let key = if path.is_empty() {
            format!("data/{name}")
        } else {
            format!("data/{path}/{name}")
        };
        let target = Arc::clone(&self.target);
        DataUpload {
            upload: target.uploader.begin(key, BTreeMap::new()),
            target,
        }
    }

    fn push(&mut self, data: &mut DataUpload, part: Bytes) {
        data.upload.push(part);
    }
}

impl std::fmt::Debug for TableShelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableShelf")
            .field("open", &self.files.open_files())
            .finish_non_exhaustive()
    }
}

impl TableShelf {
    pub fn new(plan: &Plan, table: &IcebergPlan, targets: &Arc<Targets>, budget: &Budget) -> Self {
        let format = Format::new(
            OutputFormat::Parquet(table.parquet.clone()),
            targets.part_size(),
        );
        let limits = Limits::of_table(table, &plan.rotation, &plan.commit, plan.pod.workers);
        let metadata = vec![("tidewater.sink".to_owned(), plan.sink.to_string())];
        Self {
            targets: Arc::clone(targets),
            files: OpenFiles::new(format, limits, metadata, budget),
            path: None,
            began: Instant::now(),
            writing: Vec::new(),
        }
    }

    fn outlet(&self) -> Option<DataFiles> {
        let path = self.path.as_ref()?;
        Some(DataFiles {
            target: Arc::clone(&path.target),
        })
    }

    /// The path for rows of this schema, made anew when the schema or the target changed.
    fn path_for(&mut self, from: &SchemaRef) -> Result<&mut Path, ShelfError> {
        let stale = self.path.as_ref().is_none_or(|path| {
            !(Arc::ptr_eq(&path.from, from) || &path.from == from)
                || !self.targets.is_current(&path.target)
        });
        if stale {
            let target = self.targets.for_rows(from)?;
            let conformer = Conformer::new(from, &target.arrow).map_err(ShelfError::new)?;
            let layout =
                IcebergLayout::new(&target.schema, &target.spec).map_err(ShelfError::new)?;
            self.path = Some(Path {
                from: Arc::clone(from),
                target,
                conformer,
                layout,
            });
        }
        self.path.as_mut().ok_or_else(|| {
            ShelfError::Fatal(
                "no path".to_owned(),
                "a path was just made".into(),
                class::INTERNAL,
            )
        })
    }
}

impl Shelf for TableShelf {
    type File = TableFile;

    fn prepare(&mut self, schema: &SchemaRef) -> Result<(), ShelfError> {
        self.path_for(schema).map(|_| ())
    }

    fn write(&mut self, rows: Rows, now: Instant) -> Result<(), ShelfError> {
        let at = now.duration_since(self.began);
        let path = self.path_for(&rows.batch.schema())?;
        let batch = path.conformer.apply(&rows.batch).map_err(ShelfError::new)?;
        let rows = Rows { batch, ..rows };
        let slices = path.layout.split(&rows).map_err(ShelfError::new)?;
        let mut outlet = DataFiles {
            target: Arc::clone(&path.target),
        };
        for slice in &slices {
            self.files
                .write(&(), &rows.tp, slice, at, &mut outlet)
                .map_err(ShelfError::new)?;
        }
        if !self.writing.contains(&rows.tp) {
            self.writing.push(rows.tp);
        }
        Ok(())
    }

    fn seal(&mut self, _lanes: &[TopicPartition]) -> Result<Vec<TableFile>, ShelfError> {
        self.writing.clear();
        let Some(mut outlet) = self.outlet() else {
            return Ok(Vec::new());
        };
        let cut = self.files.cut(&(), &mut outlet).map_err(ShelfError::new)?;
        Ok(cut.files.into_iter().map(TableFile::of).collect())
    }

    fn discard(&mut self, _lanes: &[TopicPartition]) {
        self.writing.clear();
        self.path = None;
        self.files
            .discard(&())
            .into_iter()
            .for_each(|data| data.upload.abort());
    }

    fn due(&mut self, now: Instant) -> Vec<TopicPartition> {
        let due = self.files.due(now.duration_since(self.began));
        if due.is_empty() {
            Vec::new()
        } else {
            self.writing.clone()
        }
    }

    fn shed(&mut self, _budget: &Budget) -> Result<(), ShelfError> {
        let Some(mut outlet) = self.outlet() else {
            return Ok(());
        };
        self.files
            .shed(&mut outlet)
            .map(|_| ())
            .map_err(ShelfError::new)
    }

    fn open_files(&self) -> usize {
        self.files.open_files()
    }
}

/// A sealed data file of a table.
#[derive(Debug)]
pub struct TableFile {
    sealed: SealedData,
    target: Arc<Target>,
    bytes: Whereabouts,
}

#[derive(Debug)]
struct SealedData {
    partition: Arc<IcebergPartition>,
    size: u64,
    metrics: crate::files::Metrics,
}

/// Where a sealed file's bytes are.
#[derive(Debug)]
enum Whereabouts {
    Going(Finish),
    Staged(StagedObject),
    /// A whole object of this key; no metadata names it before the commit.
    Object(String),
    Gone,
}

impl TableFile {
    fn of(sealed: Sealed<IcebergPartition, DataUpload>) -> Self {
        let DataUpload { upload, target } = sealed.upload;
        let metrics = sealed.metrics.unwrap_or_default();
        Self {
            sealed: SealedData {
                partition: sealed.key,
                size: sealed.size,
                metrics,
            },
            target,
            bytes: Whereabouts::Going(upload.finish()),
        }
    }

    /// Makes the object whole, and describes it.
    async fn data_file(&mut self) -> Result<iceberg::spec::DataFile, Failure> {
        let again = |why: String| Failure::Reread { why, fenced: false };
        if let Whereabouts::Going(finish) = &mut self.bytes {
            let staged = finish.await;
            self.bytes = Whereabouts::Gone;
            let staged = staged.map_err(|error| {
                again(format!("upload of a data file failed: {}", OneLine(&error)))
            })?;
            self.bytes = Whereabouts::Staged(staged);
        }
        if let Whereabouts::Staged(staged) = &self.bytes {
            let store = self.target.uploader.store();
            let completed = store
                .complete(&staged.key, &staged.upload, &staged.parts)
                .await;
            let completed = completed.map_err(|error| Failure::of(&error))?;
            if completed == Completed::NoSuchUpload {
                let found = store
                    .head(&staged.key)
                    .await
                    .map_err(|error| Failure::of(&error))?;
                if found.is_none_or(|object| object.size != staged.size) {
                    let why = format!("staged data file \"{}\" vanished", staged.key);
                    self.bytes = Whereabouts::Gone;
                    return Err(again(why));
                }
            }
            self.bytes = Whereabouts::Object(staged.key.clone());
        }
        let Whereabouts::Object(key) = &self.bytes else {
            return Err(again("a data file is gone".to_owned()));
        };
        let location = format!("{}/{key}", self.target.location);
        let SealedData {
            partition,
            size,
            metrics,
        } = &self.sealed;
        let file = metrics.data_file(location, *size, partition.spec_id, partition.tuple.clone());
        file.map_err(|error| Failure::of(&error))
    }
}

/// Commits to one table.
#[derive(Debug)]
pub struct TableDeliver {
    targets: Arc<Targets>,
    progress: Progress,
    on_source_reset: OnSourceReset,
    on_records_expired: OnRecordsExpired,
    cluster: parking_lot::Mutex<Option<String>>,
}

impl TableDeliver {
    pub fn new(plan: &Plan, targets: Arc<Targets>, progress: Progress) -> Self {
        Self {
            targets,
            progress,
            on_source_reset: plan.source.on_source_reset,
            on_records_expired: plan.source.on_records_expired,
            cluster: parking_lot::Mutex::new(None),
        }
    }

    /// What the table knows of one topic-partition, against what Kafka says of it.
    fn known(
        &self,
        tp: &TopicPartition,
        next: Option<Offset>,
        facts: &Facts,
    ) -> Result<Known, Failure> {
        let Some(next) = next else {
            return Ok(Known::default());
        };
        let mut known = Known {
            next: Some(next),
            floor: Some(next),
            reread: false,
        };
        if facts.log_start > next {
            let gap = OffsetRange {
                start: next,
                end: facts.log_start,
            };
            let message = format!("{tp}: records {gap} expired before they were read");
            if self.on_records_expired == OnRecordsExpired::Stop {
                return Err(Failure::Trouble {
                    class: class::OFFSET_OUT_OF_RANGE,
                    message,
                });
            }
            tracing::warn!("{message}; going on at the log's start");
            self.progress.expired((gap.end.0 - gap.start.0) as u64);
            known.floor = Some(facts.log_start);
        }
        Ok(known)
    }

    async fn submit(
        &self,
        commit_id: CommitId,
        claims: Vec<Claim>,
        files: Vec<iceberg::spec::DataFile>,
    ) -> Result<Landed, Failure> {
        let target = self.targets.current().ok_or_else(|| Failure::Reread {
            why: "the table is not open".to_owned(),
            fenced: false,
        })?;
        let count = files.len() as u64;
        let next: BTreeMap<_, _> = claims
            .iter()
            .map(|claim| (claim.tp.clone(), claim.range.end))
            .collect();
        let wish = IcebergCommit {
            commit_id,
            // Reading began, without a hole, where the range starts: everything below it is done with.
            floor: claims
                .iter()
                .map(|claim| (claim.tp.clone(), claim.range.start))
                .collect(),
            claims,
            cluster_id: self.cluster.lock().clone(),
            topic_ids: BTreeMap::new(),
            files,
            spec_id: target.spec.spec_id(),
            schema: Arc::clone(&target.schema),
        };
        let committed = self
            .targets
            .commit(&wish)
            .await
            .map_err(|error| self.failure(error))?;
        for change in &committed.schema_changes {
            tracing::info!(%change, "the table's schema was evolved");
        }
        let outcome = if committed.already {
            CommitOutcome::AlreadyCommitted
        } else {
            CommitOutcome::Committed
        };
        Ok(Landed {
            outcome,
            next,
            snapshot_id: committed.snapshot_id,
            files: count,
        })
    }

    fn failure(&self, error: NotCommitted) -> Failure {
        match &error.failure {
            IcebergFailure::Fenced { .. } => Failure::Reread {
                why: error.failure.to_string(),
                fenced: true,
            },
            IcebergFailure::SchemaMoved(_) => {
                self.targets.forget();
                Failure::Reread {
                    why: OneLine(&error.failure).to_string(),
                    fenced: false,
                }
            }
            // The recovery looks at the table and applies the policy.
            IcebergFailure::TableMissing { .. }
            | IcebergFailure::TableReplaced { .. }
            | IcebergFailure::RolledBack { .. }
            | IcebergFailure::SourceReset { .. } => {
                self.targets.forget();
                Failure::Reread {
                    why: error.failure.to_string(),
                    fenced: false,
                }
            }
            failure => Failure::of(failure),
        }
    }
}

#[async_trait]
impl Deliver for TableDeliver {
    type File = TableFile;

    fn scope(&self) -> CutScope {
        CutScope::Together
    }

    async fn recover(
        &self,
        asked: &BTreeMap<TopicPartition, Facts>,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
        let Some(first) = asked.values().next() else {
            return Ok(BTreeMap::new());
        };
        self.cluster.lock().clone_from(&first.cluster_id);
        let Some(mut ledger) = self
            .targets
            .open()
            .await
            .map_err(|error| Failure::of(&error))?
        else {
            return Ok(BTreeMap::new());
        };
        let recreated = match (&ledger.cluster_id, &first.cluster_id) {
            (Some(was), Some(is)) if was != is => {
                Some(format!("cluster id was \"{was}\" and is \"{is}\""))
            }
            _ => asked.iter().find_map(|(tp, facts)| {
                let next = ledger.next.get(tp).filter(|next| facts.log_end < **next)?;
                Some(format!(
                    "{tp} ends at {}, below the committed offset {next}",
                    facts.log_end
                ))
            }),
        };
        if let Some(why) = recreated {
            let message = format!("the topic is not the one the table speaks of: {why}");
            if self.on_source_reset == OnSourceReset::Stop {
                return Err(Failure::Trouble {
                    class: class::SOURCE_RESET,
                    message,
                });
            }
            tracing::warn!("{message}; it is read from its start");
            let log = |facts: &Facts| OffsetRange {
                start: facts.log_start,
                end: facts.log_end,
            };
            let logs = asked.iter().map(|(tp, facts)| (tp.clone(), log(facts)));
            let restarted = self
                .targets
                .restart_source(first.cluster_id.as_deref(), &logs.collect())
                .await;
            ledger = restarted.map_err(|error| Failure::of(&error))?;
        }
        let known = |(tp, facts): (&TopicPartition, &Facts)| {
            Ok((
                tp.clone(),
                self.known(tp, ledger.next.get(tp).copied(), facts)?,
            ))
        };
        asked.iter().map(known).collect()
    }

    async fn anchor(&self, tp: &TopicPartition, at: Offset) -> Result<(), Failure> {
        let claim = Claim {
            tp: tp.clone(),
            expected: None,
            range: OffsetRange { start: at, end: at },
        };
        self.submit(CommitId::fresh(), vec![claim], Vec::new())
            .await
            .map(|_| ())
    }

    async fn commit(&self, job: &mut Job<TableFile>) -> Result<Landed, Failure> {
        let mut files = Vec::with_capacity(job.files.len());
        for file in &mut job.files {
            files.push(file.data_file().await?);
        }
        let claims = job
            .lanes
            .iter()
            .map(|lane| Claim {
                tp: lane.tp.clone(),
                expected: lane.expected,
                range: lane.range,
            })
            .collect();
        self.submit(job.commit_id, claims, files).await
    }

    fn abandon(&self, files: Vec<TableFile>) {
        for file in files {
            // Whole objects stay: an attempt of unknown outcome may yet make the table name them.
            if let Whereabouts::Staged(staged) = file.bytes {
                file.target.uploader.discard(staged);
            }
        }
    }

    async fn idle(&self, _lanes: &[TopicPartition]) {}
}
