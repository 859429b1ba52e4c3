//! Topic against destination: what is missing, what is there too often, and what cannot be told. Pure.

use std::collections::{BTreeMap, BTreeSet};

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
    pub(super) missing: Offsets,
    pub(super) duplicated: Offsets,
    /// Rows that the topic does not account for; those below the log's start are not counted.
    pub(super) unexpected: Offsets,
    /// Rows that do not say what their record says.
    pub(super) different: Offsets,
    /// The columns in which they do not.
    pub(super) columns: BTreeMap<String, Offsets>,
    /// Values by column and why they could not be compared.
    pub(super) uncompared: BTreeMap<(String, String), u64>,
    /// Rows of an earlier topic of this name.
    pub(super) earlier: u64,
    /// Rows of this topic or of an earlier one, beyond those that are missed elsewhere.
    pub(super) either: u64,
}

/// How many, and the lowest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    count: u64,
    named: BTreeSet<i64>,
}

impl Offsets {
    pub(super) fn add(&mut self, offset: i64) {
        self.count += 1;
        self.named.insert(offset);
        if self.named.len() > NAMED {
            self.named.pop_last();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn text(&self) -> String {
        let named: Vec<_> = self.named.iter().map(ToString::to_string).collect();
        let more = if self.count > self.named.len() as u64 {
            ", …"
        } else {
            ""
        };
        format!("offsets {}{more}", named.join(", "))
    }
}

impl Lane {
    pub(super) fn new(witness: Witness, log_start: i64, next: i64) -> Self {
        Self {
            witness,
            log_start,
            next,
            ..Self::default()
        }
    }

    pub(super) fn differs(&mut self, column: &str, offset: i64) {
        match self.columns.get_mut(column) {
            Some(offsets) => offsets.add(offset),
            None => self
                .columns
                .entry(column.to_owned())
                .or_default()
                .add(offset),
        }
    }

    pub(super) fn not_compared(&mut self, column: &str, why: String) {
        *self.uncompared.entry((column.to_owned(), why)).or_default() += 1;
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
    /// Whether values were compared, not offsets or counts only.
    pub(crate) by_value: bool,
    /// Rows found beyond or short of the topic's, where only totals are known.
    pub(crate) total_difference: Option<i64>,
    /// (partition, files, rows), largest first.
    pub(crate) largest: Vec<(String, usize, u64)>,
}

impl Report {
    pub(crate) fn missing(&self) -> u64 {
        let by_total = self.total_difference.map_or(0, |d| (-d).max(0) as u64);
        self.sum(|lane| lane.missing.count) + by_total
    }

    pub(crate) fn duplicated(&self) -> u64 {
        let by_total = self.total_difference.map_or(0, |d| d.max(0) as u64);
        self.sum(|lane| lane.duplicated.count + lane.unexpected.count) + by_total
    }

    /// Rows whose values are not their record's.
    pub(crate) fn different(&self) -> u64 {
        self.sum(|lane| lane.different.count)
    }

    /// Topic-partitions whose ledger is ahead of the log.
    fn ahead(&self) -> usize {
        let ahead = |lane: &&Lane| matches!(lane.witness, Witness::Shorter(_));
        self.lanes.values().filter(ahead).count()
    }

    fn sum(&self, count: impl Fn(&Lane) -> u64) -> u64 {
        self.lanes.values().map(count).sum()
    }

    pub(crate) fn whole(&self) -> bool {
        self.missing() == 0 && self.duplicated() == 0 && self.different() == 0 && self.ahead() == 0
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
        match (self.by_value, self.different()) {
            (true, different) => verdict += &format!(", {different} with other values"),
            (false, _) => verdict += ", values not compared",
        }
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
            ("with other values", &self.different),
        ] {
            if !offsets.is_empty() {
                println!("    {} {what}: {}", offsets.count, offsets.text());
            }
        }
        for (column, offsets) in &self.columns {
            let (count, text) = (offsets.count, offsets.text());
            println!("      column {column} in {count} rows: {text}");
        }
        for ((column, why), values) in &self.uncompared {
            println!("    {values} values of column {column} not compared: {why}");
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

    #[test]
    fn a_ledger_ahead_of_its_log_is_not_whole() {
        let lane = Lane::new(Witness::Shorter(5), 0, 9);
        let lanes = BTreeMap::from([(TopicPartition::new("orders", 0), lane)]);
        let report = Report {
            lanes,
            ..Report::default()
        };
        assert!(!report.whole());
    }

    #[test]
    fn the_lowest_offsets_are_named_and_all_are_counted() {
        let mut offsets = Offsets::default();
        for offset in (0..25).rev() {
            offsets.add(offset);
        }
        assert_eq!(offsets.count, 25);
        assert_eq!(offsets.text(), "offsets 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …");
    }
}
