//! Prometheus metrics: names and help in one table. Partition series exist while the partition is owned.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, TextEncoder,
};
use serde::Deserialize;

use super::Progress;
use crate::decode::RejectClass;
use crate::record::{Offset, TopicPartition};

/// Name and help of every metric; the reference page is tested against it.
pub const TABLE: &[(&str, &str)] = &[
    (RECORDS, "Records read and decoded, counter."),
    (BYTES, "Bytes of record values read, counter."),
    (ROWS, "Rows decoded, counter."),
    (
        REJECTED,
        "Records that did not fit, by error class, counter.",
    ),
    (
        DEAD_LETTERS,
        "Records delivered to the dead letter, counter.",
    ),
    (
        DEAD_LETTERS_CUT,
        "Of those, records without their value: the topic takes none of that size, counter.",
    ),
    (
        DEAD_LETTERS_LOST,
        "Records that the dead-letter topic takes in no form, counter.",
    ),
    (
        EXPIRED,
        "Records that retention removed before they were read, counter.",
    ),
    (OPEN_FILES, "Files open for writing, gauge."),
    (MEMORY_USED, "Bytes drawn from the memory budget, gauge."),
    (
        MEMORY_BUDGET,
        "The memory budget in bytes; a fifth of it, at least 48 MiB and at most half, is kept back, gauge.",
    ),
    (COMMITS, "Commit attempts by outcome, counter."),
    (COMMITTED_ROWS, "Rows committed by this process, counter."),
    (COMMITTED_FILES, "Files committed by this process, counter."),
    (
        COMMIT_SECONDS,
        "Time from cut to durable and visible, histogram.",
    ),
    (FAILURES, "Commit failures in a row, gauge."),
    (STOPPED, "1 while the sink is stopped by a failure, gauge."),
    (
        LAG,
        "Records of an owned partition that are not in the destination, gauge.",
    ),
    (
        GLUE_REGISTERED,
        "Partitions registered in Glue by this process, counter.",
    ),
    (
        GLUE_WAITING,
        "Folders with files that Glue does not know yet, gauge.",
    ),
    (
        GLUE_FAILURES,
        "Failed attempts to look at or change the Glue table, counter.",
    ),
    (
        GLUE_SYNCED,
        "1 while the Glue table is as the resource wants it, else 0, gauge.",
    ),
    (
        SNAPSHOTS,
        "Snapshots in an Iceberg table's metadata, gauge.",
    ),
    (
        MANIFESTS,
        "Manifests of an Iceberg table's current snapshot, gauge.",
    ),
    (
        METADATA_BYTES,
        "Length of an Iceberg table's metadata file, gauge.",
    ),
    (
        CLIENT_QUEUE,
        "Messages in the Kafka client's fetch queue, gauge.",
    ),
    (CLIENT_RX, "Bytes the Kafka client received, counter."),
    (
        BROKERS_UP,
        "Brokers the Kafka client is connected to, gauge.",
    ),
];

const RECORDS: &str = "tidewater_records_total";
const BYTES: &str = "tidewater_bytes_total";
const ROWS: &str = "tidewater_rows_total";
const REJECTED: &str = "tidewater_rejected_records_total";
const DEAD_LETTERS: &str = "tidewater_dead_letters_total";
const DEAD_LETTERS_CUT: &str = "tidewater_dead_letters_cut_total";
const DEAD_LETTERS_LOST: &str = "tidewater_dead_letters_lost_total";
const EXPIRED: &str = "tidewater_expired_records_total";
const OPEN_FILES: &str = "tidewater_open_files";
const MEMORY_USED: &str = "tidewater_memory_used_bytes";
const MEMORY_BUDGET: &str = "tidewater_memory_budget_bytes";
const COMMITS: &str = "tidewater_commits_total";
const COMMITTED_ROWS: &str = "tidewater_committed_rows_total";
const COMMITTED_FILES: &str = "tidewater_committed_files_total";
const COMMIT_SECONDS: &str = "tidewater_commit_seconds";
const FAILURES: &str = "tidewater_commit_consecutive_failures";
const STOPPED: &str = "tidewater_sink_stopped";
const LAG: &str = "tidewater_partition_lag_records";
const GLUE_REGISTERED: &str = "tidewater_glue_partitions_registered_total";
const GLUE_WAITING: &str = "tidewater_glue_partitions_waiting";
const GLUE_FAILURES: &str = "tidewater_glue_failures_total";
const GLUE_SYNCED: &str = "tidewater_glue_table_synced";
const SNAPSHOTS: &str = "tidewater_table_snapshots";
const MANIFESTS: &str = "tidewater_table_manifests";
const METADATA_BYTES: &str = "tidewater_table_metadata_bytes";
const CLIENT_QUEUE: &str = "tidewater_kafka_queued_messages";
const CLIENT_RX: &str = "tidewater_kafka_received_bytes_total";
const BROKERS_UP: &str = "tidewater_kafka_brokers_up";

