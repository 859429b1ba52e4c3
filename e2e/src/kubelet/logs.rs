//! The containers' logs: kept in files, one for each start, and served for `kubectl logs` as a kubelet does, by HTTPS to
//! whoever has a certificate of the cluster.

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::board::{Board, State};

pub(super) use server::Server;

/// The file of a container's start: 0 is the first.
pub(super) fn file(folder: &Path, container: &str, restarts: u32) -> PathBuf {
    folder.join(format!("{container}.{restarts}.log"))
}

/// A pod's logs, and how its containers do.
#[derive(Debug, Clone)]
pub(super) struct PodLogs {
    pub(super) folder: PathBuf,
    pub(super) board: Arc<Board>,
}

/// The logs of the pods that are there, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pods: Mutex<BTreeMap<(String, String), PodLogs>>,
}

impl Logs {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<(String, String), PodLogs>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, namespace: &str, pod: &str, logs: PodLogs) {
        self.pods()
            .insert((namespace.to_owned(), pod.to_owned()), logs);
    }

    /// Forgets a pod, unless another of its name has come. The files stay, for whoever wonders why a test failed.
    pub(super) fn remove(&self, namespace: &str, pod: &str, board: &Arc<Board>) {
        let key = (namespace.to_owned(), pod.to_owned());
        let mut pods = self.pods();
        if pods
            .get(&key)
            .is_some_and(|logs| Arc::ptr_eq(&logs.board, board))
        {
            pods.remove(&key);
        }
    }

    /// The log of a container's start and whether more may come, or what to answer instead.
    fn find(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
    ) -> Result<Log, String> {
        let key = (namespace.to_owned(), pod.to_owned());
        let logs = self.pods().get(&key).cloned();
        let logs = logs.ok_or_else(|| format!("pod \"{namespace}/{pod}\" is not here"))?;
        let shown = logs
            .board
            .one(container)
            .ok_or_else(|| format!("container {container} is not valid for pod {pod}"))?;
        let waits_after_end = matches!(shown.state, State::Waiting { .. }) && shown.last.is_some();
        // While it waits for its restart, the run that ended is the current one.
        let current = shown.restarts;
        let start = if previous {
            let before = if waits_after_end {
                Some(current)
            } else {
                current.checked_sub(1)
            };
            before
                .ok_or_else(|| format!("previous terminated container \"{container}\" not found"))?
        } else {
            current
        };
        let file = file(&logs.folder, container, start);
        if !file.exists() {
            let why = match shown.state {
                State::Waiting { reason, .. } => reason,
                _ => "ContainerCreating".to_owned(),
            };
            return Err(format!(
                "container \"{container}\" is waiting to start: {why}"
            ));
        }
        Ok(Log {
            file,
            container: container.to_owned(),
            start,
            board: logs.board,
        })
    }
}

/// One log.
#[derive(Debug)]
struct Log {
    file: PathBuf,
    container: String,
    start: u32,
    board: Arc<Board>,
}

impl Log {
    /// Whether its process still runs.
    fn grows(&self) -> bool {
        let shown = self.board.one(&self.container);
        shown.is_some_and(|shown| {
            matches!(shown.state, State::Running { .. }) && shown.restarts == self.start
        })
    }
}
