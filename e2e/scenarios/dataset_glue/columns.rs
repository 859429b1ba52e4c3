//! The files get other columns.

use serde_json::Map;

use super::*;
use crate::dataset_sink::{await_status, stop};

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

/// Each process knows what its own partition holds, and the table has to know it all.
#[tokio::test]
async fn columns_that_three_processes_find_apart_are_all_in_the_table() -> Result<()> {
    let inferred = json!({"value": {"schema": null, "infer": {"sampleRecords": 1}}});
    let glued = Glued::new(3).await?.with(inferred);
    let processes = [
        glued.sink.start()?,
        glued.sink.start()?,
        glued.sink.start()?,
    ];
    for process in &processes {
        let owns_one = |status: &Value| status["partitions"].as_object().map(Map::len) == Some(1);
        await_status(process, "one partition", owns_one).await?;
    }
    // Columns of the same type; each value names its own. The first records of all are met at once, and once more.
    let mut wanted = BTreeSet::new();
    for round in 0..2 {
        let mut records = Vec::new();
        for partition in 0..3 {
            let column = format!("only_{partition}_{round}");
            let value = json!({"country": "ES", column.as_str(): format!("of {column}")});
            let of_partition = glued.send(&[value]).into_iter();
            records.extend(of_partition.map(|record| Record {
                partition,
                ..record
            }));
            wanted.insert(format!("{column} string"));
        }
        glued.topic.produce(records).await?;
        glued.sink.await_rows(3 * (round + 1)).await?;
    }
    await_until(PATIENCE, "every column in the table", async || {
        let columns = glued.columns().await?;
        let known = |column: &String| columns.contains(column);
        Ok(wanted.iter().all(known))
    })
    .await?;
    glued.await_all_registered().await?;
    for process in &processes {
        glued.await_synced(process).await?;
        stop(process).await?;
    }
    let described: BTreeSet<String> = glued.columns().await?.into_iter().collect();
    let found = described.iter().filter(|column| !column.starts_with('_'));
    assert_eq!(found.cloned().collect::<BTreeSet<_>>(), wanted);
    glued.sink.assert_once(6).await
}
