//! The control: nothing but consumption of the topic. No sink can be faster; its figures tell how fast the machine,
//! the broker and librdkafka are today.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::batches::{Batches, Tally};

const PATIENCE: Duration = Duration::from_secs(30);
/// Messages a call: what a sink takes by default (`spec.source.batchRecords`).
const BATCH: usize = 10_000;

/// What a control found.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Consumed {
    pub(crate) records: u64,
    /// Of the values.
    pub(crate) bytes: u64,
    /// From the first batch to the last.
    pub(crate) seconds: f64,
}

/// Reads `records` records of a topic, from its start.
pub(crate) fn consume(bootstrap: &str, topic: &str, records: u64) -> Result<Consumed> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench-control")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        // By default a fetcher that met a full queue sleeps a second.
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", "1000000")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let found = metadata.topics().first().context("no such topic")?;
    let mut start = TopicPartitionList::new();
    for partition in found.partitions() {
        start.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&start)?;

    let mut batches = Batches::of(&consumer, BATCH)?;
    let mut total = Tally::default();
    let mut first = None;
    while total.records < records {
        let tally = batches.drain(PATIENCE)?;
        ensure!(
            tally.records > 0,
            "no further record after {} of {records}",
            total.records
        );
        first.get_or_insert_with(Instant::now);
        total.records += tally.records;
        total.bytes += tally.bytes;
    }
    Ok(Consumed {
        records: total.records,
        bytes: total.bytes,
        seconds: first.map_or(0.0, |first| first.elapsed().as_secs_f64()),
    })
}
