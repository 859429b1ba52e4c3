//! `tidewater run`: the sinks of its files until SIGTERM, SIGINT or the end, each for itself; progress on the terminal.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::CliError;
use crate::backoff::Backoff;
use crate::engine::{EngineError, Until};
use crate::errors::{Classified, OneLine, class};
use crate::observe::{Progress, http};
use crate::plan::Plan;
use crate::sink;

/// Before a sink that failed beside others is started again.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));

pub(super) async fn run(
    plans: Vec<Plan>,
    until_caught_up: bool,
    address: SocketAddr,
) -> Result<ExitCode, CliError> {
    let (paused, plans): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| plan.paused);
    for plan in &paused {
        tracing::info!(sink = %plan.sink, "paused: not run (spec.paused)");
    }
    let until = if until_caught_up {
        Until::CaughtUp
    } else {
        Until::Shutdown
    };
    let progress: Vec<Progress> = plans.iter().map(sink::progress).collect();
    let bound = http::serve(address, progress.clone()).await;
    let bound = bound.map_err(|error| {
        CliError(format!(
            "listen on {address}: {error} (choose another --http)"
        ))
    })?;
    tracing::info!(http = %bound, sinks = plans.len(), "tidewater {}", env!("CARGO_PKG_VERSION"));

    let (stop, stopped) = watch::channel(false);
    tokio::spawn(stop_on_signal(stop.clone()));
    let printer = tokio::spawn(print(progress.clone()));
    // Alone, a sink that fails ends the process, and who started that starts it again. Beside others it waits here.
    let again = plans.len() > 1 && until == Until::Shutdown;
    let mut sinks = JoinSet::new();
    for (plan, progress) in plans.into_iter().zip(&progress) {
        let mut sink = Supervised {
            plan,
            progress: progress.clone(),
            until,
            again,
            stop: stopped.clone(),
        };
        sinks.spawn(async move { sink.run().await });
    }
    let mut failed = Vec::new();
    while let Some(ended) = sinks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(line)) => failed.push(line),
            Err(error) => failed.push(format!("a sink's task failed: {error}")),
        }
    }
    printer.abort();
    for progress in &progress {
        summary(progress);
    }
    if failed.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(CliError(failed.join("\n")))
    }
}

/// One sink of the process. What happens to it leaves the others alone.
struct Supervised {
    plan: Plan,
    progress: Progress,
    until: Until,
    /// Whether it is started again after a failure.
    again: bool,
    stop: watch::Receiver<bool>,
}

impl Supervised {
    /// Until it ended well, or failed for good: then a line for people.
    async fn run(&mut self) -> Result<(), String> {
        let name = self.plan.sink.to_string();
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let Err(error) = self.once().await else {
                tracing::info!(sink = %name, "ended");
                return Ok(());
            };
            failures = if began.elapsed() > AGAIN.longest {
                1
            } else {
                failures + 1
            };
            let wait = AGAIN.delay(failures, rand::random());
            let again = (self.again && !*self.stop.borrow()).then_some(wait);
            let advice = error.class().advice;
            let message = format!("{} ({advice})", OneLine(&error));
            let line = format!("{name}: {message}");
            self.progress.stopped(message, again);
            let Some(pause) = again else {
                super::last_words(error.class().reason, &OneLine(&error).to_string());
                return Err(line);
            };
            let (error, again_s) = (OneLine(&error).to_string(), pause.as_secs());
            tracing::error!(sink = %name, error, advice, again_s, "the sink stopped; others go on, and it is started again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = asked(&mut self.stop) => return Err(line),
            }
        }
    }

    /// A task of its own, so that a panic is one more reason to stop.
    async fn once(&self) -> Result<(), EngineError> {
        self.progress.started();
        let (plan, progress) = (self.plan.clone(), self.progress.clone());
        let run = Box::pin(sink::run(plan, progress, self.until, self.stop.clone()));
        match tokio::spawn(run).await {
            Ok(ended) => ended,
            Err(error) => Err(EngineError::Stopped {
                class: class::INTERNAL,
                message: format!("the sink's task failed: {error}"),
            }),
        }
    }
}

/// Waits until the process is told to stop.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn stop_on_signal(stop: watch::Sender<bool>) {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping: committing what is open");
    let _ = stop.send(true);
}

/// A line a second on a terminal (rewritten in place), one every ten seconds elsewhere.
async fn print(sinks: Vec<Progress>) {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(10)
    };
    let mut before = vec![(0, 0, Instant::now()); sinks.len()];
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        for (sink, before) in sinks.iter().zip(&mut before) {
            let now = sink.snapshot();
            let seconds = before.2.elapsed().as_secs_f64().max(0.001);
            let records = (now.records - before.0) as f64 / seconds;
            let megabytes = (now.bytes - before.1) as f64 / seconds / 1e6;
            *before = (now.records, now.bytes, Instant::now());
            let lag = now
                .lag_records
                .map_or_else(|| "?".to_owned(), |lag| lag.to_string());
            if terminal && sinks.len() == 1 {
                let text = format!(
                    "{}: {} records, {records:.0}/s, {megabytes:.1} MB/s, lag {lag}, {} files, last commit {}",
                    now.sink,
                    now.records,
                    now.commit.committed_files,
                    now.commit.last_commit_time.as_deref().unwrap_or("-"),
                );
                eprint!("\r\x1b[2K{text}");
                let _ = std::io::stderr().flush();
            } else {
                tracing::info!(
                    sink = %now.sink,
                    records = now.records,
                    records_per_s = records as u64,
                    mb_per_s = format!("{megabytes:.1}"),
                    lag,
                    files = now.commit.committed_files,
                    last_commit = now.commit.last_commit_time.as_deref().unwrap_or("-"),
                    "progress"
                );
            }
        }
    }
}

fn summary(sink: &Progress) {
    let end = sink.snapshot();
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    tracing::info!(
        sink = %end.sink,
        records = end.records,
        rows = end.commit.committed_rows,
        files = end.commit.committed_files,
        commits = end.commit.commits,
        dead_letters = end.dead_letters,
        peak_memory = sink.budget.peak(),
        "summary"
    );
}
