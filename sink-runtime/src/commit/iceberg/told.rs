//! What the summaries of a table's snapshots tell of a sink's offsets. A summary holds what its commit moved; every so
//! many snapshots, and whenever the retained ones tell no whole any more, it holds them all. Pure.

use std::fmt::Write;

use iceberg::spec::{SnapshotRef, TableMetadata};
use twox_hash::XxHash64;

use super::table_ledger::{Keys, Offsets, TableLedger, Unreadable, by_topic, flatten, json};
use crate::record::{Offset, TopicName, TopicPartition};

/// A whole map in so many summaries: what it costs is spread over them, and so many snapshots have to stay for a
/// rollback to be undone by itself.
const WHOLE_EVERY: usize = 16;

/// The offsets of `main`, as its summaries tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) offsets: Offsets,
    /// Whether these are all.
    pub(super) whole: bool,
    /// Of the whole map at the newest summary that tells anything.
    pub(super) digest: Option<u64>,
    /// Of the generations at that summary.
    pub(super) generations: Option<u64>,
    /// Summaries that were put together.
    summaries: usize,
}

/// `main`'s snapshots, newest first, as far as they are retained.
pub(super) fn lineage(metadata: &TableMetadata) -> impl Iterator<Item = &SnapshotRef> {
    // Bounded by the number of snapshots, should parents ever form a ring.
    let mut left = metadata.snapshots().len();
    std::iter::successors(metadata.current_snapshot(), move |snapshot| {
        left = left.checked_sub(1)?;
        metadata.snapshot_by_id(snapshot.parent_snapshot_id()?)
    })
}

impl Told {
    /// # Errors
    /// A summary that somebody else wrote into.
    pub(super) fn by(metadata: &TableMetadata, keys: &Keys) -> Result<Self, Unreadable> {
        let mut told = Self::default();
        for snapshot in lineage(metadata) {
            let summary = &snapshot.summary().additional_properties;
            let Some(text) = summary.get(&keys.offsets) else {
                continue;
            };
            let unreadable = |key: &String| {
                let key = key.clone();
                |source| Unreadable { key, source }
            };
            let entry = Entry::parse(text).map_err(unreadable(&keys.offsets))?;
            if told.is_nothing()
                && let Some(digest) = summary.get(&keys.generations)
            {
                let digest = u64::from_str_radix(digest, 16);
                let digest = digest.map_err(|e| unreadable(&keys.generations)(e.into()))?;
                told.generations = Some(digest);
            }
            if told.add(entry) {
                break;
            }
        }
        Ok(told)
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.summaries == 0
    }

    /// Whether `main` holds less than `next`, as far as its summaries tell: where the summary that told the rest has
    /// expired, the newest one still says whether `next` is what it was.
    pub(super) fn is_behind(&self, next: &Offsets) -> bool {
        let held = |tp| self.offsets.get(tp);
        match (self.whole, self.digest) {
            (true, _) => next
                .iter()
                .any(|(tp, next)| held(tp).is_none_or(|held| held < next)),
            (false, Some(told)) => told != digest(next),
            (false, None) => false,
        }
    }

    /// Of an older summary than those so far. Whether it tells the rest.
    fn add(&mut self, entry: Entry) -> bool {
        let (offsets, digest) = match entry {
            Entry::All(offsets) => (offsets, None),
            Entry::Moved { digest, offsets } => (offsets, Some(digest)),
        };
        if self.summaries == 0 {
            self.digest = digest.or_else(|| Some(self::digest(&offsets)));
        }
        self.whole = digest.is_none();
        self.summaries += 1;
        for (tp, offset) in offsets {
            self.offsets.entry(tp).or_insert(offset);
        }
        self.whole
    }

