//! Tables and sources that begin anew.

use super::*;
use crate::catalog::faulty::foreign;
use crate::record::{Census, Counted};

/// Two commits, then `main` goes back to the first.
async fn rolled_back() -> (Lab, IcebergCommitter, Opened) {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let first = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    committer
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    foreign::roll_back(&*lab.memory, first.snapshot_id.unwrap())
        .await
        .unwrap();
    (lab, committer, opened)
}

// T29
#[tokio::test]
async fn a_rollback_stops_commits_and_opening() {
    let (lab, mut committer, opened) = rolled_back().await;
    let stopped = committer
        .commit(&commit_of(&opened, 0, Some(20), 30))
        .await
        .unwrap_err();
    let IcebergFailure::RolledBack { recorded, held, .. } = stopped.failure else {
        panic!("{stopped:?}");
    };
    assert_eq!(recorded, offsets(&[(0, 20)]));
    assert_eq!(held, Some(offsets(&[(0, 10)])));
    let reopened = lab.committer().open(&plan(), &columns(&["id"])).await;
    assert!(matches!(reopened, Err(IcebergFailure::RolledBack { .. })));
}

#[tokio::test]
async fn a_rollback_under_a_foreign_snapshot_is_seen_too() {
    let (lab, _, _) = rolled_back().await;
    foreign::compact(&*lab.memory).await.unwrap();
    let reopened = lab.committer().open(&plan(), &columns(&["id"])).await;
    assert!(matches!(reopened, Err(IcebergFailure::RolledBack { .. })));
}

#[tokio::test]
async fn after_a_rollback_reread_resumes_from_what_the_table_holds() {
    let (lab, _, _) = rolled_back().await;
    let mut committer = lab.committer();
    let opened = committer
        .open(&on_reset(OnDestinationReset::Reread), &columns(&["id"]))
        .await
        .unwrap();
    assert_eq!(opened.ledger.next, offsets(&[(0, 10)]));
    assert_eq!(opened.ledger.floor, offsets(&[(0, 10)]));
    assert!(matches!(opened.reset, Some(Reset::RolledBack { .. })));
    committer
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    assert_eq!(lab.visible().await, ["0+0-10.parquet", "0+10-20.parquet"]);
}

#[tokio::test]
async fn after_a_rollback_continue_leaves_the_hole_and_goes_on() {
    let (lab, _, _) = rolled_back().await;
    let mut committer = lab.committer();
    let opened = committer
        .open(&on_reset(OnDestinationReset::Continue), &columns(&["id"]))
        .await
        .unwrap();
    assert_eq!(opened.ledger.next, offsets(&[(0, 20)]));
    committer
        .commit(&commit_of(&opened, 0, Some(20), 30))
        .await
        .unwrap();
    assert_eq!(lab.visible().await, ["0+0-10.parquet", "0+20-30.parquet"]);
}

#[tokio::test]
async fn a_commit_that_was_rolled_back_and_reread_does_not_pass_for_committed() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let first = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let second = commit_of(&opened, 0, Some(10), 20);
    committer.commit(&second).await.unwrap();
    foreign::roll_back(&*lab.memory, first.snapshot_id.unwrap())
        .await
        .unwrap();
    lab.committer()
        .open(&on_reset(OnDestinationReset::Reread), &columns(&["id"]))
        .await
        .unwrap();
    let again = committer.commit(&second).await.unwrap();
    assert!(!again.already);
    assert_eq!(lab.visible().await, ["0+0-10.parquet", "0+10-20.parquet"]);
}

