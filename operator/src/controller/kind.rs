//! What the two kinds have in common, so that one controller serves both.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidewater_crds::{
    AutoscalingSpec, DeletionPolicy, GlueDeletionPolicy, IcebergTable, KafkaS3Sink, PodSpec,
    SinkStatus, SourceSpec, definition,
};
use tidewater_runtime::plan::{Plan, PlanErrors, Secrets};

/// The fields that the operator itself reads.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    pub replicas: i32,
    pub paused: bool,
    pub source: &'a SourceSpec,
    pub pod: &'a PodSpec,
    pub autoscaling: Option<&'a AutoscalingSpec>,
    pub restart_nonce: Option<i64>,
}

/// A kind of resource that pods work for.
pub trait SinkKind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    const KIND: &'static str;
    /// Ends the names of its children.
    const SUFFIX: &'static str;

    fn common(&self) -> Common<'_>;

    fn status(&self) -> Option<&SinkStatus>;

    /// What was made for it in a catalog goes with it.
    fn deletes_table(&self) -> bool;

    /// The spec, checked as the runtime checks it.
    fn plan(&self, secrets: &dyn Secrets) -> Result<Plan, PlanErrors>;

    /// The schema of its spec.
    fn schema() -> serde_json::Value {
        let definition = serde_json::to_value(Self::definition()).unwrap_or_default();
        definition
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .cloned()
            .unwrap_or_default()
    }

    fn definition()
    -> k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
}

macro_rules! sink_kind {
    ($kind:ident, $suffix:literal, $plan:ident, $deletes:expr) => {
        impl SinkKind for $kind {
            const KIND: &'static str = stringify!($kind);
            const SUFFIX: &'static str = $suffix;

            fn common(&self) -> Common<'_> {
                Common {
                    replicas: self.spec.replicas,
                    paused: self.spec.paused,
                    source: &self.spec.source,
                    pod: &self.spec.pod,
                    autoscaling: self.spec.autoscaling.as_ref(),
                    restart_nonce: self.spec.restart_nonce,
                }
            }

            fn status(&self) -> Option<&SinkStatus> {
                self.status.as_ref()
            }

            fn deletes_table(&self) -> bool {
                let deletes: fn(&Self) -> bool = $deletes;
                deletes(self)
            }

            fn plan(&self, secrets: &dyn Secrets) -> Result<Plan, PlanErrors> {
                Plan::$plan(self, secrets)
            }

            fn definition()
            -> k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition
            {
                definition::<Self>()
            }
        }
    };
}

sink_kind!(KafkaS3Sink, "ks3", from_s3_sink, |sink| {
    let glue = sink.spec.glue.as_ref();
    glue.is_some_and(|glue| glue.deletion_policy == GlueDeletionPolicy::Delete)
});
sink_kind!(IcebergTable, "icet", from_iceberg_table, |table| {
    table.spec.deletion_policy == DeletionPolicy::Delete
});
