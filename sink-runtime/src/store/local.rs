//! A directory tree as a store. Every change is made beside its place, flushed, and moved into it under one lock on
//! the tree, so several processes may share it and a reader sees whole objects only. The tree must lie on one file
//! system, with working `flock`.
//!
//! Beside the objects: `_tidewater/.lock`, `_tidewater/.put` (the one write in progress) and `_tidewater/uploads/`
//! (staged uploads); none of them is listed. User metadata is kept for open uploads only: `head` shows none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::staging::Assemblies;
use super::{
    Completed, Expect, ObjectInfo, OpenUpload, PartTag, Store, StoreError, UploadId, Version,
};

mod staging;

const OWN: &str = "_tidewater";
const UPLOADS: &str = "_tidewater/uploads";

/// Parts need no least size here; this one keeps write calls and buffers sensible.
const PART_SIZE: usize = 4 << 20;

/// Objects up to this size are known by the MD5 of their bytes, as on S3; reading larger ones for a version would
/// cost too much, and they are data, which nothing compares-and-swaps.
const HASHED: u64 = 1 << 20;

/// Calls at work. Each holds a thread, with a stack and an allocator's heap of its own: hundreds of small files that are
/// committed together would else be hundreds of threads, for one disk.
const AT_ONCE: usize = 16;

#[derive(Debug)]
pub struct LocalStore {
    tree: Tree,
    open: Arc<Mutex<Assemblies>>,
    at_work: Semaphore,
}

