//! A worker's open files: rows in, sealed files out. Decides by the rotation rules alone; time is given in, as the
//! monotonic duration since the process started, and bytes leave through an [`Outlet`] that must not block.
//!
//! Files belong to groups, and a group is committed as a whole: for datasets the topic-partition, for Iceberg tables
//! one group with everything of the worker. Two kinds of rule: a file is *sealed* (finished, its bytes handed out) when
//! it is full, when its schema cannot hold the next rows, or when memory or the number of files asks for it, and then
//! waits; a group is *due* when its rows have waited long enough, and then all of it is cut and committed.
//!
//! Invariant: between two cuts of a group, each row written is in exactly one sealed or open file of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::FileError;
use super::conform::{Misfit, union};
use super::limits::Limits;
use super::metrics::Metrics;
use super::places::Taken;
use super::writer::{Format, KeyValues};
use crate::budget::{Budget, Reservation};
use crate::layout::Slice;
use crate::layout::iceberg::RowOrder;
use crate::record::TopicPartition;

mod file;
mod group;
mod shedding;

use file::{OpenFile, carries_ids};
use group::Group;

/// Names a file within its table of open files; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// A file whose first bytes are about to leave.
#[derive(Debug)]
pub struct Opening<'a, G, K> {
    pub id: FileId,
    pub group: &'a G,
    pub key: &'a Arc<K>,
    /// Topic-partition and offset of its first row.
    pub first: (&'a TopicPartition, i64),
}

/// Where encoded bytes go: a staged upload per file.
pub trait Outlet<G, K> {
    /// Handle of one upload. Dropping it gives the upload up.
    type Upload;

    fn begin(&mut self, opening: &Opening<'_, G, K>) -> Self::Upload;

    /// Parts come in order; all but a file's last have the format's part size.
    fn push(&mut self, upload: &mut Self::Upload, part: Bytes);
}

/// The rows of one topic-partition in a file: first and last offset, with gaps in between, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: i64,
    pub last: i64,
    pub rows: u64,
}

/// A finished file, all its bytes handed to its upload.
#[derive(Debug)]
pub struct Sealed<K, U> {
    pub id: FileId,
    pub key: Arc<K>,
    pub upload: U,
    pub rows: u64,
    pub size: u64,
    pub spans: BTreeMap<TopicPartition, Span>,
    pub schema: SchemaRef,
    pub fingerprint: String,
    /// For Iceberg tables.
    pub metrics: Option<Metrics>,
}

/// All files of a group since its last cut, in the order they were sealed.
#[derive(Debug)]
pub struct Cut<K, U> {
    pub files: Vec<Sealed<K, U>>,
    /// When the first of its records came; `None` if nothing did.
    pub since: Option<Duration>,
}

/// What a group holds that is not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub open_files: usize,
    pub sealed_files: usize,
    pub rows: u64,
    /// Encoded, buffered rows estimated.
    pub bytes: u64,
}

/// The table.
pub struct OpenFiles<G: Ord + Clone, K: Ord, U> {
    format: Format,
    limits: Limits,
    /// Key-values that every file gets.
    metadata: KeyValues,
    groups: BTreeMap<G, Group<K, U>>,
    /// Per group the schema that holds all rows seen: new files begin with it, so that producers of two versions at
    /// once do not rotate every file at every turn.
    widest: BTreeMap<G, SchemaRef>,
    schedule: Option<Duration>,
    next_id: u64,
    open_files: Taken,
    memory: usize,
    budget: Budget,
    reservation: Reservation,
}

impl<G: Ord + Clone, K: Ord, U> OpenFiles<G, K, U> {
    pub fn new(format: Format, limits: Limits, metadata: KeyValues, budget: &Budget) -> Self {
        Self {
            open_files: Taken::of(&limits.places),
            format,
            limits,
            metadata,
            groups: BTreeMap::new(),
            widest: BTreeMap::new(),
            schedule: None,
            next_id: 0,
            memory: 0,
            budget: budget.clone(),
            reservation: budget.reserve(0),
        }
    }

    /// The order of files opened from now on; see [`Format::sort_by`].
    pub fn sort_by(&mut self, order: Option<Arc<RowOrder>>) {
        self.format.sort_by(order);
    }

