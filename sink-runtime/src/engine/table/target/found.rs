//! Columns that are found in records, before they become the table's. Pure.

use iceberg::spec::Schema as IcebergSchema;

use super::Target;
use crate::schema::evolution::{Change, Incompatible, NewSchema};
use crate::schema::iceberg::writable;
use crate::schema::{Field, Schema, Type, precedent};

/// What speaks against a column that would be added to the table, beyond its schema.
pub(super) fn refused(base: &Target, new: &NewSchema, max_columns: usize) -> Option<Incompatible> {
    let against = |column: String, remedy| Incompatible {
        have: "no such column".to_owned(),
        want: "one".to_owned(),
        column,
        remedy,
    };
    let names = new.schema.field_id_to_fields().keys();
    let names = names.filter_map(|id| new.schema.name_by_field_id(*id));
    let mut names = names.filter(|name| base.columns.schema.field_by_name(name).is_none());
    if let Some(name) = names.find(|name| base.partition_fields.contains(*name)) {
        let remedy = "a partition field of the table has this name: rename the field";
        return Some(against(name.to_owned(), remedy));
    }
    let added = new.changes.iter().find_map(|change| match change {
        Change::Add { column, .. } => Some(column),
        _ => None,
    });
    added
        .filter(|_| precedent::size(&new.schema) > max_columns)
        .map(|column| {
            let remedy = "the table has as many columns as value.infer.maxColumns allows: declare what has names without \
                          end as a map in value.infer.hints";
            against(column.clone(), remedy)
        })
}

/// With the columns that the table requires: nobody knows yet that records lack them.
pub(super) fn with_required(mut columns: Schema, table: &IcebergSchema) -> Schema {
    fn add(fields: &mut Vec<Field>, table: Vec<Field>) {
        for column in table {
            match fields.iter_mut().find(|field| field.name == column.name) {
                None if column.required => fields.push(column),
                None => {}
                Some(field) => {
                    if let (Type::Struct(fields), Type::Struct(table)) = (&mut field.ty, column.ty)
                    {
                        add(fields, table);
                    }
                }
            }
        }
    }
    add(&mut columns.fields, writable(table).0.fields);
    columns
}

/// With the comments that hints give: rows carry none.
pub(super) fn with_docs(mut columns: Schema, hinted: &Schema) -> Schema {
    fn tell(fields: &mut [Field], hinted: &[Field]) {
        for field in fields {
            let Some(hint) = hinted.iter().find(|hint| hint.name == field.name) else {
                continue;
            };
            field.doc.clone_from(&hint.doc);
            match (&mut field.ty, &hint.ty) {
                (Type::Struct(fields), Type::Struct(hinted)) => tell(fields, hinted),
                (Type::List(field), Type::List(hint)) | (Type::Map(field), Type::Map(hint)) => {
                    tell(
                        std::slice::from_mut(&mut **field),
                        std::slice::from_ref(&**hint),
                    );
                }
                _ => {}
            }
        }
    }
    tell(&mut columns.fields, &hinted.fields);
    columns
}
