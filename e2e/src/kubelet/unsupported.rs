//! What this kubelet does not do. A pod that asks for it says so instead of running half of it. Pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, Volume};

/// The fields of a pod that would have no effect here, each by its path.
pub(super) fn unsupported(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return vec!["a pod without spec".to_owned()];
    };
    let mut found = of_the_pod(spec);
    for volume in spec.volumes.iter().flatten() {
        if !is_known(volume) {
            found.push(format!("spec.volumes['{}'] of its kind", volume.name));
        }
        let projections = volume
            .projected
            .iter()
            .flat_map(|p| p.sources.iter().flatten());
        for projection in projections {
            if projection.cluster_trust_bundle.is_some() || projection.pod_certificate.is_some() {
                found.push(format!("certificates in spec.volumes['{}']", volume.name));
            }
        }
    }
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.is_some() {
            let name = &container.name;
            found.push(format!("spec.initContainers['{name}'].restartPolicy"));
        }
        of_a_container(container, &mut found);
    }
    for container in &spec.containers {
        of_a_container(container, &mut found);
    }
    found
}

fn of_the_pod(spec: &PodSpec) -> Vec<String> {
    let flags = [
        (
            "spec.activeDeadlineSeconds",
            spec.active_deadline_seconds.is_some(),
        ),
        ("spec.dnsConfig", spec.dns_config.is_some()),
        (
            "spec.ephemeralContainers",
            some(spec.ephemeral_containers.as_ref()),
        ),
        ("spec.hostAliases", some(spec.host_aliases.as_ref())),
        ("spec.readinessGates", some(spec.readiness_gates.as_ref())),
        ("spec.resourceClaims", some(spec.resource_claims.as_ref())),
        ("spec.runtimeClassName", spec.runtime_class_name.is_some()),
        (
            "spec.shareProcessNamespace",
            spec.share_process_namespace == Some(false),
        ),
        ("spec.hostUsers", spec.host_users == Some(false)),
    ];
    let flags = flags.into_iter().filter(|(_, asked)| *asked);
    flags.map(|(field, _)| field.to_owned()).collect()
}

fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn is_known(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.host_path.is_some()
}

fn of_a_container(container: &Container, found: &mut Vec<String>) {
    let lifecycle = container.lifecycle.as_ref();
    let security = container.security_context.as_ref();
    let grpc = |probe: &Option<Probe>| probe.as_ref().is_some_and(|probe| probe.grpc.is_some());
    let flags = [
        ("livenessProbe.grpc", grpc(&container.liveness_probe)),
        ("readinessProbe.grpc", grpc(&container.readiness_probe)),
        ("startupProbe.grpc", grpc(&container.startup_probe)),
        (
            "lifecycle.stopSignal",
            lifecycle.is_some_and(|l| l.stop_signal.is_some()),
        ),
        (
            "restartPolicyRules",
            some(container.restart_policy_rules.as_ref()),
        ),
        ("stdin", container.stdin == Some(true)),
        ("tty", container.tty == Some(true)),
        ("volumeDevices", some(container.volume_devices.as_ref())),
        (
            "securityContext.privileged",
            security.is_some_and(|s| s.privileged == Some(true)),
        ),
    ];
    for (field, asked) in flags {
        if asked {
            found.push(format!("{field} of container '{}'", container.name));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_ordinary_pod_is_taken_and_what_would_be_ignored_is_named() {
        let ordinary = json!({"spec": {
            "containers": [{"name": "c", "image": "i", "livenessProbe": {"httpGet": {"port": 1}}}],
            "volumes": [{"name": "v", "configMap": {"name": "m"}}, {"name": "e", "emptyDir": {}}],
            "initContainers": [{"name": "i"}],
        }});
        let ordinary: Pod = serde_json::from_value(ordinary).unwrap();
        assert_eq!(unsupported(&ordinary), Vec::<String>::new());

        let odd = json!({"spec": {
            "activeDeadlineSeconds": 5,
            "containers": [{"name": "c", "readinessProbe": {"grpc": {"port": 1}}, "tty": true}],
            "initContainers": [{"name": "side", "restartPolicy": "Always"}],
            "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "d"}}],
        }});
        let odd: Pod = serde_json::from_value(odd).unwrap();
        let found = unsupported(&odd).join(", ");
        for field in [
            "activeDeadlineSeconds",
            "readinessProbe.grpc",
            "tty",
            "'side'",
            "'disk'",
        ] {
            assert!(found.contains(field), "{field}: {found}");
        }
    }
}
