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
        if self.until == Until::Shutdown {
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
        self.until == Until::CaughtUp
            && self.assigned
            && lanes.all(|(tp, next, running)| {
                running && goal(tp).is_some_and(|goal| goal.reached(next))
            })
    }
}
