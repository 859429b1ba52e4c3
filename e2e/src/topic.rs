//! Topics: making, changing, filling and reading them.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::{Record, await_until};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A topic on a broker.
#[derive(Debug, Clone)]
pub struct Topic {
    bootstrap: String,
    name: String,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

/// A record as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    pub offset: i64,
    pub record: Record,
}

impl Topic {
    /// Creates a topic and waits until every partition has its leader.
    pub async fn create(bootstrap: &str, name: &str, partitions: i32) -> Result<Topic> {
        Self::create_with(bootstrap, name, partitions, &[]).await
    }

    /// The same with configurations of the topic.
    pub async fn create_with(
        bootstrap: &str,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<Topic> {
        let topic = Self::existing(bootstrap, name);
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let new = config
            .iter()
            .fold(new, |new, (key, value)| new.set(key, value));
        let results = admin(bootstrap)?.create_topics([&new], &options()).await?;
        all_well(results.into_iter().map(|r| r.map_err(|(_, code)| code)))?;
        topic.await_partitions(partitions).await?;
        Ok(topic)
    }

    /// Creates a topic whose partitions each have one replica, on the broker of that number.
    pub async fn create_on(bootstrap: &str, name: &str, brokers: &[i32]) -> Result<Topic> {
        let topic = Self::existing(bootstrap, name);
        let each: Vec<_> = brokers.iter().map(std::slice::from_ref).collect();
        let new = NewTopic::new(
            name,
            i32::try_from(brokers.len())?,
            TopicReplication::Variable(&each),
        );
        let results = admin(bootstrap)?.create_topics([&new], &options()).await?;
        all_well(results.into_iter().map(|r| r.map_err(|(_, code)| code)))?;
        topic
            .await_partitions(i32::try_from(brokers.len())?)
            .await?;
        Ok(topic)
    }

    /// The topic of that name, created unless it is there.
    pub async fn ensure(bootstrap: &str, name: &str, partitions: i32) -> Result<Topic> {
        let topic = Self::existing(bootstrap, name);
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let results = admin(bootstrap)?.create_topics([&new], &options()).await?;
        let failed = results.into_iter().filter_map(|result| match result {
            Err((_, code)) if code != RDKafkaErrorCode::TopicAlreadyExists => Some(code),
            _ => None,
        });
        all_well(failed.map(Err::<(), _>))?;
        topic.await_partitions(partitions).await?;
        Ok(topic)
    }

    /// A topic that is there already.
    pub fn existing(bootstrap: &str, name: &str) -> Topic {
        Topic {
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another topic of the same broker.
    pub fn sibling(&self, name: &str) -> Topic {
        Self::existing(&self.bootstrap, name)
    }

    /// Raises the number of partitions to `total`.
    pub async fn add_partitions(&self, total: usize) -> Result<()> {
        let more = NewPartitions::new(&self.name, total);
        let results = admin(&self.bootstrap)?
            .create_partitions([&more], &options())
            .await?;
        all_well(results.into_iter().map(|r| r.map_err(|(_, code)| code)))?;
        self.await_partitions(i32::try_from(total)?).await
    }

    /// Deletes the topic and waits until it is gone, so that it may be created again.
    pub async fn delete(&self) -> Result<()> {
        let results = admin(&self.bootstrap)?
            .delete_topics(&[&self.name], &options())
            .await?;
        all_well(results.into_iter().map(|r| r.map_err(|(_, code)| code)))?;
        await_until(
            TIMEOUT,
            &format!("topic '{}' gone", self.name),
            async || Ok(self.blocking(|topic| topic.count_partitions()).await? == 0),
        )
        .await
    }

    /// Deletes a partition's records below `before`: moves its log start.
    pub async fn delete_records(&self, partition: i32, before: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(before))?;
        let answer = admin(&self.bootstrap)?
            .delete_records(&list, &options())
            .await?;
        for element in answer.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// Leaves each partition empty with a log that starts somewhere else than the others', as retention does. What was
    /// there before is gone.
    pub async fn wear(&self) -> Result<()> {
        let partitions = self.blocking(|topic| topic.count_partitions()).await?;
        let worn = (0..partitions).flat_map(|partition| {
            (0..3 + 7 * partition).map(move |_| Record::new(partition, "worn away"))
        });
        self.produce(worn).await?;
        for partition in 0..partitions {
            let (_, end) = self.offsets(partition).await?;
            self.delete_records(partition, end).await?;
        }
        Ok(())
    }

    /// Produces the records in order, each to its partition modulo the topic's number of them, and waits for every
    /// acknowledgement.
    pub async fn produce(
        &self,
        records: impl IntoIterator<Item = Record> + Send + 'static,
    ) -> Result<()> {
        self.blocking(move |topic| topic.send_all(&topic.producer(None)?, records))
            .await
    }

    /// Produces the records in one transaction.
    pub async fn transaction(
        &self,
        records: impl IntoIterator<Item = Record> + Send + 'static,
        outcome: Outcome,
    ) -> Result<()> {
        // Flushed before it ends, so that an aborted transaction has its records in the log.
        self.open_transaction(records).await?.end(outcome).await
    }

    /// Produces the records in a transaction that stays open until it is ended, or the broker loses patience.
    pub async fn open_transaction(
        &self,
        records: impl IntoIterator<Item = Record> + Send + 'static,
    ) -> Result<OpenTransaction> {
        self.blocking(move |topic| {
            let producer = topic.producer(Some(&format!("lab-{:08x}", rand::random::<u32>())))?;
            producer.init_transactions(TIMEOUT)?;
            producer.begin_transaction()?;
            topic.send_all(&producer, records)?;
            Ok(OpenTransaction { producer })
        })
        .await
    }

    /// Every committed record, by partition and offset.
    pub async fn read_all(&self) -> Result<Vec<Consumed>> {
        self.blocking(|topic| topic.consume_all("read_committed"))
            .await
    }

    /// Also records of transactions that are open or were aborted.
    pub async fn read_uncommitted(&self) -> Result<Vec<Consumed>> {
        self.blocking(|topic| topic.consume_all("read_uncommitted"))
            .await
    }

    /// Log start and end offset of a partition.
    pub async fn offsets(&self, partition: i32) -> Result<(i64, i64)> {
        self.blocking(move |topic| {
            let consumer: BaseConsumer = topic.config().set("group.id", "lab").create()?;
            Ok(consumer.fetch_watermarks(&topic.name, partition, TIMEOUT)?)
        })
        .await
    }

    /// The offset a group has committed for a partition.
    pub async fn committed(&self, group: &str, partition: i32) -> Result<Option<i64>> {
        let group = group.to_owned();
        self.blocking(move |topic| {
            let consumer: BaseConsumer = topic.config().set("group.id", group).create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic.name, partition);
            let found = consumer.committed_offsets(list, TIMEOUT)?;
            let offset = found
                .find_partition(&topic.name, partition)
                .map(|e| e.offset());
            Ok(offset
                .and_then(|offset| offset.to_raw())
                .filter(|raw| *raw >= 0))
        })
        .await
    }

    /// Sets a group's offsets, by partition, as soon as its last member is gone.
    pub async fn commit_group(&self, group: &str, offsets: &[(i32, i64)]) -> Result<()> {
        await_until(TIMEOUT, "offsets of a group without members", async || {
            let (group, offsets) = (group.to_owned(), offsets.to_vec());
            let commit = move |topic: &Topic| {
                let consumer: BaseConsumer = topic.config().set("group.id", group).create()?;
                let mut list = TopicPartitionList::new();
                for (partition, offset) in offsets {
                    list.add_partition_offset(&topic.name, partition, Offset::Offset(offset))?;
                }
                Ok(consumer.commit(&list, CommitMode::Sync)?)
            };
            self.blocking(commit).await.map(|()| true)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Topic) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let topic = self.clone();
        tokio::task::spawn_blocking(move || work(&topic)).await?
    }

    async fn await_partitions(&self, wanted: i32) -> Result<()> {
        await_until(
            TIMEOUT,
            &format!("topic '{}' with {wanted} partitions", self.name),
            async || Ok(self.blocking(|topic| topic.count_partitions()).await? == wanted),
        )
        .await
    }

    /// Partitions that have a leader.
    fn count_partitions(&self) -> Result<i32> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata = consumer.fetch_metadata(Some(&self.name), TIMEOUT)?;
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.name);
        let led = topic.map_or(0, |t| {
            t.partitions().iter().filter(|p| p.leader() >= 0).count()
        });
        Ok(i32::try_from(led)?)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn producer(&self, transactional_id: Option<&str>) -> Result<BaseProducer<Deliveries>> {
        let mut config = self.config();
        config
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("batch.num.messages", "20000")
            .set("batch.size", "1000000")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("message.max.bytes", "100000000")
            .set("enable.idempotence", "true");
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        Ok(config.create_with_context(Deliveries::default())?)
    }

    fn send_all(
        &self,
        producer: &BaseProducer<Deliveries>,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<()> {
        let partitions = self.count_partitions()?;
        if partitions == 0 {
            bail!("no topic '{}'", self.name);
        }
        for (i, record) in records.into_iter().enumerate() {
            let mut message =
                BaseRecord::<[u8], [u8]>::to(&self.name).partition(record.partition % partitions);
            if let Some(key) = &record.key {
                message = message.key(key);
            }
            if let Some(value) = &record.value {
                message = message.payload(value);
            }
            if let Some(timestamp) = record.timestamp {
                message = message.timestamp(timestamp);
            }
            if !record.headers.is_empty() {
                let headers =
                    record
                        .headers
                        .iter()
                        .fold(OwnedHeaders::new(), |all, (key, value)| {
                            all.insert(Header {
                                key,
                                value: value.as_ref(),
                            })
                        });
                message = message.headers(headers);
            }
            loop {
                match producer.send(message) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                        producer.poll(Duration::from_millis(50));
                        message = again;
                    }
                    Err((error, _)) => return Err(error).context("produce"),
                }
            }
            if i % 1000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(TIMEOUT)?;
        match producer.context().failure() {
            Some(error) => Err(error).context("deliver"),
            None => Ok(()),
        }
    }

    fn consume_all(&self, isolation: &str) -> Result<Vec<Consumed>> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "lab")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation)
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut open = self.count_partitions()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..open {
            list.add_partition_offset(&self.name, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut found = Vec::new();
        while open > 0 {
            match consumer
                .poll(TIMEOUT)
                .ok_or_else(|| anyhow!("topic '{}' went quiet", self.name))?
            {
                Ok(message) => found.push(Consumed::from(&message)),
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => return Err(error.into()),
            }
        }
        found.sort_by_key(|consumed| (consumed.record.partition, consumed.offset));
        Ok(found)
    }
}

/// A transaction whose records are in the log, and which is neither committed nor aborted.
pub struct OpenTransaction {
    producer: BaseProducer<Deliveries>,
}

impl fmt::Debug for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTransaction").finish_non_exhaustive()
    }
}

