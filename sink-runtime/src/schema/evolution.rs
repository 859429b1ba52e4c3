//! What must change in a table's schema so that it holds the wanted columns. Pure, and predictable: every writer that
//! starts from the same table and wants the same columns plans the same change with the same field ids, whatever the
//! order in which it met the columns (new columns of a level are added in the order of their names).
//!
//! Columns are only added, widened or made optional; never dropped, narrowed, renamed or moved. A column that somebody else
//! renamed or dropped is not made anew under its old name, unless that is allowed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema as IcebergSchema,
    StructType, Type,
};

mod columns;
mod reconcile;

pub use self::columns::{Fate, FormerColumns, TableColumns, partition_fields};
pub use self::reconcile::{Partitions, SchemaMoved, reconcile};
use super::Schema;
use super::iceberg::{FreshIds, join, to_iceberg};
use crate::errors::{Class, Classified, class};
use crate::plan::Evolution;

/// One step of an evolution, by the column's full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add {
        column: String,
        id: i32,
        ty: String,
    },
    Widen {
        column: String,
        from: String,
        to: String,
    },
    MakeOptional {
        column: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { column, id, ty } => write!(f, "add \"{column}\" {ty} (id {id})"),
            Self::Widen { column, from, to } => {
                write!(f, "widen \"{column}\" from {from} to {to}")
            }
            Self::MakeOptional { column } => write!(f, "make \"{column}\" optional"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct NewSchema {
    pub schema: IcebergSchema,
    pub changes: Vec<Change>,
}

/// The table cannot hold the column, or may not be changed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column \"{column}\": the table has {have}, the records have {want}; {remedy}")]
pub struct Incompatible {
    pub column: String,
    pub have: String,
    pub want: String,
    pub remedy: &'static str,
}

impl Classified for Incompatible {
    fn class(&self) -> Class {
        class::TABLE_INCOMPATIBLE
    }
}

const REMEDY_ADD: &str = "allow evolution.addColumns, or add the column to the table";
const REMEDY_FORMER: &str =
    "rename the field, add the column to the table again, or allow evolution.recreateColumns";
const REMEDY_WIDEN: &str = "allow evolution.widen, or widen the column in the table";
const REMEDY_OPTIONAL: &str = "allow evolution.makeOptional, or make the field required";
const REMEDY_TYPE: &str = "change the field's type, or name it differently";
const REMEDY_CASE: &str = "names that differ only in case collide in most engines: rename one";
const REMEDY_PARTITION: &str =
    "a partition field of the table has this name: rename the field, or drop that one and its spec";
const REMEDY_IDENTIFIER: &str = "identifier fields must stay required: make the field required";
const REMEDY_KEY: &str = "keys of maps cannot change: change the field's type";

/// What a table needs in order to hold `wanted`; `None` when nothing.
///
/// # Errors
/// The first column that does not fit, with what would mend it.
pub fn plan_evolution(
    table: &TableColumns,
    wanted: &Schema,
    policy: Evolution,
) -> Result<Option<NewSchema>, Incompatible> {
    let wanted = to_iceberg(wanted).map_err(|e| Incompatible {
        column: String::new(),
        have: "distinct columns".to_owned(),
        want: std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string),
        remedy: "give every column its own name",
    })?;
    let merge = Merge {
        policy,
        former: &table.former,
        partition_fields: &table.partition_fields,
        ids: Some(FreshIds::after(
            table.last_column_id.max(table.schema.highest_field_id()),
        )),
        identifiers: table.schema.identifier_field_ids().collect(),
        changes: Vec::new(),
    };
    merge.plan(&table.schema, &wanted)
}

/// What `base` needs in order to hold the columns of files, under the ids that these have; everything is allowed.
fn plan_written(
    base: &IcebergSchema,
    written: &IcebergSchema,
    partition_fields: &BTreeSet<String>,
) -> Result<Option<NewSchema>, Incompatible> {
    let everything = Evolution {
        add_columns: true,
        widen: true,
        make_optional: true,
        recreate_columns: true,
    };
    let merge = Merge {
        policy: everything,
        former: &FormerColumns::default(),
        partition_fields,
        ids: None,
        identifiers: base.identifier_field_ids().collect(),
        changes: Vec::new(),
    };
    merge.plan(base, written)
}

struct Merge<'a> {
    policy: Evolution,
    former: &'a FormerColumns,
    partition_fields: &'a BTreeSet<String>,
    /// `None`: new columns have the ids that they are wanted with.
    ids: Option<FreshIds>,
    identifiers: Vec<i32>,
    changes: Vec<Change>,
}

