//! What sinks and operator depend on goes away for a while: it is told, and everything goes on alone when it is back.

use anyhow::Result;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until, orders_of_countries};

use super::*;

// K3
#[tokio::test]
async fn a_store_that_is_down_is_told_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let bucket = lab.bucket().await?;
    let proxy = lab.proxy(lab.s3().host()).await?;
    let mut orders_sink = sink(lab, "orders", &topic, &bucket);
    orders_sink["spec"]["destination"]["s3"]["endpoint"] = json!(proxy.endpoint());
    apply(&namespace, &[keys(lab), orders_sink]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;

    proxy.disable().await?;
    topic.produce(orders_of_countries(300, 1, 10)).await?;
    let told = |object: &Value| {
        condition(object, "Ready").0 == "False"
            && condition(object, "DestinationReady") == ("False", "StoreUnavailable")
    };
    await_object(&namespace, "ks3/orders", "the outage is told", told).await?;
    let events = [
        "get",
        "events",
        "--field-selector=reason=StoreUnavailable",
        "--output=name",
    ];
    let sent = await_until(WITHIN, "an event tells it too", async || {
        Ok(!namespace.kubectl(&events).await?.trim().is_empty())
    });
    Box::pin(sent).await?;
    let series = format!(
        r#"tidewater_sink_ready{{kind="KafkaS3Sink",name="orders",namespace="{}"}} 0"#,
        namespace.name()
    );
    let measured = await_until(WITHIN, "a metric tells it too", async || {
        let pages = operators_say(namespace.cluster()).await?;
        Ok(pages.iter().any(|page| page.contains(&series)))
    });
    Box::pin(measured).await?;

    proxy.enable().await?;
    let again = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "it has caught up", again).await?;
    await_rows(lab, &bucket, "orders", 300).await?;
    Ok(())
}

#[tokio::test]
async fn a_catalog_that_is_down_is_told_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let tables = lab.unique("shop");
    let rest = lab.iceberg_rest();
    let host = rest.trim_start_matches("http://").trim_end_matches('/');
    let proxy = lab.proxy(host).await?;
    let mut orders_table = table(lab, "orders", &topic, &tables);
    orders_table["spec"]["catalog"]["rest"]["uri"] = json!(proxy.endpoint());
    apply(&namespace, &[keys(lab), orders_table]).await?;
    namespace
        .await_condition("icet/orders", "Ready", WITHIN)
        .await?;

    proxy.disable().await?;
    topic.produce(orders_of_countries(300, 1, 10)).await?;
    let told = |object: &Value| condition(object, "Ready") == ("False", "CatalogUnavailable");
    await_object(&namespace, "icet/orders", "the outage is told", told).await?;
    proxy.enable().await?;
    let again = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "icet/orders", "it has caught up", again).await?;
    await_table_rows(lab, &tables, 300).await?;
    Ok(())
}

// K4, K7; a cluster of its own, since others would notice
#[tokio::test]
async fn an_api_server_that_comes_back_finds_every_sink_as_it_was() -> Result<()> {
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?;
    let cluster = Box::pin(Cluster::start(&folder)).await?;
    Box::pin(install(&cluster)).await?;
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
    let generation =
        get(&namespace, "deployment/orders-ks3").await?["metadata"]["generation"].clone();

    let control_plane = cluster.control_plane()?;
    control_plane.kill_api_server();
    topic.produce(orders_of_countries(200, 1, 10)).await?;
    let committed = await_until(WITHIN, "the pods go on meanwhile", async || {
        let found = rows(lab, &bucket, "orders").await;
        Ok(found.is_ok_and(|found| found == [json!(200), json!(200)]))
    });
    Box::pin(committed).await?;
    control_plane.restart_api_server().await?;
    let told = |object: &Value| {
        lag(object) == Some(0) && object["status"]["commit"]["committedRecords"] == 200
    };
    await_object(&namespace, "ks3/orders", "it is told afterwards", told).await?;
    let now = get(&namespace, "deployment/orders-ks3").await?;
    assert_eq!(now["metadata"]["generation"], generation);

    // A resource that this version cannot read, as another version of the kind may have left it.
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let loose = json!([
        {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec", "value": anything},
    ]);
    let patch = format!("--patch={loose}");
    cluster
        .kubectl(&[
            "patch",
            "crd/kafkas3sinks.tidewater.dev",
            "--type=json",
            &patch,
        ])
        .await?;
    let mut unreadable = sink(lab, "unreadable", &topic, &bucket);
    unreadable["spec"]["paused"] = json!("perhaps");
    let stored = await_until(WITHIN, "the loose definition is in force", async || {
        Ok(apply(&namespace, &[unreadable.clone()]).await.is_ok())
    });
    Box::pin(stored).await?;
    let refused = |object: &Value| condition(object, "ConfigValid") == ("False", "InvalidSpec");
    await_object(&namespace, "ks3/unreadable", "it is told", refused).await?;
    let mut second = sink(lab, "second", &topic, &bucket);
    second["spec"]["source"]["groupId"] = json!(lab.unique("second"));
    apply(&namespace, &[second]).await?;
    namespace
        .await_condition("ks3/second", "Ready", WITHIN)
        .await?;
    Ok(())
}