    /// Adds the rows of `slice`, which came from `tp`, and ships what became ready.
    ///
    /// # Errors
    /// When a file cannot be encoded. The group's files are then of no use: discard it.
    pub fn write<O: Outlet<G, K, Upload = U>>(
        &mut self,
        group: &G,
        tp: &TopicPartition,
        slice: &Slice<K>,
        now: Duration,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        if slice.batch.num_rows() == 0 {
            return Ok(());
        }
        self.note(group, now);
        let batch = match self.fitting(group, &slice.key, &slice.batch)? {
            Fitting::Ready(batch) => batch,
            Fitting::NeedsNew => {
                self.seal(group, &slice.key, outlet)?;
                self.open(group, slice, now)?
            }
            Fitting::Closed => {
                // Twice where others have taken their share beyond the limit: so this table gives back what it has more.
                for _ in 0..2 {
                    if self.open_files.none_left() {
                        self.seal_longest_open(outlet)?;
                    }
                }
                self.open(group, slice, now)?
            }
        };
        self.append(group, tp, slice, &batch, outlet)?;
        self.reservation.resize(self.memory);
        Ok(())
    }

    /// Says that the group made progress that is to be committed, rows or not (all refused, all skipped).
    pub fn note(&mut self, group: &G, now: Duration) {
        if let Some(group) = self.groups.get_mut(group) {
            group.last = now;
        } else {
            self.groups.insert(group.clone(), Group::new(now));
        }
    }

    /// Groups whose cut is due, now and since earlier calls, in order.
    pub fn due(&mut self, now: Duration) -> Vec<G> {
        let (limits, schedule) = (&self.limits, self.schedule);
        self.groups
            .iter_mut()
            .filter_map(|(name, group)| {
                group.due |= now >= group.deadline(limits, schedule);
                group.due.then(|| name.clone())
            })
            .collect()
    }

    /// Asks for the cut of a group, if it has anything.
    pub fn make_due(&mut self, group: &G) {
        if let Some(group) = self.groups.get_mut(group) {
            group.due = true;
        }
    }

    /// Asks for the cut of each group with an upload that failed: what more goes into it is read in vain.
    pub fn make_spoiled_due(&mut self, has_failed: impl Fn(&U) -> bool) {
        for group in self.groups.values_mut().filter(|group| !group.due) {
            let open = group.open.values().filter_map(OpenFile::upload);
            let mut uploads = open.chain(group.sealed.iter().map(|file| &file.upload));
            group.due = uploads.any(&has_failed);
        }
    }

