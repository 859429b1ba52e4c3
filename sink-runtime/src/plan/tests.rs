//! Whole resources to plans and back to problems. The refused ones stand in `tests/invalid.yaml`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
#![cfg_attr(
    not(feature = "cloud"),
    allow(dead_code, unused_imports, reason = "most specs need the cloud")
)]

use serde_json::{Value, json};

use super::*;

mod arrival;
mod glue;
mod inference;
mod properties;

const FULL_S3: &str = include_str!("tests/full-s3.yaml");
const FULL_ICEBERG: &str = include_str!("tests/full-iceberg.yaml");
const INVALID: &str = include_str!("tests/invalid.yaml");

const SECRETS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: open sesame, pem: "-----BEGIN X-----", empty: ""}
"#;

fn columns() -> Value {
    json!([
        {"name": "id", "type": "long"},
        {"name": "created_at", "type": "timestamptz"},
        {"name": "day", "type": "date"},
        {"name": "country", "type": "string"},
        {"name": "ratio", "type": "double"},
        {"name": "address", "type": "struct", "fields": [{"name": "city", "type": "string"}]},
    ])
}

fn s3() -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": "orders"},
        "spec": {
            "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
            "value": {"schema": {"fields": columns()}},
            "destination": {"s3": {"bucket": "lake"}},
        },
    })
}

/// A dataset that needs nothing of a build.
fn local() -> Value {
    let destination = json!({"s3": null, "local": {"path": "/tmp/orders"}});
    patched(s3(), json!({"spec": {"destination": destination}}))
}

fn iceberg() -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": "orders"},
        "spec": {
            "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
            "schema": {"fields": columns()},
            "catalog": {"rest": {"uri": "http://catalog:8181"}},
            "namespace": "sales", "table": "orders",
        },
    })
}

fn merge(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in patch {
        if change.is_null() {
            value.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut value[key], change);
        }
    }
}

fn patched(mut value: Value, patch: Value) -> Value {
    merge(&mut value, &patch);
    value
}

fn planned(resource: &Value) -> Result<Plan, PlanErrors> {
    let text = format!(
        "{}\n---\n{SECRETS}",
        serde_yaml_ng::to_string(resource).unwrap()
    );
    Plan::from_yaml(&text, &NoSecrets).map(|mut plans| plans.remove(0))
}

fn valid(resource: Value) -> Plan {
    planned(&resource).unwrap_or_else(|errors| panic!("{resource}\n{errors}"))
}

