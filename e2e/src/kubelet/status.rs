//! A pod's status from what its containers do: pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::board::{Ended, Shown, State};

/// Everything the status depends on.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) pod: &'a Pod,
    pub(super) shown: &'a BTreeMap<String, Shown>,
    pub(super) address: Ipv4Addr,
    pub(super) started: &'a Time,
    /// All containers are stopped for good.
    pub(super) over: bool,
    /// Volumes are there: the containers may run.
    pub(super) prepared: bool,
}

/// The status now. Conditions that stand as in `before` keep their time.
pub(super) fn status(facts: &Facts<'_>, before: &[PodCondition], now: &Time) -> PodStatus {
    let phase = phase(facts);
    let spec = facts.pod.spec.clone().unwrap_or_default();
    let statuses = |containers: &[Container]| -> Vec<ContainerStatus> {
        let of = |c: &Container| Some(container_status(c, facts.shown.get(&c.name)?));
        containers.iter().filter_map(of).collect()
    };
    let initial = spec.init_containers.unwrap_or_default();
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(facts, phase, before, now)),
        host_ip: Some("127.0.0.1".to_owned()),
        host_ips: Some(vec![HostIP {
            ip: "127.0.0.1".to_owned(),
        }]),
        pod_ip: Some(facts.address.to_string()),
        pod_ips: Some(vec![PodIP {
            ip: facts.address.to_string(),
        }]),
        start_time: Some(facts.started.clone()),
        init_container_statuses: (!initial.is_empty()).then(|| statuses(&initial)),
        container_statuses: Some(statuses(&spec.containers)),
        ..PodStatus::default()
    }
}

fn phase(facts: &Facts<'_>) -> &'static str {
    let of = |containers: &[Container]| -> Vec<&Shown> {
        let names = containers.iter().map(|container| &container.name);
        names.filter_map(|name| facts.shown.get(name)).collect()
    };
    let spec = facts.pod.spec.as_ref();
    let initial = of(spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default());
    let main = of(spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default());
    // A container shows an end only when nobody will start it again.
    if initial
        .iter()
        .any(|shown| shown.has_ended() && !shown.ended_well())
    {
        return "Failed";
    }
    if facts.over || main.iter().all(|shown| shown.has_ended()) {
        let well = main.iter().all(|shown| shown.ended_well());
        return if well { "Succeeded" } else { "Failed" };
    }
    let before_start =
        |shown: &&Shown| matches!(shown.state, State::Waiting { .. }) && shown.last.is_none();
    if main.iter().any(before_start) {
        "Pending"
    } else {
        "Running"
    }
}

fn conditions(
    facts: &Facts<'_>,
    phase: &str,
    before: &[PodCondition],
    now: &Time,
) -> Vec<PodCondition> {
    let spec = facts.pod.spec.as_ref();
    let initial = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let main = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let lacking = |containers: &[Container], good: fn(&Shown) -> bool| -> Vec<String> {
        let bad = containers.iter().filter(|container| {
            facts
                .shown
                .get(&container.name)
                .is_none_or(|shown| !good(shown))
        });
        bad.map(|container| container.name.clone()).collect()
    };
    let unfinished = lacking(initial, Shown::ended_well);
    let unready = lacking(main, |shown| shown.ready);
    let initialized = if unfinished.is_empty() {
        None
    } else {
        let message = format!(
            "containers with incomplete status: {}",
            unfinished.join(", ")
        );
        Some(("ContainersNotInitialized", Some(message)))
    };
    let ready = if phase == "Succeeded" {
        Some(("PodCompleted", None))
    } else if phase == "Failed" {
        Some(("PodFailed", None))
    } else if unready.is_empty() {
        None
    } else {
        let message = format!("containers with unready status: {}", unready.join(", "));
        Some(("ContainersNotReady", Some(message)))
    };
    let sandbox = (!facts.prepared || facts.over).then_some(("NotPrepared", None));
    let wanted = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("ContainersReady", ready.clone()),
        ("Ready", ready),
    ];
    let make = |(type_, failure): (&str, Option<(&str, Option<String>)>)| {
        let status = if failure.is_none() { "True" } else { "False" };
        let same = before
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status);
        let (reason, message) = failure.unzip();
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message: message.flatten(),
            last_transition_time: same
                .and_then(|condition| condition.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
            ..PodCondition::default()
        }
    };
    wanted.into_iter().map(make).collect()
}

fn container_status(container: &Container, shown: &Shown) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let (state, pid) = match &shown.state {
        State::Waiting { reason, message } => {
            let waiting = ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: message.clone(),
            };
            let state = ContainerState {
                waiting: Some(waiting),
                ..ContainerState::default()
            };
            (state, shown.last.as_ref().map(|last| last.pid))
        }
        State::Running { since, pid } => {
            let running = ContainerStateRunning {
                started_at: Some(since.clone()),
            };
            let state = ContainerState {
                running: Some(running),
                ..ContainerState::default()
            };
            (state, Some(*pid))
        }
        State::Ended(ended) => (terminated(ended), Some(ended.pid)),
    };
    ContainerStatus {
        name: container.name.clone(),
        image_id: format!("process://{image}"),
        image,
        container_id: pid.map(container_id),
        ready: shown.ready,
        started: Some(shown.started),
        restart_count: i32::try_from(shown.restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: shown.last.as_ref().map(terminated),
        ..ContainerStatus::default()
    }
}

fn container_id(pid: u32) -> String {
    format!("process://{pid}")
}

fn terminated(ended: &Ended) -> ContainerState {
    let reason = if ended.code == 0 {
        "Completed"
    } else {
        "Error"
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(container_id(ended.pid)),
            exit_code: ended.code,
            signal: ended.signal,
            reason: Some(reason.to_owned()),
            message: ended.message.clone(),
            started_at: Some(ended.started.clone()),
            finished_at: Some(ended.finished.clone()),
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
