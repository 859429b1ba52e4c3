//! The operator as its users meet it: installed by helm into a real cluster, told by kubectl what to do, and judged by what
//! resources, pods and readers say.

mod definitions;
mod glue;
mod golden;
mod harm;
mod leading;
mod monitors;
mod outages;
mod planned;
mod readme;
mod rights;
mod scaling;
mod settled;
mod table;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Cluster, KafkaServer, Lab, Namespace, Topic, await_until};
use tokio::sync::OnceCell;

/// How long the cluster may take for anything, on a machine that is busy with other scenarios.
const WITHIN: Duration = Duration::from_secs(150);

/// Where the chart puts the operator.
const SYSTEM: &str = "tidewater-system";

/// The lab's cluster with the chart installed, once for all scenarios.
async fn installed(lab: &Lab) -> Result<&Cluster> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = Box::pin(lab.cluster()).await?;
    let install = || Box::pin(install(cluster));
    INSTALLED.get_or_try_init(install).await?;
    Ok(cluster)
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tidewater")
}

/// Installs the chart with the images that the lab has.
async fn install(cluster: &Cluster) -> Result<()> {
    let values = json!({
        "image": {"repository": "tidewater-operator", "tag": "dev"},
        "runtimeImage": {"repository": "tidewater", "tag": "dev"},
        "externalMetrics": {"enabled": true},
    });
    let chart = chart();
    let install = cluster.helm_install("tidewater", SYSTEM, &chart, &values);
    Box::pin(install).await.map(drop)
}

/// A Secret with the keys of the lab's S3 server.
fn keys(lab: &Lab) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake"},
        "stringData": {"id": lab.s3().access_key, "key": lab.s3().secret_key},
    })
}

/// How to reach the lab's S3 server with that Secret.
fn store(lab: &Lab) -> Value {
    let from = |key: &str| json!({"secretKeyRef": {"name": "lake", "key": key}});
    json!({
        "endpoint": lab.s3().endpoint, "region": lab.s3().region, "pathStyle": true,
        "credentials": {"accessKeyId": from("id"), "secretAccessKey": from("key")},
    })
}

fn source(lab: &Lab, topic: &Topic) -> Value {
    json!({"bootstrapServers": lab.kafka(), "topics": [topic.name()]})
}

/// A sink of orders with inferred columns, committed every second.
fn sink(lab: &Lab, name: &str, topic: &Topic, bucket: &str) -> Value {
    let mut s3 = store(lab);
    merge(
        &mut s3,
        json!({"bucket": bucket, "prefix": format!("raw/{name}")}),
    );
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": name},
        "spec": {
            "source": source(lab, topic),
            "value": {"infer": {}},
            "metadataColumns": {"partition": "_partition", "offset": "_offset"},
            "rotation": {"maxOpen": "1s"},
            "destination": {"s3": s3},
        },
    })
}

/// A table of orders of the lab's REST catalog, committed every second.
fn table(lab: &Lab, name: &str, topic: &Topic, namespace: &str) -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": name},
        "spec": {
            "source": source(lab, topic),
            "catalog": {"rest": {"uri": lab.iceberg_rest()}},
            "storage": {"s3": store(lab)},
            "namespace": namespace,
            "table": "orders",
            "value": {"infer": {}},
            "metadataColumns": {"partition": "_partition", "offset": "_offset"},
            "commit": {"interval": "1s"},
        },
    })
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

async fn apply(namespace: &Namespace<'_>, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    namespace.apply(&list.to_string()).await.map(drop)
}

async fn patch(namespace: &Namespace<'_>, object: &str, patch: Value) -> Result<()> {
    let patch = format!("--patch={patch}");
    let arguments = ["patch", object, "--type=merge", &patch];
    namespace.kubectl(&arguments).await.map(drop)
}

/// An object, or null where there is none.
async fn get(namespace: &Namespace<'_>, object: &str) -> Result<Value> {
    let arguments = ["get", object, "--ignore-not-found", "--output=json"];
    let text = namespace.kubectl(&arguments).await?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).context("what kubectl says is no JSON")
}

/// Waits until an object is as wanted, and gives it; the failure shows it and its namespace.
async fn await_object(
    namespace: &Namespace<'_>,
    object: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    let looked = await_until(WITHIN, what, async || {
        last = get(namespace, object).await?;
        Ok(wanted(&last))
    });
    match Box::pin(looked).await {
        Ok(()) => Ok(last),
        Err(error) => {
            let status = format!("{:#}", last["status"]);
            let around = namespace.described().await;
            Err(error.context(format!("{object} has {status}\n{around}")))
        }
    }
}

