//! Two processes share a group while orders arrive all the time; one or the other is killed or put to
//! sleep, again and again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tidewater_e2e::{Lab, Tidewater, await_until, orders};
use tokio::sync::watch;

use crate::dataset_sink::{DatasetSink, PATIENCE};

const PARTITIONS: i32 = 6;

#[tokio::test]
async fn soak_short_kills_and_rebalances_leave_every_record_there_once() -> Result<()> {
    soak(5, 1).await
}

#[tokio::test]
#[ignore = "minutes; `make soak`"]
async fn soak_long_kills_and_rebalances_leave_every_record_there_once() -> Result<()> {
    let seed = rand::random();
    println!("seed {seed}");
    soak(25, seed).await
}

/// At least so many rounds end with a SIGKILL; those that end with a SIGTERM come on top.
async fn soak(kills: u32, seed: u64) -> Result<()> {
    let lab = Lab::shared().await?;
    let mut random = SmallRng::seed_from_u64(seed);
    let topic = lab.topic("orders", PARTITIONS).await?;
    let rules = json!({"rotation": {"maxOpen": "400ms"}, "partitioning": [{"column": "status"}]});
    let sink = DatasetSink::of(lab, &topic).await?.with(rules);

    let (enough, stop) = watch::channel(false);
    let producer = tokio::spawn({
        let topic = topic.clone();
        async move {
            let mut produced = 0_u64;
            let mut beat = tokio::time::interval(Duration::from_millis(200));
            while !*stop.borrow() {
                beat.tick().await;
                topic.produce(orders(300, produced)).await?;
                produced += 300;
            }
            anyhow::Ok(produced)
        }
    });

    let pair = [sink.start()?, sink.start()?];
    let (mut round, mut killed) = (0, 0);
    while killed < kills {
        round += 1;
        let victim = &pair[random.random_range(0..2)];
        // Not before something is committed, and then at no particular moment.
        let before = committed(&topic, &sink).await?;
        let what = format!("round {round}: commits go on");
        await_until(PATIENCE, &what, async || {
            Ok(committed(&topic, &sink).await? > before)
        })
        .await
        .with_context(|| logs(&pair))?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
        let asleep = match random.random_range(0..6) {
            0 => {
                victim.sigterm();
                false
            }
            1 => {
                victim.freeze();
                true
            }
            _ => {
                victim.kill9();
                killed += 1;
                false
            }
        };
        if asleep {
            // What it holds is another's when it wakes: all partitions went on without it.
            let before = by_partition(&topic, &sink).await?;
            let what = format!("round {round}: every partition goes on");
            await_until(PATIENCE, &what, async || {
                let now = by_partition(&topic, &sink).await?;
                Ok(now.iter().zip(&before).all(|(now, before)| now > before))
            })
            .await
            .with_context(|| logs(&pair))?;
            victim.thaw();
            continue;
        }
        if random.random_bool(0.5) {
            // The other one alone for a while.
            let before = committed(&topic, &sink).await?;
            let what = format!("round {round}: the other one goes on");
            await_until(PATIENCE, &what, async || {
                Ok(committed(&topic, &sink).await? > before)
            })
            .await
            .with_context(|| logs(&pair))?;
        }
        victim.restart()?;
    }
    enough.send(true)?;
    let produced = i64::try_from(producer.await??)?;
    await_until(PATIENCE, "everything is committed", async || {
        Ok(committed(&topic, &sink).await? == produced)
    })
    .await
    .with_context(|| logs(&pair))?;
    for one in &pair {
        one.sigterm();
    }
    let began = Instant::now();
    for one in &pair {
        let status = one.wait_exit(PATIENCE).await?;
        assert!(status.success(), "{status} after {:?}", began.elapsed());
    }
    sink.assert_once(produced).await?;
    println!("{round} rounds, {killed} kills, {produced} records, seed {seed}");
    Ok(())
}

/// Records that the group's offsets say are in the dataset.
async fn committed(topic: &tidewater_e2e::Topic, sink: &DatasetSink) -> Result<i64> {
    Ok(by_partition(topic, sink).await?.into_iter().sum())
}

/// The same of each partition.
async fn by_partition(topic: &tidewater_e2e::Topic, sink: &DatasetSink) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let committed = topic.committed(&sink.group(), partition).await?;
        all.push(committed.unwrap_or(0));
    }
    Ok(all)
}

fn logs(pair: &[Tidewater]) -> String {
    pair.iter()
        .map(|one| one.process().log_tail())
        .collect::<Vec<_>>()
        .join("\n--\n")
}
