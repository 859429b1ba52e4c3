//! `bench operator`: what the operator takes with many resources, most of which are at rest, and what it writes for those.
//!
//! The control plane is real. No node runs a pod, since they fit nowhere: those of sinks at rest have stand-ins that answer
//! as idle ones do, those of the others never start.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tidewater_e2e::{
    Cluster, Lab, Launch, Namespace, Process, await_until, free_port, operator_binary,
};

mod pods;

/// Idle sinks of one pod each, and tables whose pods never start.
const SETTLED: usize = 450;
const UNSETTLED: usize = 50;
/// Resources given to one call of kubectl.
const AT_ONCE: usize = 50;
/// Peak memory of the operator's process that is promised, in bytes.
const LIMIT: u64 = 64 << 20;
/// Until everything is as it should be. A broker is asked about each of the resources.
const WITHIN: Duration = Duration::from_secs(900);
/// Until nothing of what led there is left to be told.
const CALM: Duration = Duration::from_secs(30);
/// How long the operator is watched then.
const WATCHED: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Figures {
    settled: usize,
    unsettled: usize,
    peak_rss_mib: f64,
    rss_mib: f64,
    rss_limit_mib: f64,
    /// Of one core, while nothing changes.
    cpu_share: f64,
    /// Reconciles of sinks at rest, called for by touching each.
    reconciles_of_settled: u64,
    writes_for_settled: u64,
    writes_for_unsettled: u64,
}

/// Measures and prints; whether what is promised holds.
pub(crate) async fn bench() -> Result<bool> {
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?;
    let cluster = Box::pin(Cluster::start(&folder.join("cluster"))).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let brokers = lab.kafka();
    let sinks = (0..SETTLED).map(|n| at_rest(n, brokers, topic.name()));
    let tables = (0..UNSETTLED).map(|n| never_there(n, brokers, topic.name()));
    let all: Vec<Value> = sinks.chain(tables).collect();
    for some in all.chunks(AT_ONCE) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": some});
        namespace.apply(&list.to_string()).await?;
    }
    let port = free_port()?;
    let operator = start(&folder, &cluster, port)?;
    let client = cluster.client().await?;
    let measured = measured(&namespace, &operator, port);
    tokio::select! {
        stopped = pods::stand_in(client, namespace.name(), topic.name()) => {
            stopped?;
            bail!("nobody stands in for the pods any more");
        }
        measured = measured => {
            let holds = measured.with_context(|| operator.log_tail())?;
            operator.stop(Duration::from_secs(20)).await?;
            Ok(holds)
        }
    }
}

async fn measured(namespace: &Namespace<'_>, operator: &Process, port: u16) -> Result<bool> {
    let pid = operator.pid().context("the operator has ended")?;
    let settled = await_until(WITHIN, "every resource is where it stays", async || {
        Ok(at_rest_now(namespace).await? == SETTLED
            && made(namespace).await? == SETTLED + UNSETTLED)
    });
    Box::pin(settled).await?;
    // A status follows what it tells by some seconds.
    tokio::time::sleep(CALM).await;

    let before = Counters::read(port).await?;
    let cpu = cpu_seconds(pid)?;
    namespace
        .kubectl(&["annotate", "ks3", "--all", "tidewater.dev/reconcile=now"])
        .await?;
    tokio::time::sleep(WATCHED).await;
    let after = Counters::read(port).await?;
    let cpu = cpu_seconds(pid)? - cpu;
    let figures = Figures {
        settled: SETTLED,
        unsettled: UNSETTLED,
        peak_rss_mib: memory(pid, "VmHWM")? / 1024.0,
        rss_mib: memory(pid, "VmRSS")? / 1024.0,
        rss_limit_mib: LIMIT as f64 / f64::from(1 << 20),
        cpu_share: cpu / WATCHED.as_secs_f64(),
        reconciles_of_settled: after.reconciles - before.reconciles,
        // A child says not whose it is: none may be written at all.
        writes_for_settled: after.sinks - before.sinks + after.children - before.children,
        writes_for_unsettled: after.tables - before.tables,
    };
    println!("{}", serde_json::to_string(&figures)?);
    ensure!(
        figures.reconciles_of_settled >= SETTLED as u64,
        "not every sink was looked at again"
    );
    let holds = figures.peak_rss_mib <= figures.rss_limit_mib && figures.writes_for_settled == 0;
    eprintln!(
        "bench: operator with {SETTLED} settled and {UNSETTLED} unsettled resources: peak {:.1} of {:.0} MiB, {:.1} % of a \
         core, {} reconciles of settled resources wrote {} times: {}",
        figures.peak_rss_mib,
        figures.rss_limit_mib,
        figures.cpu_share * 100.0,
        figures.reconciles_of_settled,
        figures.writes_for_settled,
        if holds {
            "as promised"
        } else {
            "NOT as promised"
        }
    );
    Ok(holds)
}

