//! One sink at work: consumer thread, worker threads, coordinator and destination wired together. Here messages are
//! carried; decisions are the coordinator's, the ledger's and the shelves'.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::deadletter::DeadLetters;
use crate::errors::{Class, Classified, OneLine, class};
use crate::failpoint;
use crate::ledger::CommitId;
use crate::observe::Progress;
use crate::observe::metrics::ClientStatistics;
use crate::plan::{Isolation, OnRecordsExpired, Plan};
use crate::record::{AssignmentEpoch, Offset, TopicPartition};
use crate::source::{
    BatchSink, Facts as KafkaFacts, Needs, Source, SourceCommand, SourceEvent, StartAt,
};

mod committing;
pub mod coordinator;
pub mod dataset;
pub mod deliver;
mod goal;
mod recovery;
mod router;
pub mod table;
pub mod worker;

use coordinator::{Coordinator, CutId, Input, Output, Recovered, Settled};
use deliver::{Deliver, Job, JobLane};
use goal::Goal;
use router::Router;
use worker::{FromWorker, Share, Shelf, ToWorker, Worker};

/// What the client's queue takes, as a multiple of the record bytes in it: records of 200 bytes measured.
const CLIENT_OVERHEAD: usize = 4;
const TICK: Duration = Duration::from_millis(100);
/// A group that nothing is committed for is tidied up after this long.
const IDLE: Duration = Duration::from_secs(30);
/// Waits between tries of what may pass: first and longest.
pub(crate) const RETRY: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(15));

/// Why a sink stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{message}")]
    Stopped { class: Class, message: String },
    #[error("record {tp} offset {offset} does not fit ({class:?}): {message}")]
    Refused {
        tp: TopicPartition,
        offset: Offset,
        class: crate::decode::RejectClass,
        message: String,
    },
    #[error("a worker thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Classified for EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Stopped { class, .. } => *class,
            Self::Refused { .. } => class::RECORD_REFUSED,
            Self::Thread(_) => class::INTERNAL,
        }
    }
}

impl EngineError {
    fn of(error: &(impl Classified + 'static)) -> Self {
        Self::Stopped {
            class: error.class(),
            message: OneLine(error).to_string(),
        }
    }
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    Shutdown,
    /// Every owned partition is committed up to its end as it was when the partition was taken.
    CaughtUp,
}

/// Tells the engine when its worker panics: a silent worker would stall the sink for ever.
struct Alarm<F>(mpsc::UnboundedSender<FromWorker<F>>);

impl<F> Drop for Alarm<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "a worker thread panicked".to_owned();
            let _ = self.0.send(FromWorker::Broken {
                class: class::INTERNAL,
                message,
            });
        }
    }
}

struct PendingCut<F> {
    waiting: usize,
    share: Share<F>,
    began: Instant,
}

/// A commit that ended: what to tell the coordinator, or why to stop.
type Ended = (CutId, Result<Settled, EngineError>);
type Found = (
    AssignmentEpoch,
    TopicPartition,
    Result<(Recovered, (Offset, Offset)), EngineError>,
);

struct Engine<D: Deliver> {
    plan: Arc<Plan>,
    progress: Progress,
    deliver: Arc<D>,
    letters: DeadLetters,
    facts: Arc<KafkaFacts>,
    coordinator: Coordinator,
    router: Arc<Router>,
    source: crate::source::SourceHandle,
    cuts: BTreeMap<CutId, PendingCut<D::File>>,
    commits: JoinSet<Ended>,
    recoveries: JoinSet<Vec<Found>>,
    /// What "caught up" means for each partition that was taken.
    goals: BTreeMap<TopicPartition, Goal>,
    until: Until,
    epochs: BTreeMap<TopicPartition, AssignmentEpoch>,
    was_assigned: bool,
    last_activity: Instant,
}

/// Runs one resource until `shutdown` turns true, `until` is reached, or it cannot go on.
///
/// `shelf` makes the shelf of each worker; `store` for dead letters is inside `letters`.
pub async fn run<D, S>(
    plan: Arc<Plan>,
    progress: Progress,
    deliver: Arc<D>,
    letters: DeadLetters,
    mut shelf: impl FnMut(usize) -> S,
    until: Until,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), EngineError>
