//! Hive layout: `dt=2026-11-21/country=ES`, decided per row. Pure.
//!
//! * A time level formats an instant in the plan's zone. Timestamps without a zone, and dates, are local already: no
//!   zone is applied to them.
//! * Null, the empty string, a record without a timestamp and a column that the batch does not have go to
//!   `__HIVE_DEFAULT_PARTITION__`, and so does a text that is that name.
//! * A value that no folder can be named by has no place: too long in itself or with the other folders' names, a time
//!   beyond the calendar, a struct or a list where columns are found in records.
//! * A column that partitions under its own name (in any case) stands in the path only: readers take such a column
//!   from the path, and some refuse a file that has it too. Under another label it stays in the file.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use self::codes::Codes;
use self::level::{Coded, Directory, Level};
use super::grouping::{Grouping, whole};
use super::{HivePartition, KEY_LIMIT, LayoutError, Refusal, Rows, Split, Unfit};
use crate::decode::RejectClass;
use crate::plan::PartitionExpr;

mod closing;
mod codes;
mod level;
mod names;
mod time;
mod values;

pub use closing::Closing;
pub use names::{DEFAULT_PARTITION, escape, unescape};

/// Distinct values remembered per level; above it everything is learnt anew.
const KNOWN: usize = 1 << 16;

/// Splits batches by partition. One per worker; remembers the directories it has seen.
#[derive(Debug)]
pub struct HiveSplitter {
    levels: Vec<Level>,
    /// The batches' schema, and what of it goes into files.
    schema: SchemaRef,
    file_schema: SchemaRef,
    /// Columns that go into files, when not all do.
    kept: Option<Vec<usize>>,
    /// From the second level on: (partition so far, code of the level) -> partition.
    joins: Vec<Join>,
    root: Arc<HivePartition>,
    /// Of rows whose folders' names together make too long a key.
    too_deep: Arc<Refusal>,
    grouping: Grouping,
}

#[derive(Debug, Default)]
struct Join {
    known: Codes<u64>,
    partitions: Vec<Directory>,
}

impl Join {
    #[inline]
    fn id(&mut self, left: u32, right: u32, before: &[Directory], level: &Level) -> u32 {
        let partitions = &mut self.partitions;
        let pair = u64::from(left) << 32 | u64::from(right);
        self.known.code(pair, |_| {
            let (before, level) = (&before[left as usize], level.directory(right));
            let (outer, inner) = (&before.partition, &level.partition);
            let path = [outer.path.as_str(), inner.path.as_str()];
            partitions.push(Directory {
                partition: Arc::new(HivePartition {
                    path: path.join("/"),
                    values: [outer.values.as_slice(), inner.values.as_slice()].concat(),
                }),
                refusal: before.refusal.as_ref().or(level.refusal.as_ref()).cloned(),
            });
            level::index(partitions.len() - 1)
        })
    }
}

impl HiveSplitter {
    /// # Errors
    /// When a format cannot be read.
    pub fn new(exprs: &[PartitionExpr], schema: &Schema) -> Result<Self, LayoutError> {
        let levels: Vec<_> = exprs.iter().map(Level::new).collect::<Result<_, _>>()?;
        let empty = Arc::new(Schema::empty());
        let subjects: Vec<_> = levels.iter().map(Level::subject).collect();
        let too_deep = Refusal {
            class: RejectClass::OutOfRange,
            message: format!(
                "{}: their folders make a key of more than {KEY_LIMIT} bytes: send shorter values, or partition by fewer columns",
                subjects.join(", ")
            ),
        };
        let mut splitter = Self {
            joins: levels.iter().skip(1).map(|_| Join::default()).collect(),
            levels,
            schema: Arc::clone(&empty),
            file_schema: empty,
            kept: None,
            root: Arc::new(HivePartition {
                path: String::new(),
                values: Vec::new(),
            }),
            too_deep: Arc::new(too_deep),
            grouping: Grouping::default(),
        };
        splitter.bind(&Arc::new(schema.clone()))?;
        Ok(splitter)
    }

