//! PodMonitors, in a cluster of its own that does not know them at first.

use anyhow::Result;
use serde_json::json;
use tidewater_e2e::{Lab, await_until};

use super::*;

/// As much of the Prometheus operator's definition as an API server needs.
fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "podmonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

#[tokio::test]
async fn a_cluster_without_pod_monitors_has_sinks_all_the_same_and_gets_them_when_it_knows_them()
-> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(Cluster::start(&lab.scratch()?)).await?;
    let values = json!({
        "image": {"repository": "tidewater-operator", "tag": "dev"},
        "runtimeImage": {"repository": "tidewater", "tag": "dev"},
        "metrics": {"podMonitors": {"enabled": true, "labels": {"release": "prometheus"}}},
    });
    Box::pin(cluster.helm_install("tidewater", SYSTEM, &chart(), &values)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    let told = |object: &Value| {
        condition(object, "ConfigValid") == ("False", "RefusedByCluster")
            && object["status"]["readyReplicas"] == 1
    };
    await_object(
        &namespace,
        "ks3/orders",
        "it runs, and says what is missing",
        told,
    )
    .await?;

    // All else follows the spec, what is not wanted any more included.
    let autoscalers = async || {
        let all = ["get", "hpa", "--output=name"];
        anyhow::Ok(namespace.kubectl(&all).await?.lines().count())
    };
    for (autoscaling, count) in [
        (json!({"maxReplicas": 2, "lagPerReplica": 9}), 1),
        (json!(null), 0),
    ] {
        let change = json!({"spec": {"autoscaling": autoscaling}});
        patch(&namespace, "ks3/orders", change).await?;
        let followed = await_until(WITHIN, "the autoscaler comes and goes", async || {
            Ok(autoscalers().await? == count)
        });
        Box::pin(followed).await?;
    }

    apply(&namespace, &[definition()]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    let made = await_until(WITHIN, "Prometheus is told of the pods", async || {
        let found = get(&namespace, "podmonitors/orders-ks3").await;
        Ok(found.is_ok_and(|monitor| !monitor.is_null()))
    });
    Box::pin(made).await?;
    let monitor = get(&namespace, "podmonitors/orders-ks3").await?;
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let selected = &monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"];
    assert_eq!(selected, "orders-ks3");
    Ok(())
}
