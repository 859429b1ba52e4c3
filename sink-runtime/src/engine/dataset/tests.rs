#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use tokio::runtime::Handle;

use super::*;
use crate::budget::Budget;
use crate::commit::backoff::BackoffPolicy;
use crate::engine::deliver::tests::{Held, of_log};
use crate::store::{MemoryStore, Store};

fn deliver(store: &Arc<MemoryStore>) -> DatasetDeliver {
    let store = Arc::clone(store) as Arc<dyn Store>;
    let policy = BackoffPolicy::default();
    let committer = DatasetCommitter::new(Arc::clone(&store), "default.orders", "pod/1", policy);
    let budget = Budget::new(1 << 20);
    let uploader = Uploader::new(store, Handle::current(), 1, budget.clone());
    let progress = Progress::new("default.orders", budget, Duration::ZERO);
    let plan = crate::engine::deliver::tests::plan();
    DatasetDeliver::new(&plan, Arc::new(committer), uploader, progress, None)
}

/// Marks records up to `end` as read.
async fn reads(deliver: &DatasetDeliver, facts: &Facts, known: &Known, end: i64) {
    let tp = TopicPartition::new("orders", 0);
    let range = OffsetRange {
        start: known.next.unwrap_or(Offset(0)),
        end: Offset(end),
    };
    let request = CommitRequest {
        expected: known.next,
        range,
        generation: known.generation,
        ..mark(&tp, range.end, facts)
    };
    deliver.committer.commit(request).await.unwrap();
}

// T15
#[tokio::test]
async fn what_kafka_said_before_the_ledger_was_set_back_sets_back_no_later_ledger() {
    for held in Held::ALL {
        let store = Arc::new(MemoryStore::new());
        let [owner, late] = [(); 2].map(|()| deliver(&store));
        let asked = of_log(held);
        let (tp, facts) = asked.first_key_value().unwrap();
        owner.committer.open(tp).await.unwrap();
        reads(&owner, facts, &Known::default(), 122).await;

        let doubt = async |deliver: &DatasetDeliver, doubted: &Doubts| match deliver
            .recover(&asked, doubted)
            .await
            .unwrap_err()
        {
            Failure::Doubt { said, .. } => said,
            other => panic!("{held:?}: {other:?}"),
        };
        let said = doubt(&late, &Doubts::new()).await;
        // It hangs; another owner has found the same, settles it and goes on.
        let settled = owner.recover(&asked, &said).await.unwrap()[tp];
        assert_eq!(
            (settled.next, settled.generation),
            (Some(held.resumed()), 1)
        );
        reads(&owner, facts, &settled, 150).await;

        let again = doubt(&late, &said).await;
        assert_eq!(
            (again[tp].next, again[tp].generation),
            (Some(Offset(150)), 1)
        );
        let there = owner.committer.open(tp).await.unwrap().document.unwrap();
        assert_eq!((there.next, there.generation), (Offset(150), 1), "{held:?}");
    }
}
