//! Asks the brokers how far every sink is behind: leader only, works with zero pods. Clients are kept for the sinks that
//! were looked at last, calls block threads of their own, and never more than a few at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tidewater_runtime::errors::{Classified, OneLine, class};
use tidewater_runtime::plan::{Isolation, Property, SourcePlan, Topics};
use tidewater_runtime::reach::Reach;
use tidewater_runtime::record::{Offset, TopicPartition};
use tidewater_runtime::source::{Facts, SourceError};
use tokio::sync::watch;

use super::schedule::{Outcome, Schedule};
use super::{Lag, Look, Standing, age, first, lag, oldest};
use crate::conditions::Trouble;
use crate::observations::{Observations, SinkKey, Target};

/// Partitions in which the oldest record is looked for, those furthest behind.
const OLDEST_IN: usize = 32;
/// Of one call to the brokers.
const CALL: Duration = Duration::from_secs(10);
/// Between two glances at which sinks there are.
const TICK: Duration = Duration::from_secs(1);
/// A lag seen this long ago is not known any more.
const OLD: SignedDuration = SignedDuration::from_secs(120);

/// Bounds of the observer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two looks at one sink.
    pub interval: Duration,
    /// The longest between two looks at one whose last look failed.
    pub failing: Duration,
    /// Sinks looked at at once: each takes a thread, and a client's threads.
    pub at_once: usize,
    /// Clients kept open between looks.
    pub clients: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            failing: Duration::from_secs(30),
            at_once: 2,
            clients: 2,
        }
    }
}

struct Client {
    key: SinkKey,
    revision: String,
    facts: Facts,
}

/// Clients that nobody uses now, the last used at the end.
#[derive(Default)]
struct Clients(Mutex<VecDeque<Client>>);

impl Clients {
    fn take(&self, key: &SinkKey, target: &Target) -> Result<Facts, SourceError> {
        let mut idle = self.0.lock();
        if let Some(at) = idle.iter().position(|client| &client.key == key)
            && let Some(client) = idle.remove(at)
            && client.revision == target.revision
        {
            return Ok(client.facts);
        }
        drop(idle);
        if let Some(reach) = Reach::of_process() {
            let servers = &target.source.bootstrap_servers;
            reach
                .check_servers(servers)
                .map_err(|error| SourceError::Client(error.to_string()))?;
        }
        Facts::connect(&frugal(&target.source), CALL)
    }

    fn give_back(&self, key: &SinkKey, target: &Target, facts: Facts, at_most: usize) {
        let mut idle = self.0.lock();
        idle.push_back(Client {
            key: key.clone(),
            revision: target.revision.clone(),
            facts,
        });
        while idle.len() > at_most {
            idle.pop_front();
        }
    }

    fn retain(&self, targets: &BTreeMap<&SinkKey, &Arc<Target>>) {
        self.0.lock().retain(|client| {
            let target = targets.get(&client.key);
            target.is_some_and(|target| target.revision == client.revision)
        });
    }
}

/// The sink's way to the brokers, by its typed fields alone: whatever else a resource asks of a client would be done as
/// the operator. With next to no memory for records.
fn frugal(source: &SourcePlan) -> SourcePlan {
    let mut source = source.clone();
    source.properties = source.connection.clone();
    let isolation = match source.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    for (key, value) in [
        ("client.id", "tidewater-operator"),
        ("isolation.level", isolation),
        ("allow.auto.create.topics", "false"),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("queued.max.messages.kbytes", "256"),
        ("queued.min.messages", "1"),
        ("fetch.message.max.bytes", "65536"),
    ] {
        let value = Property::Plain(value.to_owned());
        source.properties.insert(key.to_owned(), value);
    }
    source
}

/// A look that has ended, and when it began.
type Looked = (SinkKey, Arc<Target>, Instant, Outcome);

/// Looks at every sink again and again, until told to stop.
pub async fn run(observations: Arc<Observations>, pace: Pace, mut stop: watch::Receiver<bool>) {
    let clients = Arc::new(Clients::default());
    let mut schedule = Schedule::new(pace);
    let mut looks: FuturesUnordered<BoxFuture<'_, Looked>> = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                schedule.follow(observations.targets(), Instant::now());
                clients.retain(&schedule.targets().collect());
                observations.outdate_lag(Timestamp::now() - OLD);
            }
            Some((key, target, began, outcome)) = looks.next() => {
                schedule.ended(&key, &target, began, Instant::now(), outcome);
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let began = Instant::now();
        while let Some((key, target)) = schedule.next(began) {
            let (observations, clients) = (Arc::clone(&observations), Arc::clone(&clients));
            looks.push(Box::pin(async move {
                let outcome = look_once(&observations, clients, pace, &key, &target).await;
                (key, target, began, outcome)
            }));
        }
    }
}

