//! The Deployment's spec: one pod template for both kinds. Pure. Any change of what is made here for an unchanged resource
//! restarts every pod when the operator is upgraded: do it for a reason, and say so in the changelog.

use serde_json::{Map, Value, json};
use tidewater_crds::Opaque;

use super::PORT;
use crate::controller::names::{self, CONTAINER};
use crate::controller::validate::Checked;

/// Beyond the drain timeout: closing connections, leaving the group.
const GRACE_SECONDS: u64 = 30;
/// The distroless images' `nonroot`.
const USER: i64 = 65532;

const CONFIG: &str = "tidewater-config";
const CONFIG_PATH: &str = "/etc/tidewater";
const SECRETS: &str = "tidewater-secrets";
const SECRETS_PATH: &str = "/etc/tidewater-secrets";
const TMP: &str = "tidewater-tmp";
const LAST_WORDS: &str = "/dev/termination-log";

pub(super) fn spec(checked: &Checked) -> Value {
    let selector = names::selector(&checked.identity.child);
    json!({
        "replicas": checked.replicas.wanted,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector},
        // No pod more than asked for: it would take partitions from the others and give them back a moment later.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "template": {
            "metadata": {"labels": labels(checked), "annotations": annotations(checked)},
            "spec": pod(checked),
        },
    })
}

fn labels(checked: &Checked) -> Value {
    let mut labels = checked.pod.labels.clone();
    labels.extend(names::labels(
        &checked.identity.child,
        checked.identity.kind,
    ));
    json!(labels)
}

fn annotations(checked: &Checked) -> Value {
    let mut annotations = checked.pod.annotations.clone();
    let mut set = |key: &str, value: String| annotations.insert(key.to_owned(), value);
    set(names::CONFIG_HASH, checked.config.hash.clone());
    if let Some(hash) = &checked.secrets_hash {
        set(names::SECRETS_HASH, hash.clone());
    }
    if let Some(nonce) = checked.restart_nonce {
        set(names::RESTART_NONCE, nonce.to_string());
    }
    json!(annotations)
}

fn pod(checked: &Checked) -> Value {
    let pod = &checked.pod;
    let drain = checked.source.drain_timeout.as_millis().div_ceil(1000);
    let grace = u64::try_from(drain)
        .unwrap_or(u64::MAX)
        .saturating_add(GRACE_SECONDS);
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": grace,
        "securityContext": with(
            json!({
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            }),
            pod.pod_security_context.as_ref(),
        ),
        "topologySpreadConstraints": spread(checked),
        "containers": [container(checked)],
        "volumes": volumes(checked),
    });
    let mut set = |field: &str, given: bool, value: Value| {
        if given {
            spec[field] = value;
        }
    };
    let (account, priority) = (&pod.service_account_name, &pod.priority_class_name);
    set("serviceAccountName", account.is_some(), json!(account));
    set("priorityClassName", priority.is_some(), json!(priority));
    set(
        "imagePullSecrets",
        !pod.image_pull_secrets.is_empty(),
        json!(pod.image_pull_secrets),
    );
    set(
        "nodeSelector",
        !pod.node_selector.is_empty(),
        json!(pod.node_selector),
    );
    set(
        "tolerations",
        !pod.tolerations.is_empty(),
        json!(pod.tolerations),
    );
    set("affinity", pod.affinity.is_some(), json!(pod.affinity));
    spec
}

fn container(checked: &Checked) -> Value {
    let pod = &checked.pod;
    let mut env = vec![json!({
        "name": "POD_IP",
        "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
    })];
    let mut mounts = vec![
        json!({"name": CONFIG, "mountPath": CONFIG_PATH, "readOnly": true}),
        json!({"name": TMP, "mountPath": "/tmp"}),
    ];
    env.push(json!({"name": "TIDEWATER_TERMINATION_LOG", "value": LAST_WORDS}));
    if !checked.mounted.is_empty() {
        env.push(json!({"name": "TIDEWATER_SECRETS_DIR", "value": SECRETS_PATH}));
        mounts.push(json!({"name": SECRETS, "mountPath": SECRETS_PATH, "readOnly": true}));
    }
    env.extend(pod.env.iter().map(|variable| json!(variable)));
    mounts.extend(pod.volume_mounts.iter().map(|mount| json!(mount)));
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": CONTAINER,
        "image": checked.image,
        "args": [
            "run",
            "-f",
            format!("{CONFIG_PATH}/resource.yaml"),
            "--http",
            // Of the pod alone, not of every interface of its host where pods have no network of their own.
            format!("$(POD_IP):{PORT}"),
        ],
        "env": env,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "livenessProbe": probe("/healthz", 10, 3),
        "readinessProbe": probe("/readyz", 5, 2),
        // What a process says last is why it ended: in words for the operator, else its log's end.
        "terminationMessagePath": LAST_WORDS,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": with(
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            }),
            pod.security_context.as_ref(),
        ),
        "volumeMounts": mounts,
    });
    if let Some(policy) = pod.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(resources) = &pod.resources {
        container["resources"] = json!(resources);
    }
    container
}

fn volumes(checked: &Checked) -> Value {
    let mut volumes = vec![
        json!({"name": CONFIG, "configMap": {"name": checked.config_map()}}),
        json!({"name": TMP, "emptyDir": {}}),
    ];
    if !checked.mounted.is_empty() {
        let sources: Vec<Value> = checked
            .mounted
            .iter()
            .map(|(name, keys)| {
                let items: Vec<Value> = keys
                    .iter()
                    .map(|key| json!({"key": key, "path": format!("{name}/{key}")}))
                    .collect();
                json!({"secret": {"name": name, "items": items}})
            })
            .collect();
        // For the owner and the group that fsGroup makes the process a member of.
        volumes.push(
            json!({"name": SECRETS, "projected": {"defaultMode": 0o440, "sources": sources}}),
        );
    }
    volumes.extend(checked.pod.volumes.iter().map(|volume| json!(volume)));
    json!(volumes)
}

fn spread(checked: &Checked) -> Value {
    let selector = json!({"matchLabels": names::selector(&checked.identity.child)});
    let given = &checked.pod.topology_spread_constraints;
    if given.is_empty() {
        return json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
        }]);
    }
    let complete = |constraint: &Opaque| {
        let mut constraint = constraint.0.clone();
        constraint
            .entry("labelSelector")
            .or_insert_with(|| selector.clone());
        Value::Object(constraint)
    };
    given.iter().map(complete).collect()
}

/// The default with the fields that are given in place of its own.
fn with(default: Value, given: Option<&Opaque>) -> Value {
    let given: Map<String, Value> = given.map(|given| given.0.clone()).unwrap_or_default();
    match default {
        Value::Object(mut fields) => {
            fields.extend(given);
            fields.into()
        }
        other => other,
    }
}
