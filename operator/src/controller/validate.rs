//! Spec and what was fetched for it → [`Checked`], which everything is built from, or the condition that says why it is not
//! in force. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;
use tidewater_crds::{AutoscalingSpec, PodSpec, RuntimeStatus, SourceSpec};
use tidewater_runtime::errors::class;
use tidewater_runtime::plan::{Secret, Secrets, SourcePlan};

use super::config::Config;
use super::kind::SinkKind;
use super::live::DeploymentFacts;
use super::names;
use super::table::TableWish;
use crate::conditions::{
    CAPPED_BY_PARTITIONS, Concern, Finding, GROUP_CONFLICT, Row, SECRET_MISSING, State,
};

/// Who a resource is, to its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Name of its children: [`names::child`].
    pub child: String,
}

impl Identity {
    pub fn of<S: SinkKind>(sink: &S) -> Self {
        let name = sink.name_any();
        Self {
            kind: S::KIND,
            namespace: sink.namespace().unwrap_or_default(),
            uid: sink.uid().unwrap_or_default(),
            child: names::child(&name, S::SUFFIX),
            name,
        }
    }
}

/// A Secret: its version, and its values while they are in use.
#[derive(Clone, Debug, Default)]
pub struct SecretFacts {
    pub version: String,
    pub values: BTreeMap<String, Secret>,
}

/// Secrets of the resource's namespace by name, those that exist.
pub type FetchedSecrets = BTreeMap<String, SecretFacts>;

pub(super) struct Values<'a>(pub(super) &'a FetchedSecrets);

impl Secrets for Values<'_> {
    fn get(&self, name: &str, key: &str) -> Option<String> {
        let value = self.0.get(name)?.values.get(key)?;
        Some(value.expose().to_owned())
    }
}

/// The Secrets that a spec names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Read by the process, from files: keys by Secret.
    pub mounted: BTreeMap<String, BTreeSet<String>>,
    /// Needed by the pods' environment: keys by Secret.
    needed: BTreeMap<String, BTreeSet<String>>,
    /// All, those that may be missing included.
    names: BTreeSet<String>,
}

impl References {
    pub fn of<S: SinkKind>(sink: &S) -> Self {
        let mut references = Self::default();
        let resource = serde_json::to_value(sink).unwrap_or_default();
        let mut found = Vec::new();
        for (field, value) in resource["spec"].as_object().into_iter().flatten() {
            if field != "pod" {
                collect(value, &mut found);
            }
        }
        for (name, key) in found {
            references.names.insert(name.clone());
            references.mounted.entry(name).or_default().insert(key);
        }
        for variable in &sink.common().pod.env {
            let from = variable.0.get("valueFrom").unwrap_or(&Value::Null);
            let Some((name, key)) = named(&from["secretKeyRef"]) else {
                continue;
            };
            references.names.insert(name.clone());
            if from["secretKeyRef"]["optional"] != Value::Bool(true) {
                references.needed.entry(name).or_default().insert(key);
            }
        }
        references
    }

    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// What is missing, one sentence each.
    fn missing(&self, secrets: &FetchedSecrets) -> Vec<String> {
        let mut all = self.mounted.clone();
        for (name, keys) in &self.needed {
            all.entry(name.clone())
                .or_default()
                .extend(keys.iter().cloned());
        }
        let mut missing = Vec::new();
        for (name, keys) in all {
            let Some(secret) = secrets.get(&name) else {
                let keys: Vec<_> = keys.iter().map(|key| format!("\"{key}\"")).collect();
                missing.push(format!(
                    "Secret \"{name}\" does not exist (key {})",
                    keys.join(", ")
                ));
                continue;
            };
            for key in keys {
                if !secret.values.contains_key(&key) {
                    missing.push(format!("Secret \"{name}\" has no text under key \"{key}\""));
                }
            }
        }
        missing
    }

