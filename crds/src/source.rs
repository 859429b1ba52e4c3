//! `spec.source`: which records are read, from where, and as whom.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::client_properties;
use crate::quantity::TimeSpan;
use crate::secret::{Certificate, FromSecret};

/// The Kafka topics that are read, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.topics) != has(self.topicPattern)").message("give exactly one of topics and topicPattern").field_path(".topics"))]
#[x_kube(validation = client_properties::rule())]
pub struct SourceSpec {
    /// Brokers to ask first, `host:port` separated by commas. Example: `kafka-0:9092,kafka-1:9092`.
    #[schemars(length(min = 1, max = 4096))]
    pub bootstrap_servers: String,
    /// Topics by name. Exactly one of `topics` and `topicPattern` is needed. Example: `[orders, returns]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 249)))]
    pub topics: Option<Vec<String>>,
    /// Regular expression over whole topic names; topics that appear later and match are picked up. Example:
    /// `orders-[a-z]+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub topic_pattern: Option<String>,
    /// Consumer group. Default: `tidewater.<namespace>.<name>` of the resource. Example: `lake-orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    #[x_kube(validation = Rule::new("!self.matches('[[:space:][:cntrl:]]')").message("use no spaces or control characters"))]
    pub group_id: Option<String>,
    /// Where a partition starts that the destination knows nothing of. Example: `{mode: Latest}`.
    #[serde(default)]
    pub startup: StartupSpec,
    /// Whether records of open and aborted transactions are read. Example: `ReadUncommitted`.
    #[serde(default)]
    pub isolation_level: IsolationLevel,
    /// Encryption and authentication. Default: neither. Example: `{protocol: Ssl}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<SecuritySpec>,
    /// Further librdkafka properties: of its connections, queues and group membership. Those that would break delivery,
    /// open files, run programs or name other hosts are refused. All but those of consumers serve the dead-letter topic's
    /// producer, too. `group.instance.id` goes with one pod. Example: `{session.timeout.ms: "60000"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 40))]
    pub properties: BTreeMap<String, String>,
    /// What to do when the topic or the cluster was recreated, so that offsets mean something else. Example: `Restart`.
    #[serde(default)]
    pub on_source_reset: OnSourceReset,
    /// What to do when retention removed records before they were read. Example: `Skip`.
    #[serde(default)]
    pub on_records_expired: OnRecordsExpired,
    /// What to do when Kafka lost records that the destination holds already: the log of the same topic ends below what
    /// was committed, or was cut there and has grown again. Example: `Continue`.
    #[serde(default)]
    pub on_log_truncated: OnLogTruncated,
    /// How long a rebalance or a shutdown may take to commit open work before the work is dropped and read again; not
    /// more than the session timeout. Default: half the session timeout (`session.timeout.ms` of `properties`, else
    /// 45 s). Example: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<TimeSpan>,
    /// Most records handed to a decoder at once. Example: `5000`.
    #[serde(default = "batch_records")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_records: u32,
}

fn batch_records() -> u32 {
    10_000
}

/// Where a partition starts that the destination knows nothing of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.timestamp) == (self.mode == 'Timestamp')").message("timestamp is needed with mode: Timestamp, and only with it").field_path(".timestamp"))]
#[x_kube(validation = Rule::new("has(self.offsets) == (self.mode == 'Offsets')").message("offsets are needed with mode: Offsets, and only with it").field_path(".offsets"))]
pub struct StartupSpec {
    /// `GroupOffsets` (the group's committed offset, else the earliest), `Earliest`, `Latest` (of what is there when the
    /// sink first starts; partitions and topics that come later are read from their start), `Timestamp` or `Offsets`.
    /// Example: `Latest`.
    #[serde(default)]
    pub mode: StartupMode,
    /// With `mode: Timestamp`: start at the first record at or after it. RFC 3339 or milliseconds since the epoch.
    /// Example: `2026-01-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Moment>,
    /// With `mode: Offsets`: where to start; partitions that are not named start at the earliest record. Example:
    /// `[{topic: orders, partition: 0, offset: 4711}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10000))]
    pub offsets: Option<Vec<PartitionOffset>>,
}

/// How the start is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartupMode {
    GroupOffsets,
    #[default]
    Earliest,
    Latest,
    Timestamp,
    Offsets,
}

