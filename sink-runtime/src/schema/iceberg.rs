//! Our columns as an Iceberg schema, and back; partition spec and sort order from the plan. Pure.
//!
//! Fresh field ids go level by level, as the reference implementation assigns them: all fields of a struct first, then
//! what is inside each. Two processes that start from the same columns arrive at the same ids.

use std::sync::Arc;

use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, NullOrder, PartitionSpec, PrimitiveType,
    Schema as IcebergSchema, SortDirection, SortOrder, StructType, Transform, Type as IcebergType,
};

use super::{Field, Schema, Type};
use crate::errors::{Class, Classified, class};
use crate::plan::{PartitionField, PartitionTransform, SortField};
use crate::store::BoxError;

#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    #[error("columns do not make an Iceberg schema")]
    Schema(#[source] BoxError),
    #[error("no column \"{column}\" to {purpose} by")]
    NoSuchColumn {
        column: String,
        purpose: &'static str,
    },
    #[error("cannot {purpose} by \"{column}\" with {transform}")]
    Transform {
        column: String,
        purpose: &'static str,
        transform: Transform,
        #[source]
        source: BoxError,
    },
    #[error("column \"{column}\" has type {ty}, which has no counterpart here")]
    UnsupportedType { column: String, ty: String },
}

impl Classified for MappingError {
    fn class(&self) -> Class {
        match self {
            Self::UnsupportedType { .. } => class::TABLE_INCOMPATIBLE,
            _ => class::INVALID_SPEC,
        }
    }
}

/// Hands out field ids in ascending order.
#[derive(Debug)]
pub(crate) struct FreshIds {
    last: i32,
}

impl FreshIds {
    pub(crate) fn after(last: i32) -> Self {
        Self { last }
    }

    pub(crate) fn take(&mut self) -> i32 {
        self.last += 1;
        self.last
    }

    /// `ty` with every id inside it replaced by a fresh one.
    pub(crate) fn renumber(&mut self, ty: &IcebergType) -> IcebergType {
        match ty {
            IcebergType::Primitive(_) => ty.clone(),
            IcebergType::Struct(inner) => {
                IcebergType::Struct(StructType::new(self.renumber_fields(inner.fields())))
            }
            IcebergType::List(list) => {
                let id = self.take();
                IcebergType::List(ListType::new(self.renumber_field(&list.element_field, id)))
            }
            IcebergType::Map(map) => {
                let (key, value) = (self.take(), self.take());
                IcebergType::Map(MapType::new(
                    self.renumber_field(&map.key_field, key),
                    self.renumber_field(&map.value_field, value),
                ))
            }
        }
    }

    pub(crate) fn renumber_fields(&mut self, fields: &[NestedFieldRef]) -> Vec<NestedFieldRef> {
        let ids: Vec<i32> = fields.iter().map(|_| self.take()).collect();
        fields
            .iter()
            .zip(ids)
            .map(|(field, id)| self.renumber_field(field, id))
            .collect()
    }

    fn renumber_field(&mut self, field: &NestedField, id: i32) -> NestedFieldRef {
        let mut field = field.clone();
        field.id = id;
        field.field_type = Box::new(self.renumber(&field.field_type));
        Arc::new(field)
    }
}

/// # Errors
/// When two columns have one name.
pub fn to_iceberg(schema: &Schema) -> Result<IcebergSchema, MappingError> {
    let fields = FreshIds::after(0).renumber_fields(&unnumbered(&schema.fields));
    IcebergSchema::builder()
        .with_fields(fields)
        .build()
        .map_err(|e| MappingError::Schema(e.into()))
}

fn unnumbered(fields: &[Field]) -> Vec<NestedFieldRef> {
    fields.iter().map(|f| Arc::new(field(f))).collect()
}

fn field(field: &Field) -> NestedField {
    let mut made = NestedField::new(0, &field.name, iceberg_type(&field.ty), field.required);
    made.doc.clone_from(&field.doc);
    made
}

