//! The memory budget holds where open files are many: the process's own peak, as the kernel counts it.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewater_e2e::{COUNTRIES, Lab, Tidewater, await_until, orders_of_countries};

use crate::dataset_sink::{DatasetSink, PATIENCE, status, stop};

const PARTITIONS: i32 = 24;
const RECORDS: u64 = 300_000;
const BUDGET: u64 = 96 << 20;
/// Code, stacks and clients come on top of a budget.
const ON_TOP: u64 = 64 << 20;

/// T13: 24 partitions, each with rows for all of 80 folders at a time.
#[tokio::test]
async fn many_partitions_of_many_folders_stay_within_the_memory_budget() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("memory", PARTITIONS).await?;
    topic
        .produce(orders_of_countries(RECORDS, 13, COUNTRIES.len()))
        .await?;
    let sink = DatasetSink::of(lab, &topic).await?.local().with(json!({
        "partitioning": [{"column": "country"}],
        // Nearly all that is there is open at once.
        "rotation": {"maxOpen": "3s"},
        "pod": {"memoryBudget": format!("{}Mi", BUDGET >> 20)},
    }));
    let tidewater = sink.start()?;
    within_budget(&tidewater, RECORDS).await?;
    sink.assert_once(RECORDS as i64).await
}

/// Waits until so many rows are committed, and ends the process: it has kept to [`BUDGET`].
async fn within_budget(tidewater: &Tidewater, rows: u64) -> Result<()> {
    await_until(PATIENCE, "every record committed", async || {
        let committed = status(tidewater).await?["commit"]["committedRows"].as_u64();
        Ok(committed >= Some(rows))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    let peak = peak_of(tidewater.process().pid().context("it runs")?)?;
    stop(tidewater).await?;
    ensure!(
        peak <= BUDGET + ON_TOP,
        "{} MiB of resident memory with a budget of {} MiB",
        peak >> 20,
        BUDGET >> 20
    );
    Ok(())
}

/// The most that was ever resident of a running process, in bytes.
pub(crate) fn peak_of(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kib.context("no VmHWM")?.trim().parse::<u64>()? * 1024)
}
