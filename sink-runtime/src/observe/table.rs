//! What the outside sees of a dataset's table in Glue.

use serde::Serialize;

use super::Progress;
use crate::errors::Class;

/// A dataset's table in Glue, as `/status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableProgress {
    /// `<database>.<table>`.
    pub name: String,
    /// Whether it is as the resource wants it; absent until it was looked at and made.
    pub synced: Option<bool>,
    /// Of the table of errors; absent while synced.
    pub reason: Option<&'static str>,
    pub message: Option<String>,
    pub partitions_registered: u64,
    /// Folders with files that Glue does not know yet.
    pub partitions_waiting: u64,
    /// Partitions without files, of the first hundred that were looked at; absent while unknown.
    pub partitions_without_files: Option<u64>,
    /// RFC 3339: last time that table and partitions were compared with the dataset.
    pub last_repair_time: Option<String>,
    pub failures: u64,
}

impl Progress {
    /// Nothing is known yet of the table.
    pub fn table_awaited(&self, name: &str) {
        let mut inner = self.inner.lock();
        let table = inner.table.get_or_insert_default();
        name.clone_into(&mut table.name);
        table.synced = None;
    }

    pub fn table_synced(&self) {
        self.of_table(|table| {
            table.synced = Some(true);
            table.reason = None;
            table.message = None;
        });
    }

    /// Says whether that is news.
    pub fn table_differs(&self, class: Class, message: String) -> bool {
        let mut news = false;
        self.of_table(|table| {
            news = table.message.as_ref() != Some(&message);
            table.synced = Some(false);
            table.reason = Some(class.reason);
            table.message = Some(message);
        });
        news
    }

    /// The table could not be looked at or changed.
    pub fn table_failed(&self, class: Class, message: String) {
        self.of_table(|table| table.failures += 1);
        self.table_differs(class, message);
    }

    pub fn table_waits(&self, folders: usize) {
        self.of_table(|table| table.partitions_waiting = folders as u64);
    }

    pub fn partitions_registered(&self, partitions: u64) {
        self.of_table(|table| table.partitions_registered += partitions);
    }

    pub fn table_compared(&self, without_files: Option<u64>) {
        self.of_table(|table| {
            table.partitions_without_files = without_files;
            table.last_repair_time = Some(chrono::Utc::now().to_rfc3339());
        });
    }

    fn of_table(&self, change: impl FnOnce(&mut TableProgress)) {
        change(self.inner.lock().table.get_or_insert_default());
    }
}
