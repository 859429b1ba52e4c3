//! The process dies between any two steps of a commit, and every record is in the dataset once all the same.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidewater_e2e::{Lab, Record, orders};
use tokio::task::JoinSet;

use crate::dataset_sink::DatasetSink;
use crate::witness::assert_letters;

/// How a run comes to pass a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// Every commit passes it.
    Commit,
    /// Nothing has been committed for a while.
    Idle,
    /// The staged files of an interrupted commit vanished.
    Vanished,
    /// Retention removed records before they were read, and the resource says to skip them.
    Expired,
}

use Road::{Commit, Expired, Idle, Vanished};

/// Place (and which passage), and how it is reached.
const CASES: &[(&str, Road)] = &[
    ("engine.before-seal", Commit),
    ("engine.sealed", Commit),
    ("engine.letters-delivered", Commit),
    ("dataset.staged", Commit),
    ("dataset.before-cas", Commit),
    ("dataset.before-cas:3", Commit),
    ("dataset.after-cas", Commit),
    ("dataset.after-cas:2", Commit),
    ("dataset.after-first-complete", Commit),
    ("dataset.after-first-complete:4", Commit),
    ("dataset.after-completes", Commit),
    ("dataset.before-settle", Idle),
    ("dataset.after-settle", Idle),
    ("dataset.before-retracting", Vanished),
    ("dataset.after-retracting", Vanished),
    ("dataset.after-delete", Vanished),
    ("dataset.before-retracted", Vanished),
    ("dataset.after-retracted", Vanished),
    ("dataset.before-reset", Expired),
    ("dataset.after-reset", Expired),
    ("engine.committed", Commit),
];

/// Cases that run at a time.
const AT_ONCE: usize = 4;

#[test]
fn every_place_that_a_dataset_passes_has_its_case() {
    let source = include_str!("../../sink-runtime/src/failpoint.rs");
    let (_, list) = source.split_once("pub const ALL").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let passed: BTreeSet<&str> = list
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|name| !name.starts_with("iceberg."))
        .collect();
    let name = |case: &(&'static str, Road)| case.0.split(':').next().unwrap();
    assert_eq!(CASES.iter().map(name).collect::<BTreeSet<_>>(), passed);
}

#[tokio::test]
async fn killed_at_any_place_and_started_again_every_record_is_there_once() -> Result<()> {
    tokio::task::LocalSet::new().run_until(every_case()).await
}

async fn every_case() -> Result<()> {
    let lab = Lab::shared().await?;
    let mut running = JoinSet::new();
    // The slow ones first: they only wait.
    let mut cases = CASES.to_vec();
    cases.sort_by_key(|(_, road)| *road != Idle);
    for (failpoint, road) in cases {
        if running.len() == AT_ONCE {
            running.join_next().await.context("a case")???;
        }
        running.spawn_local(async move {
            let case = Box::pin(dies_and_goes_on(lab, failpoint, road)).await;
            case.with_context(|| failpoint.to_owned())
        });
    }
    while let Some(case) = running.join_next().await {
        case??;
    }
    Ok(())
}

/// What is no record at all, one for each partition.
pub(crate) fn misfits(round: usize) -> impl Iterator<Item = Record> + Send {
    (0..2).map(move |partition| {
        Record::new(
            partition,
            format!("{{\"order_id\": nonsense {round} of {partition}"),
        )
        .key(format!("misfit {round}"))
        .header("trace", format!("of {partition}"))
    })
}

async fn dies_and_goes_on(lab: &'static Lab, failpoint: &str, road: Road) -> Result<()> {
    let (topic, letters) = (lab.topic("orders", 2).await?, lab.topic("dead", 1).await?);
    let rules = json!({
        "partitioning": [{"column": "country"}],
        "rotation": {"maxOpen": "300ms"},
        "onError": "DeadLetter",
        "deadLetter": {"topic": letters.name()},
    });
    let mut sink = DatasetSink::of(lab, &topic).await?.with(rules).alone();
    topic.produce(misfits(0)).await?;
    topic.produce(orders(200, 1)).await?;
    let mut rows = 200;
    match road {
        Commit | Idle => {}
        Vanished => {
            sink.die_at("dataset.after-cas").await?;
            ensure!(sink.abort_uploads(0).await? > 0, "nothing was staged");
        }
        Expired => {
            sink.catch_up().await?;
            let ends = [topic.offsets(0).await?.1, topic.offsets(1).await?.1];
            topic.produce(orders(100, 2)).await?;
            topic.delete_records(0, ends[0] + 30).await?;
            topic.delete_records(1, ends[1] + 7).await?;
            sink.change(json!({"source": {"onRecordsExpired": "Skip"}}));
            rows = 200 + 100 - 30 - 7;
        }
    }
    // Later passages need records that come later.
    let dead = Cell::new(false);
    let dying = async {
        let died = sink.die_at(failpoint).await;
        dead.set(true);
        died
    };
    let feeding = async {
        let mut beat = tokio::time::interval(Duration::from_millis(500));
        let mut fed = 0;
        while !dead.get() && road == Commit {
            beat.tick().await;
            topic.produce(orders(20, 3).chain(misfits(1))).await?;
            fed += 20;
        }
        anyhow::Ok(fed)
    };
    let (died, fed) = tokio::join!(dying, feeding);
    died?;
    sink.catch_up().await?;
    sink.assert_once(rows + fed?).await?;
    // Letters are durable before their offsets are passed: each is there, whatever died.
    if road != Expired {
        ensure!(assert_letters(&topic, &letters).await? >= 2);
    }
    Ok(())
}
