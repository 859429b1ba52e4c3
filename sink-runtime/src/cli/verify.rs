//! `tidewater verify`: reads the topic again up to the ledger, decodes it as the sink does, and compares with what the
//! destination's files hold. Read-only. With metadata columns for partition and offset each offset is checked;
//! without them, row counts. Rows of a topic that was recreated since are told apart and not compared: nothing is left
//! to compare them with.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use self::held::{Age, Held, HeldFile};
use self::report::{Found, Lane, Witness};
use super::CliError;
use crate::plan::{Plan, Topics};
use crate::record::{Offset, TopicPartition};
use crate::source::Facts;

mod content;
mod folders;
mod held;
mod report;
mod topic;

pub(super) use self::report::Report;

pub(super) async fn verify(plans: Vec<Plan>) -> Result<ExitCode, CliError> {
    let mut whole = true;
    for plan in &plans {
        let report = check(plan).await?;
        whole &= report.whole();
        report.print(&plan.sink);
    }
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Compares one plan's destination with its topics.
pub(super) async fn check(plan: &Plan) -> Result<Report, CliError> {
    let held = Held::open(plan).await?;
    let ledger = held.ledger().await?;
    let expected = {
        let (plan, next) = (Arc::new(plan.clone()), ledger.next.clone());
        let columns = held.columns().await?;
        let read =
            tokio::task::spawn_blocking(move || topic::expected(&plan, &next, columns.as_ref()));
        read.await
            .map_err(|error| CliError(format!("read the topic: {error}")))??
    };
    let mut report = Report {
        rejected: expected.rejected,
        ..Report::default()
    };
    let by_offset = content::has_offsets(plan);
    let mut found: BTreeMap<TopicPartition, Found> = BTreeMap::new();
    let mut counted = Counted::default();
    let mut partitions: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for file in held.files().await? {
        let content = file.read(plan).await?;
        report.files += 1;
        report.rows_found += content.rows;
        let partition = partitions.entry(file.partition.clone()).or_default();
        partition.0 += 1;
        partition.1 += content.rows;
        let ours = held.is_dataset() || content.sink.as_deref() == Some(plan.sink.0.as_str());
        if !by_offset {
            let age = match &file.tp {
                Some(tp) => ledger.age(tp, &file, ours),
                None => ledger.age_of_any(content::only_topic(plan), &file, ours),
            };
            counted.add(&file, content.rows, age);
        }
        for (tp, mut offsets) in content.offsets {
            let age = ledger.age(&tp, &file, ours);
            let found = found.entry(tp).or_default();
            match age {
                Age::Current => found.current.append(&mut offsets),
                Age::Earlier => found.earlier += offsets.len() as u64,
                Age::Unknown => found.either.append(&mut offsets),
            }
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
    for (tp, wanted) in expected.lanes {
        let mut lane = Lane {
            witness: wanted.witness,
            log_start: wanted.log_start,
            next: wanted.next,
            expected: wanted.offsets.len() as u64,
            ..Lane::default()
        };
        let found = found.remove(&tp).unwrap_or_default();
        if by_offset && lane.witness == Witness::Log {
            lane.compare(&wanted.offsets, found);
        } else if !by_offset && held.is_dataset() {
            let (current, earlier) = counted.lanes.remove(&tp).unwrap_or_default();
            (lane.found, lane.earlier) = (Some(current), earlier);
        }
        report.lanes.insert(tp, lane);
    }
    // A topic-partition of which the ledger knows nothing must have no rows, but for those of an earlier topic.
    for (tp, found) in found {
        let mut lane = Lane::default();
        lane.compare(&[], found);
        report.lanes.insert(tp, lane);
    }
    // Where retention has removed records, their rows cannot be counted against the topic.
    let complete = |lane: &Lane| lane.witness == Witness::Log && lane.log_start == 0;
    if !by_offset && !counted.unknown && report.lanes.values().all(complete) {
        let expected: u64 = report.lanes.values().map(|lane| lane.expected).sum();
        report.total_difference = Some(counted.current as i64 - expected as i64);
    }
    Ok(report)
}

/// Rows of files that do not carry their offsets.
#[derive(Default)]
struct Counted {
    current: u64,
    /// Some may be of an earlier topic.
    unknown: bool,
    /// Rows of the present topic, and of earlier ones.
    lanes: BTreeMap<TopicPartition, (u64, u64)>,
}

impl Counted {
    fn add(&mut self, file: &HeldFile, rows: u64, age: Age) {
        let tp = file.tp.as_ref();
        let lane = tp.map(|tp| self.lanes.entry(tp.clone()).or_default());
        match age {
            Age::Current => {
                self.current += rows;
                if let Some(lane) = lane {
                    lane.0 += rows;
                }
            }
            Age::Earlier => {
                if let Some(lane) = lane {
                    lane.1 += rows;
                }
            }
            Age::Unknown => self.unknown = true,
        }
    }
}

/// Records that the ledger has passed, over all partitions.
pub(super) async fn committed(plan: &Plan) -> Result<i64, CliError> {
    let held = Held::open(plan).await?;
    Ok(held.ledger().await?.next.values().map(|next| next.0).sum())
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
    let ledger = Held::open(plan).await?.ledger().await?.next;
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
                add(&topic, partitions?);
            }
        }
    }
    Ok(tps)
}
