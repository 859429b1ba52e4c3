//! Pods come and go with the lag, and no record is lost or doubled on the way.

use anyhow::Result;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until, orders_of_countries};

use super::*;

/// Records of a backlog, and how many of them one pod is to work off.
const BACKLOG: u64 = 30_000;
const PER_REPLICA: u64 = 10_000;

pub(super) fn autoscaled(mut sink: Value, lag_per_replica: u64) -> Value {
    let at_once = json!({"stabilizationWindowSeconds": 0});
    sink["spec"]["autoscaling"] = json!({
        "minReplicas": 1, "maxReplicas": 9, "lagPerReplica": lag_per_replica,
        "behavior": {"scaleUp": at_once, "scaleDown": at_once},
    });
    sink
}

// T27
#[tokio::test]
async fn lag_adds_pods_up_to_the_partitions_and_takes_them_away_when_it_is_gone() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 3).await?;
    let bucket = lab.bucket().await?;
    let mut orders_sink = autoscaled(sink(lab, "orders", &topic, &bucket), PER_REPLICA);
    // The backlog stays one until a file is due, but for the partitions that are handed over: those are committed. The
    // pods that they go to are to be seen before that takes them away again.
    orders_sink["spec"]["rotation"] = json!({"maxOpen": "45s"});
    orders_sink["spec"]["autoscaling"]["behavior"]["scaleDown"] =
        json!({"stabilizationWindowSeconds": 10});
    apply(&namespace, &[keys(lab), orders_sink]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    let capped = |autoscaler: &Value| autoscaler["spec"]["maxReplicas"] == 3;
    await_object(
        &namespace,
        "hpa/orders-ks3",
        "no more pods than partitions",
        capped,
    )
    .await?;

    topic.produce(orders_of_countries(BACKLOG, 1, 10)).await?;
    // How many pods were asked for, one after the other.
    let mut asked = vec![1];
    let mut ready = 0;
    let scaled = await_until(WITHIN * 2, "three pods, and one again", async || {
        let sink = get(&namespace, "ks3/orders").await?;
        let replicas = sink["spec"]["replicas"].as_i64().unwrap_or_default();
        if asked.last() != Some(&replicas) {
            asked.push(replicas);
        }
        ready = ready.max(sink["status"]["readyReplicas"].as_i64().unwrap_or_default());
        Ok(replicas == 1 && asked.len() > 1 && lag(&sink) == Some(0))
    });
    if let Err(error) = Box::pin(scaled).await {
        let told = namespace.kubectl(&["describe", "hpa"]).await?;
        let around = namespace.described().await;
        return Err(error.context(format!("asked for {asked:?}\n{told}\n{around}")));
    }
    assert_eq!((asked.iter().max(), ready), (Some(&3), 3), "{asked:?}");
    let turns = asked
        .windows(3)
        .filter(|w| (w[1] - w[0]) * (w[2] - w[1]) < 0);
    assert_eq!(turns.count(), 1, "up once and down once: {asked:?}");
    await_rows(lab, &bucket, "orders", BACKLOG).await?;
    Ok(())
}

// K13, and an outage of the brokers
#[tokio::test]
async fn brokers_that_are_down_leave_the_lag_unknown_and_the_pods_alone() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let kafka = KafkaServer::start_with(&lab.scratch()?, KafkaServer::SOON_MISSED).await?;
    let topic = Topic::create(kafka.bootstrap(), "orders", 6).await?;
    let bucket = lab.bucket().await?;
    let way = lab.proxy(lab.s3().host()).await?;
    let mut orders_sink = autoscaled(sink(lab, "orders", &topic, &bucket), 1000);
    orders_sink["spec"]["source"]["bootstrapServers"] = json!(kafka.bootstrap());
    orders_sink["spec"]["destination"]["s3"]["endpoint"] = json!(way.endpoint());
    apply(&namespace, &[keys(lab), orders_sink]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    // A backlog that nobody works off: its store is away. More pods than the least of one, fewer than the most of six.
    way.disable().await?;
    topic.produce(orders_of_countries(2500, 1, 10)).await?;
    let three = |object: &Value| object["spec"]["replicas"] == 3;
    await_object(&namespace, "ks3/orders", "three pods are asked for", three).await?;
    assert_eq!(
        external_lag(&namespace, "orders").await?.as_deref(),
        Some("2500")
    );

    kafka.kill();
    let told = |object: &Value| {
        condition(object, "SourceReachable") == ("False", "SourceUnreachable")
            && condition(object, "Ready").0 == "False"
    };
    await_object(&namespace, "ks3/orders", "the outage is told", told).await?;
    let unknown = await_until(WITHIN, "the lag is not told", async || {
        Ok(external_lag(&namespace, "orders").await?.is_none())
    });
    Box::pin(unknown).await?;
    // The autoscaler has looked since, and would have taken pods away at once.
    let unable = |object: &Value| condition(object, "Scaling") == ("False", "AutoscalerUnable");
    let found = await_object(&namespace, "ks3/orders", "the autoscaler is unable", unable).await?;
    assert_eq!(found["spec"]["replicas"], 3);

    kafka.restart().await?;
    way.enable().await?;
    topic.produce(orders_of_countries(500, 2, 10)).await?;
    await_rows(lab, &bucket, "orders", 3000).await?;
    let again = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "it has caught up", again).await?;
    Ok(())
}

// T16
#[tokio::test]
async fn pods_beyond_the_partitions_wait_until_there_are_more() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    let mut orders_sink = sink(lab, "orders", &topic, &bucket);
    orders_sink["spec"]["replicas"] = json!(3);
    apply(&namespace, &[keys(lab), orders_sink]).await?;
    let capped = |object: &Value| {
        condition(object, "Scaling") == ("False", "CappedByPartitions")
            && condition(object, "Ready").0 == "True"
            && object["status"]["replicas"] == 1
    };
    await_object(
        &namespace,
        "ks3/orders",
        "one pod for one partition",
        capped,
    )
    .await?;
    topic.produce(orders_of_countries(100, 1, 10)).await?;

    topic.add_partitions(3).await?;
    let three = |object: &Value| {
        object["status"]["readyReplicas"] == 3 && condition(object, "Scaling").1 == "Steady"
    };
    await_object(
        &namespace,
        "ks3/orders",
        "three pods for three partitions",
        three,
    )
    .await?;
    topic.produce(orders_of_countries(500, 2, 10)).await?;
    let committed = await_until(WITHIN, "everything is committed", async || {
        Ok(rows(lab, &bucket, "orders").await? == [json!(600), json!(600)])
    });
    Box::pin(committed).await
}
