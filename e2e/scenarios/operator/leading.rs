//! Of two operators one leads, and ends when it cannot be sure that it does; what is settled costs it no write. In a
//! cluster of its own: others' operator and API server are not to be disturbed, and it is counted what is asked of them.

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until, orders_of_countries};

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

/// By its own metrics.
fn leads(page: &str) -> bool {
    page.contains("\ntidewater_operator_leader 1\n")
}

/// Waits until a pod leads for which `counts` is true, as the Lease and the operators' own metrics say.
async fn leader(cluster: &Cluster, counts: impl Fn(&str) -> bool) -> Result<String> {
    let (mut leader, mut leading) = (String::new(), 0);
    let led = await_until(WITHIN, "one operator leads", async || {
        leader = holder(cluster).await?;
        let pages = operators_say(cluster).await?;
        leading = pages.iter().filter(|page| leads(page)).count();
        Ok(counts(&leader) && leading == 1)
    });
    let led = Box::pin(led).await;
    led.with_context(|| format!("\"{leader}\" holds the Lease, {leading} lead"))?;
    Ok(leader)
}

/// When the operator of a pod ended in failure, if it has since then.
async fn ended(
    cluster: &Cluster,
    pod: &str,
    since: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let pod = system(cluster, &["get", "pod", pod, "--output=json"]).await?;
    let pod: Value = serde_json::from_str(&pod)?;
    let container = &pod["status"]["containerStatuses"][0];
    let mut ends = ["state", "lastState"].into_iter();
    Ok(ends.find_map(|state| {
        let end = &container[state]["terminated"];
        let at: DateTime<Utc> = end["finishedAt"].as_str()?.parse().ok()?;
        // It is told in whole seconds.
        (end["exitCode"] != 0 && at + Duration::from_secs(1) > since).then_some(at)
    }))
}

/// Waits until a pod's operator has ended by itself and another leads, which must not have begun before that; gives it.
async fn succeeded(cluster: &Cluster, pod: &str, since: DateTime<Utc>) -> Result<String> {
    let mut end = None;
    let gone = await_until(WITHIN, "the one that led has ended", async || {
        end = ended(cluster, pod, since).await?;
        Ok(end.is_some())
    });
    Box::pin(gone).await?;
    let next = leader(cluster, |name| name.starts_with("tidewater")).await?;
    let jsonpath = "--output=jsonpath={.spec.acquireTime}";
    let begun: DateTime<Utc> = system(cluster, &["get", LEASE, jsonpath]).await?.parse()?;
    let end = end.context("no end")?;
    assert!(
        end <= begun,
        "{pod} ended at {end}, {next} began at {begun}"
    );
    Ok(next)
}

/// What the operators wrote so far, but for the Lease.
fn written(cluster: &Cluster) -> Result<Vec<String>> {
    let asked = cluster.audited(SYSTEM, "tidewater")?;
    let verbs = ["create", "update", "patch", "delete"];
    let writes = asked.iter().filter(|event| {
        let verb = event["verb"].as_str().unwrap_or_default();
        verbs.contains(&verb) && event["objectRef"]["resource"] != "leases"
    });
    let told = |event: &Value| format!("{} {}", event["verb"], event["requestURI"]);
    Ok(writes.map(told).collect())
}

