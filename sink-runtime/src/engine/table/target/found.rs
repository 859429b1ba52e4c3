//! Columns that are found in records, before they become the table's. Pure.

use iceberg::spec::Schema as IcebergSchema;

use crate::schema::evolution::{Change, Incompatible, NewSchema};
use crate::schema::iceberg::writable;
use crate::schema::{Field, Schema, Type, precedent};

/// A column that would be one too many for the table.
pub(super) fn one_too_many(new: &NewSchema, max_columns: usize) -> Option<Incompatible> {
    let added = new.changes.iter().find_map(|change| match change {
        Change::Add { column, .. } => Some(column),
        _ => None,
    });
    added
        .filter(|_| precedent::size(&new.schema) > max_columns)
        .map(|column| Incompatible {
            column: column.clone(),
            have: "no such column".to_owned(),
            want: "one".to_owned(),
            remedy: "the table has as many columns as value.infer.maxColumns allows: declare what has names without end \
                     as a map in value.infer.hints",
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
