#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tidewater_crds::KafkaS3Sink;
use tidewater_runtime::errors::class;
use tidewater_runtime::plan::Property;

use super::*;
use crate::conditions::{
    CATALOG_UNREACHABLE, Concern, DIFFERS, GROUP_CONFLICT, LARGE_METADATA, SYNCED, Trouble,
};
use crate::controller::fixtures;
use crate::controller::validate::{self, References};
use crate::lag::Lag;
use crate::pods::CommitState;

#[path = "tests/reasons.rs"]
mod reasons;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A sink as it runs: 3 pods, 8 partitions, commits every 60 s, at second 10 000.
struct World {
    checked: Checked,
    verdict: Option<Finding>,
    before: SinkStatus,
    paused: bool,
    reconciliation_paused: bool,
    waiting: Option<&'static str>,
    held: bool,
    table: Option<Finding>,
    deployment: Option<DeploymentFacts>,
    autoscaler: Option<AutoscalerFacts>,
    seen: Seen,
    since: Since,
    now: Timestamp,
}

fn checked(patch: &serde_json::Value) -> Checked {
    let sink: KafkaS3Sink = fixtures::changed(&fixtures::sink(), patch);
    let known = validate::Known {
        secrets: &std::collections::BTreeMap::new(),
        claims: &[],
        partitions: Some(8),
        deployment: None,
        runtime: None,
        scaling: None,
        image: "runtime:1",
    };
    validate::validate(
        &sink,
        &References::of(&sink),
        &KafkaS3Sink::schema(),
        &known,
    )
    .unwrap()
}

fn world() -> World {
    World {
        checked: checked(&json!({"replicas": 3})),
        verdict: None,
        before: SinkStatus::default(),
        paused: false,
        reconciliation_paused: false,
        waiting: None,
        held: false,
        table: None,
        deployment: Some(DeploymentFacts {
            wanted: 3,
            observed: true,
            replicas: 3,
            updated: 3,
            ready: 3,
            rolled_out: true,
            ..DeploymentFacts::default()
        }),
        autoscaler: None,
        seen: Seen {
            lag: Some(Ok(lag(1234))),
            lag_at: Some(at(9_995)),
            commit: Some(CommitState {
                answered: 3,
                connected: 3,
                last_commit_time: Some(at(9990)),
                last_commit_id: Some("c".into()),
                ..CommitState::default()
            }),
        },
        since: Since {
            behind: Some(at(1000)),
            running: Some(at(900)),
            troubled: None,
        },
        now: at(10_000),
    }
}

fn lag(records: i64) -> Lag {
    Lag {
        records: Some(records),
        partitions: Some(8),
        ..Lag::default()
    }
}

impl World {
    fn large_metadata(&mut self, word: Option<&str>) {
        let said = self.seen.commit.get_or_insert_default();
        said.large_metadata = word.map(str::to_owned);
    }

    fn status(&self) -> SinkStatus {
        self.both().0
    }

    fn both(&self) -> (SinkStatus, Vec<Finding>) {
        compute(&Known {
            identity: &self.checked.identity,
            generation: Some(3),
            before: &self.before,
            verdict: match &self.verdict {
                None => Ok(&self.checked),
                Some(finding) => Err(finding),
            },
            waiting: self.waiting,
            held: self.held,
            paused: self.paused,
            reconciliation_paused: self.reconciliation_paused,
            deployment: self.deployment.as_ref(),
            autoscaler: self.autoscaler.as_ref(),
            partitions: Some(12),
            seen: &self.seen,
            table: self.table.as_ref(),
            table_status: None,
            since: self.since,
            interval: Duration::from_secs(60),
            now: self.now,
        })
    }

    fn of(&self, concern: Concern) -> (&'static str, &'static str) {
        let (_, findings) = self.both();
        let finding = findings
            .iter()
            .find(|finding| finding.concern() == concern)
            .unwrap();
        (finding.state().name(), finding.reason())
    }

