//! When a run that has an end is at its end: every partition committed up to where its log ended when it was taken. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Until;
use super::coordinator::CutScope;
use crate::record::{Offset, TopicPartition};

/// Where a partition ended when it was taken.
struct Goal {
    end: Offset,
    from: Offset,
    /// Everything below `end` has gone to the worker.
    read: bool,
    /// The ledger's `next` as last heard of.
    committed: Option<Offset>,
}

impl Goal {
    fn reached(&self, next: Option<Offset>) -> bool {
        self.from >= self.end || next.is_some_and(|next| next >= self.end)
    }
}

/// What "caught up" means for each partition that was taken.
pub(super) struct Goals {
    until: Until,
    by_partition: BTreeMap<TopicPartition, Goal>,
    /// Before the first assignment, and after one that was taken away before anything was known of it, owning nothing
    /// says nothing.
    assigned: bool,
    /// Some partition was taken.
    begun: bool,
}

impl Goals {
    pub(super) fn new(until: Until) -> Self {
        Self {
            until,
            by_partition: BTreeMap::new(),
            assigned: false,
            begun: false,
        }
    }

    /// Whether the run has an end.
    pub(super) fn ends(&self) -> bool {
        self.until == Until::CaughtUp
    }

    pub(super) fn assigned(&mut self) {
        self.assigned = true;
    }

    /// A partition that starts over keeps its first goal.
    pub(super) fn taken(&mut self, tp: &TopicPartition, from: Offset, end: Offset) {
        let goal = Goal {
            end,
            from,
            read: false,
            committed: None,
        };
        self.by_partition
            .entry(tp.clone())
            .and_modify(|goal| goal.read = false)
            .or_insert(goal);
        self.begun = true;
    }

    /// Nothing below `at` is still to come.
    pub(super) fn read(&mut self, tp: &TopicPartition, at: Offset) {
        if let Some(goal) = self.by_partition.get_mut(tp) {
            goal.end = goal.end.min(at);
            goal.read = true;
        }
    }

    pub(super) fn committed(&mut self, tp: &TopicPartition, next: Offset) {
        if let Some(goal) = self.by_partition.get_mut(tp) {
            goal.committed = Some(next);
        }
    }

    /// The partition is not ours any more. What was set out to be read and is not committed stays to be reached, by us
    /// when it comes back or by its new owner.
    pub(super) fn given_up(&mut self, tp: &TopicPartition) {
        let reached = |goal: &Goal| goal.reached(goal.committed);
        if !self.ends() || self.by_partition.get(tp).is_some_and(reached) {
            self.by_partition.remove(tp);
        }
    }

    /// Nothing is owned now. Where nothing was ever taken either, the next assignment is waited for.
    pub(super) fn bereft(&mut self) {
        self.assigned &= self.begun;
    }

    /// Of partitions that others own: how far the group is, `None` where the partition is no more.
    pub(super) fn elsewhere(&mut self, tp: &TopicPartition, committed: Option<Offset>) {
        match committed {
            Some(next) => {
                self.committed(tp, next);
                self.given_up(tp);
            }
            None => drop(self.by_partition.remove(tp)),
        }
    }

    /// Goals that were not reached here, when all that is owned has reached its own: who owns them has to say.
    pub(super) fn owed<'a>(
        &self,
        lanes: impl Iterator<Item = (&'a TopicPartition, Option<Offset>, bool)>,
    ) -> Vec<TopicPartition> {
        if !self.ends() || self.by_partition.is_empty() {
            return Vec::new();
        }
        let mut owned = BTreeSet::new();
        for (tp, next, running) in lanes {
            if !running || !self.by_partition.get(tp).is_some_and(|g| g.reached(next)) {
                return Vec::new();
            }
            owned.insert(tp);
        }
        let elsewhere = |tp: &&TopicPartition| !owned.contains(*tp);
        self.by_partition
            .keys()
            .filter(elsewhere)
            .cloned()
            .collect()
    }

    /// With an end in sight nothing waits for a rotation rule: a lane that has read to its goal is cut, a table's
    /// when all have.
    pub(super) fn due<'a>(
        &self,
        lanes: impl Iterator<Item = (&'a TopicPartition, Option<Offset>, bool)>,
        scope: CutScope,
    ) -> Vec<TopicPartition> {
        if !self.ends() {
            return Vec::new();
        }
        let goal = |tp| self.by_partition.get(tp);
        let open: Vec<_> = lanes
            .filter_map(|(tp, next, _)| Some((tp, goal(tp).filter(|goal| !goal.reached(next))?)))
            .collect();
        if scope == CutScope::Together && open.iter().any(|(_, goal)| !goal.read) {
            return Vec::new();
        }
        open.into_iter()
            .filter(|(_, goal)| goal.read)
            .map(|(tp, _)| tp.clone())
            .collect()
    }

