//! The ledger of one sink as an Iceberg table keeps it: in the table's properties, and what of it moved in the summary
//! of every snapshot that moved it. Pure.
//!
//! Properties survive the expiry of snapshots; summaries tell what the rows of a snapshot reach to, and so whether the
//! table was rolled back under the properties.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::told::{self, Told};
use crate::ledger::{CommitId, Said};
use crate::record::{Census, LastRead, Offset, TopicName, TopicPartition};

pub type Offsets = BTreeMap<TopicPartition, Offset>;

/// Summary key of the commit id, whatever the sink.
pub const COMMIT_ID: &str = "tidewater.commit-id";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableLedger {
    /// The table holds every record of the topic-partition below it and none at or above it.
    pub next: Offsets,
    /// Every destination of the sink holds every record below it.
    pub floor: Offsets,
    pub cluster_id: Option<String>,
    pub topic_ids: BTreeMap<TopicName, String>,
    /// Of the last commit.
    pub commit_id: Option<CommitId>,
    /// Of the last commit of each topic-partition: one pod's id outlives the commits of the others.
    pub commits: BTreeMap<TopicPartition, CommitId>,
    /// The snapshot of the last commit.
    pub snapshot_id: Option<i64>,
    /// Topics that were recreated: files with a lower sequence number hold rows of an earlier topic. 0 where the table
    /// has no sequence numbers (format version 1).
    pub topic_since: BTreeMap<TopicName, i64>,
    /// How often `next` was set other than by a commit, where it ever was: a claim of an earlier one is void.
    pub generations: BTreeMap<TopicPartition, u64>,
    /// The last record of each that was read of the log as it is, where the brokers tell its epoch.
    pub last_reads: BTreeMap<TopicPartition, LastRead>,
    /// The topics as they were when the sink first started, where it was to start at the end.
    pub census: Option<Census>,
    /// The sink that goes on with this ledger: nobody else may. Nothing else is known then.
    pub moved_to: Option<String>,
}

/// In place of the offsets of a ledger that was moved to another sink. A release that does not know of this cannot read
/// it, and so does not go on either.
const MOVED_TO: &str = "moved to ";

#[derive(Debug, thiserror::Error)]
#[error("cannot read \"{key}\"")]
pub struct Unreadable {
    pub key: String,
    #[source]
    pub source: crate::store::BoxError,
}

pub(super) type ByTopic<V> = BTreeMap<TopicName, BTreeMap<i32, V>>;

/// Names of a sink's properties; its summaries have the offsets, and a hash of the generations.
#[derive(Clone, Debug)]
pub struct Keys {
    pub offsets: String,
    pub floor: String,
    pub commit_id: String,
    pub commits: String,
    pub cluster_id: String,
    pub topic_ids: String,
    pub snapshot_id: String,
    pub topic_since: String,
    pub generations: String,
    pub last_reads: String,
    pub census: String,
}

impl TableLedger {
    /// 0 where the table does not speak of one.
    pub fn generation(&self, tp: &TopicPartition) -> u64 {
        self.generations.get(tp).copied().unwrap_or(0)
    }

    pub fn said(&self, tp: &TopicPartition) -> Said {
        Said {
            cluster_id: self.cluster_id.clone(),
            topic_id: self.topic_ids.get(&tp.topic).cloned(),
            next: self.next.get(tp).copied(),
            generation: self.generation(tp),
        }
    }

    /// From here on the offsets of the topic-partition mean something else: claims of before are void.
    pub(super) fn begin_anew(&mut self, tp: &TopicPartition) {
        *self.generations.entry(tp.clone()).or_default() += 1;
        self.last_reads.remove(tp);
    }

    /// Not of a table that was rolled back below it.
    pub fn last_read(&self, tp: &TopicPartition) -> Option<LastRead> {
        let next = self.next.get(tp)?;
        let last = self.last_reads.get(tp).copied();
        last.filter(|last| last.offset < *next)
    }
}

impl Keys {
    pub fn of(sink: &str) -> Self {
        let key = |name: &str| format!("tidewater.{sink}.{name}");
        Self {
            offsets: key("offsets"),
            floor: key("floor"),
            commit_id: key("commit-id"),
            commits: key("commits"),
            cluster_id: key("cluster-id"),
            topic_ids: key("topic-ids"),
            snapshot_id: key("snapshot-id"),
            topic_since: key("topic-since"),
            generations: key("generations"),
            last_reads: key("last-reads"),
            census: key("census"),
        }
    }

