//! Group offsets on their way to the broker. They are for lag tools only, but those should not show a lag that is not
//! there: what the broker refused, as it does during a rebalance, is sent again. The client tells the outcome of a
//! commit only to who waits for it, so a thread of its own waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};

use super::super::SourceError;
use super::super::context::Context;
use super::super::inquiry::Answer;
use crate::record::{Offset, TopicPartition};

/// A rebalance, the usual cause of a refusal, takes about so long.
const PAUSE: Duration = Duration::from_secs(1);

type Offsets = Vec<(TopicPartition, Offset)>;

#[derive(Debug)]
pub(super) struct Publication {
    open: Open,
    sender: Sender<Offsets>,
}

/// What the broker has not taken yet. Pure; takes the clock as argument.
#[derive(Debug, Default)]
struct Open {
    /// Newest offset asked for, and whether the broker refused one of the partition. Bounded by the partitions.
    newest: BTreeMap<TopicPartition, (Offset, bool)>,
    in_flight: bool,
    not_before: Option<Instant>,
}

impl Publication {
    pub(super) fn start(
        client: Arc<BaseConsumer<Context>>,
        answer: impl Fn(Answer) + Send + 'static,
    ) -> Self {
        // One request is under way at a time.
        let (sender, requests) = bounded::<Offsets>(1);
        let publish = move || {
            for offsets in requests {
                let result = commit(&client, &offsets);
                answer(Answer::Published(offsets, result));
            }
        };
        // Without the thread the channel is closed, and nothing is published.
        if let Err(error) = thread::Builder::new()
            .name("kafka-offsets".to_owned())
            .spawn(publish)
        {
            tracing::warn!(%error, "group offsets will not be published");
        }
        Self {
            open: Open::default(),
            sender,
        }
    }

    pub(super) fn asked(&mut self, offsets: Offsets) {
        self.open.asked(offsets);
    }

    pub(super) fn answered(&mut self, offsets: &Offsets, taken: bool, now: Instant) {
        self.open.answered(offsets, taken, now);
    }

    /// Sends what is due.
    pub(super) fn go_on(&mut self, now: Instant, held: impl Fn(&TopicPartition) -> bool) {
        if let Some(offsets) = self.open.due(now, held)
            && self.sender.try_send(offsets).is_err()
        {
            self.open = Open::default();
        }
    }

    /// Something was asked for and is not settled.
    pub(super) fn is_under_way(&self) -> bool {
        self.open.in_flight || !self.open.newest.is_empty()
    }
}

fn commit(client: &BaseConsumer<Context>, offsets: &Offsets) -> Result<(), SourceError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    let mut committed = Ok(());
    for (tp, offset) in offsets {
        let position = rdkafka::Offset::Offset(offset.0);
        let added = list.add_partition_offset(tp.topic.as_str(), tp.partition, position);
        committed = committed.and(added);
    }
    let committed = committed.and_then(|()| client.commit(&list, CommitMode::Sync));
    committed.map_err(|error| SourceError::CommitOffsets(error.to_string()))
}

impl Open {
    fn asked(&mut self, offsets: Offsets) {
        for (tp, offset) in offsets {
            self.newest.entry(tp).or_insert((offset, false)).0 = offset;
        }
    }

    fn answered(&mut self, offsets: &Offsets, taken: bool, now: Instant) {
        self.in_flight = false;
        for (tp, offset) in offsets {
            if let Some((newest, refused)) = self.newest.get_mut(tp) {
                *refused = !taken;
                if taken && newest == offset {
                    self.newest.remove(tp);
                }
            }
        }
        self.not_before = (!taken).then(|| now + PAUSE);
    }

    /// What is to be sent now. What was refused and is not held any more is its new owner's business.
    fn due(&mut self, now: Instant, held: impl Fn(&TopicPartition) -> bool) -> Option<Offsets> {
        if self.in_flight || self.newest.is_empty() {
            return None;
        }
        self.newest.retain(|tp, (_, refused)| !*refused || held(tp));
        if self.newest.is_empty() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.in_flight = true;
        Some(
            self.newest
                .iter()
                .map(|(tp, (offset, _))| (tp.clone(), *offset))
                .collect(),
        )
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
        let (mut open, now) = (Open::default(), Instant::now());
        open.asked(vec![at(0, 10), at(1, 5)]);
        let sent = open.due(now, |_| true).unwrap_or_default();
        assert_eq!(sent, [at(0, 10), at(1, 5)]);
        open.asked(vec![at(0, 12)]);
        assert_eq!(open.due(now, |_| true), None, "one at a time");
        open.answered(&sent, false, now);
        assert_eq!(open.due(now, |_| true), None, "not at once");
        assert_eq!(
            open.due(now + PAUSE, |_| true),
            Some(vec![at(0, 12), at(1, 5)])
        );
    }

    #[test]
    fn an_older_success_does_not_settle_a_newer_offset() {
        let (mut open, now) = (Open::default(), Instant::now());
        open.asked(vec![at(0, 10)]);
        let sent = open.due(now, |_| true).unwrap_or_default();
        open.asked(vec![at(0, 12)]);
        open.answered(&sent, true, now);
        let sent = open.due(now, |_| true).unwrap_or_default();
        assert_eq!(sent, [at(0, 12)]);
        open.answered(&sent, true, now);
        assert_eq!(open.due(now, |_| true), None);
    }

    #[test]
    fn a_partition_given_up_is_published_once_more_and_then_left_to_its_new_owner() {
        let (mut open, now) = (Open::default(), Instant::now());
        open.asked(vec![at(0, 10)]);
        let sent = open.due(now, |_| false).unwrap_or_default();
        assert_eq!(sent, [at(0, 10)]);
        open.answered(&sent, false, now);
        assert_eq!(open.due(now + PAUSE, |_| false), None);
        assert!(open.newest.is_empty());
    }
}
