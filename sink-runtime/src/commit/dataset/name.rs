//! Names of a dataset's files: `<topic>-<partition>-<first offset>[.<generation>].<id>.<extension>`. The id makes a name
//! unique to one attempt, so that no attempt can overwrite another's file. Only characters that no store and no
//! reader encodes: a "+" comes back as a space from stores that list keys unencoded. Pure.

use std::fmt::{self, Write};

use crate::layout::KEY_LIMIT;
use crate::plan::StorePlan;
use crate::record::{Offset, TopicPartition};

/// Readers of Hive layouts pass over names that begin so.
const HIDDEN: [char; 2] = ['_', '.'];
/// Stands in front of a topic that begins so, and in no topic.
const SHOWN: char = '=';

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetFileName {
    pub tp: TopicPartition,
    /// Of the first record.
    pub start: Offset,
    /// Of the ledger that the file was written under; 0 is not written. It tells rows of a topic from those of an
    /// earlier topic of its name.
    pub generation: u64,
    /// [`crate::ledger::CommitId::short`].
    pub commit: String,
    /// With inner dots where there are any: `json.gz`.
    pub extension: String,
}

impl fmt::Display for DatasetFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, partition) = (&self.tp.topic, self.tp.partition);
        if topic.as_str().starts_with(HIDDEN) {
            f.write_char(SHOWN)?;
        }
        // Twenty digits: names sort as offsets do, up to the largest.
        write!(f, "{topic}-{partition}-{:020}", self.start.0)?;
        if self.generation > 0 {
            write!(f, ".{}", self.generation)?;
        }
        write!(f, ".{}.{}", self.commit, self.extension)
    }
}

impl DatasetFileName {
    /// Bytes that the folders of a topic-partition's files may take in a key: the same whichever file a row is in, so
    /// that a record which is read again finds the same answer.
    pub fn room(store: &StorePlan, tp: &TopicPartition, extension: &str) -> usize {
        let prefix = match store {
            StorePlan::S3(s3) => s3.prefix.trim_matches('/').len() + 1,
            StorePlan::Local { .. } => 0,
        };
        let longest = Self {
            tp: tp.clone(),
            start: Offset(i64::MAX),
            generation: u64::MAX,
            commit: "0".repeat(12),
            extension: extension.trim_start_matches('.').to_owned(),
        };
        KEY_LIMIT.saturating_sub(prefix + longest.to_string().len() + 1)
    }

    /// From a key: its last segment. `None` for anything that is not such a name.
    pub fn parse(key: &str) -> Option<Self> {
        let name = key.rsplit('/').next()?;
        // A topic may hold dashes; what follows its partition does not.
        let mut parts = name.rsplitn(3, '-');
        let (rest, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
        let topic = match topic.strip_prefix(SHOWN) {
            Some(topic) if topic.starts_with(HIDDEN) => topic,
            _ => topic,
        };
        let partition: i32 = partition.parse().ok().filter(|p| *p >= 0)?;
        let (start, rest) = rest.split_once('.')?;
        if topic.is_empty() || start.len() != 20 || !start.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (first, after) = rest.split_once('.')?;
        let is_commit =
            |part: &str| part.len() == 12 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let (generation, commit, extension) = if is_commit(first) {
            (0, first, after)
        } else {
            let (commit, extension) = after.split_once('.')?;
            (first.parse().ok()?, commit, extension)
        };
        (is_commit(commit) && !extension.is_empty()).then(|| Self {
            tp: TopicPartition::new(topic, partition),
            start: Offset(start.parse().unwrap_or(i64::MAX)),
            generation,
            commit: commit.to_owned(),
            extension: extension.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_says_what_it_was_made_of(
            topic in "[a-zA-Z0-9._-]{1,40}", partition in 0i32..=i32::MAX, start in 0i64..=i64::MAX,
            generation in 0u64..1_000_000, commit in "[0-9a-f]{12}",
            extension in "parquet|json|json\\.gz|csv\\.zst|avro",
        ) {
            let tp = TopicPartition::new(topic, partition);
            let name = DatasetFileName { tp, start: Offset(start), generation, commit, extension };
            prop_assert_eq!(DatasetFileName::parse(&format!("dt=1/{name}")), Some(name));
        }

        #[test]
        fn no_key_confuses_the_reader_of_names(key in ".{0,80}") {
            let _ = DatasetFileName::parse(&key);
        }
    }

    #[test]
    fn strangers_are_not_taken_for_ours() {
        for key in [
            "orders-0.parquet",
            "orders-0-10.0123456789ab.parquet",
            "orders-x-00000000000000000010.0123456789ab.parquet",
            "orders-0-00000000000000000010.parquet",
            "orders-0-00000000000000000010.0123456789ab",
            "-0-00000000000000000010.0123456789ab.parquet",
            "_tidewater/default.orders/orders/0.json",
        ] {
            assert_eq!(DatasetFileName::parse(key), None, "{key}");
        }
    }

    #[test]
    fn no_name_is_hidden_from_readers() {
        for topic in ["_events", ".events", "__consumer"] {
            let tp = TopicPartition::new(topic, 3);
            let (start, commit) = (Offset(7), "0123456789ab".to_owned());
            let extension = "parquet".to_owned();
            let name = DatasetFileName {
                tp,
                start,
                generation: 0,
                commit,
                extension,
            };
            let text = name.to_string();
            assert!(!text.starts_with(['_', '.']), "{text}");
            assert_eq!(DatasetFileName::parse(&text), Some(name));
        }
    }
}
