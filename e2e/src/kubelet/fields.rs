//! The downward API: what `fieldRef` and `resourceFieldRef` give. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;

/// What a container's limits are when it names none: all that the node has.
pub(super) const NODE_CPU: &str = "64";
pub(super) const NODE_MEMORY: &str = "256Gi";
pub(super) const NODE_STORAGE: &str = "1Ti";

/// A pod as its containers see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) pod: &'a Pod,
    pub(super) node: &'a str,
    pub(super) address: Ipv4Addr,
}

impl Fields<'_> {
    /// The value at a field path, or what is wrong with the path.
    pub(super) fn field(&self, path: &str) -> Result<String, String> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let named = |map: &Option<BTreeMap<String, String>>, key: &str| {
            map.as_ref()
                .and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default()
        };
        if let Some(key) = subscript(path, "metadata.labels") {
            return Ok(named(&metadata.labels, key));
        }
        if let Some(key) = subscript(path, "metadata.annotations") {
            return Ok(named(&metadata.annotations, key));
        }
        Ok(match path {
            "metadata.name" => metadata.name.clone().unwrap_or_default(),
            "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
            "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
            "metadata.labels" => listed(metadata.labels.as_ref()),
            "metadata.annotations" => listed(metadata.annotations.as_ref()),
            "spec.nodeName" => self.node.to_owned(),
            "spec.serviceAccountName" => spec
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".to_owned()),
            "status.podIP" | "status.podIPs" => self.address.to_string(),
            "status.hostIP" | "status.hostIPs" => "127.0.0.1".to_owned(),
            _ => return Err(format!("the field path '{path}' is not known")),
        })
    }

    /// A limit or request of a container, in units of the divisor, rounded up. `own`: the container that asks.
    pub(super) fn resource(
        &self,
        selector: &ResourceFieldSelector,
        own: &str,
    ) -> Result<String, String> {
        let name = selector.container_name.as_deref().unwrap_or(own);
        let spec = self.pod.spec.as_ref();
        let container = spec
            .into_iter()
            .flat_map(|spec| {
                spec.containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
            })
            .find(|container| container.name == name)
            .ok_or_else(|| format!("there is no container '{name}'"))?;
        let resources = container.resources.clone().unwrap_or_default();
        let (kind, resource) = selector
            .resource
            .split_once('.')
            .ok_or_else(|| format!("'{}' is no resource", selector.resource))?;
        let given = |map: Option<BTreeMap<String, Quantity>>| {
            map.and_then(|map| map.get(resource).map(|quantity| quantity.0.clone()))
        };
        let amount = match kind {
            "limits" => given(resources.limits).or_else(|| all_of_the_node(resource)),
            "requests" => given(resources.requests).or(Some("0".to_owned())),
            _ => None,
        };
        let amount = amount.ok_or_else(|| format!("'{}' is no resource", selector.resource))?;
        let divisor = selector.divisor.as_ref().map_or("", |divisor| &divisor.0);
        let divisor = if matches!(divisor, "" | "0") {
            "1"
        } else {
            divisor
        };
        let unreadable = |text: &str| format!("'{text}' is no quantity");
        let amount = quantity::milli(&amount).ok_or_else(|| unreadable(&amount))?;
        let divisor = quantity::milli(divisor)
            .filter(|divisor| *divisor > 0)
            .ok_or_else(|| unreadable(divisor))?;
        Ok(((amount + divisor - 1) / divisor).to_string())
    }
}

fn all_of_the_node(resource: &str) -> Option<String> {
    match resource {
        "cpu" => Some(NODE_CPU.to_owned()),
        "memory" => Some(NODE_MEMORY.to_owned()),
        "ephemeral-storage" => Some(NODE_STORAGE.to_owned()),
        _ => None,
    }
}

/// `key` of `<of>['key']`.
fn subscript<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    path.strip_prefix(of)?
        .strip_prefix("['")?
        .strip_suffix("']")
}

/// A line `key="value"` for each, as a downward volume has it.
fn listed(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten();
    let lines: Vec<String> = lines
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "a", "b/c": "x\"y"}},
            "spec": {"containers": [
                {"name": "c", "resources": {"limits": {"memory": "100Mi", "cpu": "250m"}}},
                {"name": "d"},
            ]},
        }))
        .unwrap()
    }

    fn asked(answer: impl Fn(Fields<'_>) -> Result<String, String>) -> Result<String, String> {
        let pod = pod();
        answer(Fields {
            pod: &pod,
            node: "lab-0",
            address: Ipv4Addr::new(127, 127, 3, 4),
        })
    }

    #[test]
    fn fields_of_the_pod_are_found_and_an_unknown_path_is_named() {
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "n"),
            ("metadata.labels['b/c']", "x\"y"),
            ("metadata.annotations['none']", ""),
            ("metadata.labels", "app=\"a\"\nb/c=\"x\\\"y\""),
            ("spec.nodeName", "lab-0"),
            ("spec.serviceAccountName", "default"),
            ("status.podIP", "127.127.3.4"),
        ] {
            assert_eq!(asked(|f| f.field(path)).as_deref(), Ok(expected), "{path}");
        }
        assert!(
            asked(|f| f.field("status.phase"))
                .unwrap_err()
                .contains("status.phase")
        );
    }

    #[test]
    fn resources_are_divided_and_rounded_up_and_no_limit_means_the_nodes() {
        for (selector, expected) in [
            (json!({"resource": "limits.memory"}), "104857600"),
            (
                json!({"resource": "limits.memory", "divisor": "1Mi"}),
                "100",
            ),
            (json!({"resource": "limits.cpu"}), "1"),
            (json!({"resource": "limits.cpu", "divisor": "1m"}), "250"),
            (json!({"resource": "requests.cpu"}), "0"),
            (
                json!({"resource": "limits.cpu", "containerName": "d"}),
                "64",
            ),
        ] {
            let selector: ResourceFieldSelector = serde_json::from_value(selector).unwrap();
            assert_eq!(
                asked(|f| f.resource(&selector, "c")).as_deref(),
                Ok(expected)
            );
        }
        let selector = ResourceFieldSelector {
            resource: "limits.memory".to_owned(),
            container_name: Some("nobody".to_owned()),
            divisor: None,
        };
        assert!(
            asked(|f| f.resource(&selector, "c"))
                .unwrap_err()
                .contains("nobody")
        );
    }
}
