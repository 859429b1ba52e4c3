//! The files get other columns.

use super::*;

#[tokio::test]
async fn columns_follow_the_records_and_partitions_follow_the_table() -> Result<()> {
    let inferred = json!({"value": {"schema": null, "infer": {"sampleRecords": 1}}});
    let glued = Glued::new(1).await?.with(inferred);
    let first = json!({"id": 1, "country": "ES", "amount": 7});
    glued.topic.produce(glued.send(&[first])).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(1).await?;
    glued.await_all_registered().await?;
    let before = glued.columns().await?;
    assert!(before.contains(&"amount bigint".to_owned()), "{before:?}");

    let second =
        json!({"id": 2, "country": "FR", "amount": 8, "note": "new", "address": {"city": "Vigo"}});
    glued.topic.produce(glued.send(&[second])).await?;
    glued.sink.await_rows(2).await?;
    glued.await_all_registered().await?;
    let after = glued.columns().await?;
    assert_eq!(after[..before.len()], before);
    let new: BTreeSet<&str> = after[before.len()..].iter().map(String::as_str).collect();
    assert_eq!(
        new,
        BTreeSet::from(["address struct<city:string>", "note string"])
    );
    // The old partition may get files with the new columns at any time.
    await_until(PATIENCE, "columns of old partitions", async || {
        let partitions = glued.partitions().await?;
        Ok(partitions.values().all(|(_, columns)| *columns == after))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    glued.await_synced(&tidewater).await?;
    Ok(())
}

#[tokio::test]
async fn columns_of_a_changed_resource_are_added_and_a_policy_against_it_is_told() -> Result<()> {
    let glued = Glued::new(1).await?;
    glued.topic.produce(orders(100, 5)).await?;
    glued.sink.catch_up().await?;
    let before = glued.columns().await?;
    let strict = json!({"glue": {"evolution": {"addColumns": false}},
        "metadataColumns": {"timestamp": "_timestamp"}});
    let mut glued = glued.with(strict);
    let tidewater = glued.sink.start()?;
    let refused = |table: &Value| table["reason"] == json!("TableDiffers");
    let told = await_table(&tidewater, "a difference", refused).await?;
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("_timestamp") && message.contains("evolution.addColumns"),
        "{message}"
    );
    assert_eq!(glued.columns().await?, before);
    tidewater.kill9();

    glued
        .sink
        .change(json!({"glue": {"evolution": {"addColumns": true}}}));
    glued.sink.catch_up().await?;
    let after = glued.columns().await?;
    assert_eq!(
        after,
        [before, vec!["_timestamp timestamp".to_owned()]].concat()
    );
    let partitions = glued.partitions().await?;
    assert!(
        partitions.values().all(|(_, columns)| *columns == after),
        "{partitions:?}"
    );
    Ok(())
}
