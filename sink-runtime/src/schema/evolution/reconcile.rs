//! The second look at a table's columns, at commit time: files carry field ids that were predicted or read before, and the
//! table may have changed since. Pure.

use std::collections::{BTreeSet, HashMap};

use iceberg::spec::{NestedFieldRef, Schema as IcebergSchema, Type};

use super::{NewSchema, plan_written, widens};

/// The files were written with field ids that mean something else in the table by now: write them again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "field {id} (\"{column}\") of the written files is not, or cannot become, that column in the table by now"
)]
pub struct SchemaMoved {
    pub column: String,
    pub id: i32,
}

/// What a table's partitions ask of the columns of files.
#[derive(Clone, Copy, Debug)]
pub struct Partitions<'a> {
    /// The columns whose type the files' partition values depend on.
    pub sources: &'a [i32],
    /// As of [`TableColumns::partition_fields`](super::TableColumns::partition_fields).
    pub names: &'a BTreeSet<String>,
}

/// What must change in a table so that files written with the field ids of `written` are right: every id has to be, or to
/// become, the column of the same name under the same parent, of the same type or a wider one.
///
/// # Errors
/// [`SchemaMoved`] when another writer's change makes the files wrong.
pub fn reconcile(
    base: &IcebergSchema,
    last_column_id: i32,
    written: &IcebergSchema,
    partitions: Partitions<'_>,
) -> Result<Option<NewSchema>, SchemaMoved> {
    if base.as_struct() == written.as_struct() {
        return Ok(None);
    }
    let moved = |id: i32| SchemaMoved {
        column: written.name_by_field_id(id).unwrap_or_default().to_owned(),
        id,
    };
    let (places, wrote) = (Places::of(base), Places::of(written));
    let mut ids: Vec<i32> = written.field_id_to_fields().keys().copied().collect();
    ids.sort_unstable();
    let mut settled = true;
    for id in &ids {
        let (Some(field), have) = (written.field_by_id(*id), base.field_by_id(*id)) else {
            continue;
        };
        let Some(have) = have else {
            // Given out already, and not there: somebody dropped it.
            if *id <= last_column_id {
                return Err(moved(*id));
            }
            settled = false;
            continue;
        };
        if places.at(*id) != wrote.at(*id) {
            return Err(moved(*id));
        }
        settled &= field.required || !have.required;
        match (&*have.field_type, &*field.field_type) {
            (Type::Primitive(have), Type::Primitive(wrote)) if have == wrote => {}
            (Type::Primitive(have), Type::Primitive(wrote)) if widens(wrote, have) => {
                if partitions.sources.contains(id) {
                    return Err(moved(*id));
                }
            }
            (Type::Primitive(have), Type::Primitive(wrote)) if widens(have, wrote) => {
                settled = false;
            }
            (Type::Struct(_), Type::Struct(_))
            | (Type::List(_), Type::List(_))
            | (Type::Map(_), Type::Map(_)) => {}
            _ => return Err(moved(*id)),
        }
    }
    if settled {
        return Ok(None);
    }
    let first = ids.first().copied().unwrap_or_default();
    // The change was allowed when it was planned; only its ids can have become wrong, or a name been given to another.
    let planned = plan_written(base, written, partitions.names).map_err(|e| SchemaMoved {
        id: written.field_id_by_name(&e.column).unwrap_or(first),
        column: e.column,
    })?;
    let after = Places::of(planned.as_ref().map_or(base, |p| &p.schema));
    match ids.into_iter().find(|id| after.at(*id) != wrote.at(*id)) {
        Some(id) => Err(moved(id)),
        None => Ok(planned),
    }
}

/// Where each field of a schema stands: its parent's id, if it has one, and its own name there. Full names would not do: a
/// dot may be part of a name.
struct Places<'a>(HashMap<i32, (Option<i32>, &'a str)>);

impl<'a> Places<'a> {
    fn of(schema: &'a IcebergSchema) -> Self {
        let mut places = Self(HashMap::with_capacity(schema.field_id_to_fields().len()));
        // A list of what is left to look into, not recursion: how deep it goes is for others to say.
        let mut inside: Vec<(Option<i32>, &'a NestedFieldRef)> = schema
            .as_struct()
            .fields()
            .iter()
            .map(|f| (None, f))
            .collect();
        while let Some((parent, field)) = inside.pop() {
            places.0.insert(field.id, (parent, &field.name));
            let here = Some(field.id);
            match &*field.field_type {
                Type::Primitive(_) => {}
                Type::Struct(fields) => inside.extend(fields.fields().iter().map(|f| (here, f))),
                Type::List(list) => inside.push((here, &list.element_field)),
                Type::Map(map) => {
                    inside.extend([(here, &map.key_field), (here, &map.value_field)]);
                }
            }
        }
        places
    }

    fn at(&self, id: i32) -> Option<&(Option<i32>, &'a str)> {
        self.0.get(&id)
    }
}