    fn ready(&self) -> (&'static str, &'static str) {
        self.of(Concern::Ready)
    }

    fn commit(&mut self) -> &mut CommitState {
        self.seen.commit.as_mut().unwrap()
    }

    fn deployment(&mut self) -> &mut DeploymentFacts {
        self.deployment.as_mut().unwrap()
    }
}

#[test]
fn a_sink_at_work_is_ready_and_tells_its_numbers() {
    let status = world().status();
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!((status.replicas, status.ready_replicas), (3, Some(3)));
    assert_eq!(status.observed_generation, Some(3));
    let names: Vec<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    let expected = [
        "Ready",
        "ConfigValid",
        "SourceReachable",
        "DestinationReady",
        "Committing",
        "Scaling",
        "Paused",
    ];
    assert_eq!(names, expected);
    assert!(
        status
            .conditions
            .iter()
            .all(|c| c.observed_generation == Some(3))
    );
    assert_eq!(status.lag.unwrap().records, Some(1200));
    assert_eq!(
        status.commit.unwrap().last_commit_time,
        Some(Time(at(9990)))
    );
    assert_eq!(status.runtime.unwrap().image.as_deref(), Some("runtime:1"));
}

#[test]
fn the_selector_is_there_from_the_first_status_on_and_at_zero() {
    let mut world = world();
    world.deployment = None;
    world.seen = Seen::default();
    world.verdict = Some(GROUP_CONFLICT.found());
    let selector = world.status().selector.unwrap();
    assert_eq!(
        selector,
        "app.kubernetes.io/instance=orders-ks3,app.kubernetes.io/name=tidewater"
    );
    let (status, _) = world.both();
    assert_eq!(status.replicas, 0);
    assert_eq!(status.phase, Some(Phase::Failed));
}

#[test]
fn ready_never_comes_before_the_pods() {
    let mut world = world();
    world.deployment = None;
    assert_eq!(world.ready(), ("False", "Provisioning"));
    assert_eq!(world.status().phase, Some(Phase::Pending));
    world.deployment = Some(DeploymentFacts {
        wanted: 3,
        observed: true,
        ..DeploymentFacts::default()
    });
    assert_eq!(world.ready(), ("False", "Provisioning"));
    assert_eq!(world.status().phase, Some(Phase::Provisioning));
    // Its controller has not seen the last change: what it says is of the spec before.
    let mut stale = self::world();
    stale.deployment().observed = false;
    assert_eq!(stale.ready(), ("False", "Provisioning"));
    stale.deployment().failure = Some("quota exceeded".into());
    assert_eq!(stale.ready(), ("False", "PodsNotReady"));
}

#[test]
fn one_pod_of_several_may_be_missing() {
    let mut world = world();
    for (ready, expected) in [
        (3, "Ready"),
        (2, "Ready"),
        (1, "PodsNotReady"),
        (0, "PodsNotReady"),
    ] {
        world.deployment().ready = ready;
        assert_eq!(world.ready().1, expected, "{ready}");
    }
    world.checked = checked(&json!({"replicas": 1}));
    assert_eq!(world.ready().1, "PodsNotReady");
}

#[test]
fn commits_that_fail_or_stall_are_not_ready_though_pods_are() {
    let mut world = world();
    world.commit().consecutive_failures = 2;
    world.commit().trouble = Some(Trouble::new(
        class::STORE_UNAVAILABLE,
        "put \"a\": timed out",
    ));
    world.since.troubled = Some(at(10_000 - 91));
    assert_eq!(world.of(Concern::Committing), ("False", "Failing"));
    assert_eq!(world.ready(), ("False", "StoreUnavailable"));
    assert_eq!(world.status().phase, Some(Phase::Degraded));

    let mut stalled = self::world();
    stalled.commit().last_commit_time = Some(at(10_000 - 211));
    assert_eq!(stalled.of(Concern::Committing), ("False", "Stalled"));
    assert_eq!(stalled.ready(), ("False", "Stalled"));
    stalled.commit().last_commit_time = Some(at(10_000 - 209));
    assert_eq!(stalled.ready(), ("True", "Ready"));
}

