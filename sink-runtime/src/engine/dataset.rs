//! The engine's parts for a dataset: each worker's shelf of open files, and commits through the dataset's ledgers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;

use super::coordinator::CutScope;
use super::deliver::{Deliver, Facts, Failure, Job, Landed};
use super::worker::{Shelf, ShelfError};
use crate::budget::Budget;
use crate::commit::dataset::{
    CommitFailure, CommitRequest, DatasetCommitter, DatasetFileName, ResetRequest,
};
use crate::errors::{OneLine, class};
use crate::files::conform::dataset_schema;
use crate::files::{Conformer, Format, Limits, OpenFiles, Opening, Outlet, Sealed};
use crate::layout::hive::HiveSplitter;
use crate::layout::{HivePartition, Rows};
use crate::ledger::{
    CommitId, Origin, PendingFile, Progress as Known, Resume, SourceCheck, after_expiry,
    check_source,
};
use crate::observe::{CommitOutcome, Progress};
use crate::plan::{DatasetPlan, OnRecordsExpired, OnSourceReset, PartitionExpr, Plan};
use crate::record::{Offset, OffsetRange, TopicPartition};
use crate::store::upload::{Finish, StagedObject, Upload, Uploader};

/// Ledgers read at once after an assignment.
const LEDGERS_AT_ONCE: usize = 16;

/// Milliseconds of the wall clock, for partitions by wall clock only.
fn wall_clock() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// A worker's open files of a dataset.
pub struct DatasetShelf {
    partitioning: Vec<PartitionExpr>,
    /// For the schema of the last batch.
    path: Option<Path>,
    files: OpenFiles<TopicPartition, HivePartition, Upload>,
    outlet: StagedFiles,
    began: Instant,
    schedule: Option<Schedule>,
}

impl std::fmt::Debug for DatasetShelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatasetShelf")
            .field("open", &self.files.open_files())
            .finish_non_exhaustive()
    }
}

impl DatasetShelf {
    pub fn new(plan: &Plan, dataset: &DatasetPlan, uploader: &Uploader, budget: &Budget) -> Self {
        let format = Format::new(dataset.output.clone(), uploader.store().part_size());
        let extension = format.extension();
        let limits = Limits::of_dataset(&plan.rotation, plan.pod.workers);
        let metadata = vec![("tidewater.sink".to_owned(), plan.sink.to_string())];
        Self {
            partitioning: dataset.partitioning.clone(),
            path: None,
            files: OpenFiles::new(format, limits, metadata, budget),
            outlet: StagedFiles {
                uploader: uploader.clone(),
                sink: plan.sink.to_string(),
                extension,
            },
            began: Instant::now(),
            schedule: Schedule::of(plan),
        }
    }
}

/// How batches of one schema become rows of files.
struct Path {
    from: SchemaRef,
    /// `None` where the files' schema is the batches' own.
    conformer: Option<Conformer>,
    splitter: HiveSplitter,
}

impl Path {
    fn new(partitioning: &[PartitionExpr], from: &SchemaRef) -> Result<Self, ShelfError> {
        let to = dataset_schema(from);
        let conformer = if to == *from {
            None
        } else {
            Some(Conformer::new(from, &to).map_err(ShelfError::new)?)
        };
        let splitter = HiveSplitter::new(partitioning, &to).map_err(ShelfError::new)?;
        Ok(Self {
            from: SchemaRef::clone(from),
            conformer,
            splitter,
        })
    }
}

/// Moments at which every open file is committed, by wall clock.
struct Schedule {
    cron: croner::Cron,
    zone: chrono_tz::Tz,
    /// The next moment, on the shelf's own monotonic clock.
    next: Option<Duration>,
}

impl Schedule {
    fn of(plan: &Plan) -> Option<Self> {
        use std::str::FromStr;
        let (expression, zone) = plan.rotation.schedule.as_ref()?;
        let cron = croner::Cron::from_str(expression).ok()?;
        Some(Self {
            cron,
            zone: *zone,
            next: None,
        })
    }

