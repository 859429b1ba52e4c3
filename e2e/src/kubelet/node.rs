//! The Node object, its status and its lease.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fields::{NODE_CPU, NODE_MEMORY, NODE_STORAGE};
use super::{Context, complain};

/// The lease is what says that the node lives; a node without it for 50 s is given up.
const LEASE_SECONDS: i32 = 40;
const RENEWAL: Duration = Duration::from_secs(10);

/// Registers the node, as one that takes pods.
pub(super) async fn register(kubelet: &Context, logs: u16) -> Result<()> {
    let name = &kubelet.options.node;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("topology.kubernetes.io/region", "lab"),
        // Each node is a zone: what spreads over zones has something to spread over.
        ("topology.kubernetes.io/zone", name),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let nodes = Api::<Node>::all(kubelet.client.clone());
    match nodes.create(&PostParams::default(), &node).await {
        // From a kubelet before us.
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        created => drop(created.context("register the node")?),
    }
    renew(kubelet).await?;
    let capacity = json!({
        "cpu": NODE_CPU, "memory": NODE_MEMORY, "ephemeral-storage": NODE_STORAGE, "pods": "250",
    });
    let status = json!({
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": logs}},
        "nodeInfo": {
            "machineID": name, "systemUUID": name, "bootID": name,
            "kernelVersion": kernel(), "osImage": "processes of one machine",
            "containerRuntimeVersion": "process://1", "kubeletVersion": "v1.36.3",
            "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": architecture,
        },
        "conditions": conditions(true),
    });
    patch_status(kubelet, status)
        .await
        .context("tell the node's status")
}

/// Renews the lease, and now and then the status, for ever.
pub(super) async fn heartbeat(kubelet: &Context) {
    let mut beats = 0_u32;
    loop {
        let renewed = renew(kubelet).await;
        let failed = renewed.is_err();
        if let Err(error) = renewed {
            complain(&kubelet.options.node, "lease", &error);
        }
        beats = beats.wrapping_add(1);
        if beats.is_multiple_of(24) || failed {
            // A node that was given up meanwhile is Ready again by this alone.
            let status = json!({"conditions": conditions(false)});
            if let Err(error) = patch_status(kubelet, status).await {
                complain(&kubelet.options.node, "status", &error);
            }
        }
        sleep(if failed {
            Duration::from_secs(1)
        } else {
            RENEWAL
        })
        .await;
    }
}

async fn renew(kubelet: &Context) -> Result<(), kube::Error> {
    let name = &kubelet.options.node;
    let leases = Api::<Lease>::namespaced(kubelet.client.clone(), "kube-node-lease");
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = Patch::Merge(json!({"spec": spec}));
    match leases.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
            };
            leases
                .create(&PostParams::default(), &lease)
                .await
                .map(drop)
        }
        patched => patched.map(drop),
    }
}

async fn patch_status(kubelet: &Context, status: Value) -> Result<(), kube::Error> {
    let nodes = Api::<Node>::all(kubelet.client.clone());
    let patch = Patch::Strategic(json!({"status": status}));
    let name = &kubelet.options.node;
    nodes
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .map(drop)
}

fn conditions(turned: bool) -> Value {
    let now = Timestamp::now().to_string();
    let conditions = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].map(|type_| {
        let status = if type_ == "Ready" { "True" } else { "False" };
        let mut condition = json!({
            "type": type_, "status": status, "reason": "Lab", "message": "the lab's kubelet runs",
            "lastHeartbeatTime": now,
        });
        if turned {
            condition["lastTransitionTime"] = json!(now);
        }
        condition
    });
    json!(conditions)
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "unknown".to_owned(),
        |release| release.trim().to_owned(),
    )
}
