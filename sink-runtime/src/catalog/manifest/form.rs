//! The Avro schema of a manifest's entries, and which fields of another's are known.

use iceberg::spec::{FormatVersion, PrimitiveType};
use serde_json::{Value, json};

use super::ManifestError;
use super::avro::Schema;
use super::names::Names;
use super::value::decimal_width;

/// Field ids of an entry and of a data file, as the table specification gives them.
pub(super) mod id {
    pub(in crate::catalog::manifest) const STATUS: i32 = 0;
    pub(in crate::catalog::manifest) const SNAPSHOT_ID: i32 = 1;
    pub(in crate::catalog::manifest) const DATA_FILE: i32 = 2;
    pub(in crate::catalog::manifest) const SEQUENCE_NUMBER: i32 = 3;
    pub(in crate::catalog::manifest) const FILE_SEQUENCE_NUMBER: i32 = 4;
    pub(in crate::catalog::manifest) const CONTENT: i32 = 134;
    pub(in crate::catalog::manifest) const FILE_PATH: i32 = 100;
    pub(in crate::catalog::manifest) const FILE_FORMAT: i32 = 101;
    pub(in crate::catalog::manifest) const PARTITION: i32 = 102;
    pub(in crate::catalog::manifest) const RECORD_COUNT: i32 = 103;
    pub(in crate::catalog::manifest) const FILE_SIZE: i32 = 104;
    pub(in crate::catalog::manifest) const BLOCK_SIZE: i32 = 105;
    /// Map, key, value.
    pub(in crate::catalog::manifest) const COUNTS: [(i32, i32, i32, &str); 4] = [
        (108, 117, 118, "column_sizes"),
        (109, 119, 120, "value_counts"),
        (110, 121, 122, "null_value_counts"),
        (137, 138, 139, "nan_value_counts"),
    ];
    pub(in crate::catalog::manifest) const BOUNDS: [(i32, i32, i32, &str); 2] = [
        (125, 126, 127, "lower_bounds"),
        (128, 129, 130, "upper_bounds"),
    ];
    pub(in crate::catalog::manifest) const KEY_METADATA: i32 = 131;
    pub(in crate::catalog::manifest) const SPLIT_OFFSETS: i32 = 132;
    pub(in crate::catalog::manifest) const EQUALITY_IDS: i32 = 135;
    pub(in crate::catalog::manifest) const SORT_ORDER_ID: i32 = 140;
    pub(in crate::catalog::manifest) const FIRST_ROW_ID: i32 = 142;
}

/// Order of fields as in `Entry::encode`.
pub(super) fn schema(
    version: FormatVersion,
    partition: &[(i32, &str, &PrimitiveType)],
) -> Result<Value, ManifestError> {
    let mut file = Vec::new();
    if version != FormatVersion::V1 {
        file.push(required(id::CONTENT, "content", json!("int")));
    }
    let record = json!({"type": "record", "name": "r102", "fields": partition_fields(partition)?});
    file.extend([
        required(id::FILE_PATH, "file_path", json!("string")),
        required(id::FILE_FORMAT, "file_format", json!("string")),
        required(id::PARTITION, "partition", record),
        required(id::RECORD_COUNT, "record_count", json!("long")),
        required(id::FILE_SIZE, "file_size_in_bytes", json!("long")),
    ]);
    if version == FormatVersion::V1 {
        file.push(required(
            id::BLOCK_SIZE,
            "block_size_in_bytes",
            json!("long"),
        ));
    }
    file.extend(id::COUNTS.map(|map| by_column(map, "long")));
    file.extend(id::BOUNDS.map(|map| by_column(map, "bytes")));
    file.extend([
        optional(id::KEY_METADATA, "key_metadata", json!("bytes")),
        optional(
            id::SPLIT_OFFSETS,
            "split_offsets",
            json!({"type": "array", "items": "long", "element-id": 133}),
        ),
        optional(
            id::EQUALITY_IDS,
            "equality_ids",
            json!({"type": "array", "items": "int", "element-id": 136}),
        ),
        optional(id::SORT_ORDER_ID, "sort_order_id", json!("int")),
    ]);
    if version >= FormatVersion::V3 {
        file.push(optional(id::FIRST_ROW_ID, "first_row_id", json!("long")));
    }
    let mut entry = vec![required(id::STATUS, "status", json!("int"))];
    if version == FormatVersion::V1 {
        entry.push(required(id::SNAPSHOT_ID, "snapshot_id", json!("long")));
    } else {
        entry.extend([
            optional(id::SNAPSHOT_ID, "snapshot_id", json!("long")),
            optional(id::SEQUENCE_NUMBER, "sequence_number", json!("long")),
            optional(
                id::FILE_SEQUENCE_NUMBER,
                "file_sequence_number",
                json!("long"),
            ),
        ]);
    }
    let record = json!({"type": "record", "name": "r2", "fields": file});
    entry.push(required(id::DATA_FILE, "data_file", record));
    Ok(json!({"type": "record", "name": "manifest_entry", "fields": entry}))
}

