//! Whether records about to be committed came from the topics that were recovered. Kafka's client reads on, at the
//! offset it has, in a topic that was deleted and made anew under it: only the topic's id tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::deliver::JobLane;
use crate::record::TopicName;
use crate::source::Facts as KafkaFacts;

pub(super) type TopicIds = BTreeMap<TopicName, String>;

/// Asks for topic ids on behalf of commits.
pub(super) struct Identity {
    facts: Arc<KafkaFacts>,
    last: tokio::sync::Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Taken before the brokers were asked.
    at: Option<Instant>,
    topics: BTreeSet<TopicName>,
    ids: TopicIds,
}

impl Identity {
    pub(super) fn new(facts: Arc<KafkaFacts>) -> Self {
        Self {
            facts,
            last: tokio::sync::Mutex::default(),
        }
    }

    /// As the brokers have them after this call began. Commits that wait here together share one answer.
    pub(super) async fn ids(&self, topics: BTreeSet<TopicName>) -> TopicIds {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        if last.at.is_some_and(|at| at >= called) && topics.is_subset(&last.topics) {
            return last.ids.clone();
        }
        last.topics.extend(topics);
        last.at = Some(Instant::now());
        let (facts, topics) = (Arc::clone(&self.facts), last.topics.clone());
        let told = tokio::task::spawn_blocking(move || facts.topic_ids(&topics));
        last.ids = told.await.unwrap_or_default();
        last.ids.clone()
    }
}

/// Every record of the lanes was read before the ids were asked for. Where an id is the one of the recovery, all of them
/// came from that topic: ids never recur. One that is unknown proves nothing, and is taken when it becomes known.
pub(super) fn check(lanes: &mut [JobLane], ids: &TopicIds) -> Result<(), String> {
    for lane in lanes {
        match (&lane.topic_id, ids.get(&lane.tp.topic)) {
            (Some(was), Some(is)) if was != is => {
                return Err(format!(
                    "topic \"{}\" was recreated while it was read: its id was \"{was}\" and is \"{is}\"",
                    lane.tp.topic
                ));
            }
            (None, Some(is)) => lane.topic_id = Some(is.clone()),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the topic has another id in the second answer than in the first.
pub(super) fn changed(first: &TopicIds, second: &TopicIds, topic: &TopicName) -> bool {
    let both = first.get(topic).zip(second.get(topic));
    both.is_some_and(|(first, second)| first != second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::record::{Offset, OffsetRange, TopicPartition};

    fn ids(ids: &[(&str, &str)]) -> TopicIds {
        ids.iter()
            .map(|(topic, id)| (TopicName::new(*topic), (*id).to_owned()))
            .collect()
    }

    fn lane(topic: &str, topic_id: Option<&str>) -> JobLane {
        JobLane {
            generation: 0,
            tp: TopicPartition::new(topic, 0),
            expected: None,
            range: OffsetRange {
                start: Offset(0),
                end: Offset(1),
            },
            rows: 1,
            last_read: None,
            topic_id: topic_id.map(str::to_owned),
        }
    }

    // T15
    #[test]
    fn records_of_a_topic_with_another_id_than_the_recovered_one_are_not_committed() {
        let mut lanes = [lane("orders", Some("o1")), lane("refunds", Some("r1"))];
        let told = |orders| ids(&[("orders", orders), ("refunds", "r1")]);
        check(&mut lanes, &told("o1")).unwrap();
        let why = check(&mut lanes, &told("o2")).unwrap_err();
        assert!(why.contains("\"orders\" was recreated"), "{why}");
    }

    #[test]
    fn an_unknown_id_stops_nothing_and_is_taken_when_it_becomes_known() {
        let mut lanes = [lane("orders", Some("o1")), lane("refunds", None)];
        check(&mut lanes, &ids(&[])).unwrap();
        assert_eq!(lanes[0].topic_id.as_deref(), Some("o1"));
        assert_eq!(lanes[1].topic_id, None);
        check(&mut lanes, &ids(&[("refunds", "r1")])).unwrap();
        assert_eq!(lanes[1].topic_id.as_deref(), Some("r1"));
    }

    #[test]
    fn a_topic_counts_as_changed_only_where_both_answers_know_it() {
        let changed =
            |first, second, topic| changed(&ids(first), &ids(second), &TopicName::new(topic));
        for topic in ["a", "b"] {
            assert!(!changed(&[("a", "1")], &[("a", "1"), ("b", "2")], topic));
            assert!(!changed(&[("a", "1")], &[], topic));
        }
        let (first, second) = ([("a", "1"), ("b", "2")], [("a", "1"), ("b", "3")]);
        assert!(changed(&first, &second, "b") && !changed(&first, &second, "a"));
    }
}
