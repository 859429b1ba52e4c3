//! Schema -> Arrow, and back for inferred schemas. Pure.
//! The Arrow types are those that `iceberg::arrow::schema_to_arrow_schema` names, field names inside lists and maps
//! included, so that an Iceberg file writer adds field ids and casts nothing.

use std::sync::Arc;

use arrow::datatypes::{
    DataType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit,
};

use super::{Field, Schema, Type};
use crate::plan::MetadataColumns;

/// Name of a list's element field.
pub const ELEMENT: &str = "element";
/// Name of a map's entries field.
pub const ENTRIES: &str = "key_value";
/// Name of a map's key field.
pub const KEY: &str = "key";
/// Name of a map's value field.
pub const VALUE: &str = "value";
/// The zone of every instant.
pub const UTC: &str = "+00:00";

/// An Arrow type that no column of a sink can have.
#[derive(Debug, thiserror::Error)]
#[error("field `{field}`: no column type for Arrow's {data_type}")]
pub struct UnsupportedType {
    pub field: String,
    pub data_type: DataType,
}

/// The value columns, then the metadata columns.
pub fn arrow_schema(schema: &Schema, metadata: &MetadataColumns) -> SchemaRef {
    let mut fields: Vec<ArrowField> = schema.fields.iter().map(arrow_field).collect();
    fields.extend(metadata_fields(metadata));
    Arc::new(ArrowSchema::new(fields))
}

pub fn arrow_field(field: &Field) -> ArrowField {
    ArrowField::new(&field.name, data_type(&field.ty), !field.required)
}

pub fn data_type(ty: &Type) -> DataType {
    match ty {
        Type::Boolean => DataType::Boolean,
        Type::Int => DataType::Int32,
        Type::Long => DataType::Int64,
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        // Scales over 38 are refused with the plan.
        Type::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
        Type::Date => DataType::Date32,
        Type::Time => DataType::Time64(TimeUnit::Microsecond),
        Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::Timestamptz => instant(),
        Type::String => DataType::Utf8,
        Type::Uuid => DataType::FixedSizeBinary(16),
        Type::Binary => DataType::LargeBinary,
        Type::Struct(fields) => DataType::Struct(fields.iter().map(arrow_field).collect()),
        Type::List(element) => DataType::List(Arc::new(element_field(element))),
        Type::Map(value) => DataType::Map(Arc::new(entries_field(value)), false),
    }
}

pub fn element_field(element: &Field) -> ArrowField {
    ArrowField::new(ELEMENT, data_type(&element.ty), !element.required)
}

pub fn entries_field(value: &Field) -> ArrowField {
    let entries = Fields::from(vec![
        ArrowField::new(KEY, DataType::Utf8, false),
        ArrowField::new(VALUE, data_type(&value.ty), !value.required),
    ]);
    ArrowField::new(ENTRIES, DataType::Struct(entries), false)
}

/// In the order of the struct's fields. All nullable, so that a table may gain them later.
pub fn metadata_fields(metadata: &MetadataColumns) -> Vec<ArrowField> {
    [
        (&metadata.topic, DataType::Utf8),
        (&metadata.partition, DataType::Int32),
        (&metadata.offset, DataType::Int64),
        (&metadata.timestamp, instant()),
        (&metadata.timestamp_type, DataType::Utf8),
        (&metadata.key, DataType::LargeBinary),
        (&metadata.headers, headers()),
    ]
    .into_iter()
    .filter_map(|(name, ty)| Some(ArrowField::new(name.as_ref()?, ty, true)))
    .collect()
}

/// The same as [`metadata_fields`], as columns of a sink.
pub fn metadata_schema(metadata: &MetadataColumns) -> Schema {
    let fields = metadata_fields(metadata);
    Schema {
        fields: fields.iter().filter_map(|f| field(f).ok()).collect(),
    }
}

/// Type of the metadata column that carries headers.
pub fn headers() -> DataType {
    DataType::List(Arc::new(ArrowField::new(
        ELEMENT,
        DataType::Struct(header_fields()),
        false,
    )))
}

pub fn header_fields() -> Fields {
    Fields::from(vec![
        ArrowField::new("name", DataType::Utf8, false),
        ArrowField::new("value", DataType::LargeBinary, true),
    ])
}

pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The way back: columns that give this Arrow schema. Wider and foreign variants of a type map to the nearest column
/// type that holds them all.
///
/// # Errors
/// When a field's type has no such column type.
pub fn schema(arrow: &ArrowSchema) -> Result<Schema, UnsupportedType> {
    Ok(Schema {
        fields: fields(arrow.fields())?,
    })
}

fn fields(arrow: &Fields) -> Result<Vec<Field>, UnsupportedType> {
    arrow.iter().map(|f| field(f)).collect()
}