#[test]
fn a_sink_with_nothing_to_do_is_ready() {
    let mut world = world();
    world.commit().last_commit_time = Some(at(100));
    world.seen.lag = Some(Ok(lag(0)));
    assert_eq!(world.of(Concern::Committing), ("True", "Idle"));
    assert_eq!(world.ready(), ("True", "Ready"));
    // The first record after a quiet hour is no stall.
    world.seen.lag = Some(Ok(lag(1)));
    world.since.behind = Some(at(9_900));
    assert_eq!(world.of(Concern::Committing), ("True", "Progressing"));
    // Nor is a backlog from before the pods ran.
    world.since = Since {
        behind: Some(at(100)),
        running: Some(at(9_900)),
        troubled: None,
    };
    assert_eq!(world.of(Concern::Committing), ("True", "Progressing"));
}

#[test]
fn what_is_unknown_is_absent_and_never_zero() {
    let mut world = world();
    for look in [
        None,
        Some(Ok(Lag::default())),
        Some(Err(Trouble::new(
            class::BROKER_UNREACHABLE,
            "no broker answers",
        ))),
    ] {
        world.seen.lag = look;
        assert_eq!(world.status().lag, None);
    }
    world.seen = Seen::default();
    assert_eq!(
        world.of(Concern::SourceReachable),
        ("Unknown", "NotObserved")
    );
    assert_eq!(
        world.of(Concern::DestinationReady),
        ("Unknown", "NotObserved")
    );
    assert_eq!(world.of(Concern::Committing), ("Unknown", "NotObserved"));
}

/// A network policy may keep the operator, and it alone, from the brokers.
#[test]
fn what_the_operator_cannot_reach_the_pods_may_and_their_word_counts() {
    let source = |world: &World| world.of(Concern::SourceReachable);
    for (class, alone) in [
        (class::BROKER_UNREACHABLE, ("Unknown", "NotObserved")),
        // The brokers answered: they refuse whoever brings those credentials.
        (class::SOURCE_AUTH, ("False", "SourceAuthenticationFailed")),
        (class::TOPIC_MISSING, ("False", "TopicNotFound")),
    ] {
        let mut world = world();
        world.seen.lag = Some(Err(Trouble::new(class, "the operator's look")));
        assert_eq!(source(&world), ("Unknown", "NotObserved"), "{class:?}");
        assert_eq!(world.ready(), ("True", "Ready"), "{class:?}");
        world.seen.commit = None;
        assert_eq!(source(&world), alone, "{class:?}");
    }
    let mut world = world();
    world.commit().cut_off = 1;
    world.since.troubled = Some(at(9_980));
    assert_eq!(source(&world), ("False", "SourceUnreachable"));
    assert_eq!(
        world.ready(),
        ("True", "Ready"),
        "brokers are restarted now and then"
    );
    world.since.troubled = Some(at(9_900));
    assert_eq!(world.ready(), ("False", "SourceUnreachable"));
}

#[test]
fn pods_that_the_operator_cannot_ask_do_not_stall() {
    let mut world = world();
    world.before.commit = Some(CommitStatus {
        last_commit_time: Some(Time(at(9_000))),
        ..CommitStatus::default()
    });
    world.seen.commit = None;
    assert_eq!(world.of(Concern::Committing), ("Unknown", "NotObserved"));
    assert_eq!(world.ready(), ("True", "Ready"));
    // The group's offsets follow the commits.
    let aged = |seconds| Lag {
        seconds: Some(seconds),
        ..lag(1234)
    };
    world.seen.lag = Some(Ok(aged(70)));
    assert_eq!(world.of(Concern::Committing), ("True", "Progressing"));
    // Pods that answer and do not commit stall, unless what waits is young.
    let mut told = self::world();
    told.commit().last_commit_time = Some(at(9_000));
    told.seen.lag = Some(Ok(aged(211)));
    assert_eq!(told.of(Concern::Committing), ("False", "Stalled"));
    told.seen.lag = Some(Ok(aged(209)));
    assert_eq!(told.of(Concern::Committing), ("True", "Progressing"));
}

