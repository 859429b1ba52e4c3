//! What is known of a resource → its status (pure), and writing it: only when it changed, after everything else.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::json;
use tidewater_crds::{
    API_VERSION, CommitStatus, LagStatus, Phase, RuntimeStatus, SinkStatus, TableStatus,
};

use super::kind::SinkKind;
use super::live::{AutoscalerFacts, DeploymentFacts};
use super::names;
use super::validate::{Checked, Identity};
use crate::conditions::{Finding, RUNNING, State, VALID, conditions};
use crate::conditions::{PAUSED, RECONCILIATION_PAUSED};
use crate::observations::Seen;

mod findings;

/// Owns the status.
pub const MANAGER: &str = "tidewater/status";

/// Between two writes that only bring lag and commits up to date.
const QUIET: SignedDuration = SignedDuration::from_secs(10);
/// Between two writes of one status whatever they bring.
const LEAST: SignedDuration = SignedDuration::from_secs(1);

/// Everything that a status tells of.
#[derive(Debug)]
pub struct Known<'a> {
    pub identity: &'a Identity,
    pub generation: Option<i64>,
    /// The status as it was.
    pub before: &'a SinkStatus,
    /// The spec that is in force now, or why none is.
    pub verdict: Result<&'a Checked, &'a Finding>,
    /// What has to pass before children can be made.
    pub waiting: Option<&'a str>,
    /// The children are as an earlier spec says: the table cannot become what this one says.
    pub held: bool,
    pub paused: bool,
    pub reconciliation_paused: bool,
    /// As it is now, seen by its controller or not.
    pub deployment: Option<&'a DeploymentFacts>,
    pub autoscaler: Option<&'a AutoscalerFacts>,
    /// Of the topics, when last seen.
    pub partitions: Option<u32>,
    pub seen: &'a Seen,
    /// How the table in the catalog was found, where somebody looks.
    pub table: Option<&'a Finding>,
    /// The table itself, where it was seen.
    pub table_status: Option<&'a TableStatus>,
    pub since: Since,
    /// Between two commits, by the spec that was last in force.
    pub interval: Duration,
    pub now: Timestamp,
}

/// Since when something holds without a break; `None` while it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Records wait.
    pub behind: Option<Timestamp>,
    /// A pod is ready.
    pub running: Option<Timestamp>,
    /// Something is in the pods' way.
    pub troubled: Option<Timestamp>,
}

impl Since {
    /// Brought up to date. An unknown lag ends nothing.
    pub fn then(self, seen: &Seen, deployment: Option<&DeploymentFacts>, now: Timestamp) -> Self {
        let records = match &seen.lag {
            Some(Ok(lag)) => lag.records,
            _ => None,
        };
        let behind = match records {
            Some(0) => None,
            Some(_) => self.behind.or(Some(now)),
            None => self.behind,
        };
        let runs = deployment.is_some_and(|deployment| deployment.ready > 0);
        let said = seen.commit.as_ref();
        let fails = said.is_some_and(|said| {
            said.trouble.is_some() || said.consecutive_failures > 0 || said.cut_off > 0
        });
        Self {
            behind,
            running: runs.then(|| self.running.unwrap_or(now)),
            troubled: fails.then(|| self.troubled.unwrap_or(now)),
        }
    }
}

/// The status, and what its conditions were made from.
pub fn compute(known: &Known<'_>) -> (SinkStatus, Vec<Finding>) {
    let lag = lag(known);
    let commit = commit(known);
    let findings = findings::all(known, commit.as_ref());
    let deployment = known.deployment;
    let status = SinkStatus {
        observed_generation: known.generation,
        phase: Some(phase(known, &findings)),
        replicas: deployment.map_or(0, |deployment| deployment.replicas),
        ready_replicas: Some(deployment.map_or(0, |deployment| deployment.ready)),
        partitions: known.partitions.and_then(|n| i32::try_from(n).ok()),
        selector: Some(names::selector_text(&known.identity.child)),
        conditions: conditions(
            &known.before.conditions,
            &findings,
            known.generation,
            seconds(known.now),
        ),
        lag,
        commit,
        table: known.table_status.or(known.before.table.as_ref()).cloned(),
        runtime: runtime(known),
    };
    (status, findings)
}

/// Who pauses what.
fn paused(known: &Known<'_>) -> Finding {
    match (known.reconciliation_paused, known.paused) {
        (true, _) => RECONCILIATION_PAUSED.found(),
        (false, true) => PAUSED.found(),
        (false, false) => RUNNING.found(),
    }
}

fn runtime(known: &Known<'_>) -> Option<RuntimeStatus> {
    match known.verdict {
        Ok(checked) if !known.reconciliation_paused && !known.held && known.waiting.is_none() => {
            Some(RuntimeStatus {
                image: Some(checked.image.clone()),
                config_hash: Some(checked.config.hash.clone()),
            })
        }
        _ => known.before.runtime.clone(),
    }
}

fn lag(known: &Known<'_>) -> Option<LagStatus> {
    let Some(Ok(lag)) = &known.seen.lag else {
        return None;
    };
    let before = known.before.lag.as_ref();
    let mut status = LagStatus {
        records: lag.records.map(rounded),
        unread: lag.unread.map(rounded),
        uncommitted: lag.uncommitted.map(rounded),
        seconds: lag.seconds.map(rounded),
        max_partition: lag.max_partition.map(rounded),
        observed_at: before.and_then(|before| before.observed_at.clone()),
    };
    let known_at_all = LagStatus {
        observed_at: None,
        ..status.clone()
    } != LagStatus::default();
    if Some(&status) != before || status.observed_at.is_none() {
        status.observed_at = Some(Time(seconds(known.now)));
    }
    known_at_all.then_some(status)
}

