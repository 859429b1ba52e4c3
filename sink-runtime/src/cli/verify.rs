//! `tidewater verify`: reads the topic again up to the ledger, decodes it as the sink does, and compares with what the
//! destination's files hold. Read-only. With metadata columns for partition and offset each offset is checked;
//! without them, row counts.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use self::held::Held;
use super::CliError;
use crate::plan::{Plan, Topics};
use crate::record::{Offset, TopicPartition};
use crate::source::Facts;

mod content;
mod held;
mod topic;

/// Offsets named in the output, per topic-partition and kind.
const NAMED: usize = 10;

/// One topic-partition compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub(super) log_start: i64,
    pub(super) next: i64,
    /// Rows that the topic says there must be.
    pub(super) expected: u64,
    /// Rows found; `None` where the files do not tell which topic-partition a row is of.
    pub(super) found: Option<u64>,
    pub(super) missing: Vec<i64>,
    pub(super) duplicated: Vec<i64>,
    /// Rows that the topic does not account for (of a recreated topic, or below the log's start are not counted).
    pub(super) unexpected: Vec<i64>,
}

/// A destination compared with its topics.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) lanes: BTreeMap<TopicPartition, Lane>,
    /// Directories or table partitions with files, files, rows.
    pub(super) partitions: usize,
    pub(super) files: usize,
    pub(super) rows_found: u64,
    /// Records that do not decode: dead-lettered, or skipped by policy.
    pub(super) rejected: u64,
    /// Rows found beyond or short of the topic's, where only totals are known.
    pub(super) total_difference: Option<i64>,
    /// (partition, files, rows), largest first.
    pub(super) largest: Vec<(String, usize, u64)>,
}

impl Report {
    pub(super) fn missing(&self) -> u64 {
        let by_total = self.total_difference.map_or(0, |d| (-d).max(0) as u64);
        self.lanes
            .values()
            .map(|lane| lane.missing.len() as u64)
            .sum::<u64>()
            + by_total
    }

    pub(super) fn duplicated(&self) -> u64 {
        let by_total = self.total_difference.map_or(0, |d| d.max(0) as u64);
        self.lanes
            .values()
            .map(|lane| (lane.duplicated.len() + lane.unexpected.len()) as u64)
            .sum::<u64>()
            + by_total
    }
}

