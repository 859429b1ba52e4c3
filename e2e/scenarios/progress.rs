//! Progress is the ledger's: whatever group offsets say, whoever wakes late, and however full the way there is.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Outcome, Record, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, await_fenced, await_status, status, stop};
use crate::memory::peak_of;

// T7
#[tokio::test]
async fn a_zombies_old_offsets_cost_nothing_when_retention_has_passed_them() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    topic.produce(orders(100, 1)).await?;
    sink.catch_up().await?;
    topic.produce(orders(200, 2)).await?;
    let held = [topic.offsets(0).await?.1, topic.offsets(1).await?.1];
    let zombie = sink.start_with(&[("TIDEWATER_FAILPOINT", "dataset.before-cas!stop")])?;
    zombie.await_stopped(PATIENCE).await?;
    assert_eq!(sink.count().await?, (100, 100));

    let heir = sink.start()?;
    sink.await_rows(300)
        .await
        .with_context(|| heir.process().log_tail())?;
    topic.produce(orders(100, 3)).await?;
    sink.await_rows(400).await?;
    stop(&heir).await?;
    for (partition, end) in (0..).zip(held) {
        topic.delete_records(partition, end + 5).await?;
    }
    // It has records in hand that are in the dataset and not in the topic any more.
    zombie.thaw();
    await_fenced(&zombie).await?;
    topic.produce(orders(100, 4)).await?;
    sink.await_rows(500)
        .await
        .with_context(|| zombie.process().log_tail())?;
    stop(&zombie).await?;
    assert_eq!(sink.count().await?, (500, 500));

    // What a zombie of another make would do: the group is back where the log is no more.
    topic
        .commit_group(&sink.group(), &[(0, 50), (1, 10)])
        .await?;
    topic.produce(orders(100, 5)).await?;
    sink.catch_up().await?;
    sink.assert_once(600).await
}

// R11
#[tokio::test]
async fn a_group_ahead_of_the_dataset_or_behind_it_changes_nothing() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let mut sink = DatasetSink::of(lab, &topic).await?;
    let mut rows = 0;
    for (mode, ahead) in [
        ("Earliest", true),
        ("GroupOffsets", true),
        ("Latest", false),
    ] {
        topic.produce(orders(100, 1)).await?;
        sink.catch_up().await?;
        topic.produce(orders(100, 2)).await?;
        let ends = [topic.offsets(0).await?.1, topic.offsets(1).await?.1];
        rows += 200;
        assert_eq!(ends[0] + ends[1], rows);
        let end = ends[0];
        let at = if ahead { ends } else { [3, 1] };
        topic
            .commit_group(&sink.group(), &[(0, at[0]), (1, at[1])])
            .await?;
        sink.change(json!({"source": {"startup": {"mode": mode}}}));
        sink.catch_up().await?;
        sink.assert_once(rows).await.context(mode)?;
        assert_eq!(
            topic.committed(&sink.group(), 0).await?,
            Some(end),
            "{mode}"
        );
    }
    Ok(())
}

