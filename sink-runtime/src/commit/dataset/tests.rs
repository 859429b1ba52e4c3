#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod memory;
mod shelf;
mod sweep;

use std::time::{Duration, SystemTime};

use futures::FutureExt;

use self::shelf::{Fate, Shelf};
use super::*;
use crate::ledger::{CommitId, ledger_key};
use crate::record::Offset;

const SINK: &str = "default.orders";

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn committer(shelf: &Arc<Shelf>) -> DatasetCommitter {
    let policy = BackoffPolicy {
        base: Duration::from_nanos(1),
        max: Duration::from_nanos(1),
        attempts: 6,
        total: Duration::from_secs(60),
    };
    DatasetCommitter::new(shelf.clone(), SINK, "pod-0/1", policy)
}

fn name(start: i64, commit: CommitId) -> String {
    let name = DatasetFileName {
        tp: tp(0),
        start: Offset(start),
        generation: 0,
        commit: commit.short(),
        extension: "parquet".into(),
    };
    format!("dt=2026-01-01/{name}")
}

/// A commit of `[start, end)` in two staged files whose contents name their offsets.
fn staged(shelf: &Shelf, expected: Option<i64>, start: i64, end: i64) -> CommitRequest {
    let commit_id = CommitId::fresh();
    let middle = start.midpoint(end);
    let files = [(start, middle), (middle, end)]
        .into_iter()
        .filter(|(first, end)| first < end)
        .map(|(first, end)| {
            let key = name(first, commit_id);
            let body: String = (first..end).map(|offset| format!("{offset} ")).collect();
            let upload = shelf.upload(&key, &body, SystemTime::UNIX_EPOCH);
            PendingFile {
                key,
                upload,
                parts: Vec::new(),
                size: body.len() as u64,
                rows: u64::try_from(end - first).unwrap(),
                partition: vec!["2026-01-01".into()],
                first_offset: Offset(first),
                last_offset: Offset(end - 1),
            }
        })
        .collect();
    CommitRequest {
        tp: tp(0),
        expected: expected.map(Offset),
        range: OffsetRange {
            start: Offset(start),
            end: Offset(end),
        },
        generation: 0,
        floor: Offset(start),
        last_read: None,
        files,
        commit_id,
        cluster_id: Some("cluster".into()),
        topic_id: Some("topic".into()),
    }
}

/// The same, its files begun under a later generation.
fn under(generation: u64, request: CommitRequest) -> CommitRequest {
    CommitRequest {
        generation,
        ..request
    }
}

/// Offsets of all visible files, sorted.
fn visible(shelf: &Shelf) -> Vec<i64> {
    let mut offsets = Vec::new();
    for (_, body) in shelf.data() {
        let text = String::from_utf8(body.to_vec()).unwrap();
        offsets.extend(
            text.split_whitespace()
                .map(|offset| offset.parse::<i64>().unwrap()),
        );
    }
    offsets.sort_unstable();
    offsets
}

fn document(shelf: &Shelf) -> LedgerDocument {
    let key = ledger_key(SINK, &tp(0));
    let body = shelf.0.lock().objects[&key].0.clone();
    LedgerDocument::parse(&body, SINK, &tp(0)).unwrap()
}

fn up_to(end: i64) -> Vec<i64> {
    (0..end).collect()
}

/// Opened, with `[0, 10)` committed.
async fn begun() -> (Arc<Shelf>, DatasetCommitter) {
    let shelf = Arc::new(Shelf::default());
    let committer = committer(&shelf);
    assert_eq!(committer.open(&tp(0)).await.unwrap().next, None);
    let done = committer.commit(staged(&shelf, None, 0, 10)).await.unwrap();
    assert_eq!(done.next, Offset(10));
    (shelf, committer)
}

#[tokio::test]
async fn a_steady_commit_is_one_conditional_put_and_the_completions() {
    let (shelf, committer) = begun().await;
    shelf.plan([]);
    let done = committer
        .commit(staged(&shelf, Some(10), 10, 20))
        .await
        .unwrap();
    assert_eq!(shelf.calls(), ["put", "complete", "complete"]);
    assert!(!done.already && done.recovered.is_empty() && done.files.len() == 2);
    assert_eq!(visible(&shelf), up_to(20));
    assert_eq!(document(&shelf).rows, 20);
}

