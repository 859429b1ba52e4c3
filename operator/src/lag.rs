//! How far a sink is behind, as the brokers and its pods tell it. Pure arithmetic; `observer` asks. What is unknown is
//! `None`, never 0.

use std::collections::BTreeMap;

use tidewater_runtime::plan::Startup;
use tidewater_runtime::record::TopicPartition;

use crate::conditions::Trouble;

pub mod observer;
mod schedule;

/// The lag of one sink over all its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records below the end of the topics that are not committed.
    pub records: Option<i64>,
    /// Of them, those that no pod has read.
    pub unread: Option<i64>,
    /// Of them, those in open files.
    pub uncommitted: Option<i64>,
    /// Age of the oldest record that is not committed.
    pub seconds: Option<i64>,
    /// The largest lag of one partition.
    pub max_partition: Option<i64>,
    /// Partitions of all the topics.
    pub partitions: Option<u32>,
}

/// One look at the brokers.
pub type Look = Result<Lag, Trouble>;

/// What is known of one topic-partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// First offset in the log.
    pub log_start: Option<i64>,
    /// Behind the last record that the sink's isolation level lets it see.
    pub log_end: Option<i64>,
    /// The consumer group's offset: it follows the commits.
    pub group: Option<i64>,
    /// The destination's own word, as a pod tells it.
    pub ledger: Option<i64>,
    /// Where a pod began to read, as it tells while the destination knows nothing.
    pub began: Option<i64>,
    /// Where the sink would begin, by its spec alone.
    pub first: Option<i64>,
    /// Where the pod that owns the partition reads next.
    pub position: Option<i64>,
}

impl Standing {
    /// Below it everything is in the destination, as far as anybody can tell. The destination's word is newer than the
    /// group's, and a pod that began elsewhere does not heed the group; a sink that never committed has all before it
    /// from where it begins.
    fn committed(&self) -> Option<i64> {
        let word = self.ledger.or(self.began).or(self.group).or(self.first)?;
        Some(word.max(self.log_start?))
    }

    /// Records that are not committed.
    pub fn records(&self) -> Option<i64> {
        let (start, end) = (self.log_start?, self.log_end?);
        if start >= end {
            return Some(0);
        }
        // More than there is in the log: it is not the log that was committed.
        Some(end - self.committed()?).filter(|records| *records >= 0)
    }

    /// Of them, those that no pod has read.
    fn unread(&self) -> Option<i64> {
        let records = self.records()?;
        match self.position {
            Some(position) => Some((self.log_end? - position).clamp(0, records)),
            None => Some(records),
        }
    }
}

/// Where a partition is read from in which nobody committed. Where that hangs on when the sink was first started, only a
/// pod can tell.
pub fn first(startup: &Startup, tp: &TopicPartition, log_start: i64) -> Option<i64> {
    match startup {
        Startup::Earliest | Startup::GroupOffsets => Some(log_start),
        Startup::Offsets(offsets) => Some(offsets.get(tp).copied().unwrap_or(log_start)),
        Startup::Latest | Startup::Timestamp(_) => None,
    }
}

/// The lag over all partitions of the topics. One that is not known makes the sums unknown.
pub fn lag(standings: &BTreeMap<TopicPartition, Standing>) -> Lag {
    let over = |f: fn(&Standing) -> Option<i64>| -> Option<Vec<i64>> {
        if standings.is_empty() {
            return None;
        }
        standings.values().map(f).collect()
    };
    let (records, unread) = (over(Standing::records), over(Standing::unread));
    let sum = |values: &Option<Vec<i64>>| values.as_ref().map(|v| v.iter().sum::<i64>());
    let (total, behind) = (sum(&records), sum(&unread));
    Lag {
        records: total,
        unread: behind,
        uncommitted: total.zip(behind).map(|(total, behind)| total - behind),
        seconds: (total == Some(0)).then_some(0),
        max_partition: records.and_then(|records| records.into_iter().max()),
        partitions: u32::try_from(standings.len()).ok().filter(|n| *n > 0),
    }
}

/// The partitions whose first record that is not committed may be the oldest, the furthest behind first, and its offset.
pub fn oldest(
    standings: &BTreeMap<TopicPartition, Standing>,
    at_most: usize,
) -> Vec<(TopicPartition, i64)> {
    let mut behind: Vec<_> = standings
        .iter()
        .filter_map(|(tp, standing)| {
            let records = standing.records().filter(|records| *records > 0)?;
            Some((records, tp, standing.committed()?))
        })
        .collect();
    behind.sort_by_key(|(records, ..)| std::cmp::Reverse(*records));
    behind
        .into_iter()
        .take(at_most)
        .map(|(_, tp, next)| (tp.clone(), next))
        .collect()
}

