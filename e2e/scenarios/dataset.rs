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
    let topic = lab.topic("orders", 3).await?;
    topic.wear().await?;
    topic.produce(spread(600, 1)).await?;
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

    let mut ends = Vec::new();
    for partition in 0..3 {
        let (_, end) = topic.offsets(partition).await?;
        let committed = topic.committed(&sink.group(), partition).await?;
        assert_eq!(committed, Some(end), "{partition}");
        ends.push(end);
    }
    assert!(ends[0] > ends[1] && ends[1] > ends[2], "{ends:?}");
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
async fn verify_names_the_column_and_the_row_whose_values_somebody_swapped() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = filled(lab, 2, orders(200, 8).collect()).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    sink.catch_up().await?;
    sink.assert_once(200).await?;
    let name = format!("{}-1-", topic.name());
    let files = sink.files().await?;
    let file = files.iter().find(|key| key.starts_with(&name)).unwrap();
    let path = format!("s3://{}/{file}", sink.bucket());
    let duckdb = sink.duckdb().await?;
    let chosen = format!(
        "SELECT _offset FROM read_parquet('{path}') WHERE currency IS NOT NULL AND status IS NOT NULL \
         ORDER BY _offset LIMIT 1 OFFSET 3"
    );
    let offset = duckdb.value(&chosen).await?.as_i64().unwrap();
    // One row has two values of one type in each other's place; names, types, counts and offsets are what they were.
    let swapped = format!(
        "COPY (SELECT * REPLACE (CASE _offset WHEN {offset} THEN status ELSE currency END AS currency, \
         CASE _offset WHEN {offset} THEN currency ELSE status END AS status) FROM read_parquet('{path}')) \
         TO '{path}' (FORMAT parquet)"
    );
    duckdb.query(&swapped).await?;
    assert_eq!(sink.count().await?, (200, 200));
    assert!(sink.assert_as_sent().await.is_err());

    let answer = sink.command("verify").await?;
    assert_eq!(answer.code, Some(1), "{}", answer.stdout);
    for line in [
        format!("1 with other values: offsets {offset}\n"),
        format!("column currency in 1 rows: offsets {offset}\n"),
        format!("column status in 1 rows: offsets {offset}\n"),
        "NOT whole: 0 missing, 0 duplicated, 1 with other values".to_owned(),
    ] {
        assert!(answer.stdout.contains(&line), "{line}\n{}", answer.stdout);
    }
    let by_offset = sink.command_with("verify", &["--offsets-only"]).await?;
    assert_eq!(by_offset.code, Some(0), "{}", by_offset.stdout);
    Ok(())
}

#[tokio::test]
async fn kafkas_columns_say_what_the_record_carried_beside_its_value() -> Result<()> {
    let lab = Lab::shared().await?;
    let mut records: Vec<Record> = orders(30, 9)
        .zip(0_u8..)
        .map(|(record, i)| {
            let named = record.header("trace", format!("trace of {i}"));
            named.header("trace", vec![0xff, i])
        })
        .collect();
    records[3].key = None;
    records[4].headers.clear();
    records[5].headers.push(("nothing".to_owned(), None));
    // A key without a value leaves no row.
    records.insert(
        10,
        Record {
            value: None,
            ..Record::default()
        }
        .key("gone"),
    );
    let topic = filled(lab, 2, records).await?;
    let columns = json!({
        "topic": "_topic", "partition": "_partition", "offset": "_offset", "timestamp": "_at",
        "timestampType": "_kind", "key": "_key", "headers": "_headers",
    });
    let sink = DatasetSink::of(lab, &topic).await?;
    let sink = sink.with(json!({"metadataColumns": columns}));
    sink.catch_up().await?;
    sink.assert_once(30).await?;
    let sql = format!(
        "SELECT _partition, _offset, epoch_ms(_at), _kind, lower(hex(_key)), \
         [h.name || '=' || coalesce(lower(hex(h.value)), 'null') FOR h IN _headers] FROM {} ORDER BY 1, 2",
        sink.table()
    );
    let found = sink.duckdb().await?.query(&sql).await?;
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut wanted = Vec::new();
    for sent in topic.read_all().await? {
        let record = sent.record;
        if record.value.is_none() {
            continue;
        }
        let headers = record.headers.iter().map(|(name, value)| {
            let value = value.as_deref().map_or("null".to_owned(), hex);
            format!("{name}={value}")
        });
        wanted.push(json!([
            record.partition,
            sent.offset,
            record.timestamp,
            "CreateTime",
            record.key.as_deref().map(hex),
            headers.collect::<Vec<_>>(),
        ]));
    }
    assert_eq!(json!(found), json!(wanted));
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
    let rows = "SELECT list(n ORDER BY file) FROM (SELECT count(*) AS n, filename AS file \
                FROM read_parquet('$s/**/*.parquet', filename=true) GROUP BY ALL)";
    let sink = DatasetSink::of(lab, &topic).await?.with(by_records);
    sink.catch_up().await?;
    sink.assert_once(20_000).await?;
    let of_files = sink.value(&rows.replace("$s", &sink.location())).await?;
    assert_eq!(of_files, json!([5000, 5000, 5000, 5000]));

    let sink = DatasetSink::of(lab, &topic).await?.with(by_bytes);
    sink.catch_up().await?;
    sink.assert_once(20_000).await?;
    let mut sizes = sink.sizes().await?;
    // The last one ends with the topic. Of the others the size is foretold, not measured, while a page is open.
    sizes.pop();
    assert!(!sizes.is_empty());
    for size in &sizes {
        assert!((200 << 10..320 << 10).contains(size), "{sizes:?}");
    }
    Ok(())
}
