//! Rows waiting for their encoder, as Arrow arrays that hold their own bytes and no more.
//!
//! Two traps are met here. A slice of a large batch keeps the whole batch alive: it is copied. Many small batches cost
//! more in array headers than in values: eight of one size class are made one of the next, so each row is copied a
//! few times at the most and the overhead stays a small share.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{concat, concat_batches};
use arrow::error::ArrowError;

/// Pieces of one size class that become one of the next; also the factor between classes.
const FAN: usize = 8;

/// Heap bytes per column beside what Arrow itself counts: reference counts and headers of up to three buffers.
const COLUMN_OVERHEAD: usize = 96;

#[derive(Debug)]
struct Piece {
    batch: RecordBatch,
    bytes: usize,
}

impl Piece {
    fn class(&self) -> u32 {
        self.batch.num_rows().max(1).ilog(FAN)
    }
}

#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    pieces: Vec<Piece>,
    rows: usize,
    bytes: usize,
}

impl RowBuffer {
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows();
        self.add(compact(batch)?);
        loop {
            let Some(class) = self.pieces.last().map(Piece::class) else {
                return Ok(());
            };
            let run = self
                .pieces
                .iter()
                .rev()
                .take_while(|p| p.class() <= class)
                .count();
            if run < FAN {
                return Ok(());
            }
            let tail = self.pieces.split_off(self.pieces.len() - run);
            self.bytes -= tail.iter().map(|p| p.bytes).sum::<usize>();
            let schema = tail[0].batch.schema();
            self.add(concat_batches(&schema, tail.iter().map(|p| &p.batch))?);
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.pieces.capacity() * size_of::<Piece>()
    }

    /// Everything, in the order it came.
    pub(super) fn take(&mut self) -> Vec<RecordBatch> {
        self.rows = 0;
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
            .into_iter()
            .map(|p| p.batch)
            .collect()
    }

    fn add(&mut self, batch: RecordBatch) {
        let bytes = footprint(&batch);
        self.bytes += bytes;
        self.pieces.push(Piece { batch, bytes });
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
    use super::*;
    use crate::files::samples::orders;

    #[test]
    fn a_slice_of_a_large_batch_does_not_keep_the_batch() {
        let batch = orders(0, 20_000);
        let mut buffer = RowBuffer::default();
        buffer.push(batch.slice(500, 10)).unwrap();
        assert!(buffer.bytes() < 16 * 1024, "{}", buffer.bytes());
        assert_eq!(buffer.take(), [batch.slice(500, 10)]);
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
        let pieces = buffer.take();
        assert!(pieces.len() < 4 * FAN, "{}", pieces.len());
        assert_eq!(concat_batches(&batch.schema(), &pieces).unwrap(), batch);
        assert_eq!(buffer.rows(), 0);
    }
}
