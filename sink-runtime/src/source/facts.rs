//! Questions to the brokers that are not consumption: cluster, topics, log bounds, the group's offsets. A client of its
//! own that never joins the group. Calls block, each for at most its timeout: not for the consumer thread, and from
//! async code only inside `spawn_blocking`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Message, Timestamp};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaRespErr;
use regex::Regex;

use super::context::Quiet;
use super::group;
use super::topic_ids;
use super::trouble::{call_failed, denied_topic};
use super::{SourceError, client_error};
use crate::plan::{Property, SourcePlan};
use crate::record::{Offset, TopicName, TopicPartition};

mod census;
mod cuts;
mod lookup;

pub use self::cuts::cuts;
pub use self::lookup::Extent;

/// Logs wait in the client's queue until polled; more than these a call are left to the next.
const POLLS_PER_CALL: usize = 100;
/// An id that does not come in this time is unknown: it is a safeguard, not worth a wait.
const IDS: Duration = Duration::from_secs(1);
const NO_BROKER: i32 = -1;

/// A position to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The first offset in the log.
    Start,
    /// The offset behind the last record a consumer of the plan's isolation level can see.
    End,
    /// The first record as young, milliseconds since the epoch.
    Timestamp(i64),
}

/// A client for questions.
pub struct Facts {
    client: BaseConsumer<Quiet>,
    timeout: Duration,
    /// Who told the ids of topics last.
    teller: AtomicI32,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Facts {
    /// Makes the client; nothing is asked yet. No call takes longer than `timeout` per round trip.
    pub fn connect(plan: &SourcePlan, timeout: Duration) -> Result<Self, SourceError> {
        Self::with(plan, client_config(plan), timeout)
    }

    /// The same, but the ends of logs are their high watermarks, records of open transactions included, whatever the plan
    /// reads.
    pub fn of_whole_logs(plan: &SourcePlan, timeout: Duration) -> Result<Self, SourceError> {
        let mut config = client_config(plan);
        config.set("isolation.level", "read_uncommitted");
        Self::with(plan, config, timeout)
    }

    fn with(
        plan: &SourcePlan,
        mut config: ClientConfig,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let client = quiet(plan, &mut config)?;
        let teller = AtomicI32::new(NO_BROKER);
        Ok(Self {
            client,
            timeout,
            teller,
        })
    }

    /// `None` when the brokers did not answer, or have none.
    pub fn cluster_id(&self) -> Option<String> {
        let id = self.client.client().fetch_cluster_id(self.timeout);
        self.serve();
        id
    }

    /// Ids of topics, as far as they are told, within two seconds: absent are topics that the client may not describe
    /// or that are not there, and all where the brokers have no ids or do not answer.
    pub fn topic_ids(&self, topics: &BTreeSet<TopicName>) -> BTreeMap<TopicName, String> {
        let Some(first) = topics.first() else {
            return BTreeMap::new();
        };
        let topics: Vec<_> = topics.iter().collect();
        let ask = |broker: &i32| {
            let told = topic_ids::describe(&self.client, *broker, &topics, IDS);
            self.serve();
            told
        };
        let known = Some(self.teller.load(Ordering::Relaxed)).filter(|known| *known != NO_BROKER);
        if let Some(told) = known.as_ref().and_then(ask) {
            return told;
        }
        let found = self.leader(first);
        let told = found.as_ref().and_then(ask);
        let teller = found.filter(|_| told.is_some()).unwrap_or(NO_BROKER);
        self.teller.store(teller, Ordering::Relaxed);
        told.unwrap_or_default()
    }

    /// Who leads the topic's first partition: a broker that serves records of a topic knows it by its id. Another, where
    /// nobody leads.
    fn leader(&self, topic: &TopicName) -> Option<i32> {
        let metadata = self.client.fetch_metadata(Some(topic.as_str()), IDS);
        self.serve();
        let metadata = metadata.ok()?;
        let topics = metadata.topics().iter();
        let partitions = topics.flat_map(|topic| topic.partitions());
        let leader = partitions.min_by_key(|p| p.id()).map(|p| p.leader());
        let others = metadata.brokers().iter().map(|broker| broker.id());
        leader.into_iter().chain(others).find(|broker| *broker >= 0)
    }

    /// Whether a consumer group has members, whoever and wherever they are. One of a process that died is a member until
    /// its session times out.
    ///
    /// # Errors
    /// When a broker does not answer: the group may be one of its.
    pub fn has_members(&self, group: &str) -> Result<bool, SourceError> {
        let answer = group::has_members(&self.client, group, self.timeout);
        self.serve();
        answer
    }

    /// Partition numbers of a topic, ascending.
    pub fn partitions(&self, topic: &TopicName) -> Result<Vec<i32>, SourceError> {
        let metadata = self
            .client
            .fetch_metadata(Some(topic.as_str()), self.timeout)
            .map_err(|error| call_failed("describe topic", &error));
        self.serve();
        let metadata = metadata?;
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic.as_str());
        partitions_of(topic, found)
    }

