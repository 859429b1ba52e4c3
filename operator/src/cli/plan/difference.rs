//! Two objects → what differs, by path. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// Longest value shown, in characters.
const SHOWN: usize = 60;

/// Kept by the API server, and no change of anybody's making.
const IGNORED: [&str; 7] = [
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "status",
];

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    path: String,
    old: Option<String>,
    new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "{path}: {old} → {new}"),
            (Some(old), None) => write!(f, "{path}: {old} is removed"),
            (None, new) => write!(f, "{path}: {} is added", new.as_deref().unwrap_or_default()),
        }
    }
}

/// What differs between `old` and `new`, which stand at `path`.
pub(super) fn changes(old: &Value, new: &Value, path: &str) -> Vec<Change> {
    let mut found = Vec::new();
    compare(path, Some(old), Some(new), &mut found);
    found
}

/// Whether a Deployment with these changes starts its pods anew.
pub(super) fn restarts(changes: &[Change]) -> bool {
    changes
        .iter()
        .any(|change| change.path.starts_with("spec.template"))
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Change>) {
    if old == new || IGNORED.contains(&path) {
        return;
    }
    match (old, new) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&below(path, key), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for i in 0..a.len().max(b.len()) {
                compare(&format!("{path}[{i}]"), a.get(i), b.get(i), found);
            }
        }
        _ => found.push(Change {
            path: path.to_owned(),
            old: old.map(shown),
            new: new.map(shown),
        }),
    }
}

fn below(path: &str, key: &str) -> String {
    if key.contains(['.', '/']) {
        format!("{path}[\"{key}\"]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        changes(old, new, "")
            .iter()
            .map(Change::to_string)
            .collect()
    }

    #[test]
    fn a_change_is_shown_by_path_with_both_values() {
        let old =
            json!({"spec": {"replicas": 1, "a": ["x", "y"], "gone": true}, "status": {"x": 1}});
        let new = json!({"spec": {"replicas": 3, "a": ["x", "z", "w"]}, "status": {"x": 2}});
        let expected = [
            "spec.a[1]: \"y\" → \"z\"",
            "spec.a[2]: \"w\" is added",
            "spec.gone: true is removed",
            "spec.replicas: 1 → 3",
        ];
        assert_eq!(lines(&old, &new), expected);
        assert!(lines(&old, &old).is_empty());
    }

    #[test]
    fn only_a_change_of_the_template_restarts_pods() {
        let deployment = |replicas: u32, image: &str| json!({"spec": {"replicas": replicas, "template": {"image": image}}});
        let base = deployment(1, "a");
        assert!(!restarts(&changes(&base, &deployment(2, "a"), "")));
        assert!(restarts(&changes(&base, &deployment(1, "b"), "")));
    }

    #[test]
    fn long_values_are_cut() {
        let lines = lines(&json!({"a": "é".repeat(100)}), &json!({"a": 1}));
        assert!(lines[0].chars().count() < 80 && lines[0].contains('…'));
    }
}