    fn upcoming(&self, now: Duration) -> Option<Duration> {
        let wall = chrono::Utc::now().with_timezone(&self.zone);
        let moment = self.cron.find_next_occurrence(&wall, false).ok()?;
        Some(now + (moment - wall).to_std().ok()?)
    }
}

/// Every file goes up as one staged upload.
struct StagedFiles {
    uploader: Uploader,
    sink: String,
    extension: &'static str,
}

impl Outlet<TopicPartition, HivePartition> for StagedFiles {
    type Upload = Upload;

    fn begin(&mut self, opening: &Opening<'_, TopicPartition, HivePartition>) -> Upload {
        let name = DatasetFileName {
            tp: opening.first.0.clone(),
            start: Offset(opening.first.1),
            number: 0,
            commit: CommitId::fresh().short(),
            extension: self.extension.trim_start_matches('.').to_owned(),
        };
        let path = &opening.key.path;
        let key = if path.is_empty() {
            name.to_string()
        } else {
            format!("{path}/{name}")
        };
        self.uploader.begin(
            key,
            BTreeMap::from([("tidewater-sink".to_owned(), self.sink.clone())]),
        )
    }

    fn push(&mut self, upload: &mut Upload, part: Bytes) {
        upload.push(part);
    }
}

/// A sealed file of a dataset.
#[derive(Debug)]
pub struct DatasetFile {
    tp: TopicPartition,
    partition: Vec<String>,
    rows: u64,
    first: Offset,
    last: Offset,
    bytes: Whereabouts,
}

/// Where a sealed file's bytes are.
#[derive(Debug)]
enum Whereabouts {
    Going(Finish),
    Staged(StagedObject),
    /// Handed over to a commit, or failed.
    Gone,
}

impl DatasetFile {
    fn of(tp: &TopicPartition, sealed: Sealed<HivePartition, Upload>) -> Option<Self> {
        let span = sealed.spans.get(tp)?;
        Some(Self {
            tp: tp.clone(),
            partition: sealed.key.values.clone(),
            rows: sealed.rows,
            first: Offset(span.first),
            last: Offset(span.last),
            bytes: Whereabouts::Going(sealed.upload.finish()),
        })
    }

    async fn staged(&mut self) -> Result<PendingFile, Failure> {
        if let Whereabouts::Going(finish) = &mut self.bytes {
            let staged = finish.await;
            self.bytes = Whereabouts::Gone;
            let staged = staged.map_err(|error| {
                let why = format!(
                    "upload of {} [{}, {}] failed: {}",
                    self.tp,
                    self.first,
                    self.last,
                    OneLine(&error)
                );
                Failure::Reread { why, fenced: false }
            })?;
            self.bytes = Whereabouts::Staged(staged);
        }
        let Whereabouts::Staged(staged) = &self.bytes else {
            return Err(Failure::Reread {
                why: "a staged file is gone".to_owned(),
                fenced: false,
            });
        };
        Ok(PendingFile {
            key: staged.key.clone(),
            upload: staged.upload.clone(),
            parts: staged.parts.clone(),
            size: staged.size,
            rows: self.rows,
            partition: self.partition.clone(),
            first_offset: self.first,
            last_offset: self.last,
        })
    }
}

impl Shelf for DatasetShelf {
    type File = DatasetFile;

    fn write(&mut self, rows: Rows, now: Instant) -> Result<(), ShelfError> {
        let at = now.duration_since(self.began);
        let from = rows.batch.schema();
        let path = match &mut self.path {
            Some(path) if path.from == from => path,
            path => path.insert(Path::new(&self.partitioning, &from)?),
        };
        let rows = match &path.conformer {
            Some(conformer) => Rows {
                batch: conformer.apply(&rows.batch).map_err(ShelfError::new)?,
                ..rows
            },
            None => rows,
        };
        let slices = path
            .splitter
            .split(&rows, wall_clock())
            .map_err(ShelfError::new)?;
        for slice in &slices {
            self.files
                .write(&rows.tp, &rows.tp, slice, at, &mut self.outlet)
                .map_err(ShelfError::new)?;
        }
        Ok(())
    }

