//! A dataset's table in Glue: readers find in it exactly what was produced, whatever becomes of Glue meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use aws_sdk_glue::types::{Column, DatabaseInput, SerDeInfo, StorageDescriptor, Table, TableInput};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, Spoil, Spoiler, Tidewater, Topic, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, status};

mod columns;
mod faults;
mod ownership;

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
            "glue": glue_spec(&database, &lab.ministack().endpoint),
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

    /// Started again it has its partitions back at once.
    fn alone(mut self) -> Self {
        self.sink = self.sink.alone();
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

fn glue_spec(database: &str, endpoint: &str) -> Value {
    json!({
        "database": database, "table": "orders", "createDatabase": true, "repairInterval": "1h",
        "endpoint": endpoint, "timeouts": {"attempt": "3s", "maxAttempts": 2},
    })
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
