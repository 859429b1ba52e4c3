//! How long to wait before the next try: doubling, capped, and drawn at random over the whole interval, so that many
//! pods that failed together do not come back together. Pure.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) cap: Duration,
}

impl Backoff {
    /// Before the retry after `failures` failures (from 1); `random` in `[0, 1)`. At least half of the first wait.
    pub(super) fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.cap);
        ceiling.mul_f64(random).max(self.first / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_vanish() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(2),
        };
        let ceilings: Vec<_> = (1..=7)
            .map(|n| backoff.delay(n, 0.999_999).as_millis().div_ceil(100))
            .collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::from_millis(50));
    }
}
