//! What a sink's threads tell of their files: columns that the files have, folders that became visible. Never waits, is
//! bounded, and forgets rather than grows: what it forgot, the next comparison with the bucket finds.

use std::collections::{BTreeSet, HashSet};

use arrow::datatypes::Schema as ArrowSchema;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Allowed, Column, HiveFormat, HivePlan, HiveType, Partition, PartitionKey, Partitions, Unfit,
    columns,
};

/// Folders remembered as registered: names of some 100 bytes, so a few megabytes. Beyond it all are learnt anew; to
/// register one again changes nothing.
const KNOWN: usize = 16_384;
/// Folders that wait for Glue, as many as in some minutes of the widest layouts.
const WAITING: usize = 16_384;

#[derive(Debug)]
pub struct Registrar {
    format: HiveFormat,
    keys: Vec<PartitionKey>,
    registers: bool,
    inbox: Mutex<Inbox>,
    pub(super) news: Notify,
}

#[derive(Debug)]
struct Inbox {
    columns: Option<Vec<Column>>,
    unfit: Option<Unfit>,
    waiting: BTreeSet<Partition>,
    known: HashSet<String>,
    /// Some were forgotten.
    overflowed: bool,
}

impl Registrar {
    pub fn new(plan: &HivePlan) -> Self {
        Self {
            format: plan.format,
            keys: plan.keys.clone(),
            registers: plan.partitions == Partitions::Register && !plan.keys.is_empty(),
            inbox: Mutex::new(Inbox {
                columns: plan.columns.clone(),
                unfit: None,
                waiting: BTreeSet::new(),
                known: HashSet::new(),
                overflowed: false,
            }),
            news: Notify::new(),
        }
    }

    /// Files of this schema are about to be written.
    pub fn files_have(&self, schema: &ArrowSchema) {
        let (found, unfit) = columns(schema, self.format);
        let mut inbox = self.inbox.lock();
        let known = inbox.columns.as_deref().unwrap_or_default();
        let all = joined(known, found, self.format);
        // Other workers' files may not have that column at all.
        let unfit = unfit.or_else(|| {
            let shown = |unfit: &&Unfit| {
                let name = unfit.column.to_lowercase();
                all.iter().any(|column| column.name == name)
            };
            inbox.unfit.clone().filter(|unfit| !shown(&unfit))
        });
        // Of nothing but columns that cannot be shown there is no table.
        let all = (!all.is_empty()).then_some(all);
        if inbox.columns == all && inbox.unfit == unfit {
            return;
        }
        inbox.columns = all;
        inbox.unfit = unfit;
        drop(inbox);
        self.news.notify_one();
    }

    /// Files with these keys are visible.
    pub fn visible<'a>(&self, files: impl Iterator<Item = &'a str>) {
        if !self.registers {
            return;
        }
        let mut inbox = self.inbox.lock();
        let before = (inbox.waiting.len(), inbox.overflowed);
        for key in files {
            let Some((folder, _)) = key.rsplit_once('/') else {
                continue;
            };
            if inbox.known.contains(folder) {
                continue;
            }
            let Some(partition) = Partition::of_file(&self.keys, key) else {
                continue;
            };
            if inbox.waiting.len() < WAITING {
                inbox.waiting.insert(partition);
            } else if !inbox.waiting.contains(&partition) {
                inbox.overflowed = true;
            }
        }
        let after = (inbox.waiting.len(), inbox.overflowed);
        drop(inbox);
        if before != after {
            self.news.notify_one();
        }
    }

    /// Columns of the files, as far as they are known, and one that no table can show.
    pub(super) fn columns(&self) -> (Option<Vec<Column>>, Option<Unfit>) {
        let inbox = self.inbox.lock();
        (inbox.columns.clone(), inbox.unfit.clone())
    }

    /// Some of the folders that wait; they go on waiting until [`Self::registered`].
    pub(super) fn some_waiting(&self, most: usize) -> Vec<Partition> {
        let inbox = self.inbox.lock();
        inbox.waiting.iter().take(most).cloned().collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.inbox.lock().waiting.len()
    }

    pub(super) fn registered(&self, partitions: &[Partition]) {
        let mut inbox = self.inbox.lock();
        for partition in partitions {
            inbox.waiting.remove(partition);
            if inbox.known.len() >= KNOWN {
                inbox.known.clear();
            }
            inbox.known.insert(partition.folder.clone());
        }
    }

    /// The table is another than it was: nothing is known of its partitions.
    pub(super) fn forget(&self) {
        self.inbox.lock().known.clear();
    }

    /// Whether folders were forgotten since this was last asked.
    pub(super) fn overflowed(&self) -> bool {
        std::mem::take(&mut self.inbox.lock().overflowed)
    }
}

