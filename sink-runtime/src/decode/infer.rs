//! A schema from the records themselves. Pure.
//! Every record has a shape; shapes join to the least one that holds both. A null, `{}` or `[]` alone gives no column
//! yet. The schema only widens: columns keep their order, new ones come last, and the batch that widens it is decoded
//! again as a whole. What no declared schema could hold is not taken for a column: other names, deeper nesting.
//!
//! What hints and the destination say of a column goes before what records show: it has that name and type, and a record
//! that fits neither is refused by itself. A record that is refused teaches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::names::Names;
use self::shape::{Member, Said, Shape, fields, full_name, given, overlay, read, remember, text};
use super::column::{Fields, Origin};
use super::cursor::{Cursor, Syntax};
use super::json::{JsonDecoder, Prediction, Surroundings};
use super::misfit::{Halt, cut};
use super::parse::{Parser, Unknown};
use super::{Decoded, Decoder, Reject, RejectClass};
use crate::plan::{Inference, OnConflict};
use crate::record::RawBatch;
use crate::schema::arrow::{ELEMENT, metadata_schema};
use crate::schema::precedent::Precedent;
use crate::schema::{Schema, Type, count};

mod names;
mod shape;

/// Refused columns that are remembered.
const MOST_REFUSED: usize = 1000;

/// Why a record teaches nothing.
#[derive(Debug)]
enum No {
    /// It is not JSON, or no type holds it.
    Shape,
    /// There can be no such column.
    Column { name: String, why: String },
    /// A value does not fit a column that was not looked at until now.
    Value { class: RejectClass, message: String },
}

impl No {
    fn column(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Column {
            name: name.into(),
            why: why.into(),
        }
    }
}

impl From<Syntax> for No {
    fn from(_: Syntax) -> Self {
        Self::Shape
    }
}

#[derive(Debug)]
pub(super) struct InferringDecoder {
    plan: Inference,
    known: Shape,
    /// Of the destination, once it is there.
    precedent: Option<Arc<Precedent>>,
    /// How the names of what the destination is laid out by are spelled, by the full name in lower case.
    spelled: BTreeMap<String, String>,
    /// What the destination turned down though nothing here spoke against it, by full name in lower case.
    forbidden: BTreeMap<String, String>,
    /// Columns that could not be, by full name, and why: where all records have one it is not found out anew each time.
    refused: BTreeMap<String, String>,
    schema: Schema,
    /// Records still to look at before they are decoded: saves decoding the first batches over and over.
    to_sample: usize,
    prediction: Prediction,
    around: Surroundings,
    /// Columns with what Kafka knows.
    metadata: Schema,
    inner: JsonDecoder,
}

impl InferringDecoder {
    pub(super) fn new(plan: &Inference, prediction: Prediction, around: Surroundings) -> Self {
        let known = given(&plan.hints.fields, Said::Hint);
        let schema = Schema {
            fields: fields(&known, &[]),
        };
        Self {
            inner: decoder(&schema, plan, prediction, &around),
            schema,
            known: Shape::Struct(known),
            precedent: None,
            spelled: plan
                .placed_names()
                .map(|name| (name.to_lowercase(), name.to_owned()))
                .collect(),
            forbidden: BTreeMap::new(),
            refused: BTreeMap::new(),
            to_sample: plan.sample_records,
            metadata: metadata_schema(&around.metadata),
            plan: plan.clone(),
            prediction,
            around,
        }
    }

    /// Learns from the rows, those that did not fit with their class; whether the schema became another one.
    fn widen(
        &mut self,
        raw: &RawBatch,
        rows: impl Iterator<Item = (usize, Option<RejectClass>)>,
        refusals: &mut BTreeMap<usize, No>,
    ) -> bool {
        for (row, misfit) in rows {
            let Some(record) = raw.values.get(row) else {
                continue;
            };
            match self.learn(record, misfit) {
                Err(No::Shape) | Ok(()) => refusals.remove(&row),
                Err(refusal) => refusals.insert(row, refusal),
            };
        }
        self.settle()
    }

