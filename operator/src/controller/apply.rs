//! Children into the cluster: which of them need a request (pure), and server-side apply with force and strict field
//! validation. What is settled costs no request. Nothing is touched that belongs to somebody else, and nothing is changed
//! at all before the API server has said that it would take the Deployment.

use std::collections::BTreeMap;

use kube::api::{
    DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidewater_runtime::errors::{Class, Classified, class as runtime_class};

use super::build::Child;
use super::live::{ChildKind, Facts, of_answer, of_metadata};
use super::names::hash_of;
use super::validate::Identity;
use crate::conditions::{Finding, NAME_CONFLICT, REFUSED, Row};
use crate::errors::{class, of_client};
use crate::metrics::Metrics;

/// Owns the fields of children.
pub const MANAGER: &str = "tidewater/children";
/// Owns the number of pods where it is all that can be applied.
const SCALING: &str = "tidewater/scaling";

/// What a child was when it was last applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    hash: String,
    uid: String,
    version: String,
}

impl Applied {
    /// Whether the cluster still holds what was applied.
    pub fn is(&self, live: &Facts) -> bool {
        self.uid == live.uid && self.version == live.version
    }
}

/// What is to be done about a child.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Settled,
    /// What is known may be out of date.
    Look,
    Apply {
        /// Of the object that is there.
        uid: Option<String>,
        /// Somebody changed or removed it.
        drift: bool,
    },
    /// Belongs to a resource of this name that is gone: it will go too.
    Leftover,
    /// Belongs to somebody else.
    Conflict,
}

/// `live` is what the store holds, or, when `certain`, what the API server has just said.
fn decide(
    hash: &str,
    identity: &Identity,
    live: Option<&Facts>,
    applied: Option<&Applied>,
    certain: bool,
) -> Step {
    let same = applied.is_some_and(|applied| applied.hash == hash);
    let Some(live) = live else {
        return if certain {
            let uid = None;
            Step::Apply { uid, drift: same }
        } else {
            Step::Look
        };
    };
    let owner = live.owner.clone().unwrap_or_default();
    if owner.uid != identity.uid {
        return if !certain {
            Step::Look
        } else if owner.kind == identity.kind && owner.name == identity.name {
            Step::Leftover
        } else {
            Step::Conflict
        };
    }
    let unchanged = live.labelled && applied.is_some_and(|applied| applied.is(live));
    if same && unchanged {
        Step::Settled
    } else if same && !certain {
        Step::Look
    } else {
        Step::Apply {
            uid: Some(live.uid.clone()),
            drift: same,
        }
    }
}

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

/// The way to the API server.
#[derive(Clone, Copy)]
pub(crate) struct Applier<'a> {
    pub(crate) client: &'a Client,
    pub(crate) metrics: &'a Metrics,
    pub(crate) identity: &'a Identity,
}

