//! Records gathered into `RawBatch`es, one draft per partition across drains. Pure.
//! A draft is done at its size, at a change of the timestamp type, or after `LINGER`: a batch of a busy partition is
//! large, and no record waits long.

use std::time::Duration;

use super::Needs;
use super::batch::Record;
use crate::record::{Arena, AssignmentEpoch, Headers, RawBatch, TimestampType, TopicPartition};

/// How long a record waits for company. Visible latency is the commit interval, at least 100 times this.
pub(super) const LINGER: Duration = Duration::from_millis(15);

/// Bytes per batch: enough to amortise a batch's costs (20 000 records of 200 bytes), little of a memory budget.
const BATCH_BYTES: usize = 4 << 20;

/// A batch that grows.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) batch: RawBatch,
    header_bytes: usize,
}

/// Sizes of a partition's last batch: the next one is likely alike, and grows without copying.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habit {
    rows: usize,
    value_bytes: usize,
    key_bytes: usize,
}

impl Habit {
    pub(super) fn of(batch: &RawBatch) -> Self {
        Self {
            rows: batch.len(),
            value_bytes: batch.values.bytes.len(),
            key_bytes: batch.keys.as_ref().map_or(0, |keys| keys.bytes.len()),
        }
    }
}

/// What of a record goes into a batch.
pub(super) struct Fields<'r> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) timestamp_type: TimestampType,
    pub(super) value: Option<&'r [u8]>,
    pub(super) key: Option<&'r [u8]>,
    pub(super) headers: Headers,
    pub(super) leader_epoch: Option<i32>,
}

impl<'r> Fields<'r> {
    #[inline]
    pub(super) fn of(record: Record<'r>, needs: Needs) -> Self {
        let (timestamp, timestamp_type) = record.timestamp();
        Self {
            offset: record.offset(),
            timestamp,
            timestamp_type,
            value: record.value(),
            key: if needs.keys { record.key() } else { None },
            headers: if needs.headers {
                record.headers()
            } else {
                Headers::new()
            },
            leader_epoch: record.leader_epoch(),
        }
    }
}

impl Draft {
    pub(super) fn new(
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        timestamp_type: TimestampType,
        needs: Needs,
        habit: Habit,
        spare: Option<RawBatch>,
    ) -> Self {
        let (values, offsets, timestamps, keys) = match spare {
            Some(spare) => (spare.values, spare.offsets, spare.timestamps, spare.keys),
            None => Default::default(),
        };
        let arena = |spare: Arena, bytes: usize| Arena {
            bytes: emptied(spare.bytes, bytes),
            ends: emptied(spare.ends, habit.rows),
            nulls: emptied(spare.nulls, 0),
        };
        Self {
            batch: RawBatch {
                tp,
                epoch,
                values: arena(values, habit.value_bytes),
                offsets: emptied(offsets, habit.rows),
                timestamps: emptied(timestamps, habit.rows),
                timestamp_type,
                keys: needs
                    .keys
                    .then(|| arena(keys.unwrap_or_default(), habit.key_bytes)),
                headers: needs.headers.then(Vec::new),
                leader_epoch: None,
            },
            header_bytes: 0,
        }
    }

    /// Whether the record may join: a record of any size may join an empty draft.
    #[inline]
    pub(super) fn takes(&self, fields: &Fields<'_>, max_records: usize) -> bool {
        let batch = &self.batch;
        if batch.is_empty() {
            return true;
        }
        let held = batch.values.bytes.len()
            + batch.keys.as_ref().map_or(0, |keys| keys.bytes.len())
            + self.header_bytes;
        let more = fields.value.map_or(0, <[u8]>::len) + fields.key.map_or(0, <[u8]>::len);
        batch.len() < max_records
            && batch.timestamp_type == fields.timestamp_type
            && held + more <= BATCH_BYTES
    }

    #[inline]
    pub(super) fn add(&mut self, fields: Fields<'_>) {
        let batch = &mut self.batch;
        batch.values.push(fields.value);
        batch.offsets.push(fields.offset);
        batch.timestamps.push(fields.timestamp);
        batch.leader_epoch = fields.leader_epoch;
        if let Some(keys) = &mut batch.keys {
            keys.push(fields.key);
        }
        if let Some(headers) = &mut batch.headers {
            self.header_bytes += fields
                .headers
                .iter()
                .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 64)
                .sum::<usize>();
            headers.push(fields.headers);
        }
    }
}

/// An empty vector with the room that was needed last time, and a quarter more: a steady partition does not grow its
/// arena at the very end.
fn emptied<T>(mut spare: Vec<T>, last: usize) -> Vec<T> {
    spare.clear();
    spare.reserve(last + last / 4);
    spare
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        keys: true,
        headers: true,
    };

    fn draft(timestamp_type: TimestampType) -> Draft {
        Draft::new(
            TopicPartition::new("t", 0),
            AssignmentEpoch(1),
            timestamp_type,
            NEEDS,
            Habit::default(),
            None,
        )
    }

    fn fields(offset: i64, value: Option<&[u8]>) -> Fields<'_> {
        Fields {
            offset,
            timestamp: offset * 10,
            timestamp_type: TimestampType::CreateTime,
            value,
            key: Some(b"k"),
            headers: vec![("h".to_owned(), None)],
            leader_epoch: Some(7),
        }
    }

    #[test]
    fn a_batch_keeps_nulls_apart_from_empty_values() {
        let mut draft = draft(TimestampType::CreateTime);
        draft.add(fields(4, Some(b"abc")));
        draft.add(fields(7, None));
        draft.add(fields(8, Some(b"")));
        let batch = draft.batch;
        assert_eq!(batch.offsets, [4, 7, 8]);
        assert_eq!(batch.timestamps, [40, 70, 80]);
        assert_eq!(batch.values.get(0), Some(b"abc".as_slice()));
        assert_eq!(batch.values.get(1), None);
        assert_eq!(batch.values.get(2), Some(b"".as_slice()));
        assert_eq!(batch.keys.map(|keys| keys.len()), Some(3));
        assert_eq!(batch.headers.map(|headers| headers.len()), Some(3));
        assert_eq!(batch.leader_epoch, Some(7));
    }

    #[test]
    fn a_batch_is_cut_at_records_bytes_and_a_change_of_the_timestamp_type() {
        let mut draft = draft(TimestampType::CreateTime);
        let huge = vec![0; BATCH_BYTES + 1];
        assert!(draft.takes(&fields(0, Some(&huge)), 2));
        draft.add(fields(0, Some(b"abc")));
        assert!(draft.takes(&fields(1, Some(b"abc")), 2));
        assert!(!draft.takes(&fields(1, Some(&huge)), 2));
        let other = Fields {
            timestamp_type: TimestampType::LogAppendTime,
            ..fields(1, Some(b"abc"))
        };
        assert!(!draft.takes(&other, 2));
        draft.add(fields(1, Some(b"abc")));
        assert!(!draft.takes(&fields(2, Some(b"abc")), 2));
    }
}
