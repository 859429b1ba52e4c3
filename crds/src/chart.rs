//! What is made of the chart's `values.yaml` (the schema that helm checks, the reference page) and of the definitions
//! (the chart's templates). Pure.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};
use serde_yaml_ng::Value;

/// One value of the chart.
struct Entry<'a> {
    /// Keys joined by dots.
    path: String,
    value: &'a Value,
    /// The comment above it.
    meaning: String,
}

/// A definition as a template: installed unless told otherwise, and kept when the chart goes, since every sink of the
/// cluster goes with its definition.
pub(crate) fn template(definition: &str) -> String {
    let keep = "metadata:\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    format!(
        "{{{{- if .Values.crds.enabled }}}}\n{}{{{{- end }}}}\n",
        definition.replacen("metadata:\n", keep, 1)
    )
}

/// The reference page of the values.
///
/// # Errors
/// When the text is not YAML.
pub(crate) fn values_page(text: &str) -> Result<String, serde_yaml_ng::Error> {
    let root = serde_yaml_ng::from_str(text)?;
    let mut page = String::from(
        "<!-- Generated from charts/tidewater/values.yaml by `tidewater-crds generate`; do not edit. -->\n# Values of the chart\n\n\
         Values not listed here are refused, `global` excepted.\n\n| value | default | meaning |\n|---|---|---|\n",
    );
    for entry in entries(text, &root) {
        if structured(text, &entry) {
            continue;
        }
        let default = serde_json::to_string(entry.value).unwrap_or_default();
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} |",
            entry.path,
            default.replace('|', "\\|"),
            entry.meaning.replace('|', "\\|")
        );
    }
    Ok(page)
}

/// The schema that helm holds values against: as strict as it can be without knowing what Kubernetes knows.
///
/// # Errors
/// When the text is not YAML.
pub(crate) fn values_schema(text: &str) -> Result<String, Box<dyn std::error::Error>> {
    let root = serde_yaml_ng::from_str(text)?;
    let mut schema = object();
    // Helm hands these to every chart that is part of another.
    schema["properties"]["global"] = json!({"type": "object"});
    schema["properties"]["enabled"] = json!({"type": "boolean"});
    for entry in entries(text, &root) {
        let mut place = &mut schema;
        let mut keys: Vec<&str> = entry.path.split('.').collect();
        let last = keys.pop().unwrap_or_default();
        for key in keys {
            place = &mut place["properties"][key];
        }
        let mut own = if structured(text, &entry) {
            object()
        } else {
            kind(entry.value)
        };
        narrow(&entry.path, &mut own);
        own["description"] = json!(entry.meaning);
        place["properties"][last] = own;
    }
    schema["$schema"] = json!("https://json-schema.org/draft-07/schema#");
    Ok(format!("{:#}\n", sorted(schema)))
}

fn object() -> Json {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

fn kind(value: &Value) -> Json {
    match value {
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "integer", "minimum": 0}),
        Value::Sequence(_) => json!({"type": "array"}),
        Value::Mapping(_) => json!({"type": "object"}),
        _ => json!({"type": "string"}),
    }
}

