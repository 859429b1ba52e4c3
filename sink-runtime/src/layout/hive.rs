//! Hive layout: `dt=2026-11-21/country=ES`, decided per row. Pure.
//!
//! * A time level formats an instant in the plan's zone. Timestamps without a zone, and dates, are local already: no
//!   zone is applied to them.
//! * Null, the empty string, a record without a timestamp, a time beyond the calendar and a column that the batch does
//!   not have go to `__HIVE_DEFAULT_PARTITION__`.
//! * A column that partitions under its own name (in any case) stands in the path only: readers take such a column
//!   from the path, and some refuse a file that has it too. Under another label it stays in the file.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use self::codes::Codes;
use self::level::{Coded, Level};
use super::grouping::{Grouping, whole};
use super::{HivePartition, LayoutError, Rows, Slice};
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
    grouping: Grouping,
}

#[derive(Debug, Default)]
struct Join {
    known: Codes<u64>,
    partitions: Vec<Arc<HivePartition>>,
}

impl Join {
    #[inline]
    fn id(&mut self, left: u32, right: u32, before: &[Arc<HivePartition>], level: &Level) -> u32 {
        let partitions = &mut self.partitions;
        let pair = u64::from(left) << 32 | u64::from(right);
        self.known.code(pair, |_| {
            let (outer, inner) = (&before[left as usize], level.directory(right));
            let path = [outer.path.as_str(), inner.path.as_str()];
            partitions.push(Arc::new(HivePartition {
                path: path.join("/"),
                values: [outer.values.as_slice(), inner.values.as_slice()].concat(),
            }));
            level::index(partitions.len() - 1)
        })
    }
}

impl HiveSplitter {
    /// # Errors
    /// When a format or a column's type cannot make directories.
    pub fn new(exprs: &[PartitionExpr], schema: &Schema) -> Result<Self, LayoutError> {
        let levels: Vec<_> = exprs.iter().map(Level::new).collect::<Result<_, _>>()?;
        let empty = Arc::new(Schema::empty());
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
            level.bind(schema)?;
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

    /// One slice per partition in the batch, by first offset; each row in exactly one, in offset order.
    ///
    /// # Errors
    /// When a column's type in this batch cannot make directories, or a value is too long for one.
    pub fn split(
        &mut self,
        rows: &Rows,
        wall_clock_ms: i64,
    ) -> Result<Vec<Slice<HivePartition>>, LayoutError> {
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
            return Ok(whole(rows, batch, Arc::clone(&self.root)));
        }
        for level in &mut self.levels {
            if let Err(error) = level.encode(rows, wall_clock_ms) {
                self.forget();
                return Err(error);
            }
        }
        let (ids, partitions) = join(&mut self.levels, &mut self.joins, rows.offsets.len());
        let key = |id: u32| Arc::clone(&partitions[id as usize]);
        match ids {
            Coded::All(id) => Ok(whole(rows, batch, key(id))),
            Coded::Each(ids) => self
                .grouping
                .split(rows, batch, &ids, key)
                .map_err(LayoutError::Regroup),
        }
    }
}

/// Partition numbers of the rows, and the partitions they number.
fn join<'a>(
    levels: &'a mut [Level],
    joins: &'a mut [Join],
    rows: usize,
) -> (Coded, &'a [Arc<HivePartition>]) {
    let Some((first, others)) = levels.split_first_mut() else {
        return (Coded::All(0), &[]);
    };
    let mut ids = first.take_codes();
    let mut partitions: &[Arc<HivePartition>] = first.directories();
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
