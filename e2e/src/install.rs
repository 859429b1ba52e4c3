//! Where the servers and readers are installed. Asking installs what is missing: `e2e/setup/install.sh`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::OnceCell;

/// The folders of the installed parts.
#[derive(Debug, Clone)]
pub struct Installation {
    folders: HashMap<String, PathBuf>,
}

static SERVERS: OnceCell<Installation> = OnceCell::const_new();
static CLUSTER: OnceCell<Installation> = OnceCell::const_new();

impl Installation {
    /// The servers and readers of this checkout's pins; installs what is missing.
    pub async fn find() -> Result<&'static Installation> {
        Self::once(&SERVERS, "servers").await
    }

    /// The same of a cluster's parts. Apart, because they take minutes to build and few need them.
    pub async fn of_cluster() -> Result<&'static Installation> {
        Self::once(&CLUSTER, "cluster").await
    }

    async fn once(
        found: &'static OnceCell<Installation>,
        group: &'static str,
    ) -> Result<&'static Installation> {
        let install = || async { tokio::task::spawn_blocking(|| Self::run_script(group)).await? };
        found.get_or_try_init(install).await
    }

    fn run_script(group: &str) -> Result<Installation> {
        let script = e2e_folder().join("setup/install.sh");
        let output = Command::new(&script)
            .arg(group)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("run '{}'", script.display()))?;
        ensure!(output.status.success(), "'{}' failed", script.display());
        let folders = String::from_utf8(output.stdout)?
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(part, folder)| (part.to_owned(), PathBuf::from(folder)))
            .collect();
        Ok(Installation { folders })
    }

    /// The folder of a part: `kafka`, `iceberg-rest`, `go-tools`, `readers`, `ministack`; `kubernetes`, `helm`, `promtool`.
    pub fn folder(&self, part: &str) -> Result<&Path> {
        self.folders
            .get(part)
            .map(PathBuf::as_path)
            .ok_or_else(|| anyhow!("part '{part}' is not installed"))
    }
}

/// The crate's folder in the checkout.
pub(crate) fn e2e_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