    /// There can be no such column, whatever else is in a record.
    fn never(&mut self, name: String, why: String) -> No {
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(name.clone(), why.clone());
        }
        No::Column { name, why }
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
        self.inner = decoder(&schema, &self.plan, self.prediction, &self.around);
        self.schema = schema;
        true
    }

    /// A record that has no shape, conflicts or asks for a column that cannot be teaches nothing.
    fn learn(&mut self, record: &[u8], misfit: Option<RejectClass>) -> Result<(), No> {
        let on_conflict = self.plan.on_conflict;
        let shape = shape_of(record, &self.plan)?;
        let covered = self.known.covers(&shape, on_conflict);
        if covered && !(misfit.is_some_and(may_bend) && self.bends()) {
            return Ok(());
        }
        let new = self.known.first_new(&shape);
        if let Some(name) = &new
            && let Some(why) = self.refused.get(name)
        {
            return Err(No::column(name.as_str(), why.as_str()));
        }
        let mut joined = self.known.clone().join(shape, on_conflict);
        if let Shape::Struct(members) = &mut joined {
            self.place("", members)?;
        }
        if joined.is_mixed() {
            return Err(No::Shape);
        }
        let Shape::Struct(members) = &joined else {
            return Err(No::Shape);
        };
        let taken = |name: &str| self.taken(name);
        let whole = self.plan.whole_names;
        Names {
            whole,
            taken: &taken,
            spelled: &self.spelled,
        }
        .check(members)?;
        if self.beside() + joined.size() > self.plan.max_columns {
            let mut before = self.known.clone();
            before.prune();
            joined.prune();
            let (before, after) = (before.size(), joined.size());
            if self.beside() + after > self.plan.max_columns && after > before {
                let name = new.unwrap_or_default();
                let why = self.too_many();
                return Err(match self.beside() + before < self.plan.max_columns {
                    true => No::Column { name, why },
                    false => self.never(name, why),
                });
            }
        }
        let table = self.precedent.as_ref();
        let closed = table.is_some_and(|table| !table.may.add_columns);
        if let Some(name) = new
            && closed
        {
            let why =
                "the table has no such column: allow evolution.addColumns, or add it to the table";
            return Err(self.never(name, why.to_owned()));
        }
        let joined = self.fitting(record, joined)?;
        self.known = joined;
        Ok(())
    }

    fn too_many(&self) -> String {
        format!(
            "one more than the {} columns that value.infer.maxColumns allows: names without end are the keys of a map, \
             declare this as one in value.infer.hints",
            self.plan.max_columns
        )
    }

    /// Columns that are there beside the known ones.
    fn beside(&self) -> usize {
        let others = self.precedent.as_ref().map_or(0, |table| table.others);
        count(&self.metadata.fields) + others
    }

    /// Why a name, in lower case, is not free.
    fn taken(&self, name: &str) -> Option<String> {
        let metadata = &self.metadata.fields;
        if metadata
            .iter()
            .any(|field| field.name.to_lowercase() == name)
        {
            return Some(
                "a metadata column has this name: rename the field or that column".to_owned(),
            );
        }
        let table = self
            .precedent
            .as_ref()
            .and_then(|table| table.taken.get(name));
        let planned = || self.plan.taken.get(name);
        let forbidden = || self.forbidden.get(name);
        table.or_else(planned).or_else(forbidden).cloned()
    }

    /// A column that the destination is laid out by has a type that can be.
    fn place(&self, path: &str, members: &mut [Member]) -> Result<(), No> {
        if self.plan.placed.is_empty() {
            return Ok(());
        }
        for member in members {
            let name = full_name(path, &member.name);
            let inside = self.plan.placed.iter().any(|placed| {
                let rest = placed.column.strip_prefix(&name);
                rest.is_some_and(|rest| rest.starts_with('.'))
            });
            match (&mut member.shape, member.said) {
                (Shape::Struct(inner), _) if inside => self.place(&name, inner)?,
                (Shape::Unseen | Shape::Given(..), _) => {}
                (_, Said::Records) if inside => {
                    let why =
                        "the destination is laid out by a field in it, and here it is no object";
                    return Err(No::column(name, why));
                }
                (shape, Said::Records) => {
                    let placed = self.plan.placed.iter().find(|placed| placed.column == name);
                    let fits = |shape: &Shape| match shape {
                        Shape::Long | Shape::WideLong | Shape::String => true,
                        Shape::Boolean => placed.is_none_or(|placed| placed.boolean),
                        Shape::Double => placed.is_none_or(|placed| placed.double),
                        _ => placed.is_none(),
                    };
                    if !fits(shape) {
                        *shape = text(self.plan.on_conflict);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a record may change what the table says of a column, and there is one that it may.
    fn bends(&self) -> bool {
        let Some(table) = &self.precedent else {
            return false;
        };
        self.known.any(&|member| {
            let narrow = || match &member.shape {
                Shape::Given(ty, _) => matches!(**ty, Type::Int | Type::Float),
                _ => false,
            };
            member.said == Said::Table
                && (table.may.make_optional && member.required || table.may.widen && narrow())
        })
    }

    /// What the record was joined to, as far as the record fits it. Where types were given only decoding tells.
    fn fitting(&self, record: &[u8], mut joined: Shape) -> Result<Shape, No> {
        if self.precedent.is_none() && self.plan.hints.fields.is_empty() {
            return Ok(joined);
        }
        loop {
            let Shape::Struct(members) = &mut joined else {
                return Err(No::Shape);
            };
            let schema = fields(members, &self.schema.fields);
            let mut columns = Fields::new(&schema, origin(&self.plan));
            let mut parser = Parser::new(Unknown::RefuseTyped);
            match parser.record(record, 0, &mut columns, 0, None) {
                Ok(()) => return Ok(joined),
                // Ends: every column gives way once.
                Err(Halt::Misfit(misfit)) if self.bend(members, misfit.path(), misfit.class) => {}
                Err(Halt::Misfit(misfit)) => {
                    return Err(No::Value {
                        class: misfit.class,
                        message: misfit.to_string(),
                    });
                }
                Err(Halt::Syntax(_)) => return Err(No::Shape),
            }
        }
    }

    /// Widens a column of the table, or makes it optional, where that is allowed.
    fn bend<'a>(
        &self,
        members: &mut [Member],
        mut path: impl Iterator<Item = &'a str>,
        class: RejectClass,
    ) -> bool {
        let Some(table) = &self.precedent else {
            return false;
        };
        let Some(first) = path.next() else {
            return false;
        };
        let mut name = first.to_owned();
        let Some(mut member) = members.iter_mut().find(|m| m.name == first) else {
            return false;
        };
        for part in path {
            name = full_name(&name, part);
            let inner = match &mut member.shape {
                Shape::Struct(inner) => inner.iter_mut().find(|m| m.name == part),
                Shape::List(element) if part == ELEMENT => Some(&mut **element),
                _ => None,
            };
            let Some(inner) = inner else {
                return false;
            };
            member = inner;
        }
        if member.said != Said::Table {
            return false;
        }
        match (class, &mut member.shape) {
            (RejectClass::MissingField, _) => {
                let gives_way = member.required
                    && table.may.make_optional
                    && !table.identifiers.contains(&name);
                member.required &= !gives_way;
                gives_way
            }
            (RejectClass::OutOfRange, Shape::Given(ty, _)) if table.may.widen => {
                let wider = match **ty {
                    Type::Int => Type::Long,
                    Type::Float => Type::Double,
                    _ => return false,
                };
                **ty = wider;
                true
            }
            _ => false,
        }
    }

    /// Starts again from what hints and the destination say.
    fn restart(&mut self) {
        let mut members = match &self.precedent {
            Some(table) => given(&table.columns.fields, Said::Table),
            None => Vec::new(),
        };
        let metadata = &self.metadata.fields;
        members.retain(|m| metadata.iter().all(|field| field.name != m.name));
        overlay(&mut members, given(&self.plan.hints.fields, Said::Hint));
        if let Shape::Struct(before) = &self.known {
            remember(&mut members, before);
        }
        self.refused.clear();
        self.known = Shape::Struct(members);
    }
}

/// Whether a record refused for this may change a column of the table.
fn may_bend(class: RejectClass) -> bool {
    matches!(class, RejectClass::OutOfRange | RejectClass::MissingField)
}

impl Decoder for InferringDecoder {
    fn decode(&mut self, raw: &RawBatch) -> Decoded {
        let mut refusals = BTreeMap::new();
        let sample = self.to_sample.min(raw.len());
        self.to_sample -= sample;
        if sample > 0 {
            self.widen(raw, (0..sample).map(|row| (row, None)), &mut refusals);
        }
        loop {
            let mut decoded = self.inner.decode(raw);
            let misfits = decoded.rejects.iter().filter(|r| {
                may_bend(r.class)
                    || matches!(
                        r.class,
                        RejectClass::TypeMismatch | RejectClass::UnknownField
                    )
            });
            let misfits = misfits.map(|r| (r.row as usize, Some(r.class)));
            // Ends: shapes only grow, and within bounds.
            if !self.widen(raw, misfits, &mut refusals) {
                explain(&mut decoded.rejects, &refusals);
                return decoded;
            }
        }
    }

    fn adopt(&mut self, precedent: &Arc<Precedent>) -> bool {
        if let Some(have) = &self.precedent
            && (Arc::ptr_eq(have, precedent) || have == precedent)
        {
            return false;
        }
        self.precedent = Some(Arc::clone(precedent));
        self.forbidden.clear();
        self.restart();
        self.settle();
        true
    }

    fn forbid(&mut self, column: &str, why: &str) -> bool {
        let name = column.to_lowercase();
        if column.is_empty() || self.forbidden.contains_key(&name) {
            return false;
        }
        self.forbidden.insert(name, why.to_owned());
        self.restart();
        self.settle()
    }

    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}

/// Why there is no column for a field says more than that there is none.
fn explain(rejects: &mut [Reject], refusals: &BTreeMap<usize, No>) {
    let unknown = rejects
        .iter_mut()
        .filter(|reject| reject.class == RejectClass::UnknownField);
    for reject in unknown {
        match refusals.get(&(reject.row as usize)) {
            Some(No::Column { name, why }) => {
                reject.message = format!("field `{}`: {why}", cut(name));
            }
            Some(No::Value { class, message }) => {
                (reject.class, reject.message) = (*class, message.clone());
            }
            _ => {}
        }
    }
}

fn origin(plan: &Inference) -> Origin<'_> {
    Origin::Found {
        text: plan.on_conflict == OnConflict::String,
        hints: &plan.hints.fields,
    }
}

fn decoder(
    schema: &Schema,
    plan: &Inference,
    prediction: Prediction,
    around: &Surroundings,
) -> JsonDecoder {
    JsonDecoder::new(
        schema,
        Unknown::RefuseTyped,
        origin(plan),
        prediction,
        around.clone(),
    )
}

fn shape_of(record: &[u8], plan: &Inference) -> Result<Shape, No> {
    if simdutf8::basic::from_utf8(record).is_err() {
        return Err(No::Shape);
    }
    let mut cursor = Cursor::new(record, 0);
    cursor.whitespace();
    let shape = read(&mut cursor, plan.on_conflict)?;
    cursor.end()?;
    match shape {
        Shape::Struct(_) => Ok(shape),
        _ => Err(No::Shape),
    }
}
