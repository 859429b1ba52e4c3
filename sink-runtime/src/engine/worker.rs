//! A worker thread: raw batches of its topic-partitions through decoder and shelf, and cuts on demand. Owns the CPU
//! work of the data path; speaks to the engine in messages and never waits for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc::UnboundedSender;

use self::backlog::Backlog;
use self::letters::{Pile, fullest};
use super::coordinator::CutId;
use crate::backoff::Backoff;
use crate::budget::{Budget, Reservation};
use crate::deadletter::Letter;
use crate::decode::{Decoded, Decoder, Reject, RejectClass, decoder};
use crate::errors::{Class, Classified, class};
use crate::layout::{Rows, Unfit};
use crate::plan::{OnError, Plan};
use crate::record::{AssignmentEpoch, Offset, OffsetRange, RawBatch, TopicName, TopicPartition};
use crate::schema::precedent::Precedent;
use crate::source::Spares;

/// Longest time between two looks at the clock.
const TURN: Duration = Duration::from_millis(50);
/// Between tries of a batch that the destination cannot take yet: each decodes it again.
const RETRY: Backoff = Backoff::new(TURN, Duration::from_secs(1));

mod backlog;
mod letters;

#[derive(Debug)]
pub enum ToWorker {
    Start {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        position: Offset,
    },
    Batch(Box<(RawBatch, [Reservation; 2])>),
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
    Refused {
        tp: TopicPartition,
        offset: Offset,
        class: RejectClass,
        message: String,
    },
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
    pub letters: Vec<Letter>,
    /// Keeps the letters' bytes on the budget.
    pub held: Option<Reservation>,
}

#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("{0}")]
    Fatal(
        String,
        #[source] Box<dyn std::error::Error + Send + Sync>,
        Class,
    ),
    /// Columns that were found in records are not what the destination has: decoded for its columns, or without the one
    /// that it cannot have, they fit.
    #[error("{why}")]
    Unlike {
        precedent: Arc<Precedent>,
        /// The full name of the first that does not fit.
        column: String,
        why: Box<ShelfError>,
    },
    /// The destination cannot take rows yet, and nothing was taken: what it waits for may pass. With news of it, if any.
    #[error("the destination cannot take rows yet")]
    Later { told: Option<(Class, String)> },
}

impl ShelfError {
    pub fn new(error: impl Classified + Send + Sync + 'static) -> Self {
        let class = error.class();
        Self::Fatal(error.to_string(), Box::new(error), class)
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Fatal(_, _, class) => *class,
            Self::Unlike { why, .. } => why.class(),
            Self::Later { told } => told.as_ref().map_or(class::INTERNAL, |(class, _)| *class),
        }
    }
}

/// Where decoded rows of a worker wait for their cut: a dataset's or a table's open files.
pub trait Shelf: Send {
    type File: Send + 'static;

    /// What the destination says of found columns, once it is there.
    fn precedent(&mut self) -> Option<Arc<Precedent>> {
        None
    }

    /// Makes ready for rows of this schema, before anything is done with them.
    fn prepare(&mut self, _schema: &SchemaRef) -> Result<(), ShelfError> {
        Ok(())
    }

    /// Takes the rows that have a place, and gives back which have none.
    fn write(&mut self, rows: Rows, now: Instant) -> Result<Vec<Unfit>, ShelfError>;

    /// Seals all that these lanes wrote since their last seal. (A table's shelf seals everything it has.)
    fn seal(&mut self, lanes: &[TopicPartition]) -> Result<Vec<Self::File>, ShelfError>;

    fn discard(&mut self, lanes: &[TopicPartition]);

    /// Lanes that a rotation rule wants committed.
    fn due(&mut self, now: Instant) -> Vec<TopicPartition>;

    /// Gives memory back while the budget is above its mark.
    fn shed(&mut self, budget: &Budget) -> Result<(), ShelfError>;

    fn open_files(&self) -> usize;
}

/// Counted by the workers, read by metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub rows: AtomicU64,
    pub tombstones: AtomicU64,
    pub rejected: [AtomicU64; RejectClass::ALL.len()],
    /// Decoded and not yet cut: what `commit.maxBytes` and `maxRecords` look at.
    pub uncut_bytes: AtomicU64,
    pub uncut_records: AtomicU64,
    pub open_files: AtomicU64,
}

