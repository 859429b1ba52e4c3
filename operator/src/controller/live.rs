//! What the cluster holds of a resource's children, cut down to what decisions need: with hundreds of resources the stores
//! are the operator's memory. Pure.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::core::{ApiResource, DeserializeGuard, DynamicResourceScope};
use serde::Deserialize;
use serde_json::Value;

use super::names::{CONFIG_HASH, CONTAINER, KIND, MANAGED_BY, MANAGER, hash_of};

/// The kinds of children, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    ConfigMap,
    Service,
    PodDisruptionBudget,
    Deployment,
    HorizontalPodAutoscaler,
    /// Last: a cluster that does not know the kind has the others all the same.
    PodMonitor,
}

impl ChildKind {
    pub const ALL: [Self; 6] = [
        Self::ConfigMap,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::PodMonitor,
    ];

    pub fn api(self) -> ApiResource {
        match self {
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
            Self::PodMonitor => ApiResource {
                group: "monitoring.coreos.com".to_owned(),
                version: "v1".to_owned(),
                api_version: "monitoring.coreos.com/v1".to_owned(),
                kind: "PodMonitor".to_owned(),
                plural: "podmonitors".to_owned(),
            },
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::PodMonitor => "PodMonitor",
            Self::Deployment => "Deployment",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }
}

/// A child as it is in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub metadata: ObjectMeta,
    version: String,
    labelled: bool,
    deployment: Option<Box<DeploymentFacts>>,
    autoscaler: Option<Box<AutoscalerFacts>>,
}

impl Live {
    /// What decisions need of it.
    pub fn facts(&self) -> Facts {
        let owner = self.controller().map(|owner| Owner {
            uid: owner.uid.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        });
        Facts {
            uid: self.metadata.uid.clone().unwrap_or_default(),
            version: self.version.clone(),
            owner,
            labelled: self.labelled,
            deployment: self.deployment.clone(),
            autoscaler: self.autoscaler.clone(),
        }
    }

    /// Whether it belongs to the resource with this uid.
    pub fn is_of(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }

    fn controller(&self) -> Option<&OwnerReference> {
        let owners = self.metadata.owner_references.as_deref();
        let mut owners = owners.unwrap_or_default().iter();
        owners.find(|owner| owner.controller == Some(true))
    }
}

/// What decisions need of a child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub uid: String,
    /// Changes when somebody changes what we apply.
    pub version: String,
    /// Its controller.
    pub owner: Option<Owner>,
    /// Whether it carries the labels by which it is found.
    pub labelled: bool,
    pub deployment: Option<Box<DeploymentFacts>>,
    pub autoscaler: Option<Box<AutoscalerFacts>>,
}

/// Who an object belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: String,
    pub kind: String,
    pub name: String,
}

/// What decisions need of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// Asked for.
    pub wanted: i32,
    pub image: Option<String>,
    pub config_hash: Option<String>,
    /// Whether its controller has seen what was last applied.
    pub observed: bool,
    pub replicas: i32,
    pub updated: i32,
    pub ready: i32,
    /// Whether the last roll-out has come to its end.
    pub rolled_out: bool,
    /// Why the roll-out does not go on, or pods cannot be made.
    pub failure: Option<String>,
}

/// What decisions need of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoscalerFacts {
    /// Why it cannot tell how many pods are needed.
    pub unable: Option<String>,
    /// Which bound keeps it from what it would ask for.
    pub limited: Option<String>,
}

impl Resource for Live {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(api: &ApiResource) -> Cow<'_, str> {
        api.kind.as_str().into()
    }

    fn group(api: &ApiResource) -> Cow<'_, str> {
        api.group.as_str().into()
    }

    fn version(api: &ApiResource) -> Cow<'_, str> {
        api.version.as_str().into()
    }

    fn plural(api: &ApiResource) -> Cow<'_, str> {
        api.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A Deployment as far as it is read.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Deployment")]
