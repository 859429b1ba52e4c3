//! Rollbacks past a change of what offsets mean: what `main` tells then are not the offsets of the topics as they are.

use super::*;
use crate::catalog::faulty::foreign;

#[derive(Clone, Copy, Debug)]
enum Anew {
    /// The topic was recreated.
    Restarted,
    /// Its log was cut.
    Truncated,
    SetByHand,
}

/// A commit to 200, then the offsets begin anew at or below 30, then a commit to 50 of what is there now, then `main`
/// goes back to the first commit.
async fn rolled_back_past(anew: Anew) -> (Lab, IcebergCommitter, Opened) {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let ids = |id: &str| BTreeMap::from([(TopicName::new("orders"), id.to_owned())]);
    let mut old = commit_of(&opened, 0, None, 200);
    old.topic_ids = ids("o1");
    let first = committer.commit(&old).await.unwrap();
    let said = [(tp(0), lab.ledger().await.said(&tp(0)))].into();
    let ledger = match anew {
        Anew::Restarted => {
            let log = OffsetRange {
                start: Offset(0),
                end: Offset(60),
            };
            let logs = BTreeMap::from([(tp(0), log)]);
            let (cluster, ids) = (Some("cluster-1"), ids("o2"));
            committer.restart_source(cluster, &ids, &logs, &said).await
        }
        Anew::Truncated => {
            let ends = offsets(&[(0, 30)]);
            committer.truncate_source(&ends, &said).await
        }
        Anew::SetByHand => {
            let positions = [(tp(0), (Some(Offset(200)), Offset(10)))].into();
            let wish = SetByHand {
                positions,
                ..SetByHand::default()
            };
            committer.set_by_hand(&wish).await
        }
    };
    let next = ledger.unwrap().next[&tp(0)].0;
    let mut new = commit_of(&opened, 0, Some(next), 50);
    new.claims[0].generation = 1;
    committer.commit(&new).await.unwrap();
    foreign::roll_back(&*lab.memory, first.snapshot_id.unwrap())
        .await
        .unwrap();
    (lab, committer, opened)
}

const ALL: [Anew; 3] = [Anew::Restarted, Anew::Truncated, Anew::SetByHand];

#[tokio::test]
async fn a_rollback_past_a_new_beginning_is_seen_though_the_old_offsets_were_higher() {
    for anew in ALL {
        let (lab, mut committer, opened) = rolled_back_past(anew).await;
        let mut on = commit_of(&opened, 0, Some(50), 60);
        on.claims[0].generation = 1;
        let stopped = committer.commit(&on).await.unwrap_err().failure;
        let rolled_back = matches!(stopped, IcebergFailure::RolledBack { .. });
        assert!(rolled_back, "{anew:?}: {stopped:?}");
        let reopened = lab.committer().open(&plan(), &columns(&["id"])).await;
        let rolled_back = matches!(reopened, Err(IcebergFailure::RolledBack { .. }));
        assert!(rolled_back, "{anew:?}: {reopened:?}");
    }
}

#[tokio::test]
async fn what_was_rolled_back_past_a_new_beginning_is_read_again_nowhere_and_continued_by_choice() {
    for anew in ALL {
        let (lab, _, _) = rolled_back_past(anew).await;
        let reread = on_reset(OnDestinationReset::Reread);
        let stopped = lab.committer().open(&reread, &columns(&["id"])).await;
        let Err(IcebergFailure::RolledBack { held: None, .. }) = stopped else {
            panic!("{anew:?}: {stopped:?}");
        };
        let go_on = on_reset(OnDestinationReset::Continue);
        let opened = lab.committer().open(&go_on, &columns(&["id"])).await;
        let ledger = opened.unwrap().ledger;
        assert_eq!(ledger.next, offsets(&[(0, 50)]), "{anew:?}");
        assert_eq!(ledger.generation(&tp(0)), 1, "{anew:?}");
    }
}

#[tokio::test]
async fn a_rollback_past_a_new_beginning_is_seen_when_the_snapshots_of_it_have_expired() {
    for anew in ALL {
        let (lab, _, _) = rolled_back_past(anew).await;
        foreign::expire(&*lab.memory).await.unwrap();
        let reopened = lab.committer().open(&plan(), &columns(&["id"])).await;
        let rolled_back = matches!(reopened, Err(IcebergFailure::RolledBack { held: None, .. }));
        assert!(rolled_back, "{anew:?}: {reopened:?}");
    }
}

#[tokio::test]
async fn after_a_new_beginning_a_rollback_to_a_commit_since_is_read_again() {
    let (lab, _, _) = rolled_back_past(Anew::Truncated).await;
    let go_on = on_reset(OnDestinationReset::Continue);
    let mut committer = lab.committer();
    let opened = committer.open(&go_on, &columns(&["id"])).await.unwrap();
    let since = lab.metadata().await.current_snapshot_id().unwrap();
    let mut on = commit_of(&opened, 0, Some(50), 60);
    on.claims[0].generation = 1;
    committer.commit(&on).await.unwrap();
    foreign::roll_back(&*lab.memory, since).await.unwrap();
    let reread = on_reset(OnDestinationReset::Reread);
    let opened = lab.committer().open(&reread, &columns(&["id"])).await;
    assert_eq!(opened.unwrap().ledger.next, offsets(&[(0, 50)]));
}
