//! `spec.source` → [`SourcePlan`]. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::DateTime;
use regex::Regex;
use tidewater_crds::{
    IsolationLevel, Moment, OnLogTruncated as TruncatedSpec, OnRecordsExpired as ExpiredSpec,
    OnSourceReset as ResetSpec, SourceSpec, StartupMode,
};

use super::problem::Checks;
use super::secrets::Secrets;
use super::{
    Isolation, OnLogTruncated, OnRecordsExpired, OnSourceReset, SinkId, SourcePlan, Startup, Topics,
};
use crate::record::{TopicName, TopicPartition};

mod properties;
mod scope;
mod security;

pub(super) use properties::check_resource;
pub(crate) use scope::is_for_consumers;

/// librdkafka's default.
const SESSION_TIMEOUT_MS: u64 = 45_000;

pub(super) fn plan(
    checks: &mut Checks,
    secrets: &dyn Secrets,
    sink: &SinkId,
    spec: &SourceSpec,
    memory_budget: usize,
) -> SourcePlan {
    bootstrap_servers(checks, &spec.bootstrap_servers);
    let topics = topics(checks, spec);
    let group_id = spec
        .group_id
        .clone()
        .unwrap_or_else(|| format!("tidewater.{sink}"));
    if group_id
        .chars()
        .any(|c| c.is_control() || c.is_whitespace())
    {
        checks.add(
            "spec.source.groupId",
            &group_id,
            "use no spaces or control characters",
        );
    }
    let isolation = match spec.isolation_level {
        IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
        IsolationLevel::ReadUncommitted => Isolation::ReadUncommitted,
    };

    let mut properties = properties::complete(checks, spec, memory_budget, isolation, &group_id);
    let mut connection = BTreeMap::new();
    security::fold(checks, secrets, spec, &mut connection);
    properties.extend(connection.clone());

    // The broker decides it for members of its own protocol, and has the same default.
    let session = spec
        .properties
        .get("session.timeout.ms")
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(SESSION_TIMEOUT_MS);
    let session = Duration::from_millis(session);
    let drain_timeout = spec.drain_timeout.map(|span| span.duration());
    if let (Some(given), true) = (spec.drain_timeout, drain_timeout > Some(session)) {
        let remedy = format!(
            "give at most the session timeout, {}ms: beyond it the partitions are somebody else's",
            session.as_millis()
        );
        checks.add("spec.source.drainTimeout", given, remedy);
    }
    SourcePlan {
        bootstrap_servers: spec.bootstrap_servers.clone(),
        startup: startup(checks, spec, &topics),
        topics,
        group_id,
        isolation,
        properties,
        connection,
        on_source_reset: match spec.on_source_reset {
            ResetSpec::Stop => OnSourceReset::Stop,
            ResetSpec::Restart => OnSourceReset::Restart,
        },
        on_records_expired: match spec.on_records_expired {
            ExpiredSpec::Stop => OnRecordsExpired::Stop,
            ExpiredSpec::Skip => OnRecordsExpired::Skip,
        },
        on_log_truncated: match spec.on_log_truncated {
            TruncatedSpec::Stop => OnLogTruncated::Stop,
            TruncatedSpec::Continue => OnLogTruncated::Continue,
        },
        drain_timeout: drain_timeout.unwrap_or(session / 2),
        batch_records: spec.batch_records as usize,
    }
}

fn bootstrap_servers(checks: &mut Checks, servers: &str) {
    for server in servers.split(',') {
        let server = server.trim();
        let address = server
            .rsplit_once("://")
            .map_or(server, |(_, address)| address);
        let port = match address.rsplit_once(':') {
            // The colons of a bare IPv6 address are not a port's.
            Some((_, tail)) if tail.ends_with(']') => None,
            Some((_, port)) => Some(port),
            None => None,
        };
        let host = address
            .strip_suffix(port.unwrap_or_default())
            .unwrap_or_default()
            .trim_end_matches(':');
        let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if host.is_empty() || server.contains(char::is_whitespace) || !port_fits {
            let remedy = "give host:port, several separated by commas";
            checks.add("spec.source.bootstrapServers", server, remedy);
        }
    }
}

/// Why a topic's name is not legal.
pub(super) fn topic_remedy(name: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.chars().count() > 249 {
        Some("give a topic's name of 1 to 249 characters")
    } else if name == "." || name == ".." || !name.chars().all(legal) {
        Some(
            "not a topic's name: use letters, digits, '.', '_' and '-' (topicPattern takes expressions)",
        )
    } else {
        None
    }
}

