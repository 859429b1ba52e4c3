//! The object store fails, answers too late, or forgets.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewater_e2e::{Lab, Record, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, ended, status};
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

// R1, R9
#[tokio::test]
async fn a_store_that_is_gone_for_longer_than_a_poll_may_take_costs_neither_membership_nor_rows()
-> Result<()> {
    const UP: u8 = 0;
    const NO_LEDGERS: u8 = 1;
    const DOWN: u8 = 2;
    let lab = Lab::shared().await?;
    let store = Arc::new(AtomicU8::new(UP));
    let choice = {
        let store = Arc::clone(&store);
        move |line: &str| match store.load(Ordering::SeqCst) {
            UP => false,
            NO_LEDGERS => line.contains("/_tidewater/"),
            _ => true,
        }
    };
    let busy = ("503 Service Unavailable", "ServiceUnavailable");
    let proxy = LostReplies::refusing(lab.s3().host(), busy, choice).await?;
    let topic = lab.topic("orders", 12).await?;
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .at(proxy.endpoint())
        .with(json!({"source": {"properties": {"max.poll.interval.ms": "8000"}}}));
    let tidewater = sink.start()?;
    let commit = async |field: &str| anyhow::Ok(status(&tidewater).await?["commit"][field].clone());
    topic.produce(orders(200, 1)).await?;
    sink.await_rows(200).await?;

    // Files go up, and none can be committed: every partition's commit fails once, a minute later.
    store.store(NO_LEDGERS, Ordering::SeqCst);
    topic.produce(orders(300, 2)).await?;
    await_until(2 * PATIENCE, "a failure of each partition", async || {
        Ok(commit("outcomes").await?["failed"].as_u64() >= Some(12))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    assert_eq!(commit("lastErrorReason").await?, "StoreUnavailable");
    store.store(UP, Ordering::SeqCst);
    sink.await_rows(500)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    await_until(PATIENCE, "no failure left", async || {
        Ok(commit("consecutiveFailures").await? == json!(0))
    })
    .await?;

    // Nothing goes up: what was read is kept, and tried on.
    store.store(DOWN, Ordering::SeqCst);
    topic.produce(orders(250, 3)).await?;
    await_until(PATIENCE, "uploads that do not get on", async || {
        Ok(commit("consecutiveFailures").await?.as_u64() > Some(0))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    assert_eq!(commit("lastErrorReason").await?, "StoreUnavailable");
    store.store(UP, Ordering::SeqCst);
    sink.await_rows(750)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    let log = tidewater.process().log();
    assert_eq!(log.matches("\"assigned\"").count(), 1, "{log}");
    for word in ["\"revoked\"", "\"lost\"", "read again"] {
        assert!(!log.contains(word), "{log}");
    }
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());
    sink.assert_once(750).await
}

#[tokio::test]
async fn an_upload_that_the_store_denies_stops_the_sink_with_the_stores_own_reason() -> Result<()> {
    let lab = Lab::shared().await?;
    let denied = ("403 Forbidden", "AccessDenied");
    let begins = |line: &str| line.starts_with("POST") && line.contains("?uploads");
    let proxy = LostReplies::refusing(lab.s3().host(), denied, begins).await?;
    let topic = lab.topic("orders", 2).await?;
    // With files that stay open: nobody reads for an hour what cannot be written.
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .at(proxy.endpoint())
        .with(json!({
            "rotation": {"maxOpen": "1h"},
            "output": {"compression": "None", "dictionary": false, "rowGroupSize": "1Mi"},
            "destination": {"s3": {"partSize": "5Mi"}},
        }));
    topic.produce(orders(120_000, 1)).await?;
    let ended = ended(&sink.start()?).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    let named = ended.log.contains("AccessDenied") && ended.log.contains("check the credentials");
    assert!(named, "{}", ended.log);
    assert!(!ended.log.contains("read again"), "{}", ended.log);
    ensure!(sink.count().await? == (0, 0) && proxy.lost() > 0);
    Ok(())
}

#[tokio::test]
async fn a_sink_stopped_under_load_leaves_nothing_pending_and_its_last_files_to_compaction()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 3).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let to = |partition: i32, n: u64| {
        orders(n, n).map(move |record| Record {
            partition,
            ..record
        })
    };
    let tidewater = sink.start()?;
    topic.produce(to(2, 70)).await?;
    sink.await_rows(70).await?;
    // One partition is quiet, the others are busy until the end and beyond.
    let stopped = AtomicBool::new(false);
    let feeding = async {
        let mut rows = 70;
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        while !stopped.load(Ordering::SeqCst) {
            beat.tick().await;
            topic.produce(to(0, 13).chain(to(1, 5))).await?;
            rows += 18;
        }
        anyhow::Ok(rows)
    };
    let stopping = async {
        let stop = async {
            await_until(PATIENCE, "the quiet partition settled", async || {
                Ok(sink.pending().await?.get(&2) == Some(&0))
            })
            .await?;
            sink.await_rows(300).await?;
            tidewater.sigterm();
            ensure!(tidewater.wait_exit(PATIENCE).await?.success());
            Ok(())
        };
        let stop: Result<()> = stop.await;
        stopped.store(true, Ordering::SeqCst);
        stop
    };
    let (rows, stop) = tokio::join!(feeding, stopping);
    let rows = rows?;
    stop.with_context(|| tidewater.process().log_tail())?;
    let pending = sink.pending().await?;
    assert_eq!(pending, BTreeMap::from([(0, 0), (1, 0), (2, 0)]));

    // What compaction does: one file in the place of all.
    let small = sink.files().await?;
    let merged = format!("{}/merged/all.parquet", sink.location());
    let (table, duckdb) = (sink.table(), sink.duckdb().await?);
    let copy = format!("COPY (SELECT * FROM {table}) TO '{merged}' (FORMAT parquet)");
    duckdb.query(&copy).await?;
    let held = sink.count().await?.1;
    for key in small {
        let request = sink.s3().delete_object().bucket(sink.bucket());
        request.key(key).send().await?;
    }
    ensure!(sink.count().await? == (held, held), "compaction lost rows");
    sink.catch_up().await?;
    let found = sink.count().await?;
    ensure!(found == (rows, rows), "{rows} rows, found {found:?}");
    Ok(())
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
