use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn waiting(reason: &str) -> Shown {
    Shown {
        state: State::Waiting {
            reason: reason.to_owned(),
            message: None,
        },
        last: None,
        restarts: 0,
        started: false,
        ready: false,
    }
}

fn ended(code: i32) -> Ended {
    Ended {
        code,
        signal: None,
        message: None,
        started: at(1),
        finished: at(2),
        pid: 7,
    }
}

fn over(code: i32) -> Shown {
    Shown {
        state: State::Ended(ended(code)),
        ..waiting("")
    }
}

fn running(ready: bool) -> Shown {
    Shown {
        state: State::Running {
            since: at(1),
            pid: 7,
        },
        started: true,
        ready,
        ..waiting("")
    }
}

fn crashed() -> Shown {
    Shown {
        last: Some(ended(1)),
        restarts: 3,
        ..waiting("CrashLoopBackOff")
    }
}

/// The status of a pod with an init container `i` and containers `a` and `b`.
fn of(i: Shown, a: Shown, b: Shown, stopped: bool, before: &[PodCondition], now: i64) -> PodStatus {
    let pod: Pod = serde_json::from_value(json!({"spec": {
        "initContainers": [{"name": "i", "image": "x"}],
        "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}],
    }}))
    .unwrap();
    let names = ["i", "a", "b"].map(str::to_owned);
    let shown = names.into_iter().zip([i, a, b]).collect();
    let facts = Facts {
        pod: &pod,
        shown: &shown,
        address: Ipv4Addr::new(127, 127, 0, 5),
        started: &at(0),
        over: stopped,
        prepared: true,
    };
    status(&facts, before, &at(now))
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
    let conditions = status.conditions.as_ref().unwrap();
    conditions.iter().find(|c| c.type_ == type_).unwrap()
}

#[test]
fn the_phase_follows_the_containers() {
    let creating = || waiting("ContainerCreating");
    for (i, a, b, stopped, expected) in [
        (creating(), creating(), creating(), false, "Pending"),
        (running(false), creating(), creating(), false, "Pending"),
        (crashed(), creating(), creating(), false, "Pending"),
        (over(1), creating(), creating(), false, "Failed"),
        (over(0), running(true), creating(), false, "Pending"),
        (over(0), running(true), running(false), false, "Running"),
        (over(0), running(true), crashed(), false, "Running"),
        (over(0), over(0), running(true), false, "Running"),
        (over(0), over(0), over(0), false, "Succeeded"),
        (over(0), over(0), over(2), false, "Failed"),
        (over(0), over(143), over(0), true, "Failed"),
        (over(0), over(0), creating(), true, "Failed"),
    ] {
        let described = format!("{i:?} {a:?} {b:?}");
        let status = of(i, a, b, stopped, &[], 1);
        assert_eq!(status.phase.as_deref(), Some(expected), "{described}");
    }
}

#[test]
fn a_pod_is_ready_when_all_its_containers_are() {
    let unready = of(over(0), running(true), running(false), false, &[], 1);
    let condition_of = |status| condition(status, "Ready").clone();
    assert_eq!(condition_of(&unready).status, "False");
    assert!(
        condition_of(&unready)
            .message
            .unwrap()
            .contains("status: b")
    );
    let ready = of(over(0), running(true), running(true), false, &[], 1);
    assert_eq!(condition_of(&ready).status, "True");
    assert_eq!(condition(&ready, "Initialized").status, "True");
    let done = of(over(0), over(0), over(0), false, &[], 1);
    assert_eq!(condition_of(&done).reason.as_deref(), Some("PodCompleted"));
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let first = of(over(0), running(true), running(false), false, &[], 10);
    let conditions = first.conditions.clone().unwrap();
    let second = of(
        over(0),
        running(true),
        running(true),
        false,
        &conditions,
        20,
    );
    let time = |status, type_| condition(status, type_).last_transition_time.clone();
    assert_eq!(time(&second, "Initialized"), Some(at(10)));
    assert_eq!(time(&second, "Ready"), Some(at(20)));
}

#[test]
fn a_restarted_container_tells_how_it_ended_before() {
    let status = of(over(0), crashed(), running(true), false, &[], 1);
    let containers = status.container_statuses.unwrap();
    assert_eq!(containers[0].restart_count, 3);
    let last = containers[0]
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(containers[1].container_id.as_deref(), Some("process://7"));
}