/// The essentials of librdkafka's statistics.
#[derive(Clone, Debug, Default)]
pub struct ClientStatistics {
    pub queued: u64,
    pub received_bytes: u64,
    pub brokers_up: u64,
    /// Whether there is a connection to any, the group's coordinator included, which every member keeps alive; `None`
    /// before the client first told.
    pub connected: Option<bool>,
    /// Log start and end of the partitions being fetched.
    pub watermarks: BTreeMap<TopicPartition, (Offset, Offset)>,
    /// What the consumer takes next of them, where it has taken anything.
    pub positions: BTreeMap<TopicPartition, Offset>,
}

/// Fields of librdkafka's STATISTICS.md.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    rx_bytes: u64,
    #[serde(default)]
    brokers: BTreeMap<String, RawBroker>,
    #[serde(default)]
    topics: BTreeMap<String, RawTopic>,
}

#[derive(Deserialize)]
struct RawBroker {
    #[serde(default)]
    state: String,
    #[serde(default)]
    nodeid: i64,
}

#[derive(Deserialize)]
struct RawTopic {
    #[serde(default)]
    partitions: BTreeMap<String, RawPartition>,
}

#[derive(Deserialize)]
struct RawPartition {
    partition: i32,
    #[serde(default)]
    fetchq_cnt: u64,
    #[serde(default = "unknown")]
    lo_offset: i64,
    #[serde(default = "unknown")]
    hi_offset: i64,
    #[serde(default = "unknown")]
    ls_offset: i64,
    #[serde(default = "unknown")]
    app_offset: i64,
}

fn unknown() -> i64 {
    -1001
}

impl ClientStatistics {
    /// `read_committed`: the end is the last stable offset.
    pub fn parse(json: &str, read_committed: bool) -> Option<Self> {
        let raw: Raw = serde_json::from_str(json).ok()?;
        let mut parsed = Self {
            received_bytes: raw.rx_bytes,
            ..Self::default()
        };
        parsed.connected = Some(raw.brokers.values().any(|broker| broker.state == "UP"));
        parsed.brokers_up = raw
            .brokers
            .values()
            .filter(|b| b.state == "UP" && b.nodeid >= 0)
            .count() as u64;
        for (topic, partitions) in raw.topics {
            for partition in partitions
                .partitions
                .into_values()
                .filter(|p| p.partition >= 0)
            {
                parsed.queued += partition.fetchq_cnt;
                let end = if read_committed {
                    partition.ls_offset
                } else {
                    partition.hi_offset
                };
                let tp = TopicPartition::new(topic.as_str(), partition.partition);
                if partition.app_offset >= 0 {
                    parsed
                        .positions
                        .insert(tp.clone(), Offset(partition.app_offset));
                }
                if partition.lo_offset >= 0 && end >= 0 {
                    parsed
                        .watermarks
                        .insert(tp, (Offset(partition.lo_offset), Offset(end)));
                }
            }
        }
        Some(parsed)
    }
}

pub(super) fn latency_histogram(sink: &str) -> Histogram {
    let buckets = vec![
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    ];
    #[allow(clippy::expect_used, reason = "constant name and ascending buckets")]
    Histogram::with_opts(
        HistogramOpts::new(COMMIT_SECONDS, help(COMMIT_SECONDS))
            .const_label("sink", sink)
            .buckets(buckets),
    )
    .expect("valid histogram")
}

fn help(name: &str) -> &'static str {
    TABLE
        .iter()
        .find(|(n, _)| *n == name)
        .map_or("", |(_, help)| help)
}

