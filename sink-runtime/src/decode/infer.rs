//! A schema from the records themselves. Pure.
//! Every record has a shape; shapes join to the least one that holds both. A null, `{}` or `[]` alone gives no column
//! yet. The schema only widens: columns keep their order, new ones come last, and the batch that widens it is decoded
//! again as a whole. What no declared schema could hold is not taken for a column: other names, deeper nesting.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;

use super::column::Origin;
use super::cursor::{Cursor, Number, Syntax};
use super::json::{JsonDecoder, Prediction, Surroundings};
use super::parse::Unknown;
use super::{Decoded, Decoder, RejectClass, number};
use crate::plan::OnConflict;
use crate::record::RawBatch;
use crate::schema::arrow::{ELEMENT, metadata_fields};
use crate::schema::{DEEPEST, Field, Schema, Type, is_column_name};

/// Fields of all levels that a schema may grow to; a record that would add more is refused.
pub(super) const MAX_FIELDS: usize = 1000;

/// What is known of a value's type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// Only nulls so far.
    Unseen,
    Boolean,
    /// All seen are doubles as well.
    Long,
    /// With integers that a double would round.
    WideLong,
    Double,
    String,
    Struct(Vec<Member>),
    List(Box<Shape>),
}

/// In the order first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    shape: Shape,
}

/// Two shapes that no type holds both of, or a record that is not JSON.
#[derive(Debug)]
struct NoShape;

impl From<Syntax> for NoShape {
    fn from(_: Syntax) -> Self {
        Self
    }
}

#[derive(Debug)]
pub(super) struct InferringDecoder {
    known: Shape,
    /// What the destination's columns can hold; `Unseen` where it leaves the choice to the records.
    fixed: Shape,
    schema: Schema,
    /// Records still to look at before they are decoded: saves decoding the first batches over and over.
    to_sample: usize,
    on_conflict: OnConflict,
    prediction: Prediction,
    around: Surroundings,
    /// Names that the metadata columns have taken, in lower case.
    reserved: Vec<String>,
    inner: JsonDecoder,
}

impl InferringDecoder {
    pub(super) fn new(
        sample_records: usize,
        on_conflict: OnConflict,
        prediction: Prediction,
        around: Surroundings,
    ) -> Self {
        let schema = Schema::default();
        let reserved = metadata_fields(&around.metadata)
            .iter()
            .map(|f| f.name().to_lowercase())
            .collect();
        Self {
            known: Shape::Struct(Vec::new()),
            fixed: Shape::Unseen,
            inner: decoder(&schema, on_conflict, prediction, &around),
            schema,
            to_sample: sample_records,
            on_conflict,
            prediction,
            around,
            reserved,
        }
    }

    /// Learns from the rows; whether the schema became another one.
    fn widen(&mut self, raw: &RawBatch, rows: impl Iterator<Item = usize>) -> bool {
        for row in rows {
            if let Some(record) = raw.values.get(row) {
                self.learn(record);
            }
        }
        self.settle()
    }

    /// Takes what is known for the schema; whether that became another one.
    fn settle(&mut self) -> bool {
        let Shape::Struct(members) = &self.known else {
            return false;
        };
        let schema = Schema {
            fields: fields(members, &self.schema.fields),
        };
        if schema == self.schema {
            return false;
        }
        self.inner = decoder(&schema, self.on_conflict, self.prediction, &self.around);
        self.schema = schema;
        true
    }

    /// A record that has no shape, conflicts or asks for too many columns teaches nothing.
    fn learn(&mut self, record: &[u8]) {
        let Ok(shape) = shape_of(record, self.on_conflict) else {
            return;
        };
        if !matches!(shape, Shape::Struct(_)) {
            return;
        }
        if self.known.covers(&shape, self.on_conflict) {
            return;
        }
        let joined = self.known.clone().join(shape, self.on_conflict);
        if let Ok(joined) = joined.and_then(|joined| joined.within(&self.fixed, self.on_conflict)) {
            let (before, after) = (self.known.size(), joined.size());
            let bounded = after <= MAX_FIELDS || after <= before;
            if bounded && joined.nameable(&self.reserved) {
                self.known = joined;
            }
        }
    }
}

