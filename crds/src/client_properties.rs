//! Which of librdkafka's properties a resource of a cluster may set.

use kube::core::{Message, Rule};

/// Properties of the client that reach no further than its connections, queues and members of the group: those that a
/// resource may set in `spec.source.properties`. Names of librdkafka's CONFIGURATION.md, version 2.12.
///
/// All others open files, load or run programs, name other hosts, are the sink's own or have fields: who may write a
/// resource must not get more by them than by its typed fields. A process outside of a cluster may have them.
pub const CLIENT_PROPERTIES: [&str; 77] = [
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "coordinator.query.interval.ms",
    "debug",
    "enable.metrics.push",
    "enable.random.seed",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "linger.ms",
    "log.connection.close",
    "log.thread.name",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.min.messages",
    "queuing.strategy",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "session.timeout.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// No other property is in `properties`. Whoever has given another is told which.
pub(crate) fn rule() -> Rule {
    // A map: an API server reckons with names of any length, and looks one up in it at a price that it allows, for as many
    // properties as the schema has.
    let known = CLIENT_PROPERTIES.map(|name| format!("'{name}': true"));
    let known = format!("{{{}}}", known.join(", "));
    let message = format!(
        "'not for a resource to set: ' + self.properties.filter(key, !(key in {known}))[0] + '; set the field of spec.source \
         that stands for it, or remove it'"
    );
    Rule::new(format!(
        "!has(self.properties) || self.properties.all(key, key in {known})"
    ))
    .message(Message::Expression(message))
    .field_path(".properties")
}
