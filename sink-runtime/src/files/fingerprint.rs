//! A short name for a schema, stable across processes: equal columns, equal fingerprint.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use twox_hash::XxHash64;

/// Sixteen hexadecimal digits over names, types and nullability of all columns, nested ones included.
pub(super) fn fingerprint(schema: &Schema) -> String {
    let mut text = String::new();
    describe_all(schema.fields(), &mut text);
    format!("{:016x}", XxHash64::oneshot(0, text.as_bytes()))
}

fn describe_all(fields: &Fields, text: &mut String) {
    for field in fields {
        describe(field, text);
    }
}

fn describe(field: &Field, text: &mut String) {
    // The length keeps names with separators in them apart.
    text.push_str(&format!("{}:{}", field.name().len(), field.name()));
    text.push(if field.is_nullable() { '?' } else { '!' });
    match field.data_type() {
        DataType::Struct(fields) => {
            text.push('{');
            describe_all(fields, text);
            text.push('}');
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
            text.push('[');
            describe(item, text);
            text.push(']');
        }
        leaf => text.push_str(&format!("{leaf};")),
    }
}
