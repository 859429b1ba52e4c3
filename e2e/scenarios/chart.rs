//! The chart, rendered by helm and held against what it promises; its alerts and its dashboard; the images that it runs.

mod images;
mod monitoring;
mod rights;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tidewater_e2e::{Installation, Lab};

/// Everything that can be switched on, and something in every list and map.
fn everything() -> Value {
    json!({
        "replicas": 2,
        "imagePullSecrets": ["registry"],
        "podLabels": {"team": "lake", "app.kubernetes.io/name": "somebody-else"},
        "podAnnotations": {"note": "1"},
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}},
        ]}},
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {},
        }],
        "priorityClassName": "system-cluster-critical",
        "extraArgs": ["--log=debug"],
        "extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}],
        "extraVolumes": [{"name": "scratch", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "extraObjects": [{
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extra", "namespace": "{{ .Release.Namespace }}"},
        }],
        "metrics": {
            "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
            "podMonitors": {"enabled": true, "labels": {"release": "prometheus"}},
        },
        "prometheusRule": {"enabled": true, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": true},
        "networkPolicy": {"enabled": true},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/x"}},
        "global": {"imageRegistry": "registry.example.com"},
        "enabled": true,
    })
}

/// Ways to install it. `namespace` is one that exists where it matters.
fn installations(namespace: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("as it comes", json!({})),
        ("everything", everything()),
        (
            "some namespaces",
            json!({"watchNamespaces": [namespace], "crds": {"enabled": false}}),
        ),
        (
            "external metrics",
            json!({"externalMetrics": {"enabled": true}}),
        ),
        (
            "external metrics with a certificate of one's own",
            json!({"externalMetrics": {
                "enabled": true,
                "tls": {"existingSecret": "mine", "caBundle": CERTIFICATE},
            }}),
        ),
        (
            "nothing but the operator",
            json!({
                "crds": {"enabled": false}, "rbac": {"create": false}, "serviceAccount": {"create": false},
            }),
        ),
        (
            "definitions that go with the chart",
            json!({"crds": {"keep": false}}),
        ),
    ]
}

/// Of nobody.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUJvIVwHxvJHwHDMV/l7tWnTPTbFIwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLbm9ib2R5LXRlc3QwHhcNMjYwMTAxMDAwMDAwWhcNMzYwMTAx
-----END CERTIFICATE-----
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn chart() -> PathBuf {
    root().join("charts/tidewater")
}

/// What a program of the cluster's parts says, with its complaints where it fails.
async fn says(part: &str, arguments: &[&str], input: &str) -> Result<String> {
    use std::io::Write;
    let program = Installation::of_cluster().await?.folder(part)?.join(part);
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{part} {}:\n{text}{errors}",
        arguments.join(" ")
    );
    Ok(text)
}

async fn rendered_from(chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let chart = chart.display().to_string();
    let arguments = [
        "template",
        "release",
        &chart,
        "--namespace",
        namespace,
        "--kube-version=1.36.0",
        "--values=-",
    ];
    let text = says("helm", &arguments, &values.to_string()).await?;
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let object = Value::deserialize(document)?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}

