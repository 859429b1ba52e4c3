//! What open files give back when memory is short.

use std::sync::Arc;

use super::file::OpenFile;
use super::{FileError, OpenFiles, Outlet};

/// What is worth ending a row group for: some hundred rows. Below it, what the footer says of the row group is as large
/// as the row group.
pub(super) const WORTH_RELIEVING: usize = 16 << 10;

impl<G: Ord + Clone, K: Ord, U> OpenFiles<G, K, U> {
    /// When the process is above its shedding mark, takes files until this table holds as much less as the process is
    /// above its resting mark: first they end their row groups, those that give back most before others; where that is
    /// not enough the largest are sealed. Bytes that are on their way to the store ask for nothing: they go by
    /// themselves. Returns how many files were sealed.
    ///
    /// # Errors
    /// When a file cannot be encoded.
    pub fn shed<O: Outlet<G, K, Upload = U>>(
        &mut self,
        outlet: &mut O,
    ) -> Result<usize, FileError> {
        let target = self.memory.saturating_sub(self.budget.excess());
        if target == self.memory {
            return Ok(0);
        }
        for (relievable, group, key) in self.ranked(|file| file.relievable) {
            if self.memory <= target || relievable < WORTH_RELIEVING {
                break;
            }
            self.relieve(&group, &key, outlet)?;
        }
        if self.memory <= target {
            return Ok(0);
        }
        let mut sealed = 0;
        for (_, group, key) in self.ranked(|file| file.memory) {
            if self.memory <= target {
                break;
            }
            self.seal(&group, &key, outlet)?;
            self.reservation.resize(self.memory);
            sealed += 1;
        }
        Ok(sealed)
    }

    /// Open files, the largest by `size` first.
    fn ranked(&self, size: impl Fn(&OpenFile<U>) -> usize) -> Vec<(usize, G, Arc<K>)> {
        let mut files: Vec<_> = self
            .groups
            .iter()
            .flat_map(|(name, group)| group.open.iter().map(move |file| (name, file)))
            .map(|(name, (key, file))| (size(file), name.clone(), key.clone()))
            .collect();
        files.sort_by_key(|(size, _, _)| std::cmp::Reverse(*size));
        files
    }

    fn relieve<O: Outlet<G, K, Upload = U>>(
        &mut self,
        name: &G,
        key: &Arc<K>,
        outlet: &mut O,
    ) -> Result<(), FileError> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let Some(file) = group.open.get_mut(key) else {
            return Ok(());
        };
        let before = (file.memory, file.size);
        file.relieve(name, key, outlet)?;
        self.memory = self.memory - before.0 + file.memory;
        group.open_bytes = group.open_bytes - before.1 + file.size;
        self.reservation.resize(self.memory);
        Ok(())
    }
}