where
    D: Deliver,
    S: Shelf<File = D::File> + 'static,
{
    let (worker_events, mut from_workers) = mpsc::unbounded_channel();
    let mut threads = Vec::new();
    let mut inboxes = Vec::new();
    for index in 0..plan.pod.workers {
        let (inbox, messages) = crossbeam_channel::unbounded();
        let worker = Worker::new(
            Arc::clone(&plan),
            progress.budget.clone(),
            Arc::clone(&progress.counters),
            shelf(index),
            messages,
            worker_events.clone(),
        );
        let alarm = Alarm(worker_events.clone());
        let builder = std::thread::Builder::new().name(format!("worker-{index}"));
        threads.push(
            builder
                .spawn(move || {
                    let _alarm = alarm;
                    worker.run();
                })
                .map_err(EngineError::Thread)?,
        );
        inboxes.push(inbox);
    }
    drop(worker_events);
    let router = Arc::new(Router::new(inboxes, &progress.budget));
    let (source_events, mut from_source) = mpsc::unbounded_channel();
    let dead = plan.dead_letter.is_some();
    let needs = Needs {
        keys: plan.decode.needs_keys(dead),
        headers: plan.decode.needs_headers(dead),
    };
    let facts = KafkaFacts::connect(&plan.source, Duration::from_secs(15))
        .map_err(|e| EngineError::of(&e))?;
    let sink: Arc<dyn BatchSink> = Arc::clone(&router) as Arc<dyn BatchSink>;
    let source =
        Source::start(&plan.source, needs, sink, source_events).map_err(|e| EngineError::of(&e))?;
    progress.set_ready();
    // The client's own queue is bounded by this; it counts whether full or not, with what small records cost the client
    // beside their bytes.
    let queue = plan.source.properties.get("queued.max.messages.kbytes");
    let queue: usize = queue
        .and_then(|kbytes| kbytes.expose().parse().ok())
        .unwrap_or(0);
    let _queue = progress.budget.reserve(queue * 1024 * CLIENT_OVERHEAD);

    let mut engine = Engine {
        coordinator: Coordinator::new(deliver.scope(), plan.source.drain_timeout),
        plan,
        progress,
        deliver,
        letters,
        facts: Arc::new(facts),
        router,
        source,
        cuts: BTreeMap::new(),
        commits: JoinSet::new(),
        recoveries: JoinSet::new(),
        goals: BTreeMap::new(),
        until,
        epochs: BTreeMap::new(),
        was_assigned: false,
        last_activity: Instant::now(),
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut closing = false;
    let result = loop {
        let step = tokio::select! {
            event = from_source.recv() => match event {
                Some(SourceEvent::Closed) => break Ok(()),
                Some(event) => engine.on_source(event),
                None => Err(EngineError::Stopped {
                    class: class::SOURCE_FATAL,
                    message: "the consumer thread ended unasked".to_owned(),
                }),
            },
            Some(event) = from_workers.recv() => engine.on_worker(event),
            Some(ended) = engine.commits.join_next() => match ended {
                Ok((cut, Ok(settled))) => {
                    engine.apply(Input::Settled(cut, settled));
                    Ok(())
                }
                Ok((_, Err(error))) => Err(error),
                Err(error) => Err(panicked(&error)),
            },
            Some(found) = engine.recoveries.join_next() => match found {
                Ok(found) => engine.on_recovered(found),
                Err(error) => Err(panicked(&error)),
            },
            _ = tick.tick() => engine.on_tick(),
            Ok(()) = shutdown.changed(), if !closing => Ok(()),
        };
        if let Err(error) = step {
            break Err(error);
        }
        if !closing && (*shutdown.borrow() || (until == Until::CaughtUp && engine.caught_up())) {
            closing = true;
            engine.source.send(SourceCommand::Close);
        }
    };
    for inbox in &engine.router.workers {
        let _ = inbox.send(ToWorker::Stop);
    }
    engine.commits.abort_all();
    engine.recoveries.abort_all();
    // After an error nobody answers revocations: the source then closes without asking.
    let source = engine.source;
    let joined = tokio::task::spawn_blocking(move || {
        let _ = source.join();
        threads.into_iter().for_each(|thread| drop(thread.join()));
    });
    let _ = joined.await;
    result
}

fn panicked(error: &tokio::task::JoinError) -> EngineError {
    EngineError::Stopped {
        class: class::INTERNAL,
        message: format!("a task failed: {error}"),
    }
}

impl<D: Deliver> Engine<D> {
    fn apply(&mut self, input: Input) {
        for output in self.coordinator.handle(input, Instant::now()) {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Recover(asked) => {
                self.was_assigned = true;
                self.recoveries.spawn(recovery::recover(
                    Arc::clone(&self.plan),
                    Arc::clone(&self.facts),
                    Arc::clone(&self.deliver),
                    self.progress.clone(),
                    asked,
                ));
            }
            Output::Run {
                tp,
                epoch,
                found,
                seek,
            } => {
                self.epochs.insert(tp.clone(), epoch);
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
                self.source
                    .send(SourceCommand::CommitOffsets(next.into_iter().collect()));
            }
        }
    }

    fn forget(&mut self, tps: &[TopicPartition]) {
        self.progress.disowned(tps);
        for tp in tps {
            self.goals.remove(tp);
            self.epochs.remove(tp);
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
        for lane in pending.share.lanes {
            letters.extend(lane.letters);
            held.extend(lane.held);
            if !lane.range.is_empty() {
                let expected = expected.get(&lane.tp).copied().flatten();
                lanes.push(JobLane {
                    tp: lane.tp,
                    expected,
                    range: lane.range,
                    rows: lane.rows,
                });
            }
        }
        let job = Job {
            commit_id: CommitId::fresh(),
            lanes,
            files: pending.share.files,
        };
        self.last_activity = Instant::now();
        let task = committing::commit(
            Arc::clone(&self.deliver),
            self.letters.clone(),
            self.progress.clone(),
            self.plan.commit.max_consecutive_failures,
            job,
            letters,
            pending.began,
        );
        self.commits.spawn(async move {
            let ended = task.await;
            drop(held);
            (cut, ended)
        });
    }

    fn on_source(&mut self, event: SourceEvent) -> Result<(), EngineError> {
        self.progress.polled();
        match event {
            SourceEvent::Assigned(tps) => {
                tracing::info!(partitions = %list(&tps), "assigned");
                self.was_assigned = true;
                self.apply(Input::Assigned(tps));
            }
            SourceEvent::Revoked(tps) => {
                tracing::info!(partitions = %list(&tps), "revoked");
                self.apply(Input::Revoked(tps));
            }
            SourceEvent::Lost(tps) => {
                tracing::warn!(partitions = %list(&tps), "lost");
                self.forget(&tps);
                self.apply(Input::Lost(tps));
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
                if let Some(goal) = self.goals.get_mut(&tp) {
                    goal.end = goal.end.min(at);
                    goal.read = true;
                }
                self.hasten();
            }
            SourceEvent::OutOfRange {
                tp,
                position,
                log_start,
                log_end,
            } => {
                return self.out_of_range(&tp, position, log_start, log_end);
            }
            SourceEvent::Fatal(error) => return Err(EngineError::of(&error)),
            SourceEvent::Trouble(error) => {
                tracing::warn!(error = %OneLine(&error), "the kafka client is in trouble");
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

    /// Retention overtook the position, or the log was cut short under it.
    fn out_of_range(
        &mut self,
        tp: &TopicPartition,
        position: Offset,
        log_start: Offset,
        log_end: Offset,
    ) -> Result<(), EngineError> {
        let expired = position < log_start;
        if expired && self.plan.source.on_records_expired == OnRecordsExpired::Skip {
            let gap = log_start.0 - position.0;
            tracing::warn!(%tp, %position, %log_start, gap, "records expired before they were read; going on at the log's start");
            self.progress.expired(gap as u64);
            if let Some(epoch) = self.epochs.get(tp).copied() {
                self.router.send(
                    tp,
                    ToWorker::Advance {
                        tp: tp.clone(),
                        epoch,
                        at: log_start,
                    },
                );
                self.source
                    .send(SourceCommand::Seek(tp.clone(), log_start, epoch));
            }
            return Ok(());
        }
        if expired {
            let message = format!(
                "{tp}: records from offset {position} to {log_start} expired before they were read"
            );
            return Err(EngineError::Stopped {
                class: class::OFFSET_OUT_OF_RANGE,
                message,
            });
        }
        // The recovery looks at the log and the ledger together, and applies the policy.
        tracing::warn!(%tp, %position, %log_end, "the log ends below the position");
        self.apply(Input::Reread(vec![tp.clone()]));
        Ok(())
    }

    fn on_worker(&mut self, event: FromWorker<D::File>) -> Result<(), EngineError> {
        match event {
            FromWorker::Due(tps) => self.apply(Input::Due(tps)),
            FromWorker::Sealed { cut, mut share } => {
                let Some(pending) = self.cuts.get_mut(&cut) else {
                    self.deliver.abandon(share.files);
                    return Ok(());
                };
                pending.share.lanes.append(&mut share.lanes);
                pending.share.files.append(&mut share.files);
                pending.waiting -= 1;
                if pending.waiting == 0 {
                    failpoint::pass("engine.sealed");
                    self.apply(Input::Sealed(cut));
                }
            }
            FromWorker::Refused {
                tp,
                offset,
                class,
                message,
            } => {
                return Err(EngineError::Refused {
                    tp,
                    offset,
                    class,
                    message,
                });
            }
            FromWorker::Broken { class, message } => {
                return Err(EngineError::Stopped { class, message });
            }
        }
        Ok(())
    }

    fn on_recovered(&mut self, found: Vec<Found>) -> Result<(), EngineError> {
        let mut next = Vec::new();
        for (epoch, tp, found) in found {
            let (found, watermarks) = found?;
            if !self.coordinator.owns(&tp, epoch) {
                continue;
            }
            next.extend(found.expected.map(|next| (tp.clone(), next)));
            self.progress.owned(&tp, found.expected, Some(watermarks));
            let goal = Goal {
                end: watermarks.1,
                read: false,
                from: found.start,
            };
            self.goals.entry(tp.clone()).or_insert(goal);
            self.apply(Input::Recovered { tp, epoch, found });
        }
        // The last owner may have died between its commit and the group's offsets.
        self.source.send(SourceCommand::CommitOffsets(next));
        Ok(())
    }

    fn on_tick(&mut self) -> Result<(), EngineError> {
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
        if self.commits.is_empty() && self.cuts.is_empty() {
            self.progress.idle();
            if self.last_activity.elapsed() >= IDLE {
                self.last_activity = Instant::now();
                let (deliver, lanes) = (Arc::clone(&self.deliver), self.running());
                tokio::spawn(async move { deliver.idle(&lanes).await });
            }
        }
        self.progress.filed(self.commits.len() as u64);
        self.hasten();
        self.apply(Input::Tick);
        Ok(())
    }

    fn running(&self) -> Vec<TopicPartition> {
        self.coordinator
            .lanes()
            .filter(|(_, _, running)| *running)
            .map(|(tp, ..)| tp.clone())
            .collect()
    }

    /// With an end in sight nothing waits for a rotation rule: a lane that has read to its goal is cut, a table's
    /// when all have.
    fn hasten(&mut self) {
        if self.until == Until::Shutdown {
            return;
        }
        let behind = |goal: &Goal, next: Option<Offset>| !goal.reached(next);
        let open: Vec<_> = self
            .coordinator
            .lanes()
            .filter_map(|(tp, next, _)| {
                Some((tp, self.goals.get(tp).filter(|goal| behind(goal, next))?))
            })
            .collect();
        let together = self.deliver.scope() == coordinator::CutScope::Together;
        if together && open.iter().any(|(_, goal)| !goal.read) {
            return;
        }
        let due: Vec<_> = open
            .into_iter()
            .filter(|(_, goal)| goal.read)
            .map(|(tp, _)| tp.clone())
            .collect();
        if !due.is_empty() {
            self.apply(Input::Due(due));
        }
    }

    fn caught_up(&self) -> bool {
        self.was_assigned
            && self.recoveries.is_empty()
            && self.coordinator.lanes().all(|(tp, next, running)| {
                running && self.goals.get(tp).is_some_and(|goal| goal.reached(next))
            })
    }
}

fn list(tps: &[TopicPartition]) -> String {
    tps.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
