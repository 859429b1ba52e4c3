//! What is known of every sink between two reconciles: what to look at, what was seen, what was published. Written by the
//! controller and by those who look; read by them, by `/metrics` and by the external metrics. No I/O. Holds one entry for
//! each resource, and forgets it with the resource.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tidewater_runtime::plan::SourcePlan;
use tokio::sync::mpsc;

use crate::lag::Look;
use crate::pods::CommitState;

/// Which resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkKey {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// What to look at for a sink.
#[derive(Clone, Debug)]
pub struct Target {
    /// Of the resource: another one of the same name is another sink.
    pub uid: String,
    /// Changes with anything below, secrets included.
    pub revision: String,
    /// Kafka as the sink reads it, with its credentials.
    pub source: SourcePlan,
    /// Label selector of the pods.
    pub pods: String,
}

/// What was seen of a sink.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub lag: Option<Look>,
    /// When `lag` was seen.
    pub lag_at: Option<Timestamp>,
    pub commit: Option<CommitState>,
}

/// What the resource's status says, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// `None` while unknown.
    pub ready: Option<bool>,
    /// No pods are asked for; `None` while nothing was found out.
    pub paused: Option<bool>,
    pub last_commit: Option<Timestamp>,
    /// Between two commits, by the spec in force.
    pub interval: Option<Duration>,
}

#[derive(Debug, Default)]
struct Entry {
    uid: String,
    target: Option<Arc<Target>>,
    seen: Seen,
    published: Published,
}

/// See the module.
#[derive(Debug)]
pub struct Observations {
    entries: Mutex<BTreeMap<SinkKey, Entry>>,
    changed: mpsc::Sender<SinkKey>,
}

impl Observations {
    /// Also gives what is sent when something was seen that was not known before.
    pub fn new() -> (Self, mpsc::Receiver<SinkKey>) {
        // A full channel loses nothing: the resource is reconciled every few seconds while it has anything to tell.
        let (changed, receiver) = mpsc::channel(1024);
        let entries = Mutex::default();
        (Self { entries, changed }, receiver)
    }

    /// Looks at `target` from now on. What was seen of the same resource stays, but for the lag of other topics than its
    /// own: says whether there was such.
    pub fn watch(&self, key: &SinkKey, target: Target) -> bool {
        let mut entries = self.entries.lock();
        let entry = entry(&mut entries, key, &target.uid);
        let Some(old) = &entry.target else {
            entry.target = Some(Arc::new(target));
            return false;
        };
        if old.revision == target.revision {
            return false;
        }
        let moved = old.source.topics != target.source.topics
            || old.source.bootstrap_servers != target.source.bootstrap_servers;
        if moved {
            entry.seen.lag = None;
        }
        entry.target = Some(Arc::new(target));
        moved
    }

    pub fn forget(&self, key: &SinkKey, uid: &str) {
        let mut entries = self.entries.lock();
        if entries.get(key).is_some_and(|entry| entry.uid == uid) {
            entries.remove(key);
        }
    }

    /// Forgets the resources of a kind that are not there any more.
    pub fn retain(&self, kind: &str, exists: impl Fn(&SinkKey) -> bool) {
        self.entries
            .lock()
            .retain(|key, _| key.kind != kind || exists(key));
    }

    /// All there is to look at.
    pub fn targets(&self) -> Vec<(SinkKey, Arc<Target>)> {
        let entries = self.entries.lock();
        entries
            .iter()
            .filter_map(|(key, entry)| Some((key.clone(), Arc::clone(entry.target.as_ref()?))))
            .collect()
    }

    /// Notes a look at the brokers with that target; one that was replaced meanwhile is none.
    pub fn set_lag_of(&self, key: &SinkKey, target: &Arc<Target>, look: Look, now: Timestamp) {
        let current = self
            .entries
            .lock()
            .get(key)
            .and_then(|entry| entry.target.clone());
        if current.is_some_and(|current| Arc::ptr_eq(&current, target)) {
            self.set_lag(key, &target.uid, look, now);
        }
    }

    /// Notes a look at the brokers on behalf of the resource with that uid.
    pub fn set_lag(&self, key: &SinkKey, uid: &str, look: Look, now: Timestamp) {
        self.see(key, uid, |seen| {
            let news = seen.lag.as_ref() != Some(&look);
            seen.lag = Some(look);
            seen.lag_at = Some(now);
            news
        });
    }

