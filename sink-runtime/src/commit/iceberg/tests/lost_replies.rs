//! Answers that never come.

use super::*;
use crate::catalog::faulty::foreign;

// T2
#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_found_and_not_done_again() {
    let lab = Lab::with(vec![Step::outcome(Outcome::LostReply)]);
    let (mut committer, opened) = lab.opened().await;
    let done = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert!(done.already);
    assert_eq!(lab.metadata().await.snapshots().len(), 1);
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
    assert_eq!(done.ledger.next, offsets(&[(0, 10)]));
}

#[tokio::test]
async fn a_commit_whose_request_is_lost_is_done_once() {
    let lab = Lab::with(vec![
        Step::outcome(Outcome::LostRequest),
        Step::outcome(Outcome::Unavailable),
    ]);
    let (mut committer, opened) = lab.opened().await;
    let done = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert_eq!((done.already, done.attempts), (false, 3));
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

// T3
#[tokio::test]
async fn a_lost_reply_is_found_after_another_engine_compacted_and_expired_our_snapshot() {
    let lab = Lab::with(vec![Step::outcome(Outcome::LostReply).after(
        |table| async move {
            foreign::compact(&*table).await.unwrap();
            foreign::expire(&*table).await.unwrap();
        },
    )]);
    let (mut committer, opened) = lab.opened().await;
    let done = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert!(done.already);
    assert_eq!(done.snapshot_id, None);
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

#[tokio::test]
async fn a_lost_reply_is_found_after_another_pod_committed_and_our_snapshot_expired() {
    let lab = Lab::new();
    let (mut other, opened) = lab.opened().await;
    let theirs = commit_of(&opened, 1, None, 7);
    let faulty = FaultyTable::new(
        lab.memory.clone(),
        [Step::outcome(Outcome::LostReply).after(|table| async move {
            other.commit(&theirs).await.unwrap();
            foreign::expire(&*table).await.unwrap();
        })],
    );
    let mut committer =
        IcebergCommitter::new(Arc::new(faulty), &SinkId(SINK.into()), pace(5), clock);
    let done = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert!(done.already);
    assert_eq!(lab.visible().await, ["0+0-10.parquet", "1+0-7.parquet"]);
}

// T4
#[tokio::test]
async fn a_new_process_finds_the_commit_of_the_one_that_died_before_the_reply() {
    let lab = Lab::with(vec![Step::outcome(Outcome::LostReply)]);
    let mut dying = lab.committer_with(1);
    let opened = dying.open(&plan(), &columns(&["id"])).await.unwrap();
    let first = commit_of(&opened, 0, None, 10);
    dying.commit(&first).await.unwrap();

    let (mut successor, opened) = lab.opened().await;
    assert_eq!(opened.ledger.next, offsets(&[(0, 10)]));
    let mut again = first.clone();
    again.commit_id = CommitId::fresh();
    let refused = successor.commit(&again).await.unwrap_err();
    assert!(matches!(refused.failure, IcebergFailure::Fenced { .. }));
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

#[tokio::test]
async fn a_commit_that_stays_unanswered_is_reported_as_perhaps_applied() {
    let lab = Lab::with(
        (0..9)
            .map(|_| Step::outcome(Outcome::LostRequest))
            .collect(),
    );
    let (mut committer, opened) = lab.opened().await;
    let lost = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap_err();
    assert!(lost.maybe_applied);
    assert!(matches!(
        lost.failure,
        IcebergFailure::Exhausted { attempts: 5, .. }
    ));
}

#[tokio::test]
async fn the_last_attempt_too_is_looked_up_before_giving_up() {
    let lab = Lab::with(vec![Step::outcome(Outcome::LostReply)]);
    let mut committer = lab.committer_with(1);
    let opened = committer.open(&plan(), &columns(&["id"])).await.unwrap();
    let done = committer.commit(&commit_of(&opened, 0, None, 10)).await;
    assert!(done.unwrap().already);
}

#[derive(Debug, Default)]
struct Heard(parking_lot::Mutex<Vec<&'static str>>);

impl Hears for Heard {
    fn tried_again(&self, class: Class, why: &str) {
        assert!(why.starts_with("commit: "), "{why}");
        self.0.lock().push(class.reason);
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_told_while_it_is_tried_again() {
    let lab = Lab::with(vec![
        Step::outcome(Outcome::LostRequest),
        Step::outcome(Outcome::LostReply),
    ]);
    let (committer, opened) = lab.opened().await;
    let heard = Arc::new(Heard::default());
    let mut committer = committer.heard_by(heard.clone());
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert_eq!(
        *heard.0.lock(),
        ["CommitStateUnknown", "CommitStateUnknown"]
    );
}
