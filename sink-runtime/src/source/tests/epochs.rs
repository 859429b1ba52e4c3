//! Leader epochs: told of records and logs, and what they say of a log that was cut.

use super::*;
use crate::record::LastRead;

fn last(offset: i64, leader_epoch: i32) -> BTreeMap<TopicPartition, LastRead> {
    let offset = Offset(offset);
    let last = LastRead {
        offset,
        leader_epoch,
    };
    [(tp("orders", 0), last)].into()
}

// T15: what the second leader has written is all that is left behind the fifth record.
#[test]
fn a_log_that_was_cut_and_has_grown_again_is_told_from_one_that_was_not() {
    let cluster = Cluster::of(2, &[("orders", 1)]);
    let plan = cluster.plan("g", &["orders"]);
    // The mock cluster counts leaders from 0.
    let (first, second) = (0, 1);
    cluster.produce("orders", 0, 0..5);
    cluster.mock.partition_leader("orders", 0, Some(2)).unwrap();
    cluster.produce("orders", 0, 5..10);

    let cut = |read| {
        cuts(&plan, &read, PATIENCE)
            .remove(&tp("orders", 0))
            .unwrap()
    };
    assert_eq!(cut(last(4, first)).unwrap(), None);
    assert_eq!(cut(last(7, first)).unwrap(), Some(Offset(5)));
    assert_eq!(cut(last(9, second)).unwrap(), None);
    assert!(cuts(&plan, &BTreeMap::new(), PATIENCE).is_empty());
}

#[test]
fn a_batch_carries_the_leader_epoch_of_its_last_record() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..10);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Earliest, 1);
    member.basin.wait_for(10);
    let basin = member.close();
    let batches = basin.batches.lock();
    assert!(batches.iter().all(|batch| batch.leader_epoch.is_some()));
}