fn topics(checks: &mut Checks, spec: &SourceSpec) -> Topics {
    checks.exactly_one(
        "spec.source",
        &[
            ("topics", spec.topics.is_some()),
            ("topicPattern", spec.topic_pattern.is_some()),
        ],
    );
    if let Some(pattern) = &spec.topic_pattern {
        if let Err(error) = whole(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
            let remedy = format!("not a regular expression: {reason}");
            checks.add("spec.source.topicPattern", pattern, remedy);
        }
        return Topics::Pattern(pattern.clone());
    }
    let mut seen = BTreeSet::new();
    let names = spec.topics.as_deref().unwrap_or_default();
    for (i, name) in names.iter().enumerate() {
        let field = format!("spec.source.topics[{i}]");
        if let Some(remedy) = topic_remedy(name) {
            checks.add(field, name, remedy);
        } else if !seen.insert(name) {
            checks.add(field, name, "named twice: remove one");
        }
    }
    Topics::List(
        names
            .iter()
            .map(|name| TopicName::new(name.as_str()))
            .collect(),
    )
}

/// The expression over whole topic names.
fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    // Compiled alone first: a stray parenthesis must not pair with ours.
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

/// What serves producers alone goes to the one of the dead-letter topic, and does nothing where there is none.
pub(super) fn check_producer_properties(checks: &mut Checks, spec: &SourceSpec, letters: bool) {
    for (key, value) in &spec.properties {
        if !letters && scope::is_for_producers(key) && properties::refusal(key).is_none() {
            let field = format!("spec.source.properties[\"{key}\"]");
            let remedy = "only the producer of a dead-letter topic heeds it: set spec.deadLetter.topic, or remove it";
            checks.add(field, value, remedy);
        }
    }
}

/// One id is one member of the group.
pub(super) fn check_static_member(checks: &mut Checks, spec: &SourceSpec, most_pods: i32) {
    let key = "group.instance.id";
    if let Some(id) = spec.properties.get(key).filter(|_| most_pods > 1) {
        let remedy = format!(
            "one id is one member, and the pods would take it from each other: remove it, or run one pod instead of {most_pods}"
        );
        checks.add(format!("spec.source.properties[\"{key}\"]"), id, remedy);
    }
}

/// Whether the source reads `topic`.
pub(super) fn reads(topics: &Topics, topic: &str) -> bool {
    match topics {
        Topics::List(names) => names.iter().any(|name| name.as_str() == topic),
        Topics::Pattern(pattern) => whole(pattern).is_ok_and(|regex| regex.is_match(topic)),
    }
}

fn startup(checks: &mut Checks, spec: &SourceSpec, topics: &Topics) -> Startup {
    let path = "spec.source.startup";
    let startup = &spec.startup;
    if startup.timestamp.is_some() != (startup.mode == StartupMode::Timestamp) {
        let remedy = "timestamp is needed with mode: Timestamp, and only with it";
        checks.add(format!("{path}.timestamp"), "", remedy);
    }
    if startup.offsets.is_some() != (startup.mode == StartupMode::Offsets) {
        let remedy = "offsets are needed with mode: Offsets, and only with it";
        checks.add(format!("{path}.offsets"), "", remedy);
    }
    match startup.mode {
        StartupMode::GroupOffsets => Startup::GroupOffsets,
        StartupMode::Earliest => Startup::Earliest,
        StartupMode::Latest => Startup::Latest,
        StartupMode::Timestamp => {
            let millis = startup.timestamp.as_ref().map_or(Some(0), millis);
            let millis = millis.filter(|millis| *millis >= 0);
            if let (None, Some(moment)) = (millis, &startup.timestamp) {
                let shown = match moment {
                    Moment::Millis(millis) => millis.to_string(),
                    Moment::Text(text) => text.clone(),
                };
                let remedy =
                    "give RFC 3339 such as 2026-01-01T00:00:00Z, or milliseconds since the epoch";
                checks.add(format!("{path}.timestamp"), shown, remedy);
            }
            Startup::Timestamp(millis.unwrap_or_default())
        }
        StartupMode::Offsets => {
            let mut offsets = BTreeMap::new();
            for (i, entry) in startup.offsets.iter().flatten().enumerate() {
                let field = format!("{path}.offsets[{i}]");
                if !reads(topics, &entry.topic) {
                    let remedy =
                        "the source does not read this topic: correct it, or remove the entry";
                    checks.add(format!("{field}.topic"), &entry.topic, remedy);
                }
                let tp = TopicPartition::new(entry.topic.as_str(), entry.partition);
                let shown = tp.to_string();
                if offsets.insert(tp, entry.offset).is_some() {
                    checks.add(field, shown, "named twice: remove one");
                }
            }
            Startup::Offsets(offsets)
        }
    }
}

fn millis(moment: &Moment) -> Option<i64> {
    match moment {
        Moment::Millis(millis) => Some(*millis),
        Moment::Text(text) => match text.trim().parse() {
            Ok(millis) => Some(millis),
            Err(_) => DateTime::parse_from_rfc3339(text.trim())
                .ok()
                .map(|moment| moment.timestamp_millis()),
        },
    }
}
