//! How each condition is found. Pure.

use k8s_openapi::jiff::SignedDuration;
use tidewater_crds::CommitStatus;
use tidewater_runtime::errors::class;

use super::{Known, paused, valid};
use crate::conditions::{
    AUTOSCALER_LIMITED, AUTOSCALER_UNABLE, CAPPED_BY_PARTITIONS, COMMITS_NO_PODS,
    COMMITS_NOT_OBSERVED, CONNECTED, Concern, DESTINATION_NO_PODS, DESTINATION_NOT_OBSERVED,
    FAILING, Finding, IDLE, LARGE_METADATA, NOT_READY_PAUSED, PODS_NOT_READY, PROGRESSING,
    PROVISIONING, REACHABLE, READY, SCALED_TO_ZERO, SOURCE_NOT_OBSERVED, STALLED, STEADY, SYNCED,
    State, Transience, Trouble,
};

/// Commits may take this many intervals, and this much longer, before they count as stalled.
const INTERVALS: i32 = 3;
const MARGIN: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn all(known: &Known<'_>, commit: Option<&CommitStatus>) -> Vec<Finding> {
    let mut findings = vec![
        valid(known),
        source(known),
        destination(known),
        committing(known, commit),
        scaling(known),
        paused(known),
    ];
    findings.extend(known.table.map(|table| grown(known, table)));
    findings.insert(0, ready(known, &findings));
    findings
}

/// A table that is as it should be may have become too large.
fn grown(known: &Known<'_>, table: &Finding) -> Finding {
    let said = known.seen.commit.as_ref();
    match said.and_then(|said| said.large_metadata.as_deref()) {
        Some(large) if table.state() == State::True => LARGE_METADATA.because(large),
        // As it was found when the table was last looked at: it may have shrunk since.
        None if table.reason() == LARGE_METADATA.reason => SYNCED.found(),
        _ => table.clone(),
    }
}

/// Pods that there are to be.
pub(super) fn wanted(known: &Known<'_>) -> i32 {
    match (known.verdict, known.deployment) {
        (Ok(checked), _) if !known.reconciliation_paused && !known.held => checked.replicas.wanted,
        (_, Some(deployment)) => deployment.wanted,
        (Ok(checked), None) => checked.replicas.wanted,
        _ => 0,
    }
}

/// What stands in a pod's way, when it is about this. What the next try settles counts only where it goes on.
fn trouble(known: &Known<'_>, concern: Concern) -> Option<Finding> {
    let trouble = known.seen.commit.as_ref()?.trouble.as_ref()?;
    let settles = trouble.transience() == Transience::Settles && is_young(known);
    (trouble.concern() == concern && !settles).then(|| trouble.finding())
}

/// Whether what is in the pods' way may be over by the next commit.
fn is_young(known: &Known<'_>) -> bool {
    let patience = interval(known).saturating_add(MARGIN);
    let since = known.since.troubled;
    since.is_some_and(|since| known.now.duration_since(since) <= patience)
}

/// Whether what is in the pods' way is over without anybody's doing, and may be so by the next commit.
fn passes(known: &Known<'_>) -> bool {
    let said = known.seen.commit.as_ref();
    let trouble = said.and_then(|said| said.trouble.as_ref());
    is_young(known) && trouble.is_none_or(|trouble| trouble.transience() != Transience::Stays)
}

fn interval(known: &Known<'_>) -> SignedDuration {
    SignedDuration::try_from(known.interval).unwrap_or(SignedDuration::MAX)
}

/// Pods that told how they fare.
fn answered(known: &Known<'_>) -> u32 {
    let said = known.seen.commit.as_ref();
    said.map_or(0, |said| said.answered)
}

fn source(known: &Known<'_>) -> Finding {
    if let Some(trouble) = trouble(known, Concern::SourceReachable) {
        return trouble;
    }
    let said = known.seen.commit.as_ref();
    if let Some(said) = said.filter(|said| said.cut_off > 0) {
        let message = format!(
            "{} of {} pods are connected to no broker",
            said.cut_off, said.answered
        );
        return Trouble::new(class::BROKER_UNREACHABLE, message).finding();
    }
    match &known.seen.lag {
        None => SOURCE_NOT_OBSERVED.found(),
        Some(Ok(_)) => REACHABLE.found(),
        Some(Err(trouble)) => not_looked(known, trouble),
    }
}

/// The operator's own look failed. A network policy may keep it, and it alone, from the brokers; what they refuse it they
/// refuse the pods, unless these say otherwise.
fn not_looked(known: &Known<'_>, trouble: &Trouble) -> Finding {
    let finding = trouble.finding();
    let refused =
        finding.concern() == Concern::SourceReachable && trouble.transience() == Transience::Stays;
    match answered(known) {
        0 if refused => finding,
        0 => {
            SOURCE_NOT_OBSERVED.because(format!("the operator cannot look: {}", finding.message()))
        }
        _ => SOURCE_NOT_OBSERVED.because(format!(
            "no pod complains, and the operator cannot look: {}",
            finding.message()
        )),
    }
}

fn destination(known: &Known<'_>) -> Finding {
    if let Some(trouble) = trouble(known, Concern::DestinationReady) {
        return trouble;
    }
    if wanted(known) == 0 {
        return DESTINATION_NO_PODS.found();
    }
    match &known.seen.commit {
        Some(said) if said.answered > 0 && said.connected == said.answered => CONNECTED.found(),
        Some(said) if said.answered > 0 => DESTINATION_NOT_OBSERVED.because(format!(
            "{} of {} pods are connected",
            said.connected, said.answered
        )),
        _ => DESTINATION_NOT_OBSERVED.found(),
    }
}