/// Ids inside are all zero: see [`FreshIds::renumber`].
fn iceberg_type(ty: &Type) -> IcebergType {
    let primitive = match ty {
        Type::Boolean => PrimitiveType::Boolean,
        Type::Int => PrimitiveType::Int,
        Type::Long => PrimitiveType::Long,
        Type::Float => PrimitiveType::Float,
        Type::Double => PrimitiveType::Double,
        Type::Decimal { precision, scale } => PrimitiveType::Decimal {
            precision: u32::from(*precision),
            scale: u32::from(*scale),
        },
        Type::Date => PrimitiveType::Date,
        Type::Time => PrimitiveType::Time,
        Type::Timestamp => PrimitiveType::Timestamp,
        Type::Timestamptz => PrimitiveType::Timestamptz,
        Type::String => PrimitiveType::String,
        Type::Uuid => PrimitiveType::Uuid,
        Type::Binary => PrimitiveType::Binary,
        Type::Struct(fields) => return IcebergType::Struct(StructType::new(unnumbered(fields))),
        Type::List(element) => {
            return IcebergType::List(ListType::new(Arc::new(NestedField::list_element(
                0,
                iceberg_type(&element.ty),
                element.required,
            ))));
        }
        Type::Map(value) => {
            return IcebergType::Map(MapType::new(
                Arc::new(NestedField::map_key_element(
                    0,
                    IcebergType::Primitive(PrimitiveType::String),
                )),
                Arc::new(NestedField::map_value_element(
                    0,
                    iceberg_type(&value.ty),
                    value.required,
                )),
            ));
        }
    };
    IcebergType::Primitive(primitive)
}

/// The columns that values can be written to, and the full names and types of those that nothing here has a type for.
pub fn writable(schema: &IcebergSchema) -> (Schema, Vec<(String, String)>) {
    let mut others = Vec::new();
    let fields = writable_fields("", schema.as_struct().fields(), &mut others);
    (Schema { fields }, others)
}

fn writable_fields(
    path: &str,
    fields: &[NestedFieldRef],
    others: &mut Vec<(String, String)>,
) -> Vec<Field> {
    let mut writable = Vec::with_capacity(fields.len());
    for field in fields {
        let path = join(path, &field.name);
        let ty = match &*field.field_type {
            IcebergType::Struct(inner) => {
                Type::Struct(writable_fields(&path, inner.fields(), others))
            }
            other => match type_from(&path, other) {
                Ok(ty) => ty,
                Err(_) => {
                    others.push((path, other.to_string()));
                    continue;
                }
            },
        };
        writable.push(Field {
            name: field.name.clone(),
            ty,
            required: field.required,
            doc: field.doc.clone(),
            encoding: None,
        });
    }
    writable
}

fn fields_from(path: &str, fields: &[NestedFieldRef]) -> Result<Vec<Field>, MappingError> {
    fields.iter().map(|f| field_from(path, f)).collect()
}

fn field_from(path: &str, field: &NestedField) -> Result<Field, MappingError> {
    let path = join(path, &field.name);
    Ok(Field {
        name: field.name.clone(),
        ty: type_from(&path, &field.field_type)?,
        required: field.required,
        doc: field.doc.clone(),
        encoding: None,
    })
}

fn type_from(path: &str, ty: &IcebergType) -> Result<Type, MappingError> {
    let unsupported = || MappingError::UnsupportedType {
        column: path.to_owned(),
        ty: ty.to_string(),
    };
    Ok(match ty {
        IcebergType::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => Type::Boolean,
            PrimitiveType::Int => Type::Int,
            PrimitiveType::Long => Type::Long,
            PrimitiveType::Float => Type::Float,
            PrimitiveType::Double => Type::Double,
            PrimitiveType::Decimal { precision, scale } => Type::Decimal {
                precision: u8::try_from(*precision).map_err(|_| unsupported())?,
                scale: u8::try_from(*scale).map_err(|_| unsupported())?,
            },
            PrimitiveType::Date => Type::Date,
            PrimitiveType::Time => Type::Time,
            PrimitiveType::Timestamp => Type::Timestamp,
            PrimitiveType::Timestamptz => Type::Timestamptz,
            PrimitiveType::String => Type::String,
            PrimitiveType::Uuid => Type::Uuid,
            PrimitiveType::Binary => Type::Binary,
            PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs | PrimitiveType::Fixed(_) => {
                return Err(unsupported());
            }
        },
        IcebergType::Struct(inner) => Type::Struct(fields_from(path, inner.fields())?),
        IcebergType::List(list) => Type::List(Box::new(field_from(path, &list.element_field)?)),
        IcebergType::Map(map) => {
            if *map.key_field.field_type != IcebergType::Primitive(PrimitiveType::String) {
                return Err(unsupported());
            }
            Type::Map(Box::new(field_from(path, &map.value_field)?))
        }
    })
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

