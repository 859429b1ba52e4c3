//! `tidewater verify`: reads the topic again up to the ledger, decodes it as the sink does, and compares with what the
//! destination's files hold. Read-only. With metadata columns for partition and offset each offset is checked, and each
//! value in the column of its name; without them, row counts. Rows of a topic that was recreated since are told apart and
//! not compared: nothing is left to compare them with.
//!
//! Values are compared as hashes of 32 bits. Long topics go in slices of offsets, so that memory is bounded; a file is
//! read once, and once more for each further slice that it has rows of.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;

use self::content::{Content, Reading, Stretch};
use self::held::{Age, Held, HeldFile, Ledger};
use self::report::{Lane, Witness};
use self::slices::Slices;
use self::topic::Reader;
use self::wanted::{Rows, Wanted};
use super::CliError;
use crate::plan::{Plan, Topics, ValueSchema};
use crate::record::{Offset, TopicPartition};
use crate::schema::{Field, Schema, Type};
use crate::source::Facts;

mod cells;
mod content;
mod folders;
mod held;
mod report;
mod slices;
mod topic;
mod wanted;

pub(super) use self::report::Report;

/// Columns that memory is reckoned with where nobody knows them yet.
const FOUND_COLUMNS: usize = 64;

pub(super) async fn verify(plans: Vec<Plan>, offsets_only: bool) -> Result<ExitCode, CliError> {
    let mut whole = true;
    for plan in &plans {
        let report = check(plan, !offsets_only).await?;
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
pub(super) async fn check(plan: &Plan, values: bool) -> Result<Report, CliError> {
    let plan = Arc::new(plan.clone());
    let held = Held::open(&plan).await?;
    let ledger = held.ledger().await?;
    let by_offset = content::has_offsets(&plan);
    let values = values && by_offset;
    let columns = held.columns().await?;
    let files = held.files().await?;
    let mut comparison = Comparison {
        reading: Reading {
            plan: Arc::clone(&plan),
            values,
            names: held.names().await?,
        },
        slices: Slices::of(
            &ledger.next,
            if values {
                width(&plan, columns.as_deref().map(|known| &known.columns))
            } else {
                0
            },
        ),
        is_dataset: held.is_dataset(),
        ledger,
        by_offset,
        report: Report {
            by_value: values,
            ..Report::default()
        },
        counted: Counted::default(),
        partitions: BTreeMap::new(),
        held: vec![None; files.len()],
    };
    let next = comparison.ledger.next.clone();
    let (mut reader, lanes) = blocking(move || {
        let reader = Reader::new(&plan, columns, values)?;
        let lanes = reader.lanes(&next)?;
        Ok((reader, lanes))
    })
    .await?;
    comparison.report.lanes = lanes;
    for slice in comparison.slices.all() {
        let asked = comparison.asked(slice);
        let (given_back, mut wanted) = blocking(move || {
            let mut wanted = BTreeMap::new();
            for (tp, offsets) in asked {
                let read = reader.read(&tp, offsets)?;
                wanted.insert(tp, read);
            }
            Ok((reader, wanted))
        })
        .await?;
        reader = given_back;
        for (at, file) in files.iter().enumerate() {
            comparison.read(at, file, slice, &mut wanted).await?;
        }
        for (tp, wanted) in wanted {
            wanted.settle(comparison.report.lanes.entry(tp).or_default());
        }
    }
    comparison.report.rejected = reader.rejected;
    Ok(comparison.told())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CliError(format!("read the topic: {error}")))?
}

/// Leaves of the columns, about.
fn width(plan: &Plan, table: Option<&Schema>) -> usize {
    fn leaves(fields: &[Field]) -> usize {
        let of = |field: &Field| match &field.ty {
            Type::Struct(fields) => leaves(fields),
            _ => 1,
        };
        fields.iter().map(of).sum()
    }
    match (table, &plan.decode.value) {
        (Some(schema), _) | (None, ValueSchema::Declared { schema, .. }) => {
            leaves(&schema.fields) + 3
        }
        (None, ValueSchema::Inferred { .. }) => FOUND_COLUMNS,
    }
}

/// One destination while it is compared.
struct Comparison {
    reading: Reading,
    slices: Slices,
    is_dataset: bool,
    ledger: Ledger,
    by_offset: bool,
    report: Report,
    counted: Counted,
    /// Files and rows of each directory or table partition.
    partitions: BTreeMap<String, (usize, u64)>,
    /// Of each file that has been read, the slices that it has rows of.
    held: Vec<Option<RangeInclusive<i64>>>,
}

impl Comparison {
    /// Offsets that this slice has to read of the topics.
    fn asked(&self, slice: i64) -> Vec<(TopicPartition, std::ops::Range<i64>)> {
        let lanes = self.report.lanes.iter();
        let asked = lanes.map(|(tp, lane)| {
            let offsets = self.slices.offsets(tp, slice);
            let read = match lane.witness {
                Witness::Log => offsets.start.max(lane.log_start)..offsets.end.min(lane.next),
                _ => 0..0,
            };
            (tp.clone(), read)
        });
        asked.collect()
    }

    async fn read(
        &mut self,
        at: usize,
        file: &HeldFile,
        slice: i64,
        wanted: &mut BTreeMap<TopicPartition, Wanted>,
    ) -> Result<(), CliError> {
        let first = match &self.held[at] {
            None if !self.slices.is_last(slice) && self.comes_later(file, slice) => return Ok(()),
            None => true,
            Some(slices) if slices.contains(&slice) => false,
            Some(_) => return Ok(()),
        };
        let mut met: BTreeSet<i64> = BTreeSet::new();
        let Self {
            reading,
            slices,
            ledger,
            report,
            is_dataset,
            ..
        } = &mut *self;
        let sink = reading.plan.sink.0.clone();
        let ours =
            |content: &Content| *is_dataset || content.sink.as_deref() == Some(sink.as_str());
        let mut each = |content: &Content, stretches: &[Stretch], cells: &[cells::Cells]| {
            for stretch in stretches {
                let tp = &stretch.tp;
                let age = ledger.age(tp, file, ours(content));
                let known = ledger.next.contains_key(tp);
                if known && first {
                    met.extend(slices.among(tp, &stretch.offsets));
                }
                // Of a topic-partition that the ledger does not know all is met when its file is read first.
                let range = match known {
                    true => slices.offsets(tp, slice),
                    false if first => i64::MIN..i64::MAX,
                    false => continue,
                };
                let lane = report.lanes.entry(tp.clone()).or_default();
                let wanted = wanted.entry(tp.clone()).or_default();
                for (from, offsets) in within(&stretch.offsets, &range) {
                    let rows = Rows {
                        offsets,
                        first: stretch.first + from,
                        cells,
                        age,
                    };
                    wanted.meet(&rows, lane);
                }
            }
        };
        let content = file.read(reading, &mut each).await?;
        if !first {
            return Ok(());
        }
        let (low, high) = (met.first().copied(), met.last().copied());
        self.held[at] = Some(low.unwrap_or(0)..=high.unwrap_or(-1));
        self.report.files += 1;
        self.report.rows_found += content.rows;
        let partition = self.partitions.entry(file.partition.clone()).or_default();
        partition.0 += 1;
        partition.1 += content.rows;
        if !self.by_offset {
            let ours = self.is_dataset
                || content.sink.as_deref() == Some(self.reading.plan.sink.0.as_str());
            let age = match &file.tp {
                Some(tp) => self.ledger.age(tp, file, ours),
                None => {
                    let only = content::only_topic(&self.reading.plan);
                    self.ledger.age_of_any(only, file, ours)
                }
            };
            self.counted.add(file, content.rows, age);
        }
        Ok(())
    }

    /// Whether a file that was not read yet begins after this slice: its name says where.
    fn comes_later(&self, file: &HeldFile, slice: i64) -> bool {
        let begins = file.tp.as_ref().zip(file.start);
        begins.is_some_and(|(tp, start)| {
            self.report.lanes.contains_key(tp) && start >= self.slices.offsets(tp, slice).end
        })
    }

    /// The whole report.
    fn told(self) -> Report {
        let Self {
            mut report,
            mut counted,
            partitions,
            by_offset,
            is_dataset,
            ..
        } = self;
        report.partitions = partitions.len();
        report.largest = partitions
            .into_iter()
            .map(|(name, (files, rows))| (name, files, rows))
            .collect();
        report
            .largest
            .sort_by_key(|(_, _, rows)| std::cmp::Reverse(*rows));
        for (tp, lane) in &mut report.lanes {
            if by_offset {
                if lane.witness == Witness::Log {
                    lane.found.get_or_insert(0);
                }
            } else if is_dataset {
                let (current, earlier) = counted.lanes.remove(tp).unwrap_or_default();
                (lane.found, lane.earlier) = (Some(current), earlier);
            }
        }
        // Where retention has removed records, their rows cannot be counted against the topic.
        let complete = |lane: &Lane| lane.witness == Witness::Log && lane.log_start == 0;
        if !by_offset && !counted.unknown && report.lanes.values().all(complete) {
            let expected: u64 = report.lanes.values().map(|lane| lane.expected).sum();
            report.total_difference = Some(counted.current as i64 - expected as i64);
        }
        report
    }
}

/// Those of the offsets that are in a range, as they stand side by side, with the place of the first.
fn within<'a>(
    offsets: &'a [i64],
    range: &'a std::ops::Range<i64>,
) -> impl Iterator<Item = (usize, &'a [i64])> {
    let mut at = 0;
    offsets
        .chunk_by(|a, b| range.contains(a) == range.contains(b))
        .filter_map(move |chunk| {
            let from = at;
            at += chunk.len();
            range.contains(&chunk[0]).then_some((from, chunk))
        })
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

pub(super) fn topic_partitions(
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