/// The ConfigMap that a Deployment's pods read.
fn config_map(deployment: &Value) -> &str {
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array();
    let named = volumes
        .into_iter()
        .flatten()
        .find_map(|volume| volume["configMap"]["name"].as_str());
    named.unwrap_or_default()
}

/// Status and reason of a condition.
fn condition<'a>(object: &'a Value, concern: &str) -> (&'a str, &'a str) {
    let text = |key| of_condition(object, concern, key);
    (text("status"), text("reason"))
}

/// What a condition says.
fn message<'a>(object: &'a Value, concern: &str) -> &'a str {
    of_condition(object, concern, "message")
}

fn of_condition<'a>(object: &'a Value, concern: &str, key: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == concern);
    found
        .and_then(|found| found[key].as_str())
        .unwrap_or_default()
}

/// The metrics pages of the operators that run.
async fn operators_say(cluster: &Cluster) -> Result<Vec<String>> {
    pages_of(&operators(cluster).await?).await
}

/// The addresses of the operators.
async fn operators(cluster: &Cluster) -> Result<Vec<String>> {
    let namespace = format!("--namespace={SYSTEM}");
    let pods = [
        "get",
        "pods",
        &namespace,
        "--selector=app.kubernetes.io/name=tidewater-operator",
        "--output=jsonpath={.items[*].status.podIP}",
    ];
    let addresses = cluster.kubectl(&pods).await?;
    Ok(addresses.split_whitespace().map(str::to_owned).collect())
}

/// The metrics pages of the operators at these addresses.
async fn pages_of(addresses: &[String]) -> Result<Vec<String>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut pages = Vec::new();
    for address in addresses {
        // One that ends or begins has none.
        let page = client.get(format!("http://{address}:8080/metrics"));
        if let Ok(page) = page.send().await {
            pages.push(page.text().await?);
        }
    }
    Ok(pages)
}

fn lag(object: &Value) -> Option<i64> {
    object["status"]["lag"]["records"].as_i64()
}

/// The lag of a sink as an autoscaler asks for it; `None` while it is not known.
async fn external_lag(namespace: &Namespace<'_>, name: &str) -> Result<Option<String>> {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/tidewater_sink_lag_records?labelSelector=name%3D{name}",
        namespace.name()
    );
    let answer = namespace.kubectl(&["get", "--raw", &path]).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(answer["items"][0]["value"].as_str().map(str::to_owned))
}

/// Waits until the files of a sink have that many rows, each offset once. The lag of a status says it too late: it is of
/// some seconds ago, when there may have been no records yet.
async fn await_rows(lab: &Lab, bucket: &str, name: &str, records: u64) -> Result<()> {
    let all = [json!(records), json!(records)];
    let mut found = Vec::new();
    let arrived = await_until(WITHIN, "every record is there once", async || {
        found = rows(lab, bucket, name).await?;
        Ok(found == all)
    });
    let arrived = Box::pin(arrived).await;
    arrived.with_context(|| format!("{found:?} of {records}"))
}

/// The same of a table `orders` of the lab's REST catalog.
async fn await_table_rows(lab: &Lab, namespace: &str, records: u64) -> Result<()> {
    let sql = format!(
        "SELECT count(*), count(DISTINCT (_partition, _offset)) FROM ice.{namespace}.orders"
    );
    let all = [[json!(records), json!(records)]];
    let mut found = Vec::new();
    let arrived = await_until(WITHIN, "every record is in the table once", async || {
        found = lab.duckdb().await?.query(&sql).await?;
        Ok(found == all)
    });
    let arrived = Box::pin(arrived).await;
    arrived.with_context(|| format!("{found:?} of {records}"))
}

/// Offsets in the files of a sink: how many rows, and how many different ones.
async fn rows(lab: &Lab, bucket: &str, name: &str) -> Result<Vec<Value>> {
    let files = format!("s3://{bucket}/raw/{name}/**/*.parquet");
    let sql = format!(
        "SELECT count(*), count(DISTINCT (_partition, _offset)) FROM read_parquet('{files}')"
    );
    let found = lab.duckdb().await?.query(&sql).await?;
    found.into_iter().next().context("no row")
}
