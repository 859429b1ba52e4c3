//! The object store as the sink needs it: conditional puts for ledgers, staged (invisible until completed) uploads for
//! data. `s3`, `local` and `memory` keep the same promises; `faulty` wraps any of them for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::errors::{Class, Classified, class};
use crate::plan::StorePlan;

#[doc(hidden)]
pub mod conformance;
pub mod faulty;
pub mod local;
pub mod memory;
mod probe;
#[cfg(feature = "cloud")]
pub mod s3;
pub mod upload;

pub use local::LocalStore;
pub use memory::MemoryStore;
pub use upload::{StagedObject, Upload, Uploader};

/// Key of an object, relative to the store's root (bucket and prefix, or directory). No leading slash.
pub type ObjectKey = String;

/// Names one version of an object: its ETag, or the local equivalent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

/// Precondition of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    Unchanged(Version),
}

impl Expect {
    /// Whether it is met by the version that is there.
    pub fn holds(&self, found: Option<&Version>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => found.is_none(),
            Self::Unchanged(version) => found == Some(version),
        }
    }
}

/// An upload begun and not completed: invisible to readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadId(pub String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTag {
    /// From 1.
    pub number: i32,
    pub etag: String,
    /// Checksum of the part as the store wants it back on completion, where one is used: `<algorithm>:<base64>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: ObjectKey,
    pub size: u64,
    pub version: Version,
    pub modified: Option<SystemTime>,
    /// User metadata; only from `head`.
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    pub key: ObjectKey,
    pub id: UploadId,
    pub initiated: Option<SystemTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed {
    /// Visible now (by this call or an earlier one).
    Done,
    /// The store does not know the upload: finished earlier, aborted or expired. Look at the object.
    NoSuchUpload,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The precondition did not hold: somebody else wrote. Nothing changed.
    #[error("conditional put of \"{key}\" lost to another writer")]
    Conflict { key: ObjectKey },
    /// May have happened or not: look before writing again.
    #[error("outcome of \"{operation}\" on \"{key}\" is unknown")]
    Unknown {
        operation: &'static str,
        key: ObjectKey,
        #[source]
        source: BoxError,
    },
    /// Did not happen; may work later.
    #[error("\"{operation}\" on \"{key}\" failed for now")]
    Unavailable {
        operation: &'static str,
        key: ObjectKey,
        #[source]
        source: BoxError,
    },
    #[error("\"{operation}\" on \"{key}\" was denied")]
    Denied {
        operation: &'static str,
        key: ObjectKey,
        #[source]
        source: BoxError,
    },
    /// The store does not know the upload any more: somebody aborted it, or it expired.
    #[error("the upload of \"{key}\" is gone from the store")]
    Vanished { key: ObjectKey },
    #[error("bucket or root \"{root}\" does not exist")]
    NoSuchRoot { root: String },
    #[error("the store does not honour conditional writes ({probe})")]
    Unfit { probe: &'static str },
    /// Never will work as asked.
    #[error("\"{operation}\" on \"{key}\" was refused")]
    Refused {
        operation: &'static str,
        key: ObjectKey,
        #[source]
        source: BoxError,
    },
}

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Classified for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Conflict { .. } | Self::Unknown { .. } => class::STORE_CONFLICT,
            Self::Unavailable { .. } => class::STORE_UNAVAILABLE,
            Self::Denied { .. } | Self::Refused { .. } => class::STORE_DENIED,
            Self::Vanished { .. } => class::FILES_LOST,
            Self::NoSuchRoot { .. } => class::STORE_MISSING,
            Self::Unfit { .. } => class::STORE_UNFIT,
        }
    }
}

/// Retries within one call are the implementation's (bounded by the plan's timeouts); a conditional put is retried
/// only when the implementation can tell its own success from another's.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// For messages and for readers: `s3://bucket/prefix` or an absolute path.
    fn root(&self) -> String;

    /// Whole object; `None` when absent.
    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError>;

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError>;

    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError>;

    /// No error when absent.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Every object under `prefix`, by key.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Whether there is an object under `prefix`.
    async fn holds_any(&self, prefix: &str) -> Result<bool, StoreError> {
        Ok(!self.list(prefix).await?.is_empty())
    }

    /// Names of the folders directly under `prefix`, which is empty or ends with a slash: parts of keys up to the next
    /// slash, each once.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut folders = Vec::new();
        for object in self.list(prefix).await? {
            let below = object.key.strip_prefix(prefix).unwrap_or_default();
            if let Some((folder, _)) = below.split_once('/')
                && folders.last().is_none_or(|last| last != folder)
            {
                folders.push(folder.to_owned());
            }
        }
        Ok(folders)
    }

    async fn begin(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError>;

    /// `number` from 1; every part but the last at least `part_size()` bytes.
    ///
    /// # Errors
    /// [`StoreError::Vanished`] when the upload is unknown.
    async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError>;

    /// Makes the object visible. Idempotent as far as the store can tell.
    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError>;

    /// No error when the upload is unknown.
    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError>;

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError>;

    /// The time by the clock that `initiated` and `modified` are of; `None` where the store does not tell.
    async fn now(&self) -> Result<Option<SystemTime>, StoreError> {
        Ok(Some(SystemTime::now()))
    }

    /// Smallest size of a part that is not the last, bytes.
    fn part_size(&self) -> usize;

    /// Proves that conditional puts hold, on a scratch object under `prefix`.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] when they do not.
    async fn probe(&self, prefix: &str) -> Result<(), StoreError> {
        probe::conditional_puts(self, prefix).await
    }
}

/// The store that a plan names. A local root is created when it is not there; a bucket never is.
///
/// # Errors
/// What stands in the way of using it, as far as it can be known without writing.
pub async fn open(plan: &StorePlan) -> Result<Arc<dyn Store>, StoreError> {
    match plan {
        StorePlan::Local { path } => Ok(Arc::new(LocalStore::open(path).await?)),
        #[cfg(feature = "cloud")]
        StorePlan::S3(plan) => Ok(Arc::new(Box::pin(s3::S3Store::open(plan)).await?)),
        #[cfg(not(feature = "cloud"))]
        StorePlan::S3(plan) => Err(StoreError::Refused {
            operation: "open",
            key: format!("s3://{}", plan.bucket),
            source: "this build has no S3 support (feature \"cloud\")".into(),
        }),
    }
}

#[cfg(test)]
mod tests;
