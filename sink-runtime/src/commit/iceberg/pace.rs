//! How often and how patiently a commit is tried.

use std::time::Duration;

use rand::Rng;

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
    fn ceiling(&self, round: u32) -> Duration {
        self.first
            .saturating_mul(1 << round.saturating_sub(1).min(16))
            .min(self.longest)
    }

    /// Half to whole of the round's ceiling, at random: writers that met part.
    pub(super) async fn pause(&self, round: u32) {
        let ceiling = self.ceiling(round);
        let share = rand::rng().random_range(0.5..=1.0);
        tokio::time::sleep(ceiling.mul_f64(share)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pace = Pace::default();
        let millis = [1, 2, 3, 6, 7, 99].map(|r| pace.ceiling(r).as_millis());
        assert_eq!(millis, [100, 200, 400, 3200, 5000, 5000]);
    }
}
