//! The complete set of librdkafka properties: ours, the user's, and why some cannot be the user's. Pure: librdkafka is
//! asked whether it knows a property, nothing is connected.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use serde_json::Value;
use tidewater_crds::{CLIENT_PROPERTIES, SourceSpec};

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

/// Outside of a cluster these are whoever's who runs the process: they open files, load or run programs.
const OUTSIDE: [&str; 10] = [
    "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "ssl.ca.certificate.stores",
    "ssl.crl.location",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.providers",
];

/// What a resource of a cluster may not ask for, since whoever writes it may do less than those who act on it.
pub(in crate::plan) fn check_resource(checks: &mut Checks, source: &Value) {
    let asked = source["properties"].as_object().into_iter().flatten();
    for (key, _) in asked {
        if !CLIENT_PROPERTIES.contains(&key.as_str()) && refusal(key).is_none() {
            let field = format!("spec.source.properties[\"{key}\"]");
            let remedy = if OUTSIDE.contains(&key.as_str()) {
                "it opens files or runs programs, and goes with a process outside of a cluster only: remove it"
            } else {
                "not a property that a resource may set: remove it"
            };
            checks.add(field, "", remedy);
        }
    }
    if source["security"]["sasl"]["mechanism"] == "Gssapi" {
        let remedy = "Kerberos is for processes outside of a cluster only: give another mechanism";
        checks.add("spec.source.security.sasl.mechanism", "Gssapi", remedy);
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
        "enable.ssl.certificate.verification" => {
            "set spec.source.security.tls.insecureSkipVerify instead"
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
        "consume.callback.max.messages"
        | "produce.offset.report"
        | "https.ca.location"
        | "https.ca.pem" => "nothing of the sink heeds it; remove it",
        "group.protocol.type"
        | "enabled_events"
        | "internal.termination.signal"
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::CStr;

    use super::*;

    /// Every property of the librdkafka that is linked.
    #[allow(unsafe_code, reason = "the client writes its list to a C file only")]
    fn known_to_the_client() -> BTreeSet<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
        let mode: &CStr = c"w";
        // SAFETY: the file is opened, written and closed here, and both strings end with NUL.
        unsafe {
            let stream = libc::fopen(path.as_ptr(), mode.as_ptr());
            assert!(!stream.is_null());
            rdkafka::bindings::rd_kafka_conf_properties_show(stream.cast());
            libc::fclose(stream);
        }
        let text = std::fs::read_to_string(file.path()).unwrap();
        let rows = text.lines().filter_map(|line| line.split_once('|'));
        let names = rows.map(|(name, _)| name.trim().to_owned());
        names
            .filter(|name| !name.is_empty() && name != "Property" && !name.starts_with('-'))
            .collect()
    }

    #[test]
    fn every_property_of_the_client_is_allowed_refused_or_for_outside_of_clusters() {
        let known = known_to_the_client();
        assert!(known.len() > 150, "{known:?}");
        for name in &known {
            let name = name.as_str();
            let decisions = [
                CLIENT_PROPERTIES.contains(&name),
                refusal(name).is_some(),
                OUTSIDE.contains(&name),
            ];
            let made = decisions.iter().filter(|made| **made).count();
            assert_eq!(made, 1, "{name}: {decisions:?}");
        }
        let unknown: Vec<_> = CLIENT_PROPERTIES
            .iter()
            .chain(&OUTSIDE)
            .filter(|name| !known.contains(**name))
            .collect();
        assert_eq!(unknown, Vec::<&&str>::new());
    }
}
