//! The consumer thread against the client's mock cluster: real protocol over loopback, no broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod delivery;
mod epochs;
mod group;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

use super::*;
use crate::plan::{Isolation, OnLogTruncated, OnRecordsExpired, OnSourceReset, Startup, Topics};
use crate::record::TopicName;

/// Far above anything that works: joining the mock cluster's group takes three seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// One broker with its topics, and a producer to it.
struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    fn new(topics: &[(&str, i32)]) -> Self {
        Self::of(1, topics)
    }

    fn of(brokers: i32, topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(brokers).unwrap();
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).unwrap();
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("linger.ms", "1")
            .create()
            .unwrap();
        Self { mock, producer }
    }

    /// Records `range` of a partition: the value is the number, the key `k<number>`, the timestamp the number in ms.
    fn produce(&self, topic: &str, partition: i32, range: std::ops::Range<i64>) {
        for number in range {
            let value = number.to_string();
            let key = format!("k{number}");
            let headers = OwnedHeaders::new()
                .insert(Header {
                    key: "number",
                    value: Some(&value),
                })
                .insert(Header {
                    key: "nothing",
                    value: None::<&str>,
                });
            self.producer
                .send(
                    BaseRecord::to(topic)
                        .partition(partition)
                        .key(&key)
                        .payload(&value)
                        .timestamp(number + 1)
                        .headers(headers),
                )
                .map_err(|(error, _)| error)
                .unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    fn plan(&self, group: &str, topics: &[&str]) -> SourcePlan {
        let properties = [
            ("topic.metadata.refresh.interval.ms", "500"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("fetch.wait.max.ms", "50"),
        ];
        SourcePlan {
            bootstrap_servers: self.mock.bootstrap_servers(),
            topics: Topics::List(topics.iter().map(|topic| TopicName::new(*topic)).collect()),
            group_id: group.to_owned(),
            startup: Startup::Earliest,
            isolation: Isolation::ReadCommitted,
            properties: properties
                .into_iter()
                .map(|(key, value)| (key.to_owned(), Property::Plain(value.to_owned())))
                .collect(),
            connection: BTreeMap::new(),
            on_source_reset: OnSourceReset::Stop,
            on_records_expired: OnRecordsExpired::Stop,
            on_log_truncated: OnLogTruncated::Stop,
            drain_timeout: Duration::from_secs(20),
            batch_records: 1000,
        }
    }
}

fn set(plan: &mut SourcePlan, key: &str, value: &str) {
    plan.properties
        .insert(key.to_owned(), Property::Plain(value.to_owned()));
}

/// What was pushed, and the pressure to answer with.
#[derive(Default)]
struct Basin {
    batches: Mutex<Vec<RawBatch>>,
    pushed: Condvar,
    high: std::sync::atomic::AtomicBool,
    asked: AtomicU64,
}

impl BatchSink for Basin {
    fn push(&self, batch: RawBatch) {
        self.batches.lock().push(batch);
        self.pushed.notify_all();
    }

    fn pressure(&self) -> Pressure {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.high.load(Ordering::SeqCst) {
            Pressure::High
        } else {
            Pressure::Low
        }
    }
}

impl Basin {
    /// Offsets so far, by epoch and partition, in the order of arrival.
    fn offsets(&self) -> BTreeMap<(u64, TopicPartition), Vec<i64>> {
        let mut offsets: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for batch in self.batches.lock().iter() {
            offsets
                .entry((batch.epoch.0, batch.tp.clone()))
                .or_default()
                .extend(&batch.offsets);
        }
        offsets
    }

    fn count(&self) -> usize {
        self.batches.lock().iter().map(RawBatch::len).sum()
    }

    fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut batches = self.batches.lock();
        while batches.iter().map(RawBatch::len).sum::<usize>() < count {
            let timed_out = self.pushed.wait_until(&mut batches, deadline).timed_out();
            assert!(!timed_out, "only {} records arrived", batches.len());
        }
    }
}

/// A source with what stands in for the engine.
struct Member {
    handle: SourceHandle,
    basin: Arc<Basin>,
    events: UnboundedReceiver<SourceEvent>,
    /// All that was seen, for messages of failures and for looking back.
    seen: Vec<String>,
}

impl Member {
    fn start(plan: &SourcePlan) -> Self {
        let basin = Arc::new(Basin::default());
        let (sender, events) = unbounded_channel();
        let needs = Needs {
            keys: true,
            headers: true,
        };
        let sink: Arc<dyn BatchSink> = basin.clone();
        let handle = Source::start(plan, needs, sink, sender).unwrap();
        Self {
            handle,
            basin,
            events,
            seen: Vec::new(),
        }
    }

    fn try_next(&mut self) -> Option<SourceEvent> {
        match self.events.try_recv() {
            Ok(event) => {
                self.seen.push(format!("{event:?}"));
                Some(event)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the thread is gone: {:#?}", self.seen),
        }
    }

    /// The first event that `pick` takes; what comes before it is passed over.
    fn await_event<T>(&mut self, mut pick: impl FnMut(&SourceEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_next() {
                Some(event) => {
                    if let Some(found) = pick(&event) {
                        return found;
                    }
                }
                None => {
                    assert!(Instant::now() < deadline, "never came; {:#?}", self.seen);
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            }
        }
    }

    fn assigned(&mut self) -> Vec<TopicPartition> {
        self.await_event(|event| match event {
            SourceEvent::Assigned(partitions) => Some(partitions.clone()),
            _ => None,
        })
    }

    fn revoked(&mut self) -> Vec<TopicPartition> {
        self.await_event(|event| match event {
            SourceEvent::Revoked(partitions) => Some(partitions.clone()),
            _ => None,
        })
    }

    fn lost(&mut self) -> Vec<TopicPartition> {
        self.await_event(|event| match event {
            SourceEvent::Lost(partitions) => Some(partitions.clone()),
            _ => None,
        })
    }

    fn caught_up(&mut self, tp: &TopicPartition) -> i64 {
        self.await_event(|event| match event {
            SourceEvent::CaughtUp { tp: of, at, .. } if of == tp => Some(at.0),
            _ => None,
        })
    }

    fn started(&mut self, tp: &TopicPartition) -> (u64, i64) {
        self.await_event(|event| match event {
            SourceEvent::Started { tp: of, epoch, at } if of == tp => Some((epoch.0, at.0)),
            _ => None,
        })
    }

    fn begin(&self, partitions: &[TopicPartition], at: StartAt, epoch: u64) {
        self.handle.send(SourceCommand::Start(
            partitions
                .iter()
                .map(|tp| (tp.clone(), at, AssignmentEpoch(epoch)))
                .collect(),
        ));
    }

    /// Closes, releasing whatever is revoked, and returns when the thread has ended.
    fn close(mut self) -> Arc<Basin> {
        self.handle.send(SourceCommand::Close);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.try_recv() {
                Ok(SourceEvent::Revoked(partitions)) => {
                    self.handle.send(SourceCommand::Release(partitions));
                }
                Ok(SourceEvent::Closed) => break,
                Ok(_) => {}
                Err(TryRecvError::Disconnected) => panic!("ended without Closed"),
                Err(TryRecvError::Empty) => {
                    assert!(Instant::now() < deadline, "never closed: {:#?}", self.seen);
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            }
        }
        self.handle.join().unwrap();
        self.basin
    }
}

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}
