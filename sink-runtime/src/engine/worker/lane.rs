//! A partition in the hands of a worker.

use std::time::Instant;

use super::letters::Pile;
use crate::record::{AssignmentEpoch, LastRead, Offset};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) epoch: AssignmentEpoch,
    /// Start of the next cut's range.
    pub(super) start: i64,
    /// One past the last offset done with.
    pub(super) position: i64,
    pub(super) rows: u64,
    pub(super) last_read: Option<LastRead>,
    pub(super) letters: Pile,
    /// Since when there is progress to commit.
    pub(super) dirty: Option<Instant>,
    /// The record at its position stops the sink: nothing more is taken.
    pub(super) halted: bool,
}

impl Lane {
    pub(super) fn new(epoch: AssignmentEpoch, position: Offset) -> Self {
        Self {
            epoch,
            start: position.0,
            position: position.0,
            rows: 0,
            last_read: None,
            letters: Pile::default(),
            dirty: None,
            halted: false,
        }
    }

    pub(super) fn takes(&self, epoch: AssignmentEpoch) -> bool {
        self.epoch == epoch && !self.halted
    }

    /// There is progress to commit. Whether it is the first since the last cut.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        let first = self.dirty.is_none();
        self.dirty.get_or_insert(now);
        first
    }
}
