//! What is wrong with one resource is told by it, and harms neither what runs nor anybody else.

use anyhow::Result;
use serde_json::json;
use tidewater_e2e::{Lab, Namespace, orders_of_countries};

use super::scaling::autoscaled;
use super::*;

// K9
#[tokio::test]
async fn a_missing_secret_or_a_bad_spec_leaves_the_running_pods_alone() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let bucket = lab.bucket().await?;
    let good = sink(lab, "orders", &topic, &bucket);
    apply(&namespace, &[keys(lab), good.clone()]).await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    let before = get(&namespace, "deployment/orders-ks3").await?;
    let pods = pods(&namespace).await?;
    assert_eq!(pods.len(), 1, "{pods:?}");

    let from_nowhere = json!({"secretKeyRef": {"name": "nowhere", "key": "id"}});
    let credentials = json!({"accessKeyId": from_nowhere});
    patch(
        &namespace,
        "ks3/orders",
        json!({"spec": {"destination": {"s3": {"credentials": credentials}}}}),
    )
    .await?;
    let missing = |object: &Value| condition(object, "ConfigValid") == ("False", "SecretMissing");
    let found = await_object(
        &namespace,
        "ks3/orders",
        "the missing Secret is told",
        missing,
    )
    .await?;
    assert_eq!(condition(&found, "Ready"), ("False", "SecretMissing"));
    assert!(found.to_string().contains("nowhere"));
    // It is the spec that is not in force; what runs goes on running.
    topic.produce(orders_of_countries(100, 1, 10)).await?;
    await_rows(lab, &bucket, "orders", 100).await?;

    // What no rule of the definition catches: a topic's name that Kafka does not know.
    let mut bad = good.clone();
    bad["spec"]["source"]["topics"] = json!(["no such name!"]);
    apply(&namespace, &[bad]).await?;
    let invalid = |object: &Value| condition(object, "ConfigValid") == ("False", "InvalidSpec");
    await_object(&namespace, "ks3/orders", "the bad spec is told", invalid).await?;
    topic.produce(orders_of_countries(100, 2, 10)).await?;
    await_rows(lab, &bucket, "orders", 200).await?;

    apply(&namespace, &[good]).await?;
    let again = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "the good spec is in force", again).await?;
    let now = get(&namespace, "deployment/orders-ks3").await?;
    assert_eq!(
        now["metadata"]["generation"],
        before["metadata"]["generation"]
    );
    assert_eq!(self::pods(&namespace).await?, pods);
    Ok(())
}

/// Identity and restarts of each pod.
async fn pods(namespace: &Namespace<'_>) -> Result<Vec<(Value, Value)>> {
    let pods = namespace.kubectl(&["get", "pods", "--output=json"]).await?;
    let pods: Value = serde_json::from_str(&pods)?;
    let pods = pods["items"].as_array().into_iter().flatten();
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].clone();
    Ok(pods
        .map(|pod| (pod["metadata"]["uid"].clone(), restarts(pod)))
        .collect())
}

#[tokio::test]
async fn a_resource_that_asks_for_files_or_programs_of_a_client_is_refused_by_the_name_of_the_property()
-> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    for (key, value) in [
        ("sasl.kerberos.kinit.cmd", "touch /tmp/owned"),
        ("ssl.engine.location", "/tmp/engine.so"),
        (
            "ssl.ca.location",
            "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        ),
        ("plugin.library.paths", "/tmp/plugin"),
        ("enable.ssl.certificate.verification", "false"),
    ] {
        let resource = json!({
            "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": "evil"},
            "spec": {
                "source": {"bootstrapServers": "127.0.0.1:1", "topics": ["x"], "properties": {"client.rack": "a", key: value}},
                "value": {"infer": {}},
                "destination": {"s3": {"bucket": "lake"}},
            },
        });
        let said = apply(&namespace, &[resource])
            .await
            .expect_err(key)
            .to_string();
        let named = format!("not for a resource to set: {key}; ");
        assert!(said.contains(&named), "{said}");
        assert!(!said.contains(value), "{said}");
    }
    let kerberos = json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": "evil"},
        "spec": {
            "source": {
                "bootstrapServers": "127.0.0.1:1", "topics": ["x"],
                "security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Gssapi"}},
            },
            "value": {"infer": {}},
            "destination": {"s3": {"bucket": "lake"}},
        },
    });
    let said = apply(&namespace, &[kerberos])
        .await
        .expect_err("Gssapi")
        .to_string();
    assert!(said.contains("outside of a cluster only"), "{said}");
    Ok(())
}

/// What answers every request with words that nobody outside shall read, and notes their paths.
async fn confidant() -> Result<(String, std::sync::Arc<std::sync::Mutex<Vec<String>>>)> {
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&asked);
    let answer = move |uri: axum::http::Uri| {
        let mut noted = noted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        noted.push(uri.to_string());
        let moved = uri.path().starts_with("/moved");
        async move {
            let status = if moved { 307 } else { 418 };
            let status = axum::http::StatusCode::from_u16(status).unwrap_or_default();
            (status, [("location", "/elsewhere")], "SECRET-BODY")
        }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    Ok((format!("http://{address}"), asked))
}

