//! The Kafka consumer: a thread of its own that polls always, fetches in batches, and speaks to the engine in messages.
//! It never blocks on the engine: back-pressure is not draining the (bounded) fetch queue while the memory budget is
//! high. Rebalances are events that the engine answers; until it does, polling goes on.

use crate::record::{AssignmentEpoch, Offset, TopicPartition};

/// From the consumer thread to the engine. Raw batches do not pass here: they go straight to the worker that owns the
/// topic-partition (`BatchSink`).
#[derive(Debug)]
pub enum SourceEvent {
    /// The group gave us these. Nothing is fetched until `SourceCommand::Start` names a position for each.
    Assigned(Vec<TopicPartition>),
    /// To be given up in order: answer with `SourceCommand::Release` when committed or dropped. No batch of these
    /// follows this event.
    Revoked(Vec<TopicPartition>),
    /// Already somebody else's: drop everything of them at once. No answer.
    Lost(Vec<TopicPartition>),
    /// Everything below `at` was delivered and there is no more for now.
    CaughtUp { tp: TopicPartition, at: Offset },
    /// The position is not in the log: `log_start` is the first offset that is, `log_end` the end.
    OutOfRange {
        tp: TopicPartition,
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
    /// Fetch these from here on, with batches marked by the epoch.
    Start(Vec<(TopicPartition, StartAt, AssignmentEpoch)>),
    /// The answer to `Revoked`.
    Release(Vec<TopicPartition>),
    /// Continue an assigned partition elsewhere, under a new epoch; batches of the old one stop.
    Seek(TopicPartition, Offset, AssignmentEpoch),
    /// Advisory group offsets, asynchronous.
    CommitOffsets(Vec<(TopicPartition, Offset)>),
    /// Leave the group (revocations follow as events first) and end the thread.
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

#[derive(Debug, thiserror::Error)]
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
    #[error("kafka: {0}")]
    Other(String),
}
