//! A worker's open files of a dataset: rows split into folders, each file going up as one staged upload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::file::DatasetFile;
use crate::budget::Budget;
use crate::catalog::hive::Registrar;
use crate::commit::dataset::{DatasetCommitter, DatasetFileName};
use crate::engine::worker::{Shelf, ShelfError};
use crate::failpoint::wall_clock;
use crate::files::conform::dataset_schema;
use crate::files::{Conformer, Format, Limits, OpenFiles, Opening, Outlet, Places};
use crate::layout::hive::{Closing, HiveSplitter};
use crate::layout::{HivePartition, LayoutError, Rows, Split, Unfit};
use crate::ledger::CommitId;
use crate::plan::{DatasetPlan, PartitionExpr, Plan, SinkId, StorePlan};
use crate::record::{Offset, TopicPartition};
use crate::store::upload::{Upload, Uploader};

/// A worker's open files of a dataset.
pub struct DatasetShelf {
    store: StorePlan,
    partitioning: Vec<PartitionExpr>,
    /// For the schema of the last batch.
    path: Option<Path>,
    files: OpenFiles<TopicPartition, HivePartition, Upload>,
    outlet: StagedFiles,
    /// Told of the files' columns, where a table shows the dataset.
    registrar: Option<Arc<Registrar>>,
    began: Instant,
    schedule: Option<Schedule>,
    /// Present when files are closed with the time of their folder.
    closing: Option<Closing>,
}

impl std::fmt::Debug for DatasetShelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatasetShelf")
            .field("open", &self.files.open_files())
            .finish_non_exhaustive()
    }
}

impl DatasetShelf {
    /// # Errors
    /// When a time of the folders has a format that cannot be read.
    pub fn new(
        plan: &Plan,
        dataset: &DatasetPlan,
        committer: &Arc<DatasetCommitter>,
        uploader: &Uploader,
        budget: &Budget,
        registrar: Option<Arc<Registrar>>,
        places: &Places,
    ) -> Result<Self, LayoutError> {
        let closing = match plan.rotation.partition_close {
            Some(lateness) => Closing::of(&dataset.partitioning, lateness)?,
            None => None,
        };
        let format = Format::new(dataset.output.clone(), uploader.store().part_size());
        let extension = format.extension();
        let limits = Limits::of_dataset(&plan.rotation, places);
        let metadata = vec![(SinkId::FILE_KEY.to_owned(), plan.sink.to_string())];
        Ok(Self {
            store: dataset.store.clone(),
            partitioning: dataset.partitioning.clone(),
            path: None,
            files: OpenFiles::new(format, limits, metadata, budget),
            outlet: StagedFiles {
                uploader: uploader.clone(),
                committer: Arc::clone(committer),
                sink: plan.sink.to_string(),
                extension,
            },
            registrar,
            began: Instant::now(),
            schedule: Schedule::of(plan),
            closing,
        })
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
    /// Knows the generation that rows are written under: a lane that starts over drops what it had open.
    committer: Arc<DatasetCommitter>,
    sink: String,
    extension: &'static str,
}

impl Outlet<TopicPartition, HivePartition> for StagedFiles {
    type Upload = Upload;

    fn begin(&mut self, opening: &Opening<'_, TopicPartition, HivePartition>) -> Upload {
        let name = DatasetFileName {
            tp: opening.first.0.clone(),
            start: Offset(opening.first.1),
            generation: self.committer.generation(opening.first.0),
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

impl Shelf for DatasetShelf {
    type File = DatasetFile;

    fn write(&mut self, rows: Rows, now: Instant) -> Result<Vec<Unfit>, ShelfError> {
        let at = now.duration_since(self.began);
        let from = rows.batch.schema();
        let path = match &mut self.path {
            Some(path) if path.from == from => path,
            path => {
                let path = path.insert(Path::new(&self.partitioning, &from)?);
                if let Some(registrar) = &self.registrar {
                    registrar.files_have(path.splitter.file_schema());
                }
                path
            }
        };
        let rows = match &path.conformer {
            Some(conformer) => Rows {
                batch: conformer.apply(&rows.batch).map_err(ShelfError::new)?,
                ..rows
            },
            None => rows,
        };
        let clock = wall_clock();
        let room = DatasetFileName::room(&self.store, &rows.tp, self.outlet.extension);
        let split = path.splitter.split(&rows, clock, room);
        let Split { slices, unfit } = split.map_err(ShelfError::new)?;
        for slice in &slices {
            self.files
                .write(&rows.tp, &rows.tp, slice, at, &mut self.outlet)
                .map_err(ShelfError::new)?;
        }
        if let Some(closing) = &mut self.closing {
            let rows = match unfit.as_slice() {
                [] => rows,
                unfit => rows
                    .without(unfit)
                    .map_err(|error| ShelfError::new(LayoutError::Regroup(error)))?,
            };
            if closing.see(&rows, clock) {
                self.files.make_due(&rows.tp);
            }
        }
        Ok(unfit)
    }

    fn seal(&mut self, lanes: &[TopicPartition]) -> Result<Vec<DatasetFile>, ShelfError> {
        let mut files = Vec::new();
        for tp in lanes {
            let cut = self
                .files
                .cut(tp, &mut self.outlet)
                .map_err(ShelfError::new)?;
            if let Some(closing) = &mut self.closing {
                closing.cut(tp);
            }
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
            if let Some(closing) = &mut self.closing {
                closing.forget(tp);
            }
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
        self.files.make_spoiled_due(Upload::has_failed);
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
