//! Which topics a table's ledger speaks of, against those that are read. Pure.

use std::collections::BTreeMap;

use crate::commit::iceberg::TableLedger;
use crate::engine::deliver::{Doubts, Facts};
use crate::ledger::{Claim, Progress as Known, Recorded, Recreation, SourceCheck, check_source};
use crate::record::{Offset, OffsetRange, TopicName, TopicPartition};

pub(super) type TopicIds = BTreeMap<TopicName, String>;

/// Of which topic-partitions the topic is another than the ledger's, and how that shows.
pub(super) fn recreated<'a>(
    ledger: &TableLedger,
    asked: &'a BTreeMap<TopicPartition, Facts>,
) -> Vec<(&'a TopicPartition, Recreation)> {
    let check = |(tp, facts): (&'a TopicPartition, &Facts)| match check_source(
        recorded(ledger, tp),
        &facts.origin(),
    ) {
        SourceCheck::Recreated { why } => Some((tp, why)),
        SourceCheck::Fine | SourceCheck::RecordsExpired { .. } | SourceCheck::Truncated { .. } => {
            None
        }
    };
    asked.iter().filter_map(check).collect()
}

/// What the table knows of one topic-partition. One of a topic that was recreated, and that only another process read
/// before, is unknown and begins at the start of its log all the same.
pub(super) fn known(ledger: &TableLedger, tp: &TopicPartition) -> Known {
    let next = ledger.next.get(tp).copied();
    Known {
        next,
        floor: next,
        generation: ledger.generation(tp),
        anew: ledger.topic_since.contains_key(&tp.topic),
        last_read: ledger.last_read(tp),
        ..Known::default()
    }
}

/// What the ledger says of these, unless it said so when it was `doubted`.
pub(super) fn doubts<'a>(
    ledger: &TableLedger,
    tps: impl Iterator<Item = &'a TopicPartition>,
    doubted: &Doubts,
) -> Doubts {
    let said = tps.map(|tp| (tp.clone(), ledger.said(tp)));
    said.filter(|(tp, said)| doubted.get(tp) != Some(said))
        .collect()
}

/// Where the logs end that lost records which the table holds.
pub(super) fn truncated(
    ledger: &TableLedger,
    asked: &BTreeMap<TopicPartition, Facts>,
) -> BTreeMap<TopicPartition, Offset> {
    let check = |(tp, facts): (&TopicPartition, &Facts)| match check_source(
        recorded(ledger, tp),
        &facts.origin(),
    ) {
        SourceCheck::Truncated { end, .. } => Some((tp.clone(), end)),
        _ => None,
    };
    asked.iter().filter_map(check).collect()
}

fn recorded<'a>(ledger: &'a TableLedger, tp: &TopicPartition) -> Recorded<'a> {
    Recorded {
        cluster_id: ledger.cluster_id.as_deref(),
        topic_id: ledger.topic_ids.get(&tp.topic).map(String::as_str),
        next: ledger.next.get(tp).copied(),
    }
}

/// The ids to record when these topics begin anew.
pub(super) fn new_ids(
    recreated: &[(&TopicPartition, Recreation)],
    asked: &BTreeMap<TopicPartition, Facts>,
) -> TopicIds {
    let mut ids = told(asked.iter().map(|(tp, facts)| (tp, &facts.topic_id)));
    for (tp, why) in recreated {
        if !why.knows_topic() {
            ids.remove(&tp.topic);
        }
    }
    ids
}

/// Topics of which the ledger knows offsets and not the id: their ids, and of each a mark that moves nothing.
pub(super) fn unrecorded(
    ledger: &TableLedger,
    asked: &BTreeMap<TopicPartition, Facts>,
) -> (Vec<Claim>, TopicIds) {
    let (mut marks, mut ids) = (Vec::new(), TopicIds::new());
    for (tp, facts) in asked {
        if let (Some(next), Some(id)) = (ledger.next.get(tp), &facts.topic_id)
            && !ledger.topic_ids.contains_key(&tp.topic)
            && ids.insert(tp.topic.clone(), id.clone()).is_none()
        {
            marks.push(mark(tp, Some(*next), *next, ledger.generation(tp)));
        }
    }
    (marks, ids)
}

/// Says how far was read.
pub(super) fn mark(
    tp: &TopicPartition,
    expected: Option<Offset>,
    at: Offset,
    generation: u64,
) -> Claim {
    Claim {
        tp: tp.clone(),
        expected,
        range: OffsetRange { start: at, end: at },
        generation,
    }
}

