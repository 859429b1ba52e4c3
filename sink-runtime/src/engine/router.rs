//! From the consumer thread to the workers: a topic-partition always to the same one.

use crossbeam_channel::Sender;

use super::worker::ToWorker;
use crate::budget::Budget;
use crate::record::{RawBatch, TopicPartition};
use crate::source::{BatchSink, Pressure};

/// Batches to the worker that owns the partition; the memory budget is the bound of the queues.
pub(super) struct Router {
    pub(super) workers: Vec<Sender<ToWorker>>,
    pub(super) budget: Budget,
}

impl Router {
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
        let reservation = self.budget.reserve(batch.memory());
        let tp = batch.tp.clone();
        self.send(&tp, ToWorker::Batch(Box::new((batch, reservation))));
    }

    fn pressure(&self) -> Pressure {
        if self.budget.must_pause() {
            Pressure::High
        } else if self.budget.may_resume() {
            Pressure::Low
        } else {
            Pressure::Between
        }
    }
}
