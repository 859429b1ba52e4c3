#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

struct Bench {
    machine: Coordinator,
    now: Instant,
}

impl Bench {
    fn new(scope: CutScope) -> Self {
        Self {
            machine: Coordinator::new(scope, Duration::from_secs(10)),
            now: Instant::now(),
        }
    }

    fn on(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(input, self.now)
    }

    /// Assigns and recovers partitions, each with `next` 100.
    fn running(scope: CutScope, partitions: &[i32]) -> Self {
        let mut bench = Self::new(scope);
        let out = bench.on(Input::Assigned(partitions.iter().map(|p| tp(*p)).collect()));
        let [Output::Recover(asked)] = out.as_slice() else {
            panic!("{out:?}")
        };
        for (tp, epoch) in asked.clone() {
            let found = Recovered {
                start: Offset(100),
                expected: Some(Offset(100)),
            };
            let out = bench.on(Input::Recovered { tp, epoch, found });
            assert!(
                matches!(out.as_slice(), [Output::Run { seek: false, .. }]),
                "{out:?}"
            );
        }
        bench
    }
}

fn committed(partitions: &[(i32, i64)]) -> Settled {
    Settled::Committed(
        partitions
            .iter()
            .map(|(p, next)| (tp(*p), Offset(*next)))
            .collect(),
    )
}

#[test]
fn a_lane_is_in_one_cut_at_a_time_and_its_next_claim_expects_what_the_last_commit_left() {
    let mut bench = Bench::running(CutScope::Lane, &[0, 1]);
    let out = bench.on(Input::Due(vec![tp(0)]));
    assert!(
        matches!(out.as_slice(), [Output::Cut { cut: CutId(1), .. }]),
        "{out:?}"
    );
    assert_eq!(bench.on(Input::Due(vec![tp(0)])), vec![]);
    let out = bench.on(Input::Sealed(CutId(1)));
    assert_eq!(
        out,
        vec![Output::Commit {
            cut: CutId(1),
            expected: [(tp(0), Some(Offset(100)))].into_iter().collect()
        }]
    );
    let out = bench.on(Input::Settled(CutId(1), committed(&[(0, 150)])));
    assert_eq!(
        out,
        vec![Output::Acknowledge(
            [(tp(0), Offset(150))].into_iter().collect()
        )]
    );
    bench.on(Input::Due(vec![tp(0)]));
    let out = bench.on(Input::Sealed(CutId(2)));
    assert_eq!(
        out,
        vec![Output::Commit {
            cut: CutId(2),
            expected: [(tp(0), Some(Offset(150)))].into_iter().collect()
        }]
    );
}

#[test]
fn a_table_is_cut_whole_and_once_at_a_time() {
    let mut bench = Bench::running(CutScope::Together, &[0, 1, 2]);
    let out = bench.on(Input::Due(vec![tp(1)]));
    let [Output::Cut { lanes, .. }] = out.as_slice() else {
        panic!("{out:?}")
    };
    assert_eq!(lanes.len(), 3);
    assert_eq!(bench.on(Input::Due(vec![tp(2)])), vec![]);
}

#[test]
fn a_revocation_is_answered_once_after_the_commit_of_what_was_written_after_the_running_cut() {
    let mut bench = Bench::running(CutScope::Lane, &[0, 1]);
    bench.on(Input::Due(vec![tp(0)]));
    let out = bench.on(Input::Revoked(vec![tp(0), tp(1)]));
    assert!(
        matches!(out.as_slice(), [Output::Cut { cut: CutId(2), .. }]),
        "only lane 1 is free: {out:?}"
    );
    bench.on(Input::Sealed(CutId(1)));
    let out = bench.on(Input::Settled(CutId(1), committed(&[(0, 120)])));
    assert!(
        matches!(
            out.as_slice(),
            [Output::Acknowledge(_), Output::Cut { cut: CutId(3), .. }]
        ),
        "{out:?}"
    );
    bench.on(Input::Settled(CutId(2), committed(&[(1, 130)])));
    let out = bench.on(Input::Settled(CutId(3), committed(&[(0, 140)])));
    assert_eq!(
        out.last(),
        Some(&Output::Release(vec![tp(0), tp(1)])),
        "{out:?}"
    );
    assert_eq!(bench.machine.lanes().count(), 0);
}

#[test]
fn a_revocation_past_its_deadline_drops_the_work_and_is_answered() {
    let mut bench = Bench::running(CutScope::Lane, &[0]);
    bench.on(Input::Revoked(vec![tp(0)]));
    bench.now += Duration::from_secs(11);
    let out = bench.on(Input::Tick);
    assert_eq!(
        out,
        vec![Output::Discard(vec![tp(0)]), Output::Release(vec![tp(0)])]
    );
    assert_eq!(
        bench.on(Input::Settled(CutId(1), committed(&[(0, 140)]))),
        vec![],
        "a late reply changes nothing"
    );
}

