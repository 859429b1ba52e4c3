//! The topics as they were when the sink first started, beside its ledgers: which partitions "the end" was said of.
//! Written once, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CommitFailure, DatasetCommitter, retried};
use crate::commit::backoff::Pacer;
use crate::ledger::DocumentError;
use crate::ledger::document::LEDGER_ROOT;
use crate::record::TopicName;
use crate::store::{Expect, ObjectKey, StoreError};

/// Format of the document.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    format: u32,
    /// Topics by their number of partitions.
    topics: BTreeMap<TopicName, i32>,
}

impl DatasetCommitter {
    /// The topics and their numbers of partitions as they were when the sink first started: as written down, or `now`,
    /// which is written down, where the dataset does not know the sink. Empty where it knows the sink from before this
    /// was written down.
    pub async fn census(
        &self,
        now: &BTreeMap<TopicName, i32>,
    ) -> Result<BTreeMap<TopicName, i32>, CommitFailure> {
        let mut pacer = Pacer::start(self.policy);
        let ledgers = format!("{LEDGER_ROOT}{}/", self.sink);
        // No topic has such a name.
        let key = format!("{ledgers}@census.json");
        let document = Document {
            format: FORMAT,
            topics: now.clone(),
        };
        let malformed = |source| DocumentError::Malformed {
            key: key.clone(),
            source,
        };
        let body = serde_json::to_vec(&document).map_err(malformed)?;
        loop {
            if let Some(found) = self.written(&pacer, &key).await? {
                return Ok(found);
            }
            if retried(&pacer, || self.store.holds_any(&ledgers)).await? {
                // Whoever writes ledgers wrote this before them, if ever.
                return Ok(self.written(&pacer, &key).await?.unwrap_or_default());
            }
            let put = self.store.put(&key, body.clone().into(), Expect::Absent);
            let source = match put.await {
                Ok(_) => return Ok(document.topics),
                Err(source) => source,
            };
            // Somebody else was first, or nobody knows: look.
            let look = matches!(
                source,
                StoreError::Conflict { .. }
                    | StoreError::Unknown { .. }
                    | StoreError::Unavailable { .. }
            );
            if !look || !pacer.again().await {
                return Err(CommitFailure::Store {
                    source,
                    gave_up: look,
                });
            }
        }
    }

    async fn written(
        &self,
        pacer: &Pacer,
        key: &ObjectKey,
    ) -> Result<Option<BTreeMap<TopicName, i32>>, CommitFailure> {
        let Some((body, _)) = retried(pacer, || self.store.get(key)).await? else {
            return Ok(None);
        };
        let found: Document =
            serde_json::from_slice(&body).map_err(|source| DocumentError::Malformed {
                key: key.clone(),
                source,
            })?;
        let (key, format) = (key.clone(), found.format);
        match format {
            FORMAT => Ok(Some(found.topics)),
            found if found > FORMAT => Err(DocumentError::NewerFormat { key, found }.into()),
            found => Err(DocumentError::UnknownFormat { key, found }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use super::*;
    use crate::commit::backoff::BackoffPolicy;
    use crate::store::{MemoryStore, Store};

    fn census(topics: &[(&str, i32)]) -> BTreeMap<TopicName, i32> {
        let each = topics.iter();
        each.map(|(topic, n)| (TopicName::new(*topic), *n))
            .collect()
    }

    fn committer(store: &Arc<MemoryStore>, sink: &str) -> DatasetCommitter {
        let store = Arc::clone(store) as Arc<dyn Store>;
        DatasetCommitter::new(store, sink, "pod-0/1", BackoffPolicy::default())
    }

    #[tokio::test]
    async fn the_first_start_is_written_down_once_for_each_sink() {
        let store = Arc::new(MemoryStore::new());
        let first = census(&[("orders", 4)]);
        let later = census(&[("orders", 6), ("returns", 1)]);
        let sink = committer(&store, "default.orders");
        assert_eq!(sink.census(&first).await.unwrap(), first);
        let other_pod = committer(&store, "default.orders");
        assert_eq!(other_pod.census(&later).await.unwrap(), first);
        let other_sink = committer(&store, "default.others");
        assert_eq!(other_sink.census(&later).await.unwrap(), later);
    }

    #[tokio::test]
    async fn a_sink_that_has_ledgers_and_wrote_nothing_down_has_started_before() {
        let store = Arc::new(MemoryStore::new());
        let ledger = "_tidewater/default.orders/orders/0.json";
        let body = b"{}".to_vec().into();
        store.put(ledger, body, Expect::Absent).await.unwrap();
        let sink = committer(&store, "default.orders");
        let found = sink.census(&census(&[("orders", 2)])).await.unwrap();
        assert_eq!(found, census(&[]));
    }
}