#[test]
fn what_passes_by_itself_turns_ready_when_it_lasts_and_what_settles_is_no_failure() {
    let with = |class, since: i64| {
        let mut world = world();
        world.commit().trouble = Some(Trouble::new(class, "said"));
        world.since.troubled = Some(at(10_000 - since));
        world
    };
    let destination = |world: &World| world.of(Concern::DestinationReady);
    for (class, reason) in [
        (class::STORE_UNAVAILABLE, "StoreUnavailable"),
        (class::CATALOG_UNAVAILABLE, "CatalogUnavailable"),
    ] {
        let young = with(class, 90);
        assert_eq!(destination(&young), ("False", reason));
        assert_eq!(young.ready(), ("True", "Ready"));
        assert_eq!(with(class, 91).ready(), ("False", reason));
    }
    for (class, reason) in [
        (class::STORE_CONFLICT, "StoreConflict"),
        (class::FILES_LOST, "StagedFilesLost"),
        (class::CATALOG_CONFLICT, "CatalogConflict"),
    ] {
        let young = with(class, 90);
        assert_eq!(destination(&young), ("True", "Connected"), "{reason}");
        assert_eq!(young.ready(), ("True", "Ready"), "{reason}");
        // Again and again, it is one.
        assert_eq!(with(class, 91).ready(), ("False", reason));
    }
    let fenced = with(class::FENCED, 5);
    assert_eq!(fenced.of(Concern::Committing), ("True", "Progressing"));
    // Somebody has to act, and at once.
    let denied = with(class::STORE_DENIED, 0);
    assert_eq!(denied.ready(), ("False", "StoreAccessDenied"));
}

#[test]
fn pause_beats_replicas_and_a_pause_of_reconciliation_is_another_thing() {
    let mut world = world();
    world.checked = checked(&json!({"replicas": 3, "paused": true}));
    world.paused = true;
    world.deployment().wanted = 0;
    assert_eq!(world.ready(), ("False", "Paused"));
    assert_eq!(world.of(Concern::Paused), ("True", "Paused"));
    assert_eq!(world.of(Concern::Committing), ("Unknown", "NoPods"));
    assert_eq!(world.status().phase, Some(Phase::Paused));

    let mut frozen = self::world();
    frozen.reconciliation_paused = true;
    assert_eq!(frozen.of(Concern::Paused), ("True", "ReconciliationPaused"));
    assert_eq!(frozen.ready(), ("True", "Ready"));
    frozen.before.runtime = None;
    assert_eq!(frozen.status().runtime, None);
}

#[test]
fn no_pods_asked_for_is_no_failure() {
    let mut world = world();
    world.checked = checked(&json!({"replicas": 0}));
    world.deployment().wanted = 0;
    world.deployment().ready = 0;
    assert_eq!(world.ready(), ("True", "ScaledToZero"));
    assert_eq!(world.status().phase, Some(Phase::Stopped));
    // Lag is told at zero pods too.
    assert!(world.status().lag.is_some());
}

#[test]
fn a_refused_spec_is_told_by_one_condition_and_keeps_what_runs() {
    let mut world = world();
    world.before.runtime = Some(RuntimeStatus {
        image: Some("runtime:0".into()),
        config_hash: Some("h".into()),
    });
    world.verdict = Some(GROUP_CONFLICT.because("orders is older"));
    let (status, findings) = world.both();
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.state() == State::False && finding.concern() != Concern::Paused)
        .map(|finding| (finding.concern(), finding.reason()))
        .collect();
    let expected = [
        (Concern::Ready, "ConsumerGroupConflict"),
        (Concern::ConfigValid, "ConsumerGroupConflict"),
    ];
    assert_eq!(wrong, expected);
    assert_eq!(status.runtime, world.before.runtime);
    assert_eq!(status.phase, Some(Phase::Degraded));
    assert_eq!(status.ready_replicas, Some(3));
}

