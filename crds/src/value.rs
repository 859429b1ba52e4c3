//! `spec.value` and `spec.schema`: what a record's value looks like, which columns it becomes, and what happens to
//! records that do not fit.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How a dataset's record values are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.schema) != has(self.infer)").message("give exactly one of schema and infer").field_path(".schema"))]
pub struct ValueSpec {
    /// Format of the values: `Json` (one object per record). Example: `Json`.
    #[serde(default)]
    pub format: ValueFormat,
    /// The columns, declared. Example: `{fields: [{name: id, type: long, required: true}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSpec>,
    /// The columns, found from the records. Example: `{sampleRecords: 5000}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer: Option<InferSpec>,
}

/// How a table's record values are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableValueSpec {
    /// Format of the values: `Json` (one object per record). Example: `Json`.
    #[serde(default)]
    pub format: ValueFormat,
    /// The columns, found from the records, in place of `spec.schema`. Example: `{sampleRecords: 5000}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer: Option<InferSpec>,
}

/// Formats of record values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueFormat {
    #[default]
    Json,
}

/// Declared columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchemaSpec {
    /// The columns, in order. Example: `[{name: id, type: long, required: true}, {name: note, type: string}]`.
    #[schemars(length(min = 1, max = 2000))]
    pub fields: Vec<ColumnSpec>,
    /// What happens to fields of a record that `fields` does not name: `Ignore` them, or `Reject` the record. Example:
    /// `Reject`.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
}

/// What happens to fields of a record that the schema does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnknownFields {
    #[default]
    Ignore,
    Reject,
}

/// A column, or a field of a struct column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.fields) == (self.type == 'struct')").message("fields are needed with type: struct, and only with it").field_path(".fields"))]
#[x_kube(validation = Rule::new("has(self.element) == (self.type == 'list')").message("element is needed with type: list, and only with it").field_path(".element"))]
#[x_kube(validation = Rule::new("has(self.value) == (self.type == 'map')").message("value is needed with type: map, and only with it").field_path(".value"))]
pub struct ColumnSpec {
    /// Name of the field in the record and of the column. Example: `created_at`.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// `boolean`, `int`, `long`, `float`, `double`, `decimal(precision, scale)`, `date`, `time`, `timestamp`,
    /// `timestamptz`, `string`, `uuid`, `binary`, `struct`, `list` or `map`. Example: `decimal(12,2)`.
    #[serde(rename = "type")]
    #[schemars(schema_with = "type_name")]
    pub type_: String,
    /// Whether a record without the field, or with null in it, does not fit. Example: `true`.
    #[serde(default)]
    pub required: bool,
    /// Comment of the column. Example: `when the order was placed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub doc: Option<String>,
    /// How the value is carried: for `timestamp` and `timestamptz` `Iso8601`, `EpochSeconds`, `EpochMillis`,
    /// `EpochMicros` or `EpochNanos` (default: ISO 8601 strings, and numbers as milliseconds); for `date` `Iso8601` or
    /// `EpochDays` (default: either); for `time` `Iso8601`, or seconds to nanoseconds since midnight by the `Epoch…`
    /// names (default: ISO 8601 strings, and numbers as milliseconds); for `binary` `Base64` (default), `Hex` or `Utf8`.
    /// Numbers may have a fraction and an exponent; what is finer than a microsecond is cut off. Without an encoding a
    /// number of seconds is taken for milliseconds, and lands in January 1970. Example: `EpochMillis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<ValueEncoding>,
    /// With `type: struct`: its fields, each as a column is. Example: `[{name: street, type: string}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nested_fields")]
    pub fields: Option<Vec<ColumnSpec>>,
    /// With `type: list`: its elements, as a column without a name. Example: `{type: string}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nested")]
    pub element: Option<Box<ElementSpec>>,
    /// With `type: map`: its values, as a column without a name; keys are strings. Example: `{type: long}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nested")]
    pub value: Option<Box<ElementSpec>>,
}

