//! A destination's ledgers, as people look at them and move them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::super::CliError;
use crate::catalog::{self, TableOps};
use crate::commit::dataset::{CommitFailure, DatasetCommitter, ResetRequest, ledgers};
use crate::commit::iceberg::{IcebergFailure, SetByHand, TableLedger};
use crate::ledger::by_hand::Move;
use crate::ledger::{CommitId, LedgerDocument, Recorded};
use crate::plan::{Destination, Plan, SinkId};
use crate::record::{Census, Offset, TopicName, TopicPartition};
use crate::sink;
use crate::store::{self, Store};

/// What a ledger says of one topic-partition.
pub(super) struct Line {
    pub(super) next: Offset,
    cluster_id: Option<String>,
    topic_id: Option<String>,
    moved_to: Option<String>,
    /// Only the place of a ledger that comes from the sink that `moved_to` names.
    reserved: bool,
    /// Of a dataset's.
    generation: u64,
    /// For people.
    more: String,
}

impl Line {
    /// # Errors
    /// When it was moved to another sink.
    pub(super) fn next(&self) -> Result<Offset, CliError> {
        match &self.moved_to {
            None => Ok(self.next),
            Some(from) if self.reserved => Err(CliError(format!(
                "the ledger of {from} is to come here and has not arrived: give ledger move --from {from} first"
            ))),
            Some(to) => Err(CliError(format!(
                "the ledger was moved to {to}: give that resource"
            ))),
        }
    }

    pub(super) fn recorded(&self) -> Recorded<'_> {
        Recorded {
            cluster_id: self.cluster_id.as_deref(),
            topic_id: self.topic_id.as_deref(),
            next: Some(self.next),
        }
    }

    fn of_dataset(document: LedgerDocument) -> Self {
        let mut more = format!(
            "generation {}, {} rows, written {} by {}",
            document.generation, document.rows, document.written_at, document.writer
        );
        if !document.pending.is_empty() {
            more.push_str(&format!(
                ", {} files to be completed",
                document.pending.len()
            ));
        }
        if let Some(retraction) = &document.retracting {
            more.push_str(&format!(", {} is being taken back", retraction.range));
        }
        Self {
            reserved: document.is_reserved(),
            generation: document.generation,
            next: document.next,
            cluster_id: document.cluster_id,
            topic_id: document.topic_id,
            moved_to: document.moved_to,
            more,
        }
    }

    fn of_table(ledger: &TableLedger, tp: &TopicPartition, next: Offset) -> Self {
        let commit = ledger.commits.get(tp);
        Self {
            next,
            cluster_id: ledger.cluster_id.clone(),
            topic_id: ledger.topic_ids.get(&tp.topic).cloned(),
            moved_to: None,
            reserved: false,
            generation: 0,
            more: commit.map_or_else(String::new, |id| format!("last commit {id}")),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(from) = self.moved_to.as_ref().filter(|_| self.reserved) {
            return write!(f, "kept for the ledger of {from}, which has not arrived");
        }
        if let Some(to) = &self.moved_to {
            return write!(f, "moved to {to} at {}", self.next);
        }
        write!(f, "next {}", self.next)?;
        if let Some(id) = &self.topic_id {
            write!(f, ", topic {id}")?;
        }
        match self.more.as_str() {
            "" => Ok(()),
            more => write!(f, ", {more}"),
        }
    }
}

pub(super) type Lines = BTreeMap<TopicPartition, Line>;

pub(super) enum Held {
    Dataset(Arc<dyn Store>),
    Table(Arc<dyn TableOps>),
}

impl Held {
    pub(super) async fn open(plan: &Plan) -> Result<Self, CliError> {
        Ok(match &plan.destination {
            Destination::Dataset(dataset) => Self::Dataset(store::open(&dataset.store).await?),
            Destination::Iceberg(table) => Self::Table(catalog::connect(table).await?),
        })
    }

    pub(super) async fn lines(&self, plan: &Plan, sink: &SinkId) -> Result<Lines, CliError> {
        match self {
            Self::Dataset(store) => {
                let found = ledgers(store.as_ref(), &sink.0).await?.into_iter();
                Ok(found
                    .map(|document| (document.tp(), Line::of_dataset(document)))
                    .collect())
            }
            Self::Table(ops) => {
                let committer = sink::table_committer(plan, Arc::clone(ops));
                let ledger = committer.ledger_of(sink).await?;
                if let Some(to) = &ledger.moved_to {
                    return Err(CliError(format!(
                        "the ledger of {sink} was moved to {to}: give that resource"
                    )));
                }
                let line = |(tp, next): (&TopicPartition, &Offset)| {
                    (tp.clone(), Line::of_table(&ledger, tp, *next))
                };
                Ok(ledger.next.iter().map(line).collect())
            }
        }
    }

