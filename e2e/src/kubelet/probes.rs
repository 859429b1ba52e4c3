//! Startup, readiness and liveness of a running container.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::sleep;

use super::container::PodContext;
use super::handlers::{Target, seconds};

/// A container that has to be restarted.
#[derive(Debug)]
pub(super) struct Unhealthy {
    pub(super) reason: String,
    /// The probe's own grace period, when it has one.
    pub(super) grace: Option<Duration>,
}

/// Runs the probes of a container and shows what they find. Returns when it has to be restarted, else never.
pub(super) async fn watch(
    container: &Container,
    target: Target<'_>,
    pod: &PodContext,
) -> Unhealthy {
    let (name, board) = (&container.name, &pod.board);
    if let Some(probe) = &container.startup_probe
        && let Err(unhealthy) = started(probe, target).await
    {
        return unhealthy;
    }
    board.update(name, |shown| shown.started = true);
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => keep_readiness(probe, target, name, pod).await,
            None => {
                board.update(name, |shown| shown.ready = true);
            }
        }
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(probe) => until_dead(probe, target).await,
            None => std::future::pending().await,
        }
    };
    let (readiness, liveness) = (Box::pin(readiness), Box::pin(liveness));
    let never = async {
        readiness.await;
        std::future::pending().await
    };
    tokio::select! {
        unhealthy = liveness => unhealthy,
        unhealthy = never => unhealthy,
    }
}

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(seconds(probe.period_seconds, 10).max(1))
}

fn initial_delay(probe: &Probe) -> Duration {
    Duration::from_secs(seconds(probe.initial_delay_seconds, 0))
}

fn failures_allowed(probe: &Probe) -> u64 {
    seconds(probe.failure_threshold, 3).max(1)
}

/// Until the probe has succeeded often enough, or failed too often.
async fn started(probe: &Probe, target: Target<'_>) -> Result<(), Unhealthy> {
    sleep(initial_delay(probe)).await;
    let mut failures = 0;
    loop {
        match target.probe(probe).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                failures += 1;
                if failures >= failures_allowed(probe) {
                    return Err(unhealthy("Startup", &error, probe));
                }
            }
        }
        sleep(period(probe)).await;
    }
}

async fn keep_readiness(probe: &Probe, target: Target<'_>, name: &str, pod: &PodContext) {
    let board = &pod.board;
    sleep(initial_delay(probe)).await;
    let needed = seconds(probe.success_threshold, 1).max(1);
    let (mut successes, mut failures) = (0, 0);
    loop {
        match target.probe(probe).await {
            Ok(()) => {
                (successes, failures) = (successes + 1, 0);
                if successes >= needed {
                    board.update(name, |shown| shown.ready = true);
                }
            }
            Err(error) => {
                (successes, failures) = (0, failures + 1);
                if failures == failures_allowed(probe) {
                    board.update(name, |shown| shown.ready = false);
                    let note = format!("Readiness probe of container {name} failed: {error}");
                    pod.events.warning("Unhealthy", note);
                }
            }
        }
        // A container that is not ready yet is asked more often: rollouts wait for it.
        let ready = board.one(name).is_some_and(|shown| shown.ready);
        let pause = period(probe);
        sleep(if ready {
            pause
        } else {
            pause.min(Duration::from_secs(1))
        })
        .await;
    }
}

async fn until_dead(probe: &Probe, target: Target<'_>) -> Unhealthy {
    sleep(initial_delay(probe)).await;
    let mut failures = 0;
    loop {
        match target.probe(probe).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures >= failures_allowed(probe) {
                    return unhealthy("Liveness", &error, probe);
                }
            }
        }
        sleep(period(probe)).await;
    }
}

fn unhealthy(kind: &str, error: &str, probe: &Probe) -> Unhealthy {
    let grace = probe.termination_grace_period_seconds;
    Unhealthy {
        reason: format!("{kind} probe failed: {error}"),
        grace: grace
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
    }
}
