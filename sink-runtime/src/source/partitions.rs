//! What the consumer thread knows of each partition the group gave it. Pure bookkeeping: who may deliver what.
//! Invariants: a record is accepted only while its partition is being fetched, and only at or above the next expected
//! offset, so that neither a purge and refetch inside the client nor a leftover of an earlier assignment delivers twice.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::Needs;
use super::assembly::{Draft, Fields, Habit, LINGER};
use crate::record::{AssignmentEpoch, RawBatch, TopicPartition};

/// Where a partition stands between assignment and revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The engine has not said where to start.
    Awaiting,
    /// The brokers are being asked what offset the start position is.
    Locating,
    Fetching,
    /// The position is not in the log, or a record cannot be read: the engine decides.
    Halted,
    /// The engine was told to give it up.
    Revoked,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) tp: TopicPartition,
    pub(super) phase: Phase,
    pub(super) epoch: AssignmentEpoch,
    /// The lowest offset that was not delivered.
    pub(super) next: i64,
    /// Part of the client's assignment.
    pub(super) held: bool,
    /// Something arrived since the assignment: messages are forwarded for good.
    pub(super) settled: bool,
    /// Started at the log's start, whatever offset that was, and nothing arrived yet.
    pub(super) from_log_start: bool,
    /// To be announced when everything below it was delivered.
    pub(super) announce: Option<i64>,
    draft: Option<(u64, Draft)>,
    habit: Habit,
}

/// Records that are worth a worker's while: below, what a batch costs by itself shows.
const WORTH_HASTE: usize = 1000;

/// A partition's place in the table, valid until the partition is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

#[derive(Debug)]
pub(super) struct Partitions {
    needs: Needs,
    max_records: usize,
    table: Vec<Option<Partition>>,
    /// Topic, then partition number.
    places: HashMap<String, Vec<Option<Place>>>,
    /// Drafts in the order they were begun; one that is done already is skipped by its number.
    drafts: VecDeque<(Instant, Place, u64)>,
    begun: u64,
}

