//! Partitions come and go. The client is told at once that an assignment was taken note of, with nothing in it, so
//! that neither the group nor the partitions we keep wait for the engine; each partition is handed to the client when
//! its start is known. A revocation is answered when the engine has released all of it.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;

use super::super::inquiry::{Located, Question};
use super::super::partitions::Phase;
use super::super::{SourceError, SourceEvent, StartAt};
use super::parting::Course;
use super::{Consumer, Protocol};
use crate::record::{AssignmentEpoch, Offset, TopicPartition};

/// The client's own thread answers, without a round trip: this is far more than it takes.
const SEEK: Duration = Duration::from_secs(2);

impl Consumer {
    pub(super) fn assigned(&mut self, partitions: Vec<TopicPartition>, protocol: Protocol) {
        self.protocol = protocol;
        self.hold_positions();
        let taken_note = match protocol {
            Protocol::Incremental => self.client.incremental_assign(&TopicPartitionList::new()),
            Protocol::Eager => self.client.assign(&TopicPartitionList::new()),
        };
        if let Err(error) = taken_note {
            self.fatal(SourceError::Fatal(format!("assign nothing: {error}")));
            return;
        }
        if self.course != Course::Running {
            // The group will take them again: we are leaving.
            return;
        }
        // The group does not give what we have. If it ever does, what we had is void.
        let known: Vec<_> = partitions
            .iter()
            .filter(|tp| self.partitions.get(tp).is_some())
            .cloned()
            .collect();
        if !known.is_empty() {
            self.lose(known);
            self.answer_revocation();
        }
        for tp in &partitions {
            self.partitions.insert(tp.clone());
        }
        if !partitions.is_empty() {
            self.tell(SourceEvent::Assigned(partitions));
        }
    }

    pub(super) fn revoked(
        &mut self,
        mut partitions: Vec<TopicPartition>,
        protocol: Protocol,
        lost: bool,
    ) {
        self.protocol = protocol;
        partitions.retain(|tp| self.partitions.get(tp).is_some());
        if lost {
            let to_release = std::mem::take(&mut self.to_release);
            partitions.extend(to_release);
            self.lose(partitions);
            self.hold_positions();
            return self.answer_revocation();
        }
        for tp in &partitions {
            if let Some(partition) = self.partitions.get_mut(tp) {
                // While it was being fetched only: a halted one's was delivered.
                if let Some(batch) = partition.take_batch() {
                    self.sink.push(batch);
                }
                partition.phase = Phase::Revoked;
            }
            self.forget(tp);
        }
        self.hold_positions();
        self.to_release.extend(partitions.iter().cloned());
        if self.to_release.is_empty() {
            self.answer_revocation();
        } else if !partitions.is_empty() {
            self.tell(SourceEvent::Revoked(partitions));
        }
    }

    /// Says again where the partitions we keep go on. A rebalance pauses all and resumes them where the client believes
    /// the application is, and that is wrong after anything but a record: in a drained batch it counts the end of a
    /// partition, too, as a record, and would skip one. Called for each rebalance before it is answered, while all is
    /// still paused; and no answer, nor an assignment that the client might take for one, comes between its event and
    /// the drain before it.
    fn hold_positions(&mut self) {
        if self.protocol == Protocol::Eager || self.course != Course::Running {
            // Nothing is kept.
            return;
        }
        let kept: Vec<_> = self
            .partitions
            .iter()
            .filter(|partition| partition.held && partition.phase == Phase::Fetching)
            .map(|partition| (partition.tp.clone(), partition.next))
            .collect();
        if kept.is_empty() {
            return;
        }
        let sought = positions(kept.iter().map(|(tp, next)| (tp, *next)))
            .and_then(|list| self.client.seek_partitions(list, SEEK));
        for (tp, next) in kept {
            let done = sought.as_ref().is_ok_and(|list| {
                list.find_partition(tp.topic.as_str(), tp.partition)
                    .is_some_and(|element| element.error().is_ok())
            });
            if !done && let Some(partition) = self.partitions.get_mut(&tp) {
                tracing::warn!(topic = %tp.topic, partition = tp.partition, "position is set anew after a rebalance");
                if let Some(batch) = partition.take_batch() {
                    self.sink.push(batch);
                }
                partition.phase = Phase::Locating;
                self.seeks.insert(tp, Offset(next));
            }
        }
    }

