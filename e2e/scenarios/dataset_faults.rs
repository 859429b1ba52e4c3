//! The object store fails, answers too late, or forgets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use tidewater_e2e::{Lab, Topic, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, status};
use crate::lost_replies::LostReplies;

// T2
#[tokio::test]
async fn replies_lost_at_every_kind_of_call_leave_every_record_there_once() -> Result<()> {
    let lab = Lab::shared().await?;
    let kinds = [
        ("a ledger", "PUT", "/_tidewater/default"),
        ("a new upload", "POST", "?uploads"),
        ("a part", "PUT", "partNumber="),
        ("a completion", "POST", "?uploadId="),
    ];
    for (what, method, part) in kinds {
        // Of each such request that is tried again, the first answer is lost.
        let seen = Mutex::new(HashMap::<String, u32>::new());
        let choice = move |line: &str| {
            if !line.starts_with(method) || !line.contains(part) {
                return false;
            }
            let path = line.split(' ').nth(1).unwrap_or_default();
            let times = &mut *seen.lock().unwrap();
            let times = times.entry(path.to_owned()).or_default();
            *times += 1;
            *times % 2 == 1
        };
        let proxy = LostReplies::before(lab.s3().host(), choice).await?;
        let topic = lab.topic("orders", 2).await?;
        let sink = DatasetSink::of(lab, &topic).await?.with(json!({
            "partitioning": [{"column": "status"}],
            "rotation": {"maxOpen": "300ms"},
            "destination": {"s3": {"endpoint": proxy.endpoint(), "timeouts": {"attempt": "5s"}}},
        }));
        let tidewater = sink.start()?;
        for seed in 0..3 {
            topic.produce(orders(200, seed)).await?;
            sink.await_rows((seed as i64 + 1) * 200)
                .await
                .with_context(|| format!("{what}: {}", tidewater.process().log_tail()))?;
        }
        tidewater.sigterm();
        ensure!(tidewater.wait_exit(PATIENCE).await?.success());
        sink.assert_once(600).await.context(what)?;
        ensure!(proxy.lost() > 2, "{what}: {} answers lost", proxy.lost());
    }
    Ok(())
}

/// Waits until a member of the same settings that does not poll any more is thrown out of its group.
async fn outlast_a_poll(lab: &Lab, topic: &Topic, poll_interval_ms: &str) -> Result<()> {
    let group = lab.unique("idler");
    let idler: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", lab.kafka())
        .set("group.id", &group)
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500")
        .set("max.poll.interval.ms", poll_interval_ms)
        .create()?;
    idler.subscribe(&[topic.name()])?;
    let idler = Arc::new(idler);
    // Both calls block.
    let ask = async |what: fn(&BaseConsumer, &str) -> Result<bool>| {
        let (idler, group) = (Arc::clone(&idler), group.clone());
        tokio::task::spawn_blocking(move || what(&idler, &group)).await?
    };
    await_until(PATIENCE, "a partition for the idler", async || {
        ask(|idler, _| {
            idler.poll(Duration::from_millis(100));
            Ok(idler.assignment()?.count() > 0)
        })
        .await
    })
    .await?;
    await_until(PATIENCE, "the idler thrown out", async || {
        ask(|idler, group| {
            let groups = idler.fetch_group_list(Some(group), Duration::from_secs(5))?;
            Ok(groups
                .groups()
                .iter()
                .all(|found| found.members().is_empty()))
        })
        .await
    })
    .await
}

