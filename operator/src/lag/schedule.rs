//! Which sink is looked at next. Pure. A look at brokers that do not answer takes as long as a call may take, and holds up
//! whoever waits behind it: so sinks whose last look failed have places of their own, fewer than there are, and come less
//! and less often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::observer::Pace;
use crate::observations::{SinkKey, Target};

struct Entry {
    revision: String,
    /// When it is to be looked at again; `None` while it is.
    due: Option<Instant>,
    /// Looks in a row that failed.
    failed: u32,
    /// Nobody wants to know any more: the look that is under way is the last.
    gone: bool,
}

/// See the module.
pub(super) struct Schedule {
    pace: Pace,
    entries: BTreeMap<SinkKey, Entry>,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        let entries = BTreeMap::new();
        Self { pace, entries }
    }

    /// From now on these are looked at; what is new among them, or has changed, at once.
    pub(super) fn follow(&mut self, targets: &BTreeMap<SinkKey, Arc<Target>>, now: Instant) {
        self.entries.retain(|key, entry| {
            entry.gone = !targets.contains_key(key);
            // One that is being looked at takes a place until that ends.
            !entry.gone || entry.due.is_none()
        });
        for (key, target) in targets {
            let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
                revision: String::new(),
                due: Some(now),
                failed: 0,
                gone: false,
            });
            if entry.revision != target.revision {
                entry.revision.clone_from(&target.revision);
                entry.failed = 0;
                entry.due = entry.due.map(|due| due.min(now));
            }
        }
    }

    /// The one that has been due for the longest and has a place; it is being looked at from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<SinkKey> {
        let running = |failed: bool| {
            let of = |entry: &&Entry| entry.due.is_none() && (entry.failed > 0) == failed;
            self.entries.values().filter(of).count()
        };
        let (sound, failed) = (running(false), running(true));
        if sound + failed >= self.pace.at_once {
            return None;
        }
        let room = failed < self.pace.at_once.saturating_sub(1).max(1);
        let due = |(_, entry): &(&SinkKey, &mut Entry)| {
            entry.due.is_some_and(|due| due <= now) && (entry.failed == 0 || room)
        };
        let (key, entry) = self
            .entries
            .iter_mut()
            .filter(due)
            .min_by_key(|(_, entry)| entry.due)?;
        entry.due = None;
        Some(key.clone())
    }

    /// A look that began at `began` has ended.
    pub(super) fn ended(&mut self, key: &SinkKey, began: Instant, now: Instant, answered: bool) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.gone {
            self.entries.remove(key);
            return;
        }
        if answered {
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

    fn targets(names: &[&str], revision: &str) -> BTreeMap<SinkKey, Arc<Target>> {
        let source = fixtures::sink().plan(&NoSecrets).unwrap().source;
        let target = Arc::new(Target {
            uid: "u".into(),
            revision: revision.into(),
            source,
            pods: String::new(),
        });
        let of = |name: &&str| (key(name), Arc::clone(&target));
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

    #[test]
    fn sinks_of_dead_brokers_keep_nobody_elses_lag_from_being_told() {
        let mut schedule = Schedule::new(pace(2));
        let start = Instant::now();
        let dead = ["a", "b", "c", "d", "e"];
        schedule.follow(&targets(&["a", "b", "c", "d", "e", "z"], "1"), start);
        // Calls to dead brokers take ten seconds, others none.
        let mut running: Vec<(SinkKey, Instant)> = Vec::new();
        let mut seen = Vec::new();
        for second in 0..300 {
            let now = start + second * SECOND;
            running.retain(|(key, began)| {
                let over = now.duration_since(*began) >= 10 * SECOND;
                if over {
                    schedule.ended(key, *began, now, false);
                }
                !over
            });
            while let Some(key) = schedule.next(now) {
                if dead.contains(&key.name.as_str()) {
                    running.push((key, now));
                } else {
                    schedule.ended(&key, now, now, true);
                    seen.push(second);
                }
            }
        }
        // Until all were tried once, it waits with them; after that it has a place.
        assert!(seen[0] <= 30, "{seen:?}");
        let gaps: Vec<u32> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap == 10), "{seen:?}");
    }

    #[test]
    fn what_fails_comes_less_often_up_to_a_bound_and_at_once_when_it_changes() {
        let mut schedule = Schedule::new(pace(1));
        let mut now = Instant::now();
        schedule.follow(&targets(&["a"], "1"), now);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            assert_eq!(schedule.next(now), Some(key("a")));
            schedule.ended(&key("a"), now, now, false);
            let before = now;
            while schedule.entries[&key("a")].due.unwrap() > now {
                assert_eq!(schedule.next(now), None);
                now += SECOND;
            }
            pauses.push(now.duration_since(before).as_secs());
        }
        assert_eq!(pauses, [10, 20, 30, 30, 30]);
        schedule.next(now).unwrap();
        schedule.ended(&key("a"), now, now, false);
        assert_eq!(schedule.next(now), None);
        schedule.follow(&targets(&["a"], "2"), now);
        assert_eq!(schedule.next(now), Some(key("a")));
    }

    #[test]
    fn no_more_are_looked_at_than_there_are_places_and_those_that_are_gone_not_at_all() {
        let mut schedule = Schedule::new(pace(2));
        let now = Instant::now();
        schedule.follow(&targets(&["a", "b", "c"], "1"), now);
        assert_eq!(schedule.next(now), Some(key("a")));
        assert_eq!(schedule.next(now), Some(key("b")));
        assert_eq!(schedule.next(now), None);
        // A look at what is gone takes its place until it ends, and is the last.
        schedule.follow(&targets(&["b", "c"], "1"), now);
        assert_eq!(schedule.next(now), None);
        schedule.ended(&key("a"), now, now, true);
        assert_eq!(schedule.next(now), Some(key("c")));
        schedule.follow(&targets(&["b"], "1"), now + 20 * SECOND);
        schedule.ended(&key("b"), now, now, true);
        schedule.ended(&key("c"), now, now, true);
        assert_eq!(schedule.next(now + 20 * SECOND), Some(key("b")));
        assert_eq!(schedule.next(now + 20 * SECOND), None);
    }
}
