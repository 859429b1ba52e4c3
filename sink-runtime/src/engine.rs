//! One sink at work: starts consumer thread and worker threads, and hands what they say to the conductor until the end.
//! Decisions are the coordinator's, the ledger's and the shelves'.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::deadletter::DeadLetters;
use crate::errors::{Class, Classified, OneLine, class};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::source::{BatchSink, Facts as KafkaFacts, Needs, Source, SourceEvent, Spares};

mod committing;
mod conductor;
pub mod coordinator;
pub mod dataset;
pub mod deliver;
mod goal;
mod identity;
mod recovery;
mod router;
mod settling;
pub mod table;
pub mod worker;

pub(crate) use committing::ends;
use conductor::{Conductor, Wires};
use deliver::Deliver;
use router::Router;
use worker::{FromWorker, Refused, Shelf, ToWorker, Worker};

/// What the client's queue takes, as a multiple of the record bytes in it: records of 200 bytes measured.
const CLIENT_OVERHEAD: usize = 4;
const TICK: Duration = Duration::from_millis(100);
/// Between tries of what may pass.
pub(crate) const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));

/// Why a sink stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{message}")]
    Stopped { class: Class, message: String },
    #[error("record {} offset {} does not fit ({:?}): {}", .0.tp, .0.offset, .0.class, .0.message)]
    Refused(Refused),
    #[error("a worker thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Classified for EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Stopped { class, .. } => *class,
            Self::Refused(_) => class::RECORD_REFUSED,
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

/// Runs one resource until `shutdown` turns true, `until` is reached, or it cannot go on.
///
/// `shelf` makes the shelf of each worker; `store` for dead letters is inside `letters`.
pub async fn run<D, S>(
    plan: Arc<Plan>,
    progress: Progress,
    deliver: Arc<D>,
    letters: DeadLetters,
    mut shelf: impl FnMut(usize) -> Result<S, EngineError>,
    until: Until,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), EngineError>
where
    D: Deliver,
    S: Shelf<File = D::File> + 'static,
{
    let (worker_events, mut from_workers) = mpsc::unbounded_channel();
    let spares = Arc::new(Spares::new(&progress.budget));
    let (inboxes, threads) = workers(&plan, &progress, &spares, &mut shelf, &worker_events)?;
    drop(worker_events);
    let router = Arc::new(Router::new(inboxes, &progress.budget, spares));
    let (source_events, mut from_source) = mpsc::unbounded_channel();
    let dead = plan.dead_letter.is_some();
    let needs = Needs {
        keys: plan.decode.needs_keys(dead),
        headers: plan.decode.needs_headers(dead),
    };
    let facts = KafkaFacts::of_whole_logs(&plan.source, Duration::from_secs(15))
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

    let wires = Wires {
        plan,
        progress,
        deliver,
        letters,
        facts: Arc::new(facts),
        router,
        source,
    };
    let mut conductor = Conductor::new(wires, until);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut closing = false;
    let result = loop {
        let step = tokio::select! {
            event = from_source.recv() => match event {
                Some(SourceEvent::Closed) => break conductor.ended(),
                Some(event) => conductor.on_source(event),
                None => Err(EngineError::Stopped {
                    class: class::SOURCE_FATAL,
                    message: "the consumer thread ended unasked".to_owned(),
                }),
            },
            Some(event) = from_workers.recv() => conductor.on_worker(event),
            ended = conductor.on_task() => ended,
            _ = tick.tick() => conductor.on_tick(),
            Ok(()) = shutdown.changed(), if !closing => Ok(()),
        };
        if let Err(error) = step {
            break Err(error);
        }
        if !closing && (*shutdown.borrow() || conductor.caught_up() || conductor.is_refused()) {
            closing = true;
            conductor.close();
        }
    };
    let source = conductor.stop();
    // After an error nobody answers revocations: the source then closes without asking.
    let joined = tokio::task::spawn_blocking(move || {
        let _ = source.join();
        threads.into_iter().for_each(|thread| drop(thread.join()));
    });
    let _ = joined.await;
    result
}

type Inboxes = Vec<crossbeam_channel::Sender<ToWorker>>;

/// Starts the worker threads, each with a shelf of its own.
fn workers<S: Shelf + 'static>(
    plan: &Arc<Plan>,
    progress: &Progress,
    spares: &Arc<Spares>,
    shelf: &mut impl FnMut(usize) -> Result<S, EngineError>,
    events: &mpsc::UnboundedSender<FromWorker<S::File>>,
) -> Result<(Inboxes, Vec<JoinHandle<()>>), EngineError> {
    let mut threads = Vec::new();
    let mut inboxes = Vec::new();
    for index in 0..plan.pod.workers {
        let (inbox, messages) = crossbeam_channel::unbounded();
        let worker = Worker::new(
            Arc::clone(plan),
            progress.budget.clone(),
            Arc::clone(&progress.counters),
            Arc::clone(spares),
            shelf(index)?,
            messages,
            events.clone(),
        );
        let alarm = Alarm(events.clone());
        let work = move || {
            let _alarm = alarm;
            worker.run();
        };
        let builder = std::thread::Builder::new().name(format!("worker-{index}"));
        threads.push(builder.spawn(work).map_err(EngineError::Thread)?);
        inboxes.push(inbox);
    }
    Ok((inboxes, threads))
}
