//! The table of an `IcebergTable`: there before its pods, changed under them as the spec changes, left alone where it cannot
//! be, and gone with the resource only where that was asked for.

use anyhow::Result;
use serde_json::{Value, json};
use tidewater_e2e::{IcebergCatalog, Lab, await_until, orders_of_countries};

use super::planned::plan;
use super::*;
use crate::table::order_columns;

/// A table with declared columns.
fn declared(lab: &Lab, name: &str, topic: &Topic, namespace: &str) -> Value {
    let mut table = table(lab, name, topic, namespace);
    let spec = table["spec"].as_object_mut().unwrap();
    spec.remove("value");
    spec.insert("schema".into(), json!({"fields": order_columns()}));
    table
}

/// In Glue, with its files in the lab's S3.
fn in_glue(mut table: Value, lab: &Lab, warehouse: &str) -> Value {
    let from = |key: &str| json!({"secretKeyRef": {"name": "glue", "key": key}});
    table["spec"]["catalog"] = json!({"glue": {
        "warehouse": format!("s3://{warehouse}/warehouse"),
        "region": lab.ministack().region, "endpoint": lab.ministack().endpoint,
        "credentials": {"accessKeyId": from("id"), "secretAccessKey": from("key")},
    }});
    table
}

pub(super) fn glue_keys(lab: &Lab) -> Value {
    let access = lab.ministack();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "glue"},
        "stringData": {"id": access.access_key, "key": access.secret_key},
    })
}

/// Every offset of the table, and how many rows: equal when every record is there once.
async fn count(lab: &Lab, tables: &str) -> Result<Vec<Vec<Value>>> {
    let sql =
        format!("SELECT count(*), count(DISTINCT (_partition, _offset)) FROM ice.{tables}.orders");
    lab.duckdb().await?.query(&sql).await
}

fn synced(object: &Value) -> bool {
    condition(object, "TableSynced") == ("True", "Synced")
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn message(object: &Value, concern: &str) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == concern);
    let message = found.and_then(|found| found["message"].as_str());
    message.unwrap_or_default().to_owned()
}

/// Whether the lab's REST catalog has the table `<tables>.orders`.
async fn exists(lab: &Lab, tables: &str) -> Result<bool> {
    let code = "result = catalog({'kind': 'rest'}).table_exists(args)";
    let found = lab.pyiceberg().await?;
    let found = found.run(code, json!(format!("{tables}.orders"))).await?;
    Ok(found == json!(true))
}