    /// When [`Self::due`] is to be asked again, if nothing is written until then. Zero when something is due already.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.groups
            .values()
            .map(|group| match group.due {
                true => Duration::ZERO,
                false => group.deadline(&self.limits, self.schedule),
            })
            .min()
    }

    /// The next moment of the schedule: groups with records from before it are due at it. Ask [`Self::due`] before
    /// moving it on.
    pub fn set_schedule(&mut self, at: Option<Duration>) {
        self.schedule = at;
    }

    /// Seals every open file of the group and takes all it has. The group begins anew with its next record.
    ///
    /// # Errors
    /// When a file cannot be encoded. The group's files are then of no use: discard it.
    pub fn cut<O: Outlet<G, K, Upload = U>>(
        &mut self,
        group: &G,
        outlet: &mut O,
    ) -> Result<Cut<K, U>, FileError> {
        let keys: Vec<Arc<K>> = match self.groups.get(group) {
            Some(g) => g.open.keys().cloned().collect(),
            None => Vec::new(),
        };
        for key in keys {
            self.seal(group, &key, outlet)?;
        }
        let taken = self.groups.remove(group);
        self.reservation.resize(self.memory);
        Ok(match taken {
            Some(group) => Cut {
                files: group.sealed,
                since: Some(group.first),
            },
            None => Cut {
                files: Vec::new(),
                since: None,
            },
        })
    }

    /// Forgets all the group has: its uploads, to be given up.
    pub fn discard(&mut self, group: &G) -> Vec<U> {
        self.widest.remove(group);
        let Some(group) = self.groups.remove(group) else {
            return Vec::new();
        };
        self.open_files.give_back(group.open.len());
        self.memory -= group.open.values().map(|f| f.memory).sum::<usize>();
        self.reservation.resize(self.memory);
        let open = group.open.into_values().filter_map(OpenFile::into_upload);
        open.chain(group.sealed.into_iter().map(|file| file.upload))
            .collect()
    }

    /// Bytes that the open files hold.
    pub fn memory(&self) -> usize {
        self.memory
    }

    pub fn open_files(&self) -> usize {
        self.open_files.own()
    }

    /// Groups with something not committed, in order.
    pub fn groups(&self) -> impl Iterator<Item = &G> {
        self.groups.keys()
    }

    pub fn totals(&self, group: &G) -> Totals {
        self.groups
            .get(group)
            .map_or_else(Totals::default, |g| Totals {
                open_files: g.open.len(),
                sealed_files: g.sealed.len(),
                rows: g.rows,
                bytes: g.sealed_bytes + g.open_bytes,
            })
    }

    /// The batch as the open file of `key` takes it.
    fn fitting(
        &mut self,
        group: &G,
        key: &Arc<K>,
        batch: &RecordBatch,
    ) -> Result<Fitting, FileError> {
        let file = self.groups.get_mut(group).and_then(|g| g.open.get_mut(key));
        let Some(file) = file else {
            return Ok(Fitting::Closed);
        };
        match file.conform(batch) {
            Ok(batch) => Ok(Fitting::Ready(batch)),
            Err(error @ Misfit::Value { .. }) => Err(error.into()),
            Err(_) => Ok(Fitting::NeedsNew),
        }
    }

    /// Opens a file that takes `slice`, and gives back its batch as the file takes it.
    fn open(
        &mut self,
        group: &G,
        slice: &Slice<K>,
        now: Duration,
    ) -> Result<RecordBatch, FileError> {
        let own = slice.batch.schema();
        let schema = match self.widest.get(group) {
            // Two types that nothing holds both (the column was changed): what comes now decides.
            Some(widest) if !carries_ids(&own) => union(widest, &own).unwrap_or(own),
            _ => own,
        };
        self.widest.insert(group.clone(), schema.clone());
        let mut file = OpenFile::new(FileId(self.next_id), &self.format, schema, now);
        let batch = file.conform(&slice.batch)?;
        self.next_id += 1;
        self.open_files.take();
        self.groups
            .entry(group.clone())
            .or_insert_with(|| Group::new(now))
            .open
            .insert(slice.key.clone(), file);
        Ok(batch)
    }

    fn append<O: Outlet<G, K, Upload = U>>(
        &mut self,
        name: &G,
        tp: &TopicPartition,
        slice: &Slice<K>,
        batch: &RecordBatch,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let Some(file) = group.open.get_mut(&slice.key) else {
            return Ok(());
        };
        let rows = batch.num_rows() as u64;
        let before = (file.memory, file.size);
        file.write(name, tp, slice, batch, outlet)?;
        group.rows += rows;
        self.memory = self.memory - before.0 + file.memory;
        group.open_bytes = group.open_bytes - before.1 + file.size;

        let full = file.size >= self.limits.file_bytes
            || self
                .limits
                .file_records
                .is_some_and(|max| file.rows() >= max);
        if full {
            let alone = group.open.len() == 1;
            self.seal(name, &slice.key, outlet)?;
            if alone && let Some(group) = self.groups.get_mut(name) {
                group.due = true;
            }
        }
        if let Some(group) = self.groups.get_mut(name) {
            let bytes = group.sealed_bytes + group.open_bytes;
            group.due |= group.sealed.len() >= self.limits.sealed_files
                || self.limits.group_bytes.is_some_and(|max| bytes >= max)
                || self
                    .limits
                    .group_records
                    .is_some_and(|max| group.rows >= max);
        }
        Ok(())
    }

    fn seal_longest_open<O: Outlet<G, K, Upload = U>>(
        &mut self,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        let longest = self
            .groups
            .iter()
            .flat_map(|(name, g)| g.open.iter().map(move |(key, file)| (name, key, file)))
            .min_by_key(|(_, _, file)| (file.opened, file.id()))
            .map(|(name, key, _)| (name.clone(), key.clone()));
        match longest {
            Some((group, key)) => self.seal(&group, &key, outlet),
            None => Ok(()),
        }
    }

    /// Finishes a file and hands out its last bytes; it waits in its group for the cut.
    fn seal<O: Outlet<G, K, Upload = U>>(
        &mut self,
        name: &G,
        key: &Arc<K>,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let Some(file) = group.open.remove(key) else {
            return Ok(());
        };
        self.open_files.give_back(1);
        self.memory -= file.memory;
        group.open_bytes -= file.size;

        let sealed = file.finish(name, key, &self.metadata, outlet)?;
        if let Some(sealed) = sealed {
            group.sealed_bytes += sealed.size;
            group.sealed.push(sealed);
        }
        Ok(())
    }
}

/// Whether a batch can go into the open file of its key.
enum Fitting {
    Ready(RecordBatch),
    /// There is one, but its schema cannot hold these rows.
    NeedsNew,
    /// There is none.
    Closed,
}

impl<G: Ord + Clone, K: Ord, U> std::fmt::Debug for OpenFiles<G, K, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFiles")
            .field("groups", &self.groups.len())
            .field("open_files", &self.open_files.own())
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
