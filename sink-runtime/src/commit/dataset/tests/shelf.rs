//! A store in memory that counts calls, fails by plan, and can hang at a chosen call for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::{
    Completed, Expect, ObjectInfo, ObjectKey, OpenUpload, PartTag, Store, StoreError, UploadId,
    Version,
};

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It happens, and the reply is lost.
    ReplyLost,
    /// It does not happen, and may work later.
    Unavailable,
    Denied,
    /// The caller waits for ever; before or after it happens.
    HangBefore,
    HangAfter,
    /// It happens; the caller waits for the reply until [`Shelf::reply`].
    ReplyLate,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) objects: BTreeMap<ObjectKey, (Bytes, u64)>,
    pub(super) uploads: BTreeMap<String, (ObjectKey, Bytes, Option<SystemTime>)>,
    counter: u64,
    /// Names of the mutating and reading calls so far.
    pub(super) calls: Vec<&'static str>,
    /// Fate of the n-th call (from 0) after the plan was set.
    pub(super) plan: BTreeMap<usize, Fate>,
    /// The store's own clock.
    pub(super) now: Option<SystemTime>,
    late: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct Shelf(pub(super) Mutex<Inner>);

fn trouble(text: &str) -> crate::store::BoxError {
    text.to_owned().into()
}

impl Shelf {
    pub(super) fn plan(&self, plan: impl IntoIterator<Item = (usize, Fate)>) {
        let mut inner = self.0.lock();
        inner.calls.clear();
        inner.plan = plan.into_iter().collect();
    }

    /// To the call whose reply is late.
    pub(super) fn reply(&self) {
        self.0.lock().late.notify_one();
    }

    pub(super) fn calls(&self) -> Vec<&'static str> {
        self.0.lock().calls.clone()
    }

    pub(super) fn upload(&self, key: &str, body: &str, initiated: SystemTime) -> UploadId {
        let mut inner = self.0.lock();
        inner.counter += 1;
        let id = format!("upload-{}", inner.counter);
        let upload = (
            key.to_owned(),
            Bytes::from(body.to_owned()),
            Some(initiated),
        );
        inner.uploads.insert(id.clone(), upload);
        UploadId(id)
    }

    /// Keys and contents outside the ledgers.
    pub(super) fn data(&self) -> Vec<(ObjectKey, Bytes)> {
        let inner = self.0.lock();
        let data = inner
            .objects
            .iter()
            .filter(|(key, _)| !key.starts_with('_'));
        data.map(|(key, (body, _))| (key.clone(), body.clone()))
            .collect()
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        key: &str,
        act: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fate = {
            let mut inner = self.0.lock();
            let n = inner.calls.len();
            inner.calls.push(operation);
            inner.plan.get(&n).copied()
        };
        let key = key.to_owned();
        match fate {
            None => act(&mut self.0.lock()),
            Some(Fate::ReplyLost) => {
                act(&mut self.0.lock())?;
                let source = trouble("reset by peer");
                Err(StoreError::Unknown {
                    operation,
                    key,
                    source,
                })
            }
            Some(Fate::Unavailable) => Err(StoreError::Unavailable {
                operation,
                key,
                source: trouble("slow down"),
            }),
            Some(Fate::Denied) => Err(StoreError::Denied {
                operation,
                key,
                source: trouble("forbidden"),
            }),
            Some(Fate::HangBefore) => std::future::pending().await,
            Some(Fate::HangAfter) => {
                let _ = act(&mut self.0.lock());
                std::future::pending().await
            }
            Some(Fate::ReplyLate) => {
                let (reply, late) = {
                    let mut inner = self.0.lock();
                    (act(&mut inner), Arc::clone(&inner.late))
                };
                late.notified().await;
                reply
            }
        }
    }
}

#[async_trait]
impl Store for Shelf {
    fn root(&self) -> String {
        "memory".into()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.call("get", key, |inner| {
            let found = inner.objects.get(key);
            Ok(found.map(|(body, version)| (body.clone(), Version(version.to_string()))))
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.call("head", key, |inner| {
            Ok(inner.objects.get(key).map(|(body, version)| ObjectInfo {
                key: key.to_owned(),
                size: body.len() as u64,
                version: Version(version.to_string()),
                modified: None,
                metadata: BTreeMap::new(),
            }))
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError> {
        self.call("put", key, |inner| {
            let now = inner
                .objects
                .get(key)
                .map(|(_, version)| Version(version.to_string()));
            let holds = match expect {
                Expect::Anything => true,
                Expect::Absent => now.is_none(),
                Expect::Unchanged(version) => now == Some(version),
            };
            if !holds {
                let key = key.to_owned();
                return Err(StoreError::Conflict { key });
            }
            inner.counter += 1;
            let version = inner.counter;
            inner.objects.insert(key.to_owned(), (body, version));
            Ok(Version(version.to_string()))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call("delete", key, |inner| {
            inner.objects.remove(key);
            Ok(())
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.call("list", prefix, |inner| {
            let found = inner
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(prefix));
            Ok(found
                .map(|(key, (body, version))| ObjectInfo {
                    key: key.clone(),
                    size: body.len() as u64,
                    version: Version(version.to_string()),
                    modified: None,
                    metadata: BTreeMap::new(),
                })
                .collect())
        })
        .await
    }

    async fn begin(
        &self,
        key: &str,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        Ok(self.upload(key, "", SystemTime::UNIX_EPOCH))
    }

    async fn put_part(
        &self,
        _key: &str,
        _id: &UploadId,
        number: i32,
        _body: Bytes,
    ) -> Result<PartTag, StoreError> {
        let (etag, checksum) = (String::new(), None);
        Ok(PartTag {
            number,
            etag,
            checksum,
        })
    }

    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        _parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        self.call("complete", key, |inner| match inner.uploads.remove(&id.0) {
            Some((key, body, _)) => {
                inner.counter += 1;
                let version = inner.counter;
                inner.objects.insert(key, (body, version));
                Ok(Completed::Done)
            }
            None => Ok(Completed::NoSuchUpload),
        })
        .await
    }

    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        self.call("abort", key, |inner| {
            inner.uploads.remove(&id.0);
            Ok(())
        })
        .await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        self.call("list_uploads", prefix, |inner| {
            let uploads = inner.uploads.iter();
            Ok(uploads
                .map(|(id, (key, _, initiated))| OpenUpload {
                    key: key.clone(),
                    id: UploadId(id.clone()),
                    initiated: *initiated,
                })
                .collect())
        })
        .await
    }

    async fn now(&self) -> Result<Option<SystemTime>, StoreError> {
        Ok(self.0.lock().now)
    }

    fn part_size(&self) -> usize {
        1
    }

    async fn probe(&self, _prefix: &str) -> Result<(), StoreError> {
        Ok(())
    }
}
