//! Keeps a sink's Glue table right while the sink runs: makes it, lets its columns follow the files', registers folders
//! that became visible, and compares partitions with the bucket's folders from time to time. A task of its own: the
//! sink never waits for it, and its failures end nothing; they are told in `/status` and tried again.
//!
//! Every process does this for its own files. The comparison with the bucket is each process's at its start, and later
//! only that of those that own a topic's first partition, or that found partitions which are not as wanted: that is one in
//! most sinks, and two do no harm.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_glue::primitives::DateTime;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use twox_hash::XxHash64;

use super::client::HiveClient;
use super::table::fingerprint;
use super::{
    Column, Difference, HiveError, HivePlan, Partition, Partitions, Registrar, TableState,
};
use crate::engine::RETRY;
use crate::errors::{Classified, Fault, OneLine, Retry, class};
use crate::observe::Progress;
use crate::store::Store;

/// Folders that become visible within this go into one call.
const GATHER: Duration = Duration::from_millis(500);
/// A table that is not as wanted is looked at again after this: somebody may have mended it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// At the end of the sink, for what still waits.
const LAST: Duration = Duration::from_secs(10);
/// Lists of folders asked for at the same time.
const LISTS_AT_ONCE: usize = 8;
/// Folders compared with Glue at the same time, and waiting folders registered.
const COMPARED_AT_ONCE: usize = 1000;
const REGISTERED_AT_ONCE: usize = 100;
/// Folders above the last level that a comparison may hold: some 100 bytes each.
const UPPER_FOLDERS: usize = 200_000;
/// Folders told apart when partitions without one are looked for: 8 bytes each, and as much again.
const TOLD_APART: usize = 500_000;
/// Partitions that are not as wanted, in a message.
const TOLD: usize = 5;
/// Partitions without a folder that are looked at one by one.
const LOOKED_AT: usize = 100;

#[derive(Debug)]
pub struct Keeper {
    plan: HivePlan,
    client: HiveClient,
    store: Arc<dyn Store>,
    registrar: Arc<Registrar>,
    progress: Progress,
    /// Of the columns that partitions were last registered with.
    fingerprint: Option<String>,
    /// When the table was made, as Glue says: another one has none of the partitions.
    made: Option<DateTime>,
    compared: Option<Instant>,
    /// How long the last comparison took.
    took: Duration,
    /// Partitions were changed since the table was last looked at: by then another process may have given it more columns.
    changed: bool,
    /// Partitions that are not as wanted, as the last comparison found.
    odd: Vec<Difference>,
}

/// A running keeper.
#[derive(Debug)]
pub struct Kept {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Lets it register what still waits, within bounds.
    pub async fn finish(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(LAST, &mut self.task).await.is_err() {
            tracing::warn!("Glue was not told of everything; the next start makes up for it");
            self.task.abort();
        }
    }
}

