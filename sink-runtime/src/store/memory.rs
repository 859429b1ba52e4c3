//! A store in memory with an object store's exact semantics, for tests and simulations: versions come from a counter
//! and times from the test, so a run repeats itself. Touches nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::{
    Completed, Expect, ObjectInfo, ObjectKey, OpenUpload, PartTag, Store, StoreError, UploadId,
    Version,
};

#[derive(Debug)]
pub struct MemoryStore {
    part_size: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Object>,
    uploads: BTreeMap<String, Staged>,
    /// Versions, upload ids and part tags: never the same twice.
    issued: u64,
    now: Option<SystemTime>,
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    version: Version,
    metadata: BTreeMap<String, String>,
    modified: Option<SystemTime>,
    /// The upload it came from.
    upload: Option<UploadId>,
}

#[derive(Debug)]
struct Staged {
    key: ObjectKey,
    metadata: BTreeMap<String, String>,
    initiated: Option<SystemTime>,
    parts: BTreeMap<i32, (Bytes, String)>,
}

impl State {
    fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    fn write(
        &mut self,
        key: &str,
        bytes: Bytes,
        metadata: BTreeMap<String, String>,
        upload: Option<UploadId>,
    ) -> Version {
        let version = Version(format!("\"{:08}\"", self.issue()));
        let object = Object {
            bytes,
            version: version.clone(),
            metadata,
            modified: self.now,
            upload,
        };
        self.objects.insert(key.to_owned(), object);
        version
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::with_part_size(1)
    }

    /// `part_size`: see [`Store::part_size`].
    pub fn with_part_size(part_size: usize) -> Self {
        Self {
            part_size,
            state: Mutex::default(),
        }
    }

    /// Time that objects and uploads made from now on bear.
    pub fn set_time(&self, now: SystemTime) {
        self.state.lock().now = Some(now);
    }

    /// Every visible object, for assertions.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Bytes> {
        let state = self.state.lock();
        let objects = state.objects.iter();
        objects.map(|(k, o)| (k.clone(), o.bytes.clone())).collect()
    }

    /// Forgets an open upload, as a lifecycle rule does.
    pub fn expire_upload(&self, id: &UploadId) -> bool {
        self.state.lock().uploads.remove(&id.0).is_some()
    }
}

fn info(key: &str, object: &Object) -> ObjectInfo {
    ObjectInfo {
        key: key.to_owned(),
        size: object.bytes.len() as u64,
        version: object.version.clone(),
        modified: object.modified,
        metadata: BTreeMap::new(),
    }
}

fn refused(operation: &'static str, key: &str, why: &str) -> StoreError {
    StoreError::Refused {
        operation,
        key: key.to_owned(),
        source: why.into(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn root(&self) -> String {
        "memory:".to_owned()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let state = self.state.lock();
        let object = state.objects.get(key);
        Ok(object.map(|o| (o.bytes.clone(), o.version.clone())))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let state = self.state.lock();
        Ok(state.objects.get(key).map(|object| ObjectInfo {
            metadata: object.metadata.clone(),
            ..info(key, object)
        }))
    }

    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError> {
        let mut state = self.state.lock();
        let current = state.objects.get(key).map(|o| &o.version);
        let holds = match &expect {
            Expect::Anything => true,
            Expect::Absent => current.is_none(),
            Expect::Unchanged(version) => current == Some(version),
        };
        if !holds {
            return Err(StoreError::Conflict {
                key: key.to_owned(),
            });
        }
        Ok(state.write(key, body, BTreeMap::new(), None))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.state.lock().objects.remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let state = self.state.lock();
        let from = state.objects.range(prefix.to_owned()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| info(key, object))
            .collect())
    }

    async fn begin(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        let mut state = self.state.lock();
        let id = format!("upload-{:08}", state.issue());
        let staged = Staged {
            key: key.to_owned(),
            metadata: metadata.clone(),
            initiated: state.now,
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), staged);
        Ok(UploadId(id))
    }

    async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError> {
        let mut state = self.state.lock();
        let etag = format!("\"part-{:08}\"", state.issue());
        let staged = state
            .uploads
            .get_mut(&id.0)
            .filter(|staged| staged.key == key && number >= 1)
            .ok_or_else(|| StoreError::Vanished {
                key: key.to_owned(),
            })?;
        staged.parts.insert(number, (body, etag.clone()));
        Ok(PartTag {
            number,
            etag,
            checksum: None,
        })
    }

    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        let mut state = self.state.lock();
        let Some(staged) = state.uploads.get(&id.0).filter(|staged| staged.key == key) else {
            let current = state.objects.get(key).and_then(|o| o.upload.as_ref());
            return Ok(if current == Some(id) {
                Completed::Done
            } else {
                Completed::NoSuchUpload
            });
        };
        if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err(refused("complete", key, "no parts, or out of order"));
        }
        let mut whole = BytesMut::new();
        for (index, tag) in parts.iter().enumerate() {
            let (bytes, _) = staged
                .parts
                .get(&tag.number)
                .filter(|(_, etag)| *etag == tag.etag)
                .ok_or_else(|| refused("complete", key, "a part is not there"))?;
            if index + 1 < parts.len() && bytes.len() < self.part_size {
                return Err(refused("complete", key, "a part is too small"));
            }
            whole.extend_from_slice(bytes);
        }
        let metadata = staged.metadata.clone();
        state.write(key, whole.freeze(), metadata, Some(id.clone()));
        state.uploads.remove(&id.0);
        Ok(Completed::Done)
    }

    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.uploads.get(&id.0).is_some_and(|s| s.key == key) {
            state.uploads.remove(&id.0);
        }
        Ok(())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        let state = self.state.lock();
        let open = state.uploads.iter();
        let mut open: Vec<_> = open
            .filter(|(_, staged)| staged.key.starts_with(prefix))
            .map(|(id, staged)| OpenUpload {
                key: staged.key.clone(),
                id: UploadId(id.clone()),
                initiated: staged.initiated,
            })
            .collect();
        open.sort_by(|a, b| (&a.key, &a.id.0).cmp(&(&b.key, &b.id.0)));
        Ok(open)
    }

    fn part_size(&self) -> usize {
        self.part_size
    }
}
