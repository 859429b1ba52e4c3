//! `tidewater run`: the sinks of a file until SIGTERM, SIGINT or the end; progress on the terminal.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::CliError;
use crate::engine::{EngineError, Until};
use crate::errors::{Classified, OneLine};
use crate::observe::{Progress, http};
use crate::plan::Plan;
use crate::sink;

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
    let mut sinks = JoinSet::new();
    for (plan, progress) in plans.into_iter().zip(&progress) {
        let name = plan.sink.to_string();
        let run = Box::pin(sink::run(plan, progress.clone(), until, stopped.clone()));
        sinks.spawn(async move { (name, run.await) });
    }
    let mut failed = Vec::new();
    while let Some(ended) = sinks.join_next().await {
        match ended {
            Ok((name, Ok(()))) => tracing::info!(sink = %name, "ended"),
            Ok((name, Err(error))) => {
                super::last_words(error.class().reason, &OneLine(&error).to_string());
                failed.push(line(&name, &error));
                // One sink's failure ends the process, after the others have committed what they hold.
                let _ = stop.send(true);
            }
            Err(error) => {
                failed.push(format!("a sink's task failed: {error}"));
                let _ = stop.send(true);
            }
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

fn line(sink: &str, error: &EngineError) -> String {
    format!(
        "{sink}: {} ({})",
        OneLine(error),
        error.class().advice
    )
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