/// Age in whole seconds of the oldest of those times, milliseconds since the epoch; `None` when none is known.
pub fn age(timestamps: impl IntoIterator<Item = i64>, now_millis: i64) -> Option<i64> {
    let oldest = timestamps.into_iter().filter(|at| *at >= 0).min()?;
    Some((now_millis - oldest).max(0) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(start: i64, end: i64) -> Standing {
        Standing {
            log_start: Some(start),
            log_end: Some(end),
            ..Standing::default()
        }
    }

    #[test]
    fn more_committed_than_there_is_and_topics_that_are_not_seen_are_no_lag_of_zero() {
        // A topic that was made anew, or cut: its records have yet to be read.
        let recreated = Standing {
            group: Some(900),
            ..standing(0, 10)
        };
        assert_eq!(recreated.records(), None);
        assert_eq!(lag(&BTreeMap::new()), Lag::default());
    }

    fn all(standings: &[Standing]) -> BTreeMap<TopicPartition, Standing> {
        let numbered = standings.iter().zip(0..);
        numbered
            .map(|(standing, n)| (TopicPartition::new("orders", n), *standing))
            .collect()
    }

    #[test]
    fn what_retention_removed_is_not_behind_anybody() {
        let expired = Standing {
            group: Some(10),
            ..standing(100, 150)
        };
        assert_eq!(expired.records(), Some(50));
        let emptied = Standing {
            group: Some(10),
            ..standing(150, 150)
        };
        assert_eq!(emptied.records(), Some(0));
    }

    #[test]
    fn the_destinations_word_goes_before_the_groups() {
        let reset = Standing {
            group: Some(900),
            ledger: Some(400),
            ..standing(0, 1000)
        };
        assert_eq!(reset.records(), Some(600));
    }

    #[test]
    fn a_partition_without_a_commit_is_behind_from_where_the_sink_begins_or_unknown() {
        let tp = |n| TopicPartition::new("orders", n);
        let fresh = |startup: &Startup, n| Standing {
            first: first(startup, &tp(n), 5),
            ..standing(5, 25)
        };
        let listed = Startup::Offsets(BTreeMap::from([(tp(0), 15), (tp(1), 30), (tp(2), 1)]));
        for (startup, n, records) in [
            (&Startup::Earliest, 0, Some(20)),
            (&Startup::GroupOffsets, 0, Some(20)),
            (&listed, 0, Some(10)),
            // Beyond the end: the sink stops there.
            (&listed, 1, None),
            (&listed, 2, Some(20)),
            (&listed, 3, Some(20)),
            (&Startup::Latest, 0, None),
            (&Startup::Timestamp(0), 0, None),
        ] {
            let fresh = fresh(startup, n);
            assert_eq!(fresh.records(), records, "{startup:?} {n}");
            assert_eq!(lag(&all(&[fresh])).records, records, "{startup:?} {n}");
            // A pod that reads it says where it began.
            let begun = Standing {
                began: Some(20),
                ..fresh
            };
            assert_eq!(begun.records(), Some(5), "{startup:?} {n}");
        }
        assert_eq!(lag(&all(&[standing(0, 0)])).records, Some(0));
    }

    #[test]
    fn an_offset_that_another_consumer_left_hides_no_record_that_a_pod_reads() {
        let others = Standing {
            group: Some(24),
            ..standing(5, 25)
        };
        let begun = Standing {
            began: Some(5),
            position: Some(10),
            ..others
        };
        assert_eq!((begun.records(), begun.unread()), (Some(20), Some(15)));
        let committed = Standing {
            ledger: Some(8),
            ..begun
        };
        assert_eq!(committed.records(), Some(17));
    }

    #[test]
    fn one_unknown_partition_makes_the_sums_unknown_and_never_zero() {
        let known = Standing {
            group: Some(0),
            ..standing(0, 10)
        };
        let lag = lag(&all(&[known, Standing::default()]));
        assert_eq!(
            (lag.records, lag.unread, lag.max_partition),
            (None, None, None)
        );
        assert_eq!((lag.uncommitted, lag.seconds), (None, None));
        assert_eq!(lag.partitions, Some(2));
        assert_eq!(super::lag(&BTreeMap::new()).partitions, None);
    }

    #[test]
    fn what_a_pod_has_read_is_uncommitted_and_not_unread() {
        let reading = Standing {
            ledger: Some(100),
            position: Some(160),
            ..standing(0, 200)
        };
        let idle = Standing {
            group: Some(50),
            ..standing(0, 80)
        };
        let lag = lag(&all(&[reading, idle]));
        assert_eq!(lag.records, Some(130));
        assert_eq!(lag.unread, Some(40 + 30));
        assert_eq!(lag.uncommitted, Some(60));
        assert_eq!(lag.max_partition, Some(100));
        // A position behind the ledger: the pod has just got the partition.
        let behind = Standing {
            position: Some(10),
            ..reading
        };
        assert_eq!(behind.unread(), Some(100));
    }

    #[test]
    fn the_oldest_record_is_looked_for_where_most_waits() {
        let some = |group| Standing {
            group: Some(group),
            ..standing(0, 100)
        };
        let found = oldest(&all(&[some(90), some(100), some(20)]), 2);
        let tp = |n| TopicPartition::new("orders", n);
        assert_eq!(found, [(tp(2), 20), (tp(0), 90)]);
        assert_eq!(age([5_000, 2_500, -1], 10_000), Some(7));
        assert_eq!(age([20_000], 10_000), Some(0));
        assert_eq!(age([], 10_000), None);
        assert_eq!(lag(&all(&[some(100)])).seconds, Some(0));
    }
}
