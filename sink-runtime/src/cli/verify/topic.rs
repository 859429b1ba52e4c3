//! What the topic says must be in the destination: every record below the ledger, decoded as the sink decodes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset as Position, TopicPartitionList};

use super::super::CliError;
use super::report::Witness;
use crate::decode::{Decoder, decoder};
use crate::plan::{Isolation, Plan};
use crate::record::{Arena, AssignmentEpoch, Offset, RawBatch, TimestampType, TopicPartition};
use crate::schema::precedent::Precedent;
use crate::source::Facts;

/// Records decoded at once.
const BATCH: usize = 10_000;
/// No record for this long ends the attempt.
const SILENCE: Duration = Duration::from_secs(30);

pub(super) struct Wanted {
    pub(super) witness: Witness,
    pub(super) log_start: i64,
    pub(super) next: i64,
    /// Offsets of the rows, ascending.
    pub(super) offsets: Vec<i64>,
}

#[derive(Default)]
pub(super) struct Expected {
    pub(super) lanes: BTreeMap<TopicPartition, Wanted>,
    pub(super) rejected: u64,
}

/// Reads `[log start, next)` of every partition of the ledger. Blocks.
pub(super) fn expected(
    plan: &Arc<Plan>,
    ledger: &BTreeMap<TopicPartition, Offset>,
    columns: Option<&Arc<Precedent>>,
) -> Result<Expected, CliError> {
    let facts = Facts::connect(&plan.source, Duration::from_secs(10))?;
    let tps: Vec<_> = ledger.keys().cloned().collect();
    let watermarks = facts.watermarks(&tps)?;
    let consumer = consumer(plan)?;
    let mut decoders: BTreeMap<_, Box<dyn Decoder>> = BTreeMap::new();
    let decode = Arc::new(plan.decode.clone());
    let mut expected = Expected::default();
    for ((tp, next), marks) in ledger.iter().zip(watermarks) {
        let (witness, log_start) = match marks {
            Some((start, end)) if end < *next => (Witness::Shorter(end.0), start),
            Some((start, _)) => (Witness::Log, start),
            None => match facts.partitions(&tp.topic)?.contains(&tp.partition) {
                true => return Err(CliError(format!("{tp} has no leader: try again later"))),
                false => (Witness::Gone, Offset(0)),
            },
        };
        let decoder = decoders.entry(tp.topic.clone()).or_insert_with(|| {
            let mut decoder = decoder(&decode);
            if let Some(columns) = columns {
                decoder.adopt(columns);
            }
            decoder
        });
        let mut wanted = Wanted {
            witness,
            log_start: log_start.0,
            next: next.0,
            offsets: Vec::new(),
        };
        if witness == Witness::Log {
            read(&consumer, tp, log_start, *next, |raw| {
                let decoded = decoder.decode(&raw);
                expected.rejected += decoded.rejects.len() as u64;
                wanted
                    .offsets
                    .extend(decoded.rows.iter().map(|row| raw.offsets[*row as usize]));
            })?;
        }
        expected.lanes.insert(tp.clone(), wanted);
    }
    Ok(expected)
}

fn consumer(plan: &Plan) -> Result<BaseConsumer, CliError> {
    let mut config = ClientConfig::new();
    for (key, value) in &plan.source.properties {
        // Membership is none of a reader's business.
        if key != "group.instance.id"
            && !key.starts_with("partition.assignment")
            && key != "group.protocol"
        {
            config.set(key, value.expose());
        }
    }
    config
        .set("bootstrap.servers", &plan.source.bootstrap_servers)
        .set("group.id", format!("{}.verify", plan.source.group_id))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        .set("fetch.wait.max.ms", "20")
        .set(
            "isolation.level",
            match plan.source.isolation {
                Isolation::ReadCommitted => "read_committed",
                Isolation::ReadUncommitted => "read_uncommitted",
            },
        );
    config
        .create()
        .map_err(|error| CliError(format!("make a kafka client: {error}")))
}

fn read(
    consumer: &BaseConsumer,
    tp: &TopicPartition,
    start: Offset,
    end: Offset,
    mut each: impl FnMut(RawBatch),
) -> Result<(), CliError> {
    if start >= end {
        return Ok(());
    }
    let failed = |error: KafkaError| CliError(format!("read {tp}: {error}"));
    let mut assignment = TopicPartitionList::new();
    let position = Position::Offset(start.0);
    assignment
        .add_partition_offset(tp.topic.as_str(), tp.partition, position)
        .map_err(failed)?;
    consumer.assign(&assignment).map_err(failed)?;
    let mut batch = empty(tp);
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if message.offset() >= end.0 {
                    break;
                }
                batch.values.push(message.payload());
                batch.offsets.push(message.offset());
                batch
                    .timestamps
                    .push(message.timestamp().to_millis().unwrap_or(-1));
                if batch.len() >= BATCH {
                    each(std::mem::replace(&mut batch, empty(tp)));
                }
                if message.offset() + 1 >= end.0 {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) if heard.elapsed() > SILENCE => return Err(failed(error)),
            Some(Err(_)) => {}
            None if heard.elapsed() > SILENCE => {
                return Err(CliError(format!(
                    "read {tp}: no record for {} s",
                    SILENCE.as_secs()
                )));
            }
            None => {}
        }
    }
    if !batch.is_empty() {
        each(batch);
    }
    Ok(())
}

fn empty(tp: &TopicPartition) -> RawBatch {
    RawBatch {
        tp: tp.clone(),
        epoch: AssignmentEpoch(0),
        values: Arena::default(),
        offsets: Vec::new(),
        timestamps: Vec::new(),
        timestamp_type: TimestampType::CreateTime,
        keys: None,
        headers: None,
    }
}
