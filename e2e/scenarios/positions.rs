//! Where reading begins, and where it goes on when the log is not what it was.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{KafkaServer, Lab, Outcome, Record, Topic, evenly, orders};

use crate::dataset_sink::{DatasetSink, await_status, status, stop};

/// It ended by itself, for a reason that names all of these.
async fn assert_refused(sink: &DatasetSink, parts: &[&str]) -> Result<()> {
    let refused = sink.run_to_the_end(&[]).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
    for part in parts {
        assert!(refused.log.contains(part), "{part}: {}", refused.log);
    }
    Ok(())
}

// R3, T25
#[tokio::test]
async fn a_group_offset_outside_of_the_log_goes_by_the_policies_and_is_never_tried_for_ever()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    topic.delete_records(0, 50).await?;
    let of_group = async |offset: i64| -> Result<DatasetSink> {
        let sink = DatasetSink::of(lab, &topic).await?;
        topic.commit_group(&sink.group(), &[(0, offset)]).await?;
        Ok(sink.with(json!({"source": {"startup": {"mode": "GroupOffsets"}}})))
    };
    let mut sink = of_group(10).await?;
    assert_refused(&sink, &["[10, 50)", "spec.source.onRecordsExpired"]).await?;
    assert_eq!(sink.count().await?, (0, 0));
    sink.change(json!({"source": {"onRecordsExpired": "Skip"}}));
    let tidewater = sink.start()?;
    sink.await_rows(50).await?;
    let now = status(&tidewater).await?;
    assert_eq!(now["expiredRecords"], json!(40), "{now}");
    stop(&tidewater).await?;
    sink.assert_once(50).await?;

    let beyond = of_group(500).await?;
    assert_refused(
        &beyond,
        &["start at 500", "ends at 100", "spec.source.startup"],
    )
    .await?;
    assert_eq!(beyond.count().await?, (0, 0));
    Ok(())
}

// T15
#[tokio::test]
async fn a_log_that_lost_its_end_stops_the_sink_until_the_user_chooses_and_nothing_comes_twice()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let mut sink = DatasetSink::of(lab, &topic).await?.local();
    sink.catch_up().await?;
    // As if there had been fifty more, which the brokers lost.
    let (location, id) = (sink.location(), sink.id());
    let ledger: PathBuf = [&location, "_tidewater", &id, topic.name(), "0.json"]
        .iter()
        .collect();
    let mut document: Value = serde_json::from_slice(&fs::read(&ledger)?)?;
    document["next"] = json!(150);
    fs::write(&ledger, document.to_string())?;

    assert_refused(&sink, &["ends at 100", "150", "spec.source.onLogTruncated"]).await?;
    // Another choice is no answer.
    sink.change(json!({"source": {"onSourceReset": "Restart"}}));
    assert_refused(&sink, &["spec.source.onLogTruncated"]).await?;
    sink.change(json!({"source": {"onLogTruncated": "Continue"}}));
    sink.catch_up().await?;
    for rows in [120, 140] {
        topic.produce(orders(20, 2)).await?;
        sink.catch_up().await?;
        assert_eq!(sink.count().await?, (rows, rows));
    }
    Ok(())
}

