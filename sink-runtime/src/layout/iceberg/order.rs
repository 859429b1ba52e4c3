//! The order of a table's rows: keys that compare, byte by byte, as the table's sort order says of the rows. Pure.

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows as Keys, SortField};
use iceberg::arrow::type_to_arrow_type;
use iceberg::spec::{NullOrder, Schema, SortDirection, SortOrder, Transform, Type};

use super::transform::Apply;
use super::{column, find};

#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("sort order {id} is by a column that is not there (id {source_id})")]
    NoSource { id: i64, source_id: i32 },
    #[error("sort order {id} is by {transform} of \"{column}\", which is not defined")]
    Undefined {
        id: i64,
        transform: String,
        column: String,
    },
    #[error("compute {transform} of \"{column}\" for the sort order")]
    Compute {
        transform: String,
        column: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("make sort keys")]
    Keys(#[source] ArrowError),
}

/// A table's sort order, bound to its columns.
#[derive(Debug)]
pub struct RowOrder {
    id: i32,
    columns: Vec<KeyColumn>,
    converter: RowConverter,
}

#[derive(Debug)]
struct KeyColumn {
    name: String,
    transform: Transform,
    path: Vec<usize>,
    apply: Apply,
}

impl RowOrder {
    /// `None` for a table that is not sorted.
    ///
    /// # Errors
    /// When a column is missing or its transform is not defined for its type.
    pub fn new(schema: &Schema, order: &SortOrder) -> Result<Option<Self>, OrderError> {
        if order.is_unsorted() {
            return Ok(None);
        }
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for field in &order.fields {
            let missing = || OrderError::NoSource {
                id: order.order_id,
                source_id: field.source_id,
            };
            let source = schema.field_by_id(field.source_id).ok_or_else(missing)?;
            let path = find(schema.as_struct(), field.source_id).ok_or_else(missing)?;
            let undefined = || OrderError::Undefined {
                id: order.order_id,
                transform: field.transform.to_string(),
                column: source.name.clone(),
            };
            let Type::Primitive(source_type) = source.field_type.as_ref() else {
                return Err(undefined());
            };
            let result = field.transform.result_type(&source.field_type);
            let result = result.map_err(|_| undefined())?;
            let result = type_to_arrow_type(&result).map_err(|_| undefined())?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            fields.push(SortField::new_with_options(result, options));
            columns.push(KeyColumn {
                name: source.name.clone(),
                transform: field.transform,
                path,
                apply: Apply::new(field.transform, source_type).ok_or_else(undefined)?,
            });
        }
        Ok(Some(Self {
            id: i32::try_from(order.order_id).unwrap_or_default(),
            columns,
            converter: RowConverter::new(fields).map_err(OrderError::Keys)?,
        }))
    }

    /// The table's number of this order.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// A key for each row of a batch with the table's columns.
    ///
    /// # Errors
    /// When a value is outside what its transform is defined for.
    pub fn keys(&self, batch: &RecordBatch) -> Result<Keys, OrderError> {
        let values = self.columns.iter().map(|key| {
            let compute = |source| OrderError::Compute {
                transform: key.transform.to_string(),
                column: key.name.clone(),
                source,
            };
            let source = column(batch, &key.path).map_err(|e| compute(e.into()))?;
            key.apply
                .apply(&source)
                .map_err(|failure| compute(failure.into_error()))
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        self.converter
            .convert_columns(&values)
            .map_err(OrderError::Keys)
    }
}

#[cfg(test)]
mod tests;
