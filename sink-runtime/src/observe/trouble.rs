//! What is in a sink's way, by what it is in the way of, so that one thing's success hides no other's failure. Pure.

use std::collections::BTreeMap;

use crate::errors::{Class, Retry};
use crate::record::TopicPartition;

#[derive(Clone, Debug)]
struct Trouble {
    reason: &'static str,
    message: String,
    /// Orders troubles: the latest is shown.
    at: u64,
    /// In a row; 0 for what has not failed yet.
    failures: u32,
    /// Of these, those that waiting alone does not mend.
    telling: u32,
}

#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Opening the destination, and finding out where partitions go on.
    opening: Option<Trouble>,
    /// A step of whatever is under way, while it is tried again.
    step: Option<Trouble>,
    /// Commits of a lane.
    lanes: BTreeMap<TopicPartition, Trouble>,
    now: u64,
}

impl Troubles {
    fn trouble(&mut self, class: Class, message: &str, (failures, telling): (u32, u32)) -> Trouble {
        self.now += 1;
        Trouble {
            reason: class.reason,
            message: message.to_owned(),
            at: self.now,
            failures,
            telling,
        }
    }

    /// Returns the failures in a row.
    pub(super) fn not_opened(&mut self, class: Class, message: &str) -> u32 {
        let failures = self.opening.as_ref().map_or(0, |before| before.failures) + 1;
        self.opening = Some(self.trouble(class, message, (failures, 0)));
        failures
    }

    /// The destination answers; what commits met stays until they are through.
    pub(super) fn opened(&mut self) {
        self.opening = None;
        self.step = None;
    }

    pub(super) fn hindered(&mut self, class: Class, message: &str) {
        self.step = Some(self.trouble(class, message, (0, 0)));
    }

    /// Returns the most failures in a row that any of the lanes has, without those of an outage.
    pub(super) fn not_committed<'a>(
        &mut self,
        lanes: impl Iterator<Item = &'a TopicPartition>,
        class: Class,
        message: &str,
    ) -> u32 {
        let mut most = 0;
        for lane in lanes {
            let before = self.lanes.get(lane);
            let (failures, telling) = before.map_or((0, 0), |b| (b.failures, b.telling));
            let telling = telling + u32::from(class.retry != Retry::Backoff);
            let trouble = self.trouble(class, message, (failures + 1, telling));
            self.lanes.insert(lane.clone(), trouble);
            most = most.max(telling);
        }
        most
    }

    pub(super) fn committed(&mut self, lanes: &[TopicPartition]) {
        self.forget(lanes);
        self.step = None;
    }

    /// Not ours any more.
    pub(super) fn forget(&mut self, lanes: &[TopicPartition]) {
        for lane in lanes {
            self.lanes.remove(lane);
        }
    }

    /// The most failures in a row of anything.
    pub(super) fn failures(&self) -> u32 {
        self.all()
            .map(|trouble| trouble.failures)
            .max()
            .unwrap_or(0)
    }

    /// Reason and message of the latest.
    pub(super) fn latest(&self) -> Option<(&'static str, &str)> {
        let latest = self.all().max_by_key(|trouble| trouble.at)?;
        Some((latest.reason, &latest.message))
    }

    fn all(&self) -> impl Iterator<Item = &Trouble> {
        self.lanes.values().chain(&self.opening).chain(&self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::class;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    #[test]
    fn partitions_that_fail_once_each_are_not_one_that_fails_five_times() {
        let mut troubles = Troubles::default();
        for partition in 0..5 {
            let lane = [tp(partition)];
            let failures = troubles.not_committed(lane.iter(), class::STORE_CONFLICT, "lost");
            assert_eq!(failures, 1);
        }
        assert_eq!(troubles.failures(), 1);
        troubles.not_committed([tp(3)].iter(), class::STORE_CONFLICT, "lost again");
        assert_eq!(troubles.failures(), 2);
    }

    #[test]
    fn failures_of_an_outage_are_shown_and_count_for_nothing_after_it() {
        let mut troubles = Troubles::default();
        let lane = [tp(0)];
        for _ in 0..20 {
            let failures = troubles.not_committed(lane.iter(), class::STORE_UNAVAILABLE, "away");
            assert_eq!(failures, 0);
        }
        assert_eq!(troubles.failures(), 20);
        let failures = troubles.not_committed(lane.iter(), class::STORE_CONFLICT, "lost");
        assert_eq!((failures, troubles.failures()), (1, 21));
    }

    #[test]
    fn what_one_thing_mends_hides_nothing_that_another_met() {
        let mut troubles = Troubles::default();
        troubles.not_committed([tp(0)].iter(), class::STORE_DENIED, "denied");
        troubles.not_opened(class::BROKER_UNREACHABLE, "no broker");
        let shown = |troubles: &Troubles| troubles.latest().map(|(reason, _)| reason);
        assert_eq!(shown(&troubles), Some("SourceUnreachable"));
        troubles.opened();
        assert_eq!(shown(&troubles), Some("StoreAccessDenied"));
        troubles.committed(&[tp(1)]);
        assert_eq!(shown(&troubles), Some("StoreAccessDenied"));
        troubles.committed(&[tp(0)]);
        assert_eq!((shown(&troubles), troubles.failures()), (None, 0));
    }

    #[test]
    fn a_partition_that_went_away_takes_its_trouble_along() {
        let mut troubles = Troubles::default();
        troubles.not_committed([tp(0), tp(1)].iter(), class::CATALOG_CONFLICT, "busy");
        troubles.forget(&[tp(0)]);
        assert!(troubles.latest().is_some());
        troubles.forget(&[tp(1)]);
        assert!(troubles.latest().is_none());
    }
}
