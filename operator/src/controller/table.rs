//! The table in the catalog, which is to be what the spec says before pods get to see it. Every look runs beside the
//! reconciles, a few at a time and bounded in time: a catalog that hangs holds up its own resources and nobody else's. What
//! a look finds is a condition; whether pods may have a new configuration is decided from it, purely.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidewater_crds::{SinkStatus, TableStatus};
use tidewater_runtime::commit::iceberg::declare::{
    Dropped, declare, drop_made, preview as preview_table,
};
use tidewater_runtime::commit::iceberg::{Declaration, Declared, IcebergFailure, Pace};
use tidewater_runtime::errors::{Classified, OneLine, class};
use tidewater_runtime::plan::{CatalogPlan, Plan};
use tokio::sync::Semaphore;

use crate::conditions::{
    AWAITING_RECORDS, CATALOG_NOT_PERMITTED, CATALOG_REFUSED, CATALOG_UNREACHABLE, Concern,
    DIFFERS, Finding, SYNCED, State, TABLE_MISSING, TABLE_NOT_OBSERVED, remembered,
};
use crate::observations::{Observations, SinkKey};

/// Looks at a time, of all resources.
const CONCURRENCY: usize = 8;
/// One look takes no longer; one that did is begun anew.
const LONGEST: Duration = Duration::from_secs(30);
/// Until the next look at a table that was as it shall be, or that others have to see to.
const SETTLED: Duration = Duration::from_secs(300);
/// The same where something has to be done or to pass.
const UNSETTLED: Duration = Duration::from_secs(20);
/// The first pause of 0.2 s, doubled up to 2 s: about 3 s in all. The next look is never far.
const PACE: Pace = Pace {
    attempts: 4,
    first: Duration::from_millis(200),
    longest: Duration::from_secs(2),
};

/// What a resource wants of a catalog.
#[derive(Clone, Debug)]
pub enum TableWish {
    Iceberg(Box<Declaration>),
}

/// What applying a spec would change in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    pub exists: bool,
    pub steps: Vec<String>,
    pub refused: Vec<String>,
}

impl TableWish {
    /// `None`: the resource has nothing to do with a catalog.
    pub fn of(plan: &Plan) -> Option<Self> {
        Declaration::of(plan).map(|wanted| Self::Iceberg(Box::new(wanted)))
    }

    /// `namespace.table`.
    pub fn name(&self) -> String {
        match self {
            Self::Iceberg(wanted) => {
                format!("{}.{}", wanted.plan.namespace.join("."), wanted.plan.table)
            }
        }
    }

    /// Only the pods can see it.
    pub fn hidden(&self) -> bool {
        match self {
            Self::Iceberg(wanted) => matches!(wanted.plan.catalog, CatalogPlan::Local { .. }),
        }
    }

    /// Makes the table what is wanted.
    async fn sync(&self) -> Look {
        match self {
            Self::Iceberg(wanted) => {
                let declared = async {
                    let ops = Box::pin(tidewater_runtime::catalog::connect(&wanted.plan)).await;
                    let ops = ops.map_err(|error| of_catalog(&error))?;
                    let declared = Box::pin(declare(&*ops, wanted, PACE, now_ms)).await;
                    declared.map_err(|error| of_failure(&error))
                };
                match declared.await {
                    Ok(declared) => of_declared(&self.name(), declared),
                    Err(finding) => Look::of(finding),
                }
            }
        }
    }