#[test]
fn what_keeps_the_number_of_pods_from_what_is_asked_is_told() {
    let mut world = world();
    world.checked = checked(&json!({"replicas": 20}));
    world.deployment().wanted = 8;
    world.deployment().ready = 8;
    assert_eq!(world.of(Concern::Scaling), ("False", "CappedByPartitions"));
    assert_eq!(world.ready(), ("True", "Ready"));
    let mut world = self::world();
    world.autoscaler = Some(AutoscalerFacts {
        unable: None,
        limited: Some("the desired replica count is more than the maximum".into()),
    });
    assert_eq!(world.of(Concern::Scaling), ("True", "AutoscalerLimited"));
    world.autoscaler = Some(AutoscalerFacts {
        unable: Some("unable to get external metric".into()),
        limited: None,
    });
    assert_eq!(world.of(Concern::Scaling), ("False", "AutoscalerUnable"));
}

#[test]
fn a_second_look_at_a_settled_sink_asks_for_no_write() {
    let mut world = world();
    let first = world.status();
    // As the API server gives it back.
    world.before = serde_json::from_value(json!(first)).unwrap();
    world.now = at(10_500) + SignedDuration::from_millis(250);
    world.commit().last_commit_time = Some(at(9990) + SignedDuration::from_millis(700));
    world.seen.lag = Some(Ok(lag(0)));
    let idle = world.status();
    world.before = serde_json::from_value(json!(idle)).unwrap();
    for later in [20_000, 30_000] {
        world.now = at(later);
        let again = world.status();
        assert_eq!(
            due(&world.before, &again, Some(at(10_500)), world.now),
            Due::Never
        );
    }
}

#[test]
fn lag_is_written_now_and_then_and_conditions_within_a_second() {
    let mut world = world();
    world.before = world.status();
    let written = Some(at(10_000));
    world.seen.lag = Some(Ok(lag(5_000)));
    let changed = world.status();
    let due_at = |status: &SinkStatus, now| due(&world.before, status, written, at(now));
    assert_eq!(due_at(&changed, 10_004), Due::In(Duration::from_secs(6)));
    assert_eq!(due_at(&changed, 10_010), Due::Now);
    assert_eq!(due(&world.before, &changed, None, at(10_004)), Due::Now);
    let mut failing = self::world();
    failing.commit().consecutive_failures = 1;
    assert_eq!(due_at(&failing.status(), 10_001), Due::Now);
    let soon = Due::In(Duration::from_secs(1));
    for clock in [10_000, 9_000] {
        assert_eq!(due_at(&failing.status(), clock), soon);
    }
    // Within the rounding nothing changed.
    let mut same = self::world();
    same.before = world.before.clone();
    same.seen.lag = Some(Ok(lag(1_210)));
    assert_eq!(due_at(&same.status(), 10_001), Due::Never);
}

#[test]
fn what_was_committed_stays_true_when_the_pods_are_gone() {
    let mut world = world();
    world.before = world.status();
    world.seen.commit = None;
    let commit = world.status().commit.unwrap();
    assert_eq!(commit.last_commit_time, Some(Time(at(9990))));
    assert_eq!(commit.consecutive_failures, None);
    world.seen.commit = Some(CommitState {
        last_commit_time: Some(at(9000)),
        last_commit_id: Some("older".into()),
        ..CommitState::default()
    });
    let commit = world.status().commit.unwrap();
    assert_eq!(commit.last_commit_id.as_deref(), Some("c"));
}

