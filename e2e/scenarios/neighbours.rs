//! Several resources in one process: what happens to one leaves the others alone.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Tidewater, Topic, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE, ended};

/// A sink that works, and one whose bucket is not there yet.
struct Neighbours {
    lab: &'static Lab,
    topics: [Topic; 2],
    sound: DatasetSink,
    broken: DatasetSink,
    late_bucket: String,
}

impl Neighbours {
    async fn new() -> Result<Neighbours> {
        let lab = Lab::shared().await?;
        let topics = [lab.topic("orders", 1).await?, lab.topic("orders", 1).await?];
        for topic in &topics {
            topic.produce(orders(50, 1)).await?;
        }
        let late_bucket = lab.unique("late");
        let mut broken = DatasetSink::of(lab, &topics[1]).await?;
        broken.move_to(&late_bucket);
        Ok(Neighbours {
            lab,
            sound: DatasetSink::of(lab, &topics[0]).await?,
            topics,
            broken,
            late_bucket,
        })
    }

    fn start(&self, more: &[&str]) -> Result<Tidewater> {
        self.sound.start_beside(&self.broken, more)
    }

    /// What `/status` says of the broken one.
    async fn broken_status(&self, tidewater: &Tidewater) -> Result<Value> {
        let (_, body) = tidewater.http_get("/status").await?;
        let status: Value = serde_json::from_str(&body)?;
        let sinks = status["sinks"].as_array().context("sinks")?;
        let found = sinks.iter().find(|sink| sink["sink"] == self.broken.id());
        Ok(found.context("the broken sink")?.clone())
    }
}

#[tokio::test]
async fn a_sink_that_stops_leaves_its_neighbour_running_and_is_started_again() -> Result<()> {
    let both = Neighbours::new().await?;
    let tidewater = both.start(&[])?;
    await_until(PATIENCE, "the broken sink is reported", async || {
        let status = both.broken_status(&tidewater).await?;
        Ok(status["stopped"].is_object())
    })
    .await?;
    let status = both.broken_status(&tidewater).await?;
    let message = status["stopped"]["message"].as_str().context("a message")?;
    assert!(message.contains("spec.destination.s3.bucket"), "{message}");
    assert!(status["stopped"]["againAfter"].is_u64(), "{status}");
    assert_eq!(status["lagRecords"], json!(null), "nobody reads its topic");

    // The neighbour goes on, and not only with what it had.
    both.sound.await_rows(50).await?;
    both.topics[0].produce(orders(50, 2)).await?;
    both.sound.await_rows(100).await?;
    let (health, said) = tidewater.http_get("/healthz").await?;
    assert_eq!(health, 200, "nothing is won by a restart of both: {said}");
    assert!(said.contains(&both.broken.id()), "{said}");
    let (ready, said) = tidewater.http_get("/readyz").await?;
    assert_eq!(ready, 503, "{said}");
    assert!(said.contains("spec.destination.s3.bucket"), "{said}");

    let s3 = both.lab.s3_client();
    s3.create_bucket().bucket(&both.late_bucket).send().await?;
    both.broken.await_rows(50).await?;
    let status = both.broken_status(&tidewater).await?;
    assert!(status["stopped"].is_null(), "{status}");
    tidewater.sigterm();
    let ended = ended(&tidewater).await?;
    assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
    both.sound.assert_once(100).await?;
    both.broken.assert_once(50).await
}

#[tokio::test]
async fn a_process_ends_in_failure_only_when_all_its_sinks_have_ended() -> Result<()> {
    let both = Neighbours::new().await?;
    let ended = ended(&both.start(&["--until-caught-up"])?).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(ended.log.contains(&both.broken.id()), "{}", ended.log);
    both.sound.assert_once(50).await?;

    // Told to stop while one is stopped already: that one is named.
    both.topics[0].produce(orders(50, 2)).await?;
    let tidewater = both.start(&[])?;
    both.sound.await_rows(100).await?;
    await_until(PATIENCE, "the broken sink is reported", async || {
        let status = both.broken_status(&tidewater).await?;
        Ok(status["stopped"].is_object())
    })
    .await?;
    tidewater.sigterm();
    let ended = crate::dataset_sink::ended(&tidewater).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    both.sound.assert_once(100).await
}
