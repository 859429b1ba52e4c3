//! A Python process that answers a line of JSON with a line of JSON: see `readers/protocol.py`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::install::e2e_folder;
use crate::{Installation, os};

#[derive(Debug)]
pub(super) struct ReaderProcess {
    name: &'static str,
    pipe: Arc<Mutex<Pipe>>,
}

#[derive(Debug)]
struct Pipe {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    errors: File,
}

impl ReaderProcess {
    pub(super) async fn start(script: &'static str, settings: &Value) -> Result<Self> {
        let python = Installation::find()
            .await?
            .folder("readers")?
            .join("bin/python");
        let errors = tempfile::tempfile()?;
        let mut command = Command::new(python);
        command
            .arg(e2e_folder().join("readers").join(script))
            .arg(settings.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?);
        let mut child = os::spawn_bound(command).with_context(|| format!("start '{script}'"))?;
        let requests = child
            .stdin
            .take()
            .ok_or_else(|| anyhow!("no standard input"))?;
        let answers = child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("no standard output"))?;
        let pipe = Pipe {
            child,
            requests,
            answers: BufReader::new(answers),
            errors,
        };
        Ok(ReaderProcess {
            name: script,
            pipe: Arc::new(Mutex::new(pipe)),
        })
    }

    pub(super) async fn ask(&self, request: Value) -> Result<Value> {
        let pipe = Arc::clone(&self.pipe);
        tokio::task::spawn_blocking(move || {
            let mut pipe = pipe
                .lock()
                .map_err(|_| anyhow!("a reader thread panicked"))?;
            pipe.ask(&request)
        })
        .await?
        .with_context(|| self.name)
    }
}

impl Pipe {
    fn ask(&mut self, request: &Value) -> Result<Value> {
        let mut line = request.to_string();
        line.push('\n');
        // When the process has died at start, the answer below tells why.
        let _ = self.requests.write_all(line.as_bytes());
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            let mut errors = String::new();
            self.errors.rewind()?;
            self.errors.read_to_string(&mut errors)?;
            bail!("the reader ended: {errors}");
        }
        let mut answer: Value = serde_json::from_str(&answer)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => bail!("{error}"),
            None => Ok(answer["ok"].take()),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        os::signal_group(self.child.id(), libc::SIGKILL);
        // Reaps it.
        let _ = self.child.wait();
    }
}
