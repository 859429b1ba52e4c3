//! A worker thread: raw batches of its topic-partitions through decoder and shelf, and cuts on demand. Owns the CPU
//! work of the data path; speaks to the engine in messages and never waits for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc::UnboundedSender;

use self::letters::{Pile, fullest};
use self::odd_times::OddTimes;
use super::coordinator::CutId;
use crate::budget::{Budget, Reservation};
use crate::deadletter::Letter;
use crate::decode::{Decoded, Decoder, Reject, RejectClass, decoder};
use crate::errors::{Class, Classified};
use crate::layout::{Rows, Unfit};
use crate::plan::{OnError, Plan};
use crate::record::{AssignmentEpoch, Offset, OffsetRange, RawBatch, TopicName, TopicPartition};
use crate::schema::precedent::Precedent;
use crate::source::Spares;

/// Longest time between two looks at the clock.
const TURN: Duration = Duration::from_millis(50);

mod letters;
mod odd_times;

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
    Refused(Refused),
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
    /// The record at its position stops the sink: nothing more is taken.
    halted: bool,
}

impl Lane {
    fn takes(&self, epoch: AssignmentEpoch) -> bool {
        self.epoch == epoch && !self.halted
    }

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
    decoders: HashMap<TopicName, Box<dyn Decoder>>,
    counted_files: usize,
    /// A record was refused under `onError: Fail`, and rows behind it are in open files: nothing may be cut.
    halted: bool,
    odd_times: OddTimes,
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
        let odd_times = OddTimes::but(decode.metadata.timestamp.clone());
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
            decoders: HashMap::new(),
            counted_files: 0,
            halted: false,
            odd_times,
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
                    halted: false,
                };
                self.lanes.insert(tp, lane);
                Ok(())
            }
            ToWorker::Batch(fetched) => {
                let (raw, held) = *fetched;
                let result = self.batch(&raw);
                drop(held);
                self.spares.give(raw);
                result
            }
            ToWorker::Advance { tp, epoch, at } => {
                if let Some(lane) = self.lanes.get_mut(&tp).filter(|lane| lane.takes(epoch))
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
                for tp in &tps {
                    self.lanes.remove(tp);
                }
                Ok(())
            }
            ToWorker::Stop => Ok(()),
        }
    }

    fn batch(&mut self, raw: &RawBatch) -> Result<(), ShelfError> {
        let Some(lane) = self
            .lanes
            .get_mut(&raw.tp)
            .filter(|lane| lane.takes(raw.epoch))
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
            mut batch,
            rows: mut from,
            mut rejects,
        } = decoded;
        // Of what is behind a record that stops the sink nothing is written: what is before it can be committed.
        let stops = rejects.iter().filter(|reject| self.stops(reject));
        let stop = stops.min_by_key(|reject| reject.row).cloned();
        if let Some(stop) = &stop {
            from.truncate(from.partition_point(|row| *row < stop.row));
            batch = batch.slice(0, from.len());
            rejects.retain(|reject| reject.row < stop.row);
        }
        let mut count = from.len();
        if count > 0 {
            self.odd_times.look(&raw.tp, &batch);
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
        let end = stop.as_ref().map(|stop| stop.row as usize);
        self.count(raw, end.unwrap_or(raw.len()), count, rejects.len());
        if !rejects.is_empty() && !self.rejects(raw, &rejects) {
            return Ok(());
        }
        if let Some(lane) = self.lanes.get_mut(&raw.tp) {
            let position = end.map_or(last + 1, |end| raw.offsets[end]);
            let moved = position > lane.position;
            lane.rows += count as u64;
            lane.position = position;
            lane.halted = stop.is_some();
            if moved && lane.begins(now) {
                self.send(FromWorker::Began(raw.tp.clone()));
            }
        }
        if let Some(stop) = stop {
            self.refuse(raw, &stop, true);
        }
        Ok(())
    }

    fn policy(&self, reject: &Reject) -> OnError {
        match reject.class {
            RejectClass::Tombstone => OnError::DeadLetter,
            _ => self.plan.decode.on_error,
        }
    }

    fn stops(&self, reject: &Reject) -> bool {
        self.policy(reject) == OnError::Fail
    }

    fn refuse(&self, raw: &RawBatch, reject: &Reject, before: bool) {
        self.counters.rejected[reject.class as usize].fetch_add(1, Ordering::Relaxed);
        self.send(FromWorker::Refused(Refused {
            tp: raw.tp.clone(),
            offset: Offset(raw.offsets[reject.row as usize]),
            class: reject.class,
            message: reject.message.clone(),
            before,
        }));
    }

    /// Of the first records of a batch.
    fn count(&self, raw: &RawBatch, records: usize, rows: usize, rejects: usize) {
        let bytes = match records == raw.len() {
            true => raw.values.bytes.len(),
            false => (0..records)
                .filter_map(|row| raw.values.get(row))
                .map(<[u8]>::len)
                .sum(),
        };
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
            let policy = self.policy(reject);
            if policy == OnError::Fail {
                self.halted = true;
                self.refuse(raw, reject, false);
                return false;
            }
            self.counters.rejected[reject.class as usize].fetch_add(1, Ordering::Relaxed);
            if policy == OnError::DeadLetter {
                letters.push(Letter::of(raw, reject));
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
