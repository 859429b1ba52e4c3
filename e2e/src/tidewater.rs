//! The binary under test, run as a user runs it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{Launch, Process, ensure_discreet, free_port, os};

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

/// A running `tidewater`. What it says is heard to the end: its log, and its pages when it is asked to end, must tell no
/// secret of the lab, no record, and of no panic.
#[derive(Debug)]
pub struct Tidewater {
    process: Process,
    http: String,
    /// Its pages, as they were last.
    pages: Mutex<String>,
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
        Ok(Tidewater {
            process,
            http,
            pages: Mutex::default(),
        })
    }

    /// SIGKILL, at whatever instruction it is.
    pub fn kill9(&self) {
        self.process.kill();
    }

    /// SIGTERM: asks it to drain and end.
    pub fn sigterm(&self) {
        for page in ["/status", "/metrics"] {
            // A process that is about to end by itself has none.
            let text = self.page(page).unwrap_or_default();
            if let Ok(mut pages) = self.pages.lock() {
                pages.push_str(&text);
            }
        }
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

    /// Waits until it stands still: after `freeze`, or at the place of a failpoint with `!stop`.
    pub async fn await_stopped(&self, deadline: Duration) -> Result<()> {
        self.process
            .await_ready(deadline, async || {
                let pid = self.process.pid().context("tidewater was killed")?;
                os::stands_still(pid)
            })
            .await
            .context("tidewater stands still")
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
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure_discreet(path, &text)?;
        Ok((status, text))
    }

    /// The same where nothing can be awaited.
    fn page(&self, path: &str) -> Result<String> {
        let mut connection = TcpStream::connect(&self.http)?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        let host = &self.http;
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
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

impl Drop for Tidewater {
    #[allow(
        clippy::panic,
        reason = "a scenario that leaves a process behind fails by what it said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let pages = self.pages.lock().map(|pages| pages.clone());
        for (what, text) in [
            ("the log", self.process.log()),
            ("a page", pages.unwrap_or_default()),
        ] {
            if let Err(error) = ensure_discreet(what, &text) {
                panic!("{error}");
            }
        }
    }
}