impl Applier<'_> {
    /// Applies what is not settled, in order, and deletes what is not wanted any more. `live` is what the stores hold.
    ///
    /// # Errors
    /// Nothing was changed when a child belongs to somebody else or the API server refuses the Deployment.
    pub(crate) async fn apply(
        &self,
        children: &[Child],
        live: impl Fn(ChildKind) -> Option<Facts>,
        applied: &mut BTreeMap<ChildKind, Applied>,
    ) -> Result<Report, ApplyError> {
        let mut report = Report::default();
        let mut steps = Vec::new();
        for child in children {
            let hash = hash_of(&child.body);
            let known = applied.get(&child.kind);
            let mut step = decide(
                &hash,
                self.identity,
                live(child.kind).as_ref(),
                known,
                false,
            );
            if step == Step::Look {
                let fresh = self.look(child.kind).await?;
                step = decide(&hash, self.identity, fresh.as_ref(), known, true);
            }
            let name = &self.identity.child;
            match step {
                Step::Conflict => return Err(ApplyError::Conflict(child.kind, name.clone())),
                Step::Leftover => return Err(ApplyError::Leftover(child.kind, name.clone())),
                Step::Apply { uid, drift } => {
                    if drift {
                        self.metrics.drift(child.kind.name());
                        report.drift.push(format!("{} {name}", child.kind.name()));
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
                self.patch(child.kind, body, true).await?;
            }
        }
        for (child, hash, body) in &steps {
            let answer = self.patch(child.kind, body, false).await?;
            self.metrics.wrote(child.kind.name(), "apply");
            let facts = of_answer(child.kind, answer);
            applied.insert(
                child.kind,
                Applied {
                    hash: hash.clone(),
                    uid: facts.uid,
                    version: facts.version,
                },
            );
        }
        for kind in ChildKind::ALL {
            if children.iter().any(|child| child.kind == kind) {
                continue;
            }
            applied.remove(&kind);
            if let Some(live) = live(kind)
                && live
                    .owner
                    .as_ref()
                    .is_some_and(|owner| owner.uid == self.identity.uid)
            {
                self.delete(kind, live.uid, DeleteParams::background())
                    .await?;
            }
        }
        Ok(report)
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
        self.metrics.wrote(kind.name(), "scale");
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
            let Some(live) = self.look(kind).await? else {
                continue;
            };
            if live
                .owner
                .is_some_and(|owner| owner.uid == self.identity.uid)
            {
                left = true;
                // It stays until its pods are gone.
                self.delete(kind, live.uid, DeleteParams::foreground())
                    .await?;
            }
        }
        Ok(left)
    }

    async fn look(&self, kind: ChildKind) -> Result<Option<Facts>, ApplyError> {
        let failed = |source| ApplyError::Api {
            what: "look at",
            kind,
            source,
        };
        let (namespace, name) = (&self.identity.namespace, &self.identity.child);
        if kind == ChildKind::HorizontalPodAutoscaler {
            // Its version is in its spec.
            let found = self.api(kind).get_opt(name).await.map_err(failed)?;
            return Ok(found.map(|found| of_answer(kind, found)));
        }
        let api = Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(
            self.client.clone(),
            namespace,
            &kind.api(),
        );
        let found = api.get_opt(name).await.map_err(failed)?;
        Ok(found.map(|found| of_metadata(found).facts))
    }

    async fn patch(
        &self,
        kind: ChildKind,
        body: &Value,
        dry_run: bool,
    ) -> Result<DynamicObject, ApplyError> {
        let mut params = PatchParams::apply(MANAGER).force().validation_strict();
        params.dry_run = dry_run;
        self.api(kind)
            .patch(&self.identity.child, &params, &Patch::Apply(body))
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
        uid: String,
        params: DeleteParams,
    ) -> Result<(), ApplyError> {
        let params = params.preconditions(Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        match self.api(kind).delete(&self.identity.child, &params).await {
            Ok(_) => self.metrics.wrote(kind.name(), "delete"),
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
        Api::namespaced_with(self.client.clone(), &self.identity.namespace, &kind.api())
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
    use crate::controller::live::Owner;

    fn identity() -> Identity {
        Identity {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: "orders".into(),
            uid: "mine".into(),
            child: "orders-ks3".into(),
        }
    }

    fn live(owner: Option<&str>, version: &str) -> Facts {
        Facts {
            uid: "u".into(),
            version: version.into(),
            owner: owner.map(|uid| Owner {
                uid: uid.into(),
                kind: "KafkaS3Sink".into(),
                name: "orders".into(),
            }),
            labelled: true,
            ..Facts::default()
        }
    }

    fn applied(hash: &str, version: &str) -> Applied {
        Applied {
            hash: hash.into(),
            uid: "u".into(),
            version: version.into(),
        }
    }

    fn step(live: Option<&Facts>, applied: Option<&Applied>, certain: bool) -> Step {
        decide("h", &identity(), live, applied, certain)
    }

    #[test]
    fn what_is_as_it_was_applied_costs_no_request() {
        let (live, applied) = (live(Some("mine"), "3"), applied("h", "3"));
        assert_eq!(step(Some(&live), Some(&applied), false), Step::Settled);
    }

    #[test]
    fn a_store_that_lags_behind_is_no_drift() {
        let (old, applied) = (live(Some("mine"), "2"), applied("h", "3"));
        assert_eq!(step(Some(&old), Some(&applied), false), Step::Look);
        assert_eq!(step(None, Some(&applied), false), Step::Look);
        let fresh = live(Some("mine"), "3");
        assert_eq!(step(Some(&fresh), Some(&applied), true), Step::Settled);
    }

    #[test]
    fn what_somebody_changed_or_removed_is_put_back() {
        let applied = applied("h", "3");
        let put_back = |uid: Option<&str>| Step::Apply {
            uid: uid.map(str::to_owned),
            drift: true,
        };
        assert_eq!(
            step(Some(&live(Some("mine"), "4")), Some(&applied), true),
            put_back(Some("u"))
        );
        assert_eq!(step(None, Some(&applied), true), put_back(None));
        let mut unlabelled = live(Some("mine"), "3");
        unlabelled.labelled = false;
        assert_eq!(
            step(Some(&unlabelled), Some(&applied), true),
            put_back(Some("u"))
        );
    }

    #[test]
    fn a_changed_spec_is_applied_and_is_no_drift() {
        let changed = Step::Apply {
            uid: Some("u".into()),
            drift: false,
        };
        let live = live(Some("mine"), "3");
        assert_eq!(
            step(Some(&live), Some(&applied("old", "3")), false),
            changed
        );
        // After a restart nothing is known of what was applied.
        assert_eq!(step(Some(&live), None, false), changed);
        let new = Step::Apply {
            uid: None,
            drift: false,
        };
        assert_eq!(step(None, None, false), Step::Look);
        assert_eq!(step(None, None, true), new);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_touched() {
        let mut stranger = live(Some("other"), "3");
        if let Some(owner) = &mut stranger.owner {
            owner.name = "other".into();
        }
        for (live, expected) in [
            (live(None, "3"), Step::Conflict),
            (stranger, Step::Conflict),
            // Of a resource of this name that was deleted and made anew.
            (live(Some("gone"), "3"), Step::Leftover),
        ] {
            for applied in [None, Some(&applied("h", "3"))] {
                assert_eq!(step(Some(&live), applied, false), Step::Look);
                assert_eq!(step(Some(&live), applied, true), expected);
            }
        }
    }

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
