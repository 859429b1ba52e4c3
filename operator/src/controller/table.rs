//! The table in the catalog, which is to be what the spec says before pods get to see it. Every look runs beside the
//! reconciles, a few at a time and bounded in time: a catalog that hangs holds up its own resources and nobody else's. What
//! a look finds is a condition; whether pods may have a new configuration is decided from it, purely.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidewater_crds::{SinkStatus, TableStatus};
use tidewater_runtime::commit::iceberg::declare::Dropped;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::live::DeploymentFacts;
use super::validate::Checked;
use crate::conditions::{
    CATALOG_NOT_PERMITTED, CATALOG_REFUSED, CATALOG_UNREACHABLE, Concern, Finding, SYNCED, State,
    TABLE_ACCESS_DENIED, TABLE_NOT_OBSERVED, remembered,
};
use crate::observations::{Observations, SinkKey};
use crate::pods::TableWord;

mod wish;

pub use wish::{CatalogIdentity, Preview, TableWish};

use wish::{LONGEST, Look, of_pods, took_too_long};

/// Looks at a time, of all resources.
const CONCURRENCY: usize = 8;
/// Until the next look at a table that was as it shall be, or that others have to see to.
const SETTLED: Duration = Duration::from_secs(300);
/// The same where something has to be done or to pass.
const UNSETTLED: Duration = Duration::from_secs(20);
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

impl TableFound {
    /// With the word of pods that keep the table themselves: they know of partitions, and may be let in where the operator
    /// is not.
    #[must_use]
    pub fn with(mut self, word: Option<&TableWord>) -> Self {
        // Their own word of before does not stand against what they say now.
        let theirs = self.finding.reason() == TABLE_ACCESS_DENIED.reason;
        if self.finding.state() == State::False && !theirs {
            return self;
        }
        match word {
            None => {}
            Some(TableWord::Synced) => self.finding = SYNCED.found(),
            Some(TableWord::Trouble(reason, message)) => {
                self.finding = of_pods(reason, message);
            }
        }
        self
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
    /// What runs for it.
    task: Option<Task>,
}

/// A look or a drop for a resource that is gone, or that has thought better of it, is not to reach the catalog.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The tables of all resources: who looks at them, and what was found. Holds one entry for each resource that has one.
#[derive(Debug)]
pub struct Tables {
    entries: Arc<Mutex<HashMap<SinkKey, Entry>>>,
    permits: Arc<Semaphore>,
    observations: Arc<Observations>,
    identity: CatalogIdentity,
}

impl Tables {
    /// `observations` brings it to the controller when something was found.
    pub fn new(observations: Arc<Observations>, identity: CatalogIdentity) -> Self {
        Self {
            entries: Arc::default(),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
            observations,
            identity,
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
        if let Some(why) = wish.hidden(self.identity) {
            return Some(Found {
                revision: revision.to_owned(),
                finding: TABLE_NOT_OBSERVED
                    .because(format!("{why}: the pods look after the table")),
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
            entry.task = self.begin(key, uid, async move {
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

    /// What may be done as far as the table goes, and how it is. `before`: the status as it was.
    pub fn course(
        &self,
        key: &SinkKey,
        checked: &Checked,
        before: &SinkStatus,
        deployment: Option<&DeploymentFacts>,
    ) -> (Course, Option<TableFound>) {
        let Some(wish) = &checked.table else {
            return (Course::Go, None);
        };
        let revision = checked.revision();
        let known = self.look(key, &checked.identity.uid, &revision, wish);
        let deployed = deployment
            .and_then(|deployment| deployment.config_hash.as_ref())
            .is_some_and(|hash| *hash == checked.config.hash);
        let found = known
            .as_ref()
            .filter(|known| known.revision == revision)
            .map(TableFound::from)
            .or_else(|| TableFound::remembered(before))
            .unwrap_or_else(|| TABLE_NOT_OBSERVED.found().into());
        let course = course(known.as_ref(), &revision, deployed || wish.is_view());
        (course, Some(found))
    }

    /// How the table was found last, while nobody looks.
    pub fn last(&self, key: &SinkKey, uid: &str, before: &SinkStatus) -> Option<TableFound> {
        let known = self.known(key, uid);
        known
            .as_ref()
            .map(TableFound::from)
            .or_else(|| TableFound::remembered(before))
    }

    /// What became of the table of a resource that is being deleted; begins to drop it where nothing is known.
    pub fn delete(
        &self,
        key: &SinkKey,
        uid: &str,
        wish: &TableWish,
    ) -> Option<Result<Dropped, String>> {
        if let Some(why) = wish.hidden(self.identity) {
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
            entry.task = self.begin(key, uid, async move {
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
    fn begin(
        &self,
        key: &SinkKey,
        uid: &str,
        work: impl Future<Output = Note> + Send + 'static,
    ) -> Option<Task> {
        let (key, uid) = (key.clone(), uid.to_owned());
        let (entries, permits) = (Arc::clone(&self.entries), Arc::clone(&self.permits));
        let observations = Arc::clone(&self.observations);
        let task = tokio::spawn(async move {
            let running = Running {
                entries: &entries,
                key: &key,
                uid: &uid,
            };
            let permit = permits.acquire().await;
            let note = Box::pin(work).await;
            drop(permit);
            let news = match entries.lock().get_mut(&key) {
                Some(entry) if entry.uid == uid => {
                    entry.running = false;
                    note(entry)
                }
                _ => false,
            };
            drop(running);
            if news {
                observations.poke(&key);
            }
        });
        Some(Task(task.abort_handle()))
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
