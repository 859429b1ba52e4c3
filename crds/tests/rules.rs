//! The rules that the API server checks, evaluated here without one: each refuses what it is for, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{Context, Env};
use serde_json::{Value, json};
use tidewater_crds::definitions;

fn spec_schema(kind: &str) -> Value {
    let definition = definitions()
        .into_iter()
        .find(|definition| definition.spec.names.kind == kind)
        .unwrap();
    let schema = definition.spec.versions[0].schema.clone().unwrap();
    serde_json::to_value(schema.open_api_v3_schema).unwrap()["properties"]["spec"].clone()
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

struct Rules {
    env: Arc<Env>,
    evaluated: BTreeSet<String>,
}

impl Rules {
    fn broken(
        &mut self,
        schema: &Value,
        path: &str,
        value: &Value,
        old: Option<&Value>,
        out: &mut Vec<String>,
    ) {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = rule["rule"].as_str().unwrap();
            if text.contains("oldSelf") && old.is_none() {
                continue;
            }
            let program = self
                .env
                .compile(text)
                .unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut context = Context::with_env(Arc::clone(&self.env));
            context.add_variable_from_value("self", cel::to_value(value).unwrap());
            if let Some(old) = old {
                context.add_variable_from_value("oldSelf", cel::to_value(old).unwrap());
            }
            let verdict = program
                .execute(&context)
                .unwrap_or_else(|e| panic!("{path}: {text}: {e}"));
            if verdict != cel::Value::Bool(true) {
                let field = rule["fieldPath"].as_str().unwrap_or_default();
                out.push(format!("{path}{field}: {}", message(rule)));
                self.evaluated.insert(format!("{path} {text}"));
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(child) = value.get(name) {
                let old = old.and_then(|old| old.get(name));
                self.broken(property, &format!("{path}.{name}"), child, old, out);
            }
        }
        // The API server follows no list without keys from old to new, nor do we.
        for item in value.as_array().into_iter().flatten() {
            self.broken(&schema["items"], &format!("{path}[]"), item, None, out);
        }
        if schema["additionalProperties"].is_object() {
            for item in value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(_, item)| item)
            {
                self.broken(
                    &schema["additionalProperties"],
                    &format!("{path}.*"),
                    item,
                    None,
                    out,
                );
            }
        }
    }
}

/// What is said where a rule is broken, or the expression that makes it.
fn message(rule: &Value) -> &str {
    let said = rule["message"].as_str();
    said.or(rule["messageExpression"].as_str())
        .unwrap_or_default()
}

fn count(schema: &Value, path: &str, out: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        assert!(!message(rule).is_empty(), "{path}: a rule without message");
        out.insert(format!("{path} {}", rule["rule"].as_str().unwrap()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        count(property, &format!("{path}.{name}"), out);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            count(&schema[key], &format!("{path}{mark}"), out);
        }
    }
}

fn sink() -> Value {
    json!({
        "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
        "value": {"schema": {"fields": [{"name": "id", "type": "long"}]}},
        "destination": {"s3": {"bucket": "lake"}},
    })
}

fn table() -> Value {
    json!({
        "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
        "schema": {"fields": [{"name": "id", "type": "long"}]},
        "catalog": {"rest": {"uri": "http://catalog:8181"}},
        "namespace": "sales", "table": "orders",
    })
}

/// Merges as JSON merge patches do: null removes.
fn patched(mut value: Value, patch: &Value) -> Value {
    merge(&mut value, patch);
    value
}

fn merge(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    let object = value.as_object_mut().unwrap();
    for (key, change) in patch {
        if change.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

#[derive(serde::Deserialize)]
struct Case {
    on: String,
    breaks: String,
    from: Option<Value>,
    patch: Value,
}

#[test]
fn each_rule_refuses_what_it_is_for() {
    let cases: Vec<Case> = serde_yaml_ng::from_str(include_str!("rules.yaml")).unwrap();
    let mut rules = Rules {
        env: Arc::new(Env::stdlib()),
        evaluated: BTreeSet::new(),
    };
    let (mut all, mut taken) = (BTreeSet::new(), 0);
    let kinds = [
        ("s3", "KafkaS3Sink", sink()),
        ("icet", "IcebergTable", table()),
    ];
    for (short, kind, base) in kinds {
        let schema = spec_schema(kind);
        count(&schema, "", &mut all);
        for case in cases.iter().filter(|case| case.on == short) {
            let complete = |patch: &Value| {
                let mut spec = patched(base.clone(), patch);
                fill_in(&schema, &mut spec);
                spec
            };
            let old = case.from.as_ref().map(complete);
            let mut broken = Vec::new();
            rules.broken(
                &schema,
                "",
                &complete(&case.patch),
                old.as_ref(),
                &mut broken,
            );
            taken += 1;
            let (patch, expected) = (&case.patch, &case.breaks);
            let (path, word) = expected.split_once(": ").unwrap_or_default();
            if expected.is_empty() {
                assert_eq!(broken, Vec::<String>::new(), "{kind} {patch}");
            } else {
                let hit = broken
                    .iter()
                    .any(|b| b.starts_with(&format!("{path}: ")) && b.contains(word));
                assert!(hit, "{kind} {patch}: {broken:?} instead of {expected}");
            }
        }
    }
    assert_eq!(taken, cases.len());

    // Rules of types that both kinds share need to be broken once only.
    let broken_texts: BTreeSet<&str> = rules
        .evaluated
        .iter()
        .map(|rule| rule.split_once(' ').unwrap().1)
        .collect();
    let untested: Vec<&String> = all
        .iter()
        .filter(|rule| !broken_texts.contains(rule.split_once(' ').unwrap().1))
        .collect();
    assert!(untested.is_empty(), "rules no case breaks: {untested:#?}");
}
