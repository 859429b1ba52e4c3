//! Children into the cluster: which of them need a request ([`steps`], pure), and server-side apply with force and strict
//! field validation. What is settled costs no request. Nothing is touched that belongs to somebody else, and nothing is changed
//! at all before the API server has said that it would take the Deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams, Preconditions,
};
use serde_json::{Value, json};
use tidewater_runtime::errors::{Class, Classified, class as runtime_class};

use super::OfKind;
use super::build::Child;
use super::live::{ChildKind, Facts, Live, of_answer, of_metadata};
use super::names::{self, hash_of};
use super::validate::Identity;
use crate::conditions::{Finding, NAME_CONFLICT, REFUSED, Row};
use crate::errors::{class, of_client};

mod steps;

pub use steps::Applied;
use steps::{Outdated, Step, decide, outdated};

/// Owns the fields of children.
pub const MANAGER: &str = "tidewater/children";
/// Owns the number of pods where it is all that can be applied.
const SCALING: &str = "tidewater/scaling";

/// Why the children are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{kind} \"{name}\" exists and does not belong to this resource", kind = .0.name(), name = .1)]
    Conflict(ChildKind, String),
    #[error("{kind} \"{name}\" of a deleted resource of this name is still there", kind = .0.name(), name = .1)]
    Leftover(ChildKind, String),
    #[error("{what} {kind}", kind = .kind.name())]
    Api {
        what: &'static str,
        kind: ChildKind,
        source: kube::Error,
    },
}

impl Classified for ApplyError {
    fn class(&self) -> Class {
        match self {
            Self::Conflict(..) => class::NAME_CONFLICT,
            Self::Leftover(..) => class::API_CONFLICT,
            Self::Api { source, .. } => of_client(source),
        }
    }
}

impl ApplyError {
    /// The condition that tells it, where it is the resource's or the cluster's matter and not a passing one.
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::Conflict(..) => Some(
                NAME_CONFLICT.because(format!("{self}: rename the resource, or delete the object")),
            ),
            Self::Leftover(..) => None,
            Self::Api { kind, source, .. } => {
                let kube::Error::Api(status) = source else {
                    return None;
                };
                let said = format!("{}: {}", kind.name(), status.message);
                match status.code {
                    400 | 422 => Some(Row::of(runtime_class::INVALID_SPEC).because(said)),
                    403 => Some(REFUSED.because(said)),
                    404 if *kind == ChildKind::PodMonitor => Some(REFUSED.because(
                        "the cluster knows no PodMonitors: install the Prometheus operator, or turn them off",
                    )),
                    _ => None,
                }
            }
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What somebody else had changed or removed, by kind and name.
    pub drift: Vec<String>,
}

/// The way to the API server, for one resource.
#[derive(Clone, Copy)]
pub(crate) struct Applier<'a> {
    pub(crate) context: &'a OfKind,
    pub(crate) identity: &'a Identity,
}

