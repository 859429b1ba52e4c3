//! Carries what happens to the coordinator, and what it decides to source, workers and destination. Commits and
//! recoveries are tasks of their own, so that no message waits for a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::task::JoinSet;

use super::committing::Way;
use super::coordinator::{Coordinator, CutId, Input, Output, Settled};
use super::deliver::{Deliver, Job, JobLane, Unsettled};
use super::goal::Goals;
use super::identity::Identity;
use super::recovery::{Ask, Looked};
use super::router::Router;
use super::settling::Settling;
use super::worker::{FromWorker, Refused, Share, ToWorker};
use super::{EngineError, Until, committing};
use crate::deadletter::DeadLetters;
use crate::errors::{Classified, OneLine, class};
use crate::failpoint;
use crate::ledger::CommitId;
use crate::observe::Progress;
use crate::observe::metrics::ClientStatistics;
use crate::plan::{Destination, Isolation, Plan};
use crate::record::{AssignmentEpoch, Offset, TopicPartition};
use crate::source::{
    Facts as KafkaFacts, SourceCommand, SourceError, SourceEvent, SourceHandle, StartAt,
};

mod looks;

struct PendingCut<F> {
    waiting: usize,
    share: Share<F>,
    began: Instant,
}

/// What a conductor speaks to.
pub(super) struct Wires<D> {
    pub(super) plan: Arc<Plan>,
    pub(super) progress: Progress,
    pub(super) deliver: Arc<D>,
    pub(super) letters: DeadLetters,
    pub(super) facts: Arc<KafkaFacts>,
    pub(super) router: Arc<Router>,
    pub(super) source: SourceHandle,
}

/// A commit that ended: what to tell the coordinator, or why to stop.
type Ended = (CutId, Result<Settled, EngineError>);
/// How far others are with partitions; `None` of those that are no more.
type Elsewhere = Vec<(TopicPartition, Option<Offset>)>;

pub(super) struct Conductor<D: Deliver> {
    plan: Arc<Plan>,
    progress: Progress,
    deliver: Arc<D>,
    letters: DeadLetters,
    facts: Arc<KafkaFacts>,
    identity: Arc<Identity>,
    coordinator: Coordinator,
    router: Arc<Router>,
    source: SourceHandle,
    cuts: BTreeMap<CutId, PendingCut<D::File>>,
    commits: JoinSet<Ended>,
    recoveries: JoinSet<Looked>,
    /// Looks to be taken again, each when it is due.
    again: Vec<(Instant, Ask)>,
    /// Positions that were outside of the log, and how often in a row.
    astray: BTreeMap<TopicPartition, (Offset, u32)>,
    goals: Goals,
    elsewhere: JoinSet<Elsewhere>,
    looked_elsewhere: Instant,
    /// As recovered, where known.
    topic_ids: BTreeMap<TopicPartition, Option<String>>,
    /// Of the ledgers, as recovered.
    generations: BTreeMap<TopicPartition, u64>,
    settling: Settling,
    /// Each ends with what could not be settled.
    settlements: JoinSet<Unsettled>,
    /// A record that stops the sink once everything before it is committed.
    refused: Option<Refused>,
}

impl<D: Deliver> Conductor<D> {
    pub(super) fn new(wires: Wires<D>, until: Until) -> Self {
        let Wires {
            plan,
            progress,
            deliver,
            letters,
            facts,
            router,
            source,
        } = wires;
        Self {
            coordinator: Coordinator::new(deliver.scope(), plan.source.drain_timeout),
            plan,
            progress,
            deliver,
            letters,
            identity: Arc::new(Identity::new(Arc::clone(&facts))),
            facts,
            router,
            source,
            cuts: BTreeMap::new(),
            commits: JoinSet::new(),
            recoveries: JoinSet::new(),
            again: Vec::new(),
            astray: BTreeMap::new(),
            goals: Goals::new(until),
            elsewhere: JoinSet::new(),
            looked_elsewhere: Instant::now(),
            topic_ids: BTreeMap::new(),
            generations: BTreeMap::new(),
            settling: Settling::default(),
            settlements: JoinSet::new(),
            refused: None,
        }
    }

