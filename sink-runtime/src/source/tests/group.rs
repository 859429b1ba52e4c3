//! Partitions come and go: sharing, slow answers, overtaking, leaving.

use super::*;

/// Starts everything assigned at its first record and releases everything revoked, until `done`.
fn serve_until(members: &mut [&mut Member], mut done: impl FnMut(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(members) {
        for member in members.iter_mut() {
            while let Some(event) = member.try_next() {
                match event {
                    SourceEvent::Assigned(partitions) => {
                        member.begin(&partitions, StartAt::Offset(Offset(0)), 1);
                    }
                    SourceEvent::Revoked(partitions) => {
                        member.handle.send(SourceCommand::Release(partitions));
                    }
                    _ => {}
                }
            }
        }
        assert!(Instant::now() < deadline, "not in time");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn partitions_of(basin: &Basin) -> usize {
    basin.offsets().len()
}

fn two_members_share_by(properties: &[(&str, Option<&str>)]) {
    let cluster = Cluster::new(&[("orders", 4)]);
    for partition in 0..4 {
        cluster.produce("orders", partition, 0..50);
    }
    let mut plan = cluster.plan("g", &["orders"]);
    for (key, value) in properties {
        match value {
            Some(value) => set(&mut plan, key, value),
            None => {
                plan.properties.remove(*key);
            }
        }
    }
    let mut first = Member::start(&plan);
    serve_until(&mut [&mut first], |members| members[0].basin.count() >= 200);
    assert_eq!(partitions_of(&first.basin), 4);
    let mut second = Member::start(&plan);
    serve_until(&mut [&mut first, &mut second], |members| {
        members[1].basin.count() >= 100
    });
    assert_eq!(partitions_of(&second.basin), 2);
    // What each has now it goes on reading.
    for partition in 0..4 {
        cluster.produce("orders", partition, 50..60);
    }
    serve_until(&mut [&mut first, &mut second], |members| {
        members[1].basin.count() >= 120
    });
    let basin = second.close();
    for offsets in basin.offsets().values() {
        assert_eq!(*offsets, (0..60).collect::<Vec<_>>());
    }
    first.close();
}

#[test]
fn two_members_share_by_cooperative_sticky() {
    two_members_share_by(&[]);
}

#[test]
fn two_members_share_by_an_eager_assignor() {
    two_members_share_by(&[("partition.assignment.strategy", Some("range"))]);
}

#[test]
fn two_members_share_by_the_consumer_protocol() {
    two_members_share_by(&[
        ("group.protocol", Some("consumer")),
        ("partition.assignment.strategy", None),
        ("session.timeout.ms", None),
        ("heartbeat.interval.ms", None),
    ]);
}

#[test]
fn a_revocation_answered_late_keeps_the_membership_and_nothing_follows_it() {
    let cluster = Cluster::new(&[("orders", 2)]);
    cluster.produce("orders", 0, 0..10);
    cluster.produce("orders", 1, 0..10);
    let plan = cluster.plan("g", &["orders"]);
    let mut first = Member::start(&plan);
    serve_until(&mut [&mut first], |members| members[0].basin.count() >= 20);
    let mut second = Member::start(&plan);
    let revoked = first.revoked();
    assert_eq!(revoked.len(), 1);
    // Later than the session timeout of 6 s: heartbeats must go on while the engine is busy.
    cluster.produce("orders", revoked[0].partition, 10..20);
    let until = Instant::now() + Duration::from_millis(7500);
    while Instant::now() < until {
        if let Some(event) = first.try_next() {
            assert!(!matches!(event, SourceEvent::Lost(_)), "{event:?}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(
        first.basin.offsets()[&(1, revoked[0].clone())],
        (0..10).collect::<Vec<_>>()
    );
    first.handle.send(SourceCommand::Release(revoked.clone()));
    serve_until(&mut [&mut first, &mut second], |members| {
        members[1].basin.count() >= 20
    });
    let moved: Vec<_> = second.basin.offsets().into_keys().collect();
    assert_eq!(moved, [(1, revoked[0].clone())]);
    second.close();
    first.close();
}

#[test]
fn an_assignment_never_answered_can_be_revoked_again() {
    let cluster = Cluster::new(&[("orders", 2)]);
    let plan = cluster.plan("g", &["orders"]);
    let mut first = Member::start(&plan);
    assert_eq!(first.assigned().len(), 2);
    let mut second = Member::start(&plan);
    let revoked = first.revoked();
    assert_eq!(revoked.len(), 1);
    // Too late: it is passed over.
    first.begin(&revoked, StartAt::Offset(Offset(0)), 1);
    first.handle.send(SourceCommand::Release(revoked.clone()));
    assert_eq!(second.assigned(), revoked);
    cluster.produce("orders", revoked[0].partition, 0..10);
    second.begin(&revoked, StartAt::Offset(Offset(0)), 1);
    second.basin.wait_for(10);
    assert_eq!(first.basin.count(), 0);
    second.close();
    first.close();
}

#[test]
fn a_revocation_that_outlives_the_session_becomes_a_loss_and_the_member_rejoins() {
    let cluster = Cluster::new(&[("orders", 2)]);
    let plan = cluster.plan("g", &["orders"]);
    let mut first = Member::start(&plan);
    serve_until(&mut [&mut first], |members| {
        members[0]
            .seen
            .iter()
            .any(|event| event.starts_with("CaughtUp"))
    });
    let second = Member::start(&plan);
    let revoked = first.revoked();
    cluster.mock.broker_down(-1).unwrap();
    let lost = first.await_event(|event| match event {
        SourceEvent::Lost(partitions) => Some(partitions.clone()),
        _ => None,
    });
    assert!(lost.contains(&revoked[0]), "{lost:?}");
    cluster.mock.broker_up(-1).unwrap();
    first.handle.send(SourceCommand::Release(revoked));
    let commands = first.handle.commands.clone();
    first.await_any(
        |event| matches!(event, SourceEvent::Assigned(_)).then_some(()),
        |event| {
            if let SourceEvent::Revoked(partitions) = event {
                commands.send(SourceCommand::Release(partitions)).unwrap();
            }
        },
    );
    drop(commands);
    drop(second);
    first.close();
}

#[test]
fn a_new_topic_that_matches_the_pattern_is_picked_up() {
    let cluster = Cluster::new(&[("orders.eu", 1), ("payments", 1), ("my.orders.eu", 1)]);
    let mut plan = cluster.plan("g", &[]);
    plan.topics = Topics::Pattern(r"orders\.\w+".to_owned());
    let mut member = Member::start(&plan);
    assert_eq!(member.assigned(), [tp("orders.eu", 0)]);
    member.begin(&[tp("orders.eu", 0)], StartAt::Earliest, 1);
    cluster.mock.create_topic("orders.us", 1, 1).unwrap();
    assert_eq!(member.assigned(), [tp("orders.us", 0)]);
    member.close();
}

#[test]
fn a_missing_topic_is_trouble_until_it_is_there() {
    let cluster = Cluster::new(&[("payments", 1)]);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    member.await_event(|event| match event {
        SourceEvent::Trouble(SourceError::NoSuchTopic(topic)) if topic == "orders" => Some(()),
        _ => None,
    });
    cluster.mock.create_topic("orders", 1, 1).unwrap();
    assert_eq!(member.assigned(), [tp("orders", 0)]);
    member.close();
}

#[test]
fn closing_waits_for_the_release_and_leaves_the_offsets_committed() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.produce("orders", 0, 0..10);
    let plan = cluster.plan("g", &["orders"]);
    let mut member = Member::start(&plan);
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Offset(Offset(0)), 1);
    member.basin.wait_for(10);
    member.handle.send(SourceCommand::Close);
    let revoked = member.revoked();
    let offsets = vec![(revoked[0].clone(), Offset(10))];
    member.handle.send(SourceCommand::CommitOffsets(offsets));
    member.handle.send(SourceCommand::Release(revoked));
    member.await_event(|event| matches!(event, SourceEvent::Closed).then_some(()));
    member.handle.join().unwrap();
    let facts = Facts::connect(&plan, PATIENCE).unwrap();
    assert_eq!(facts.committed(&partitions).unwrap(), [Some(Offset(10))]);
}

#[test]
fn closing_does_not_wait_past_the_drain_timeout() {
    let cluster = Cluster::new(&[("orders", 1)]);
    let mut plan = cluster.plan("g", &["orders"]);
    plan.drain_timeout = Duration::from_millis(300);
    let mut member = Member::start(&plan);
    let partitions = member.assigned();
    member.begin(&partitions, StartAt::Offset(Offset(0)), 1);
    member.handle.send(SourceCommand::Close);
    let lost = member.await_event(|event| match event {
        SourceEvent::Lost(partitions) => Some(partitions.clone()),
        _ => None,
    });
    assert_eq!(lost, partitions);
    member.await_event(|event| matches!(event, SourceEvent::Closed).then_some(()));
    member.handle.join().unwrap();
}

#[test]
fn a_handle_that_goes_away_ends_the_thread() {
    let cluster = Cluster::new(&[("orders", 1)]);
    let mut member = Member::start(&cluster.plan("g", &["orders"]));
    member.assigned();
    member.handle.join().unwrap();
}

#[test]
fn facts_are_told_without_joining_the_group() {
    let cluster = Cluster::new(&[("orders", 2), ("payments", 1)]);
    cluster.produce("orders", 1, 0..10);
    let plan = cluster.plan("g", &["orders"]);
    let facts = Facts::connect(&plan, PATIENCE).unwrap();
    assert!(facts.cluster_id().is_some());
    let orders = TopicName::new("orders");
    assert_eq!(facts.partitions(&orders).unwrap(), [0, 1]);
    assert!(matches!(
        facts.partitions(&TopicName::new("refunds")),
        Err(SourceError::NoSuchTopic(topic)) if topic == "refunds"
    ));
    let matching = facts.matching_topics("o.*|p").unwrap();
    assert_eq!(matching, BTreeMap::from([(orders, vec![0, 1])]));
    let partitions = [tp("orders", 1), tp("orders", 0)];
    assert_eq!(
        facts.watermarks(&partitions).unwrap(),
        [Some((Offset(0), Offset(10))), Some((Offset(0), Offset(0)))]
    );
    assert_eq!(facts.committed(&partitions).unwrap(), [None, None]);
}

#[test]
fn a_bad_property_is_named_and_a_secret_one_not_shown() {
    let cluster = Cluster::new(&[]);
    let mut plan = cluster.plan("g", &["orders"]);
    set(&mut plan, "fetch.wait.max.ms", "soon");
    let start = |plan: &SourcePlan| {
        let (sender, _events) = unbounded_channel();
        let sink = Arc::new(Basin::default());
        Source::start(plan, Needs::default(), sink, sender)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(start(&plan).contains("fetch.wait.max.ms"));
    let secret = Property::Secret(crate::plan::Secret::new("hunter2"));
    plan.properties
        .insert("fetch.wait.max.ms".to_owned(), secret);
    let message = start(&plan);
    assert!(message.contains("fetch.wait.max.ms") && !message.contains("hunter2"));
}
