//! Glue, STS, KMS and a second S3: ministack. It refuses stale Glue versions, echoes SSE-KMS and storage classes, and
//! checks neither signatures nor the size of parts.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::process::{Launch, Process};
use crate::{Installation, S3Access, free_port};

/// A ministack of its own port. Its state is in memory, but for S3 objects.
#[derive(Debug)]
pub struct Ministack {
    process: Process,
    endpoint: String,
}

impl Ministack {
    /// Starts a server with its objects below `folder` and waits until it serves.
    pub async fn start(folder: &Path) -> Result<Self> {
        let program = Installation::find()
            .await?
            .folder("ministack")?
            .join("bin/ministack");
        let port = free_port()?;
        let process = Launch::new("ministack", program, folder)
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            // Objects on disk: in memory they would add up over a run.
            .env("S3_PERSIST", "1")
            .env("S3_DATA_DIR", folder.join("objects").display().to_string())
            // Glue and the rest are saved on a clean stop.
            .env("PERSIST_STATE", "1")
            // Its pid file goes to the temporary folder, and SIGKILL leaves it there.
            .env("TMPDIR", folder.display().to_string())
            .env("STATE_DIR", folder.join("state").display().to_string())
            .start()?;
        let server = Ministack {
            process,
            endpoint: format!("http://127.0.0.1:{port}"),
        };
        server.await_started().await?;
        Ok(server)
    }

    /// The endpoint of every service. It takes any keys; these are the lab's.
    pub fn access(&self) -> S3Access {
        S3Access {
            endpoint: self.endpoint.clone(),
            access_key: "tidewater".to_owned(),
            secret_key: "tidewater-secret".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }

    /// SIGKILL. Loses everything but S3 objects.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// A clean stop. Keeps Glue's tables.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(10)).await
    }

    /// Starts it again on the same port.
    pub async fn restart(&self) -> Result<()> {
        self.process.start()?;
        self.await_started().await
    }

    async fn await_started(&self) -> Result<()> {
        super::await_http(
            &self.process,
            &format!("{}/_ministack/health", self.endpoint),
        )
        .await
    }

    /// The server's process: log, pid.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