#[test]
fn a_revocation_before_recovery_is_answered_at_once() {
    let mut bench = Bench::new(CutScope::Lane);
    bench.on(Input::Assigned(vec![tp(0)]));
    assert_eq!(
        bench.on(Input::Revoked(vec![tp(0)])),
        vec![Output::Release(vec![tp(0)])]
    );
}

#[test]
fn a_fenced_lane_is_dropped_and_read_again_under_a_new_epoch() {
    let mut bench = Bench::running(CutScope::Lane, &[0]);
    bench.on(Input::Due(vec![tp(0)]));
    bench.on(Input::Sealed(CutId(1)));
    let out = bench.on(Input::Settled(CutId(1), Settled::Reread));
    let [Output::Discard(_), Output::Recover(asked)] = out.as_slice() else {
        panic!("{out:?}")
    };
    let (tp, epoch) = asked[0].clone();
    assert!(epoch > AssignmentEpoch(1));
    let found = Recovered {
        start: Offset(150),
        expected: Some(Offset(150)),
    };
    let out = bench.on(Input::Recovered { tp, epoch, found });
    assert!(
        matches!(out.as_slice(), [Output::Run { seek: true, .. }]),
        "{out:?}"
    );
}

#[test]
fn a_fenced_lane_that_is_leaving_is_released_without_another_read() {
    let mut bench = Bench::running(CutScope::Lane, &[0]);
    bench.on(Input::Revoked(vec![tp(0)]));
    let out = bench.on(Input::Settled(CutId(1), Settled::Reread));
    assert_eq!(
        out,
        vec![Output::Discard(vec![tp(0)]), Output::Release(vec![tp(0)])]
    );
}

#[test]
fn a_lost_lane_is_dropped_and_its_running_commit_changes_nothing() {
    let mut bench = Bench::running(CutScope::Lane, &[0, 1]);
    bench.on(Input::Due(vec![tp(0)]));
    bench.on(Input::Sealed(CutId(1)));
    assert_eq!(
        bench.on(Input::Lost(vec![tp(0)])),
        vec![Output::Discard(vec![tp(0)])]
    );
    bench.on(Input::Assigned(vec![tp(0)]));
    let out = bench.on(Input::Settled(CutId(1), committed(&[(0, 110)])));
    assert_eq!(
        bench
            .machine
            .lanes()
            .find(|(at, ..)| **at == tp(0))
            .unwrap()
            .1,
        None,
        "{out:?}"
    );
}

#[test]
fn a_lane_lost_before_its_cut_is_sealed_takes_the_cut_with_it() {
    let mut bench = Bench::running(CutScope::Lane, &[0]);
    bench.on(Input::Due(vec![tp(0)]));
    bench.on(Input::Lost(vec![tp(0)]));
    assert_eq!(
        bench.on(Input::Sealed(CutId(1))),
        vec![Output::Abandon(CutId(1))]
    );
}

#[test]
fn rows_of_a_lost_lane_in_a_tables_files_never_go_without_its_claim() {
    let mut bench = Bench::running(CutScope::Together, &[0, 1]);
    bench.on(Input::Due(vec![tp(0)]));
    let out = bench.on(Input::Lost(vec![tp(0)]));
    let [
        Output::Discard(gone),
        Output::Discard(others),
        Output::Recover(again),
    ] = out.as_slice()
    else {
        panic!("{out:?}")
    };
    assert_eq!((gone, others, again.len()), (&vec![tp(0)], &vec![tp(1)], 1));
    assert_eq!(
        bench.on(Input::Sealed(CutId(1))),
        vec![Output::Abandon(CutId(1))]
    );
}

#[test]
fn a_recovery_of_an_older_epoch_is_ignored() {
    let mut bench = Bench::new(CutScope::Lane);
    let out = bench.on(Input::Assigned(vec![tp(0)]));
    let [Output::Recover(first)] = out.as_slice() else {
        panic!("{out:?}")
    };
    let epoch = first[0].1;
    bench.on(Input::Lost(vec![tp(0)]));
    bench.on(Input::Assigned(vec![tp(0)]));
    let found = Recovered {
        start: Offset(0),
        expected: None,
    };
    assert_eq!(
        bench.on(Input::Recovered {
            tp: tp(0),
            epoch,
            found
        }),
        vec![]
    );
}
