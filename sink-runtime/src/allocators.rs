//! Settings of the process's allocators, so that resident memory follows the memory budget. Called once, before any
//! thread starts.

// Linked for its C part, which `settle` calls.
use mimalloc as _;

/// Arenas of the C allocator, which librdkafka and zstd use: by default eight for each core, each keeping what it freed.
const ARENAS: libc::c_int = 2;

/// Milliseconds that a sink's mimalloc keeps pages it could give back; a second by default, in which a sink frees and takes
/// several times its budget. Zero would cost more in page faults than it saves.
pub const PURGE_DELAY: libc::c_long = 100;

/// `mi_option_purge_delay` of `mimalloc.h`, for which the crate has no name.
const MI_OPTION_PURGE_DELAY: libc::c_int = 15;

#[allow(
    unsafe_code,
    reason = "a setting that mimalloc's crate has no function for"
)]
unsafe extern "C" {
    fn mi_option_set_default(option: libc::c_int, value: libc::c_long);
}

/// Without huge pages (half-used ones counted a good part of resident memory) and with few C arenas. Pages that could be
/// given back are kept for `purge_delay` milliseconds. What cannot be set stays as it is.
#[allow(
    unsafe_code,
    reason = "calls into the allocators that only change settings of this process"
)]
pub fn settle(purge_delay: libc::c_long) {
    // SAFETY: none of the calls touches memory of ours, and no other thread runs yet. mimalloc is this process's global
    // allocator, whose C part has the function; an option it does not know is passed over.
    unsafe {
        mi_option_set_default(MI_OPTION_PURGE_DELAY, purge_delay);
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        #[cfg(target_env = "gnu")]
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