    /// Waits for a task to end, and goes on from it. May be cancelled: nothing is taken before it ends.
    pub(super) async fn on_task(&mut self) -> Result<(), EngineError> {
        tokio::select! {
            Some(ended) = self.commits.join_next() => {
                let (cut, settled) = ended.map_err(|error| panicked(&error))?;
                let settled = settled?;
                if let Settled::Committed(next) = &settled {
                    let now = Instant::now();
                    for tp in next.keys().filter(|tp| self.topic_ids.contains_key(tp)) {
                        self.settling.committed(tp, now);
                    }
                }
                self.apply(Input::Settled(cut, settled));
                Ok(())
            }
            Some(looked) = self.recoveries.join_next() => {
                self.on_looked(looked.map_err(|error| panicked(&error))?)
            }
            Some(found) = self.elsewhere.join_next() => {
                for (tp, committed) in found.map_err(|error| panicked(&error))? {
                    self.goals.elsewhere(&tp, committed);
                }
                Ok(())
            }
            Some(left) = self.settlements.join_next() => {
                let Unsettled { later, mut moved } = left.map_err(|error| panicked(&error))?;
                for tp in later {
                    if self.topic_ids.contains_key(&tp) {
                        self.settling.again(tp, Instant::now());
                    }
                }
                moved.retain(|tp| self.topic_ids.contains_key(tp));
                if !moved.is_empty() {
                    self.apply(Input::Reread(moved));
                }
                Ok(())
            }
            else => std::future::pending().await,
        }
    }

    /// Asks the source to give everything up. What is open is committed on the way; the source then says `Closed`.
    pub(super) fn close(&self) {
        self.source.send(SourceCommand::Close);
    }

    /// A record was met that stops the sink.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// How the sink ended that gave everything up.
    pub(super) fn ended(&mut self) -> Result<(), EngineError> {
        let refused = self.refused.take().map(EngineError::Refused);
        refused.map_or(Ok(()), Err)
    }

    /// Stops what runs, and hands back the source: it ends when it is joined.
    pub(super) fn stop(mut self) -> SourceHandle {
        for inbox in &self.router.workers {
            let _ = inbox.send(ToWorker::Stop);
        }
        self.commits.abort_all();
        self.recoveries.abort_all();
        self.settlements.abort_all();
        self.elsewhere.abort_all();
        self.source
    }

    fn apply(&mut self, input: Input) {
        for output in self.coordinator.handle(input, Instant::now()) {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Recover(asked) => {
                self.goals.assigned();
                self.recover(asked);
            }
            Output::Run {
                tp,
                epoch,
                found,
                seek,
            } => {
                let position = found.start;
                self.router.send(
                    &tp,
                    ToWorker::Start {
                        tp: tp.clone(),
                        epoch,
                        position,
                    },
                );
                self.source.send(match seek {
                    true => SourceCommand::Seek(tp, position, epoch),
                    false => SourceCommand::Start(vec![(tp, StartAt::Offset(position), epoch)]),
                });
            }
            Output::Cut { cut, lanes } => self.cut(cut, lanes),
            Output::Commit { cut, expected } => self.commit(cut, &expected),
            Output::Abandon(cut) => {
                if let Some(pending) = self.cuts.remove(&cut) {
                    self.deliver.abandon(pending.share.files);
                }
            }
            Output::Discard(tps) => {
                tps.iter().for_each(|tp| self.settling.forget(tp));
                for inbox in &self.router.workers {
                    let _ = inbox.send(ToWorker::Discard(tps.clone()));
                }
            }
            Output::Release(tps) => {
                self.forget(&tps);
                self.source.send(SourceCommand::Release(tps));
            }
            Output::Acknowledge(next) => {
                self.progress.next(&next);
                for (tp, next) in &next {
                    self.goals.committed(tp, *next);
                    self.astray.remove(tp);
                }
                self.source
                    .send(SourceCommand::CommitOffsets(next.into_iter().collect()));
            }
        }
    }

