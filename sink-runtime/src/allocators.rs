//! Settings of the process's allocators, so that resident memory follows the memory budget. Called once, before any
//! thread starts.

/// Arenas of the C allocator, which librdkafka and zstd use: by default eight for each core, each keeping what it freed.
const ARENAS: libc::c_int = 2;

/// Without huge pages (half-used ones counted a good part of resident memory) and with few C arenas. What cannot be set
/// stays as it is.
#[allow(
    unsafe_code,
    reason = "two calls into libc that only change settings of this process"
)]
pub fn settle() {
    // SAFETY: neither call touches memory of ours, and no other thread runs yet.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        #[cfg(target_env = "gnu")]
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
