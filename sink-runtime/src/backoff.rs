//! How long to wait before the next try: doubling up to a longest wait, and drawn at random from its upper half, so that
//! those who failed together do not come back together. The schedule is pure; [`Backoff::pause`] sleeps by it.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Before the retry after `failures` failures (from 1); `random` in `[0, 1]`.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        // 2^20 × any sensible first wait is past any sensible longest.
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    pub async fn pause(&self, failures: u32) {
        tokio::time::sleep(self.delay(failures, rand::random())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_vanish() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let longest: Vec<_> = (1..=7).map(|n| backoff.delay(n, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(50));
        assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::from_secs(1));
    }
}
