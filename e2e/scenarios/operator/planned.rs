//! `tidewater-operator plan`: what would change is told, and nothing changes.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, operator_binary};
use tokio::process::Command;

use super::*;

/// What `plan -f` says of a resource.
pub(super) async fn plan(lab: &Lab, cluster: &Cluster, resource: &Value) -> Result<(bool, String)> {
    let file = lab.scratch()?.join("resource.yaml");
    std::fs::write(&file, resource.to_string())?;
    let output = Command::new(operator_binary()?)
        .args(["plan", "--runtime-image=tidewater:dev", "-f"])
        .arg(&file)
        .env("KUBECONFIG", &cluster.access().kubeconfig)
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(!said.is_empty(), "nothing was said: {errors}");
    Ok((output.status.success(), said))
}

#[tokio::test]
async fn a_plan_tells_what_would_change_and_changes_nothing() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let bucket = lab.bucket().await?;
    let mut orders_sink = sink(lab, "orders", &topic, &bucket);
    orders_sink["metadata"]["namespace"] = json!(namespace.name());
    apply(&namespace, &[keys(lab)]).await?;

    let (sound, said) = plan(lab, cluster, &orders_sink).await?;
    assert!(sound && said.contains("Deployment"), "{said}");
    let children = namespace
        .kubectl(&["get", "ks3,deployments", "--output=name"])
        .await?;
    assert_eq!(children, "", "a plan makes nothing");

    apply(&namespace, &[orders_sink.clone()]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    let (sound, same) = plan(lab, cluster, &orders_sink).await?;
    assert!(sound && !same.contains("restart"), "{same}");

    // What somebody scaled it to is no change of the file's making.
    namespace
        .kubectl(&["scale", "ks3/orders", "--replicas=2"])
        .await?;
    let scaled = |object: &Value| object["status"]["readyReplicas"] == 2;
    await_object(&namespace, "ks3/orders", "it is scaled", scaled).await?;
    let (sound, said) = plan(lab, cluster, &orders_sink).await?;
    assert!(sound && !said.contains("replicas"), "{said}");
    let mut frozen = orders_sink.clone();
    frozen["metadata"]["annotations"] = json!({"tidewater.dev/reconcile": "paused"});
    let (sound, said) = plan(lab, cluster, &frozen).await?;
    assert!(sound && said.contains("nothing would follow"), "{said}");

    let before = get(&namespace, "deployment/orders-ks3").await?;
    orders_sink["spec"]["replicas"] = json!(1);
    orders_sink["spec"]["rotation"]["maxRecords"] = json!(77);
    let (sound, said) = plan(lab, cluster, &orders_sink).await?;
    for told in ["replicas", "restart", "77"] {
        assert!(sound && said.contains(told), "{told}: {said}");
    }
    orders_sink["spec"]["source"]["topics"] = json!(["no such name!"]);
    let (sound, said) = plan(lab, cluster, &orders_sink).await?;
    assert!(!sound && said.contains("no such name!"), "{said}");
    let after = get(&namespace, "deployment/orders-ks3").await?;
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    assert_eq!(
        generation(&before).context("no generation")?,
        generation(&after).context("no generation")?
    );
    Ok(())
}
