//! What the operator remembers of each resource between two reconciles, and may forget: after a restart everything is
//! looked at once more. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tidewater_crds::SinkStatus;

use super::apply::Applied;
use super::live::ChildKind;
use super::status::Since;
use crate::observations::SinkKey;

/// Of one resource.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub uid: String,
    pub applied: BTreeMap<ChildKind, Applied>,
    /// The status last written, until the store shows it.
    pub written: Option<SinkStatus>,
    /// When one was last written.
    pub written_at: Option<Timestamp>,
    pub since: Since,
    /// Partitions of the topics when last seen.
    pub partitions: Option<u32>,
    /// Between two commits, by the spec that was last in force.
    pub interval: Option<Duration>,
    /// Secrets that the spec names.
    pub secrets: BTreeSet<String>,
    /// Reconciles in a row that failed.
    pub failures: u32,
}

/// Of all resources.
#[derive(Debug, Default)]
pub struct Memories {
    all: Mutex<HashMap<SinkKey, Memory>>,
}

impl Memories {
    /// What is remembered of the resource with that uid; nothing of another one of its name.
    pub fn recall(&self, key: &SinkKey, uid: &str) -> Memory {
        match self.all.lock().get(key) {
            Some(memory) if memory.uid == uid => memory.clone(),
            _ => Memory {
                uid: uid.to_owned(),
                ..Memory::default()
            },
        }
    }

    pub fn keep(&self, key: &SinkKey, memory: Memory) {
        self.all.lock().insert(key.clone(), memory);
    }

    /// Notes a failed reconcile, and says how long to wait before the next. `jitter` is from 0 to 1.
    pub fn failed(&self, key: &SinkKey, uid: &str, jitter: f64) -> Duration {
        let mut all = self.all.lock();
        let memory = all.entry(key.clone()).or_default();
        if memory.uid != uid {
            *memory = Memory {
                uid: uid.to_owned(),
                ..Memory::default()
            };
        }
        memory.failures = memory.failures.saturating_add(1);
        backoff(memory.failures, jitter)
    }

    /// The store shows this status: what is the same need not be remembered as well.
    pub fn shown(&self, key: &SinkKey, uid: &str, status: Option<&SinkStatus>) {
        let mut all = self.all.lock();
        if let Some(memory) = all.get_mut(key).filter(|memory| memory.uid == uid)
            && memory.written.is_some()
            && memory.written.as_ref() == status
        {
            memory.written = None;
        }
    }

    pub fn forget(&self, key: &SinkKey, uid: &str) {
        let mut all = self.all.lock();
        if all.get(key).is_some_and(|memory| memory.uid == uid) {
            all.remove(key);
        }
    }

    pub fn retain(&self, kind: &str, exists: impl Fn(&SinkKey) -> bool) {
        self.all
            .lock()
            .retain(|key, _| key.kind != kind || exists(key));
    }

    /// The resources of a kind and namespace whose spec names a Secret.
    pub fn naming(&self, kind: &str, namespace: &str, secret: &str) -> Vec<SinkKey> {
        let names = |(key, memory): &(&SinkKey, &Memory)| {
            key.kind == kind && key.namespace == namespace && memory.secrets.contains(secret)
        };
        let all = self.all.lock();
        all.iter()
            .filter(names)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// 1 s, 2 s, 4 s … up to 5 minutes, each up to a quarter longer.
fn backoff(failures: u32, jitter: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    let doubled = Duration::from_secs(1 << (failures.clamp(1, 16) - 1));
    spread(doubled.min(LONGEST), jitter)
}

/// Up to a quarter longer, so that many resources do not come due at once.
pub fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SinkKey {
        SinkKey {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    #[test]
    fn each_failure_doubles_the_pause_up_to_five_minutes() {
        let memories = Memories::default();
        let pauses: Vec<u64> = (0..11)
            .map(|_| memories.failed(&key("a"), "u", 0.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(memories.failed(&key("b"), "u", 0.0).as_secs(), 1);
        assert_eq!(backoff(u32::MAX, 1.0), Duration::from_secs(375));
        let mut memory = memories.recall(&key("a"), "u");
        memory.failures = 0;
        memories.keep(&key("a"), memory);
        assert_eq!(memories.failed(&key("a"), "u", 0.0).as_secs(), 1);
    }

    #[test]
    fn a_status_is_remembered_until_the_store_shows_it() {
        let memories = Memories::default();
        let status = SinkStatus {
            replicas: 3,
            ..SinkStatus::default()
        };
        let mut memory = memories.recall(&key("a"), "u");
        memory.written = Some(status.clone());
        memories.keep(&key("a"), memory);
        let written = || memories.recall(&key("a"), "u").written;
        memories.shown(&key("a"), "u", None);
        memories.shown(&key("a"), "u", Some(&SinkStatus::default()));
        memories.shown(&key("a"), "other", Some(&status));
        assert_eq!(written().as_ref(), Some(&status));
        memories.shown(&key("a"), "u", Some(&status));
        assert_eq!(written(), None);
    }

    #[test]
    fn nothing_is_remembered_of_an_earlier_resource_of_the_name() {
        let memories = Memories::default();
        let mut memory = memories.recall(&key("a"), "old");
        memory.partitions = Some(3);
        memories.keep(&key("a"), memory);
        assert_eq!(memories.recall(&key("a"), "old").partitions, Some(3));
        assert_eq!(memories.recall(&key("a"), "new").partitions, None);
        memories.forget(&key("a"), "new");
        assert_eq!(memories.recall(&key("a"), "old").partitions, Some(3));
        memories.retain("IcebergTable", |_| false);
        assert_eq!(memories.recall(&key("a"), "old").partitions, Some(3));
        memories.retain("KafkaS3Sink", |_| false);
        assert_eq!(memories.recall(&key("a"), "old").partitions, None);
    }

    #[test]
    fn a_secret_is_the_matter_of_those_that_name_it() {
        let memories = Memories::default();
        let mut memory = memories.recall(&key("a"), "u");
        memory.secrets.insert("kafka".into());
        memories.keep(&key("a"), memory);
        memories.keep(&key("b"), memories.recall(&key("b"), "v"));
        assert_eq!(memories.naming("KafkaS3Sink", "shop", "kafka"), [key("a")]);
        assert!(memories.naming("KafkaS3Sink", "other", "kafka").is_empty());
        assert!(memories.naming("IcebergTable", "shop", "kafka").is_empty());
    }
}
