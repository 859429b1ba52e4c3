//! The tries of an upload's requests: how long one is tried before that is told, and what is told. No I/O; reads the
//! runtime's clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::errors::{Class, Classified, OneLine, Retry};
use crate::store::StoreError;

/// How long a failing request is tried before that is told. What may pass is tried on all the same, without end: what
/// waits is on the budget, and reading stops before memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries of one request.
    pub attempts: u32,
    /// From the first failure of one request.
    pub total: Duration,
    pub first_wait: Duration,
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            total: Duration::from_secs(30),
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
        }
    }
}

/// The failures in a row of one request.
#[derive(Debug)]
pub(super) struct Tries {
    patience: Patience,
    failures: u32,
    deadline: Option<Instant>,
    exhausted: bool,
}

impl Tries {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failures: 0,
            deadline: None,
            exhausted: false,
        }
    }

    /// How long to wait before the next; `None` when waiting does not help.
    pub(super) fn failed(&mut self, error: &StoreError) -> Option<Duration> {
        let backoff = Backoff::new(self.patience.first_wait, self.patience.longest_wait);
        self.failures += 1;
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + self.patience.total);
        let wait = backoff.delay(self.failures, rand::random());
        self.exhausted = self.failures >= self.patience.attempts || now + wait > deadline;
        (error.class().retry == Retry::Backoff).then_some(wait)
    }

    /// Whether patience has ended.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted
    }
}

/// Why an upload is not staged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotStaged {
    /// It is tried on: ask again.
    #[error("{why}")]
    Yet { class: Class, why: String },
    /// Nothing of it is there any more.
    #[error("{why}")]
    Failed { class: Class, why: String },
}

impl NotStaged {
    pub(super) fn failed(error: &StoreError) -> Self {
        Self::Failed {
            class: error.class(),
            why: OneLine(error).to_string(),
        }
    }
}

impl Classified for NotStaged {
    fn class(&self) -> Class {
        match self {
            Self::Yet { class, .. } | Self::Failed { class, .. } => *class,
        }
    }
}

pub(super) type Hindrance = Option<(Class, String)>;
