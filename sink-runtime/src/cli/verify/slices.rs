//! A topic may be longer than memory: it is compared in slices of offsets, each topic-partition's at the same share of
//! its way, as they came. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::record::{Offset, TopicPartition};

/// Records are held as their offset and a hash for each column.
const MEMORY: u64 = 256 << 20;
const OFFSET_BYTES: u64 = 16;
const CELL_BYTES: u64 = 8;

#[derive(Clone, Debug)]
pub(super) struct Slices {
    next: BTreeMap<TopicPartition, i64>,
    count: i64,
}

impl Slices {
    /// Of all offsets below the ledger's, with so many columns.
    pub(super) fn of(ledger: &BTreeMap<TopicPartition, Offset>, columns: usize) -> Self {
        Self::within(ledger, columns, MEMORY)
    }

    fn within(ledger: &BTreeMap<TopicPartition, Offset>, columns: usize, memory: u64) -> Self {
        let next: BTreeMap<_, _> = ledger
            .iter()
            .map(|(tp, next)| (tp.clone(), next.0.max(0)))
            .collect();
        let records = next.values().map(|next| next.unsigned_abs()).sum::<u64>();
        let record = OFFSET_BYTES + CELL_BYTES * columns as u64;
        let slices = records.saturating_mul(record).div_ceil(memory).max(1);
        Self {
            next,
            count: i64::try_from(slices).unwrap_or(i64::MAX),
        }
    }

    pub(super) fn all(&self) -> Range<i64> {
        0..self.count
    }

    pub(super) fn is_last(&self, slice: i64) -> bool {
        slice + 1 == self.count
    }

    /// Of a topic-partition in a slice. The last one goes beyond the ledger, for rows that should not be.
    pub(super) fn offsets(&self, tp: &TopicPartition, slice: i64) -> Range<i64> {
        let next = self.next.get(tp).copied().unwrap_or(0);
        let bound = |slice: i64| {
            let bound = i128::from(next) * i128::from(slice) / i128::from(self.count);
            i64::try_from(bound).unwrap_or(i64::MAX)
        };
        let end = match self.is_last(slice) {
            true => i64::MAX,
            false => bound(slice + 1),
        };
        bound(slice)..end
    }

    /// The slices that offsets are in, the lowest and the highest.
    pub(super) fn among(&self, tp: &TopicPartition, offsets: &[i64]) -> [i64; 2] {
        let of = |offset: Option<&i64>| {
            let offset = offset.copied().unwrap_or(0);
            let slices = self.all();
            // The bounds ascend with the slice.
            let (mut low, mut high) = (slices.start, slices.end - 1);
            while low < high {
                let middle = low + (high - low) / 2;
                if offset < self.offsets(tp, middle).end {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        };
        [of(offsets.iter().min()), of(offsets.iter().max())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_is_in_one_slice_and_no_slice_is_larger_than_memory() {
        let lanes = [
            ("orders", 0, 1_000),
            ("orders", 1, 7),
            ("orders", 2, 0),
            ("returns", 0, 93),
        ];
        let ledger: BTreeMap<_, _> = lanes
            .iter()
            .map(|(topic, partition, next)| {
                (TopicPartition::new(*topic, *partition), Offset(*next))
            })
            .collect();
        for memory in [1 << 20, 8_000, 1_000, 50] {
            let slices = Slices::within(&ledger, 4, memory);
            for (tp, next) in &ledger {
                let mut at = 0;
                for slice in slices.all() {
                    let offsets = slices.offsets(tp, slice);
                    assert_eq!(offsets.start, at, "{memory} {tp} {slice}");
                    if !offsets.is_empty() {
                        let ends = [offsets.start, offsets.end - 1];
                        assert_eq!(slices.among(tp, &ends), [slice, slice]);
                    }
                    at = offsets.end;
                }
                assert!(at > next.0);
            }
            let records = |slice| -> i64 {
                let lane = |(tp, next): (&TopicPartition, &Offset)| {
                    let offsets = slices.offsets(tp, slice);
                    offsets.end.min(next.0) - offsets.start
                };
                ledger.iter().map(lane).sum()
            };
            // Each lane rounds by less than one.
            let most = memory / (OFFSET_BYTES + 4 * CELL_BYTES) + lanes.len() as u64;
            assert!(slices.all().all(|slice| records(slice) as u64 <= most));
        }
        assert_eq!(Slices::within(&ledger, 4, 1 << 20).all(), 0..1);
    }
}