    /// What was seen before `then` of lag is not known any more.
    pub fn outdate_lag(&self, then: Timestamp) {
        let mut entries = self.entries.lock();
        for (key, entry) in entries.iter_mut() {
            let seen = &mut entry.seen;
            if matches!(seen.lag, Some(Ok(_))) && seen.lag_at.is_some_and(|at| at < then) {
                seen.lag = None;
                let _ = self.changed.try_send(key.clone());
            }
        }
    }

    /// Notes what the pods of the resource with that uid say; `None` when none answers.
    pub fn set_commit(&self, key: &SinkKey, uid: &str, commit: Option<CommitState>) {
        self.see(key, uid, |seen| {
            let news = seen.commit != commit;
            seen.commit = commit;
            news
        });
    }

    fn see(&self, key: &SinkKey, uid: &str, note: impl FnOnce(&mut Seen) -> bool) {
        let news = match self.entries.lock().get_mut(key) {
            Some(entry) if entry.uid == uid => note(&mut entry.seen),
            _ => false,
        };
        if news {
            let _ = self.changed.try_send(key.clone());
        }
    }

    /// Something else is news of this resource.
    pub fn poke(&self, key: &SinkKey) {
        let _ = self.changed.try_send(key.clone());
    }

    pub fn seen(&self, key: &SinkKey, uid: &str) -> Seen {
        match self.entries.lock().get(key) {
            Some(entry) if entry.uid == uid => entry.seen.clone(),
            _ => Seen::default(),
        }
    }

    pub fn publish(&self, key: &SinkKey, uid: &str, published: Published) {
        entry(&mut self.entries.lock(), key, uid).published = published;
    }

    /// Every sink with what was seen of it and what its status says.
    pub fn all(&self) -> Vec<(SinkKey, Seen, Published)> {
        let entries = self.entries.lock();
        entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.seen.clone(), entry.published))
            .collect()
    }
}

fn entry<'a>(entries: &'a mut BTreeMap<SinkKey, Entry>, key: &SinkKey, uid: &str) -> &'a mut Entry {
    let entry = entries.entry(key.clone()).or_default();
    if entry.uid != uid {
        *entry = Entry {
            uid: uid.to_owned(),
            ..Entry::default()
        };
    }
    entry
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::lag::Lag;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn key() -> SinkKey {
        SinkKey {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: "orders".into(),
        }
    }

    #[test]
    fn what_was_seen_of_a_deleted_resource_is_not_taken_for_its_successors() {
        let (observations, mut changed) = Observations::new();
        let lag = Lag {
            records: Some(7),
            ..Lag::default()
        };
        observations.publish(&key(), "old", Published::default());
        observations.set_lag(&key(), "old", Ok(lag.clone()), NOW);
        assert_eq!(changed.try_recv().ok(), Some(key()));
        observations.publish(&key(), "new", Published::default());
        assert!(observations.seen(&key(), "new").lag.is_none());
        observations.set_lag(&key(), "old", Ok(lag), NOW);
        assert!(observations.seen(&key(), "new").lag.is_none());
        observations.forget(&key(), "old");
        assert_eq!(observations.all().len(), 1);
        observations.forget(&key(), "new");
        assert!(observations.all().is_empty());
    }

    #[test]
    fn only_news_make_the_controller_look() {
        let (observations, mut changed) = Observations::new();
        observations.publish(&key(), "u", Published::default());
        for _ in 0..3 {
            observations.set_lag(&key(), "u", Ok(Lag::default()), NOW);
            observations.set_commit(&key(), "u", None);
        }
        assert_eq!(changed.try_recv().ok(), Some(key()));
        assert!(changed.try_recv().is_err());
    }

    #[test]
    fn a_lag_that_nobody_looked_at_for_long_is_not_known_and_that_is_news() {
        let (observations, mut changed) = Observations::new();
        observations.publish(&key(), "u", Published::default());
        observations.set_lag(&key(), "u", Ok(Lag::default()), NOW);
        changed.try_recv().unwrap();
        observations.outdate_lag(NOW);
        assert!(observations.seen(&key(), "u").lag.is_some());
        observations.outdate_lag(Timestamp::from_second(1).unwrap());
        assert!(observations.seen(&key(), "u").lag.is_none());
        assert_eq!(changed.try_recv().ok(), Some(key()));
    }
}
