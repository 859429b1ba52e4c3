//! When a file is sealed and when a group of files is due for a commit: the rotation rules as plain numbers.

use std::time::Duration;

use super::Places;
use crate::plan::{CommitPlan, IcebergPlan, Rotation};

/// Sealed files that wait for one commit; beyond it the group is due. A ledger entry names each of them.
const MAX_SEALED: usize = 1000;

/// `None` means without limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Encoded bytes of one file.
    pub file_bytes: u64,
    pub file_records: Option<u64>,
    /// For files open at once; where none is left the longest open is sealed.
    pub places: Places,
    pub sealed_files: usize,
    /// Since the first uncommitted record of the group.
    pub open_for: Duration,
    /// Since its last record.
    pub idle_for: Option<Duration>,
    /// Of all files of the group since its last commit.
    pub group_bytes: Option<u64>,
    pub group_records: Option<u64>,
}

impl Limits {
    /// For datasets, where a group is a topic-partition.
    pub fn of_dataset(rotation: &Rotation, places: &Places) -> Self {
        Self {
            file_bytes: rotation.max_bytes as u64,
            file_records: rotation.max_records,
            places: places.clone(),
            sealed_files: MAX_SEALED,
            open_for: rotation.max_open,
            idle_for: rotation.max_idle,
            group_bytes: None,
            group_records: None,
        }
    }

    /// For tables, where one group holds everything of the worker.
    pub fn of_table(
        table: &IcebergPlan,
        rotation: &Rotation,
        commit: &CommitPlan,
        places: &Places,
    ) -> Self {
        Self {
            file_bytes: table.target_file_bytes as u64,
            file_records: rotation.max_records,
            open_for: commit.interval,
            idle_for: None,
            group_bytes: commit.max_bytes.map(|b| b as u64),
            group_records: commit.max_records,
            ..Self::of_dataset(rotation, places)
        }
    }
}