    /// The ledger in a table's properties.
    ///
    /// # Errors
    /// A property that somebody else wrote into.
    pub fn read<S: BuildHasher>(
        &self,
        properties: &HashMap<String, String, S>,
    ) -> Result<TableLedger, Unreadable> {
        let moved = |text: &String| text.strip_prefix(MOVED_TO).map(str::to_owned);
        if let Some(to) = properties.get(&self.offsets).and_then(moved) {
            return Ok(TableLedger {
                moved_to: Some(to),
                ..TableLedger::default()
            });
        }
        let by_commit: BTreeMap<CommitId, BTreeMap<TopicName, Vec<i32>>> =
            parse(properties, &self.commits)?.unwrap_or_default();
        let mut commits = BTreeMap::new();
        for (id, topics) in by_commit {
            for (topic, partitions) in topics {
                for partition in partitions {
                    let topic = topic.clone();
                    commits.insert(TopicPartition { topic, partition }, id);
                }
            }
        }
        let text = |key: &str| properties.get(key).cloned();
        Ok(TableLedger {
            next: flatten(parse(properties, &self.offsets)?.unwrap_or_default()),
            floor: flatten(parse(properties, &self.floor)?.unwrap_or_default()),
            cluster_id: text(&self.cluster_id),
            topic_ids: parse(properties, &self.topic_ids)?.unwrap_or_default(),
            commit_id: match text(&self.commit_id) {
                None => None,
                Some(id) => Some(CommitId(id.parse().map_err(|e: uuid::Error| {
                    Unreadable {
                        key: self.commit_id.clone(),
                        source: e.into(),
                    }
                })?)),
            },
            commits,
            snapshot_id: parse(properties, &self.snapshot_id)?,
            topic_since: parse(properties, &self.topic_since)?.unwrap_or_default(),
            generations: flatten(parse(properties, &self.generations)?.unwrap_or_default()),
            last_reads: flatten(parse(properties, &self.last_reads)?.unwrap_or_default()),
            census: parse(properties, &self.census)?,
            moved_to: None,
        })
    }

    /// What a commit writes: the properties to set.
    pub fn properties(&self, ledger: &TableLedger) -> BTreeMap<String, String> {
        let mut by_commit: BTreeMap<CommitId, BTreeMap<&TopicName, Vec<i32>>> = BTreeMap::new();
        for (tp, id) in &ledger.commits {
            by_commit
                .entry(*id)
                .or_default()
                .entry(&tp.topic)
                .or_default()
                .push(tp.partition);
        }
        let mut properties = BTreeMap::from([
            (self.offsets.clone(), json(&by_topic(&ledger.next))),
            (self.floor.clone(), json(&by_topic(&ledger.floor))),
        ]);
        if let Some(id) = ledger.commit_id {
            properties.insert(self.commit_id.clone(), id.to_string());
        }
        if let Some(cluster) = &ledger.cluster_id {
            properties.insert(self.cluster_id.clone(), cluster.clone());
        }
        properties.insert(self.commits.clone(), json(&by_commit));
        properties.insert(self.topic_ids.clone(), json(&ledger.topic_ids));
        if !ledger.topic_since.is_empty() {
            properties.insert(self.topic_since.clone(), json(&ledger.topic_since));
        }
        if !ledger.generations.is_empty() {
            let generations = json(&by_topic(&ledger.generations));
            properties.insert(self.generations.clone(), generations);
        }
        if !ledger.last_reads.is_empty() {
            let last_reads = json(&by_topic(&ledger.last_reads));
            properties.insert(self.last_reads.clone(), last_reads);
        }
        if let Some(census) = &ledger.census {
            properties.insert(self.census.clone(), json(census));
        }
        if let Some(id) = ledger.snapshot_id {
            properties.insert(self.snapshot_id.clone(), id.to_string());
        }
        properties
    }

    /// Properties of a table that speak of what a ledger written as `set` does not any more: to be removed.
    pub fn emptied<S: BuildHasher>(
        &self,
        set: &BTreeMap<String, String>,
        properties: &HashMap<String, String, S>,
    ) -> Vec<String> {
        let mut keys = self.but_offsets();
        keys.retain(|key| properties.contains_key(key) && !set.contains_key(key));
        keys
    }