#[derive(Debug)]
struct Lane {
    epoch: AssignmentEpoch,
    /// Start of the next cut's range.
    start: i64,
    /// One past the last offset done with.
    position: i64,
    rows: u64,
    letters: Pile,
    /// Since when there is progress to commit.
    dirty: Option<Instant>,
    asked: bool,
}

impl Lane {
    /// There is progress to commit. Whether it is the first since the last cut.
    fn begins(&mut self, now: Instant) -> bool {
        let first = self.dirty.is_none();
        self.dirty.get_or_insert(now);
        first
    }
}

pub(super) struct Worker<S: Shelf> {
    plan: Arc<Plan>,
    decode: Arc<crate::plan::DecodePlan>,
    budget: Budget,
    counters: Arc<Counters>,
    spares: Arc<Spares>,
    shelf: S,
    inbox: Receiver<ToWorker>,
    outbox: UnboundedSender<FromWorker<S::File>>,
    lanes: BTreeMap<TopicPartition, Lane>,
    /// Batches, and what followed them, that the destination cannot take yet.
    backlog: Backlog,
    decoders: HashMap<TopicName, Box<dyn Decoder>>,
    counted_files: usize,
    /// A record was refused under `onError: Fail`: nothing after it may be cut.
    halted: bool,
}

impl<S: Shelf> std::fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl<S: Shelf> Worker<S> {
    pub(super) fn new(
        plan: Arc<Plan>,
        budget: Budget,
        counters: Arc<Counters>,
        spares: Arc<Spares>,
        shelf: S,
        inbox: Receiver<ToWorker>,
        outbox: UnboundedSender<FromWorker<S::File>>,
    ) -> Self {
        let decode = Arc::new(plan.decode.clone());
        Self {
            plan,
            decode,
            budget,
            counters,
            spares,
            shelf,
            inbox,
            outbox,
            lanes: BTreeMap::new(),
            backlog: Backlog::default(),
            decoders: HashMap::new(),
            counted_files: 0,
            halted: false,
        }
    }

