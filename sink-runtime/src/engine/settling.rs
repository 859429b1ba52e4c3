//! When the last commit of a lane is brought to rest: until then the ledger names its files as pending, and whoever moves
//! one of them takes the commit back. The next commit does it by the way; this is about lanes in which none follows
//! soon. Pure: the clock is given in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::record::TopicPartition;

/// After a commit, where nothing has come since.
const QUIET: Duration = Duration::from_secs(5);
/// After a commit, where something has: longer than a file stays open by default, so that it costs a put of its own only
/// where commits are rare.
const LATEST: Duration = Duration::from_secs(90);

/// Lanes whose last commit is not at rest.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Since when; `None`: at once.
    since: BTreeMap<TopicPartition, Option<Instant>>,
    /// Records came since the last cut.
    gathering: BTreeSet<TopicPartition>,
}

impl Settling {
    /// The ledger was opened and found whole: nothing is waited for.
    pub(super) fn opened(&mut self, tp: &TopicPartition) {
        self.since.insert(tp.clone(), None);
    }

    pub(super) fn committed(&mut self, tp: &TopicPartition, now: Instant) {
        self.since.insert(tp.clone(), Some(now));
    }

    pub(super) fn gathers(&mut self, tp: TopicPartition) {
        self.gathering.insert(tp);
    }

    /// The worker sealed what came.
    pub(super) fn sealed(&mut self, tp: &TopicPartition) {
        self.gathering.remove(tp);
    }

    /// A commit is under way that does it.
    pub(super) fn follows(&mut self, tp: &TopicPartition) {
        self.since.remove(tp);
    }

    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        self.since.remove(tp);
        self.gathering.remove(tp);
    }

    /// It did not work: later again, unless something was committed meanwhile.
    pub(super) fn again(&mut self, tp: TopicPartition, now: Instant) {
        self.since.entry(tp).or_insert(Some(now));
    }

    /// Lanes whose time has come; told once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<TopicPartition> {
        let gathering = &self.gathering;
        let due = |(tp, since): (&TopicPartition, &Option<Instant>)| {
            let wait = if gathering.contains(tp) {
                LATEST
            } else {
                QUIET
            };
            let over = |since| now.saturating_duration_since(since) >= wait;
            since.is_none_or(over).then(|| tp.clone())
        };
        let due: Vec<_> = self.since.iter().filter_map(due).collect();
        for tp in &due {
            self.since.remove(tp);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    /// Ticks every second; lane 0 has records all the time and commits every `every` seconds, lane 1 commits once.
    /// Returns the seconds at which each was settled.
    fn settled(every: u64, seconds: u64) -> [Vec<u64>; 2] {
        let start = Instant::now();
        let mut settling = Settling::default();
        settling.gathers(tp(1));
        let mut settled = [Vec::new(), Vec::new()];
        for second in 0..=seconds {
            let now = start + Duration::from_secs(second);
            if second % every == 0 {
                settling.sealed(&tp(0));
                settling.follows(&tp(0));
                settling.committed(&tp(0), now);
            }
            settling.gathers(tp(0));
            if second == 10 {
                settling.sealed(&tp(1));
                settling.follows(&tp(1));
                settling.committed(&tp(1), now);
            }
            for tp in settling.due(now) {
                settled[tp.partition as usize].push(second);
            }
        }
        settled
    }

    #[test]
    fn a_quiet_partition_is_settled_seconds_after_its_commit_however_busy_another_is() {
        assert_eq!(settled(5, 120), [vec![], vec![15]]);
    }

    #[test]
    fn under_load_a_commit_costs_no_put_but_its_own_and_a_rare_one_is_settled_all_the_same() {
        assert_eq!(settled(60, 600)[0], Vec::<u64>::new());
        assert_eq!(settled(600, 1199)[0], [90, 690]);
    }

    #[test]
    fn a_ledger_that_was_found_whole_is_settled_at_once_and_a_failure_later_again() {
        let now = Instant::now();
        let mut settling = Settling::default();
        settling.opened(&tp(0));
        settling.gathers(tp(0));
        assert_eq!(settling.due(now), [tp(0)]);
        settling.sealed(&tp(0));
        settling.again(tp(0), now);
        assert!(settling.due(now).is_empty());
        assert_eq!(settling.due(now + QUIET), [tp(0)]);
    }

    #[test]
    fn what_is_not_ours_any_more_is_not_settled() {
        let now = Instant::now();
        let mut settling = Settling::default();
        settling.committed(&tp(0), now);
        settling.forget(&tp(0));
        assert!(settling.due(now + LATEST).is_empty());
    }
}