    /// What the next summary says, so that with it these summaries tell `next`.
    pub(super) fn and_then(&self, next: &Offsets) -> String {
        let kept = self.offsets.keys().all(|tp| next.contains_key(tp));
        let plain = next.keys().all(|tp| is_plain(&tp.topic));
        let moved: Offsets = next
            .iter()
            .filter(|(tp, offset)| self.offsets.get(*tp) != Some(*offset))
            .map(|(tp, offset)| (tp.clone(), *offset))
            .collect();
        let due = !self.whole || self.summaries >= WHOLE_EVERY;
        if due || !kept || !plain || moved.len() == next.len() {
            return Entry::All(next.clone()).to_text();
        }
        let digest = digest(next);
        Entry::Moved {
            digest,
            offsets: moved,
        }
        .to_text()
    }
}

/// Tells one map from another.
pub(super) fn digest(offsets: &Offsets) -> u64 {
    XxHash64::oneshot(0, text(offsets).as_bytes())
}

/// Tells generations from others; `None` where all are 0.
pub(super) fn generations(ledger: &TableLedger) -> Option<u64> {
    let text = json(&by_topic(&ledger.generations));
    (!ledger.generations.is_empty()).then(|| XxHash64::oneshot(0, text.as_bytes()))
}

/// One summary's word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    All(Offsets),
    Moved { digest: u64, offsets: Offsets },
}

const ALL: &str = "all ";
const MOVED: &str = "moved ";

impl Entry {
    fn to_text(&self) -> String {
        match self {
            Self::All(offsets) if !offsets.keys().all(|tp| is_plain(&tp.topic)) => {
                json(&by_topic(offsets))
            }
            Self::All(offsets) => format!("{ALL}{}", text(offsets)),
            Self::Moved { digest, offsets } => format!("{MOVED}{digest:016x} {}", text(offsets)),
        }
    }

    fn parse(text: &str) -> Result<Self, crate::store::BoxError> {
        if let Some(offsets) = text.strip_prefix(ALL) {
            return Ok(Self::All(read(offsets)?));
        }
        if let Some((digest, offsets)) = text.strip_prefix(MOVED).and_then(|t| t.split_once(' ')) {
            return Ok(Self::Moved {
                digest: u64::from_str_radix(digest, 16)?,
                offsets: read(offsets)?,
            });
        }
        // As earlier versions wrote every summary.
        Ok(Self::All(flatten(serde_json::from_str(text)?)))
    }
}

/// Kafka gives a topic no other name.
fn is_plain(topic: &TopicName) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    topic.as_str().bytes().all(plain)
}

/// `orders=0:123,456,7:9;payments=0:5`: a partition without its number is the next one.
fn text(offsets: &Offsets) -> String {
    let mut text = String::new();
    let mut last: Option<&TopicPartition> = None;
    for (tp, offset) in offsets {
        let known = last.filter(|last| last.topic == tp.topic);
        // Writing into a string does not fail.
        let _ = match known {
            None => {
                let between = if last.is_none() { "" } else { ";" };
                write!(text, "{between}{}={}:{}", tp.topic, tp.partition, offset.0)
            }
            Some(last) if last.partition.checked_add(1) == Some(tp.partition) => {
                write!(text, ",{}", offset.0)
            }
            Some(_) => write!(text, ",{}:{}", tp.partition, offset.0),
        };
        last = Some(tp);
    }
    text
}