#[test]
fn numbers_are_rounded_to_two_digits_and_never_to_zero() {
    for (n, expected) in [
        (0, 0),
        (1, 1),
        (99, 99),
        (100, 100),
        (104, 100),
        (105, 110),
        (1_249, 1_200),
        (1_250, 1_300),
        (9_999_999, 10_000_000),
        (i64::MAX, 9_200_000_000_000_000_000),
    ] {
        assert_eq!(rounded(n), expected, "{n}");
    }
}

#[test]
fn records_wait_since_they_were_first_seen_to_and_an_unknown_lag_ends_nothing() {
    let seen = |records: Option<i64>| Seen {
        lag: Some(Ok(Lag {
            records,
            ..Lag::default()
        })),
        ..Seen::default()
    };
    let behind = |since: Since, records, now| since.then(&seen(records), None, at(now)).behind;
    let start = Since::default();
    assert_eq!(behind(start, Some(0), 5), None);
    assert_eq!(behind(start, None, 5), None);
    let since = start.then(&seen(Some(3)), None, at(5));
    assert_eq!(since.behind, Some(at(5)));
    assert_eq!(behind(since, Some(9), 7), Some(at(5)));
    assert_eq!(behind(since, None, 7), Some(at(5)));
    assert_eq!(behind(since, Some(0), 7), None);
}

#[test]
fn brokers_whose_certificates_are_not_checked_are_told_of_for_as_long_as_that_lasts() {
    let mut world = world();
    let said = |world: &World| {
        let conditions = world.status().conditions;
        let valid = conditions
            .into_iter()
            .find(|one| one.type_ == "ConfigValid");
        valid.map(|valid| valid.message).unwrap_or_default()
    };
    assert!(!said(&world).contains("insecureSkipVerify"));
    let verification = "enable.ssl.certificate.verification".to_owned();
    let off = Property::Plain("false".to_owned());
    world.checked.source.connection.insert(verification, off);
    assert!(said(&world).contains("insecureSkipVerify"));
    assert_eq!(world.of(Concern::ConfigValid), ("True", "Valid"));
}

#[test]
fn a_table_that_differs_is_the_reason_and_what_runs_goes_on() {
    let mut world = world();
    world.before.runtime = Some(RuntimeStatus {
        image: Some("runtime:0".into()),
        config_hash: Some("old".into()),
    });
    world.held = true;
    world.table = Some(DIFFERS.because("table sales.orders: no"));
    assert_eq!(world.of(Concern::Ready), ("False", "Differs"));
    assert_eq!(world.of(Concern::ConfigValid), ("True", "Valid"));
    let status = world.status();
    assert_eq!(status.runtime, world.before.runtime);
    assert_eq!(status.phase, Some(Phase::Degraded));
    world.deployment = None;
    assert_eq!(world.of(Concern::Ready), ("False", "Differs"));
    assert_eq!(world.status().phase, Some(Phase::Failed));
}

#[test]
fn a_catalog_that_the_operator_cannot_look_at_makes_no_sink_unready() {
    let mut world = world();
    world.table = Some(CATALOG_UNREACHABLE.found());
    assert_eq!(world.of(Concern::Ready).0, "True");
    assert_eq!(world.of(Concern::TableSynced).0, "Unknown");
}

#[test]
fn a_table_whose_metadata_are_large_says_so_until_they_are_not() {
    let mut world = world();
    world.table = Some(SYNCED.found());
    assert_eq!(world.of(Concern::TableSynced), ("True", "Synced"));
    world.large_metadata(Some("12000 snapshots"));
    assert_eq!(world.of(Concern::TableSynced), ("True", "LargeMetadata"));
    assert_eq!(world.of(Concern::Ready).0, "True");
    // As it is remembered until the table is looked at again.
    world.table = Some(LARGE_METADATA.because("12000 snapshots"));
    world.large_metadata(None);
    assert_eq!(world.of(Concern::TableSynced), ("True", "Synced"));
    // What is wrong with the table comes first.
    world.large_metadata(Some("12000 snapshots"));
    world.table = Some(DIFFERS.found());
    assert_eq!(world.of(Concern::TableSynced), ("False", "Differs"));
}
