//! Staged uploads for worker threads: bytes pushed from synchronous code go up as parts, concurrently, and stay
//! invisible. Nothing here blocks the pusher; what is on its way is counted in the memory budget, which is what bounds
//! the queue. Touches the store and the runtime's timer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{ObjectKey, PartTag, Store, StoreError, UploadId};
use crate::budget::{Budget, Reservation};
use crate::errors::{Classified, OneLine};

mod tries;

use tries::{Hindrance, Tries};
pub use tries::{NotStaged, Patience};

/// Begins uploads. Cheap to clone; the clones share the bound on parts in flight.
#[derive(Clone, Debug)]
pub struct Uploader {
    store: Arc<dyn Store>,
    runtime: Handle,
    in_flight: Arc<Semaphore>,
    budget: Budget,
    patience: Patience,
}

/// Durable, complete and invisible: what a commit needs to make the object appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedObject {
    pub key: ObjectKey,
    pub upload: UploadId,
    pub parts: Vec<PartTag>,
    /// Bytes.
    pub size: u64,
}

impl Uploader {
    /// At most `concurrency` parts are in flight, over all uploads.
    pub fn new(store: Arc<dyn Store>, runtime: Handle, concurrency: usize, budget: Budget) -> Self {
        Self {
            store,
            runtime,
            in_flight: Arc::new(Semaphore::new(concurrency.max(1))),
            budget,
            patience: Patience::default(),
        }
    }

    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Nothing reaches the store before the first full part.
    pub fn begin(&self, key: ObjectKey, metadata: BTreeMap<String, String>) -> Upload {
        let (parts, queue) = mpsc::unbounded_channel();
        let (report, result) = oneshot::channel();
        let (told, hindrance) = watch::channel(None);
        let task = Task {
            uploader: self.clone(),
            key: key.clone(),
            metadata,
            told,
        };
        self.runtime.spawn(Box::pin(task.run(queue, report)));
        Upload {
            key,
            uploader: self.clone(),
            part_size: self.store.part_size().max(1),
            parts,
            result,
            hindrance,
            gathered: BytesMut::new(),
            held: self.budget.reserve(0),
            next: 1,
            size: 0,
        }
    }

    /// Aborts in the background what was staged and will not be committed.
    pub fn discard(&self, staged: StagedObject) {
        let uploader = self.clone();
        self.runtime
            .spawn(async move { uploader.abort(&staged.key, &staged.upload).await });
    }

    async fn abort(&self, key: &str, id: &UploadId) {
        let mut tries = Tries::new(self.patience);
        while let Err(error) = self.store.abort(key, id).await {
            match tries.failed(&error) {
                Some(wait) if !tries.exhausted() => tokio::time::sleep(wait).await,
                _ => {
                    // Invisible and harmless; the start-up sweep removes it.
                    tracing::warn!(key, error = %OneLine(&error), "an unwanted upload could not be aborted");
                    return;
                }
            }
        }
    }
}

/// A part on its way: its bytes, and the account they are on until they are up.
#[derive(Debug)]
struct Part {
    number: i32,
    body: Bytes,
    _held: Arc<Reservation>,
}

#[derive(Debug)]
enum Message {
    Part(Part),
    /// No part follows. Without it a closed queue means: abort.
    End,
}

/// One object being uploaded, invisible. Dropped unfinished, it is aborted in the background.
#[derive(Debug)]
pub struct Upload {
    key: ObjectKey,
    uploader: Uploader,
    part_size: usize,
    parts: mpsc::UnboundedSender<Message>,
    result: oneshot::Receiver<Result<StagedObject, StoreError>>,
    hindrance: watch::Receiver<Hindrance>,
    /// Less than a part; and what it takes from the budget.
    gathered: BytesMut,
    held: Reservation,
    next: i32,
    size: u64,
}

impl Upload {
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Bytes pushed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the upload has already failed for good: what is pushed now is dropped, and `finish` says why.
    pub fn has_failed(&self) -> bool {
        self.parts.is_closed()
    }