#[tokio::test]
async fn two_processes_that_settle_a_rollback_together_settle_it_once() {
    let (lab, _, _) = rolled_back().await;
    // All of them stand before the catalog with what they have decided, before the first is let in.
    let met = Arc::new(tokio::sync::Barrier::new(4));
    let script = (0..4).map(|_| {
        let met = Arc::clone(&met);
        Step::default().before(move |_| async move {
            met.wait().await;
        })
    });
    let lab = Lab {
        table: Arc::new(FaultyTable::new(lab.memory.clone(), script)),
        memory: lab.memory,
    };
    let changes = async || lab.metadata().await.metadata_log().len();
    let before = changes().await;
    let settle = (0..4).map(|_| {
        let mut committer = lab.committer();
        async move {
            committer
                .open(&on_reset(OnDestinationReset::Reread), &columns(&["id"]))
                .await
                .unwrap()
        }
    });
    let within = std::time::Duration::from_secs(60);
    let all = tokio::time::timeout(within, futures::future::join_all(settle)).await;
    for opened in all.expect("four at the catalog") {
        assert_eq!(opened.ledger.next, offsets(&[(0, 10)]));
    }
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
    assert_eq!(changes().await, before + 1, "settled more than once");
}

#[tokio::test]
async fn when_our_snapshots_are_compacted_and_expired_the_properties_rule() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    foreign::compact(&*lab.memory).await.unwrap();
    foreign::expire(&*lab.memory).await.unwrap();
    committer
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 20)]));
}

#[tokio::test]
async fn when_our_properties_are_removed_the_snapshots_rule() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let keys: Vec<String> = lab
        .metadata()
        .await
        .properties()
        .keys()
        .filter(|k| k.starts_with("tidewater."))
        .cloned()
        .collect();
    foreign::remove_properties(&*lab.memory, &keys)
        .await
        .unwrap();
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 10)]));
    let refused = committer
        .commit(&commit_of(&opened, 0, None, 5))
        .await
        .unwrap_err();
    assert!(matches!(refused.failure, IcebergFailure::Fenced { .. }));
}

// T10
#[tokio::test]
async fn a_dropped_table_stops_the_commit_and_is_not_quietly_recreated() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    lab.memory.forget();
    let lost = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap_err();
    assert!(matches!(lost.failure, IcebergFailure::TableMissing { .. }));
    let reopened = committer.open(&plan(), &columns(&["id"])).await;
    assert!(matches!(reopened, Err(IcebergFailure::TableMissing { .. })));
}

async fn recreated() -> (Lab, IcebergCommitter, Opened) {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    lab.memory.forget();
    lab.opened().await;
    (lab, committer, opened)
}

#[tokio::test]
async fn a_recreated_table_stops_the_commit_and_opening() {
    let (lab, mut committer, opened) = recreated().await;
    let stopped = committer
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap_err();
    assert!(matches!(
        stopped.failure,
        IcebergFailure::TableReplaced { .. }
    ));
    let reopened = committer.open(&plan(), &columns(&["id"])).await;
    assert!(matches!(
        reopened,
        Err(IcebergFailure::TableReplaced { .. })
    ));
    assert!(lab.visible().await.is_empty());
}

#[tokio::test]
async fn a_recreated_table_is_read_anew_or_continued_by_choice() {
    let (_lab, mut committer, _) = recreated().await;
    let opened = committer
        .open(&on_reset(OnDestinationReset::Reread), &columns(&["id"]))
        .await
        .unwrap();
    assert!(opened.ledger.next.is_empty());
    assert!(matches!(opened.reset, Some(Reset::Replaced { .. })));

    let (lab, mut committer, _) = recreated().await;
    let opened = committer
        .open(&on_reset(OnDestinationReset::Continue), &columns(&["id"]))
        .await
        .unwrap();
    assert_eq!(opened.ledger.next, offsets(&[(0, 10)]));
    committer
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    assert_eq!(lab.visible().await, ["0+10-20.parquet"]);
}

