//! A dataset's table in Glue: readers find in it exactly what was produced, whatever becomes of Glue meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use aws_sdk_glue::types::{Column, DatabaseInput, SerDeInfo, StorageDescriptor, Table, TableInput};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, Spoil, Spoiler, Tidewater, Topic, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, status};

/// A dataset sink with a table in a database of its own.
struct Glued {
    lab: &'static Lab,
    topic: Topic,
    sink: DatasetSink,
    glue: aws_sdk_glue::Client,
    database: String,
}

impl Glued {
    /// By country; comparisons with the bucket only at the start.
    async fn new(partitions: i32) -> Result<Glued> {
        let lab = Lab::shared().await?;
        let topic = lab.topic("orders", partitions).await?;
        let database = lab.unique("db");
        let sink = DatasetSink::of(lab, &topic).await?.with(json!({
            "partitioning": [{"column": "country"}],
            "glue": {
                "database": database, "table": "orders", "createDatabase": true, "repairInterval": "1h",
                "endpoint": lab.ministack().endpoint, "timeouts": {"attempt": "3s", "maxAttempts": 2},
            },
        }));
        Ok(Glued {
            lab,
            topic,
            sink,
            glue: lab.glue_client(),
            database,
        })
    }

    fn with(mut self, patch: Value) -> Self {
        self.sink = self.sink.with(patch);
        self
    }

    async fn table(&self) -> Result<Table> {
        let request = self.glue.get_table().database_name(&self.database);
        let answer = request.name("orders").send().await?;
        answer.table.context("a table")
    }

    async fn has_table(&self) -> bool {
        self.table().await.is_ok()
    }

    /// Columns of the table, `name type`.
    async fn columns(&self) -> Result<Vec<String>> {
        let table = self.table().await?;
        Ok(described(
            table.storage_descriptor().context("storage")?.columns(),
        ))
    }

    async fn parameters(&self) -> Result<BTreeMap<String, String>> {
        Ok(self
            .table()
            .await?
            .parameters
            .into_iter()
            .flatten()
            .collect())
    }

    /// By their values: where they are, and what their columns are.
    async fn partitions(&self) -> Result<BTreeMap<Vec<String>, (String, Vec<String>)>> {
        let request = self.glue.get_partitions().database_name(&self.database);
        let mut pages = request.table_name("orders").into_paginator().send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for partition in page?.partitions() {
                let storage = partition.storage_descriptor().context("storage")?;
                let location = storage.location().context("a location")?.to_owned();
                let known = (location, described(storage.columns()));
                ensure!(found.insert(partition.values().to_vec(), known).is_none());
            }
        }
        Ok(found)
    }

    /// Folders of the bucket that hold files.
    async fn folders(&self) -> Result<BTreeSet<String>> {
        let files = self.sink.files().await?;
        let root = format!("s3://{}/", self.sink.bucket());
        let folder = |key: &String| Some(format!("{root}{}/", key.rsplit_once('/')?.0));
        Ok(files.iter().filter_map(folder).collect())
    }

    async fn await_all_registered(&self) -> Result<()> {
        await_until(PATIENCE, "every folder a partition", async || {
            let partitions = self.partitions().await?;
            let known: BTreeSet<String> = partitions.into_values().map(|(at, _)| at).collect();
            let folders = self.folders().await?;
            Ok(!folders.is_empty() && known == folders)
        })
        .await
    }

    /// DuckDB reads these rows, each offset once, at the places that Glue names.
    async fn assert_readers_find(&self, rows: i64) -> Result<()> {
        let partitions = self.partitions().await?;
        let places = partitions
            .values()
            .map(|(at, _)| format!("'{at}*.parquet'"));
        let places: Vec<String> = places.collect();
        let sql = format!(
            "SELECT count(*), count(DISTINCT (_topic, _partition, _offset)) FROM \
             read_parquet([{}], hive_partitioning=true)",
            places.join(", ")
        );
        let found = self.sink.duckdb().await?.query(&sql).await?;
        assert_eq!(found, [[json!(rows), json!(rows)]]);
        self.sink.assert_once(rows).await
    }

    async fn await_synced(&self, tidewater: &Tidewater) -> Result<Value> {
        await_table(tidewater, "synced", |table| table["synced"] == json!(true)).await
    }

    fn send(&self, values: &[Value]) -> Vec<Record> {
        let record = |value: &Value| Record {
            value: Some(value.to_string().into_bytes()),
            ..orders(1, 1).next().unwrap()
        };
        values.iter().map(record).collect()
    }
}

