//! From one chart to the next, away, and back: in a cluster of its own, which other scenarios' sinks are not in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewater_e2e::{Cluster, Lab, Namespace, orders_of_countries};

use super::*;

/// Optional, and not in the older definition.
const NEW_FIELD: &str = "restartNonce";
const RELEASE: &str = "tidewater";

/// The chart as an earlier release would have been: other versions, and a definition without a field.
fn older_chart(folder: &Path) -> Result<PathBuf> {
    let older = folder.join("tidewater");
    let copied = Command::new("cp")
        .arg("-r")
        .args([chart(), older.clone()])
        .status()?;
    ensure!(copied.success(), "the chart was not copied");
    let about = older.join("Chart.yaml");
    let mut description: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&about)?)?;
    description["version"] = json!("0.0.9");
    description["appVersion"] = json!("0.0.9");
    std::fs::write(&about, serde_yaml_ng::to_string(&description)?)?;

    let definition = chart().join("../../crds/kafkas3sinks.yaml");
    let mut definition: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(definition)?)?;
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = definition.pointer_mut(spec).and_then(Value::as_object_mut);
    let removed = fields.context("no fields")?.remove(NEW_FIELD);
    ensure!(removed.is_some(), "there is no field {NEW_FIELD}");
    definition["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    std::fs::write(
        older.join("templates/crds/kafkas3sinks.yaml"),
        serde_yaml_ng::to_string(&definition)?,
    )?;
    Ok(older)
}

/// What a restart would change: the Deployment's generation and the pods.
async fn running(namespace: &Namespace<'_>) -> Result<(Value, Vec<Value>)> {
    let deployment = get(namespace, "deployment/orders-ks3").await?;
    let arguments = [
        "get",
        "pods",
        "--selector=app.kubernetes.io/instance=orders-ks3",
        "--output=json",
    ];
    let pods: Value = serde_json::from_str(&namespace.kubectl(&arguments).await?)?;
    let uids = pods["items"].as_array().into_iter().flatten();
    let uids = uids.map(|pod| pod["metadata"]["uid"].clone()).collect();
    Ok((deployment["metadata"]["generation"].clone(), uids))
}

async fn definitions(cluster: &Cluster) -> Result<usize> {
    let all = cluster.kubectl(&["get", "crd", "--output=name"]).await?;
    Ok(all
        .lines()
        .filter(|name| name.ends_with("tidewater.dev"))
        .count())
}

fn committed(records: u64) -> impl Fn(&Value) -> bool {
    move |sink| sink["status"]["commit"]["committedRecords"] == records && lag(sink) == Some(0)
}

// K6, K8, K14
#[tokio::test]
async fn an_upgrade_brings_new_fields_and_restarts_no_sink_and_an_uninstall_leaves_all_running()
-> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(Cluster::start(&lab.scratch()?)).await?;
    let ours = ["kafkas3sinks.tidewater.dev", "icebergtables.tidewater.dev"];
    cluster
        .kubectl(&[&["delete", "crd"][..], &ours].concat())
        .await?;
    let older = older_chart(&lab.scratch()?)?;
    Box::pin(cluster.helm_install(RELEASE, SYSTEM, &older, &json!({}))).await?;

    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    topic.produce(orders_of_countries(100, 1, 10)).await?;
    await_object(&namespace, "ks3/orders", "it works", committed(100)).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    let mut newer = sink(lab, "orders", &topic, &bucket);
    newer["spec"][NEW_FIELD] = json!(1);
    let refused = apply(&namespace, std::slice::from_ref(&newer)).await;
    let refused = format!(
        "{:#}",
        refused.expect_err("the older definition knows the field")
    );
    assert!(refused.contains(NEW_FIELD), "{refused}");
    let before = running(&namespace).await?;

    Box::pin(cluster.helm_install(RELEASE, SYSTEM, &chart(), &json!({}))).await?;
    topic.produce(orders_of_countries(100, 2, 10)).await?;
    let found = await_object(
        &namespace,
        "ks3/orders",
        "the new operator tells",
        committed(200),
    );
    let found = Box::pin(found).await?;
    assert_eq!(running(&namespace).await?, before);
    let image = |sink: &Value| {
        sink["status"]["runtime"]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(image(&found).ends_with(":0.0.9"), "{}", image(&found));

    // The new field, and with it the new runtime.
    apply(&namespace, &[newer]).await?;
    let rolled = |sink: &Value| {
        !image(sink).ends_with(":0.0.9")
            && condition(sink, "Ready").0 == "True"
            && lag(sink) == Some(0)
    };
    await_object(&namespace, "ks3/orders", "it runs the new runtime", rolled).await?;
    let restarted = running(&namespace).await?;
    assert_ne!(restarted.0, before.0);

    let elsewhere = Box::pin(cluster.namespace()).await?;
    let other = sink(
        lab,
        "orders",
        &lab.topic("orders", 1).await?,
        &lab.bucket().await?,
    );
    apply(&elsewhere, &[keys(lab), other]).await?;
    elsewhere
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;

    let system = format!("--namespace={SYSTEM}");
    let uninstall = ["uninstall", RELEASE, &system, "--wait"];
    cluster.helm(&uninstall).await?;
    assert_eq!(definitions(&cluster).await?, 2);
    // K8: without an operator nothing of ours holds a namespace.
    cluster
        .kubectl(&["delete", "namespace", elsewhere.name(), "--timeout=120s"])
        .await?;
    topic.produce(orders_of_countries(100, 3, 10)).await?;
    let all = [json!(300), json!(300)];
    let arrived = await_until(WITHIN, "it commits without an operator", async || {
        Ok(rows(lab, &bucket, "orders").await? == all)
    });
    Box::pin(arrived).await?;
    assert_eq!(running(&namespace).await?, restarted);

    // As the page on upgrades says: the same name takes over, with nothing to force it. This time with the rights of a Role.
    let chart = chart().display().to_string();
    let here = format!(
        "--set=crds.keep=false,watchNamespaces={{{}}}",
        namespace.name()
    );
    let install = [
        "upgrade",
        "--install",
        RELEASE,
        &chart,
        &system,
        "--wait",
        "--timeout=2m",
        &here,
    ];
    cluster.helm(&install).await?;
    let annotate = async |annotation: &str| {
        let arguments = ["annotate", "ks3/orders", annotation];
        namespace.kubectl(&arguments).await.map(drop)
    };
    annotate("tidewater.dev/reconcile=paused").await?;
    let told = |sink: &Value| condition(sink, "Paused") == ("True", "ReconciliationPaused");
    let looked = await_object(&namespace, "ks3/orders", "it is looked after again", told);
    Box::pin(looked).await?;
    annotate("tidewater.dev/reconcile-").await?;
    let well = |sink: &Value| {
        condition(sink, "Paused").0 == "False" && condition(sink, "Ready").0 == "True"
    };
    await_object(&namespace, "ks3/orders", "it is well", well).await?;
    let reasons = ["get", "events", "--output=jsonpath={.items[*].reason}"];
    let reasons = namespace.kubectl(&reasons).await?;
    assert!(reasons.contains("ReconciliationPaused"), "{reasons}");
    assert_eq!(running(&namespace).await?, restarted);

    cluster.helm(&uninstall).await?;
    let gone = await_until(WITHIN, "the definitions went with the chart", async || {
        Ok(definitions(&cluster).await? == 0)
    });
    Box::pin(gone).await?;
    assert_eq!(rows(lab, &bucket, "orders").await?, all);
    Ok(())
}
