//! Fits batches to a schema that they were not decoded with: the table's, or that of a file opened earlier. By column
//! name; absent optional columns become null, narrower types are widened, nested ones are followed. What fits already
//! is passed on without a copy. Whether it fits is decided once per pair of schemas.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
    RecordBatch, RecordBatchOptions, StringArray, StructArray, make_array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::errors::{Class, Classified, class};

mod union;

pub use union::union;

/// Arrow's name of the extension type, and the key it stands under.
const EXTENSION_KEY: &str = "ARROW:extension:name";
const UUID_EXTENSION: &str = "arrow.uuid";

/// Why a batch does not fit. `column` is the dotted path.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    #[error("column \"{column}\" is not in the schema")]
    Unknown { column: String },
    #[error("required column \"{column}\" is missing")]
    Missing { column: String },
    #[error("required column \"{column}\" has nulls")]
    Null { column: String },
    #[error("column \"{column}\" is {found}, which does not widen to {wanted}")]
    Type {
        column: String,
        found: DataType,
        wanted: DataType,
    },
    /// Columns are known by field id, and these are not the same.
    #[error("columns belong to another table schema")]
    OtherTable,
    #[error("a value of column \"{column}\" does not fit")]
    Value {
        column: String,
        #[source]
        source: ArrowError,
    },
}

impl Classified for Misfit {
    fn class(&self) -> Class {
        match self {
            Self::Null { .. } | Self::Value { .. } => class::RECORD_REFUSED,
            _ => class::TABLE_INCOMPATIBLE,
        }
    }
}

/// Turns batches of one schema into batches of another.
#[derive(Debug)]
pub struct Conformer {
    to: SchemaRef,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    /// Position in the source; `None` where it is absent.
    from: Option<usize>,
    to: FieldRef,
    step: Step,
}

/// What happens to one array.
#[derive(Debug)]
enum Step {
    Keep,
    /// Same values, other type (a decimal's precision, a zone's name).
    Retag,
    Cast,
    /// 16 bytes to their usual text.
    UuidText,
    Struct(Vec<Column>),
    List(Box<Step>),
    Map(Box<Step>, Box<Step>),
    Null,
}

impl Conformer {
    /// # Errors
    /// The first column of `from` that `to` cannot hold, or required column of `to` that `from` lacks.
    pub fn new(from: &SchemaRef, to: &SchemaRef) -> Result<Self, Misfit> {
        Ok(Self {
            to: to.clone(),
            columns: columns(from.fields(), to.fields(), "")?,
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.to
    }

    /// `batch` must have the schema that this was made for.
    ///
    /// # Errors
    /// A null in a required column, or a value that the wider type cannot say.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, Misfit> {
        let rows = batch.num_rows();
        let columns = self
            .columns
            .iter()
            .map(|column| {
                let array = column.apply(batch.columns(), rows)?;
                if !column.to.is_nullable() && array.null_count() > 0 {
                    return Err(Misfit::Null {
                        column: column.to.name().clone(),
                    });
                }
                Ok(array)
            })
            .collect::<Result<Vec<_>, Misfit>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.to.clone(), columns, &options).map_err(|source| {
            Misfit::Value {
                column: String::new(),
                source,
            }
        })
    }
}

impl Column {
    fn apply(&self, arrays: &[ArrayRef], rows: usize) -> Result<ArrayRef, Misfit> {
        match self.from {
            None => Ok(new_null_array(self.to.data_type(), rows)),
            Some(index) => self
                .step
                .apply(&arrays[index], self.to.data_type())
                .map_err(|e| e.within(self.to.name())),
        }
    }
}

/// An error on its way out of nested columns, gathering the path.
impl Misfit {
    fn within(mut self, name: &str) -> Self {
        if let Self::Unknown { column }
        | Self::Missing { column }
        | Self::Null { column }
        | Self::Type { column, .. }
        | Self::Value { column, .. } = &mut self
        {
            *column = join(name, column);
        }
        self
    }

    fn value(source: ArrowError) -> Self {
        Self::Value {
            column: String::new(),
            source,
        }
    }
}

