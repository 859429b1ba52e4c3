//! What happens to topics, groups and processes that read them, and the dataset that comes out right.

mod members;
mod transactions;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Outcome, Record, Tidewater, Topic, await_until, delete_group, orders};

use crate::dataset_sink::{
    Answer, DatasetSink, PATIENCE, await_fenced, await_log, await_status, ended, status, stop,
};

/// It owns so many partitions and knows where they stand.
async fn await_partitions(tidewater: &Tidewater, count: usize) -> Result<()> {
    await_status(tidewater, &format!("{count} partitions"), |status| {
        status["partitions"].as_object().is_some_and(|owned| {
            owned.len() == count && owned.values().all(|partition| partition["waits"].is_null())
        })
    })
    .await
}

// T6
#[tokio::test]
async fn a_group_that_was_forgotten_goes_on_where_the_dataset_stands() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    for mode in ["Earliest", "Latest", "GroupOffsets"] {
        let sink = DatasetSink::of(lab, &topic).await?;
        topic.produce(orders(100, 1)).await?;
        sink.catch_up().await?;
        let sink = sink.with(json!({"source": {"startup": {"mode": mode}}}));
        delete_group(lab.kafka(), &sink.group()).await?;
        topic.produce(orders(100, 2)).await?;
        sink.catch_up().await?;
        let ends = [topic.offsets(0).await?.1, topic.offsets(1).await?.1];
        sink.assert_once(ends[0] + ends[1]).await.context(mode)?;
        let end = ends[0];
        assert_eq!(
            topic.committed(&sink.group(), 0).await?,
            Some(end),
            "{mode}"
        );
    }
    Ok(())
}

// T15
#[tokio::test]
async fn a_recreated_topic_stops_the_sink_until_the_user_chooses() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let mut sink = DatasetSink::of(lab, &topic).await?;
    sink.catch_up().await?;
    topic.delete().await?;
    Topic::create(lab.kafka(), topic.name(), 1).await?;
    topic.produce(orders(40, 2)).await?;

    let refused = sink.run_to_the_end(&[]).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
    assert!(
        refused.log.contains("spec.source.onSourceReset"),
        "{}",
        refused.log
    );
    assert_eq!(sink.count().await?, (100, 100));
    let undecided = sink.command("verify").await?;
    assert_eq!(undecided.code, Some(1), "{}", undecided.stdout);
    let says =
        |answer: &Answer, what: &str| assert!(answer.stdout.contains(what), "{}", answer.stdout);
    says(&undecided, "the log ends at 40: the topic was recreated");

    let old = sink.files().await?;
    sink.change(json!({"source": {"onSourceReset": "Restart"}}));
    sink.catch_up().await?;
    // The new topic's offsets are the old one's once more.
    assert_eq!(sink.count().await?, (140, 100));
    sink.catch_up().await?;
    assert_eq!(sink.count().await?, (140, 100));

    let whole = sink.command("verify").await?;
    assert_eq!(whole.code, Some(0), "{}", whole.stdout);
    says(&whole, "40 rows expected, 40 found");
    says(&whole, "100 rows of an earlier topic of this name");
    // Rows of the old topic do not stand in for those of the new one.
    let files = sink.files().await?;
    let (s3, bucket) = (lab.s3_client(), sink.bucket());
    for key in files.difference(&old) {
        s3.delete_object().bucket(bucket).key(key).send().await?;
    }
    let robbed = sink.command("verify").await?;
    assert_eq!(robbed.code, Some(1), "{}", robbed.stdout);
    says(&robbed, "NOT whole: 40 missing, 0 duplicated");
    Ok(())
}

// T15, under a process that runs.
#[tokio::test]
async fn a_topic_recreated_under_a_running_sink_is_noticed() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let tidewater = sink.start()?;
    sink.await_rows(100).await?;
    topic.delete().await?;
    Topic::create(lab.kafka(), topic.name(), 1).await?;
    topic.produce(orders(40, 2)).await?;
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

// T16
#[tokio::test]
async fn partitions_that_are_added_and_topics_that_appear_are_picked_up() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let sink = sink.with(json!({"source": {
        "topics": Value::Null, "topicPattern": format!("{}(-[a-z]+)?", topic.name()),
    }}));
    let tidewater = sink.start()?;
    topic.produce(orders(50, 1)).await?;
    sink.await_rows(50).await?;

    topic.add_partitions(4).await?;
    topic.produce(orders(80, 2)).await?;
    sink.await_rows(130).await?;

    let second = Topic::create(lab.kafka(), &format!("{}-returns", topic.name()), 2).await?;
    let other = Topic::create(lab.kafka(), &format!("{}-9", topic.name()), 1).await?;
    second.produce(orders(60, 3)).await?;
    other.produce(orders(10, 4)).await?;
    sink.await_rows(190)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    stop(&tidewater).await?;
    sink.assert_once(190).await
}

// T19
#[tokio::test]
async fn records_of_two_versions_in_turn_do_not_multiply_files() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let version = |(i, mut record): (usize, Record)| {
        let mut value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        if i % 2 == 0 {
            value["coupon"] = json!("SPRING");
        } else {
            value.as_object_mut().unwrap().remove("quantity");
        }
        record.value = Some(value.to_string().into_bytes());
        record
    };
    topic
        .produce(orders(2000, 1).enumerate().map(version).collect::<Vec<_>>())
        .await?;
    for value in [json!({}), json!({"schema": Value::Null, "infer": {}})] {
        let sink = DatasetSink::of(lab, &topic).await?.with(json!({
            "value": value, "rotation": {"maxOpen": "1h"}, "source": {"batchRecords": 100},
        }));
        sink.catch_up().await?;
        sink.assert_once(2000).await?;
        assert_eq!(sink.files().await?.len(), 1);
    }
    Ok(())
}