#[tokio::test]
async fn what_answers_beside_the_operator_is_neither_reached_nor_read_back_by_a_resource()
-> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let (confidant, asked) = confidant().await?;
    let table = |name: &str, uri: &str| {
        json!({
            "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": name},
            "spec": {
                "source": {"bootstrapServers": "127.0.0.1:1", "topics": ["x"]},
                "schema": {"fields": [{"name": "id", "type": "long"}]},
                "catalog": {"rest": {"uri": uri, "timeouts": {"maxAttempts": 1}}},
                "namespace": "sales", "table": "orders",
            },
        })
    };
    let resources = [
        table("metadata", "http://169.254.169.254/latest"),
        table("mapped", "http://[::ffff:169.254.169.254]/latest"),
        table("stranger", &format!("{confidant}/inner")),
        table("moved", &format!("{confidant}/moved")),
    ];
    apply(&namespace, &resources).await?;
    let expected = [
        ("metadata", "not connected to for resources"),
        ("mapped", "not connected to for resources"),
        ("stranger", "418"),
        ("moved", "redirects"),
    ];
    for (name, word) in expected {
        let told = |object: &Value| message(object, "TableSynced").contains(word);
        await_object(&namespace, &format!("icet/{name}"), word, told).await?;
        let whole = get(&namespace, &format!("icet/{name}")).await?;
        assert!(!whole["status"].to_string().contains("SECRET"), "{whole}");
    }
    let events = namespace
        .kubectl(&["get", "events", "--output=json"])
        .await?;
    assert!(!events.contains("SECRET"), "{events}");
    let asked = asked
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    assert!(
        asked
            .iter()
            .any(|path| path.starts_with("/inner/v1/config")),
        "{asked:?}"
    );
    assert!(
        !asked.iter().any(|path| path.starts_with("/elsewhere")),
        "{asked:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_pod_that_starts_anew_in_a_stuck_roll_out_reads_what_it_read_before() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 2).await?;
    let bucket = lab.bucket().await?;
    let mut good = sink(lab, "orders", &topic, &bucket);
    good["spec"]["replicas"] = json!(2);
    apply(&namespace, &[keys(lab), good.clone()]).await?;
    let both = |object: &Value| object["status"]["readyReplicas"] == 2;
    await_object(&namespace, "ks3/orders", "both pods are ready", both).await?;
    let before = get(&namespace, "deployment/orders-ks3").await?;
    let config_maps = async || {
        let all = namespace
            .kubectl(&[
                "get",
                "configmaps",
                "--selector=tidewater.dev/kind",
                "--output=name",
            ])
            .await?;
        anyhow::Ok(all.lines().count())
    };

    let mut bad = good.clone();
    // Nobody listens there.
    bad["spec"]["destination"]["s3"]["endpoint"] = json!("http://127.0.0.1:9");
    apply(&namespace, &[bad]).await?;
    let stuck = |object: &Value| {
        let status = &object["status"];
        status["observedGeneration"] == object["metadata"]["generation"]
            && status["updatedReplicas"] == 1
            && status["readyReplicas"] == 1
            && config_map(object) != config_map(&before)
    };
    let what = "one pod has the new spec and does not get ready";
    await_object(&namespace, "deployment/orders-ks3", what, stuck).await?;

    // The pod that still works is moved to another node.
    let old = async || {
        let pods = namespace.kubectl(&["get", "pods", "--output=json"]).await?;
        let pods: Value = serde_json::from_str(&pods)?;
        let reads_old = |pod: &Value| {
            let volumes = pod["spec"]["volumes"].to_string();
            volumes.contains(config_map(&before)) && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let mut pods = pods["items"].as_array().cloned().unwrap_or_default();
        pods.retain(reads_old);
        anyhow::Ok(pods)
    };
    let evicted = old().await?;
    assert_eq!(evicted.len(), 1);
    let name = evicted[0]["metadata"]["name"].as_str().unwrap_or_default();
    namespace.kubectl(&["delete", "pod", name]).await?;
    let replaced = await_until(WITHIN, "its successor works as it did", async || {
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        Ok(old()
            .await?
            .iter()
            .any(|pod| pod["metadata"]["name"] != name && ready(pod)))
    });
    Box::pin(replaced).await?;
    assert_eq!(config_maps().await?, 2);

    topic.produce(orders_of_countries(100, 1, 10)).await?;
    apply(&namespace, &[good]).await?;
    let again = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "the good spec is in force", again).await?;
    await_rows(lab, &bucket, "orders", 100).await?;
    let pruned = await_until(WITHIN, "the bad spec's configuration is gone", async || {
        Ok(config_maps().await? == 1)
    });
    Box::pin(pruned).await
}

