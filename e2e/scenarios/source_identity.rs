//! Who a topic is. One that was deleted and made anew under its name is another, also when it has grown past all that
//! the dataset holds of its forerunner.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Topic, orders};

use crate::dataset_sink::{DatasetSink, ended};

/// Deletes the topic and makes another of its name, with more records.
async fn recreate(topic: &Topic, lab: &Lab, records: u64) -> Result<()> {
    topic.delete().await?;
    Topic::create(lab.kafka(), topic.name(), 1).await?;
    topic.produce(orders(records, 2)).await
}

/// It ended because of the topic's id, and named the choice.
async fn assert_refused(sink: &DatasetSink) -> Result<()> {
    let refused = sink.run_to_the_end(&[]).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
    for part in ["topic id was", "spec.source.onSourceReset"] {
        assert!(refused.log.contains(part), "{part}: {}", refused.log);
    }
    Ok(())
}

// T15
#[tokio::test]
async fn a_recreated_topic_that_outgrew_the_dataset_stops_it_until_the_user_chooses() -> Result<()>
{
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let mut sink = DatasetSink::of(lab, &topic).await?;
    sink.catch_up().await?;
    recreate(&topic, lab, 150).await?;
    assert_refused(&sink).await?;
    assert_eq!(sink.count().await?, (100, 100));

    sink.change(json!({"source": {"onSourceReset": "Restart"}}));
    // The new topic's offsets from its start, and once: the choice is not made again.
    for _ in 0..2 {
        sink.catch_up().await?;
        assert_eq!(sink.count().await?, (250, 150));
    }
    Ok(())
}

// T15, under a process that does not look while it happens.
#[tokio::test]
async fn a_topic_that_outgrew_its_forerunner_under_a_running_sink_is_not_mixed_with_it()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({"source": {
        "properties": {"session.timeout.ms": "45000"},
    }}));
    let tidewater = sink.start()?;
    sink.await_rows(100).await?;
    tidewater.freeze();
    recreate(&topic, lab, 300).await?;
    tidewater.thaw();
    let ended = ended(&tidewater).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("spec.source.onSourceReset"),
        "{}",
        ended.log
    );
    assert_eq!(sink.count().await?, (100, 100));
    Ok(())
}

// T15
#[tokio::test]
async fn a_ledger_from_before_topic_ids_takes_the_id_as_soon_as_it_is_seen() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.local();
    sink.catch_up().await?;
    let ledger: PathBuf = [
        &sink.location(),
        "_tidewater",
        &sink.id(),
        topic.name(),
        "0.json",
    ]
    .iter()
    .collect();
    let read = || -> Result<Value> { Ok(serde_json::from_slice(&fs::read(&ledger)?)?) };
    let mut document = read()?;
    let id = document["topicId"].clone();
    assert_eq!(id.as_str().context("an id")?.len(), 22);
    document["topicId"] = Value::Null;
    fs::write(&ledger, document.to_string())?;

    // No alarm, and no record has to come.
    sink.catch_up().await?;
    assert_eq!(read()?["topicId"], id);
    assert_eq!(read()?["next"], json!(100));
    recreate(&topic, lab, 150).await?;
    assert_refused(&sink).await?;
    assert_eq!(sink.count().await?, (100, 100));
    Ok(())
}
