//! Group offsets on their way to the broker. They are for lag tools only, but those should not show a lag that is not
//! there: what the broker refused is sent again. Pure; takes the clock as argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::record::{Offset, TopicPartition};

/// A rebalance, the usual cause of a refusal, takes about so long.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Publication {
    /// Newest offset asked for, until the broker took it. Bounded by the partitions.
    open: BTreeMap<TopicPartition, Offset>,
    due: Option<Instant>,
}

impl Publication {
    pub(super) fn asked(&mut self, offsets: &[(TopicPartition, Offset)]) {
        self.open.extend(offsets.iter().cloned());
    }

    pub(super) fn took(&mut self, offsets: &[(TopicPartition, Offset)]) {
        for (tp, offset) in offsets {
            if self.open.get(tp) == Some(offset) {
                self.open.remove(tp);
            }
        }
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.due.get_or_insert(now + PAUSE);
    }

    /// What is to be sent again now. What is not held any more is its new owner's business.
    pub(super) fn again(
        &mut self,
        now: Instant,
        held: impl Fn(&TopicPartition) -> bool,
    ) -> Option<Vec<(TopicPartition, Offset)>> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        self.open.retain(|tp, _| held(tp));
        let offsets: Vec<_> = self.open.iter().map(|(tp, at)| (tp.clone(), *at)).collect();
        (!offsets.is_empty()).then_some(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> (TopicPartition, Offset) {
        (TopicPartition::new("orders", partition), Offset(offset))
    }

    #[test]
    fn what_the_broker_refused_is_sent_again_in_its_newest_form() {
        let (mut publication, now) = (Publication::default(), Instant::now());
        publication.asked(&[at(0, 10), at(1, 5)]);
        publication.took(&[at(1, 5)]);
        publication.failed(now);
        publication.asked(&[at(0, 12)]);
        assert_eq!(publication.again(now, |_| true), None);
        assert_eq!(
            publication.again(now + PAUSE, |_| true),
            Some(vec![at(0, 12)])
        );
        assert_eq!(
            publication.again(now + PAUSE, |_| true),
            None,
            "until it fails again"
        );
    }

    #[test]
    fn an_older_success_does_not_settle_a_newer_offset() {
        let (mut publication, now) = (Publication::default(), Instant::now());
        publication.asked(&[at(0, 10)]);
        publication.asked(&[at(0, 12)]);
        publication.took(&[at(0, 10)]);
        publication.failed(now);
        assert_eq!(
            publication.again(now + PAUSE, |_| true),
            Some(vec![at(0, 12)])
        );
    }

    #[test]
    fn a_partition_that_was_given_up_is_left_to_its_new_owner() {
        let (mut publication, now) = (Publication::default(), Instant::now());
        publication.asked(&[at(0, 10)]);
        publication.failed(now);
        assert_eq!(publication.again(now + PAUSE, |_| false), None);
        assert!(publication.open.is_empty());
    }
}