impl Decoder for InferringDecoder {
    fn decode(&mut self, raw: &RawBatch) -> Decoded {
        let sample = self.to_sample.min(raw.len());
        self.to_sample -= sample;
        if sample > 0 {
            self.widen(raw, 0..sample);
        }
        loop {
            let decoded = self.inner.decode(raw);
            let misfits = decoded.rejects.iter().filter(|r| {
                matches!(
                    r.class,
                    RejectClass::TypeMismatch | RejectClass::OutOfRange | RejectClass::UnknownField
                )
            });
            // Ends: shapes only grow, and within bounds.
            if !self.widen(raw, misfits.map(|r| r.row as usize)) {
                return decoded;
            }
        }
    }

    fn adopt(&mut self, have: &Schema) -> bool {
        let fixed = Shape::Struct(have.fields.iter().map(Member::fixed).collect());
        let known = self.known.clone().cut_to(&fixed, self.on_conflict);
        self.fixed = fixed;
        self.known = known;
        self.settle()
    }

    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}

fn decoder(
    schema: &Schema,
    on_conflict: OnConflict,
    prediction: Prediction,
    around: &Surroundings,
) -> JsonDecoder {
    let text = on_conflict == OnConflict::String;
    JsonDecoder::new(
        schema,
        Unknown::RefuseTyped,
        Origin::Found { text },
        prediction,
        around.clone(),
    )
}

fn shape_of(record: &[u8], on_conflict: OnConflict) -> Result<Shape, NoShape> {
    if simdutf8::basic::from_utf8(record).is_err() {
        return Err(NoShape);
    }
    let mut cursor = Cursor::new(record, 0);
    cursor.whitespace();
    let shape = read(&mut cursor, on_conflict)?;
    cursor.end()?;
    Ok(shape)
}

fn read(cursor: &mut Cursor<'_>, on_conflict: OnConflict) -> Result<Shape, NoShape> {
    let mut scratch = Vec::new();
    match cursor.peek() {
        // A column's own value is at depth 1: its type is the first level.
        b'{' | b'[' if cursor.depth as usize >= DEEPEST => match cursor.skip(&mut scratch)? {
            true => text(on_conflict),
            false => Ok(Shape::Unseen),
        },
        b'{' => {
            cursor.enter()?;
            let mut members: Vec<Member> = Vec::new();
            let mut more = !cursor.empty(b'}');
            while more {
                let key = cursor.key(&mut scratch)?;
                let name = String::from_utf8_lossy(key.unwrap_or(&scratch)).into_owned();
                let shape = read(cursor, on_conflict)?;
                add(&mut members, Member { name, shape }, on_conflict)?;
                more = cursor.another(b'}')?;
            }
            Ok(Shape::Struct(members))
        }
        b'[' => {
            cursor.enter()?;
            let mut element = Shape::Unseen;
            let mut more = !cursor.empty(b']');
            while more {
                element = element.join(read(cursor, on_conflict)?, on_conflict)?;
                more = cursor.another(b']')?;
            }
            Ok(Shape::List(Box::new(element)))
        }
        b'-' | b'0'..=b'9' => {
            let number = cursor.number()?;
            shape_of_number(number).map_or_else(|| text(on_conflict), Ok)
        }
        byte => {
            cursor.skip(&mut scratch)?;
            Ok(match byte {
                b'"' => Shape::String,
                b'n' => Shape::Unseen,
                _ => Shape::Boolean,
            })
        }
    }
}

