//! Whether each watch hears from the API server. Written by the watches; read by `/readyz` and `/metrics`. No I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A watch may hear nothing for so long before it counts as down: a rolling API server is back by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// A watch that failed tries again within 30 s. One that has not failed for so long has got through, and has nothing to
/// tell.
const PASSED: Duration = Duration::from_secs(90);

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// The resource's plural name.
    pub resource: String,
    /// Empty: all of them.
    pub namespace: String,
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch of {}", self.resource)?;
        match self.namespace.as_str() {
            "" => Ok(()),
            namespace => write!(f, " in namespace {namespace}"),
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    begun: Instant,
    /// Its objects are known.
    listed: bool,
    /// First and last failure in a row.
    failing: Option<(Instant, Instant)>,
    why: Option<String>,
}

/// The watches of this process.
#[derive(Debug, Default)]
pub struct Watching(Mutex<BTreeMap<Watch, State>>);

impl Watching {
    pub fn begun(&self, watch: &Watch, now: Instant) {
        let state = State {
            begun: now,
            listed: false,
            failing: None,
            why: None,
        };
        self.0.lock().insert(watch.clone(), state);
    }

    /// Its objects were listed, or one of them changed.
    pub fn heard(&self, watch: &Watch) {
        if let Some(state) = self.0.lock().get_mut(watch) {
            state.listed = true;
            state.failing = None;
            state.why = None;
        }
    }

    pub fn failed(&self, watch: &Watch, why: String, now: Instant) {
        if let Some(state) = self.0.lock().get_mut(watch) {
            let row = state.failing.filter(|(_, last)| !has_passed(*last, now));
            state.failing = Some((row.map_or(now, |(first, _)| first), now));
            state.why = Some(why);
        }
    }

    /// Every watch, and of those that are down why.
    pub fn all(&self, now: Instant) -> Vec<(Watch, Result<(), String>)> {
        let watches = self.0.lock();
        let each = watches.iter().map(|(watch, state)| {
            let unlisted = || "it has not been listed".to_owned();
            let found = match state.is_down(now) {
                true => Err(state.why.clone().unwrap_or_else(unlisted)),
                false => Ok(()),
            };
            (watch.clone(), found)
        });
        each.collect()
    }
}

impl State {
    fn is_down(&self, now: Instant) -> bool {
        let long = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        match self.failing {
            _ if !self.listed => long(self.begun),
            Some((first, last)) => long(first) && !has_passed(last, now),
            None => false,
        }
    }
}

fn has_passed(last: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last) > PASSED
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn watch(resource: &str) -> Watch {
        Watch {
            resource: resource.to_owned(),
            namespace: String::new(),
        }
    }

    fn down(watching: &Watching, now: Instant) -> Vec<(String, String)> {
        let all = watching.all(now).into_iter();
        all.filter_map(|(watch, why)| Some((watch.resource, why.err()?)))
            .collect()
    }

    #[test]
    fn a_watch_that_goes_on_failing_is_down_and_one_that_has_nothing_to_tell_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let watching = Watching::default();
        for resource in ["pods", "secrets", "deployments"] {
            watching.begun(&watch(resource), start);
        }
        watching.heard(&watch("pods"));
        let fails =
            |seconds| watching.failed(&watch("secrets"), format!("403 at {seconds}"), at(seconds));
        [1, 5, 30, 58].into_iter().for_each(fails);
        assert_eq!(down(&watching, at(59)), []);
        let told = |resource: &str, why: &str| (resource.to_owned(), why.to_owned());
        // One failed and tells why, of the other nothing was heard at all.
        let both = [
            told("deployments", "it has not been listed"),
            told("secrets", "403 at 58"),
        ];
        assert_eq!(down(&watching, at(60)), both);
        watching.heard(&watch("deployments"));
        assert_eq!(down(&watching, at(60)), [told("secrets", "403 at 58")]);
        watching.heard(&watch("secrets"));
        assert_eq!(down(&watching, at(60)), []);
        assert_eq!(watching.all(at(60)).len(), 3);
    }

    #[test]
    fn one_failure_now_and_then_is_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (watching, pods) = (Watching::default(), watch("pods"));
        watching.begun(&pods, start);
        watching.heard(&pods);
        watching.failed(&pods, "reset".to_owned(), at(10));
        // Nothing changed since: nobody told it anything.
        assert_eq!(down(&watching, at(101)), []);
        watching.failed(&pods, "reset".to_owned(), at(400));
        assert_eq!(down(&watching, at(440)), []);
        watching.failed(&pods, "reset".to_owned(), at(470));
        assert_eq!(down(&watching, at(470)).len(), 1);
    }
}
