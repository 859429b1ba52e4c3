//! `tidewater ledger`: what a destination's ledger says, and how a person moves it. Nothing is changed without `--apply`,
//! nothing while the sink runs unless it is fenced, and nothing on a ledger that moved on since it was looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use self::held::{Held, Line};
use super::{CliError, Resources, show};
use crate::ledger::by_hand::{Effect, Move, Ways, Wish, decide};
use crate::ledger::{Origin, SourceCheck, check_source};
use crate::plan::{Destination, Plan, SinkId};
use crate::record::{Census, Offset, OffsetRange, TopicName, TopicPartition};
use crate::source::Facts;

mod held;

/// For each question to the brokers.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Show what the ledgers say of each partition. Changes nothing.
    Show {
        #[command(flatten)]
        resources: Resources,
        /// This topic only.
        #[arg(long)]
        topic: Option<String>,
        /// This partition only.
        #[arg(long)]
        partition: Option<i32>,
    },
    /// Go past records that are never to be read: forward only.
    Skip(Set),
    /// Set where a partition is read on, forward or back.
    Set(Set),
    /// Go on with the ledger of a sink of another name or namespace, in the same destination.
    ///
    /// The other sink stops with LedgerMoved from then on.
    Move {
        #[command(flatten)]
        resources: Resources,
        /// Whose ledger: <namespace>.<name> of the other resource.
        #[arg(long)]
        from: String,
        #[command(flatten)]
        leave: Leave,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    #[command(flatten)]
    resources: Resources,
    #[arg(long)]
    topic: String,
    /// Without it all partitions of the topic, with --to earliest or latest.
    #[arg(long)]
    partition: Option<i32>,
    /// The next offset to be read; or earliest, the start of the log; or latest, its end.
    #[arg(long)]
    to: Wish,
    #[command(flatten)]
    leave: Leave,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Leave {
    /// Do it. Without, what would be done is told.
    #[arg(long)]
    apply: bool,
    /// Do it though the sink runs: what it has read and not committed is void, and it reads on at the new place.
    #[arg(long)]
    fence: bool,
}

pub(super) async fn ledger(what: What) -> Result<ExitCode, CliError> {
    match what {
        What::Show {
            resources,
            topic,
            partition,
        } => {
            for plan in &resources.plans()? {
                let asked = |tp: &TopicPartition| {
                    topic.as_ref().is_none_or(|t| tp.topic.as_str() == t)
                        && partition.is_none_or(|p| tp.partition == p)
                };
                tell(plan, asked).await?;
            }
        }
        What::Skip(set) => Box::pin(change(set, Ways::Forward)).await?,
        What::Set(set) => Box::pin(change(set, Ways::Both)).await?,
        What::Move {
            resources,
            from,
            leave,
        } => Box::pin(take_over(&only(&resources)?, SinkId(from), leave)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The one resource that is meant.
fn only(resources: &Resources) -> Result<Plan, CliError> {
    let mut plans = resources.plans()?;
    match (plans.pop(), plans.is_empty()) {
        (Some(plan), true) => Ok(plan),
        _ => Err(CliError(
            "-f: a ledger is moved of one resource at a time; give a file that holds one".into(),
        )),
    }
}

async fn tell(plan: &Plan, asked: impl Fn(&TopicPartition) -> bool) -> Result<(), CliError> {
    println!("{}: {}", plan.sink, show::destination(plan));
    let mut lines = Held::open(plan).await?.lines(plan, &plan.sink).await?;
    lines.retain(|tp, _| asked(tp));
    if lines.is_empty() {
        println!("  no ledger");
    }
    for (tp, line) in lines {
        println!("  {tp}: {line}");
    }
    Ok(())
}

/// What Kafka says of the partitions in question.
struct Told {
    runs: Result<bool, String>,
    cluster_id: Option<String>,
    topic_ids: BTreeMap<TopicName, String>,
    logs: BTreeMap<TopicPartition, OffsetRange>,
    /// The sink's topics as they are now.
    census: Census,
}

fn ask(plan: &Plan, topic: &TopicName, partition: Option<i32>) -> Result<Told, CliError> {
    let facts = Facts::of_whole_logs(&plan.source, PATIENCE)?;
    let census = facts.census(&plan.source, PATIENCE)?;
    if !census.contains_key(topic) {
        return Err(CliError(format!(
            "--topic {topic}: no topic of that name is there and read by {} ({})",
            plan.sink,
            show::source(plan)
        )));
    }
    let there = facts.partitions(topic)?;
    let wanted: Vec<i32> = match partition {
        None => there,
        Some(partition) if there.contains(&partition) => vec![partition],
        Some(partition) => {
            let most = there.last().map_or(0, |last| *last);
            return Err(CliError(format!(
                "--partition {partition}: topic \"{topic}\" has the partitions 0 to {most}"
            )));
        }
    };
    let tp = |partition| TopicPartition {
        topic: topic.clone(),
        partition,
    };
    let tps: Vec<_> = wanted.into_iter().map(tp).collect();
    let bounds = facts.bounds(&tps, PATIENCE).into_iter();
    let mut logs = BTreeMap::new();
    for (tp, bound) in tps.into_iter().zip(bounds) {
        let (start, end) = bound?;
        logs.insert(tp, OffsetRange { start, end });
    }
    let runs = facts.has_members(&plan.source.group_id);
    Ok(Told {
        runs: runs.map_err(|error| error.to_string()),
        cluster_id: facts.cluster_id(),
        topic_ids: facts.topic_ids(&BTreeSet::from([topic.clone()])),
        logs,
        census,
    })
}

async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(ask)
        .await
        .map_err(|error| CliError(format!("ask the brokers: {error}")))?
}

async fn change(set: Set, ways: Ways) -> Result<(), CliError> {
    let plan = only(&set.resources)?;
    let topic = TopicName::new(set.topic.as_str());
    if set.partition.is_none() && matches!(set.to, Wish::At(_)) {
        return Err(CliError(
            "--to: an offset is of one partition; give --partition, or earliest or latest".into(),
        ));
    }
    let told = {
        let (plan, topic) = (plan.clone(), topic.clone());
        blocking(move || ask(&plan, &topic, set.partition)).await?
    };
    let held = Held::open(&plan).await?;
    let lines = held.lines(&plan, &plan.sink).await?;
    let mut moves = BTreeMap::new();
    println!("{}: {}", plan.sink, show::destination(&plan));
    for (tp, log) in &told.logs {
        let line = lines.get(tp);
        let next = line.map(Line::next).transpose()?;
        check_topic(tp, line, &told, *log)?;
        let decided = decide(next, *log, set.to, ways)
            .map_err(|refusal| CliError(format!("{tp}: {refusal}")))?;
        println!(
            "  {tp}: {} -> {}: {}",
            stands(next),
            decided.to,
            decided.effect
        );
        if let Effect::ReadAgain { offsets } = decided.effect
            && let Some(rows) = rows(&plan, tp, offsets)
        {
            println!("    those rows: {rows}");
        }
        if decided.effect != Effect::None {
            moves.insert(tp.clone(), decided);
        }
    }
    if moves.is_empty() {
        println!("nothing to do");
        return Ok(());
    }
    if !may(set.leave, &plan.source.group_id, &told.runs)? {
        return Ok(());
    }
    if lines.is_empty() {
        held.first_heard_of(&plan, &told.census).await?;
    }
    held.set(&plan, &moves, told.cluster_id, told.topic_ids)
        .await?;
    println!("done: {}", reads_on(&moves));
    if told.runs == Ok(false) {
        let at = moves.iter().map(|(tp, one)| (tp.clone(), one.to));
        let offsets = at.collect();
        tell_group(&plan, offsets).await;
    }
    Ok(())
}

/// Lag is counted from the group's offsets while the sink does not run. Nothing is read by them, and so nothing is wrong
/// where they cannot be set.
async fn tell_group(plan: &Plan, offsets: BTreeMap<TopicPartition, Offset>) {
    let source = plan.source.clone();
    let told = blocking(move || Ok(Facts::connect(&source, PATIENCE)?.set_committed(&offsets)?));
    if let Err(CliError(error)) = told.await {
        println!(
            "the offsets of consumer group \"{}\" are as they were ({error}): lag counts from them until the sink runs",
            plan.source.group_id
        );
    }
}

fn stands(next: Option<Offset>) -> String {
    next.map_or_else(|| "no ledger".to_owned(), |next| next.to_string())
}

fn reads_on(moves: &BTreeMap<TopicPartition, Move>) -> String {
    let each = moves
        .iter()
        .map(|(tp, one)| format!("{tp} is read on at {}", one.to));
    each.collect::<Vec<_>>().join(", ")
}

/// A position means something in the topic that the ledger speaks of.
fn check_topic(
    tp: &TopicPartition,
    line: Option<&Line>,
    told: &Told,
    log: OffsetRange,
) -> Result<(), CliError> {
    let Some(line) = line else {
        return Ok(());
    };
    let origin = Origin {
        cluster_id: told.cluster_id.as_deref(),
        topic_id: told.topic_ids.get(&tp.topic).map(String::as_str),
        log_start: log.start,
        log_end: log.end,
        cut: None,
    };
    match check_source(line.recorded(), &origin) {
        SourceCheck::Recreated { why } => Err(CliError(format!(
            "{tp}: {why}: the ledger speaks of another topic. Choose with spec.source.onSourceReset and start the sink once"
        ))),
        _ => Ok(()),
    }
}

/// How SQL finds the rows of some offsets.
fn rows(plan: &Plan, tp: &TopicPartition, offsets: OffsetRange) -> Option<String> {
    let names = &plan.decode.metadata;
    let (partition, offset) = (names.partition.as_ref()?, names.offset.as_ref()?);
    let topic = names.topic.as_ref();
    let topic = topic.map_or_else(String::new, |name| format!("{name} = '{}' AND ", tp.topic));
    Some(format!(
        "{topic}{partition} = {} AND {offset} >= {} AND {offset} < {}",
        tp.partition, offsets.start, offsets.end
    ))
}

/// Whether it is to be done, and may be.
fn may(leave: Leave, group: &str, runs: &Result<bool, String>) -> Result<bool, CliError> {
    let why = match runs {
        Ok(false) => None,
        Ok(true) => Some(format!(
            "the sink runs: consumer group \"{group}\" has members (those of a process that was killed for as long as \
             session.timeout.ms)"
        )),
        Err(error) => Some(format!("whether the sink runs is not known: {error}")),
    };
    if let Some(why) = why {
        if !leave.fence {
            let why = format!("{why}. Stop it (spec.paused: true) and ask again, or give --fence");
            if leave.apply {
                return Err(CliError(why));
            }
            println!("would be refused: {why}");
        } else {
            println!("{why}: it is fenced");
        }
    }
    if !leave.apply {
        println!("nothing was changed: give --apply to do it");
    }
    Ok(leave.apply)
}

async fn take_over(plan: &Plan, from: SinkId, leave: Leave) -> Result<(), CliError> {
    if from == plan.sink {
        return Err(CliError(format!(
            "--from {from}: that is this sink; give the name of the other one"
        )));
    }
    let held = Held::open(plan).await?;
    println!("{} -> {}: {}", from, plan.sink, show::destination(plan));
    let moving = held.moving(plan, &from, &plan.sink).await?;
    for (tp, line) in &moving {
        println!("  {tp}: {line}");
    }
    if moving.is_empty() {
        println!("nothing to do: everything has been moved");
        return Ok(());
    }
    let of_default = format!("tidewater.{from}");
    let groups = [plan.source.group_id.clone(), of_default];
    let source = plan.source.clone();
    let runs = blocking(move || {
        let facts = Facts::connect(&source, PATIENCE)?;
        let mut members = Vec::new();
        for group in groups {
            if facts.has_members(&group)? {
                members.push(group);
            }
        }
        Ok(members)
    });
    let (group, runs) = match runs.await {
        Ok(members) => (members.join("\", \""), Ok(!members.is_empty())),
        Err(CliError(error)) => (String::new(), Err(error)),
    };
    if !may(leave, &group, &runs)? {
        return Ok(());
    }
    held.take_over(plan, &from, &moving).await?;
    println!(
        "done: {} goes on, and {from} stops with LedgerMoved",
        plan.sink
    );
    if runs == Ok(false) {
        let at = moving.into_iter().map(|(tp, line)| (tp, line.next));
        let offsets = at.collect();
        tell_group(plan, offsets).await;
    }
    if let Destination::Dataset(dataset) = &plan.destination
        && dataset.glue.is_some()
    {
        println!(
            "its table in Glue is still that of {from}: delete the table (not the files), and it is made anew with all \
             its partitions"
        );
    }
    Ok(())
}