// T2
#[tokio::test]
async fn a_lost_reply_at_any_call_of_a_commit_leaves_the_rows_once() {
    for call in 0..4 {
        for fate in [Fate::ReplyLost, Fate::Unavailable] {
            let (shelf, committer) = begun().await;
            shelf.plan([(call, fate)]);
            committer
                .commit(staged(&shelf, Some(10), 10, 20))
                .await
                .unwrap();
            assert_eq!(visible(&shelf), up_to(20), "{fate:?} at call {call}");
            shelf.plan([]);
            committer
                .commit(staged(&shelf, Some(20), 20, 30))
                .await
                .unwrap();
            assert_eq!(visible(&shelf), up_to(30));
        }
    }
}

// T5
#[tokio::test]
async fn a_commit_dropped_at_any_call_is_finished_or_forgotten_as_a_whole() {
    // The steady commit has three calls; the very first one loads, too.
    for first_ever in [true, false] {
        for call in 0..3 {
            for fate in [Fate::HangBefore, Fate::HangAfter] {
                let shelf = Arc::new(Shelf::default());
                let dying = committer(&shelf);
                dying.open(&tp(0)).await.unwrap();
                let mut start = 0;
                if !first_ever {
                    dying.commit(staged(&shelf, None, 0, 10)).await.unwrap();
                    start = 10;
                }
                let expected = (!first_ever).then_some(start);
                let request = staged(&shelf, expected, start, start + 10);
                shelf.plan([(call, fate)]);
                assert!(dying.commit(request.clone()).now_or_never().is_none());
                shelf.plan([]);

                let heir = committer(&shelf);
                let opened = heir.open(&tp(0)).await.unwrap();
                let applied = call > 0 || fate == Fate::HangAfter;
                let next = opened.next.map_or(0, |next| next.0);
                assert_eq!(next, if applied { start + 10 } else { start });
                assert_eq!(visible(&shelf), up_to(next), "{fate:?} at call {call}");
                let more = staged(&shelf, opened.next.map(|n| n.0), next, next + 5);
                heir.commit(more).await.unwrap();
                assert_eq!(visible(&shelf), up_to(next + 5));

                // The one that was taken for dead tries again.
                let late = dying.commit(request).await;
                assert!(
                    matches!(late, Err(CommitFailure::Fenced { .. })),
                    "{late:?}"
                );
                assert_eq!(visible(&shelf), up_to(next + 5));
            }
        }
    }
}

#[tokio::test]
async fn a_commit_dropped_midway_is_finished_by_the_same_process_asking_again() {
    for call in 0..3 {
        let (shelf, committer) = begun().await;
        let request = staged(&shelf, Some(10), 10, 20);
        shelf.plan([(call, Fate::HangAfter)]);
        assert!(committer.commit(request.clone()).now_or_never().is_none());
        shelf.plan([]);
        assert!(committer.commit(request).await.unwrap().already);
        assert_eq!(visible(&shelf), up_to(20));
    }
}

// T7, T18
#[tokio::test]
async fn a_zombie_adds_nothing_and_changes_no_object() {
    let (shelf, zombie) = begun().await;
    let slow = staged(&shelf, Some(10), 10, 17);
    let owner = committer(&shelf);
    owner.open(&tp(0)).await.unwrap();
    owner
        .commit(staged(&shelf, Some(10), 10, 20))
        .await
        .unwrap();
    let before = shelf.data();

    let failure = zombie.commit(slow.clone()).await.unwrap_err();
    assert!(matches!(
        failure,
        CommitFailure::Fenced {
            found: Some(Offset(20))
        }
    ));
    // Also when it skips asking.
    for file in &slow.files {
        let reply = shelf.complete(&file.key, &file.upload, &file.parts).await;
        assert_eq!(reply.unwrap(), Completed::NoSuchUpload);
    }
    assert_eq!(shelf.data(), before);
    assert!(shelf.0.lock().uploads.is_empty());
    // And it can join in again.
    assert_eq!(zombie.open(&tp(0)).await.unwrap().next, Some(Offset(20)));
}

