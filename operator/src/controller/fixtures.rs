//! Resources for tests.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use tidewater_crds::{IcebergTable, KafkaS3Sink};

/// The least resource.
pub(crate) fn sink() -> KafkaS3Sink {
    serde_json::from_value(json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink",
        "metadata": {
            "name": "orders", "namespace": "shop", "uid": "11111111-2222", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "7",
        },
        "spec": {
            "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
            "value": {"infer": {}},
            "destination": {"s3": {"bucket": "lake"}},
        },
    }))
    .unwrap()
}

/// A resource that sets much.
pub(crate) fn full_sink() -> KafkaS3Sink {
    let secret = |key: &str| json!({"secretKeyRef": {"name": "orders-kafka", "key": key}});
    changed(
        &sink(),
        &json!({
            "replicas": 3,
            "source": {"security": {
                "protocol": "SaslSsl",
                "sasl": {"mechanism": "ScramSha512", "username": "orders", "password": secret("password")},
                "tls": {"caCertificate": {"secretKeyRef": {"name": "kafka-ca", "key": "ca.crt"}}},
            }},
            "autoscaling": {"minReplicas": 2, "maxReplicas": 12, "lagPerReplica": 50000},
            "restartNonce": 4,
            "pod": {
                "memoryBudget": "512Mi", "workers": 2,
                "image": "registry.example.com/tidewater:1", "imagePullPolicy": "Always",
                "imagePullSecrets": [{"name": "registry"}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
                "labels": {"team": "sales"},
                "annotations": {"note": "a"},
                "nodeSelector": {"pool": "streaming"},
                "tolerations": [{"key": "pool", "value": "streaming", "effect": "NoSchedule"}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
                ],
                "serviceAccountName": "orders-sink",
                "priorityClassName": "streaming",
                "podSecurityContext": {"runAsUser": 1000, "fsGroup": 1000},
                "securityContext": {"readOnlyRootFilesystem": false},
                "env": [
                    {"name": "AWS_REGION", "value": "eu-west-1"},
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "orders-env", "key": "token"}}},
                ],
                "volumes": [{"name": "scratch", "emptyDir": {}}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            },
        }),
    )
}

/// A table.
pub(crate) fn table() -> IcebergTable {
    serde_json::from_value(json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable",
        "metadata": {
            "name": "orders", "namespace": "shop", "uid": "33333333-4444", "generation": 1,
            "creationTimestamp": "2026-01-02T00:00:00Z", "resourceVersion": "8",
        },
        "spec": {
            "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"], "groupId": "lake-orders"},
            "schema": {"fields": [{"name": "id", "type": "long", "required": true}]},
            "catalog": {"rest": {"uri": "http://catalog:8181"}},
            "namespace": "sales", "table": "orders",
            "commit": {"interval": "30s"},
        },
    }))
    .unwrap()
}

/// With a merge patch on the spec.
pub(crate) fn changed(sink: &KafkaS3Sink, patch: &Value) -> KafkaS3Sink {
    let mut resource = serde_json::to_value(sink).unwrap();
    merge(&mut resource["spec"], patch);
    serde_json::from_value(resource).unwrap()
}

fn merge(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in patch {
        if change.is_null() {
            value.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut value[key], change);
        }
    }
}