// T15: over a change of configuration.
#[tokio::test]
async fn records_of_a_transaction_that_is_still_open_are_no_sign_that_the_log_was_cut() -> Result<()>
{
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let open = topic.open_transaction(orders(50, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let mut sink = sink.with(json!({"source": {"isolationLevel": "ReadUncommitted"}}));
    sink.catch_up().await?;
    assert_eq!(sink.count().await?, (50, 50));

    sink.change(json!({"source": {"isolationLevel": "ReadCommitted"}}));
    let tidewater = sink.start()?;
    await_status(&tidewater, "it goes on where it stands", |status| {
        status["partitions"][format!("{}-0", topic.name())]["committed"] == json!(50)
    })
    .await?;
    topic.produce(orders(10, 2)).await?;
    open.end(Outcome::Commit).await?;
    sink.await_rows(60)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    stop(&tidewater).await?;
    assert_eq!(sink.count().await?, (60, 60));
    Ok(())
}

// R3, T16
#[tokio::test]
async fn who_starts_at_the_end_misses_nothing_of_partitions_and_topics_that_come_later()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(evenly(orders(50, 1))).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let sink = sink.with(json!({"source": {
        "startup": {"mode": "Latest"},
        "topics": Value::Null, "topicPattern": format!("{}(-[a-z]+)?", topic.name()),
        // Long enough for all of it to be there when it is noticed.
        "properties": {"topic.metadata.refresh.interval.ms": "4000"},
    }}));
    let known = |n: usize| {
        move |status: &Value| {
            let partitions = status["partitions"].as_object();
            partitions
                .is_some_and(|all| all.len() == n && all.values().all(|p| p["committed"].is_i64()))
        }
    };
    let tidewater = sink.start()?;
    await_status(&tidewater, "it starts at the end", known(2)).await?;
    topic.add_partitions(4).await?;
    topic.produce(evenly(orders(80, 2))).await?;
    let second = Topic::create(lab.kafka(), &format!("{}-returns", topic.name()), 1).await?;
    second.produce(orders(30, 3)).await?;
    sink.await_rows(110)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    stop(&tidewater).await?;

    // The same for what came while no process ran.
    let third = Topic::create(lab.kafka(), &format!("{}-refunds", topic.name()), 1).await?;
    third.produce(orders(40, 4)).await?;
    sink.catch_up().await?;
    assert_eq!(sink.count().await?, (150, 150));
    let first = format!(
        "SELECT min(_offset) FROM $t WHERE _partition = 0 AND _topic = '{}'",
        topic.name()
    );
    let first = sink.value(&first).await?;
    assert_eq!(first, json!(25), "what was there before is not read");
    Ok(())
}

// R3, T16: nothing starts at its end, and there is no ledger yet, when the sink first starts.
#[tokio::test]
async fn who_goes_on_from_its_groups_offsets_misses_nothing_of_partitions_that_come_later()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(50, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    topic.commit_group(&sink.group(), &[(0, 50)]).await?;
    let sink = sink.with(json!({"source": {
        "startup": {"mode": "Latest"},
        "properties": {"topic.metadata.refresh.interval.ms": "1000"},
    }}));
    let tidewater = sink.start()?;
    await_status(&tidewater, "it stands at the group's offset", |status| {
        status["lagRecords"] == json!(0)
    })
    .await?;
    topic.add_partitions(2).await?;
    let late = orders(30, 2).map(|record| Record {
        partition: 1,
        ..record
    });
    topic.produce(late).await?;
    sink.await_rows(30)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    stop(&tidewater).await?;
    assert_eq!(sink.count().await?, (30, 30));
    Ok(())
}

// T15: a broker goes down hard, loses what it had not on its disk, and takes new records before anybody looks.
#[tokio::test]
async fn a_log_that_was_cut_and_grew_again_stops_the_sink_and_goes_on_where_it_was_cut()
-> Result<()> {
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?.join("cut");
    let kafka = Box::pin(KafkaServer::start(&folder)).await?;
    let topic = Topic::create(kafka.bootstrap(), "orders", 1).await?;
    let segment = folder.join("data/orders-0/00000000000000000000.log");
    topic.produce(orders(60, 1)).await?;
    let kept = fs::metadata(&segment)?.len();
    topic.produce(orders(40, 2)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.local();
    let mut sink = sink.with(json!({"source": {"bootstrapServers": kafka.bootstrap()}}));
    sink.catch_up().await?;

    kafka.kill();
    let log = fs::OpenOptions::new().write(true).open(&segment)?;
    log.set_len(kept)?;
    kafka.restart().await?;
    topic.produce(orders(80, 3)).await?;
    assert_eq!(topic.offsets(0).await?, (0, 140));

    let told = ["cut at 60", "100", "140", "spec.source.onLogTruncated"];
    assert_refused(&sink, &told).await?;
    sink.change(json!({"source": {"onLogTruncated": "Continue"}}));
    sink.catch_up().await?;
    assert_eq!(sink.count().await?.0, 180);
    topic.produce(orders(20, 4)).await?;
    sink.catch_up().await?;
    assert_eq!(sink.count().await?.0, 200);
    // Each of the new ones once.
    let new = sink
        .value("SELECT count(*) FROM $t WHERE _offset >= 100")
        .await?;
    assert_eq!(new, json!(60));
    Ok(())
}
