//! The word that the times of a column seem to be numbers in another unit, once for each worker and column.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;

use crate::decode::odd_times;
use crate::record::TopicPartition;

#[derive(Debug)]
pub(super) struct OddTimes {
    /// The column of Kafka's own times: what a producer says there, no setting of ours reads otherwise.
    kafkas: Option<String>,
    told: BTreeSet<String>,
}

impl OddTimes {
    pub(super) fn but(kafkas: Option<String>) -> Self {
        let told = BTreeSet::new();
        Self { kafkas, told }
    }

    pub(super) fn look(&mut self, tp: &TopicPartition, batch: &RecordBatch) {
        for column in self.news(batch) {
            tracing::warn!(
                partition = %tp,
                column,
                advice = "where its numbers count seconds, say encoding: EpochSeconds, and where milliseconds, EpochMillis",
                "times of a column are in the first months of 1970: are its numbers in another unit?"
            );
        }
    }

    /// Columns that are told of now.
    fn news(&mut self, batch: &RecordBatch) -> Vec<String> {
        let odd = odd_times(batch).filter(|column| Some(*column) != self.kafkas.as_deref());
        let news = odd.filter(|column| self.told.insert((*column).to_owned()));
        news.map(str::to_owned).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn a_column_of_odd_times_is_told_of_once_and_kafkas_own_never() {
        let mut times = OddTimes::but(Some("arrived".to_owned()));
        let mut news = |created: i64, paid: i64| {
            let column = |time| Arc::new(TimestampMicrosecondArray::from(vec![time])) as ArrayRef;
            let columns = [
                ("arrived", column(1_700_000_000_000)),
                ("created", column(created)),
                ("paid", column(paid)),
            ];
            times.news(&RecordBatch::try_from_iter(columns).unwrap())
        };
        let (right, odd) = (1_700_000_000_000_000, 1_700_000_000_000);
        assert!(news(right, right).is_empty());
        assert_eq!(news(odd, right), ["created"]);
        assert_eq!(news(odd, odd), ["paid"]);
        assert!(news(odd, odd).is_empty());
    }
}
