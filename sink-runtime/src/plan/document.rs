//! YAML text to resources to plans: the documents, their kinds and identities, secrets written beside them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kinds::Kind;
use serde::Deserialize;
use serde_json::Value;
use tidewater_crds::{API_VERSION, IcebergTable, IcebergTableSpec, KafkaS3Sink, KafkaS3SinkSpec};

use super::problem::{Checks, Problem};
use super::secrets::{Secrets, WrittenSecrets};
use super::{Container, Plan, PlanErrors, SinkId, dataset, iceberg, source};

/// The kinds that make plans.
mod kinds {
    use std::sync::LazyLock;

    use serde::Serialize;
    use tidewater_crds::{IcebergTable, KafkaS3Sink, definition};

    use crate::plan::shape::Shape;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Kind {
        S3Sink,
        IcebergTable,
    }

    impl Kind {
        pub(super) fn name(self) -> &'static str {
            match self {
                Self::S3Sink => "KafkaS3Sink",
                Self::IcebergTable => "IcebergTable",
            }
        }

        pub(super) fn shape(self) -> &'static Shape {
            static S3_SINK: LazyLock<Shape> = LazyLock::new(|| shape(definition::<KafkaS3Sink>()));
            static TABLE: LazyLock<Shape> = LazyLock::new(|| shape(definition::<IcebergTable>()));
            match self {
                Self::S3Sink => &S3_SINK,
                Self::IcebergTable => &TABLE,
            }
        }
    }

    fn shape(definition: impl Serialize) -> Shape {
        let definition = serde_json::to_value(definition).unwrap_or_default();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        Shape::of(definition.pointer(spec).cloned().unwrap_or_default())
    }
}

/// Name and namespace of a resource.
struct Identity {
    namespace: String,
    name: String,
}

impl Identity {
    fn sink(&self) -> SinkId {
        SinkId(format!("{}.{}", self.namespace, self.name))
    }
}

impl Plan {
    /// Plans of every resource in `text`, which may hold several YAML documents. Documents of `kind: Secret` serve the
    /// resources of their namespace; what they lack is asked of `secrets`.
    ///
    /// # Errors
    /// Every problem of every document.
    pub fn from_yaml(text: &str, secrets: &dyn Secrets) -> Result<Vec<Self>, PlanErrors> {
        Self::from_yaml_in(text, secrets, Container::default())
    }

    /// [`Self::from_yaml`] for a process in `container`, which the sinks that are not paused share.
    ///
    /// # Errors
    /// Every problem of every document.
    pub fn from_yaml_in(
        text: &str,
        secrets: &dyn Secrets,
        container: Container,
    ) -> Result<Vec<Self>, PlanErrors> {
        let mut problems = Vec::new();
        let mut written = WrittenSecrets::default();
        let mut resources = Vec::new();
        for (i, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
            let place = format!("document {}", i + 1);
            // By way of YAML's own values: they refuse a key that stands twice.
            let document = serde_yaml_ng::Value::deserialize(document)
                .map_err(|error| error.to_string())
                .and_then(|document| {
                    serde_json::to_value(document).map_err(|error| error.to_string())
                });
            match document {
                Ok(Value::Null) => {}
                Ok(document) => {
                    let mut checks = Checks::new("");
                    match read(&mut checks, &place, &document, &mut written) {
                        Some(kind) => resources.push((kind, document)),
                        None => {
                            problems.extend(checks.finish::<()>(None).err().unwrap_or_default())
                        }
                    }
                }
                Err(error) => {
                    let mut checks = Checks::new("");
                    checks.add(place, "", format!("not valid YAML: {error}"));
                    problems.extend(checks.finish::<()>(None).err().unwrap_or_default());
                    // The parser cannot go on behind a syntax error.
                    break;
                }
            }
        }
        if resources.is_empty() && problems.is_empty() {
            let mut checks = Checks::new("");
            checks.add(
                "document 1",
                "",
                "no resource: give a KafkaS3Sink or an IcebergTable",
            );
            problems.extend(checks.finish::<()>(None).err().unwrap_or_default());
        }

        let at_work = |(_, document): &&(Kind, Value)| document["spec"]["paused"] != true;
        let container = Container {
            sinks: resources.iter().filter(at_work).count() as u64,
            ..container
        };
        let mut plans: Vec<Self> = Vec::new();
        let mut seen = BTreeMap::new();
        for (kind, document) in resources {
            let namespace = namespace(&document).to_owned();
            let secrets = written.of(&namespace, secrets);
            match planned(
                kind,
                document,
                Writer::Owner,
                &secrets,
                container,
                &mut seen,
            ) {
                Ok(plan) => plans.push(plan),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(plans)
        } else {
            Err(PlanErrors { problems })
        }
    }

    /// # Errors
    /// Every problem of the resource.
    pub fn from_s3_sink(sink: &KafkaS3Sink, secrets: &dyn Secrets) -> Result<Self, PlanErrors> {
        from_resource(Kind::S3Sink, serde_json::to_value(sink), secrets)
    }

    /// # Errors
    /// Every problem of the resource.
    pub fn from_iceberg_table(
        table: &IcebergTable,
        secrets: &dyn Secrets,
    ) -> Result<Self, PlanErrors> {
        from_resource(Kind::IcebergTable, serde_json::to_value(table), secrets)
    }
}

fn from_resource(
    kind: Kind,
    document: serde_json::Result<Value>,
    secrets: &dyn Secrets,
) -> Result<Plan, PlanErrors> {
    let document = document.unwrap_or_default();
    let (container, mut seen) = (Container::default(), BTreeMap::new());
    planned(
        kind,
        document,
        Writer::Tenant,
        secrets,
        container,
        &mut seen,
    )
    .map_err(|problems| PlanErrors { problems })
}

/// The kind of a resource; secrets are kept, and what is neither is a problem.
fn read(
    checks: &mut Checks,
    place: &str,
    document: &Value,
    written: &mut WrittenSecrets,
) -> Option<Kind> {
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        (API_VERSION, "KafkaS3Sink") => Some(Kind::S3Sink),
        (API_VERSION, "IcebergTable") => Some(Kind::IcebergTable),
        ("v1", "Secret") => {
            secret(checks, place, document, written);
            None
        }
        (version, "KafkaS3Sink" | "IcebergTable") => {
            checks.add(
                format!("{place}: apiVersion"),
                version,
                format!("use {API_VERSION}"),
            );
            None
        }
        (_, kind) => {
            let remedy = "unknown kind: use KafkaS3Sink, IcebergTable, or Secret (apiVersion: v1)";
            checks.add(format!("{place}: kind"), kind, remedy);
            None
        }
    }
}

