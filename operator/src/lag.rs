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
    /// Where the pod that owns the partition reads next.
    pub position: Option<i64>,
}

impl Standing {
    /// Below it everything is in the destination, as far as anybody can tell. The destination's word is newer than the
    /// group's; a sink that starts at the log's start and never committed has all of it before it.
    fn committed(&self, from_start: bool) -> Option<i64> {
        let start = self.log_start?;
        let never = || from_start.then_some(start);
        Some(self.ledger.or(self.group).or_else(never)?.max(start))
    }

    /// Records that are not committed.
    pub fn records(&self, from_start: bool) -> Option<i64> {
        let (start, end) = (self.log_start?, self.log_end?);
        if start >= end {
            return Some(0);
        }
        // More than there is in the log: it is not the log that was committed.
        Some(end - self.committed(from_start)?).filter(|records| *records >= 0)
    }

    /// Of them, those that no pod has read.
    fn unread(&self, from_start: bool) -> Option<i64> {
        let records = self.records(from_start)?;
        match self.position {
            Some(position) => Some((self.log_end? - position).clamp(0, records)),
            None => Some(records),
        }
    }
}

/// Whether a partition that nobody committed in is read from the log's start.
pub fn from_start(startup: &Startup) -> bool {
    matches!(startup, Startup::Earliest | Startup::GroupOffsets)
}

/// The lag over all partitions of the topics. One that is not known makes the sums unknown.
pub fn lag(standings: &BTreeMap<TopicPartition, Standing>, from_start: bool) -> Lag {
    let over = |f: fn(&Standing, bool) -> Option<i64>| -> Option<Vec<i64>> {
        if standings.is_empty() {
            return None;
        }
        standings.values().map(|s| f(s, from_start)).collect()
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
    from_start: bool,
    at_most: usize,
) -> Vec<(TopicPartition, i64)> {
    let mut behind: Vec<_> = standings
        .iter()
        .filter_map(|(tp, standing)| {
            let records = standing
                .records(from_start)
                .filter(|records| *records > 0)?;
            Some((records, tp, standing.committed(from_start)?))
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
        assert_eq!(recreated.records(true), None);
        assert_eq!(lag(&BTreeMap::new(), true), Lag::default());
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
        assert_eq!(expired.records(true), Some(50));
        let emptied = Standing {
            group: Some(10),
            ..standing(150, 150)
        };
        assert_eq!(emptied.records(true), Some(0));
    }

    #[test]
    fn the_destinations_word_goes_before_the_groups() {
        let reset = Standing {
            group: Some(900),
            ledger: Some(400),
            ..standing(0, 1000)
        };
        assert_eq!(reset.records(true), Some(600));
    }

    #[test]
    fn a_sink_that_never_committed_is_behind_by_all_or_unknown() {
        let fresh = standing(5, 25);
        assert_eq!(fresh.records(from_start(&Startup::Earliest)), Some(20));
        assert_eq!(fresh.records(from_start(&Startup::Latest)), None);
        assert_eq!(lag(&all(&[fresh]), false).records, None);
        let empty = standing(0, 0);
        assert_eq!(lag(&all(&[empty]), false).records, Some(0));
    }

    #[test]
    fn one_unknown_partition_makes_the_sums_unknown_and_never_zero() {
        let known = Standing {
            group: Some(0),
            ..standing(0, 10)
        };
        let lag = lag(&all(&[known, Standing::default()]), true);
        assert_eq!(
            (lag.records, lag.unread, lag.max_partition),
            (None, None, None)
        );
        assert_eq!((lag.uncommitted, lag.seconds), (None, None));
        assert_eq!(lag.partitions, Some(2));
        assert_eq!(super::lag(&BTreeMap::new(), true).partitions, None);
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
        let lag = lag(&all(&[reading, idle]), true);
        assert_eq!(lag.records, Some(130));
        assert_eq!(lag.unread, Some(40 + 30));
        assert_eq!(lag.uncommitted, Some(60));
        assert_eq!(lag.max_partition, Some(100));
        // A position behind the ledger: the pod has just got the partition.
        let behind = Standing {
            position: Some(10),
            ..reading
        };
        assert_eq!(behind.unread(true), Some(100));
    }

    #[test]
    fn the_oldest_record_is_looked_for_where_most_waits() {
        let some = |group| Standing {
            group: Some(group),
            ..standing(0, 100)
        };
        let found = oldest(&all(&[some(90), some(100), some(20)]), true, 2);
        let tp = |n| TopicPartition::new("orders", n);
        assert_eq!(found, [(tp(2), 20), (tp(0), 90)]);
        assert_eq!(age([5_000, 2_500, -1], 10_000), Some(7));
        assert_eq!(age([20_000], 10_000), Some(0));
        assert_eq!(age([], 10_000), None);
        assert_eq!(lag(&all(&[some(100)]), true).seconds, Some(0));
    }
}