impl Merge<'_> {
    fn plan(
        mut self,
        base: &IcebergSchema,
        wanted: &IcebergSchema,
    ) -> Result<Option<NewSchema>, Incompatible> {
        let fields = self.fields("", base.as_struct().fields(), wanted.as_struct().fields())?;
        if self.changes.is_empty() {
            return Ok(None);
        }
        let schema = IcebergSchema::builder()
            .with_schema_id(base.schema_id())
            .with_identifier_field_ids(base.identifier_field_ids())
            .with_fields(fields)
            .build()
            .map_err(|e| Incompatible {
                column: String::new(),
                have: "a valid schema".to_owned(),
                want: e.to_string(),
                remedy: "give every column its own name",
            })?;
        Ok(Some(NewSchema {
            schema,
            changes: self.changes,
        }))
    }

    fn fields(
        &mut self,
        path: &str,
        have: &[NestedFieldRef],
        want: &[NestedFieldRef],
    ) -> Result<Vec<NestedFieldRef>, Incompatible> {
        let mut merged = Vec::with_capacity(have.len());
        for field in have {
            let path = join(path, &field.name);
            match want.iter().find(|w| w.name == field.name) {
                Some(wanted) => merged.push(self.field(&path, field, wanted)?),
                None if field.required => {
                    merged.push(self.absent(&path, field)?);
                }
                None => merged.push(field.clone()),
            }
        }
        let mut new: Vec<&NestedFieldRef> = want
            .iter()
            .filter(|w| have.iter().all(|h| h.name != w.name))
            .collect();
        new.sort_by(|a, b| a.name.cmp(&b.name));
        for field in new {
            let added = self.added(path, &merged, field)?;
            merged.push(added);
        }
        Ok(merged)
    }

    /// No record will carry this required column.
    fn absent(
        &mut self,
        path: &str,
        have: &NestedFieldRef,
    ) -> Result<NestedFieldRef, Incompatible> {
        let mut field = NestedField::clone(have);
        self.make_optional(path, &mut field, "no such field")?;
        Ok(Arc::new(field))
    }

    fn field(
        &mut self,
        path: &str,
        have: &NestedFieldRef,
        want: &NestedField,
    ) -> Result<NestedFieldRef, Incompatible> {
        let mut field = NestedField::clone(have);
        if have.required && !want.required {
            self.make_optional(path, &mut field, "an optional field")?;
        }
        field.field_type = Box::new(self.ty(path, &have.field_type, &want.field_type)?);
        Ok(Arc::new(field))
    }

    fn make_optional(
        &mut self,
        path: &str,
        field: &mut NestedField,
        want: &str,
    ) -> Result<(), Incompatible> {
        let refuse = |remedy| Incompatible {
            column: path.to_owned(),
            have: "a required column".to_owned(),
            want: want.to_owned(),
            remedy,
        };
        if self.identifiers.contains(&field.id) {
            return Err(refuse(REMEDY_IDENTIFIER));
        }
        if !self.policy.make_optional {
            return Err(refuse(REMEDY_OPTIONAL));
        }
        field.required = false;
        self.changes.push(Change::MakeOptional {
            column: path.to_owned(),
        });
        Ok(())
    }

    fn ty(&mut self, path: &str, have: &Type, want: &Type) -> Result<Type, Incompatible> {
        let refuse = |remedy| Incompatible {
            column: path.to_owned(),
            have: describe(have),
            want: describe(want),
            remedy,
        };
        match (have, want) {
            (Type::Primitive(a), Type::Primitive(b)) => {
                if a == b || widens(b, a) {
                    Ok(have.clone())
                } else if !widens(a, b) {
                    Err(refuse(REMEDY_TYPE))
                } else if !self.policy.widen {
                    Err(refuse(REMEDY_WIDEN))
                } else {
                    self.changes.push(Change::Widen {
                        column: path.to_owned(),
                        from: a.to_string(),
                        to: b.to_string(),
                    });
                    Ok(want.clone())
                }
            }
            (Type::Struct(a), Type::Struct(b)) => Ok(Type::Struct(StructType::new(self.fields(
                path,
                a.fields(),
                b.fields(),
            )?))),
            (Type::List(a), Type::List(b)) => Ok(Type::List(ListType::new(self.field(
                &join(path, "element"),
                &a.element_field,
                &b.element_field,
            )?))),
            (Type::Map(a), Type::Map(b)) => {
                if !same_shape(&a.key_field.field_type, &b.key_field.field_type) {
                    return Err(refuse(REMEDY_KEY));
                }
                let value = self.field(&join(path, "value"), &a.value_field, &b.value_field)?;
                Ok(Type::Map(MapType::new(a.key_field.clone(), value)))
            }
            _ => Err(refuse(REMEDY_TYPE)),
        }
    }

    fn added(
        &mut self,
        path: &str,
        siblings: &[NestedFieldRef],
        want: &NestedField,
    ) -> Result<NestedFieldRef, Incompatible> {
        let column = join(path, &want.name);
        let lower = want.name.to_lowercase();
        if let Some(twin) = siblings.iter().find(|s| s.name.to_lowercase() == lower) {
            return Err(Incompatible {
                column,
                have: format!("\"{}\"", twin.name),
                want: format!("\"{}\"", want.name),
                remedy: REMEDY_CASE,
            });
        }
        if !self.policy.add_columns {
            return Err(Incompatible {
                column,
                have: "no such column".to_owned(),
                want: describe(&want.field_type),
                remedy: REMEDY_ADD,
            });
        }
        if self.partition_fields.contains(&column) {
            return Err(Incompatible {
                column,
                have: "no such column".to_owned(),
                want: describe(&want.field_type),
                remedy: REMEDY_PARTITION,
            });
        }
        if let Some(fate) = self.former.fate(&column)
            && !self.policy.recreate_columns
        {
            return Err(Incompatible {
                column,
                have: fate.to_string(),
                want: describe(&want.field_type),
                remedy: REMEDY_FORMER,
            });
        }
        let (id, ty) = match &mut self.ids {
            Some(ids) => (ids.take(), ids.renumber(&want.field_type)),
            None => (want.id, Type::clone(&want.field_type)),
        };
        // Older rows have no value for it, so it is optional whatever the records promise.
        let mut field = NestedField::optional(id, &want.name, ty);
        field.doc.clone_from(&want.doc);
        self.changes.push(Change::Add {
            column,
            id,
            ty: describe(&want.field_type),
        });
        Ok(Arc::new(field))
    }
}