/// What a default does not tell of the values in its place.
const TEXTS: [&str; 4] = [
    "imagePullSecrets",
    "watchNamespaces",
    "extraArgs",
    "reach.allowed",
];
const OBJECTS: [&str; 6] = [
    "tolerations",
    "topologySpreadConstraints",
    "extraEnv",
    "extraVolumes",
    "extraVolumeMounts",
    "extraObjects",
];
const MAPS_OF_TEXTS: [&str; 8] = [
    "serviceAccount.annotations",
    "podLabels",
    "podAnnotations",
    "nodeSelector",
    "metrics.serviceMonitor.labels",
    "metrics.podMonitors.labels",
    "prometheusRule.labels",
    "dashboard.labels",
];
const CHOICES: [(&str, &[&str]); 3] = [
    ("catalogs.identity", &["Resource", "Operator"]),
    ("image.pullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("logFormat", &["Json", "Human"]),
];
const PORTS: [&str; 2] = ["metrics.port", "externalMetrics.port"];

fn narrow(path: &str, schema: &mut Json) {
    if TEXTS.contains(&path) {
        schema["items"] = json!({"type": "string", "minLength": 1});
    }
    if OBJECTS.contains(&path) {
        schema["items"] = json!({"type": "object"});
    }
    if MAPS_OF_TEXTS.contains(&path) {
        schema["additionalProperties"] = json!({"type": "string"});
    }
    if let Some((_, choices)) = CHOICES.iter().find(|(of, _)| *of == path) {
        schema["enum"] = json!(choices);
    }
    if path == "lagLooksAtOnce" {
        schema["minimum"] = json!(1);
        schema["maximum"] = json!(64);
    }
    if PORTS.contains(&path) {
        schema["minimum"] = json!(1);
        schema["maximum"] = json!(65535);
    }
}

/// Whether the chart itself gives the keys below a value their meaning; else they are passed on as they are.
fn structured(text: &str, entry: &Entry<'_>) -> bool {
    let depth = entry.path.split('.').count() * 2;
    let Value::Mapping(below) = entry.value else {
        return false;
    };
    below
        .keys()
        .next()
        .and_then(Value::as_str)
        .is_some_and(|key| {
            let line = format!("{}{key}:", " ".repeat(depth));
            let mut before = "";
            text.lines()
                .skip_while(|line| {
                    !line
                        .trim_start()
                        .starts_with(&format!("{}:", last(&entry.path)))
                })
                .any(|at| {
                    let found = at.starts_with(&line) && before.trim_start().starts_with('#');
                    before = at;
                    found
                })
        })
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Every value with a comment, in the file's order.
fn entries<'a>(text: &str, root: &'a Value) -> Vec<Entry<'a>> {
    let mut found = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start();
        if let Some(words) = bare.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let key = bare.split_once(':').map(|(key, _)| key.trim_matches('"'));
        let (Some(key), false) = (key, comment.is_empty()) else {
            comment.clear();
            continue;
        };
        path.truncate((line.len() - bare.len()) / 2);
        path.push(key.to_owned());
        let value = path
            .iter()
            .try_fold(root, |value, key| value.get(key.as_str()));
        if let Some(value) = value {
            found.push(Entry {
                path: path.join("."),
                value,
                meaning: std::mem::take(&mut comment).join(" "),
            });
        }
        comment.clear();
    }
    found
}

/// Whether `serde_json` keeps insertion order depends on what else is built; the file must not.
fn sorted(value: Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const VALUES: &str = "# File header.\n\n# An image.\nimage:\n  # Its name.\n  name: a/b\n  # Its tag.\n  tag: \"\"\n\n# Passed on.\nresources:\n  requests:\n    cpu: 50m\n# How many.\nreplicas: 1\n# A list.\nitems: []\n";

    #[test]
    fn what_the_chart_explains_is_strict_and_what_it_passes_on_is_free() {
        let schema: Json = serde_json::from_str(&values_schema(VALUES).unwrap()).unwrap();
        let properties = &schema["properties"];
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(properties["global"]["type"], json!("object"));
        assert_eq!(properties["image"]["additionalProperties"], json!(false));
        assert_eq!(
            properties["image"]["properties"]["tag"]["type"],
            json!("string")
        );
        assert!(
            properties["resources"]
                .get("additionalProperties")
                .is_none()
        );
        assert_eq!(properties["replicas"]["type"], json!("integer"));
        assert_eq!(properties["items"]["type"], json!("array"));
    }

    #[test]
    fn the_page_has_a_row_for_each_value_that_can_be_set() {
        let page = values_page(VALUES).unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(
            rows,
            [
                "| `image.name` | `\"a/b\"` | Its name. |",
                "| `image.tag` | `\"\"` | Its tag. |",
                "| `resources` | `{\"requests\":{\"cpu\":\"50m\"}}` | Passed on. |",
                "| `replicas` | `1` | How many. |",
                "| `items` | `[]` | A list. |",
            ]
        );
    }

    #[test]
    fn what_is_told_of_a_value_is_told_of_one_that_there_is() {
        let text = include_str!("../../charts/tidewater/values.yaml");
        let root = serde_yaml_ng::from_str(text).unwrap();
        let there: Vec<String> = entries(text, &root)
            .into_iter()
            .map(|entry| entry.path)
            .collect();
        let choices = CHOICES.iter().map(|(path, _)| path);
        let all = TEXTS.iter().chain(&OBJECTS).chain(&MAPS_OF_TEXTS);
        for path in all.chain(&PORTS).chain(choices) {
            assert!(there.iter().any(|there| there == path), "{path}");
        }
    }

    #[test]
    fn a_definitions_template_is_optional_and_kept() {
        let template = template("# made\nkind: X\nmetadata:\n  name: x\n");
        assert!(template.starts_with("{{- if .Values.crds.enabled }}\n# made\nkind: X\n"));
        assert!(
            template
                .contains("helm.sh/resource-policy: keep\n  {{- end }}\n  name: x\n{{- end }}\n")
        );
    }
}
