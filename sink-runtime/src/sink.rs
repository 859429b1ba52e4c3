//! From a plan to a running sink: opens store or catalog, proves what exactly-once rests on, and hands over to the
//! engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::catalog::TableOps;
#[cfg(feature = "cloud")]
use crate::catalog::hive::Keeper;
use crate::catalog::hive::Registrar;
use crate::commit::backoff::BackoffPolicy;
use crate::commit::dataset::DatasetCommitter;
use crate::commit::iceberg::{IcebergCommitter, Pace};
use crate::deadletter::{BesideTable, DeadLetters, Shelf};
use crate::engine::dataset::{DatasetDeliver, DatasetShelf};
use crate::engine::table::target::Targets;
use crate::engine::table::{TableDeliver, TableShelf};
use crate::engine::{self, EngineError, Until};
use crate::errors::{Classified, OneLine};
use crate::failpoint;
use crate::files::Places;
use crate::observe::{CommitOutcome, Progress};
use crate::plan::{DatasetPlan, Delivery, Destination, IcebergPlan, Plan, StorePlan};
use crate::store::upload::Uploader;
use crate::store::{self, Store};

/// Uploads that no ledger names and that are younger are somebody's, surely.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// Parts in flight to a file system.
const LOCAL_UPLOADS: usize = 4;
/// Commits that make no progress for this much longer than the longest rotation make the sink unhealthy.
const STALLED: Duration = Duration::from_secs(300);

/// What the outside may look at while [`run`] works.
pub fn progress(plan: &Plan) -> Progress {
    let longest = plan.rotation.max_open.max(plan.commit.interval);
    let stalled = longest + failpoint::stalled_after(STALLED);
    Progress::new(
        &plan.sink.to_string(),
        Budget::of_process(plan.pod.memory_budget),
        stalled,
    )
}

/// Runs one resource: until `shutdown` turns true, `until` is reached, or it cannot go on.
pub async fn run(
    plan: Plan,
    progress: Progress,
    until: Until,
    shutdown: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let plan = Arc::new(plan);
    tracing::info!(
        sink = %plan.sink,
        bytes = plan.pod.memory_budget,
        from = %plan.pod.budget_origin,
        "memory budget"
    );
    match plan.destination.clone() {
        Destination::Dataset(dataset) => {
            run_dataset(plan, dataset, progress, until, shutdown).await
        }
        Destination::Iceberg(table) => run_table(plan, table, progress, until, shutdown).await,
    }
}

async fn run_dataset(
    plan: Arc<Plan>,
    dataset: DatasetPlan,
    progress: Progress,
    until: Until,
    shutdown: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let store = patiently(&plan, &progress, &shutdown, || store::open(&dataset.store)).await?;
    if dataset.delivery == Delivery::ExactlyOnce {
        patiently(&plan, &progress, &shutdown, || {
            store.probe("_tidewater/probe")
        })
        .await?;
    }
    let shelf = Shelf::Dataset(Arc::clone(&store));
    let letters = DeadLetters::open(&plan, shelf).map_err(|e| stopped(&e))?;
    let committer = Arc::new(committer(&plan, &store));
    let abandoned = abandoned_after(plan.rotation.max_open, plan.source.drain_timeout);
    match committer.sweep(abandoned).await {
        Ok(swept) if !swept.aborted.is_empty() => {
            tracing::info!(uploads = swept.aborted.len(), "abandoned uploads aborted");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(error = %OneLine(&error), "abandoned uploads could not be swept")
        }
    }
    let uploads = match &dataset.store {
        StorePlan::S3(s3) => s3.upload_concurrency,
        StorePlan::Local { .. } => LOCAL_UPLOADS,
    };
    let registrar = dataset
        .glue
        .as_ref()
        .map(|glue| Arc::new(Registrar::new(glue)));
    #[cfg(feature = "cloud")]
    let kept = match dataset.glue.as_ref().zip(registrar.clone()) {
        Some((glue, registrar)) => {
            let (store, progress) = (Arc::clone(&store), progress.clone());
            Some(Keeper::start(glue, store, registrar, progress))
        }
        None => None,
    };
    let uploader = Uploader::new(store, Handle::current(), uploads, progress.budget.clone());
    let deliver = Arc::new(DatasetDeliver::new(
        &plan,
        Arc::clone(&committer),
        uploader.clone(),
        progress.clone(),
        registrar.clone(),
    ));
    let (for_shelf, budget) = (Arc::clone(&plan), progress.budget.clone());
    let places = places(&plan);
    let shelf = move |_| {
        let registrar = registrar.clone();
        DatasetShelf::new(
            &for_shelf, &dataset, &committer, &uploader, &budget, registrar, &places,
        )
        .map_err(|e| stopped(&e))
    };
    let ended = engine::run(plan, progress, deliver, letters, shelf, until, shutdown).await;
    #[cfg(feature = "cloud")]
    if let Some(kept) = kept {
        kept.finish().await;
    }
    ended
}

