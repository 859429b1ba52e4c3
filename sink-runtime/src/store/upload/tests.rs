#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::errors::class;
use crate::store::faulty::{Fault, FaultyStore, Gate, Operation};
use crate::store::{Completed, MemoryStore};

const PART: usize = 100;

struct Lab {
    memory: Arc<MemoryStore>,
    store: Arc<FaultyStore>,
    budget: Budget,
    uploader: Uploader,
}

fn lab(concurrency: usize) -> Lab {
    let memory = Arc::new(MemoryStore::with_part_size(PART));
    let store = Arc::new(FaultyStore::new(memory.clone()));
    let budget = Budget::new(1 << 20);
    let uploader = Uploader::new(
        store.clone(),
        Handle::current(),
        concurrency,
        budget.clone(),
    )
    .with_patience(Patience {
        attempts: 4,
        total: Duration::from_secs(60),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
    });
    Lab {
        memory,
        store,
        budget,
        uploader,
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Waits until the upload's task has done what it does in the background.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::task::yield_now().await;
    }
}

async fn no_open_uploads(lab: &Lab) {
    until(async || lab.memory.list_uploads("").await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_finished_upload_is_staged_and_stays_invisible_until_completed() {
    let lab = lab(4);
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    let bytes = pattern(750);
    for piece in bytes.chunks(130) {
        upload.push(Bytes::copy_from_slice(piece));
    }
    assert_eq!(upload.size(), 750);
    let staged = upload.finish().staged().await.unwrap();
    assert_eq!((staged.size, staged.parts.len()), (750, 8));
    assert!(lab.memory.objects().is_empty());
    assert_eq!(lab.budget.used(), 0);
    let done = lab
        .store
        .complete(&staged.key, &staged.upload, &staged.parts)
        .await
        .unwrap();
    assert_eq!(done, Completed::Done);
    assert_eq!(lab.memory.objects()["k"], bytes);
}

#[tokio::test]
async fn an_upload_without_bytes_stages_an_empty_object() {
    let lab = lab(1);
    let upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    let staged = upload.finish().staged().await.unwrap();
    assert_eq!((staged.size, staged.parts.len()), (0, 1));
}

#[tokio::test]
async fn the_budget_holds_every_byte_that_is_not_up_yet() {
    let lab = lab(1);
    let gate = Gate::new();
    lab.store
        .on(Operation::PutPart, 1, Fault::Waits(gate.clone()));
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    upload.push(Bytes::from(pattern(350)));
    gate.reached().await;
    assert!(lab.budget.used() >= 350);
    gate.open();
    upload.finish().staged().await.unwrap();
    assert_eq!(lab.budget.used(), 0);
}

#[tokio::test]
async fn passing_failures_are_ridden_out() {
    let lab = lab(2);
    lab.store.on(Operation::Begin, 1, Fault::Fails);
    lab.store
        .on_keys(Operation::PutPart, "", 2, 3, Fault::FailsAfter);
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    upload.push(Bytes::from(pattern(330)));
    let staged = upload.finish().staged().await.unwrap();
    let (key, id) = (&staged.key, &staged.upload);
    lab.store.complete(key, id, &staged.parts).await.unwrap();
    assert_eq!(lab.memory.objects()["k"], pattern(330));
}

#[tokio::test]
async fn what_lasts_is_told_and_tried_on_until_it_passes() {
    let lab = lab(2);
    lab.store.on_keys(Operation::Begin, "", 1, 9, Fault::Fails);
    lab.store
        .on_keys(Operation::PutPart, "", 2, 30, Fault::Fails);
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    upload.push(Bytes::from(pattern(500)));
    let mut finish = upload.finish();
    let mut told = 0;
    let staged = loop {
        match finish.staged().await {
            Ok(staged) => break staged,
            Err(NotStaged::Yet { class, .. }) => {
                assert_eq!(class, class::STORE_UNAVAILABLE);
                told += 1;
            }
            Err(failed) => panic!("{failed:?}"),
        }
    };
    assert!(told > 0, "nobody heard of it");
    let (key, id) = (&staged.key, &staged.upload);
    lab.store.complete(key, id, &staged.parts).await.unwrap();
    assert_eq!(lab.memory.objects()["k"], pattern(500));
}

#[tokio::test]
async fn an_upload_that_is_given_up_while_the_store_is_away_is_tried_no_more() {
    for operation in [Operation::Begin, Operation::PutPart] {
        for finished in [false, true] {
            let lab = lab(2);
            lab.store
                .on_keys(operation, "", 1, usize::MAX, Fault::Fails);
            let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
            upload.push(Bytes::from(pattern(250)));
            until(async || lab.store.count(operation) > 5).await;
            if finished {
                drop(upload.finish());
            } else {
                drop(upload);
            }
            until(async || lab.budget.used() == 0).await;
            no_open_uploads(&lab).await;
        }
    }
}

#[tokio::test]
async fn an_upload_that_vanished_is_told_from_one_that_the_store_refuses() {
    for (fault, class) in [
        (Fault::UploadsVanish, class::FILES_LOST),
        (Fault::Denied, class::STORE_DENIED),
    ] {
        let lab = lab(2);
        lab.store.on(Operation::PutPart, 2, fault);
        let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
        upload.push(Bytes::from(pattern(500)));
        until(async || upload.has_failed()).await;
        let outcome = upload.finish().staged().await;
        let failed =
            matches!(&outcome, Err(NotStaged::Failed { class: found, .. }) if *found == class);
        assert!(failed, "{outcome:?}");
        no_open_uploads(&lab).await;
        assert_eq!(lab.budget.used(), 0);
    }
}

#[tokio::test]
async fn what_is_pushed_into_a_failed_upload_does_not_stay_in_memory() {
    let lab = lab(2);
    lab.store.on(Operation::Begin, 1, Fault::Denied);
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    upload.push(Bytes::from(pattern(100)));
    until(async || upload.has_failed()).await;
    upload.push(Bytes::from(pattern(1000)));
    assert_eq!(lab.budget.used(), 0);
    let outcome = upload.finish().staged().await;
    assert_eq!(outcome.unwrap_err().class(), class::STORE_DENIED);
    assert_eq!(lab.store.count(Operation::Begin), 1);
}

#[tokio::test]
async fn a_dropped_upload_is_aborted() {
    let lab = lab(2);
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    upload.push(Bytes::from(pattern(250)));
    until(async || lab.store.count(Operation::PutPart) > 0).await;
    drop(upload);
    until(async || lab.store.count(Operation::Abort) > 0).await;
    no_open_uploads(&lab).await;
    assert_eq!(lab.budget.used(), 0);
}

#[tokio::test]
async fn an_upload_dropped_before_its_first_part_never_reaches_the_store() {
    let lab = lab(2);
    let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
    upload.push(Bytes::from(pattern(20)));
    upload.abort();
    until(async || lab.budget.used() == 0).await;
    assert!(lab.store.calls().is_empty());
}

#[tokio::test]
async fn a_result_that_nobody_waits_for_is_aborted() {
    let lab = lab(2);
    for arrived in [false, true] {
        let aborts = lab.store.count(Operation::Abort);
        let gate = Gate::new();
        lab.store
            .on(Operation::PutPart, 1, Fault::Waits(gate.clone()));
        let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
        upload.push(Bytes::from(pattern(100)));
        let finish = upload.finish();
        gate.reached().await;
        if arrived {
            gate.open();
            until(async || !finish.result.is_empty()).await;
            drop(finish);
        } else {
            drop(finish);
            gate.open();
        }
        until(async || lab.store.count(Operation::Abort) > aborts).await;
        no_open_uploads(&lab).await;
    }
}

#[tokio::test]
async fn no_more_parts_are_in_flight_than_allowed() {
    let lab = lab(2);
    let gate = Gate::new();
    lab.store
        .on_keys(Operation::PutPart, "", 1, 6, Fault::Waits(gate.clone()));
    let mut uploads: Vec<_> = ["a", "b", "c"]
        .map(|key| lab.uploader.begin(key.to_owned(), BTreeMap::new()))
        .into();
    for upload in &mut uploads {
        upload.push(Bytes::from(pattern(2 * PART)));
    }
    gate.reached().await;
    gate.reached().await;
    assert_eq!(lab.uploader.in_flight.available_permits(), 0);
    assert_eq!(lab.store.count(Operation::PutPart), 2);
    for _ in 0..6 {
        gate.open();
    }
    for upload in uploads {
        upload.finish().staged().await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_pushes_the_object_is_their_bytes_in_order(
        lengths in proptest::collection::vec(0_usize..350, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let lab = lab(3);
            let mut upload = lab.uploader.begin("k".to_owned(), BTreeMap::new());
            let bytes = pattern(lengths.iter().sum());
            let mut rest = bytes.as_slice();
            for length in lengths {
                let (piece, after) = rest.split_at(length);
                upload.push(Bytes::copy_from_slice(piece));
                rest = after;
            }
            let staged = upload.finish().staged().await.unwrap();
            let (key, id) = (&staged.key, &staged.upload);
            lab.store.complete(key, id, &staged.parts).await.unwrap();
            assert_eq!(lab.memory.objects()["k"], bytes);
            assert_eq!(staged.size, bytes.len() as u64);
            assert_eq!(lab.budget.used(), 0);
        });
    }
}