pub fn transform(transform: PartitionTransform) -> Transform {
    match transform {
        PartitionTransform::Identity => Transform::Identity,
        PartitionTransform::Year => Transform::Year,
        PartitionTransform::Month => Transform::Month,
        PartitionTransform::Day => Transform::Day,
        PartitionTransform::Hour => Transform::Hour,
        PartitionTransform::Bucket(n) => Transform::Bucket(n),
        PartitionTransform::Truncate(w) => Transform::Truncate(w),
        PartitionTransform::Void => Transform::Void,
    }
}

/// Iceberg's usual name of a partition field. Dots of nested columns become underscores, for a dot looks like a path to
/// readers. What else Avro does not allow in a name is spelt out in manifests alone.
pub fn partition_name(column: &str, transform: PartitionTransform) -> String {
    let column = column.replace('.', "_");
    match transform {
        PartitionTransform::Identity => column,
        PartitionTransform::Year => format!("{column}_year"),
        PartitionTransform::Month => format!("{column}_month"),
        PartitionTransform::Day => format!("{column}_day"),
        PartitionTransform::Hour => format!("{column}_hour"),
        PartitionTransform::Bucket(n) => format!("{column}_bucket_{n}"),
        PartitionTransform::Truncate(w) => format!("{column}_trunc_{w}"),
        PartitionTransform::Void => format!("{column}_null"),
    }
}

/// The spec of a new table: ids from 1000.
///
/// # Errors
/// A column that is not there, a transform that does not take its type, a name that is taken.
pub fn partition_spec(
    schema: &IcebergSchema,
    fields: &[PartitionField],
) -> Result<PartitionSpec, MappingError> {
    let purpose = "partition";
    let mut builder = PartitionSpec::builder(schema.clone());
    for field in fields {
        let applied = transform(field.transform);
        if schema.field_by_name(&field.column).is_none() {
            return Err(MappingError::NoSuchColumn {
                column: field.column.clone(),
                purpose,
            });
        }
        let name = field
            .name
            .clone()
            .unwrap_or_else(|| partition_name(&field.column, field.transform));
        builder = builder
            .add_partition_field(&field.column, name, applied)
            .map_err(|e| MappingError::Transform {
                column: field.column.clone(),
                purpose,
                transform: applied,
                source: e.into(),
            })?;
    }
    builder.build().map_err(|e| MappingError::Schema(e.into()))
}

/// # Errors
/// A column that is not there, a transform that does not take its type.
pub fn sort_order(schema: &IcebergSchema, fields: &[SortField]) -> Result<SortOrder, MappingError> {
    let purpose = "sort";
    let mut builder = SortOrder::builder();
    for field in fields {
        let Some(source) = schema.field_by_name(&field.column) else {
            return Err(MappingError::NoSuchColumn {
                column: field.column.clone(),
                purpose,
            });
        };
        let applied = transform(field.transform);
        applied
            .result_type(&source.field_type)
            .map_err(|e| MappingError::Transform {
                column: field.column.clone(),
                purpose,
                transform: applied,
                source: e.into(),
            })?;
        builder.with_sort_field(iceberg::spec::SortField {
            source_id: source.id,
            transform: applied,
            direction: if field.descending {
                SortDirection::Descending
            } else {
                SortDirection::Ascending
            },
            null_order: if field.nulls_first {
                NullOrder::First
            } else {
                NullOrder::Last
            },
        });
    }
    builder
        .build(schema)
        .map_err(|e| MappingError::Schema(e.into()))
}

#[cfg(test)]
mod tests;