#[tokio::test]
async fn being_fenced_is_told_also_where_tidying_up_is_denied() {
    let (shelf, zombie) = begun().await;
    let owner = committer(&shelf);
    owner.open(&tp(0)).await.unwrap();
    owner
        .commit(staged(&shelf, Some(10), 10, 20))
        .await
        .unwrap();
    owner.settle(&tp(0)).await.unwrap();
    let slow = staged(&shelf, Some(10), 10, 17);
    // put (conflict), get, 2 × abort
    shelf.plan([(2, Fate::Denied), (3, Fate::Denied)]);
    let failure = zombie.commit(slow).await.unwrap_err();
    assert!(
        matches!(failure, CommitFailure::Fenced { .. }),
        "{failure:?}"
    );
    assert_eq!(shelf.calls(), ["put", "get", "abort", "abort"]);
}

// T24
#[tokio::test]
async fn a_commit_with_a_vanished_upload_is_taken_back_and_its_range_read_again() {
    for lost in [0, 1] {
        let (shelf, committer) = begun().await;
        let request = staged(&shelf, Some(10), 10, 20);
        shelf.0.lock().uploads.remove(&request.files[lost].upload.0);
        let failure = committer.commit(request.clone()).await.unwrap_err();
        assert!(
            matches!(
                failure,
                CommitFailure::Lost {
                    next: Offset(10),
                    ..
                }
            ),
            "{failure:?}"
        );
        assert_eq!(visible(&shelf), up_to(10));
        let document = document(&shelf);
        assert!(document.reread && document.rows == 10 && document.retracting.is_none());

        // Asking again without reading again does not bring half of it back.
        let again = committer.commit(request).await.unwrap_err();
        assert!(matches!(again, CommitFailure::Fenced { .. }));
        assert_eq!(committer.open(&tp(0)).await.unwrap().next, Some(Offset(10)));
        committer
            .commit(under(1, staged(&shelf, Some(10), 10, 20)))
            .await
            .unwrap();
        assert_eq!(visible(&shelf), up_to(20));
    }
}

#[tokio::test]
async fn a_retraction_dropped_at_any_call_is_finished_by_the_next_owner() {
    // put, 2 × complete, 2 × head, put, 2 × abort, 2 × delete, put
    for call in 0..11 {
        for fate in [Fate::HangBefore, Fate::HangAfter] {
            let (shelf, committer_a) = begun().await;
            let request = staged(&shelf, Some(10), 10, 20);
            shelf.0.lock().uploads.remove(&request.files[1].upload.0);
            shelf.plan([(call, fate)]);
            assert!(
                committer_a.commit(request).now_or_never().is_none(),
                "call {call}"
            );
            shelf.plan([]);
            let heir = committer(&shelf);
            assert_eq!(heir.open(&tp(0)).await.unwrap().next, Some(Offset(10)));
            assert_eq!(visible(&shelf), up_to(10), "{fate:?} at call {call}");
            // 0 where it died before the commit was in the ledger.
            let generation = heir.generation(&tp(0));
            let again = under(generation, staged(&shelf, Some(10), 10, 20));
            heir.commit(again).await.unwrap();
            assert_eq!(visible(&shelf), up_to(20));
        }
    }
}

#[tokio::test]
async fn an_open_tells_which_files_it_made_visible() {
    let (shelf, dying) = begun().await;
    let request = staged(&shelf, Some(10), 10, 20);
    shelf.plan([(1, Fate::HangBefore)]);
    assert!(dying.commit(request.clone()).now_or_never().is_none());
    shelf.plan([]);
    let opened = committer(&shelf).open(&tp(0)).await.unwrap();
    assert_eq!(opened.completed, request.files);
    assert_eq!(opened.lost, None);
}

