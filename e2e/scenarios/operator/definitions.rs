//! The definitions in a real API server: it takes what is right, refuses what it can tell is wrong, and the operator tells
//! the rest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;
use tidewater_e2e::{Lab, await_until};

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        documents.push(Value::deserialize(document).with_context(|| path.display().to_string())?);
    }
    Ok(documents)
}

fn examples(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(examples(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// What other systems read: values of a chart, a kind of theirs.
const OF_OTHERS: [&str; 2] = ["prometheus-adapter.yaml", "keda.yaml"];

#[tokio::test]
async fn every_example_and_every_field_is_taken_by_the_api_server() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(lab.cluster()).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let mut files = examples(&root().join("examples"))?;
    for name in ["full-s3.yaml", "full-iceberg.yaml"] {
        files.push(root().join("sink-runtime/src/plan/tests").join(name));
    }
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        let mut objects = documents(&file)?;
        if OF_OTHERS.iter().any(|other| file.ends_with(other)) {
            continue;
        }
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(namespace.name());
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let arguments = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--output=name",
            "--filename=-",
        ];
        let taken = Box::pin(cluster.kubectl_with(&arguments, &list.to_string())).await;
        let taken = taken.with_context(|| file.display().to_string())?;
        assert_eq!(taken.lines().count(), objects.len(), "{}", file.display());
    }
    Ok(())
}

/// A spec that is refused, of the table that the runtime is tested with.
struct Case {
    number: usize,
    object: Value,
    /// The API server refuses it, by the definition.
    at_once: bool,
    /// The last word of the field's path.
    word: String,
    remedy: String,
}

fn cases() -> Result<Vec<Case>> {
    let table = documents(&root().join("sink-runtime/src/plan/tests/invalid.yaml"))?;
    let cases = table[0].as_array().context("no table")?;
    let case = |(number, case): (usize, &Value)| {
        let mut object = if case["on"] == "s3" {
            valid_sink()
        } else {
            valid_table()
        };
        patch_with(&mut object, &case["patch"]);
        // Many live side by side; what is wrong with a name is the API server's own matter.
        if object["metadata"]["name"] == "orders" {
            object["metadata"]["name"] = json!(format!("case-{number}"));
        }
        let field = case["field"].as_str().unwrap_or_default();
        Case {
            number,
            object,
            at_once: case["api"] == "refuses",
            word: last_word(field),
            remedy: case["remedy"].as_str().unwrap_or_default().to_owned(),
        }
    };
    Ok(cases.iter().enumerate().map(case).collect())
}

/// `spec.a["b.c"]` → `b.c`, `spec.a[0].b[1]` → `b`, `document 1: kind` → `kind`.
fn last_word(field: &str) -> String {
    if let Some((_, key)) = field.split_once("[\"") {
        return key.split("\"]").next().unwrap_or_default().to_owned();
    }
    let last = field.rsplit(['.', ' ']).next().unwrap_or_default();
    last.split('[').next().unwrap_or_default().to_owned()
}

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

fn valid_sink() -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": "orders"},
        "spec": {
            "source": {"bootstrapServers": "kafka.invalid:9092", "topics": ["orders"]},
            "value": {"schema": {"fields": columns()}},
            "destination": {"s3": {"bucket": "lake"}},
        },
    })
}

fn valid_table() -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": "orders"},
        "spec": {
            "source": {"bootstrapServers": "kafka.invalid:9092", "topics": ["orders"]},
            "schema": {"fields": columns()},
            "catalog": {"rest": {"uri": "http://catalog.invalid:8181"}},
            "namespace": "sales", "table": "orders",
        },
    })
}

/// As JSON merge patches do: null removes.
fn patch_with(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in patch {
        match (change.is_null(), value.as_object_mut()) {
            (true, Some(object)) => drop(object.remove(key)),
            _ => patch_with(&mut value[key], change),
        }
    }
}

