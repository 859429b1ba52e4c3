//! Iceberg tables, from the resource to the rows: `tidewater` as a user runs it, read back by DuckDB, PyIceberg and
//! `tidewater verify`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidewater_e2e::{
    IcebergCatalog, Lab, Record, Tidewater, Topic, await_until, ensure_discreet, orders,
    tidewater_binary,
};

use crate::witness::Rows;

mod by_hand;
mod catalogs;
mod clock;
mod crashes;
mod declared;
mod evolution;
mod glue;
mod groups;
mod inference;
mod manifests;
mod merging;
mod names;
mod others;
mod partitions;
mod replies;
mod resets;
mod sorting;
mod source_identity;
mod values;
mod vended;

/// For a whole run on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the table's catalog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Catalog {
    Rest,
    Glue,
    Local,
}

/// An `IcebergTable` resource with its own topic, group, table and folder.
struct TableSink {
    lab: &'static Lab,
    topic: Topic,
    catalog: Catalog,
    name: String,
    namespace: String,
    spec: Value,
    folder: PathBuf,
}

impl TableSink {
    /// Orders into the table `<namespace>.orders` of the catalog, its partition and offset in metadata columns. The
    /// commit interval is short, so that a run makes several commits.
    async fn new(catalog: Catalog, partitions: i32) -> Result<TableSink> {
        let lab = Lab::shared().await?;
        let topic = lab.topic("orders", partitions).await?;
        let folder = lab.scratch()?;
        let mut spec = json!({
            "catalog": catalog_spec(lab, catalog, &folder).await?,
            "namespace": lab.unique("ns"),
            "table": "orders",
            "source": {
                "bootstrapServers": lab.kafka(),
                "topics": [topic.name()],
                "drainTimeout": "3s",
                "properties": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"},
            },
            "schema": {"fields": order_columns()},
            "metadataColumns": {"partition": "kafka_partition", "offset": "kafka_offset"},
            "commit": {"interval": "1s"},
        });
        if catalog != Catalog::Local {
            spec["storage"] = json!({"s3": {
                "region": lab.s3().region, "endpoint": lab.s3().endpoint, "pathStyle": true,
                "credentials": credentials("s3"),
            }});
        }
        Ok(TableSink {
            lab,
            topic,
            catalog,
            name: lab.unique("sink"),
            namespace: spec["namespace"].as_str().unwrap_or_default().to_owned(),
            spec,
            folder,
        })
    }

    /// Replaces what a JSON pointer names, or adds it to the object above.
    fn set(mut self, pointer: &str, value: Value) -> Self {
        self.change(pointer, value);
        self
    }

    fn change(&mut self, pointer: &str, value: Value) {
        let (above, key) = pointer.rsplit_once('/').unwrap();
        self.spec.pointer_mut(above).unwrap()[key] = value;
    }

    /// Columns from the records instead of a declared schema.
    fn inferred(mut self) -> Self {
        self.spec.as_object_mut().unwrap().remove("schema");
        self.set("/value", json!({"infer": {"sampleRecords": 10}}))
    }

    /// Another process of the same sink, with a folder of its own.
    fn twin(&self) -> Result<TableSink> {
        Ok(TableSink {
            lab: self.lab,
            topic: self.topic.clone(),
            catalog: self.catalog,
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            spec: self.spec.clone(),
            folder: self.lab.scratch()?,
        })
    }

    /// `<namespace>.<table>`.
    fn table(&self) -> String {
        format!("{}.orders", self.namespace)
    }

    /// The sink's prefix of the table's properties.
    fn property(&self, name: &str) -> String {
        format!("tidewater.default.{}.{name}", self.name)
    }

    async fn produce(&self, n: u64, seed: u64) -> Result<()> {
        self.topic.produce(orders(n, seed)).await
    }

