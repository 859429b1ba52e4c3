//! Records that do not fit: letters with all that they were sent with, or the end of the sink, as the user wants it.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, orders};

use crate::dataset_sink::DatasetSink;
use crate::witness::assert_letters;

fn poison() -> Vec<Record> {
    let mut records: Vec<Record> = orders(20, 1).collect();
    let broken = Record::new(0, &b"{\"order_id\": \xff nonsense"[..]);
    records.insert(
        0,
        broken
            .key("poison")
            .header("trace", "abc")
            .timestamp(1_700_000_000_000),
    );
    let large = format!("{{\"order_id\": \"{}\"", "x".repeat(900_000));
    let large = Record::new(0, large).header("trace", "def");
    records.insert(10, large.header("trace", b"\x00\xff".to_vec()));
    records
}

// T30
#[tokio::test]
async fn records_that_do_not_fit_go_to_a_topic_whole_and_the_rest_goes_on() -> Result<()> {
    let lab = Lab::shared().await?;
    let (topic, dead) = (lab.topic("orders", 1).await?, lab.topic("dead", 1).await?);
    topic.produce(poison()).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let sink = sink.with(json!({"onError": "DeadLetter", "deadLetter": {"topic": dead.name()}}));
    sink.catch_up().await?;
    sink.assert_once(20).await?;

    assert_eq!(dead.read_all().await?.len(), 2);
    assert_eq!(assert_letters(&topic, &dead).await?, 2);
    Ok(())
}

// T30
#[tokio::test]
async fn records_that_do_not_fit_go_to_a_folder_whole_and_the_rest_goes_on() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(poison()).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    let sink =
        sink.with(json!({"onError": "DeadLetter", "deadLetter": {"prefix": "_dead/orders"}}));
    sink.catch_up().await?;
    let whole = sink.command("verify").await?;
    assert_eq!(whole.code, Some(0), "{}", whole.stdout);
    let sql = format!(
        "SELECT \"offset\", topic, partition, timestamp, errorClass, \"key\", value, to_json(headers)::VARCHAR \
         FROM read_json('s3://{}/_dead/orders/**/*.jsonl', maximum_object_size=4000000) ORDER BY 1",
        sink.bucket()
    );
    let letters = sink.duckdb().await?.query(&sql).await?;
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
    let mut wanted = Vec::new();
    for sent in topic.read_all().await? {
        if ![0, 10].contains(&sent.offset) {
            continue;
        }
        let record = sent.record;
        let headers = record.headers.iter();
        let headers = headers.map(|(name, value)| json!({"name": name, "value": text(value)}));
        wanted.push(json!([
            sent.offset,
            topic.name(),
            0,
            record.timestamp,
            "Malformed",
            text(&record.key),
            text(&record.value),
            Value::from_iter(headers).to_string(),
        ]));
    }
    assert_eq!(wanted.len(), 2);
    assert!(json!(letters) == json!(wanted), "letters are not as sent");
    Ok(())
}

// T30, R12
#[tokio::test]
async fn a_record_that_does_not_fit_stops_the_sink_where_the_user_wants_that() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let mut records: Vec<Record> = orders(20, 1).collect();
    records.insert(7, Record::new(0, r#"{"order_id": "seven"}"#));
    topic.produce(records).await?;
    let mut sink = DatasetSink::of(lab, &topic)
        .await?
        .with(json!({"onError": "Fail"}));
    let refused = sink.run_to_the_end(&[]).await?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
    assert!(refused.log.contains("offset 7 "), "{}", refused.log);
    // What is before it is committed; nothing at or beyond it, and nobody was told that it was.
    assert_eq!(sink.count().await?, (7, 7));
    assert_eq!(sink.value("SELECT max(_offset) FROM $t").await?, json!(6));
    assert_eq!(topic.committed(&sink.group(), 0).await?, Some(7));
    let status = sink.command("status").await?;
    assert!(status.stdout.contains("committed 7,"), "{}", status.stdout);
    // The user decides otherwise: nothing was lost, nothing comes twice.
    sink.change(json!({"onError": "Skip"}));
    sink.catch_up().await?;
    sink.assert_once(20).await
}
