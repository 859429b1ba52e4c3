//! Who a topic is, told by the table: one that was deleted and made anew under its name is another, also when it has
//! grown past all that the table holds of its forerunner.

use super::*;

impl TableSink {
    /// Deletes the topic and makes another of its name, with more records.
    async fn recreate_topic(&self, records: u64) -> Result<()> {
        self.topic.delete().await?;
        Topic::create(self.lab.kafka(), self.topic.name(), 2).await?;
        self.produce(records, 2).await
    }

    /// It ends because of the topic's id, and names the choice.
    async fn assert_refused(&self) -> Result<()> {
        let error = self.fail().await?;
        ensure!(
            error.contains("topic id was") && error.contains("spec.source.onSourceReset"),
            "{error}"
        );
        Ok(())
    }
}

// T15
#[tokio::test]
async fn a_recreated_topic_that_outgrew_the_table_stops_the_sink_until_the_user_chooses()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    sink.recreate_topic(200).await?;
    sink.assert_refused().await?;
    assert_eq!(sink.count().await?, 100);

    let sink = sink.set("/source/onSourceReset", json!("Restart"));
    // The new topic from its start, and once: the choice is not made again.
    for _ in 0..2 {
        sink.catch_up().await?;
        let found = "count(*), count(DISTINCT (kafka_partition, kafka_offset))";
        assert_eq!(sink.select(found).await?, [[json!(300), json!(200)]]);
    }
    Ok(())
}

// T15, under a process that does not look while it happens.
#[tokio::test]
async fn a_topic_that_outgrew_its_forerunner_under_a_running_sink_does_not_reach_the_table()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    let sink = sink.set("/source/properties/session.timeout.ms", json!("45000"));
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    running.freeze();
    sink.recreate_topic(300).await?;
    running.thaw();
    let error = sink.end_in_failure(&running).await?;
    assert!(error.contains("spec.source.onSourceReset"), "{error}");
    assert_eq!(sink.count().await?, 100);
    Ok(())
}

// T15
#[tokio::test]
async fn a_table_from_before_topic_ids_takes_the_id_as_soon_as_it_is_seen() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    let key = sink.property("topic-ids");
    let ids = async || anyhow::Ok(sink.metadata().await?["properties"][&key].clone());
    let first = ids().await?;
    let known: BTreeMap<String, String> =
        serde_json::from_str(first.as_str().context("topic ids")?)?;
    assert_eq!(known.keys().collect::<Vec<_>>(), [sink.topic.name()]);
    sink.python(&format!(
        "table.transaction().remove_properties('{key}').commit_transaction()"
    ))
    .await?;
    assert_eq!(ids().await?, Value::Null);

    // No alarm, and no record has to come.
    sink.catch_up().await?;
    assert_eq!(ids().await?, first);
    assert_eq!(sink.count().await?, 100);
    sink.recreate_topic(200).await?;
    sink.assert_refused().await?;
    assert_eq!(sink.count().await?, 100);
    Ok(())
}
