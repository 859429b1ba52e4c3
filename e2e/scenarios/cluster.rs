//! The lab's cluster: an ordinary Deployment lives and dies in it as in any other.

mod failures;
mod pods;
mod services;
mod volumes;

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Namespace, await_until};

/// How long a pod may take for anything, on a machine that is busy with other scenarios.
const WITHIN: Duration = Duration::from_secs(120);

/// A Deployment of small web servers that show the folder `/www`.
fn web(replicas: u32, folder: Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "web",
                        "image": "host:dev",
                        "command": ["python3", "-m", "http.server", "--directory", "/www"],
                        "args": ["--bind", "$(POD_IP)", "8080"],
                        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "www", "mountPath": "/www"}],
                    }],
                    "volumes": [folder],
                },
            },
        },
    })
}

/// An empty `/www`.
fn nothing() -> Value {
    json!({"name": "www", "emptyDir": {}})
}

/// A pod of one container that runs a shell script; `more` is added to the pod's spec, `own` to the container.
fn script(name: &str, script: &str, more: Value, own: Value) -> Value {
    let mut container = json!({
        "name": "main", "image": "host:dev", "command": ["/bin/sh", "-c", script],
    });
    merge(&mut container, own);
    let mut spec = json!({"restartPolicy": "Never", "containers": [container]});
    merge(&mut spec, more);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// The pods of the web server that are not on their way out.
async fn web_pods(namespace: &Namespace<'_>) -> Result<Vec<Pod>> {
    let pods = namespace.api::<Pod>().await?;
    let mut found = pods
        .list(&ListParams::default().labels("app=web"))
        .await?
        .items;
    found.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(found)
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// The reason a container waits for, and the message.
fn waits(pod: &Pod) -> Option<(String, String)> {
    let waiting = container(pod)?.state.as_ref()?.waiting.clone()?;
    Some((waiting.reason?, waiting.message.unwrap_or_default()))
}

fn is_ready(pod: &Pod) -> bool {
    container(pod).is_some_and(|container| container.ready)
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("")
}

/// The process of the pod's first container.
fn process(pod: &Pod) -> Result<u32> {
    let id = container(pod).and_then(|container| container.container_id.as_deref());
    let id = id.and_then(|id| id.strip_prefix("process://"));
    Ok(id.context("no container id")?.parse()?)
}

/// Waits until a pod has ended, and gives it with its log.
async fn finished(namespace: &Namespace<'_>, name: &str) -> Result<(Pod, String)> {
    let over = |pod: &Pod| matches!(phase(pod), "Succeeded" | "Failed");
    let pod = namespace
        .await_that::<Pod>(name, "ended", WITHIN, over)
        .await?;
    Ok((pod, namespace.log(name).await?))
}

/// A page of a pod's web server.
async fn page(address: &str, path: &str) -> Result<(u16, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    let answer = client
        .get(format!("http://{address}:8080/{path}"))
        .send()
        .await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn a_deployment_is_available_at_an_address_of_its_own_for_each_pod() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace.apply(&web(2, nothing()).to_string()).await?;
    namespace
        .await_condition("deployment/web", "Available", WITHIN)
        .await?;
    let complete = |web: &Deployment| {
        let status = web.status.as_ref();
        status.and_then(|status| status.available_replicas) == Some(2)
    };
    namespace
        .await_that::<Deployment>("web", "2 available", WITHIN, complete)
        .await?;

    let pods = web_pods(&namespace).await?;
    let addresses: Vec<&str> = pods.iter().filter_map(address).collect();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0], addresses[1]);
    for address in addresses {
        assert!(address.starts_with("127.127."), "{address}");
        assert_eq!(page(address, "").await?.0, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_rollout_replaces_every_pod() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace.apply(&web(2, nothing()).to_string()).await?;
    namespace
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])
        .await?;
    let uids = |pods: &[Pod]| -> Vec<String> {
        pods.iter()
            .filter_map(|pod| pod.metadata.uid.clone())
            .collect()
    };
    let before = uids(&web_pods(&namespace).await?);
    namespace
        .kubectl(&["rollout", "restart", "deployment/web"])
        .await?;
    namespace
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])
        .await?;
    let after = uids(&web_pods(&namespace).await?);
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(
        before.iter().all(|uid| !after.contains(uid)),
        "{before:?} {after:?}"
    );
    Ok(())
}

#[tokio::test]
async fn helm_installs_a_chart_upgrades_it_and_takes_it_away() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = lab.cluster().await?;
    let namespace = cluster.namespace().await?;
    let chart = lab.scratch()?.join("tiny");
    std::fs::create_dir_all(chart.join("templates"))?;
    std::fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: tiny\nversion: 0.1.0\n",
    )?;
    let mut deployment = web(1, nothing());
    deployment["spec"]["replicas"] = json!("REPLICAS");
    let template = serde_json::to_string_pretty(&deployment)?;
    let template = template.replace("\"REPLICAS\"", "{{ .Values.replicas }}");
    std::fs::write(chart.join("templates/web.yaml"), template)?;

    for replicas in [1, 2] {
        let values = json!({"replicas": replicas});
        cluster
            .helm_install("tiny", namespace.name(), &chart, &values)
            .await?;
        let pods = web_pods(&namespace).await?;
        assert_eq!(pods.iter().filter(|pod| is_ready(pod)).count(), replicas);
    }
    cluster
        .helm(&["uninstall", "tiny", "--namespace", namespace.name()])
        .await?;
    await_until(WITHIN, "the pods are gone", async || {
        Ok(namespace
            .api::<Pod>()
            .await?
            .list(&ListParams::default())
            .await?
            .items
            .is_empty())
    })
    .await
}