/// Whether every `from` is a `to`, by Iceberg's promotion rules.
pub fn widens(from: &PrimitiveType, to: &PrimitiveType) -> bool {
    match (from, to) {
        (PrimitiveType::Int, PrimitiveType::Long)
        | (PrimitiveType::Float, PrimitiveType::Double) => true,
        (
            PrimitiveType::Decimal {
                precision: p1,
                scale: s1,
            },
            PrimitiveType::Decimal {
                precision: p2,
                scale: s2,
            },
        ) => s1 == s2 && p2 > p1,
        _ => false,
    }
}

fn same_shape(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Primitive(a), Type::Primitive(b)) => a == b,
        (Type::Struct(a), Type::Struct(b)) => {
            a.fields().len() == b.fields().len()
                && a.fields()
                    .iter()
                    .zip(b.fields())
                    .all(|(a, b)| a.name == b.name && same_shape(&a.field_type, &b.field_type))
        }
        (Type::List(a), Type::List(b)) => {
            same_shape(&a.element_field.field_type, &b.element_field.field_type)
        }
        (Type::Map(a), Type::Map(b)) => {
            same_shape(&a.key_field.field_type, &b.key_field.field_type)
                && same_shape(&a.value_field.field_type, &b.value_field.field_type)
        }
        _ => false,
    }
}

fn describe(ty: &Type) -> String {
    match ty {
        Type::Primitive(primitive) => primitive.to_string(),
        Type::Struct(_) => "struct".to_owned(),
        Type::List(list) => format!("list<{}>", describe(&list.element_field.field_type)),
        Type::Map(map) => format!(
            "map<{}, {}>",
            describe(&map.key_field.field_type),
            describe(&map.value_field.field_type)
        ),
    }
}

#[cfg(test)]
mod tests;
