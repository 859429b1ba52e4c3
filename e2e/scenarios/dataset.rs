//! Kafka to a dataset of Parquet (or JSON lines) on S3 or in a folder: the way everything goes when nothing breaks.

use anyhow::Result;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, Topic, orders};

use crate::dataset_sink::DatasetSink;

/// 2026-01-01T00:00:00Z
const FIRST_MILLI: i64 = 1_767_225_600_000;

/// Orders a minute apart.
fn spread(n: u64, seed: u64) -> Vec<Record> {
    let dated = |(i, record): (i64, Record)| {
        let mut value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        value["created_at"] = json!(FIRST_MILLI + i * 60_000);
        Record {
            value: Some(value.to_string().into_bytes()),
            ..record
        }
    };
    (0..).zip(orders(n, seed)).map(dated).collect()
}

fn hours() -> Value {
    json!({"partitioning": [{"time": {"granularity": "Hour", "column": "created_at", "timezone": "UTC"}}]})
}

async fn filled(lab: &Lab, partitions: i32, records: Vec<Record>) -> Result<Topic> {
    let topic = lab.topic("orders", partitions).await?;
    topic.produce(records).await?;
    Ok(topic)
}

#[tokio::test]
async fn orders_arrive_typed_in_folders_by_hour_and_every_command_agrees() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = filled(lab, 3, spread(600, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(hours());
    let validated = sink.command("validate").await?;
    assert_eq!(validated.code, Some(0), "{}", validated.stderr);
    assert!(
        validated.stdout.contains(": valid: "),
        "{}",
        validated.stdout
    );

    sink.catch_up().await?;
    sink.assert_once(600).await?;

    let duckdb = sink.duckdb().await?;
    let table = sink.table();
    let types = format!(
        "SELECT DISTINCT typeof(order_id), typeof(amount), typeof(created_at), typeof(updated_at), typeof(quantity), \
         typeof(_topic), typeof(_partition), typeof(_offset) FROM {table}"
    );
    assert_eq!(
        duckdb.query(&types).await?,
        [[
            json!("BIGINT"),
            json!("DECIMAL(12,2)"),
            json!("TIMESTAMP WITH TIME ZONE"),
            json!("TIMESTAMP WITH TIME ZONE"),
            json!("INTEGER"),
            json!("VARCHAR"),
            json!("INTEGER"),
            json!("BIGINT"),
        ]]
    );
    // Read again from the topic by somebody else, value by value.
    let mut cents = 0;
    for consumed in topic.read_all().await? {
        let value: Value = serde_json::from_slice(consumed.record.value.as_ref().unwrap())?;
        cents += (value["amount"].as_f64().unwrap() * 100.0).round() as i64;
    }
    let total = format!("SELECT (sum(amount) * 100)::BIGINT FROM {table}");
    assert_eq!(duckdb.value(&total).await?, json!(cents));
    let astray = format!(
        "SELECT count(*) FROM {table} WHERE epoch_ms(created_at) < {FIRST_MILLI} OR \
         strftime(created_at AT TIME ZONE 'UTC', '%Y-%m-%d %H') != format('{{}}-{{:02d}}-{{:02d}} {{:02d}}', \
         year::INT, month::INT, day::INT, hour::INT)"
    );
    assert_eq!(duckdb.value(&astray).await?, json!(0));
    let folders = format!("SELECT count(DISTINCT hour) FROM {table}");
    assert_eq!(duckdb.value(&folders).await?, json!(10));

    let file = sink.files().await?.into_iter().next().unwrap();
    assert!(
        file.starts_with("year=2026/month=01/day=01/hour=00/"),
        "{file}"
    );
    let meta = lab
        .pyiceberg()
        .await?
        .parquet_meta(&format!("s3://{}/{file}", sink.bucket()))
        .await?;
    let key_values = &meta["key_values"];
    assert_eq!(key_values["tidewater.sink"], json!(sink.id()), "{meta}");
    assert_eq!(key_values["tidewater.topic"], json!(topic.name()), "{meta}");
    assert_eq!(key_values["tidewater.partition"], json!("0"), "{meta}");

    for partition in 0..3 {
        assert_eq!(topic.committed(&sink.group(), partition).await?, Some(200));
    }
    let status = sink.command("status").await?;
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    assert!(status.stdout.contains("lag 0"), "{}", status.stdout);

    // Nothing new: nothing is written.
    let files = sink.files().await?;
    sink.catch_up().await?;
    assert_eq!(sink.files().await?, files);
    Ok(())
}

#[tokio::test]
async fn verify_names_the_row_that_is_missing_and_the_one_that_is_there_twice() -> Result<()> {
    let lab = Lab::shared().await?;
    let mut records = spread(60, 2);
    // Rows that have a file for themselves.
    let alone = |day: i64, record: Record| {
        let mut value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        value["created_at"] = json!(FIRST_MILLI + day * 86_400_000);
        Record {
            value: Some(value.to_string().into_bytes()),
            ..record
        }
    };
    records.extend(
        orders(2, 3)
            .zip([2, 3])
            .map(|(record, day)| alone(day, record)),
    );
    let topic = filled(lab, 1, records).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(hours());
    sink.catch_up().await?;
    sink.assert_once(62).await?;

    let files = sink.files().await?;
    let of_day = |day: &str| files.iter().find(|key| key.contains(day)).unwrap().clone();
    let (lost, copied) = (of_day("day=03"), of_day("day=04"));
    let (s3, bucket) = (lab.s3_client(), sink.bucket());
    s3.delete_object().bucket(bucket).key(&lost).send().await?;
    let (stem, _) = copied.rsplit_once('.').unwrap();
    let (stem, _) = stem.rsplit_once('.').unwrap();
    let copy = format!("{stem}.0123456789ab.parquet");
    let source = format!("{bucket}/{copied}");
    s3.copy_object()
        .bucket(bucket)
        .key(copy)
        .copy_source(source)
        .send()
        .await?;

    let answer = sink.command("verify").await?;
    assert_eq!(answer.code, Some(1), "{}", answer.stdout);
    for line in [
        "1 missing: offsets 60",
        "1 duplicated: offsets 61",
        "NOT whole: 1 missing, 1 duplicated",
    ] {
        assert!(answer.stdout.contains(line), "{line}\n{}", answer.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_of_this_machine_holds_the_same_dataset() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = filled(lab, 2, spread(200, 4)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(hours()).local();
    sink.catch_up().await?;
    sink.assert_once(200).await?;
    topic.produce(spread(100, 5)).await?;
    sink.catch_up().await?;
    sink.assert_once(300).await
}

#[tokio::test]
async fn json_lines_are_read_back_as_they_were_sent() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = filled(lab, 2, spread(200, 6)).await?;
    for compression in ["None", "Gzip", "Zstd"] {
        let sink = DatasetSink::of(lab, &topic).await?;
        let sink = sink.with(json!({"output": {"format": "Json", "compression": compression}}));
        sink.catch_up().await?;
        let sql = format!(
            "SELECT count(*), count(DISTINCT (_partition, _offset)), sum(amount::DECIMAL(12,2)) > 0, \
             min(created_at::TIMESTAMPTZ) = TIMESTAMPTZ '2026-01-01 00:00:00+00' \
             FROM read_json('s3://{}/{}-*.json*', format='newline_delimited')",
            sink.bucket(),
            topic.name()
        );
        let found = sink.duckdb().await?.query(&sql).await?;
        assert_eq!(
            found,
            [[json!(200), json!(200), json!(true), json!(true)]],
            "{compression}"
        );
        let answer = sink.command("verify").await?;
        assert_eq!(answer.code, Some(0), "{}{}", answer.stdout, answer.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn files_close_at_so_many_records_and_at_so_many_bytes() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = filled(lab, 1, orders(20_000, 7).collect()).await?;
    let by_records = json!({"rotation": {"maxOpen": "1h", "maxRecords": 5000}, "source": {"batchRecords": 1000}});
    let by_bytes = json!({"rotation": {"maxOpen": "1h", "maxBytes": "256Ki"}, "source": {"batchRecords": 1000}, "output": {"pageSize": "64Ki"}});
    for (rule, least) in [(by_records, 4), (by_bytes, 2)] {
        let sink = DatasetSink::of(lab, &topic).await?.with(rule);
        sink.catch_up().await?;
        sink.assert_once(20_000).await?;
        let files = sink.files().await?;
        assert!(files.len() >= least, "{files:?}");
    }
    Ok(())
}
