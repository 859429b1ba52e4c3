//! One memory budget per process: raw batches, open files and upload buffers draw on it. Accounting only: nobody
//! blocks here. Above `PAUSE` the consumer stops draining librdkafka's queue (itself bounded, and counted as a fixed
//! share), below `RESUME` it goes on; above `SHED` the workers seal their largest open files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Marks as shares of the budget, in percent. Resume and shed are one mark: while the consumer is paused somebody gives
/// memory back. The band up to the pause is wide, so that a slow destination does not make the consumer flap.
const SHED: usize = 75;
const PAUSE: usize = 85;
const RESUME: usize = SHED;

#[derive(Debug)]
struct Account {
    total: usize,
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

/// Shared handle to the process's memory account.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

impl Budget {
    /// Of a process that may use `total` bytes. A fifth of them is kept for what nobody counts: code, stacks, what
    /// allocators hold back.
    pub fn of_process(total: usize) -> Self {
        Self::with(total, total / 5 * 4)
    }

    /// `limit` bytes, all of them to be drawn.
    pub fn new(limit: usize) -> Self {
        Self::with(limit, limit)
    }

    fn with(total: usize, limit: usize) -> Self {
        Self(Arc::new(Account {
            total,
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }))
    }

    /// What the process was given.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// What may be drawn of it.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Takes `bytes` without asking: the holder already has them. Returned when the reservation is dropped.
    pub fn reserve(&self, bytes: usize) -> Reservation {
        self.add(bytes);
        Reservation {
            budget: self.clone(),
            bytes,
        }
    }

    pub fn must_pause(&self) -> bool {
        self.used() > self.share(PAUSE)
    }

    pub fn may_resume(&self) -> bool {
        self.used() <= self.share(RESUME)
    }

    pub fn must_shed(&self) -> bool {
        self.used() > self.share(SHED)
    }

    fn share(&self, percent: usize) -> usize {
        self.0.limit / 100 * percent
    }

    fn add(&self, bytes: usize) {
        let now = self.0.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes taken from the budget until dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows or shrinks to `bytes`.
    pub fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.add(bytes - self.bytes);
        } else {
            self.budget.sub(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_or_resized_reservation_gives_its_bytes_back() {
        let budget = Budget::new(1000);
        let mut a = budget.reserve(600);
        let b = budget.reserve(300);
        assert!(budget.must_pause());
        a.resize(100);
        drop(b);
        assert_eq!((budget.used(), budget.peak()), (100, 900));
        assert!(budget.may_resume());
    }
}