// T15
#[tokio::test]
async fn a_commit_from_another_kafka_cluster_is_stopped_until_the_restart_is_chosen() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let mut elsewhere = commit_of(&opened, 0, Some(10), 20);
    elsewhere.cluster_id = Some("cluster-2".into());
    let stopped = committer.commit(&elsewhere).await.unwrap_err();
    assert!(matches!(
        stopped.failure,
        IcebergFailure::SourceReset { .. }
    ));

    let mut restarts = Vec::new();
    let (ids, logs, said) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for _ in 0..2 {
        let restart = committer.restart_source(Some("cluster-2"), &ids, &logs, &said);
        restarts.push(restart.await.unwrap());
    }
    assert!(restarts.iter().all(|ledger| ledger.next.is_empty()));
    let ledger = &restarts[1];
    let mut anew = commit_of(&opened, 0, None, 3);
    anew.cluster_id = Some("cluster-2".into());
    let old = committer.commit(&anew).await.unwrap_err();
    let fenced = matches!(old.failure, IcebergFailure::Fenced { .. });
    assert!(fenced, "it was begun before the restart: {old:?}");
    anew.claims[0].generation = ledger.generation(&tp(0));
    committer.commit(&anew).await.unwrap();
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 3)]));
}

#[tokio::test]
async fn a_recreated_topic_restarts_without_touching_the_others() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let ids = |orders: &str| {
        BTreeMap::from([
            (TopicName::new("orders"), orders.to_owned()),
            (TopicName::new("refunds"), "r1".to_owned()),
        ])
    };
    let mut both = commit_of(&opened, 0, None, 10);
    both.topic_ids = ids("o1");
    both.claims.push(Claim {
        tp: TopicPartition::new("refunds", 0),
        ..claim(0, None, 0, 5)
    });
    committer.commit(&both).await.unwrap();
    let ledger = committer
        .restart_source(
            Some("cluster-1"),
            &ids("o2"),
            &BTreeMap::new(),
            &BTreeMap::new(),
        )
        .await
        .unwrap();
    assert_eq!(
        ledger.next,
        [(TopicPartition::new("refunds", 0), Offset(5))].into()
    );
    // Rows of the first commit are of an earlier topic, from the snapshot on that says so.
    let since = BTreeMap::from([(TopicName::new("orders"), 2)]);
    assert_eq!(ledger.topic_since, since);
    assert_eq!(lab.ledger().await.topic_since, since);
}

#[tokio::test]
async fn a_topic_that_ends_below_the_ledger_begins_anew_at_its_logs_start() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let mut both = commit_of(&opened, 0, None, 10);
    both.claims.push(claim(1, None, 0, 3));
    both.claims.push(claim(2, None, 0, 3));
    let refunds = TopicPartition::new("refunds", 0);
    both.claims.push(Claim {
        tp: refunds.clone(),
        ..claim(0, None, 0, 5)
    });
    committer.commit(&both).await.unwrap();
    let log = |start: i64, end: i64| OffsetRange {
        start: Offset(start),
        end: Offset(end),
    };
    // Partition 0 betrays the recreation; 1 ends above what is recorded of it; 2 is another owner's.
    let logs = [
        (tp(0), log(2, 4)),
        (tp(1), log(0, 9)),
        (refunds.clone(), log(0, 5)),
    ]
    .into();
    let before = lab.ledger().await;
    let said = [(tp(0), before.said(&tp(0)))].into();
    for _ in 0..2 {
        let ledger = committer
            .restart_source(Some("cluster-1"), &BTreeMap::new(), &logs, &said)
            .await
            .unwrap();
        let mut wanted = offsets(&[(0, 2), (1, 0)]);
        wanted.insert(refunds.clone(), Offset(5));
        assert_eq!(ledger.next, wanted);
    }
    let snapshots = lab.table.load().await.unwrap().metadata.snapshots().len();
    assert_eq!(snapshots, 2, "the second call found nothing to do");

    let mut anew = commit_of(&opened, 0, Some(2), 4);
    anew.claims[0].generation = 1;
    committer.commit(&anew).await.unwrap();
    // Of what was read of the old topic nothing goes in, also not where its offsets fit the new one.
    let mut grown = commit_of(&opened, 0, Some(4), 10);
    grown.claims[0].generation = 1;
    committer.commit(&grown).await.unwrap();
    // Nor does it begin anew once more for who found so before, and saw a shorter log.
    let late = committer
        .restart_source(Some("cluster-1"), &BTreeMap::new(), &logs, &said)
        .await;
    let fenced = matches!(late, Err(IcebergFailure::Fenced { .. }));
    assert!(fenced, "{late:?}");
    for zombie in [
        commit_of(&opened, 0, Some(10), 12),
        commit_of(&opened, 1, Some(0), 3),
        commit_of(&opened, 2, None, 3),
    ] {
        let stopped = committer.commit(&zombie).await.unwrap_err();
        let fenced = matches!(stopped.failure, IcebergFailure::Fenced { .. });
        assert!(fenced, "{:?}: {stopped:?}", zombie.claims);
    }
}

