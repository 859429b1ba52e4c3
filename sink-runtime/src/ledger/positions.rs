//! Where to read on after an assignment: what the destinations hold decides; group offsets only prove that a stretch
//! holds no record for any of several destinations. Pure.

use std::collections::BTreeMap;

use crate::plan::Startup;
use crate::record::{LastRead, Offset, TopicPartition};
use crate::source::StartAt;

/// What one destination knows of a topic-partition. All `None` when it knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub next: Option<Offset>,
    /// The sink's floor as stored beside `next`.
    pub floor: Option<Offset>,
    /// Records from `next` on must be read again, whatever the floors say.
    pub reread: bool,
    /// Of the ledger; 0 where there is none, or none is counted.
    pub generation: u64,
    /// The topic is another than the destination once knew under this name, and is read from its start: neither the wish
    /// nor the group's offset was meant for it.
    pub anew: bool,
    /// The last record below `next`, where that is known.
    pub last_read: Option<LastRead>,
}

/// Where to fetch, and the floor with which to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPosition {
    pub at: StartAt,
    /// `None` when the sink never read the topic-partition.
    pub floor: Option<Offset>,
}

/// A position for each of `assigned`. `group`: committed group offsets. `destinations`: one map for each destination
/// of the sink; records below a destination's own `next` are skipped for that destination only.
pub fn positions(
    assigned: &[TopicPartition],
    group: &BTreeMap<TopicPartition, Offset>,
    destinations: &[BTreeMap<TopicPartition, Progress>],
    startup: &Startup,
) -> BTreeMap<TopicPartition, StartPosition> {
    assigned
        .iter()
        .map(|tp| {
            let group = group.get(tp).copied();
            let known: Vec<Progress> = destinations
                .iter()
                .map(|destination| destination.get(tp).copied().unwrap_or_default())
                .collect();
            let start = match known_position(group, &known) {
                Some(offset) => StartPosition {
                    at: StartAt::Offset(offset),
                    floor: Some(offset),
                },
                None => StartPosition {
                    at: match known.iter().any(|progress| progress.anew) {
                        true => StartAt::Earliest,
                        false => first_position(tp, group, startup),
                    },
                    floor: None,
                },
            };
            (tp.clone(), start)
        })
        .collect()
}

/// The sink's floor, lowered to what must be read again; `None` when no destination knows the topic-partition.
fn known_position(group: Option<Offset>, known: &[Progress]) -> Option<Offset> {
    let nexts = || known.iter().filter_map(|progress| progress.next);
    let lowest = nexts().min()?;
    let everyone = nexts().count() == known.len();
    // A lone destination's `next` is the truth: a group offset that somebody moved changes nothing.
    let floor = if known.len() == 1 {
        lowest
    } else {
        let proven = known
            .iter()
            .filter_map(|progress| progress.floor)
            .chain(group)
            .max();
        match proven {
            // Where all are known, all are complete below the lowest.
            Some(floor) if everyone => floor.max(lowest),
            Some(floor) => floor,
            None => lowest,
        }
    };
    let reread = known
        .iter()
        .filter(|progress| progress.reread)
        .filter_map(|progress| progress.next);
    Some(reread.fold(floor, Offset::min))
}

