//! What arrives: once, in order, whole, from the right start, and no more than is wanted.

use super::*;
use crate::record::TimestampType;

#[test]
fn records_arrive_once_in_order_and_whole() {
    let cluster = Cluster::new(&[("orders", 3)]);
    for partition in 0..3 {
        cluster.produce("orders", partition, 0..2500);
    }
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    let mut partitions = member.assigned();
    partitions.sort();
    assert_eq!(
        partitions,
        [tp("orders", 0), tp("orders", 1), tp("orders", 2)]
    );
    member.begin(&partitions, StartAt::Offset(Offset(0)), 7);
    member.basin.wait_for(7500);
    let basin = member.close();
    for partition in partitions {
        let all: Vec<i64> = (0..2500).collect();
        assert_eq!(basin.offsets()[&(7, partition)], all);
    }
    for batch in basin.batches.lock().iter() {
        assert!(batch.len() <= 1000, "batches are cut at the plan's size");
        assert_eq!(batch.timestamp_type, TimestampType::CreateTime);
        let (keys, headers) = (
            batch.keys.as_ref().unwrap(),
            batch.headers.as_ref().unwrap(),
        );
        for (row, offset) in batch.offsets.iter().enumerate() {
            let number = offset.to_string();
            assert_eq!(batch.values.get(row), Some(number.as_bytes()));
            assert_eq!(keys.get(row), Some(format!("k{number}").as_bytes()));
            assert_eq!(batch.timestamps[row], offset + 1);
            let expected = [
                ("number".to_owned(), Some(number.clone().into_bytes())),
                ("nothing".to_owned(), None),
            ];
            assert_eq!(headers[row], expected);
        }
    }
}

#[test]
fn caught_up_is_said_behind_the_batches_before_it_and_again_after_more_came() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..10);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Earliest, 1);
    assert_eq!(member.started(&partitions[0]), (1, 0));
    assert_eq!(member.caught_up(&partitions[0]), 10);
    assert_eq!(member.basin.count(), 10);
    cluster.produce("orders", 0, 10..12);
    assert_eq!(member.caught_up(&partitions[0]), 12);
    assert_eq!(member.basin.count(), 12);
    member.close();
}

#[test]
fn latest_is_the_end_at_the_time_of_the_start() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..10);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    let partitions = member.assigned();
    cluster.produce("orders", 0, 10..20);
    member.begin(&partitions, StartAt::Latest, 1);
    assert_eq!(member.started(&partitions[0]), (1, 20));
    cluster.produce("orders", 0, 20..25);
    member.basin.wait_for(5);
    let basin = member.close();
    assert_eq!(basin.offsets()[&(1, tp("orders", 0))], [20, 21, 22, 23, 24]);
}

#[test]
fn a_seek_goes_on_elsewhere_under_the_new_epoch_only() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..5000);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Offset(Offset(0)), 1);
    member.basin.wait_for(1);
    for epoch in 2..12_u64 {
        let at = Offset(i64::try_from(epoch).unwrap() * 100);
        member.handle.send(SourceCommand::Seek(
            partitions[0].clone(),
            at,
            AssignmentEpoch(epoch),
        ));
    }
    let at = member.await_event(|event| match event {
        SourceEvent::Started { epoch, at, .. } if epoch.0 == 11 => Some(at.0),
        _ => None,
    });
    assert_eq!(at, 1100);
    assert_eq!(member.caught_up(&partitions[0]), 5000);
    let basin = member.close();
    let mut latest = 0;
    for batch in basin.batches.lock().iter() {
        assert!(batch.epoch.0 >= latest, "an older epoch came after a newer");
        latest = batch.epoch.0;
    }
    let last: Vec<i64> = (1100..5000).collect();
    assert_eq!(basin.offsets()[&(11, tp("orders", 0))], last);
}

#[test]
fn a_position_outside_of_the_log_is_reported_and_waits_for_a_seek() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..10);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Offset(Offset(500)), 1);
    let told = member.await_event(|event| match event {
        SourceEvent::OutOfRange {
            tp: _,
            epoch,
            position,
            log_start,
            log_end,
        } => Some((epoch.0, position.0, log_start.0, log_end.0)),
        _ => None,
    });
    assert_eq!(told, (1, 500, 0, 10));
    assert_eq!(member.basin.count(), 0);
    member.handle.send(SourceCommand::Seek(
        partitions[0].clone(),
        Offset(4),
        AssignmentEpoch(2),
    ));
    assert_eq!(member.caught_up(&partitions[0]), 10);
    let basin = member.close();
    let rest: Vec<i64> = (4..10).collect();
    assert_eq!(basin.offsets()[&(2, tp("orders", 0))], rest);
}

#[test]
fn pressure_stops_delivery_without_loss_and_without_leaving_the_group() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..1000);
    let mut plan = cluster.plan("g", &["orders"]);
    set(&mut plan, "max.poll.interval.ms", "6000");
    let mut member = Member::start(&plan);
    let partitions = member.assigned();
    member.basin.high.store(true, Ordering::SeqCst);
    member.begin(&partitions, StartAt::Offset(Offset(0)), 1);
    member.started(&partitions[0]);
    // Paused for longer than the poll interval and the session allow an idle member: 10 ms a turn.
    let until = Instant::now() + Duration::from_millis(7500);
    while Instant::now() < until {
        let asked = member.basin.asked.load(Ordering::SeqCst);
        while member.basin.asked.load(Ordering::SeqCst) == asked {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    assert_eq!(member.basin.count(), 0);
    member.basin.high.store(false, Ordering::SeqCst);
    member.handle.wake();
    member.basin.wait_for(1000);
    while let Some(event) = member.try_next() {
        assert!(
            !matches!(event, SourceEvent::Revoked(_) | SourceEvent::Lost(_)),
            "{event:?}"
        );
    }
    let basin = member.close();
    let all: Vec<i64> = (0..1000).collect();
    assert_eq!(basin.offsets()[&(1, tp("orders", 0))], all);
}

#[test]
fn a_broker_that_goes_away_is_trouble_and_reading_goes_on_when_it_is_back() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..10);
    let mut plan = cluster.plan("g", &["orders"]);
    set(&mut plan, "reconnect.backoff.max.ms", "300");
    let mut member = Member::start(&plan);
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Offset(Offset(0)), 1);
    member.caught_up(&partitions[0]);
    cluster.mock.broker_down(-1).unwrap();
    member.await_event(|event| {
        matches!(event, SourceEvent::Trouble(SourceError::Unreachable(_))).then_some(())
    });
    cluster.mock.broker_up(-1).unwrap();
    cluster.produce("orders", 0, 10..20);
    member.basin.wait_for(20);
    let all: Vec<i64> = (0..20).collect();
    assert_eq!(member.basin.offsets()[&(1, tp("orders", 0))], all);
    member.close();
}
