//! The complete set of librdkafka properties: ours, the user's, and why some cannot be the user's. Pure: librdkafka is
//! asked whether it knows a property, nothing is connected.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use tidewater_crds::SourceSpec;

use crate::plan::problem::Checks;
use crate::plan::{Isolation, Property};

/// librdkafka's default `fetch.max.bytes`: no fetch is made larger.
const FETCH_BYTES: usize = 50 << 20;
/// librdkafka's greatest `queued.max.messages.kbytes`.
const QUEUE_KBYTES: usize = 2_097_151;

pub(super) fn complete(
    checks: &mut Checks,
    spec: &SourceSpec,
    memory_budget: usize,
    isolation: Isolation,
    group_id: &str,
) -> BTreeMap<String, Property> {
    let mut properties = BTreeMap::new();
    let mut set = |key: &str, value: &str| {
        properties.insert(key.to_owned(), Property::Plain(value.to_owned()));
    };
    // What may be overridden.
    set("client.id", "tidewater");
    set("check.crcs", "true");
    // Back-pressure is ours: the queue is bounded by bytes, and the client should come back at once when there is room.
    set("fetch.queue.backoff.ms", "5");
    set("queued.min.messages", "1000000");
    // Compressed: unpacked, one fetch is several times as much, and all of it may come on top of a queue that is nearly
    // full.
    set(
        "fetch.max.bytes",
        &(share(memory_budget) / 4)
            .clamp(1 << 20, FETCH_BYTES)
            .to_string(),
    );
    set("statistics.interval.ms", "5000");
    set("topic.metadata.refresh.interval.ms", "30000");
    let consumer_protocol = spec
        .properties
        .get("group.protocol")
        .is_some_and(|protocol| protocol.trim() == "consumer");
    if !consumer_protocol {
        set("partition.assignment.strategy", "cooperative-sticky");
    }
    for (key, value) in &spec.properties {
        user_property(checks, spec, consumer_protocol, key, value);
        set(key, value.trim());
    }
    // What may not.
    set("bootstrap.servers", &spec.bootstrap_servers);
    set("group.id", group_id);
    set(
        "isolation.level",
        match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        },
    );
    set("allow.auto.create.topics", "false");
    set("auto.offset.reset", "error");
    set("enable.auto.commit", "false");
    set("enable.auto.offset.store", "false");
    set("enable.partition.eof", "true");
    set(
        "queued.max.messages.kbytes",
        &(share(memory_budget) / 1024)
            .clamp(1, QUEUE_KBYTES)
            .to_string(),
    );
    properties
}

/// Bytes of records the client may hold fetched. Small records cost it several times their size, so
/// this is a small part of the budget; it is enough to keep the workers busy.
fn share(memory_budget: usize) -> usize {
    memory_budget / 32
}

fn user_property(
    checks: &mut Checks,
    spec: &SourceSpec,
    consumer_protocol: bool,
    key: &str,
    value: &str,
) {
    let field = format!("spec.source.properties[\"{key}\"]");
    if let Some(reason) = refusal(key) {
        checks.add(field, "", reason);
        return;
    }
    if key.starts_with("sasl.kerberos.") && !uses_kerberos(spec) {
        let remedy = "goes with spec.source.security.sasl.mechanism: Gssapi only; remove it";
        checks.add(field, "", remedy);
        return;
    }
    let by_broker = [
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
    ];
    if consumer_protocol && by_broker.contains(&key) {
        let remedy = "the broker decides it with group.protocol: consumer; remove it";
        checks.add(field, value, remedy);
        return;
    }
    if let Err(KafkaError::ClientConfig(_, reason, _, _)) = ClientConfig::new()
        .set(key, value.trim())
        .create_native_config()
    {
        // A mistyped key may carry a password, and the reason may repeat it.
        let secretive = ["pass", "secret", "token", "key", "pem", "jwt"];
        if secretive
            .iter()
            .any(|part| key.to_lowercase().contains(part))
        {
            checks.add(
                field,
                "",
                "librdkafka refuses it: correct the name and the value",
            );
        } else {
            checks.add(field, value, format!("librdkafka refuses it: {reason}"));
        }
        return;
    }
    let number = value.trim().parse::<u64>().unwrap_or_default();
    match key {
        "statistics.interval.ms" if !(1000..=60_000).contains(&number) => {
            checks.add(field, value, "metrics are made from it: give 1000 to 60000");
        }
        "partition.assignment.strategy"
            if value.contains("cooperative-sticky") && value.trim() != "cooperative-sticky" =>
        {
            let remedy = "cooperative-sticky cannot be mixed with other strategies; give one";
            checks.add(field, value, remedy);
        }
        "max.poll.interval.ms" => {
            let session = spec.properties.get("session.timeout.ms");
            let session = session.and_then(|text| text.trim().parse().ok());
            if !consumer_protocol && number < session.unwrap_or(super::SESSION_TIMEOUT_MS) {
                checks.add(
                    field,
                    value,
                    "give at least session.timeout.ms (45000 by default)",
                );
            }
        }
        _ => {}
    }
}

