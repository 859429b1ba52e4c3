//! The operator's own metrics: names, labels and help in one table. Of a sink, only what is known has a series.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::observations::Observations;
use crate::watching::Watching;

/// Also the name of the external metric.
pub const LAG_RECORDS: &str = "tidewater_sink_lag_records";
/// Also the name of the external metric.
pub const LAG_SECONDS: &str = "tidewater_sink_lag_seconds";
const READY: &str = "tidewater_sink_ready";
const PAUSED: &str = "tidewater_sink_paused";
const LAST_COMMIT: &str = "tidewater_sink_last_commit_timestamp_seconds";
const COMMIT_INTERVAL: &str = "tidewater_sink_commit_interval_seconds";
const RECONCILE: &str = "tidewater_operator_reconcile_seconds";
const ERRORS: &str = "tidewater_operator_reconcile_errors_total";
const LEADER: &str = "tidewater_operator_leader";
const DRIFT: &str = "tidewater_operator_drift_total";
const WRITES: &str = "tidewater_operator_writes_total";
const WATCH_UP: &str = "tidewater_operator_watch_up";

const SINK: &[&str] = &["namespace", "kind", "name"];

/// Name, labels and help of every metric.
pub const TABLE: &[(&str, &[&str], &str)] = &[
    (
        LAG_RECORDS,
        SINK,
        "Records below the end of the topics that are not in the destination; absent while unknown, gauge.",
    ),
    (
        LAG_SECONDS,
        SINK,
        "Age of the oldest record that is not in the destination; absent while unknown, gauge.",
    ),
    (
        READY,
        SINK,
        "1 while the condition Ready is True, 0 while it is False, gauge.",
    ),
    (
        PAUSED,
        SINK,
        "1 while no pods are asked for, by spec.paused or by replicas: 0, else 0, gauge.",
    ),
    (
        LAST_COMMIT,
        SINK,
        "When the last commit succeeded, seconds since the epoch, gauge.",
    ),
    (
        COMMIT_INTERVAL,
        SINK,
        "The longest time between two commits while records come, by the spec, gauge.",
    ),
    (
        RECONCILE,
        &["kind"],
        "Time that a reconcile took, histogram.",
    ),
    (
        ERRORS,
        &["category"],
        "Reconciles that failed, and specs that the cluster refused, by category, counter.",
    ),
    (LEADER, &[], "1 while this process leads, gauge."),
    (
        DRIFT,
        &["kind"],
        "Children that somebody else had changed or removed and that were put back, by their kind, counter.",
    ),
    (
        WRITES,
        &["resource", "verb"],
        "Writes to the API server, by kind and verb, counter.",
    ),
    (
        WATCH_UP,
        &["resource", "namespace"],
        "0 while the API server has not let this be watched for a minute, else 1; no namespace stands for all, gauge.",
    ),
];

fn options(name: &str) -> Opts {
    let help = TABLE
        .iter()
        .find(|(known, _, _)| *known == name)
        .map_or("", |(_, _, help)| help);
    Opts::new(name, help)
}

fn labels(name: &str) -> &'static [&'static str] {
    TABLE
        .iter()
        .find(|(known, _, _)| *known == name)
        .map_or(&[], |(_, labels, _)| labels)
}

/// The process's metrics.
#[derive(Debug)]
pub struct Metrics {
    reconcile: HistogramVec,
    errors: IntCounterVec,
    drift: IntCounterVec,
    writes: IntCounterVec,
    leader: AtomicBool,
}

