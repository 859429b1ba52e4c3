//! Which of librdkafka's properties serve whom, as its CONFIGURATION.md (version 2.12) has them: consumers only,
//! producers only, or both. Pure. What is in neither list serves both.

/// "C" there.
const CONSUMER: [&str; 34] = [
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "consume_cb",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "offset_commit_cb",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "rebalance_cb",
    "session.timeout.ms",
];

/// "P" there.
const PRODUCER: [&str; 30] = [
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "dr_cb",
    "dr_msg_cb",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "msg_order_cmp",
    "partitioner",
    "partitioner_cb",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Consumers alone heed it.
pub(crate) fn is_for_consumers(key: &str) -> bool {
    CONSUMER.contains(&key)
}

/// Producers alone heed it.
pub(in crate::plan) fn is_for_producers(key: &str) -> bool {
    PRODUCER.contains(&key)
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn every_property_serves_whom_librdkafka_says() {
        for (key, consumers, producers) in [
            ("group.id", true, false),
            ("fetch.min.bytes", true, false),
            ("allow.auto.create.topics", false, false),
            ("bootstrap.servers", false, false),
            ("broker.address.family", false, false),
            ("client.dns.lookup", false, false),
            ("client.rack", false, false),
            ("sasl.kerberos.keytab", false, false),
            ("socket.keepalive.enable", false, false),
            ("ssl.cipher.suites", false, false),
            ("security.protocol", false, false),
            ("linger.ms", false, true),
            ("acks", false, true),
        ] {
            assert_eq!(is_for_consumers(key), consumers, "{key}");
            assert_eq!(is_for_producers(key), producers, "{key}");
        }
        // No name that the client does not know: it refuses those before it looks at the value.
        for key in CONSUMER.iter().chain(&PRODUCER) {
            let made = ClientConfig::new().set(*key, "?").create_native_config();
            let said = made
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(!said.contains("No such configuration property"), "{said}");
        }
    }
}
