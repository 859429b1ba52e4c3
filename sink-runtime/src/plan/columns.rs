//! The columns that a spec may name: the declared ones and those with what Kafka knows. Pure.

use std::collections::BTreeMap;

use super::problem::Checks;
use super::{DecodePlan, PartitionTransform, ValueSchema};
use crate::schema::iceberg::join;
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
            ValueSchema::Inferred(inference) => (inference.hints.clone(), true),
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

    /// The type of the column that `field` names, where it is known; a problem where there is no such column, or where
    /// there are two.
    pub(super) fn find(&self, checks: &mut Checks, field: &str, column: &str) -> Option<&Type> {
        let mut found = Vec::new();
        named(&self.known.fields, column, &mut found);
        if found.len() > 1 {
            let remedy = "a column and a nested field have this name together: rename one of them";
            checks.add(field, column, remedy);
        } else if found.is_empty() && self.open && self.is_inside_a_value(column) {
            let remedy =
                "leads into a hint that is no struct: name a column, or a field of a struct";
            checks.add(field, column, remedy);
        } else if let (true, Some(near)) = (found.is_empty() && self.open, self.near(column)) {
            let remedy = format!(
                "there is a column \"{near}\" already, and most engines do not tell names apart by case: spell them alike"
            );
            checks.add(field, column, remedy);
        } else if found.is_empty() && !self.open {
            let names: Vec<&str> = self.known.fields.iter().map(|f| f.name.as_str()).collect();
            let close = names.iter().find(|name| name.eq_ignore_ascii_case(column));
            let remedy = match close {
                Some(name) => format!("no such column; did you mean \"{name}\"?"),
                None if names.len() > 12 => "no such column in the schema".to_owned(),
                None => format!("no such column: use one of {}", names.join(", ")),
            };
            checks.add(field, column, remedy);
        }
        found.first().copied()
    }

    /// As [`find`](Self::find), for a column whose values are times: those are never found in records.
    pub(super) fn find_time(
        &self,
        checks: &mut Checks,
        field: &str,
        column: &str,
        text: &str,
    ) -> Option<&Type> {
        let found = self.find(checks, field, column);
        if found.is_none() && self.open && !self.is_inside_a_value(column) {
            let remedy = format!(
                "no value in a record is taken for a time unless somebody says so: add {{name: {column}, type: \
                 timestamptz}} to spec.value.infer.hints"
            );
            checks.add(field, text, remedy);
        }
        found
    }

    /// As [`find`](Self::find), for a column that a transform reads.
    pub(super) fn find_for(
        &self,
        checks: &mut Checks,
        field: &str,
        column: &str,
        (transform, text): (PartitionTransform, &str),
    ) -> Option<&Type> {
        use PartitionTransform::{Day, Hour, Month, Year};
        match transform {
            Year | Month | Day | Hour => self.find_time(checks, field, column, text),
            _ => self.find(checks, field, column),
        }
    }

    /// Whether records may still bring the column: nothing is known of it.
    pub(super) fn awaits(&self, column: &str) -> bool {
        self.open && self.get(column).is_none()
    }

    /// A known column that differs from this one, or from what it stands in, only in case.
    fn near(&self, column: &str) -> Option<String> {
        let names: Vec<&str> = outermost_first(column).collect();
        near(&self.known.fields, "", &names)
    }

    fn is_inside_a_value(&self, column: &str) -> bool {
        let dots = column.match_indices('.').map(|(at, _)| &column[..at]);
        let known = dots.filter_map(|above| self.get(above));
        known.into_iter().any(|ty| !matches!(ty, Type::Struct(_)))
    }

    pub(super) fn holds(&self, column: &str) -> bool {
        self.get(column).is_some()
    }

    /// The type of a column, where it is known.
    pub(super) fn get(&self, column: &str) -> Option<&Type> {
        let mut found = Vec::new();
        named(&self.known.fields, column, &mut found);
        found.first().copied()
    }

    /// A name with dots that two columns have: a key with a dot, and a nested field. Tables have one column of a name.
    pub(super) fn twins(&self) -> Option<String> {
        let mut used = BTreeMap::new();
        twin(&self.known.fields, "", &mut used)
    }
}

/// `used`: names, and what they stand in; two of one level are somebody else's matter.
fn twin(fields: &[Field], path: &str, used: &mut BTreeMap<String, String>) -> Option<String> {
    fields.iter().find_map(|field| {
        let name = join(path, &field.name);
        let other = used.insert(name.to_lowercase(), path.to_owned());
        if other.is_some_and(|other| other != path) {
            return Some(name);
        }
        match &field.ty {
            Type::Struct(inner) => twin(inner, &name, used),
            Type::List(inner) | Type::Map(inner) => {
                twin(std::slice::from_ref(&**inner), &name, used)
            }
            _ => None,
        }
    })
}

/// The first full name of a field that differs from one of `names` only in case.
fn near(fields: &[Field], path: &str, names: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| {
        let name = join(path, &field.name);
        let lower = name.to_lowercase();
        let alike = |other: &&str| other.to_lowercase() == lower;
        match &field.ty {
            _ if names.iter().any(|other| alike(other) && *other != name) => Some(name),
            Type::Struct(inner) => near(inner, &name, names),
            _ => None,
        }
    })
}

/// The types of the columns that a name may mean: dots lead into structs, or are part of a name.
fn named<'a>(fields: &'a [Field], name: &str, found: &mut Vec<&'a Type>) {
    for field in fields {
        if field.name == name {
            found.push(&field.ty);
        } else if let Type::Struct(inner) = &field.ty
            && let Some(rest) = name.strip_prefix(field.name.as_str())
            && let Some(rest) = rest.strip_prefix('.')
        {
            named(inner, rest, found);
        }
    }
}

/// A column, with dots for levels, after what it stands in.
pub(super) fn outermost_first(column: &str) -> impl Iterator<Item = &str> {
    let outer = column.match_indices('.').map(|(at, _)| &column[..at]);
    outer.chain([column])
}

/// Columns that records have yet to bring and that fields of the spec name: their names differ in more than case.
pub(super) fn check_spellings<'a>(
    checks: &mut Checks,
    columns: &Columns,
    named: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let mut spelled = BTreeMap::new();
    for (field, column) in named.filter(|(_, column)| columns.awaits(column)) {
        for name in outermost_first(column) {
            let first = *spelled.entry(name.to_lowercase()).or_insert(name);
            if first != name {
                let remedy = format!(
                    "\"{first}\" is named as well, and most engines do not tell names apart by case: spell them alike"
                );
                checks.add(field, column, remedy);
            }
        }
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
