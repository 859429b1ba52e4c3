//! Where each container of a pod stands: written by the container's task, read by whoever tells the API server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::Notify;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Waiting {
        reason: String,
        message: Option<String>,
    },
    Running {
        since: Time,
        pid: u32,
    },
    Ended(Ended),
}

/// A run that is over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) message: Option<String>,
    pub(super) started: Time,
    pub(super) finished: Time,
    pub(super) pid: u32,
}

/// One container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) last: Option<Ended>,
    pub(super) restarts: u32,
    pub(super) started: bool,
    pub(super) ready: bool,
}

impl Shown {
    pub(super) fn ended_well(&self) -> bool {
        matches!(&self.state, State::Ended(ended) if ended.code == 0)
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }
}

/// All containers of a pod, by name.
#[derive(Debug)]
pub(super) struct Board {
    containers: Mutex<BTreeMap<String, Shown>>,
    changed: Notify,
}

impl Board {
    /// Everybody waits, for the given reason.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>, reason: &str) -> Self {
        let waiting = Shown {
            state: State::Waiting {
                reason: reason.to_owned(),
                message: None,
            },
            last: None,
            restarts: 0,
            started: false,
            ready: false,
        };
        let containers = names.into_iter();
        Board {
            containers: Mutex::new(
                containers
                    .map(|name| (name.to_owned(), waiting.clone()))
                    .collect(),
            ),
            changed: Notify::new(),
        }
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Shown>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is shown of a container, and tells whether it differs.
    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut Shown)) -> bool {
        let mut containers = self.containers();
        let Some(shown) = containers.get_mut(name) else {
            return false;
        };
        let before = shown.clone();
        change(shown);
        let differs = *shown != before;
        if differs {
            self.changed.notify_one();
        }
        differs
    }

    /// Shows that a container waits, and why; tells whether that is news.
    pub(super) fn wait(&self, name: &str, reason: &str, message: &str) -> bool {
        self.update(name, |shown| {
            shown.state = State::Waiting {
                reason: reason.to_owned(),
                message: Some(message.to_owned()),
            };
            shown.ready = false;
            shown.started = false;
        })
    }

    pub(super) fn all(&self) -> BTreeMap<String, Shown> {
        self.containers().clone()
    }

    pub(super) fn one(&self, name: &str) -> Option<Shown> {
        self.containers().get(name).cloned()
    }

    /// Returns when something has changed since the last call. One caller only.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