/// To two significant digits; what is not 0 stays so.
fn rounded(n: i64) -> i64 {
    let mut scale = 1;
    while n.unsigned_abs() / scale >= 100 {
        scale *= 10;
    }
    let scale = i64::try_from(scale).unwrap_or(i64::MAX);
    // Halves go up; no overflow, since the scale is 1 for small numbers and the quotient small for large ones.
    (n / scale + i64::from(n % scale >= scale - scale / 2 && scale > 1)).saturating_mul(scale)
}

/// What pods say. What happened stays true when they are gone.
fn commit(known: &Known<'_>) -> Option<CommitStatus> {
    let before = known.before.commit.clone().unwrap_or_default();
    let mut status = CommitStatus {
        last_commit_time: before.last_commit_time,
        last_commit_id: before.last_commit_id,
        snapshot_id: before.snapshot_id,
        ..CommitStatus::default()
    };
    if let Some(said) = &known.seen.commit {
        let newer = |at: &Timestamp| {
            status
                .last_commit_time
                .as_ref()
                .is_none_or(|before| seconds(*at) >= before.0)
        };
        if let Some(at) = said.last_commit_time.filter(newer) {
            status.last_commit_time = Some(Time(seconds(at)));
            status.last_commit_id = said.last_commit_id.clone().or(status.last_commit_id);
            status.snapshot_id = said.snapshot_id.or(status.snapshot_id);
        }
        status.committed_records = said.committed_records;
        status.files_in_flight = said.files_in_flight;
        status.consecutive_failures = Some(said.consecutive_failures);
    }
    (status != CommitStatus::default()).then_some(status)
}

/// Times in a status have no fractions: what is compared with one must not have any either.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn phase(known: &Known<'_>, findings: &[Finding]) -> Phase {
    let ready = findings
        .iter()
        .find(|finding| finding.concern() == crate::conditions::Concern::Ready);
    let (state, reason) = ready.map_or((State::Unknown, ""), |ready| {
        (ready.state(), ready.reason())
    });
    let pods = known.deployment.map_or(0, |deployment| deployment.ready);
    let wanted = findings::wanted(known);
    match reason {
        "Paused" => Phase::Paused,
        "ScaledToZero" => Phase::Stopped,
        "Provisioning" if known.deployment.is_none() => Phase::Pending,
        "Provisioning" => Phase::Provisioning,
        _ if state == State::True => Phase::Running,
        _ if (known.verdict.is_err() || known.held) && pods == 0 => Phase::Failed,
        _ if wanted == 0 => Phase::Stopped,
        _ => Phase::Degraded,
    }
}

/// When a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Never,
    Now,
    In(Duration),
}

/// `before` is what was last written or found, `written` when.
pub fn due(
    before: &SinkStatus,
    status: &SinkStatus,
    written: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    if before == status {
        return Due::Never;
    }
    let pause = if essence(before) == essence(status) {
        QUIET
    } else {
        LEAST
    };
    let waits = written.map(|written| pause - now.duration_since(written));
    match waits.filter(SignedDuration::is_positive) {
        // Not longer, whatever the clock did meanwhile.
        Some(waits) => Due::In(waits.min(pause).unsigned_abs()),
        None => Due::Now,
    }
}

/// A status without what changes all the time.
fn essence(status: &SinkStatus) -> SinkStatus {
    let condition = |condition: &Condition| Condition {
        message: String::new(),
        ..condition.clone()
    };
    SinkStatus {
        lag: None,
        commit: None,
        conditions: status.conditions.iter().map(condition).collect(),
        ..status.clone()
    }
}

/// Writes the status of the resource with that uid.
///
/// # Errors
/// Of the call.
pub async fn write<S: SinkKind>(
    client: &Client,
    identity: &Identity,
    status: &SinkStatus,
) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": S::KIND,
        "metadata": {"name": identity.name, "namespace": identity.namespace, "uid": identity.uid},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    untyped::<S>(client, identity)
        .patch_status(&identity.name, &params, &Patch::Apply(&body))
        .await?;
    Ok(())
}

/// Reads the status of a resource whose spec cannot be read; `None` where it has none, or none that can be read either.
///
/// # Errors
/// Of the call.
pub async fn read<S: SinkKind>(
    client: &Client,
    identity: &Identity,
) -> Result<Option<SinkStatus>, kube::Error> {
    let found = untyped::<S>(client, identity)
        .get_opt(&identity.name)
        .await?;
    let status = found.map(|found| found.data["status"].clone());
    Ok(status.and_then(|status| serde_json::from_value(status).ok()))
}

fn untyped<S: SinkKind>(client: &Client, identity: &Identity) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<S>(&());
    Api::namespaced_with(client.clone(), &identity.namespace, &kind)
}

/// The condition `ConfigValid` of a verdict.
fn valid(known: &Known<'_>) -> Finding {
    match known.verdict {
        Ok(_) if known.reconciliation_paused => {
            VALID.because("the spec is valid; while reconciliation is paused it takes no effect")
        }
        Ok(checked) if checked.source.trusts_anybody() => VALID.because(
            "the spec is in force; anybody can pose as the brokers, since spec.source.security.tls.insecureSkipVerify is true",
        ),
        Ok(_) => VALID.found(),
        Err(finding) => finding.clone(),
    }
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