impl OpenTransaction {
    /// Ends it.
    pub async fn end(self, outcome: Outcome) -> Result<()> {
        tokio::task::spawn_blocking(move || match outcome {
            Outcome::Commit => Ok(self.producer.commit_transaction(TIMEOUT)?),
            Outcome::Abort => Ok(self.producer.abort_transaction(TIMEOUT)?),
        })
        .await?
    }
}

impl<M: Message> From<&M> for Consumed {
    fn from(message: &M) -> Self {
        let headers = message.headers().map_or(Vec::new(), |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Consumed {
            offset: message.offset(),
            record: Record {
                partition: message.partition(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                timestamp: message.timestamp().to_millis(),
                headers,
            },
        }
    }
}

/// Deletes a consumer group, which must have no member.
pub async fn delete_group(bootstrap: &str, group: &str) -> Result<()> {
    let results = admin(bootstrap)?
        .delete_groups(&[group], &options())
        .await?;
    all_well(results.into_iter().map(|r| r.map_err(|(_, code)| code)))
}

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()?)
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT))
}

fn all_well<T>(results: impl Iterator<Item = Result<T, RDKafkaErrorCode>>) -> Result<()> {
    for result in results {
        result?;
    }
    Ok(())
}

/// Remembers the first failed delivery.
#[derive(Debug, Default)]
struct Deliveries {
    failure: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn failure(&self) -> Option<KafkaError> {
        self.failure.lock().ok().and_then(|failure| failure.clone())
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && let Ok(mut failure) = self.failure.lock()
        {
            failure.get_or_insert_with(|| error.clone());
        }
    }
}
