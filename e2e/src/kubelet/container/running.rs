//! The process of a container.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use crate::kubelet::board::Ended;
use crate::kubelet::handlers::Target;
use crate::kubelet::sandbox::{self, Sandbox};
use crate::os;

/// What a message of a container's end may hold: as much as a real kubelet keeps.
const MESSAGE: usize = 4096;
/// The end of the log that stands in for a message.
const MESSAGE_LINES: usize = 80;
const MESSAGE_OF_LOG: usize = 2048;

/// What is known of a process besides itself.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) sandbox: Sandbox,
    pub(super) address: Ipv4Addr,
    pub(super) http: reqwest::Client,
    pub(super) grace: Duration,
    /// Where the container may leave a message.
    pub(super) message: PathBuf,
    /// Whether the end of the log is the message of a container that fails without one.
    pub(super) message_of_log: bool,
}

/// A started process. Dropping it kills its group.
#[derive(Debug)]
pub(super) struct Running {
    pid: u32,
    exit: watch::Receiver<Option<ExitStatus>>,
    pub(super) since: Time,
    described: Described,
}

impl Running {
    pub(super) fn of(child: Child, described: Described) -> Self {
        Running {
            pid: child.id(),
            exit: waited_for(child),
            since: Time(Timestamp::now()),
            described,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn target<'a>(&'a self, container: &'a Container) -> Target<'a> {
        Target {
            address: self.described.address,
            ports: container.ports.as_deref().unwrap_or_default(),
            sandbox: &self.described.sandbox,
            pid: self.pid,
            http: &self.described.http,
        }
    }

    /// How long it may take to end.
    pub(super) fn grace(&self) -> Duration {
        self.described.grace
    }

    /// Returns when the process has ended.
    pub(super) fn exited(&self) -> impl Future<Output = ()> + use<> {
        let mut exit = self.exit.clone();
        async move {
            // An error says that the thread that waits is gone, and it goes with the process only.
            let _ = exit.wait_for(Option::is_some).await;
        }
    }

    pub(super) fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// SIGTERM to the container's processes.
    pub(super) fn terminate(&self) {
        if !self.has_exited() {
            os::signal_group(self.pid, libc::SIGTERM);
        }
    }

    /// SIGKILL to whatever is left, and how the process ended. `why` it was stopped, if for its own sake.
    pub(super) async fn end(self, why: Option<String>) -> Ended {
        os::signal_group(self.pid, libc::SIGKILL);
        self.exited().await;
        let status = *self.exit.borrow();
        let signal = status.and_then(|status| status.signal());
        let code = status.and_then(|status| status.code());
        let code = code.unwrap_or_else(|| 128 + signal.unwrap_or(libc::SIGKILL));
        Ended {
            code,
            signal,
            message: why.or_else(|| self.left_message(code)),
            started: self.since.clone(),
            finished: Time(Timestamp::now()),
            pid: self.pid,
        }
    }

    fn left_message(&self, code: i32) -> Option<String> {
        let left = std::fs::read(&self.described.message).unwrap_or_default();
        let left = String::from_utf8_lossy(&left[..left.len().min(MESSAGE)]).into_owned();
        if !left.is_empty() {
            return Some(left);
        }
        if code == 0 || !self.described.message_of_log {
            return None;
        }
        let log = std::fs::read(&self.described.sandbox.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(MESSAGE_OF_LOG)..]);
        let lines: Vec<&str> = tail.lines().collect();
        let lines = &lines[lines.len().saturating_sub(MESSAGE_LINES)..];
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_exited() {
            os::signal_group(self.pid, libc::SIGKILL);
        }
        sandbox::discard(&self.described.sandbox.layer);
    }
}

/// A thread waits for the child, so that its end is known at once and it is reaped whatever becomes of the rest.
fn waited_for(mut child: Child) -> watch::Receiver<Option<ExitStatus>> {
    let (told, exit) = watch::channel(None);
    std::thread::spawn(move || {
        // Waiting fails only for a child that was waited for, and only this thread has it.
        let status = child.wait().unwrap_or(ExitStatus::from_raw(libc::SIGKILL));
        told.send_replace(Some(status));
    });
    exit
}
