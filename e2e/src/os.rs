//! The few things asked of the operating system directly: signals, ports, children that die with their parent, and what
//! a child has used.

#![allow(
    unsafe_code,
    reason = "prctl, kill, geteuid and wait4 have no safe wrapper in std; each call is one line on plain data"
)]

use std::io;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};

use anyhow::{Context, Result, anyhow};
use rand::Rng;

type Reply = Sender<io::Result<Child>>;

/// "Die with your parent" means the parent's *thread*: a child started by a test's thread would die at that test's end.
/// So one thread that lives as long as the process starts them all.
static SPAWNER: LazyLock<Mutex<Sender<(Command, Reply)>>> = LazyLock::new(|| {
    let (requests, inbox) = channel::<(Command, Reply)>();
    std::thread::spawn(move || {
        for (mut command, reply) in inbox {
            // A receiver that is gone has no use for the answer.
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(requests)
});

/// Starts a child in a process group of its own. The kernel kills it when this process ends, however it ends.
pub(crate) fn spawn_bound(mut command: Command) -> Result<Child> {
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let (reply, answer) = channel();
    SPAWNER
        .lock()
        .map_err(|_| anyhow!("the spawner's lock is poisoned"))?
        .send((command, reply))
        .context("hand the command to the spawner")?;
    Ok(answer.recv().context("wait for the spawner")??)
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: plain integers; a pid that is gone answers ESRCH, which is what the caller wants anyway.
    unsafe {
        libc::kill(pid.cast_signed(), signal);
    }
}

/// Sends a signal to the process group that `pid` leads.
pub(crate) fn signal_group(pid: u32, signal: i32) {
    // SAFETY: as in `signal`.
    unsafe {
        libc::kill(-pid.cast_signed(), signal);
    }
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    // SAFETY: it only tells a number.
    unsafe { libc::geteuid() == 0 }
}

/// Whether a process of this id exists.
pub(crate) fn exists(pid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(pid.cast_signed(), 0) == 0 }
}

/// Whether every thread of a process has been stopped by a signal.
pub(crate) fn stands_still(pid: u32) -> Result<bool> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else {
            // It ended meanwhile.
            return Ok(false);
        };
        // The name in parentheses may hold anything, parentheses included.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if !state.is_some_and(|rest| rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits for a child, and asks the kernel what it has used: itself and the children it has waited for.
pub(crate) fn wait_with_usage(child: &Child) -> io::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage, a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals. Nobody else reaps the child: `Child` does so in methods only.
        let reaped =
            unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
        if reaped >= 0 {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A loopback port nobody listens on. It lies below the ephemeral range (32768 and up), so that no outgoing connection
/// takes it while a server is down for a moment.
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = rand::rng().random_range(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(anyhow!("no free loopback port in 200 tries"))
}
