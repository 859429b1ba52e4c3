//! The wall clock jumps: a machine wakes up, or its clock is set right. Files are rotated by a clock that does not, and
//! records lie where their own time says unless the wall clock was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewater_e2e::{Lab, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, ended, status};

/// Far enough to be another day, month and year.
pub(crate) const FAR: i64 = 400 * 86_400;

/// The wall clock of the processes started with it.
#[derive(Debug)]
pub(crate) struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// Right, until it is set.
    pub(crate) fn new(folder: &Path) -> Result<WallClock> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/clock/wall_clock.c");
        let clock = WallClock {
            library: folder.join("wall_clock.so"),
            offset: folder.join("offset"),
        };
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&clock.library);
        let compiled = compiler.arg(source).status().context("run cc")?;
        ensure!(compiled.success(), "cc: {compiled}");
        clock.set(0)?;
        Ok(clock)
    }

    /// So many seconds from the right time.
    pub(crate) fn set(&self, seconds: i64) -> Result<()> {
        // Never empty for who reads it meanwhile.
        let new = self.offset.with_extension("new");
        fs::write(&new, seconds.to_string())?;
        Ok(fs::rename(&new, &self.offset)?)
    }

    pub(crate) fn environment(&self) -> Result<[(&'static str, &str); 2]> {
        Ok([
            ("LD_PRELOAD", self.library.to_str().context("a path")?),
            ("WALL_CLOCK_OFFSET", self.offset.to_str().context("a path")?),
        ])
    }
}

// R10
#[tokio::test]
async fn a_wall_clock_that_jumps_rotates_no_file_and_moves_no_record() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?.local().with(json!({
        "partitioning": [{"time": {"granularity": "Year", "column": "created_at"}}],
        "rotation": {"maxOpen": "1h", "maxIdle": "30m"},
    }));
    let clock = WallClock::new(&lab.scratch()?)?;
    let tidewater = sink.start_with(&clock.environment()?)?;
    let mut produced = 0;
    for offset in [0, FAR, -FAR, 0] {
        clock.set(offset)?;
        topic.produce(orders(100, 1)).await?;
        produced += 100;
        await_until(PATIENCE, "records read", async || {
            Ok(status(&tidewater).await?["records"] == json!(produced))
        })
        .await
        .with_context(|| tidewater.process().log_tail())?;
    }
    tidewater.sigterm();
    let ended = ended(&tidewater).await?;
    ensure!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
    // Made in the first days of 2026; all are in the one file of that year.
    let table = sink
        .table()
        .replace("hive_partitioning", "filename=true, hive_partitioning");
    let files = format!("SELECT DISTINCT filename FROM {table}");
    let files = sink.duckdb().await?.query(&files).await?;
    assert_eq!(files.len(), 1, "{files:?}");
    let file = files[0][0].as_str().context("a name")?;
    assert!(file.contains("/year=2026/"), "{file}");
    sink.assert_once(produced).await
}

// R10
#[tokio::test]
async fn files_are_closed_in_time_and_lie_by_the_wall_clock_where_asked_however_it_jumps()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?.local().with(json!({
        "partitioning": [{"time": {"granularity": "Year", "source": "WallClock"}}],
    }));
    let clock = WallClock::new(&lab.scratch()?)?;
    let tidewater = sink.start_with(&clock.environment()?)?;
    let mut produced = 0;
    for offset in [0, -FAR, FAR] {
        clock.set(offset)?;
        topic.produce(orders(50, 1)).await?;
        produced += 50;
        sink.await_rows(produced)
            .await
            .with_context(|| tidewater.process().log_tail())?;
    }
    tidewater.sigterm();
    let ended = ended(&tidewater).await?;
    ensure!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
    let years = format!("SELECT count(DISTINCT year) FROM {}", sink.table());
    assert_eq!(sink.duckdb().await?.value(&years).await?, json!(3));
    sink.assert_once(produced).await
}
