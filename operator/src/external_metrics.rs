//! The lag of sinks as `external.metrics.k8s.io/v1beta1`, so that a HorizontalPodAutoscaler reads it without an adapter.
//! Pure but for what `observations` holds; `server` speaks TLS. A lag that is not known is no value at all: an autoscaler
//! then leaves the number of pods as it is. API: k8s.io/metrics/pkg/apis/external_metrics/v1beta1.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};
use serde_json::{Value, json};

use crate::observations::{Seen, SinkKey};

pub mod server;

pub const GROUP: &str = "external.metrics.k8s.io";
pub const VERSION: &str = "external.metrics.k8s.io/v1beta1";
const RECORDS: &str = "tidewater_sink_lag_records";
const SECONDS: &str = "tidewater_sink_lag_seconds";

/// Names of the metrics that are served.
pub const METRICS: [&str; 2] = [RECORDS, SECONDS];

/// The group, as discovery shows it.
pub fn group() -> Value {
    let version = json!({"groupVersion": VERSION, "version": "v1beta1"});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "versions": [version], "preferredVersion": version,
    })
}

/// What the version serves, as discovery shows it.
pub fn resources() -> Value {
    let metrics = METRICS.map(|name| {
        json!({
            "name": name, "singularName": "", "namespaced": true,
            "kind": "ExternalMetricValueList", "verbs": ["get"],
        })
    });
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": VERSION, "resources": metrics})
}

/// The values of `metric` of the sinks of `namespace` that `selector` takes by their labels `kind` and `name`; `None`
/// when there is no such metric.
pub fn values<'a>(
    sinks: impl IntoIterator<Item = (&'a SinkKey, &'a Seen)>,
    namespace: &str,
    metric: &str,
    selector: &Selector,
) -> Option<Value> {
    METRICS.contains(&metric).then_some(())?;
    let items: Vec<Value> = sinks
        .into_iter()
        .filter_map(|(key, seen)| {
            let labels = BTreeMap::from([
                ("kind".to_owned(), key.kind.to_owned()),
                ("name".to_owned(), key.name.clone()),
            ]);
            if key.namespace != namespace || !selector.matches(&labels) {
                return None;
            }
            let (lag, at) = (seen.lag.as_ref()?.as_ref().ok()?, seen.lag_at?);
            let value = if metric == RECORDS {
                lag.records
            } else {
                lag.seconds
            }?;
            Some(json!({
                "metricName": metric, "metricLabels": labels,
                "timestamp": at.to_string(), "value": value.to_string(),
            }))
        })
        .collect();
    Some(
        json!({"kind": "ExternalMetricValueList", "apiVersion": VERSION, "metadata": {}, "items": items}),
    )
}

/// A label selector as Kubernetes writes it in a query: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, with
/// commas between. `None` when it is none.
pub fn selector(text: &str) -> Option<Selector> {
    let mut expressions = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = end_of_term(rest);
        expressions.push(expression(rest[..end].trim())?);
        rest = rest[end..].trim_start_matches(',').trim_start();
    }
    Some(Selector::from_iter(expressions))
}

/// Up to the next comma outside of parentheses.
fn end_of_term(text: &str) -> usize {
    let mut depth = 0;
    text.find(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .unwrap_or(text.len())
}

fn expression(term: &str) -> Option<Expression> {
    let key = |text: &str| {
        let text = text.trim();
        let valid = !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        valid.then(|| text.to_owned())
    };
    if let Some((left, right)) = term.split_once("!=") {
        return Some(Expression::NotEqual(key(left)?, right.trim().to_owned()));
    }
    if let Some((left, right)) = term.split_once('=') {
        let right = right.strip_prefix('=').unwrap_or(right);
        return Some(Expression::Equal(key(left)?, right.trim().to_owned()));
    }
    let set = |text: &str| {
        let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(
            inside
                .split(',')
                .map(|value| value.trim().to_owned())
                .collect(),
        )
    };
    if let Some((left, right)) = term.split_once(" notin ") {
        return Some(Expression::NotIn(key(left)?, set(right)?));
    }
    if let Some((left, right)) = term.split_once(" in ") {
        return Some(Expression::In(key(left)?, set(right)?));
    }
    match term.strip_prefix('!') {
        Some(name) => Some(Expression::DoesNotExist(key(name)?)),
        None => Some(Expression::Exists(key(term)?)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::Trouble;
    use crate::lag::Lag;

    fn sink(name: &str, records: Option<i64>) -> (SinkKey, Seen) {
        let key = SinkKey {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: name.into(),
        };
        let lag = Lag {
            records,
            ..Lag::default()
        };
        let seen = Seen {
            lag: Some(Ok(lag)),
            lag_at: Some(Timestamp::UNIX_EPOCH),
            ..Seen::default()
        };
        (key, seen)
    }

    fn found(selector: &str) -> Vec<(String, String)> {
        let mut sinks = vec![
            sink("orders", Some(7)),
            sink("refunds", Some(0)),
            sink("unknown", None),
        ];
        let (key, _) = sink("down", None);
        let trouble = Trouble::told("SourceUnreachable", "no broker");
        let seen = Seen {
            lag: Some(Err(trouble)),
            lag_at: Some(Timestamp::UNIX_EPOCH),
            ..Seen::default()
        };
        sinks.push((key, seen));
        let all = sinks.iter().map(|(key, seen)| (key, seen));
        let selector = super::selector(selector).unwrap();
        let list = values(all, "shop", RECORDS, &selector).unwrap();
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| {
                let name = item["metricLabels"]["name"].as_str().unwrap().to_owned();
                (name, item["value"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    #[test]
    fn an_autoscaler_gets_the_lag_of_the_sink_it_names() {
        let orders = ("orders".to_owned(), "7".to_owned());
        assert_eq!(
            found("kind=KafkaS3Sink,name=orders"),
            std::slice::from_ref(&orders)
        );
        assert_eq!(
            found("name in (orders, nobody),kind"),
            std::slice::from_ref(&orders)
        );
        assert_eq!(found("name!=refunds"), [orders]);
        assert_eq!(found("kind=IcebergTable"), []);
    }

    #[test]
    fn a_lag_that_is_not_known_is_no_value_and_never_zero() {
        assert_eq!(found("name=unknown"), []);
        assert_eq!(found("name=down"), []);
        assert_eq!(
            found("name=refunds"),
            [("refunds".to_owned(), "0".to_owned())]
        );
    }

    #[test]
    fn other_namespaces_and_metrics_are_not_served() {
        let (key, seen) = sink("orders", Some(7));
        let all = || [(&key, &seen)];
        let any = Selector::default();
        assert_eq!(
            values(all(), "other", RECORDS, &any).unwrap()["items"],
            json!([])
        );
        assert!(values(all(), "shop", "cpu", &any).is_none());
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for wrong in ["a b", "=", "a in b", "!", "a in (b"] {
            assert!(selector(wrong).is_none(), "{wrong}");
        }
        assert!(selector("").unwrap().selects_all());
        assert!(selector("a==b,!c,d notin (e,f)").is_some());
    }
}