fn uses_kerberos(spec: &SourceSpec) -> bool {
    let sasl = spec
        .security
        .as_ref()
        .and_then(|security| security.sasl.as_ref());
    sasl.is_some_and(|sasl| sasl.mechanism == tidewater_crds::SaslMechanism::Gssapi)
}

/// Why a property is not the user's to set.
pub(super) fn refusal(key: &str) -> Option<&'static str> {
    Some(match key {
        "bootstrap.servers" | "metadata.broker.list" => "set spec.source.bootstrapServers instead",
        "group.id" => "set spec.source.groupId instead",
        "isolation.level" => "set spec.source.isolationLevel instead",
        "auto.offset.reset" => {
            "set spec.source.startup and spec.source.onRecordsExpired instead: a silent reset would lose or repeat records"
        }
        "enable.auto.commit"
        | "auto.commit.enable"
        | "auto.commit.interval.ms"
        | "enable.auto.offset.store"
        | "offset.store.method"
        | "offset.store.path"
        | "offset.store.sync.interval.ms" => {
            "offsets follow the destination's commits, or records would be lost; remove it"
        }
        "enable.partition.eof" => {
            "the sink must know when a partition is read to its end; remove it"
        }
        "allow.auto.create.topics" => "a missing topic must be noticed; remove it",
        "queued.max.messages.kbytes" => {
            "a 32nd of the memory budget; set spec.pod.memoryBudget instead"
        }
        "security.protocol" => "set spec.source.security.protocol instead",
        "sasl.mechanism" | "sasl.mechanisms" => "set spec.source.security.sasl.mechanism instead",
        "sasl.username" => "set spec.source.security.sasl.username instead",
        "sasl.password" => "set spec.source.security.sasl.password instead",
        "ssl.ca.pem" | "ssl.ca.location" | "ssl_ca" => {
            "set spec.source.security.tls.caCertificate instead"
        }
        "ssl.certificate.pem" | "ssl.certificate.location" | "ssl_certificate" => {
            "set spec.source.security.tls.certificate instead"
        }
        "ssl.key.pem" | "ssl.key.location" | "ssl_key" => {
            "set spec.source.security.tls.key instead"
        }
        "ssl.key.password" => "set spec.source.security.tls.keyPassword instead",
        "ssl.keystore.location" | "ssl.keystore.password" => {
            "set spec.source.security.tls.certificate and key instead"
        }
        "ssl.endpoint.identification.algorithm" => {
            "set spec.source.security.tls.endpointIdentification instead"
        }
        "acks"
        | "request.required.acks"
        | "enable.idempotence"
        | "enable.gapless.guarantee"
        | "delivery.report.only.error"
        | "delivery.timeout.ms"
        | "message.timeout.ms"
        | "message.send.max.retries"
        | "retries"
        | "queue.buffering.max.kbytes"
        | "transaction.timeout.ms"
        | "transactional.id" => {
            "dead letters are durable before offsets move, and the sink sees to it; remove it"
        }
        "group.protocol.type"
        | "log.queue"
        | "builtin.features"
        | "plugin.library.paths"
        | "interceptors"
        | "msg_order_cmp"
        | "opaque"
        | "default_topic_conf" => "not to be set from a configuration; remove it",
        _ if key.contains("oauthbearer") => "OAuth to Kafka is not supported; remove it",
        _ if key.ends_with("_cb")
            || key.ends_with("_cb_data")
            || key.ends_with("callback_data") =>
        {
            "not to be set from a configuration; remove it"
        }
        _ => return None,
    })
}