/// The whole page, text format 0.0.4, of the sinks of this process.
pub fn page(sinks: &[Progress]) -> String {
    let mut families = Vec::new();
    let mut counter = |name: &str, label: &str, values: Vec<(String, String, u64)>| {
        let labels: Vec<&str> = if label.is_empty() {
            vec!["sink"]
        } else {
            vec!["sink", label]
        };
        let Ok(vec) = IntCounterVec::new(Opts::new(name, help(name)), &labels) else {
            return;
        };
        for (sink, value, count) in &values {
            let with: Vec<&str> = if label.is_empty() {
                vec![sink]
            } else {
                vec![sink, value]
            };
            vec.with_label_values(&with).inc_by(*count);
        }
        families.extend(vec.collect());
    };
    let all = |f: &dyn Fn(&super::Inner, &Progress) -> u64| {
        sinks
            .iter()
            .map(|s| (s.sink.to_string(), String::new(), f(&s.inner.lock(), s)))
            .collect::<Vec<_>>()
    };
    counter(RECORDS, "", all(&|_, s| s.counters.records.load(Relaxed)));
    counter(BYTES, "", all(&|_, s| s.counters.bytes.load(Relaxed)));
    counter(ROWS, "", all(&|_, s| s.counters.rows.load(Relaxed)));
    counter(DEAD_LETTERS, "", all(&|i, _| i.dead_letters.letters));
    counter(DEAD_LETTERS_CUT, "", all(&|i, _| i.dead_letters.cut));
    counter(DEAD_LETTERS_LOST, "", all(&|i, _| i.dead_letters.lost));
    counter(EXPIRED, "", all(&|i, _| i.gap_records));
    counter(COMMITTED_ROWS, "", all(&|i, _| i.commit.committed_rows));
    counter(COMMITTED_FILES, "", all(&|i, _| i.commit.committed_files));
    counter(CLIENT_RX, "", all(&|i, _| i.statistics.received_bytes));
    let rejected = sinks.iter().flat_map(|s| {
        RejectClass::ALL.iter().map(|class| {
            (
                s.sink.to_string(),
                format!("{class:?}"),
                s.counters.rejected[*class as usize].load(Relaxed),
            )
        })
    });
    counter(REJECTED, "class", rejected.collect());
    let outcomes = sinks.iter().flat_map(|s| {
        let inner = s.inner.lock();
        super::CommitOutcome::ALL.map(|outcome| {
            let count = inner
                .commit
                .outcomes
                .get(outcome.label())
                .copied()
                .unwrap_or(0);
            (s.sink.to_string(), outcome.label().to_owned(), count)
        })
    });
    counter(COMMITS, "outcome", outcomes.collect());

    let tables = |f: &dyn Fn(&super::TableProgress) -> Option<u64>| {
        let of = |s: &Progress| s.inner.lock().table.as_ref().and_then(f);
        let found = sinks
            .iter()
            .filter_map(|s| Some((s.sink.to_string(), of(s)?)));
        found.collect::<Vec<_>>()
    };
    let counted = |values: Vec<(String, u64)>| {
        let counted = values.into_iter();
        counted.map(|(sink, n)| (sink, String::new(), n)).collect()
    };
    let registered = tables(&|t| Some(t.partitions_registered));
    counter(GLUE_REGISTERED, "", counted(registered));
    counter(GLUE_FAILURES, "", counted(tables(&|t| Some(t.failures))));
    let extents = |f: &dyn Fn(super::Extent) -> u64| {
        let found = sinks
            .iter()
            .filter_map(|s| Some((s.sink.to_string(), f(s.inner.lock().extent?))));
        found.collect::<Vec<_>>()
    };
    for (name, values) in [
        (GLUE_WAITING, tables(&|t| Some(t.partitions_waiting))),
        (GLUE_SYNCED, tables(&|t| t.synced.map(u64::from))),
        (SNAPSHOTS, extents(&|e| e.snapshots)),
        (MANIFESTS, extents(&|e| e.manifests)),
        (METADATA_BYTES, extents(&|e| e.metadata_bytes)),
    ] {
        if let Ok(vec) = IntGaugeVec::new(Opts::new(name, help(name)), &["sink"]) {
            for (sink, value) in values {
                vec.with_label_values(&[&sink]).set(value as i64);
            }
            families.extend(vec.collect());
        }
    }

    let mut gauge = |name: &str, f: &dyn Fn(&super::Inner, &Progress) -> i64| {
        let Ok(vec) = IntGaugeVec::new(Opts::new(name, help(name)), &["sink"]) else {
            return;
        };
        for sink in sinks {
            vec.with_label_values(&[&*sink.sink])
                .set(f(&sink.inner.lock(), sink));
        }
        families.extend(vec.collect());
    };
    gauge(OPEN_FILES, &|_, s| {
        s.counters.open_files.load(Relaxed) as i64
    });
    gauge(MEMORY_USED, &|_, s| s.budget.used() as i64);
    gauge(MEMORY_BUDGET, &|_, s| s.budget.total() as i64);
    gauge(FAILURES, &|i, _| i64::from(i.commit.consecutive_failures));
    gauge(STOPPED, &|i, _| i64::from(i.stopped.is_some()));
    gauge(CLIENT_QUEUE, &|i, _| i.statistics.queued as i64);
    gauge(BROKERS_UP, &|i, _| i.statistics.brokers_up as i64);

    if let Ok(lag) = GaugeVec::new(Opts::new(LAG, help(LAG)), &["sink", "topic", "partition"]) {
        for sink in sinks {
            for (tp, partition) in &sink.inner.lock().partitions {
                if let Some(records) = partition.lag() {
                    let number = tp.partition.to_string();
                    lag.with_label_values(&[&*sink.sink, tp.topic.as_str(), &number])
                        .set(records as f64);
                }
            }
        }
        families.extend(lag.collect());
    }
    let mut latencies = sinks.iter().flat_map(|sink| sink.latency.collect());
    if let Some(mut family) = latencies.next() {
        latencies.for_each(|mut other| family.mut_metric().append(&mut other.take_metric()));
        families.push(family);
    }
    let mut page = Vec::new();
    families.retain(|family| !family.get_metric().is_empty());
    let _ = TextEncoder::new().encode(&families, &mut page);
    String::from_utf8_lossy(&page).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::time::Duration;

    use crate::budget::Budget;

    #[test]
    fn the_reference_page_names_every_metric_and_no_other() {
        let page = include_str!("../../../docs/reference/metrics.md");
        let rows = page
            .lines()
            .filter(|line| line.starts_with("| `tidewater_"));
        let documented: Vec<(&str, &str)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split(" | ").collect();
                let help = cells[2].trim_end_matches(" |");
                (cells[0].trim_matches(['|', ' ', '`']), help)
            })
            .collect();
        assert_eq!(documented, TABLE);
    }

    #[test]
    fn lag_that_is_not_known_is_absent_and_goes_with_the_partition() {
        let progress = Progress::new("default.orders", Budget::new(1), Duration::from_secs(1));
        let series = |progress: &Progress| {
            let page = page(std::slice::from_ref(progress));
            let lags = page.lines().filter(|line| line.starts_with(LAG));
            lags.map(str::to_owned).collect::<Vec<_>>()
        };
        let tp = TopicPartition::new("orders", 0);
        progress.owned(&tp, Some(Offset(7)), None);
        assert_eq!(series(&progress), Vec::<String>::new());
        assert_eq!(progress.snapshot().lag_records, None);

        progress.owned(&tp, Some(Offset(7)), Some((Offset(0), Offset(10))));
        let known = r#"tidewater_partition_lag_records{partition="0",sink="default.orders",topic="orders"} 3"#;
        assert_eq!(series(&progress), [known]);
        assert_eq!(progress.snapshot().lag_records, Some(3));

        progress.disowned(&[tp]);
        assert_eq!(series(&progress), Vec::<String>::new());
        assert_eq!(progress.snapshot().lag_records, None);
    }

    #[test]
    fn a_client_is_connected_when_any_broker_is_and_the_groups_coordinator_counts() {
        let connected = |states: &[(&str, i64)]| {
            let broker = |(n, (state, id)): (usize, &(&str, i64))| {
                (
                    n.to_string(),
                    serde_json::json!({"state": state, "nodeid": id}),
                )
            };
            let brokers: serde_json::Map<_, _> = states.iter().enumerate().map(broker).collect();
            let json = serde_json::json!({ "brokers": brokers }).to_string();
            let parsed = ClientStatistics::parse(&json, false).unwrap();
            (parsed.connected, parsed.brokers_up)
        };
        assert_eq!(
            connected(&[("DOWN", 1), ("TRY_CONNECT", 2)]),
            (Some(false), 0)
        );
        assert_eq!(connected(&[("DOWN", 1), ("UP", 2)]), (Some(true), 1));
        assert_eq!(connected(&[("DOWN", 1), ("UP", -1)]), (Some(true), 0));
        assert_eq!(ClientStatistics::default().connected, None);
    }
}
