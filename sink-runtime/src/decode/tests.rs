#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod agreement;
mod batches;
mod cells;
mod inference;
mod precedent;

use std::sync::Arc;

use arrow::array::Array;
use arrow::util::display::array_value_to_string;

use super::json::Prediction;
use super::{Decoded, RejectClass, decoder, general_decoder};
use crate::plan::{
    DecodePlan, Inference, MetadataColumns, OnConflict, OnError, Tombstones, UnknownFields,
    ValueSchema,
};
use crate::record::{Arena, AssignmentEpoch, RawBatch, TimestampType, TopicPartition};
use crate::schema::{Field, Schema};

fn raw<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> RawBatch {
    raw_with_nulls(records.into_iter().map(Some))
}

fn raw_with_nulls<R: AsRef<[u8]>>(records: impl IntoIterator<Item = Option<R>>) -> RawBatch {
    let mut values = Arena::default();
    for record in records {
        values.push(record.as_ref().map(AsRef::as_ref));
    }
    let rows = values.len();
    RawBatch {
        tp: TopicPartition::new("orders", 3),
        epoch: AssignmentEpoch(0),
        values,
        offsets: (100..100 + rows as i64).collect(),
        timestamps: vec![1_760_000_000_000; rows],
        timestamp_type: TimestampType::CreateTime,
        keys: None,
        headers: None,
        leader_epoch: None,
    }
}

fn plan(value: ValueSchema) -> DecodePlan {
    DecodePlan {
        value,
        on_error: OnError::DeadLetter,
        tombstones: Tombstones::Skip,
        metadata: MetadataColumns::default(),
    }
}

fn declared(fields: Vec<Field>, unknown: UnknownFields) -> Arc<DecodePlan> {
    Arc::new(plan(ValueSchema::Declared {
        schema: Schema { fields },
        unknown,
    }))
}

fn inferred(on_conflict: OnConflict) -> Arc<DecodePlan> {
    Arc::new(plan(ValueSchema::Inferred(Inference::new(2, on_conflict))))
}

fn assert_same(one: &Decoded, other: &Decoded) {
    assert_eq!(one.rejects, other.rejects);
    assert_eq!(one.rows, other.rows);
    assert_eq!(one.batch, other.batch);
}

/// What both decoders make of the batch; the predicting one also when it has seen the records before, and when it
/// never pauses.
fn decode(plan: &Arc<DecodePlan>, raw: &RawBatch) -> Decoded {
    let mut general = general_decoder(plan);
    let mut predicting = decoder(plan);
    let mut eager = super::new(plan, Prediction::Always);
    let expected = general.decode(raw);
    assert_same(&predicting.decode(raw), &expected);
    assert_same(&eager.decode(raw), &expected);
    if let ValueSchema::Declared { .. } = plan.value {
        for _ in 0..2 {
            assert_same(&predicting.decode(raw), &expected);
            assert_same(&eager.decode(raw), &expected);
            assert_same(&general.decode(raw), &expected);
        }
    }
    let mut seen: Vec<u32> = expected.rows.clone();
    seen.extend(expected.rejects.iter().map(|r| r.row));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(
        seen.len() + raw.values.nulls.len() * usize::from(plan.tombstones == Tombstones::Skip),
        raw.len(),
        "every record is a row, a reject or a skipped tombstone"
    );
    expected
}

/// A column's cells as text; nulls as `NULL`.
fn cells(decoded: &Decoded, column: &str) -> Vec<String> {
    let array = decoded.batch.column_by_name(column).expect("column");
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                "NULL".into()
            } else {
                array_value_to_string(array, row).unwrap()
            }
        })
        .collect()
}

fn classes(decoded: &Decoded) -> Vec<(u32, RejectClass)> {
    decoded.rejects.iter().map(|r| (r.row, r.class)).collect()
}