    /// Runs until `Stop`, or until the engine is gone.
    pub(super) fn run(mut self) {
        let mut looked = Instant::now();
        loop {
            let result = match self.inbox.recv_timeout(TURN) {
                Ok(ToWorker::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(_) if self.halted => Ok(()),
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => Ok(()),
            };
            let result = result.and_then(|()| self.catch_up(Instant::now()));
            let result = result.and_then(|()| {
                if looked.elapsed() < TURN && !self.budget.must_shed() {
                    return Ok(());
                }
                looked = Instant::now();
                self.look(looked)
            });
            if let Err(error) = result {
                let message = crate::errors::OneLine(&error).to_string();
                self.send(FromWorker::Broken {
                    class: error.class(),
                    message,
                });
                return;
            }
        }
    }

    fn send(&self, message: FromWorker<S::File>) {
        // A closed channel means that the engine is gone; the next receive ends this thread.
        let _ = self.outbox.send(message);
    }

    fn handle(&mut self, message: ToWorker) -> Result<(), ShelfError> {
        match message {
            ToWorker::Start {
                tp,
                epoch,
                position,
            } => {
                let lane = Lane {
                    epoch,
                    start: position.0,
                    position: position.0,
                    rows: 0,
                    letters: Pile::default(),
                    dirty: None,
                    asked: false,
                };
                self.lanes.insert(tp, lane);
                Ok(())
            }
            // In the order of the log.
            ToWorker::Batch(_) | ToWorker::Advance { .. } if !self.backlog.is_empty() => {
                self.backlog.messages.push_back(message);
                Ok(())
            }
            ToWorker::Batch(fetched) => match self.batch(&fetched.0) {
                Err(ShelfError::Later { told }) => {
                    // On the budget all the while: reading stops when it is full.
                    self.backlog.begin(fetched, Instant::now());
                    if let Some((class, message)) = told {
                        self.send(FromWorker::Waits { class, message });
                    }
                    Ok(())
                }
                result => {
                    let (raw, held) = *fetched;
                    drop(held);
                    self.spares.give(raw);
                    result
                }
            },
            ToWorker::Advance { tp, epoch, at } => {
                if let Some(lane) = self.lanes.get_mut(&tp).filter(|lane| lane.epoch == epoch)
                    && at.0 > lane.position
                {
                    lane.position = at.0;
                    if lane.begins(Instant::now()) {
                        self.send(FromWorker::Began(tp));
                    }
                }
                Ok(())
            }
            ToWorker::Cut { cut, lanes } => self.cut(cut, &lanes),
            ToWorker::Discard(tps) => {
                self.shelf.discard(&tps);
                self.backlog.discard(&tps);
                for tp in &tps {
                    self.lanes.remove(tp);
                }
                Ok(())
            }
            ToWorker::Stop => Ok(()),
        }
    }

    /// Tries the backlog when it is time.
    fn catch_up(&mut self, now: Instant) -> Result<(), ShelfError> {
        if self.halted || self.backlog.is_empty() || now < self.backlog.again {
            return Ok(());
        }
        let mut messages = std::mem::take(&mut self.backlog.messages);
        while let Some(message) = messages.pop_front() {
            self.handle(message)?;
            if self.halted {
                return Ok(());
            }
            if !self.backlog.is_empty() {
                self.backlog.messages.append(&mut messages);
                return Ok(());
            }
        }
        self.backlog.tries = 0;
        Ok(())
    }

    fn batch(&mut self, raw: &RawBatch) -> Result<(), ShelfError> {
        let Some(lane) = self
            .lanes
            .get_mut(&raw.tp)
            .filter(|lane| lane.epoch == raw.epoch)
        else {
            return Ok(());
        };
        let (Some(first), Some(last)) = (raw.offsets.first(), raw.offsets.last()) else {
            return Ok(());
        };
        if *last < lane.position {
            return Ok(());
        }
        if *first < lane.position {
            // What is below is in the destination, or never will be.
            let position = lane.position;
            let done = raw.offsets.partition_point(|offset| *offset < position);
            return self.batch(&raw.rest_from(done));
        }
        let decoder = match self.decoders.get_mut(&raw.tp.topic) {
            Some(decoder) => decoder,
            None => self
                .decoders
                .entry(raw.tp.topic.clone())
                .or_insert_with(|| decoder(&self.decode)),
        };
        if let Some(precedent) = self.shelf.precedent() {
            decoder.adopt(&precedent);
        }
        let decoded = loop {
            let decoded = decoder.decode(raw);
            if decoded.rows.is_empty() {
                break decoded;
            }
            match self.shelf.prepare(&decoded.batch.schema()) {
                Ok(()) => break decoded,
                // Ends: what was adopted or forbidden once changes nothing the next time. Then no record can mend it.
                Err(ShelfError::Unlike {
                    precedent,
                    column,
                    why,
                }) if decoder.adopt(&precedent) || decoder.forbid(&column, &why.to_string()) => {}
                Err(error) => return Err(error),
            }
        };
        let now = Instant::now();
        let Decoded {
            batch,
            rows: from,
            mut rejects,
        } = decoded;
        let mut count = from.len();
        if count > 0 {
            let pick = |all: &[i64]| from.iter().map(|row| all[*row as usize]).collect();
            let rows = Rows {
                tp: raw.tp.clone(),
                offsets: pick(&raw.offsets),
                timestamps: pick(&raw.timestamps),
                batch,
            };
            let unfit = self.shelf.write(rows, now)?;
            if !unfit.is_empty() {
                count -= unfit.len();
                rejects.extend(unfit.into_iter().map(|unfit| Reject {
                    row: from[unfit.row],
                    class: unfit.why.class,
                    message: unfit.why.message.clone(),
                }));
                rejects.sort_unstable_by_key(|reject| reject.row);
            }
        }
        self.count(raw, count, rejects.len());
        if !rejects.is_empty() && !self.rejects(raw, &rejects) {
            return Ok(());
        }
        if let Some(lane) = self.lanes.get_mut(&raw.tp) {
            lane.rows += count as u64;
            lane.position = last + 1;
            if lane.begins(now) {
                self.send(FromWorker::Began(raw.tp.clone()));
            }
        }
        Ok(())
    }

    fn count(&self, raw: &RawBatch, rows: usize, rejects: usize) {
        let (records, bytes) = (raw.len(), raw.values.bytes.len());
        let counters = &self.counters;
        for (counter, more) in [
            (&counters.records, records),
            (&counters.bytes, bytes),
            (&counters.rows, rows),
            (&counters.uncut_records, records),
            (&counters.uncut_bytes, bytes),
            (&counters.tombstones, records - rows - rejects),
        ] {
            counter.fetch_add(more as u64, Ordering::Relaxed);
        }
    }

    /// False when the sink must stop at one of them.
    fn rejects(&mut self, raw: &RawBatch, rejects: &[Reject]) -> bool {
        let mut letters = Vec::new();
        for reject in rejects {
            self.counters.rejected[reject.class as usize].fetch_add(1, Ordering::Relaxed);
            let policy = match reject.class {
                RejectClass::Tombstone => OnError::DeadLetter,
                _ => self.plan.decode.on_error,
            };
            match policy {
                OnError::Skip => {}
                OnError::DeadLetter => letters.push(Letter::of(raw, reject)),
                OnError::Fail => {
                    let offset = Offset(raw.offsets[reject.row as usize]);
                    let message = reject.message.clone();
                    self.halted = true;
                    self.send(FromWorker::Refused {
                        tp: raw.tp.clone(),
                        offset,
                        class: reject.class,
                        message,
                    });
                    return false;
                }
            }
        }
        if let Some(lane) = self.lanes.get_mut(&raw.tp)
            && !letters.is_empty()
        {
            lane.letters.add(letters, &self.budget);
        }
        true
    }

    fn cut(
        &mut self,
        cut: CutId,
        lanes: &[(TopicPartition, AssignmentEpoch)],
    ) -> Result<(), ShelfError> {
        let mut sealed = Vec::new();
        let mut tps = Vec::new();
        for (tp, epoch) in lanes {
            let Some(lane) = self.lanes.get_mut(tp).filter(|lane| lane.epoch == *epoch) else {
                continue;
            };
            let (letters, held) = lane.letters.take();
            sealed.push(SealedLane {
                tp: tp.clone(),
                range: OffsetRange {
                    start: Offset(lane.start),
                    end: Offset(lane.position),
                },
                rows: std::mem::take(&mut lane.rows),
                letters,
                held,
            });
            lane.start = lane.position;
            lane.dirty = None;
            lane.asked = false;
            tps.push(tp.clone());
        }
        let files = if tps.is_empty() {
            Vec::new()
        } else {
            self.shelf.seal(&tps)?
        };
        self.send(FromWorker::Sealed {
            cut,
            share: Share {
                lanes: sealed,
                files,
            },
        });
        Ok(())
    }

    fn look(&mut self, now: Instant) -> Result<(), ShelfError> {
        if self.budget.must_shed() {
            self.shelf.shed(&self.budget)?;
        }
        let open = self.shelf.open_files();
        if open != self.counted_files {
            // Wrapping addition of a difference: the sum over the workers stays right.
            self.counters.open_files.fetch_add(
                (open as u64).wrapping_sub(self.counted_files as u64),
                Ordering::Relaxed,
            );
            self.counted_files = open;
        }
        let mut due = self.shelf.due(now);
        let piles = self.lanes.iter().map(|(tp, lane)| (tp, &lane.letters));
        for tp in fullest(piles, self.budget.excess()) {
            if !due.contains(&tp) {
                due.push(tp);
            }
        }
        let max_open = self.plan.rotation.max_open;
        for (tp, lane) in &mut self.lanes {
            let late = lane
                .dirty
                .is_some_and(|since| now.duration_since(since) >= max_open);
            if (late || lane.letters.is_full()) && !due.contains(tp) {
                due.push(tp.clone());
            }
        }
        if !due.is_empty() {
            self.send(FromWorker::Due(due));
        }
        Ok(())
    }
}

#[cfg(test)]
mod found_columns;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting;
