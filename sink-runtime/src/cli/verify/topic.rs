//! What the topic says must be in the destination: every record below the ledger, decoded as the sink decodes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message, Offset as Position, Timestamp, TopicPartitionList};

use super::super::CliError;
use super::cells::cells;
use super::folders::Folders;
use super::report::{Lane, Witness};
use super::wanted::Wanted;
use crate::decode::{Decoder, decoder};
use crate::plan::{DecodePlan, Isolation, Plan};
use crate::record::{
    Arena, AssignmentEpoch, Headers, Offset, RawBatch, TimestampType, TopicName, TopicPartition,
};
use crate::schema::precedent::Precedent;
use crate::source::Facts;

/// Records decoded at once.
const BATCH: usize = 10_000;
/// No record for this long ends the attempt.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads topics, slice by slice. Its decoders remember what they have met.
pub(super) struct Reader {
    plan: Arc<Plan>,
    consumer: BaseConsumer,
    decode: Arc<DecodePlan>,
    /// Of a table, which gives its types to columns that are found.
    columns: Option<Arc<Precedent>>,
    decoders: BTreeMap<TopicName, Box<dyn Decoder>>,
    /// Of a dataset.
    folders: Option<Folders>,
    values: bool,
    pub(super) rejected: u64,
}

impl Reader {
    pub(super) fn new(
        plan: &Arc<Plan>,
        columns: Option<Arc<Precedent>>,
        values: bool,
    ) -> Result<Self, CliError> {
        Ok(Self {
            plan: Arc::clone(plan),
            consumer: consumer(plan)?,
            decode: Arc::new(plan.decode.clone()),
            columns,
            decoders: BTreeMap::new(),
            folders: Folders::of(plan)?,
            values,
            rejected: 0,
        })
    }

    /// What each topic-partition of the ledger can witness. Blocks.
    pub(super) fn lanes(
        &self,
        ledger: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Lane>, CliError> {
        let facts = Facts::connect(&self.plan.source, Duration::from_secs(10))?;
        let tps: Vec<_> = ledger.keys().cloned().collect();
        let mut lanes = BTreeMap::new();
        for ((tp, next), marks) in ledger.iter().zip(facts.watermarks(&tps)?) {
            let (witness, log_start) = match marks {
                Some((start, end)) if end < *next => (Witness::Shorter(end.0), start),
                Some((start, _)) => (Witness::Log, start),
                None => match facts.partitions(&tp.topic)?.contains(&tp.partition) {
                    true => return Err(CliError(format!("{tp} has no leader: try again later"))),
                    false => (Witness::Gone, Offset(0)),
                },
            };
            lanes.insert(tp.clone(), Lane::new(witness, log_start.0, next.0));
        }
        Ok(lanes)
    }

    /// Records of these offsets. Blocks.
    pub(super) fn read(
        &mut self,
        tp: &TopicPartition,
        offsets: Range<i64>,
    ) -> Result<Wanted, CliError> {
        let mut wanted = Wanted::default();
        let decoder = self.decoders.entry(tp.topic.clone()).or_insert_with(|| {
            let mut decoder = decoder(&self.decode);
            if let Some(columns) = &self.columns {
                decoder.adopt(columns);
            }
            decoder
        });
        let (values, rejected) = (self.values, &mut self.rejected);
        let folders = &mut self.folders;
        read(&self.consumer, tp, offsets, &self.decode, |raw| {
            let mut decoded = decoder.decode(&raw);
            if let Some(folders) = folders.as_mut() {
                decoded = folders.sift(&raw, decoded)?;
            }
            *rejected += decoded.rejects.len() as u64;
            let offsets = decoded.rows.iter().map(|row| raw.offsets[*row as usize]);
            let cells = match values {
                true => cells(&decoded.batch, &|_, path| Some(path.to_owned())),
                false => Vec::new(),
            };
            wanted.add(offsets, cells);
            Ok(())
        })?;
        Ok(wanted)
    }
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
    offsets: Range<i64>,
    decode: &DecodePlan,
    mut each: impl FnMut(RawBatch) -> Result<(), CliError>,
) -> Result<(), CliError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let failed = |error: KafkaError| CliError(format!("read {tp}: {error}"));
    let mut assignment = TopicPartitionList::new();
    let position = Position::Offset(offsets.start);
    assignment
        .add_partition_offset(tp.topic.as_str(), tp.partition, position)
        .map_err(failed)?;
    consumer.assign(&assignment).map_err(failed)?;
    let mut batch = empty(tp, decode);
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if message.offset() >= offsets.end {
                    break;
                }
                let ty = timestamp_type(&message);
                let other = batch.timestamp_type != ty;
                if other || batch.len() >= BATCH {
                    let full = std::mem::replace(&mut batch, empty(tp, decode));
                    if !full.is_empty() {
                        each(full)?;
                    }
                    batch.timestamp_type = ty;
                }
                push(&mut batch, &message);
                if message.offset() + 1 >= offsets.end {
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
        each(batch)?;
    }
    Ok(())
}

fn timestamp_type(message: &BorrowedMessage<'_>) -> TimestampType {
    match message.timestamp() {
        Timestamp::NotAvailable => TimestampType::NotAvailable,
        Timestamp::CreateTime(_) => TimestampType::CreateTime,
        Timestamp::LogAppendTime(_) => TimestampType::LogAppendTime,
    }
}

fn push(batch: &mut RawBatch, message: &BorrowedMessage<'_>) {
    batch.values.push(message.payload());
    batch.offsets.push(message.offset());
    batch
        .timestamps
        .push(message.timestamp().to_millis().unwrap_or(-1));
    if let Some(keys) = &mut batch.keys {
        keys.push(message.key());
    }
    if let Some(all) = &mut batch.headers {
        let mut own = Headers::new();
        for header in message.headers().into_iter().flat_map(|h| h.iter()) {
            own.push((header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
        }
        all.push(own);
    }
}

fn empty(tp: &TopicPartition, decode: &DecodePlan) -> RawBatch {
    RawBatch {
        tp: tp.clone(),
        epoch: AssignmentEpoch(0),
        values: Arena::default(),
        offsets: Vec::new(),
        timestamps: Vec::new(),
        timestamp_type: TimestampType::CreateTime,
        keys: decode.needs_keys(false).then(Arena::default),
        headers: decode.needs_headers(false).then(Vec::new),
        leader_epoch: None,
    }
}