fn required(id: i32, name: &str, ty: Value) -> Value {
    json!({"name": name, "type": ty, "field-id": id})
}

fn optional(id: i32, name: &str, ty: Value) -> Value {
    json!({"name": name, "type": ["null", ty], "default": null, "field-id": id})
}

fn by_column((id, key, value, name): (i32, i32, i32, &str), ty: &str) -> Value {
    let fields = [
        required(key, "key", json!("int")),
        required(value, "value", json!(ty)),
    ];
    let item = json!({"type": "record", "name": format!("k{key}_v{value}"), "fields": fields});
    optional(
        id,
        name,
        json!({"type": "array", "items": item, "logicalType": "map"}),
    )
}

fn partition_fields(
    partition: &[(i32, &str, &PrimitiveType)],
) -> Result<Vec<Value>, ManifestError> {
    let (mut names, mut types) = (Names::default(), Names::default());
    let mut fields = Vec::with_capacity(partition.len());
    for (id, name, ty) in partition {
        let legal = names.take(name, *id);
        let mut field = optional(*id, &legal, avro_type(&mut types, *id, name, ty)?);
        if legal != *name {
            field["iceberg-field-name"] = json!(name);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// A type with a name gets one of its own each time: not every reader knows a reference to one that was defined before.
fn avro_type(
    types: &mut Names,
    id: i32,
    field: &str,
    ty: &PrimitiveType,
) -> Result<Value, ManifestError> {
    let mut fixed = |name: &str, size: usize| {
        let name = types.take(name, id);
        json!({"type": "fixed", "name": name, "size": size})
    };
    let timestamp = |unit: &str, utc: bool| {
        let logical = format!("timestamp-{unit}");
        json!({"type": "long", "logicalType": logical, "adjust-to-utc": utc})
    };
    Ok(match ty {
        PrimitiveType::Boolean => json!("boolean"),
        PrimitiveType::Int => json!("int"),
        PrimitiveType::Long => json!("long"),
        PrimitiveType::Float => json!("float"),
        PrimitiveType::Double => json!("double"),
        PrimitiveType::Date => json!({"type": "int", "logicalType": "date"}),
        PrimitiveType::Time => json!({"type": "long", "logicalType": "time-micros"}),
        PrimitiveType::Timestamp => timestamp("micros", false),
        PrimitiveType::Timestamptz => timestamp("micros", true),
        PrimitiveType::TimestampNs => timestamp("nanos", false),
        PrimitiveType::TimestamptzNs => timestamp("nanos", true),
        PrimitiveType::String => json!("string"),
        PrimitiveType::Binary => json!("bytes"),
        PrimitiveType::Uuid => {
            let mut ty = fixed("uuid_fixed", 16);
            ty["logicalType"] = json!("uuid");
            ty
        }
        PrimitiveType::Fixed(size) => {
            let impossible = || ManifestError::PartitionType {
                field: field.to_owned(),
                ty: ty.to_string(),
            };
            fixed(
                &format!("fixed_{size}"),
                usize::try_from(*size).map_err(|_| impossible())?,
            )
        }
        PrimitiveType::Decimal { precision, scale } => {
            let mut ty = fixed(
                &format!("decimal_{precision}_{scale}"),
                decimal_width(*precision),
            );
            ty["logicalType"] = json!("decimal");
            ty["precision"] = json!(precision);
            ty["scale"] = json!(scale);
            ty
        }
    })
}

/// Whether every field of an entry is one that is written as well.
pub(super) fn knows_all(schema: &Schema, partition: &[i32]) -> bool {
    let Schema::Record(entry) = schema else {
        return false;
    };
    entry.iter().all(|(field, schema)| match (*field, schema) {
        (
            Some(id::STATUS | id::SNAPSHOT_ID | id::SEQUENCE_NUMBER | id::FILE_SEQUENCE_NUMBER),
            _,
        ) => true,
        (Some(id::DATA_FILE), Schema::Record(file)) => {
            file.iter().all(|(field, schema)| match (*field, schema) {
                (Some(id::PARTITION), Schema::Record(tuple)) => tuple
                    .iter()
                    .all(|(field, _)| field.is_some_and(|field| partition.contains(&field))),
                (Some(field), _) => is_known(field),
                (None, _) => false,
            })
        }
        _ => false,
    })
}

fn is_known(field: i32) -> bool {
    let maps = id::COUNTS.iter().chain(&id::BOUNDS);
    matches!(
        field,
        id::CONTENT
            | id::FILE_PATH
            | id::FILE_FORMAT
            | id::RECORD_COUNT
            | id::FILE_SIZE
            | id::BLOCK_SIZE
            | id::KEY_METADATA
            | id::SPLIT_OFFSETS
            | id::EQUALITY_IDS
            | id::SORT_ORDER_ID
            | id::FIRST_ROW_ID
            // Of delete files alone.
            | 143..=145
    ) || maps.into_iter().any(|(map, ..)| *map == field)
}
