//! A dataset sink of orders on the lab: its resource, its processes, and what readers find in its dataset.

mod bucket;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_e2e::{
    DuckDb, Lab, Process, Proxy, S3Access, SASL_USER, Tidewater, Topic, await_until,
    ensure_discreet, tidewater_binary,
};

use crate::witness::Rows;

pub(crate) use self::process::{
    Ended, await_fenced, await_log, await_status, commits, ended, status, stop,
};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A `KafkaS3Sink` and the folder its processes log to.
#[derive(Debug)]
pub(crate) struct DatasetSink {
    lab: &'static Lab,
    topic: Topic,
    resource: Value,
    folder: PathBuf,
    bucket: String,
    on_ministack: bool,
    launched: AtomicUsize,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl DatasetSink {
    /// Reads `topic` from the lab's broker into a bucket of its own, with a group of its own. Files close after a
    /// second; a member that was killed is missed after six.
    pub(crate) async fn of(lab: &'static Lab, topic: &Topic) -> Result<DatasetSink> {
        let (name, bucket) = (lab.unique("sink"), lab.bucket().await?);
        let access = lab.s3();
        let secret = |key: &str| json!({"secretKeyRef": {"name": "lake", "key": key}});
        let fields = json!([
            {"name": "order_id", "type": "long", "required": true},
            {"name": "customer", "type": "string"},
            {"name": "amount", "type": "decimal(12,2)"},
            {"name": "currency", "type": "string"},
            {"name": "status", "type": "string"},
            {"name": "country", "type": "string"},
            {"name": "created_at", "type": "timestamptz", "encoding": "EpochMillis"},
            {"name": "updated_at", "type": "timestamptz", "encoding": "Iso8601"},
            {"name": "quantity", "type": "int"},
        ]);
        let resource = json!({
            "apiVersion": "tidewater.dev/v1alpha1",
            "kind": "KafkaS3Sink",
            "metadata": {"name": name},
            "spec": {
                "source": {
                    "bootstrapServers": lab.kafka(),
                    "topics": [topic.name()],
                    "drainTimeout": "3s",
                    "properties": {
                        "session.timeout.ms": "6000",
                        "heartbeat.interval.ms": "500",
                        "statistics.interval.ms": "1000",
                        "topic.metadata.refresh.interval.ms": "1000",
                    },
                },
                "value": {"schema": {"fields": fields}},
                "metadataColumns": {"topic": "_topic", "partition": "_partition", "offset": "_offset"},
                "rotation": {"maxOpen": "1s"},
                "destination": {"s3": {
                    "bucket": bucket,
                    "region": access.region,
                    "endpoint": access.endpoint,
                    "pathStyle": true,
                    "credentials": {
                        "accessKeyId": secret("accessKeyId"),
                        "secretAccessKey": secret("secretAccessKey"),
                    },
                }},
            },
        });
        Ok(DatasetSink {
            lab,
            topic: topic.clone(),
            resource,
            folder: lab.scratch()?,
            bucket,
            on_ministack: false,
            launched: AtomicUsize::new(0),
        })
    }

    /// The same with `patch` merged into its spec (RFC 7396: null removes).
    pub(crate) fn with(mut self, patch: Value) -> Self {
        self.change(patch);
        self
    }

    /// Merges `patch` into the spec, for processes started from now on.
    pub(crate) fn change(&mut self, patch: Value) {
        merge(&mut self.resource["spec"], patch);
        drop_nulls(&mut self.resource);
    }

    /// Writes into this bucket from now on.
    pub(crate) fn move_to(&mut self, bucket: &str) {
        bucket.clone_into(&mut self.bucket);
        self.change(json!({"destination": {"s3": {"bucket": bucket}}}));
    }

    /// The same into a folder of this machine.
    pub(crate) fn local(self) -> Self {
        let path = self.folder.join("dataset");
        self.with(json!({"destination": {"s3": Value::Null, "local": {"path": path}}}))
    }

    /// The same into a bucket of ministack.
    pub(crate) async fn on_ministack(mut self) -> Result<Self> {
        self.on_ministack = true;
        self.s3()
            .create_bucket()
            .bucket(&self.bucket)
            .send()
            .await?;
        let endpoint = self.access().endpoint.clone();
        Ok(self.at(&endpoint))
    }

    /// The same with another address of its S3.
    pub(crate) fn at(self, endpoint: &str) -> Self {
        self.with(json!({"destination": {"s3": {"endpoint": endpoint}}}))
    }

    /// The same with a proxy before its S3.
    pub(crate) fn through(self, proxy: &Proxy) -> Self {
        self.at(&proxy.endpoint())
    }

    /// The same as a static member of its group: started again after a kill it has its partitions back at once.
    pub(crate) fn alone(self) -> Self {
        self.with(json!({"source": {"properties": {"group.instance.id": "alone"}}}))
    }

    /// `<namespace>.<name>`, as in ledger keys.
    pub(crate) fn id(&self) -> String {
        let name = self.resource["metadata"]["name"].as_str().unwrap();
        format!("default.{name}")
    }

    pub(crate) fn group(&self) -> String {
        format!("tidewater.{}", self.id())
    }

    fn access(&self) -> &'static S3Access {
        match self.on_ministack {
            true => self.lab.ministack(),
            false => self.lab.s3(),
        }
    }

