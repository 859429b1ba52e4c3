//! The README's blocks, as they stand there, in the cluster of `make cluster`, first made strange to Tidewater.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewater_e2e::{Lab, tidewater_binary};

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

/// The lab in the background, as `make cluster` starts it.
struct Background {
    /// What it printed for a shell to evaluate.
    exports: String,
    folder: PathBuf,
}

impl Background {
    async fn up(folder: PathBuf) -> Result<Self> {
        let exports = String::new();
        let mut background = Self { exports, folder };
        let command = background.command(&["up", "--cluster"])?;
        background.exports = said(command.into(), "lab up --cluster").await?;
        Ok(background)
    }

    fn endpoints(&self) -> PathBuf {
        self.folder.join("endpoints.json")
    }

    fn command(&self, arguments: &[&str]) -> Result<std::process::Command> {
        let mut lab = std::process::Command::new(tidewater_binary()?.with_file_name("lab"));
        lab.args(arguments).env("TIDEWATER_LAB", self.endpoints());
        Ok(lab)
    }

    /// Runs a block as a reader's shell does that has evaluated what was printed.
    async fn runs(&self, block: &str) -> Result<String> {
        let mut shell = tokio::process::Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c"])
            .arg(format!("{}\n{block}", self.exports))
            .current_dir(root());
        for (key, folder) in [
            ("KUBECACHEDIR", "kubectl-cache"),
            ("HELM_CACHE_HOME", "helm/cache"),
            ("HELM_CONFIG_HOME", "helm/config"),
            ("HELM_DATA_HOME", "helm/data"),
        ] {
            shell.env(key, self.folder.join(folder));
        }
        said(shell, block).await
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let down = self.command(&["down"]).map(|mut down| down.status());
        if !matches!(&down, Ok(Ok(status)) if status.success()) {
            eprintln!("the lab in the background was not stopped: {down:?}");
        }
    }
}

async fn said(mut command: tokio::process::Command, what: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}\n{said}{errors}");
    Ok(said)
}

#[tokio::test]
async fn every_block_of_the_readme_does_in_the_cluster_that_make_starts_what_it_says() -> Result<()>
{
    let background = Box::pin(Background::up(Lab::shared().await?.scratch()?)).await?;
    let lab = &Lab::attach(&background.endpoints())?;
    let cluster = Box::pin(lab.cluster()).await?;
    let available = "kubectl -n tidewater-system wait --for=condition=Available deploy/tidewater";
    Box::pin(background.runs(available)).await?;
    // As a cluster is in which nobody installed it.
    let strange = "helm -n tidewater-system uninstall tidewater --wait\nkubectl delete crd \
                   kafkas3sinks.tidewater.dev icebergtables.tidewater.dev";
    Box::pin(background.runs(strange)).await?;

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
    let said_by = async |heading: &str| -> Result<String> {
        let mut said = String::new();
        for (of, block) in &blocks {
            if of == heading {
                said += &Box::pin(background.runs(block)).await?;
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
