//! Stand-ins for the pods of sinks: the pods that the cluster's own controllers make are declared to run, each with an
//! address at which a page tells what an idle sink tells.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::response::Json;
use axum::routing::get;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Where the operator asks pods.
const PORT: u16 = 9090;
const SINKS: &str = "tidewater.dev/kind=KafkaS3Sink";
const LOOK: Duration = Duration::from_millis(500);

/// Declares every pod of a sink to run, for as long as this is polled.
pub(super) async fn stand_in(client: Client, namespace: &str, topic: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let mut addresses = 0;
    loop {
        let pods = api.list(&ListParams::default().labels(SINKS)).await?;
        for pod in pods {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            if phase == Some("Running") {
                continue;
            }
            let child = pod.labels().get("app.kubernetes.io/instance");
            let sink = child.and_then(|child| child.strip_suffix("-ks3"));
            let sink = sink.context("a pod of no sink")?;
            let address = loopback(addresses);
            addresses += 1;
            answer(address, idle(&format!("{namespace}.{sink}"), topic)).await?;
            let status = Patch::Merge(running(address));
            api.patch_status(&pod.name_any(), &PatchParams::default(), &status)
                .await?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Loopback addresses that nobody else of the lab has, another for each number.
fn loopback(n: u16) -> Ipv4Addr {
    let [high, low] = (n + 1).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

async fn answer(address: Ipv4Addr, page: Value) -> Result<()> {
    let listener = TcpListener::bind((address, PORT)).await;
    let listener = listener.with_context(|| format!("listen on {address}:{PORT}"))?;
    let pages = Router::new().route("/status", get(move || async move { Json(page) }));
    tokio::spawn(async move { axum::serve(listener, pages).await });
    Ok(())
}

fn idle(sink: &str, topic: &str) -> Value {
    let partitions = json!({format!("{topic}-0"): {"committed": 0, "position": 0}});
    json!({"sinks": [{
        "sink": sink, "ready": true, "partitions": partitions,
        "commit": {
            "lastCommitId": "0193b5f2-7e0f-7000-8000-000000000000", "lastCommitTime": "2026-01-01T00:00:00Z",
            "committedRows": 1000, "filesInFlight": 0, "consecutiveFailures": 0,
        },
    }]})
}

fn running(address: Ipv4Addr) -> Value {
    json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
        "containerStatuses": [{
            "name": "sink", "ready": true, "restartCount": 0, "image": "sink", "imageID": "sink",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }],
    }})
}