/// `None` for one that neither a long nor a double holds.
fn shape_of_number(number: Number<'_>) -> Option<Shape> {
    if !number.plain {
        return number::nearest_double(number.text).map(|_| Shape::Double);
    }
    let long = number::integer(number.text).is_some();
    let double = number::kept_by_double(number.text).is_some();
    match (long, double) {
        (true, true) => Some(Shape::Long),
        (true, false) => Some(Shape::WideLong),
        (false, true) => Some(Shape::Double),
        (false, false) => None,
    }
}

/// What has no other type.
fn text(on_conflict: OnConflict) -> Result<Shape, NoShape> {
    match on_conflict {
        OnConflict::String => Ok(Shape::String),
        OnConflict::Reject => Err(NoShape),
    }
}

/// Joined with the member of its name, or put last.
fn add(members: &mut Vec<Member>, member: Member, on_conflict: OnConflict) -> Result<(), NoShape> {
    // More than any schema takes; and each is compared with all before it.
    if members.len() > MAX_FIELDS {
        return Err(NoShape);
    }
    match members.iter_mut().find(|m| m.name == member.name) {
        Some(known) => {
            let shape = std::mem::replace(&mut known.shape, Shape::Unseen);
            known.shape = shape.join(member.shape, on_conflict)?;
        }
        None => members.push(member),
    }
    Ok(())
}

impl Member {
    fn fixed(field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            shape: Shape::fixed(&field.ty),
        }
    }
}

impl Shape {
    /// What a column of this type holds; `Unseen` for types that are never found in records.
    fn fixed(ty: &Type) -> Self {
        match ty {
            Type::Boolean => Self::Boolean,
            Type::Long => Self::WideLong,
            Type::Double => Self::Double,
            Type::String => Self::String,
            Type::Struct(fields) => Self::Struct(fields.iter().map(Member::fixed).collect()),
            Type::List(element) => Self::List(Box::new(Self::fixed(&element.ty))),
            _ => Self::Unseen,
        }
    }

    /// This shape in columns of `fixed`, each as wide as they are.
    fn within(self, fixed: &Self, on_conflict: OnConflict) -> Result<Self, NoShape> {
        match (self, fixed) {
            (shape, Self::Unseen) | (shape @ Self::Unseen, _) => Ok(shape),
            (Self::Struct(members), Self::Struct(columns)) => {
                let member = |Member { name, shape }| {
                    let column = columns.iter().find(|column| column.name == name);
                    let shape = match column {
                        Some(column) => shape.within(&column.shape, on_conflict)?,
                        None => shape,
                    };
                    Ok(Member { name, shape })
                };
                let members: Result<_, NoShape> = members.into_iter().map(member).collect();
                members.map(Self::Struct)
            }
            (Self::List(element), Self::List(column)) => {
                let element = element.within(column, on_conflict)?;
                Ok(Self::List(Box::new(element)))
            }
            (shape, column) if column.covers(&shape, on_conflict) => Ok(column.clone()),
            _ => Err(NoShape),
        }
    }

    /// The same where the columns decide: what does not fit gives way.
    fn cut_to(self, fixed: &Self, on_conflict: OnConflict) -> Self {
        match (self, fixed) {
            (Self::Struct(members), Self::Struct(columns)) => {
                let member = |Member { name, shape }| {
                    let column = columns.iter().find(|column| column.name == name);
                    let shape = match column {
                        Some(column) => shape.cut_to(&column.shape, on_conflict),
                        None => shape,
                    };
                    Member { name, shape }
                };
                Self::Struct(members.into_iter().map(member).collect())
            }
            (Self::List(element), Self::List(column)) => {
                Self::List(Box::new(element.cut_to(column, on_conflict)))
            }
            (shape, column) => {
                let within = shape.within(column, on_conflict);
                within.unwrap_or_else(|_| column.clone())
            }
        }
    }

