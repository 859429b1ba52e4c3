//! A worker's open data files of a table: rows split by partition tuple, each file going up as one staged upload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::file::TableFile;
use super::target::{Target, Targets, s3_location};
use crate::budget::Budget;
use crate::engine::worker::{Shelf, ShelfError};
use crate::errors::{OneLine, class};
use crate::files::{Conformer, Format, Limits, OpenFiles, Opening, Outlet, Places};
use crate::layout::iceberg::{IcebergLayout, IcebergPartition, RowOrder};
use crate::layout::{KEY_LIMIT, Rows, Split, Unfit};
use crate::ledger::CommitId;
use crate::plan::{IcebergPlan, OutputFormat, Plan, SinkId};
use crate::record::TopicPartition;
use crate::schema::precedent::Precedent;
use crate::store::upload::Upload;

/// A worker's open data files. One group: everything of the worker is cut together.
pub struct TableShelf {
    targets: Arc<Targets>,
    files: OpenFiles<(), IcebergPartition, DataUpload>,
    /// How batches of the last schema become rows of the target.
    path: Option<Path>,
    /// What the table says of found columns, and the target that says it.
    precedent: Option<(Arc<Target>, Option<Arc<Precedent>>)>,
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
pub(super) struct DataUpload {
    pub(super) upload: Upload,
    pub(super) target: Arc<Target>,
}

/// Bytes that a partition's path may take in the key of a data file.
fn room(target: &Target) -> usize {
    let prefix = s3_location(&target.location).map_or(0, |(_, prefix)| prefix.len() + 1);
    let others = target.wishes.key("p", &DataFiles::name(i32::MAX)).len() - 1;
    KEY_LIMIT.saturating_sub(prefix + others)
}

/// Every data file goes up as one staged upload, under the table's location.
struct DataFiles {
    target: Arc<Target>,
}

impl DataFiles {
    /// Unique to this attempt: no other can overwrite it.
    fn name(partition: i32) -> String {
        format!("{partition:05}-{}.parquet", CommitId::fresh())
    }
}

impl Outlet<(), IcebergPartition> for DataFiles {
    type Upload = DataUpload;

    fn begin(&mut self, opening: &Opening<'_, (), IcebergPartition>) -> DataUpload {
        let name = Self::name(opening.first.0.partition);
        let key = self.target.wishes.key(&opening.key.path, &name);
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
    pub fn new(
        plan: &Plan,
        table: &IcebergPlan,
        targets: &Arc<Targets>,
        budget: &Budget,
        places: &Places,
    ) -> Self {
        let format = Format::new(
            OutputFormat::Parquet(table.parquet.clone()),
            targets.part_size(),
        );
        let limits = Limits::of_table(table, &plan.rotation, &plan.commit, places);
        let metadata = vec![(SinkId::FILE_KEY.to_owned(), plan.sink.to_string())];
        Self {
            targets: Arc::clone(targets),
            files: OpenFiles::new(format, limits, metadata, budget),
            path: None,
            precedent: None,
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
            let layout = IcebergLayout::new(&target.columns.schema, &target.spec)
                .map_err(ShelfError::new)?
                .within(room(&target));
            let order = RowOrder::new(&target.columns.schema, &target.order).unwrap_or_else(|error| {
                let error = OneLine(&error).to_string();
                tracing::warn!(%error, "the table's sort order cannot be kept: rows are written as they come");
                None
            });
            self.files.sort_by(order.map(Arc::new));
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

    fn precedent(&mut self) -> Option<Arc<Precedent>> {
        let stale = self
            .precedent
            .as_ref()
            .is_none_or(|(target, _)| !self.targets.is_current(target));
        if stale {
            let target = self.targets.current();
            self.precedent = target.map(|target| {
                let precedent = self.targets.precedent(&target);
                (target, precedent)
            });
        }
        self.precedent.as_ref()?.1.clone()
    }

    fn prepare(&mut self, schema: &SchemaRef) -> Result<(), ShelfError> {
        self.path_for(schema).map(|_| ())
    }

    fn write(&mut self, rows: Rows, now: Instant) -> Result<Vec<Unfit>, ShelfError> {
        let at = now.duration_since(self.began);
        let path = self.path_for(&rows.batch.schema())?;
        let batch = path.conformer.apply(&rows.batch).map_err(ShelfError::new)?;
        let rows = Rows { batch, ..rows };
        let Split { slices, unfit } = path.layout.split(&rows).map_err(ShelfError::new)?;
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
        Ok(unfit)
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
        self.files.make_spoiled_due(|data| data.upload.has_failed());
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
