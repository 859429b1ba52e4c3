//! What a table that exists says to columns that are found in records: its names and types come first. Pure.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::spec::{Schema as IcebergSchema, Type as IcebergType};

use super::Schema;
use super::iceberg::{join, writable};
use crate::plan::Evolution;

/// A table's columns and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedent {
    /// Those that values can be written to.
    pub columns: Schema,
    /// Names that no other column may have, with dots for levels and in lower case, and why.
    pub taken: BTreeMap<String, String>,
    /// Columns that stay required whatever may be changed: full names.
    pub identifiers: BTreeSet<String>,
    /// What records may change.
    pub may: Evolution,
    /// Columns beside `columns`.
    pub others: usize,
}

impl Precedent {
    /// `partition_fields`: names of the partition fields of all its specs.
    pub fn of<'a>(
        schema: &IcebergSchema,
        partition_fields: impl IntoIterator<Item = &'a String>,
        may: Evolution,
    ) -> Self {
        let (columns, others) = writable(schema);
        let mut taken: BTreeMap<String, String> = partition_fields
            .into_iter()
            .filter(|name| schema.field_by_name(name).is_none())
            .map(|name| (name.to_lowercase(), partition_field()))
            .collect();
        let left = others.len();
        taken.extend(others.into_iter().map(|(name, ty)| {
            let why = format!("the table's column is of type {ty}, which is not written");
            (name.to_lowercase(), why)
        }));
        let identifiers = schema
            .identifier_field_ids()
            .filter_map(|id| schema.name_by_field_id(id))
            .map(str::to_owned)
            .collect();
        Self {
            columns,
            taken,
            identifiers,
            may,
            others: left,
        }
    }
}

/// Why a name is taken that a partition field has.
pub fn partition_field() -> String {
    "the table has a partition field of this name, and no column can have it as well: rename the field, or name the \
     partition field otherwise before the table is made: … as other"
        .to_owned()
}

/// Fields of all levels in an Iceberg schema.
pub fn size(schema: &IcebergSchema) -> usize {
    fn inside(ty: &IcebergType) -> usize {
        match ty {
            IcebergType::Primitive(_) => 0,
            IcebergType::Struct(inner) => {
                let fields = inner.fields().iter();
                fields.map(|field| 1 + inside(&field.field_type)).sum()
            }
            IcebergType::List(list) => inside(&list.element_field.field_type),
            IcebergType::Map(map) => inside(&map.value_field.field_type),
        }
    }
    let fields = schema.as_struct().fields().iter();
    fields.map(|field| 1 + inside(&field.field_type)).sum()
}

/// With an optional text column for each of `names` (dots lead into structs) that is missing: what a table is laid out by
/// must be in it from the first, and of a field that no record has had yet nothing is known but its name.
pub fn with_missing<'a>(mut columns: Schema, names: impl IntoIterator<Item = &'a str>) -> Schema {
    use super::{Field, Type};

    fn has(fields: &[Field], path: &str, name: &str) -> bool {
        fields.iter().any(|field| {
            let path = join(path, &field.name);
            match &field.ty {
                _ if path == name => true,
                Type::Struct(inner) => name.starts_with(&path) && has(inner, &path, name),
                _ => false,
            }
        })
    }

    for name in names {
        if has(&columns.fields, "", name) {
            continue;
        }
        let mut fields = &mut columns.fields;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            let ty = match parts.peek() {
                Some(_) => Type::Struct(Vec::new()),
                None => Type::String,
            };
            let at = match fields.iter().position(|field| field.name == part) {
                Some(at) => at,
                None => {
                    fields.push(Field::optional(part, ty));
                    fields.len() - 1
                }
            };
            match &mut fields[at].ty {
                Type::Struct(inner) => fields = inner,
                _ => break,
            }
        }
    }
    columns
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::schema::{Field, Type};

    fn text(name: &str) -> Field {
        Field::optional(name, Type::String)
    }

    #[test]
    fn what_a_table_is_laid_out_by_is_in_it_from_the_first() {
        let place = |fields| Field::optional("place", Type::Struct(fields));
        let columns = Schema {
            fields: vec![
                Field::optional("n", Type::Long),
                text("a.b"),
                place(vec![text("zip")]),
            ],
        };
        let names = ["n", "a.b", "place.zip", "place.city", "x.y.z", "country"];
        let x = Type::Struct(vec![Field::optional("y", Type::Struct(vec![text("z")]))]);
        assert_eq!(
            with_missing(columns, names).fields,
            [
                Field::optional("n", Type::Long),
                text("a.b"),
                place(vec![text("zip"), text("city")]),
                Field::optional("x", x),
                text("country"),
            ]
        );
    }
}
