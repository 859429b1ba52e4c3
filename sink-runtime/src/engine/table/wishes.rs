//! What a table's own properties say of its data files: where they go below its location, and what of their metrics its
//! manifests hold. Read when the table is opened. Pure.

use std::collections::BTreeMap;

use iceberg::spec::{Schema, SortOrder};
use twox_hash::XxHash64;

use crate::files::metrics::modes::Modes;

const OBJECT_STORAGE: &str = "write.object-storage.enabled";
const PARTITIONED_PATHS: &str = "write.object-storage.partitioned-paths";

/// Of one table.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    properties: BTreeMap<String, String>,
}

impl Wishes {
    pub fn new(properties: BTreeMap<String, String>) -> Self {
        Self { properties }
    }

    pub fn modes(&self, schema: &Schema, order: &SortOrder) -> Modes {
        Modes::of(&self.properties, schema, order)
    }

    /// Key of a data file below the table's location. On request it begins with folders that spread files evenly over a
    /// store's key ranges, as the reference implementation lays them out.
    pub fn key(&self, partition: &str, name: &str) -> String {
        let said = |key: &str| {
            self.properties
                .get(key)
                .map(|text| text.trim().to_lowercase())
        };
        let folders = if said(OBJECT_STORAGE).as_deref() != Some("true") {
            String::new()
        } else if said(PARTITIONED_PATHS).as_deref() == Some("false") {
            return format!("data/{}-{name}", spread(name));
        } else {
            format!("{}/", spread(name))
        };
        if partition.is_empty() {
            format!("data/{folders}{name}")
        } else {
            format!("data/{folders}{partition}/{name}")
        }
    }
}

/// Twenty bits of the name's hash: `0101/0110/1001/10110010`.
fn spread(name: &str) -> String {
    let bits = format!("{:020b}", XxHash64::oneshot(0, name.as_bytes()) & 0xf_ffff);
    [&bits[..4], &bits[4..8], &bits[8..12], &bits[12..]].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(said: &[(&str, &str)], partition: &str) -> String {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Wishes::new(said.iter().map(own).collect()).key(partition, "n.parquet")
    }

    #[test]
    fn files_are_spread_over_folders_where_the_table_asks_for_it() {
        assert_eq!(key(&[], ""), "data/n.parquet");
        assert_eq!(key(&[], "a=1"), "data/a=1/n.parquet");
        assert_eq!(
            key(&[(OBJECT_STORAGE, "false")], "a=1"),
            "data/a=1/n.parquet"
        );
        let spread = spread("n.parquet");
        let lengths: Vec<usize> = spread.split('/').map(str::len).collect();
        assert_eq!(lengths, [4, 4, 4, 8]);
        assert!(spread.chars().all(|c| matches!(c, '0' | '1' | '/')));
        let on = [(OBJECT_STORAGE, "true")];
        assert_eq!(key(&on, ""), format!("data/{spread}/n.parquet"));
        assert_eq!(key(&on, "a=1"), format!("data/{spread}/a=1/n.parquet"));
        let flat = [(OBJECT_STORAGE, "TRUE"), (PARTITIONED_PATHS, "false")];
        assert_eq!(key(&flat, "a=1"), format!("data/{spread}-n.parquet"));
    }

    #[test]
    fn names_that_differ_a_little_are_far_apart() {
        let folders: std::collections::BTreeSet<String> = (0..64)
            .map(|n| spread(&format!("00000-{n}.parquet")))
            .collect();
        assert!(folders.len() > 60, "{folders:?}");
    }
}
