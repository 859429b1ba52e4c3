#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::conformance::run_all;
use super::faulty::{Fault, FaultyStore, Operation};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_in_memory_keeps_every_promise() {
    let outcome = run_all(Arc::new(MemoryStore::with_part_size(100))).await;
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_on_disk_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let plan = StorePlan::Local {
        path: dir.path().join("lake"),
    };
    let outcome = run_all(open(&plan).await.unwrap()).await;
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

/// Ignores the conditions of puts, as some S3-compatible stores do.
#[derive(Debug)]
struct Careless {
    inner: MemoryStore,
    ignores: fn(&Expect) -> bool,
}

#[async_trait]
impl Store for Careless {
    fn root(&self) -> String {
        self.inner.root()
    }
    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.inner.get(key).await
    }
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.inner.head(key).await
    }
    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError> {
        let expect = if (self.ignores)(&expect) {
            Expect::Anything
        } else {
            expect
        };
        self.inner.put(key, body, expect).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }
    async fn begin(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        self.inner.begin(key, metadata).await
    }
    async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError> {
        self.inner.put_part(key, id, number, body).await
    }
    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        self.inner.complete(key, id, parts).await
    }
    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        self.inner.abort(key, id).await
    }
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        self.inner.list_uploads(prefix).await
    }
    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
}

#[tokio::test]
async fn a_store_that_ignores_either_condition_is_found_unfit() {
    for ignores in [
        |expect: &Expect| *expect == Expect::Absent,
        |expect: &Expect| matches!(expect, Expect::Unchanged(_)),
    ] {
        let store = Careless {
            inner: MemoryStore::new(),
            ignores,
        };
        let verdict = store.probe("raw/orders").await;
        assert!(matches!(verdict, Err(StoreError::Unfit { .. })));
        assert_eq!(store.inner.objects(), BTreeMap::new());
    }
}

#[tokio::test]
async fn the_probe_passes_on_what_keeps_it_from_an_answer() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    store.on(Operation::Put, 2, Fault::Denied);
    let verdict = store.probe("").await;
    assert!(matches!(verdict, Err(StoreError::Denied { .. })));
}

#[tokio::test]
async fn a_faulty_store_fails_the_calls_its_script_names_and_no_other() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let body = || Bytes::from_static(b"x");
    store.on(Operation::Put, 2, Fault::LostReply);
    store.on_keys(Operation::Put, "ledger", 1, 2, Fault::Fails);
    store.put("a", body(), Expect::Absent).await.unwrap();
    let lost = store.put("b", body(), Expect::Absent).await;
    assert!(matches!(lost, Err(StoreError::Unknown { .. })));
    assert!(store.get("b").await.unwrap().is_some());
    for _ in 0..2 {
        let failed = store.put("ledger", body(), Expect::Absent).await;
        assert!(matches!(failed, Err(StoreError::Unavailable { .. })));
    }
    store.put("ledger", body(), Expect::Absent).await.unwrap();
    assert_eq!(store.count(Operation::Put), 5);

    let id = store.begin("data", &BTreeMap::new()).await.unwrap();
    let tag = store.put_part("data", &id, 1, body()).await.unwrap();
    store.on(Operation::Complete, 1, Fault::UploadsVanish);
    let completed = store.complete("data", &id, &[tag]).await.unwrap();
    assert_eq!(completed, Completed::NoSuchUpload);
}
