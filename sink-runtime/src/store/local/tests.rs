#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use super::*;

async fn store() -> (tempfile::TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    (dir, store)
}

/// Files below the root, without the lock.
fn files(store: &LocalStore) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![store.tree.root.clone()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if !path.ends_with(".lock") {
                let below = path.strip_prefix(&store.tree.root).unwrap();
                found.push(below.display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_key_that_leaves_the_root_or_names_the_stores_own_files_is_refused() {
    let (_dir, store) = store().await;
    for key in [
        "",
        "/etc/x",
        "../x",
        "a/../../x",
        "a//b",
        "a/./b",
        "a/",
        "_tidewater/.lock",
        "_tidewater/uploads/x/data",
        "_tidewater/uploads",
    ] {
        let outcome = store.put(key, Bytes::new(), Expect::Anything).await;
        assert!(
            matches!(outcome, Err(StoreError::Refused { .. })),
            "{key:?}: {outcome:?}"
        );
    }
    assert!(files(&store).is_empty());
    // A ledger's key, beside them, is fine.
    let key = "_tidewater/default.orders/orders/0.json";
    store.put(key, Bytes::new(), Expect::Absent).await.unwrap();
    assert_eq!(store.list("_tidewater/").await.unwrap().len(), 1);
}

#[tokio::test]
async fn parts_sent_in_order_are_completed_by_a_rename_and_leave_nothing_behind() {
    let (_dir, store) = store().await;
    let key = "dt=2026-11-21/a.parquet";
    let id = store.begin(key, &BTreeMap::new()).await.unwrap();
    let mut tags = Vec::new();
    for (number, body) in [(1, "one"), (2, "two"), (2, "TWO")] {
        let tag = store.put_part(key, &id, number, Bytes::from(body));
        tags.push(tag.await.unwrap());
    }
    tags.remove(1);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let staged = inode(store.tree.path(UPLOADS).join(&id.0).join("data"));
    store.complete(key, &id, &tags).await.unwrap();
    assert_eq!(inode(store.tree.path(key)), staged);
    assert_eq!(store.get(key).await.unwrap().unwrap().0, "oneTWO");
    assert_eq!(files(&store), [key]);
}

#[tokio::test]
async fn another_process_completes_what_this_one_staged() {
    let (dir, first) = store().await;
    let key = "a.parquet";
    let id = first.begin(key, &BTreeMap::new()).await.unwrap();
    let one = first.put_part(key, &id, 1, "one".into()).await.unwrap();
    let second = LocalStore::open(dir.path()).await.unwrap();
    let two = second.put_part(key, &id, 2, "two".into()).await.unwrap();
    let tags = [one, two];
    let done = second.complete(key, &id, &tags).await.unwrap();
    assert_eq!(done, Completed::Done);
    assert_eq!(second.get(key).await.unwrap().unwrap().0, "onetwo");
    let again = first.complete(key, &id, &tags).await.unwrap();
    assert_eq!(again, Completed::NoSuchUpload);
    assert_eq!(files(&first), [key]);
}

#[tokio::test]
async fn a_completion_cut_short_after_the_rename_is_found_done() {
    let (_dir, store) = store().await;
    let id = store.begin("a", &BTreeMap::new()).await.unwrap();
    let tag = store.put_part("a", &id, 1, "one".into()).await.unwrap();
    let data = store.tree.path(UPLOADS).join(&id.0).join("data");
    fs::rename(data, store.tree.path("a")).unwrap();
    let done = store.complete("a", &id, &[tag]).await.unwrap();
    assert_eq!(done, Completed::Done);
    assert_eq!(files(&store), ["a"]);
}

#[tokio::test]
async fn an_upload_is_listed_with_its_age_and_an_upload_id_names_no_other_file() {
    let (_dir, store) = store().await;
    let id = store.begin("x/a", &BTreeMap::new()).await.unwrap();
    let open = store.list_uploads("x/").await.unwrap();
    assert_eq!((open.len(), &open[0].id), (1, &id));
    assert!(open[0].initiated.unwrap() <= std::time::SystemTime::now());
    let evil = UploadId("../../x".to_owned());
    store.abort("x/a", &evil).await.unwrap();
    let tag = PartTag {
        number: 1,
        etag: "data+0+0".to_owned(),
        checksum: None,
    };
    let outcome = store.complete("x/a", &evil, &[tag]).await.unwrap();
    assert_eq!(outcome, Completed::NoSuchUpload);
}
