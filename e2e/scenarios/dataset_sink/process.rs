//! A process of a sink, as seen from outside.

use super::*;

/// How a process ended, and all it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
}

/// Waits for the end of a process.
pub(crate) async fn ended(tidewater: &Tidewater) -> Result<Ended> {
    let status = tidewater.wait_exit(PATIENCE).await?;
    let log = tidewater.process().log();
    Ok(Ended { status, log })
}

/// The JSON of `/status`: the first sink's.
pub(crate) async fn status(tidewater: &Tidewater) -> Result<Value> {
    let (_, body) = tidewater.http_get("/status").await?;
    let status: Value = serde_json::from_str(&body)?;
    Ok(status["sinks"][0].clone())
}

/// Commits of a process that ended so: `committed`, `fenced`, …
pub(crate) async fn commits(tidewater: &Tidewater, outcome: &str) -> Result<u64> {
    let (_, metrics) = tidewater.http_get("/metrics").await?;
    let outcome = format!("outcome=\"{outcome}\"");
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("tidewater_commits_total{") && line.contains(&outcome));
    let numbers = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(numbers.sum::<f64>() as u64)
}

/// Waits until a process that was late has been told so: somebody else made the commit that it was about to make.
pub(crate) async fn await_fenced(tidewater: &Tidewater) -> Result<()> {
    await_until(PATIENCE, "a commit that is fenced", async || {
        Ok(commits(tidewater, "fenced").await? >= 1)
    })
    .await
    .with_context(|| tidewater.process().log_tail())
}

/// Waits for a fact of `/status`.
pub(crate) async fn await_status(
    tidewater: &Tidewater,
    what: &str,
    fact: impl Fn(&Value) -> bool,
) -> Result<()> {
    await_until(PATIENCE, what, async || Ok(fact(&status(tidewater).await?)))
        .await
        .with_context(|| tidewater.process().log_tail())
}

/// Stops it as Kubernetes does; it must end well.
pub(crate) async fn stop(tidewater: &Tidewater) -> Result<()> {
    tidewater.sigterm();
    let ended = ended(tidewater).await?;
    ensure!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
    Ok(())
}

/// Waits for a text in the log of a running process; fails when it ends.
pub(crate) async fn await_log(process: &Process, text: &str) -> Result<()> {
    process
        .await_ready(PATIENCE, async || Ok(process.log().contains(text)))
        .await
        .with_context(|| format!("'{text}' in the log"))
}