fn committing(known: &Known<'_>, commit: Option<&CommitStatus>) -> Finding {
    if let Some(trouble) = trouble(known, Concern::Committing) {
        return trouble;
    }
    if wanted(known) == 0 {
        return COMMITS_NO_PODS.found();
    }
    let said = known.seen.commit.as_ref();
    if let Some(said) = said.filter(|said| said.consecutive_failures > 0) {
        let failed = match said.consecutive_failures {
            1 => "the last commit failed".to_owned(),
            n => format!("the last {n} commits failed"),
        };
        let why = said
            .trouble
            .as_ref()
            .map(|trouble| trouble.finding().message().to_owned());
        return FAILING.because(match why {
            Some(why) => format!("{failed}: {why}"),
            None => failed,
        });
    }
    let (records, age) = match &known.seen.lag {
        Some(Ok(lag)) => (lag.records, lag.seconds),
        _ => (None, None),
    };
    let last = commit
        .and_then(|commit| commit.last_commit_time.as_ref())
        .map(|time| time.0);
    let patience = interval(known)
        .checked_mul(INTERVALS)
        .unwrap_or(SignedDuration::MAX)
        .saturating_add(MARGIN);
    let recent = last.is_some_and(|last| known.now.duration_since(last) <= patience);
    match records {
        _ if recent => PROGRESSING.found(),
        Some(0) => IDLE.found(),
        // By the group's offsets, which follow the commits.
        Some(_) if age.is_some_and(|age| SignedDuration::from_secs(age) <= patience) => {
            PROGRESSING.because("what waits is young")
        }
        Some(records) if answered(known) == 0 => COMMITS_NOT_OBSERVED.because(format!(
            "about {} records wait, and no pod answers the operator",
            super::rounded(records)
        )),
        Some(records) => {
            // Nothing was due before records waited and a pod ran.
            let (Some(behind), Some(running)) = (known.since.behind, known.since.running) else {
                return COMMITS_NOT_OBSERVED.because("no pod is ready to commit yet");
            };
            let start = last.unwrap_or(behind).max(behind).max(running);
            if known.now.duration_since(start) <= patience {
                return PROGRESSING.because("records wait for the next commit");
            }
            let since = last.map_or("no commit so far".to_owned(), |last| {
                format!("last commit at {}", super::seconds(last))
            });
            STALLED.because(format!(
                "about {} records wait; {since}",
                super::rounded(records)
            ))
        }
        None if said.is_some() => COMMITS_NOT_OBSERVED.because("whether records wait is not known"),
        None => COMMITS_NOT_OBSERVED.found(),
    }
}

fn scaling(known: &Known<'_>) -> Finding {
    if known.paused {
        return STEADY.because("paused: no pods");
    }
    if let Ok(checked) = known.verdict
        && checked.replicas.wanted < checked.replicas.asked
    {
        let replicas = checked.replicas;
        let partitions = match replicas.partitions {
            Some(partitions) => format!("{partitions} partitions"),
            None => "fewer partitions, when last seen".to_owned(),
        };
        return CAPPED_BY_PARTITIONS.because(format!(
            "{} pods are asked for, and there are {partitions}: {} pods",
            replicas.asked, replicas.wanted
        ));
    }
    if let Some(autoscaler) = known.autoscaler {
        if let Some(why) = &autoscaler.unable {
            return AUTOSCALER_UNABLE.because(why.as_str());
        }
        if let Some(why) = &autoscaler.limited {
            return AUTOSCALER_LIMITED.because(why.as_str());
        }
    }
    STEADY.because(match wanted(known) {
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    })
}

/// The first that stands in the way.
fn ready(known: &Known<'_>, others: &[Finding]) -> Finding {
    let wrong = |concern: Concern| {
        others
            .iter()
            .find(|other| other.concern() == concern && other.state() == State::False)
            .map(Finding::not_ready)
    };
    if let Some(invalid) = wrong(Concern::ConfigValid) {
        return invalid;
    }
    if known.held
        && let Some(differs) = wrong(Concern::TableSynced)
    {
        return differs;
    }
    if let Some(why) = known.waiting {
        return PROVISIONING.because(why);
    }
    let wanted = wanted(known);
    if wanted == 0 {
        return if known.paused && !known.reconciliation_paused {
            NOT_READY_PAUSED.found()
        } else {
            SCALED_TO_ZERO.found()
        };
    }
    let lasts = |concern: Concern| wrong(concern).filter(|_| !passes(known));
    let cause = lasts(Concern::SourceReachable).or_else(|| lasts(Concern::DestinationReady));
    if let Some(cause) = cause.or_else(|| wrong(Concern::TableSynced)) {
        return cause;
    }
    if let Some(pods) = pods(known, wanted) {
        return pods;
    }
    // That nothing is committed for long is no trouble that passes.
    if let Some(cause) = wrong(Concern::Committing)
        && (cause.reason() == STALLED.reason || !passes(known))
    {
        return cause;
    }
    let ready = known.deployment.map_or(0, |deployment| deployment.ready);
    READY.because(format!("{ready} of {wanted} pods are ready"))
}

/// Why pods are not available, if so.
fn pods(known: &Known<'_>, wanted: i32) -> Option<Finding> {
    let Some(deployment) = known.deployment else {
        return Some(PROVISIONING.found());
    };
    let rolling = !deployment.observed || !deployment.rolled_out;
    let count = format!("{} of {wanted} pods are ready", deployment.ready);
    if let Some(failure) = &deployment.failure {
        if rolling || deployment.ready < wanted {
            return Some(PODS_NOT_READY.because(format!("{count}: {failure}")));
        }
    } else if rolling {
        return Some(PROVISIONING.because(count));
    }
    // As during a roll-out or a node's drain, one may be missing: the others take its partitions.
    (deployment.ready < (wanted - 1).max(1)).then(|| PODS_NOT_READY.because(count))
}
