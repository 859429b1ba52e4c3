//! Whether logs were cut below what was read of them, however far they have grown since. A client that seeks to an offset
//! of some epoch first asks the leader where the records of that epoch end (KIP-320), and reports an end below. It
//! reports it in words only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Offset as Position;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;

use super::super::SourceError;
use super::super::batch::{DataQueue, Record};
use super::super::epochs;
use super::super::trouble::call_failed;
use super::{client_config, quiet};
use crate::plan::SourcePlan;
use crate::record::{LastRead, Offset, TopicPartition};

const WHAT: &str = "look for a cut in the log";
/// Between two looks at what came.
const TURN: Duration = Duration::from_millis(5);
const DRAIN: usize = 100;
/// Bytes of each partition in one answer: what is fetched only says that the offset holds. 500 partitions are 8 MiB.
const FETCH: &str = "16384";
/// As librdkafka words it; before the number.
const END: &str = "broker end offset is ";

type Found = BTreeMap<TopicPartition, Result<Option<Offset>, SourceError>>;

/// Where each log was cut at or below the record, or `None` where it was not, or nobody can tell; or why the brokers did
/// not say. Makes a client of its own, and fetches a batch of each: of use where the epoch has changed.
pub fn cuts(
    plan: &SourcePlan,
    read: &BTreeMap<TopicPartition, LastRead>,
    patience: Duration,
) -> Found {
    let mut found = Found::new();
    if let Err(error) = look(plan, read, patience, &mut found) {
        for tp in read.keys() {
            found
                .entry(tp.clone())
                .or_insert_with(|| Err(error.clone()));
        }
    }
    found
}

fn look(
    plan: &SourcePlan,
    read: &BTreeMap<TopicPartition, LastRead>,
    patience: Duration,
    found: &mut Found,
) -> Result<(), SourceError> {
    let deadline = Instant::now() + patience;
    let failed = |error: KafkaError| call_failed(WHAT, &error);
    let mut config = client_config(plan);
    config
        .set("isolation.level", "read_uncommitted")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("queued.min.messages", "1")
        .set("max.partition.fetch.bytes", FETCH);
    let client = Arc::new(quiet(plan, &mut config)?);
    let mut queue = DataQueue::new(Arc::clone(&client), DRAIN, thread::current());
    let mut list = TopicPartitionList::with_capacity(read.len());
    for (tp, last) in read {
        queue.forward(tp.topic.as_str(), tp.partition);
        let behind = Position::Offset(last.offset.0 + 1);
        list.add_partition_offset(tp.topic.as_str(), tp.partition, behind)
            .map_err(failed)?;
        epochs::set(&mut list, tp, last.leader_epoch);
    }
    client.assign(&list).map_err(failed)?;
    let mut seeking: Vec<&TopicPartition> = read.keys().collect();
    while found.len() < read.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SourceError::Lookup {
                what: WHAT,
                message: "no answer".to_owned(),
            });
        }
        if !seeking.is_empty() {
            // What an assignment fetches by itself was not looked at: it is passed over by the seek. That is refused
            // until the assignment is through.
            let mut wanted = TopicPartitionList::with_capacity(seeking.len());
            for tp in &seeking {
                let last = read[*tp];
                let behind = Position::Offset(last.offset.0 + 1);
                wanted
                    .add_partition_offset(tp.topic.as_str(), tp.partition, behind)
                    .map_err(failed)?;
                epochs::set(&mut wanted, tp, last.leader_epoch);
            }
            let sought = client.seek_partitions(wanted, left).map_err(failed)?;
            seeking.retain(|tp| {
                let element = sought.find_partition(tp.topic.as_str(), tp.partition);
                element.is_none_or(|element| element.error().is_err())
            });
        }
        // Serves the client's own events; records go to the queue.
        client.poll(TURN.min(left));
        let mut drained = queue.drain();
        while let Some(record) = drained.next() {
            let tp = TopicPartition::new(record.topic(), record.partition());
            if read.contains_key(&tp) && !seeking.contains(&&tp) {
                found.entry(tp).or_insert_with(|| answer(record));
            }
        }
    }
    Ok(())
}

fn answer(record: Record<'_>) -> Result<Option<Offset>, SourceError> {
    let code = record.error();
    let fine = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    ];
    if fine.iter().any(|fine| *fine as i32 == code) {
        return Ok(None);
    }
    let text = record.value().map(String::from_utf8_lossy);
    let text = text.unwrap_or_default();
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET as i32 {
        return Ok(cut_in(&text));
    }
    let code = RDKafkaRespErr::try_from(code).map_or(Code::Unknown, Code::from);
    Err(SourceError::Lookup {
        what: WHAT,
        message: format!("{code}: {text}"),
    })
}

/// A leader that knows no such epoch tells -1.
fn cut_in(text: &str) -> Option<Offset> {
    let (_, rest) = text.split_once(END)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(Offset)
}