/// An instant: RFC 3339 text or milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    Millis(i64),
    Text(String),
}

impl JsonSchema for Moment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

/// The start of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionOffset {
    /// Topic. Example: `orders`.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// Partition. Example: `0`.
    #[schemars(range(min = 0))]
    pub partition: i32,
    /// Offset of the first record that is read. Example: `4711`.
    #[schemars(range(min = 0))]
    pub offset: i64,
}

/// Whether records of open and aborted transactions are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IsolationLevel {
    #[default]
    ReadCommitted,
    ReadUncommitted,
}

/// The topic or cluster was recreated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnSourceReset {
    /// Stop and say so.
    #[default]
    Stop,
    /// Read the new topic from its start, after what the destination holds.
    Restart,
}

/// Retention removed records before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRecordsExpired {
    /// Stop and say so.
    #[default]
    Stop,
    /// Go on at the log's start; the gap is counted and reported.
    Skip,
}

/// The log ends below what was committed, or was cut there and has grown again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnLogTruncated {
    /// Stop and say so.
    #[default]
    Stop,
    /// Go on where the log was cut. What Kafka lost stays in the destination. Of a log that is still too short it is its
    /// end: what was written since it was cut, below that, is not read.
    Continue,
}

/// Encryption and authentication of the connection to Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.sasl) == self.protocol.startsWith('Sasl')").message("sasl is needed with SaslPlaintext and SaslSsl, and only with them").field_path(".sasl"))]
#[x_kube(validation = Rule::new("!has(self.tls) || self.protocol.endsWith('Ssl')").message("tls goes with Ssl and SaslSsl only").field_path(".tls"))]
pub struct SecuritySpec {
    /// `Plaintext`, `Ssl`, `SaslPlaintext` or `SaslSsl`. Example: `SaslSsl`.
    pub protocol: SecurityProtocol,
    /// Credentials, with `SaslPlaintext` and `SaslSsl`. Example: `{mechanism: ScramSha512, username: orders, password:
    /// {secretKeyRef: {name: orders-kafka, key: password}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslSpec>,
    /// Certificates, with `Ssl` and `SaslSsl`. Default: the system's trusted authorities, no client certificate.
    /// Example: `{caCertificate: {secretKeyRef: {name: kafka-ca, key: ca.crt}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
}

/// Kafka's security protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

/// Who we are to Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.mechanism != 'Gssapi'").message("Kerberos is for processes outside of a cluster only: give another mechanism").field_path(".mechanism"))]
#[x_kube(validation = Rule::new("(has(self.username) && has(self.password)) == (self.mechanism != 'Gssapi')").message("username and password are needed, except with Gssapi").field_path(".username"))]
pub struct SaslSpec {
    /// `Plain`, `ScramSha256`, `ScramSha512`; outside of a cluster also `Gssapi` (Kerberos; set `sasl.kerberos.*` in
    /// `properties`). Example: `ScramSha512`.
    pub mechanism: SaslMechanism,
    /// User. Example: `orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub username: Option<String>,
    /// Password. Example: `{secretKeyRef: {name: orders-kafka, key: password}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<FromSecret>,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    Gssapi,
}

/// Certificates of the connection to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.certificate) == has(self.key)").message("certificate and key go together").field_path(".key"))]
pub struct TlsSpec {
    /// Authorities that sign the brokers' certificates. Default: the system's. Example: `{secretKeyRef: {name: kafka-ca,
    /// key: ca.crt}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<Certificate>,
    /// Client certificate, PEM. Example: `{secretKeyRef: {name: orders-kafka, key: tls.crt}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<FromSecret>,
    /// The client certificate's private key, PEM. Example: `{secretKeyRef: {name: orders-kafka, key: tls.key}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<FromSecret>,
    /// Passphrase of the private key, when it has one. Example: `{secretKeyRef: {name: orders-kafka, key: passphrase}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_password: Option<FromSecret>,
    /// Whether a broker's certificate must name the host that was dialled: `Https` or `None`. Example: `None`.
    #[serde(default)]
    pub endpoint_identification: EndpointIdentification,
    /// Take any certificate from the brokers, also a forged one: whoever is between can read and change everything. Shown
    /// in the status. Example: `true`.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Whether a broker's certificate must name the host that was dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointIdentification {
    #[default]
    Https,
    None,
}
