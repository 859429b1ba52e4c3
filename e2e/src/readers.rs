//! Readers in a process of their own each: DuckDB, PyIceberg with pyarrow, Iceberg's Java code. They tell what a user of
//! the tables would see.

mod process;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::{Endpoints, S3Access};
use process::ReaderProcess;

use std::path::Path;
use std::process::Stdio;

use crate::Installation;
use crate::install::e2e_folder;

/// DuckDB with its httpfs, avro and iceberg extensions.
#[derive(Debug)]
pub struct DuckDb(ReaderProcess);

impl DuckDb {
    /// Starts a DuckDB with keys for `s3`, and the REST catalog at `catalog` attached as `ice`.
    pub async fn start(s3: &S3Access, catalog: Option<&str>) -> Result<DuckDb> {
        let settings = json!({
            "access_key": s3.access_key, "secret_key": s3.secret_key, "region": s3.region, "host": s3.host(),
            "catalog": catalog,
        });
        Ok(DuckDb(
            ReaderProcess::start("duckdb_reader.py", &settings).await?,
        ))
    }

    /// The rows of a statement. Times and decimals are strings, binary is hex.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answer = self
            .0
            .ask(json!({"sql": sql}))
            .await
            .with_context(|| sql.to_owned())?;
        Ok(serde_json::from_value(answer)?)
    }

    /// The one value of a statement.
    pub async fn value(&self, sql: &str) -> Result<Value> {
        let rows = self.query(sql).await?;
        rows.into_iter()
            .flatten()
            .next()
            .ok_or_else(|| anyhow!("no row from: {sql}"))
    }

    /// The bloom filters of a Parquet file: columns that have one.
    pub async fn bloom_filters(&self, path: &str) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT DISTINCT path_in_schema FROM parquet_metadata('{path}') \
             WHERE bloom_filter_offset IS NOT NULL ORDER BY 1"
        );
        let rows = self.query(&sql).await?;
        Ok(rows
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect())
    }
}

/// Where PyIceberg finds a table.
#[derive(Debug, Clone)]
pub enum IcebergCatalog {
    /// The lab's REST catalog.
    Rest,
    /// Another REST catalog.
    RestAt(String),
    /// Glue, with tables on the lab's S3.
    Glue,
    /// No catalog: the table's name is its metadata file.
    Metadata,
}

impl IcebergCatalog {
    fn describe(&self) -> Value {
        match self {
            IcebergCatalog::Rest => json!({"kind": "rest"}),
            IcebergCatalog::RestAt(uri) => json!({"kind": "rest", "uri": uri}),
            IcebergCatalog::Glue => json!({"kind": "glue"}),
            IcebergCatalog::Metadata => json!({"kind": "metadata"}),
        }
    }
}

/// PyIceberg and pyarrow.
#[derive(Debug)]
pub struct PyIceberg(ReaderProcess);

impl PyIceberg {
    /// Starts the process, with the lab's endpoints and keys.
    pub async fn start(endpoints: &Endpoints) -> Result<PyIceberg> {
        let settings = serde_json::to_value(endpoints)?;
        Ok(PyIceberg(
            ReaderProcess::start("pyiceberg_reader.py", &settings).await?,
        ))
    }

    /// Runs Python. It finds `args`, `catalog(description)`, `load(description, table)` and `parquet_meta(path)`, and
    /// leaves its answer in `result`.
    pub async fn run(&self, code: &str, args: Value) -> Result<Value> {
        self.0
            .ask(json!({"code": code, "args": args}))
            .await
            .with_context(|| code.to_owned())
    }

    /// The rows of a table, an object each.
    pub async fn scan(&self, catalog: &IcebergCatalog, table: &str) -> Result<Vec<Value>> {
        let code = "result = load(args['catalog'], args['table']).scan().to_arrow().to_pylist()";
        let answer = self.on_table(code, catalog, table).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// What the table's metadata say: format version, schema, partition spec, properties, snapshots with summaries.
    pub async fn describe(&self, catalog: &IcebergCatalog, table: &str) -> Result<Value> {
        let code = "result = __import__('json').loads(load(args['catalog'], args['table']).metadata.model_dump_json())";
        self.on_table(code, catalog, table).await
    }

    /// Footer of a Parquet file (`s3://…` or a local path): `rows`, `schema`, `field_ids`, `key_values`, `row_groups`
    /// with the statistics of every column. Bloom filters: [`DuckDb::bloom_filters`].
    pub async fn parquet_meta(&self, path: &str) -> Result<Value> {
        self.run("result = parquet_meta(args)", json!(path)).await
    }

    async fn on_table(&self, code: &str, catalog: &IcebergCatalog, table: &str) -> Result<Value> {
        self.run(code, json!({"catalog": catalog.describe(), "table": table}))
            .await
    }
}

/// The data files of the table in a folder whose metadata file this is, as Iceberg's own implementation plans a scan:
/// see `readers/JavaReader.java`.
pub async fn java_data_files(metadata: &Path) -> Result<Vec<Value>> {
    let libraries = Installation::find().await?.folder("iceberg-rest")?;
    let output = tokio::process::Command::new("java")
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
        .arg(libraries.join("libs/*"))
        .arg(e2e_folder().join("readers/JavaReader.java"))
        .arg(metadata)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("start java")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "JavaReader: {errors}");
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    lines
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}
