//! What a worker and the engine say to each other.

use super::super::coordinator::CutId;
use crate::budget::Reservation;
use crate::deadletter::Letter;
use crate::decode::RejectClass;
use crate::errors::Class;
use crate::record::{AssignmentEpoch, LastRead, Offset, OffsetRange, RawBatch, TopicPartition};

/// Records, and what they hold of the budget.
pub(super) type Fetched = Box<(RawBatch, [Reservation; 2])>;

#[derive(Debug)]
pub enum ToWorker {
    Start {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        position: Offset,
    },
    Batch(Fetched),
    /// Everything below `at` has been read: offsets up to there without records are done with.
    Advance {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        at: Offset,
    },
    Cut {
        cut: CutId,
        lanes: Vec<(TopicPartition, AssignmentEpoch)>,
    },
    Discard(Vec<TopicPartition>),
    Stop,
}

#[derive(Debug)]
pub enum FromWorker<F> {
    Due(Vec<TopicPartition>),
    /// The first progress since the lane's last cut.
    Began(TopicPartition),
    Sealed {
        cut: CutId,
        share: Share<F>,
    },
    /// `onError: Fail` met a record that does not fit.
    Refused(Refused),
    /// Rows wait, because of this.
    Waits {
        class: Class,
        message: String,
    },
    Broken {
        class: Class,
        message: String,
    },
}

/// A record that stops the sink.
#[derive(Debug)]
pub struct Refused {
    pub tp: TopicPartition,
    pub offset: Offset,
    pub class: RejectClass,
    pub message: String,
    /// The lane stands right before it, and what is before it may be committed. Otherwise rows behind it are in open
    /// files, and nothing of this worker may be cut any more.
    pub before: bool,
}

/// What one worker sealed for a cut.
#[derive(Debug)]
pub struct Share<F> {
    pub lanes: Vec<SealedLane>,
    pub files: Vec<F>,
}

#[derive(Debug)]
pub struct SealedLane {
    pub tp: TopicPartition,
    pub range: OffsetRange,
    pub rows: u64,
    /// Before the end of the range, where the brokers tell.
    pub last_read: Option<LastRead>,
    pub letters: Vec<Letter>,
    /// Keeps the letters' bytes on the budget.
    pub held: Option<Reservation>,
}