fn field(arrow: &ArrowField) -> Result<Field, UnsupportedType> {
    let unsupported = || UnsupportedType {
        field: arrow.name().clone(),
        data_type: arrow.data_type().clone(),
    };
    let ty = match arrow.data_type() {
        DataType::Boolean => Type::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            Type::Int
        }
        DataType::Int64 | DataType::UInt32 => Type::Long,
        DataType::Float16 | DataType::Float32 => Type::Float,
        DataType::Float64 => Type::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => Type::Decimal {
            precision: *precision,
            scale: u8::try_from(*scale).map_err(|_| unsupported())?,
        },
        DataType::Date32 => Type::Date,
        DataType::Time64(TimeUnit::Microsecond) | DataType::Time32(_) => Type::Time,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return Err(unsupported()),
        DataType::Timestamp(_, None) => Type::Timestamp,
        DataType::Timestamp(_, Some(_)) => Type::Timestamptz,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::String,
        DataType::FixedSizeBinary(16) => Type::Uuid,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Type::Binary,
        DataType::Struct(inner) => Type::Struct(fields(inner)?),
        DataType::List(element) | DataType::LargeList(element) => {
            Type::List(Box::new(field(element)?))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 && is_string(pair[0].data_type()) => {
                Type::Map(Box::new(field(&pair[1])?))
            }
            _ => return Err(unsupported()),
        },
        _ => return Err(unsupported()),
    };
    Ok(Field {
        required: !arrow.is_nullable(),
        ..Field::optional(arrow.name(), ty)
    })
}

fn is_string(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn every_type() -> Schema {
        Schema {
            fields: vec![
                Field::required("boolean", Type::Boolean),
                Field::optional("int", Type::Int),
                Field::optional("long", Type::Long),
                Field::optional("float", Type::Float),
                Field::optional("double", Type::Double),
                Field::optional(
                    "decimal",
                    Type::Decimal {
                        precision: 12,
                        scale: 2,
                    },
                ),
                Field::optional("date", Type::Date),
                Field::optional("time", Type::Time),
                Field::optional("timestamp", Type::Timestamp),
                Field::optional("timestamptz", Type::Timestamptz),
                Field::optional("string", Type::String),
                Field::optional("uuid", Type::Uuid),
                Field::optional("binary", Type::Binary),
                Field::optional(
                    "struct",
                    Type::Struct(vec![Field::required("inner", Type::Long)]),
                ),
                Field::optional(
                    "list",
                    Type::List(Box::new(Field::required(ELEMENT, Type::Date))),
                ),
                Field::optional(
                    "map",
                    Type::Map(Box::new(Field::optional(VALUE, Type::Uuid))),
                ),
            ],
        }
    }

    #[test]
    fn every_column_type_survives_the_way_to_arrow_and_back() {
        let columns = every_type();
        let arrow = arrow_schema(&columns, &MetadataColumns::default());
        assert_eq!(schema(&arrow).unwrap(), columns);
    }

    #[test]
    fn arrow_types_are_those_of_the_iceberg_mapping() {
        use iceberg::arrow::{arrow_schema_to_schema_auto_assign_ids, schema_to_arrow_schema};
        let mut columns = every_type();
        // Iceberg reads 16 fixed bytes back as fixed[16]; its own uuid has the same Arrow type.
        columns
            .fields
            .retain(|f| f.name != "uuid" && f.name != "map");
        columns.fields.push(Field::optional(
            "map",
            Type::Map(Box::new(Field::optional(VALUE, Type::Binary))),
        ));
        let ours = arrow_schema(&columns, &MetadataColumns::default());
        let iceberg = arrow_schema_to_schema_auto_assign_ids(&ours).unwrap();
        let theirs = schema_to_arrow_schema(&iceberg).unwrap();
        let stripped: Fields = theirs.fields().iter().map(|f| strip(f)).collect();
        assert_eq!(&stripped, ours.fields());
    }

    /// Without field ids.
    fn strip(field: &ArrowField) -> ArrowField {
        let data_type = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| strip(f)).collect()),
            DataType::List(element) => DataType::List(Arc::new(strip(element))),
            DataType::Map(entries, sorted) => DataType::Map(Arc::new(strip(entries)), *sorted),
            other => other.clone(),
        };
        ArrowField::new(field.name(), data_type, field.is_nullable())
    }

    #[test]
    fn metadata_columns_follow_the_value_columns() {
        let metadata = MetadataColumns {
            topic: Some("_topic".into()),
            headers: Some("_headers".into()),
            ..MetadataColumns::default()
        };
        let arrow = arrow_schema(&every_type(), &metadata);
        assert_eq!(arrow.field(16).name(), "_topic");
        assert_eq!(arrow.field(17).name(), "_headers");
        assert_eq!(metadata_schema(&metadata).fields.len(), 2);
    }

    #[test]
    fn a_type_without_a_column_names_its_field() {
        let arrow = ArrowSchema::new(vec![ArrowField::new("u", DataType::UInt64, true)]);
        assert_eq!(
            schema(&arrow).unwrap_err().to_string(),
            "field `u`: no column type for Arrow's UInt64"
        );
    }
}