// R1, R9
#[tokio::test]
async fn a_store_that_is_gone_for_longer_than_a_poll_may_take_costs_neither_membership_nor_rows()
-> Result<()> {
    let lab = Lab::shared().await?;
    let proxy = lab.proxy(lab.s3().host()).await?;
    let topic = lab.topic("orders", 2).await?;
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .through(&proxy)
        .with(json!({
            "source": {"properties": {"max.poll.interval.ms": "8000"}},
            "destination": {"s3": {"timeouts": {"connect": "1s", "attempt": "2s", "maxAttempts": 2}}},
            // Nobody restarts it here.
            "commit": {"maxConsecutiveFailures": 1000},
        }));
    let tidewater = sink.start()?;
    topic.produce(orders(200, 1)).await?;
    sink.await_rows(200).await?;

    proxy.disable().await?;
    topic.produce(orders(300, 2)).await?;
    await_until(PATIENCE, "a commit that fails", async || {
        let now = status(&tidewater).await?;
        Ok(now["commit"]["consecutiveFailures"].as_u64() > Some(0))
    })
    .await?;
    // Whoever polled last before that commit has now been without a poll for too long, and without a heartbeat, too.
    outlast_a_poll(lab, &topic, "8000").await?;
    let log = tidewater.process().log();
    assert_eq!(log.matches("\"assigned\"").count(), 1, "{log}");
    assert!(
        !log.contains("\"revoked\"") && !log.contains("\"lost\""),
        "{log}"
    );
    proxy.enable().await?;
    sink.await_rows(500)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    let log = tidewater.process().log();
    assert_eq!(log.matches("\"assigned\"").count(), 1, "{log}");
    assert!(
        !log.contains("\"revoked\"") && !log.contains("\"lost\""),
        "{log}"
    );
    let now = status(&tidewater).await?;
    assert_eq!(now["commit"]["consecutiveFailures"], json!(0), "{now}");
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());
    sink.assert_once(500).await
}

// R4
#[tokio::test]
async fn a_process_told_to_stop_while_the_store_is_gone_ends_and_leaves_its_records_to_the_next()
-> Result<()> {
    let lab = Lab::shared().await?;
    let proxy = lab.proxy(lab.s3().host()).await?;
    let topic = lab.topic("orders", 2).await?;
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .through(&proxy)
        .with(json!({
            // Half the session timeout, by default.
            "source": {"drainTimeout": null},
            "destination": {"s3": {"timeouts": {"connect": "1s", "attempt": "2s"}}},
            "commit": {"maxConsecutiveFailures": 1000},
        }));
    let tidewater = sink.start()?;
    topic.produce(orders(200, 1)).await?;
    sink.await_rows(200).await?;
    let ends = [topic.offsets(0).await?.1, topic.offsets(1).await?.1];
    proxy.disable().await?;
    topic.produce(orders(300, 2)).await?;
    await_until(PATIENCE, "the records read", async || {
        Ok(status(&tidewater).await?["records"].as_u64() >= Some(500))
    })
    .await?;
    tidewater.sigterm();
    // With its work undone, which is no failure of its own.
    let log = || tidewater.process().log_tail();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success(), "{}", log());
    for (partition, end) in (0..).zip(ends) {
        assert_eq!(topic.committed(&sink.group(), partition).await?, Some(end));
    }
    proxy.enable().await?;
    sink.catch_up().await?;
    sink.assert_once(500).await
}

// T24
#[tokio::test]
async fn uploads_aborted_under_the_writer_are_written_again() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    // Files are closed when this test says so, by the number of records.
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "rotation": {"maxOpen": "1h", "maxRecords": 60_000},
        "source": {"batchRecords": 5000},
        "output": {"compression": "None", "dictionary": false, "rowGroupSize": "1Mi"},
        "destination": {"s3": {"partSize": "5Mi"}},
    }));
    let tidewater = sink.start()?;
    topic.produce(orders(59_000, 1)).await?;
    // A part has gone up, so the upload is open.
    await_until(PATIENCE, "an upload to abort", async || {
        Ok(sink.abort_uploads(0).await? > 0)
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    topic.produce(orders(2000, 2)).await?;
    sink.await_rows(60_000)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());
    sink.catch_up().await?;
    sink.assert_once(61_000).await
}

// T24: between the commit in the ledger and the moment the files become visible.
#[tokio::test]
async fn files_that_a_ledger_names_and_nobody_has_are_written_again() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let rules = json!({"partitioning": [{"column": "status"}], "rotation": {"maxOpen": "300ms"}});
    let sink = DatasetSink::of(lab, &topic).await?.with(rules).alone();
    topic.produce(orders(200, 1)).await?;
    sink.die_at("dataset.after-cas").await?;
    // The one that is left becomes visible, and has to go again.
    ensure!(sink.abort_uploads(1).await? > 0, "nothing was staged");
    topic.produce(orders(100, 2)).await?;
    sink.catch_up().await?;
    sink.assert_once(300).await
}
