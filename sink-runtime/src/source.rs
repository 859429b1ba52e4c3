//! The Kafka consumer: a thread of its own that polls always, fetches in batches, and speaks to the engine in messages.
//! It never blocks on the engine: back-pressure is not draining the (bounded) fetch queue while the memory budget is
//! high. Rebalances are events that the engine answers; until it does, polling goes on.

mod assembly;
mod batch;
mod consumer;
mod context;
mod epochs;
mod facts;
mod group;
mod inquiry;
mod owned;
mod partitions;
mod spares;
mod topic_ids;
mod trouble;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::{JoinHandle, Thread};

use crossbeam_channel::Sender;
use rdkafka::error::KafkaError;
use tokio::sync::mpsc::UnboundedSender;

pub use self::facts::{Extent, Facts, Lookup, cuts};
pub use self::spares::Spares;
use crate::plan::{Property, SourcePlan};
use crate::record::{AssignmentEpoch, Offset, RawBatch, TopicPartition};

/// Which parts of a record besides its value go into batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub keys: bool,
    pub headers: bool,
}

/// Where batches go. Called on the consumer thread: never blocks.
pub trait BatchSink: Send + Sync {
    /// Batches of one partition and epoch come in order.
    fn push(&self, batch: RawBatch);
    /// Asked before each fetch.
    fn pressure(&self) -> Pressure;
    /// Whether nothing waits to be done for the partition: what is gathered for it is better given than kept.
    fn awaits(&self, _tp: &TopicPartition) -> bool {
        false
    }
    /// Buffers for the next batch, if some lie unused.
    fn spare(&self) -> Option<RawBatch> {
        None
    }
}

/// How full the memory budget is. The wide band in the middle keeps the consumer from flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Fetch.
    Low,
    /// Go on as before.
    Between,
    /// Fetch nothing.
    High,
}

/// From the consumer thread to the engine. Raw batches do not pass here: they go straight to the worker that owns the
/// topic-partition (`BatchSink`).
#[derive(Debug)]
pub enum SourceEvent {
    /// The group gave us these. Nothing is fetched until `SourceCommand::Start` names a position for each.
    Assigned(Vec<TopicPartition>),
    /// To be given up in order: answer with `SourceCommand::Release` when committed or dropped. No batch of these
    /// follows this event. What is not released within the plan's drain timeout is `Lost`.
    Revoked(Vec<TopicPartition>),
    /// Fetching begins (or goes on, after `Seek`) at this offset; what `StartAt` meant. Precedes the epoch's batches.
    Started {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        at: Offset,
    },
    /// Already somebody else's: drop everything of them at once. No answer.
    Lost(Vec<TopicPartition>),
    /// Everything below `at` was delivered, and there is no more for now or it was announced (`SourceCommand::Announce`).
    /// May be said twice of one end.
    CaughtUp {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        at: Offset,
    },
    /// The position is not in the log: `log_start` is the first offset that is, `log_end` the end. Nothing is fetched
    /// until `SourceCommand::Seek`.
    OutOfRange {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        position: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    /// The client says that it cannot go on.
    Fatal(SourceError),
    /// Noteworthy, not fatal (broker down, …).
    Trouble(SourceError),
    /// librdkafka statistics, JSON.
    Statistics(String),
    /// The thread ended after `SourceCommand::Close`.
    Closed,
}

/// From the engine to the consumer thread.
#[derive(Debug)]
pub enum SourceCommand {
    /// Fetch these from here on, with batches marked by the epoch. Partitions that are not waiting for a start (taken
    /// away in the meantime) are passed over.
    Start(Vec<(TopicPartition, StartAt, AssignmentEpoch)>),
    /// The answer to `Revoked`; of some of them first, of others later, as they are done.
    Release(Vec<TopicPartition>),
    /// Continue an assigned partition elsewhere, under a new epoch; batches of the old one stop.
    Seek(TopicPartition, Offset, AssignmentEpoch),
    /// Say `CaughtUp` once of each as soon as everything below the offset was delivered. The brokers tell of an end half a
    /// second after it was reached, and never of one that is passed.
    Announce(Vec<(TopicPartition, Offset)>),
    /// Advisory group offsets, asynchronous.
    CommitOffsets(Vec<(TopicPartition, Offset)>),
    /// Leave the group and end the thread. Revocations follow as events first; what is not released within the plan's
    /// drain timeout is lost.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    Offset(Offset),
    Earliest,
    Latest,
    /// Milliseconds since the epoch; latest when no record is as young.
    Timestamp(i64),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    #[error("kafka client cannot be made: {0}")]
    Client(String),
    #[error("brokers at \"{0}\" cannot be reached")]
    Unreachable(String),
    #[error("kafka refused the credentials: {0}")]
    Authentication(String),
    #[error("kafka denied access: {0}")]
    Denied(String),
    #[error("topic \"{0}\" does not exist")]
    NoSuchTopic(String),
    #[error("fatal kafka client error: {0}")]
    Fatal(String),
    /// Skipping it would lose records: the partition is not read on.
    #[error("records of \"{tp}\" from offset {offset} cannot be read: {message}")]
    Unreadable {
        tp: TopicPartition,
        offset: Offset,
        message: String,
    },
    #[error("commit group offsets: {0}")]
    CommitOffsets(String),
    #[error("{what}: {message}")]
    Lookup { what: &'static str, message: String },
    #[error("kafka: {0}")]
    Other(String),
}

/// The consumer.
#[derive(Debug)]
pub struct Source;

impl Source {
    /// Makes the client and its thread, and subscribes. Brokers need not be reachable yet. Events end with `Closed`;
    /// an end without it means that the thread panicked.
    pub fn start(
        plan: &SourcePlan,
        needs: Needs,
        sink: Arc<dyn BatchSink>,
        events: UnboundedSender<SourceEvent>,
    ) -> Result<SourceHandle, SourceError> {
        consumer::start(plan, needs, sink, events)
    }
}

/// The way to the consumer thread. Dropping it without `Close` closes at once, with nobody to answer revocations.
#[derive(Debug)]
pub struct SourceHandle {
    commands: Sender<SourceCommand>,
    thread: Thread,
    join: JoinHandle<()>,
}

impl SourceHandle {
    /// Takes effect within the thread's next turn. Nothing happens when the thread has ended.
    pub fn send(&self, command: SourceCommand) {
        if self.commands.send(command).is_ok() {
            self.thread.unpark();
        }
    }

    /// Makes the thread ask for the pressure now rather than a few milliseconds later.
    pub fn wake(&self) {
        self.thread.unpark();
    }

    /// Waits for the thread's end: after `Closed`, or to close with nobody to answer revocations. Blocks.
    pub fn join(self) -> Result<(), SourceError> {
        drop(self.commands);
        self.thread.unpark();
        self.join
            .join()
            .map_err(|_| SourceError::Fatal("the consumer thread panicked".to_owned()))
    }
}

/// A client that cannot be made, in words without the value of any secret property.
fn client_error(plan: &SourcePlan, error: &KafkaError) -> SourceError {
    SourceError::Client(match error {
        KafkaError::ClientConfig(_, description, key, _) => match plan.properties.get(key) {
            Some(Property::Secret(_)) => format!("property \"{key}\" is not valid"),
            _ => format!("property \"{key}\": {description}"),
        },
        KafkaError::ClientCreation(description) => description.clone(),
        other => other.to_string(),
    })
}
