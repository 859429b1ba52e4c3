//! Processes that share a group: what they hand over, and what becomes of one that is late.

use super::*;

// T18
#[tokio::test]
async fn a_process_that_wakes_after_another_took_over_changes_nothing() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 4).await?;
    topic.produce(orders(200, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    // It stands before the write that is its commit, its files staged.
    let sleeper = sink.start_with(&[("TIDEWATER_FAILPOINT", "dataset.before-cas!stop")])?;
    sleeper.await_stopped(PATIENCE).await?;
    assert_eq!(sink.count().await?, (0, 0));
    let staged = sink.uploads().await?;
    assert!(!staged.is_empty(), "it holds nothing");
    for partition in 0..4 {
        let told = topic.committed(&sink.group(), partition).await?;
        assert!(told.is_none_or(|told| told == 0), "{partition}: {told:?}");
    }

    let heir = sink.start()?;
    sink.await_rows(200)
        .await
        .with_context(|| heir.process().log_tail())?;
    sleeper.thaw();
    await_fenced(&sleeper).await?;
    topic.produce(orders(100, 2)).await?;
    sink.await_rows(300).await?;
    // It is of use again.
    await_partitions(&sleeper, 2).await?;
    topic.produce(orders(100, 3)).await?;
    sink.await_rows(400).await?;
    stop(&sleeper).await?;
    stop(&heir).await?;
    sink.assert_once(400).await?;
    // What it had staged is of no use to anybody.
    assert_eq!(sink.uploads().await?, BTreeSet::new());
    Ok(())
}

// R4
#[tokio::test]
async fn what_is_read_is_committed_before_the_process_leaves() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(orders(100, 1)).await?;
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .with(json!({"rotation": {"maxOpen": "1h"}}));
    let tidewater = sink.start()?;
    await_status(&tidewater, "records read", |status| {
        status["records"] == json!(100)
    })
    .await?;
    assert_eq!(sink.count().await?, (0, 0));
    stop(&tidewater).await?;
    sink.assert_once(100).await
}

// R6, R8
#[tokio::test]
async fn partitions_are_handed_over_committed_and_nothing_is_read_twice() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 4).await?;
    topic.produce(orders(200, 1)).await?;
    let sink = DatasetSink::of(lab, &topic)
        .await?
        .with(json!({"rotation": {"maxOpen": "1h"}}));
    let first = sink.start()?;
    await_status(&first, "records read", |status| {
        status["records"] == json!(200)
    })
    .await?;
    let lags = async |tidewater: &Tidewater| {
        let (_, metrics) = tidewater.http_get("/metrics").await?;
        let series = metrics
            .lines()
            .filter(|line| line.starts_with("tidewater_partition_lag_records{"));
        anyhow::Ok(series.count())
    };
    assert_eq!(lags(&first).await?, 4);

    let second = sink.start()?;
    await_partitions(&second, 2).await?;
    await_partitions(&first, 2).await?;
    assert_eq!(
        lags(&first).await?,
        2,
        "series of partitions that were given away"
    );
    let whole = format!(
        "SELECT _partition, count(*), max(_offset) + 1 FROM {} GROUP BY ALL",
        sink.table()
    );
    let given = sink.duckdb().await?.query(&whole).await?;
    assert_eq!(
        given.len(),
        2,
        "two partitions in the middle of their interval: {given:?}"
    );
    for row in given {
        let partition = i32::try_from(row[0].as_i64().context("a partition")?)?;
        let (_, end) = topic.offsets(partition).await?;
        assert_eq!(row[1..], [json!(end), json!(end)], "{partition}");
    }
    stop(&second).await?;
    await_partitions(&first, 4).await?;
    stop(&first).await?;
    // Only the second would have read again what the first had read.
    assert_eq!(read_by(&second), Some(0));
    sink.assert_once(200).await
}

// R5
#[tokio::test]
async fn the_file_of_a_quiet_partition_closes_by_time() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let tidewater = sink.start()?;
    await_partitions(&tidewater, 2).await?;
    topic
        .produce(orders(1, 1).map(|record| Record {
            partition: 1,
            ..record
        }))
        .await?;
    let quiet = format!("SELECT count(*) FROM {} WHERE _partition = 1", sink.table());
    // The other one never rests.
    await_until(PATIENCE, "the lone record", async || {
        topic
            .produce(orders(20, 2).map(|record| Record {
                partition: 0,
                ..record
            }))
            .await?;
        Ok(sink.duckdb().await?.value(&quiet).await? == json!(1))
    })
    .await?;
    stop(&tidewater).await
}

// R7
#[tokio::test]
async fn a_client_that_is_fenced_ends_its_process() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let sink = DatasetSink::of(lab, &topic).await?.alone();
    let first = sink.start()?;
    topic.produce(orders(50, 1)).await?;
    sink.await_rows(50).await?;
    let second = sink.start()?;
    let fenced = ended(&first).await?;
    assert_eq!(fenced.status.code(), Some(1), "{}", fenced.log);
    topic.produce(orders(50, 2)).await?;
    sink.await_rows(100).await?;
    stop(&second).await?;
    sink.assert_once(100).await
}

/// Shares a topic with a second process for a while, by the protocol that these properties choose. Files stay open:
/// what is committed is so because it was handed over.
async fn shares(properties: Value) -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 4).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "rotation": {"maxOpen": "1h"}, "source": {"properties": properties},
    }));
    let reading = async |processes: &[&Tidewater], records: u64| {
        await_until(PATIENCE, &format!("{records} records read"), async || {
            let mut read = 0;
            for process in processes {
                let records = status(process).await?["records"].as_u64();
                read += records.unwrap_or_default();
            }
            Ok(read >= records)
        })
        .await
    };
    let first = sink.start()?;
    topic.produce(orders(200, 1)).await?;
    reading(&[&first], 200).await?;
    assert_eq!(sink.count().await?, (0, 0));
    let second = sink.start()?;
    await_partitions(&second, 2).await?;
    await_partitions(&first, 2).await?;
    topic.produce(orders(200, 2)).await?;
    reading(&[&first, &second], 400).await?;
    stop(&first).await?;
    await_partitions(&second, 4).await?;
    topic.produce(orders(200, 3)).await?;
    let of_first = read_by(&first).context("a summary")?;
    reading(&[&second], 600 - of_first).await?;
    stop(&second).await?;
    sink.assert_once(600).await?;
    // What is handed over is committed: nobody read any of it again.
    let read = [&first, &second].map(read_by);
    assert_eq!(read.into_iter().sum::<Option<u64>>(), Some(600), "{read:?}");
    assert!(read.iter().all(|read| *read > Some(0)), "{read:?}");
    Ok(())
}

/// How many records a process read that has ended, as it says itself.
fn read_by(process: &Tidewater) -> Option<u64> {
    let log = process.process().log();
    let summary = log.lines().find(|line| line.contains("\"summary\""))?;
    let (_, rest) = summary.split_once("\"records\":")?;
    rest.split(',').next()?.parse().ok()
}

#[tokio::test]
async fn an_eager_group_and_one_of_the_consumer_protocol_hand_over_what_is_committed() -> Result<()>
{
    let eager = json!({"partition.assignment.strategy": "range"});
    // The brokers set its time-outs.
    let consumer = json!({
        "group.protocol": "consumer", "session.timeout.ms": null, "heartbeat.interval.ms": null,
    });
    Box::pin(shares(eager)).await.context("eager")?;
    Box::pin(shares(consumer)).await.context("consumer")
}