#[tokio::test]
async fn settling_clears_the_list_once_and_costs_nothing_twice() {
    let (shelf, committer) = begun().await;
    shelf.plan([]);
    committer.settle(&tp(0)).await.unwrap();
    assert!(document(&shelf).pending.is_empty());
    committer.settle(&tp(0)).await.unwrap();
    assert_eq!(shelf.calls(), ["put"]);
    // A file that a reader moves away afterwards is his affair.
    shelf.0.lock().objects.retain(|key, _| key.starts_with('_'));
    let opened = committer.open(&tp(0)).await.unwrap();
    assert_eq!((opened.next, opened.lost), (Some(Offset(10)), None));
}

#[tokio::test]
async fn a_denied_store_is_not_asked_again_and_a_busy_one_only_so_often() {
    let (shelf, committer) = begun().await;
    let request = staged(&shelf, Some(10), 10, 20);
    shelf.plan([(0, Fate::Denied)]);
    let denied = committer.commit(request.clone()).await.unwrap_err();
    assert!(matches!(
        denied,
        CommitFailure::Store { gave_up: false, .. }
    ));
    assert_eq!(shelf.calls(), ["put"]);

    shelf.plan((0..100).map(|call| (call, Fate::Unavailable)));
    let busy = committer.commit(request.clone()).await.unwrap_err();
    assert!(matches!(busy, CommitFailure::Store { gave_up: true, .. }));
    assert_eq!(shelf.calls().len(), 6);

    shelf.plan([]);
    assert!(!committer.commit(request).await.unwrap().already);
    assert_eq!(visible(&shelf), up_to(20));
}

#[tokio::test]
async fn a_mark_records_the_first_position_before_there_is_a_file() {
    let shelf = Arc::new(Shelf::default());
    let committer_a = committer(&shelf);
    committer_a.open(&tp(0)).await.unwrap();
    let mut mark = staged(&shelf, None, 500, 500);
    mark.files.clear();
    committer_a.commit(mark).await.unwrap();
    let opened = committer(&shelf).open(&tp(0)).await.unwrap();
    assert_eq!(opened.next, Some(Offset(500)));
}

// T15
#[tokio::test]
async fn a_reset_starts_a_generation_that_fences_what_was_claimed_before() {
    let (shelf, zombie) = begun().await;
    let old = staged(&shelf, Some(10), 10, 20);
    let owner = committer(&shelf);
    owner.open(&tp(0)).await.unwrap();
    let reset = ResetRequest {
        tp: tp(0),
        expected: Some(Offset(10)),
        generation: 0,
        next: Offset(10),
        recreated: true,
        commit_id: CommitId::fresh(),
        cluster_id: Some("cluster".into()),
        topic_id: Some("recreated".into()),
    };
    owner.reset(reset.clone()).await.unwrap();
    let there = document(&shelf);
    assert_eq!(
        (there.next, there.generation, there.reread),
        (Offset(10), 1, true)
    );
    assert_eq!(there.topic_id.as_deref(), Some("recreated"));
    // Files are named for it, and so told from those of the old topic.
    assert_eq!((there.topic_since, owner.generation(&tp(0))), (1, 1));
    // The same offsets, of the old topic.
    assert!(matches!(
        zombie.commit(old).await,
        Err(CommitFailure::Fenced { .. })
    ));
    // A second reset from the old view is fenced as well.
    let reset = ResetRequest {
        commit_id: CommitId::fresh(),
        ..reset
    };
    assert!(matches!(
        zombie.reset(reset).await,
        Err(CommitFailure::Fenced { .. })
    ));
    let mut new = under(1, staged(&shelf, Some(10), 10, 15));
    new.topic_id = Some("recreated".into());
    owner.commit(new).await.unwrap();
    let other = under(1, staged(&shelf, Some(15), 15, 20));
    assert!(matches!(
        owner.commit(other).await,
        Err(CommitFailure::Fenced { .. })
    ));
}

