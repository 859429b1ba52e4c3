//! Types as Hive and Glue write them: made from a sink's columns, read from a table, and one fitted to the other. Pure.

use std::fmt;

use arrow::datatypes::Schema as ArrowSchema;

use super::{Allowed, Column, HiveFormat};
use crate::schema::{DEEPEST, Field, Type, arrow as arrow_schema};

/// A type, in Hive's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HiveType {
    /// `bigint`, `string`, `varchar(10)`, …
    Simple(String),
    Decimal {
        precision: u8,
        scale: u8,
    },
    Array(Box<HiveType>),
    Map(Box<HiveType>, Box<HiveType>),
    Struct(Vec<(String, HiveType)>),
}

impl fmt::Display for HiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(name) => f.write_str(name),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Array(element) => write!(f, "array<{element}>"),
            Self::Map(key, value) => write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (n, (name, ty)) in fields.iter().enumerate() {
                    let comma = if n > 0 { "," } else { "" };
                    write!(f, "{comma}{name}:{ty}")?;
                }
                f.write_str(">")
            }
        }
    }
}

/// A column that no Hive table can show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column \"{column}\": {why}")]
pub struct Unfit {
    pub column: String,
    pub why: String,
}

/// Columns of files of this schema, without those that no Hive table can show, of which the first is told.
pub fn columns(schema: &ArrowSchema, format: HiveFormat) -> (Vec<Column>, Option<Unfit>) {
    let schema = match arrow_schema::schema(schema) {
        Ok(schema) => schema,
        Err(error) => {
            let (column, why) = (error.field.clone(), error.to_string());
            return (Vec::new(), Some(Unfit { column, why }));
        }
    };
    let mut columns: Vec<Column> = Vec::with_capacity(schema.fields.len());
    let mut first = None;
    for field in &schema.fields {
        let name = field.name.to_lowercase();
        let ty = if columns.iter().any(|column| column.name == name) {
            Err("another column's name differs only in case: rename one".to_owned())
        } else {
            HiveType::of(&field.ty, format)
        };
        match ty {
            Ok(ty) => columns.push(Column {
                ty,
                name,
                comment: field.doc.clone(),
            }),
            Err(why) => {
                let column = field.name.clone();
                first = first.or(Some(Unfit { column, why }));
            }
        }
    }
    (columns, first)
}

impl HiveType {
    /// # Errors
    /// Why there is no such type, with the remedy.
    pub fn of(ty: &Type, format: HiveFormat) -> Result<Self, String> {
        let simple = |name: &str| Ok(Self::Simple(name.to_owned()));
        match ty {
            Type::Boolean => simple("boolean"),
            Type::Int => simple("int"),
            Type::Long => simple("bigint"),
            Type::Float => simple("float"),
            Type::Double => simple("double"),
            Type::Decimal { precision, scale } => Ok(Self::Decimal {
                precision: *precision,
                scale: *scale,
            }),
            Type::String | Type::Uuid => simple("string"),
            // JSON has no times, only texts of them; readers do not agree on which they take for times.
            Type::Date | Type::Time | Type::Timestamp | Type::Timestamptz | Type::Binary
                if format == HiveFormat::Json =>
            {
                simple("string")
            }
            Type::Date => simple("date"),
            Type::Time => Err(
                "readers of Hive tables know no time of day in Parquet: make the field a string or a long"
                    .to_owned(),
            ),
            Type::Timestamp | Type::Timestamptz => simple("timestamp"),
            Type::Binary => simple("binary"),
            Type::List(element) => Ok(Self::Array(Box::new(Self::of(&element.ty, format)?))),
            Type::Map(value) => Ok(Self::Map(
                Box::new(Self::Simple("string".to_owned())),
                Box::new(Self::of(&value.ty, format)?),
            )),
            Type::Struct(fields) => Ok(Self::Struct(members(fields, format)?)),
        }
    }

    /// `None` for what is no type.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let mut reader = Reader { rest: &text };
        let ty = reader.ty(0)?;
        reader.rest.is_empty().then_some(ty)
    }

    /// What a column of type `have` must be to show values of type `want`.
    ///
    /// # Errors
    /// Why it cannot, or may not, be changed, with the remedy.
    pub fn merged(
        have: &Self,
        want: &Self,
        format: HiveFormat,
        allowed: Allowed,
    ) -> Result<Self, String> {
        use HiveType::{Array, Map, Struct};
        if have == want || holds(have, want, format) {
            return Ok(have.clone());
        }
        match (have, want) {
            (Array(have), Array(want)) => {
                let element = Self::merged(have, want, format, allowed)?;
                Ok(Array(Box::new(element)))
            }
            (Map(key, have), Map(other, want)) if key == other => {
                let value = Self::merged(have, want, format, allowed)?;
                Ok(Map(key.clone(), Box::new(value)))
            }
            (Struct(have), Struct(want)) => {
                let mut fields = have.clone();
                for (name, want) in want {
                    match fields.iter_mut().find(|(have, _)| have == name) {
                        Some((_, have)) => *have = Self::merged(have, want, format, allowed)?,
                        None if allowed.add_columns => fields.push((name.clone(), want.clone())),
                        None => {
                            return Err(format!("has no field \"{name}\"; {REMEDY_ADD}"));
                        }
                    }
                }
                Ok(Struct(fields))
            }
            _ if !widens(have, want, format) => Err(format!(
                "is {have}, the files have {want}; change the field's type, or name it differently"
            )),
            _ if !allowed.widen => Err(format!(
                "is {have}, the files have {want}; allow spec.glue.evolution.widen"
            )),
            _ => Ok(want.clone()),
        }
    }
}

