//! The bounds of a commit's retries. The schedule is pure; [`Pacer`] sleeps by it.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Bounds of one commit's retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Of the first pause, before jitter.
    pub base: Duration,
    /// No pause is longer.
    pub max: Duration,
    /// Tries of one call, the first included.
    pub attempts: u32,
    /// No pause begins, or ends, later than this after the start.
    pub total: Duration,
}

impl Default for BackoffPolicy {
    /// Rides out about a minute of trouble: 0.1 + 0.2 + … + 5 + 5 …
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            max: Duration::from_secs(5),
            attempts: 20,
            total: Duration::from_secs(60),
        }
    }
}

impl BackoffPolicy {
    /// Pause after the `failed`-th failure (from 1), at `elapsed` since the start; `None` to give up. `jitter` in
    /// `[0, 1]` picks from the upper half of the full pause, so that the rivals of a conflict part.
    pub fn pause(&self, failed: u32, elapsed: Duration, jitter: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let pause = Backoff::new(self.base, self.max).delay(failed, jitter);
        (elapsed.saturating_add(pause) <= self.total).then_some(pause)
    }
}

/// Counts the failures of one call, and sleeps between them.
#[derive(Debug)]
pub struct Pacer {
    policy: BackoffPolicy,
    started: Instant,
    failed: u32,
}

impl Pacer {
    pub fn start(policy: BackoffPolicy) -> Self {
        Self {
            policy,
            started: Instant::now(),
            failed: 0,
        }
    }

    /// For a part of the same work: its own count of failures, the same end.
    pub fn part(&self) -> Self {
        Self { failed: 0, ..*self }
    }

    /// After a failure: sleeps and says `true`, or says `false` at once when it is time to give up.
    pub async fn again(&mut self) -> bool {
        self.failed += 1;
        let elapsed = self.started.elapsed();
        match self.policy.pause(self.failed, elapsed, rand::random()) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    pub fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_stay_between_half_and_full_and_within_every_bound(
            base in 1u64..1000, max in 1u64..10_000, attempts in 0u32..50, total in 0u64..100_000,
            failed in 1u32..60, elapsed in 0u64..100_000, jitter in 0.0f64..=1.0,
        ) {
            let ms = Duration::from_millis;
            let policy = BackoffPolicy { base: ms(base), max: ms(max), attempts, total: ms(total) };
            if let Some(pause) = policy.pause(failed, ms(elapsed), jitter) {
                prop_assert!(failed < attempts);
                prop_assert!(pause <= ms(max));
                prop_assert!(pause >= ms(base.min(max)).mul_f64(0.5));
                prop_assert!(ms(elapsed) + pause <= ms(total));
            }
        }
    }

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let policy = BackoffPolicy::default();
        let pauses: Vec<_> = (1..=8)
            .filter_map(|failed| policy.pause(failed, Duration::ZERO, 1.0))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[tokio::test]
    async fn a_call_that_never_works_is_given_up() {
        let policy = BackoffPolicy {
            base: Duration::from_nanos(1),
            attempts: 4,
            ..BackoffPolicy::default()
        };
        let mut pacer = Pacer::start(policy);
        let mut tries = 1;
        while pacer.again().await {
            tries += 1;
        }
        assert_eq!(tries, 4);
    }
}