    /// What [`Self::sync`] would change.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn preview(&self) -> Result<Preview, String> {
        let Self::Iceberg(wanted) = self;
        let told = |error: &dyn std::error::Error| OneLine(error).to_string();
        let asked = async {
            let ops = Box::pin(tidewater_runtime::catalog::connect(&wanted.plan)).await;
            let ops = ops.map_err(|error| told(&error))?;
            let changes = Box::pin(preview_table(&*ops, wanted, now_ms)).await;
            changes.map_err(|error| told(&error))
        };
        let changes = tokio::time::timeout(LONGEST, asked)
            .await
            .map_err(|_| took_too_long())??;
        Ok(match changes {
            Some(changes) => Preview {
                exists: true,
                steps: changes.steps.iter().map(ToString::to_string).collect(),
                refused: changes.refused,
            },
            None if wanted.columns.is_some() && !wanted.plan.create_if_missing => Preview {
                refused: vec![TABLE_MISSING.message.to_owned()],
                ..Preview::default()
            },
            None => Preview::default(),
        })
    }

    /// Drops the table if it was made for this resource.
    async fn delete(&self) -> Result<Dropped, String> {
        let Self::Iceberg(wanted) = self;
        let told = |error: &dyn std::error::Error| OneLine(error).to_string();
        let ops = Box::pin(tidewater_runtime::catalog::connect(&wanted.plan)).await;
        let ops = ops.map_err(|error| told(&error))?;
        let dropped = Box::pin(drop_made(&*ops, &wanted.sink, PACE)).await;
        dropped.map_err(|error| told(&error))
    }
}

fn now_ms() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_millisecond()
}

fn took_too_long() -> String {
    format!("no answer within {} s", LONGEST.as_secs())
}

/// What a look came to.
#[derive(Clone, Debug)]
struct Look {
    finding: Finding,
    table: Option<TableStatus>,
    /// The table made by this look.
    created: Option<String>,
    /// Changed by this look.
    steps: Vec<String>,
}

impl Look {
    fn of(finding: Finding) -> Self {
        Self {
            finding,
            table: None,
            created: None,
            steps: Vec::new(),
        }
    }
}

fn of_declared(name: &str, declared: Declared) -> Look {
    let status = |table: &tidewater_runtime::catalog::Base| TableStatus {
        uuid: Some(table.metadata.uuid().to_string()),
        location: Some(table.metadata.location().to_owned()),
        format_version: Some(i64::from(table.metadata.format_version() as u8)),
    };
    match declared {
        Declared::Synced {
            table,
            created,
            steps,
        } => Look {
            finding: SYNCED.found(),
            table: Some(status(&table)),
            created: created.then(|| name.to_owned()),
            steps: steps.iter().map(ToString::to_string).collect(),
        },
        Declared::Refused { table, changes } => Look {
            finding: DIFFERS.because(format!("table {name}: {}", changes.plan())),
            table: Some(status(&table)),
            ..Look::of(DIFFERS.found())
        },
        Declared::Awaiting => Look::of(AWAITING_RECORDS.found()),
    }
}

fn of_failure(failure: &IcebergFailure) -> Finding {
    let why = OneLine(failure).to_string();
    match failure {
        IcebergFailure::TableMissing { .. } => {
            TABLE_MISSING.because(format!("{why}: {}", TABLE_MISSING.message))
        }
        _ => of_class(failure.class().reason, why),
    }
}

fn of_catalog(error: &tidewater_runtime::catalog::CatalogError) -> Finding {
    of_class(error.class().reason, OneLine(error).to_string())
}

fn of_class(reason: &str, why: String) -> Finding {
    let is = |class: tidewater_runtime::errors::Class| class.reason == reason;
    if is(class::CATALOG_DENIED) {
        CATALOG_NOT_PERMITTED.because(why)
    } else if is(class::TABLE_INCOMPATIBLE) || is(class::INVALID_SPEC) {
        DIFFERS.because(why)
    } else if is(class::CATALOG_REFUSED) {
        CATALOG_REFUSED.because(why)
    } else {
        CATALOG_UNREACHABLE.because(why)
    }
}

/// What is known of a resource's table.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the spec and the Secrets that it was looked at with.
    pub revision: String,
    pub finding: Finding,
    pub table: Option<TableStatus>,
    at: Instant,
}

impl Found {
    fn is_due(&self) -> bool {
        pause(self).is_some_and(|pause| self.at.elapsed() >= pause)
    }
}

/// How a table is, for the status.
#[derive(Clone, Debug)]
pub struct TableFound {
    pub finding: Finding,
    pub status: Option<TableStatus>,
    /// Until the next look is due.
    pub again: Option<Duration>,
}