fn at_rest(n: usize, brokers: &str, topic: &str) -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": format!("sink-{n}")},
        "spec": {
            "source": {"bootstrapServers": brokers, "topics": [topic]},
            "value": {"infer": {}},
            "destination": {"s3": {"bucket": "lake", "prefix": format!("raw/{n}")}},
            "pod": {"nodeSelector": {"pool": "nowhere"}},
        },
    })
}

fn never_there(n: usize, brokers: &str, topic: &str) -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": format!("table-{n}")},
        "spec": {
            "source": {"bootstrapServers": brokers, "topics": [topic]},
            // Nobody listens there.
            "catalog": {"rest": {"uri": "http://127.0.0.1:9"}},
            "namespace": "sales", "table": format!("orders_{n}"),
            "schema": {"fields": [{"name": "id", "type": "long"}]},
            "pod": {"nodeSelector": {"pool": "nowhere"}},
        },
    })
}

fn start(folder: &Path, cluster: &Cluster, port: u16) -> Result<Process> {
    let kubeconfig = cluster.access().kubeconfig.display().to_string();
    Launch::new("operator", operator_binary()?, folder)
        .arg("run")
        .arg(format!("--http=127.0.0.1:{port}"))
        .arg("--lease-namespace=default")
        .env("KUBECONFIG", &kubeconfig)
        .start()
}

/// Sinks whose lag is known to be nothing and which are ready.
async fn at_rest_now(namespace: &Namespace<'_>) -> Result<usize> {
    let list = namespace.kubectl(&["get", "ks3", "--output=json"]).await?;
    let list: Value = serde_json::from_str(&list)?;
    let ready = |sink: &&Value| {
        let conditions = sink["status"]["conditions"].as_array();
        sink["status"]["lag"]["records"] == 0
            && conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    Ok(list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(ready)
        .count())
}

/// Deployments.
async fn made(namespace: &Namespace<'_>) -> Result<usize> {
    let names = namespace
        .kubectl(&["get", "deployments", "--output=name"])
        .await?;
    Ok(names.lines().count())
}

/// What the operator has done so far, by its own count.
#[derive(Debug, Default)]
struct Counters {
    reconciles: u64,
    sinks: u64,
    tables: u64,
    children: u64,
}

impl Counters {
    async fn read(port: u16) -> Result<Counters> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let page = client.get(format!("http://127.0.0.1:{port}/metrics"));
        let page = page.send().await?.error_for_status()?.text().await?;
        let mut counters = Counters::default();
        for line in page.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let count = || value.parse::<f64>().map(|value| value as u64);
            if name == r#"tidewater_operator_reconcile_seconds_count{kind="KafkaS3Sink"}"# {
                counters.reconciles = count()?;
            } else if name.starts_with("tidewater_operator_writes_total") {
                let of = |kind: &str| name.contains(&format!("resource=\"{kind}\""));
                match () {
                    () if of("KafkaS3Sink") => counters.sinks += count()?,
                    () if of("IcebergTable") => counters.tables += count()?,
                    () => counters.children += count()?,
                }
            }
        }
        Ok(counters)
    }
}

/// A line of the process's status, in KiB.
fn memory(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    Ok(number.context("no such line")?.parse()?)
}

/// CPU time of the process so far.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name in parentheses: fields 12 and 13 from the third of them on, in hundredths of a second.
    let (_, rest) = stat.rsplit_once(") ").context("no name")?;
    let field = |n: usize| {
        rest.split(' ')
            .nth(n)
            .and_then(|text| text.parse::<f64>().ok())
    };
    let ticks = field(11).zip(field(12)).context("no times")?;
    Ok((ticks.0 + ticks.1) / 100.0)
}
