//! A pod as far as it is read: with hundreds of them the whole would be much of the operator's memory. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use serde::Deserialize;

use crate::controller::names::{CONTAINER, INSTANCE, NAME};

/// See the module.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "Pod")]
pub struct LivePod {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub status: LiveStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LiveStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    pub container_statuses: Vec<LiveContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LiveContainer {
    pub name: String,
    pub ready: bool,
    pub state: LiveState,
    pub last_state: LiveState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LiveState {
    pub terminated: Option<Terminated>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    pub exit_code: i32,
    pub message: Option<String>,
}

impl LivePod {
    /// Without what nobody reads; of one that cannot be read, that it is there.
    pub fn of(pod: DeserializeGuard<Self>) -> Self {
        let mut pod = pod.0.unwrap_or_else(|invalid| Self {
            metadata: invalid.metadata,
            ..Self::default()
        });
        let mut labels = pod.metadata.labels.take().unwrap_or_default();
        labels.retain(|key, _| [NAME, INSTANCE].contains(&key.as_str()));
        pod.metadata = ObjectMeta {
            name: pod.metadata.name,
            namespace: pod.metadata.namespace,
            labels: Some(labels),
            deletion_timestamp: pod.metadata.deletion_timestamp,
            ..ObjectMeta::default()
        };
        pod.status
            .container_statuses
            .retain(|container| container.name == CONTAINER);
        pod
    }

    /// The container that does the work.
    pub fn container(&self) -> Option<&LiveContainer> {
        let mut all = self.status.container_statuses.iter();
        all.find(|container| container.name == CONTAINER)
    }

    /// Evicted pods stay for long, and those that are being deleted have a successor: neither speaks for the sink any more.
    pub fn is_over(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
            || matches!(self.status.phase.as_deref(), Some("Failed" | "Succeeded"))
    }

    /// Whether a selector of the form `key=value,…` takes it.
    pub fn is_taken_by(&self, selector: &str) -> bool {
        let labels = self.metadata.labels.as_ref();
        selector.split(',').all(|term| {
            let term = term.split_once('=');
            term.is_some_and(|(key, value)| {
                labels
                    .and_then(|labels| labels.get(key))
                    .is_some_and(|found| found == value)
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::names;

    fn pod(value: Value) -> LivePod {
        LivePod::of(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_pod_that_is_over_speaks_for_nobody() {
        for over in [
            json!({"metadata": {}, "status": {"phase": "Failed", "podIP": "10.0.0.1"}}),
            json!({"metadata": {}, "status": {"phase": "Succeeded"}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
        ] {
            assert!(pod(over.clone()).is_over(), "{over}");
        }
        assert!(!pod(json!({"metadata": {}, "status": {"phase": "Running"}})).is_over());
    }

    #[test]
    fn a_pod_is_a_sinks_when_every_label_of_the_selector_is_its_own() {
        let labels = names::labels("orders-ks3", "KafkaS3Sink");
        let pod = pod(json!({"metadata": {"labels": labels}}));
        assert!(pod.is_taken_by(&names::selector_text("orders-ks3")));
        assert!(!pod.is_taken_by(&names::selector_text("orders-icet")));
        assert!(!pod.is_taken_by(""));
    }

    #[test]
    fn of_a_pod_only_what_is_read_is_kept_and_one_that_cannot_be_read_is_there() {
        let raw = json!({
            "metadata": {"name": "p", "namespace": "shop", "annotations": {"a": "b"}, "labels": {"more": "x"}},
            "spec": {"containers": []},
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "containerStatuses": [{"name": "side", "ready": true}, {"name": "sink", "ready": true}],
            },
        });
        let kept = pod(raw.clone());
        assert_eq!(kept.metadata.annotations, None);
        assert_eq!(kept.metadata.labels.as_ref().unwrap().len(), 0);
        assert_eq!(kept.status.pod_ip.as_deref(), Some("10.0.0.1"));
        assert_eq!(kept.status.container_statuses.len(), 1);
        assert!(kept.container().unwrap().ready);
        let mut nonsense = raw;
        nonsense["status"] = json!("nonsense");
        let kept = pod(nonsense);
        assert_eq!(kept.metadata.name.as_deref(), Some("p"));
        assert!(kept.container().is_none());
    }
}
