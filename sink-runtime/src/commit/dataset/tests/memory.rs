//! What a committer remembers of a ledger, beside calls that run at the same time and others who write it.

use super::*;

/// Opened, with `[0, 20)` committed while the files of `[0, 10)` were being settled; what was remembered before.
async fn settled_late() -> (Arc<Shelf>, DatasetCommitter) {
    let (shelf, committer) = begun().await;
    shelf.plan([(0, Fate::ReplyLate)]);
    let key = tp(0);
    let mut settling = Box::pin(committer.settle(&key));
    assert!((&mut settling).now_or_never().is_none());
    committer
        .commit(staged(&shelf, Some(10), 10, 20))
        .await
        .unwrap();
    shelf.reply();
    settling.await.unwrap();
    (shelf, committer)
}

#[tokio::test]
async fn a_settlement_that_ends_after_a_commit_does_not_bring_back_what_was_before_it() {
    let (shelf, committer) = settled_late().await;
    shelf.plan([]);
    committer
        .commit(staged(&shelf, Some(20), 20, 30))
        .await
        .unwrap();
    assert_eq!(shelf.calls(), ["put", "complete", "complete"]);
    assert_eq!(visible(&shelf), up_to(30));
}

#[tokio::test]
async fn a_commit_that_fits_what_is_stored_is_not_fenced_by_what_is_remembered() {
    let (shelf, committer) = begun().await;
    let old = committer.known.lock()[&tp(0)].seen.clone();
    committer
        .commit(staged(&shelf, Some(10), 10, 20))
        .await
        .unwrap();
    let remember = |seen| committer.known.lock().get_mut(&tp(0)).unwrap().seen = seen;
    remember(old.clone());
    shelf.plan([]);
    let request = staged(&shelf, Some(20), 20, 30);
    committer.commit(request.clone()).await.unwrap();
    assert_eq!(shelf.calls()[0], "get");
    assert_eq!(visible(&shelf), up_to(30));
    // Nor are its files thrown away when it is asked for again.
    remember(old.clone());
    assert!(committer.commit(request).await.unwrap().already);
    assert_eq!(visible(&shelf), up_to(30));

    remember(old);
    let reset = ResetRequest {
        tp: tp(0),
        expected: Some(Offset(30)),
        generation: 0,
        next: Offset(50),
        recreated: false,
        commit_id: CommitId::fresh(),
        cluster_id: None,
        topic_id: None,
    };
    assert_eq!(committer.reset(reset).await.unwrap().next, Offset(50));
}

#[tokio::test]
async fn a_commit_is_fenced_by_what_another_wrote_and_the_store_is_read_once_for_it() {
    let (shelf, committer) = begun().await;
    let other = super::committer(&shelf);
    other.open(&tp(0)).await.unwrap();
    other
        .commit(staged(&shelf, Some(10), 10, 20))
        .await
        .unwrap();
    shelf.plan([]);
    let late = committer.commit(staged(&shelf, Some(5), 5, 8)).await;
    let found = Some(Offset(20));
    assert!(matches!(late, Err(CommitFailure::Fenced { found: f }) if f == found));
    let gets = shelf.calls().into_iter().filter(|call| *call == "get");
    assert_eq!(gets.count(), 1);
}
