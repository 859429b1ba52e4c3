//! Which sink is looked at next. Pure. A look at brokers that do not answer takes as long as a call may take, and holds up
//! whoever waits behind it: so sinks of brokers that did not answer have places of their own, fewer than there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::observer::Pace;
use crate::observations::{SinkKey, Target};

struct Entry {
    target: Arc<Target>,
    /// When it is to be looked at again; `None` while it is.
    due: Option<Instant>,
    /// Looks in a row that failed.
    failed: u32,
    /// Nobody wants to know any more: the look that is under way is the last.
    gone: bool,
}

impl Entry {
    fn brokers(&self) -> &str {
        &self.target.source.bootstrap_servers
    }
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Told,
    /// The brokers answered, but not with the lag.
    Refused,
    /// No broker answered.
    Silent,
}

/// See the module.
pub(super) struct Schedule {
    pace: Pace,
    entries: BTreeMap<SinkKey, Entry>,
    /// Brokers that did not answer when they were last asked, for any sink.
    silent: BTreeSet<String>,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            entries: BTreeMap::new(),
            silent: BTreeSet::new(),
        }
    }

    /// From now on these are looked at; what is new among them, or has changed, at once.
    pub(super) fn follow(&mut self, targets: Vec<(SinkKey, Arc<Target>)>, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.gone = true;
        }
        for (key, target) in targets {
            let entry = self.entries.entry(key).or_insert_with(|| Entry {
                target: Arc::clone(&target),
                due: Some(now),
                failed: 0,
                gone: false,
            });
            entry.gone = false;
            if entry.target.revision != target.revision {
                entry.failed = 0;
                entry.due = entry.due.map(|due| due.min(now));
            }
            entry.target = target;
        }
        // One that is being looked at takes a place until that ends.
        self.entries
            .retain(|_, entry| !entry.gone || entry.due.is_none());
        let entries = &self.entries;
        let asked = |brokers: &str| entries.values().any(|entry| entry.brokers() == brokers);
        self.silent.retain(|brokers| asked(brokers));
    }

    /// All that are looked at.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&SinkKey, &Arc<Target>)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.target))
    }

    /// The one that has been due for the longest and has a place; it is being looked at from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<(SinkKey, Arc<Target>)> {
        let silent = |entry: &Entry| self.silent.contains(entry.brokers());
        let running = self.entries.values().filter(|entry| entry.due.is_none());
        let (of_silent, of_others): (Vec<_>, Vec<_>) = running.partition(|entry| silent(entry));
        if of_silent.len() + of_others.len() >= self.pace.at_once {
            return None;
        }
        let room = of_silent.len() < self.pace.at_once.saturating_sub(1).max(1);
        let is_due =
            |entry: &Entry| entry.due.is_some_and(|due| due <= now) && (room || !silent(entry));
        let due = self.entries.iter().filter(|(_, entry)| is_due(entry));
        let key = due.min_by_key(|(_, entry)| entry.due)?.0.clone();
        let entry = self.entries.get_mut(&key)?;
        entry.due = None;
        Some((key, Arc::clone(&entry.target)))
    }

    /// A look at `target` that began at `began` has ended.
    pub(super) fn ended(
        &mut self,
        key: &SinkKey,
        target: &Target,
        began: Instant,
        now: Instant,
        outcome: Outcome,
    ) {
        let brokers = &target.source.bootstrap_servers;
        match outcome {
            Outcome::Silent => _ = self.silent.insert(brokers.clone()),
            Outcome::Told | Outcome::Refused => _ = self.silent.remove(brokers),
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.gone {
            self.entries.remove(key);
            return;
        }
        if entry.target.revision != target.revision {
            entry.due = Some(now);
        } else if outcome == Outcome::Told {
            entry.failed = 0;
            entry.due = Some(began + self.pace.interval);
        } else {
            let pause = self.pace.interval.saturating_mul(1 << entry.failed.min(8));
            entry.failed = entry.failed.saturating_add(1);
            entry.due = Some(now + pause.min(self.pace.failing));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use tidewater_runtime::plan::NoSecrets;

    use super::*;
    use crate::controller::fixtures;
    use crate::controller::kind::SinkKind;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> SinkKey {
        SinkKey {
            kind: "KafkaS3Sink",
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    fn target(brokers: &str, revision: &str) -> Arc<Target> {
        let mut source = fixtures::sink().plan(&NoSecrets).unwrap().source;
        source.bootstrap_servers = brokers.into();
        Arc::new(Target {
            uid: "u".into(),
            revision: revision.into(),
            source,
            pods: String::new(),
        })
    }

    fn targets(names: &[&str], brokers: &str, revision: &str) -> Vec<(SinkKey, Arc<Target>)> {
        let of = |name: &&str| (key(name), target(brokers, revision));
        names.iter().map(of).collect()
    }

    fn pace(at_once: usize) -> Pace {
        Pace {
            interval: 10 * SECOND,
            failing: 30 * SECOND,
            at_once,
            ..Pace::default()
        }
    }

    /// The next one's name.
    fn next(schedule: &mut Schedule, now: Instant) -> Option<String> {
        Some(schedule.next(now)?.0.name)
    }

    #[test]
    fn sinks_of_dead_brokers_keep_nobody_elses_lag_from_being_told() {
        let mut schedule = Schedule::new(pace(2));
        let start = Instant::now();
        let many: Vec<String> = (0..100).map(|n| format!("dead-{n:03}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut all = targets(&many, "dead:9092", "1");
        all.extend(targets(&["living"], "kafka:9092", "1"));
        schedule.follow(all, start);
        // Calls to dead brokers take ten seconds, others none.
        let mut running: Vec<(SinkKey, Arc<Target>, Instant)> = Vec::new();
        let mut seen = Vec::new();
        for second in 0..600 {
            let now = start + second * SECOND;
            running.retain(|(key, target, began)| {
                let over = now.duration_since(*began) >= 10 * SECOND;
                if over {
                    schedule.ended(key, target, *began, now, Outcome::Silent);
                }
                !over
            });
            while let Some((key, target)) = schedule.next(now) {
                if key.name == "living" {
                    schedule.ended(&key, &target, now, now, Outcome::Told);
                    seen.push(second);
                } else {
                    running.push((key, target, now));
                }
            }
            assert!(running.len() <= 2);
        }
        // Until the first of them has told that nobody answers.
        assert_eq!(seen[0], 10);
        let gaps: BTreeSet<u32> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [10].into(), "{seen:?}");
    }

    #[test]
    fn brokers_that_answer_again_have_all_places_again() {
        let mut schedule = Schedule::new(pace(2));
        let now = Instant::now();
        schedule.follow(targets(&["a", "b", "c"], "kafka:9092", "1"), now);
        let (first, target) = schedule.next(now).unwrap();
        schedule.ended(&first, &target, now, now, Outcome::Silent);
        assert_eq!(next(&mut schedule, now).as_deref(), Some("b"));
        assert_eq!(next(&mut schedule, now), None);
        schedule.ended(&key("b"), &target, now, now, Outcome::Refused);
        assert_eq!(next(&mut schedule, now).as_deref(), Some("c"));
        let later = now + 30 * SECOND;
        assert_eq!(next(&mut schedule, later).as_deref(), Some("a"));
    }

    #[test]
    fn what_fails_comes_less_often_up_to_a_bound_and_at_once_when_it_changes() {
        let mut schedule = Schedule::new(pace(1));
        let mut now = Instant::now();
        schedule.follow(targets(&["a"], "kafka:9092", "1"), now);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let (key, target) = schedule.next(now).unwrap();
            schedule.ended(&key, &target, now, now, Outcome::Silent);
            let before = now;
            while schedule.entries[&key].due.unwrap() > now {
                assert_eq!(next(&mut schedule, now), None);
                now += SECOND;
            }
            pauses.push(now.duration_since(before).as_secs());
        }
        assert_eq!(pauses, [10, 20, 30, 30, 30]);
        let (key, target) = schedule.next(now).unwrap();
        // It changed while it was looked at: what was found is about what it was.
        schedule.follow(targets(&["a"], "kafka:9092", "2"), now);
        schedule.ended(&key, &target, now, now, Outcome::Told);
        let (_, target) = schedule.next(now).unwrap();
        assert_eq!(target.revision, "2");
        schedule.ended(&key, &target, now, now, Outcome::Silent);
        assert_eq!(next(&mut schedule, now), None);
        schedule.follow(targets(&["a"], "kafka:9092", "3"), now);
        assert_eq!(next(&mut schedule, now).as_deref(), Some("a"));
    }

    #[test]
    fn no_more_are_looked_at_than_there_are_places_and_those_that_are_gone_not_at_all() {
        let mut schedule = Schedule::new(pace(2));
        let now = Instant::now();
        let of = |names: &[&str]| targets(names, "kafka:9092", "1");
        let target = target("kafka:9092", "1");
        schedule.follow(of(&["a", "b", "c"]), now);
        assert_eq!(next(&mut schedule, now).as_deref(), Some("a"));
        assert_eq!(next(&mut schedule, now).as_deref(), Some("b"));
        assert_eq!(next(&mut schedule, now), None);
        // A look at what is gone takes its place until it ends, and is the last.
        schedule.follow(of(&["b", "c"]), now);
        assert_eq!(next(&mut schedule, now), None);
        schedule.ended(&key("a"), &target, now, now, Outcome::Told);
        assert_eq!(next(&mut schedule, now).as_deref(), Some("c"));
        let later = now + 20 * SECOND;
        schedule.follow(of(&["b"]), later);
        schedule.ended(&key("b"), &target, now, now, Outcome::Told);
        schedule.ended(&key("c"), &target, now, now, Outcome::Told);
        assert_eq!(next(&mut schedule, later).as_deref(), Some("b"));
        assert_eq!(next(&mut schedule, later), None);
        assert_eq!(schedule.targets().count(), 1);
    }
}
