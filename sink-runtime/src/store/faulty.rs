//! A store that fails by script: wraps any other, for tests of what stands on it. The script names calls by operation
//! and count, so a test reads as the story of one bad day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    Completed, Expect, ObjectInfo, ObjectKey, OpenUpload, PartTag, Store, StoreError, UploadId,
    Version,
};

/// Calls that may be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Get,
    Head,
    Put,
    Delete,
    List,
    Begin,
    PutPart,
    Complete,
    Abort,
    ListUploads,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Begin => "begin",
            Self::PutPart => "put part",
            Self::Complete => "complete",
            Self::Abort => "abort",
            Self::ListUploads => "list uploads",
        }
    }
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Not applied: [`StoreError::Unavailable`].
    Fails,
    /// Not applied, but the caller cannot know: [`StoreError::Unknown`].
    LostRequest,
    /// Applied, and the answer is lost: [`StoreError::Unknown`].
    LostReply,
    /// Applied, and an error that says it was not: [`StoreError::Unavailable`].
    FailsAfter,
    /// Not applied, and never will be: [`StoreError::Denied`].
    Denied,
    /// Every open upload is aborted first, as a lifecycle rule may; then the call goes on.
    UploadsVanish,
    /// Waits at the gate, then goes on.
    Waits(Gate),
    /// Applied; the answer waits at the gate.
    AnswerWaits(Gate),
}

/// Holds calls until the test lets them go on.
#[derive(Clone, Debug)]
pub struct Gate {
    reached: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    pub fn new() -> Self {
        Self {
            reached: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    /// Returns when a call has arrived; each arrival is told once.
    pub async fn reached(&self) {
        if let Ok(permit) = self.reached.acquire().await {
            permit.forget();
        }
    }

    /// Lets one call pass: the one that waits, or the next.
    pub fn open(&self) {
        self.open.add_permits(1);
    }

    async fn wait(&self) {
        self.reached.add_permits(1);
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
    }
}

#[derive(Debug)]
struct Rule {
    operation: Operation,
    /// Only calls on keys that contain it.
    key_part: String,
    /// Calls to let pass before.
    pass: usize,
    /// Calls to act on after that.
    times: usize,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    calls: Vec<(Operation, ObjectKey)>,
}

/// See the module.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    script: Mutex<Script>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            script: Mutex::default(),
        }
    }

    /// The `nth` call (from 1, counted from now) of `operation` meets `fault`.
    pub fn on(&self, operation: Operation, nth: usize, fault: Fault) {
        self.on_keys(operation, "", nth, 1, fault);
    }

    /// Of the calls of `operation` on keys that contain `key_part`, the `nth` (from 1, counted from now) and the
    /// `times - 1` after it meet `fault`.
    pub fn on_keys(
        &self,
        operation: Operation,
        key_part: &str,
        nth: usize,
        times: usize,
        fault: Fault,
    ) {
        self.script.lock().rules.push(Rule {
            operation,
            key_part: key_part.to_owned(),
            pass: nth.saturating_sub(1),
            times,
            fault,
        });
    }

    /// From now on nothing fails that was scripted before.
    pub fn heal(&self) {
        self.script.lock().rules.clear();
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<(Operation, ObjectKey)> {
        self.script.lock().calls.clone()
    }

    pub fn count(&self, operation: Operation) -> usize {
        let script = self.script.lock();
        let of_kind = script.calls.iter().filter(|(op, _)| *op == operation);
        of_kind.count()
    }

    fn fault(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut script = self.script.lock();
        script.calls.push((operation, key.to_owned()));
        let mut due = None;
        for rule in &mut script.rules {
            if rule.operation != operation || !key.contains(&rule.key_part) {
                continue;
            }
            if rule.pass > 0 {
                rule.pass -= 1;
            } else if rule.times > 0 && due.is_none() {
                rule.times -= 1;
                due = Some(rule.fault.clone());
            }
        }
        due
    }

    async fn call<T>(
        &self,
        operation: Operation,
        key: &str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError>
    where
        T: Send,
    {
        let Some(fault) = self.fault(operation, key) else {
            return work.await;
        };
        let (operation, key) = (operation.name(), key.to_owned());
        let source = "scripted fault".into();
        match fault {
            Fault::Fails => Err(StoreError::Unavailable {
                operation,
                key,
                source,
            }),
            Fault::LostRequest => Err(StoreError::Unknown {
                operation,
                key,
                source,
            }),
            Fault::LostReply => {
                work.await?;
                Err(StoreError::Unknown {
                    operation,
                    key,
                    source,
                })
            }
            Fault::FailsAfter => {
                work.await?;
                Err(StoreError::Unavailable {
                    operation,
                    key,
                    source,
                })
            }
            Fault::Denied => Err(StoreError::Denied {
                operation,
                key,
                source,
            }),
            Fault::UploadsVanish => {
                for upload in self.inner.list_uploads("").await? {
                    self.inner.abort(&upload.key, &upload.id).await?;
                }
                work.await
            }
            Fault::Waits(gate) => {
                gate.wait().await;
                work.await
            }
            Fault::AnswerWaits(gate) => {
                let outcome = work.await;
                gate.wait().await;
                outcome
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn root(&self) -> String {
        self.inner.root()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.call(Operation::Get, key, self.inner.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.call(Operation::Head, key, self.inner.head(key)).await
    }

    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError> {
        self.call(Operation::Put, key, self.inner.put(key, body, expect))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call(Operation::Delete, key, self.inner.delete(key))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.call(Operation::List, prefix, self.inner.list(prefix))
            .await
    }

    async fn holds_any(&self, prefix: &str) -> Result<bool, StoreError> {
        self.call(Operation::List, prefix, self.inner.holds_any(prefix))
            .await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.call(Operation::List, prefix, self.inner.folders(prefix))
            .await
    }

    async fn begin(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        self.call(Operation::Begin, key, self.inner.begin(key, metadata))
            .await
    }

    async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError> {
        let work = self.inner.put_part(key, id, number, body);
        self.call(Operation::PutPart, key, work).await
    }

    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        let work = self.inner.complete(key, id, parts);
        self.call(Operation::Complete, key, work).await
    }

    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        self.call(Operation::Abort, key, self.inner.abort(key, id))
            .await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        let work = self.inner.list_uploads(prefix);
        self.call(Operation::ListUploads, prefix, work).await
    }

    async fn now(&self) -> Result<Option<SystemTime>, StoreError> {
        self.inner.now().await
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
}
