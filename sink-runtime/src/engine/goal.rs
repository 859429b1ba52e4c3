//! When a run that has an end is at its end: every partition committed up to where its log ended when it was taken. Pure.

use std::collections::BTreeMap;

use super::Until;
use super::coordinator::CutScope;
use crate::record::{Offset, TopicPartition};

/// Where a partition ended when it was taken.
struct Goal {
    end: Offset,
    from: Offset,
    /// Everything below `end` has gone to the worker.
    read: bool,
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
    /// Before the first assignment, owning nothing says nothing.
    assigned: bool,
}

impl Goals {
    pub(super) fn new(until: Until) -> Self {
        Self {
            until,
            by_partition: BTreeMap::new(),
            assigned: false,
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
        };
        self.by_partition.entry(tp.clone()).or_insert(goal);
    }

    /// Nothing below `at` is still to come.
    pub(super) fn read(&mut self, tp: &TopicPartition, at: Offset) {
        if let Some(goal) = self.by_partition.get_mut(tp) {
            goal.end = goal.end.min(at);
            goal.read = true;
        }
    }

    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        self.by_partition.remove(tp);
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

    pub(super) fn reached<'a>(
        &self,
        mut lanes: impl Iterator<Item = (&'a TopicPartition, Option<Offset>, bool)>,
    ) -> bool {
        let goal = |tp| self.by_partition.get(tp);
        self.ends()
            && self.assigned
            && lanes.all(|(tp, next, running)| {
                running && goal(tp).is_some_and(|goal| goal.reached(next))
            })
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
    fn nothing_owned_is_the_end_only_after_an_assignment() {
        let mut goals = Goals::new(Until::CaughtUp);
        assert!(!goals.reached(std::iter::empty()));
        goals.assigned();
        assert!(goals.reached(std::iter::empty()));
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