// R11
#[tokio::test]
async fn offsets_advance_over_records_that_leave_no_row() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let tidewater = sink.start()?;
    topic.produce(orders(50, 1)).await?;
    sink.await_rows(50).await?;
    // 40 records that never were and the marker that says so; then nothing at all.
    topic.transaction(orders(40, 2), Outcome::Abort).await?;
    let end = 91;
    await_until(PATIENCE, "the transaction's marker", async || {
        Ok(topic.offsets(0).await?.1 == end)
    })
    .await?;
    await_until(PATIENCE, "the group at the log's end", async || {
        Ok(topic.committed(&sink.group(), 0).await? == Some(end))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    stop(&tidewater).await?;
    // They are the dataset's progress too: retention may take them, and nothing is missed.
    topic.delete_records(0, end).await?;
    topic.produce(orders(10, 3)).await?;
    sink.catch_up().await?;
    assert_eq!(sink.count().await?, (60, 60));
    let answer = sink.command("verify").await?;
    assert_eq!(answer.code, Some(0), "{}", answer.stdout);
    Ok(())
}

/// Customers of 2 KiB that hardly compress.
fn bulky(n: u64, seed: u64) -> impl Iterator<Item = Record> + Send {
    orders(n, seed).map(|mut record| {
        let mut order: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let noise = (0..2048).map(|_| char::from(rand::random_range(b'0'..=b'z')));
        order["customer"] = json!(noise.collect::<String>());
        record.value = Some(order.to_string().into_bytes());
        record
    })
}

// R2
#[tokio::test]
async fn a_store_that_does_not_answer_stops_reading_before_memory_is_full_and_health_tells()
-> Result<()> {
    const RECORDS: i64 = 40_000;
    const BUDGET: u64 = 32 << 20;
    // Files close after a second.
    const STALLED_AFTER: (&str, &str) = ("TIDEWATER_STALLED_AFTER", "2");
    const BOUND: Duration = Duration::from_secs(3);
    let lab = Lab::shared().await?;
    let proxy = lab.proxy(lab.s3().host()).await?;
    let topic = lab.topic("orders", 2).await?;
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .through(&proxy)
        .with(json!({
            "pod": {"memoryBudget": "32Mi"},
            "destination": {"s3": {"partSize": "5Mi", "uploadConcurrency": 2, "timeouts": {"attempt": "10m"}}},
        }));
    let tidewater = sink.start_with(&[STALLED_AFTER])?;
    topic.produce(orders(100, 1)).await?;
    sink.await_rows(100)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    await_status(&tidewater, "no lag", |status| status["lagRecords"] == 0).await?;
    let idle = Instant::now();
    let bulky: Vec<Record> = bulky(RECORDS as u64, 2).collect();
    await_until(PATIENCE, "idle for longer than the bound", async || {
        let (health, said) = tidewater.http_get("/healthz").await?;
        assert_eq!(health, 200, "nothing to do is no illness: {said}");
        Ok(idle.elapsed() > BOUND + Duration::from_secs(1))
    })
    .await?;
    let pid = tidewater.process().pid().context("it runs")?;
    let without = peak_of(pid)?;
    // The store takes requests and does not answer.
    proxy
        .toxic("silence", "timeout", "downstream", json!({"timeout": 0}))
        .await?;
    topic.produce(bulky).await?;

    // Far more waits than fits. It stands still, and stays so.
    let seen = RefCell::new((0, 0));
    await_until(PATIENCE, "reading to stand still", async || {
        let now = status(&tidewater).await?["records"].as_i64();
        let now = now.context("records")?;
        let mut seen = seen.borrow_mut();
        *seen = if seen.0 == now {
            (now, seen.1 + 1)
        } else {
            (now, 0)
        };
        Ok(now > 100 && seen.1 >= 20)
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    let (read, _) = *seen.borrow();
    // A customer of 75 kinds of letters compresses to four fifths, and nothing smaller is held.
    let held = read * 2048 * 4 / 5;
    assert!(
        held <= BUDGET as i64,
        "{read} records of 2 KiB were read with nowhere to go but 32 MiB"
    );
    let held = peak_of(pid)? - without;
    // What an allocator and more threads need comes on top.
    assert!(
        held <= BUDGET + BUDGET / 2,
        "{} MiB of memory more than without records, and a budget of 32 MiB",
        held >> 20
    );
    // Lag is known, and nothing moves: a restart may be what mends it.
    await_until(PATIENCE, "health to tell", async || {
        Ok(tidewater.http_get("/healthz").await?.0 == 503)
    })
    .await?;
    let (_, said) = tidewater.http_get("/healthz").await?;
    let told = said.contains("records wait, and nothing has moved for ");
    assert!(told && said.contains(&sink.id()), "{said}");
    let (_, metrics) = tidewater.http_get("/metrics").await?;
    let gauge = |name: &str| -> Result<f64> {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next());
        Ok(value
            .with_context(|| format!("{name}: {metrics}"))?
            .parse()?)
    };
    let used = gauge("tidewater_memory_used_bytes{")?;
    let budget = gauge("tidewater_memory_budget_bytes{")?;
    assert!(used <= budget, "{used} of {budget}");

    proxy.remove_toxic("silence").await?;
    sink.await_rows(RECORDS + 100)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    let (health, said) = tidewater.http_get("/healthz").await?;
    assert_eq!(health, 200, "it got on: {said}");
    stop(&tidewater).await?;
    sink.assert_once(RECORDS + 100).await
}
