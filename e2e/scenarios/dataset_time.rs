//! Folders by time: the time of the records that ends a folder, and the wall clock at midnight.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, Tidewater, Topic, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, status};

/// 2026-01-01T10:00:00Z
const TEN_O_CLOCK: i64 = 1_767_261_600_000;

/// An order of so many minutes after ten.
fn at_minute(minute: i64) -> Record {
    let mut record = orders(1, 1).next().unwrap_or_default();
    let mut value: Value =
        serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or_default();
    value["created_at"] = json!(TEN_O_CLOCK + minute * 60_000);
    record.value = Some(value.to_string().into_bytes());
    record
}

/// Produces orders of these minutes and waits until the process has read them, its `total`-th record among them.
async fn read(topic: &Topic, minutes: &[i64], tidewater: &Tidewater, total: i64) -> Result<()> {
    let records: Vec<_> = minutes.iter().map(|minute| at_minute(*minute)).collect();
    topic.produce(records).await?;
    await_until(PATIENCE, &format!("{total} records read"), async || {
        Ok(status(tidewater).await?["records"] == json!(total))
    })
    .await
    .with_context(|| tidewater.process().log_tail())
}

#[tokio::test]
async fn the_files_of_an_hour_close_when_the_records_say_that_it_is_over() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "partitioning": [{"time": {"granularity": "Hour", "column": "created_at"}}],
        "rotation": {"maxOpen": "1h", "partitionClose": {"allowedLateness": "5m"}},
    }));
    let tidewater = sink.start()?;
    read(&topic, &[0, 30, 59], &tidewater, 3).await?;
    // The hour has ended, and records of it may yet come.
    read(&topic, &[64], &tidewater, 4).await?;
    read(&topic, &[58], &tidewater, 5).await?;
    assert_eq!(sink.count().await?, (0, 0));
    read(&topic, &[65], &tidewater, 6).await?;
    sink.await_rows(6)
        .await
        .with_context(|| tidewater.process().log_tail())?;
    // Late: to its own folder, in a file of its own, when another rule says so.
    read(&topic, &[31, 66], &tidewater, 8).await?;
    tidewater.sigterm();
    ensure!(tidewater.wait_exit(PATIENCE).await?.success());
    sink.assert_once(8).await?;
    let files = sink.files().await?;
    let of_hour = |hour: &str| files.iter().filter(|key| key.contains(hour)).count();
    assert_eq!(
        (of_hour("hour=10/"), of_hour("hour=11/")),
        (2, 2),
        "{files:?}"
    );
    let late = sink.value(
        "SELECT count(*) FROM $t WHERE hour = 10 AND hour(created_at AT TIME ZONE 'UTC') = 10",
    );
    assert_eq!(late.await?, json!(5));
    let commits = sink.value("SELECT count(DISTINCT filename) FROM $t");
    assert_eq!(commits.await?, json!(4));
    Ok(())
}

const EVE: &str = "dt=2026-03-01";
const MORNING: &str = "dt=2026-03-02";

/// Days that keys are of.
fn days(keys: &BTreeSet<String>) -> BTreeSet<&str> {
    keys.iter()
        .filter_map(|key| key.split('/').next())
        .collect()
}

// T23
#[tokio::test]
async fn a_crash_at_midnight_leaves_no_record_in_the_folders_of_two_days() -> Result<()> {
    let failpoints = [
        "dataset.before-cas",
        "dataset.after-cas",
        "dataset.after-first-complete",
    ];
    // Each mostly waits for its midnight.
    try_join_all(failpoints.map(crashes_at_midnight)).await?;
    Ok(())
}

async fn crashes_at_midnight(failpoint: &'static str) -> Result<()> {
    let lab = Lab::shared().await?;
    let both = BTreeSet::from([EVE, MORNING]);
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?.alone().with(json!({
        "partitioning": [{"time": {"format": "dt=%Y-%m-%d", "source": "WallClock"}}],
        "rotation": {"maxOpen": "4s"},
    }));
    // The first commit holds rows of both days: midnight is two seconds after the first record.
    let dead = Cell::new(false);
    let dying = async {
        let clock = ("TIDEWATER_WALL_CLOCK", "2026-03-01T23:59:58Z");
        let died = sink.die_at_with(failpoint, &[clock]).await;
        dead.set(true);
        died
    };
    let feeding = async {
        let mut beat = tokio::time::interval(Duration::from_millis(250));
        let mut fed = 0;
        while !dead.get() {
            beat.tick().await;
            topic.produce(orders(20, 3)).await?;
            fed += 20;
        }
        anyhow::Ok(fed)
    };
    let (died, fed) = tokio::join!(dying, feeding);
    died?;
    let (staged, visible) = (sink.uploads().await?, sink.files().await?);
    let left: BTreeSet<String> = staged.union(&visible).cloned().collect();
    assert_eq!(days(&left), both, "{failpoint}: {left:?}");

    // Read again, what is not committed has another day.
    let clock = ("TIDEWATER_WALL_CLOCK", "2026-03-02T00:01:00Z");
    let ended = sink.run_to_the_end(&[clock]).await?;
    ensure!(ended.status.success(), "{failpoint}: {}", ended.log);
    sink.assert_once(fed?).await.context(failpoint)?;
    let files = sink.files().await?;
    let expected = match failpoint {
        "dataset.before-cas" => BTreeSet::from([MORNING]),
        _ => both.clone(),
    };
    assert_eq!(days(&files), expected, "{failpoint}: {files:?}");
    Ok(())
}