impl LocalStore {
    /// Creates the root if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be made or resolved.
    pub async fn open(root: &Path) -> Result<Self, StoreError> {
        let wanted = root.to_owned();
        let root = blocking("open", String::new(), move || {
            fs::create_dir_all(wanted.join(UPLOADS))?;
            wanted.canonicalize()
        })
        .await
        .map_err(|error| match error {
            StoreError::Refused { source, .. } => StoreError::Refused {
                operation: "open",
                key: root.display().to_string(),
                source,
            },
            other => other,
        })?;
        Ok(Self {
            tree: Tree { root },
            open: Arc::default(),
            at_work: Semaphore::new(AT_ONCE),
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Tree) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        check_key(operation, key)?;
        // Never closed.
        let _permit = self.at_work.acquire().await;
        let tree = self.tree.clone();
        blocking(operation, key.to_owned(), move || work(&tree)).await
    }
}

/// What file work may end in.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Conflict,
    Vanished,
    Refused(&'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// File calls block: they run on the blocking pool.
async fn blocking<T: Send + 'static, E: Into<Failure> + Send + 'static>(
    operation: &'static str,
    key: String,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, StoreError> {
    let failure = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.into(),
        Err(lost) => Failure::Io(io::Error::other(lost)),
    };
    Err(match failure {
        Failure::Conflict => StoreError::Conflict { key },
        Failure::Vanished => StoreError::Vanished { key },
        Failure::Refused(why) => StoreError::Refused {
            operation,
            key,
            source: why.into(),
        },
        Failure::Io(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Denied {
                operation,
                key,
                source: error.into(),
            },
            // A name the file system cannot hold, or an object where a directory is needed.
            ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::CrossesDevices => StoreError::Refused {
                operation,
                key,
                source: error.into(),
            },
            _ => StoreError::Unavailable {
                operation,
                key,
                source: error.into(),
            },
        },
    })
}

/// A key names a file below the root, and none of the store's own.
fn check_key(operation: &'static str, key: &str) -> Result<(), StoreError> {
    let safe = key
        .split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'));
    if safe && !is_own(key) {
        return Ok(());
    }
    Err(StoreError::Refused {
        operation,
        key: key.to_owned(),
        source: "not a key of this store".into(),
    })
}

fn is_own(key: &str) -> bool {
    let Some(rest) = key.strip_prefix(OWN).and_then(|r| r.strip_prefix('/')) else {
        return false;
    };
    rest.starts_with('.') || rest == "uploads" || rest.starts_with("uploads/")
}

/// The blocking side.
#[derive(Clone, Debug)]
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Held until dropped; the kernel drops it with the process.
    fn lock(&self) -> io::Result<File> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join(OWN).join(".lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn put(&self, key: &str, body: &[u8], expect: &Expect) -> Result<Version, Failure> {
        let _lock = self.lock()?;
        let path = self.path(key);
        let holds = match expect {
            Expect::Anything => true,
            Expect::Absent => version_of(&path)?.is_none(),
            Expect::Unchanged(version) => version_of(&path)?.as_ref() == Some(version),
        };
        if !holds {
            return Err(Failure::Conflict);
        }
        let scratch = self.root.join(OWN).join(".put");
        let mut file = File::create(&scratch)?;
        file.write_all(body)?;
        file.sync_all()?;
        self.publish(&scratch, &path)?;
        Ok(version_of(&path)?.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?)
    }

    /// Moves a flushed file to its place, durably. The caller holds the lock.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        let parent = to.parent().unwrap_or(&self.root);
        let fresh = !parent.is_dir();
        if fresh {
            fs::create_dir_all(parent)?;
        }
        fs::rename(from, to)?;
        sync_dir(parent)?;
        if fresh {
            let above = parent.ancestors().skip(1);
            for dir in above.take_while(|dir| dir.starts_with(&self.root)) {
                sync_dir(dir)?;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>> {
        let start = prefix.rsplit_once('/').map_or("", |(dir, _)| dir);
        let mut found = Vec::new();
        let mut pending = vec![start.to_owned()];
        while let Some(dir) = pending.pop() {
            let entries = match fs::read_dir(self.root.join(&dir)) {
                Ok(entries) => entries,
                // Removed meanwhile, or never there.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(e) => return Err(e),
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let key = if dir.is_empty() {
                    name
                } else {
                    format!("{dir}/{name}")
                };
                if is_own(&key) {
                    continue;
                }
                let kind = entry.file_type()?;
                if kind.is_dir() && (key.starts_with(prefix) || prefix.starts_with(&key)) {
                    pending.push(key);
                } else if kind.is_file() && key.starts_with(prefix) {
                    found.extend(self.info(&key)?);
                }
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn info(&self, key: &str) -> io::Result<Option<ObjectInfo>> {
        let path = self.path(key);
        let Some(version) = version_of(&path)? else {
            return Ok(None);
        };
        let metadata = fs::metadata(&path)?;
        Ok(Some(ObjectInfo {
            key: key.to_owned(),
            size: metadata.len(),
            version,
            modified: metadata.modified().ok(),
            metadata: BTreeMap::new(),
        }))
    }
}

/// `None` where there is no object.
fn open_object(path: &Path) -> io::Result<Option<(File, fs::Metadata)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

fn version_of(path: &Path) -> io::Result<Option<Version>> {
    let Some((mut file, metadata)) = open_object(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    if metadata.len() <= HASHED {
        file.read_to_end(&mut bytes)?;
    }
    Ok(Some(version(&metadata, &bytes)))
}

fn version(metadata: &fs::Metadata, bytes: &[u8]) -> Version {
    Version(if metadata.len() <= HASHED {
        format!("\"{}\"", hex::encode(Md5::digest(bytes)))
    } else {
        let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
        format!("\"{}-{seconds}.{nanos:09}\"", metadata.len())
    })
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[async_trait]
impl Store for LocalStore {
    fn root(&self) -> String {
        self.tree.root.display().to_string()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let at = key.to_owned();
        self.run("get", key, move |tree| {
            let Some((mut file, metadata)) = open_object(&tree.path(&at))? else {
                return Ok(None);
            };
            let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
            file.read_to_end(&mut bytes)?;
            let version = version(&metadata, &bytes);
            Ok(Some((Bytes::from(bytes), version)))
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let at = key.to_owned();
        self.run("head", key, move |tree| Ok(tree.info(&at)?)).await
    }

    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError> {
        let at = key.to_owned();
        self.run("put", key, move |tree| tree.put(&at, &body, &expect))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let at = key.to_owned();
        self.run("delete", key, move |tree| {
            let _lock = tree.lock()?;
            match fs::remove_file(tree.path(&at)) {
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    Err(e.into())
                }
                _ => Ok(()),
            }
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        if prefix.split('/').any(|name| name == "..") || prefix.starts_with('/') {
            return Ok(Vec::new());
        }
        let (tree, under) = (self.tree.clone(), prefix.to_owned());
        blocking("list", prefix.to_owned(), move || tree.list(&under)).await
    }

    async fn begin(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        let (at, metadata) = (key.to_owned(), metadata.clone());
        let id = self
            .run("begin", key, move |tree| Ok(tree.stage(&at, metadata)?))
            .await?;
        self.open.lock().begin(&id);
        Ok(id)
    }

    async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError> {
        // Before the first await: parts sent in order find their places in order.
        let place = self.open.lock().place(id, number, body.len() as u64);
        let (at, id) = (key.to_owned(), id.clone());
        self.run("put part", key, move |tree| {
            tree.put_part(&at, &id, number, &body, place)
        })
        .await
    }

    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        let (at, upload, parts) = (key.to_owned(), id.clone(), parts.to_vec());
        let completed = self
            .run("complete", key, move |tree| {
                tree.complete(&at, &upload, &parts)
            })
            .await?;
        self.open.lock().end(id);
        Ok(completed)
    }

    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        self.open.lock().end(id);
        let (at, id) = (key.to_owned(), id.clone());
        self.run("abort", key, move |tree| Ok(tree.abort(&at, &id)?))
            .await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        let (tree, under) = (self.tree.clone(), prefix.to_owned());
        blocking("list uploads", prefix.to_owned(), move || {
            tree.list_uploads(&under)
        })
        .await
    }

    fn part_size(&self) -> usize {
        PART_SIZE
    }
}

#[cfg(test)]
mod tests;
