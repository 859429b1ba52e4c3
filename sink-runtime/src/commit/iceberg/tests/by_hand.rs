//! Ledgers that people move.

use super::*;
use crate::catalog::faulty::foreign;

#[tokio::test]
async fn a_table_rolled_back_past_a_move_is_not_read_from_the_start_beside_the_rows_of_the_old_name()
 {
    let lab = Lab::new();
    let (mut old, opened) = lab.opened().await;
    let first = old.commit(&commit_of(&opened, 0, None, 10)).await.unwrap();
    let named = |name: &str| {
        let sink = SinkId(name.into());
        IcebergCommitter::new(lab.table.clone(), &sink, pace(5), clock)
    };
    let mut new = named("default.renamed");
    new.take_over(&SinkId(SINK.into())).await.unwrap();
    let opened = new.open(&plan(), &columns(&["id"])).await.unwrap();
    let mut on = commit_of(&opened, 0, Some(10), 20);
    on.claims[0].generation = 1;
    new.commit(&on).await.unwrap();
    foreign::roll_back(&*lab.memory, first.snapshot_id.unwrap())
        .await
        .unwrap();
    let reread = on_reset(OnDestinationReset::Reread);
    let reopened = named("default.renamed")
        .open(&reread, &columns(&["id"]))
        .await;
    let Err(IcebergFailure::RolledBack { held: None, .. }) = reopened else {
        panic!("the rows of before are in the table: {reopened:?}");
    };
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

#[tokio::test]
async fn a_partition_that_was_set_past_a_cut_of_its_log_is_not_held_against_the_lost_records_again()
{
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let mut only = commit_of(&opened, 0, None, 122);
    let last = LastRead {
        offset: Offset(121),
        leader_epoch: 4,
    };
    only.last_reads = [(tp(0), last)].into();
    committer.commit(&only).await.unwrap();
    assert_eq!(lab.ledger().await.last_read(&tp(0)), Some(last));
    let wish = SetByHand {
        positions: [(tp(0), (Some(Offset(122)), Offset(130)))].into(),
        ..SetByHand::default()
    };
    committer.set_by_hand(&wish).await.unwrap();
    let ledger = lab.ledger().await;
    assert_eq!(ledger.next, offsets(&[(0, 130)]));
    assert_eq!(ledger.last_read(&tp(0)), None);
}