    /// Schema of the slices: the batches' own without the columns that stand in the path.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    fn bind(&mut self, schema: &SchemaRef) -> Result<(), LayoutError> {
        self.forget();
        for level in &mut self.levels {
            level.bind(schema);
        }
        let in_path = |name: &str| self.levels.iter().any(|level| level.replaces(name));
        let kept: Vec<_> = (0..schema.fields().len())
            .filter(|&n| !in_path(schema.field(n).name()))
            .collect();
        if kept.len() == schema.fields().len() {
            self.kept = None;
            self.file_schema = Arc::clone(schema);
        } else {
            let projected = schema.project(&kept).map_err(LayoutError::Regroup)?;
            self.file_schema = Arc::new(projected);
            self.kept = Some(kept);
        }
        self.schema = Arc::clone(schema);
        Ok(())
    }

    fn forget(&mut self) {
        for level in &mut self.levels {
            level.forget();
        }
        for join in &mut self.joins {
            join.known.forget();
            join.partitions.clear();
        }
    }

    /// One slice per partition in the batch, by first offset, in offset order; and the rows that have no place.
    /// `path_limit`: bytes that all folders of a file may take together.
    ///
    /// # Errors
    /// When Arrow cannot group the rows.
    pub fn split(
        &mut self,
        rows: &Rows,
        wall_clock_ms: i64,
        path_limit: usize,
    ) -> Result<Split<HivePartition>, LayoutError> {
        let schema = rows.batch.schema_ref();
        if !Arc::ptr_eq(schema, &self.schema) {
            if **schema == *self.schema {
                self.schema = Arc::clone(schema);
            } else {
                self.bind(schema)?;
            }
        }
        let crowded = |join: &Join| join.known.len() > KNOWN;
        if self.levels.iter().any(|level| level.known() > KNOWN) || self.joins.iter().any(crowded) {
            self.forget();
        }
        let batch = match &self.kept {
            Some(kept) => rows.batch.project(kept).map_err(LayoutError::Regroup)?,
            None => rows.batch.clone(),
        };
        if rows.offsets.is_empty() || self.levels.is_empty() {
            return Ok(whole(rows, batch, Arc::clone(&self.root)).into());
        }
        for level in &mut self.levels {
            level.encode(rows, wall_clock_ms);
        }
        let (ids, partitions) = join(&mut self.levels, &mut self.joins, rows.offsets.len());
        let key = |id: u32| Arc::clone(&partitions[id as usize].partition);
        let refusal = |id: u32| {
            let directory = &partitions[id as usize];
            let deep = directory.partition.path.len() > path_limit;
            let too_deep = deep.then_some(&self.too_deep);
            directory.refusal.as_ref().or(too_deep)
        };
        let fits = |id: u32| refusal(id).is_none();
        let slices = match &ids {
            Coded::All(id) => fits(*id).then(|| whole(rows, batch, key(*id))),
            Coded::Each(ids) => self
                .grouping
                .split(rows, batch, ids, fits, key)
                .map_err(LayoutError::Regroup)?,
        };
        if let Some(slices) = slices {
            return Ok(slices.into());
        }
        let unfit: Vec<_> = (0..rows.offsets.len())
            .filter_map(|row| {
                let why = Arc::clone(refusal(ids.at(row))?);
                Some(Unfit { row, why })
            })
            .collect();
        let others = rows.without(&unfit).map_err(LayoutError::Regroup)?;
        let split = self.split(&others, wall_clock_ms, path_limit)?;
        Ok(Split { unfit, ..split })
    }
}

/// Partition numbers of the rows, and the partitions they number.
fn join<'a>(
    levels: &'a mut [Level],
    joins: &'a mut [Join],
    rows: usize,
) -> (Coded, &'a [Directory]) {
    let Some((first, others)) = levels.split_first_mut() else {
        return (Coded::All(0), &[]);
    };
    let mut ids = first.take_codes();
    let mut partitions: &[Directory] = first.directories();
    for (level, join) in others.iter_mut().zip(joins) {
        let codes = level.take_codes();
        ids = match (ids, codes) {
            (Coded::All(left), Coded::All(right)) => {
                Coded::All(join.id(left, right, partitions, level))
            }
            (left, right) => {
                let pairs = (0..rows).map(|row| (left.at(row), right.at(row)));
                let ids = pairs.map(|(left, right)| join.id(left, right, partitions, level));
                Coded::Each(ids.collect())
            }
        };
        partitions = &join.partitions;
    }
    (ids, partitions)
}

/// Where a column is: its index, and those of the fields inside it.
type Place = Vec<usize>;

/// By exact name first; then dots lead into structs.
fn find(schema: &Schema, column: &str) -> Option<(Place, DataType)> {
    if let Some((index, field)) = schema.column_with_name(column) {
        return Some((vec![index], field.data_type().clone()));
    }
    let mut names = column.split('.');
    let (index, field) = schema.column_with_name(names.next()?)?;
    let (mut place, mut found) = (vec![index], field.data_type());
    for name in names {
        let DataType::Struct(fields) = found else {
            return None;
        };
        let (index, field) = fields.find(name)?;
        place.push(index);
        found = field.data_type();
    }
    Some((place, found.clone()))
}

/// The column, and which of its rows are null, in itself or in what it stands in.
fn fetch(batch: &RecordBatch, place: &[usize]) -> Option<(ArrayRef, Option<NullBuffer>)> {
    let (first, inner) = place.split_first()?;
    let mut array = batch.columns().get(*first)?;
    let mut nulls = array.nulls().cloned();
    for index in inner {
        array = array.as_struct().columns().get(*index)?;
        nulls = NullBuffer::union(nulls.as_ref(), array.nulls());
    }
    Some((
        Arc::clone(array),
        nulls.filter(|nulls| nulls.null_count() > 0),
    ))
}

#[cfg(test)]
mod tests;
