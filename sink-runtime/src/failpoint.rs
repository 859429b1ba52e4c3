//! Named places where a test may kill or stop the process. Compiled to nothing without the feature `failpoints`.
//!
//! `TIDEWATER_FAILPOINT=<name>[:<n>]` kills the process (SIGKILL, to itself) when the place is passed the n-th time
//! (default 1). With `!stop` behind it the process stands still there (SIGSTOP) until somebody thaws it (SIGCONT), and
//! goes on from that very place: a zombie that holds what it was about to commit. Every place is listed in [`ALL`], so
//! that a test can walk them.
//!
//! `TIDEWATER_WALL_CLOCK=<RFC 3339>` sets the wall clock that partitions by it follow: it shows that moment when it is
//! first looked at, and goes on from there.
//!
//! `TIDEWATER_STALLED_AFTER=<seconds>` takes the place of the five minutes that records may wait, beyond the longest
//! rotation, while nothing moves.

/// Every failpoint, in the order a commit passes them.
pub const ALL: &[&str] = &[
    "engine.before-seal",
    "engine.sealed",
    "engine.letters-delivered",
    "dataset.staged",
    "dataset.before-cas",
    "dataset.after-cas",
    "dataset.after-first-complete",
    "dataset.after-completes",
    "iceberg.before-stage",
    "iceberg.after-manifests",
    "iceberg.before-commit",
    "iceberg.after-commit",
    "engine.committed",
    "dataset.before-settle",
    "dataset.after-settle",
    "dataset.before-retracting",
    "dataset.after-retracting",
    "dataset.after-delete",
    "dataset.before-retracted",
    "dataset.after-retracted",
    "dataset.before-reset",
    "dataset.after-reset",
];

#[cfg(feature = "failpoints")]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let setting = std::env::var("TIDEWATER_FAILPOINT").ok()?;
        Wanted::parse(&setting)
    });
    if let Some(wanted) = wanted
        && wanted.name == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == wanted.nth
    {
        wanted.then.happen();
    }
}

/// What the variable says.
#[cfg(any(feature = "failpoints", test))]
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    nth: u64,
    then: Then,
}

#[cfg(any(feature = "failpoints", test))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Die,
    Stand,
}

#[cfg(any(feature = "failpoints", test))]
impl Wanted {
    /// `None` of what names no place in [`ALL`], or asks for what there is not.
    fn parse(setting: &str) -> Option<Self> {
        let (place, then) = match setting.split_once('!') {
            None => (setting, Then::Die),
            Some((place, "stop")) => (place, Then::Stand),
            Some(_) => return None,
        };
        let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
        ALL.contains(&name).then_some(())?;
        Some(Self {
            name: name.to_owned(),
            nth: nth.parse().ok()?,
            then,
        })
    }
}

/// Milliseconds since the epoch.
#[cfg(feature = "failpoints")]
pub fn wall_clock() -> i64 {
    use std::sync::OnceLock;
    static AHEAD: OnceLock<i64> = OnceLock::new();
    let now = chrono::Utc::now().timestamp_millis();
    let ahead = AHEAD.get_or_init(|| {
        let setting = std::env::var("TIDEWATER_WALL_CLOCK").ok();
        let moment = setting.and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok());
        moment.map_or(0, |moment| moment.timestamp_millis() - now)
    });
    now + ahead
}

/// Milliseconds since the epoch.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn wall_clock() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// How much longer than the longest rotation records may wait while nothing moves.
#[cfg(feature = "failpoints")]
pub fn stalled_after(otherwise: std::time::Duration) -> std::time::Duration {
    let setting = std::env::var("TIDEWATER_STALLED_AFTER").ok();
    let seconds = setting.and_then(|seconds| seconds.parse().ok());
    seconds.map_or(otherwise, std::time::Duration::from_secs)
}

/// How much longer than the longest rotation records may wait while nothing moves.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn stalled_after(otherwise: std::time::Duration) -> std::time::Duration {
    otherwise
}

#[cfg(feature = "failpoints")]
impl Then {
    #[allow(
        unsafe_code,
        reason = "signals to ourselves: after SIGKILL nothing may run, no destructor, no flush; SIGSTOP goes to the \
                  thread that stands at the place, so that it does not take one more step"
    )]
    fn happen(self) {
        match self {
            Self::Die => unsafe { libc::kill(libc::getpid(), libc::SIGKILL) },
            Self::Stand => unsafe { libc::raise(libc::SIGSTOP) },
        };
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pass(_name: &str) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::{ALL, Then, Wanted};

    fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }

    #[test]
    fn a_setting_names_the_place_the_passage_and_what_happens_there() {
        let wanted = |name: &str, nth, then| {
            let name = name.to_owned();
            Some(Wanted { name, nth, then })
        };
        let of = Wanted::parse;
        assert_eq!(of("engine.sealed"), wanted("engine.sealed", 1, Then::Die));
        assert_eq!(of("engine.sealed:3"), wanted("engine.sealed", 3, Then::Die));
        assert_eq!(
            of("dataset.before-cas!stop"),
            wanted("dataset.before-cas", 1, Then::Stand)
        );
        assert_eq!(
            of("iceberg.before-commit:2!stop"),
            wanted("iceberg.before-commit", 2, Then::Stand)
        );
        for other in [
            "",
            "engine.nowhere",
            "engine.sealed:x",
            "engine.sealed!wait",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn every_place_in_the_code_is_listed_and_every_listed_place_exists() {
        let mut files = Vec::new();
        sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut files,
        );
        let mut passed = BTreeSet::new();
        let mark = concat!("failpoint::", "pass(\"");
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            for rest in text.split(mark).skip(1) {
                passed.insert(rest.split('"').next().unwrap().to_owned());
            }
        }
        let listed: BTreeSet<String> = ALL.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(passed, listed);
        assert_eq!(listed.len(), ALL.len(), "listed twice");
    }
}