    /// Stands for the versions of all Secrets named; `None` where none is.
    fn hash(&self, secrets: &FetchedSecrets) -> Option<String> {
        if self.names.is_empty() {
            return None;
        }
        let versions: Vec<String> = self
            .names
            .iter()
            .filter_map(|name| Some(format!("{name}={}\n", secrets.get(name)?.version)))
            .collect();
        Some(names::hash(versions.concat().as_bytes()))
    }
}

fn collect(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (field, value) in object {
                match named(value) {
                    Some(reference) if field == "secretKeyRef" => found.push(reference),
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

fn named(reference: &Value) -> Option<(String, String)> {
    let text = |field: &str| reference[field].as_str().map(str::to_owned);
    Some((text("name")?, text("key")?))
}

/// Which consumer group a resource reads in, and since when it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    uid: String,
    created: Option<Timestamp>,
    brokers: Vec<String>,
    group: String,
    /// Whether its spec, as it is now, has been found valid: it reads in the group.
    in_force: bool,
}

impl Claim {
    pub fn of<S: SinkKind>(sink: &S) -> Self {
        let source = sink.common().source;
        let namespace = sink.namespace().unwrap_or_default();
        let name = sink.name_any();
        Self {
            kind: S::KIND,
            uid: sink.uid().unwrap_or_default(),
            created: sink.meta().creation_timestamp.as_ref().map(|time| time.0),
            brokers: brokers(source),
            group: group(source, &namespace, &name),
            namespace,
            name,
            in_force: sink.status().is_some_and(|status| {
                let generation = sink.meta().generation;
                status.conditions.iter().any(|condition| {
                    condition.type_ == Concern::ConfigValid.name()
                        && condition.status == State::True.name()
                        && condition.observed_generation == generation
                })
            }),
        }
    }

    /// Whether both say that they read in one group, and the other had it first: it reads there already, or is the older
    /// one of two that do, or do not yet. `deployed`: the pods of this one have the spec that says so.
    pub fn yields_to(&self, other: &Self, deployed: bool) -> bool {
        self.uid != other.uid
            && self.group == other.group
            && self.brokers == other.brokers
            && match (deployed, other.in_force) {
                (false, true) => true,
                (true, false) => false,
                _ => (other.created, &other.uid) < (self.created, &self.uid),
            }
    }
}

fn group(source: &SourceSpec, namespace: &str, name: &str) -> String {
    let default = || format!("tidewater.{namespace}.{name}");
    source.group_id.clone().unwrap_or_else(default)
}

/// In order, so that the order in which they are written does not matter.
fn brokers(source: &SourceSpec) -> Vec<String> {
    let brokers = source.bootstrap_servers.split(',').map(str::trim);
    let brokers: BTreeSet<&str> = brokers.filter(|broker| !broker.is_empty()).collect();
    brokers.into_iter().map(str::to_owned).collect()
}

/// How many pods there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    pub asked: i32,
    pub wanted: i32,
    /// Partitions of the topics, where known.
    pub partitions: Option<i32>,
}

impl Replicas {
    /// At most as many as there are partitions, and none while paused.
    pub fn limit(&self, replicas: i32) -> i32 {
        match self.partitions {
            Some(partitions) => replicas.min(partitions.max(1)),
            None => replicas,
        }
    }
}

/// What is known besides the spec.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub secrets: &'a FetchedSecrets,
    /// Other resources, of both kinds.
    pub claims: &'a [Claim],
    pub partitions: Option<u32>,
    pub deployment: Option<&'a DeploymentFacts>,
    /// What runs now, by the status.
    pub runtime: Option<&'a RuntimeStatus>,
    /// Why fewer pods than asked for were wanted last, by the status.
    pub scaling: Option<&'a str>,
    /// The operator's image for sinks.
    pub image: &'a str,
}