impl Applier<'_> {
    /// Applies what is not settled, in order, and deletes what is not wanted any more.
    ///
    /// # Errors
    /// Nothing was changed when a child belongs to somebody else or the API server refuses the Deployment.
    pub(crate) async fn apply(
        &self,
        children: &[Child],
        applied: &mut BTreeMap<ChildKind, Applied>,
    ) -> Result<Report, ApplyError> {
        let mut report = Report::default();
        let mut steps = Vec::new();
        for child in children {
            let (kind, name) = (child.kind, child.name());
            let hash = hash_of(&child.body);
            let known = applied.get(&kind);
            let live = self.live(kind, name);
            let mut step = decide(&hash, self.identity, live.as_ref(), known, false);
            if step == Step::Look {
                let fresh = self.look(kind, name).await?;
                step = decide(&hash, self.identity, fresh.as_ref(), known, true);
            }
            match step {
                Step::Conflict => return Err(ApplyError::Conflict(kind, name.to_owned())),
                Step::Leftover => return Err(ApplyError::Leftover(kind, name.to_owned())),
                Step::Apply { uid, drift } => {
                    if drift {
                        self.context.shared.metrics.drift(kind.name());
                        report.drift.push(format!("{} {name}", kind.name()));
                    }
                    steps.push((child, hash, body(&child.body, uid)));
                }
                Step::Settled | Step::Look => {}
            }
        }
        // The two whose parts come from the user as they are.
        for (child, _, body) in &steps {
            if matches!(
                child.kind,
                ChildKind::Deployment | ChildKind::HorizontalPodAutoscaler
            ) {
                self.patch(child, body, true).await?;
            }
        }
        let mut refused = Ok(());
        for (child, hash, body) in steps {
            let answer = match self.patch(child, &body, false).await {
                // The last: a cluster that does not have the kind, or does not let it be made, has all the rest.
                Err(error) if child.kind == ChildKind::PodMonitor => {
                    refused = Err(error);
                    continue;
                }
                answer => answer?,
            };
            self.wrote(child.kind, "apply");
            let facts = of_answer(child.kind, answer);
            let is = Applied {
                hash,
                uid: facts.uid,
                version: facts.version,
            };
            applied.insert(child.kind, is);
        }
        self.prune(children, applied).await?;
        refused.map(|()| report)
    }

    /// Deletes what belongs to the resource and is not wanted any more.
    async fn prune(
        &self,
        children: &[Child],
        applied: &mut BTreeMap<ChildKind, Applied>,
    ) -> Result<(), ApplyError> {
        let name = &self.identity.child;
        for kind in ChildKind::ALL {
            if children.iter().any(|child| child.kind == kind) {
                continue;
            }
            applied.remove(&kind);
            if let Some(live) = self.live(kind, name)
                && live
                    .owner
                    .is_some_and(|owner| owner.uid == self.identity.uid)
            {
                self.delete(kind, name, live.uid, DeleteParams::background())
                    .await?;
            }
        }
        let kind = ChildKind::ConfigMap;
        let Some(current) = children.iter().find(|child| child.kind == kind) else {
            return Ok(());
        };
        let deployment = self.live(ChildKind::Deployment, name).filter(|live| {
            let applied = applied.get(&ChildKind::Deployment);
            applied.is_some_and(|applied| applied.is(live))
        });
        let deployment = deployment.and_then(|live| live.deployment);
        let all = self.context.config_maps(&self.identity.uid);
        let gone = match outdated(all, current.name(), deployment.as_deref()) {
            Outdated::All(gone) => gone,
            Outdated::Unread(some) => {
                let read = self.read_by_pods().await?;
                let unread = |live: &Arc<Live>| {
                    let name = live.metadata.name.as_ref();
                    name.is_some_and(|name| !read.contains(name))
                };
                some.into_iter().filter(unread).collect()
            }
        };
        for live in gone {
            let name = live.metadata.name.as_deref().unwrap_or_default();
            let uid = live.facts().uid;
            self.delete(kind, name, uid, DeleteParams::background())
                .await?;
        }
        Ok(())
    }

    /// The ConfigMaps that the resource's pods read.
    async fn read_by_pods(&self) -> Result<BTreeSet<String>, ApplyError> {
        let client = self.context.shared.client.clone();
        let api = Api::<Pod>::namespaced(client, &self.identity.namespace);
        let ours = ListParams::default().labels(&names::selector_text(&self.identity.child));
        let pods = api.list(&ours).await.map_err(|source| ApplyError::Api {
            what: "list the pods for",
            kind: ChildKind::ConfigMap,
            source,
        })?;
        let specs = pods.items.into_iter().filter_map(|pod| pod.spec);
        let volumes = specs.flat_map(|spec| spec.volumes.unwrap_or_default());
        let maps = volumes.filter_map(|volume| volume.config_map);
        Ok(maps.map(|map| map.name).collect())
    }

    /// Ends the pods of a resource that is to have none and whose spec is not in force: nothing else can be applied.
    ///
    /// # Errors
    /// Of the call.
    pub(crate) async fn stop(
        &self,
        live: &Facts,
        applied: &mut BTreeMap<ChildKind, Applied>,
    ) -> Result<(), ApplyError> {
        let kind = ChildKind::Deployment;
        let api = kind.api();
        let body = json!({
            "apiVersion": api.api_version,
            "kind": api.kind,
            "metadata": {"name": self.identity.child, "uid": live.uid},
            "spec": {"replicas": 0},
        });
        let params = PatchParams::apply(SCALING).force();
        self.api(kind)
            .patch(&self.identity.child, &params, &Patch::Apply(&body))
            .await
            .map_err(|source| ApplyError::Api {
                what: "scale",
                kind,
                source,
            })?;
        self.wrote(kind, "scale");
        // The spec that comes into force next finds it changed, by nobody else.
        applied.remove(&kind);
        Ok(())
    }

    /// Ends the pods for good; whether there is anything left that might start one.
    ///
    /// # Errors
    /// Of a call.
    pub(crate) async fn end(&self) -> Result<bool, ApplyError> {
        let mut left = false;
        for kind in [ChildKind::HorizontalPodAutoscaler, ChildKind::Deployment] {
            let name = &self.identity.child;
            let Some(live) = self.look(kind, name).await? else {
                continue;
            };
            if live
                .owner
                .is_some_and(|owner| owner.uid == self.identity.uid)
            {
                left = true;
                // It stays until its pods are gone.
                self.delete(kind, name, live.uid, DeleteParams::foreground())
                    .await?;
            }
        }
        Ok(left)
    }

    /// As the store holds it.
    fn live(&self, kind: ChildKind, name: &str) -> Option<Facts> {
        self.context.live(kind, &self.identity.namespace, name)
    }

    async fn look(&self, kind: ChildKind, name: &str) -> Result<Option<Facts>, ApplyError> {
        let failed = |source| ApplyError::Api {
            what: "look at",
            kind,
            source,
        };
        if kind == ChildKind::HorizontalPodAutoscaler {
            // Its version is in its spec.
            let found = self.api(kind).get_opt(name).await.map_err(failed)?;
            return Ok(found.map(|found| of_answer(kind, found)));
        }
        let api = Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(
            self.context.shared.client.clone(),
            &self.identity.namespace,
            &kind.api(),
        );
        match api.get_opt(name).await {
            Ok(found) => Ok(found.map(|found| of_metadata(found).facts())),
            // Of a kind that the cluster does not know there is none.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn patch(
        &self,
        child: &Child,
        body: &Value,
        dry_run: bool,
    ) -> Result<DynamicObject, ApplyError> {
        let kind = child.kind;
        let mut params = PatchParams::apply(MANAGER).force().validation_strict();
        params.dry_run = dry_run;
        self.api(kind)
            .patch(child.name(), &params, &Patch::Apply(body))
            .await
            .map_err(|source| ApplyError::Api {
                what: "apply",
                kind,
                source,
            })
    }

    async fn delete(
        &self,
        kind: ChildKind,
        name: &str,
        uid: String,
        params: DeleteParams,
    ) -> Result<(), ApplyError> {
        let params = params.preconditions(Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        match self.api(kind).delete(name, &params).await {
            Ok(_) => self.wrote(kind, "delete"),
            // Gone, or another one already.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(source) => {
                return Err(ApplyError::Api {
                    what: "delete",
                    kind,
                    source,
                });
            }
        }
        Ok(())
    }

    fn api(&self, kind: ChildKind) -> Api<DynamicObject> {
        let client = self.context.shared.client.clone();
        Api::namespaced_with(client, &self.identity.namespace, &kind.api())
    }

    fn wrote(&self, kind: ChildKind, what: &'static str) {
        self.context.shared.metrics.wrote(kind.name(), what);
    }
}