// The brokers tell no topic id, and the offsets fit: nothing but the generation tells.
#[tokio::test]
async fn a_commit_that_outlives_its_lane_is_fenced_after_a_reset_in_the_same_process() {
    let (shelf, committer) = begun().await;
    let mut old = staged(&shelf, Some(10), 10, 20);
    old.topic_id = None;
    committer.open(&tp(0)).await.unwrap();
    let reset = ResetRequest {
        tp: tp(0),
        expected: Some(Offset(10)),
        generation: 0,
        next: Offset(10),
        recreated: true,
        commit_id: CommitId::fresh(),
        cluster_id: None,
        topic_id: None,
    };
    committer.reset(reset).await.unwrap();
    let late = committer.commit(old).await;
    assert!(
        matches!(late, Err(CommitFailure::Fenced { .. })),
        "{late:?}"
    );
    assert_eq!(visible(&shelf), up_to(10));
    let mut new = under(1, staged(&shelf, Some(10), 10, 12));
    new.topic_id = None;
    committer.commit(new).await.unwrap();
    assert_eq!(visible(&shelf), up_to(12));
}

#[tokio::test]
async fn a_call_that_outlives_its_opening_leaves_what_a_later_one_knows() {
    let (shelf, committer) = begun().await;
    let request = staged(&shelf, Some(10), 10, 20);
    // A call is under way while the lane is lost, regained and reset.
    let known = committer.borrow(&tp(0)).unwrap();
    committer.open(&tp(0)).await.unwrap();
    let reset = ResetRequest {
        tp: tp(0),
        expected: Some(Offset(10)),
        generation: 0,
        next: Offset(10),
        recreated: false,
        commit_id: CommitId::fresh(),
        cluster_id: None,
        topic_id: None,
    };
    committer.reset(reset).await.unwrap();
    committer.remember(&tp(0), Seen::Unknown, known.generation, known.opening);
    assert_eq!(committer.generation(&tp(0)), 1);
    committer.commit(under(1, request)).await.unwrap();
    assert_eq!(visible(&shelf), up_to(20));
}

#[tokio::test]
async fn a_reset_whose_reply_is_lost_happens_once() {
    let (shelf, committer) = begun().await;
    shelf.plan([(0, Fate::ReplyLost)]);
    let reset = ResetRequest {
        tp: tp(0),
        expected: Some(Offset(10)),
        generation: 0,
        next: Offset(3),
        recreated: false,
        commit_id: CommitId::fresh(),
        cluster_id: None,
        topic_id: None,
    };
    committer.reset(reset).await.unwrap();
    let there = document(&shelf);
    assert_eq!((there.generation, there.topic_since), (1, 0));
    let done = committer
        .commit(under(1, staged(&shelf, Some(3), 3, 4)))
        .await
        .unwrap();
    assert_eq!(done.next, Offset(4));
}

