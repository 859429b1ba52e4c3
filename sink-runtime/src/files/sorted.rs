//! Parquet files of tables with a sort order: rows wait until they make a row group, are sorted, and are encoded.
//!
//! Each row group is sorted, unless it holds a value that the order is not defined for. Whether the file is, from its
//! first row to its last, shows at its end, and only then does it say so. How many rows wait is bounded, by size and by
//! number: a large file has several row groups, each sorted alone.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use bytes::Bytes;

use super::FileError;
use super::buffer::RowBuffer;
use super::parquet::ParquetFile;
use super::writer::{FileWriter, Finished, KeyValues};
use crate::layout::iceberg::RowOrder;

/// In-memory bytes of the rows of one row group.
const RUN_BYTES: usize = 32 << 20;
/// Rows put together at a time.
const CHUNK_ROWS: usize = 8192;
/// Bytes that a row costs while it is sorted: its place, and its key, which is rarely longer.
const SORTING_BYTES: usize = 48;
/// Encoded size of rows not encoded yet, before the file itself tells.
const USUAL_RATIO: f64 = 0.25;

pub(super) struct SortedFile {
    inner: ParquetFile,
    order: Arc<RowOrder>,
    waiting: RowBuffer,
    run_rows: usize,
    rows: u64,
    /// In-memory bytes of the rows encoded so far.
    consumed: usize,
    /// Key of the last row encoded.
    last: Option<Box<[u8]>>,
    /// No row came after a greater one, over all row groups.
    sorted: bool,
}

impl SortedFile {
    /// `run_rows`: most rows of a row group.
    pub(super) fn new(inner: ParquetFile, order: Arc<RowOrder>, run_rows: usize) -> Self {
        Self {
            inner,
            order,
            waiting: RowBuffer::default(),
            run_rows: run_rows.max(1),
            rows: 0,
            consumed: 0,
            last: None,
            sorted: true,
        }
    }

    fn end_run(&mut self) -> Result<(), FileError> {
        self.consumed += self.waiting.bytes();
        let pieces = self.waiting.take().map_err(FileError::Gather)?;
        let keys = pieces.iter().map(|piece| self.order.keys(piece));
        let Ok(keys) = keys.collect::<Result<Vec<_>, _>>() else {
            // A value that a transform of the order is not defined for.
            self.sorted = false;
            for piece in &pieces {
                self.inner.write(piece)?;
            }
            return self.inner.relieve();
        };
        let places = pieces.iter().enumerate();
        let mut places: Vec<(usize, usize)> = places
            .flat_map(|(piece, batch)| (0..batch.num_rows()).map(move |row| (piece, row)))
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let key = |at: &(usize, usize)| keys[at.0].row(at.1);
        if places.is_sorted_by(|a, b| key(a) <= key(b)) {
            for piece in &pieces {
                self.inner.write(piece)?;
            }
        } else {
            // Equal rows stay in the order they came.
            places.sort_unstable_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.cmp(b)));
            let pieces: Vec<&RecordBatch> = pieces.iter().collect();
            for chunk in places.chunks(CHUNK_ROWS) {
                let batch = interleave_record_batch(&pieces, chunk).map_err(FileError::Gather)?;
                self.inner.write(&batch)?;
            }
        }
        if let (Some(first), Some(last)) = (places.first(), places.last()) {
            let after = |before: &[u8]| before <= key(first).data();
            self.sorted &= self.last.as_deref().is_none_or(after);
            self.last = Some(key(last).data().into());
        }
        self.inner.relieve()
    }
}

impl FileWriter for SortedFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), FileError> {
        self.rows += batch.num_rows() as u64;
        let mut from = 0;
        while from < batch.num_rows() {
            let count = (self.run_rows - self.waiting.rows()).min(batch.num_rows() - from);
            let some = batch.slice(from, count);
            self.waiting.push(some).map_err(FileError::Gather)?;
            from += count;
            if self.waiting.rows() >= self.run_rows || self.waiting.bytes() >= RUN_BYTES {
                self.end_run()?;
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.inner.memory() + self.waiting.bytes() + self.waiting.rows() * SORTING_BYTES
    }

    fn relievable(&self) -> usize {
        let encoded = (self.waiting.bytes() as f64 * USUAL_RATIO) as usize;
        let waiting = self.waiting.bytes() + self.waiting.rows() * SORTING_BYTES;
        self.inner.relievable() + waiting.saturating_sub(encoded)
    }

    fn relieve(&mut self) -> Result<(), FileError> {
        self.end_run()
    }

    fn size(&self) -> u64 {
        let encoded = self.inner.size();
        let ratio = match self.consumed {
            0 => USUAL_RATIO,
            consumed => encoded as f64 / consumed as f64,
        };
        encoded + (self.waiting.bytes() as f64 * ratio) as u64
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn drain(&mut self) -> Vec<Bytes> {
        self.inner.drain()
    }

    fn finish(mut self: Box<Self>, metadata: KeyValues) -> Result<Finished, FileError> {
        self.end_run()?;
        let mut finished = Box::new(self.inner).finish(metadata)?;
        if self.sorted
            && let Some(metrics) = &mut finished.metrics
        {
            metrics.sort_order_id = Some(self.order.id());
        }
        Ok(finished)
    }
}

#[cfg(test)]
mod tests;