/// With the uid of the object it is meant for: one that was made anew meanwhile is not touched.
fn body(body: &Value, uid: Option<String>) -> Value {
    let mut body = body.clone();
    if let Some(uid) = uid {
        body["metadata"]["uid"] = json!(uid);
    }
    body
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_is_a_condition_and_an_outage_is_none() {
        let failed = |kind, code, message: &str| {
            let status = Status::failure(message, "Reason").with_code(code).boxed();
            let source = kube::Error::Api(status);
            let error = ApplyError::Api {
                what: "apply",
                kind,
                source,
            };
            error.finding().map(|finding| finding.reason())
        };
        let typo =
            "strict decoding error: unknown field \"spec.template.spec.affinity.nodeAfinity\"";
        assert_eq!(
            failed(ChildKind::Deployment, 400, typo),
            Some("InvalidSpec")
        );
        assert_eq!(
            failed(ChildKind::HorizontalPodAutoscaler, 422, "x"),
            Some("InvalidSpec")
        );
        assert_eq!(
            failed(ChildKind::Deployment, 403, "quota"),
            Some("RefusedByCluster")
        );
        assert_eq!(
            failed(ChildKind::PodMonitor, 404, "x"),
            Some("RefusedByCluster")
        );
        assert_eq!(failed(ChildKind::Deployment, 409, "x"), None);
        assert_eq!(failed(ChildKind::Deployment, 500, "x"), None);
        let conflict = ApplyError::Conflict(ChildKind::Service, "orders-ks3".into());
        let finding = conflict.finding();
        assert_eq!(
            finding.map(|finding| finding.reason()),
            Some("NameConflict")
        );
    }
}
