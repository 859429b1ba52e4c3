//! The end of a resource whose table goes with it: its finalizer is there while `deletionPolicy` says `Delete`, and holds the
//! resource until the last pod has ended and the table is dropped. Nothing is held for ever: after ten minutes in which that
//! could not be done the resource is let go and the table stays, which is said by an event.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Api, Resource};
use serde_json::json;
use tidewater_crds::{API_VERSION, SinkStatus};
use tidewater_runtime::commit::iceberg::declare::Dropped;

use super::apply::Applier;
use super::kind::SinkKind;
use super::reconcile::ReconcileError;
use super::table::TableWish;
use super::validate::{Identity, References, Values};
use super::{Guarded, OfKind, again, fetch, names, status};
use crate::conditions::{Concern, DELETION_BLOCKED, Finding, conditions};
use crate::events::{Notice, table_dropped, table_kept, transitions};
use crate::observations::SinkKey;

/// A deletion that could not be done is given up after this long.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Between two looks while pods end.
const ENDING: std::time::Duration = std::time::Duration::from_secs(2);
/// Between two attempts at a catalog that did not do it.
const BLOCKED: std::time::Duration = std::time::Duration::from_secs(15);

pub(super) fn is_held(metadata: &ObjectMeta) -> bool {
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|name| name == names::FINALIZER)
}

/// Sets the finalizer, or takes it away.
///
/// # Errors
/// Of the call; a conflict when what is known of the resource is out of date.
pub(super) async fn hold<S: SinkKind>(
    context: &OfKind,
    metadata: &ObjectMeta,
    held: bool,
) -> Result<(), ReconcileError> {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|name| name != names::FINALIZER);
    if held {
        finalizers.push(names::FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
        "finalizers": finalizers,
    }});
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let shared = &context.shared;
    let api = Api::<S>::namespaced(shared.client.clone(), namespace);
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    match api.patch_metadata(name, &params, &patch).await {
        Ok(_) => shared.metrics.wrote(S::KIND, "finalizer"),
        Err(kube::Error::Api(gone)) if gone.is_not_found() => {}
        Err(error) => return Err(ReconcileError::Finalizer(error)),
    }
    Ok(())
}

/// Does what is left to do for a resource that is being deleted.
pub(super) async fn end<S: SinkKind>(
    object: &Guarded<S>,
    context: &OfKind,
    key: &SinkKey,
) -> Result<Action, ReconcileError> {
    let metadata = object.meta();
    if !is_held(metadata) {
        // The children go with it.
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let since = metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let late = since.is_some_and(|since| now.duration_since(since) > PATIENCE);
    let ending = Ending {
        context,
        key,
        metadata,
        now,
    };
    let sink = match &object.0 {
        Ok(sink) if !sink.deletes_table() => return ending.release::<S>(None).await,
        Ok(sink) => sink,
        Err(invalid) => {
            let why = format!("the resource cannot be read: {}", invalid.error);
            return ending.blocked::<S>(None, "of it", &why, late).await;
        }
    };
    let identity = Identity::of(sink);
    let pods = names::selector_text(&identity.child);
    let applier = Applier {
        context,
        identity: &identity,
    };
    let name = "of it";
    if applier.end().await? || ending.pods(&pods).await? {
        if late {
            let why = "its pods have not ended";
            return ending.blocked::<S>(sink.status(), name, why, late).await;
        }
        return Ok(again(ENDING));
    }
    let wish = match ending.wish(sink).await? {
        Ok(Some(wish)) => wish,
        Ok(None) => return ending.release::<S>(None).await,
        Err(why) => {
            return ending.blocked::<S>(sink.status(), name, &why, late).await;
        }
    };
    let name = wish.name();
    match context.shared.catalogs.delete(key, &identity.uid, &wish) {
        None if late => {
            let why = "the catalog has not answered";
            ending.blocked::<S>(sink.status(), &name, why, late).await
        }
        None => Ok(again(ENDING)),
        Some(Ok(Dropped::Dropped)) => ending.release::<S>(Some(table_dropped(&name))).await,
        Some(Ok(Dropped::Absent)) => ending.release::<S>(None).await,
        Some(Ok(Dropped::Kept(why))) => ending.release::<S>(Some(table_kept(&name, &why))).await,
        Some(Err(why)) => ending.blocked::<S>(sink.status(), &name, &why, late).await,
    }
}

struct Ending<'a> {
    context: &'a OfKind,
    key: &'a SinkKey,
    metadata: &'a ObjectMeta,
    now: Timestamp,
}