    /// The least shape that holds both.
    fn join(self, other: Self, on_conflict: OnConflict) -> Result<Self, NoShape> {
        match (self, other) {
            (Self::Unseen, shape) | (shape, Self::Unseen) => Ok(shape),
            (Self::Long | Self::Double, Self::Double) | (Self::Double, Self::Long) => {
                Ok(Self::Double)
            }
            (Self::Long, Self::WideLong) | (Self::WideLong, Self::Long) => Ok(Self::WideLong),
            (Self::Struct(mut members), Self::Struct(others)) => {
                for member in others {
                    add(&mut members, member, on_conflict)?;
                }
                Ok(Self::Struct(members))
            }
            (Self::List(element), Self::List(other)) => {
                Ok(Self::List(Box::new(element.join(*other, on_conflict)?)))
            }
            (one, other) if one == other => Ok(one),
            // What has no column yet gives way.
            (one, other) if on_conflict == OnConflict::Reject && one.column(None).is_none() => {
                Ok(other)
            }
            _ => text(on_conflict),
        }
    }

    /// Whether joining `other` would change nothing.
    fn covers(&self, other: &Self, on_conflict: OnConflict) -> bool {
        match (self, other) {
            (_, Self::Unseen)
            | (Self::WideLong, Self::Long)
            | (Self::Double, Self::Long | Self::Double) => true,
            (Self::Struct(members), Self::Struct(others)) => {
                others.iter().enumerate().all(|(at, other)| {
                    let guess = members.get(at).filter(|m| m.name == other.name);
                    guess
                        .or_else(|| members.iter().find(|m| m.name == other.name))
                        .is_some_and(|m| m.shape.covers(&other.shape, on_conflict))
                })
            }
            (Self::List(element), Self::List(other)) => element.covers(other, on_conflict),
            (Self::String, _) => on_conflict == OnConflict::String || *other == Self::String,
            (one, other) => one == other,
        }
    }

    /// Whether a column may be made of each field that has a type: engines do not tell names apart by case. `taken`:
    /// names that are no longer free, in lower case.
    fn nameable(&self, taken: &[String]) -> bool {
        match self {
            Self::Struct(members) => {
                let mut names: BTreeSet<String> = taken.iter().cloned().collect();
                members
                    .iter()
                    .filter(|m| m.shape.column(None).is_some())
                    .all(|m| {
                        is_column_name(&m.name)
                            && names.insert(m.name.to_lowercase())
                            && m.shape.nameable(&[])
                    })
            }
            Self::List(element) => element.nameable(&[]),
            _ => true,
        }
    }

    /// Fields in it, of all levels.
    fn size(&self) -> usize {
        match self {
            Self::Struct(members) => members.iter().map(|m| 1 + m.shape.size()).sum(),
            Self::List(element) => element.size(),
            _ => 0,
        }
    }

    /// `None` while there is nothing to store. `before`: the type it had.
    fn column(&self, before: Option<&Type>) -> Option<Type> {
        Some(match self {
            Self::Unseen => return None,
            Self::Boolean => Type::Boolean,
            Self::Long | Self::WideLong => Type::Long,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Struct(members) => {
                let before = match before {
                    Some(Type::Struct(fields)) => fields.as_slice(),
                    _ => &[],
                };
                let fields = fields(members, before);
                if fields.is_empty() {
                    return None;
                }
                Type::Struct(fields)
            }
            Self::List(element) => {
                let before = match before {
                    Some(Type::List(element)) => Some(&element.ty),
                    _ => None,
                };
                Type::List(Box::new(Field::optional(ELEMENT, element.column(before)?)))
            }
        })
    }
}

/// The columns that there were, in their order, then the new ones.
fn fields(members: &[Member], before: &[Field]) -> Vec<Field> {
    let column = |member: &Member, before: Option<&Type>| {
        Some(Field::optional(&member.name, member.shape.column(before)?))
    };
    let mut fields: Vec<Field> = before
        .iter()
        .filter_map(|field| {
            let member = members.iter().find(|m| m.name == field.name)?;
            column(member, Some(&field.ty))
        })
        .collect();
    let new = members
        .iter()
        .filter(|m| before.iter().all(|f| f.name != m.name));
    fields.extend(new.filter_map(|m| column(m, None)));
    fields
}