    fn forget(&mut self, tps: &[TopicPartition]) {
        self.progress.disowned(tps);
        for tp in tps {
            self.goals.given_up(tp);
            self.astray.remove(tp);
            self.topic_ids.remove(tp);
            self.generations.remove(tp);
            self.settling.forget(tp);
        }
        if self.coordinator.lanes().next().is_none() {
            self.goals.bereft();
        }
    }

    fn cut(&mut self, cut: CutId, lanes: Vec<(TopicPartition, AssignmentEpoch)>) {
        failpoint::pass("engine.before-seal");
        let mut shares: BTreeMap<usize, Vec<(TopicPartition, AssignmentEpoch)>> = BTreeMap::new();
        for (tp, epoch) in lanes {
            let owner = self.router.owner(&tp);
            let index = self
                .router
                .workers
                .iter()
                .position(|inbox| inbox.same_channel(owner))
                .unwrap_or(0);
            shares.entry(index).or_default().push((tp, epoch));
        }
        self.progress
            .counters
            .uncut_bytes
            .store(0, Ordering::Relaxed);
        self.progress
            .counters
            .uncut_records
            .store(0, Ordering::Relaxed);
        let share = Share {
            lanes: Vec::new(),
            files: Vec::new(),
        };
        self.cuts.insert(
            cut,
            PendingCut {
                waiting: shares.len(),
                share,
                began: Instant::now(),
            },
        );
        for (index, lanes) in shares {
            let _ = self.router.workers[index].send(ToWorker::Cut { cut, lanes });
        }
    }

    fn commit(&mut self, cut: CutId, expected: &BTreeMap<TopicPartition, Option<Offset>>) {
        let Some(pending) = self.cuts.remove(&cut) else {
            return;
        };
        let mut letters = Vec::new();
        let mut held = Vec::new();
        let mut lanes = Vec::new();
        let mut settle = Vec::new();
        let last = self.coordinator.is_last(cut);
        for lane in pending.share.lanes {
            letters.extend(lane.letters);
            held.extend(lane.held);
            if last {
                settle.push(lane.tp.clone());
            }
            if !lane.range.is_empty() {
                let expected = expected.get(&lane.tp).copied().flatten();
                let topic_id = self.topic_ids.get(&lane.tp).cloned().flatten();
                let generation = self.generations.get(&lane.tp).copied();
                self.settling.follows(&lane.tp);
                lanes.push(JobLane {
                    tp: lane.tp,
                    expected,
                    range: lane.range,
                    rows: lane.rows,
                    topic_id,
                    generation: generation.unwrap_or(0),
                });
            }
        }
        let job = Job {
            commit_id: CommitId::fresh(),
            lanes,
            files: pending.share.files,
        };
        let way = Way {
            deliver: Arc::clone(&self.deliver),
            identity: Arc::clone(&self.identity),
            letters: self.letters.clone(),
            progress: self.progress.clone(),
            max_failures: self.plan.commit.max_consecutive_failures,
            interval: match &self.plan.destination {
                Destination::Iceberg(_) => Some(self.plan.commit.interval),
                Destination::Dataset(_) => None,
            },
            settle,
        };
        let task = committing::commit(way, job, letters, pending.began);
        self.commits.spawn(async move {
            let ended = task.await;
            drop(held);
            (cut, ended)
        });
    }

