//! Names, labels and hashes of what belongs to a resource. Pure; what stands here is in clusters already, so that a change
//! of any of it would make every object anew.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use twox_hash::XxHash64;

/// Longest name of a child. A pod's name adds 17 characters to it, and 69 of them still tell two pods apart in 63.
const LONGEST: usize = 52;
const HASH: usize = 10;

pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "tidewater-operator";
pub const NAME: &str = "app.kubernetes.io/name";
pub const INSTANCE: &str = "app.kubernetes.io/instance";
pub const KIND: &str = "tidewater.dev/kind";

/// On a resource: `paused` stops reconciliation, not the sink.
pub const RECONCILE: &str = "tidewater.dev/reconcile";
/// Whether reconciliation of a resource is paused.
pub fn is_frozen(metadata: &ObjectMeta) -> bool {
    let annotation = metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(RECONCILE));
    annotation.is_some_and(|value| value == "paused")
}

/// On the pods: see [`crate::controller::validate`].
pub const CONFIG_HASH: &str = "tidewater.dev/config-hash";
pub const SECRETS_HASH: &str = "tidewater.dev/secrets-hash";
pub const RESTART_NONCE: &str = "tidewater.dev/restart-nonce";

/// On a resource whose table is to go with it.
pub const FINALIZER: &str = "tidewater.dev/table";

/// The container of a pod that does the work.
pub const CONTAINER: &str = "sink";

/// The name of the children of a resource: `<name>-<suffix>`, or a hashed one where that is too long or no name for a
/// Service. All bear it, a ConfigMap with more behind it: [`config_map`].
pub fn child(name: &str, suffix: &str) -> String {
    let full = format!("{name}-{suffix}");
    let starts_well = full.starts_with(|c: char| c.is_ascii_lowercase());
    if full.len() <= LONGEST && !full.contains('.') && starts_well {
        return full;
    }
    let hash = hash(full.as_bytes());
    let start = if starts_well { "" } else { "s" };
    let mut plain = format!("{start}{full}").replace('.', "-");
    plain.truncate(LONGEST - HASH - 1);
    format!("{plain}-{}", &hash[..HASH])
}

/// The name of the ConfigMap with that text: another text is another object, so that a pod which starts anew while a
/// roll-out is stuck reads what the others of its make read.
pub fn config_map(child: &str, text: &str) -> String {
    format!("{child}-{}", &hash(text.as_bytes())[..HASH])
}

/// The labels of every child and pod.
pub fn labels(child: &str, kind: &str) -> BTreeMap<String, String> {
    [
        (NAME, "tidewater"),
        (INSTANCE, child),
        ("app.kubernetes.io/component", "sink"),
        (MANAGED_BY, MANAGER),
        ("app.kubernetes.io/part-of", "tidewater"),
        (KIND, kind),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The labels that select a resource's pods and nobody else's.
pub fn selector(child: &str) -> BTreeMap<String, String> {
    [(NAME, "tidewater"), (INSTANCE, child)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// [`selector`] as autoscalers read it.
pub fn selector_text(child: &str) -> String {
    selector(child)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Selects the children of all resources of a kind.
pub fn children_of(kind: &str) -> String {
    format!("{MANAGED_BY}={MANAGER},{KIND}={kind}")
}

/// Selects the pods of all resources.
pub fn all_pods() -> String {
    format!("{MANAGED_BY}={MANAGER},{NAME}=tidewater")
}

/// 16 digits that stay the same on every machine and in every version.
pub fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash64::oneshot(0, bytes))
}

/// [`hash`] of a value whatever the order of its keys.
pub fn hash_of(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    hash(text.as_bytes())
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in entries {
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_child_is_named_after_its_resource_as_long_as_that_is_a_name() {
        assert_eq!(child("orders", "ks3"), "orders-ks3");
        assert_eq!(
            child(&"a".repeat(48), "ks3"),
            format!("{}-ks3", "a".repeat(48))
        );
        for name in [
            "a".repeat(49),
            "a".repeat(253),
            "orders.v2".to_owned(),
            "2orders".to_owned(),
            format!("{}.b", "a".repeat(200)),
            "a-".repeat(100) + "a",
        ] {
            let child = child(&name, "icet");
            assert!(child.len() <= LONGEST, "{child}");
            assert!(
                child.starts_with(|c: char| c.is_ascii_lowercase()),
                "{child}"
            );
            assert!(
                child
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{child}"
            );
            assert!(
                child.ends_with(|c: char| c.is_ascii_alphanumeric()),
                "{child}"
            );
        }
    }

    #[test]
    fn no_two_resources_share_a_child_and_names_stay_what_they_were() {
        let long = "a".repeat(60);
        let names = [
            child(&long, "ks3"),
            child(&long, "icet"),
            child(&format!("{long}b"), "ks3"),
            child("a.b", "ks3"),
            child("a-b", "ks3"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(child("a.b", "ks3"), "a-b-ks3-69b05ed6a5");
        assert_eq!(hash(b"tidewater"), "d88f4e058e71c23e");
    }

    #[test]
    fn the_hash_of_a_value_does_not_depend_on_the_order_of_its_keys() {
        let one: Value =
            serde_json::from_str(r#"{"a": 1, "b": [{"c": "x", "d": null}]}"#).unwrap_or_default();
        let other: Value =
            serde_json::from_str(r#"{"b": [{"d": null, "c": "x"}], "a": 1}"#).unwrap_or_default();
        assert_eq!(hash_of(&one), hash_of(&other));
        assert_ne!(hash_of(&json!(["a", "b"])), hash_of(&json!(["ab"])));
        assert_ne!(hash_of(&json!("1")), hash_of(&json!(1)));
    }
}
