//! The last step of a reconcile: status, events, and when to look again.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::controller::Action;
use tidewater_crds::{API_VERSION, SinkStatus};

use super::{Outcome, Pass, ReconcileError};
use crate::conditions::{Finding, NOT_READY_PAUSED, SCALED_TO_ZERO, State};
use crate::controller::again;
use crate::controller::apply::Report;
use crate::controller::kind::SinkKind;
use crate::controller::live::ChildKind;
use crate::controller::status::{self, Due, due};
use crate::controller::table::TableFound;
use crate::controller::validate::Identity;
use crate::events::{drift, table_news, transitions};
use crate::observations::Published;

/// Until the next look at a resource of which nothing was heard.
const SETTLED: Duration = Duration::from_secs(300);
/// The same while something about it is expected to change.
const UNSETTLED: Duration = Duration::from_secs(15);
/// The same while somebody else has to do something about it.
const REFUSED: Duration = Duration::from_secs(30);
/// While children of an earlier resource of the name are being collected.
const LEFTOVER: Duration = Duration::from_secs(2);
/// Where no spec was in force yet.
const INTERVAL: Duration = Duration::from_secs(60);

impl Pass<'_> {
    #[allow(
        clippy::too_many_arguments,
        reason = "private; each is what one step found"
    )]
    pub(super) async fn tell<S: SinkKind>(
        &mut self,
        identity: &Identity,
        generation: Option<i64>,
        before: &SinkStatus,
        paused: bool,
        frozen: bool,
        outcome: Outcome,
        table: Option<TableFound>,
        report: &Report,
    ) -> Result<Action, ReconcileError> {
        let shared = &self.context.shared;
        let deployment = self.deployment(identity, frozen);
        let autoscaler = self.live(identity, ChildKind::HorizontalPodAutoscaler);
        let autoscaler = autoscaler.and_then(|live| live.autoscaler);
        let seen = shared.observations.seen(self.key, &identity.uid);
        self.memory.since = self.memory.since.then(&seen, deployment.as_ref(), self.now);
        let word = seen.commit.as_ref().and_then(|said| said.table.as_ref());
        let table = table.map(|found| found.with(word));
        let (status, findings) = status::compute(&status::Known {
            identity,
            generation,
            before,
            verdict: match &outcome {
                Outcome::InForce(checked)
                | Outcome::Waiting(checked, _)
                | Outcome::Held(checked) => Ok(checked.as_ref()),
                Outcome::Refused(finding) => Err(finding),
            },
            waiting: match &outcome {
                Outcome::Waiting(_, why) => Some(why),
                _ => None,
            },
            held: matches!(outcome, Outcome::Held(_)),
            paused,
            reconciliation_paused: frozen,
            deployment: deployment.as_ref(),
            autoscaler: autoscaler.as_deref(),
            partitions: self.memory.partitions,
            seen: &seen,
            table: table.as_ref().map(|table| &table.finding),
            table_status: table.as_ref().and_then(|table| table.status.as_ref()),
            since: self.memory.since,
            interval: self.memory.interval.unwrap_or(INTERVAL),
            now: self.now,
        });
        let ready = findings.first().map(Finding::state);
        let none_asked_for = [NOT_READY_PAUSED.reason, SCALED_TO_ZERO.reason];
        shared.observations.publish(
            self.key,
            &identity.uid,
            Published {
                ready: match ready {
                    Some(State::True) => Some(true),
                    Some(State::False) => Some(false),
                    _ => None,
                },
                paused: findings
                    .first()
                    .map(|ready| none_asked_for.contains(&ready.reason())),
                last_commit: status
                    .commit
                    .as_ref()
                    .and_then(|commit| Some(commit.last_commit_time.as_ref()?.0)),
                interval: self.memory.interval,
            },
        );
        let written = self.write::<S>(identity, before, status).await?;
        let mut notices = match written {
            // Told with the status that shows it.
            Due::In(_) => Vec::new(),
            Due::Now | Due::Never => transitions(&before.conditions, &findings),
        };
        notices.extend(drift(&report.drift));
        let news = shared.catalogs.news(self.key, &identity.uid);
        notices.extend(news.iter().map(table_news));
        let about = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(S::KIND.to_owned()),
            namespace: Some(identity.namespace.clone()),
            name: Some(identity.name.clone()),
            uid: Some(identity.uid.clone()),
            ..ObjectReference::default()
        };
        shared.events.tell(&about, notices).await;
        let settled = ready == Some(State::True) && self.memory.since.behind.is_none();
        let pause = match &outcome {
            Outcome::Waiting(..) => LEFTOVER,
            Outcome::Refused(_) | Outcome::Held(_) => REFUSED,
            _ if settled => SETTLED,
            _ => UNSETTLED,
        };
        let table_due = table.as_ref().and_then(|table| table.again);
        let pause = table_due.map_or(pause, |due| pause.min(due.max(LEFTOVER)));
        Ok(match written {
            Due::In(wait) => again(wait.min(pause)),
            _ => again(pause),
        })
    }

    async fn write<S: SinkKind>(
        &mut self,
        identity: &Identity,
        before: &SinkStatus,
        status: SinkStatus,
    ) -> Result<Due, ReconcileError> {
        let shared = &self.context.shared;
        let due = due(before, &status, self.memory.written_at, self.now);
        if due == Due::Now {
            match status::write::<S>(&shared.client, identity, &status).await {
                Ok(()) => {}
                // Deleted meanwhile: there is nobody to tell.
                Err(kube::Error::Api(gone)) if gone.is_not_found() => return Ok(Due::Never),
                Err(error) => return Err(ReconcileError::Status(error)),
            }
            shared.metrics.wrote(S::KIND, "status");
            self.memory.written = Some(status);
            self.memory.written_at = Some(self.now);
        }
        Ok(due)
    }
}
