//! Folders as partitions: what a file's key or a folder's name says. Pure.

use super::PartitionKey;
use crate::layout::hive::unescape;

/// A folder of a dataset, with what its levels say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// `dt=2026-11-21/country=ES`, below the dataset's root.
    pub folder: String,
    /// One per key, unescaped.
    pub values: Vec<String>,
}

impl Partition {
    /// Of the file with this key; `None` where its folders are not those of the keys.
    pub fn of_file(keys: &[PartitionKey], key: &str) -> Option<Self> {
        let (folder, _) = key.rsplit_once('/')?;
        Self::of_folder(keys, folder)
    }

    /// Of this folder; `None` where it is not one of the last level.
    pub fn of_folder(keys: &[PartitionKey], folder: &str) -> Option<Self> {
        let mut levels = folder.split('/');
        let mut partition = Self::root();
        for (depth, _) in keys.iter().enumerate() {
            partition = partition.child(keys, depth, levels.next()?)?;
        }
        levels.next().is_none().then_some(partition)
    }

    /// Where every path begins.
    pub fn root() -> Self {
        Self {
            folder: String::new(),
            values: Vec::new(),
        }
    }

    /// A folder in this one, which is at `depth`; `None` for a name that the layout does not make.
    pub fn child(&self, keys: &[PartitionKey], depth: usize, name: &str) -> Option<Self> {
        let value = name.strip_prefix(keys.get(depth)?.folder.as_str())?;
        let value = unescape(value).filter(|value| !value.is_empty())?;
        let folder = if self.folder.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.folder)
        };
        Some(Self {
            folder,
            values: [self.values.as_slice(), &[value]].concat(),
        })
    }

    /// Where it is, under a dataset's location.
    pub fn location(&self, root: &str) -> String {
        format!("{root}{}/", self.folder)
    }
}