#[tokio::test]
async fn a_table_is_there_before_its_pods_and_follows_the_spec_while_they_run() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let tables = lab.unique("shop");
    let mut orders_table = declared(lab, "orders", &topic, &tables);
    orders_table["metadata"]["namespace"] = json!(namespace.name());
    orders_table["spec"]["paused"] = json!(true);
    orders_table["spec"]["partitionBy"] = json!(["country"]);
    apply(&namespace, &[keys(lab)]).await?;
    let (sound, said) = plan(lab, cluster, &orders_table).await?;
    let title = format!("table {tables}.orders");
    assert!(sound && said.contains(&format!("+ {title}")), "{said}");
    assert!(!exists(lab, &tables).await?, "a plan makes nothing");
    apply(&namespace, &[orders_table.clone()]).await?;
    let found = await_object(&namespace, "icet/orders", "the table is made", synced).await?;
    let pyiceberg = lab.pyiceberg().await?;
    let name = format!("{tables}.orders");
    let described = pyiceberg.describe(&IcebergCatalog::Rest, &name).await?;
    assert_eq!(described["table-uuid"], found["status"]["table"]["uuid"]);
    assert_eq!(described["location"], found["status"]["table"]["location"]);
    assert_eq!(described["snapshots"], json!([]), "no pod ever ran");

    patch(
        &namespace,
        "icet/orders",
        json!({"spec": {"paused": false}}),
    )
    .await?;
    namespace
        .await_condition("icet/orders", "Ready", WITHIN)
        .await?;
    topic.produce(orders_of_countries(500, 1, 10)).await?;
    let mut columns = order_columns();
    let columns_list = columns.as_array_mut().unwrap();
    columns_list.push(json!({"name": "remark", "type": "string"}));
    let change = json!({"spec": {
        "schema": {"fields": columns},
        "partitionBy": ["day(created_at)"],
        "sortOrder": ["order_id"],
        "properties": {"owner": "shop"},
    }});
    merge(&mut orders_table["spec"], change["spec"].clone());
    let (sound, said) = plan(lab, cluster, &orders_table).await?;
    for told in [
        format!("~ {title}"),
        "partition by day(created_at)".to_owned(),
    ] {
        assert!(sound && said.contains(&told), "{told}: {said}");
    }
    patch(&namespace, "icet/orders", change).await?;
    topic.produce(orders_of_countries(500, 2, 10)).await?;
    let done = |object: &Value| {
        synced(object) && condition(object, "Ready").0 == "True" && lag(object) == Some(0)
    };
    await_object(&namespace, "icet/orders", "the change is made", done).await?;
    let described = pyiceberg.describe(&IcebergCatalog::Rest, &name).await?;
    assert_eq!(described["properties"]["owner"], "shop");
    assert_eq!(described["default-spec-id"], 1);
    assert_eq!(
        described["partition-specs"][1]["fields"][0]["name"],
        "created_at_day"
    );
    assert_eq!(described["default-sort-order-id"], 1);
    assert!(described["schemas"].to_string().contains("remark"));
    topic.produce(orders_of_countries(500, 3, 10)).await?;
    let caught_up = |object: &Value| {
        lag(object) == Some(0) && object["status"]["commit"]["lastCommitId"].is_string()
    };
    await_object(&namespace, "icet/orders", "it has caught up", caught_up).await?;
    let all = await_until(WITHIN, "every row is there once", async || {
        Ok(count(lab, &tables).await? == [[json!(1500), json!(1500)]])
    });
    Box::pin(all).await?;
    let events = [
        "get",
        "events",
        "--field-selector=reason=TableChanged",
        "--output=yaml",
    ];
    let told = namespace.kubectl(&events).await?;
    assert!(told.contains("partition by day(created_at)"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_change_that_the_table_cannot_take_is_told_and_the_pods_go_on() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let (tables, warehouse) = (lab.unique("shop"), lab.bucket().await?);
    let orders_table = in_glue(declared(lab, "orders", &topic, &tables), lab, &warehouse);
    apply(
        &namespace,
        &[keys(lab), glue_keys(lab), orders_table.clone()],
    )
    .await?;
    let ready = |object: &Value| synced(object) && condition(object, "Ready").0 == "True";
    await_object(&namespace, "icet/orders", "it runs", ready).await?;
    let before = get(&namespace, "deployment/orders-icet").await?;

    let mut columns = order_columns();
    columns[1]["type"] = json!("boolean");
    let change = json!({"spec": {"schema": {"fields": columns}, "properties": {"owner": "shop"}}});
    patch(&namespace, "icet/orders", change).await?;
    let differs = |object: &Value| condition(object, "TableSynced") == ("False", "Differs");
    let found = await_object(&namespace, "icet/orders", "it is told", differs).await?;
    assert_eq!(condition(&found, "Ready"), ("False", "Differs"));
    assert_eq!(condition(&found, "ConfigValid").0, "True");
    let why = message(&found, "TableSynced");
    assert!(
        why.contains("column \"customer\": the table has string"),
        "{why}"
    );
    assert!(
        why.contains("set property \"owner\""),
        "the plan too: {why}"
    );
    topic.produce(orders_of_countries(200, 1, 10)).await?;
    let caught_up = |object: &Value| lag(object) == Some(0);
    await_object(&namespace, "icet/orders", "records go on", caught_up).await?;
    let after = get(&namespace, "deployment/orders-icet").await?;
    assert_eq!(
        after["metadata"]["generation"],
        before["metadata"]["generation"]
    );
    let name = format!("{tables}.orders");
    let pyiceberg = lab.pyiceberg().await?;
    let rows = await_until(WITHIN, "the rows are in the table", async || {
        let rows = pyiceberg.scan(&IcebergCatalog::Glue, &name).await?;
        Ok(rows.len() == 200)
    });
    Box::pin(rows).await?;
    let described = pyiceberg.describe(&IcebergCatalog::Glue, &name).await?;
    assert_eq!(described["properties"].get("owner"), None, "all or nothing");

    apply(&namespace, &[orders_table]).await?;
    await_object(&namespace, "icet/orders", "it is as before", ready).await?;
    Ok(())
}

// K3
#[tokio::test]
async fn a_catalog_that_the_operator_cannot_reach_keeps_no_pod_from_starting() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders_of_countries(100, 1, 10)).await?;
    let tables = lab.unique("shop");
    let host = lab.iceberg_rest().trim_start_matches("http://");
    let proxy = lab.proxy(host.trim_end_matches('/')).await?;
    proxy.disable().await?;
    let mut orders_table = declared(lab, "orders", &topic, &tables);
    orders_table["spec"]["catalog"]["rest"]["uri"] = json!(proxy.endpoint());
    apply(&namespace, &[keys(lab), orders_table]).await?;
    let unknown =
        |object: &Value| condition(object, "TableSynced") == ("Unknown", "CatalogUnreachable");
    await_object(&namespace, "icet/orders", "it is told", unknown).await?;
    let started = |object: &Value| object["spec"]["replicas"] == 1;
    await_object(
        &namespace,
        "deployment/orders-icet",
        "pods are asked for",
        started,
    )
    .await?;

    proxy.enable().await?;
    let again = |object: &Value| {
        synced(object) && condition(object, "Ready").0 == "True" && lag(object) == Some(0)
    };
    await_object(&namespace, "icet/orders", "it runs", again).await?;
    assert_eq!(count(lab, &tables).await?, [[json!(100), json!(100)]]);
    Ok(())
}