impl Metrics {
    /// # Errors
    /// When the table names a metric or a label that Prometheus does not allow.
    pub fn new() -> Result<Self, prometheus::Error> {
        let buckets = vec![
            0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ];
        let histogram = HistogramOpts::from(options(RECONCILE)).buckets(buckets);
        let metrics = Self {
            reconcile: HistogramVec::new(histogram, labels(RECONCILE))?,
            errors: IntCounterVec::new(options(ERRORS), labels(ERRORS))?,
            drift: IntCounterVec::new(options(DRIFT), labels(DRIFT))?,
            writes: IntCounterVec::new(options(WRITES), labels(WRITES))?,
            leader: AtomicBool::new(false),
        };
        // An alert on a rate needs a series before the first error.
        for class in crate::errors::class::ALL {
            metrics.errors.with_label_values(&[class.reason]).inc_by(0);
        }
        Ok(metrics)
    }

    pub fn reconciled(&self, kind: &str, took: Duration) {
        self.reconcile
            .with_label_values(&[kind])
            .observe(took.as_secs_f64());
    }

    pub fn failed(&self, category: &str) {
        self.errors.with_label_values(&[category]).inc();
    }

    pub fn drift(&self, kind: &str) {
        self.drift.with_label_values(&[kind]).inc();
    }

    pub fn wrote(&self, resource: &str, verb: &str) {
        self.writes.with_label_values(&[resource, verb]).inc();
    }

    pub fn leads(&self, leads: bool) {
        self.leader.store(leads, Ordering::Relaxed);
    }

