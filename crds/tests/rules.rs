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

#[test]
fn each_rule_refuses_what_it_is_for() {
    let secret = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    let sasl = json!({"mechanism": "Plain", "username": "u", "password": secret});
    // kind, patch on a valid spec, broken rule ("" for none)
    let cases = [
        ("s3", json!({}), ""),
        (
            "s3",
            json!({"source": {"groupId": "a b"}}),
            ".source.groupId: use no spaces",
        ),
        (
            "s3",
            json!({"source": {"properties": {"group.id": "a"}}}),
            ".source.properties: not for a resource",
        ),
        (
            "s3",
            json!({"source": {"properties": {"fetch.min.bytes": "1"}, "groupId": "lake-1.orders"}}),
            "",
        ),
        (
            "s3",
            json!({"deadLetter": {"topic": "orders"}}),
            ".deadLetter: feed itself",
        ),
        (
            "icet",
            json!({"deadLetter": {"topic": "orders"}}),
            ".deadLetter: feed itself",
        ),
        ("icet", json!({"deadLetter": {"topic": "orders.dlq"}}), ""),
        (
            "s3",
            json!({"destination": {"s3": {"bucket": "My_Bucket"}}}),
            ".destination.s3.bucket: lower case",
        ),
        (
            "s3",
            json!({"destination": {"s3": {"prefix": "raw/"}}}),
            ".destination.s3.prefix: without slashes",
        ),
        (
            "s3",
            json!({"destination": {"s3": {"prefix": "raw/orders", "bucket": "a.b-c"}}}),
            "",
        ),
        (
            "s3",
            json!({"output": {"compression": "Gzip", "level": 10}}),
            ".output.level: 0 to 9 with Gzip",
        ),
        (
            "s3",
            json!({"output": {"level": 0}}),
            ".output.level: 1 to 22 with Zstd",
        ),
        (
            "s3",
            json!({"output": {"compression": "Gzip", "level": 0}}),
            "",
        ),
        (
            "s3",
            json!({"rotation": {"maxOpen": "0m"}}),
            ".rotation.maxOpen: more than 0s",
        ),
        (
            "s3",
            json!({"rotation": {"maxIdle": "0s"}}),
            ".rotation.maxIdle: more than 0s",
        ),
        (
            "s3",
            json!({"rotation": {"maxOpen": "0h10m", "maxIdle": "1s"}}),
            "",
        ),
        (
            "icet",
            json!({"commit": {"interval": "0s"}}),
            ".commit.interval: more than 0s",
        ),
        (
            "icet",
            json!({"namespace": "a..b"}),
            ".namespace: single dots",
        ),
        ("icet", json!({"namespace": "a.b"}), ""),
        ("icet", json!({"table": "a.b"}), ".table: without '.'"),
        (
            "icet",
            json!({"location": "lake/orders"}),
            ".location: s3://bucket/prefix",
        ),
        ("icet", json!({"location": "s3://lake/orders"}), ""),
        (
            "s3",
            json!({"source": {"topicPattern": "o.*"}}),
            ".source.topics: exactly",
        ),
        (
            "s3",
            json!({"source": {"topics": null}}),
            ".source.topics: exactly",
        ),
        (
            "s3",
            json!({"source": {"topics": null, "topicPattern": "o.*"}}),
            "",
        ),
        (
            "s3",
            json!({"source": {"topics": null, "topicPattern": "o.*"}, "glue": {"database": "raw"}}),
            ".glue: several topics",
        ),
        (
            "s3",
            json!({"source": {"topics": ["a", "b"]}, "glue": {"database": "raw"}}),
            ".glue: several topics",
        ),
        (
            "s3",
            json!({"source": {"topics": ["a", "b"]}, "glue": {"database": "raw", "table": "ab"}}),
            "",
        ),
        ("s3", json!({"glue": {"database": "raw"}}), ""),
        (
            "s3",
            json!({"glue": {"database": "Raw"}}),
            ".glue.database: lower case",
        ),
        (
            "s3",
            json!({"glue": {"database": "raw", "table": "a.b"}}),
            ".glue.table: lower case",
        ),
        (
            "s3",
            json!({"destination": {"s3": null, "local": {"path": "/d"}}, "glue": {"database": "raw"}}),
            ".glue: needs destination.s3",
        ),
        (
            "s3",
            json!({"glue": {"database": "raw", "projection": {}}}),
            ".glue.projection: Projection only",
        ),
        (
            "s3",
            json!({"glue": {"database": "raw", "partitions": "Projection", "projection": {"columns": {"n": {"min": 1}}}}}),
            ".glue.projection.columns.*.values: min and max",
        ),
        (
            "s3",
            json!({"glue": {"database": "raw", "partitions": "Projection",
                "projection": {"columns": {"n": {"min": 1, "max": 2}, "c": {"values": ["a"]}}}}}),
            "",
        ),
        (
            "s3",
            json!({"source": {"startup": {"mode": "Timestamp"}}}),
            ".source.startup.timestamp: needed",
        ),
        (
            "s3",
            json!({"source": {"startup": {"timestamp": 5}}}),
            ".source.startup.timestamp: needed",
        ),
        (
            "s3",
            json!({"source": {"startup": {"mode": "Timestamp", "timestamp": 5}}}),
            "",
        ),
        (
            "s3",
            json!({"source": {"startup": {"mode": "Offsets"}}}),
            ".source.startup.offsets: needed",
        ),
        (
            "s3",
            json!({"source": {"startup": {"mode": "Offsets", "offsets": [{"topic": "o", "partition": 0, "offset": 1}]}}}),
            "",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "SaslSsl"}}}),
            ".source.security.sasl: needed",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "Ssl", "sasl": sasl}}}),
            ".source.security.sasl: needed",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "SaslSsl", "sasl": sasl, "tls": {}}}}),
            "",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "SaslPlaintext", "sasl": sasl, "tls": {}}}}),
            ".source.security.tls: only",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Plain"}}}}),
            ".source.security.sasl.username: needed",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Gssapi"}}}}),
            ".source.security.sasl.mechanism: Kerberos is for processes outside",
        ),
        (
            "s3",
            json!({"source": {"properties": {"session.timeout.ms": "60000", "client.rack": "a"}}}),
            "",
        ),
        (
            "s3",
            json!({"source": {"properties": {"session.timeout.ms": "60000", "sasl.kerberos.kinit.cmd": "sh"}}}),
            ".source.properties: not for a resource",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "Ssl", "tls": {"certificate": secret}}}}),
            ".source.security.tls.key: together",
        ),
        (
            "s3",
            json!({"source": {"security": {"protocol": "Ssl", "tls": {"caCertificate": {}}}}}),
            ".source.security.tls.caCertificate: exactly",
        ),
        (
            "s3",
            json!({"value": {"infer": {}}}),
            ".value.schema: exactly",
        ),
        (
            "s3",
            json!({"value": {"schema": null}}),
            ".value.schema: exactly",
        ),
        (
            "s3",
            json!({"value": {"schema": {"fields": [{"name": "a", "type": "struct"}]}}}),
            ".value.schema.fields[].fields: needed",
        ),
        (
            "s3",
            json!({"value": {"schema": {"fields": [{"name": "a", "type": "list"}]}}}),
            ".value.schema.fields[].element: needed",
        ),
        (
            "s3",
            json!({"value": {"schema": {"fields": [{"name": "a", "type": "map"}]}}}),
            ".value.schema.fields[].value: needed",
        ),
        (
            "s3",
            json!({"value": {"schema": {"fields": [{"name": "a", "type": "list", "element": {"type": "int"}}]}}}),
            "",
        ),
        (
            "s3",
            json!({"onError": "DeadLetter"}),
            ".onError: needs deadLetter",
        ),
        (
            "s3",
            json!({"tombstones": "DeadLetter"}),
            ".tombstones: needs deadLetter",
        ),
        (
            "s3",
            json!({"onError": "DeadLetter", "tombstones": "DeadLetter", "deadLetter": {"topic": "d"}}),
            "",
        ),
        (
            "s3",
            json!({"deadLetter": {}}),
            ".deadLetter.topic: exactly",
        ),
        (
            "s3",
            json!({"rotation": {"partitionClose": {}}}),
            ".rotation: partitionClose",
        ),
        (
            "s3",
            json!({
                "rotation": {"partitionClose": {}},
                "partitioning": [{"time": {"granularity": "Day", "source": "WallClock"}}],
            }),
            ".rotation: partitionClose",
        ),
        (
            "s3",
            json!({
                "rotation": {"partitionClose": {"allowedLateness": "10m"}},
                "partitioning": [{"column": "a"}, {"time": {"granularity": "Day", "source": "WallClock"}}, {"time": {"granularity": "Day"}}],
            }),
            "",
        ),
        (
            "s3",
            json!({"partitioning": [{"column": "a", "time": {"granularity": "Day"}}]}),
            ".partitioning[].time: exactly",
        ),
        (
            "s3",
            json!({"partitioning": [{"time": {"granularity": "Day"}, "label": "x"}]}),
            ".partitioning[].label: column only",
        ),
        (
            "s3",
            json!({"partitioning": [{"time": {"granularity": "Day", "format": "%Y"}}]}),
            ".partitioning[].time.granularity: exactly",
        ),
        (
            "s3",
            json!({"partitioning": [{"time": {"granularity": "Day", "column": "c", "source": "WallClock"}}]}),
            ".partitioning[].time.source: one of",
        ),
        (
            "s3",
            json!({"partitioning": [{"column": "a", "label": "x"}, {"time": {"format": "%Y"}}]}),
            "",
        ),
        (
            "s3",
            json!({"output": {"format": "Json", "rowGroupRows": 5}}),
            ".output.format: Parquet only",
        ),
        (
            "s3",
            json!({"output": {"format": "Json", "compression": "Snappy"}}),
            ".output.compression: None, Gzip or Zstd",
        ),
        (
            "s3",
            json!({"output": {"compression": "Snappy", "level": 3}}),
            ".output.level: Gzip and Zstd",
        ),
        (
            "s3",
            json!({"output": {"format": "Json", "compression": "Zstd", "level": 3}}),
            "",
        ),
        (
            "s3",
            json!({"destination": {"local": {"path": "/tmp"}}}),
            ".destination.s3: exactly",
        ),
        (
            "s3",
            json!({"destination": {"s3": null}}),
            ".destination.s3: exactly",
        ),
        (
            "s3",
            json!({"destination": {"s3": {"encryption": {"keyId": "k"}}}}),
            ".destination.s3.encryption.keyId: SseKms",
        ),
        (
            "s3",
            json!({"destination": {"s3": {"encryption": {"type": "SseS3", "bucketKey": true}}}}),
            ".destination.s3.encryption.bucketKey: SseKms",
        ),
        (
            "s3",
            json!({"destination": {"s3": {"encryption": {"type": "SseKms", "keyId": "k", "bucketKey": false}}}}),
            "",
        ),
        (
            "s3",
            json!({"autoscaling": {"minReplicas": 4, "maxReplicas": 3, "lagPerReplica": 1}}),
            ".autoscaling.minReplicas: greater",
        ),
        (
            "s3",
            json!({"autoscaling": {"maxReplicas": 3, "lagPerReplica": 1}}),
            "",
        ),
        (
            "s3",
            json!({"pod": {"labels": {"team": "sales", "app.kubernetes.io/name": "mine"}}}),
            ".pod.labels: operator sets",
        ),
        (
            "s3",
            json!({"pod": {"annotations": {"tidewater.dev/restart-nonce": "1"}}}),
            ".pod.annotations: operator sets",
        ),
        (
            "s3",
            json!({"pod": {
                "labels": {"team": "sales", "app.kubernetes.io/version": "1"},
                "annotations": {"note": "a"}, "affinity": {"nodeAffinity": {}},
            }}),
            "",
        ),
        ("icet", json!({}), ""),
        ("icet", json!({"schema": null}), ".schema: exactly"),
        ("icet", json!({"value": {"infer": {}}}), ".schema: exactly"),
        ("icet", json!({"schema": null, "value": {"infer": {}}}), ""),
        (
            "icet",
            json!({"schema": null, "value": {"infer": {}}, "evolution": {"addColumns": false}}),
            "",
        ),
        (
            "icet",
            json!({"onError": "DeadLetter"}),
            ".onError: needs deadLetter",
        ),
        (
            "icet",
            json!({"tombstones": "DeadLetter"}),
            ".tombstones: needs deadLetter",
        ),
        (
            "icet",
            json!({"catalog": {"rest": null}}),
            ".catalog.rest: exactly",
        ),
        (
            "icet",
            json!({"catalog": {"local": {"path": "/w"}}}),
            ".catalog.rest: exactly",
        ),
        (
            "icet",
            json!({"catalog": {"rest": null, "local": {"path": "/w"}}, "storage": {"s3": {}}}),
            ".storage: local",
        ),
        (
            "icet",
            json!({"catalog": {"rest": {"auth": {}}}}),
            ".catalog.rest.auth.bearer: exactly",
        ),
        (
            "icet",
            json!({"catalog": {"rest": {"auth": {"bearer": {"token": secret}}}}}),
            "",
        ),
        (
            "icet",
            json!({"catalog": {"rest": {"headers": {"X-A": {}}}}}),
            ".catalog.rest.headers.*: exactly",
        ),
        (
            "icet",
            json!({"parquet": {"compression": "Lz4", "level": 1}}),
            ".parquet.level: Gzip and Zstd",
        ),
        (
            "icet",
            json!({"storage": {"s3": {"encryption": {"keyId": "k"}}}}),
            ".storage.s3.encryption.keyId: SseKms",
        ),
    ];
    // kind, patch for the old spec, patch for the new one, broken rule
    let s3_to_local = json!({"destination": {"s3": null, "local": {"path": "/a"}}});
    let changes = [
        (
            "s3",
            json!({}),
            json!({"replicas": 5, "source": {"topics": ["a", "b"]}, "rotation": {"maxOpen": "1s"}}),
            "",
        ),
        (
            "s3",
            json!({}),
            json!({"destination": {"s3": {"region": "eu-west-1"}}}),
            "",
        ),
        (
            "s3",
            json!({}),
            s3_to_local.clone(),
            ".destination.s3: cannot be changed",
        ),
        (
            "s3",
            json!({}),
            json!({"destination": {"s3": {"bucket": "pond"}}}),
            ".destination.s3.bucket: cannot be changed",
        ),
        (
            "s3",
            json!({}),
            json!({"destination": {"s3": {"prefix": "raw"}}}),
            ".destination.s3.prefix: cannot be changed",
        ),
        (
            "s3",
            s3_to_local.clone(),
            patched(
                s3_to_local,
                &json!({"destination": {"local": {"path": "/b"}}}),
            ),
            ".destination.local.path: cannot be changed",
        ),
        (
            "icet",
            json!({}),
            json!({"namespace": "other"}),
            ".namespace: cannot be changed",
        ),
        (
            "icet",
            json!({}),
            json!({"table": "other"}),
            ".table: cannot be changed",
        ),
        (
            "icet",
            json!({}),
            json!({"catalog": {"rest": {"uri": "http://other:8181"}}}),
            "",
        ),
        (
            "icet",
            json!({}),
            json!({"catalog": {"rest": null, "local": {"path": "/w"}}}),
            ".catalog.rest: cannot be changed",
        ),
        (
            "icet",
            json!({"catalog": {"rest": null, "local": {"path": "/w"}}}),
            json!({"catalog": {"rest": null, "local": {"path": "/v"}}}),
            ".catalog.local.path: cannot be changed",
        ),
    ];

    let mut rules = Rules {
        env: Arc::new(Env::stdlib()),
        evaluated: BTreeSet::new(),
    };
    let mut all = BTreeSet::new();
    let kinds = [
        ("s3", "KafkaS3Sink", sink()),
        ("icet", "IcebergTable", table()),
    ];
    let steps = cases
        .into_iter()
        .map(|(kind, patch, expected)| (kind, None, patch, expected))
        .chain(
            changes
                .into_iter()
                .map(|(kind, old, new, expected)| (kind, Some(old), new, expected)),
        );
    let mut steps: Vec<_> = steps.collect();
    for (short, kind, base) in kinds {
        let schema = spec_schema(kind);
        count(&schema, "", &mut all);
        for (_, old, patch, expected) in steps.extract_if(.., |step| step.0 == short) {
            let complete = |patch: &Value| {
                let mut spec = patched(base.clone(), patch);
                fill_in(&schema, &mut spec);
                spec
            };
            let old = old.as_ref().map(complete);
            let mut broken = Vec::new();
            rules.broken(&schema, "", &complete(&patch), old.as_ref(), &mut broken);
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
    assert!(steps.is_empty());

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
