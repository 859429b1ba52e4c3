//! The README's blocks, as they stand there, in a cluster of their own that knows nothing of Tidewater.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewater_e2e::{Cluster, Lab, Topic};

use super::*;

/// The shell blocks of a section, each with the heading that it stands below.
fn blocks(text: &str, section: &str) -> Vec<(String, String)> {
    let start = format!("\n## {section}\n");
    let (_, rest) = text.split_once(start.as_str()).unwrap_or_default();
    let section = rest.split("\n## ").next().unwrap_or_default();
    let mut found = Vec::new();
    let (mut heading, mut block) = (String::new(), None::<String>);
    for line in section.lines() {
        match (&mut block, line) {
            (Some(text), "```") => {
                found.push((heading.clone(), std::mem::take(text)));
                block = None;
            }
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, "```sh") => block = Some(String::new()),
            (None, line) => {
                if let Some(title) = line.strip_prefix("### ") {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a block as a reader's shell does, with the variables that the lab prints.
async fn runs(block: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let output = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", block])
        .current_dir(root())
        .envs(variables)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    ensure!(output.status.success(), "{block}\n{said}{errors}");
    Ok(said)
}

fn variables(lab: &Lab, cluster: &Cluster, folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = tidewater_e2e::tidewater_binary()?;
    let programs = programs
        .parent()
        .context("no folder")?
        .display()
        .to_string();
    for (key, value) in lab.environment().into_iter().chain(cluster.environment()) {
        variables.insert(key.to_owned(), value.replace("$PATH", &path));
    }
    let path = format!("{programs}:{}", variables["PATH"]);
    variables.insert("PATH".to_owned(), path);
    let endpoints = folder.join("endpoints.json");
    std::fs::write(&endpoints, serde_json::to_vec(lab.endpoints())?)?;
    let more = [
        ("TIDEWATER_LAB", endpoints),
        ("KUBECACHEDIR", folder.join("kubectl-cache")),
        ("HELM_CACHE_HOME", folder.join("helm/cache")),
        ("HELM_CONFIG_HOME", folder.join("helm/config")),
        ("HELM_DATA_HOME", folder.join("helm/data")),
    ];
    for (key, value) in more {
        variables.insert(key.to_owned(), value.display().to_string());
    }
    Ok(variables)
}

#[tokio::test]
async fn every_block_of_the_readme_does_in_a_strangers_cluster_what_it_says() -> Result<()> {
    let lab = Lab::shared().await?;
    let folder = lab.scratch()?;
    let cluster = Box::pin(Cluster::start(&folder)).await?;
    // As a cluster is in which nobody installed it.
    cluster
        .kubectl(&[
            "delete",
            "crd",
            "kafkas3sinks.tidewater.dev",
            "icebergtables.tidewater.dev",
        ])
        .await?;
    Topic::ensure(lab.kafka(), "orders", 3).await?;
    lab.make_bucket("lake").await?;

    let text = std::fs::read_to_string(root().join("README.md"))?;
    let blocks = blocks(&text, "In Kubernetes");
    let headings: Vec<&str> = blocks.iter().map(|(heading, _)| heading.as_str()).collect();
    assert_eq!(
        headings,
        [
            "Install with Helm",
            "First sink",
            "First sink",
            "First table",
            "Scale, pause, look",
            "Autoscaling",
            "Away",
        ]
    );
    let variables = variables(lab, &cluster, &folder)?;
    let said_by = async |heading: &str| -> Result<String> {
        let mut said = String::new();
        for (of, block) in &blocks {
            if of == heading {
                said += &Box::pin(runs(block, &variables)).await?;
            }
        }
        Ok(said)
    };
    Box::pin(said_by("Install with Helm")).await?;
    let said = Box::pin(said_by("First sink")).await?;
    // The columns are those that the README shows.
    let shown = text.lines().find(|line| line.starts_with("NAME     READY"));
    let columns = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let header = said.lines().find(|line| line.starts_with("NAME "));
    assert_eq!(header.map(columns), shown.map(columns), "{said}");
    let files = "s3://lake/raw/orders/**/*.parquet";
    let sql = format!("SELECT count(*) >= 10000 FROM read_parquet('{files}')");
    assert_eq!(lab.duckdb().await?.query(&sql).await?, [[json!(true)]]);

    let said = Box::pin(said_by("First table")).await?;
    assert!(said.contains("orders-table"), "{said}");
    let said = Box::pin(said_by("Scale, pause, look")).await?;
    assert!(
        said.contains("Conditions:") && said.contains("Reachable"),
        "{said}"
    );
    Box::pin(said_by("Autoscaling")).await?;
    let mut hpa = Value::Null;
    let reads = await_until(WITHIN, "the autoscaler reads the lag", async || {
        let text = cluster
            .kubectl(&["get", "hpa/orders-ks3", "--output=json"])
            .await?;
        hpa = serde_json::from_str(&text)?;
        Ok(condition(&hpa, "ScalingActive") == ("True", "ValidMetricFound"))
    });
    if let Err(error) = Box::pin(reads).await {
        return Err(error.context(format!("{:#}", hpa["status"])));
    }
    assert_eq!(hpa["spec"]["maxReplicas"], 3);
    assert_eq!(hpa["spec"]["scaleTargetRef"]["kind"], "KafkaS3Sink");
    Box::pin(said_by("Away")).await?;
    let left = cluster
        .kubectl(&["get", "ks3,icet", "--output=name"])
        .await?;
    assert_eq!(left.trim(), "");
    Ok(())
}