    /// Where each partition of the topic ends.
    async fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        let mut ends = BTreeMap::new();
        for consumed in self.topic.read_all().await? {
            ends.insert(consumed.record.partition, consumed.offset + 1);
        }
        Ok(ends)
    }

    /// Records of the topic that say something in a field.
    async fn saying(&self, field: &str) -> Result<usize> {
        let mut saying = 0;
        for consumed in self.topic.read_all().await? {
            let value: Value = serde_json::from_slice(&consumed.record.value.unwrap_or_default())?;
            saying += usize::from(!value[field].is_null());
        }
        Ok(saying)
    }

    async fn produce_values(&self, values: Vec<Value>) -> Result<()> {
        let records = values.into_iter().zip(0..);
        let records: Vec<_> = records
            .map(|(value, i)| Record::new(i, value.to_string()))
            .collect();
        self.topic.produce(records).await
    }

    fn manifest(&self) -> Result<String> {
        let resource = json!({
            "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable",
            "metadata": {"name": self.name}, "spec": self.spec,
        });
        let secret = |name: &str, access: &tidewater_e2e::S3Access| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "stringData": {"id": access.access_key, "key": access.secret_key},
            })
        };
        let documents = [
            resource,
            secret("s3", self.lab.s3()),
            secret("aws", self.lab.ministack()),
        ];
        let path = self.folder.join("table.yaml");
        let text: Vec<_> = documents.iter().map(Value::to_string).collect();
        fs::write(&path, text.join("\n---\n"))?;
        Ok(path.display().to_string())
    }

    /// Runs until told otherwise.
    fn start(&self) -> Result<Tidewater> {
        self.start_in(&[])
    }

    /// Runs until told otherwise, with these variables.
    fn start_in(&self, environment: &[(&str, &str)]) -> Result<Tidewater> {
        let arguments = ["run", "-f", &self.manifest()?];
        Tidewater::spawn(&self.folder, &arguments, environment)
    }

    /// Runs until it has caught up, unless the failpoint kills it before.
    fn start_to_die_at(&self, failpoint: &str) -> Result<Tidewater> {
        let manifest = self.manifest()?;
        let arguments = ["run", "-f", &manifest, "--until-caught-up"];
        let environment = [("TIDEWATER_FAILPOINT", failpoint)];
        Tidewater::spawn(&self.folder, &arguments, &environment)
    }

    fn start_to_catch_up(&self) -> Result<Tidewater> {
        self.start_to_die_at("")
    }

    /// Runs until everything in the topic is in the table.
    async fn catch_up(&self) -> Result<()> {
        let running = self.start_to_catch_up()?;
        let ended = running.wait_exit(PATIENCE).await?;
        let log = running.process().log_tail();
        ensure!(ended.success(), "{ended}:\n{log}");
        Ok(())
    }

    /// Runs until it stops by itself, in vain; gives the error it prints.
    async fn fail(&self) -> Result<String> {
        self.end_in_failure(&self.start_to_catch_up()?).await
    }

    async fn end_in_failure(&self, running: &Tidewater) -> Result<String> {
        let ended = running.wait_exit(PATIENCE).await?;
        let log = running.process().log();
        ensure!(ended.code() == Some(1), "{ended}:\n{log}");
        let error = log.lines().rfind(|line| line.starts_with("error: "));
        Ok(error.with_context(|| log.clone())?.to_owned())
    }

    /// A command that looks; its output, and whether it was content.
    async fn look(&self, command: &str) -> Result<(bool, String)> {
        self.command(command, "").await
    }

    /// The same with more arguments, separated by spaces.
    async fn command(&self, command: &str, more: &str) -> Result<(bool, String)> {
        let output = tokio::process::Command::new(tidewater_binary()?)
            .args(command.split(' '))
            .args(["-f", &self.manifest()?])
            .args(more.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .await?;
        let text =
            [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned());
        let said = text.concat();
        ensure_discreet(command, &said)?;
        Ok((output.status.success(), said))
    }

    fn reader(&self) -> IcebergCatalog {
        match self.catalog {
            Catalog::Rest => IcebergCatalog::Rest,
            Catalog::Glue => IcebergCatalog::Glue,
            Catalog::Local => IcebergCatalog::Metadata,
        }
    }

    /// How PyIceberg finds the table.
    fn named(&self) -> Result<String> {
        if self.catalog != Catalog::Local {
            return Ok(self.table());
        }
        let metadata = self
            .folder
            .join("warehouse")
            .join(&self.namespace)
            .join("orders/metadata");
        Ok(current_metadata(&metadata)?.display().to_string())
    }

    /// The table's metadata, as PyIceberg has them.
    async fn metadata(&self) -> Result<Value> {
        let pyiceberg = self.lab.pyiceberg().await?;
        pyiceberg.describe(&self.reader(), &self.named()?).await
    }

    /// Runs Python on the table: `table` in the code.
    async fn python(&self, code: &str) -> Result<Value> {
        let kind = match self.catalog {
            Catalog::Rest => "rest",
            Catalog::Glue => "glue",
            Catalog::Local => "metadata",
        };
        let code = format!("table = load({{'kind': '{kind}'}}, args)\n{code}");
        self.lab
            .pyiceberg()
            .await?
            .run(&code, json!(self.named()?))
            .await
    }

    /// DuckDB's name for the table as it is now.
    async fn relation(&self) -> Result<String> {
        let location = match self.catalog {
            Catalog::Local => json!(self.named()?),
            _ => self.python("result = table.metadata_location").await?,
        };
        Ok(format!(
            "iceberg_scan('{}')",
            location.as_str().context("a location")?
        ))
    }

    /// Rows of `SELECT <what>` from the table.
    async fn select(&self, what: &str) -> Result<Vec<Vec<Value>>> {
        let sql = match what.split_once(" WHERE ") {
            Some((what, condition)) => format!(
                "SELECT {what} FROM {} WHERE {condition}",
                self.relation().await?
            ),
            None => format!("SELECT {what} FROM {}", self.relation().await?),
        };
        self.lab.duckdb().await?.query(&sql).await
    }

    async fn count(&self) -> Result<Value> {
        let rows = self.select("count(*)").await?;
        rows.into_iter().flatten().next().context("no count")
    }

    /// Waits until the table, which a running sink writes to, has so many rows.
    async fn await_rows(&self, n: u64) -> Result<()> {
        let what = format!("{n} rows in the table");
        await_until(
            PATIENCE,
            &what,
            async || Ok(self.count().await? == json!(n)),
        )
        .await
    }

    /// How many snapshots the table has.
    async fn snapshots(&self) -> Result<usize> {
        let metadata = self.metadata().await?;
        Ok(metadata["snapshots"].as_array().map_or(0, Vec::len))
    }

    /// Every record of the topic is one row of the table and every row a record, with the record's values in the columns
    /// of their names, as DuckDB reads them; and `tidewater verify` agrees.
    async fn assert_rows_once(&self) -> Result<()> {
        self.assert_offsets_once().await?;
        self.assert_as_sent().await?;
        let (whole, report) = self.look("verify").await?;
        ensure!(
            whole && report.contains("whole: 0 missing, 0 duplicated"),
            "{report}"
        );
        Ok(())
    }

    /// Every row has its record's values in the columns of their names.
    async fn assert_as_sent(&self) -> Result<usize> {
        self.assert_as_sent_in(self.relation().await?).await
    }

    /// The same of some of its rows.
    async fn assert_as_sent_in(&self, relation: String) -> Result<usize> {
        let rows = Rows {
            duckdb: self.lab.duckdb().await?,
            relation,
            topic: format!("'{}'", self.topic.name()),
            partition: "kafka_partition",
            offset: "kafka_offset",
            fields: self.spec.pointer("/schema/fields"),
            uncommitted: false,
        };
        rows.assert_as_sent(&self.topic).await
    }

    /// Every record of the topic is one row of the table and every row a record, by offset alone.
    async fn assert_offsets_once(&self) -> Result<()> {
        let mut wanted: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for consumed in self.topic.read_all().await? {
            let value = consumed.record.value.unwrap_or_default();
            // What is no record at all cannot become a row.
            if serde_json::from_slice::<serde_json::Map<String, Value>>(&value).is_ok() {
                wanted.insert((consumed.record.partition.into(), consumed.offset), 1);
            }
        }
        let mut found: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for row in self.select("kafka_partition, kafka_offset").await? {
            let [Some(partition), Some(offset)] = [&row[0], &row[1]].map(Value::as_i64) else {
                bail!("a row without its offset: {row:?}");
            };
            *found.entry((partition, offset)).or_default() += 1;
        }
        let differences: Vec<_> = wanted
            .keys()
            .chain(found.keys())
            .filter(|at| found.get(at) != wanted.get(at))
            .map(|at| (at, found.get(at)))
            .take(10)
            .collect();
        ensure!(
            differences.is_empty(),
            "{} records, {} rows; (partition, offset) and how often it was found: {differences:?}",
            wanted.len(),
            found.values().sum::<i64>(),
        );
        Ok(())
    }
}

