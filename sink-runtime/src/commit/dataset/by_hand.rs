//! What people do to ledgers, beside the resets that a policy makes: look at all of them, and give them to a sink of
//! another name.

use crate::ledger::machine::{Intent, Outcome, Seen};
use crate::ledger::{CommitId, LedgerDocument, ledger_key};
use crate::record::{Offset, TopicPartition};
use crate::store::Store;

use super::{CommitFailure, DatasetCommitter, document_of, failure};
use crate::ledger::document::LEDGER_ROOT;

/// The ledgers of a sink in a dataset, by topic and partition, those that were moved away included. Changes nothing.
///
/// # Errors
/// When the store does not tell, or an object in their place is no ledger.
pub async fn ledgers(store: &dyn Store, sink: &str) -> Result<Vec<LedgerDocument>, CommitFailure> {
    let asked = |source| CommitFailure::Store {
        source,
        gave_up: true,
    };
    let mut found = Vec::new();
    let folder = format!("{LEDGER_ROOT}{sink}/");
    for object in store.list(&folder).await.map_err(asked)? {
        let Some(tp) = topic_partition(&object.key).filter(|tp| ledger_key(sink, tp) == object.key)
        else {
            continue;
        };
        if let Some((body, _)) = store.get(&object.key).await.map_err(asked)? {
            found.push(LedgerDocument::read(&body, sink, &tp)?);
        }
    }
    found.sort_by_key(LedgerDocument::tp);
    Ok(found)
}

fn topic_partition(key: &str) -> Option<TopicPartition> {
    let mut parts = key.rsplitn(3, '/');
    let (file, topic) = (parts.next()?, parts.next()?);
    let partition = file.strip_suffix(".json")?.parse().ok()?;
    Some(TopicPartition::new(topic, partition))
}

impl DatasetCommitter {
    /// Keeps the place of a ledger that `from` is about to leave to this sink: before that one leaves it, so that this sink
    /// begins none of its own meanwhile. `next` is for people. Doing it twice does it once.
    ///
    /// # Errors
    /// As for a commit; fenced where this sink has a ledger of its own, or the place is kept for another's.
    pub async fn reserve(
        &self,
        tp: &TopicPartition,
        from: &str,
        next: Offset,
    ) -> Result<(), CommitFailure> {
        self.forget(tp);
        let intent = Intent::Reserve {
            from: from.to_owned(),
            next,
            commit_id: CommitId::fresh(),
        };
        self.handed_over(tp, intent).await.map(drop)
    }

    /// Leaves the ledger to the sink `to`: from here on nobody commits under this one. Everything that it names is
    /// visible then. Doing it twice does it once. Gives the ledger as it was left.
    ///
    /// # Errors
    /// As for a commit; fenced where there is no ledger, or it was left to another sink.
    pub async fn leave(
        &self,
        tp: &TopicPartition,
        to: &str,
    ) -> Result<LedgerDocument, CommitFailure> {
        self.forget(tp);
        let intent = Intent::Leave { to: to.to_owned() };
        self.handed_over(tp, intent).await
    }

    /// Goes on with a ledger that another sink left to this one. Doing it twice does it once.
    ///
    /// # Errors
    /// As for a commit; fenced where this sink has a ledger of its own.
    pub async fn arrive(&self, left: LedgerDocument) -> Result<LedgerDocument, CommitFailure> {
        let tp = left.tp();
        self.forget(&tp);
        self.handed_over(&tp, Intent::Arrive(Box::new(left))).await
    }

