//! Partitions fail alone: what the brokers do not tell of one holds up no other.

use anyhow::Result;
use serde_json::{Value, json};
use tidewater_e2e::{KafkaServer, Lab, Topic, await_until, delete_group, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, await_log, await_status, ended, status, stop};

// R6: one of two brokers is down when the sink starts, and while another process joins it.
#[tokio::test]
async fn partitions_of_a_broker_that_is_gone_wait_by_themselves_and_the_others_flow() -> Result<()>
{
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?;
    let first = Box::pin(KafkaServer::start_with(
        &folder.join("first"),
        KafkaServer::SOON_MISSED,
    ))
    .await?;
    // Whoever is alone leads the groups.
    let alone = Topic::create(first.bootstrap(), "alone", 1).await?;
    alone.commit_group("anybody", &[(0, 0)]).await?;
    let second = Box::pin(first.join(&folder.join("second"), 2, KafkaServer::SOON_MISSED)).await?;
    let topic = Topic::create_on(first.bootstrap(), "orders", &[1, 1, 1, 2, 2, 2]).await?;
    let doomed = Topic::create_on(first.bootstrap(), "orders-doomed", &[2]).await?;
    topic.produce(orders(600, 1)).await?;
    second.kill();

    let sink = DatasetSink::of(lab, &topic).await?.with(json!({"source": {
        "bootstrapServers": first.bootstrap(),
        "topics": Value::Null, "topicPattern": "orders.*",
    }}));
    let tidewater = sink.start()?;
    sink.await_rows(300).await?;
    let waiting = ["orders-3", "orders-4", "orders-5", "orders-doomed-0"];
    await_status(&tidewater, "those that wait are named", |status| {
        waiting.iter().all(|tp| {
            let waits = &status["partitions"][tp]["waits"];
            waits["message"]
                .as_str()
                .is_some_and(|why| why.contains("has no leader"))
        })
    })
    .await?;
    let now = status(&tidewater).await?;
    assert_eq!(now["lagRecords"], Value::Null, "{now}");
    assert_eq!(
        now["commit"]["lastErrorReason"],
        json!("SourceUnreachable"),
        "{now}"
    );
    assert_eq!(now["partitions"]["orders-0"]["waits"], Value::Null, "{now}");

    // One that is deleted meanwhile is nobody's any more.
    doomed.delete().await?;
    await_status(&tidewater, "the deleted one is gone", |status| {
        status["partitions"].get("orders-doomed-0").is_none()
    })
    .await?;
    // They are handed over like any others. The records go to the three that have a leader.
    let another = sink.start()?;
    await_log(another.process(), "\"message\":\"assigned\"").await?;
    topic.produce(orders(300, 2)).await?;
    sink.await_rows(600).await?;

    second.restart().await?;
    sink.await_rows(900).await?;
    await_status(&tidewater, "nobody waits", |status| {
        let partitions = status["partitions"].as_object();
        partitions.is_some_and(|all| all.values().all(|p| p["waits"].is_null()))
    })
    .await?;
    stop(&another).await?;
    stop(&tidewater).await?;
    sink.assert_once(900).await
}

// R8
#[tokio::test]
async fn a_run_to_the_end_that_loses_its_session_on_the_way_still_reads_to_the_end() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(orders(30_000, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let run = sink.start_to_the_end()?;
    await_log(run.process(), "\"message\":\"assigned\"").await?;
    run.freeze();
    // That a group can be deleted says that its last member is taken for dead.
    await_until(PATIENCE, "the session is over", async || {
        let deleted = delete_group(lab.kafka(), &sink.group()).await;
        Ok(deleted.is_ok())
    })
    .await?;
    run.thaw();
    let ended = ended(&run).await?;
    assert!(ended.status.success(), "{}", ended.log);
    sink.assert_once(30_000).await
}