fn described(columns: &[Column]) -> Vec<String> {
    let describe = |column: &Column| {
        let ty = column.r#type().unwrap_or_default();
        format!("{} {ty}", column.name())
    };
    columns.iter().map(describe).collect()
}

/// Waits for what `/status` says of the table.
async fn await_table(
    tidewater: &Tidewater,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    await_until(PATIENCE, what, async || {
        last = status(tidewater).await?["table"].clone();
        Ok(holds(&last))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    Ok(last)
}

#[tokio::test]
async fn a_table_and_its_partitions_show_exactly_what_was_produced() -> Result<()> {
    let by =
        json!([{"time": {"granularity": "Day", "source": "WallClock"}}, {"column": "country"}]);
    let glued = Glued::new(3).await?.with(json!({"partitioning": by}));
    glued.topic.produce(orders(600, 1)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(600).await?;
    glued.await_all_registered().await?;
    glued.assert_readers_find(600).await?;

    let table = glued.table().await?;
    assert_eq!(
        glued.columns().await?,
        [
            "order_id bigint",
            "customer string",
            "amount decimal(12,2)",
            "currency string",
            "status string",
            "created_at timestamp",
            "updated_at timestamp",
            "quantity int",
            "_topic string",
            "_partition int",
            "_offset bigint",
        ]
    );
    let keys = described(table.partition_keys());
    assert_eq!(
        keys,
        [
            "year string",
            "month string",
            "day string",
            "country string"
        ]
    );
    assert_eq!(table.table_type(), Some("EXTERNAL_TABLE"));
    let storage = table.storage_descriptor().unwrap();
    assert_eq!(
        storage.location(),
        Some(format!("s3://{}/", glued.sink.bucket()).as_str())
    );
    let parquet =
        |class: Option<&str>| class.unwrap_or_default().to_lowercase().contains("parquet");
    assert!(parquet(storage.input_format()) && parquet(storage.output_format()));
    assert!(parquet(
        storage.serde_info().unwrap().serialization_library()
    ));
    let parameters = glued.parameters().await?;
    assert_eq!(parameters["classification"], "parquet");
    assert_eq!(parameters["EXTERNAL"], "TRUE");
    assert_eq!(parameters["tidewater.dev/owner"], glued.sink.id());

    let told = glued.await_synced(&tidewater).await?;
    let partitions = glued.partitions().await?.len();
    assert_eq!(told["name"], json!(format!("{}.orders", glued.database)));
    assert_eq!(told["partitionsRegistered"], json!(partitions));
    assert_eq!(told["partitionsWaiting"], json!(0));
    assert!(told["lastRepairTime"].is_string(), "{told}");
    let (_, metrics) = tidewater.http_get("/metrics").await?;
    let sink = glued.sink.id();
    for line in [
        format!("tidewater_glue_partitions_registered_total{{sink=\"{sink}\"}} {partitions}"),
        format!("tidewater_glue_table_synced{{sink=\"{sink}\"}} 1"),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn partitions_that_somebody_deletes_or_forgets_are_registered_again() -> Result<()> {
    let glued = Glued::new(1)
        .await?
        .with(json!({"glue": {"repairInterval": "1s"}}));
    glued.topic.produce(orders(300, 2)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(300).await?;
    glued.await_all_registered().await?;

    let lost: Vec<Vec<String>> = glued.partitions().await?.into_keys().take(2).collect();
    for values in &lost {
        let request = glued.glue.delete_partition().database_name(&glued.database);
        let request = request.table_name("orders");
        request
            .set_partition_values(Some(values.clone()))
            .send()
            .await?;
    }
    // A folder that another tool filled.
    let (s3, bucket) = (glued.sink.s3(), glued.sink.bucket());
    let copied = glued.sink.files().await?.into_iter().next().unwrap();
    let name = copied.rsplit('/').next().unwrap();
    let request = s3
        .copy_object()
        .bucket(bucket)
        .key(format!("country=X%2FY/{name}"));
    request
        .copy_source(format!("{bucket}/{copied}"))
        .send()
        .await?;
    glued
        .await_all_registered()
        .await
        .with_context(|| tidewater.process().log_tail())?;
    let by_hand = &glued.partitions().await?[&vec!["X/Y".to_owned()]];
    assert_eq!(by_hand.0, format!("s3://{bucket}/country=X%2FY/"));

    // A partition whose files are gone is told, and stays.
    let request = s3.delete_object().bucket(bucket);
    request.key(format!("country=X%2FY/{name}")).send().await?;
    let one = |table: &Value| table["partitionsWithoutFiles"] == json!(1);
    await_table(&tidewater, "a partition without files", one).await?;
    assert!(
        glued
            .partitions()
            .await?
            .contains_key(&vec!["X/Y".to_owned()])
    );
    glued.sink.assert_once(300).await
}

#[tokio::test]
async fn what_a_process_could_not_register_before_it_died_is_registered_by_the_next() -> Result<()>
{
    let glued = Glued::new(1).await?;
    let glued = Glued {
        sink: glued.sink.alone(),
        ..glued
    };
    glued.topic.produce(orders(200, 3)).await?;
    glued.sink.die_at("dataset.after-completes").await?;
    assert_eq!(glued.sink.count().await?, (200, 200));
    if glued.has_table().await {
        assert!(glued.partitions().await?.is_empty());
    }
    glued.sink.catch_up().await?;
    glued.await_all_registered().await?;
    glued.assert_readers_find(200).await
}

#[tokio::test]
async fn a_glue_that_is_down_stops_no_data_and_is_caught_up_with() -> Result<()> {
    let glued = Glued::new(2).await?;
    let way = glued.lab.proxy(&glued.lab.ministack().endpoint).await?;
    let glued =
        glued.with(json!({"glue": {"endpoint": way.endpoint(), "timeouts": {"maxAttempts": 1}}}));
    way.disable().await?;
    glued.topic.produce(orders(300, 4)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(300).await?;
    let down = |table: &Value| table["reason"] == json!("CatalogUnavailable");
    let told = await_table(&tidewater, "Glue told to be down", down).await?;
    assert_eq!(told["synced"], json!(false));
    assert!(!glued.has_table().await);
    way.enable().await?;
    glued.await_synced(&tidewater).await?;
    glued.await_all_registered().await?;

    // Again, with a table: new folders wait.
    way.disable().await?;
    let values = json!({"order_id": 1, "country": "Atlantis", "created_at": 0});
    glued.topic.produce(glued.send(&[values])).await?;
    glued.sink.await_rows(301).await?;
    await_table(&tidewater, "a folder waits", |table| {
        table["partitionsWaiting"] == json!(1)
    })
    .await?;
    let status = status(&tidewater).await?;
    assert_eq!(
        status["commit"]["consecutiveFailures"],
        json!(0),
        "{status}"
    );
    way.enable().await?;
    glued.await_all_registered().await?;
    glued.await_synced(&tidewater).await?;
    glued.assert_readers_find(301).await
}

#[tokio::test]
async fn columns_follow_the_records_and_partitions_follow_the_table() -> Result<()> {
    let inferred = json!({"value": {"schema": null, "infer": {"sampleRecords": 1}}});
    let glued = Glued::new(1).await?.with(inferred);
    let first = json!({"id": 1, "country": "ES", "amount": 7});
    glued.topic.produce(glued.send(&[first])).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(1).await?;
    glued.await_all_registered().await?;
    let before = glued.columns().await?;
    assert!(before.contains(&"amount bigint".to_owned()), "{before:?}");

    let second =
        json!({"id": 2, "country": "FR", "amount": 8, "note": "new", "address": {"city": "Vigo"}});
    glued.topic.produce(glued.send(&[second])).await?;
    glued.sink.await_rows(2).await?;
    glued.await_all_registered().await?;
    let after = glued.columns().await?;
    assert_eq!(after[..before.len()], before);
    let new: BTreeSet<&str> = after[before.len()..].iter().map(String::as_str).collect();
    assert_eq!(
        new,
        BTreeSet::from(["address struct<city:string>", "note string"])
    );
    // The old partition may get files with the new columns at any time.
    await_until(PATIENCE, "columns of old partitions", async || {
        let partitions = glued.partitions().await?;
        Ok(partitions.values().all(|(_, columns)| *columns == after))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    glued.await_synced(&tidewater).await?;
    Ok(())
}

#[tokio::test]
async fn columns_of_a_changed_resource_are_added_and_a_policy_against_it_is_told() -> Result<()> {
    let glued = Glued::new(1).await?;
    glued.topic.produce(orders(100, 5)).await?;
    glued.sink.catch_up().await?;
    let before = glued.columns().await?;
    let strict = json!({"glue": {"evolution": {"addColumns": false}},
        "metadataColumns": {"timestamp": "_timestamp"}});
    let mut glued = glued.with(strict);
    let tidewater = glued.sink.start()?;
    let refused = |table: &Value| table["reason"] == json!("TableDiffers");
    let told = await_table(&tidewater, "a difference", refused).await?;
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("_timestamp") && message.contains("evolution.addColumns"),
        "{message}"
    );
    assert_eq!(glued.columns().await?, before);
    tidewater.kill9();

    glued
        .sink
        .change(json!({"glue": {"evolution": {"addColumns": true}}}));
    glued.sink.catch_up().await?;
    let after = glued.columns().await?;
    assert_eq!(
        after,
        [before, vec!["_timestamp timestamp".to_owned()]].concat()
    );
    let partitions = glued.partitions().await?;
    assert!(
        partitions.values().all(|(_, columns)| *columns == after),
        "{partitions:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_table_that_exists_is_taken_over_only_when_told() -> Result<()> {
    let glued = Glued::new(1).await?;
    let database = DatabaseInput::builder().name(&glued.database).build()?;
    glued
        .glue
        .create_database()
        .database_input(database)
        .send()
        .await?;
    let column = |name: &str, ty: &str| Column::builder().name(name).r#type(ty).build();
    let serde = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
    let storage = StorageDescriptor::builder()
        .location(format!("s3://{}", glued.sink.bucket()))
        .columns(column("order_id", "bigint")?)
        .input_format("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat")
        .output_format("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat")
        .serde_info(SerDeInfo::builder().serialization_library(serde).build())
        .build();
    let theirs = TableInput::builder()
        .name("orders")
        .description("theirs")
        .table_type("EXTERNAL_TABLE")
        .parameters("their.key", "theirs")
        .partition_keys(column("country", "string")?)
        .storage_descriptor(storage)
        .build()?;
    let request = glued.glue.create_table().database_name(&glued.database);
    request.table_input(theirs).send().await?;

    glued.topic.produce(orders(100, 6)).await?;
    let tidewater = glued.sink.start()?;
    let refused = |table: &Value| table["reason"] == json!("TableNotOurs");
    let told = await_table(&tidewater, "a refusal", refused).await?;
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("spec.glue.adopt: true"),
        "{told}"
    );
    glued.sink.await_rows(100).await?;
    assert_eq!(glued.columns().await?, ["order_id bigint"]);
    assert!(glued.partitions().await?.is_empty());
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());

    let glued = glued.with(json!({"glue": {"adopt": true}}));
    glued.sink.catch_up().await?;
    glued.await_all_registered().await?;
    let table = glued.table().await?;
    assert_eq!(table.description(), Some("theirs"));
    let parameters = glued.parameters().await?;
    assert_eq!(parameters["their.key"], "theirs");
    assert_eq!(parameters["tidewater.dev/origin"], "Adopted");
    assert!(glued.columns().await?.len() > 5);
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn two_sinks_do_not_share_a_table() -> Result<()> {
    let first = Glued::new(1).await?;
    first.topic.produce(orders(50, 7)).await?;
    first.sink.catch_up().await?;
    let parameters = first.parameters().await?;
    let database = json!({"glue": {"database": first.database, "adopt": true}});
    let second = Glued::new(1).await?.with(database);
    second.topic.produce(orders(50, 8)).await?;
    let tidewater = second.sink.start()?;
    let refused = |table: &Value| table["reason"] == json!("TableNotOurs");
    let told = await_table(&tidewater, "a refusal", refused).await?;
    assert!(
        told["message"].as_str().unwrap().contains(&first.sink.id()),
        "{told}"
    );
    second.sink.await_rows(50).await?;
    assert_eq!(first.parameters().await?, parameters);
    first.assert_readers_find(50).await
}

#[tokio::test]
async fn partitions_that_readers_compute_are_described_and_not_registered() -> Result<()> {
    let glued = Glued::new(1).await?.with(json!({
        "partitioning": [
            {"time": {"format": "dt=%Y-%m-%d/hour=%H", "column": "created_at"}}, {"column": "country"}, {"column": "quantity"},
        ],
        "glue": {"partitions": "Projection", "projection": {
            "since": "2026-01-01", "columns": {"quantity": {"min": 0, "max": 99}},
        }},
    }));
    glued.topic.produce(orders(100, 9)).await?;
    glued.sink.catch_up().await?;
    let parameters = glued.parameters().await?;
    let template = format!(
        "s3://{}/dt=${{dt}}/hour=${{hour}}/country=${{country}}/quantity=${{quantity}}/",
        glued.sink.bucket()
    );
    for (key, value) in [
        ("projection.enabled", "true"),
        ("projection.dt.type", "date"),
        ("projection.dt.format", "yyyy-MM-dd"),
        ("projection.dt.range", "2026-01-01,NOW+1DAYS"),
        ("projection.hour.type", "integer"),
        ("projection.hour.digits", "2"),
        ("projection.country.type", "injected"),
        ("projection.quantity.range", "0,99"),
        ("storage.location.template", template.as_str()),
    ] {
        assert_eq!(
            parameters.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
    assert!(glued.partitions().await?.is_empty());
    // Every folder is one that the template makes of its values.
    for folder in glued.folders().await? {
        let mut made = template.clone();
        for level in folder.split('/').filter_map(|level| level.split_once('=')) {
            made = made.replace(&format!("${{{}}}", level.0), level.1);
        }
        assert_eq!(made, folder);
    }

    // Registered after all: what readers would compute is taken out of the table.
    let glued = glued.with(json!({"glue": {"partitions": "Register", "projection": null}}));
    glued.sink.catch_up().await?;
    let parameters = glued.parameters().await?;
    let left = parameters
        .keys()
        .any(|key| key.starts_with("projection.") || key.starts_with("storage."));
    assert!(!left, "{parameters:?}");
    glued.await_all_registered().await?;
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn a_glue_that_throttles_loses_answers_or_lets_others_win_is_told_everything() -> Result<()> {
    for (spoil, count) in [
        (Spoil::Refuse("ConcurrentModificationException"), 3),
        (Spoil::Refuse("ThrottlingException"), 3),
        (Spoil::CutAfter, 1),
        (Spoil::FailAfter, 1),
    ] {
        let glued = Glued::new(1).await?;
        let way = Spoiler::start(&glued.lab.ministack().endpoint).await?;
        let mut glued = glued.with(json!({"glue": {"endpoint": way.endpoint()}}));
        let made = ["CreateDatabase", "CreateTable", "BatchCreatePartition"];
        for operation in made {
            way.spoil(operation, spoil, count);
        }
        glued.topic.produce(orders(100, 10)).await?;
        let tidewater = glued.sink.start()?;
        glued.sink.await_rows(100).await?;
        glued
            .await_all_registered()
            .await
            .with_context(|| format!("{spoil:?}\n{}", tidewater.process().log_tail()))?;
        for operation in made {
            assert_eq!(way.spoilt(operation), count, "{operation} {spoil:?}");
        }
        glued.await_synced(&tidewater).await?;
        tidewater.sigterm();
        ensure!(tidewater.wait_exit(PATIENCE).await?.success());

        glued
            .sink
            .change(json!({"metadataColumns": {"timestamp": "_timestamp"}}));
        for operation in [
            "UpdateTable",
            "BatchUpdatePartition",
            "BatchGetPartition",
            "GetTable",
        ] {
            way.spoil(operation, spoil, count);
        }
        let tidewater = glued.sink.start()?;
        await_until(PATIENCE, "the new column everywhere", async || {
            let columns = glued.columns().await?;
            let partitions = glued.partitions().await?;
            Ok(columns.contains(&"_timestamp timestamp".to_owned())
                && partitions.values().all(|(_, of)| *of == columns))
        })
        .await
        .with_context(|| format!("{spoil:?}\n{}", tidewater.process().log_tail()))?;
        assert_eq!(way.spoilt("UpdateTable"), count, "{spoil:?}");
        glued.await_synced(&tidewater).await?;
        glued
            .assert_readers_find(100)
            .await
            .with_context(|| format!("{spoil:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_that_glue_refuses_is_registered_in_parts() -> Result<()> {
    let glued = Glued::new(1).await?;
    let way = Spoiler::start(&glued.lab.ministack().endpoint).await?;
    let glued = glued.with(json!({"glue": {"endpoint": way.endpoint()}}));
    for operation in ["BatchCreatePartition", "BatchGetPartition"] {
        way.spoil(operation, Spoil::Refuse("InvalidInputException"), 2);
    }
    glued.topic.produce(orders(100, 13)).await?;
    glued.sink.catch_up().await?;
    glued.await_all_registered().await?;
    assert_eq!(way.spoilt("BatchCreatePartition"), 2);
    glued.assert_readers_find(100).await?;
    // A comparison that is refused goes on in parts, too.
    glued.sink.catch_up().await?;
    assert_eq!(way.spoilt("BatchGetPartition"), 2);
    Ok(())
}

#[tokio::test]
async fn a_table_that_somebody_drops_is_made_anew_with_all_its_partitions() -> Result<()> {
    let glued = Glued::new(1)
        .await?
        .with(json!({"glue": {"repairInterval": "1s"}}));
    glued.topic.produce(orders(100, 14)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(100).await?;
    glued.await_all_registered().await?;
    let request = glued.glue.delete_table().database_name(&glued.database);
    request.name("orders").send().await?;
    glued
        .await_all_registered()
        .await
        .with_context(|| tidewater.process().log_tail())?;
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn a_database_that_is_missing_is_waited_for_unless_it_is_to_be_made() -> Result<()> {
    let glued = Glued::new(1)
        .await?
        .with(json!({"glue": {"createDatabase": false}}));
    glued.topic.produce(orders(100, 11)).await?;
    let tidewater = glued.sink.start()?;
    glued.sink.await_rows(100).await?;
    let missing = |table: &Value| table["reason"] == json!("CatalogDatabaseNotFound");
    await_table(&tidewater, "the missing database told", missing).await?;
    let database = DatabaseInput::builder().name(&glued.database).build()?;
    glued
        .glue
        .create_database()
        .database_input(database)
        .send()
        .await?;
    glued.await_synced(&tidewater).await?;
    glued.await_all_registered().await?;
    glued.assert_readers_find(100).await
}

#[tokio::test]
async fn several_processes_keep_one_table() -> Result<()> {
    let glued = Glued::new(4).await?;
    let processes = [
        glued.sink.start()?,
        glued.sink.start()?,
        glued.sink.start()?,
    ];
    for seed in 0..4 {
        glued.topic.produce(orders(100, 20 + seed)).await?;
    }
    glued.sink.await_rows(400).await?;
    glued.await_all_registered().await?;
    for tidewater in &processes {
        glued.await_synced(tidewater).await?;
    }
    glued.assert_readers_find(400).await
}

#[tokio::test]
async fn json_lines_have_a_table_for_their_serde() -> Result<()> {
    for compression in ["None", "Gzip"] {
        let glued = Glued::new(1).await?;
        let glued = glued.with(json!({"output": {"format": "Json", "compression": compression}}));
        glued.topic.produce(orders(100, 12)).await?;
        glued.sink.catch_up().await?;
        glued.await_all_registered().await?;
        let table = glued.table().await?;
        let serde = table.storage_descriptor().unwrap().serde_info().unwrap();
        assert_eq!(
            serde.serialization_library(),
            Some("org.openx.data.jsonserde.JsonSerDe")
        );
        assert_eq!(glued.parameters().await?["classification"], "json");
        let columns = glued.columns().await?;
        for column in [
            "order_id bigint",
            "amount decimal(12,2)",
            "created_at string",
        ] {
            assert!(columns.contains(&column.to_owned()), "{columns:?}");
        }
        let partitions = glued.partitions().await?;
        let places: Vec<String> = partitions
            .values()
            .map(|(at, _)| format!("'{at}*.json*'"))
            .collect();
        let sql = format!(
            "SELECT count(*), count(DISTINCT _offset) FROM read_json([{}], format='newline_delimited')",
            places.join(", ")
        );
        let found = glued.sink.duckdb().await?.query(&sql).await?;
        assert_eq!(found, [[json!(100), json!(100)]], "{compression}");
    }
    Ok(())
}
