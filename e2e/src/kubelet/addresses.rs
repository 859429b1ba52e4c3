//! The pods' addresses: each pod has one of 127.127.0.0/16, never another.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use rand::Rng;

/// The addresses in use. Picked at random: other clusters on this machine pick from the same range.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    used: Mutex<BTreeSet<Ipv4Addr>>,
}

impl Addresses {
    /// An address nobody has; `None` when all have been given away.
    pub(super) fn take(&self) -> Option<Ipv4Addr> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = rand::rng();
        (0..1000)
            .map(|_| Ipv4Addr::new(127, 127, random.random(), random.random_range(1..255)))
            .find(|address| used.insert(*address))
    }

    /// Notes an address that a pod brings along.
    pub(super) fn keep(&self, address: Ipv4Addr) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address);
    }

    pub(super) fn give_back(&self, address: Ipv4Addr) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&address);
    }
}
