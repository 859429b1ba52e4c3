//! `spec.autoscaling` → HorizontalPodAutoscaler. It scales the resource, not the Deployment. Pure.

use serde_json::{Value, json};
use tidewater_crds::{API_VERSION, AutoscalingSpec};

use crate::controller::validate::Checked;
use crate::metrics::LAG_RECORDS;

pub(super) fn spec(checked: &Checked, autoscaling: &AutoscalingSpec) -> Value {
    let identity = &checked.identity;
    let most = checked.replicas.limit(autoscaling.max_replicas);
    let behavior = match &autoscaling.behavior {
        Some(behavior) => json!(behavior),
        None => json!({
            // Each change makes the group share its partitions anew, and lag grows while it does.
            "scaleUp": {
                "stabilizationWindowSeconds": 60,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 120}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 600,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
            },
        }),
    };
    json!({
        "scaleTargetRef": {"apiVersion": API_VERSION, "kind": identity.kind, "name": identity.name},
        "minReplicas": autoscaling.min_replicas.min(most),
        "maxReplicas": most,
        "metrics": [{
            "type": "External",
            "external": {
                "metric": {
                    "name": LAG_RECORDS,
                    "selector": {"matchLabels": {"kind": identity.kind, "name": identity.name}},
                },
                "target": {
                    "type": "AverageValue",
                    "averageValue": autoscaling.lag_per_replica.to_string(),
                },
            },
        }],
        "behavior": behavior,
    })
}
