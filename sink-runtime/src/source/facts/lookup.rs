//! Offsets of partitions, from the brokers that lead them. Each partition has its own answer: one without a leader, or
//! whose leader is silent, costs the others none.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;

use super::super::SourceError;
use super::super::epochs;
use super::super::trouble::call_failed;
use super::{Facts, Lookup, concrete, partitions_of};
use crate::record::{Offset, TopicName, TopicPartition};

const LOOK_UP: &str = "look offsets up";
/// Up to so many topics are asked for by name, each a round trip; beyond, all of the cluster's come in one.
const ASKED_BY_NAME: usize = 4;
/// Brokers that are waited for at the same time: as many may be down before the others wait.
const LEADERS_AT_ONCE: usize = 8;

/// What was told of one lookup: the offset, and the leader epoch there.
type Answered = Result<(Option<Offset>, Option<i32>), SourceError>;

/// A log, as its leader tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub start: Offset,
    pub end: Offset,
    /// The latest in the log.
    pub leader_epoch: Option<i32>,
}

/// Brokers by the partitions they lead, or why nobody is known to.
type Leaders = BTreeMap<TopicPartition, Result<i32, SourceError>>;

fn each(partitions: &[TopicPartition], lookup: Lookup) -> Vec<(TopicPartition, Lookup)> {
    partitions.iter().map(|tp| (tp.clone(), lookup)).collect()
}

fn unsaid(tp: &TopicPartition) -> SourceError {
    lookup_failed(format!("no offset of \"{tp}\" in the answer"))
}

fn lookup_failed(message: String) -> SourceError {
    SourceError::Lookup {
        what: LOOK_UP,
        message,
    }
}

fn leader_of(tp: &TopicPartition, metadata: &Metadata) -> Result<i32, SourceError> {
    let mut topics = metadata.topics().iter();
    let topic = topics.find(|found| found.name() == tp.topic.as_str());
    partitions_of(&tp.topic, topic)?;
    let mut partitions = topic.iter().flat_map(|topic| topic.partitions());
    match partitions.find(|p| p.id() == tp.partition) {
        Some(partition) if partition.leader() >= 0 => Ok(partition.leader()),
        Some(_) => Err(lookup_failed(format!("\"{tp}\" has no leader"))),
        None => Err(SourceError::NoSuchTopic(tp.to_string())),
    }
}

impl Facts {
    /// `(log start, log end)` of each, in order, or why it is not told.
    pub fn bounds(
        &self,
        partitions: &[TopicPartition],
        patience: Duration,
    ) -> Vec<Result<(Offset, Offset), SourceError>> {
        let extents = self.extents(partitions, patience).into_iter();
        extents
            .map(|extent| extent.map(|extent| (extent.start, extent.end)))
            .collect()
    }

    /// Of each, in order, or why it is not told. Brokers are asked side by side, each for at most `patience`: one that is
    /// gone holds up nobody's answer but its own partitions'.
    pub fn extents(
        &self,
        partitions: &[TopicPartition],
        patience: Duration,
    ) -> Vec<Result<Extent, SourceError>> {
        let leaders = self.leaders(partitions, patience);
        let starts = each(partitions, Lookup::Start);
        let starts = self.ask_leaders(&leaders, &starts, patience);
        // Who did not say where the log starts is not asked for its end: it would only take as long again.
        let told = |(tp, start): (&TopicPartition, &Answered)| start.is_ok().then(|| tp.clone());
        let told: Vec<_> = partitions.iter().zip(&starts).filter_map(told).collect();
        let ends = each(&told, Lookup::End);
        let mut ends = self.ask_leaders(&leaders, &ends, patience).into_iter();
        let mut bound = |tp: &TopicPartition, start: Answered| {
            let (start, _) = start?;
            let (end, leader_epoch) = ends.next().unwrap_or_else(|| Err(unsaid(tp)))?;
            let (start, end) = start.zip(end).ok_or_else(|| unsaid(tp))?;
            Ok(Extent {
                start,
                end,
                leader_epoch,
            })
        };
        let starts = partitions.iter().zip(starts);
        starts.map(|(tp, start)| bound(tp, start)).collect()
    }

    /// The first record at or after the time in each, in order; `None` where no record is as young.
    pub fn offsets_for_timestamp(
        &self,
        partitions: &[TopicPartition],
        timestamp: i64,
        patience: Duration,
    ) -> Vec<Result<Option<Offset>, SourceError>> {
        self.locate(&each(partitions, Lookup::Timestamp(timestamp)), patience)
    }