/// The ids that are known.
pub(super) fn told<'a>(
    ids: impl IntoIterator<Item = (&'a TopicPartition, &'a Option<String>)>,
) -> TopicIds {
    ids.into_iter()
        .filter_map(|(tp, id)| Some((tp.topic.clone(), id.clone()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    fn facts(topic_id: Option<&str>, end: i64) -> Facts {
        Facts {
            cluster_id: Some("c".to_owned()),
            topic_id: topic_id.map(str::to_owned),
            log_start: Offset(0),
            log_end: Offset(end),
            leader_epoch: None,
            cut: None,
        }
    }

    /// Holds ten records of `orders`, whose id is known or not, and ten of `refunds`.
    fn ledger(orders: Option<&str>) -> TableLedger {
        let known = [("orders", orders), ("refunds", Some("r1"))];
        TableLedger {
            next: [
                (tp("orders", 0), Offset(10)),
                (tp("refunds", 0), Offset(10)),
            ]
            .into(),
            topic_ids: known
                .into_iter()
                .filter_map(|(topic, id)| Some((TopicName::new(topic), id?.to_owned())))
                .collect(),
            ..TableLedger::default()
        }
    }

    // T15
    #[test]
    fn a_topic_with_another_id_is_another_one_however_long_it_is() {
        let asked = [
            (tp("orders", 0), facts(Some("o2"), 999)),
            (tp("orders", 1), facts(Some("o2"), 5)),
            (tp("refunds", 0), facts(Some("r1"), 10)),
        ]
        .into();
        let ledger = ledger(Some("o1"));
        let found = recreated(&ledger, &asked);
        let tps: Vec<_> = found.iter().map(|(tp, _)| (*tp).clone()).collect();
        assert_eq!(tps, [tp("orders", 0), tp("orders", 1)]);
        assert_eq!(new_ids(&found, &asked)[&TopicName::new("orders")], "o2");
    }

    #[test]
    fn the_id_of_a_topic_that_only_its_end_betrays_is_left_to_the_next_commit() {
        let asked = [
            (tp("orders", 0), facts(None, 3)),
            (tp("refunds", 0), facts(Some("r1"), 10)),
        ]
        .into();
        let ledger = ledger(Some("o1"));
        let found = recreated(&ledger, &asked);
        assert_eq!(found.len(), 1);
        assert!(truncated(&ledger, &asked).is_empty());
        let ids = new_ids(&found, &asked);
        assert_eq!(ids, [(TopicName::new("refunds"), "r1".to_owned())].into());
    }

    #[test]
    fn partitions_of_a_recreated_topic_begin_anew_also_those_that_nobody_reset() {
        let mut ledger = ledger(Some("o2"));
        ledger.topic_since.insert(TopicName::new("orders"), 7);
        let found = known(&ledger, &tp("orders", 1));
        assert_eq!((found.next, found.anew), (None, true));
        let found = known(&ledger, &tp("orders", 0));
        assert_eq!((found.next, found.anew), (Some(Offset(10)), true));
        assert!(!known(&ledger, &tp("refunds", 3)).anew);
    }

    // T15
    #[test]
    fn a_shorter_log_of_the_same_topic_sets_back_its_own_partition_alone() {
        let asked = [
            (tp("orders", 0), facts(Some("o1"), 3)),
            (tp("refunds", 0), facts(Some("r1"), 10)),
        ]
        .into();
        let ledger = ledger(Some("o1"));
        assert!(recreated(&ledger, &asked).is_empty());
        let ends = truncated(&ledger, &asked);
        assert_eq!(ends, [(tp("orders", 0), Offset(3))].into());
    }

    #[test]
    fn a_ledger_takes_an_id_it_lacks_once_for_each_topic_and_moves_nothing() {
        let asked = [
            (tp("orders", 0), facts(Some("o1"), 99)),
            // Never read: nothing is said of it.
            (tp("orders", 1), facts(Some("o1"), 99)),
            (tp("refunds", 0), facts(Some("r1"), 99)),
        ]
        .into();
        let mut untold = ledger(None);
        untold.generations.insert(tp("orders", 0), 4);
        let (marks, ids) = unrecorded(&untold, &asked);
        assert_eq!(ids, [(TopicName::new("orders"), "o1".to_owned())].into());
        assert_eq!(
            marks,
            [mark(&tp("orders", 0), Some(Offset(10)), Offset(10), 4)]
        );
        let (marks, ids) = unrecorded(&ledger(Some("o1")), &asked);
        assert!(marks.is_empty() && ids.is_empty());
        let untold = [(tp("orders", 0), facts(None, 99))].into();
        assert!(unrecorded(&ledger(None), &untold).0.is_empty());
    }
}