fn join(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        (only, "") | ("", only) => only.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

impl Step {
    fn apply(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Misfit> {
        match self {
            Self::Keep => Ok(array.clone()),
            Self::Null => Ok(new_null_array(to, array.len())),
            Self::Retag => array
                .to_data()
                .into_builder()
                .data_type(to.clone())
                .build()
                .map(make_array)
                .map_err(Misfit::value),
            Self::Cast => {
                let strict = CastOptions {
                    safe: false,
                    ..CastOptions::default()
                };
                cast_with_options(array, to, &strict).map_err(Misfit::value)
            }
            Self::UuidText => Ok(Arc::new(uuid_text(array))),
            Self::Struct(columns) => {
                let from = array.as_struct();
                let DataType::Struct(fields) = to else {
                    return Ok(array.clone());
                };
                let children = columns
                    .iter()
                    .map(|column| column.apply(from.columns(), from.len()))
                    .collect::<Result<Vec<_>, _>>()?;
                StructArray::try_new_with_length(
                    fields.clone(),
                    children,
                    from.nulls().cloned(),
                    from.len(),
                )
                .map(|s| Arc::new(s) as ArrayRef)
                .map_err(Misfit::value)
            }
            Self::List(step) => match to {
                DataType::List(item) => list::<i32>(array, item, step),
                DataType::LargeList(item) => list::<i64>(array, item, step),
                DataType::FixedSizeList(item, size) => {
                    let from = array.as_fixed_size_list();
                    let values = step.apply(from.values(), item.data_type())?;
                    FixedSizeListArray::try_new(item.clone(), *size, values, from.nulls().cloned())
                        .map(|l| Arc::new(l) as ArrayRef)
                        .map_err(Misfit::value)
                }
                _ => Ok(array.clone()),
            },
            Self::Map(key, value) => map(array, to, key, value),
        }
    }
}

fn list<O: OffsetSizeTrait>(
    array: &ArrayRef,
    item: &FieldRef,
    step: &Step,
) -> Result<ArrayRef, Misfit> {
    let from = array.as_list::<O>();
    let values = step.apply(from.values(), item.data_type())?;
    GenericListArray::<O>::try_new(
        item.clone(),
        from.offsets().clone(),
        values,
        from.nulls().cloned(),
    )
    .map(|l| Arc::new(l) as ArrayRef)
    .map_err(Misfit::value)
}

fn map(array: &ArrayRef, to: &DataType, key: &Step, value: &Step) -> Result<ArrayRef, Misfit> {
    let from = array.as_map();
    let DataType::Map(entries, ordered) = to else {
        return Ok(array.clone());
    };
    let DataType::Struct(pair) = entries.data_type() else {
        return Ok(array.clone());
    };
    let keys = key.apply(from.keys(), pair[0].data_type())?;
    let values = value.apply(from.values(), pair[1].data_type())?;
    let inner = StructArray::try_new(pair.clone(), vec![keys, values], None);
    inner
        .and_then(|inner| {
            MapArray::try_new(
                entries.clone(),
                from.offsets().clone(),
                inner,
                from.nulls().cloned(),
                *ordered,
            )
        })
        .map(|m| Arc::new(m) as ArrayRef)
        .map_err(Misfit::value)
}

fn uuid_text(array: &ArrayRef) -> StringArray {
    let ids = array.as_fixed_size_binary();
    let mut text = arrow::array::StringBuilder::with_capacity(ids.len(), ids.len() * 36);
    let mut id = [0; 16];
    let mut buffer = uuid::Uuid::encode_buffer();
    for row in 0..ids.len() {
        if ids.is_null(row) {
            text.append_null();
        } else {
            id.copy_from_slice(ids.value(row));
            let uuid = uuid::Uuid::from_bytes(id);
            text.append_value(uuid.as_hyphenated().encode_lower(&mut buffer));
        }
    }
    text.finish()
}

fn columns(from: &Fields, to: &Fields, path: &str) -> Result<Vec<Column>, Misfit> {
    let mut at: HashMap<&str, usize> = HashMap::with_capacity(from.len());
    for (index, field) in from.iter().enumerate() {
        at.insert(field.name(), index);
    }
    let columns = to
        .iter()
        .map(|field| match at.remove(field.name().as_str()) {
            Some(index) => Ok(Column {
                from: Some(index),
                to: field.clone(),
                step: step(&from[index], field, &join(path, field.name()))?,
            }),
            None if field.is_nullable() => Ok(Column {
                from: None,
                to: field.clone(),
                step: Step::Null,
            }),
            None => Err(Misfit::Missing {
                column: join(path, field.name()),
            }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // The first in the source's order, so that the same batch always names the same column.
    match at.into_values().min() {
        Some(index) => Err(Misfit::Unknown {
            column: join(path, from[index].name()),
        }),
        None => Ok(columns),
    }
}

fn step(from: &Field, to: &Field, path: &str) -> Result<Step, Misfit> {
    use DataType as T;
    let misfit = || Misfit::Type {
        column: path.to_owned(),
        found: from.data_type().clone(),
        wanted: to.data_type().clone(),
    };
    Ok(match (from.data_type(), to.data_type()) {
        (a, b) if a == b => Step::Keep,
        (T::Null, _) => Step::Null,
        (T::Struct(a), T::Struct(b)) => Step::Struct(columns(a, b, path)?),
        (T::List(a), T::List(b))
        | (T::LargeList(a), T::LargeList(b))
        | (T::FixedSizeList(a, _), T::FixedSizeList(b, _)) => {
            if let (T::FixedSizeList(_, n), T::FixedSizeList(_, m)) =
                (from.data_type(), to.data_type())
                && n != m
            {
                return Err(misfit());
            }
            Step::List(Box::new(step(a, b, &join(path, "element"))?))
        }
        (T::Map(a, _), T::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (T::Struct(a), T::Struct(b)) if a.len() == 2 && b.len() == 2 => Step::Map(
                Box::new(step(&a[0], &b[0], &join(path, "key"))?),
                Box::new(step(&a[1], &b[1], &join(path, "value"))?),
            ),
            _ => return Err(misfit()),
        },
        (T::Decimal128(p, s), T::Decimal128(q, t)) if q >= p && s == t => Step::Retag,
        (T::Timestamp(a, Some(_)), T::Timestamp(b, Some(_))) if a == b => Step::Retag,
        (T::FixedSizeBinary(16), T::Utf8) => Step::UuidText,
        (a, b) if widens(a, b) => Step::Cast,
        _ => return Err(misfit()),
    })
}

/// Whether every value of `from` is one of `to`, beyond equality and what needs no cast.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (T::Int32, T::Int64) | (T::Float32, T::Float64) => true,
        (T::Utf8 | T::Utf8View, T::Utf8 | T::LargeUtf8) => true,
        (T::Binary | T::BinaryView, T::Binary | T::LargeBinary) => true,
        (T::List(a), T::LargeList(b)) => a.data_type() == b.data_type(),
        (T::Timestamp(from, a), T::Timestamp(to, b)) => {
            a.is_some() == b.is_some() && rank(*from) < rank(*to)
        }
        _ => false,
    }
}

fn rank(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

/// The schema of a dataset's files for rows of `schema`: UUIDs become strings. A 16-byte binary is opaque to Athena's
/// string columns and to Spark; text is read everywhere, DuckDB casts it where a UUID is wanted, and compression takes
/// back most of the difference.
pub fn dataset_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new_with_metadata(
        text_for_uuid(schema.fields()),
        schema.metadata().clone(),
    ))
}

fn text_for_uuid(fields: &Fields) -> Fields {
    fields.iter().map(text_field).collect()
}

fn text_field(field: &FieldRef) -> FieldRef {
    let ty = match field.data_type() {
        DataType::FixedSizeBinary(16) => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(text_for_uuid(fields)),
        DataType::List(item) => DataType::List(text_field(item)),
        DataType::LargeList(item) => DataType::LargeList(text_field(item)),
        DataType::Map(entries, ordered) => DataType::Map(text_field(entries), *ordered),
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(ty))
}

/// The Arrow schema of an Iceberg table's files: field ids on every field, UUIDs told apart from other 16-byte values.
///
/// # Errors
/// When the table has a type without an Arrow form.
pub fn table_schema(schema: &iceberg::spec::Schema) -> Result<SchemaRef, iceberg::Error> {
    let plain = iceberg::arrow::schema_to_arrow_schema(schema)?;
    let marked = mark_all(plain.fields(), schema);
    Ok(Arc::new(Schema::new(marked)))
}

fn mark_all(fields: &Fields, schema: &iceberg::spec::Schema) -> Fields {
    fields.iter().map(|f| mark(f, schema)).collect()
}

fn mark(field: &FieldRef, schema: &iceberg::spec::Schema) -> FieldRef {
    let ty = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(mark_all(fields, schema)),
        DataType::List(item) => DataType::List(mark(item, schema)),
        DataType::Map(entries, ordered) => DataType::Map(mark(entries, schema), *ordered),
        DataType::FixedSizeBinary(16) if names_uuid(field, schema) => {
            let mut metadata = field.metadata().clone();
            metadata.insert(EXTENSION_KEY.to_owned(), UUID_EXTENSION.to_owned());
            return Arc::new(field.as_ref().clone().with_metadata(metadata));
        }
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(ty))
}

fn names_uuid(field: &Field, schema: &iceberg::spec::Schema) -> bool {
    use iceberg::spec::{PrimitiveType, Type};
    field
        .metadata()
        .get(parquet::arrow::PARQUET_FIELD_ID_META_KEY)
        .and_then(|id| id.parse().ok())
        .and_then(|id| schema.field_by_id(id))
        .is_some_and(|f| *f.field_type == Type::Primitive(PrimitiveType::Uuid))
}

/// Whether [`table_schema`] marked it.
pub(super) fn is_uuid(field: &Field) -> bool {
    field.data_type() == &DataType::FixedSizeBinary(16)
        && field.metadata().get(EXTENSION_KEY).map(String::as_str) == Some(UUID_EXTENSION)
}

#[cfg(test)]
mod tests;