    /// A client of its store.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        self.access().client()
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Where the data files are, `s3://…` or a folder.
    pub(crate) fn location(&self) -> String {
        match self.resource["spec"]["destination"]["local"]["path"].as_str() {
            Some(path) => path.to_owned(),
            None => format!("s3://{}", self.bucket),
        }
    }

    /// The resource and its secret, as written for `tidewater -f`.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        let access = self.lab.s3();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake"},
            "stringData": {"accessKeyId": access.access_key, "secretAccessKey": access.secret_key,
                "kafkaPassword": SASL_USER.1},
        });
        let yaml = serde_yaml_ng::to_string(&self.resource)?;
        let file = self.folder.join(format!(
            "resource-{}.yaml",
            self.launched.fetch_add(1, Ordering::Relaxed)
        ));
        let text = format!("{yaml}---\n{}", serde_yaml_ng::to_string(&secret)?);
        fs::write(&file, text)?;
        Ok(file)
    }

    fn launch(&self, more: &[&str], env: &[(&str, &str)]) -> Result<Tidewater> {
        let file = self.file()?;
        let folder = file.with_extension("");
        let file = file.display().to_string();
        Tidewater::spawn(&folder, &[&["run", "-f", &file], more].concat(), env)
    }

    /// `tidewater run --until-caught-up`.
    pub(crate) fn start_to_the_end(&self) -> Result<Tidewater> {
        self.launch(&["--until-caught-up"], &[])
    }

    /// `tidewater run`.
    pub(crate) fn start(&self) -> Result<Tidewater> {
        self.launch(&[], &[])
    }

    /// `tidewater run` of two resources in one process.
    pub(crate) fn start_beside(&self, other: &DatasetSink, more: &[&str]) -> Result<Tidewater> {
        let other = other.file()?.display().to_string();
        self.launch(&[&["-f", &other], more].concat(), &[])
    }

    /// `tidewater run`, with variables.
    pub(crate) fn start_with(&self, env: &[(&str, &str)]) -> Result<Tidewater> {
        self.launch(&[], env)
    }

    /// `tidewater run --until-caught-up`, with variables.
    pub(crate) async fn run_to_the_end(&self, env: &[(&str, &str)]) -> Result<Ended> {
        ended(&self.launch(&["--until-caught-up"], env)?).await
    }

    /// `tidewater run --until-caught-up` which must succeed.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        let ended = self.run_to_the_end(&[]).await?;
        ensure!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
        Ok(())
    }

    /// `tidewater run` until it dies at a failpoint.
    pub(crate) async fn die_at(&self, failpoint: &str) -> Result<()> {
        self.die_at_with(failpoint, &[]).await
    }

    /// The same with further variables.
    pub(crate) async fn die_at_with(&self, failpoint: &str, env: &[(&str, &str)]) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let env = [env, &[("TIDEWATER_FAILPOINT", failpoint)]].concat();
        let tidewater = self.launch(&[], &env)?;
        let ended = ended(&tidewater).await?;
        let signal = ended.status.signal();
        ensure!(
            signal == Some(9),
            "{failpoint}: {}:\n{}",
            ended.status,
            ended.log
        );
        Ok(())
    }

    /// `tidewater <verb> -f <resource>`.
    pub(crate) async fn command(&self, verb: &str) -> Result<Answer> {
        self.command_with(verb, &[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn command_with(&self, verb: &str, more: &[&str]) -> Result<Answer> {
        let output = tokio::process::Command::new(tidewater_binary()?)
            .args(verb.split(' '))
            .arg("-f")
            .arg(self.file()?)
            .args(more)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output)
            .await
            .with_context(|| format!("tidewater {verb}"))??;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        for said in [&stdout, &stderr] {
            ensure_discreet(verb, said)?;
        }
        Ok(Answer {
            code: output.status.code(),
            stdout,
            stderr,
        })
    }

    pub(crate) async fn duckdb(&self) -> Result<&'static DuckDb> {
        match self.on_ministack {
            true => self.lab.ministack_duckdb().await,
            false => self.lab.duckdb().await,
        }
    }

    /// The dataset in a DuckDB statement.
    pub(crate) fn table(&self) -> String {
        format!(
            "read_parquet('{}/**/*.parquet', hive_partitioning=true)",
            self.location()
        )
    }

    /// Rows, and different offsets among them, as DuckDB reads them; none of an empty dataset.
    pub(crate) async fn count(&self) -> Result<(i64, i64)> {
        let sql = format!(
            "SELECT count(*), count(DISTINCT (_topic, _partition, _offset)) FROM {}",
            self.table()
        );
        let rows = match self.duckdb().await?.query(&sql).await {
            Err(error) if format!("{error:#}").contains("No files found") => return Ok((0, 0)),
            rows => rows?,
        };
        let number = |i: usize| rows[0][i].as_i64().context("a number");
        Ok((number(0)?, number(1)?))
    }

    /// The one value of a statement about the dataset, which it calls `$t`.
    pub(crate) async fn value(&self, sql: &str) -> Result<Value> {
        let sql = sql.replace("$t", &self.table());
        self.duckdb().await?.value(&sql).await
    }

    /// Waits until the dataset has at least so many rows.
    pub(crate) async fn await_rows(&self, rows: i64) -> Result<()> {
        await_until(PATIENCE, &format!("{rows} rows"), async || {
            Ok(self.count().await?.0 >= rows)
        })
        .await
    }

    /// Every offset once and nothing else, each row with its record's values in the columns of their names, as DuckDB
    /// reads them; and `tidewater verify` agrees.
    pub(crate) async fn assert_once(&self, rows: i64) -> Result<()> {
        let found = self.count().await?;
        ensure!(
            found == (rows, rows),
            "{rows} rows expected, found {found:?}"
        );
        if rows > 0 {
            self.assert_as_sent().await?;
        }
        let answer = self.command("verify").await?;
        ensure!(
            answer.code == Some(0) && answer.stdout.contains("whole: 0 missing, 0 duplicated"),
            "{}\n{}",
            answer.stdout,
            answer.stderr
        );
        Ok(())
    }

    /// Every row whose record is still in its topic has that record's values in the columns of their names.
    pub(crate) async fn assert_as_sent(&self) -> Result<usize> {
        let spec = &self.resource["spec"];
        let relation = format!(
            "read_parquet('{}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false, union_by_name=true)",
            self.location()
        );
        let rows = Rows {
            duckdb: self.duckdb().await?,
            relation,
            topic: "_topic".to_owned(),
            partition: "_partition",
            offset: "_offset",
            fields: spec.pointer("/value/schema/fields"),
            uncommitted: spec["source"]["isolationLevel"] == "ReadUncommitted",
        };
        rows.assert_as_sent(&self.topic).await
    }
}

fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in patch {
                merge(&mut into[key.as_str()], value);
            }
        }
        other => *into = other,
    }
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}
