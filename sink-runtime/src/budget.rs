//! One memory budget per process: raw batches, open files and upload buffers draw on it. Accounting only: nobody
//! blocks here. Above `PAUSE` the consumer stops draining librdkafka's queue (itself bounded, and counted as a fixed
//! share), below `RESUME` it goes on; above `SHED` the workers give back what open files hold. Bytes on their way to a
//! store count for the first, not for the second: they go by themselves, and sealing more files would not speed them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Marks as shares of the budget, in percent. Resume and shed are one mark: while the consumer is paused somebody gives
/// memory back. The band up to the pause is wide, so that a slow destination does not make the consumer flap.
const SHED: usize = 75;
const PAUSE: usize = 85;
const RESUME: usize = SHED;
/// How far the workers go when they give back: to a little below the mark, not to it each time.
const REST: usize = 70;

#[derive(Debug)]
struct Account {
    total: usize,
    limit: usize,
    used: AtomicUsize,
    /// Part of `used`.
    leaving: AtomicUsize,
    peak: AtomicUsize,
}

/// What a process takes whatever its budget, in bytes.
const UNCOUNTED: usize = 48 << 20;

/// Shared handle to the process's memory account.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

impl Budget {
    /// Of a process that may use `total` bytes. A fifth of them is kept for what nobody counts: stacks, clients, what
    /// allocators hold back. Much of that is no smaller in a small process: it is [`UNCOUNTED`] at least, but never more
    /// than half.
    pub fn of_process(total: usize) -> Self {
        let kept = (total / 5).max(UNCOUNTED).min(total / 2);
        Self::with(total, total - kept)
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
            leaving: AtomicUsize::new(0),
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
            leaves: false,
        }
    }

    pub fn must_pause(&self) -> bool {
        self.used() > self.share(PAUSE)
    }

    pub fn may_resume(&self) -> bool {
        self.used() <= self.share(RESUME)
    }

    pub fn must_shed(&self) -> bool {
        self.staying() > self.share(SHED)
    }

    /// What is to be given back now: nothing below the mark, above it what brings the account to rest.
    pub fn excess(&self) -> usize {
        match self.staying() {
            staying if staying > self.share(SHED) => staying - self.share(REST),
            _ => 0,
        }
    }

    fn staying(&self) -> usize {
        let leaving = self.0.leaving.load(Ordering::Relaxed);
        self.used().saturating_sub(leaving)
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
    leaves: bool,
}

impl Reservation {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes are on their way out: nobody needs to do anything for them to be given back.
    #[must_use]
    pub fn leaving(mut self) -> Self {
        if !self.leaves {
            self.leaves = true;
            let leaving = &self.budget.0.leaving;
            leaving.fetch_add(self.bytes, Ordering::Relaxed);
        }
        self
    }

    /// Grows or shrinks to `bytes`.
    pub fn resize(&mut self, bytes: usize) {
        if self.leaves {
            let leaving = &self.budget.0.leaving;
            leaving.fetch_add(bytes, Ordering::Relaxed);
            leaving.fetch_sub(self.bytes, Ordering::Relaxed);
        }
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
        if self.leaves {
            let leaving = &self.budget.0.leaving;
            leaving.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_counts_is_kept_back_from_small_budgets_too() {
        let drawn = |mib: usize| Budget::of_process(mib << 20).limit() >> 20;
        assert_eq!([40, 96, 160, 1000].map(drawn), [20, 48, 112, 800]);
    }

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

    #[test]
    fn what_is_on_its_way_out_stops_reading_and_asks_for_nothing_more() {
        let budget = Budget::new(1000);
        let open = budget.reserve(700);
        let part = budget.reserve(200);
        assert!(budget.must_shed());
        assert_eq!(budget.excess(), 200);
        let part = part.leaving();
        assert!(!budget.must_shed());
        assert_eq!(budget.excess(), 0);
        assert!(budget.must_pause());
        drop(part);
        assert!(budget.may_resume());
        let more = budget.reserve(100);
        assert_eq!(budget.excess(), 100);
        drop((open, more));
        assert_eq!(budget.used(), 0);
    }
}
