//! The narrowest schema that holds two others.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use super::{Misfit, join, widens};

/// Columns of `a` in their order, then those only `b` has; what one of them lacks is optional.
///
/// # Errors
/// The first column whose two types no type holds both.
pub fn union(a: &SchemaRef, b: &SchemaRef) -> Result<SchemaRef, Misfit> {
    if Arc::ptr_eq(a, b) || a == b {
        return Ok(a.clone());
    }
    let fields = union_fields(a.fields(), b.fields(), "")?;
    if &fields == a.fields() {
        return Ok(a.clone());
    }
    Ok(Arc::new(Schema::new_with_metadata(
        fields,
        a.metadata().clone(),
    )))
}

fn union_fields(a: &Fields, b: &Fields, path: &str) -> Result<Fields, Misfit> {
    let find = |fields: &Fields, name: &str| fields.iter().find(|f| f.name() == name).cloned();
    let mut fields = Vec::with_capacity(a.len().max(b.len()));
    for field in a {
        fields.push(match find(b, field.name()) {
            Some(other) => union_field(field, &other, &join(path, field.name()))?,
            None => optional(field),
        });
    }
    fields.extend(
        b.iter()
            .filter(|f| find(a, f.name()).is_none())
            .map(optional),
    );
    Ok(fields.into())
}

fn optional(field: &FieldRef) -> FieldRef {
    if field.is_nullable() {
        field.clone()
    } else {
        Arc::new(field.as_ref().clone().with_nullable(true))
    }
}

fn union_field(a: &FieldRef, b: &FieldRef, path: &str) -> Result<FieldRef, Misfit> {
    let ty = union_type(a, b, path)?;
    let nullable = a.is_nullable() || b.is_nullable();
    if &ty == a.data_type() && nullable == a.is_nullable() {
        return Ok(a.clone());
    }
    Ok(Arc::new(
        Field::new(a.name(), ty, nullable).with_metadata(a.metadata().clone()),
    ))
}

fn union_type(a: &FieldRef, b: &FieldRef, path: &str) -> Result<DataType, Misfit> {
    use DataType as T;
    Ok(match (a.data_type(), b.data_type()) {
        (x, y) if x == y => x.clone(),
        (T::Null, other) | (other, T::Null) => other.clone(),
        (T::Struct(x), T::Struct(y)) => T::Struct(union_fields(x, y, path)?),
        (T::List(x), T::List(y)) => T::List(union_field(x, y, &join(path, "element"))?),
        (T::LargeList(x), T::LargeList(y)) => {
            T::LargeList(union_field(x, y, &join(path, "element"))?)
        }
        (T::Map(x, ordered), T::Map(y, _)) => match (x.data_type(), y.data_type()) {
            (T::Struct(p), T::Struct(q)) if p.len() == 2 && q.len() == 2 => {
                let key = union_field(&p[0], &q[0], &join(path, "key"))?;
                let value = union_field(&p[1], &q[1], &join(path, "value"))?;
                let entries = x
                    .as_ref()
                    .clone()
                    .with_data_type(T::Struct(vec![key, value].into()));
                T::Map(Arc::new(entries), *ordered)
            }
            _ => return Err(misfit(a, b, path)),
        },
        (T::Decimal128(p, s), T::Decimal128(q, t)) if s == t => T::Decimal128(*p.max(q), *s),
        (x @ T::Timestamp(t, Some(_)), T::Timestamp(u, Some(_))) if t == u => x.clone(),
        (x, y) if widens(x, y) => y.clone(),
        (x, y) if widens(y, x) => x.clone(),
        _ => return Err(misfit(a, b, path)),
    })
}

fn misfit(a: &Field, b: &Field, path: &str) -> Misfit {
    Misfit::Type {
        column: path.to_owned(),
        found: b.data_type().clone(),
        wanted: a.data_type().clone(),
    }
}
