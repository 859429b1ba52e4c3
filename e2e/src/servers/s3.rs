//! S3: versitygw on a folder. Real signatures, real checksums, conditional writes that are atomic under races, and open
//! multipart uploads that survive SIGKILL. It ignores SSE headers and storage classes: assert those on `Ministack`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::process::{Launch, Process};
use crate::{Installation, S3Access, free_port};

const ACCESS_KEY: &str = "tidewater";
pub(crate) const SECRET_KEY: &str = "tidewater-secret";

/// An S3 server of its own folder and port.
#[derive(Debug)]
pub struct S3Server {
    process: Process,
    access: S3Access,
    users: PathBuf,
}

impl S3Server {
    /// Starts a server with its objects below `folder` and waits until it serves.
    pub async fn start(folder: &Path) -> Result<Self> {
        let program = Installation::find()
            .await?
            .folder("go-tools")?
            .join("versitygw");
        let port = free_port()?;
        let objects = folder.join("objects");
        let users = folder.join("users");
        let versions = folder.join("versions");
        fs::create_dir_all(&objects)?;
        fs::create_dir_all(&versions)?;
        fs::create_dir_all(&users)?;
        // Never --keep-alive: with it, every fourth CompleteMultipartUpload of the AWS C++ SDK (pyarrow) is answered 400.
        let process = Launch::new("s3", program, folder)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .args([
                "--port",
                &format!("127.0.0.1:{port}"),
                "--quiet",
                "--health",
                "/healthz",
                "--iam-cache-disable",
                "--iam-dir",
                &users.display().to_string(),
                "posix",
                // For buckets that ask for them.
                "--versioning-dir",
                &versions.display().to_string(),
            ])
            .arg(objects)
            .start()?;
        let server = S3Server {
            process,
            access: S3Access {
                endpoint: format!("http://127.0.0.1:{port}"),
                access_key: ACCESS_KEY.to_owned(),
                secret_key: SECRET_KEY.to_owned(),
                region: "us-east-1".to_owned(),
            },
            users,
        };
        server.await_started().await?;
        Ok(server)
    }

    /// Endpoint and keys.
    pub fn access(&self) -> &S3Access {
        &self.access
    }

    /// Lets these in from now on, by access key and secret, beside the keys of [`Self::access`], and nobody else.
    pub fn let_in(&self, users: &[(&str, &str)]) -> Result<()> {
        let account = |(access, secret): &(&str, &str)| {
            let account = json!({"access": access, "secret": secret, "role": "admin"});
            ((*access).to_owned(), account)
        };
        let accounts: serde_json::Map<String, Value> = users.iter().map(account).collect();
        // The server reads the file for every request: it must always be whole.
        let next = self.users.join("users.json.next");
        fs::write(&next, json!({"accessAccounts": accounts}).to_string())?;
        Ok(fs::rename(next, self.users.join("users.json"))?)
    }

    /// SIGKILL. The objects and open uploads stay.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// A clean stop.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(10)).await
    }

    /// Starts it again after `kill` or `stop`: the same port, the same objects.
    pub async fn restart(&self) -> Result<()> {
        self.process.start()?;
        self.await_started().await
    }

    async fn await_started(&self) -> Result<()> {
        let health = format!("{}/healthz", self.access.endpoint);
        super::await_http(&self.process, &health).await
    }

    /// The server's process: log, pid.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