async fn rendered(values: &Value) -> Result<Vec<Value>> {
    rendered_from(&chart(), "system", values).await
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

#[tokio::test]
async fn helm_finds_no_fault_with_the_chart_however_it_is_installed() -> Result<()> {
    let chart = chart().display().to_string();
    for (name, values) in installations("shop") {
        let arguments = [
            "lint",
            "--strict",
            &chart,
            "--kube-version=1.36.0",
            "--values=-",
        ];
        let said = says("helm", &arguments, &values.to_string()).await;
        said.with_context(|| name)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_of_some_namespaces_has_roles_there_and_no_cluster_role() -> Result<()> {
    let values =
        json!({"watchNamespaces": ["shop", "bank"], "metrics": {"podMonitors": {"enabled": true}}});
    let objects = rendered(&values).await?;
    assert!(of_kind(&objects, "ClusterRole").is_empty());
    assert!(of_kind(&objects, "ClusterRoleBinding").is_empty());
    let mut places: Vec<&str> = of_kind(&objects, "RoleBinding")
        .iter()
        .filter_map(|binding| binding["metadata"]["namespace"].as_str())
        .collect();
    places.sort_unstable();
    assert_eq!(places, ["bank", "shop", "system"]);
    // In its own namespace for the Lease alone.
    let own = of_kind(&objects, "Role")
        .into_iter()
        .find(|role| role["metadata"]["namespace"] == "system")
        .context("no Role in the operator's namespace")?;
    for rule in own["rules"].as_array().into_iter().flatten() {
        assert_eq!(rule["resources"], json!(["leases"]), "{own:#}");
    }
    let operator = of_kind(&objects, "Deployment")[0].to_string();
    assert!(
        operator.contains("--watch-namespaces=shop,bank"),
        "{operator}"
    );
    Ok(())
}

#[tokio::test]
async fn a_value_that_nobody_knows_is_refused_by_its_name_and_globals_are_not() -> Result<()> {
    let refused = [
        (json!({"replicaCount": 2}), "replicaCount"),
        (json!({"image": {"registry": "x"}}), "registry"),
        (
            json!({"metrics": {"serviceMonitor": {"enable": true}}}),
            "enable",
        ),
        (json!({"logFormat": "xml"}), "logFormat"),
        (json!({"metrics": {"port": 99999}}), "metrics/port"),
        (
            json!({"imagePullSecrets": [{"name": "registry"}]}),
            "imagePullSecrets",
        ),
        (json!({"podLabels": {"a": 1}}), "podLabels"),
        (
            json!({"externalMetrics": {"enabled": true}, "replicas": 2}),
            "replicas: 1",
        ),
        (
            json!({"externalMetrics": {"enabled": true, "tls": {"existingSecret": "mine"}}}),
            "caBundle",
        ),
    ];
    for (values, name) in refused {
        let error = rendered(&values).await.expect_err(&values.to_string());
        let error = format!("{error:#}");
        assert!(error.contains(name), "{values}: {error}");
    }
    rendered(&json!({"global": {"anything": {"at": "all"}}, "enabled": true})).await?;
    Ok(())
}

// K6
#[tokio::test]
async fn an_upgrade_without_a_change_of_values_restarts_no_operator() -> Result<()> {
    let lab = Lab::shared().await?;
    let copy = lab.scratch()?.join("tidewater");
    let copied = Command::new("cp")
        .arg("-r")
        .args([chart(), copy.clone()])
        .status()?;
    ensure!(copied.success(), "the chart was not copied");
    let description = std::fs::read_to_string(copy.join("Chart.yaml"))?;
    let newer = description.replace("\nversion: ", "\nversion: 9");
    assert_ne!(newer, description);
    std::fs::write(copy.join("Chart.yaml"), newer)?;
    for (name, values) in installations("shop") {
        let template = |objects: &[Value]| of_kind(objects, "Deployment")[0]["spec"].clone();
        let first = rendered(&values).await?;
        let again = rendered(&values).await?;
        let newer = rendered_from(&copy, "system", &values).await?;
        assert_eq!(template(&first), template(&again), "{name}");
        assert_eq!(template(&first), template(&newer), "{name}");
        // What a Deployment selects by can never be changed.
        let labels = &first
            .iter()
            .find(|object| object["kind"] == "Deployment")
            .context("no Deployment")?["spec"];
        let (selected, of_pods) = (
            &labels["selector"]["matchLabels"],
            &labels["template"]["metadata"]["labels"],
        );
        for (key, value) in selected.as_object().into_iter().flatten() {
            assert_eq!(&of_pods[key], value, "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn definitions_come_with_the_chart_and_stay_unless_told_otherwise() -> Result<()> {
    let kept = |object: &Value| {
        object["metadata"]["annotations"]["helm.sh/resource-policy"] == json!("keep")
    };
    let objects = rendered(&json!({})).await?;
    let definitions = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(definitions.len(), 2);
    assert!(definitions.iter().all(|definition| kept(definition)));
    let objects = rendered(&json!({"crds": {"keep": false}})).await?;
    let definitions = of_kind(&objects, "CustomResourceDefinition");
    assert!(definitions.len() == 2 && !definitions.iter().any(|definition| kept(definition)));
    let objects = rendered(&json!({"crds": {"enabled": false}})).await?;
    assert!(of_kind(&objects, "CustomResourceDefinition").is_empty());
    Ok(())
}

#[tokio::test]
async fn several_operators_get_a_budget_for_disruptions_and_one_does_not() -> Result<()> {
    let budgets = |objects: Vec<Value>| of_kind(&objects, "PodDisruptionBudget").len();
    assert_eq!(budgets(rendered(&json!({})).await?), 0);
    assert_eq!(budgets(rendered(&json!({"replicas": 2})).await?), 1);
    let without = json!({"replicas": 2, "podDisruptionBudget": {"enabled": false}});
    assert_eq!(budgets(rendered(&without).await?), 0);
    Ok(())
}

/// Kinds of the Prometheus operator, which the lab's cluster does not know.
const FOREIGN: &str = "monitoring.coreos.com/v1";

#[tokio::test]
async fn every_object_of_the_chart_is_taken_by_the_api_server() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(lab.cluster()).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    for (name, values) in installations(namespace.name()) {
        let mut objects = rendered_from(&chart(), namespace.name(), &values).await?;
        objects.retain(|object| object["apiVersion"] != FOREIGN);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "--output=name",
            "--filename=-",
        ];
        let taken = Box::pin(cluster.kubectl_with(&arguments, &list.to_string())).await;
        let taken = taken.with_context(|| name)?;
        assert_eq!(taken.lines().count(), objects.len(), "{name}: {taken}");
    }
    Ok(())
}
