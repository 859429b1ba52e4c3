//! The binary under test, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{Launch, Process, free_port};

/// The binary: `TIDEWATER_BIN`, else the one that was built beside this executable.
pub fn tidewater_binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("TIDEWATER_BIN") {
        return Ok(named.into());
    }
    let binary = built("tidewater")?;
    ensure!(
        binary.is_file(),
        "no binary '{}': run cargo build --workspace",
        binary.display()
    );
    Ok(binary)
}

/// The operator's binary of this build.
pub fn operator_binary() -> Result<PathBuf> {
    built("tidewater-operator")
}

/// Where cargo puts a binary of this workspace, whether or not it is built.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    // target/debug/deps/<test> or target/debug/<binary>
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("the executable has no folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps has no folder")?;
    }
    Ok(folder.join(name))
}

/// A running `tidewater`.
#[derive(Debug)]
pub struct Tidewater {
    process: Process,
    http: String,
}

impl Tidewater {
    /// Runs `tidewater <args> --http 127.0.0.1:<free port>` in `folder`, where its log goes to `tidewater.log`.
    pub fn spawn(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Tidewater> {
        let http = format!("127.0.0.1:{}", free_port()?);
        let launch = Launch::new("tidewater", tidewater_binary()?, folder)
            .args(args)
            .args(["--http", &http]);
        let process = env
            .iter()
            .fold(launch, |launch, (key, value)| launch.env(key, *value))
            .start()?;
        Ok(Tidewater { process, http })
    }

    /// SIGKILL, at whatever instruction it is.
    pub fn kill9(&self) {
        self.process.kill();
    }

    /// SIGTERM: asks it to drain and end.
    pub fn sigterm(&self) {
        self.process.signal(libc::SIGTERM);
    }

    /// SIGSTOP: a pause as a full node or a long collection makes it.
    pub fn freeze(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT: ends `freeze`.
    pub fn thaw(&self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Waits until it has ended by itself, and tells how.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process
            .wait_exit(deadline)
            .await?
            .context("tidewater was killed, it did not exit")
    }

    /// Starts it again after `kill9`, or after it has ended, with the same arguments.
    pub fn restart(&self) -> Result<()> {
        self.process.kill();
        self.process.start()
    }

    /// The status and body of a page of its HTTP server.
    pub async fn http_get(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://{}{path}", self.http);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()?;
        let answer = client.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// `host:port` of its HTTP server.
    pub fn http_address(&self) -> &str {
        &self.http
    }

    /// Its process: log, pid, signals.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
