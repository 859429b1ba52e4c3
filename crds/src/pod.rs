//! `spec.pod`: the process that does the work, and the pod around it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::quantity::ByteSize;

/// What the process may use, and what its pods are like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.labels) || !['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by', 'app.kubernetes.io/part-of', 'tidewater.dev/kind'].exists(k, k in self.labels)").message("labels that the operator sets cannot be set: app.kubernetes.io/name, instance, component, managed-by, part-of, tidewater.dev/kind").field_path(".labels"))]
#[x_kube(validation = Rule::new("!has(self.annotations) || !['tidewater.dev/config-hash', 'tidewater.dev/secrets-hash', 'tidewater.dev/restart-nonce'].exists(k, k in self.annotations)").message("annotations that the operator sets cannot be set: tidewater.dev/config-hash, secrets-hash, restart-nonce").field_path(".annotations"))]
pub struct PodSpec {
    /// Memory for records on their way: fetched, being decoded, in open files, being uploaded. Default: three quarters
    /// of the container's memory limit, shared by the sinks of the process; `256Mi` where there is no limit. Example:
    /// `512Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<ByteSize>,
    /// Threads that decode and encode. Default: one per core, at most 8. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u32>,
    /// Image of the sink runtime. Default: the operator's, kept until this resource's configuration changes, so that an
    /// upgrade of the operator restarts no pod. Example: `registry.example.com/tidewater:1.2.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`. Default: Kubernetes' own. Example: `Always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with credentials of the image's registry. Default: none. Example: `[{name: registry}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<SecretName>,
    /// Requests and limits of the container. Default: none. Example: `{requests: {cpu: "1", memory: 1Gi}, limits: {memory:
    /// 1Gi}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Opaque>,
    /// Further labels of the pods. Default: none. Example: `{team: sales}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations of the pods. Default: none. Example: `{cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the nodes that may run the pods. Default: any. Example: `{pool: streaming}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods put up with. Default: none. Example: `[{key: pool, value: streaming, effect: NoSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Opaque>,
    /// Which nodes and neighbours the pods seek or shun. Default: none. Example: `{podAntiAffinity: {…}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Opaque>,
    /// How the pods are spread. A constraint without `labelSelector` gets that of the pods. Default: over nodes, as well as
    /// it goes. Example: `[{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<Opaque>,
    /// ServiceAccount of the pods, made by you: what it may do in AWS is what the sink may do. Its token is not mounted.
    /// Default: the namespace's `default`. Example: `orders-sink`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Priority class of the pods. Default: the cluster's. Example: `streaming`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Security context of the pod; what is given here replaces the same field of the default, which satisfies the
    /// `restricted` standard. Example: `{runAsUser: 1000, fsGroup: 1000}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<Opaque>,
    /// Security context of the container; what is given here replaces the same field of the default, which satisfies the
    /// `restricted` standard. Example: `{readOnlyRootFilesystem: false}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Opaque>,
    /// Further environment variables of the container. When a Secret that they name changes, the pods are restarted.
    /// Default: none. Example: `[{name: AWS_REGION, value: eu-west-1}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub env: Vec<Opaque>,
    /// Further volumes of the pod. Default: none. Example: `[{name: scratch, emptyDir: {}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub volumes: Vec<Opaque>,
    /// Further mounts of the container. Default: none. Example: `[{name: scratch, mountPath: /scratch}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub volume_mounts: Vec<Opaque>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// A Secret in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// Name of the Secret. Example: `registry`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An object of Kubernetes' own API, handed on as it is. The API server judges it when the object that it becomes part of
/// is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub Map<String, Value>);

impl JsonSchema for Opaque {
    fn schema_name() -> Cow<'static, str> {
        "Opaque".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}