/// A spec that may come into force.
#[derive(Clone, Debug)]
pub struct Checked {
    pub identity: Identity,
    pub config: Config,
    pub secrets_hash: Option<String>,
    pub mounted: BTreeMap<String, BTreeSet<String>>,
    pub paused: bool,
    pub replicas: Replicas,
    pub image: String,
    pub pod: PodSpec,
    pub autoscaling: Option<AutoscalingSpec>,
    pub restart_nonce: Option<i64>,
    pub source: SourcePlan,
    /// Between two commits.
    pub interval: Duration,
    /// Where there is a table in a catalog to look after.
    pub table: Option<TableWish>,
}

impl Checked {
    /// Changes with all that the pods and the catalog are told.
    pub fn revision(&self) -> String {
        let secrets = self.secrets_hash.as_deref().unwrap_or_default();
        format!("{}/{secrets}", self.config.hash)
    }

    /// Name of the ConfigMap that the pods read.
    pub fn config_map(&self) -> String {
        names::config_map(&self.identity.child, &self.config.text)
    }
}

/// Checks the spec. `schema`: [`SinkKind::schema`].
///
/// # Errors
/// The condition that says why the spec is not in force.
pub fn validate<S: SinkKind>(
    sink: &S,
    references: &References,
    schema: &Value,
    known: &Known<'_>,
) -> Result<Checked, Finding> {
    let missing = references.missing(known.secrets);
    if !missing.is_empty() {
        return Err(SECRET_MISSING.because(missing.join("; ")));
    }
    let plan = sink
        .plan(&Values(known.secrets))
        .map_err(|problems| Row::of(class::INVALID_SPEC).because(problems.to_string()))?;
    let claim = Claim::of(sink);
    let config = Config::of(sink, schema);
    let deployed = known
        .deployment
        .is_some_and(|deployment| deployment.config_hash.as_ref() == Some(&config.hash));
    let mut others = known.claims.iter();
    if let Some(first) = others.find(|other| claim.yields_to(other, deployed)) {
        let Claim {
            kind,
            namespace,
            name,
            group,
            ..
        } = first;
        return Err(GROUP_CONFLICT.because(format!(
            "{kind} {namespace}/{name} reads in consumer group \"{group}\" of the same brokers, and had it first: set \
             another spec.source.groupId"
        )));
    }
    let common = sink.common();
    let replicas = replicas(common.replicas, common.paused, known);
    Ok(Checked {
        identity: Identity::of(sink),
        secrets_hash: references.hash(known.secrets),
        mounted: references.mounted.clone(),
        paused: common.paused,
        replicas,
        image: image(common.pod, &config.hash, known),
        pod: common.pod.clone(),
        autoscaling: common.autoscaling.cloned(),
        restart_nonce: common.restart_nonce,
        table: TableWish::of(&plan),
        source: plan.source,
        interval: plan.commit.interval,
        config,
    })
}

fn replicas(asked: i32, paused: bool, known: &Known<'_>) -> Replicas {
    let partitions = known
        .partitions
        .map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    let mut replicas = Replicas {
        asked,
        wanted: 0,
        partitions,
    };
    if !paused {
        replicas.wanted = replicas.limit(asked);
        // Brokers that do not answer are no reason for pods that would stand idle.
        let capped = known.scaling == Some(CAPPED_BY_PARTITIONS.reason);
        if let (None, true, Some(deployment)) = (partitions, capped, known.deployment)
            && deployment.wanted > 0
        {
            replicas.wanted = asked.min(deployment.wanted);
        }
    }
    replicas
}

/// The image is kept as long as nothing else makes the pods start anew: an upgrade of the operator restarts none.
fn image(pod: &PodSpec, config_hash: &str, known: &Known<'_>) -> String {
    if let Some(image) = &pod.image {
        return image.clone();
    }
    let by_status = known
        .runtime
        .filter(|runtime| runtime.config_hash.as_deref() == Some(config_hash));
    let by_status = by_status.and_then(|runtime| runtime.image.clone());
    let by_deployment = || {
        known
            .deployment
            .filter(|deployment| deployment.config_hash.as_deref() == Some(config_hash))
            .and_then(|deployment| deployment.image.clone())
    };
    by_status
        .or_else(by_deployment)
        .unwrap_or_else(|| known.image.to_owned())
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