    /// A release that does not come turns a revocation into a loss: the client does not notice the end of its session
    /// while it waits for the answer, and the group waits with it.
    pub(super) fn watch_for_loss(&mut self, now: Instant) {
        if self.to_release.is_empty() {
            self.release_due = None;
        } else if self.client.assignment_lost() {
            self.lose_all();
        } else if now
            >= *self
                .release_due
                .get_or_insert(now + self.plan.drain_timeout)
        {
            let late = std::mem::take(&mut self.to_release);
            self.lose(late.into_iter().collect());
            self.answer_revocation();
        }
    }

    pub(super) fn release(&mut self, partitions: &[TopicPartition]) {
        let was_due = !self.to_release.is_empty();
        for tp in partitions {
            if self.to_release.remove(tp)
                && let Some(partition) = self.partitions.remove(tp)
                && partition.held
            {
                self.released.push(partition.tp);
            }
        }
        if was_due && self.to_release.is_empty() {
            self.answer_revocation();
        }
    }

    /// Takes them away from the engine without asking. They leave the client with the next answer.
    fn lose(&mut self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        for tp in &partitions {
            self.to_release.remove(tp);
            self.forget(tp);
            if let Some(partition) = self.partitions.remove(tp)
                && partition.held
            {
                self.released.push(partition.tp);
            }
        }
        self.tell(SourceEvent::Lost(partitions));
    }

    /// All of them, for an end that cannot wait.
    pub(super) fn lose_all(&mut self) {
        let all = self.partitions.all();
        self.lose(all.into_iter().collect());
        if !self.client_is_dead() {
            self.answer_revocation();
        }
    }

    /// Nothing that is still on its way for it is wanted.
    fn forget(&mut self, tp: &TopicPartition) {
        self.seeks.remove(tp);
        self.releasing.retain(|releasing| releasing != tp);
        self.inquiry.ask(Question::Forget(tp.clone()));
    }

    /// Tells the client that it may give up what was revoked.
    fn answer_revocation(&mut self) {
        let released = std::mem::take(&mut self.released);
        let answered = match self.protocol {
            Protocol::Eager => self.client.unassign(),
            Protocol::Incremental => {
                let mut list = TopicPartitionList::with_capacity(released.len());
                for tp in &released {
                    list.add_partition(tp.topic.as_str(), tp.partition);
                }
                self.client.incremental_unassign(&list).or_else(|error| {
                    // The client gave some up by itself. An answer it must have, or it waits for ever.
                    tracing::warn!(error = %error, "unassign");
                    self.unassign_what_is_left(&list)
                })
            }
        };
        if self.protocol == Protocol::Eager {
            for partition in self.partitions.iter_mut() {
                partition.held = false;
            }
        }
        if let Err(error) = answered {
            self.fatal(SourceError::Fatal(format!("unassign: {error}")));
        }
    }

    fn unassign_what_is_left(&self, released: &TopicPartitionList) -> KafkaResult<()> {
        let assignment = self.client.assignment()?;
        let mut left = TopicPartitionList::new();
        for element in released.elements() {
            if assignment
                .find_partition(element.topic(), element.partition())
                .is_some()
            {
                left.add_partition(element.topic(), element.partition());
            }
        }
        self.client.incremental_unassign(&left)
    }

    pub(super) fn start(&mut self, starts: Vec<(TopicPartition, StartAt, AssignmentEpoch)>) {
        let mut ready = Vec::new();
        for (tp, at, epoch) in starts {
            let Some(partition) = self.partitions.get_mut(&tp) else {
                continue;
            };
            if partition.phase != Phase::Awaiting {
                continue;
            }
            partition.epoch = epoch;
            match at {
                StartAt::Offset(offset) => ready.push((tp, offset, epoch, false)),
                StartAt::Earliest | StartAt::Latest | StartAt::Timestamp(_) => {
                    partition.phase = Phase::Locating;
                    self.inquiry.ask(Question::Start(tp, at, epoch));
                }
            }
        }
        self.begin(ready);
    }

    pub(super) fn located(&mut self, located: Vec<Located>) {
        let mut ready = Vec::new();
        for found in located {
            match found {
                Located::Start {
                    tp,
                    epoch,
                    at,
                    from_log_start,
                } => {
                    let Some(partition) = self.partitions.get(&tp) else {
                        continue;
                    };
                    if partition.phase != Phase::Locating || partition.epoch != epoch {
                        continue;
                    }
                    if partition.held {
                        // It was being read before; to begin again is to seek.
                        self.seeks.insert(tp, at);
                    } else {
                        ready.push((tp, at, epoch, from_log_start));
                    }
                }
                Located::Bounds {
                    tp,
                    epoch,
                    log_start,
                    log_end,
                } => {
                    let Some(partition) = self.partitions.get_mut(&tp) else {
                        continue;
                    };
                    if partition.phase != Phase::Halted || partition.epoch != epoch {
                        continue;
                    }
                    if partition.from_log_start {
                        // The log's start moved on between the look-up and the first fetch.
                        partition.phase = Phase::Locating;
                        let question = Question::Start(tp, StartAt::Earliest, epoch);
                        self.inquiry.ask(question);
                    } else {
                        let position = Offset(partition.next);
                        self.tell(SourceEvent::OutOfRange {
                            tp,
                            epoch,
                            position,
                            log_start,
                            log_end,
                        });
                    }
                }
            }
        }
        self.begin(ready);
    }

