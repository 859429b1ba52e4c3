//! Of two operators one leads. In a cluster of its own: others' operator is not to be disturbed.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until};

use super::*;

const LEASE: &str = "lease/tidewater";

async fn system(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let namespace = format!("--namespace={SYSTEM}");
    let arguments = [&[namespace.as_str()], arguments].concat();
    cluster.kubectl(&arguments).await
}

/// The pod that holds the Lease.
async fn holder(cluster: &Cluster) -> Result<String> {
    let jsonpath = "--output=jsonpath={.spec.holderIdentity}";
    let holder = system(cluster, &["get", LEASE, jsonpath]).await?;
    // Each process of a pod is another candidate.
    let pod = holder.split('_').next();
    Ok(pod.unwrap_or_default().to_owned())
}

/// Waits until a pod leads for which `counts` is true, as the Lease and the operators' own metrics say.
async fn leader(cluster: &Cluster, counts: impl Fn(&str) -> bool) -> Result<String> {
    let (mut leader, mut leading) = (String::new(), 0);
    let leads = await_until(WITHIN, "one operator leads", async || {
        leader = holder(cluster).await?;
        let pages = operators_say(cluster).await?;
        let leads = |page: &&String| page.contains("\ntidewater_operator_leader 1\n");
        leading = pages.iter().filter(leads).count();
        Ok(counts(&leader) && leading == 1)
    });
    let leads = Box::pin(leads).await;
    leads.with_context(|| format!("\"{leader}\" holds the Lease, {leading} lead"))?;
    Ok(leader)
}

#[tokio::test]
async fn of_two_operators_one_leads_and_ends_at_once_when_another_has_the_lease() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(Cluster::start(&lab.scratch()?)).await?;
    let values = json!({
        "image": {"repository": "tidewater-operator", "tag": "dev"},
        "runtimeImage": {"repository": "tidewater", "tag": "dev"},
        "replicas": 2,
    });
    Box::pin(cluster.helm_install("tidewater", SYSTEM, &chart(), &values)).await?;
    let first = leader(&cluster, |name| name.starts_with("tidewater")).await?;
    assert_eq!(operators_say(&cluster).await?.len(), 2);

    // Somebody takes the Lease and dies.
    let stolen = r#"--patch={"spec":{"holderIdentity":"thief"}}"#;
    system(&cluster, &["patch", LEASE, "--type=merge", stolen]).await?;
    let ended = await_until(WITHIN, "the one that led has ended", async || {
        let pod = system(&cluster, &["get", "pod", &first, "--output=json"]).await?;
        let pod: Value = serde_json::from_str(&pod)?;
        let container = &pod["status"]["containerStatuses"][0];
        let last = &container["lastState"]["terminated"]["exitCode"];
        let now = &container["state"]["terminated"]["exitCode"];
        Ok([last, now]
            .iter()
            .any(|code| code.as_i64().is_some_and(|code| code != 0)))
    });
    Box::pin(ended).await?;
    let second = leader(&cluster, |name| name != "thief").await?;

    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;

    // It ends when it is told to, long before it would be killed, and gives the Lease back.
    let pod = system(&cluster, &["get", "pod", &second, "--output=json"]).await?;
    let pod: Value = serde_json::from_str(&pod)?;
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
    let soon = format!("--timeout={}s", grace.context("no grace")? - 5);
    system(&cluster, &["delete", "pod", &second, &soon]).await?;
    let third = leader(&cluster, |name| !name.is_empty() && name != second).await?;
    assert_ne!(third, second);
    let scaled = json!({"spec": {"replicas": 0}});
    patch(&namespace, "ks3/orders", scaled).await?;
    let none = |object: &Value| object["status"]["replicas"] == 0;
    await_object(&namespace, "ks3/orders", "the next one goes on", none).await?;
    Ok(())
}