/// Of a topic-partition that no destination knows. The group's offset counts where it can only save records from being
/// missed (`Latest`), or was asked for; never where it could hide some from a new, empty destination.
fn first_position(tp: &TopicPartition, group: Option<Offset>, startup: &Startup) -> StartAt {
    match startup {
        Startup::GroupOffsets => group.map_or(StartAt::Earliest, StartAt::Offset),
        Startup::Earliest => StartAt::Earliest,
        Startup::Latest => group.map_or(StartAt::Latest, StartAt::Offset),
        Startup::Timestamp(millis) => StartAt::Timestamp(*millis),
        Startup::Offsets(offsets) => offsets
            .get(tp)
            .map_or(StartAt::Earliest, |offset| StartAt::Offset(Offset(*offset))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn at(next: i64, floor: i64) -> Progress {
        Progress {
            next: Some(Offset(next)),
            floor: Some(Offset(floor)),
            ..Progress::default()
        }
    }

    fn start(group: Option<i64>, destinations: &[Progress], startup: &Startup) -> StartAt {
        let group = group
            .map(|offset| (tp(), Offset(offset)))
            .into_iter()
            .collect();
        let destinations: Vec<_> = destinations
            .iter()
            .map(|progress| BTreeMap::from([(tp(), *progress)]))
            .collect();
        positions(&[tp()], &group, &destinations, startup)[&tp()].at
    }

    fn offset(offset: i64) -> StartAt {
        StartAt::Offset(Offset(offset))
    }

    // T6
    #[test]
    fn a_lone_destination_is_resumed_where_it_stands_whatever_the_group_says() {
        for group in [None, Some(0), Some(10), Some(500)] {
            for startup in [Startup::Earliest, Startup::Latest, Startup::GroupOffsets] {
                assert_eq!(start(group, &[at(10, 7)], &startup), offset(10));
            }
        }
    }

    #[test]
    fn an_idle_table_does_not_hold_the_others_back_once_the_floor_passed_it() {
        let (busy, idle) = (at(100, 90), at(3, 0));
        assert_eq!(start(None, &[busy, idle], &Startup::Earliest), offset(90));
        assert_eq!(
            start(Some(95), &[busy, idle], &Startup::Earliest),
            offset(95)
        );
        // Every destination is complete below the lowest `next`.
        assert_eq!(
            start(None, &[busy, at(98, 0)], &Startup::Earliest),
            offset(98)
        );
    }

    #[test]
    fn a_destination_that_knows_nothing_yet_is_served_from_the_floor() {
        let fresh = Progress::default();
        assert_eq!(
            start(None, &[at(100, 90), fresh], &Startup::Earliest),
            offset(90)
        );
        let without_floor = Progress {
            floor: None,
            ..at(100, 0)
        };
        assert_eq!(
            start(None, &[without_floor, fresh], &Startup::Earliest),
            offset(100)
        );
    }

    #[test]
    fn what_must_be_read_again_beats_every_floor() {
        let lost = Progress {
            reread: true,
            ..at(10, 10)
        };
        assert_eq!(
            start(Some(500), &[at(100, 90), lost], &Startup::Latest),
            offset(10)
        );
        assert_eq!(start(Some(500), &[lost], &Startup::Latest), offset(10));
    }

    #[test]
    fn a_topic_made_anew_is_read_from_its_start_whatever_was_wished_for_its_forerunner() {
        let anew = Progress {
            anew: true,
            ..Progress::default()
        };
        for startup in [
            Startup::Latest,
            Startup::GroupOffsets,
            Startup::Timestamp(5),
        ] {
            assert_eq!(start(Some(9), &[anew], &startup), StartAt::Earliest);
        }
        let begun = Progress {
            anew: true,
            ..at(4, 4)
        };
        assert_eq!(start(Some(9), &[begun], &Startup::Latest), offset(4));
    }

    #[test]
    fn a_partition_that_no_destination_knows_follows_the_wish_for_the_start() {
        let fresh = [Progress::default()];
        let named = Startup::Offsets(BTreeMap::from([(tp(), 42)]));
        let others = Startup::Offsets(BTreeMap::new());
        let rows = [
            (Startup::Earliest, None, StartAt::Earliest),
            (Startup::Earliest, Some(9), StartAt::Earliest),
            (Startup::Latest, None, StartAt::Latest),
            (Startup::Latest, Some(9), offset(9)),
            (Startup::GroupOffsets, None, StartAt::Earliest),
            (Startup::GroupOffsets, Some(9), offset(9)),
            (Startup::Timestamp(5), Some(9), StartAt::Timestamp(5)),
            (named, Some(9), offset(42)),
            (others, Some(9), StartAt::Earliest),
        ];
        for (startup, group, wanted) in rows {
            assert_eq!(start(group, &fresh, &startup), wanted, "{startup:?}");
        }
    }
}