    /// All that was set out to be read is committed, here or by others.
    pub(super) fn reached<'a>(
        &self,
        lanes: impl Iterator<Item = (&'a TopicPartition, Option<Offset>, bool)>,
    ) -> bool {
        if !self.ends() || !self.assigned {
            return false;
        }
        let mut owned = 0;
        for (tp, next, running) in lanes {
            if !running || !self.by_partition.get(tp).is_some_and(|g| g.reached(next)) {
                return false;
            }
            owned += 1;
        }
        // Each of them has a goal: any beyond is owed.
        owned == self.by_partition.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    /// Two partitions, taken at 0, that end at 10.
    fn taken() -> Goals {
        let mut goals = Goals::new(Until::CaughtUp);
        goals.assigned();
        for partition in 0..2 {
            goals.taken(&tp(partition), Offset(0), Offset(10));
        }
        goals
    }

    fn reached(goals: &Goals, next: [i64; 2]) -> bool {
        let tps = [tp(0), tp(1)];
        let lanes = tps.iter().zip(next);
        goals.reached(lanes.map(|(tp, next)| (tp, Some(Offset(next)), true)))
    }

    #[test]
    fn the_end_is_reached_when_every_partition_is_committed_up_to_its_goal() {
        let mut goals = taken();
        assert!(!reached(&goals, [10, 9]));
        assert!(reached(&goals, [10, 12]));
        // Started over, it keeps its goal, whatever was produced since.
        goals.taken(&tp(1), Offset(10), Offset(99));
        assert!(reached(&goals, [10, 10]));
        // Nothing is at or above 7: a log may end in offsets without a record.
        goals.read(&tp(1), Offset(7));
        assert!(reached(&goals, [10, 7]));
    }

    #[test]
    fn nothing_owned_is_the_end_only_where_nothing_was_set_out_to_be_read() {
        let mut goals = Goals::new(Until::CaughtUp);
        assert!(!goals.reached(std::iter::empty()));
        goals.assigned();
        assert!(goals.reached(std::iter::empty()), "an empty assignment");
        // Taken away before it was known where to start: the next assignment says.
        goals.bereft();
        assert!(!goals.reached(std::iter::empty()));
        goals.assigned();
        assert!(goals.reached(std::iter::empty()));
    }

    #[test]
    fn what_was_set_out_to_be_read_and_is_taken_away_stays_to_be_reached() {
        let mut goals = taken();
        let (first, second) = (tp(0), tp(1));
        let lane = |next| std::iter::once((&first, Some(Offset(next)), true));
        // One is committed and given away, one is lost in the middle.
        goals.committed(&first, Offset(10));
        goals.committed(&second, Offset(4));
        goals.given_up(&first);
        goals.given_up(&second);
        goals.bereft();
        assert!(!goals.reached(std::iter::empty()));
        assert_eq!(goals.owed(std::iter::empty()), [tp(1)]);
        // Another partition of ours changes nothing of that, and is asked about first.
        goals.taken(&first, Offset(10), Offset(12));
        assert!(goals.owed(lane(11)).is_empty());
        assert!(!goals.reached(lane(12)));
        assert_eq!(goals.owed(lane(12)), [tp(1)]);
        // Its new owner goes on.
        goals.elsewhere(&second, Some(Offset(9)));
        assert!(!goals.reached(lane(12)));
        goals.elsewhere(&second, Some(Offset(10)));
        assert!(goals.reached(lane(12)));
    }

    #[test]
    fn what_comes_back_keeps_its_first_goal_and_what_is_no_more_has_none() {
        let mut goals = taken();
        for partition in 0..2 {
            goals.given_up(&tp(partition));
        }
        goals.taken(&tp(0), Offset(4), Offset(99));
        let back = tp(0);
        let lane = |next| std::iter::once((&back, Some(Offset(next)), true));
        assert!(!goals.reached(lane(10)), "the other is not read");
        goals.elsewhere(&tp(1), None);
        assert!(goals.reached(lane(10)));
        assert!(!goals.reached(lane(9)));
    }

    #[test]
    fn lanes_that_read_to_their_goal_are_due_and_a_tables_only_together() {
        let mut goals = taken();
        let tps = [tp(0), tp(1)];
        let lanes = || tps.iter().map(|tp| (tp, None, true));
        goals.read(&tp(0), Offset(10));
        assert_eq!(goals.due(lanes(), CutScope::Lane), [tp(0)]);
        assert_eq!(goals.due(lanes(), CutScope::Together), []);
        goals.read(&tp(1), Offset(10));
        assert_eq!(goals.due(lanes(), CutScope::Together), [tp(0), tp(1)]);
    }
}