impl TableFound {
    /// As the status says.
    pub fn remembered(before: &SinkStatus) -> Option<Self> {
        remembered(Concern::TableSynced, &before.conditions).map(Self::from)
    }
}

impl From<&Found> for TableFound {
    fn from(found: &Found) -> Self {
        Self {
            finding: found.finding.clone(),
            status: found.table.clone(),
            again: pause(found).map(|pause| pause.saturating_sub(found.at.elapsed())),
        }
    }
}

impl From<Finding> for TableFound {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            status: None,
            again: None,
        }
    }
}

/// What may be done with the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    Go,
    /// The table cannot become what this spec says: what runs goes on as it is.
    Hold,
    /// It has not been looked at with this spec.
    Wait,
}

/// `deployed`: the pods have this spec already, and nothing new is let loose on the table. A catalog that this process
/// cannot look at is no hindrance: the pods look for themselves.
pub fn course(found: Option<&Found>, revision: &str, deployed: bool) -> Course {
    match found {
        _ if deployed => Course::Go,
        Some(found) if found.revision != revision => Course::Wait,
        Some(found) if found.finding.state() == State::False => Course::Hold,
        Some(_) => Course::Go,
        None => Course::Wait,
    }
}

/// What a look has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A table of this name.
    Created(String),
    /// The steps taken.
    Changed(Vec<String>),
}

#[derive(Debug, Default)]
struct Entry {
    uid: String,
    running: bool,
    found: Option<Found>,
    /// Not told yet.
    news: Vec<News>,
    dropped: Option<Result<Dropped, String>>,
}

/// The tables of all resources: who looks at them, and what was found. Holds one entry for each resource that has one.
#[derive(Debug)]
pub struct Tables {
    entries: Arc<Mutex<HashMap<SinkKey, Entry>>>,
    permits: Arc<Semaphore>,
    observations: Arc<Observations>,
}

impl Tables {
    /// `observations` brings it to the controller when something was found.
    pub fn new(observations: Arc<Observations>) -> Self {
        Self {
            entries: Arc::default(),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
            observations,
        }
    }

    /// What was found last; begins a look where one is due.
    pub fn look(
        &self,
        key: &SinkKey,
        uid: &str,
        revision: &str,
        wish: &TableWish,
    ) -> Option<Found> {
        if wish.hidden() {
            return Some(Found {
                revision: revision.to_owned(),
                finding: TABLE_NOT_OBSERVED
                    .because("the catalog is a folder of the pods: they look after the table"),
                table: None,
                at: Instant::now(),
            });
        }
        let mut entries = self.entries.lock();
        let entry = entry(&mut entries, key, uid);
        let found = entry.found.clone();
        let due = found
            .as_ref()
            .is_none_or(|found| found.revision != revision || found.is_due());
        if due && !entry.running {
            entry.running = true;
            let (wish, revision) = (wish.clone(), revision.to_owned());
            self.begin(key, uid, async move {
                let look = tokio::time::timeout(LONGEST, wish.sync()).await;
                let look =
                    look.unwrap_or_else(|_| Look::of(CATALOG_UNREACHABLE.because(took_too_long())));
                let note = move |entry: &mut Entry| {
                    let news = entry
                        .found
                        .as_ref()
                        .is_none_or(|old| old.finding != look.finding || old.revision != revision);
                    let news = news || !look.steps.is_empty() || look.created.is_some();
                    entry.news.extend(look.created.map(News::Created));
                    if !look.steps.is_empty() {
                        entry.news.push(News::Changed(look.steps));
                    }
                    entry.found = Some(Found {
                        revision,
                        finding: look.finding,
                        table: look.table,
                        at: Instant::now(),
                    });
                    news
                };
                Box::new(note) as Note
            });
        }
        found
    }

