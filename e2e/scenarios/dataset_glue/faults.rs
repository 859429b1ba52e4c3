//! Glue, or somebody in it, does harm: no data waits, and everything is made up for.

use futures::future::try_join_all;

use super::*;

#[tokio::test]
async fn partitions_that_somebody_deletes_or_forgets_are_registered_again() -> Result<()> {
    let glued = Glued::new(1)
        .await?
        .with(json!({"glue": {"repairInterval": "1s"}}));
    glued.topic.produce(orders(300, 2)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(300).await?;
    glued.await_all_registered().await?;

    let lost: Vec<Vec<String>> = glued.partitions().await?.into_keys().take(2).collect();
    for values in &lost {
        let request = glued.glue.delete_partition().database_name(&glued.database);
        let request = request.table_name("orders");
        request
            .set_partition_values(Some(values.clone()))
            .send()
            .await?;
    }
    // A folder that another tool filled.
    let (s3, bucket) = (glued.sink.s3(), glued.sink.bucket());
    let copied = glued.sink.files().await?.into_iter().next().unwrap();
    let name = copied.rsplit('/').next().unwrap();
    let request = s3
        .copy_object()
        .bucket(bucket)
        .key(format!("country=X%2FY/{name}"));
    request
        .copy_source(format!("{bucket}/{copied}"))
        .send()
        .await?;
    glued
        .await_all_registered()
        .await
        .with_context(|| tidewater.process().log_tail())?;
    let by_hand = &glued.partitions().await?[&vec!["X/Y".to_owned()]];
    assert_eq!(by_hand.0, format!("s3://{bucket}/country=X%2FY/"));

    // A partition whose files are gone is told, and stays.
    let request = s3.delete_object().bucket(bucket);
    request.key(format!("country=X%2FY/{name}")).send().await?;
    let one = |table: &Value| table["partitionsWithoutFiles"] == json!(1);
    await_table(&tidewater, "a partition without files", one).await?;
    assert!(
        glued
            .partitions()
            .await?
            .contains_key(&vec!["X/Y".to_owned()])
    );
    glued.sink.assert_once(300).await
}

#[tokio::test]
async fn what_a_process_could_not_register_before_it_died_is_registered_by_the_next() -> Result<()>
{
    let glued = Glued::new(1).await?.alone();
    glued.topic.produce(orders(200, 3)).await?;
    glued.sink.die_at("dataset.after-completes").await?;
    assert_eq!(glued.sink.count().await?, (200, 200));
    if glued.has_table().await {
        assert!(glued.partitions().await?.is_empty());
    }
    glued.sink.catch_up().await?;
    glued.await_all_registered().await?;
    glued.assert_readers_find(200).await
}

#[tokio::test]
async fn a_glue_that_is_down_stops_no_data_and_is_caught_up_with() -> Result<()> {
    let glued = Glued::new(2).await?;
    let way = glued.lab.proxy(&glued.lab.ministack().endpoint).await?;
    // One attempt, and one that does not end: a commit that waits for Glue would wait for longer than this test does.
    let timeouts = json!({"attempt": "10m", "maxAttempts": 1});
    let glued = glued.with(json!({"glue": {"endpoint": way.endpoint(), "timeouts": timeouts}}));
    way.disable().await?;
    glued.topic.produce(orders(300, 4)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(300).await?;
    let down = |table: &Value| table["reason"] == json!("CatalogUnavailable");
    let told = await_table(&tidewater, "Glue told to be down", down).await?;
    assert_eq!(told["synced"], json!(false));
    assert!(!glued.has_table().await);
    way.enable().await?;
    glued.await_synced(&tidewater).await?;
    glued.await_all_registered().await?;

    // Again, with a table, by a Glue that takes requests and does not answer. Each of these rows is in a folder of its
    // own, and is committed before the next is sent.
    way.toxic("silence", "timeout", "downstream", json!({"timeout": 0}))
        .await?;
    for n in 0..10 {
        let values = json!({"order_id": n, "country": format!("Atlantis {n}"), "created_at": 0});
        glued.topic.produce(glued.send(&[values])).await?;
        glued.sink.await_rows(301 + n).await?;
    }
    let status = status(&tidewater).await?;
    assert_eq!(
        status["commit"]["consecutiveFailures"],
        json!(0),
        "{status}"
    );
    // What was asked is never answered; its connection ends.
    way.disable().await?;
    await_table(&tidewater, "the folders wait", |table| {
        table["partitionsWaiting"] == json!(10)
    })
    .await?;
    way.remove_toxic("silence").await?;
    way.enable().await?;
    glued.await_all_registered().await?;
    glued.await_synced(&tidewater).await?;
    glued.assert_readers_find(310).await
}

#[tokio::test]
async fn a_glue_that_throttles_loses_answers_or_lets_others_win_is_told_everything() -> Result<()> {
    let spoils = [
        (Spoil::Refuse("ConcurrentModificationException"), 3),
        (Spoil::Refuse("ThrottlingException"), 3),
        (Spoil::CutAfter, 1),
        (Spoil::FailAfter, 1),
    ];
    // Each mostly waits to try again.
    try_join_all(spoils.map(everything_is_told)).await?;
    Ok(())
}

async fn everything_is_told((spoil, count): (Spoil, u32)) -> Result<()> {
    let glued = Glued::new(1).await?;
    let way = Spoiler::start(&glued.lab.ministack().endpoint).await?;
    let mut glued = glued
        .alone()
        .with(json!({"glue": {"endpoint": way.endpoint()}}));
    let made = ["CreateDatabase", "CreateTable", "BatchCreatePartition"];
    for operation in made {
        way.spoil(operation, spoil, count);
    }
    glued.topic.produce(orders(100, 10)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(100).await?;
    glued
        .await_all_registered()
        .await
        .with_context(|| format!("{spoil:?}\n{}", tidewater.process().log_tail()))?;
    for operation in made {
        assert_eq!(way.spoilt(operation), count, "{operation} {spoil:?}");
    }
    glued.await_synced(&tidewater).await?;
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());

    glued
        .sink
        .change(json!({"metadataColumns": {"timestamp": "_timestamp"}}));
    for operation in [
        "UpdateTable",
        "BatchUpdatePartition",
        "BatchGetPartition",
        "GetTable",
    ] {
        way.spoil(operation, spoil, count);
    }
    let tidewater = glued.sink.start()?;
    await_until(PATIENCE, "the new column everywhere", async || {
        let columns = glued.columns().await?;
        let partitions = glued.partitions().await?;
        Ok(columns.contains(&"_timestamp timestamp".to_owned())
            && partitions.values().all(|(_, of)| *of == columns))
    })
    .await
    .with_context(|| format!("{spoil:?}\n{}", tidewater.process().log_tail()))?;
    assert_eq!(way.spoilt("UpdateTable"), count, "{spoil:?}");
    glued.await_synced(&tidewater).await?;
    glued
        .assert_readers_find(100)
        .await
        .with_context(|| format!("{spoil:?}"))?;
    Ok(())
}

#[tokio::test]
async fn a_batch_that_glue_refuses_is_registered_in_parts() -> Result<()> {
    // All folders are there before Glue is asked for any: one that is refused by itself waits for the next look.
    let mut glued = Glued::new(1).await?.with(json!({"glue": null}));
    glued.topic.produce(orders(100, 13)).await?;
    glued.sink.catch_up().await?;
    let way = Spoiler::start(&glued.lab.ministack().endpoint).await?;
    let refused = [("BatchGetPartition", 2), ("BatchCreatePartition", 1)];
    for (operation, times) in refused {
        way.spoil(operation, Spoil::Refuse("InvalidInputException"), times);
    }
    let glue = glue_spec(&glued.database, way.endpoint());
    glued.sink.change(json!({"glue": glue}));
    let _running = glued.sink.start()?;
    glued.await_all_registered().await?;
    for (operation, times) in refused {
        assert_eq!(way.spoilt(operation), times, "{operation}");
    }
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn a_table_that_somebody_drops_is_made_anew_with_all_its_partitions() -> Result<()> {
    let glued = Glued::new(1)
        .await?
        .with(json!({"glue": {"repairInterval": "1s"}}));
    glued.topic.produce(orders(100, 14)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(100).await?;
    glued.await_all_registered().await?;
    let request = glued.glue.delete_table().database_name(&glued.database);
    request.name("orders").send().await?;
    glued
        .await_all_registered()
        .await
        .with_context(|| tidewater.process().log_tail())?;
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn a_database_that_is_missing_is_waited_for_unless_it_is_to_be_made() -> Result<()> {
    let glued = Glued::new(1)
        .await?
        .with(json!({"glue": {"createDatabase": false}}));
    glued.topic.produce(orders(100, 11)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(100).await?;
    let missing = |table: &Value| table["reason"] == json!("CatalogDatabaseNotFound");
    await_table(&tidewater, "the missing database told", missing).await?;
    let database = DatabaseInput::builder().name(&glued.database).build()?;
    glued
        .glue
        .create_database()
        .database_input(database)
        .send()
        .await?;
    glued.await_synced(&tidewater).await?;
    glued.await_all_registered().await?;
    glued.assert_readers_find(100).await
}