    /// What is left of a ledger that `to` goes on with: the properties to set, and those to remove.
    pub fn left_to(&self, to: &str) -> (BTreeMap<String, String>, Vec<String>) {
        let offsets = (self.offsets.clone(), format!("{MOVED_TO}{to}"));
        (BTreeMap::from([offsets]), self.but_offsets())
    }

    fn but_offsets(&self) -> Vec<String> {
        let Self {
            offsets: _,
            floor,
            commit_id,
            commits,
            cluster_id,
            topic_ids,
            snapshot_id,
            topic_since,
            generations,
            last_reads,
            census,
        } = self.clone();
        vec![
            floor,
            commit_id,
            commits,
            cluster_id,
            topic_ids,
            snapshot_id,
            topic_since,
            generations,
            last_reads,
            census,
        ]
    }

    /// What a commit on top of `told` writes: the summary.
    pub(super) fn summary(&self, ledger: &TableLedger, told: &Told) -> BTreeMap<String, String> {
        let mut summary = BTreeMap::from([(self.offsets.clone(), told.and_then(&ledger.next))]);
        if let Some(id) = ledger.commit_id {
            summary.insert(COMMIT_ID.to_owned(), id.to_string());
        }
        if let Some(digest) = told::generations(ledger) {
            summary.insert(self.generations.clone(), format!("{digest:016x}"));
        }
        summary
    }
}

pub(super) fn by_topic<V: Copy>(each: &BTreeMap<TopicPartition, V>) -> ByTopic<V> {
    let mut topics: ByTopic<V> = BTreeMap::new();
    for (tp, value) in each {
        topics
            .entry(tp.topic.clone())
            .or_default()
            .insert(tp.partition, *value);
    }
    topics
}

pub(super) fn flatten<V>(topics: ByTopic<V>) -> BTreeMap<TopicPartition, V> {
    topics
        .into_iter()
        .flat_map(|(topic, partitions)| {
            partitions.into_iter().map(move |(partition, value)| {
                let topic = topic.clone();
                (TopicPartition { topic, partition }, value)
            })
        })
        .collect()
}

fn parse<T: DeserializeOwned, S: BuildHasher>(
    properties: &HashMap<String, String, S>,
    key: &str,
) -> Result<Option<T>, Unreadable> {
    properties
        .get(key)
        .map(|text| {
            serde_json::from_str(text).map_err(|e| Unreadable {
                key: key.to_owned(),
                source: e.into(),
            })
        })
        .transpose()
}

