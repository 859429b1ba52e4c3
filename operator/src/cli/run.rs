//! `tidewater-operator run`: waits for the API server, the kinds and the lease, then reconciles until SIGTERM.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use kube::api::ListParams;
use kube::{Api, Client};
use tidewater_crds::{IcebergTable, KafkaS3Sink};
use tidewater_runtime::errors::OneLine;
use tidewater_runtime::reach::Reach;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::controller::{self, Parts, watch as watches};
use crate::external_metrics::server;
use crate::http::{self, Pages};
use crate::lag::observer::Pace;
use crate::lease::{Candidate, Held};
use crate::metrics::Metrics;
use crate::observations::Observations;
use crate::settings::Settings;
use crate::{lag, pods};

/// Between two looks for the kinds.
const LOOK: Duration = Duration::from_secs(3);
/// What was begun has this long to end.
const END: Duration = Duration::from_secs(5);

pub(super) async fn run(arguments: super::Run) -> anyhow::Result<ExitCode> {
    let mut stop = stopped().context("listen for signals")?;
    let metrics = Arc::new(Metrics::new().context("register metrics")?);
    let (observations, changed) = Observations::new();
    let pages = Pages {
        metrics: Arc::clone(&metrics),
        observations: Arc::new(observations),
        ready: Arc::new(AtomicBool::new(false)),
        watching: Arc::default(),
    };
    let address = arguments.metrics_address;
    let bound = http::serve(address, pages.clone()).await;
    let bound = bound.with_context(|| format!("listen on {address}"))?;
    let client = Client::try_default().await.context("find the cluster")?;
    let settings = arguments.common.settings();
    Reach::new(arguments.reach_allowed).restrict();
    tracing::info!(
        http = %bound,
        namespaces = settings.namespaces.join(","),
        runtime_image = settings.runtime_image,
        "tidewater-operator {}",
        env!("CARGO_PKG_VERSION")
    );

    if let (Some(address), Some(folder)) = (
        arguments.external_metrics,
        arguments.external_metrics_tls.as_deref(),
    ) {
        let served = server::serve(address, folder, Arc::clone(&pages.observations)).await;
        let bound = served.context("serve external metrics")?;
        tracing::info!(external_metrics = %bound, "serving");
    }

    // Not an end, which would be a crash loop while somebody installs: a wait.
    tokio::select! {
        () = known(&client, &settings) => pages.ready.store(true, Ordering::Relaxed),
        _ = stop.wait_for(|stop| *stop) => return Ok(ExitCode::SUCCESS),
    }
    let mut held = None;
    if arguments.leader_elect {
        let namespace = arguments.lease_namespace.clone();
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let me = identity(arguments.pod_name.as_deref());
        let candidate = Candidate::new(client.clone(), &namespace, &arguments.lease_name, &me);
        tracing::info!(
            lease = arguments.lease_name,
            namespace,
            me,
            "waiting to lead"
        );
        tokio::select! {
            lease = candidate.acquire() => held = Some(lease),
            _ = stop.wait_for(|stop| *stop) => return Ok(ExitCode::SUCCESS),
        }
    }
    metrics.leads(true);
    tracing::info!("leading");
    let pace = Pace {
        at_once: arguments.lag_looks_at_once,
        clients: arguments.lag_looks_at_once,
        ..Pace::default()
    };
    observe(&client, &settings, &pages, pace, &stop);
    let parts = Parts {
        client,
        settings,
        metrics: Arc::clone(&metrics),
        observations: Arc::clone(&pages.observations),
        watching: Arc::clone(&pages.watching),
        changed,
    };
    lead(parts, held, stop).await
}

/// Looks at brokers and pods as long as this process leads.
fn observe(
    client: &Client,
    settings: &Settings,
    pages: &Pages,
    pace: Pace,
    stop: &watch::Receiver<bool>,
) {
    let observations = &pages.observations;
    let namespaces = &settings.namespaces;
    let pods = pods::observer::watched(client, namespaces, &pages.watching, stop.clone());
    tokio::spawn(lag::observer::run(
        Arc::clone(observations),
        pace,
        stop.clone(),
    ));
    let asking = pods::observer::run(
        Arc::clone(observations),
        pods,
        pods::observer::Pace::default(),
        stop.clone(),
    );
    tokio::spawn(async move {
        if let Err(error) = asking.await {
            tracing::error!(error = %OneLine(&error), "the pods cannot be asked");
        }
    });
}

async fn lead(
    parts: Parts,
    mut held: Option<Held>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<ExitCode> {
    let asked = stop.clone();
    let controller = tokio::spawn(controller::run(parts, stop.clone()));
    tokio::pin!(controller);
    let kept = async {
        match &mut held {
            Some(held) => held.keep().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        lost = kept => {
            tracing::error!(error = %OneLine(&lost), "the lease is lost: this process ends at once");
            // Whatever is under way may be somebody else's already.
            std::process::exit(1);
        }
        ended = &mut controller => {
            ended.context("the controller failed")?;
            anyhow::ensure!(*asked.borrow(), "the controller ended by itself");
        }
        _ = stop.wait_for(|stop| *stop) => {
            if tokio::time::timeout(END, &mut controller).await.is_err() {
                tracing::warn!("some reconciles did not end in time: they are begun anew by the next leader");
                controller.abort();
            }
        }
    }
    if let Some(held) = held {
        held.release().await;
    }
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Turns true at SIGTERM or SIGINT.
fn stopped() -> std::io::Result<watch::Receiver<bool>> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
        let _ = stop.send(true);
        // Kept, so that nobody takes its end for a signal.
        stop.closed().await;
    });
    Ok(stopped)
}

/// Waits until the API server answers for both kinds.
async fn known(client: &Client, settings: &Settings) {
    let mut told = false;
    loop {
        let sinks: Vec<Api<KafkaS3Sink>> = watches::apis(client, &settings.namespaces);
        let tables: Vec<Api<IcebergTable>> = watches::apis(client, &settings.namespaces);
        match (listed(&sinks).await, listed(&tables).await) {
            (Ok(()), Ok(())) => return,
            (Err(error), _) | (_, Err(error)) => {
                if !told {
                    tracing::warn!(error = %OneLine(&error), "waiting for the API server and the definitions of the kinds");
                }
                told = true;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn listed<K>(apis: &[Api<K>]) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    if let Some(api) = apis.first() {
        api.list_metadata(&ListParams::default().limit(1)).await?;
    }
    Ok(())
}

/// Of this process alone: a container that starts anew has its pod's name again.
fn identity(pod: Option<&str>) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = pod.map(str::to_owned).or_else(host).unwrap_or_default();
    format!("{}_{:08x}", name.trim(), rand::random::<u32>())
}
