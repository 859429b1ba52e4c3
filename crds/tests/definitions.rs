//! What a cluster and a reader get from the types.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::Path;

use serde_json::{Value, json};
use tidewater_crds::{IcebergTable, KafkaS3Sink, definitions, generated};

#[test]
fn generated_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in generated().unwrap() {
        let text = std::fs::read_to_string(root.join(file.path)).unwrap_or_default();
        assert!(
            text == file.text,
            "{} is out of date: run `cargo run -p tidewater-crds -- generate`",
            file.path
        );
    }
}

fn schemas() -> Vec<(String, Value)> {
    definitions()
        .iter()
        .map(|definition| {
            let schema = definition.spec.versions[0].schema.as_ref().unwrap();
            (
                definition.spec.names.kind.clone(),
                serde_json::to_value(&schema.open_api_v3_schema).unwrap(),
            )
        })
        .collect()
}

fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            walk(&format!("{path}{mark}"), &schema[key], visit);
        }
    }
}

#[test]
fn every_field_says_what_it_means_and_gives_an_example() {
    for (kind, schema) in schemas() {
        walk("", &schema["properties"]["spec"], &mut |path, field| {
            let nested = path.is_empty() || path.ends_with("[]") || path.ends_with(".*");
            if !nested {
                let text = field["description"].as_str().unwrap_or_default();
                assert!(text.contains("Example: `"), "{kind} spec{path}: {text}");
            }
        });
        walk("", &schema["properties"]["status"], &mut |path, field| {
            if !path.ends_with("[]") {
                assert!(field["description"].is_string(), "{kind} status{path}");
            }
        });
    }
}

#[test]
fn the_schema_is_structural() {
    for (kind, schema) in schemas() {
        walk("", &schema, &mut |path, node| {
            for key in [
                "$ref", "anyOf", "oneOf", "allOf", "not", "nullable", "title",
            ] {
                assert!(node.get(key).is_none(), "{kind}{path} has {key}");
            }
            let values = node["enum"].as_array();
            assert!(
                !values.is_some_and(|values| values.contains(&Value::Null)),
                "{kind}{path}"
            );
            let typed = node["type"].is_string()
                || node["x-kubernetes-int-or-string"] == json!(true)
                || path.is_empty();
            assert!(typed, "{kind}{path} has no type");
            if node["properties"].is_object() {
                assert!(node.get("additionalProperties").is_none(), "{kind}{path}");
            }
            if node["type"] == json!("object") && path.starts_with(".spec") {
                let open = node["properties"].is_object()
                    || node["additionalProperties"].is_object()
                    || node["x-kubernetes-preserve-unknown-fields"] == json!(true);
                assert!(open, "{kind}{path} would lose every field");
            }
            if node["type"] == json!("array") && path.starts_with(".spec") {
                assert!(node["maxItems"].is_u64(), "{kind}{path} is unbounded");
            }
        });
    }
}

#[test]
fn what_the_api_server_fills_in_is_what_the_runtime_assumes() {
    let source = json!({"bootstrapServers": "kafka:9092", "topics": ["orders"]});
    let sink = json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": "orders"},
        "spec": {"source": source, "value": {"infer": {}}, "destination": {"s3": {"bucket": "lake"}}},
    });
    let table = json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": "orders"},
        "spec": {
            "source": source, "value": {"infer": {}}, "namespace": "sales", "table": "orders",
            "catalog": {"rest": {"uri": "http://catalog:8181"}}, "storage": {"s3": {}},
        },
    });
    for (kind, schema) in schemas() {
        let mut sparse = if kind == "KafkaS3Sink" {
            sink.clone()
        } else {
            table.clone()
        };
        let parsed = |value: &Value| {
            if kind == "KafkaS3Sink" {
                let sink: KafkaS3Sink = serde_json::from_value(value.clone()).unwrap();
                serde_json::to_value(sink.spec).unwrap()
            } else {
                let table: IcebergTable = serde_json::from_value(value.clone()).unwrap();
                serde_json::to_value(table.spec).unwrap()
            }
        };
        let by_types = parsed(&sparse);
        fill_in(&schema["properties"]["spec"], &mut sparse["spec"]);
        assert_eq!(parsed(&sparse), by_types);
        assert_eq!(sparse["spec"], by_types, "{kind}");
    }
}

fn fill_in(schema: &Value, value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(default) = property.get("default") {
                object
                    .entry(name.clone())
                    .or_insert_with(|| default.clone());
            }
            if let Some(value) = object.get_mut(name) {
                fill_in(property, value);
            }
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        fill_in(&schema["items"], item);
    }
}

#[test]
fn a_new_object_is_not_ready_and_has_no_unknown_status_field() {
    for (kind, schema) in schemas() {
        let default = &schema["properties"]["status"]["default"];
        let ready = &default["conditions"][0];
        assert_eq!(ready["type"], "Ready", "{kind}");
        assert_eq!(ready["status"], "Unknown", "{kind}");
        assert_eq!(ready["reason"], "NotReconciled", "{kind}");
        let status: tidewater_crds::SinkStatus = serde_json::from_value(default.clone()).unwrap();
        assert_eq!(&serde_json::to_value(status).unwrap(), default);
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    }
}

#[test]
fn both_kinds_scale_and_show_their_state() {
    for definition in definitions() {
        let version = &definition.spec.versions[0];
        let subresources = version.subresources.as_ref().unwrap();
        assert!(subresources.status.is_some());
        let scale = subresources.scale.as_ref().unwrap();
        assert_eq!(scale.spec_replicas_path, ".spec.replicas");
        assert_eq!(scale.status_replicas_path, ".status.replicas");
        assert_eq!(
            scale.label_selector_path.as_deref(),
            Some(".status.selector")
        );
        let columns: Vec<&str> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .filter(|column| column.priority.unwrap_or_default() == 0)
            .map(|column| column.name.as_str())
            .collect();
        assert_eq!(
            columns,
            [
                "Ready",
                "Phase",
                "Replicas",
                "Available",
                "Lag",
                "Last-commit",
                "Age"
            ]
        );
        assert_eq!(definition.spec.scope, "Namespaced");
    }
}