    /// Topics whose whole name matches, each with its partition numbers or why they are not told: a topic between its
    /// creation and its first leader has none. Internal topics (`__…`) only when the pattern itself begins so.
    pub fn matching_topics(
        &self,
        pattern: &str,
    ) -> Result<BTreeMap<TopicName, Result<Vec<i32>, SourceError>>, SourceError> {
        let regex = whole_name(pattern)?;
        let metadata = self
            .client
            .fetch_metadata(None, self.timeout)
            .map_err(|error| call_failed("list topics", &error));
        self.serve();
        let metadata = metadata?;
        let internal = pattern.trim_start_matches('^').starts_with("__");
        let mut topics = BTreeMap::new();
        for found in metadata.topics() {
            let topic = found.name();
            if regex.is_match(topic) && (internal || !topic.starts_with("__")) {
                let topic = TopicName::new(topic);
                let partitions = partitions_of(&topic, Some(found));
                topics.insert(topic, partitions);
            }
        }
        Ok(topics)
    }

    /// `(log start, log end)` of each, in order; `None` where the brokers do not say. The end is the last stable
    /// offset for a plan that reads committed records only.
    ///
    /// # Errors
    /// When nothing is told of any.
    pub fn watermarks(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<(Offset, Offset)>>, SourceError> {
        let bounds = self.bounds(partitions, self.timeout);
        let untold = |bound: &Result<_, SourceError>| match bound {
            Ok(_) | Err(SourceError::NoSuchTopic(_)) => false,
            Err(_) => true,
        };
        if bounds.iter().all(untold) {
            return bounds.into_iter().map(|bound| bound.map(Some)).collect();
        }
        Ok(bounds.into_iter().map(Result::ok).collect())
    }

    /// The group's committed offset of each, in order.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Offset>>, SourceError> {
        let each = self.committed_each(partitions, self.timeout)?;
        each.into_iter().collect()
    }

