//! Topic against destination: what is missing, what is there too often, and what cannot be told. Pure.

use std::collections::BTreeMap;

use crate::plan::SinkId;
use crate::record::TopicPartition;

/// Offsets named in the output, per topic-partition and kind.
const NAMED: usize = 10;

/// What the topic can say of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Witness {
    /// All that it still holds.
    #[default]
    Log,
    /// Nothing: it ends here, below the ledger. It was recreated or cut, and the sink has not gone on from that.
    Shorter(i64),
    /// Nothing: the topic has no such partition.
    Gone,
}

/// One topic-partition compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    pub(super) witness: Witness,
    pub(super) log_start: i64,
    pub(super) next: i64,
    /// Rows that the topic says there must be.
    pub(super) expected: u64,
    /// Rows of this topic found; `None` where the files do not tell which topic-partition a row is of.
    pub(super) found: Option<u64>,
    pub(super) missing: Vec<i64>,
    pub(super) duplicated: Vec<i64>,
    /// Rows that the topic does not account for; those below the log's start are not counted.
    pub(super) unexpected: Vec<i64>,
    /// Rows of an earlier topic of this name.
    pub(super) earlier: u64,
    /// Rows of this topic or of an earlier one, beyond those that are missed elsewhere.
    pub(super) either: u64,
}

/// Offsets of the rows found of one topic-partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) current: Vec<i64>,
    pub(super) either: Vec<i64>,
    pub(super) earlier: u64,
}

impl Lane {
    /// `wanted` is ascending, without repeats. A row that may be of this topic or of an earlier one stands for a
    /// wanted one that is not found otherwise, and is never one too many.
    pub(super) fn compare(&mut self, wanted: &[i64], mut found: Found) {
        found.current.sort_unstable();
        found.either.sort_unstable();
        self.found = Some(found.current.len() as u64);
        self.earlier = found.earlier;
        self.either = found.either.len() as u64;
        let mut wanted = wanted.iter().copied().peekable();
        let mut missing = Vec::new();
        let mut last = None;
        for offset in found.current {
            if last == Some(offset) {
                self.duplicated.push(offset);
                continue;
            }
            last = Some(offset);
            while let Some(missed) = wanted.next_if(|next| *next < offset) {
                missing.push(missed);
            }
            // Below the log's start the topic cannot say.
            if wanted.next_if_eq(&offset).is_none() && offset >= self.log_start {
                self.unexpected.push(offset);
            }
        }
        missing.extend(wanted);
        missing.retain(|offset| found.either.binary_search(offset).is_err());
        self.missing = missing;
    }
}

/// A destination compared with its topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) lanes: BTreeMap<TopicPartition, Lane>,
    /// Directories or table partitions with files, files, rows.
    pub(crate) partitions: usize,
    pub(crate) files: usize,
    pub(crate) rows_found: u64,
    /// Records that do not decode: dead-lettered, or skipped by policy.
    pub(crate) rejected: u64,
    /// Rows found beyond or short of the topic's, where only totals are known.
    pub(crate) total_difference: Option<i64>,
    /// (partition, files, rows), largest first.
    pub(crate) largest: Vec<(String, usize, u64)>,
}

impl Report {
    pub(crate) fn missing(&self) -> u64 {
        let by_total = self.total_difference.map_or(0, |d| (-d).max(0) as u64);
        self.sum(|lane| lane.missing.len()) + by_total
    }

    pub(crate) fn duplicated(&self) -> u64 {
        let by_total = self.total_difference.map_or(0, |d| d.max(0) as u64);
        self.sum(|lane| lane.duplicated.len() + lane.unexpected.len()) + by_total
    }

    /// Topic-partitions whose ledger is ahead of the log.
    fn ahead(&self) -> usize {
        let ahead = |lane: &&Lane| matches!(lane.witness, Witness::Shorter(_));
        self.lanes.values().filter(ahead).count()
    }

    fn sum(&self, count: impl Fn(&Lane) -> usize) -> u64 {
        self.lanes.values().map(|lane| count(lane) as u64).sum()
    }

    pub(super) fn whole(&self) -> bool {
        self.missing() == 0 && self.duplicated() == 0 && self.ahead() == 0
    }