// T25
#[tokio::test]
async fn records_that_expired_unread_stop_the_sink_or_are_counted() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let mut sink = DatasetSink::of(lab, &topic).await?;
    sink.catch_up().await?;
    topic.produce(orders(100, 2)).await?;
    topic.delete_records(0, 150).await?;

    let refused = sink.run_to_the_end(&[]).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
    assert!(
        refused.log.contains("spec.source.onRecordsExpired"),
        "{}",
        refused.log
    );
    assert_eq!(sink.count().await?, (100, 100));

    sink.change(json!({"source": {"onRecordsExpired": "Skip"}}));
    let tidewater = sink.start()?;
    sink.await_rows(150).await?;
    let now = status(&tidewater).await?;
    assert_eq!(now["expiredRecords"], json!(50), "{now}");
    let (_, metrics) = tidewater.http_get("/metrics").await?;
    let counted = metrics
        .lines()
        .any(|line| line.starts_with("tidewater_expired_records_total") && line.ends_with(" 50"));
    assert!(counted, "{metrics}");
    stop(&tidewater).await?;
    sink.assert_once(150).await
}

// T25, under a process that runs.
#[tokio::test]
async fn records_that_expire_while_the_sink_sleeps_are_skipped_and_counted() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({"source": {
        "onRecordsExpired": "Skip", "properties": {"session.timeout.ms": "45000"},
    }}));
    let tidewater = sink.start()?;
    sink.await_rows(100).await?;
    tidewater.freeze();
    topic.produce(orders(100, 2)).await?;
    topic.delete_records(0, 170).await?;
    tidewater.thaw();
    topic.produce(orders(10, 3)).await?;
    sink.await_rows(110)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    await_status(&tidewater, "all committed", |status| {
        status["lagRecords"] == json!(0)
    })
    .await?;
    // A fetch of before may have been answered already: what was read is there, what was not is counted.
    let (rows, different) = sink.count().await?;
    assert_eq!(rows, different);
    let now = status(&tidewater).await?;
    assert_eq!(now["expiredRecords"], json!(210 - rows), "{now}");
    stop(&tidewater).await?;
    let answer = sink.command("verify").await?;
    assert_eq!(answer.code, Some(0), "{}", answer.stdout);
    Ok(())
}

// R3
#[tokio::test]
async fn latest_means_from_now_on_also_for_who_crashes_before_a_first_commit() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(orders(50, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.alone().with(json!({
        "source": {"startup": {"mode": "Latest"}}, "rotation": {"maxOpen": "1h"},
    }));
    let ends = [topic.offsets(0).await?.1, topic.offsets(1).await?.1];
    // Before it has written down where any partition starts.
    sink.die_at("dataset.before-cas").await?;
    topic.produce(orders(25, 4)).await?;
    let tidewater = sink.start()?;
    await_partitions(&tidewater, 2).await?;
    topic.produce(orders(30, 2)).await?;
    await_status(&tidewater, "records read", |status| {
        status["records"] == json!(55)
    })
    .await?;
    tidewater.kill9();
    assert_eq!(sink.count().await?, (0, 0));
    topic.produce(orders(20, 3)).await?;
    sink.catch_up().await?;
    assert_eq!(sink.count().await?, (75, 75));
    let first = format!(
        "SELECT min(_offset) FROM {} GROUP BY _partition ORDER BY _partition",
        sink.table()
    );
    let first = sink.duckdb().await?.query(&first).await?;
    assert_eq!(first, ends.map(|end| vec![json!(end)]));
    sink.assert_as_sent().await?;
    Ok(())
}

// R7
#[tokio::test]
async fn a_wrong_password_ends_the_process() -> Result<()> {
    let lab = Lab::shared().await?;
    let kafka = Box::pin(tidewater_e2e::SecuredKafka::start(&lab.scratch()?)).await?;
    let topic = Topic::create(kafka.plain().bootstrap(), "orders", 1).await?;
    topic.produce(orders(50, 1)).await?;
    let user = tidewater_e2e::SASL_USER.0;
    // The bucket's secret serves as a password that is wrong.
    let mut sink = DatasetSink::of(lab, &topic).await?.with(json!({"source": {
        "bootstrapServers": kafka.sasl(),
        "security": {"protocol": "SaslPlaintext", "sasl": {
            "mechanism": "ScramSha512", "username": user,
            "password": {"secretKeyRef": {"name": "lake", "key": "secretAccessKey"}},
        }},
    }}));
    let refused = sink.run_to_the_end(&[]).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
    assert!(
        refused.log.contains("spec.source.security"),
        "{}",
        refused.log
    );
    let right = json!({"secretKeyRef": {"name": "lake", "key": "kafkaPassword"}});
    sink.change(json!({"source": {"security": {"sasl": {"password": right}}}}));
    sink.catch_up().await?;
    sink.assert_once(50).await
}

#[tokio::test]
async fn a_topic_that_does_not_exist_yet_is_waited_for() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = Topic::existing(lab.kafka(), &lab.unique("orders"));
    let sink = DatasetSink::of(lab, &topic).await?;
    let tidewater = sink.start()?;
    await_log(tidewater.process(), "in trouble").await?;
    Topic::create(lab.kafka(), topic.name(), 1).await?;
    topic.produce(orders(10, 1)).await?;
    sink.await_rows(10)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    tokio::time::timeout(Duration::from_secs(30), stop(&tidewater)).await??;
    sink.assert_once(10).await
}