    /// The same, of each or why it is not told.
    ///
    /// # Errors
    /// When the group's coordinator does not answer.
    pub fn committed_each(
        &self,
        partitions: &[TopicPartition],
        patience: Duration,
    ) -> Result<Vec<Result<Option<Offset>, SourceError>>, SourceError> {
        const WHAT: &str = "read group offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for tp in partitions {
            list.add_partition(tp.topic.as_str(), tp.partition);
        }
        let answer = self
            .client
            .committed_offsets(list, patience.min(self.timeout));
        self.serve();
        let answer = answer.map_err(|error| call_failed(WHAT, &error))?;
        let told = |tp: &TopicPartition| -> Result<Option<Offset>, SourceError> {
            let Some(element) = answer.find_partition(tp.topic.as_str(), tp.partition) else {
                return Ok(None);
            };
            element.error().map_err(|error| call_failed(WHAT, &error))?;
            Ok(concrete(element.offset()))
        };
        Ok(partitions.iter().map(told).collect())
    }

    /// Sets the group's offsets, which a group with members refuses. Nothing is read by them where a destination knows the
    /// partition: they are what lag is counted from while no process runs.
    pub fn set_committed(
        &self,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), SourceError> {
        const WHAT: &str = "set group offsets";
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (tp, offset) in offsets {
            list.add_partition_offset(tp.topic.as_str(), tp.partition, Position::Offset(offset.0))
                .map_err(|error| call_failed(WHAT, &error))?;
        }
        let answer = self.client.commit(&list, CommitMode::Sync);
        self.serve();
        answer.map_err(|error| call_failed(WHAT, &error))
    }

    /// The time of the first record at or behind each offset, milliseconds since the epoch, in order; `None` where none
    /// came within the timeout or it carries no time. Reads a record of each: of use with few partitions only.
    pub fn first_timestamps(
        &self,
        asked: &[(TopicPartition, Offset)],
    ) -> Result<Vec<Option<i64>>, SourceError> {
        const WHAT: &str = "read the oldest records";
        let mut list = TopicPartitionList::with_capacity(asked.len());
        for (tp, offset) in asked {
            list.add_partition_offset(
                tp.topic.as_str(),
                tp.partition,
                Position::Offset(offset.0.max(0)),
            )
            .map_err(|error| call_failed(WHAT, &error))?;
        }
        self.client
            .assign(&list)
            .map_err(|error| call_failed(WHAT, &error))?;
        let mut found: BTreeMap<(String, i32), Option<i64>> = BTreeMap::new();
        let deadline = Instant::now() + self.timeout;
        while found.len() < asked.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let Some(Ok(record)) = self.client.poll(left.min(Duration::from_millis(200))) else {
                continue;
            };
            let time = match record.timestamp() {
                Timestamp::NotAvailable => None,
                Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) => Some(at),
            };
            let tp = (record.topic().to_owned(), record.partition());
            found.entry(tp).or_insert(time);
        }
        self.client
            .unassign()
            .map_err(|error| call_failed(WHAT, &error))?;
        Ok(asked
            .iter()
            .map(|(tp, _)| {
                let tp = (tp.topic.as_str().to_owned(), tp.partition);
                found.get(&tp).copied().flatten()
            })
            .collect())
    }

    fn serve(&self) {
        for _ in 0..POLLS_PER_CALL {
            if self.client.poll(Duration::ZERO).is_none() {
                return;
            }
        }
    }
}

/// A client that joins no group.
fn quiet(plan: &SourcePlan, config: &mut ClientConfig) -> Result<BaseConsumer<Quiet>, SourceError> {
    config
        .remove("group.instance.id")
        .set("enable.auto.commit", "false")
        .set("statistics.interval.ms", "0")
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Warning);
    config
        .create_with_context(Quiet)
        .map_err(|error| client_error(plan, &error))
}

/// The plan's properties, with nothing added.
pub(super) fn client_config(plan: &SourcePlan) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in &plan.properties {
        config.set(key, Property::expose(value));
    }
    config.set("bootstrap.servers", &plan.bootstrap_servers);
    config.set("group.id", &plan.group_id);
    config
}

/// The pattern, matched against whole names.
pub(super) fn whole_name(pattern: &str) -> Result<Regex, SourceError> {
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| SourceError::Client(format!("topic pattern \"{pattern}\": {error}")))
}

fn concrete(position: Position) -> Option<Offset> {
    match position {
        Position::Offset(offset) if offset >= 0 => Some(Offset(offset)),
        _ => None,
    }
}

fn partitions_of(
    topic: &TopicName,
    found: Option<&MetadataTopic>,
) -> Result<Vec<i32>, SourceError> {
    let missing = || SourceError::NoSuchTopic(topic.to_string());
    let found = found.ok_or_else(missing)?;
    match found.error() {
        None => {}
        Some(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        ) => return Err(missing()),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
            return Err(SourceError::Denied(denied_topic(topic.as_str())));
        }
        Some(error) => {
            return Err(SourceError::Lookup {
                what: "describe topic",
                message: Code::from(error).to_string(),
            });
        }
    }
    let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
    partitions.sort_unstable();
    if partitions.is_empty() {
        return Err(missing());
    }
    Ok(partitions)
}