    pub(super) fn on_source(&mut self, event: SourceEvent) -> Result<(), EngineError> {
        self.progress.polled();
        match event {
            SourceEvent::Assigned(tps) => {
                tracing::info!(partitions = %list(&tps), "assigned");
                self.goals.assigned();
                self.apply(Input::Assigned(tps));
            }
            SourceEvent::Revoked(tps) => {
                tracing::info!(partitions = %list(&tps), "revoked");
                self.apply(Input::Revoked(tps));
            }
            SourceEvent::Lost(tps) => {
                tracing::warn!(partitions = %list(&tps), "lost");
                self.apply(Input::Lost(tps.clone()));
                self.forget(&tps);
            }
            SourceEvent::Started { .. } | SourceEvent::Closed => {}
            SourceEvent::CaughtUp { tp, epoch, at } => {
                self.router.send(
                    &tp,
                    ToWorker::Advance {
                        tp: tp.clone(),
                        epoch,
                        at,
                    },
                );
                self.goals.read(&tp, at);
                self.hasten();
            }
            SourceEvent::OutOfRange {
                tp,
                epoch,
                position,
                log_start,
                log_end,
            } => self.out_of_range(&tp, epoch, position, (log_start, log_end))?,
            SourceEvent::Fatal(error) => return Err(EngineError::of(&error)),
            SourceEvent::Trouble(error) => {
                tracing::warn!(error = %OneLine(&error), "the kafka client is in trouble");
                if let SourceError::Denied(_) = error {
                    self.progress.hindered(error.class(), error.to_string());
                }
            }
            SourceEvent::Statistics(json) => {
                let read_committed = self.plan.source.isolation == Isolation::ReadCommitted;
                if let Some(statistics) = ClientStatistics::parse(&json, read_committed) {
                    self.progress.statistics(statistics);
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_worker(&mut self, event: FromWorker<D::File>) -> Result<(), EngineError> {
        match event {
            FromWorker::Due(tps) => self.apply(Input::Due(tps)),
            FromWorker::Began(tp) => {
                if self.topic_ids.contains_key(&tp) {
                    self.settling.gathers(tp);
                }
            }
            FromWorker::Sealed { cut, mut share } => {
                let Some(pending) = self.cuts.get_mut(&cut) else {
                    self.deliver.abandon(share.files);
                    return Ok(());
                };
                for lane in &share.lanes {
                    self.settling.sealed(&lane.tp);
                }
                pending.share.lanes.append(&mut share.lanes);
                pending.share.files.append(&mut share.files);
                pending.waiting -= 1;
                if pending.waiting == 0 {
                    failpoint::pass("engine.sealed");
                    self.apply(Input::Sealed(cut));
                }
            }
            FromWorker::Refused(refused) if refused.before => {
                let first = self.refused.get_or_insert(refused);
                tracing::error!(tp = %first.tp, offset = %first.offset, "a record does not fit: what is before it is committed, then the sink stops");
            }
            FromWorker::Refused(refused) => return Err(EngineError::Refused(refused)),
            FromWorker::Broken { class, message } => {
                return Err(EngineError::Stopped { class, message });
            }
        }
        Ok(())
    }

    pub(super) fn on_tick(&mut self) -> Result<(), EngineError> {
        let counters = &self.progress.counters;
        let over = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
        let bytes = counters.uncut_bytes.load(Ordering::Relaxed);
        let records = counters.uncut_records.load(Ordering::Relaxed);
        let plan = &self.plan.commit;
        if over(plan.max_bytes.map(|b| b as u64), bytes) || over(plan.max_records, records) {
            let all: Vec<_> = self
                .coordinator
                .lanes()
                .map(|(tp, ..)| tp.clone())
                .collect();
            self.apply(Input::Due(all));
        }
        let settle = self.settling.due(Instant::now());
        if !settle.is_empty() {
            let deliver = Arc::clone(&self.deliver);
            self.settlements
                .spawn(async move { deliver.settle(&settle).await });
        }
        let (mut lanes, mut running) = (0, 0);
        for (_, _, runs) in self.coordinator.lanes() {
            lanes += 1;
            running += usize::from(runs);
        }
        self.progress.starting(lanes > 0 && running == 0);
        self.progress.filed(self.commits.len() as u64);
        self.look_at_due();
        self.look_elsewhere();
        self.hasten();
        self.apply(Input::Tick);
        Ok(())
    }

    fn hasten(&mut self) {
        let due = self
            .goals
            .due(self.coordinator.lanes(), self.deliver.scope());
        if !due.is_empty() {
            self.apply(Input::Due(due));
        }
    }

    pub(super) fn caught_up(&self) -> bool {
        self.recoveries.is_empty() && self.goals.reached(self.coordinator.lanes())
    }
}

fn panicked(error: &tokio::task::JoinError) -> EngineError {
    EngineError::Stopped {
        class: class::INTERNAL,
        message: format!("a task failed: {error}"),
    }
}

fn list(tps: &[TopicPartition]) -> String {
    tps.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
