//! The column schema of a sink: one set of types from which the Arrow, Iceberg, Glue and JSON forms follow.
//! Pure data and pure decisions.

use serde::{Deserialize, Serialize};

pub mod arrow;
pub mod evolution;
pub mod iceberg;
pub mod precedent;

/// Levels of nesting that a schema may have. Iceberg's metadata writes a struct as three levels of JSON, and some
/// readers give up at 128 of them.
pub const DEEPEST: usize = 32;

/// In characters.
const LONGEST_NAME: usize = 255;

/// Whether a column or a field of a struct may have this name.
pub fn is_column_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().count() <= LONGEST_NAME
        && name.trim() == name
        && !name.chars().any(char::is_control)
}

/// Columns, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schema {
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: Type,
    /// A record without it, or with null in it, does not fit.
    pub required: bool,
    pub doc: Option<String>,
    /// How the wire carries the value; `None` is the type's default.
    pub encoding: Option<Encoding>,
}

impl Field {
    pub fn optional(name: impl Into<String>, ty: Type) -> Self {
        Self {
            name: name.into(),
            ty,
            required: false,
            doc: None,
            encoding: None,
        }
    }

    pub fn required(name: impl Into<String>, ty: Type) -> Self {
        Self {
            required: true,
            ..Self::optional(name, ty)
        }
    }
}

/// Fields of all levels.
pub fn count(fields: &[Field]) -> usize {
    fields.iter().map(|field| 1 + count_in(&field.ty)).sum()
}

/// Fields of all levels inside a type.
pub fn count_in(ty: &Type) -> usize {
    match ty {
        Type::Struct(fields) => count(fields),
        Type::List(inner) | Type::Map(inner) => count_in(&inner.ty),
        _ => 0,
    }
}

/// Iceberg's types (format versions 2 and 3, without variant and geo). Timestamps are in microseconds, except `*Ns`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    Boolean,
    /// 32 bit.
    Int,
    /// 64 bit.
    Long,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// Days since the epoch.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Without zone.
    Timestamp,
    /// An instant; stored in UTC.
    Timestamptz,
    String,
    /// 16 bytes.
    Uuid,
    Binary,
    Struct(Vec<Field>),
    List(Box<Field>),
    /// Keys are strings (JSON's are).
    Map(Box<Field>),
}

/// How JSON carries a temporal or binary value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// Strings in ISO 8601 / RFC 3339.
    Iso8601,
    /// Integers since the Unix epoch (for `Time`: since midnight).
    EpochSeconds,
    EpochMillis,
    EpochMicros,
    EpochNanos,
    /// Integers, for `Date` only.
    EpochDays,
    /// Strings, for `Binary` only.
    Base64,
    Hex,
    /// The string's own bytes, for `Binary` only.
    Utf8,
}
