//! The resource as its pods read it, and the hash that stands for all that makes pods start anew. Pure.
//!
//! What equals the definition's default is left out, so that a definition that gains a field changes nothing of what runs
//! already, and a pod of an older runtime, kept over an upgrade, is not handed a field it does not know.

use serde_json::{Map, Value, json};
use tidewater_crds::API_VERSION;

use super::kind::SinkKind;
use super::names::hash_of;

/// Read by the operator alone: a change of them is none to the pods' configuration.
const NOT_READ: [&str; 5] = [
    "replicas",
    "paused",
    "autoscaling",
    "restartNonce",
    "deletionPolicy",
];
/// Read by the process; the rest of `spec.pod` is the pod around it.
const READ_OF_POD: [&str; 2] = ["memoryBudget", "workers"];

/// What the pods are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// YAML, as `tidewater run -f` takes it.
    pub text: String,
    /// Changes with the text, the pod's settings and the restart nonce, and with nothing else.
    pub hash: String,
}

impl Config {
    /// `schema`: [`SinkKind::schema`].
    pub fn of<S: SinkKind>(sink: &S, schema: &Value) -> Self {
        let mut resource = serde_json::to_value(sink).unwrap_or_default();
        let mut spec = resource["spec"].take();
        strip(schema, &mut spec);
        let mut apart = Map::new();
        if let Some(spec) = spec.as_object_mut() {
            for field in NOT_READ {
                spec.remove(field);
            }
            if let Some(Value::Object(glue)) = spec.get_mut("glue") {
                glue.remove("deletionPolicy");
            }
            if let Some(Value::Object(pod)) = spec.remove("pod") {
                let (read, rest): (Map<_, _>, Map<_, _>) = pod
                    .into_iter()
                    .partition(|(field, _)| READ_OF_POD.contains(&field.as_str()));
                apart = rest;
                if !read.is_empty() {
                    spec.insert("pod".to_owned(), read.into());
                }
            }
        }
        let document = sorted(json!({
            "apiVersion": API_VERSION,
            "kind": S::KIND,
            "metadata": {
                "name": resource["metadata"]["name"],
                "namespace": resource["metadata"]["namespace"],
            },
            "spec": spec,
        }));
        let text = serde_yaml_ng::to_string(&document).unwrap_or_default();
        let hash = hash_of(&json!({
            "resource": document,
            "pod": apart,
            "restartNonce": sink.common().restart_nonce,
        }));
        Self { text, hash }
    }
}

/// Removes every field whose value is what the schema fills in.
fn strip(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            let values = &schema["additionalProperties"];
            for (name, field) in object.iter_mut() {
                let below = schema["properties"].get(name).unwrap_or(values);
                strip(below, field);
            }
            object.retain(|name, field| {
                let schema = &schema["properties"][name.as_str()];
                let Some(default) = schema.get("default") else {
                    return true;
                };
                let mut default = default.clone();
                strip(schema, &mut default);
                *field != default
            });
        }
        Value::Array(items) => {
            for item in items {
                strip(&schema["items"], item);
            }
        }
        _ => {}
    }
}

/// With keys in order, whatever `serde_json` was built with.
pub(super) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;
    use tidewater_crds::{IcebergTable, KafkaS3Sink};
    use tidewater_runtime::plan::{NoSecrets, Plan};

    use super::*;
    use crate::controller::fixtures;

    fn config(change: impl FnOnce(&mut KafkaS3Sink)) -> Config {
        let mut sink = fixtures::sink();
        change(&mut sink);
        Config::of(&sink, &KafkaS3Sink::schema())
    }

    #[test]
    fn the_configuration_of_the_least_resource_is_what_its_author_wrote() {
        let config = config(|_| {});
        let expected = "\
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata:
  name: orders
  namespace: shop
spec:
  destination:
    s3:
      bucket: lake
  source:
    bootstrapServers: kafka:9092
    topics:
    - orders
  value:
    infer: {}
";
        assert_eq!(config.text, expected);
        // In clusters already: another hash would restart every pod there is.
        assert_eq!(config.hash, "65426fae94ae28ba");
    }

    #[test]
    fn the_configuration_means_to_the_runtime_what_the_resource_means() {
        let table = fixtures::table();
        let text = Config::of(&table, &IcebergTable::schema()).text;
        let by_file = Plan::from_yaml(&text, &NoSecrets).unwrap().remove(0);
        let by_resource = table.plan(&NoSecrets).unwrap();
        assert_eq!(format!("{by_file:?}"), format!("{by_resource:?}"));
    }

    #[test]
    fn scaling_and_pausing_change_no_configuration() {
        let plain = config(|_| {});
        let scaled = config(|sink| {
            sink.spec.replicas = 7;
            sink.spec.paused = true;
            sink.spec.autoscaling =
                serde_json::from_value(json!({"maxReplicas": 9, "lagPerReplica": 5})).unwrap();
            sink.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        });
        assert_eq!(plain, scaled);
    }

    #[test]
    fn what_becomes_of_a_table_with_its_resource_changes_no_configuration() {
        let schema = KafkaS3Sink::schema();
        let of = |policy: &str| {
            let glue = json!({"database": "raw", "table": "orders", "deletionPolicy": policy});
            Config::of(
                &fixtures::changed(&fixtures::sink(), &json!({"glue": glue})),
                &schema,
            )
        };
        assert_eq!(of("Retain"), of("Delete"));
        assert!(of("Delete").text.contains("database: raw"));
    }

    #[test]
    fn pod_settings_and_the_nonce_change_the_hash_and_not_the_text() {
        let plain = config(|_| {});
        for config in [
            config(|sink| sink.spec.restart_nonce = Some(1)),
            config(|sink| sink.spec.pod.image = Some("other".to_owned())),
            config(|sink| drop(sink.spec.pod.labels.insert("a".to_owned(), "b".to_owned()))),
        ] {
            assert_eq!(config.text, plain.text);
            assert_ne!(config.hash, plain.hash);
        }
        let more = config(|sink| sink.spec.pod.workers = Some(3));
        assert!(more.text.contains("workers: 3") && more.hash != plain.hash);
    }

    #[test]
    fn a_field_that_a_newer_definition_fills_in_changes_nothing() {
        let mut schema = json!({"properties": {"a": {"type": "string"}}});
        let mut old = json!({"a": "x"});
        strip(&schema, &mut old);
        schema["properties"]["b"] = json!({
            "default": {"c": 5, "d": []},
            "properties": {"c": {"default": 5}, "d": {"default": [], "items": {}}},
        });
        let mut new = json!({"a": "x", "b": {"c": 5, "d": []}});
        strip(&schema, &mut new);
        assert_eq!(new, old);
        let mut set = json!({"a": "x", "b": {"c": 6, "d": []}});
        strip(&schema, &mut set);
        assert_eq!(set, json!({"a": "x", "b": {"c": 6}}));
    }
}
