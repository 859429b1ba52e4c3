//! One container: start, probes, end, back-off, start again, until it is done or told to stop.

mod launch;
mod running;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Context;
use super::board::{Board, Ended, Shown, State};
use super::events::Events;
use super::probes;
use super::volumes::Volumes;
use running::Running;

/// Restarts wait 1 s, 2 s, 4 s, 8 s, 10 s, 10 s…: a tenth of a real kubelet's first, and a cap that tests can wait for.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// A run of this length makes the next back-off the first again.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// What could not be resolved, as a missing Secret, is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What a container shares with the others of its pod.
pub(super) struct PodContext {
    pub(super) kubelet: Arc<Context>,
    pub(super) pod: Pod,
    pub(super) address: std::net::Ipv4Addr,
    /// Layers and termination messages.
    pub(super) folder: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) volumes: Volumes,
    pub(super) board: Arc<Board>,
    pub(super) events: Events,
}

/// Until when a container that is told to stop may take.
pub(super) type Deadline = Option<Instant>;

/// Whether a container is started again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    /// Of the pod's containers, or of its init containers, which end once.
    pub(super) fn of(pod: &Pod, initial: bool) -> Self {
        let policy = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        match policy {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ if initial => Restart::OnFailure,
            _ => Restart::Always,
        }
    }

    fn wanted(self, code: i32) -> bool {
        match self {
            Restart::Always => true,
            Restart::OnFailure => code != 0,
            Restart::Never => false,
        }
    }
}

/// Runs a container until it has ended for good: by its restart policy, or because `stop` says so.
pub(super) async fn run(
    pod: Arc<PodContext>,
    container: Container,
    restart: Restart,
    mut stop: watch::Receiver<Deadline>,
) {
    let name = container.name.clone();
    let board = Arc::clone(&pod.board);
    let mut back_off = FIRST_BACK_OFF;
    let mut restarts = 0;
    loop {
        let running = tokio::select! {
            running = started(&pod, &container, restarts) => running,
            _ = stop.wait_for(Option::is_some) => return,
        };
        let began = Instant::now();
        let ended = Box::pin(supervise(&pod, &container, running, &mut stop)).await;
        let stopping = stop.borrow().is_some();
        if stopping || !restart.wanted(ended.code) {
            board.update(&name, |shown| end(shown, State::Ended(ended)));
            return;
        }
        if began.elapsed() >= GOOD_RUN {
            back_off = FIRST_BACK_OFF;
        }
        restarts += 1;
        let waiting = State::Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: Some(format!(
                "back-off {back_off:?} restarting failed container={name}"
            )),
        };
        pod.events.warning(
            "BackOff",
            format!("Back-off restarting failed container {name}"),
        );
        board.update(&name, |shown| {
            end(shown, waiting);
            shown.last = Some(ended.clone());
        });
        tokio::select! {
            () = sleep(back_off) => {}
            _ = stop.wait_for(Option::is_some) => {
                board.update(&name, |shown| end(shown, State::Ended(ended)));
                return;
            }
        }
        back_off = (back_off * 2).min(LONGEST_BACK_OFF);
    }
}

fn end(shown: &mut Shown, state: State) {
    shown.state = state;
    shown.ready = false;
    shown.started = false;
}

/// Starts it, however long that takes: what is missing may come.
async fn started(pod: &PodContext, container: &Container, restarts: u32) -> Running {
    loop {
        match Box::pin(launch::start(pod, container, restarts)).await {
            Ok(running) => {
                pod.board.update(&container.name, |shown| {
                    shown.state = State::Running {
                        since: running.since.clone(),
                        pid: running.pid(),
                    };
                    shown.restarts = restarts;
                });
                let note = format!("Started container {}", container.name);
                pod.events.normal("Started", note);
                return running;
            }
            Err(refused) => {
                let told = pod
                    .board
                    .wait(&container.name, refused.reason, &refused.message);
                if told {
                    pod.events.warning(refused.reason, refused.message);
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// From its start to its end.
async fn supervise(
    pod: &PodContext,
    container: &Container,
    running: Running,
    stop: &mut watch::Receiver<Deadline>,
) -> Ended {
    let hooks = container.lifecycle.clone().unwrap_or_default();
    let mut unhealthy = None;
    {
        let target = running.target(container);
        let watched = async {
            if let Some(hook) = &hooks.post_start
                && let Err(error) = target.hook(hook).await
            {
                return probes::Unhealthy {
                    reason: format!("PostStart hook failed: {error}"),
                    grace: None,
                };
            }
            probes::watch(container, target, pod).await
        };
        let exited = running.exited();
        tokio::select! {
            _ = exited => {}
            _ = stop.wait_for(Option::is_some) => {}
            found = Box::pin(watched) => unhealthy = Some(found),
        }
    }
    if running.has_exited() {
        return running.end(None).await;
    }
    let limit = grace(&running, unhealthy.as_ref());
    let message = unhealthy.map(|unhealthy| unhealthy.reason);
    let why = message.as_deref().unwrap_or("its pod is deleted");
    pod.events.normal(
        "Killing",
        format!("Stopping container {}: {why}", container.name),
    );
    // Readiness ends with the process, not before: it may still serve while it drains.
    if let Some(hook) = &hooks.pre_stop {
        let hooked = running.target(container).hook(hook);
        tokio::select! {
            // A hook that fails delays nothing.
            _ = Box::pin(hooked) => {}
            () = over(stop, limit) => {}
            _ = running.exited() => {}
        }
    }
    running.terminate();
    tokio::select! {
        _ = running.exited() => {}
        () = over(stop, limit) => {}
    }
    running.end(message).await
}

/// How long a container may take that is stopped for its own sake.
fn grace(running: &Running, unhealthy: Option<&probes::Unhealthy>) -> Instant {
    let own = unhealthy.and_then(|unhealthy| unhealthy.grace);
    Instant::now() + own.unwrap_or(running.grace())
}

/// Returns at the deadline that `stop` gives, which may come nearer, or at `limit` as long as it gives none.
async fn over(stop: &watch::Receiver<Deadline>, limit: Instant) {
    let mut stop = stop.clone();
    loop {
        let deadline = stop.borrow_and_update().unwrap_or(limit);
        tokio::select! {
            () = sleep_until(deadline) => return,
            changed = stop.changed() => {
                if changed.is_err() {
                    return sleep_until(deadline).await;
                }
            }
        }
    }
}