impl Partitions {
    pub(super) fn new(needs: Needs, max_records: usize) -> Self {
        Self {
            needs,
            max_records: max_records.max(1),
            table: Vec::new(),
            places: HashMap::new(),
            drafts: VecDeque::new(),
            begun: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.iter().all(Option::is_none)
    }

    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<Place> {
        let number = usize::try_from(partition).ok()?;
        *self.places.get(topic)?.get(number)?
    }

    pub(super) fn get(&self, tp: &TopicPartition) -> Option<&Partition> {
        self.at(self.find(tp.topic.as_str(), tp.partition)?)
    }

    pub(super) fn get_mut(&mut self, tp: &TopicPartition) -> Option<&mut Partition> {
        let place = self.find(tp.topic.as_str(), tp.partition)?;
        self.at_mut(place)
    }

    pub(super) fn at(&self, place: Place) -> Option<&Partition> {
        self.table.get(place.0)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Partition> {
        self.table.get_mut(place.0)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.table.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.table.iter_mut().flatten()
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> BTreeSet<TopicPartition> {
        self.iter().map(|partition| partition.tp.clone()).collect()
    }

    /// False when it is there already, or no partition has such a number.
    pub(super) fn insert(&mut self, tp: TopicPartition) -> bool {
        let Ok(number) = usize::try_from(tp.partition) else {
            return false;
        };
        let of_topic = self.places.entry(tp.topic.as_str().to_owned()).or_default();
        if of_topic.len() <= number {
            of_topic.resize(number + 1, None);
        }
        if of_topic[number].is_some() {
            return false;
        }
        let free = self.table.iter().position(Option::is_none);
        let place = free.unwrap_or(self.table.len());
        if free.is_none() {
            self.table.push(None);
        }
        of_topic[number] = Some(Place(place));
        self.table[place] = Some(Partition {
            tp,
            phase: Phase::Awaiting,
            epoch: AssignmentEpoch(0),
            next: 0,
            held: false,
            settled: false,
            from_log_start: false,
            announce: None,
            draft: None,
            habit: Habit::default(),
        });
        true
    }

    /// Its draft, if any, is dropped.
    pub(super) fn remove(&mut self, tp: &TopicPartition) -> Option<Partition> {
        let of_topic = self.places.get_mut(tp.topic.as_str())?;
        let number = usize::try_from(tp.partition).ok()?;
        let place = of_topic.get_mut(number)?.take()?;
        if of_topic.iter().all(Option::is_none) {
            self.places.remove(tp.topic.as_str());
        }
        self.table.get_mut(place.0)?.take()
    }

    /// Takes a record into its partition's draft, or drops it when it is not wanted. When a draft is begun for it, `next`
    /// is handed the one that was full, if any, and may give buffers for the new one.
    #[inline]
    pub(super) fn accept(
        &mut self,
        place: Place,
        fields: Fields<'_>,
        now: Instant,
        next: impl FnOnce(Option<RawBatch>) -> Option<RawBatch>,
    ) {
        let Some(partition) = self.table.get_mut(place.0).and_then(Option::as_mut) else {
            return;
        };
        if partition.phase != Phase::Fetching || fields.offset < partition.next {
            return;
        }
        partition.settled = true;
        partition.from_log_start = false;
        partition.next = fields.offset + 1;
        if let Some((_, draft)) = &mut partition.draft
            && draft.takes(&fields, self.max_records)
        {
            draft.add(fields);
            return;
        }
        let spare = next(partition.take_batch());
        let mut draft = Draft::new(
            partition.tp.clone(),
            partition.epoch,
            fields.timestamp_type,
            self.needs,
            partition.habit,
            spare,
        );
        draft.add(fields);
        self.begun += 1;
        partition.draft = Some((self.begun, draft));
        self.drafts.push_back((now, place, self.begun));
    }

    /// The batches that waited long enough.
    pub(super) fn overdue(&mut self, now: Instant, mut done: impl FnMut(RawBatch)) {
        while let Some((since, place, number)) = self.drafts.front().copied() {
            let current = self
                .at(place)
                .and_then(|partition| partition.draft.as_ref())
                .is_some_and(|(of_draft, _)| *of_draft == number);
            if current && now.duration_since(since) < LINGER {
                return;
            }
            self.drafts.pop_front();
            if current
                && let Some(partition) = self.at_mut(place)
                && let Some(batch) = partition.take_batch()
            {
                done(batch);
            }
        }
    }

    /// The batches that are large enough for a worker that has nothing to do.
    pub(super) fn hasty(
        &mut self,
        awaits: impl Fn(&TopicPartition) -> bool,
        mut done: impl FnMut(RawBatch),
    ) {
        for partition in self.iter_mut() {
            if let Some((_, draft)) = &partition.draft
                && draft.batch.len() >= WORTH_HASTE
                && awaits(&partition.tp)
                && let Some(batch) = partition.take_batch()
            {
                done(batch);
            }
        }
    }

    /// The partitions that reached what is to be announced, each with the batch it gathered.
    pub(super) fn reached(&mut self, mut done: impl FnMut(&Partition, Option<RawBatch>)) {
        for partition in self.iter_mut() {
            let reached = partition.announce.is_some_and(|at| partition.next >= at);
            if reached && partition.phase == Phase::Fetching {
                partition.announce = None;
                let batch = partition.take_batch();
                done(partition, batch);
            }
        }
    }

    /// When the next batch is overdue, if any waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.drafts.front().map(|(since, _, _)| *since + LINGER)
    }
}

impl Partition {
    pub(super) fn take_batch(&mut self) -> Option<RawBatch> {
        let (_, draft) = self.draft.take()?;
        self.habit = Habit::of(&draft.batch);
        Some(draft.batch)
    }

    /// Begins anew: what was gathered before is not delivered.
    pub(super) fn begin(&mut self, epoch: AssignmentEpoch, at: i64) {
        self.draft = None;
        self.epoch = epoch;
        self.next = at;
        self.phase = Phase::Fetching;
        self.settled = false;
        self.from_log_start = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::record::TimestampType;
    use crate::varied::explore;

    const NEEDS: Needs = Needs {
        keys: false,
        headers: false,
    };

    fn record(offset: i64) -> Fields<'static> {
        Fields {
            offset,
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            value: Some(b"v"),
            key: None,
            headers: Vec::new(),
            leader_epoch: None,
        }
    }

    /// No draft is full before this record, and no buffers lie unused.
    fn alone(full: Option<RawBatch>) -> Option<RawBatch> {
        assert!(full.is_none());
        None
    }

    fn fetching(tp: &TopicPartition, at: i64) -> (Partitions, Place) {
        let mut partitions = Partitions::new(NEEDS, 3);
        assert!(partitions.insert(tp.clone()));
        partitions
            .get_mut(tp)
            .unwrap()
            .begin(AssignmentEpoch(1), at);
        let place = partitions.find(tp.topic.as_str(), tp.partition).unwrap();
        (partitions, place)
    }

    fn take(partitions: &mut Partitions, now: Instant) -> Vec<i64> {
        let mut offsets = Vec::new();
        partitions.overdue(now + LINGER, |batch| offsets.extend(batch.offsets));
        offsets
    }

    #[test]
    fn records_below_the_start_or_outside_of_fetching_are_dropped() {
        let tp = TopicPartition::new("t", 3);
        let (mut partitions, place) = fetching(&tp, 10);
        let now = Instant::now();
        for offset in [8, 10, 9, 12] {
            partitions.accept(place, record(offset), now, alone);
        }
        partitions.get_mut(&tp).unwrap().phase = Phase::Revoked;
        partitions.accept(place, record(13), now, alone);
        assert_eq!(take(&mut partitions, now), [10, 12]);
    }

    #[test]
    fn a_new_beginning_drops_what_was_gathered_under_the_old_epoch() {
        let tp = TopicPartition::new("t", 0);
        let (mut partitions, place) = fetching(&tp, 0);
        let now = Instant::now();
        partitions.accept(place, record(0), now, alone);
        partitions
            .get_mut(&tp)
            .unwrap()
            .begin(AssignmentEpoch(2), 0);
        partitions.accept(place, record(0), now, alone);
        let mut epochs = Vec::new();
        partitions.overdue(now + LINGER, |batch| {
            epochs.push((batch.epoch, batch.len()))
        });
        assert_eq!(epochs, [(AssignmentEpoch(2), 1)]);
    }

    #[test]
    fn an_end_is_told_once_with_the_records_before_it_and_not_before() {
        let tp = TopicPartition::new("t", 0);
        let (mut partitions, place) = fetching(&tp, 10);
        partitions.get_mut(&tp).unwrap().announce = Some(12);
        let mut told = Vec::new();
        for offset in 10..13 {
            partitions.accept(place, record(offset), Instant::now(), alone);
            partitions.reached(|partition, batch| {
                told.push((partition.next, batch.unwrap().offsets));
            });
        }
        assert_eq!(told, [(12, vec![10, 11])]);

        partitions.get_mut(&tp).unwrap().announce = Some(5);
        partitions.get_mut(&tp).unwrap().phase = Phase::Halted;
        partitions.reached(|partition, _| told.push((partition.next, Vec::new())));
        assert_eq!(told.len(), 1, "it is not being read");
    }

    #[test]
    fn a_batch_waits_for_company_no_longer_than_the_linger() {
        let tp = TopicPartition::new("t", 0);
        let (mut partitions, place) = fetching(&tp, 0);
        let now = Instant::now();
        partitions.accept(place, record(0), now, alone);
        partitions.overdue(now + LINGER - Duration::from_millis(1), |_| unreachable!());
        assert_eq!(partitions.next_due(), Some(now + LINGER));
        assert_eq!(take(&mut partitions, now), [0]);
        assert_eq!(partitions.next_due(), None);
    }

    #[test]
    fn a_worker_with_nothing_to_do_is_given_what_is_gathered_unless_it_is_little() {
        let (busy, idle) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let mut partitions = Partitions::new(NEEDS, WORTH_HASTE * 2);
        let now = Instant::now();
        for tp in [&busy, &idle] {
            partitions.insert(tp.clone());
            let partition = partitions.get_mut(tp).unwrap();
            partition.begin(AssignmentEpoch(1), 0);
        }
        let hasty = |partitions: &mut Partitions| {
            let mut given = Vec::new();
            partitions.hasty(
                |tp| *tp == idle,
                |batch| given.push((batch.tp.partition, batch.len())),
            );
            given
        };
        for offset in 0..WORTH_HASTE as i64 {
            assert!(hasty(&mut partitions).is_empty());
            for tp in [&busy, &idle] {
                let place = partitions.find("t", tp.partition).unwrap();
                partitions.accept(place, record(offset), now, alone);
            }
        }
        assert_eq!(hasty(&mut partitions), [(1, WORTH_HASTE)]);
        assert_eq!(take(&mut partitions, now).len(), WORTH_HASTE);
    }

    #[test]
    fn a_place_freed_by_one_partition_serves_another_without_mixing_drafts() {
        let old = TopicPartition::new("old", 0);
        let (mut partitions, place) = fetching(&old, 0);
        let now = Instant::now();
        partitions.accept(place, record(0), now, alone);
        partitions.remove(&old);
        let new = TopicPartition::new("new", 1);
        partitions.insert(new.clone());
        partitions
            .get_mut(&new)
            .unwrap()
            .begin(AssignmentEpoch(5), 7);
        let place = partitions.find("new", 1).unwrap();
        partitions.accept(place, record(7), now, alone);
        assert_eq!(partitions.find("old", 0), None);
        assert_eq!(take(&mut partitions, now), [7]);
    }

    #[test]
    fn whatever_the_client_repeats_each_record_is_delivered_once_and_in_order() {
        let fetches = proptest::collection::vec((0..50_i64, 0..40_i64), 1..40);
        let varied = explore(256, &fetches, |fetches, varied| {
            // A fetch may begin anywhere at or below the position, as after a purge inside the client.
            let tp = TopicPartition::new("t", 0);
            let (mut partitions, place) = fetching(&tp, 0);
            let now = Instant::now();
            let (mut position, mut delivered) = (0, Vec::new());
            for (back, count) in fetches {
                let start = (position - back).max(0);
                varied.met(match (start < position, start + count > position) {
                    (true, true) => "some again and some new",
                    (true, false) => "all again",
                    (false, true) => "all new",
                    (false, false) => "nothing",
                });
                for offset in start..start + count {
                    // What was delivered is filled again: nothing of it may come back.
                    partitions.accept(place, record(offset), now, |full| {
                        delivered.extend(full.iter().flat_map(|batch| &batch.offsets));
                        full
                    });
                }
                position = position.max(start + count);
            }
            delivered.extend(take(&mut partitions, now));
            prop_assert_eq!(delivered, (0..position).collect::<Vec<_>>());
            Ok(())
        });
        varied.assert_varied(&["some again and some new", "all again", "all new"], 100);
    }
}
