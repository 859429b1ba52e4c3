//! One reconcile of one resource: fetch (client) → validate (pure) → build (pure) → apply (client) → status (pure, then
//! client). Status comes last. A spec that is refused is told by it; an API server that does not answer is an error, and
//! everything is tried again.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::runtime::controller::Action;
use tidewater_crds::SinkStatus;
use tidewater_runtime::errors::{Class, Classified, OneLine, class as runtime_class};

use super::apply::{Applier, ApplyError, Report};
use super::kind::SinkKind;
use super::live::{ChildKind, DeploymentFacts, Facts};
use super::memory::Memory;
use super::table::Course;
use super::validate::{self, Checked, Identity, References};
use super::{Guarded, OfKind, build, ending, fetch, names, status};
use crate::conditions::{Finding, Row};
use crate::errors::{class, of_client};
use crate::observations::Target;

mod telling;

/// Nothing takes longer; what did is begun anew.
const LONGEST: Duration = Duration::from_secs(60);
/// A store that shows another status than was written this long ago is right.
const TRUSTED: SignedDuration = SignedDuration::from_secs(60);

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("read Secrets")]
    Secrets(#[source] kube::Error),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("read or write the status")]
    Status(#[source] kube::Error),
    #[error("change the finalizers")]
    Finalizer(#[source] kube::Error),
    #[error("list the pods")]
    Pods(#[source] kube::Error),
    #[error("took longer than {} s", LONGEST.as_secs())]
    Timeout,
}

impl Classified for ReconcileError {
    fn class(&self) -> Class {
        match self {
            Self::Secrets(error)
            | Self::Status(error)
            | Self::Finalizer(error)
            | Self::Pods(error) => of_client(error),
            Self::Apply(error) => error.class(),
            Self::Timeout => class::API_UNREACHABLE,
        }
    }
}

/// Brings the cluster to what the resource says, and tells.
pub(crate) async fn reconcile<S: SinkKind>(
    object: &Guarded<S>,
    context: &OfKind,
) -> Result<Action, ReconcileError> {
    let start = Instant::now();
    let one = Box::pin(one(object, context));
    let result = match tokio::time::timeout(LONGEST, one).await {
        Ok(result) => result,
        Err(_) => Err(ReconcileError::Timeout),
    };
    context.shared.metrics.reconciled(S::KIND, start.elapsed());
    result
}

/// After a reconcile that failed.
pub(crate) fn failed<S: SinkKind>(
    object: &Guarded<S>,
    error: &ReconcileError,
    context: &OfKind,
) -> Action {
    let metadata = object.meta();
    let class = error.class();
    let shared = &context.shared;
    shared.metrics.failed(class.reason);
    let key = super::key::<S>(metadata);
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let pause = shared.memories.failed(&key, uid, rand::random());
    tracing::warn!(
        kind = S::KIND,
        namespace = key.namespace,
        name = key.name,
        error = %OneLine(error),
        category = class.reason,
        advice = class.advice,
        again_in_s = pause.as_secs(),
        "reconcile failed"
    );
    Action::requeue(pause)
}

async fn one<S: SinkKind>(object: &Guarded<S>, context: &OfKind) -> Result<Action, ReconcileError> {
    let metadata = object.meta();
    let key = super::key::<S>(metadata);
    if metadata.deletion_timestamp.is_some() {
        return Box::pin(ending::end(object, context, &key)).await;
    }
    let uid = metadata.uid.clone().unwrap_or_default();
    let mut memory = context.shared.memories.recall(&key, &uid);
    let mut pass = Pass {
        context,
        key: &key,
        now: Timestamp::now(),
        memory: &mut memory,
    };
    let result = match &object.0 {
        Ok(sink) => pass.sound(sink).await,
        Err(invalid) => pass.unsound::<S>(metadata, &invalid.error).await,
    };
    if result.is_ok() {
        memory.failures = 0;
    }
    context.shared.memories.keep(&key, memory);
    result
}

/// Whatever else it says, there are to be no pods.
fn rests<S: SinkKind>(sink: &S) -> bool {
    let common = sink.common();
    common.paused || common.replicas == 0
}

/// One reconcile under way.
struct Pass<'a> {
    context: &'a OfKind,
    key: &'a crate::observations::SinkKey,
    now: Timestamp,
    memory: &'a mut Memory,
}

/// How far a spec came.
enum Outcome {
    InForce(Box<Checked>),
    /// A condition says why not.
    Refused(Finding),
    /// Something has to pass first.
    Waiting(Box<Checked>, String),
    /// The table cannot become what the spec says.
    Held(Box<Checked>),
}

impl Pass<'_> {
    async fn sound<S: SinkKind>(&mut self, sink: &S) -> Result<Action, ReconcileError> {
        let identity = Identity::of(sink);
        let frozen = names::is_frozen(sink.meta());
        let references = References::of(sink);
        self.memory.secrets = references.names().clone();
        let client = &self.context.shared.client;
        let secrets = fetch::secrets(client, &identity.namespace, references.names())
            .await
            .map_err(ReconcileError::Secrets)?;
        let before = self.before(sink.status());
        let seen = self
            .context
            .shared
            .observations
            .seen(self.key, &identity.uid);
        if let Some(Ok(lag)) = &seen.lag {
            self.memory.partitions = lag.partitions.or(self.memory.partitions);
        }
        if self.memory.partitions.is_none() && before.observed_generation == sink.meta().generation
        {
            // As an operator before this one saw them.
            self.memory.partitions = before.partitions.and_then(|n| u32::try_from(n).ok());
        }
        let live = self.live(&identity, ChildKind::Deployment);
        let deployment = live.and_then(|live| live.deployment);
        let scaling = before
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Scaling");
        let verdict = validate::validate(
            sink,
            &references,
            &self.context.schema,
            &validate::Known {
                secrets: &secrets,
                claims: &self.context.shared.claims(),
                partitions: self.memory.partitions,
                deployment: deployment.as_deref(),
                runtime: before.runtime.as_ref(),
                scaling: scaling.map(|scaling| scaling.reason.as_str()),
                image: &self.context.shared.settings.runtime_image,
            },
        );
        drop(secrets);
        let mut report = Report::default();
        let table;
        let outcome = match verdict {
            Err(finding) => {
                if rests(sink) && !frozen {
                    self.stop(&identity).await?;
                }
                table = self
                    .context
                    .shared
                    .catalogs
                    .last(self.key, &identity.uid, &before);
                Outcome::Refused(finding)
            }
            Ok(checked) => {
                self.look_at(&checked);
                if frozen {
                    table = self
                        .context
                        .shared
                        .catalogs
                        .last(self.key, &identity.uid, &before);
                    Outcome::InForce(Box::new(checked))
                } else {
                    if sink.deletes_table() != ending::is_held(sink.meta()) {
                        // Before there is a table that is to go.
                        ending::hold::<S>(self.context, sink.meta(), sink.deletes_table()).await?;
                    }
                    let catalogs = &self.context.shared.catalogs;
                    let (course, found) =
                        catalogs.course(self.key, &checked, &before, deployment.as_deref());
                    table = found;
                    match course {
                        Course::Go => self.apply(checked, &mut report).await?,
                        Course::Hold => {
                            if rests(sink) {
                                self.stop(&identity).await?;
                            }
                            Outcome::Held(Box::new(checked))
                        }
                        Course::Wait => {
                            if rests(sink) {
                                self.stop(&identity).await?;
                            }
                            let why = "the table in the catalog is being looked at";
                            Outcome::Waiting(Box::new(checked), why.to_owned())
                        }
                    }
                }
            }
        };
        let common = sink.common();
        self.tell::<S>(
            &identity,
            sink.meta().generation,
            &before,
            common.paused,
            frozen,
            outcome,
            table,
            &report,
        )
        .await
    }

    /// A resource that is none: what runs for it goes on, and its status says so.
    async fn unsound<S: SinkKind>(
        &mut self,
        metadata: &kube::core::ObjectMeta,
        error: &str,
    ) -> Result<Action, ReconcileError> {
        let name = metadata.name.clone().unwrap_or_default();
        let identity = Identity {
            kind: S::KIND,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            child: names::child(&name, S::SUFFIX),
            name,
        };
        let found = match &self.memory.written {
            Some(_) => None,
            None => status::read::<S>(&self.context.shared.client, &identity)
                .await
                .map_err(ReconcileError::Status)?,
        };
        let before = self.before(found.as_ref());
        let finding = Row::of(runtime_class::INVALID_SPEC).because(format!(
            "cannot be read by this version of the operator: {error}"
        ));
        let outcome = Outcome::Refused(finding);
        let table = self
            .context
            .shared
            .catalogs
            .last(self.key, &identity.uid, &before);
        let report = Report::default();
        self.tell::<S>(
            &identity,
            metadata.generation,
            &before,
            false,
            false,
            outcome,
            table,
            &report,
        )
        .await
    }

    /// The status as it was: the store may not have heard of the last one written.
    fn before(&self, found: Option<&SinkStatus>) -> SinkStatus {
        let at = self.memory.written_at;
        let trusted = at.is_some_and(|at| self.now.duration_since(at) < TRUSTED);
        match (&self.memory.written, found) {
            (Some(written), Some(_)) if trusted => written.clone(),
            (_, Some(found)) => found.clone(),
            (Some(written), None) => written.clone(),
            (None, None) => SinkStatus::default(),
        }
    }

    fn live(&self, identity: &Identity, kind: ChildKind) -> Option<Facts> {
        let live = self
            .context
            .live(kind, &identity.namespace, &identity.child)?;
        let owner = live.owner.as_ref().map(|owner| owner.uid.as_str());
        (owner == Some(identity.uid.as_str())).then_some(live)
    }

    /// Lag and pods are looked at by what is in force.
    fn look_at(&mut self, checked: &Checked) {
        self.memory.interval = Some(checked.interval);
        let target = Target {
            uid: checked.identity.uid.clone(),
            revision: checked.revision(),
            source: checked.source.clone(),
            pods: names::selector_text(&checked.identity.child),
        };
        if self.context.shared.observations.watch(self.key, target) {
            // Other topics, or topics of other brokers: what is known is about those before.
            self.memory.partitions = None;
        }
    }

    /// A pause holds whatever else is wrong with the spec.
    async fn stop(&mut self, identity: &Identity) -> Result<(), ReconcileError> {
        let live = self.live(identity, ChildKind::Deployment);
        let runs = |live: &Facts| live.deployment.as_ref().is_some_and(|d| d.wanted > 0);
        let Some(live) = live.filter(runs) else {
            return Ok(());
        };
        let applier = Applier {
            context: self.context,
            identity,
        };
        applier.stop(&live, &mut self.memory.applied).await?;
        Ok(())
    }

    async fn apply(
        &mut self,
        checked: Checked,
        report: &mut Report,
    ) -> Result<Outcome, ReconcileError> {
        let shared = &self.context.shared;
        let identity = &checked.identity;
        let children = build::build(&checked, shared.settings.pod_monitors.as_ref());
        let applier = Applier {
            context: self.context,
            identity,
        };
        match applier.apply(&children, &mut self.memory.applied).await {
            Ok(done) => {
                *report = done;
                Ok(Outcome::InForce(Box::new(checked)))
            }
            Err(error @ ApplyError::Leftover(..)) => {
                let why = error.to_string();
                Ok(Outcome::Waiting(Box::new(checked), why))
            }
            Err(error) => match error.finding() {
                Some(finding) => {
                    shared.metrics.failed(error.class().reason);
                    Ok(Outcome::Refused(finding))
                }
                None => Err(error.into()),
            },
        }
    }

    /// The Deployment, as far as what is known of it is of what was last applied.
    fn deployment(&self, identity: &Identity, frozen: bool) -> Option<DeploymentFacts> {
        let live = self.live(identity, ChildKind::Deployment)?;
        let mut deployment = *live.deployment.clone()?;
        // While reconciliation is paused others may change it, and what they asked for is what counts.
        if !frozen && let Some(applied) = self.memory.applied.get(&ChildKind::Deployment) {
            deployment.observed &= applied.is(&live);
        }
        Some(deployment)
    }
}
