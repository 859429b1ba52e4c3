//! A resource at rest: nothing is written, nothing is rolled, and a dead operator is not missed.

use anyhow::{Context, Result};
use serde_json::json;
use tidewater_e2e::{Lab, Namespace, orders};

use super::*;

/// Version of an object, which changes with every write to it.
async fn version(namespace: &Namespace<'_>, object: &str) -> Result<String> {
    let object = get(namespace, object).await?;
    let version = object["metadata"]["resourceVersion"].as_str();
    Ok(version.context("no such object")?.to_owned())
}

// K5, K6, K7, K12
#[tokio::test]
async fn a_dead_operator_is_not_missed_and_its_successor_writes_nothing_and_rolls_nothing()
-> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    let idle = |object: &Value| lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "it is idle", idle).await?;
    let children = [
        "deployment/orders-ks3",
        "configmap/orders-ks3",
        "service/orders-ks3",
    ];
    let generation =
        get(&namespace, "deployment/orders-ks3").await?["metadata"]["generation"].clone();

    let system = ["--namespace", SYSTEM];
    let operator = [
        "delete",
        "pods",
        "--selector=app.kubernetes.io/name=tidewater-operator",
        "--force",
        "--grace-period=0",
    ];
    cluster.kubectl(&[&system[..], &operator].concat()).await?;
    topic.produce(orders(100, 1)).await?;
    let committed = |object: &Value| {
        lag(object) == Some(0) && object["status"]["commit"]["committedRecords"] == 100
    };
    await_object(
        &namespace,
        "ks3/orders",
        "the successor tells what happened meanwhile",
        committed,
    )
    .await?;
    assert_eq!(
        rows(lab, &bucket, "orders").await?,
        [json!(100), json!(100)]
    );
    let now = get(&namespace, "deployment/orders-ks3").await?;
    assert_eq!(now["metadata"]["generation"], generation);

    // The spec is touched without a change: the resource is reconciled, and nothing else is written.
    let mut versions = Vec::new();
    for child in children {
        versions.push(version(&namespace, child).await?);
    }
    patch(
        &namespace,
        "ks3/orders",
        json!({"metadata": {"annotations": {"note": "seen"}}}),
    )
    .await?;
    patch(
        &namespace,
        "ks3/orders",
        json!({"spec": {"restartNonce": 1}}),
    )
    .await?;
    let rolled = |object: &Value| object["metadata"]["generation"] != generation;
    await_object(
        &namespace,
        "deployment/orders-ks3",
        "it is restarted when asked to",
        rolled,
    )
    .await?;
    for (child, before) in children.into_iter().zip(versions).skip(1) {
        assert_eq!(version(&namespace, child).await?, before, "{child}");
    }

    // K5
    let rolled = get(&namespace, "deployment/orders-ks3").await?["metadata"]["generation"].clone();
    let mut changed = keys(lab);
    changed["stringData"]["id"] = json!(lab.s3().access_key);
    changed["stringData"]["more"] = json!("of no use to the sink");
    apply(&namespace, &[changed]).await?;
    let again = |object: &Value| object["metadata"]["generation"] != rolled;
    await_object(
        &namespace,
        "deployment/orders-ks3",
        "a changed Secret restarts the pods",
        again,
    )
    .await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    Ok(())
}

// K15
#[tokio::test]
async fn a_name_of_sixty_three_characters_runs() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    let name = "o".repeat(63);
    apply(&namespace, &[keys(lab), sink(lab, &name, &topic, &bucket)]).await?;
    namespace
        .await_condition(&format!("ks3/{name}"), "Ready", WITHIN)
        .await?;
    Ok(())
}
