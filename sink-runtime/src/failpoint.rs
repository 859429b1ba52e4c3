//! Named places where a test may kill or stop the process. Compiled to nothing without the feature `failpoints`.
//!
//! `TIDEWATER_FAILPOINT=<name>[:<n>]` kills the process (SIGKILL, to itself) when the place is passed the n-th time
//! (default 1). Every place is listed in [`ALL`], so that a test can walk them.

/// Every failpoint, in the order a commit passes them.
pub const ALL: &[&str] = &[];

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