impl Ending<'_> {
    /// Whether there are pods yet.
    async fn pods(&self, selector: &str) -> Result<bool, ReconcileError> {
        let client = self.context.shared.client.clone();
        let api = Api::<Pod>::namespaced(client, &self.key.namespace);
        let list = ListParams::default().labels(selector).limit(1);
        let pods = api.list_metadata(&list).await;
        Ok(!pods.map_err(ReconcileError::Pods)?.items.is_empty())
    }

    /// What the spec says of its table, or why that cannot be told.
    async fn wish<S: SinkKind>(
        &self,
        sink: &S,
    ) -> Result<Result<Option<TableWish>, String>, ReconcileError> {
        let references = References::of(sink);
        let client = &self.context.shared.client;
        let secrets = fetch::secrets(client, &self.key.namespace, references.names())
            .await
            .map_err(ReconcileError::Secrets)?;
        let plan = sink.plan(&Values(&secrets));
        Ok(plan
            .map(|plan| TableWish::of(&plan))
            .map_err(|problems| problems.to_string()))
    }

    /// Lets the resource go.
    async fn release<S: SinkKind>(&self, notice: Option<Notice>) -> Result<Action, ReconcileError> {
        // Nothing is dropped from now on.
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        self.context.shared.catalogs.forget(self.key, uid);
        self.tell::<S>(notice.into_iter().collect()).await;
        hold::<S>(self.context, self.metadata, false).await?;
        Ok(Action::await_change())
    }

    /// The table cannot be dropped: says so and tries again, or, when that has lasted, lets the resource go without.
    async fn blocked<S: SinkKind>(
        &self,
        before: Option<&SinkStatus>,
        table: &str,
        why: &str,
        late: bool,
    ) -> Result<Action, ReconcileError> {
        if late {
            return self.release::<S>(Some(table_kept(table, why))).await;
        }
        let finding = blocked(why);
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        let mut memory = self.context.shared.memories.recall(self.key, uid);
        let before = memory.written.as_ref().or(before);
        let before = before.cloned().unwrap_or_default();
        let status = with(&before, &finding, self.now);
        if status != before {
            let identity = Identity {
                kind: S::KIND,
                namespace: self.key.namespace.clone(),
                name: self.key.name.clone(),
                uid: self.metadata.uid.clone().unwrap_or_default(),
                child: names::child(&self.key.name, S::SUFFIX),
            };
            let client = &self.context.shared.client;
            match status::write::<S>(client, &identity, &status).await {
                Ok(()) => {
                    self.context.shared.metrics.wrote(S::KIND, "status");
                    memory.written = Some(status);
                    memory.written_at = Some(self.now);
                    self.context.shared.memories.keep(self.key, memory);
                }
                Err(kube::Error::Api(gone)) if gone.is_not_found() => {}
                Err(error) => return Err(ReconcileError::Status(error)),
            }
            let notices = transitions(&before.conditions, &[finding]);
            self.tell::<S>(notices).await;
        }
        Ok(again(BLOCKED))
    }

    async fn tell<S: SinkKind>(&self, notices: Vec<Notice>) {
        let about = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(S::KIND.to_owned()),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.context.shared.events.tell(&about, notices).await;
    }
}

fn blocked(why: &str) -> Finding {
    DELETION_BLOCKED.because(format!(
        "the table cannot be dropped: {why}. Tried again until {} minutes after the deletion, then the table stays; to let \
         the resource go at once, set spec.deletionPolicy: Retain",
        PATIENCE.as_mins()
    ))
}

/// The status with this finding in place of what was found of its condition before.
fn with(before: &SinkStatus, finding: &Finding, now: Timestamp) -> SinkStatus {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut status = before.clone();
    let generation = before.observed_generation;
    let findings = [finding.not_ready(), finding.clone()];
    let mut made = conditions(&before.conditions, &findings, generation, now);
    let others = before
        .conditions
        .iter()
        .filter(|old| findings.iter().all(|new| new.concern().name() != old.type_));
    made.extend(others.cloned());
    let place = |type_: &str| {
        Concern::ALL
            .iter()
            .position(|concern| concern.name() == type_)
    };
    made.sort_by_key(|condition| place(&condition.type_));
    status.conditions = made;
    status
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::conditions::{PROGRESSING, READY, SYNCED};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_deletion_that_is_blocked_is_told_beside_what_was_known() {
        let found = [READY.found(), SYNCED.found(), PROGRESSING.found()];
        let before = SinkStatus {
            observed_generation: Some(4),
            conditions: conditions(&[], &found, Some(4), at(10)),
            ..SinkStatus::default()
        };
        let after = with(&before, &blocked("no answer"), at(20));
        let told: Vec<_> = after
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("Ready", "False", "DeletionBlocked"),
                ("TableSynced", "False", "DeletionBlocked"),
                ("Committing", "True", "Progressing"),
            ]
        );
        assert!(after.conditions[0].message.contains("no answer"));
        assert_eq!(with(&after, &blocked("no answer"), at(30)), after);
    }

    #[test]
    fn only_our_finalizer_holds_a_resource() {
        let held = |names: &[&str]| {
            is_held(&ObjectMeta {
                finalizers: Some(names.iter().map(|name| (*name).to_owned()).collect()),
                ..ObjectMeta::default()
            })
        };
        assert!(held(&["foregroundDeletion", "tidewater.dev/table"]));
        assert!(!held(&["foregroundDeletion"]));
        assert!(!is_held(&ObjectMeta::default()));
    }
}
