//! A resource at rest: nothing is written, nothing is rolled, and a dead operator is not missed.

use anyhow::{Context, Result};
use serde_json::json;
use tidewater_e2e::{Lab, Namespace, orders_of_countries};

use super::*;

/// Version of an object, which changes with every write to it.
async fn version(namespace: &Namespace<'_>, object: &str) -> Result<String> {
    let object = get(namespace, object).await?;
    let version = object["metadata"]["resourceVersion"].as_str();
    Ok(version.context("no such object")?.to_owned())
}

/// SIGKILL: its Deployment starts another.
async fn kill_the_operator(cluster: &Cluster) -> Result<()> {
    let system = format!("--namespace={SYSTEM}");
    let ours = "--selector=app.kubernetes.io/name=tidewater-operator";
    let at_once = ["--force", "--grace-period=0"];
    let operator = [&system, "delete", "pods", ours];
    cluster
        .kubectl(&[&operator[..], &at_once].concat())
        .await
        .map(drop)
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
    let deployment = get(&namespace, "deployment/orders-ks3").await?;
    let generation = deployment["metadata"]["generation"].clone();
    let config_map = format!("configmap/{}", config_map(&deployment));
    let children = [
        "deployment/orders-ks3",
        config_map.as_str(),
        "service/orders-ks3",
    ];

    // The Deployment's own changes with the counts that its controller keeps in it.
    let mut versions = Vec::new();
    for child in &children[1..] {
        versions.push(version(&namespace, child).await?);
    }

    kill_the_operator(cluster).await?;
    topic.produce(orders_of_countries(100, 1, 10)).await?;
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
    await_rows(lab, &bucket, "orders", 100).await?;
    let now = get(&namespace, "deployment/orders-ks3").await?;
    assert_eq!(now["metadata"]["generation"], generation);

    // The spec is touched without a change: the resource is reconciled, and nothing else is written.
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
    for (child, before) in children[1..].iter().zip(versions) {
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

#[tokio::test]
async fn whenever_the_operator_dies_its_successor_ends_what_was_begun() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 4).await?;
    let bucket = lab.bucket().await?;
    let mut orders_sink = sink(lab, "orders", &topic, &bucket);
    apply(&namespace, &[keys(lab), orders_sink.clone()]).await?;
    let mut produced = 0;
    for round in 1_u64..=6 {
        topic.produce(orders_of_countries(100, round, 10)).await?;
        produced += 100;
        orders_sink["spec"]["replicas"] = json!(round % 4 + 1);
        orders_sink["spec"]["restartNonce"] = json!(round);
        orders_sink["spec"]["paused"] = json!(round == 3);
        orders_sink["spec"]["rotation"]["maxRecords"] = json!(1000 + round);
        apply(&namespace, &[orders_sink.clone()]).await?;
        kill_the_operator(cluster).await?;
    }
    let replicas = orders_sink["spec"]["replicas"].as_i64();
    let done = |object: &Value| {
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
            && object["status"]["readyReplicas"].as_i64() == replicas
            && condition(object, "Ready").0 == "True"
            && lag(object) == Some(0)
    };
    await_object(&namespace, "ks3/orders", "the last spec is in force", done).await?;
    let deployment = get(&namespace, "deployment/orders-ks3").await?;
    assert_eq!(deployment["spec"]["replicas"].as_i64(), replicas);
    let config = get(
        &namespace,
        &format!("configmap/{}", config_map(&deployment)),
    )
    .await?;
    assert!(config.to_string().contains("1006"), "{config}");
    await_rows(lab, &bucket, "orders", produced).await?;
    let ours = [
        "get",
        "deployments,configmaps",
        "--selector=app.kubernetes.io/part-of=tidewater",
        "--output=name",
    ];
    let one_of_each = await_until(WITHIN, "what earlier specs needed is gone", async || {
        Ok(namespace.kubectl(&ours).await?.lines().count() == 2)
    });
    Box::pin(one_of_each).await?;
    Ok(())
}