pub(super) const REMEDY_ADD: &str = "allow spec.glue.evolution.addColumns, or add it to the table";

fn members(fields: &[Field], format: HiveFormat) -> Result<Vec<(String, HiveType)>, String> {
    let mut members: Vec<(String, HiveType)> = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.name.to_lowercase();
        if name.contains([':', ',', '<', '>', '(', ')', '`', ' ']) {
            return Err(format!(
                "a struct's field cannot be named \"{name}\" in a Hive table: rename it"
            ));
        }
        if members.iter().any(|(other, _)| *other == name) {
            return Err(format!(
                "another field's name differs from \"{name}\" only in case: rename one"
            ));
        }
        members.push((name, HiveType::of(&field.ty, format)?));
    }
    Ok(members)
}

/// Places in the order of what fits into what.
fn integer(ty: &HiveType) -> Option<u8> {
    let HiveType::Simple(name) = ty else {
        return None;
    };
    match name.as_str() {
        "tinyint" => Some(1),
        "smallint" => Some(2),
        "int" => Some(3),
        "bigint" => Some(4),
        _ => None,
    }
}

fn is(ty: &HiveType, name: &str) -> bool {
    matches!(ty, HiveType::Simple(simple) if simple == name)
}

/// Whether a column of type `have` shows values of type `want` as it is.
fn holds(have: &HiveType, want: &HiveType, format: HiveFormat) -> bool {
    if widens(want, have, format) {
        return true;
    }
    let text = |prefix: &str| matches!(have, HiveType::Simple(name) if name.starts_with(prefix));
    // A text in JSON may be shown as the time that it tells.
    let time = format == HiveFormat::Json && (is(have, "timestamp") || is(have, "date"));
    is(want, "string") && (text("varchar(") || time)
}

/// Whether every value of type `from` is one of type `to` to readers of such files.
fn widens(from: &HiveType, to: &HiveType, format: HiveFormat) -> bool {
    if let (Some(from), Some(to)) = (integer(from), integer(to)) {
        return from < to;
    }
    match (from, to) {
        (
            HiveType::Decimal {
                precision: narrow,
                scale,
            },
            HiveType::Decimal {
                precision: wide,
                scale: other,
            },
        ) => scale == other && narrow < wide,
        (HiveType::Simple(_) | HiveType::Decimal { .. }, to) if is(to, "string") => {
            format == HiveFormat::Json
        }
        (from, to) if is(to, "double") => {
            is(from, "float") || (format == HiveFormat::Json && integer(from).is_some())
        }
        _ => false,
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn ty(&mut self, depth: usize) -> Option<HiveType> {
        // Ours nest less; a foreign table's must not exhaust the stack.
        if depth > 2 * DEEPEST {
            return None;
        }
        let end = self.rest.find(['<', '>', ',', '(']);
        let name = self.take(end.unwrap_or(self.rest.len())).trim().to_owned();
        match self.rest.chars().next() {
            Some('(') => {
                let end = self.rest.find(')')?;
                let numbers = self.take(end + 1);
                if name != "decimal" {
                    return Some(HiveType::Simple(format!("{name}{numbers}")));
                }
                let mut numbers = numbers.trim_matches(['(', ')']).split(',');
                let precision = numbers.next()?.trim().parse().ok()?;
                let scale = numbers.next().unwrap_or("0").trim().parse().ok()?;
                Some(HiveType::Decimal { precision, scale })
            }
            Some('<') => {
                self.take(1);
                let ty = match name.as_str() {
                    "array" => HiveType::Array(Box::new(self.ty(depth + 1)?)),
                    "map" => {
                        let key = self.ty(depth + 1)?;
                        self.expect(',')?;
                        HiveType::Map(Box::new(key), Box::new(self.ty(depth + 1)?))
                    }
                    "struct" => HiveType::Struct(self.members(depth)?),
                    _ => return None,
                };
                self.expect('>')?;
                Some(ty)
            }
            _ if name.is_empty() => None,
            _ => Some(HiveType::Simple(match name.as_str() {
                "integer" => "int".to_owned(),
                "decimal" => {
                    return Some(HiveType::Decimal {
                        precision: 10,
                        scale: 0,
                    });
                }
                _ => name,
            })),
        }
    }

    fn members(&mut self, depth: usize) -> Option<Vec<(String, HiveType)>> {
        let mut members = Vec::new();
        loop {
            let end = self.rest.find(':')?;
            let name = self.take(end).trim().to_owned();
            self.expect(':')?;
            members.push((name, self.ty(depth + 1)?));
            if self.expect(',').is_none() {
                return Some(members);
            }
        }
    }

    fn take(&mut self, bytes: usize) -> String {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken.to_owned()
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(c)?;
        Some(())
    }
}
