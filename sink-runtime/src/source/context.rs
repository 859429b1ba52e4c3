//! librdkafka's callbacks, all called on the consumer thread inside a poll: they only note what happened, the thread
//! acts on it afterwards. Logs go to `tracing`; librdkafka puts no secrets into them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use crate::record::TopicPartition;

/// How the group hands partitions over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// All are taken and all are given at each rebalance.
    Eager,
    Incremental,
}

/// What a callback noted.
#[derive(Debug)]
pub(super) enum Noted {
    Assigned(Vec<TopicPartition>, Protocol),
    Revoked {
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
        lost: bool,
    },
    Error(RDKafkaErrorCode, String),
    Statistics(String),
}

#[derive(Debug, Default)]
pub(super) struct Context {
    noted: Mutex<VecDeque<Noted>>,
    /// Callbacks so far, of any kind: a poll that moves it did not find the queue empty.
    calls: AtomicU64,
    /// Nobody answers rebalances any more: each is answered on the spot by giving everything up.
    leaving: AtomicBool,
}

impl Context {
    pub(super) fn take(&self) -> Option<Noted> {
        self.noted.lock().pop_front()
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn note(&self, noted: Noted) {
        self.noted.lock().push_back(noted);
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.called();
        log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.called();
        self.note(Noted::Statistics(
            String::from_utf8_lossy(statistics).into_owned(),
        ));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.called();
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        self.note(Noted::Error(code, reason.to_owned()));
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.called();
        if self.leaving.load(Ordering::Relaxed) {
            // While it terminates, the client takes any answer for "give up everything".
            if let Err(error) = consumer.unassign() {
                tracing::debug!(error = %error, "unassign while leaving the group");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|element| TopicPartition::new(element.topic(), element.partition()))
            .collect();
        let protocol = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => Protocol::Incremental,
            RebalanceProtocol::Eager | RebalanceProtocol::None => Protocol::Eager,
        };
        self.note(match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Noted::Assigned(partitions, protocol)
            }
            _ => Noted::Revoked {
                partitions,
                protocol,
                lost: consumer.assignment_lost(),
            },
        });
    }
}

/// Callbacks of the clients that only ask questions.
#[derive(Debug)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}
