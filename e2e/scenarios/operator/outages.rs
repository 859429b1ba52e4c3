//! What sinks and operator depend on goes away for a while: it is told, and everything goes on alone when it is back.

use anyhow::Result;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until, orders_of_countries};

use super::*;

/// An outage is told once the attempts at a call are over.
fn soon_told() -> Value {
    json!({"maxAttempts": 2})
}

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
    orders_sink["spec"]["destination"]["s3"]["timeouts"] = soon_told();
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
    orders_table["spec"]["catalog"]["rest"]["timeouts"] = soon_told();
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
