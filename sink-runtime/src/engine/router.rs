//! From the consumer thread to the workers: a topic-partition always to the same one.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::worker::ToWorker;
use crate::budget::Budget;
use crate::record::{RawBatch, TopicPartition};
use crate::source::{BatchSink, Pressure, Spares};

/// Batches to the worker that owns the partition; the memory budget is the bound of the queues.
pub(super) struct Router {
    pub(super) workers: Vec<Sender<ToWorker>>,
    budget: Budget,
    /// Of the budget, what raw batches may take: more would only push the open files out of memory.
    raw: Budget,
    spares: Arc<Spares>,
}

/// Raw batches that wait for the workers, as a part of the memory budget: some ten batches of the default size in 256 MiB,
/// so that no worker runs dry while the others have the rest.
const RAW_SHARE: usize = 8;

impl Router {
    pub(super) fn new(
        workers: Vec<Sender<ToWorker>>,
        budget: &Budget,
        spares: Arc<Spares>,
    ) -> Self {
        Self {
            workers,
            budget: budget.clone(),
            raw: Budget::new(budget.limit() / RAW_SHARE),
            spares,
        }
    }

    pub(super) fn owner(&self, tp: &TopicPartition) -> &Sender<ToWorker> {
        let topic = twox_hash::XxHash64::oneshot(0, tp.topic.as_str().as_bytes());
        let index = topic.wrapping_add(tp.partition as u64) % self.workers.len() as u64;
        &self.workers[index as usize]
    }

    pub(super) fn send(&self, tp: &TopicPartition, message: ToWorker) {
        // A worker that is gone has reported why; the engine is about to stop.
        let _ = self.owner(tp).send(message);
    }
}

impl BatchSink for Router {
    fn push(&self, batch: RawBatch) {
        let bytes = batch.memory();
        let held = [self.budget.reserve(bytes), self.raw.reserve(bytes)];
        let tp = batch.tp.clone();
        self.send(&tp, ToWorker::Batch(Box::new((batch, held))));
    }

    fn awaits(&self, tp: &TopicPartition) -> bool {
        self.owner(tp).is_empty()
    }

    fn spare(&self) -> Option<RawBatch> {
        self.spares.take()
    }

    fn pressure(&self) -> Pressure {
        if self.budget.must_pause() || self.raw.must_pause() {
            Pressure::High
        } else if self.budget.may_resume() && self.raw.may_resume() {
            Pressure::Low
        } else {
            Pressure::Between
        }
    }
}