    pub(super) fn print(&self, sink: &SinkId) {
        let (files, rows) = (self.files, self.rows_found);
        println!(
            "{sink}: {files} files, {rows} rows, {} records rejected",
            self.rejected
        );
        for (tp, lane) in &self.lanes {
            lane.print(tp);
        }
        match self.total_difference {
            Some(difference) if difference != 0 => {
                println!("  rows found minus rows expected: {difference}");
            }
            _ => {}
        }
        let mut verdict = if self.whole() {
            "whole: "
        } else {
            "NOT whole: "
        }
        .to_owned();
        verdict += &format!(
            "{} missing, {} duplicated",
            self.missing(),
            self.duplicated()
        );
        if self.ahead() > 0 {
            let ahead = self.ahead();
            verdict += &format!(", {ahead} topic-partitions end below the ledger");
        }
        println!("{sink}: {verdict}");
    }
}

impl Lane {
    fn print(&self, tp: &TopicPartition) {
        let (start, next) = (self.log_start, self.next);
        match self.witness {
            Witness::Log => {
                let found = self.found.map(|found| found.to_string());
                let found = found.as_deref().unwrap_or("?");
                let expected = self.expected;
                println!("  {tp} [{start}, {next}): {expected} rows expected, {found} found");
            }
            Witness::Shorter(end) => println!(
                "  {tp} [{start}, {next}): the log ends at {end}: the topic was recreated or cut, nothing is compared"
            ),
            Witness::Gone => println!(
                "  {tp} [?, {next}): the topic has no such partition (any more), nothing is compared"
            ),
        }
        for (what, offsets) in [
            ("missing", &self.missing),
            ("duplicated", &self.duplicated),
            ("unexpected", &self.unexpected),
        ] {
            if !offsets.is_empty() {
                let named = offsets.iter().take(NAMED).map(ToString::to_string);
                let named: Vec<_> = named.collect();
                let more = if offsets.len() > NAMED { ", …" } else { "" };
                let (count, named) = (offsets.len(), named.join(", "));
                println!("    {count} {what}: offsets {named}{more}");
            }
        }
        if self.earlier > 0 {
            let rows = self.earlier;
            println!("    {rows} rows of an earlier topic of this name: not compared");
        }
        if self.either > 0 {
            let rows = self.either;
            println!(
                "    {rows} rows of this topic or an earlier one of its name (in files that another writer rewrote): \
                 taken for what would be missing, else not compared"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(wanted: &[i64], current: &[i64], either: &[i64], log_start: i64) -> Lane {
        let mut lane = Lane {
            log_start,
            ..Lane::default()
        };
        let found = Found {
            current: current.to_vec(),
            either: either.to_vec(),
            earlier: 0,
        };
        lane.compare(wanted, found);
        lane
    }

    fn is_whole(lane: &Lane) -> bool {
        lane.missing.is_empty() && lane.duplicated.is_empty() && lane.unexpected.is_empty()
    }

    #[test]
    fn each_offset_is_found_missing_duplicated_or_unexpected() {
        let lane = compared(&[0, 1, 2, 5, 6], &[6, 0, 2, 2, 3], &[], 0);
        assert_eq!(lane.missing, [1, 5]);
        assert_eq!(lane.duplicated, [2]);
        assert_eq!(lane.unexpected, [3]);
        assert!(is_whole(&compared(&[0, 1], &[1, 0], &[], 0)));
    }

    #[test]
    fn rows_older_than_the_log_are_not_held_against_the_destination() {
        assert!(is_whole(&compared(&[10, 11], &[8, 9, 10, 11], &[], 10)));
    }

    #[test]
    fn rows_that_may_be_of_an_earlier_topic_fill_holes_and_are_never_too_many() {
        assert!(is_whole(&compared(&[0, 1, 2], &[0], &[2, 1, 1, 0, 7], 0)));
        let lane = compared(&[0, 1, 2], &[0, 0], &[1], 0);
        assert_eq!((lane.missing, lane.duplicated), (vec![2], vec![0]));
    }

    #[test]
    fn a_ledger_ahead_of_its_log_is_not_whole() {
        let lane = Lane {
            witness: Witness::Shorter(5),
            next: 9,
            ..Lane::default()
        };
        let lanes = BTreeMap::from([(TopicPartition::new("orders", 0), lane)]);
        let report = Report {
            lanes,
            ..Report::default()
        };
        assert!(!report.whole());
    }
}
