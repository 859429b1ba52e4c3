//! What Kafka said of a log is held against the ledger that it was asked about, and no later one; and what is left of a
//! ledger that was set back.

use super::*;
use crate::engine::deliver::tests::{Held, of_log};
use crate::engine::deliver::{Deliver, Doubts, Facts, Failure};
use crate::engine::table::TableDeliver;
use crate::observe::Progress;

fn deliver(targets: &Arc<Targets>) -> TableDeliver {
    let budget = Budget::new(1 << 20);
    let progress = Progress::new("default.orders", budget, std::time::Duration::ZERO);
    let plan = crate::engine::deliver::tests::plan();
    TableDeliver::new(&plan, Arc::clone(targets), progress)
}

/// Marks records up to `end` as read.
async fn reads(targets: &Targets, facts: &Facts, (next, generation): (Option<i64>, u64), end: i64) {
    let mut wish = progress(&targets.current().unwrap(), 0);
    wish.claims[0].expected = next.map(Offset);
    wish.claims[0].range = OffsetRange {
        start: Offset(next.unwrap_or(0)),
        end: Offset(end),
    };
    wish.claims[0].generation = generation;
    wish.cluster_id.clone_from(&facts.cluster_id);
    let id = facts.topic_id.clone();
    wish.topic_ids = id
        .map(|id| (TopicName::new("orders"), id))
        .into_iter()
        .collect();
    targets.commit(&wish).await.unwrap();
}

// T15
#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_said_before_the_table_was_set_back_sets_back_no_later_ledger() {
    for held in Held::ALL {
        let folder = TempDir::new().unwrap();
        let plan = plan(&folder);
        let table = made(&plan).await;
        let [ours, theirs] = [(); 2].map(|()| targets(plan.clone(), table.clone()));
        let (owner, late) = (deliver(&ours), deliver(&theirs));
        let asked = of_log(held);
        let (tp, facts) = asked.first_key_value().unwrap();
        ours.open().await.unwrap();
        reads(&ours, facts, (None, 0), 122).await;

        let doubt = async |deliver: &TableDeliver, doubted: &Doubts| match deliver
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
        reads(&ours, facts, (Some(held.resumed().0), 1), 150).await;

        let again = doubt(&late, &said).await;
        assert_eq!(
            (again[tp].next, again[tp].generation),
            (Some(Offset(150)), 1)
        );
        let there = ours.open().await.unwrap().unwrap();
        let found = (there.next[tp], there.generation(tp));
        assert_eq!(found, (Offset(150), 1), "{held:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_position_is_written_down_also_where_the_table_has_a_past_of_the_partition() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let targets = targets(plan, table);
    let deliver = deliver(&targets);
    let asked = of_log(Held::ShorterLog);
    let (tp, facts) = asked.first_key_value().unwrap();
    targets.open().await.unwrap();
    reads(&targets, facts, (None, 0), 50).await;
    // Another cluster: the partition begins anew, and has no offset.
    let (ids, logs, said) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let anew = targets.restart_source(Some("c2"), &ids, &logs, &said);
    let ledger = anew.await.unwrap();
    assert_eq!((ledger.next.get(tp), ledger.generation(tp)), (None, 1));
    let facts = Facts {
        cluster_id: Some("c2".to_owned()),
        ..facts.clone()
    };
    let asked = [(tp.clone(), facts.clone())].into();
    let known = deliver.recover(&asked, &Doubts::new()).await.unwrap()[tp];
    let at = Offset(70);
    let written = deliver.anchor(tp, at, known.generation, &facts).await;
    assert!(written.unwrap());
    let there = targets.open().await.unwrap().unwrap();
    assert_eq!((there.next[tp], there.generation(tp)), (at, 1));
}
