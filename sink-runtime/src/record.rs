//! What travels from the consumer to the decoders: topic-partitions, offsets, and batches of raw records.
//! Pure data. A `RawBatch` holds records of one topic-partition in one arena, so that nothing is allocated per record.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod census;

pub use self::census::{Census, Counted, Then};

/// A Kafka topic's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicName(Arc<str>);

impl TopicName {
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: TopicName::new(topic),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A Kafka offset: the position of a record in its partition. Never negative; Kafka's logical offsets (`-1`, `-2`)
/// are not offsets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The offsets `[start, end)` of one topic-partition. Not every offset in it need hold a record (compaction,
/// transaction markers); every record in it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    pub start: Offset,
    pub end: Offset,
}

impl OffsetRange {
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Counts assignments of one topic-partition to this process. A batch fetched under an earlier epoch is dropped: the
/// partition was lost, and possibly regained, in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssignmentEpoch(pub u64);

/// Variable-length values of consecutive records in one arena.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    pub bytes: Vec<u8>,
    /// End of each value in `bytes`; it starts where its predecessor ends.
    pub ends: Vec<u32>,
    /// Rows whose value is null (a tombstone, an absent key), ascending. Their slice is empty.
    pub nulls: Vec<u32>,
}

impl Arena {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// # Panics
    /// When the arena would grow past 4 GiB; batches are cut long before.
    pub fn push(&mut self, value: Option<&[u8]>) {
        match value {
            Some(v) => self.bytes.extend_from_slice(v),
            None => self.nulls.push(self.ends.len() as u32),
        }
        assert!(self.bytes.len() <= u32::MAX as usize, "arena over 4 GiB");
        self.ends.push(self.bytes.len() as u32);
    }

    pub fn slice(&self, row: usize) -> &[u8] {
        let start = if row == 0 {
            0
        } else {
            self.ends[row - 1] as usize
        };
        &self.bytes[start..self.ends[row] as usize]
    }

    pub fn is_null(&self, row: usize) -> bool {
        !self.nulls.is_empty() && self.nulls.binary_search(&(row as u32)).is_ok()
    }

    /// `None` for a null value.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        if self.is_null(row) {
            None
        } else {
            Some(self.slice(row))
        }
    }
}

/// Kafka's meaning of a record's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    NotAvailable,
    CreateTime,
    LogAppendTime,
}

/// The headers of one record, in order; names may repeat, values may be null.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Consecutive records of one topic-partition, as fetched.
#[derive(Clone, Debug)]
pub struct RawBatch {
    pub tp: TopicPartition,
    pub epoch: AssignmentEpoch,
    pub values: Arena,
    /// Ascending; gaps are legal.
    pub offsets: Vec<i64>,
    /// Milliseconds since the Unix epoch; -1 where the record has none.
    pub timestamps: Vec<i64>,
    /// Of the whole batch: a topic has one type, and a change of it cuts the batch.
    pub timestamp_type: TimestampType,
    /// Only when the plan asks for keys (a metadata column, the dead letter).
    pub keys: Option<Arena>,
    /// Only when the plan asks for headers; one entry per record.
    pub headers: Option<Vec<Headers>>,
    /// Of its last record, where the brokers tell.
    pub leader_epoch: Option<i32>,
}

/// The last record that was read of a topic-partition. A log that was cut below it and has grown again holds another one
/// there, or none: the records of its epoch end before it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRead {
    pub offset: Offset,
    /// Counts the partition's leaders: of the one that wrote the record.
    pub leader_epoch: i32,
}

impl RawBatch {
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Its records from this one on.
    #[must_use]
    pub fn rest_from(&self, first: usize) -> Self {
        let arena = |from: &Arena| {
            let mut rest = Arena::default();
            for row in first..from.len() {
                rest.push(from.get(row));
            }
            rest
        };
        Self {
            tp: self.tp.clone(),
            epoch: self.epoch,
            values: arena(&self.values),
            offsets: self.offsets[first..].to_vec(),
            timestamps: self.timestamps[first..].to_vec(),
            timestamp_type: self.timestamp_type,
            keys: self.keys.as_ref().map(arena),
            headers: self.headers.as_ref().map(|all| all[first..].to_vec()),
            leader_epoch: self.leader_epoch,
        }
    }

    /// Bytes this batch holds in memory, for the memory budget.
    pub fn memory(&self) -> usize {
        let arenas =
            self.values.bytes.capacity() + self.keys.as_ref().map_or(0, |k| k.bytes.capacity());
        let headers: usize = self
            .headers
            .iter()
            .flatten()
            .flatten()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 64)
            .sum();
        arenas + headers + self.len() * 24
    }
}