/// The age from which an upload that no ledger names is swept at start: longer than any file stays open and is on its way.
fn abandoned_after(max_open: Duration, drain: Duration) -> Duration {
    ABANDONED.max(max_open.saturating_mul(2).saturating_add(drain))
}

/// The committer of a dataset's ledgers, as the runtime and `tidewater status` use it.
pub fn committer(plan: &Plan, store: &Arc<dyn Store>) -> DatasetCommitter {
    DatasetCommitter::new(
        Arc::clone(store),
        plan.sink.to_string(),
        writer(),
        BackoffPolicy::default(),
    )
}

/// The committer of a table's ledger, as the runtime and `tidewater ledger` use it.
pub fn table_committer(plan: &Plan, ops: Arc<dyn TableOps>) -> IcebergCommitter {
    IcebergCommitter::new(ops, &plan.sink, Pace::default(), || {
        chrono::Utc::now().timestamp_millis()
    })
}

async fn run_table(
    plan: Arc<Plan>,
    table: IcebergPlan,
    progress: Progress,
    until: Until,
    shutdown: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let ops = patiently(&plan, &progress, &shutdown, || {
        crate::catalog::connect(&table)
    })
    .await?;
    let beside = BesideTable::new(table.clone(), Arc::clone(&ops));
    let shelf = Shelf::Table(Arc::new(beside));
    let letters = DeadLetters::open(&plan, shelf).map_err(|e| stopped(&e))?;
    let committer = table_committer(&plan, ops);
    let committer = committer.heard_by(Arc::new(progress.clone()));
    let budget = progress.budget.clone();
    let targets = Targets::new(
        table.clone(),
        &plan.decode,
        committer,
        Handle::current(),
        budget.clone(),
        plan.commit.max_consecutive_failures,
    );
    let targets = Arc::new(targets);
    let deliver = Arc::new(TableDeliver::new(
        &plan,
        Arc::clone(&targets),
        progress.clone(),
    ));
    let for_shelf = Arc::clone(&plan);
    let places = places(&plan);
    let shelf = move |_| {
        let shelf = TableShelf::new(&for_shelf, &table, &targets, &budget, &places);
        Ok(shelf)
    };
    engine::run(plan, progress, deliver, letters, shelf, until, shutdown).await
}

/// For the open files of all workers.
fn places(plan: &Plan) -> Places {
    Places::new(plan.rotation.max_open_files, plan.pod.workers)
}

/// What is down when the sink starts is waited for, as it would be later, but not beyond a shutdown.
async fn patiently<T, E, F>(
    plan: &Plan,
    progress: &Progress,
    shutdown: &watch::Receiver<bool>,
    call: impl Fn() -> F,
) -> Result<T, EngineError>
where
    E: Classified + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 0;
    loop {
        let error = match call().await {
            Ok(value) => {
                progress.reached();
                return Ok(value);
            }
            Err(error) => error,
        };
        let message = OneLine(&error).to_string();
        let failures =
            progress.not_committed(CommitOutcome::Failed, error.class(), message.clone());
        if engine::ends(
            error.class(),
            failures,
            plan.commit.max_consecutive_failures,
        ) {
            return Err(stopped(&error));
        }
        tracing::warn!(error = %message, advice = error.class().advice, "the destination cannot be opened yet");
        tries += 1;
        let mut told = shutdown.clone();
        tokio::select! {
            () = engine::RETRY.pause(tries) => {}
            _ = told.wait_for(|shutdown| *shutdown) => return Err(stopped(&error)),
        }
    }
}

fn stopped(error: &(impl Classified + 'static)) -> EngineError {
    EngineError::Stopped {
        class: error.class(),
        message: OneLine(error).to_string(),
    }
}

/// Host and process, for people who read ledgers.
fn writer() -> String {
    let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    format!(
        "{}:{}",
        host.unwrap_or_else(|_| "unknown".to_owned()).trim(),
        std::process::id()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_upload_is_swept_while_its_file_may_be_open() {
        let hour = Duration::from_secs(3600);
        let drain = Duration::from_secs(30);
        assert_eq!(abandoned_after(hour / 60, drain), 24 * hour);
        assert_eq!(abandoned_after(36 * hour, drain), 72 * hour + drain);
    }
}
