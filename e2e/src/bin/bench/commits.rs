//! `bench many-commits`: what a commit to a table takes when there were many before, and how large its metadata become.
//!
//! One process, a table in a folder, 200 partitions of which each has a record in each commit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, Tidewater};

const PARTITIONS: i32 = 200;
const COMMITS: u64 = 1000;
/// Of the first commits and of the last ones.
const SAMPLE: u64 = 10;
/// The last ones may take so many times what the first ones took.
const PROMISED: f64 = 1.5;
const WITHIN: Duration = Duration::from_secs(1800);

#[derive(Debug, Serialize)]
struct Figures {
    commits: u64,
    first_commit_seconds: f64,
    last_commit_seconds: f64,
    ratio: f64,
    metadata_bytes: u64,
    list_bytes: u64,
    manifests: u64,
    snapshots: u64,
}

/// Measures and prints; whether what is promised holds.
pub(crate) async fn bench() -> Result<bool> {
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?;
    let topic = lab.topic("commits", PARTITIONS).await?;
    let resource = json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": lab.unique("commits")},
        "spec": {
            "source": {"bootstrapServers": lab.kafka(), "topics": [topic.name()]},
            "catalog": {"local": {"path": folder.join("warehouse")}},
            "namespace": "bench", "table": "orders",
            "schema": {"fields": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]},
            "commit": {"interval": "100ms"},
        },
    });
    let path = folder.join("table.yaml");
    std::fs::write(&path, resource.to_string())?;
    let arguments = ["run", "-f", &path.display().to_string()];
    let running = Tidewater::spawn(&folder, &arguments, &[])?;
    let (started, mut round) = (Instant::now(), 0);
    // How many commits there were, and the seconds that they took together.
    let mut seen: Vec<(u64, f64)> = vec![(0, 0.0)];
    let last = loop {
        let records = (0..PARTITIONS).map(|partition| {
            let value = json!({"id": round, "text": format!("record {round} of {partition}")});
            Record::new(partition, value.to_string())
        });
        topic.produce(records.collect::<Vec<_>>()).await?;
        round += 1;
        let page = metrics(&running).await.unwrap_or_default();
        let count = value(&page, "tidewater_commit_seconds_count").unwrap_or_default() as u64;
        let sum = value(&page, "tidewater_commit_seconds_sum").unwrap_or_default();
        if seen.last().is_some_and(|(before, _)| count > *before) {
            seen.push((count, sum));
        }
        if count >= COMMITS {
            break page;
        }
        ensure!(
            started.elapsed() < WITHIN,
            "{count} commits:\n{}",
            running.process().log_tail()
        );
    };
    running.sigterm();
    running.wait_exit(Duration::from_secs(60)).await?;

    let (commits, took) = *seen.last().context("commits")?;
    let first = seen
        .iter()
        .find(|(count, _)| *count >= SAMPLE)
        .context("first commits")?;
    let before = seen
        .iter()
        .rfind(|(count, _)| count + SAMPLE <= commits)
        .context("last commits")?;
    let first = first.1 / first.0 as f64;
    let last_ones = (took - before.1) / (commits - before.0) as f64;
    let figures = Figures {
        commits,
        first_commit_seconds: first,
        last_commit_seconds: last_ones,
        ratio: last_ones / first,
        metadata_bytes: value(&last, "tidewater_table_metadata_bytes").unwrap_or_default() as u64,
        list_bytes: newest_list(&folder.join("warehouse/bench/orders/metadata"))?,
        manifests: value(&last, "tidewater_table_manifests").unwrap_or_default() as u64,
        snapshots: value(&last, "tidewater_table_snapshots").unwrap_or_default() as u64,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(figures.ratio <= PROMISED)
}

async fn metrics(running: &Tidewater) -> Result<String> {
    Ok(running.http_get("/metrics").await?.1)
}

/// Of the one series of that name.
fn value(page: &str, name: &str) -> Option<f64> {
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Length of the manifest list of the table's current snapshot.
fn newest_list(metadata: &Path) -> Result<u64> {
    let hint = std::fs::read_to_string(metadata.join("version-hint.text"))?;
    let file = metadata.join(format!("{}.metadata.json", hint.trim()));
    let table: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let snapshots = table["snapshots"].as_array().context("snapshots")?;
    let current = snapshots
        .iter()
        .find(|s| s["snapshot-id"] == table["current-snapshot-id"]);
    let list = current.context("a current snapshot")?["manifest-list"].as_str();
    let list = list
        .context("a manifest list")?
        .trim_start_matches("file://");
    Ok(std::fs::metadata(list)?.len())
}
