//! A dataset's table in Glue, in a cluster: there with its partitions, told by the resource, and gone with it only where that
//! was asked for and it is the sink's own.

use anyhow::{Context, Result};
use aws_sdk_glue::types::{Column, DatabaseInput, StorageDescriptor, TableInput};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until, orders_of_countries};

use super::planned::plan;
use super::table::glue_keys;
use super::*;

/// A sink by country whose table is in Glue, and is deleted with it.
fn glued(lab: &Lab, topic: &Topic, bucket: &str, database: &str) -> Value {
    let mut sink = sink(lab, "orders", topic, bucket);
    let from = |key: &str| json!({"secretKeyRef": {"name": "glue", "key": key}});
    sink["spec"]["partitioning"] = json!([{"column": "country"}]);
    sink["spec"]["glue"] = json!({
        "database": database, "table": "orders", "createDatabase": true, "deletionPolicy": "Delete",
        "region": lab.ministack().region, "endpoint": lab.ministack().endpoint,
        "credentials": {"accessKeyId": from("id"), "secretAccessKey": from("key")},
    });
    sink
}

/// The places of the table's partitions.
async fn places(lab: &Lab, database: &str) -> Result<Vec<String>> {
    let partitions = lab.glue_client().get_partitions().database_name(database);
    let partitions = partitions.table_name("orders").send().await?;
    let place = |partition: &aws_sdk_glue::types::Partition| {
        let storage = partition.storage_descriptor().context("no storage")?;
        Ok(storage.location().context("no location")?.to_owned())
    };
    partitions.partitions().iter().map(place).collect()
}

async fn has_table(lab: &Lab, database: &str) -> bool {
    let table = lab.glue_client().get_table().database_name(database);
    table.name("orders").send().await.is_ok()
}

/// Rows and different offsets of the files in these folders.
async fn read(lab: &Lab, places: &[String]) -> Result<Vec<Vec<Value>>> {
    let files: Vec<String> = places.iter().map(|at| format!("'{at}*.parquet'")).collect();
    let files = files.join(", ");
    let sql = format!(
        "SELECT count(*), count(DISTINCT (_partition, _offset)) FROM read_parquet([{files}])"
    );
    lab.duckdb().await?.query(&sql).await
}

#[tokio::test]
async fn readers_find_a_sinks_rows_by_glue_and_the_table_goes_with_the_resource() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let (bucket, database) = (lab.bucket().await?, lab.unique("db"));
    let mut glued = glued(lab, &topic, &bucket, &database);
    glued["metadata"]["namespace"] = json!(namespace.name());
    apply(&namespace, &[keys(lab), glue_keys(lab)]).await?;
    let (sound, said) = plan(lab, namespace.cluster(), &glued).await?;
    assert!(
        sound && said.contains(&format!("{database}.orders")),
        "{said}"
    );
    assert!(!has_table(lab, &database).await, "a plan makes nothing");

    apply(&namespace, &[glued]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    topic.produce(orders_of_countries(500, 1, 10)).await?;
    let committed = |object: &Value| {
        lag(object) == Some(0)
            && object["status"]["commit"]["committedRecords"] == 500
            && condition(object, "TableSynced") == ("True", "Synced")
    };
    await_object(
        &namespace,
        "ks3/orders",
        "everything is committed",
        committed,
    )
    .await?;
    let registered = await_until(WITHIN, "readers find every row", async || {
        let places = places(lab, &database).await?;
        Ok(!places.is_empty() && read(lab, &places).await? == [[json!(500), json!(500)]])
    });
    Box::pin(registered).await?;

    namespace.kubectl(&["delete", "ks3/orders"]).await?;
    assert!(
        !has_table(lab, &database).await,
        "it goes with the resource"
    );
    await_rows(lab, &bucket, "orders", 500).await?;
    Ok(())
}

#[tokio::test]
async fn glue_that_is_down_is_told_and_holds_no_data_up() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let (bucket, database) = (lab.bucket().await?, lab.unique("db"));
    let glue = &lab.ministack().endpoint;
    let proxy = lab.proxy(glue.trim_start_matches("http://")).await?;
    let mut glued = glued(lab, &topic, &bucket, &database);
    glued["spec"]["glue"]["endpoint"] = json!(proxy.endpoint());
    apply(&namespace, &[keys(lab), glue_keys(lab), glued]).await?;
    topic.produce(orders_of_countries(100, 1, 2)).await?;
    let synced = |object: &Value| {
        lag(object) == Some(0) && condition(object, "TableSynced") == ("True", "Synced")
    };
    await_object(&namespace, "ks3/orders", "the table is there", synced).await?;

    proxy.disable().await?;
    // Into folders that Glue knows nothing of.
    topic.produce(orders_of_countries(100, 2, 10)).await?;
    let told = |object: &Value| {
        object["status"]["commit"]["committedRecords"] == 200
            && condition(object, "TableSynced") == ("Unknown", "CatalogUnreachable")
    };
    await_object(&namespace, "ks3/orders", "it is told, data goes on", told).await?;

    proxy.enable().await?;
    await_object(&namespace, "ks3/orders", "it is well again", synced).await?;
    let found = await_until(WITHIN, "readers find every row", async || {
        let places = places(lab, &database).await?;
        Ok(!places.is_empty() && read(lab, &places).await? == [[json!(200), json!(200)]])
    });
    Box::pin(found).await
}

// K11
#[tokio::test]
async fn a_strangers_table_is_told_left_alone_and_outlives_the_resource() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let (bucket, database) = (lab.bucket().await?, lab.unique("db"));
    let glue = lab.glue_client();
    let input = DatabaseInput::builder().name(&database).build()?;
    glue.create_database().database_input(input).send().await?;
    let column = Column::builder().name("theirs").r#type("string").build()?;
    let storage = StorageDescriptor::builder().columns(column).build();
    let theirs = TableInput::builder()
        .name("orders")
        .storage_descriptor(storage)
        .build()?;
    let request = glue.create_table().database_name(&database);
    request.table_input(theirs).send().await?;

    let glued = glued(lab, &topic, &bucket, &database);
    apply(&namespace, &[keys(lab), glue_keys(lab), glued]).await?;
    let told = |object: &Value| {
        condition(object, "TableSynced") == ("False", "Differs")
            && condition(object, "Ready") == ("False", "Differs")
    };
    let found = await_object(&namespace, "ks3/orders", "it is told whose it is", told).await?;
    assert!(found.to_string().contains("spec.glue.adopt"), "{found}");
    // The table only shows what there is.
    topic.produce(orders_of_countries(100, 1, 10)).await?;
    let committed = |object: &Value| object["status"]["commit"]["committedRecords"] == 100;
    await_object(&namespace, "ks3/orders", "data goes on", committed).await?;
    namespace.kubectl(&["delete", "ks3/orders"]).await?;
    assert!(has_table(lab, &database).await, "it was never the sink's");
    Ok(())
}
