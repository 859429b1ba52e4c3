//! A command run to its end, and what it cost.

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::os;

/// What a process used, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub wall_seconds: f64,
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub peak_rss_bytes: u64,
}

/// Runs a command to its end and tells what it used. Call it from a small process: Linux counts what the parent held
/// when it started the child into the child's peak.
pub fn run_measured(command: Command) -> Result<(ExitStatus, Usage)> {
    let program = command.get_program().to_owned();
    let started = Instant::now();
    let child = os::spawn_bound(command)
        .with_context(|| format!("start '{}'", program.to_string_lossy()))?;
    let (status, used) = os::wait_with_usage(&child)?;
    let usage = Usage {
        wall_seconds: started.elapsed().as_secs_f64(),
        user_seconds: seconds(used.ru_utime),
        system_seconds: seconds(used.ru_stime),
        // Linux counts in KiB.
        peak_rss_bytes: u64::try_from(used.ru_maxrss).unwrap_or(0) * 1024,
    };
    Ok((status, usage))
}

fn seconds(time: libc::timeval) -> f64 {
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    let micros = Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0));
    (seconds + micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_computes_has_used_time_and_memory() -> Result<()> {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3",
        ]);
        let (status, usage) = run_measured(command)?;
        assert_eq!(status.code(), Some(3));
        assert!(
            usage.user_seconds > 0.0 && usage.wall_seconds > 0.0,
            "{usage:?}"
        );
        assert!(usage.peak_rss_bytes > 100_000, "{usage:?}");
        Ok(())
    }
}