#[allow(
    clippy::expect_used,
    reason = "maps with string, integer or uuid keys always serialise"
)]
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain maps serialise")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_survives_the_way_into_properties_and_back() {
        let keys = Keys::of("default.orders");
        let (a, b) = (CommitId::fresh(), CommitId::fresh());
        let tp = |n| TopicPartition::new("orders", n);
        let last_read = LastRead {
            offset: Offset(121),
            leader_epoch: 4,
        };
        let ledger = TableLedger {
            next: [
                (tp(0), Offset(123)),
                (tp(10), Offset(7)),
                (tp(2), Offset(0)),
            ]
            .into(),
            floor: [(tp(0), Offset(100))].into(),
            cluster_id: Some("cluster".into()),
            topic_ids: [(TopicName::new("orders"), "id".to_owned())].into(),
            commit_id: Some(b),
            commits: [(tp(0), a), (tp(2), b), (tp(10), b)].into(),
            snapshot_id: Some(42),
            topic_since: [(TopicName::new("orders"), 7)].into(),
            generations: [(tp(2), 1), (tp(10), 3)].into(),
            last_reads: [(tp(0), last_read)].into(),
            census: Some(serde_json::from_str(r#"{"orders":{"ends":[8,null]},"old":11}"#).unwrap()),
            moved_to: None,
        };
        let properties = keys.properties(&ledger);
        assert_eq!(
            properties["tidewater.default.orders.offsets"],
            r#"{"orders":{"0":123,"2":0,"10":7}}"#
        );
        assert_eq!(
            properties["tidewater.default.orders.generations"],
            r#"{"orders":{"2":1,"10":3}}"#
        );
        assert_eq!(
            keys.read(&properties.into_iter().collect::<HashMap<_, _>>())
                .unwrap(),
            ledger
        );
    }

    /// Such properties may be met for as long as there are tables: they are read, and written no differently.
    #[test]
    fn what_the_first_release_wrote_is_read_and_still_written_so() {
        let text = include_str!("table_ledger/written-by-0.1.0.json");
        let written: HashMap<String, String> = serde_json::from_str(text).unwrap();
        let keys = Keys::of("shop.orders");
        let ledger = keys.read(&written).unwrap();
        let tp = |n| TopicPartition::new("orders", n);
        assert_eq!(ledger.next[&tp(10)], Offset(7));
        assert_eq!(ledger.floor, [(tp(0), Offset(100))].into());
        assert_ne!(ledger.commits[&tp(0)], ledger.commits[&tp(2)]);
        assert_eq!(ledger.commit_id, Some(ledger.commits[&tp(10)]));
        assert_eq!(ledger.snapshot_id, Some(8_127_397_163_948));
        assert_eq!(
            (ledger.generation(&tp(0)), ledger.generation(&tp(10))),
            (0, 3)
        );
        let again: HashMap<String, String> = keys.properties(&ledger).into_iter().collect();
        assert_eq!(again, written);
    }

    #[test]
    fn a_last_record_is_forgotten_with_the_offsets_that_it_was_read_by() {
        let tp = TopicPartition::new("orders", 0);
        let last = LastRead {
            offset: Offset(99),
            leader_epoch: 4,
        };
        let mut ledger = TableLedger {
            next: [(tp.clone(), Offset(100))].into(),
            last_reads: [(tp.clone(), last)].into(),
            ..TableLedger::default()
        };
        assert_eq!(ledger.last_read(&tp), Some(last));
        // A rollback leaves the properties as they were.
        let rolled_back = TableLedger {
            next: [(tp.clone(), Offset(50))].into(),
            ..ledger.clone()
        };
        assert_eq!(rolled_back.last_read(&tp), None);
        ledger.begin_anew(&tp);
        assert_eq!(ledger.last_read(&tp), None);
    }

    #[test]
    fn what_a_ledger_has_forgotten_goes_from_the_table_and_nothing_of_others_does() {
        let keys = Keys::of("default.orders");
        let tp = TopicPartition::new("orders", 0);
        let last = LastRead {
            offset: Offset(121),
            leader_epoch: 4,
        };
        let mut ledger = TableLedger {
            next: [(tp.clone(), Offset(122))].into(),
            last_reads: [(tp.clone(), last)].into(),
            ..TableLedger::default()
        };
        let mut table: HashMap<String, String> = keys.properties(&ledger).into_iter().collect();
        table.extend(Keys::of("default.others").properties(&ledger));
        ledger.begin_anew(&tp);
        let set = keys.properties(&ledger);
        let emptied = keys.emptied(&set, &table);
        assert_eq!(emptied, ["tidewater.default.orders.last-reads"]);
        table.retain(|key, _| !emptied.contains(key));
        table.extend(set);
        assert_eq!(keys.read(&table).unwrap(), ledger);
    }

    #[test]
    fn a_table_without_our_properties_has_an_empty_ledger() {
        let empty: HashMap<String, String> = HashMap::new();
        assert_eq!(Keys::of("s").read(&empty).unwrap(), TableLedger::default());
    }

    #[test]
    fn what_is_left_of_a_ledger_says_where_it_went_and_nothing_else() {
        let keys = Keys::of("default.old");
        let ledger = TableLedger {
            next: [(TopicPartition::new("orders", 0), Offset(5))].into(),
            cluster_id: Some("cluster".into()),
            ..TableLedger::default()
        };
        let mut properties = keys.properties(&ledger);
        let (set, remove) = keys.left_to("default.new");
        properties.extend(set);
        properties.retain(|key, _| !remove.contains(key));
        assert_eq!(properties.len(), 1, "{properties:?}");
        let left = keys.read(&properties.into_iter().collect::<HashMap<_, _>>());
        let wanted = TableLedger {
            moved_to: Some("default.new".into()),
            ..TableLedger::default()
        };
        assert_eq!(left.unwrap(), wanted);
    }

    #[test]
    fn a_mangled_property_is_named() {
        let properties = HashMap::from([("tidewater.s.offsets".to_owned(), "oops".to_owned())]);
        assert_eq!(
            Keys::of("s").read(&properties).unwrap_err().key,
            "tidewater.s.offsets"
        );
    }
}