// T15
#[tokio::test]
async fn a_log_that_lost_its_end_sets_back_its_partition_and_fences_who_does_not_know() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let mut both = commit_of(&opened, 0, None, 10);
    both.claims.push(claim(1, None, 0, 30));
    committer.commit(&both).await.unwrap();
    let said = [(tp(0), lab.ledger().await.said(&tp(0)))].into();
    for _ in 0..2 {
        let ledger = committer
            .truncate_source(&offsets(&[(0, 7)]), &said)
            .await
            .unwrap();
        assert_eq!(ledger.next, offsets(&[(0, 7), (1, 30)]));
        assert!(ledger.topic_since.is_empty());
    }
    assert_eq!(
        lab.table.load().await.unwrap().metadata.snapshots().len(),
        2
    );
    let late = committer.commit(&commit_of(&opened, 0, Some(10), 12)).await;
    let fenced = late.unwrap_err().failure;
    assert!(matches!(fenced, IcebergFailure::Fenced { .. }), "{fenced}");
    let mut on = commit_of(&opened, 0, Some(7), 10);
    on.claims[0].generation = 1;
    on.claims.push(claim(1, Some(30), 30, 31));
    committer.commit(&on).await.unwrap();
    let reopened = lab.committer().open(&plan(), &columns(&["id"])).await;
    let ledger = reopened.unwrap().ledger;
    assert_eq!(ledger.next, offsets(&[(0, 10), (1, 31)]));
    assert_eq!(
        (ledger.generation(&tp(0)), ledger.generation(&tp(1))),
        (1, 0)
    );
    // The log has grown again, and what was read before it was cut begins where the ledger stands.
    let late = committer.commit(&commit_of(&opened, 0, Some(10), 12)).await;
    let fenced = late.unwrap_err().failure;
    assert!(matches!(fenced, IcebergFailure::Fenced { .. }), "{fenced}");
}

/// A topic of so many partitions, of which one did not tell its end.
fn ends(partitions: i64) -> Counted {
    Counted::Ends {
        id: None,
        ends: (0..partitions)
            .map(|n| (n != 1).then_some(Offset(10 * n)))
            .collect(),
    }
}

#[tokio::test]
async fn what_the_topics_were_like_when_the_sink_first_started_is_written_down_once() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let census = |n| Census::from([(TopicName::new("orders"), ends(n))]);
    assert_eq!(committer.census(&census(4)).await.unwrap(), census(4));
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let mut another = lab.committer();
    another.open(&plan(), &columns(&["id"])).await.unwrap();
    assert_eq!(another.census(&census(6)).await.unwrap(), census(4));

    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let of_old = committer.census(&census(6)).await.unwrap();
    assert!(of_old.is_empty(), "it has started before: {of_old:?}");
}

#[tokio::test]
async fn the_first_commit_writes_down_the_topics_as_they_were_when_the_sink_started() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let of = |n| Some(Census::from([(TopicName::new("orders"), ends(n))]));
    let mut first = commit_of(&opened, 0, None, 10);
    first.census = of(3);
    committer.commit(&first).await.unwrap();
    // A process that started later, before there was a table, does not change it.
    let mut later = commit_of(&opened, 1, None, 10);
    later.census = of(5);
    committer.commit(&later).await.unwrap();
    assert_eq!(lab.ledger().await.census, of(3));
    let now = of(9).unwrap();
    assert_eq!(committer.census(&now).await.unwrap(), of(3).unwrap());
}
