//! A newcomer's way: install, apply, wait, look, scale, pause, delete.

use anyhow::Result;
use serde_json::json;
use tidewater_e2e::{Lab, await_until, orders_of_countries};

use super::*;

#[tokio::test]
async fn a_sink_and_a_table_run_tell_the_truth_scale_pause_and_go() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 3).await?;
    let (bucket, tables) = (lab.bucket().await?, lab.unique("shop"));
    let objects = [
        keys(lab),
        sink(lab, "orders", &topic, &bucket),
        table(lab, "orders-table", &topic, &tables),
    ];
    apply(&namespace, &objects).await?;
    // K2: right after apply.
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    namespace
        .await_condition("icet/orders-table", "Ready", WITHIN)
        .await?;
    for object in ["ks3/orders", "icet/orders-table"] {
        let found = get(&namespace, object).await?;
        let (status, generation) = (&found["status"], &found["metadata"]["generation"]);
        assert_eq!(status["readyReplicas"], 1, "{object} was told ready early");
        assert_eq!(status["observedGeneration"], *generation, "{object}");
    }

    topic.produce(orders_of_countries(2000, 1, 10)).await?;
    for object in ["ks3/orders", "icet/orders-table"] {
        let done = |object: &Value| {
            lag(object) == Some(0) && object["status"]["commit"]["lastCommitId"].is_string()
        };
        let found = await_object(&namespace, object, "everything is committed", done).await?;
        assert_eq!(condition(&found, "Ready").0, "True", "{object}");
        assert_eq!(
            condition(&found, "SourceReachable"),
            ("True", "Reachable"),
            "{object}"
        );
        assert_eq!(
            found["status"]["observedGeneration"],
            found["metadata"]["generation"]
        );
    }
    await_rows(lab, &bucket, "orders", 2000).await?;
    await_table_rows(lab, &tables, 2000).await?;
    let shown = namespace.kubectl(&["get", "ks3,icet"]).await?;
    for column in [
        "READY",
        "PHASE",
        "REPLICAS",
        "AVAILABLE",
        "LAG",
        "LAST-COMMIT",
        "AGE",
    ] {
        assert!(shown.contains(column), "{shown}");
    }

    // K17: what tools that compare see.
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let differences = namespace.differences(&list.to_string()).await?;
    assert_eq!(differences, "", "applied and stored differ");
    for definition in ["kafkas3sinks", "icebergtables"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../crds/{definition}.yaml"));
        let text = std::fs::read_to_string(file)?;
        let differences = namespace.differences(&text).await?;
        assert_eq!(differences, "", "{definition}");
    }

    // K1: as an autoscaler does it.
    namespace
        .kubectl(&["scale", "ks3/orders", "--replicas=3"])
        .await?;
    let three = |object: &Value| object["status"]["readyReplicas"] == 3;
    await_object(&namespace, "ks3/orders", "three pods are ready", three).await?;

    patch(&namespace, "ks3/orders", json!({"spec": {"paused": true}})).await?;
    let paused = |object: &Value| {
        object["status"]["replicas"] == 0 && condition(object, "Paused") == ("True", "Paused")
    };
    let found = await_object(&namespace, "ks3/orders", "it is paused", paused).await?;
    assert!(
        found["status"]["selector"]
            .as_str()
            .is_some_and(|selector| !selector.is_empty())
    );
    topic.produce(orders_of_countries(500, 2, 10)).await?;
    let waiting = |object: &Value| lag(object) == Some(500);
    let found = await_object(
        &namespace,
        "ks3/orders",
        "lag is told without a pod",
        waiting,
    )
    .await?;
    // One row of what is said above, each number another.
    let row = ["get", "ks3/orders", "--no-headers"];
    let row = namespace.kubectl(&row).await?;
    let cells: Vec<&str> = row.split_whitespace().take(6).collect();
    let phase = found["status"]["phase"].as_str().unwrap_or_default();
    let ready = condition(&found, "Ready").0;
    assert_eq!(cells, ["orders", ready, phase, "3", "0", "500"], "{row}");

    patch(&namespace, "ks3/orders", json!({"spec": {"paused": false}})).await?;
    let resumed = |object: &Value| lag(object) == Some(0) && condition(object, "Ready").0 == "True";
    await_object(&namespace, "ks3/orders", "it has caught up", resumed).await?;
    await_rows(lab, &bucket, "orders", 2500).await?;

    namespace
        .kubectl(&["delete", "ks3/orders", "icet/orders-table"])
        .await?;
    let children = "deployments,configmaps,services,poddisruptionbudgets";
    let ours = [
        "get",
        children,
        "--selector=app.kubernetes.io/part-of=tidewater",
        "--output=name",
    ];
    let gone = await_until(WITHIN, "what was made for them is gone", async || {
        Ok(namespace.kubectl(&ours).await?.trim().is_empty())
    });
    Box::pin(gone).await?;
    // K8: nothing of ours holds a namespace. Kubernetes asks every API for what is left in it, the external metrics too.
    let name = namespace.name().to_owned();
    cluster
        .kubectl(&["delete", "namespace", &name, "--timeout=120s"])
        .await?;
    Ok(())
}