fn api(client: &Client, namespace: &str, object: &Value) -> Option<Api<DynamicObject>> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let plural = match (version, kind) {
        ("tidewater.dev/v1alpha1", "KafkaS3Sink") => "kafkas3sinks",
        ("tidewater.dev/v1alpha1", "IcebergTable") => "icebergtables",
        _ => return None,
    };
    let kind = GroupVersionKind::gvk("tidewater.dev", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Some(Api::namespaced_with(client.clone(), namespace, &resource))
}

/// Applies it as kubectl does, unknown fields refused; the answer when it is refused.
async fn refusal(client: &Client, namespace: &str, object: &Value) -> Result<Option<String>> {
    // Without these three there is no request to make.
    let (Some(api), Some(name)) = (
        api(client, namespace, object),
        object["metadata"]["name"].as_str(),
    ) else {
        return Ok(Some("needed: kind, apiVersion, metadata.name".to_owned()));
    };
    let params = PatchParams::apply("scenario").validation_strict();
    match api.patch(name, &params, &Patch::Apply(object)).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 422 | 500) => {
            Ok(Some(status.message.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn a_spec_with_a_mistake_is_refused_by_the_api_server_or_says_itself_what_is_wrong()
-> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = Box::pin(installed(lab)).await?;
    let namespace = Box::pin(cluster.namespace()).await?;
    let client = cluster.client().await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "stringData": {"password": "open sesame", "pem": "-----BEGIN X-----", "empty": ""},
    });
    apply(&namespace, &[secret]).await?;

    let (mut wrong, mut misjudged, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases()? {
        let said = refusal(&client, namespace.name(), &case.object).await?;
        if said.is_some() != case.at_once {
            misjudged.push((case.number, case.word.clone(), said.clone()));
        }
        match said {
            Some(said) => {
                if !said.contains(&case.word) {
                    wrong.push(format!(
                        "{}: no word of \"{}\": {said}",
                        case.number, case.word
                    ));
                }
            }
            None => taken.push(case),
        }
    }
    // What an API server can tell, it tells; a rule that is lost, or new, shows here.
    assert!(
        misjudged.is_empty(),
        "of these the table says the contrary, by `api: refuses`: {misjudged:#?}"
    );

    let mut found = Vec::new();
    let told = await_until(WITHIN, "every resource says that it is wrong", async || {
        let list = namespace
            .kubectl(&["get", "ks3,icet", "--output=json"])
            .await?;
        let list: Value = serde_json::from_str(&list)?;
        found = list["items"].as_array().cloned().unwrap_or_default();
        let all = found
            .iter()
            .all(|object| condition(object, "ConfigValid").0 == "False");
        Ok(all && found.len() == taken.len())
    });
    if let Err(error) = Box::pin(told).await {
        let silent: Vec<_> = found
            .iter()
            .filter(|object| condition(object, "ConfigValid").0 != "False")
            .collect();
        return Err(error.context(format!("{silent:#?}")));
    }
    for case in &taken {
        let name = &case.object["metadata"]["name"];
        let object = found
            .iter()
            .find(|object| object["metadata"]["name"] == *name)
            .with_context(|| format!("{name} is gone"))?;
        let reason = if case.remedy == "no such secret" {
            "SecretMissing"
        } else {
            "InvalidSpec"
        };
        let conditions = object["status"]["conditions"].as_array();
        let told = conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "ConfigValid");
        let message = told
            .and_then(|told| told["message"].as_str())
            .unwrap_or_default();
        let of_secret = reason == "SecretMissing" && message.contains("Secret \"");
        if condition(object, "ConfigValid").1 != reason
            || !(message.contains(&case.word) || of_secret)
        {
            wrong.push(format!(
                "{}: {reason} of \"{}\": {told:?}",
                case.number, case.word
            ));
        }
        assert_eq!(condition(object, "Ready"), ("False", reason), "{name}");
    }
    assert!(
        wrong.is_empty(),
        "{} are told badly:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // And none of it runs.
    let pods = namespace
        .kubectl(&["get", "deployments,pods", "--output=name"])
        .await?;
    assert_eq!(pods.trim(), "");
    Ok(())
}