    /// The topics as they are when the sink is first heard of, where it is.
    pub(super) async fn first_heard_of(&self, plan: &Plan, now: &Census) -> Result<(), CliError> {
        match self {
            Self::Dataset(store) => drop(sink::committer(plan, store).census(now).await?),
            Self::Table(ops) => {
                let mut committer = sink::table_committer(plan, Arc::clone(ops));
                drop(Box::pin(committer.census(now)).await?);
            }
        }
        Ok(())
    }

    pub(super) async fn set(
        &self,
        plan: &Plan,
        moves: &BTreeMap<TopicPartition, Move>,
        cluster_id: Option<String>,
        topic_ids: BTreeMap<TopicName, String>,
    ) -> Result<(), CliError> {
        match self {
            Self::Dataset(store) => {
                let committer = sink::committer(plan, store);
                let mut done = Vec::new();
                for (tp, one) in moves {
                    let topic_id = topic_ids.get(&tp.topic).cloned();
                    let ids = (cluster_id.clone(), topic_id);
                    if let Err(error) = set_one(&committer, tp, one, ids).await {
                        return Err(but_for(&done, tp, unchanged(error)));
                    }
                    done.push(tp);
                }
                Ok(())
            }
            Self::Table(ops) => {
                let position =
                    |(tp, one): (&TopicPartition, &Move)| (tp.clone(), (one.from, one.to));
                let wish = SetByHand {
                    positions: moves.iter().map(position).collect(),
                    cluster_id,
                    topic_ids,
                };
                let mut committer = sink::table_committer(plan, Arc::clone(ops));
                match Box::pin(committer.set_by_hand(&wish)).await {
                    Ok(_) => Ok(()),
                    Err(IcebergFailure::Fenced { found }) => {
                        let moved = moves.iter().find(|(tp, one)| {
                            found.get(*tp).is_some_and(|there| *there != one.from)
                        });
                        let tp = moved.map_or_else(String::new, |(tp, _)| format!("{tp}: "));
                        Err(CliError(format!("{tp}{MOVED_ON}")))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// What there is to be moved, `from` a sink `to` another, and that nothing is in its way.
    pub(super) async fn moving(
        &self,
        plan: &Plan,
        from: &SinkId,
        to: &SinkId,
    ) -> Result<Lines, CliError> {
        let none = || {
            CliError(format!(
                "--from {from}: no ledger of that sink is in {}; give <namespace>.<name> of the resource that wrote there",
                super::show::destination(plan)
            ))
        };
        let lines = match self {
            Self::Dataset(_) => {
                let mut all = self.lines(plan, from).await?;
                all.retain(|_, line| !line.reserved);
                if all.is_empty() {
                    return Err(none());
                }
                all
            }
            Self::Table(ops) => {
                let committer = sink::table_committer(plan, Arc::clone(ops));
                let ledger = committer.ledger_of(from).await?;
                match ledger.moved_to {
                    Some(moved) if moved == to.0 => return Ok(Lines::new()),
                    None if ledger.next.is_empty() => return Err(none()),
                    _ => self.lines(plan, from).await?,
                }
            }
        };
        let own = match self {
            Self::Dataset(_) => self.lines(plan, to).await?,
            Self::Table(ops) => {
                let committer = sink::table_committer(plan, Arc::clone(ops));
                let ledger = committer.ledger_of(to).await?;
                let line = |(tp, next): (&TopicPartition, &Offset)| {
                    (tp.clone(), Line::of_table(&ledger, tp, *next))
                };
                ledger.next.iter().map(line).collect()
            }
        };
        let mut moving = Lines::new();
        for (tp, line) in lines {
            let arrived = own.get(&tp).filter(|own| own.moved_to.is_none());
            match (&line.moved_to, arrived) {
                // It descends from the one that was left: each that arrives is of a later generation.
                (Some(moved), Some(own)) if *moved == to.0 && own.generation > line.generation => {}
                (Some(moved), Some(own)) if *moved == to.0 => {
                    return Err(CliError(both_exist(&tp, from, &line, to, own)));
                }
                (Some(moved), None) if *moved == to.0 => drop(moving.insert(tp, line)),
                (Some(moved), _) => {
                    return Err(CliError(format!(
                        "{tp}: the ledger of {from} was moved to {moved} already: give --from {moved}"
                    )));
                }
                (None, Some(own)) => {
                    return Err(CliError(format!(
                        "{tp}: {to} has a ledger of its own ({own}), so that both would be lost in one: choose another \
                         name, or another destination"
                    )));
                }
                (None, None) => drop(moving.insert(tp, line)),
            }
        }
        Ok(moving)
    }

    pub(super) async fn take_over(
        &self,
        plan: &Plan,
        from: &SinkId,
        moving: &Lines,
    ) -> Result<(), CliError> {
        match self {
            Self::Dataset(store) => {
                let mut theirs = plan.clone();
                theirs.sink = from.clone();
                let (theirs, ours) = (
                    sink::committer(&theirs, store),
                    sink::committer(plan, store),
                );
                let first = theirs.census(&Census::new()).await?;
                if !first.is_empty() {
                    ours.census(&first).await?;
                }
                let mut done = Vec::new();
                for (tp, line) in moving {
                    let between = (from, &plan.sink);
                    let moved = async {
                        let kept = ours.reserve(tp, &from.0, line.next).await;
                        kept.map_err(unchanged)?;
                        let left = theirs.leave(tp, &plan.sink.0).await;
                        let left = left.map_err(|error| not_left(between, error))?;
                        let arrived = ours.arrive(left).await;
                        arrived.map_err(|error| not_arrived(between, error))
                    };
                    if let Err(error) = moved.await {
                        return Err(but_for(&done, tp, error));
                    }
                    done.push(tp);
                }
                Ok(())
            }
            Self::Table(ops) => {
                let mut committer = sink::table_committer(plan, Arc::clone(ops));
                Box::pin(committer.take_over(from)).await?;
                Ok(())
            }
        }
    }
}

const MOVED_ON: &str =
    "the ledger moved on since it was looked at; nothing was changed, look again";

async fn set_one(
    committer: &DatasetCommitter,
    tp: &TopicPartition,
    one: &Move,
    (cluster_id, topic_id): (Option<String>, Option<String>),
) -> Result<(), CommitFailure> {
    let document = committer.open(tp).await?.document;
    let known = |found: Option<String>, recorded: fn(LedgerDocument) -> Option<String>| {
        found.or_else(|| document.clone().and_then(recorded))
    };
    let request = ResetRequest {
        tp: tp.clone(),
        expected: one.from,
        generation: document.as_ref().map_or(0, |document| document.generation),
        next: one.to,
        recreated: false,
        commit_id: CommitId::fresh(),
        cluster_id: known(cluster_id, |document| document.cluster_id),
        topic_id: known(topic_id, |document| document.topic_id),
    };
    committer.reset(request).await.map(drop)
}

/// One ledger of several could not be changed.
fn but_for(done: &[&TopicPartition], tp: &TopicPartition, CliError(why): CliError) -> CliError {
    let done: Vec<_> = done.iter().map(ToString::to_string).collect();
    CliError(match done.is_empty() {
        true => format!("{tp}: {why}"),
        false => format!("{tp}: {why} (done before: {})", done.join(", ")),
    })
}

fn unchanged(error: CommitFailure) -> CliError {
    match error {
        CommitFailure::Fenced { .. } => CliError(MOVED_ON.to_owned()),
        error => error.into(),
    }
}

/// The place was kept, and the ledger is not known to have been left.
fn not_left((from, to): (&SinkId, &SinkId), error: CommitFailure) -> CliError {
    let why = match error {
        CommitFailure::Fenced { .. } => format!("{from} has none any more, look again"),
        error => CliError::from(error).0,
    };
    CliError(format!(
        "the ledger of {from} is announced and may not have been left: {to} goes on only when the same command has \
         succeeded: {why}"
    ))
}

fn not_arrived((from, to): (&SinkId, &SinkId), error: CommitFailure) -> CliError {
    let why = match error {
        CommitFailure::Fenced { found } => format!(
            "{to} has a ledger of its own meanwhile{}, look again",
            found.map_or_else(String::new, |next| format!(" (next {next})"))
        ),
        error => CliError::from(error).0,
    };
    CliError(format!(
        "{from} has left its ledger, and {to} did not take it over; {from} stops with LedgerMoved until the same command has \
         succeeded: {why}"
    ))
}

/// A ledger was left, and the sink that it was left to began one of its own.
fn both_exist(tp: &TopicPartition, from: &SinkId, left: &Line, to: &SinkId, own: &Line) -> String {
    let next = left.next;
    format!(
        "{tp}: {from} left its ledger to {to} at {next}, and {to} does not go on with it but has one of its own ({own}): rows \
         of offsets that both have read are there twice. Nothing was changed. Stop {to}, give it the later of the two \
         positions by tidewater ledger set, and remove the rows that tidewater verify then tells as twice there"
    )
}

#[cfg(test)]
mod tests;