#[tokio::test]
async fn requests_that_break_the_contract_are_refused_before_any_call() {
    let (shelf, committer) = begun().await;
    shelf.plan([]);
    let good = staged(&shelf, Some(10), 10, 20);
    let mut unopened = good.clone();
    unopened.tp = tp(7);
    let mut backwards = good.clone();
    backwards.range.end = Offset(9);
    let mut outside = good.clone();
    outside.range.end = Offset(15);
    let mut twice = good.clone();
    twice.files[1].key = twice.files[0].key.clone();
    for request in [unopened, backwards, outside, twice] {
        let refused = committer.commit(request).await;
        assert!(
            matches!(refused, Err(CommitFailure::Misused(_))),
            "{refused:?}"
        );
    }
    assert!(shelf.calls().is_empty());
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_stops_everything_and_is_left_alone() {
    let (shelf, committer) = begun().await;
    let key = ledger_key(SINK, &tp(0));
    let strange = bytes::Bytes::from_static(b"{\"format\": 9}");
    shelf
        .put(&key, strange.clone(), Expect::Anything)
        .await
        .unwrap();
    let request = staged(&shelf, Some(10), 10, 20);
    assert!(matches!(
        committer.commit(request).await,
        Err(CommitFailure::Ledger(_))
    ));
    assert!(matches!(
        committer.open(&tp(0)).await,
        Err(CommitFailure::Ledger(_))
    ));
    assert_eq!(shelf.get(&key).await.unwrap().unwrap().0, strange);
}

#[tokio::test]
async fn a_pending_file_replaced_by_another_is_reported_and_not_touched() {
    let (shelf, dying) = begun().await;
    let request = staged(&shelf, Some(10), 10, 20);
    shelf.plan([(1, Fate::HangBefore)]);
    assert!(dying.commit(request.clone()).now_or_never().is_none());
    shelf.plan([]);
    let file = &request.files[0];
    shelf.abort(&file.key, &file.upload).await.unwrap();
    let other = bytes::Bytes::from_static(b"something else entirely");
    shelf
        .put(&file.key, other.clone(), Expect::Anything)
        .await
        .unwrap();
    let failure = committer(&shelf).open(&tp(0)).await.unwrap_err();
    assert!(matches!(failure, CommitFailure::Altered { .. }));
    assert_eq!(shelf.get(&file.key).await.unwrap().unwrap().0, other);
}

#[tokio::test]
async fn a_sweep_takes_only_old_uploads_of_this_sink_that_no_ledger_names() {
    let (shelf, dying) = begun().await;
    let day = Duration::from_secs(86_400);
    // The process's own clock is decades ahead.
    let now = SystemTime::UNIX_EPOCH + 3 * day;
    shelf.0.lock().now = Some(now);
    // Committed, not completed.
    let pending = staged(&shelf, Some(10), 10, 20);
    shelf.plan([(1, Fate::HangBefore)]);
    assert!(dying.commit(pending.clone()).now_or_never().is_none());
    shelf.plan([]);
    let orphan = name(20, CommitId::fresh());
    shelf.upload(&orphan, "x", SystemTime::UNIX_EPOCH);
    shelf.upload(&name(20, CommitId::fresh()), "young", now - day / 2);
    shelf.upload("dt=1/somebody-elses.parquet", "x", SystemTime::UNIX_EPOCH);
    let other_partition = name(20, CommitId::fresh()).replace("orders-0-", "orders-5-");
    shelf.upload(&other_partition, "x", SystemTime::UNIX_EPOCH);
    // Another dataset begins below this one, and reads the same topic.
    let nested = format!("lake/orders/{}", name(20, CommitId::fresh()));
    shelf.upload(&nested, "x", SystemTime::UNIX_EPOCH);
    let ledger = format!("lake/orders/{}", ledger_key("default.nested", &tp(0)));
    let body = bytes::Bytes::from_static(b"{}");
    shelf.put(&ledger, body, Expect::Anything).await.unwrap();

    let swept = committer(&shelf).sweep(day).await.unwrap();
    assert_eq!(swept.aborted, [orphan.as_str()]);
    // One pending, one of a partition without a ledger, and the nested one.
    assert_eq!(swept.kept, 3);
    shelf.0.lock().objects.remove(&ledger);
    committer(&shelf).open(&tp(0)).await.unwrap();
    assert_eq!(visible(&shelf), up_to(20));

    // Where a second sink feeds the same place from the same topic, nobody can tell whose an upload is.
    shelf.upload(&orphan, "x", SystemTime::UNIX_EPOCH);
    let other_sink = ledger_key("default.other", &tp(0));
    let body = bytes::Bytes::from_static(b"{}");
    shelf
        .put(&other_sink, body, Expect::Anything)
        .await
        .unwrap();
    let swept = committer(&shelf).sweep(day).await.unwrap();
    assert!(swept.aborted.is_empty());
    // Without the store's clock no age is known.
    shelf.0.lock().objects.remove(&other_sink);
    shelf.0.lock().now = None;
    let swept = committer(&shelf).sweep(day).await.unwrap();
    assert!(swept.aborted.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_on_threads_leave_each_offset_once() {
    let shelf = Arc::new(Shelf::default());
    let mut rivals = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (shelf, committer) = (shelf.clone(), committer(&shelf));
        rivals.spawn(async move {
            for _ in 0..25 {
                let Ok(opened) = committer.open(&tp(0)).await else {
                    continue;
                };
                let next = opened.next.map(|next| next.0);
                let start = next.unwrap_or(0);
                let _ = committer
                    .commit(staged(&shelf, next, start, start + 3))
                    .await;
            }
        });
    }
    rivals.join_all().await;
    let next = committer(&shelf).open(&tp(0)).await.unwrap().next.unwrap();
    assert!(next.0 >= 75, "{next}");
    assert_eq!(visible(&shelf), up_to(next.0));
    assert!(shelf.0.lock().uploads.is_empty());
}
