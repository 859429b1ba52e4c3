//! The table is somebody else's.

use super::*;

#[tokio::test]
async fn a_table_that_exists_is_taken_over_only_when_told() -> Result<()> {
    let glued = Glued::new(1).await?;
    let database = DatabaseInput::builder().name(&glued.database).build()?;
    glued
        .glue
        .create_database()
        .database_input(database)
        .send()
        .await?;
    let column = |name: &str, ty: &str| Column::builder().name(name).r#type(ty).build();
    let serde = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
    let storage = StorageDescriptor::builder()
        .location(format!("s3://{}", glued.sink.bucket()))
        .columns(column("order_id", "bigint")?)
        .input_format("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat")
        .output_format("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat")
        .serde_info(SerDeInfo::builder().serialization_library(serde).build())
        .build();
    let theirs = TableInput::builder()
        .name("orders")
        .description("theirs")
        .table_type("EXTERNAL_TABLE")
        .parameters("their.key", "theirs")
        .partition_keys(column("country", "string")?)
        .storage_descriptor(storage)
        .build()?;
    let request = glued.glue.create_table().database_name(&glued.database);
    request.table_input(theirs).send().await?;

    glued.topic.produce(orders(100, 6)).await?;
    let tidewater = glued.sink.start()?;
    let refused = |table: &Value| table["reason"] == json!("TableNotOurs");
    let told = await_table(&tidewater, "a refusal", refused).await?;
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("spec.glue.adopt: true"),
        "{told}"
    );
    glued.sink.await_rows(100).await?;
    assert_eq!(glued.columns().await?, ["order_id bigint"]);
    assert!(glued.partitions().await?.is_empty());
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());

    let glued = glued.with(json!({"glue": {"adopt": true}}));
    glued.sink.catch_up().await?;
    glued.await_all_registered().await?;
    let table = glued.table().await?;
    assert_eq!(table.description(), Some("theirs"));
    let parameters = glued.parameters().await?;
    assert_eq!(parameters["their.key"], "theirs");
    assert_eq!(parameters["tidewater.dev/origin"], "Adopted");
    assert!(glued.columns().await?.len() > 5);
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn two_sinks_do_not_share_a_table() -> Result<()> {
    let first = Glued::new(1).await?;
    first.topic.produce(orders(50, 7)).await?;
    first.sink.catch_up().await?;
    let parameters = first.parameters().await?;
    let database = json!({"glue": {"database": first.database, "adopt": true}});
    let second = Glued::new(1).await?.with(database);
    second.topic.produce(orders(50, 8)).await?;
    let tidewater = second.sink.start()?;
    let refused = |table: &Value| table["reason"] == json!("TableNotOurs");
    let told = await_table(&tidewater, "a refusal", refused).await?;
    assert!(
        told["message"].as_str().unwrap().contains(&first.sink.id()),
        "{told}"
    );
    second.sink.await_rows(50).await?;
    assert_eq!(first.parameters().await?, parameters);
    first.assert_readers_find(50).await
}