    fn seal(&mut self, lanes: &[TopicPartition]) -> Result<Vec<DatasetFile>, ShelfError> {
        let mut files = Vec::new();
        for tp in lanes {
            let cut = self
                .files
                .cut(tp, &mut self.outlet)
                .map_err(ShelfError::new)?;
            files.extend(
                cut.files
                    .into_iter()
                    .filter_map(|sealed| DatasetFile::of(tp, sealed)),
            );
        }
        Ok(files)
    }

    fn discard(&mut self, lanes: &[TopicPartition]) {
        for tp in lanes {
            self.files.discard(tp).into_iter().for_each(Upload::abort);
        }
    }

    fn due(&mut self, now: Instant) -> Vec<TopicPartition> {
        let now = now.duration_since(self.began);
        if let Some(schedule) = &mut self.schedule
            && schedule.next.is_none()
        {
            schedule.next = schedule.upcoming(now);
            self.files.set_schedule(schedule.next);
        }
        let due = self.files.due(now);
        if let Some(schedule) = &mut self.schedule
            && schedule.next.is_some_and(|next| next <= now)
        {
            schedule.next = None;
        }
        due
    }

    fn shed(&mut self, _budget: &Budget) -> Result<(), ShelfError> {
        self.files
            .shed(&mut self.outlet)
            .map(|_| ())
            .map_err(ShelfError::new)
    }

    fn open_files(&self) -> usize {
        self.files.open_files()
    }
}

/// Commits to a dataset, one ledger for each topic-partition.
#[derive(Debug)]
pub struct DatasetDeliver {
    committer: DatasetCommitter,
    uploader: Uploader,
    progress: Progress,
    on_source_reset: OnSourceReset,
    on_records_expired: OnRecordsExpired,
    cluster: parking_lot::Mutex<Option<String>>,
}

impl DatasetDeliver {
    pub fn new(
        plan: &Plan,
        committer: DatasetCommitter,
        uploader: Uploader,
        progress: Progress,
    ) -> Self {
        Self {
            committer,
            uploader,
            progress,
            on_source_reset: plan.source.on_source_reset,
            on_records_expired: plan.source.on_records_expired,
            cluster: parking_lot::Mutex::new(None),
        }
    }

    async fn recover_one(&self, tp: &TopicPartition, facts: &Facts) -> Result<Known, Failure> {
        let recovered = self.committer.open(tp).await.map_err(failure)?;
        if let Some(lost) = &recovered.lost {
            tracing::warn!(%tp, ?lost, "staged files of a commit had vanished; the range is read again");
        }
        let Some(document) = &recovered.document else {
            return Ok(Known::default());
        };
        let origin = Origin {
            cluster_id: facts.cluster_id.as_deref(),
            topic_id: None,
            log_start: facts.log_start,
            log_end: facts.log_end,
        };
        let (resume, class, message) = match check_source(document, &origin) {
            SourceCheck::Fine => {
                return Ok(Known {
                    next: recovered.next,
                    floor: Some(document.floor),
                    reread: false,
                });
            }
            SourceCheck::RecordsExpired { gap } => {
                let message = format!("{tp}: records {gap} expired before they were read");
                self.progress.expired((gap.end.0 - gap.start.0) as u64);
                (
                    after_expiry(self.on_records_expired, facts.log_start),
                    class::OFFSET_OUT_OF_RANGE,
                    message,
                )
            }
            SourceCheck::Recreated { why } => {
                let message = format!("{tp}: the topic is not the one the ledger speaks of: {why}");
                (
                    why.resume(self.on_source_reset, facts.log_start),
                    class::SOURCE_RESET,
                    message,
                )
            }
        };
        let Resume::ResetTo(next) = resume else {
            return Err(Failure::Trouble { class, message });
        };
        tracing::warn!(%tp, %next, "{message}; the ledger starts anew");
        let request = ResetRequest {
            tp: tp.clone(),
            next,
            commit_id: CommitId::fresh(),
            cluster_id: facts.cluster_id.clone(),
            topic_id: None,
        };
        self.committer.reset(request).await.map_err(failure)?;
        Ok(Known {
            next: Some(next),
            floor: Some(next),
            reread: false,
        })
    }
}

