//! How many files may be open at once: one count over all workers of a sink. One that works alone may have them all; an
//! even share is always free for each, so that none starves beside another that came first. Pure, but for the count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by the workers' tables of open files.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    share: usize,
    taken: AtomicUsize,
}

impl Places {
    pub fn new(most: usize, workers: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            share: (most / workers.max(1)).max(1),
            taken: AtomicUsize::new(0),
        }))
    }

    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }
}

/// What one table of open files has taken; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    places: Places,
    own: usize,
}

impl Taken {
    pub(super) fn of(places: &Places) -> Self {
        Self {
            places: places.clone(),
            own: 0,
        }
    }

    pub(super) fn own(&self) -> usize {
        self.own
    }

    /// Whether a file of this table has to be closed before another is opened.
    pub(super) fn none_left(&self) -> bool {
        let Shared { most, share, .. } = *self.places.0;
        self.own >= share && self.places.taken() >= most
    }

    pub(super) fn take(&mut self) {
        self.own += 1;
        self.places.0.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_back(&mut self, files: usize) {
        self.own -= files;
        self.places.0.taken.fetch_sub(files, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.give_back(self.own);
    }
}
