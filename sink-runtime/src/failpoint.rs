//! Named places where a test may kill or stop the process. Compiled to nothing without the feature `failpoints`.
//!
//! `TIDEWATER_FAILPOINT=<name>[:<n>]` kills the process (SIGKILL, to itself) when the place is passed the n-th time
//! (default 1). Every place is listed in [`ALL`], so that a test can walk them.
//!
//! `TIDEWATER_WALL_CLOCK=<RFC 3339>` sets the wall clock that partitions by it follow: it shows that moment when it is
//! first looked at, and goes on from there.

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
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let setting = std::env::var("TIDEWATER_FAILPOINT").ok()?;
        let (name, nth) = setting.split_once(':').unwrap_or((setting.as_str(), "1"));
        Some((name.to_owned(), nth.parse().ok()?))
    });
    if let Some((wanted, nth)) = wanted
        && wanted == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        kill_self();
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

#[cfg(feature = "failpoints")]
#[allow(
    unsafe_code,
    reason = "kill(2) on ourselves: nothing may run after it, no destructor, no flush"
)]
fn kill_self() {
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pass(_name: &str) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::ALL;

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