/// Columns of all files together: workers meet different ones when columns are inferred. Where two cannot be told by
/// one type, the later is asked for, and the table says what it thinks of it.
fn joined(have: &[Column], found: Vec<Column>, format: HiveFormat) -> Vec<Column> {
    let anything = Allowed {
        add_columns: true,
        widen: true,
    };
    let mut all = have.to_vec();
    for column in found {
        match all.iter_mut().find(|have| have.name == column.name) {
            Some(have) => {
                let both = HiveType::merged(&have.ty, &column.ty, format, anything);
                have.ty = both.unwrap_or(column.ty);
            }
            None => all.push(column),
        }
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::catalog::hive::tests::plan;

    fn folders(registrar: &Registrar) -> Vec<String> {
        let waiting = registrar.some_waiting(usize::MAX);
        waiting
            .into_iter()
            .map(|partition| partition.folder)
            .collect()
    }

    #[test]
    fn a_folder_waits_once_until_it_is_registered_and_then_no_more() {
        let registrar = Registrar::new(&plan());
        let files = [
            "dt=2026-01-01/country=ES/a.parquet",
            "dt=2026-01-01/country=ES/b.parquet",
        ];
        registrar.visible(files.into_iter());
        registrar.visible(["elsewhere/c.parquet", "d.parquet"].into_iter());
        assert_eq!(folders(&registrar), ["dt=2026-01-01/country=ES"]);
        registrar.registered(&registrar.some_waiting(1));
        registrar.visible(files.into_iter());
        assert_eq!(registrar.waiting(), 0);
        registrar.forget();
        registrar.visible(files.into_iter());
        assert_eq!(registrar.waiting(), 1);
    }

    #[test]
    fn more_folders_than_can_wait_are_left_to_a_comparison() {
        let registrar = Registrar::new(&plan());
        for n in 0..=WAITING {
            let key = format!("dt=2026-01-01/country={n}/a.parquet");
            registrar.visible(std::iter::once(key.as_str()));
        }
        assert_eq!(registrar.waiting(), WAITING);
        assert!(registrar.overflowed());
        assert!(!registrar.overflowed());
    }

    #[test]
    fn columns_that_workers_meet_one_by_one_add_up() {
        let inferred = HivePlan {
            columns: None,
            ..plan()
        };
        let registrar = Registrar::new(&inferred);
        let schema = |fields: &[(&str, DataType)]| {
            let fields = fields
                .iter()
                .map(|(n, ty)| Field::new(*n, ty.clone(), true));
            Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
        };
        let time = DataType::Time64(arrow::datatypes::TimeUnit::Microsecond);
        registrar.files_have(&schema(&[("t", time.clone())]));
        assert_eq!(registrar.columns().0, None);
        registrar.files_have(&schema(&[("A", DataType::Int32)]));
        registrar.files_have(&schema(&[("b", DataType::Utf8), ("a", DataType::Int64)]));
        registrar.files_have(&schema(&[("a", DataType::Int32)]));
        let told: Vec<String> = registrar
            .columns()
            .0
            .unwrap()
            .iter()
            .map(|c| format!("{} {}", c.name, c.ty))
            .collect();
        assert_eq!(told, ["a bigint", "b string"]);
        // One that no table can show keeps the others from nobody.
        registrar.files_have(&schema(&[("t", time), ("c", DataType::Int64)]));
        let (columns, unfit) = registrar.columns();
        let names: Vec<String> = columns.unwrap().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(unfit.unwrap().column, "t");
        registrar.files_have(&schema(&[("a", DataType::Int32)]));
        assert_eq!(registrar.columns().1.unwrap().column, "t");
        registrar.files_have(&schema(&[("T", DataType::Int64)]));
        assert_eq!(registrar.columns().1, None);
    }
}
