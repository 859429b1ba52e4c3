//! How often and how patiently a commit is tried.

use std::time::Duration;

use crate::backoff::Backoff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Commits sent at the most.
    pub attempts: u32,
    /// Before the second attempt.
    pub first: Duration,
    pub longest: Duration,
}

impl Default for Pace {
    /// 14 pauses of 0.1 s doubling to 5 s: about 45 s before giving up, at full length.
    fn default() -> Self {
        Self {
            attempts: 15,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
        }
    }
}

impl Pace {
    pub(super) async fn pause(&self, round: u32) {
        Backoff::new(self.first, self.longest).pause(round).await;
    }
}
