//! The definitions to install in a cluster: what kube derives from the types, made strict. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::core::CustomResourceExt;
use serde_json::json;

use crate::{IcebergTable, KafkaS3Sink};

/// Both definitions, as they are installed.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![definition::<KafkaS3Sink>(), definition::<IcebergTable>()]
}

/// The definition of one kind, as it is installed. Differs from [`CustomResourceExt::crd`]:
/// * an optional field set to null counts as left out, instead of being null beside its default;
/// * a new object has a `Ready` condition, so that nobody who waits for readiness takes its absence for it;
/// * formats that Kubernetes does not know are dropped: it warns about them on every apply.
pub fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut definition = K::crd();
    for version in &mut definition.spec.versions {
        let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        tighten(root);
        root.required = Some(vec!["spec".to_owned()]);
        if let Some(status) = root
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("status"))
        {
            status.default = Some(JSON(json!({
                "replicas": 0,
                "conditions": [{
                    "type": "Ready",
                    "status": "Unknown",
                    "reason": "NotReconciled",
                    "message": "not looked at yet",
                    "lastTransitionTime": "1970-01-01T00:00:00Z",
                }],
            })));
        }
    }
    definition
}

fn tighten(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    // Doc comments are broken into lines for the source's width, not for `kubectl explain`.
    if let Some(description) = &mut schema.description {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(format) = &schema.format
        && !matches!(format.as_str(), "int32" | "int64" | "double" | "date-time")
    {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        tighten(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tighten(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tighten),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tighten(values);
    }
}