    pub(super) fn seek(&mut self, tp: TopicPartition, at: Offset, epoch: AssignmentEpoch) {
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return;
        };
        match partition.phase {
            Phase::Fetching | Phase::Halted | Phase::Locating => {
                // From now on nothing of the old epoch is delivered.
                partition.phase = Phase::Locating;
                partition.epoch = epoch;
                drop(partition.take_batch());
                self.inquiry.ask(Question::Forget(tp.clone()));
                self.seeks.insert(tp, at);
            }
            Phase::Awaiting | Phase::Revoked => {}
        }
    }

    /// A seek is an unassignment and an assignment: the client cannot seek a partition that it stopped after an error.
    pub(super) fn seek_if_possible(&mut self) {
        if self.seeks.is_empty() || !self.to_release.is_empty() || self.course != Course::Running {
            return;
        }
        let mut ready = Vec::new();
        for (tp, at) in std::mem::take(&mut self.seeks) {
            if let Some(partition) = self.partitions.get(&tp) {
                let epoch = partition.epoch;
                ready.push((tp, at, epoch, false));
            }
        }
        self.begin(ready);
    }

    /// Hands partitions to the client, each with its start.
    fn begin(&mut self, ready: Vec<(TopicPartition, Offset, AssignmentEpoch, bool)>) {
        if ready.is_empty() || self.course != Course::Running || self.fatal {
            return;
        }
        let mut again = TopicPartitionList::new();
        for (tp, at, epoch, from_log_start) in &ready {
            if let Some(partition) = self.partitions.get_mut(tp) {
                partition.begin(*epoch, at.0);
                partition.from_log_start = *from_log_start;
                if partition.held {
                    again.add_partition(tp.topic.as_str(), tp.partition);
                }
                partition.held = true;
            }
            self.queue.forward(tp.topic.as_str(), tp.partition);
            // Before its records can be delivered.
            self.tell(SourceEvent::Started {
                tp: tp.clone(),
                epoch: *epoch,
                at: *at,
            });
        }
        self.unsettled = true;
        let assigned = match self.protocol {
            Protocol::Incremental => {
                let unassigned = if again.count() > 0 {
                    self.client.incremental_unassign(&again)
                } else {
                    Ok(())
                };
                let begun = ready.iter().map(|(tp, at, _, _)| (tp, at.0));
                unassigned
                    .and_then(|()| positions(begun))
                    .and_then(|list| self.client.incremental_assign(&list))
            }
            Protocol::Eager => {
                // All or nothing: those that go on are restarted where they are.
                for partition in self.partitions.iter_mut().filter(|p| p.held) {
                    partition.settled = false;
                    self.queue
                        .forward(partition.tp.topic.as_str(), partition.tp.partition);
                }
                let held = self.partitions.iter().filter(|p| p.held);
                positions(held.map(|partition| (&partition.tp, partition.next)))
                    .and_then(|list| self.client.assign(&list))
            }
        };
        if let Err(error) = assigned {
            self.fatal(SourceError::Fatal(format!("assign: {error}")));
        }
    }

    /// The stop that an unassignment causes may have undone the forwarding after it was set up; see
    /// `DataQueue::forward`.
    pub(super) fn forward_unsettled(&mut self) {
        if !self.unsettled {
            return;
        }
        self.unsettled = false;
        for partition in self.partitions.iter() {
            if partition.phase == Phase::Fetching && !partition.settled {
                self.unsettled = true;
                self.queue
                    .forward(partition.tp.topic.as_str(), partition.tp.partition);
            }
        }
    }
}

fn positions<'a>(
    partitions: impl Iterator<Item = (&'a TopicPartition, i64)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (tp, at) in partitions {
        let at = rdkafka::Offset::Offset(at);
        list.add_partition_offset(tp.topic.as_str(), tp.partition, at)?;
    }
    Ok(list)
}
