//! Whether a sink gets on. Decided from when it was last heard of and since when records wait without anything moving;
//! idleness is health, however long. Pure: the clock is given in.

use std::time::{Duration, Instant};

/// The signs of life of one sink.
#[derive(Debug)]
pub(super) struct Health {
    /// The consumer thread was heard of.
    polled: Instant,
    /// Work waits, and nothing has moved since; `None` while none waits.
    behind: Option<Instant>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ailment {
    Silent(Duration),
    Stuck(Duration),
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            polled: now,
            behind: None,
        }
    }

    pub(super) fn polled(&mut self, now: Instant) {
        self.polled = now;
    }

    /// Whether there is work: records not in the destination, or partitions of which none could be started yet.
    pub(super) fn waits(&mut self, work: bool, now: Instant) {
        if work {
            self.behind.get_or_insert(now);
        } else {
            self.behind = None;
        }
    }

    /// Some partition got on.
    pub(super) fn moved(&mut self, now: Instant) {
        if let Some(since) = &mut self.behind {
            *since = now;
        }
    }

    #[cfg(test)]
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    pub(super) fn ailment(&self, now: Instant, bound: Duration) -> Option<Ailment> {
        let beyond = |since: Instant| {
            let time = now.saturating_duration_since(since);
            (time > bound).then_some(time)
        };
        let silent = beyond(self.polled).map(Ailment::Silent);
        silent.or_else(|| self.behind.and_then(beyond).map(Ailment::Stuck))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(360);

    /// Heard of every second from 0 to `seconds`, with what `step` does at each.
    fn after(seconds: u64, step: impl Fn(&mut Health, u64, Instant)) -> Option<Ailment> {
        let start = Instant::now();
        let mut health = Health::new(start);
        for second in 0..=seconds {
            let now = start + Duration::from_secs(second);
            health.polled(now);
            step(&mut health, second, now);
        }
        health.ailment(start + Duration::from_secs(seconds), BOUND)
    }

    const DAY: u64 = 24 * 3600;

    #[test]
    fn idle_for_a_day_is_healthy_and_so_is_the_first_record_after_it() {
        assert_eq!(after(DAY, |health, _, now| health.waits(false, now)), None);
        let wakes = |health: &mut Health, second, now| health.waits(second > DAY - 10, now);
        assert_eq!(after(DAY, wakes), None);
    }

    #[test]
    fn records_that_wait_while_something_moves_are_no_illness() {
        let busy = |health: &mut Health, second: u64, now| {
            health.waits(true, now);
            if second.is_multiple_of(300) {
                health.moved(now);
            }
        };
        assert_eq!(after(DAY, busy), None);
    }

    #[test]
    fn records_that_wait_while_nothing_moves_are_an_illness_until_something_does() {
        let stuck = |health: &mut Health, second, now| {
            health.waits(second >= 1000, now);
            if second == 1100 {
                health.moved(now);
            }
        };
        assert_eq!(after(1460, stuck), None);
        let found = after(1461, stuck);
        assert_eq!(found, Some(Ailment::Stuck(Duration::from_secs(361))));
        let mended = |health: &mut Health, second, now| {
            stuck(health, second, now);
            if second == 1470 {
                health.moved(now);
            }
        };
        assert_eq!(after(1480, mended), None);
        let caught_up = |health: &mut Health, second, now| {
            health.waits((1000..1470).contains(&second), now);
        };
        assert_eq!(after(1480, caught_up), None);
    }

    #[test]
    fn a_consumer_that_is_not_heard_of_is_an_illness_whatever_waits() {
        let start = Instant::now();
        let health = Health::new(start);
        let at = |seconds| health.ailment(start + Duration::from_secs(seconds), BOUND);
        assert_eq!(at(360), None);
        let silent = Duration::from_secs(361);
        assert_eq!(at(361), Some(Ailment::Silent(silent)));
    }
}
