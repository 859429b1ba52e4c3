//! The files of a group since its last cut, and when the next is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::file::OpenFile;
use super::{Limits, Sealed};

pub(super) struct Group<K: Ord, U> {
    pub(super) open: BTreeMap<Arc<K>, OpenFile<U>>,
    pub(super) sealed: Vec<Sealed<K, U>>,
    pub(super) first: Duration,
    pub(super) last: Duration,
    /// A rule has asked for the cut; stays until it is done.
    pub(super) due: bool,
    pub(super) rows: u64,
    pub(super) sealed_bytes: u64,
    pub(super) open_bytes: u64,
}

impl<K: Ord, U> Group<K, U> {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            open: BTreeMap::new(),
            sealed: Vec::new(),
            first: now,
            last: now,
            due: false,
            rows: 0,
            sealed_bytes: 0,
            open_bytes: 0,
        }
    }

    pub(super) fn deadline(&self, limits: &Limits, schedule: Option<Duration>) -> Duration {
        let mut deadline = self.first.saturating_add(limits.open_for);
        if let Some(idle) = limits.idle_for {
            deadline = deadline.min(self.last.saturating_add(idle));
        }
        match schedule {
            Some(at) if self.first < at => deadline.min(at),
            _ => deadline,
        }
    }
}