fn read(text: &str) -> Result<Offsets, crate::store::BoxError> {
    let mut offsets = Offsets::new();
    for topic in text.split(';').filter(|topic| !topic.is_empty()) {
        let (name, list) = topic.split_once('=').ok_or("a topic without offsets")?;
        let mut partition: Option<i32> = None;
        for item in list.split(',') {
            let (number, offset) = match item.split_once(':') {
                Some((number, offset)) => (Some(number.parse()?), offset),
                None => (partition.and_then(|p| p.checked_add(1)), item),
            };
            partition = number;
            let partition = partition.ok_or("an offset without its partition")?;
            let topic = TopicName::new(name);
            offsets.insert(TopicPartition { topic, partition }, Offset(offset.parse()?));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(of: &[(&str, i32, i64)]) -> Offsets {
        of.iter()
            .map(|(topic, partition, offset)| {
                (TopicPartition::new(*topic, *partition), Offset(*offset))
            })
            .collect()
    }

    #[test]
    fn a_summary_is_short_and_read_back() {
        let offsets = map(&[
            ("a.b-c_d", 0, 7),
            ("a.b-c_d", 1, 8),
            ("a.b-c_d", 9, 10),
            ("z", 3, 0),
        ]);
        let all = Entry::All(offsets.clone());
        assert_eq!(all.to_text(), "all a.b-c_d=0:7,8,9:10;z=3:0");
        assert_eq!(Entry::parse(&all.to_text()).unwrap(), all);
        // Summaries hold it: another hash of the same map would be taken for a rollback.
        assert_eq!(digest(&offsets), 7_050_287_290_066_304_198);
        let moved = Entry::Moved {
            digest: 0xab,
            offsets,
        };
        assert_eq!(
            moved.to_text(),
            "moved 00000000000000ab a.b-c_d=0:7,8,9:10;z=3:0"
        );
        assert_eq!(Entry::parse(&moved.to_text()).unwrap(), moved);
        for none in [
            Entry::All(Offsets::new()),
            Entry::Moved {
                digest: 0,
                offsets: Offsets::new(),
            },
        ] {
            assert_eq!(Entry::parse(&none.to_text()).unwrap(), none);
        }
        let earlier = r#"{"orders":{"0":123,"2":0},"moved":{"0":1}}"#;
        let told = map(&[("orders", 0, 123), ("orders", 2, 0), ("moved", 0, 1)]);
        assert_eq!(Entry::parse(earlier).unwrap(), Entry::All(told));
        for broken in [
            "",
            "all orders",
            "all orders=1",
            "all orders=1:x",
            "moved 5",
            "moved x o=1:1",
            "most o=1:1",
        ] {
            assert!(Entry::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn generations_are_told_apart_and_none_are_those_of_a_table_that_does_not_speak_of_them() {
        let of = |generation| {
            let ledger = TableLedger {
                generations: [(TopicPartition::new("orders", 3), generation)].into(),
                ..TableLedger::default()
            };
            generations(&ledger)
        };
        assert_eq!(generations(&TableLedger::default()), None);
        assert_ne!(of(1), of(2));
        // Summaries hold it: another hash of the same generations would be taken for others.
        assert_eq!(of(1), Some(3_761_805_801_967_924_881));
    }

    #[test]
    fn a_name_that_would_be_misread_is_written_as_earlier_versions_did() {
        let odd = map(&[("a=0:1;b", 0, 5)]);
        let text = Told::default().and_then(&odd);
        assert_eq!(text, r#"{"a=0:1;b":{"0":5}}"#);
        assert_eq!(Entry::parse(&text).unwrap(), Entry::All(odd));
    }

    proptest! {
        /// Any walk of maps, each told by its summary, is told by the summaries together from any of them on.
        #[test]
        fn summaries_together_tell_what_was_recorded_last(
            steps in prop::collection::vec(
                prop::collection::vec((0usize..3, 0i32..9, prop::option::weighted(0.9, 0i64..50)), 0..4), 1..60),
        ) {
            let topics = ["a", "b", "c"];
            let (mut next, mut written): (Offsets, Vec<String>) = (Offsets::new(), Vec::new());
            let tell = |written: &[String]| {
                let mut told = Told::default();
                let newest_first = written.iter().rev();
                let _ = newest_first.map(|text| told.add(Entry::parse(text).unwrap())).find(|whole| *whole);
                told
            };
            for step in steps {
                for (topic, partition, offset) in step {
                    let tp = TopicPartition::new(topics[topic], partition);
                    match offset {
                        Some(offset) => next.insert(tp, Offset(offset)),
                        None => next.remove(&tp),
                    };
                }
                let text = tell(&written).and_then(&next);
                written.push(text);
                let told = tell(&written);
                prop_assert!(told.whole && told.summaries <= WHOLE_EVERY);
                prop_assert_eq!(&told.offsets, &next);
                prop_assert_eq!(told.digest, Some(digest(&next)));
            }
        }
    }
}
