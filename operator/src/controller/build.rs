//! [`Checked`] → all children, in the order in which they are applied. Pure: nothing here asks anybody anything.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewater_crds::API_VERSION;

use super::config::sorted;
use super::live::ChildKind;
use super::names;
use super::validate::{Checked, Identity};

mod autoscaler;
mod deployment;

/// Port of a pod's metrics, status and probes.
pub const PORT: u16 = 9090;

/// One object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    pub kind: ChildKind,
    pub body: Value,
}

impl Child {
    pub fn name(&self) -> &str {
        self.body["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// `pod_monitors`: the labels of PodMonitors, where they are wanted.
pub fn build(checked: &Checked, pod_monitors: Option<&BTreeMap<String, String>>) -> Vec<Child> {
    let selector = names::selector(&checked.identity.child);
    let mut config = child(
        checked,
        ChildKind::ConfigMap,
        json!({"data": {"resource.yaml": checked.config.text}, "immutable": true}),
    );
    config.body["metadata"]["name"] = json!(checked.config_map());
    let mut children = vec![
        config,
        child(
            checked,
            ChildKind::Service,
            json!({"spec": {
                // For discovery only: nobody connects to a pod at random.
                "clusterIP": "None",
                // A pod that does not get ready is the one whose metrics are needed.
                "publishNotReadyAddresses": true,
                "selector": selector,
                "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
            }}),
        ),
        child(
            checked,
            ChildKind::PodDisruptionBudget,
            json!({"spec": {
                "maxUnavailable": 1,
                // A pod that is broken already must not keep its node from being drained.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector},
            }}),
        ),
    ];
    children.push(child(
        checked,
        ChildKind::Deployment,
        json!({"spec": deployment::spec(checked)}),
    ));
    if let Some(autoscaling) = &checked.autoscaling {
        let spec = autoscaler::spec(checked, autoscaling);
        children.push(child(
            checked,
            ChildKind::HorizontalPodAutoscaler,
            json!({"spec": spec}),
        ));
    }
    if let Some(labels) = pod_monitors {
        let mut monitor = child(
            checked,
            ChildKind::PodMonitor,
            json!({"spec": {
                "selector": {"matchLabels": selector},
                "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}],
            }}),
        );
        for (key, value) in labels {
            let own = &mut monitor.body["metadata"]["labels"];
            if own.get(key).is_none() {
                own[key.as_str()] = json!(value);
            }
        }
        children.push(monitor);
    }
    for child in &mut children {
        child.body = sorted(child.body.take());
    }
    children
}

fn child(checked: &Checked, kind: ChildKind, mut body: Value) -> Child {
    let api = kind.api();
    body["apiVersion"] = json!(api.api_version);
    body["kind"] = json!(api.kind);
    body["metadata"] = metadata(&checked.identity);
    Child { kind, body }
}

fn metadata(identity: &Identity) -> Value {
    json!({
        "name": identity.child,
        "namespace": identity.namespace,
        "labels": names::labels(&identity.child, identity.kind),
        "ownerReferences": [{
            "apiVersion": API_VERSION,
            "kind": identity.kind,
            "name": identity.name,
            "uid": identity.uid,
            "controller": true,
        }],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidewater_crds::{IcebergTable, KafkaS3Sink};
    use tidewater_runtime::plan::Secret;

    use super::*;
    use crate::controller::fixtures;
    use crate::controller::kind::SinkKind;
    use crate::controller::validate::{Known, References, SecretFacts, validate};
    use crate::snapshot;

    fn checked<S: SinkKind>(sink: &S) -> Checked {
        let secret = |entries: &[&str]| SecretFacts {
            version: "5".into(),
            values: entries
                .iter()
                .map(|key| {
                    let pem = "-----BEGIN CERTIFICATE-----\nopen sesame\n-----END CERTIFICATE-----";
                    let value = if *key == "ca.crt" { pem } else { "open sesame" };
                    ((*key).to_owned(), Secret::new(value))
                })
                .collect(),
        };
        let secrets = [
            ("orders-kafka".to_owned(), secret(&["password"])),
            ("kafka-ca".to_owned(), secret(&["ca.crt"])),
            ("orders-env".to_owned(), secret(&["token"])),
        ]
        .into();
        let known = Known {
            secrets: &secrets,
            claims: &[],
            partitions: Some(8),
            deployment: None,
            runtime: None,
            scaling: None,
            image: "runtime:2",
        };
        validate(sink, &References::of(sink), &S::schema(), &known).unwrap()
    }

    fn yaml(children: &[Child]) -> String {
        children
            .iter()
            .map(|child| format!("---\n{}", serde_yaml_ng::to_string(&child.body).unwrap()))
            .collect()
    }

    #[test]
    fn the_children_of_the_least_sink_are_as_kept() {
        let made = yaml(&build(&checked::<KafkaS3Sink>(&fixtures::sink()), None));
        snapshot::assert("src/controller/build/snapshots/least-sink.yaml", &made);
    }

    #[test]
    fn the_children_of_a_sink_that_sets_everything_are_as_kept() {
        let labels = [("release".to_owned(), "prometheus".to_owned())].into();
        let made = yaml(&build(
            &checked::<KafkaS3Sink>(&fixtures::full_sink()),
            Some(&labels),
        ));
        snapshot::assert("src/controller/build/snapshots/full-sink.yaml", &made);
        assert!(!made.contains("sesame"));
    }

    #[test]
    fn the_children_of_a_table_are_as_kept() {
        let made = yaml(&build(&checked::<IcebergTable>(&fixtures::table()), None));
        snapshot::assert("src/controller/build/snapshots/table.yaml", &made);
    }

    #[test]
    fn a_paused_sink_has_no_pods_and_keeps_everything_else() {
        let sink = fixtures::changed(&fixtures::full_sink(), &json!({"paused": true}));
        let (paused, running) = (checked(&sink), checked(&fixtures::full_sink()));
        let (paused, running) = (build(&paused, None), build(&running, None));
        assert_eq!(paused.len(), running.len());
        for (mut paused, mut running) in paused.into_iter().zip(running) {
            if paused.kind == ChildKind::Deployment {
                assert_eq!(paused.body["spec"]["replicas"].take(), json!(0));
                assert_eq!(running.body["spec"]["replicas"].take(), json!(3));
            }
            assert_eq!(paused, running);
        }
    }

    #[test]
    fn a_constraint_without_selector_gets_the_pods_own() {
        let constraints = json!([{"topologyKey": "a", "labelSelector": {"matchLabels": {"x": "y"}}}, {"topologyKey": "b"}]);
        let sink = fixtures::changed(
            &fixtures::sink(),
            &json!({"pod": {"topologySpreadConstraints": constraints}}),
        );
        let children = build(&checked(&sink), None);
        let deployment = children
            .iter()
            .find(|c| c.kind == ChildKind::Deployment)
            .unwrap();
        let made = &deployment.body["spec"]["template"]["spec"]["topologySpreadConstraints"];
        assert_eq!(made[0]["labelSelector"]["matchLabels"], json!({"x": "y"}));
        assert_eq!(
            made[1]["labelSelector"]["matchLabels"],
            json!(names::selector("orders-ks3"))
        );
    }

    #[test]
    fn an_autoscaler_never_asks_for_more_pods_than_partitions() {
        let autoscaling = json!({"minReplicas": 10, "maxReplicas": 20, "lagPerReplica": 5, "behavior": {"scaleUp": {"selectPolicy": "Min"}}});
        let sink = fixtures::changed(&fixtures::sink(), &json!({"autoscaling": autoscaling}));
        let children = build(&checked(&sink), None);
        let spec = &children.last().unwrap().body["spec"];
        assert_eq!(
            (&spec["minReplicas"], &spec["maxReplicas"]),
            (&json!(8), &json!(8))
        );
        assert_eq!(
            spec["behavior"],
            json!({"scaleUp": {"selectPolicy": "Min"}})
        );
    }
}
