//! The columns that a spec may name: the declared ones and those with what Kafka knows. Pure.

use super::problem::Checks;
use super::{DecodePlan, ValueSchema, find_column};
use crate::schema::{Field, Schema, Type};

/// Columns by name.
pub(super) struct Columns {
    known: Schema,
    /// Columns that nobody has seen yet may turn up in the records.
    open: bool,
}

impl Columns {
    pub(super) fn of(decode: &DecodePlan) -> Self {
        let (mut known, open) = match &decode.value {
            ValueSchema::Declared { schema, .. } => (schema.clone(), false),
            ValueSchema::Inferred { .. } => (Schema::default(), true),
        };
        let metadata = &decode.metadata;
        let header = vec![
            Field::required("name", Type::String),
            Field::optional("value", Type::Binary),
        ];
        let headers = Type::List(Box::new(Field::required("element", Type::Struct(header))));
        for (name, ty) in [
            (&metadata.topic, Type::String),
            (&metadata.partition, Type::Int),
            (&metadata.offset, Type::Long),
            (&metadata.timestamp, Type::Timestamptz),
            (&metadata.timestamp_type, Type::String),
            (&metadata.key, Type::Binary),
            (&metadata.headers, headers),
        ] {
            if let Some(name) = name {
                known.fields.push(Field::optional(name.as_str(), ty));
            }
        }
        Self { known, open }
    }

    /// The type of the column that `field` names, where it is known; a problem where there is no such column.
    pub(super) fn find(&self, checks: &mut Checks, field: &str, column: &str) -> Option<&Type> {
        let found = find_column(&self.known, column);
        if found.is_none() && !self.open {
            let names: Vec<&str> = self.known.fields.iter().map(|f| f.name.as_str()).collect();
            let close = names.iter().find(|name| name.eq_ignore_ascii_case(column));
            let remedy = match close {
                Some(name) => format!("no such column; did you mean \"{name}\"?"),
                None if names.len() > 12 => "no such column in the schema".to_owned(),
                None => format!("no such column: use one of {}", names.join(", ")),
            };
            checks.add(field, column, remedy);
        }
        found
    }

    /// Whether a column of this name, if there is one, will be found in the records.
    pub(super) fn is_to_be_found(&self, column: &str) -> bool {
        self.open && self.get(column).is_none()
    }

    pub(super) fn holds(&self, column: &str) -> bool {
        self.get(column).is_some()
    }

    /// The type of a column, where it is known.
    pub(super) fn get(&self, column: &str) -> Option<&Type> {
        find_column(&self.known, column)
    }
}

/// How a type is written in a spec.
pub(super) fn type_name(ty: &Type) -> String {
    match ty {
        Type::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        Type::Struct(_) => "struct".to_owned(),
        Type::List(_) => "list".to_owned(),
        Type::Map(_) => "map".to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

pub(super) fn is_scalar(ty: &Type) -> bool {
    !matches!(ty, Type::Struct(_) | Type::List(_) | Type::Map(_))
}