    async fn handed_over(
        &self,
        tp: &TopicPartition,
        intent: Intent,
    ) -> Result<LedgerDocument, CommitFailure> {
        let mut machine = self.machine(tp, Seen::Unknown, 0, intent);
        match self.drive(&mut machine).await? {
            Outcome::Stands { .. } => {}
            other => return Err(failure(other, &mut machine, None)),
        }
        let seen = machine.into_seen();
        match document_of(&seen) {
            Some(document) => Ok(document.clone()),
            None => Err(CommitFailure::Fenced { found: None }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::commit::backoff::BackoffPolicy;
    use crate::commit::dataset::{CommitRequest, ResetRequest};
    use crate::errors::{Classified, OneLine};
    use crate::record::OffsetRange;
    use crate::store::MemoryStore;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn committer(store: &Arc<MemoryStore>, sink: &str) -> DatasetCommitter {
        let store = Arc::clone(store) as Arc<dyn Store>;
        DatasetCommitter::new(store, sink, "pod-0/1", BackoffPolicy::default())
    }

    fn read(partition: i32, start: i64, end: i64) -> CommitRequest {
        CommitRequest {
            tp: tp(partition),
            expected: (start > 0).then_some(Offset(start)),
            range: OffsetRange {
                start: Offset(start),
                end: Offset(end),
            },
            generation: 0,
            floor: Offset(start),
            last_read: None,
            files: Vec::new(),
            commit_id: CommitId::fresh(),
            cluster_id: None,
            topic_id: None,
        }
    }

    /// `old` holds [0, 30) of partition 0 and [0, 7) of partition 12.
    async fn begun(store: &Arc<MemoryStore>) -> DatasetCommitter {
        let old = committer(store, "default.old");
        for (partition, end) in [(0, 30), (12, 7)] {
            old.open(&tp(partition)).await.unwrap();
            old.commit(read(partition, 0, end)).await.unwrap();
        }
        old
    }

    async fn stands(store: &Arc<MemoryStore>, sink: &str) -> Vec<(i32, i64, Option<String>)> {
        let found = ledgers(store.as_ref(), sink).await.unwrap();
        let told = found.into_iter();
        told.map(|l| (l.partition, l.next.0, l.moved_to)).collect()
    }

    #[tokio::test]
    async fn a_ledger_that_is_left_goes_on_under_the_other_name_and_under_no_other() {
        let store = Arc::new(MemoryStore::new());
        let old = begun(&store).await;
        let new = committer(&store, "default.new");
        for partition in [0, 12] {
            // The second time after a crash between the two.
            old.leave(&tp(partition), "default.new").await.unwrap();
            let left = old.leave(&tp(partition), "default.new").await.unwrap();
            new.arrive(left.clone()).await.unwrap();
            new.arrive(left).await.unwrap();
        }
        let to = Some("default.new".to_owned());
        assert_eq!(
            stands(&store, "default.old").await,
            [(0, 30, to.clone()), (12, 7, to)]
        );
        assert_eq!(
            stands(&store, "default.new").await,
            [(0, 30, None), (12, 7, None)]
        );
        // A sink of the old name stops, whether it ran on or starts.
        let late = old.commit(read(0, 30, 40)).await.unwrap_err();
        assert!(late.to_string().contains("not open"), "{late}");
        let again = committer(&store, "default.old").open(&tp(0)).await;
        let again = again.unwrap_err();
        assert_eq!(again.class().reason, "LedgerMoved", "{again}");
        // What ran under the new name before it had a ledger is fenced.
        let opened = new.open(&tp(0)).await.unwrap();
        assert_eq!(opened.next, Some(Offset(30)));
        assert!(opened.document.unwrap().generation > 0);
    }

    #[tokio::test]
    async fn a_sink_that_has_a_ledger_of_its_own_takes_over_none_and_one_that_left_it_takes_it_back()
     {
        let store = Arc::new(MemoryStore::new());
        let old = begun(&store).await;
        let new = committer(&store, "default.new");
        new.open(&tp(0)).await.unwrap();
        new.commit(read(0, 0, 5)).await.unwrap();
        let left = old.leave(&tp(0), "default.new").await.unwrap();
        let refused = new.arrive(left).await;
        assert!(matches!(
            refused,
            Err(CommitFailure::Fenced {
                found: Some(Offset(5))
            })
        ));
        // Left to one, it is not left to another.
        let other = old.leave(&tp(0), "default.other").await;
        assert!(matches!(other, Err(CommitFailure::Fenced { .. })));
        let back = new.leave(&tp(0), "default.old").await.unwrap();
        old.arrive(back).await.unwrap();
        assert_eq!(stands(&store, "default.old").await[0], (0, 5, None));
    }

    #[tokio::test]
    async fn the_place_of_a_ledger_that_comes_is_kept_before_it_is_left_and_for_that_alone() {
        let store = Arc::new(MemoryStore::new());
        let old = begun(&store).await;
        let new = committer(&store, "default.new");
        // It runs, and has committed nothing yet.
        let running = committer(&store, "default.new");
        running.open(&tp(0)).await.unwrap();
        for _ in 0..2 {
            new.reserve(&tp(0), "default.old", Offset(30))
                .await
                .unwrap();
        }
        let other = new.reserve(&tp(0), "default.other", Offset(9)).await;
        assert!(matches!(other, Err(CommitFailure::Fenced { .. })));
        // Whatever of the move follows or not, it begins nothing.
        for left in [false, true] {
            if left {
                old.leave(&tp(0), "default.new").await.unwrap();
            }
            let started = committer(&store, "default.new").open(&tp(0)).await;
            let started = started.unwrap_err();
            assert_eq!(started.class().reason, "LedgerMoved", "{started}");
            let why = OneLine(&started).to_string();
            assert!(why.contains("ledger move --from default.old"), "{why}");
        }
        let late = running.commit(read(0, 0, 5)).await.unwrap_err();
        assert_eq!(late.class().reason, "LedgerMoved", "{late}");
        let left = old.leave(&tp(0), "default.new").await.unwrap();
        new.arrive(left).await.unwrap();
        assert_eq!(stands(&store, "default.new").await, [(0, 30, None)]);
        // What is there is nobody's place any more.
        let again = new.reserve(&tp(0), "default.old", Offset(30)).await;
        assert!(matches!(again, Err(CommitFailure::Fenced { .. })));
    }

    #[tokio::test]
    async fn a_position_decided_on_an_older_ledger_changes_nothing() {
        let store = Arc::new(MemoryStore::new());
        let by_hand = begun(&store).await;
        by_hand.open(&tp(0)).await.unwrap();
        let running = committer(&store, "default.old");
        running.open(&tp(0)).await.unwrap();
        running.commit(read(0, 30, 40)).await.unwrap();
        let set = |expected: i64| ResetRequest {
            tp: tp(0),
            expected: Some(Offset(expected)),
            generation: 0,
            next: Offset(20),
            recreated: false,
            commit_id: CommitId::fresh(),
            cluster_id: None,
            topic_id: None,
        };
        let stale = by_hand.reset(set(30)).await;
        assert!(matches!(
            stale,
            Err(CommitFailure::Fenced {
                found: Some(Offset(40))
            })
        ));
        assert_eq!(stands(&store, "default.old").await[0], (0, 40, None));
        by_hand.open(&tp(0)).await.unwrap();
        by_hand.reset(set(40)).await.unwrap();
        assert_eq!(stands(&store, "default.old").await[0], (0, 20, None));
        // What the running one has read meanwhile is void, also where the offsets fit.
        running.commit(read(0, 40, 50)).await.unwrap_err();
    }
}