#[cfg(feature = "cloud")]
#[test]
fn a_refused_spec_names_the_field_and_the_remedy() {
    let cases: Vec<Value> = serde_yaml_ng::from_str(INVALID).unwrap();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for case in &cases {
        let mut resource = if case["on"] == "s3" { s3() } else { iceberg() };
        merge(&mut resource, &case["patch"]);
        let (field, remedy) = (
            case["field"].as_str().unwrap(),
            case["remedy"].as_str().unwrap(),
        );
        match planned(&resource) {
            Ok(_) => wrong.push(format!("{case}: accepted")),
            Err(errors) => {
                let named = errors
                    .problems
                    .iter()
                    .any(|problem| problem.field == field && problem.remedy.contains(remedy));
                // One cause, one problem; two where two fields contradict each other.
                if !named || errors.problems.len() > 2 {
                    wrong.push(format!("{case}:\n{errors}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn all_problems_are_reported_at_once_whatever_their_kind() {
    let resource = patched(
        s3(),
        json!({"spec": {
            "source": {"topics": ["or ders"], "drainTimeout": "soon", "batchRecords": 0},
            "rotation": {"maxOpen": "0s", "maxSize": "5Mi"},
            "partitioning": [{"column": "nope"}],
            "output": {"format": "Avro"},
            "destination": {"s3": {"bucket": "UPPER"}},
        }}),
    );
    let errors = planned(&resource).unwrap_err();
    let fields: Vec<&str> = errors.problems.iter().map(|p| p.field.as_str()).collect();
    for field in [
        "spec.source.topics[0]",
        "spec.source.drainTimeout",
        "spec.source.batchRecords",
        "spec.rotation.maxOpen",
        "spec.rotation.maxSize",
        "spec.partitioning[0].column",
        "spec.output.format",
        "spec.destination.s3.bucket",
    ] {
        assert_eq!(
            fields.iter().filter(|f| **f == field).count(),
            1,
            "{field}: {errors}"
        );
    }
    let lines = errors.to_string();
    assert_eq!(lines.lines().count(), errors.problems.len());
    assert!(
        lines
            .lines()
            .all(|line| line.starts_with("KafkaS3Sink orders: "))
    );
}

#[test]
fn a_missing_required_field_does_not_hide_the_other_problems() {
    let resource = patched(
        local(),
        json!({"spec": {"source": {"bootstrapServers": null}, "rotation": {"maxOpen": "0s"}}}),
    );
    let errors = planned(&resource).unwrap_err();
    let fields: Vec<&str> = errors.problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.source.bootstrapServers", "spec.rotation.maxOpen"]
    );
}

#[test]
fn problems_of_every_document_are_reported() {
    let bad = |name: &str| {
        patched(
            local(),
            json!({"metadata": {"name": name}, "spec": {"rotation": {"maxOpen": "0s"}}}),
        )
    };
    let text = format!(
        "{}\n---\n{}\n---\nkind: ConfigMap\napiVersion: v1\n---\n# nothing\n",
        serde_yaml_ng::to_string(&bad("a")).unwrap(),
        serde_yaml_ng::to_string(&bad("b")).unwrap(),
    );
    let errors = Plan::from_yaml(&text, &NoSecrets).unwrap_err();
    let resources: Vec<&str> = errors
        .problems
        .iter()
        .map(|p| p.resource.as_str())
        .collect();
    assert_eq!(resources, ["", "KafkaS3Sink a", "KafkaS3Sink b"]);
    assert_eq!(errors.problems[0].field, "document 3: kind");
}

#[test]
fn text_that_is_not_yaml_or_holds_nothing_is_refused() {
    for (text, remedy) in [
        ("a: [", "not valid YAML"),
        ("", "no resource"),
        ("# nothing\n---\n", "no resource"),
        ("just words", "unknown kind"),
        ("a: 1\na: 2", "not valid YAML"),
    ] {
        let errors = Plan::from_yaml(text, &NoSecrets).unwrap_err();
        assert!(errors.to_string().contains(remedy), "{text}: {errors}");
    }
}

#[cfg(feature = "cloud")]
#[test]
fn two_resources_cannot_share_a_ledger_or_a_group() {
    let text = |resources: &[Value]| {
        let texts: Vec<String> = resources
            .iter()
            .map(|r| serde_yaml_ng::to_string(r).unwrap())
            .collect();
        Plan::from_yaml(&texts.join("\n---\n"), &NoSecrets)
    };
    let errors = text(&[s3(), iceberg()]).unwrap_err();
    assert_eq!(errors.problems[0].field, "metadata.name");
    let named = |name: &str| {
        patched(
            s3(),
            json!({"metadata": {"name": name}, "spec": {"source": {"groupId": "g"}}}),
        )
    };
    let errors = text(&[named("a"), named("b")]).unwrap_err();
    assert_eq!(errors.problems[0].field, "spec.source.groupId");
    let other = patched(named("b"), json!({"spec": {"source": {"groupId": "h"}}}));
    assert_eq!(text(&[named("a"), other]).unwrap().len(), 2);
}

#[cfg(feature = "cloud")]
#[test]
fn no_secret_appears_in_a_plan_or_a_problem_when_printed() {
    let secrets = ["sesame", "AKIA", "hush", "fleeting", "BEGIN PRIVATE KEY"];
    for text in [FULL_S3, FULL_ICEBERG] {
        let plans = Plan::from_yaml(text, &NoSecrets).unwrap();
        let broken = text.replace("bootstrapServers: kafka", "bootstrapServers: ka fka");
        let errors = Plan::from_yaml(&broken, &NoSecrets).unwrap_err();
        let shown = format!("{plans:?} {errors} {errors:?}");
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    // Secrets where they do not belong.
    for source in [
        json!({"security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Plain", "username": "u", "password": "hush"}}}),
        json!({"security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Plain", "username": "u", "password": {"value": "hush"}}}}),
        json!({"properties": {"sasl.password": "hush"}}),
        json!({"properties": {"sasl.passwort": "hush"}}),
        json!({"properties": {"ssl.key.pem": "hush"}}),
    ] {
        let errors = planned(&patched(s3(), json!({"spec": {"source": source}}))).unwrap_err();
        assert!(!format!("{errors:?}").contains("hush"), "{errors}");
    }
}

#[test]
fn a_secret_written_as_data_must_be_base64() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: '&%'}\n";
    let errors = Plan::from_yaml(text, &NoSecrets).unwrap_err();
    assert_eq!(errors.problems[0].field, "document 1: data.a");
    assert!(!errors.to_string().contains("&%"));
}

#[cfg(feature = "cloud")]
#[test]
fn every_example_is_a_plan() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let plans = Plan::from_yaml(&text, &NoSecrets)
                .unwrap_or_else(|errors| panic!("{}:\n{errors}", path.display()));
            assert_eq!(plans.len(), 1, "{}", path.display());
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert_eq!(
        names,
        [
            "events-inferred-iceberg",
            "orders-glue",
            "orders-iceberg",
            "orders-local-iceberg",
            "orders-local-s3",
            "orders-s3",
            "orders-s3-glue"
        ]
    );
}

#[cfg(feature = "cloud")]
#[test]
fn a_typed_resource_makes_the_same_plan_as_its_yaml() {
    let sink: tidewater_crds::KafkaS3Sink = serde_json::from_value(s3()).unwrap();
    let typed = Plan::from_s3_sink(&sink, &NoSecrets).unwrap();
    assert_eq!(format!("{typed:?}"), format!("{:?}", valid(s3())));
    let table: tidewater_crds::IcebergTable = serde_json::from_value(iceberg()).unwrap();
    let typed = Plan::from_iceberg_table(&table, &NoSecrets).unwrap();
    assert_eq!(format!("{typed:?}"), format!("{:?}", valid(iceberg())));
    let mut broken = sink;
    broken.spec.replicas = -1;
    broken.spec.source.topics = None;
    let errors = Plan::from_s3_sink(&broken, &NoSecrets).unwrap_err();
    assert_eq!(errors.problems.len(), 2);
}

#[cfg(not(feature = "cloud"))]
#[test]
fn a_build_without_cloud_says_so_once_for_each_thing_it_lacks() {
    for (resource, field) in [
        (s3(), "spec.destination.s3"),
        (iceberg(), "spec.catalog.rest"),
    ] {
        let errors = planned(&resource).unwrap_err();
        assert_eq!(errors.problems.len(), 1, "{errors}");
        assert_eq!(errors.problems[0].field, field);
        assert!(errors.problems[0].remedy.contains("cloud"));
    }
}
