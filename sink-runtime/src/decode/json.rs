//! JSON records of a known schema: a batch through the predicting or the general decoder, record by record. Pure.
//! The two agree on every input; the first is only quicker.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::column::{Fields, Origin};
use super::misfit::Halt;
use super::parse::{Parser, Unknown};
use super::predict::Predictor;
use super::{Decoded, Decoder, Reject, RejectClass, foreign, metadata};
use crate::plan::{MetadataColumns, Tombstones};
use crate::record::RawBatch;
use crate::schema::Schema;
use crate::schema::arrow::arrow_schema;

/// Whether the predicting decoder is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prediction {
    Never,
    WherePaying,

    #[cfg(test)]
    Always,
}

/// What a decoder does beside decoding values.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) tombstones: Tombstones,
    pub(super) metadata: MetadataColumns,
}

#[derive(Debug)]
pub(super) struct JsonDecoder {
    schema: SchemaRef,
    fields: Fields,
    parser: Parser,
    predictor: Option<Predictor>,
    around: Surroundings,
}

impl JsonDecoder {
    pub(super) fn new(
        schema: &Schema,
        unknown: Unknown,
        origin: Origin<'_>,
        prediction: Prediction,
        around: Surroundings,
    ) -> Self {
        Self {
            schema: arrow_schema(schema, &around.metadata),
            fields: Fields::new(&schema.fields, origin),
            parser: Parser::new(unknown),
            predictor: match prediction {
                Prediction::Never => None,
                Prediction::WherePaying => Some(Predictor::new(&schema.fields)),
                #[cfg(test)]
                Prediction::Always => Some(Predictor::eager(&schema.fields)),
            },
            around,
        }
    }

    /// The record at `start..end` of the arena as row `row`. By itself: what the loop over the records keeps at hand would
    /// take the registers of the one over their bytes.
    #[inline(never)]
    fn record(
        &mut self,
        arena: &[u8],
        (start, end): (usize, usize),
        row: usize,
    ) -> Result<(), Halt> {
        let Self {
            fields,
            parser,
            predictor,
            ..
        } = self;
        match predictor {
            Some(predictor) => predictor.record(arena, (start, end), fields, row, parser),
            None => parser.record(&arena[..end], start, fields, row, None),
        }
    }

    #[cold]
    fn reject(row: u32, record: &[u8], start: usize, halt: &Halt) -> Reject {
        match halt {
            Halt::Syntax(error) => {
                let at = error.at - start;
                let told = foreign::explain(record, at);
                let what = told.as_deref().unwrap_or(error.what);
                Reject {
                    row,
                    class: RejectClass::Malformed,
                    message: format!("not JSON at byte {at}: {what}"),
                }
            }
            Halt::Misfit(misfit) => Reject {
                row,
                class: misfit.class,
                message: misfit.to_string(),
            },
        }
    }

    fn rows(&mut self, raw: &RawBatch) -> (Vec<u32>, Vec<Reject>) {
        let arena = raw.values.bytes.as_slice();
        let all_utf8 = simdutf8::basic::from_utf8(arena).is_ok();
        let mut rows = Vec::with_capacity(raw.len());
        let mut rejects = Vec::new();
        let mut nulls = raw.values.nulls.iter().peekable();
        let mut start;
        let mut end = 0;
        self.fields.reserve(raw.len());
        for index in 0..raw.len() {
            let row = index as u32;
            start = end;
            end = raw.values.ends[index] as usize;
            if nulls.next_if_eq(&&row).is_some() {
                if self.around.tombstones == Tombstones::DeadLetter {
                    rejects.push(Reject {
                        row,
                        class: RejectClass::Tombstone,
                        message: "a null value".into(),
                    });
                }
                continue;
            }
            if let Some(reject) = self.unfit(raw, index, (start, end), all_utf8) {
                rejects.push(reject);
                continue;
            }
            match self.record(arena, (start, end), rows.len()) {
                Ok(()) => rows.push(row),
                Err(halt) => {
                    self.fields.truncate(rows.len());
                    rejects.push(Self::reject(row, &arena[start..end], start, &halt));
                }
            }
        }
        (rows, rejects)
    }

    /// What speaks against a record before its JSON is looked at.
    #[inline]
    fn unfit(
        &self,
        raw: &RawBatch,
        index: usize,
        (start, end): (usize, usize),
        all_utf8: bool,
    ) -> Option<Reject> {
        let reject = |class, message: &str| {
            Some(Reject {
                row: index as u32,
                class,
                message: message.into(),
            })
        };
        let record = || &raw.values.bytes[start..end];
        // The values of a column are at most as long as the records they come from; offsets have 31 bits.
        if end > i32::MAX as usize {
            return reject(RejectClass::TooLarge, "beyond 2 GiB of its batch");
        }
        // Where the whole arena is UTF-8, so is each record that is JSON: it begins and ends with ASCII.
        if !all_utf8 && simdutf8::basic::from_utf8(record()).is_err() {
            return reject(RejectClass::Malformed, &not_utf8(record()));
        }
        if !metadata::timestamp_fits(&self.around.metadata, raw, index) {
            return reject(
                RejectClass::OutOfRange,
                "the record's own timestamp is beyond the year 9999: Kafka counts milliseconds, correct its producer",
            );
        }
        None
    }

    #[allow(
        clippy::expect_used,
        reason = "the columns are made from the schema and hold one value per row"
    )]
    fn finish(&mut self, raw: &RawBatch, rows: &[u32]) -> RecordBatch {
        let mut arrays = self.fields.finish();
        arrays.extend(metadata::arrays(&self.around.metadata, raw, rows));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("arrays of the schema's types")
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, raw: &RawBatch) -> Decoded {
        let (rows, rejects) = self.rows(raw);
        Decoded {
            batch: self.finish(raw, &rows),
            rows,
            rejects,
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Out of the way of the records that are.
#[cold]
#[inline(never)]
fn not_utf8(record: &[u8]) -> String {
    match foreign::whole(record) {
        Some(what) => format!("not UTF-8: {what}"),
        None => "not UTF-8".to_owned(),
    }
}