    /// Of each, in order: the offset, `None` when no record is as young, or why the broker did not say. Names no
    /// partition twice.
    pub(in super::super) fn locate(
        &self,
        asked: &[(TopicPartition, Lookup)],
        patience: Duration,
    ) -> Vec<Result<Option<Offset>, SourceError>> {
        let partitions: Vec<_> = asked.iter().map(|(tp, _)| tp.clone()).collect();
        let leaders = self.leaders(&partitions, patience);
        let answered = self.ask_leaders(&leaders, asked, patience).into_iter();
        answered
            .map(|answer| answer.map(|(offset, _)| offset))
            .collect()
    }

    /// Who leads each. One answer of the cluster for all, so that a partition without a leader is known for one before
    /// anybody waits for it.
    fn leaders(&self, partitions: &[TopicPartition], patience: Duration) -> Leaders {
        let topics: BTreeSet<&TopicName> = partitions.iter().map(|tp| &tp.topic).collect();
        let mut found = Leaders::new();
        let mut note = |topic: &TopicName, metadata: &KafkaResult<Metadata>| {
            for tp in partitions.iter().filter(|tp| tp.topic == *topic) {
                let leader = match metadata {
                    Ok(metadata) => leader_of(tp, metadata),
                    Err(error) => Err(call_failed(LOOK_UP, error)),
                };
                found.insert(tp.clone(), leader);
            }
        };
        let ask = |topic: Option<&str>| {
            let patience = patience.min(self.timeout);
            let metadata = self.client.fetch_metadata(topic, patience);
            self.serve();
            metadata
        };
        if topics.len() > ASKED_BY_NAME {
            let metadata = ask(None);
            topics.iter().for_each(|topic| note(topic, &metadata));
            return found;
        }
        let mut failed = None;
        for topic in topics {
            // Where the brokers do not answer for one topic, they do not for the next.
            let metadata = failed.take().unwrap_or_else(|| ask(Some(topic.as_str())));
            note(topic, &metadata);
            failed = metadata.is_err().then_some(metadata);
        }
        found
    }

    /// Each leader with the partitions it leads, several at a time.
    fn ask_leaders(
        &self,
        leaders: &Leaders,
        asked: &[(TopicPartition, Lookup)],
        patience: Duration,
    ) -> Vec<Answered> {
        let mut answers: Vec<Answered> = Vec::with_capacity(asked.len());
        let mut of_leader: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (place, (tp, _)) in asked.iter().enumerate() {
            answers.push(match leaders.get(tp) {
                Some(Ok(leader)) => {
                    of_leader.entry(*leader).or_default().push(place);
                    Err(unsaid(tp))
                }
                Some(Err(why)) => Err(why.clone()),
                None => Err(unsaid(tp)),
            });
        }
        let at_once = of_leader.len().min(LEADERS_AT_ONCE);
        let waiting = Mutex::new(of_leader.into_values());
        let told = Mutex::new(&mut answers);
        let work = || {
            loop {
                let next = waiting.lock().next();
                let Some(places) = next else { return };
                let of_one: Vec<_> = places.iter().map(|place| &asked[*place]).collect();
                let answered = self.ask_leader(&of_one, patience);
                let mut told = told.lock();
                for (place, answer) in places.into_iter().zip(answered) {
                    told[place] = answer;
                }
            }
        };
        match at_once {
            0 | 1 => work(),
            _ => thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work)))),
        }
        self.serve();
        answers
    }

    fn ask_leader(&self, asked: &[&(TopicPartition, Lookup)], patience: Duration) -> Vec<Answered> {
        let mut list = TopicPartitionList::with_capacity(asked.len());
        let mut added = Ok(());
        for (tp, lookup) in asked {
            let position = match lookup {
                Lookup::Start => Position::Beginning,
                Lookup::End => Position::End,
                Lookup::Timestamp(at) => Position::Offset((*at).max(0)),
            };
            added = added.and(list.add_partition_offset(tp.topic.as_str(), tp.partition, position));
        }
        let patience = patience.min(self.timeout);
        let answer = added.and_then(|()| self.client.offsets_for_times(list, patience));
        let told = |(tp, lookup): &&(TopicPartition, Lookup)| -> Answered {
            let answer = answer
                .as_ref()
                .map_err(|error| call_failed(LOOK_UP, error))?;
            let element = answer
                .find_partition(tp.topic.as_str(), tp.partition)
                .ok_or_else(|| unsaid(tp))?;
            element
                .error()
                .map_err(|error| call_failed(LOOK_UP, &error))?;
            match (concrete(element.offset()), lookup) {
                (None, Lookup::Start | Lookup::End) => Err(unsaid(tp)),
                (found, _) => Ok((found, epochs::told(answer, tp))),
            }
        };
        asked.iter().map(told).collect()
    }
}
