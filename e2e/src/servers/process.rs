//! A server or tool as a child process with a log file: launch, readiness, stop, kill, restart.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{await_until, os};

/// How to start a process.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    folder: PathBuf,
}

impl Launch {
    /// Runs `program` in `folder`, logging to `<folder>/<name>.log`.
    pub fn new(name: &str, program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Launch {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            folder: folder.into(),
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Process> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("create '{}'", self.folder.display()))?;
        let process = Process {
            log: self.folder.join(format!("{}.log", self.name)),
            launch: self,
            child: Mutex::new(None),
        };
        process.start()?;
        Ok(process)
    }
}

/// A started process. Dropping it kills its process group.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process again, with the same arguments, folder and log (appended to).
    pub fn start(&self) -> Result<()> {
        let mut slot = self.child();
        if let Some(child) = slot.as_mut()
            && child.try_wait()?.is_none()
        {
            bail!("'{}' is already running", self.launch.name);
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.launch.program);
        command
            .args(&self.launch.args)
            .envs(&self.launch.env)
            .current_dir(&self.launch.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = os::spawn_bound(command)
            .with_context(|| format!("start '{}'", self.launch.program.display()))?;
        *slot = Some(child);
        Ok(())
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// How it ended, if it has. Keeps answering the same.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        match self.child().as_mut() {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// The log file: standard output and error.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the log, for error messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Waits until `probe` says so. Fails at the deadline or when the process ends, with the tail of its log.
    pub async fn await_ready<F>(&self, deadline: Duration, mut probe: F) -> Result<()>
    where
        F: AsyncFnMut() -> Result<bool>,
    {
        let name = &self.launch.name;
        let mut ended = None;
        let waited = await_until(deadline, &format!("'{name}' ready"), async || {
            ended = self.exit_status()?;
            Ok(ended.is_some() || probe().await?)
        })
        .await;
        if let Some(status) = ended {
            bail!("'{name}' ended with {status}:\n{}", self.log_tail());
        }
        waited.with_context(|| format!("log of '{name}':\n{}", self.log_tail()))
    }

    /// SIGKILL to the process group; returns when the process is gone.
    pub fn kill(&self) {
        self.end(libc::SIGKILL);
    }

    /// SIGTERM and a wait; SIGKILL to whatever is left after `grace`.
    pub async fn stop(&self, grace: Duration) -> Result<()> {
        self.signal(libc::SIGTERM);
        // A process that ignores SIGTERM is killed below.
        let _ = self.wait_exit(grace).await;
        self.kill();
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let name = &self.launch.name;
        await_until(deadline, &format!("'{name}' ended"), async || {
            Ok(self.pid().is_none() || self.exit_status()?.is_some())
        })
        .await
        .with_context(|| format!("log of '{name}':\n{}", self.log_tail()))?;
        self.exit_status()
    }

    /// Sends a signal to the process itself.
    pub fn signal(&self, signal: i32) {
        if let Some(child) = self.child().as_mut()
            && matches!(child.try_wait(), Ok(None))
        {
            os::signal(child.id(), signal);
        }
    }

    fn end(&self, signal: i32) {
        if let Some(mut child) = self.child().take() {
            // The group may hold children of a leader that is gone already.
            os::signal_group(child.id(), signal);
            // Reaps it; SIGKILL cannot be refused, so this returns at once.
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
