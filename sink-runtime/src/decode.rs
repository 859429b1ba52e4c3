//! Raw records to columns. One contract for every format: a batch in, a record batch plus the rows that did not fit
//! out. Pure CPU: no I/O, no clock.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::column::Origin;
use self::infer::InferringDecoder;
use self::json::{JsonDecoder, Prediction, Surroundings};
use self::parse::Unknown;
use crate::plan::{DecodePlan, UnknownFields, ValueSchema};
use crate::record::RawBatch;
use crate::schema::precedent::Precedent;

mod column;
mod cursor;
mod foreign;
mod infer;
mod json;
mod keys;
mod metadata;
mod misfit;
mod number;
mod parse;
mod predict;
mod quick;
mod temporal;
#[cfg(test)]
mod tests;
mod unit;

pub use self::unit::odd_times;

/// Why a record was refused; also the dead letter's error class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectClass {
    /// Not valid JSON (or not UTF-8, or trailing bytes, or too deep).
    Malformed,
    /// JSON, but not an object.
    NotARecord,
    /// A required field is missing or null.
    MissingField,
    /// A value does not fit its column.
    TypeMismatch,
    /// A number is outside its column's range, or would lose digits; or the layout has no place for a value.
    OutOfRange,
    /// A field the schema does not know, where those are refused.
    UnknownField,
    /// A null value, where tombstones go to the dead letter.
    Tombstone,
    /// Larger than one record may be.
    TooLarge,
}

impl RejectClass {
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::NotARecord,
        Self::MissingField,
        Self::TypeMismatch,
        Self::OutOfRange,
        Self::UnknownField,
        Self::Tombstone,
        Self::TooLarge,
    ];
}

/// One record that did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Row in the raw batch.
    pub row: u32,
    pub class: RejectClass,
    /// Names the field and the kind of value found; never the value itself.
    pub message: String,
}

/// What a raw batch became.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Value columns in schema order, then the metadata columns asked for.
    pub batch: RecordBatch,
    /// For each row of `batch`, its row in the raw batch; ascending.
    pub rows: Vec<u32>,
    /// Ascending by row. Rows neither here nor in `rows` were skipped tombstones.
    pub rejects: Vec<Reject>,
}

/// One per worker and topic; keeps what it learnt from earlier batches (the predicted shape, the inferred schema).
pub trait Decoder: Send {
    fn decode(&mut self, raw: &RawBatch) -> Decoded;

    /// From now on columns that the destination has keep their names and types: what does not fit them is refused.
    /// Whether that was news; to declared columns it never is.
    fn adopt(&mut self, _precedent: &Arc<Precedent>) -> bool {
        false
    }

    /// The destination cannot have the column: records that need it are refused, with the reason. Whether that changes
    /// what will be decoded; only found columns can.
    fn forbid(&mut self, _column: &str, _why: &str) -> bool {
        false
    }

    /// Schema of the batches now; it only ever widens (a new column, a wider type, a lifted `required`).
    fn schema(&self) -> SchemaRef;
}

/// The decoder a plan asks for.
pub fn decoder(plan: &Arc<DecodePlan>) -> Box<dyn Decoder> {
    new(plan, Prediction::WherePaying)
}

/// The same without prediction: the strict general decoder takes every record. For comparison.
pub fn general_decoder(plan: &Arc<DecodePlan>) -> Box<dyn Decoder> {
    new(plan, Prediction::Never)
}

fn new(plan: &Arc<DecodePlan>, prediction: Prediction) -> Box<dyn Decoder> {
    let around = Surroundings {
        tombstones: plan.tombstones,
        metadata: plan.metadata.clone(),
    };
    match &plan.value {
        ValueSchema::Declared { schema, unknown } => {
            let unknown = match unknown {
                UnknownFields::Ignore => Unknown::Ignore,
                UnknownFields::Reject => Unknown::Refuse,
            };
            Box::new(JsonDecoder::new(
                schema,
                unknown,
                Origin::Declared,
                prediction,
                around,
            ))
        }
        ValueSchema::Inferred(inference) => {
            Box::new(InferringDecoder::new(inference, prediction, around))
        }
    }
}