fn failure(error: CommitFailure) -> Failure {
    match &error {
        CommitFailure::Fenced { .. } => Failure::Reread {
            why: error.to_string(),
            fenced: true,
        },
        CommitFailure::Lost { .. } => Failure::Reread {
            why: error.to_string(),
            fenced: false,
        },
        _ => Failure::of(&error),
    }
}

#[async_trait]
impl Deliver for DatasetDeliver {
    type File = DatasetFile;

    fn scope(&self) -> CutScope {
        CutScope::Lane
    }

    async fn recover(
        &self,
        asked: &BTreeMap<TopicPartition, Facts>,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
        use futures::{StreamExt, TryStreamExt};
        if let Some(facts) = asked.values().next() {
            self.cluster.lock().clone_from(&facts.cluster_id);
        }
        let mut open = Vec::with_capacity(asked.len());
        for (tp, facts) in asked {
            open.push(async move { Ok((tp.clone(), self.recover_one(tp, facts).await?)) });
        }
        futures::stream::iter(open)
            .buffer_unordered(LEDGERS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn anchor(&self, tp: &TopicPartition, at: Offset) -> Result<(), Failure> {
        let cluster_id = self.cluster.lock().clone();
        let request = CommitRequest {
            tp: tp.clone(),
            expected: None,
            range: OffsetRange { start: at, end: at },
            floor: at,
            files: Vec::new(),
            commit_id: CommitId::fresh(),
            cluster_id,
            topic_id: None,
        };
        self.committer
            .commit(request)
            .await
            .map(|_| ())
            .map_err(failure)
    }

    async fn commit(&self, job: &mut Job<DatasetFile>) -> Result<Landed, Failure> {
        let mut pending = Vec::with_capacity(job.files.len());
        for file in &mut job.files {
            pending.push(file.staged().await?);
        }
        let mut landed = Landed {
            outcome: CommitOutcome::Committed,
            next: BTreeMap::new(),
            snapshot_id: None,
            files: 0,
        };
        // Lanes of a dataset are cut one by one.
        for lane in &job.lanes {
            let request = CommitRequest {
                tp: lane.tp.clone(),
                expected: lane.expected,
                range: lane.range,
                floor: lane.range.end,
                files: std::mem::take(&mut pending),
                commit_id: job.commit_id,
                cluster_id: self.cluster.lock().clone(),
                topic_id: None,
            };
            landed.files += request.files.len() as u64;
            let committed = self.committer.commit(request).await.map_err(failure)?;
            if committed.already {
                landed.outcome = CommitOutcome::AlreadyCommitted;
            }
            landed.next.insert(lane.tp.clone(), committed.next);
        }
        for file in &mut job.files {
            file.bytes = Whereabouts::Gone;
        }
        Ok(landed)
    }

    fn abandon(&self, files: Vec<DatasetFile>) {
        for file in files {
            match file.bytes {
                Whereabouts::Staged(staged) => self.uploader.discard(staged),
                Whereabouts::Going(_) | Whereabouts::Gone => {}
            }
        }
    }

    async fn idle(&self, lanes: &[TopicPartition]) {
        for tp in lanes {
            if let Err(error) = self.committer.settle(tp).await {
                tracing::debug!(%tp, error = %OneLine(&error), "the ledger's pending list stays for now");
            }
        }
    }
}
