//! From one partition number per row to slices: nothing is copied when the rows of each partition stand together,
//! else all rows are permuted once and sliced.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;

use super::{Rows, Slice};

const NONE: u32 = u32::MAX;

/// Buffers kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    runs: Vec<Run>,
    /// Partition number -> place in `groups`; `NONE` between calls.
    places: Vec<u32>,
    groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    id: u32,
    start: u32,
    length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    id: u32,
    rows: u32,
    /// Where the next of its rows goes in the permutation.
    next: u32,
}

fn slice<K>(rows: &Rows, batch: RecordBatch, key: Arc<K>, first: usize, last: usize) -> Slice<K> {
    Slice {
        key,
        batch,
        first_offset: rows.offsets[first],
        last_offset: rows.offsets[last],
    }
}

/// Every row in one slice.
pub(super) fn whole<K>(rows: &Rows, batch: RecordBatch, key: Arc<K>) -> Vec<Slice<K>> {
    match rows.offsets.len() {
        0 => Vec::new(),
        n => vec![slice(rows, batch, key, 0, n - 1)],
    }
}

impl Grouping {
    /// `ids` has one entry per row; `batch` has the rows of `rows`, perhaps not all of their columns. Slices come in
    /// the order of their first rows. `None` when one of the partitions is not fit for rows.
    pub(super) fn split<K>(
        &mut self,
        rows: &Rows,
        batch: RecordBatch,
        ids: &[u32],
        fit: impl Fn(u32) -> bool,
        key: impl Fn(u32) -> Arc<K>,
    ) -> Result<Option<Vec<Slice<K>>>, ArrowError> {
        self.measure(ids);
        let slices = if !self.groups.iter().all(|group| fit(group.id)) {
            Ok(None)
        } else if self.runs.len() == self.groups.len() {
            let runs = self.runs.iter();
            Ok(Some(
                runs.map(|run| {
                    let (start, length) = (run.start as usize, run.length as usize);
                    let last = start + length - 1;
                    slice(rows, batch.slice(start, length), key(run.id), start, last)
                })
                .collect(),
            ))
        } else {
            self.regroup(rows, &batch, key).map(Some)
        };
        for group in self.groups.drain(..) {
            self.places[group.id as usize] = NONE;
        }
        self.runs.clear();
        slices
    }

    fn measure(&mut self, ids: &[u32]) {
        let mut start = 0;
        for chunk in ids.chunk_by(|a, b| a == b) {
            let (id, length) = (chunk[0], row(chunk.len()));
            self.runs.push(Run { id, start, length });
            start += length;
            if self.places.len() <= id as usize {
                self.places.resize(id as usize + 1, NONE);
            }
            let place = &mut self.places[id as usize];
            if *place == NONE {
                *place = row(self.groups.len());
                self.groups.push(Group {
                    id,
                    rows: 0,
                    next: 0,
                });
            }
            self.groups[*place as usize].rows += length;
        }
    }

    fn regroup<K>(
        &mut self,
        rows: &Rows,
        batch: &RecordBatch,
        key: impl Fn(u32) -> Arc<K>,
    ) -> Result<Vec<Slice<K>>, ArrowError> {
        let mut end = 0;
        for group in &mut self.groups {
            group.next = end;
            end += group.rows;
        }
        let mut order = vec![0; end as usize];
        for run in &self.runs {
            let place = self.places[run.id as usize] as usize;
            let at = &mut self.groups[place].next;
            let target = &mut order[*at as usize..(*at + run.length) as usize];
            for (slot, source) in target.iter_mut().zip(run.start..) {
                *slot = source;
            }
            *at += run.length;
        }
        let order = UInt32Array::from(order);
        let grouped = take_record_batch(batch, &order)?;
        Ok(self
            .groups
            .iter()
            .map(|group| {
                let (start, length) = ((group.next - group.rows) as usize, group.rows as usize);
                let source = |at: usize| order.value(at) as usize;
                let (first, last) = (source(start), source(start + length - 1));
                slice(
                    rows,
                    grouped.slice(start, length),
                    key(group.id),
                    first,
                    last,
                )
            })
            .collect())
    }
}

/// A batch has far fewer rows than 2^32.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a batch of 2^32 rows does not fit the memory budget"
)]
fn row(n: usize) -> u32 {
    n as u32
}
