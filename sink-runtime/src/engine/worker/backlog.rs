//! What a worker was given and its destination cannot take yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::TURN;
use super::messages::{Fetched, ToWorker};
use crate::backoff::Backoff;
use crate::budget::Reservation;
use crate::record::TopicPartition;

/// Between tries of a batch: each decodes it again.
const RETRY: Backoff = Backoff::new(TURN, Duration::from_secs(1));

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Batches, and what was read without records, in the order of the log.
    messages: VecDeque<ToWorker>,
    /// In a row, of the first one.
    tries: u32,
    /// When to try again.
    again: Option<Instant>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_empty() && self.again.is_none_or(|again| now >= again)
    }

    /// Behind what is here.
    pub(super) fn add(&mut self, message: ToWorker) {
        let message = match message {
            ToWorker::Batch(fetched) => ToWorker::Batch(waiting(fetched)),
            other => other,
        };
        self.messages.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<ToWorker> {
        self.messages.pop_front()
    }

    /// The destination cannot take this, which is before all that is here.
    pub(super) fn put_back(&mut self, fetched: Fetched, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.again = Some(now + RETRY.delay(self.tries, rand::random()));
        self.messages.push_front(ToWorker::Batch(waiting(fetched)));
    }

    /// The destination takes what comes.
    pub(super) fn taken(&mut self) {
        self.tries = 0;
        self.again = None;
    }

    pub(super) fn discard(&mut self, lanes: &[TopicPartition]) {
        self.messages.retain(|message| match message {
            ToWorker::Batch(fetched) => !lanes.contains(&fetched.0.tp),
            ToWorker::Advance { tp, .. } => !lanes.contains(tp),
            _ => true,
        });
    }

    #[cfg(test)]
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }
}

/// On the budget all the while, so that reading stops when it is full. But no file that is sealed and no letter that is
/// delivered would make it go sooner.
fn waiting(fetched: Fetched) -> Fetched {
    let (raw, held) = *fetched;
    Box::new((raw, held.map(Reservation::leaving)))
}
