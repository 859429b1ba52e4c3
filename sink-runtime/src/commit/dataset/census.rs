//! The topics as they were when the sink first started, beside its ledgers: which partitions "the end" was said of.
//! Written once, never changed.

use serde::{Deserialize, Serialize};

use super::{CommitFailure, DatasetCommitter, retried};
use crate::commit::backoff::Pacer;
use crate::ledger::DocumentError;
use crate::ledger::document::LEDGER_ROOT;
use crate::record::Census;
use crate::store::{Expect, ObjectKey, StoreError};

/// Format of the document. The first had the numbers of partitions only.
const FORMAT: u32 = 2;
const FIRST_FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    format: u32,
    topics: Census,
}

impl DatasetCommitter {
    /// The topics as they were when the sink first started: as written down, or `now`, which is written down, where the
    /// dataset does not know the sink. Empty where it knows the sink from before this was written down.
    pub async fn census(&self, now: &Census) -> Result<Census, CommitFailure> {
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
    ) -> Result<Option<Census>, CommitFailure> {
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
            FIRST_FORMAT | FORMAT => Ok(Some(found.topics)),
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

    fn census(text: &str) -> Census {
        serde_json::from_str(text).unwrap()
    }

    fn committer(store: &Arc<MemoryStore>, sink: &str) -> DatasetCommitter {
        let store = Arc::clone(store) as Arc<dyn Store>;
        DatasetCommitter::new(store, sink, "pod-0/1", BackoffPolicy::default())
    }

    #[tokio::test]
    async fn the_first_start_is_written_down_once_for_each_sink() {
        let store = Arc::new(MemoryStore::new());
        let first = census(r#"{"orders":{"id":"a","ends":[7,null]}}"#);
        let later = census(r#"{"orders":{"id":"a","ends":[9,8,3]},"returns":2147483647}"#);
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
        let found = sink.census(&census(r#"{"orders":{"ends":[5,6]}}"#)).await;
        assert_eq!(found.unwrap(), Census::new());
    }

    #[tokio::test]
    async fn a_census_of_the_first_release_is_read_and_one_of_a_later_release_is_left_alone() {
        let store = Arc::new(MemoryStore::new());
        let key = "_tidewater/default.orders/@census.json";
        let old = br#"{"format":1,"topics":{"orders":4}}"#.to_vec();
        store.put(key, old.into(), Expect::Absent).await.unwrap();
        let now = census(r#"{"orders":{"ends":[5,6]}}"#);
        let sink = committer(&store, "default.orders");
        let found = sink.census(&now).await.unwrap();
        assert_eq!(found, census(r#"{"orders":4}"#));
        let key = "_tidewater/default.others/@census.json";
        let newer = br#"{"format":3,"topics":{}}"#.to_vec();
        store.put(key, newer.into(), Expect::Absent).await.unwrap();
        let refused = committer(&store, "default.others").census(&now).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(
                &refused,
                CommitFailure::Ledger(DocumentError::NewerFormat { found: 3, .. })
            ),
            "{refused:?}"
        );
    }
}