/// All of an object but what its controllers say of it.
async fn whole(namespace: &Namespace<'_>, object: &str) -> Result<Value> {
    let arguments = ["get", object, "--output=json", "--show-managed-fields"];
    let mut found: Value = serde_json::from_str(&namespace.kubectl(&arguments).await?)?;
    found["status"] = Value::Null;
    found["metadata"]["resourceVersion"] = Value::Null;
    let managers = found["metadata"]["managedFields"].as_array_mut();
    managers
        .into_iter()
        .for_each(|managers| managers.retain(|manager| manager["subresource"] != "status"));
    Ok(found)
}

/// Objects of a stranger that have the names of what a sink is made of, and the sink for each.
const STRANGERS: [(&str, &str); 4] = [
    ("deployment", "busy"),
    ("service", "served"),
    ("poddisruptionbudget", "guarded"),
    ("hpa", "scaled"),
];

fn strangers() -> [Value; 4] {
    let named = |name: &str| json!({"name": format!("{name}-ks3")});
    let mine = json!({"app": "mine"});
    let pods = json!({
        "metadata": {"labels": mine},
        "spec": {"containers": [{"name": "mine", "image": "host:dev"}]},
    });
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "elsewhere"});
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": named("busy"),
            "spec": {"replicas": 0, "selector": {"matchLabels": mine}, "template": pods},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": named("served"),
            "spec": {"selector": mine, "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": named("guarded"),
            "spec": {"selector": {"matchLabels": mine}, "maxUnavailable": 1},
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": named("scaled"),
            "spec": {"scaleTargetRef": target, "maxReplicas": 2},
        }),
    ]
}

// K10
#[tokio::test]
async fn a_strangers_objects_of_those_names_are_not_touched() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let bucket = lab.bucket().await?;
    apply(&namespace, &[&[keys(lab)][..], &strangers()].concat()).await?;
    let looked_after = |object: &Value| {
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
            && object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    };
    let what = "its own controller is done with it";
    await_object(&namespace, "deployment/busy-ks3", what, looked_after).await?;
    let mut before = Vec::new();
    for (kind, name) in STRANGERS {
        before.push(whole(&namespace, &format!("{kind}/{name}-ks3")).await?);
    }
    let mut sinks = Vec::new();
    for (_, name) in STRANGERS {
        let topic = lab.topic(name, 2).await?;
        let mut sink = autoscaled(sink(lab, name, &topic, &bucket), 1000);
        sink["spec"]["autoscaling"]["minReplicas"] = json!(2);
        sinks.push(sink);
    }
    apply(&namespace, &sinks).await?;
    for ((kind, name), as_it_was) in STRANGERS.into_iter().zip(before) {
        let told = |object: &Value| condition(object, "ConfigValid") == ("False", "NameConflict");
        let sink = format!("ks3/{name}");
        let found = await_object(&namespace, &sink, "the conflict is told", told).await?;
        // What is the sink's own goes when it does; from then on the collector is known to have come by.
        let canary = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("canary-{name}"), "ownerReferences": [{
                "apiVersion": found["apiVersion"], "kind": found["kind"], "name": name,
                "uid": found["metadata"]["uid"],
            }]},
        });
        apply(&namespace, &[canary]).await?;
        namespace.kubectl(&["delete", &sink]).await?;
        let canary = format!("configmap/canary-{name}");
        let collected = |object: &Value| object.is_null();
        await_object(&namespace, &canary, "the canary is collected", collected).await?;
        let left = whole(&namespace, &format!("{kind}/{name}-ks3")).await?;
        assert_eq!(left, as_it_was, "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn of_two_resources_in_one_consumer_group_the_younger_waits() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    let (bucket, tables) = (lab.bucket().await?, lab.unique("shop"));
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    namespace
        .await_condition("ks3/orders", "Ready", WITHIN)
        .await?;
    apply(&namespace, &[table(lab, "orders", &topic, &tables)]).await?;
    let refused =
        |object: &Value| condition(object, "ConfigValid") == ("False", "ConsumerGroupConflict");
    await_object(&namespace, "icet/orders", "the conflict is told", refused).await?;
    patch(
        &namespace,
        "icet/orders",
        json!({"spec": {"source": {"groupId": lab.unique("own")}}}),
    )
    .await?;
    namespace
        .await_condition("icet/orders", "Ready", WITHIN)
        .await?;
    Ok(())
}

// K3, R7
#[tokio::test]
async fn a_sink_whose_bucket_is_missing_says_so_and_runs_when_it_is_there() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders_of_countries(50, 1, 10)).await?;
    let bucket = lab.unique("later");
    apply(
        &namespace,
        &[keys(lab), sink(lab, "orders", &topic, &bucket)],
    )
    .await?;
    let told = |object: &Value| condition(object, "Ready") == ("False", "BucketNotFound");
    await_object(&namespace, "ks3/orders", "the missing bucket is told", told).await?;
    lab.s3_client()
        .create_bucket()
        .bucket(&bucket)
        .send()
        .await?;
    let runs = |object: &Value| condition(object, "Ready").0 == "True" && lag(object) == Some(0);
    await_object(&namespace, "ks3/orders", "it runs", runs).await?;
    await_rows(lab, &bucket, "orders", 50).await?;
    Ok(())
}