    /// The page, in Prometheus' text format.
    pub fn page(&self, observations: &Observations, watching: &Watching) -> String {
        self.write(observations, watching).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics page");
            String::new()
        })
    }

    fn write(
        &self,
        observations: &Observations,
        watching: &Watching,
    ) -> Result<String, prometheus::Error> {
        let registry = Registry::new();
        let own: [Box<dyn Collector>; 4] = [
            Box::new(self.reconcile.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.drift.clone()),
            Box::new(self.writes.clone()),
        ];
        for collector in own {
            registry.register(collector)?;
        }
        let leader = IntGauge::with_opts(options(LEADER))?;
        leader.set(self.leader.load(Ordering::Relaxed).into());
        registry.register(Box::new(leader))?;
        let up = IntGaugeVec::new(options(WATCH_UP), labels(WATCH_UP))?;
        for (watch, found) in watching.all(Instant::now()) {
            let labels = [watch.resource.as_str(), watch.namespace.as_str()];
            up.with_label_values(&labels).set(found.is_ok().into());
        }
        registry.register(Box::new(up))?;
        let records = IntGaugeVec::new(options(LAG_RECORDS), SINK)?;
        let seconds = IntGaugeVec::new(options(LAG_SECONDS), SINK)?;
        let ready = IntGaugeVec::new(options(READY), SINK)?;
        let paused = IntGaugeVec::new(options(PAUSED), SINK)?;
        let last = GaugeVec::new(options(LAST_COMMIT), SINK)?;
        let interval = GaugeVec::new(options(COMMIT_INTERVAL), SINK)?;
        for (key, seen, published) in observations.all() {
            let sink = [key.namespace.as_str(), key.kind, key.name.as_str()];
            let lag = seen.lag.and_then(Result::ok).unwrap_or_default();
            for (gauge, value) in [
                (&records, lag.records),
                (&seconds, lag.seconds),
                (&ready, published.ready.map(i64::from)),
                (&paused, published.paused.map(i64::from)),
            ] {
                if let Some(value) = value {
                    gauge.with_label_values(&sink).set(value);
                }
            }
            if let Some(at) = published.last_commit {
                last.with_label_values(&sink).set(at.as_second() as f64);
            }
            if let Some(every) = published.interval {
                interval.with_label_values(&sink).set(every.as_secs_f64());
            }
        }
        for gauge in [records, seconds, ready, paused] {
            registry.register(Box::new(gauge))?;
        }
        registry.register(Box::new(last))?;
        registry.register(Box::new(interval))?;
        let mut page = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

/// The reference page.
pub fn reference() -> String {
    use std::fmt::Write;
    let mut page = String::from(
        "<!-- Generated from operator/src/metrics.rs and errors.rs by `make generate`; do not edit. -->\n\
         # Metrics of the operator\n\n\
         `tidewater-operator run --metrics-address <address>` serves `/metrics` in Prometheus' text format, `/healthz` and\n\
         `/readyz`. Series of sinks come from the leader alone. What is unknown has no series: an autoscaler then keeps the\n\
         number of pods. Metrics of the sinks' own pods are [another page](metrics.md).\n\n\
         | name | labels | help |\n|---|---|---|\n",
    );
    for (name, labels, help) in TABLE {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {} | {help} |", labels.join(", "));
    }
    page.push_str(
        "\n## Categories of errors\n\n\
         Retry and fault mean what they mean in [errors](errors.md).\n\n\
         | category | retry | fault | advice |\n|---|---|---|---|\n",
    );
    for class in crate::errors::class::ALL {
        let (retry, fault) = (class.retry, class.fault);
        let _ = writeln!(
            page,
            "| `{}` | {retry:?} | {fault:?} | {} |",
            class.reason, class.advice
        );
    }
    page
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::lag::Lag;
    use crate::observations::{Published, SinkKey};
    use crate::snapshot;
    use crate::watching::Watch;

    #[test]
    fn the_reference_page_is_the_table() {
        snapshot::assert("../docs/reference/operator-metrics.md", &reference());
    }

    #[test]
    fn every_metric_of_the_table_is_on_the_page_and_no_other() {
        let (metrics, observations) = (Metrics::new().unwrap(), Observations::new().0);
        let key = SinkKey {
            kind: "IcebergTable",
            namespace: "shop".into(),
            name: "orders".into(),
        };
        let published = Published {
            ready: Some(true),
            paused: Some(false),
            last_commit: Some(Timestamp::UNIX_EPOCH),
            interval: Some(Duration::from_secs(90)),
        };
        observations.publish(&key, "u", published);
        let lag = Lag {
            records: Some(0),
            seconds: Some(7),
            ..Lag::default()
        };
        observations.set_lag(&key, "u", Ok(lag), Timestamp::UNIX_EPOCH);
        metrics.reconciled("IcebergTable", Duration::from_millis(3));
        metrics.failed("ApiUnreachable");
        metrics.drift("Service");
        metrics.wrote("Service", "apply");
        metrics.leads(true);
        let watching = Watching::default();
        let watch = |resource: &str, namespace: &str| Watch {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
        };
        watching.begun(&watch("pods", ""), Instant::now());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        watching.begun(&watch("secrets", "shop"), long_ago);
        let page = metrics.page(&observations, &watching);
        let named: std::collections::BTreeSet<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
            .collect();
        assert_eq!(named, TABLE.iter().map(|(name, _, _)| *name).collect());
        let sink = r#"{kind="IcebergTable",name="orders",namespace="shop"}"#;
        assert!(page.contains(&format!("{LAG_RECORDS}{sink} 0")), "{page}");
        assert!(page.contains(&format!("{LAG_SECONDS}{sink} 7")));
        assert!(page.contains(&format!("{COMMIT_INTERVAL}{sink} 90")));
        assert!(page.contains("tidewater_operator_leader 1"));
        for line in [
            r#"{namespace="",resource="pods"} 1"#,
            r#"{namespace="shop",resource="secrets"} 0"#,
        ] {
            assert!(page.contains(&format!("{WATCH_UP}{line}")), "{page}");
        }
    }

    #[test]
    fn an_unknown_lag_has_no_series() {
        let (metrics, observations) = (Metrics::new().unwrap(), Observations::new().0);
        let key = SinkKey {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: "orders".into(),
        };
        observations.publish(&key, "u", Published::default());
        observations.set_lag(&key, "u", Ok(Lag::default()), Timestamp::UNIX_EPOCH);
        let page = metrics.page(&observations, &Watching::default());
        assert!(!page.contains("orders"), "{page}");
    }
}
