//! The parts of a spec that mean something in a cluster only: checked here by the definition's own rules, so that a file
//! that runs on a laptop can be applied to a cluster. Pure.

use std::collections::BTreeMap;

use tidewater_crds::{AutoscalingSpec, PodSpec};

use super::problem::Checks;

const LABELS: [&str; 6] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "tidewater.dev/kind",
];

const ANNOTATIONS: [&str; 3] = [
    "tidewater.dev/config-hash",
    "tidewater.dev/secrets-hash",
    "tidewater.dev/restart-nonce",
];

pub(super) fn check(checks: &mut Checks, autoscaling: Option<&AutoscalingSpec>, pod: &PodSpec) {
    if let Some(autoscaling) = autoscaling
        && autoscaling.min_replicas > autoscaling.max_replicas
    {
        checks.add(
            "spec.autoscaling.minReplicas",
            autoscaling.min_replicas,
            "must not be greater than maxReplicas",
        );
    }
    reserved(checks, "spec.pod.labels", &pod.labels, &LABELS);
    reserved(
        checks,
        "spec.pod.annotations",
        &pod.annotations,
        &ANNOTATIONS,
    );
}

/// As many pods as a sink may come to.
pub(super) fn most_pods(replicas: i32, autoscaling: Option<&AutoscalingSpec>) -> i32 {
    autoscaling.map_or(replicas, |autoscaling| autoscaling.max_replicas)
}

fn reserved(checks: &mut Checks, path: &str, given: &BTreeMap<String, String>, reserved: &[&str]) {
    for name in reserved.iter().filter(|name| given.contains_key(**name)) {
        checks.add(
            format!("{path}[\"{name}\"]"),
            "",
            "the operator sets it: remove it",
        );
    }
}