fn secret(checks: &mut Checks, place: &str, document: &Value, written: &mut WrittenSecrets) {
    let Some(name) = document["metadata"]["name"].as_str() else {
        checks.add(
            format!("{place}: metadata.name"),
            "",
            "required: give it a value",
        );
        return;
    };
    for (part, encoded) in [("data", true), ("stringData", false)] {
        let Some(entries) = document[part].as_object() else {
            continue;
        };
        for (key, value) in entries {
            let field = format!("{place}: {part}.{key}");
            let Some(value) = value.as_str() else {
                checks.add(field, "", "give a text: put it in quotes");
                continue;
            };
            let value = if encoded {
                let decoded = BASE64_STANDARD.decode(value.split_whitespace().collect::<String>());
                decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok())
            } else {
                Some(value.to_owned())
            };
            match value {
                Some(value) => written.insert(namespace(document), name, key, value),
                None => checks.add(
                    field,
                    "",
                    "not base64 of a text: correct it, or use stringData",
                ),
            }
        }
    }
}

fn namespace(document: &Value) -> &str {
    document["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default")
}

/// Who wrote a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Whoever runs the process: it may do what they may.
    Owner,
    /// Somebody of a cluster, who may do less than those who act on it.
    Tenant,
}

/// `seen` holds the sinks and groups of earlier documents.
fn planned(
    kind: Kind,
    document: Value,
    writer: Writer,
    secrets: &dyn Secrets,
    container: Container,
    seen: &mut BTreeMap<String, &'static str>,
) -> Result<Plan, Vec<Problem>> {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    let mut checks = Checks::new(format!("{} {name}", kind.name()).trim_end());
    let identity = identity(&mut checks, &document);
    let mut spec = document.get("spec").cloned().unwrap_or_default();
    if spec.is_null() {
        checks.damage("spec", "", "required: give it a value");
        return checks.finish(None);
    }
    kind.shape().check(&mut checks, &mut spec);
    if writer == Writer::Tenant {
        source::check_resource(&mut checks, &spec["source"]);
    }
    let plan = match kind {
        Kind::S3Sink => typed::<KafkaS3SinkSpec>(&mut checks, spec)
            .map(|spec| dataset::plan(&mut checks, secrets, container, identity.sink(), &spec)),
        Kind::IcebergTable => typed::<IcebergTableSpec>(&mut checks, spec)
            .map(|spec| iceberg::plan(&mut checks, secrets, container, identity.sink(), &spec)),
    };
    if let Some(plan) = &plan {
        // One ledger and one group per sink: two resources that share either would take each other's records.
        if let Some(other) = seen.insert(format!("sink {}", plan.sink), kind.name()) {
            let remedy = format!("there is a {other} of that name already: choose another name");
            checks.add("metadata.name", &identity.name, remedy);
        } else {
            let group = format!(
                "group {} {}",
                plan.source.bootstrap_servers, plan.source.group_id
            );
            if let Some(other) = seen.insert(group, kind.name()) {
                let remedy = format!("a {other} reads in this group already: choose another group");
                checks.add("spec.source.groupId", &plan.source.group_id, remedy);
            }
        }
    }
    checks.finish(plan)
}

fn typed<T: serde::de::DeserializeOwned>(checks: &mut Checks, spec: Value) -> Option<T> {
    match serde_json::from_value(spec) {
        Ok(spec) => Some(spec),
        Err(error) => {
            // Where a spec is damaged already, what was put in place of the damage may be at fault.
            if checks.is_empty() {
                checks.add("spec", "", error.to_string());
            }
            None
        }
    }
}

fn identity(checks: &mut Checks, document: &Value) -> Identity {
    for key in document
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        if !matches!(
            key.as_str(),
            "apiVersion" | "kind" | "metadata" | "spec" | "status"
        ) {
            checks.add(
                key.as_str(),
                "",
                "unknown field; remove it, or move it below spec",
            );
        }
    }
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        checks.add("metadata.name", "", "required: give it a value");
    } else if name.len() > 253 || !name.split('.').all(is_label) {
        let remedy =
            "use lower case letters, digits, - and . only, with a letter or digit at each end";
        checks.add("metadata.name", name, remedy);
    }
    let namespace = match &document["metadata"]["namespace"] {
        Value::Null => "default",
        Value::String(namespace) if namespace.len() <= 63 && is_label(namespace) => namespace,
        other => {
            let shown = other
                .as_str()
                .map_or_else(|| other.to_string(), str::to_owned);
            let remedy =
                "use lower case letters, digits and - only, with a letter or digit at each end";
            checks.add("metadata.namespace", shown, remedy);
            "default"
        }
    };
    Identity {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