/// Reconciles of sinks so far, as the operators count them.
async fn reconciled(cluster: &Cluster) -> Result<u64> {
    let series = r#"tidewater_operator_reconcile_seconds_count{kind="KafkaS3Sink"} "#;
    let pages = operators_say(cluster).await?;
    let counts = pages.iter().flat_map(|page| page.lines());
    let counts = counts.filter_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Somebody touches an object of the sink, and leaves alone what the operator applied: it looks what was done.
async fn looked_at(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<()> {
    let before = reconciled(cluster).await?;
    let note = json!({"metadata": {"labels": {"note": before.to_string()}}});
    patch(namespace, "deployment/orders-ks3", note).await?;
    let again = await_until(WITHIN, "it is reconciled", async || {
        Ok(reconciled(cluster).await? > before)
    });
    Box::pin(again).await
}

/// K12: whatever makes a resource that is at rest be looked at, nothing is written.
async fn settled_costs_no_write(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<()> {
    // The last of what there is to tell may be told after it is ready.
    let at_rest = await_until(WITHIN, "five looks that leave all as it is", async || {
        let before = written(cluster)?.len();
        for _ in 0..5 {
            looked_at(cluster, namespace).await?;
        }
        Ok(written(cluster)?.len() == before)
    });
    Box::pin(at_rest).await?;
    assert!(
        !written(cluster)?.is_empty(),
        "the audit log has nothing of the operator"
    );
    Ok(())
}

// K4, K7
#[tokio::test]
async fn of_two_operators_one_leads_and_an_api_server_that_comes_back_finds_every_sink_as_it_was()
-> Result<()> {
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
    let namespace = Box::pin(cluster.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    let idle = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "it is ready and idle", idle).await?;
    settled_costs_no_write(&cluster, &namespace).await?;

    // Somebody takes the Lease and dies.
    let stolen = r#"--patch={"spec":{"holderIdentity":"thief"}}"#;
    let stealing = Utc::now();
    system(&cluster, &["patch", LEASE, "--type=merge", stolen]).await?;
    let second = succeeded(&cluster, &first, stealing).await?;
    let generation =
        get(&namespace, "deployment/orders-ks3").await?["metadata"]["generation"].clone();

    // Nobody can be sure to lead without an API server, and the pods of sinks need none.
    let addresses = operators(&cluster).await?;
    let control_plane = cluster.control_plane()?;
    let killing = Utc::now();
    control_plane.kill_api_server();
    topic.produce(orders_of_countries(200, 1, 10)).await?;
    await_rows(lab, &bucket, "orders", 200).await?;
    let alone = await_until(WITHIN, "nobody leads", async || {
        let pages = pages_of(&addresses).await?;
        Ok(!pages.iter().any(|page| leads(page)))
    });
    Box::pin(alone).await?;
    control_plane.restart_api_server().await?;
    let third = succeeded(&cluster, &second, killing).await?;
    let told = |object: &Value| {
        lag(object) == Some(0) && object["status"]["commit"]["committedRecords"] == 200
    };
    await_object(&namespace, "ks3/orders", "it is told afterwards", told).await?;
    let now = get(&namespace, "deployment/orders-ks3").await?;
    assert_eq!(now["metadata"]["generation"], generation);

    // It ends when it is told to, long before it would be killed, and gives the Lease back.
    let pod = system(&cluster, &["get", "pod", &third, "--output=json"]).await?;
    let pod: Value = serde_json::from_str(&pod)?;
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
    let soon = format!("--timeout={}s", grace.context("no grace")? - 5);
    system(&cluster, &["delete", "pod", &third, &soon]).await?;
    let fourth = leader(&cluster, |name| !name.is_empty() && name != third).await?;
    assert_ne!(fourth, third);
    let scaled = json!({"spec": {"replicas": 0}});
    patch(&namespace, "ks3/orders", scaled).await?;
    let none = |object: &Value| object["status"]["replicas"] == 0;
    await_object(&namespace, "ks3/orders", "the next one goes on", none).await?;

    let loose = a_resource_that_cannot_be_read_harms_no_other(lab, &namespace, &topic, &bucket);
    Box::pin(loose).await
}

/// K4: as another version of the kind may have left it.
async fn a_resource_that_cannot_be_read_harms_no_other(
    lab: &Lab,
    namespace: &Namespace<'_>,
    topic: &Topic,
    bucket: &str,
) -> Result<()> {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let loose = json!([
        {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec", "value": anything},
    ]);
    let patch = format!("--patch={loose}");
    let definition = "crd/kafkas3sinks.tidewater.dev";
    let loosened = ["patch", definition, "--type=json", &patch];
    namespace.cluster().kubectl(&loosened).await?;
    let mut unreadable = sink(lab, "unreadable", topic, bucket);
    unreadable["spec"]["paused"] = json!("perhaps");
    let stored = await_until(WITHIN, "the loose definition is in force", async || {
        Ok(apply(namespace, &[unreadable.clone()]).await.is_ok())
    });
    Box::pin(stored).await?;
    let refused = |object: &Value| condition(object, "ConfigValid") == ("False", "InvalidSpec");
    await_object(namespace, "ks3/unreadable", "it is told", refused).await?;
    let mut second = sink(lab, "second", topic, bucket);
    second["spec"]["source"]["groupId"] = json!(lab.unique("second"));
    apply(namespace, &[second]).await?;
    namespace
        .await_condition("ks3/second", "Ready", WITHIN)
        .await
}
