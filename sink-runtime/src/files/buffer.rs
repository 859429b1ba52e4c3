//! Rows waiting for their encoder, as Arrow arrays that hold their own bytes and no more.
//!
//! Two traps are met here. A slice of a large batch keeps the whole batch alive: it is copied. Many small batches cost
//! more in array headers than in values: they are gathered into one growing array per column.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::error::ArrowError;

use self::gathering::Gathering;

mod gathering;

/// A batch of fewer rows is gathered with others: from here on its own arrays cost next to nothing beside its rows.
const SMALL_ROWS: usize = 1024;

/// What is gathered becomes a batch at this size: growing longer would copy more than it saves.
const GATHERED_ROWS: usize = 8192;
const GATHERED_BYTES: usize = 2 << 20;

/// Heap bytes per column beside what Arrow itself counts: reference counts and headers of up to three buffers.
const COLUMN_OVERHEAD: usize = 96;

#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    pieces: Vec<RecordBatch>,
    /// Behind the pieces.
    gathering: Option<Box<Gathering>>,
    rows: usize,
    /// Of the pieces.
    bytes: usize,
}

impl RowBuffer {
    /// All batches have one schema.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        let rows = batch.num_rows();
        self.rows += rows;
        match &mut self.gathering {
            None if rows == 0 => {}
            None if rows < SMALL_ROWS => {
                let mut gathering = Box::new(Gathering::new(batch.schema()));
                gathering.append(&batch)?;
                self.gathering = Some(gathering);
            }
            Some(gathering) if rows < SMALL_ROWS => {
                gathering.append(&batch)?;
                if gathering.rows() >= GATHERED_ROWS || gathering.bytes() >= GATHERED_BYTES {
                    self.close()?;
                }
            }
            _ => {
                self.close()?;
                self.add(compact(batch)?);
            }
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
            + self.pieces.capacity() * size_of::<RecordBatch>()
            + self.gathering.as_ref().map_or(0, |g| g.bytes())
    }

    /// Everything, in the order it came.
    pub(super) fn take(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        self.close()?;
        self.rows = 0;
        self.bytes = 0;
        Ok(std::mem::take(&mut self.pieces))
    }

    /// Makes a piece of what is gathered.
    fn close(&mut self) -> Result<(), ArrowError> {
        if let Some(gathering) = self.gathering.take() {
            self.add(gathering.finish()?);
        }
        Ok(())
    }

    fn add(&mut self, batch: RecordBatch) {
        self.bytes += footprint(&batch);
        self.pieces.push(batch);
    }
}

/// Heap bytes of a batch that shares nothing.
fn footprint(batch: &RecordBatch) -> usize {
    batch.get_array_memory_size() + batch.num_columns() * COLUMN_OVERHEAD
}

/// Copies the columns that hold much more than their rows.
fn compact(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .map(compact_column)
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(batch.schema(), columns)
}

fn compact_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let held = column.get_array_memory_size();
    // Below this, a copy would cost as much as it saves.
    if held <= 1024 {
        return Ok(column.clone());
    }
    let needed = column.to_data().get_slice_memory_size()?;
    if held <= 2 * needed + 512 {
        return Ok(column.clone());
    }
    // Concatenation of one array is no copy; of two it is.
    concat(&[column.as_ref(), column.slice(0, 0).as_ref()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, FixedSizeBinaryArray, Int64Array, LargeBinaryArray,
        ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::DataType;

    use super::*;
    use crate::files::samples::orders;

    #[test]
    fn a_slice_of_a_large_batch_does_not_keep_the_batch() {
        let batch = orders(0, 20_000);
        let mut buffer = RowBuffer::default();
        buffer.push(batch.slice(500, 10)).unwrap();
        assert!(buffer.bytes() < 16 * 1024, "{}", buffer.bytes());
        assert_eq!(buffer.take().unwrap(), [batch.slice(500, 10)]);
    }

    #[test]
    fn many_small_pieces_become_few_and_keep_their_order() {
        let batch = orders(0, 10_000);
        let mut buffer = RowBuffer::default();
        for start in (0..10_000).step_by(5) {
            buffer.push(batch.slice(start, 5)).unwrap();
        }
        let whole = compact(batch.clone()).unwrap();
        assert!(
            buffer.bytes() < footprint(&whole) * 3 / 2,
            "{} against {}",
            buffer.bytes(),
            footprint(&whole)
        );
        let pieces = buffer.take().unwrap();
        assert!(pieces.len() < 8, "{}", pieces.len());
        assert_eq!(concat_batches(&batch.schema(), &pieces).unwrap(), batch);
        assert_eq!(buffer.rows(), 0);
    }

    /// Every kind of column, with nulls and slices, comes back as it went in.
    #[test]
    fn gathered_rows_are_the_rows_that_came() {
        let batch = every_kind(300);
        let mut buffer = RowBuffer::default();
        let mut at = 0;
        for rows in (1..24).cycle() {
            let rows = rows.min(batch.num_rows() - at);
            buffer.push(batch.slice(at, rows)).unwrap();
            at += rows;
            if at == batch.num_rows() {
                break;
            }
        }
        assert!(buffer.bytes() > 0);
        let pieces = buffer.take().unwrap();
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0], batch);
    }

    fn every_kind(rows: usize) -> RecordBatch {
        let some = |n: usize| (n % 7 != 3).then_some(n);
        let numbers = |n: usize| some(n).map(|n| n as i64);
        let text = |n: usize| some(n).map(|n| "x".repeat(n % 5));
        let all = || 0..rows;
        let mut list = ListBuilder::new(StringBuilder::new());
        for n in all() {
            for item in 0..n % 3 {
                list.values().append_option(text(item));
            }
            list.append(some(n).is_some());
        }
        let uuids = all().map(|n| some(n).map(|n| [n as u8; 16]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("long", Arc::new(Int64Array::from_iter(all().map(numbers)))),
            (
                "required",
                Arc::new(Int64Array::from_iter_values(all().map(|n| n as i64))),
            ),
            (
                "instant",
                Arc::new(
                    TimestampMicrosecondArray::from_iter(all().map(numbers))
                        .with_timezone("+00:00"),
                ),
            ),
            (
                "decimal",
                Arc::new(
                    Decimal128Array::from_iter(all().map(|n| some(n).map(|n| n as i128)))
                        .with_data_type(DataType::Decimal128(9, 2)),
                ),
            ),
            (
                "flag",
                Arc::new(BooleanArray::from_iter(
                    all().map(|n| some(n).map(|n| n % 2 == 0)),
                )),
            ),
            ("text", Arc::new(StringArray::from_iter(all().map(text)))),
            (
                "bytes",
                Arc::new(LargeBinaryArray::from_iter(all().map(text))),
            ),
            (
                "uuid",
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap()),
            ),
            ("list", Arc::new(list.finish())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }
}
