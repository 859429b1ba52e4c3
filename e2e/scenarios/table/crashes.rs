//! SIGKILL at every step of a commit, the first of a table and a later one: after the restart each record is one row.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::*;
use crate::dataset_failpoints::misfits;
use crate::witness::assert_letters;

/// Where a commit may die: see `failpoint::ALL` of the runtime.
const PLACES: [&str; 8] = [
    "engine.before-seal",
    "engine.sealed",
    "engine.letters-delivered",
    "iceberg.before-stage",
    "iceberg.after-manifests",
    "iceberg.before-commit",
    "iceberg.after-commit",
    "engine.committed",
];
/// Sinks at a time.
const ABREAST: usize = 4;

async fn killed_at(place: &str, catalog: Catalog) -> Result<()> {
    let sink = TableSink::new(catalog, 2).await?;
    let letters = sink.lab.topic("dead", 1).await?;
    let sink = sink
        .set("/onError", json!("DeadLetter"))
        .set("/deadLetter", json!({"topic": letters.name()}))
        // Started again it has its partitions back at once.
        .set("/source/properties/group.instance.id", json!("alone"));
    for seed in 1..=2 {
        sink.produce(150, seed).await?;
        sink.topic.produce(misfits(1)).await?;
        let doomed = sink.start_to_die_at(place)?;
        let ended = doomed.wait_exit(PATIENCE).await?;
        let log = doomed.process().log_tail();
        ensure!(ended.signal() == Some(9), "{ended}:\n{log}");
    }
    sink.catch_up().await?;
    sink.assert_rows_once().await?;
    ensure!(assert_letters(&sink.topic, &letters).await? == 4);
    Ok(())
}

async fn killed_everywhere(catalog: Catalog) -> Result<()> {
    let abreast = Arc::new(Semaphore::new(ABREAST));
    let mut sinks = JoinSet::new();
    let local = LocalSet::new();
    for place in PLACES {
        let abreast = Arc::clone(&abreast);
        let work = async move {
            let _turn = abreast.acquire().await?;
            killed_at(place, catalog).await.context(place)
        };
        sinks.spawn_local_on(work, &local);
    }
    local
        .run_until(async move {
            while let Some(ended) = sinks.join_next().await {
                ended??;
            }
            Ok(())
        })
        .await
}

// T4, T5
#[tokio::test]
async fn a_rest_table_killed_at_any_step_of_a_commit_holds_every_record_once() -> Result<()> {
    killed_everywhere(Catalog::Rest).await
}

// T4, T5
#[tokio::test]
async fn a_glue_table_killed_at_any_step_of_a_commit_holds_every_record_once() -> Result<()> {
    killed_everywhere(Catalog::Glue).await
}
