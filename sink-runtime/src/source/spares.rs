//! Buffers of batches that are done with, for batches to come. Every record passes through one: taken anew from the
//! operating system each time, they would cost a page fault for every twenty records. Pure.

use parking_lot::Mutex;

use crate::budget::{Budget, Reservation};
use crate::record::RawBatch;

/// What may lie unused, as a part of the memory budget: about as much as one worker's batches.
const SHARE: usize = 32;

/// Shared by the consumer, which takes, and the workers, which give back.
#[derive(Debug)]
pub struct Spares {
    budget: Budget,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    batches: Vec<RawBatch>,
    held: Reservation,
}

impl Spares {
    pub fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            kept: Mutex::new(Kept {
                batches: Vec::new(),
                held: budget.reserve(0),
            }),
        }
    }

    /// Keeps the buffers of `batch`, unless enough lie there or memory is scarce.
    pub fn give(&self, batch: RawBatch) {
        let mut kept = self.kept.lock();
        let bytes = kept.held.bytes() + batch.memory();
        if bytes <= self.budget.limit() / SHARE && !self.budget.must_shed() {
            kept.held.resize(bytes);
            kept.batches.push(batch);
        }
    }

    /// A batch whose buffers may be used again. What is in it means nothing.
    pub fn take(&self) -> Option<RawBatch> {
        let mut kept = self.kept.lock();
        let batch = kept.batches.pop()?;
        let bytes = kept.held.bytes().saturating_sub(batch.memory());
        kept.held.resize(bytes);
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Arena, AssignmentEpoch, TimestampType, TopicPartition};

    fn batch(bytes: usize) -> RawBatch {
        RawBatch {
            tp: TopicPartition::new("t", 0),
            epoch: AssignmentEpoch(1),
            values: Arena {
                bytes: Vec::with_capacity(bytes),
                ..Arena::default()
            },
            offsets: Vec::new(),
            timestamps: Vec::new(),
            timestamp_type: TimestampType::CreateTime,
            keys: None,
            headers: None,
            leader_epoch: None,
        }
    }

    #[test]
    fn spares_are_counted_and_few_and_none_is_kept_when_memory_is_scarce() {
        let budget = Budget::new(32_000);
        let spares = Spares::new(&budget);
        spares.give(batch(600));
        spares.give(batch(500));
        assert_eq!(budget.used(), 600, "a 32nd at the most");
        assert_eq!(spares.take().map(|batch| batch.memory()), Some(600));
        assert_eq!(budget.used(), 0);
        assert!(spares.take().is_none());
        let _others = budget.reserve(31_000);
        spares.give(batch(10));
        assert!(spares.take().is_none());
    }
}
