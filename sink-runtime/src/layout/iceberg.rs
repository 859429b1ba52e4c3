//! Iceberg partitions: which tuple each row belongs to, by the table's partition spec, and the rows of each tuple in
//! one slice. Rows must have the table's Arrow schema already. Pure.
//!
//! Rows mostly come in runs of one partition, if not in one partition altogether: values are compared row by row in a
//! flat encoding, partitions are looked up once per run, and rows are copied only when a partition's are scattered.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use iceberg::arrow::type_to_arrow_type;
use iceberg::spec::{PartitionSpec, PrimitiveType, Schema, Struct, StructType, Type};

use super::{KEY_LIMIT, Refusal, Rows, Slice, Split, Unfit};
use crate::decode::RejectClass;
use crate::errors::{Class, Classified, class};

mod human;
mod order;
mod transform;
mod value;

pub use order::{OrderError, RowOrder};

use transform::{Apply, Failure};

/// Partitions remembered between batches, and bytes of their values; forgotten all at once when there are more.
const KNOWN: usize = 10_000;
const KNOWN_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("partition field \"{field}\" has no source column in the schema")]
    NoSource { field: String },
    #[error("partition field \"{field}\": {transform} of {source_type} is not defined")]
    Undefined {
        field: String,
        transform: String,
        source_type: String,
    },
    #[error("bind partition spec to the schema")]
    Bind(#[source] Box<iceberg::Error>),
    #[error("compute partition field \"{field}\"")]
    Compute {
        field: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("split rows by partition")]
    Split(#[source] ArrowError),
}

impl Classified for PartitionError {
    fn class(&self) -> Class {
        match self {
            Self::NoSource { .. } | Self::Undefined { .. } | Self::Bind(_) => {
                class::TABLE_INCOMPATIBLE
            }
            Self::Compute { .. } | Self::Split(_) => class::INTERNAL,
        }
    }
}

/// One partition of a table. Equal and ordered by spec and values.
#[derive(Clone, Debug)]
pub struct IcebergPartition {
    pub spec_id: i32,
    /// As Iceberg's own writers name directories: `created_at_hour=2026-11-21-09/country=ES`; empty without fields. What
    /// no path can hold is cut.
    pub path: String,
    pub tuple: Struct,
    row: Box<[u8]>,
}

impl IcebergPartition {
    fn identity(&self) -> (i32, &[u8]) {
        (self.spec_id, &self.row)
    }
}

impl PartialEq for IcebergPartition {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for IcebergPartition {}

impl PartialOrd for IcebergPartition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for IcebergPartition {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

/// Consecutive rows of one partition: first, and one past the last.
type Run = (usize, usize);

/// Splits rows by one partition spec of one table schema.
#[derive(Debug)]
pub struct IcebergLayout {
    spec_id: i32,
    fields: Vec<PartitionColumn>,
    converter: RowConverter,
    known: HashMap<Box<[u8]>, Arc<IcebergPartition>>,
    known_bytes: usize,
    path_limit: usize,
}

#[derive(Debug)]
struct PartitionColumn {
    name: String,
    /// Where the source column is: index of the column, then of each nested field.
    path: Vec<usize>,
    apply: Apply,
    result: PrimitiveType,
}

impl IcebergLayout {
    /// # Errors
    /// When a source column is missing or its transform is not defined for its type.
    pub fn new(schema: &Schema, spec: &PartitionSpec) -> Result<Self, PartitionError> {
        let bind = |e| PartitionError::Bind(Box::new(e));
        let mut fields = Vec::new();
        for field in spec.fields() {
            let no_source = || PartitionError::NoSource {
                field: field.name.clone(),
            };
            let source = schema.field_by_id(field.source_id).ok_or_else(no_source)?;
            let path = find(schema.as_struct(), field.source_id).ok_or_else(no_source)?;
            let undefined = || PartitionError::Undefined {
                field: field.name.clone(),
                transform: field.transform.to_string(),
                source_type: source.field_type.to_string(),
            };
            let Type::Primitive(source_type) = source.field_type.as_ref() else {
                return Err(undefined());
            };
            let result = match field.transform.result_type(&source.field_type) {
                Ok(Type::Primitive(result)) => result,
                _ => return Err(undefined()),
            };
            fields.push(PartitionColumn {
                name: field.name.clone(),
                path,
                apply: Apply::new(field.transform, source_type).ok_or_else(undefined)?,
                result,
            });
        }
        let types = fields
            .iter()
            .map(|f| type_to_arrow_type(&Type::Primitive(f.result.clone())).map(SortField::new))
            .collect::<Result<_, _>>()
            .map_err(bind)?;
        Ok(Self {
            spec_id: spec.spec_id(),
            fields,
            converter: RowConverter::new(types).map_err(PartitionError::Split)?,
            known: HashMap::new(),
            known_bytes: 0,
            path_limit: KEY_LIMIT,
        })
    }

    /// The same with paths of at most so many bytes.
    #[must_use]
    pub fn within(self, path_limit: usize) -> Self {
        Self { path_limit, ..self }
    }

    /// The slices of `rows`, one per partition, in the order in which partitions first appear; and the rows with a value
    /// that its transform cannot compute.
    ///
    /// # Errors
    /// When the rows are not of the table's schema.
    pub fn split(&mut self, rows: &Rows) -> Result<Split<IcebergPartition>, PartitionError> {
        let count = rows.batch.num_rows();
        if count == 0 {
            return Ok(Vec::new().into());
        }
        if self.fields.is_empty() {
            return Ok(vec![slice(self.unpartitioned(), rows, 0, count)].into());
        }
        let mut values = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            match field.values(&rows.batch)? {
                Some(array) => values.push(array),
                None => return self.split_the_others(rows),
            }
        }
        let encoded = self
            .converter
            .convert_columns(&values)
            .map_err(PartitionError::Split)?;

        // Runs of equal rows; per partition its first row and its runs.
        let mut at: HashMap<&[u8], usize> = HashMap::new();
        let mut partitions: Vec<(&[u8], Vec<Run>)> = Vec::new();
        let mut start = 0;
        for row in 1..=count {
            if row < count && encoded.row(row) == encoded.row(start) {
                continue;
            }
            let key = encoded.row(start).data();
            let index = *at.entry(key).or_insert_with(|| {
                partitions.push((key, Vec::new()));
                partitions.len() - 1
            });
            partitions[index].1.push((start, row));
            start = row;
        }
        drop(at);

        if self.known.len() + partitions.len() > KNOWN || self.known_bytes > KNOWN_BYTES {
            self.known.clear();
            self.known_bytes = 0;
        }
        let slices: Result<Vec<_>, _> = partitions
            .into_iter()
            .map(|(key, runs)| {
                let first = runs[0].0;
                let partition = match self.known.get(key) {
                    Some(known) => known.clone(),
                    None => self.learn(key, &values, first)?,
                };
                match runs.as_slice() {
                    [(from, to)] => Ok(slice(partition, rows, *from, *to)),
                    _ => gather(partition, rows, &runs),
                }
            })
            .collect();
        slices.map(Split::from)
    }

    #[cold]
    fn split_the_others(&mut self, rows: &Rows) -> Result<Split<IcebergPartition>, PartitionError> {
        let mut unfit: Vec<Unfit> = Vec::new();
        for field in &self.fields {
            let failing = field.failing(&rows.batch)?;
            let why = Arc::new(field.refusal());
            unfit.extend(failing.into_iter().map(|row| Unfit {
                row,
                why: Arc::clone(&why),
            }));
        }
        unfit.sort_by_key(|unfit| unfit.row);
        unfit.dedup_by_key(|unfit| unfit.row);
        let others = rows.without(&unfit).map_err(PartitionError::Split)?;
        let split = self.split(&others)?;
        Ok(Split { unfit, ..split })
    }

    fn unpartitioned(&mut self) -> Arc<IcebergPartition> {
        let spec_id = self.spec_id;
        self.known
            .entry(Box::default())
            .or_insert_with(|| {
                Arc::new(IcebergPartition {
                    spec_id,
                    path: String::new(),
                    tuple: Struct::empty(),
                    row: Box::default(),
                })
            })
            .clone()
    }

    /// The partition of the row `first`, remembered.
    fn learn(
        &mut self,
        key: &[u8],
        values: &[ArrayRef],
        first: usize,
    ) -> Result<Arc<IcebergPartition>, PartitionError> {
        let mut literals = Vec::with_capacity(values.len());
        let mut levels = Vec::with_capacity(values.len());
        for (field, array) in self.fields.iter().zip(values) {
            let literal = value::literal(array, first, &field.result);
            levels.push(human::level(
                &field.name,
                field.apply.granularity(),
                &field.result,
                literal.as_ref(),
            ));
            literals.push(literal);
        }
        let partition = Arc::new(IcebergPartition {
            spec_id: self.spec_id,
            path: human::path(&levels, self.path_limit),
            tuple: Struct::from_iter(literals),
            row: key.into(),
        });
        self.known_bytes += key.len();
        self.known.insert(key.into(), partition.clone());
        Ok(partition)
    }
}

impl PartitionColumn {
    /// `None` where a value has no result.
    fn values(&self, batch: &RecordBatch) -> Result<Option<ArrayRef>, PartitionError> {
        match self.apply.apply(&self.source(batch)?) {
            Ok(values) => Ok(Some(values)),
            Err(Failure::Value) => Ok(None),
            Err(Failure::Broken(error)) => Err(self.broken(error)),
        }
    }

    /// Rows whose values have none.
    fn failing(&self, batch: &RecordBatch) -> Result<Vec<usize>, PartitionError> {
        let mut rows = Vec::new();
        match self.apply.failing(&self.source(batch)?, 0, &mut rows) {
            Err(Failure::Broken(error)) => Err(self.broken(error)),
            _ => Ok(rows),
        }
    }

    fn source(&self, batch: &RecordBatch) -> Result<ArrayRef, PartitionError> {
        column(batch, &self.path).map_err(|error| self.broken(error.into()))
    }

    fn broken(&self, source: Box<dyn std::error::Error + Send + Sync>) -> PartitionError {
        PartitionError::Compute {
            field: self.name.clone(),
            source,
        }
    }

    fn refusal(&self) -> Refusal {
        Refusal {
            class: RejectClass::OutOfRange,
            message: format!(
                "partition field `{}`: its type cannot hold what its transform makes of the value",
                self.name
            ),
        }
    }
}

/// The nested column at `path`, null wherever a struct around it is.
fn column(batch: &RecordBatch, path: &[usize]) -> Result<ArrayRef, ArrowError> {
    let Some((first, nested)) = path.split_first() else {
        return Err(ArrowError::SchemaError("empty column path".to_owned()));
    };
    let mut array = batch.column(*first).clone();
    let mut nulls = array.nulls().cloned();
    for index in nested {
        array = array.as_struct().column(*index).clone();
        nulls = NullBuffer::union(nulls.as_ref(), array.nulls());
    }
    if nested.is_empty() {
        return Ok(array);
    }
    Ok(make_array(
        array.to_data().into_builder().nulls(nulls).build()?,
    ))
}

fn find(fields: &StructType, id: i32) -> Option<Vec<usize>> {
    for (index, field) in fields.fields().iter().enumerate() {
        if field.id == id {
            return Some(vec![index]);
        }
        if let Type::Struct(inner) = field.field_type.as_ref()
            && let Some(rest) = find(inner, id)
        {
            return Some([vec![index], rest].concat());
        }
    }
    None
}

fn slice(
    key: Arc<IcebergPartition>,
    rows: &Rows,
    from: usize,
    to: usize,
) -> Slice<IcebergPartition> {
    Slice {
        key,
        batch: rows.batch.slice(from, to - from),
        first_offset: rows.offsets[from],
        last_offset: rows.offsets[to - 1],
    }
}

/// Scattered runs, copied together.
fn gather(
    key: Arc<IcebergPartition>,
    rows: &Rows,
    runs: &[Run],
) -> Result<Slice<IcebergPartition>, PartitionError> {
    let indices = UInt32Array::from_iter_values(
        runs.iter()
            .flat_map(|(from, to)| (*from..*to).map(|row| row as u32)),
    );
    let first = runs.first().map_or(0, |r| r.0);
    let last = runs.last().map_or(0, |r| r.1 - 1);
    Ok(Slice {
        key,
        batch: take_record_batch(&rows.batch, &indices).map_err(PartitionError::Split)?,
        first_offset: rows.offsets[first],
        last_offset: rows.offsets[last],
    })
}

#[cfg(test)]
mod tests;