impl Keeper {
    pub fn start(
        plan: &HivePlan,
        store: Arc<dyn Store>,
        registrar: Arc<Registrar>,
        progress: Progress,
    ) -> Kept {
        progress.table_awaited(&plan.name());
        let (stop, stopped) = watch::channel(false);
        let plan = plan.clone();
        let task = tokio::spawn(async move {
            let keeper = Self {
                client: Box::pin(HiveClient::connect(&plan)).await,
                plan,
                store,
                registrar,
                progress,
                fingerprint: None,
                made: None,
                compared: None,
                took: Duration::ZERO,
                changed: false,
                odd: Vec::new(),
            };
            keeper.run(stopped).await;
        });
        Kept { stop, task }
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let last = *stop.borrow();
            let done = match last {
                true => Box::pin(self.finish()).await,
                false => Box::pin(self.work()).await,
            };
            let wait = match done {
                Ok(synced) => {
                    failures = 0;
                    if self.changed {
                        GATHER
                    } else if synced {
                        self.plan.repair_interval
                    } else {
                        LOOK_AGAIN.min(self.plan.repair_interval)
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.tell_failure(&error);
                    let wait = RETRY.delay(failures, rand::random());
                    // At the end, what may pass is tried until there is no more time.
                    let class = error.class();
                    if last && class.retry == Retry::Backoff && class.fault == Fault::External {
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                    wait
                }
            };
            if last {
                return;
            }
            let registrar = Arc::clone(&self.registrar);
            let news = async {
                // After a failure news change nothing: what waits is tried when its time comes.
                if failures > 0 {
                    std::future::pending::<()>().await;
                }
                registrar.news.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    fn tell_failure(&self, error: &HiveError) {
        let (class, message) = (error.class(), OneLine(error).to_string());
        tracing::warn!(table = %self.plan.name(), error = %message, advice = class.advice, "the Glue table is not up to date; data is");
        self.progress.table_failed(class, message);
        self.progress.table_waits(self.registrar.waiting());
    }

    /// What still waits, for the table as it is: its resource may say something else by now, which others see to.
    async fn finish(&mut self) -> Result<bool, HiveError> {
        if self.registrar.waiting() > 0
            && let Some(columns) = self.client.columns().await?
        {
            self.register_waiting(&columns).await?;
        }
        self.progress.table_waits(self.registrar.waiting());
        Ok(true)
    }

    /// Everything that is due. Says whether the table is as wanted.
    async fn work(&mut self) -> Result<bool, HiveError> {
        self.changed = false;
        let (wanted, unfit) = self.registrar.columns();
        let ensured = self.client.ensure(wanted.as_deref()).await?;
        if let Some(columns) = ensured.columns.as_deref() {
            if ensured.created || ensured.made != self.made {
                self.registrar.forget();
                self.compared = None;
                self.made = ensured.made;
            }
            self.follow(columns);
            self.register_waiting(columns).await?;
            if self.is_due() {
                self.compare(columns).await?;
            }
        }
        let mut trouble = ensured.state.trouble();
        if let Some(unfit) = unfit {
            trouble = trouble.or(Some((class::TABLE_INCOMPATIBLE, unfit.to_string())));
        }
        if !self.odd.is_empty() && trouble.is_none() {
            trouble = TableState::Differs(self.odd.clone()).trouble();
        }
        self.progress.table_waits(self.registrar.waiting());
        if let Some((class, message)) = trouble {
            if self.progress.table_differs(class, message.clone()) {
                tracing::warn!(table = %self.plan.name(), advice = class.advice, "{message}");
            }
            return Ok(false);
        }
        if ensured.state == TableState::Synced {
            self.progress.table_synced();
        }
        Ok(true)
    }

    /// Partitions have columns of their own: when the table's change, theirs must. One process is enough for that.
    fn follow(&mut self, columns: &[Column]) {
        let now = Some(fingerprint(columns));
        if self.fingerprint.is_some() && self.fingerprint != now && self.is_first() {
            self.compared = None;
        }
        self.fingerprint = now;
    }

    fn registers(&self) -> bool {
        self.plan.partitions == Partitions::Register && !self.plan.keys.is_empty()
    }

    async fn register_waiting(&mut self, columns: &[Column]) -> Result<(), HiveError> {
        loop {
            let some = self.registrar.some_waiting(REGISTERED_AT_ONCE);
            if some.is_empty() {
                return Ok(());
            }
            let settled = self.client.register(columns, &some).await?;
            self.registrar.registered(&some);
            self.progress.partitions_registered(settled.created);
            self.note(settled.differences);
            let (table, created) = (self.plan.name(), settled.created);
            tracing::debug!(table, created, of = some.len(), "partitions registered");
        }
    }

    fn is_due(&mut self) -> bool {
        if self.registrar.overflowed() {
            self.compared = None;
        }
        let Some(compared) = self.compared else {
            return true;
        };
        if !self.odd.is_empty() {
            // A comparison that takes long is not made all the time.
            let pause = LOOK_AGAIN.max(self.took.saturating_mul(10));
            if compared.elapsed() >= pause.min(self.plan.repair_interval) {
                return true;
            }
        }
        compared.elapsed() >= self.plan.repair_interval && self.is_first()
    }

    /// Whether this process owns a first partition. Any topic's: a topic that is named may not be there yet.
    fn is_first(&self) -> bool {
        self.progress.owns(|tp| tp.partition == 0)
    }

    /// Every folder of the layout becomes a partition with the table's columns; partitions without a folder are told,
    /// and stay: to readers they are empty, and who removed the files may want them gone or not.
    async fn compare(&mut self, columns: &[Column]) -> Result<(), HiveError> {
        let begun = Instant::now();
        self.odd.clear();
        let mut stale = None;
        if self.registers() {
            self.registrar.forget();
            let mut seen = Some(HashSet::new());
            self.walk(columns, &mut seen).await?;
            if let Some(seen) = seen {
                stale = Some(self.without_folder(&seen).await?);
            }
        }
        self.compared = Some(Instant::now());
        self.took = begun.elapsed();
        self.progress.table_compared(stale);
        Ok(())
    }

    async fn walk(
        &mut self,
        columns: &[Column],
        seen: &mut Option<HashSet<u64>>,
    ) -> Result<(), HiveError> {
        let keys = self.plan.keys.clone();
        let mut upper = vec![Partition::root()];
        for depth in 0..keys.len() {
            let last = depth + 1 == keys.len();
            let store = Arc::clone(&self.store);
            let lists = stream::iter(std::mem::take(&mut upper)).map(|parent| {
                let store = Arc::clone(&store);
                async move {
                    let folders = store.folders(&slashed(&parent.folder)).await?;
                    Ok::<_, HiveError>((parent, folders))
                }
            });
            let mut lists = lists.buffer_unordered(LISTS_AT_ONCE);
            let mut found = Vec::new();
            while let Some((parent, folders)) = lists.try_next().await? {
                for name in folders {
                    let Some(child) = parent.child(&keys, depth, &name) else {
                        continue;
                    };
                    if !last {
                        upper.push(child);
                        continue;
                    }
                    note(seen, &child.folder);
                    found.push(child);
                    if found.len() == COMPARED_AT_ONCE {
                        self.settle(columns, &std::mem::take(&mut found)).await?;
                        // New folders do not wait for the end of a long walk.
                        self.register_waiting(columns).await?;
                    }
                }
                if upper.len() > UPPER_FOLDERS {
                    tracing::warn!(table = %self.plan.name(), "too many folders to compare them all with Glue's partitions");
                    *seen = None;
                    upper.truncate(UPPER_FOLDERS);
                }
            }
            self.settle(columns, &found).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, columns: &[Column], found: &[Partition]) -> Result<(), HiveError> {
        let settled = self.client.settle(columns, found).await?;
        self.registrar.registered(found);
        self.progress.partitions_registered(settled.created);
        if settled.created + settled.updated > 0 {
            let (created, updated) = (settled.created, settled.updated);
            tracing::info!(table = %self.plan.name(), created, updated, "partitions repaired from the bucket");
        }
        self.changed |= settled.updated > 0;
        self.note(settled.differences);
        Ok(())
    }

    fn note(&mut self, differences: Vec<Difference>) {
        self.odd.extend(differences);
        self.odd.truncate(TOLD);
    }

    /// Partitions of ours whose folder is gone: those of the first hundred candidates, which are looked at again, for
    /// a folder may have come since the walk.
    async fn without_folder(&self, seen: &HashSet<u64>) -> Result<u64, HiveError> {
        let mut candidates = Vec::new();
        let keys = &self.plan.keys;
        let page = |folders: Vec<String>| {
            let gone = folders.into_iter().filter(|folder| {
                // Of another depth are somebody else's, and may hold the whole dataset.
                !seen.contains(&hash(folder)) && Partition::of_folder(keys, folder).is_some()
            });
            candidates.extend(gone.take(LOOKED_AT));
            candidates.truncate(LOOKED_AT);
        };
        self.client.folders(page).await?;
        let mut stale = 0;
        for folder in candidates {
            if !self.store.holds_any(&slashed(&folder)).await? {
                tracing::debug!(table = %self.plan.name(), folder, "a partition without files");
                stale += 1;
            }
        }
        Ok(stale)
    }
}

fn slashed(folder: &str) -> String {
    if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    }
}

fn hash(folder: &str) -> u64 {
    XxHash64::oneshot(0, folder.as_bytes())
}

fn note(seen: &mut Option<HashSet<u64>>, folder: &str) {
    if seen.as_ref().is_some_and(|seen| seen.len() >= TOLD_APART) {
        *seen = None;
    }
    if let Some(seen) = seen {
        seen.insert(hash(folder));
    }
}
