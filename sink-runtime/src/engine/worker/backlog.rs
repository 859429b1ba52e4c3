//! What a worker was given and its destination cannot take yet.

use std::collections::VecDeque;
use std::time::Instant;

use super::{RETRY, ToWorker};
use crate::budget::Reservation;
use crate::record::{RawBatch, TopicPartition};

#[derive(Debug)]
pub(super) struct Backlog {
    /// Batches and what was read without records, in the order of the log.
    pub(super) messages: VecDeque<ToWorker>,
    /// Tries of the first one.
    pub(super) tries: u32,
    /// When to try again.
    pub(super) again: Instant,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            tries: 0,
            again: Instant::now(),
        }
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// This could not be taken; nothing else is here yet.
    pub(super) fn begin(&mut self, fetched: Box<(RawBatch, [Reservation; 2])>, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.again = now + RETRY.delay(self.tries, rand::random());
        self.messages.push_front(ToWorker::Batch(fetched));
    }

    pub(super) fn discard(&mut self, lanes: &[TopicPartition]) {
        self.messages.retain(|message| match message {
            ToWorker::Batch(fetched) => !lanes.contains(&fetched.0.tp),
            ToWorker::Advance { tp, .. } => !lanes.contains(tp),
            _ => true,
        });
    }
}