pub(super) async fn verify(plans: Vec<Plan>) -> Result<ExitCode, CliError> {
    let mut whole = true;
    for plan in &plans {
        let report = check(plan).await?;
        whole &= report.missing() == 0 && report.duplicated() == 0;
        print(plan, &report);
    }
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(plan: &Plan, report: &Report) {
    println!(
        "{}: {} files, {} rows, {} records rejected",
        plan.sink, report.files, report.rows_found, report.rejected
    );
    for (tp, lane) in &report.lanes {
        let found = lane
            .found
            .map_or_else(|| "?".to_owned(), |found| found.to_string());
        println!(
            "  {tp} [{}, {}): {} rows expected, {found} found",
            lane.log_start, lane.next, lane.expected
        );
        for (what, offsets) in [
            ("missing", &lane.missing),
            ("duplicated", &lane.duplicated),
            ("unexpected", &lane.unexpected),
        ] {
            if !offsets.is_empty() {
                let named: Vec<_> = offsets
                    .iter()
                    .take(NAMED)
                    .map(ToString::to_string)
                    .collect();
                let more = if offsets.len() > NAMED { ", …" } else { "" };
                println!(
                    "    {} {what}: offsets {}{more}",
                    offsets.len(),
                    named.join(", ")
                );
            }
        }
    }
    match report.total_difference {
        Some(difference) if difference != 0 => {
            println!("  rows found minus rows expected: {difference}")
        }
        _ => {}
    }
    let verdict = match (report.missing(), report.duplicated()) {
        (0, 0) => "whole: 0 missing, 0 duplicated".to_owned(),
        (missing, duplicated) => format!("NOT whole: {missing} missing, {duplicated} duplicated"),
    };
    println!("{}: {verdict}", plan.sink);
}

/// Compares one plan's destination with its topics.
pub(super) async fn check(plan: &Plan) -> Result<Report, CliError> {
    let held = Held::open(plan).await?;
    let ledger = held.ledger().await?;
    let expected = {
        let (plan, ledger) = (Arc::new(plan.clone()), ledger.clone());
        let columns = held.columns().await?;
        let read =
            tokio::task::spawn_blocking(move || topic::expected(&plan, &ledger, columns.as_ref()));
        read.await
            .map_err(|error| CliError(format!("read the topic: {error}")))??
    };
    let mut report = Report {
        rejected: expected.rejected,
        ..Report::default()
    };
    let mut found: BTreeMap<TopicPartition, Vec<i64>> = BTreeMap::new();
    let mut counted: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    let mut partitions: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for file in held.files().await? {
        let content = file.read(plan).await?;
        report.files += 1;
        report.rows_found += content.rows;
        let partition = partitions.entry(file.partition.clone()).or_default();
        partition.0 += 1;
        partition.1 += content.rows;
        if let Some(tp) = &file.tp {
            *counted.entry(tp.clone()).or_default() += content.rows;
        }
        for (tp, mut offsets) in content.offsets {
            found.entry(tp).or_default().append(&mut offsets);
        }
    }
    report.partitions = partitions.len();
    report.largest = partitions
        .into_iter()
        .map(|(name, (files, rows))| (name, files, rows))
        .collect();
    report
        .largest
        .sort_by_key(|(_, _, rows)| std::cmp::Reverse(*rows));
    let by_offset = content::has_offsets(plan);
    let by_lane = !by_offset && held.is_dataset();
    for (tp, wanted) in expected.lanes {
        let mut lane = Lane {
            log_start: wanted.log_start,
            next: wanted.next,
            expected: wanted.offsets.len() as u64,
            ..Lane::default()
        };
        if by_offset {
            compare(
                &mut lane,
                &wanted.offsets,
                found.remove(&tp).unwrap_or_default(),
            );
        } else if by_lane {
            lane.found = Some(counted.get(&tp).copied().unwrap_or(0));
        }
        report.lanes.insert(tp, lane);
    }
    // A topic-partition of which the ledger knows nothing must have no rows.
    for (tp, offsets) in found {
        report.lanes.insert(
            tp,
            Lane {
                found: Some(offsets.len() as u64),
                unexpected: offsets,
                ..Lane::default()
            },
        );
    }
    // Where retention has removed records, their rows cannot be counted against the topic.
    if !by_offset && report.lanes.values().all(|lane| lane.log_start == 0) {
        let expected: u64 = report.lanes.values().map(|lane| lane.expected).sum();
        report.total_difference = Some(report.rows_found as i64 - expected as i64);
    }
    Ok(report)
}

/// Both ascending after this; `wanted` has no repeats.
fn compare(lane: &mut Lane, wanted: &[i64], mut found: Vec<i64>) {
    found.sort_unstable();
    lane.found = Some(found.len() as u64);
    let mut wanted = wanted.iter().copied().peekable();
    let mut last = None;
    for offset in found {
        if last == Some(offset) {
            lane.duplicated.push(offset);
            continue;
        }
        last = Some(offset);
        while let Some(missing) = wanted.next_if(|next| *next < offset) {
            lane.missing.push(missing);
        }
        // Below the log's start the topic cannot say.
        if wanted.next_if_eq(&offset).is_none() && offset >= lane.log_start {
            lane.unexpected.push(offset);
        }
    }
    lane.missing.extend(wanted);
}

/// Records that the ledger has passed, over all partitions.
pub(super) async fn committed(plan: &Plan) -> Result<i64, CliError> {
    let held = Held::open(plan).await?;
    Ok(held.ledger().await?.values().map(|next| next.0).sum())
}

/// The first rows of the first file, as JSON lines.
pub(super) async fn sample(plan: &Plan, rows: usize) -> Result<String, CliError> {
    let held = Held::open(plan).await?;
    match held.files().await?.first() {
        Some(file) => file.sample(rows).await,
        None => Ok(String::new()),
    }
}

/// Ledger and log of each topic-partition: `(next, log start, log end)`.
pub(super) type Standing = BTreeMap<TopicPartition, (Option<Offset>, Option<(Offset, Offset)>)>;

pub(super) async fn standing(plan: &Plan) -> Result<Standing, CliError> {
    let ledger = Held::open(plan).await?.ledger().await?;
    let source = plan.source.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let facts = Facts::connect(&source, std::time::Duration::from_secs(10))?;
        let tps = topic_partitions(&facts, &source.topics)?;
        let watermarks = facts.watermarks(&tps)?;
        Ok::<_, crate::source::SourceError>(tps.into_iter().zip(watermarks).collect::<Vec<_>>())
    });
    let asked = asked
        .await
        .map_err(|error| CliError(format!("ask the brokers: {error}")))??;
    Ok(asked
        .into_iter()
        .map(|(tp, marks)| (tp.clone(), (ledger.get(&tp).copied(), marks)))
        .collect())
}

fn topic_partitions(
    facts: &Facts,
    topics: &Topics,
) -> Result<Vec<TopicPartition>, crate::source::SourceError> {
    let mut tps = Vec::new();
    let mut add = |topic: &crate::record::TopicName, partitions: Vec<i32>| {
        tps.extend(partitions.into_iter().map(|partition| TopicPartition {
            topic: topic.clone(),
            partition,
        }));
    };
    match topics {
        Topics::List(topics) => {
            for topic in topics {
                add(topic, facts.partitions(topic)?);
            }
        }
        Topics::Pattern(pattern) => {
            for (topic, partitions) in facts.matching_topics(pattern)? {
                add(&topic, partitions);
            }
        }
    }
    Ok(tps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(wanted: &[i64], found: &[i64]) -> Lane {
        let mut lane = Lane::default();
        compare(&mut lane, wanted, found.to_vec());
        lane
    }

    #[test]
    fn each_offset_is_found_missing_duplicated_or_unexpected() {
        let lane = compared(&[0, 1, 2, 5, 6], &[6, 0, 2, 2, 3]);
        assert_eq!(lane.missing, [1, 5]);
        assert_eq!(lane.duplicated, [2]);
        assert_eq!(lane.unexpected, [3]);
        let lane = compared(&[0, 1], &[1, 0]);
        assert!(
            lane.missing.is_empty() && lane.duplicated.is_empty() && lane.unexpected.is_empty()
        );
    }

    #[test]
    fn rows_older_than_the_log_are_not_held_against_the_destination() {
        let mut lane = Lane {
            log_start: 10,
            ..Lane::default()
        };
        compare(&mut lane, &[10, 11], vec![8, 9, 10, 11]);
        assert!(lane.unexpected.is_empty() && lane.missing.is_empty());
    }
}