#[tokio::test]
async fn a_table_goes_with_its_resource_only_where_that_is_said_and_it_was_made_for_it()
-> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders_of_countries(50, 1, 10)).await?;
    let (ours, kept, theirs) = (lab.unique("shop"), lab.unique("shop"), lab.unique("shop"));
    let deleting = |name: &str, tables: &str| {
        let mut table = declared(lab, name, &topic, tables);
        table["spec"]["deletionPolicy"] = json!("Delete");
        table
    };
    let code = "
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField
rest = catalog({'kind': 'rest'})
rest.create_namespace(args.split('.')[0])
rest.create_table(args, schema=Schema(NestedField(1, 'order_id', LongType(), required=True)))
result = True
";
    let pyiceberg = lab.pyiceberg().await?;
    pyiceberg
        .run(code, json!(format!("{theirs}.orders")))
        .await?;
    let objects = [
        keys(lab),
        deleting("ours", &ours),
        declared(lab, "kept", &topic, &kept),
        deleting("theirs", &theirs),
    ];
    apply(&namespace, &objects).await?;
    for (name, tables) in [("ours", &ours), ("kept", &kept), ("theirs", &theirs)] {
        let object = format!("icet/{name}");
        let done = |object: &Value| {
            condition(object, "Ready").0 == "True"
                && lag(object) == Some(0)
                && object["status"]["commit"]["lastCommitId"].is_string()
        };
        let found = await_object(&namespace, &object, "it is committed", done).await?;
        assert_eq!(count(lab, tables).await?, [[json!(50), json!(50)]]);
        let held = found["metadata"]["finalizers"]
            .as_array()
            .map_or(0, Vec::len);
        assert_eq!(held, usize::from(name != "kept"), "{name}");
    }
    let delete = [
        "delete",
        "icet/ours",
        "icet/kept",
        "icet/theirs",
        "--timeout=120s",
    ];
    namespace.kubectl(&delete).await?;
    assert!(!exists(lab, &ours).await?);
    assert!(exists(lab, &kept).await?);
    assert!(exists(lab, &theirs).await?);
    assert_eq!(count(lab, &kept).await?, [[json!(50), json!(50)]]);
    assert_eq!(count(lab, &theirs).await?, [[json!(50), json!(50)]]);
    for (reason, name) in [("TableDropped", &ours), ("TableKept", &theirs)] {
        let selector = format!("--field-selector=reason={reason}");
        let events = ["get", "events", &selector, "--output=yaml"];
        let told = namespace.kubectl(&events).await?;
        assert!(told.contains(name.as_str()), "{reason}: {told}");
    }
    Ok(())
}

// K8
#[tokio::test]
async fn a_deletion_that_the_catalog_does_not_take_is_told_and_can_be_let_go() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let tables = lab.unique("shop");
    let host = lab.iceberg_rest().trim_start_matches("http://");
    let proxy = lab.proxy(host.trim_end_matches('/')).await?;
    let mut orders_table = declared(lab, "orders", &topic, &tables);
    orders_table["spec"]["catalog"]["rest"]["uri"] = json!(proxy.endpoint());
    orders_table["spec"]["deletionPolicy"] = json!("Delete");
    apply(&namespace, &[keys(lab), orders_table]).await?;
    namespace
        .await_condition("icet/orders", "Ready", WITHIN)
        .await?;
    proxy.disable().await?;
    namespace
        .kubectl(&["delete", "icet/orders", "--wait=false"])
        .await?;
    let blocked = |object: &Value| condition(object, "TableSynced") == ("False", "DeletionBlocked");
    let found = await_object(&namespace, "icet/orders", "it is told", blocked).await?;
    assert!(message(&found, "TableSynced").contains("set spec.deletionPolicy: Retain"));
    assert_eq!(
        get(&namespace, "deployment/orders-icet").await?,
        Value::Null
    );
    patch(
        &namespace,
        "icet/orders",
        json!({"spec": {"deletionPolicy": "Retain"}}),
    )
    .await?;
    let gone = |object: &Value| object.is_null();
    await_object(&namespace, "icet/orders", "it is let go", gone).await?;
    assert!(exists(lab, &tables).await?);
    Ok(())
}
