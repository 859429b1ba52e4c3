//! Alerts and dashboard: they ring when they should, and ask for what there is.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{chart, of_kind, rendered, root, says};

fn alerts() -> Value {
    let text = std::fs::read_to_string(chart().join("alerts.yaml")).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

fn rules(alerts: &Value) -> impl Iterator<Item = &Value> {
    let groups = alerts["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().into_iter().flatten())
}

fn names(alerts: &Value) -> BTreeSet<String> {
    rules(alerts)
        .filter_map(|rule| Some(rule["alert"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn every_alert_rings_when_it_should_and_is_silent_when_it_should_be() -> Result<()> {
    let alerts = chart().join("alerts.yaml").display().to_string();
    says(
        "promtool",
        &["check", "rules", "--lint=all", "--lint-fatal", &alerts],
        "",
    )
    .await?;
    let cases = root().join("e2e/scenarios/chart/alerts.yaml");
    says(
        "promtool",
        &["test", "rules", &cases.display().to_string()],
        "",
    )
    .await?;

    let cases: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&cases)?)?;
    let (mut rings, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in cases["tests"].as_array().into_iter().flatten() {
        for test in case["alert_rule_test"].as_array().into_iter().flatten() {
            let name = test["alertname"].as_str().context("no name")?.to_owned();
            let none = test["exp_alerts"].as_array().is_none_or(Vec::is_empty);
            let of = if none { &mut silent } else { &mut rings };
            of.insert(name);
        }
    }
    let all = names(&self::alerts());
    assert_eq!(rings, all);
    assert_eq!(silent, all);
    Ok(())
}

#[tokio::test]
async fn the_rule_that_is_installed_is_the_one_that_is_tested() -> Result<()> {
    let values = serde_json::json!({"prometheusRule": {"enabled": true}});
    let objects = rendered(&values).await?;
    let rule = of_kind(&objects, "PrometheusRule");
    assert_eq!(rule[0]["spec"], alerts());
    Ok(())
}

/// Metrics that the pages of the reference list.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::from([
        // Of kube-state-metrics.
        "kube_pod_container_status_restarts_total".to_owned(),
    ]);
    for page in ["metrics.md", "operator-metrics.md"] {
        let text = std::fs::read_to_string(root().join("docs/reference").join(page)).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("| `tidewater_") else {
                continue;
            };
            let (name, rest) = rest.split_once('`').unwrap();
            let name = format!("tidewater_{name}");
            if rest.contains("histogram") {
                for end in ["bucket", "sum", "count"] {
                    known.insert(format!("{name}_{end}"));
                }
            } else {
                known.insert(name);
            }
        }
    }
    known
}

/// Words of a query that can only be metrics.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tidewater_") || word.starts_with("kube_"))
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let dashboard = std::fs::read_to_string(chart().join("dashboards/tidewater.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels
        .iter()
        .filter_map(|panel| panel["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), panels.len());
    let mut queries: Vec<String> = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        queries.push(variable["query"].as_str().unwrap().to_owned());
    }
    let of_panels = queries.len();
    let alerts = alerts();
    queries.extend(rules(&alerts).map(|rule| rule["expr"].as_str().unwrap().to_owned()));
    let known = known();
    let mut asked = 0;
    for query in &queries {
        for metric in metrics(query) {
            assert!(known.contains(metric), "{query}: no metric {metric}");
            asked += 1;
        }
    }
    assert!(
        of_panels > 10 && asked > 20,
        "{of_panels} queries, {asked} metrics"
    );
}

#[tokio::test]
async fn the_dashboard_is_installed_as_it_is() -> Result<()> {
    let values = serde_json::json!({"dashboard": {"enabled": true}});
    let objects = rendered(&values).await?;
    let maps = of_kind(&objects, "ConfigMap");
    let installed = maps[0]["data"]["tidewater.json"]
        .as_str()
        .context("no dashboard")?;
    let kept = std::fs::read_to_string(chart().join("dashboards/tidewater.json"))?;
    assert_eq!(installed.trim_end(), kept.trim_end());
    Ok(())
}