async fn look_once(
    observations: &Observations,
    clients: Arc<Clients>,
    pace: Pace,
    key: &SinkKey,
    target: &Arc<Target>,
) -> Outcome {
    let told = observations
        .seen(key, &target.uid)
        .commit
        .map(|commit| commit.partitions)
        .unwrap_or_default();
    let (asked, of) = (key.clone(), Arc::clone(target));
    let look = tokio::task::spawn_blocking(move || {
        let facts = clients.take(&asked, &of)?;
        let found = look(&facts, &of.source, &told);
        // A client that failed may be of use once the brokers are back; a fatal one is not.
        if !matches!(&found, Err(error) if error.class() == class::SOURCE_FATAL) {
            clients.give_back(&asked, &of, facts, pace.clients);
        }
        found
    });
    let (look, outcome): (Look, Outcome) = match look.await {
        Ok(Ok(lag)) => (Ok(lag), Outcome::Told),
        Ok(Err(error)) => {
            let trouble = Trouble::new(error.class(), OneLine(&error).to_string());
            let outcome = match error.class() == class::BROKER_UNREACHABLE {
                true => Outcome::Silent,
                false => Outcome::Refused,
            };
            (Err(trouble), outcome)
        }
        Err(error) => {
            let trouble = Trouble::new(class::INTERNAL, error.to_string());
            (Err(trouble), Outcome::Refused)
        }
    };
    if let Err(trouble) = &look
        && observations.seen(key, &target.uid).lag.as_ref() != Some(&look)
    {
        tracing::warn!(
            kind = key.kind,
            namespace = key.namespace,
            name = key.name,
            error = trouble.finding().message(),
            "the lag cannot be told"
        );
    }
    observations.set_lag_of(key, target, look, Timestamp::now());
    outcome
}

/// One look. Blocks.
fn look(
    facts: &Facts,
    source: &SourcePlan,
    told: &BTreeMap<TopicPartition, Standing>,
) -> Result<Lag, SourceError> {
    let mut partitions = Vec::new();
    match &source.topics {
        Topics::List(topics) => {
            for topic in topics {
                let numbers = facts.partitions(topic)?;
                partitions.extend(
                    numbers
                        .into_iter()
                        .map(|n| TopicPartition::new(topic.as_str(), n)),
                );
            }
        }
        Topics::Pattern(pattern) => {
            for (topic, numbers) in facts.matching_topics(pattern)? {
                let Ok(numbers) = numbers else {
                    // Without it every sum would be too small.
                    return Ok(Lag::default());
                };
                partitions.extend(
                    numbers
                        .into_iter()
                        .map(|n| TopicPartition::new(topic.as_str(), n)),
                );
            }
        }
    }
    // The group's offsets first: what is committed meanwhile makes the lag look larger, never smaller.
    let committed = facts.committed(&partitions)?;
    let bounds = facts.watermarks(&partitions)?;
    let standings: BTreeMap<_, _> = partitions
        .into_iter()
        .zip(committed.into_iter().zip(bounds))
        .map(|(tp, (group, bounds))| {
            let told = told.get(&tp).copied().unwrap_or_default();
            let log_start = bounds.map(|(start, _)| start.0);
            let standing = Standing {
                log_start,
                first: log_start.and_then(|start| first(&source.startup, &tp, start)),
                log_end: bounds.map(|(_, end)| end.0),
                group: group.map(|offset| offset.0),
                ..told
            };
            (tp, standing)
        })
        .collect();
    let mut lag = lag(&standings);
    if lag.records.is_some_and(|records| records > 0) {
        let behind: Vec<_> = oldest(&standings, OLDEST_IN)
            .into_iter()
            .map(|(tp, next)| (tp, Offset(next)))
            .collect();
        let timestamps = facts.first_timestamps(&behind)?;
        lag.seconds = age(timestamps.into_iter().flatten(), now_millis());
    }
    Ok(lag)
}

fn now_millis() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::controller::fixtures;
    use crate::controller::kind::SinkKind;
    use serde_json::json;
    use tidewater_runtime::plan::NoSecrets;

    /// A resource whose typed fields and further properties are these.
    fn source(spec: serde_json::Value) -> SourcePlan {
        let mut sink = serde_json::to_value(fixtures::sink()).expect("a resource");
        for (key, value) in spec.as_object().into_iter().flatten() {
            sink["spec"]["source"][key] = value.clone();
        }
        let sink: tidewater_crds::KafkaS3Sink = serde_json::from_value(sink).expect("a resource");
        sink.plan(&NoSecrets).expect("the fixture is sound").source
    }

    #[test]
    fn the_typed_fields_reach_a_client_that_looks_and_nothing_else_that_a_resource_asks_for() {
        let asked = json!({"debug": "all", "fetch.max.bytes": "100000000", "message.max.bytes": "100000000"});
        let security = json!({"protocol": "Ssl", "tls": {"insecureSkipVerify": true}});
        let mut source = source(json!({"security": security, "properties": asked}));
        // Nor what would get past the checks.
        for key in [
            "sasl.kerberos.kinit.cmd",
            "plugin.library.paths",
            "ssl.engine.location",
        ] {
            let value = Property::Plain("/bin/true".to_owned());
            source.properties.insert(key.to_owned(), value);
        }
        let looks = frugal(&source);
        let keys: Vec<_> = looks.properties.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "allow.auto.create.topics",
                "auto.offset.reset",
                "client.id",
                "enable.auto.commit",
                "enable.auto.offset.store",
                "enable.ssl.certificate.verification",
                "fetch.message.max.bytes",
                "isolation.level",
                "queued.max.messages.kbytes",
                "queued.min.messages",
                "security.protocol",
                "ssl.endpoint.identification.algorithm",
            ]
        );
        let made = Facts::connect(&looks, CALL);
        assert!(made.is_ok(), "{:?}", made.err());
    }
}