    /// What became of the table of a resource that is being deleted; begins to drop it where nothing is known.
    pub fn delete(
        &self,
        key: &SinkKey,
        uid: &str,
        wish: &TableWish,
    ) -> Option<Result<Dropped, String>> {
        if wish.hidden() {
            let why = "its catalog is a folder that only the pods can see";
            return Some(Ok(Dropped::Kept(why.to_owned())));
        }
        let mut entries = self.entries.lock();
        let entry = entry(&mut entries, key, uid);
        if let Some(dropped) = entry.dropped.take() {
            return Some(dropped);
        }
        // A look that is under way might make the table anew.
        if !entry.running {
            entry.running = true;
            let wish = wish.clone();
            self.begin(key, uid, async move {
                let dropped = tokio::time::timeout(LONGEST, wish.delete()).await;
                let dropped = dropped.unwrap_or_else(|_| Err(took_too_long()));
                let note = move |entry: &mut Entry| {
                    entry.dropped = Some(dropped);
                    true
                };
                Box::new(note) as Note
            });
        }
        None
    }

    /// Runs when there is room for it, notes what it came to, and tells the controller if that is news.
    fn begin(&self, key: &SinkKey, uid: &str, work: impl Future<Output = Note> + Send + 'static) {
        let (key, uid) = (key.clone(), uid.to_owned());
        let (entries, permits) = (Arc::clone(&self.entries), Arc::clone(&self.permits));
        let observations = Arc::clone(&self.observations);
        tokio::spawn(async move {
            let running = Running {
                entries: &entries,
                key: &key,
                uid: &uid,
            };
            let permit = permits.acquire().await;
            let note = Box::pin(work).await;
            drop(permit);
            drop(running);
            let news = match entries.lock().get_mut(&key) {
                Some(entry) if entry.uid == uid => note(entry),
                _ => false,
            };
            if news {
                observations.poke(&key);
            }
        });
    }

    /// What was found last.
    pub fn known(&self, key: &SinkKey, uid: &str) -> Option<Found> {
        let entries = self.entries.lock();
        let entry = entries.get(key).filter(|entry| entry.uid == uid)?;
        entry.found.clone()
    }

    /// What looks have done since this was last asked.
    pub fn news(&self, key: &SinkKey, uid: &str) -> Vec<News> {
        match self.entries.lock().get_mut(key) {
            Some(entry) if entry.uid == uid => std::mem::take(&mut entry.news),
            _ => Vec::new(),
        }
    }

    pub fn forget(&self, key: &SinkKey, uid: &str) {
        let mut entries = self.entries.lock();
        if entries.get(key).is_some_and(|entry| entry.uid == uid) {
            entries.remove(key);
        }
    }

    pub fn retain(&self, kind: &str, exists: impl Fn(&SinkKey) -> bool) {
        self.entries
            .lock()
            .retain(|key, _| key.kind != kind || exists(key));
    }
}

/// Says whether it is news.
type Note = Box<dyn FnOnce(&mut Entry) -> bool + Send>;

/// A look under way, however it ends.
struct Running<'a> {
    entries: &'a Mutex<HashMap<SinkKey, Entry>>,
    key: &'a SinkKey,
    uid: &'a str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entries.lock().get_mut(self.key)
            && entry.uid == self.uid
        {
            entry.running = false;
        }
    }
}

/// Between two looks; `None`: nobody looks.
fn pause(found: &Found) -> Option<Duration> {
    let others = [CATALOG_NOT_PERMITTED.reason, CATALOG_REFUSED.reason];
    match found.finding.state() {
        _ if found.finding.reason() == TABLE_NOT_OBSERVED.reason => None,
        State::True => Some(SETTLED),
        _ if others.contains(&found.finding.reason()) => Some(SETTLED),
        _ => Some(UNSETTLED),
    }
}

fn entry<'a>(entries: &'a mut HashMap<SinkKey, Entry>, key: &SinkKey, uid: &str) -> &'a mut Entry {
    let entry = entries.entry(key.clone()).or_default();
    if entry.uid != uid {
        *entry = Entry {
            uid: uid.to_owned(),
            ..Entry::default()
        };
    }
    entry
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