    /// Takes bytes of any length; large ones are cut into parts without a copy. Never blocks.
    pub fn push(&mut self, mut bytes: Bytes) {
        self.size += bytes.len() as u64;
        if !self.gathered.is_empty() || bytes.len() < self.part_size {
            let missing = self.part_size - self.gathered.len();
            let taken = bytes.split_to(missing.min(bytes.len()));
            self.gathered.extend_from_slice(&taken);
            self.held.resize(self.gathered.capacity());
            if self.gathered.len() == self.part_size {
                self.send_gathered();
            }
        }
        if bytes.len() >= self.part_size {
            // The parts cut from one push keep its whole buffer alive.
            let held = Arc::new(self.uploader.budget.reserve(bytes.len()).leaving());
            while bytes.len() >= self.part_size {
                let body = bytes.split_to(self.part_size);
                self.send(body, Arc::clone(&held));
            }
        }
        if !bytes.is_empty() {
            self.gathered.extend_from_slice(&bytes);
            self.held.resize(self.gathered.capacity());
        }
    }

    /// No more bytes. What comes of it says [`Finish::staged`]; dropped before that, the upload is aborted.
    pub fn finish(mut self) -> Finish {
        if !self.gathered.is_empty() || self.next == 1 {
            self.send_gathered();
        }
        // The receiver is gone only when the task has already reported.
        let _ = self.parts.send(Message::End);
        Finish {
            key: self.key,
            uploader: self.uploader,
            result: self.result,
            hindrance: self.hindrance,
        }
    }

    /// Takes everything back, in the background; as dropping does.
    pub fn abort(self) {}

    fn send_gathered(&mut self) {
        let body = self.gathered.split().freeze();
        self.gathered = BytesMut::new();
        let empty = self.uploader.budget.reserve(0);
        let held = std::mem::replace(&mut self.held, empty);
        self.send(body, Arc::new(held.leaving()));
    }

    fn send(&mut self, body: Bytes, held: Arc<Reservation>) {
        let part = Part {
            number: self.next,
            body,
            _held: held,
        };
        self.next += 1;
        // A failed upload takes no more parts; the error waits in `finish`.
        let _ = self.parts.send(Message::Part(part));
    }
}

/// See [`Upload::finish`].
#[derive(Debug)]
pub struct Finish {
    key: ObjectKey,
    uploader: Uploader,
    result: oneshot::Receiver<Result<StagedObject, StoreError>>,
    hindrance: watch::Receiver<Hindrance>,
}

