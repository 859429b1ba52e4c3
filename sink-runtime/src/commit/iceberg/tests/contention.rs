//! Several owners, rightful and not.

use super::*;
use crate::catalog::faulty::foreign;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_committers_in_twenty_rounds_lose_nothing() {
    let lab = Lab::new();
    lab.opened().await;
    let writers = (0..8).map(|partition| {
        let mut committer = lab.committer_with(400);
        tokio::spawn(async move {
            let opened = committer.open(&plan(), &columns(&["id"])).await.unwrap();
            let mut expected = None;
            for round in 1..=20 {
                let wish = commit_of(&opened, partition, expected, round * 10);
                committer.commit(&wish).await.unwrap();
                expected = Some(round * 10);
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    let mut wanted: Vec<String> = (0..8)
        .flat_map(|p| (0..20).map(move |r| format!("{p}+{}-{}.parquet", r * 10, r * 10 + 10)))
        .collect();
    wanted.sort();
    assert_eq!(lab.visible().await, wanted);
    assert_eq!(
        lab.ledger().await.next,
        offsets(&[0, 1, 2, 3, 4, 5, 6, 7].map(|p| (p, 200)))
    );
    let summary = lab.metadata().await;
    let total = &summary
        .current_snapshot()
        .unwrap()
        .summary()
        .additional_properties["total-records"];
    assert_eq!(total, "1600");
}

// T7
#[tokio::test]
async fn a_stale_owner_is_fenced_and_told_where_the_partition_stands() {
    let lab = Lab::new();
    let (mut rightful, opened) = lab.opened().await;
    let (mut stale, _) = lab.opened().await;
    rightful
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let refused = stale
        .commit(&commit_of(&opened, 0, None, 5))
        .await
        .unwrap_err();
    assert!(!refused.maybe_applied);
    let IcebergFailure::Fenced { found } = refused.failure else {
        panic!("{refused:?}");
    };
    assert_eq!(found, [(tp(0), Some(Offset(10)))].into());
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

#[tokio::test]
async fn of_two_owners_of_one_partition_one_wins_even_when_they_meet_in_the_catalog() {
    let lab = Lab::new();
    let (mut quick, opened) = lab.opened().await;
    let theirs = commit_of(&opened, 0, None, 10);
    let faulty = FaultyTable::new(
        lab.memory.clone(),
        [Step::default().before(|_| async move {
            quick.commit(&theirs).await.unwrap();
        })],
    );
    let mut slow = IcebergCommitter::new(Arc::new(faulty), &SinkId(SINK.into()), pace(5), clock);
    let refused = slow
        .commit(&commit_of(&opened, 0, None, 4))
        .await
        .unwrap_err();
    assert!(matches!(refused.failure, IcebergFailure::Fenced { .. }));
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

// T17
#[tokio::test]
async fn conflicts_and_refusals_for_now_are_retried_and_bounded() {
    let lab = Lab::with(vec![
        Step::outcome(Outcome::Conflict),
        Step::outcome(Outcome::Unavailable),
        Step::default().before(|table| async move {
            foreign::add_column(&*table, "theirs").await.unwrap();
        }),
    ]);
    let (mut committer, opened) = lab.opened().await;
    let done = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert_eq!(done.attempts, 4);
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);

    let lab = Lab::with((0..9).map(|_| Step::outcome(Outcome::Conflict)).collect());
    let (mut committer, opened) = lab.opened().await;
    let lost = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap_err();
    assert!(!lost.maybe_applied);
    assert!(matches!(
        lost.failure,
        IcebergFailure::Exhausted { attempts: 5, .. }
    ));
}

#[tokio::test]
async fn a_refused_commit_is_not_tried_again() {
    let lab = Lab::with(vec![Step::outcome(Outcome::Refused)]);
    let (mut committer, opened) = lab.opened().await;
    let refused = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap_err();
    assert!(matches!(
        refused.failure,
        IcebergFailure::Catalog { step: "commit", .. }
    ));
    assert!(lab.visible().await.is_empty());
}

#[tokio::test]
async fn sinks_that_share_a_table_keep_their_ledgers_apart() {
    let lab = Lab::new();
    let (mut ours, opened) = lab.opened().await;
    let mut theirs = IcebergCommitter::new(
        lab.table.clone(),
        &SinkId("other.sink".into()),
        pace(5),
        clock,
    );
    theirs.open(&plan(), &columns(&["id"])).await.unwrap();
    ours.commit(&commit_of(&opened, 0, None, 10)).await.unwrap();
    let mut foreign = commit_of(&opened, 0, None, 3);
    foreign.cluster_id = Some("another-cluster".into());
    theirs.commit(&foreign).await.unwrap();
    ours.commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    assert_eq!(lab.visible().await.len(), 3);
}

#[tokio::test]
async fn processes_that_create_the_table_together_end_up_with_one() {
    let lab = Lab::new();
    let opening = (0..8).map(|_| {
        let mut committer = lab.committer();
        async move { committer.open(&plan(), &columns(&["id"])).await.unwrap() }
    });
    let opened = futures::future::join_all(opening).await;
    assert_eq!(opened.iter().filter(|o| o.created).count(), 1);
    assert!(opened.iter().all(|o| o.uuid == opened[0].uuid));
}
