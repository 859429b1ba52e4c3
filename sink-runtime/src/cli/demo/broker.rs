//! The demo's broker: librdkafka's mock cluster, in this process, on loopback. It keeps 5 MiB per partition, so the
//! orders are spread over enough of them.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::orders::Orders;

/// Orders of about 230 bytes with their framing: 12 000 stay well under a partition's 5 MiB.
const ORDERS_PER_PARTITION: u64 = 12_000;

pub(super) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    pub(super) fn start() -> Result<Self, KafkaError> {
        Ok(Self {
            cluster: MockCluster::new(1)?,
        })
    }

    pub(super) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates `topic` and fills it with `count` orders. Returns how many of them are malformed.
    pub(super) fn fill(&self, topic: &str, count: u64, epoch: i64) -> Result<u64, KafkaError> {
        let partitions = count.div_ceil(ORDERS_PER_PARTITION).max(4);
        self.cluster
            .create_topic(topic, i32::try_from(partitions).unwrap_or(i32::MAX), 1)?;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("linger.ms", "50")
            .set("batch.num.messages", "10000")
            .create()?;
        let mut orders = Orders::new(epoch);
        let mut value = String::new();
        let mut malformed = 0;
        for n in 0..count {
            malformed += u64::from(!orders.write(&mut value));
            let partition = (n % partitions) as i32;
            loop {
                let record = BaseRecord::<(), str>::to(topic)
                    .partition(partition)
                    .payload(&value);
                match producer.send(record) {
                    Ok(()) => break,
                    Err((
                        KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull),
                        _,
                    )) => {
                        producer.poll(std::time::Duration::from_millis(20));
                    }
                    Err((error, _)) => return Err(error),
                }
            }
        }
        producer.flush(std::time::Duration::from_secs(60))?;
        Ok(malformed)
    }
}