/// Asks a running sink to end, and sees that it does so in peace.
async fn end(running: &Tidewater) -> Result<()> {
    running.sigterm();
    let ended = running.wait_exit(PATIENCE).await?;
    let log = running.process().log_tail();
    ensure!(ended.success(), "{ended}:\n{log}");
    Ok(())
}

async fn catalog_spec(lab: &Lab, catalog: Catalog, folder: &Path) -> Result<Value> {
    Ok(match catalog {
        Catalog::Rest => json!({"rest": {"uri": lab.iceberg_rest()}}),
        Catalog::Local => json!({"local": {"path": folder.join("warehouse")}}),
        Catalog::Glue => json!({"glue": {
            "warehouse": format!("s3://{}/warehouse", lab.bucket().await?),
            "region": lab.ministack().region, "endpoint": lab.ministack().endpoint,
            "credentials": credentials("aws"),
        }}),
    })
}

fn credentials(secret: &str) -> Value {
    json!({
        "accessKeyId": {"secretKeyRef": {"name": secret, "key": "id"}},
        "secretAccessKey": {"secretKeyRef": {"name": secret, "key": "key"}},
    })
}

/// The columns of [`orders`].
pub(crate) fn order_columns() -> Value {
    json!([
        {"name": "order_id", "type": "long", "required": true, "doc": "number of the order"},
        {"name": "customer", "type": "string"},
        {"name": "amount", "type": "decimal(12,2)"},
        {"name": "currency", "type": "string"},
        {"name": "status", "type": "string"},
        {"name": "country", "type": "string"},
        {"name": "created_at", "type": "timestamptz", "encoding": "EpochMillis"},
        {"name": "updated_at", "type": "timestamptz", "encoding": "Iso8601"},
        {"name": "quantity", "type": "int"},
    ])
}

/// The metadata file that a local table's version hint names.
fn current_metadata(folder: &Path) -> Result<PathBuf> {
    let hint = fs::read_to_string(folder.join("version-hint.text"))?;
    Ok(folder.join(format!("{}.metadata.json", hint.trim())))
}

/// The summary of the table's current snapshot.
fn current_summary(metadata: &Value) -> Option<&Value> {
    let current = &metadata["current-snapshot-id"];
    let snapshots = metadata["snapshots"].as_array()?;
    let snapshot = snapshots
        .iter()
        .find(|snapshot| &snapshot["snapshot-id"] == current)?;
    Some(&snapshot["summary"])
}
