//! `spec.autoscaling`: how many pods share the work, decided by lag.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::pod::Opaque;

/// Pods by lag. In a cluster it becomes a HorizontalPodAutoscaler that scales the resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not be greater than maxReplicas").field_path(".minReplicas"))]
pub struct AutoscalingSpec {
    /// Fewest pods. `0` needs a cluster whose autoscalers go to zero (Kubernetes 1.37). Example: `2`.
    #[serde(default = "min_replicas")]
    #[schemars(range(min = 0))]
    pub min_replicas: i32,
    /// Most pods; more than the topics have partitions are never asked for. Example: `12`.
    #[schemars(range(min = 1))]
    pub max_replicas: i32,
    /// Records not yet in the destination that one pod is expected to cope with: as many pods are asked for as the lag
    /// holds this number. Example: `50000`.
    #[schemars(range(min = 1))]
    pub lag_per_replica: i64,
    /// How fast pods come and go, as `behavior` of a HorizontalPodAutoscaler. Default: up by doubling after a minute, down
    /// by one pod in five minutes after ten minutes of less lag, since each change makes the group share anew. Example:
    /// `{scaleDown: {stabilizationWindowSeconds: 1800}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Opaque>,
}

fn min_replicas() -> i32 {
    1
}