pub struct RawDeployment {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: RawDeploymentSpec,
    #[serde(default)]
    status: RawDeploymentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawDeploymentSpec {
    replicas: Option<i32>,
    template: RawTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawTemplate {
    metadata: Option<RawTemplateMeta>,
    spec: RawPodSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawTemplateMeta {
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawPodSpec {
    containers: Vec<RawContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawContainer {
    name: String,
    image: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDeploymentStatus {
    observed_generation: Option<i64>,
    replicas: i32,
    updated_replicas: i32,
    ready_replicas: i32,
    conditions: Vec<RawCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: String,
    message: String,
}

/// A HorizontalPodAutoscaler as far as it is read.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "HorizontalPodAutoscaler")]
pub struct RawAutoscaler {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: RawAutoscalerStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawAutoscalerStatus {
    conditions: Vec<RawCondition>,
}

fn condition<'a>(conditions: &'a [RawCondition], type_: &str) -> Option<&'a RawCondition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Metadata cut down, and what it alone tells.
fn start(metadata: ObjectMeta) -> Live {
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let version = match (metadata.generation, &metadata.resource_version) {
        (Some(generation), _) => generation.to_string(),
        (None, version) => version.clone().unwrap_or_default(),
    };
    let labelled = label(MANAGED_BY).is_some_and(|by| by == MANAGER) && label(KIND).is_some();
    let metadata = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        owner_references: metadata.owner_references,
        creation_timestamp: metadata.creation_timestamp,
        ..ObjectMeta::default()
    };
    Live {
        metadata,
        version,
        labelled,
        deployment: None,
        autoscaler: None,
    }
}

/// What the decisions need of an object that only its metadata is read of.
pub fn of_metadata(object: PartialObjectMeta<DynamicObject>) -> Live {
    start(object.metadata)
}

pub fn of_deployment(object: DeserializeGuard<RawDeployment>) -> Live {
    let object = match object.0 {
        Ok(object) => object,
        Err(invalid) => return start(invalid.metadata),
    };
    let generation = object.metadata.generation;
    let container = object
        .spec
        .template
        .spec
        .containers
        .into_iter()
        .find(|c| c.name == CONTAINER);
    let annotations = object
        .spec
        .template
        .metadata
        .unwrap_or_default()
        .annotations;
    let status = object.status;
    let progressing = condition(&status.conditions, "Progressing");
    let failure = condition(&status.conditions, "ReplicaFailure")
        .filter(|failure| failure.status == "True")
        .or_else(|| progressing.filter(|progressing| progressing.status == "False"))
        .map(|failure| failure.message.clone());
    let deployment = DeploymentFacts {
        wanted: object.spec.replicas.unwrap_or(1),
        image: container.and_then(|container| container.image),
        config_hash: annotations.get(CONFIG_HASH).cloned(),
        observed: status.observed_generation == generation,
        replicas: status.replicas,
        updated: status.updated_replicas,
        ready: status.ready_replicas,
        rolled_out: progressing
            .is_some_and(|progressing| progressing.reason == "NewReplicaSetAvailable"),
        failure,
    };
    let mut live = start(object.metadata);
    live.deployment = Some(Box::new(deployment));
    live
}

pub fn of_autoscaler(object: DeserializeGuard<RawAutoscaler>) -> Live {
    let object = match object.0 {
        Ok(object) => object,
        Err(invalid) => return start(invalid.metadata),
    };
    let conditions = &object.status.conditions;
    let told = |type_: &str, status: &str| {
        condition(conditions, type_)
            .filter(|condition| condition.status == status)
            .map(|condition| condition.message.clone())
    };
    // An autoscaler of a paused resource is told so: that is no trouble.
    let disabled =
        condition(conditions, "ScalingActive").is_some_and(|c| c.reason == "ScalingDisabled");
    let autoscaler = AutoscalerFacts {
        unable: told("AbleToScale", "False")
            .or_else(|| told("ScalingActive", "False").filter(|_| !disabled)),
        limited: told("ScalingLimited", "True"),
    };
    let version = hash_of(&object.spec);
    let mut live = start(object.metadata);
    live.autoscaler = Some(Box::new(autoscaler));
    // Its status changes its resource version, and it has no generation.
    live.version = version;
    live
}

/// The same of an object that the API server answered with.
pub fn of_answer(kind: ChildKind, answer: DynamicObject) -> Facts {
    let mut live = start(answer.metadata);
    if kind == ChildKind::HorizontalPodAutoscaler {
        live.version = hash_of(&answer.data["spec"]);
    }
    live.facts()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata() -> Value {
        json!({
            "name": "orders-ks3", "namespace": "shop", "uid": "u", "generation": 2, "resourceVersion": "90",
            "labels": {"app.kubernetes.io/managed-by": "tidewater-operator", "tidewater.dev/kind": "KafkaS3Sink"},
            "managedFields": [{"manager": "x"}],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "other"},
                {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "owner", "controller": true},
            ],
        })
    }

    #[test]
    fn of_a_deployment_only_what_decisions_need_is_kept() {
        let raw = json!({
            "metadata": metadata(),
            "spec": {"replicas": 3, "template": {
                "metadata": {"annotations": {"tidewater.dev/config-hash": "abc"}},
                "spec": {"containers": [{"name": "side", "image": "x"}, {"name": "sink", "image": "y"}]},
            }},
            "status": {
                "observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 1,
                "conditions": [
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "m"},
                    {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"},
                ],
            },
        });
        let live = of_deployment(serde_json::from_value(raw).unwrap());
        assert!(live.metadata.managed_fields.is_none() && live.metadata.labels.is_none());
        let facts = live.facts();
        assert_eq!(facts.version, "2");
        assert_eq!(facts.owner.as_ref().unwrap().uid, "owner");
        assert!(facts.labelled);
        let expected = DeploymentFacts {
            wanted: 3,
            image: Some("y".into()),
            config_hash: Some("abc".into()),
            observed: true,
            replicas: 3,
            updated: 2,
            ready: 1,
            rolled_out: true,
            failure: Some("quota".into()),
        };
        assert_eq!(facts.deployment.as_deref(), Some(&expected));
    }

    #[test]
    fn an_autoscalers_version_is_its_spec_whatever_its_status() {
        let raw = |status: Value| {
            let raw = json!({"metadata": metadata(), "spec": {"maxReplicas": 3}, "status": status});
            of_autoscaler(serde_json::from_value(raw).unwrap()).facts()
        };
        let limited = json!({"conditions": [
            {"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "more"},
        ]});
        let unable = json!({"conditions": [
            {"type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric", "message": "no metric"},
        ]});
        let disabled = json!({"conditions": [
            {"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled", "message": "zero"},
        ]});
        assert_eq!(raw(json!({})).version, raw(limited.clone()).version);
        assert_eq!(
            raw(limited).autoscaler.unwrap().limited.as_deref(),
            Some("more")
        );
        assert_eq!(
            raw(unable).autoscaler.unwrap().unable.as_deref(),
            Some("no metric")
        );
        assert_eq!(raw(disabled).autoscaler.unwrap().unable, None);
        let answer: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": metadata(), "spec": {"maxReplicas": 3},
        }))
        .unwrap();
        let facts = of_answer(ChildKind::HorizontalPodAutoscaler, answer);
        assert_eq!(facts.version, raw(json!({})).version);
    }

    #[test]
    fn what_cannot_be_read_still_has_its_metadata() {
        let raw = json!({"metadata": metadata(), "spec": "nonsense"});
        let live = of_deployment(serde_json::from_value(raw).unwrap());
        assert_eq!(live.facts().uid, "u");
        assert_eq!(live.facts().deployment, None);
    }
}