impl Finish {
    /// Waits until every part is durable. Not to be asked again once it said that, or [`NotStaged::Failed`].
    ///
    /// # Errors
    /// [`NotStaged::Yet`] each time that patience ends with what is in the way; what may pass is tried on meanwhile.
    pub async fn staged(&mut self) -> Result<StagedObject, NotStaged> {
        loop {
            tokio::select! {
                biased;
                ended = &mut self.result => {
                    let gone = |_| Err(StoreError::Vanished { key: self.key.clone() });
                    return ended.unwrap_or_else(gone).map_err(|error| NotStaged::failed(&error));
                }
                Ok(()) = self.hindrance.changed() => {
                    let hindrance = self.hindrance.borrow_and_update().clone();
                    if let Some((class, why)) = hindrance {
                        return Err(NotStaged::Yet { class, why });
                    }
                }
            }
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        // A result that came and was never taken: nobody else knows of the upload.
        self.result.close();
        if let Ok(Ok(staged)) = self.result.try_recv() {
            self.uploader.discard(staged);
        }
    }
}

/// The upload's own task on the runtime.
#[derive(Debug)]
struct Task {
    uploader: Uploader,
    key: ObjectKey,
    metadata: BTreeMap<String, String>,
    /// What is in the way for longer than patience lasts.
    told: watch::Sender<Hindrance>,
}

/// How the parts came to an end.
enum Ended {
    Complete(Vec<PartTag>, u64),
    Dropped,
}

impl Task {
    async fn run(
        self,
        mut queue: mpsc::UnboundedReceiver<Message>,
        mut report: oneshot::Sender<Result<StagedObject, StoreError>>,
    ) {
        let first = match queue.recv().await {
            Some(Message::Part(part)) => part,
            // Dropped before it held a part: the store never heard of it.
            Some(Message::End) | None => return,
        };
        let store = &self.uploader.store;
        let mut tries = Tries::new(self.uploader.patience);
        let upload = loop {
            let error = match store.begin(&self.key, &self.metadata).await {
                Ok(upload) => break upload,
                Err(error) => error,
            };
            let Some(wait) = tries.failed(&error) else {
                drop(queue);
                let _ = report.send(Err(error));
                return;
            };
            self.tell(&tries, &error);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = report.closed() => return,
            }
        };
        self.mended(&tries);
        let ended = self
            .send_parts(&upload, first, &mut queue, &mut report)
            .await;
        // From here on pushed parts are dropped, which gives their bytes back to the budget.
        drop(queue);
        let result = match ended {
            Ok(Ended::Complete(parts, size)) => Ok(StagedObject {
                key: self.key.clone(),
                upload: upload.clone(),
                parts,
                size,
            }),
            Ok(Ended::Dropped) => {
                self.uploader.abort(&self.key, &upload).await;
                return;
            }
            Err(error) => {
                let _ = report.send(Err(error));
                self.uploader.abort(&self.key, &upload).await;
                return;
            }
        };
        if report.send(result).is_err() {
            self.uploader.abort(&self.key, &upload).await;
        }
    }

    fn tell(&self, tries: &Tries, error: &StoreError) {
        if tries.exhausted() {
            let why = OneLine(error).to_string();
            tracing::warn!(key = self.key, error = %why, "an upload does not get on; it is tried on");
            self.told.send_replace(Some((error.class(), why)));
        }
    }

    fn mended(&self, tries: &Tries) {
        if tries.exhausted() {
            self.told.send_replace(None);
        }
    }

    async fn send_parts(
        &self,
        upload: &UploadId,
        first: Part,
        queue: &mut mpsc::UnboundedReceiver<Message>,
        report: &mut oneshot::Sender<Result<StagedObject, StoreError>>,
    ) -> Result<Ended, StoreError> {
        // Polled in the order they were pushed, and the semaphore is fair: parts start in order.
        let mut sending = FuturesUnordered::new();
        sending.push(self.send_part(upload, first));
        let mut tags = Vec::new();
        let mut size = 0;
        let mut open = true;
        while open || !sending.is_empty() {
            tokio::select! {
                biased;
                Some(sent) = sending.next() => {
                    let (tag, length) = sent?;
                    tags.push(tag);
                    size += length;
                }
                message = queue.recv(), if open => match message {
                    Some(Message::Part(part)) => sending.push(self.send_part(upload, part)),
                    Some(Message::End) => open = false,
                    None => return Ok(Ended::Dropped),
                },
                () = report.closed() => return Ok(Ended::Dropped),
            }
        }
        tags.sort_by_key(|tag: &PartTag| tag.number);
        Ok(Ended::Complete(tags, size))
    }

    /// Tries while the error's class says that waiting may help.
    async fn send_part(&self, upload: &UploadId, part: Part) -> Result<(PartTag, u64), StoreError> {
        let uploader = &self.uploader;
        let mut tries = Tries::new(uploader.patience);
        loop {
            let sent = {
                // Given back while waiting for the next try, so that one bad upload does not starve the others.
                let _permit = uploader.in_flight.acquire().await;
                let body = part.body.clone();
                let store = &uploader.store;
                store.put_part(&self.key, upload, part.number, body).await
            };
            let error = match sent {
                Ok(tag) => {
                    self.mended(&tries);
                    return Ok((tag, part.body.len() as u64));
                }
                Err(error) => error,
            };
            match tries.failed(&error) {
                Some(wait) => {
                    self.tell(&tries, &error);
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