/// The elements of a list or the values of a map: a column without a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElementSpec {
    /// As a column's.
    #[serde(rename = "type")]
    #[schemars(schema_with = "type_name")]
    pub type_: String,
    /// Whether null does not fit.
    #[serde(default)]
    pub required: bool,
    /// As a column's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub doc: Option<String>,
    /// As a column's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<ValueEncoding>,
    /// As a column's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nested_fields")]
    pub fields: Option<Vec<ColumnSpec>>,
    /// As a column's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nested")]
    pub element: Option<Box<ElementSpec>>,
    /// As a column's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nested")]
    pub value: Option<Box<ElementSpec>>,
}

fn type_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^(boolean|int|long|float|double|decimal\\([0-9]{1,2}, ?[0-9]{1,2}\\)|date|time|timestamp|timestamptz|string|uuid|binary|struct|list|map)$",
    })
}

// A custom resource's schema cannot be recursive: below the first level the API server takes any object, and the sink
// checks it.
fn nested(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn nested_fields(generator: &mut SchemaGenerator) -> Schema {
    let items = nested(generator);
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 2000, "items": items })
}

/// How a temporal or binary value is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueEncoding {
    Iso8601,
    EpochSeconds,
    EpochMillis,
    EpochMicros,
    EpochNanos,
    EpochDays,
    Base64,
    Hex,
    Utf8,
}

/// Columns found from the records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InferSpec {
    /// Records looked at before the first columns are settled. Example: `5000`.
    #[serde(default = "sample_records")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sample_records: u32,
    /// What happens when a value meets a column of a type that cannot widen to hold both: the column becomes a `String`
    /// column, or the record is refused (`Reject`). Example: `Reject`.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Columns whose types are known: they are there from the first, and take what a declared column of that type and
    /// encoding takes. `name` is that of the field, with dots for levels (`meta.at`); a name that has a dot itself stands
    /// in backticks. Needed for times, dates and decimals, which are never found, and for maps. Example: `[{name: ts,
    /// type: timestamptz}, {name: attributes, type: map, value: {type: string}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub hints: Vec<ColumnSpec>,
    /// Columns that there may be, fields of all levels counted: of a table all that it has, of a dataset all that a process
    /// found. A record that would bring more is refused: names without end are the keys of a map. Example: `200`.
    #[serde(default = "max_columns")]
    #[schemars(range(min = 1, max = 2000))]
    pub max_columns: u32,
}

fn sample_records() -> u32 {
    1000
}

fn max_columns() -> u32 {
    1000
}

/// A value meets a column of a type that cannot widen to hold both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnConflict {
    #[default]
    String,
    Reject,
}

/// What happens to a record that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnError {
    DeadLetter,
    Skip,
    Fail,
}

/// What happens to a record without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tombstones {
    #[default]
    Skip,
    DeadLetter,
}

/// Names of the columns that carry what Kafka knows of a record. A column that is not named is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataColumnsSpec {
    /// Column for the topic, `string`. Example: `kafka_topic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub topic: Option<String>,
    /// Column for the partition, `int`. Example: `kafka_partition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub partition: Option<String>,
    /// Column for the offset, `long`. Example: `kafka_offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub offset: Option<String>,
    /// Column for the record's timestamp, `timestamptz`. Example: `kafka_timestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub timestamp: Option<String>,
    /// Column for the timestamp's meaning, `string`: `CreateTime` or `LogAppendTime`. Example: `kafka_timestamp_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub timestamp_type: Option<String>,
    /// Column for the key, `binary`. Example: `kafka_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub key: Option<String>,
    /// Column for the headers, a list of structs of name (`string`) and value (`binary`). Example: `kafka_headers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub headers: Option<String>,
}

/// Where records go that do not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.topic) != has(self.prefix)").message("give exactly one of topic and prefix").field_path(".topic"))]
pub struct DeadLetterSpec {
    /// Kafka topic on the source's brokers; it must exist. What it does not take for its size goes there without the
    /// record's value: give it the source topic's `max.message.bytes` and some more. Example: `orders.dlq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub topic: Option<String>,
    /// Folder for files of JSON lines: below a dataset's prefix, and there beginning with `_` or `.`, so that readers of
    /// the dataset do not look into it; of a table in its warehouse, beside the table's own directory. Example:
    /// `_dead/orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,
}
