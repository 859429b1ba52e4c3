//! Partitions come and go: sharing, slow answers, overtaking, leaving.

use rdkafka::types::RDKafkaApiKey;

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

fn two_members_share_by(properties: &[(&str, Option<&str>)], incremental: bool) {
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
    let taken = second.basin.offsets();
    for offsets in taken.values() {
        assert_eq!(*offsets, (0..60).collect::<Vec<_>>());
    }
    serve_until(&mut [&mut first, &mut second], |members| {
        let kept = members[0].basin.offsets();
        kept.iter()
            .filter(|(partition, _)| !taken.contains_key(partition))
            .all(|(_, offsets)| offsets.last() == Some(&59))
    });
    if incremental {
        // What the first kept it never read twice, and nothing is missing.
        for (partition, offsets) in first.basin.offsets() {
            let end = if taken.contains_key(&partition) {
                50
            } else {
                60
            };
            assert_eq!(offsets, (0..end).collect::<Vec<_>>());
        }
    }
    second.close();
    first.close();
}

#[test]
fn two_members_share_by_cooperative_sticky() {
    two_members_share_by(&[], true);
}

#[test]
fn two_members_share_by_an_eager_assignor() {
    two_members_share_by(&[("partition.assignment.strategy", Some("range"))], false);
}

#[test]
fn two_members_share_by_the_consumer_protocol() {
    let properties = [
        ("group.protocol", Some("consumer")),
        ("partition.assignment.strategy", None),
        ("session.timeout.ms", None),
        ("heartbeat.interval.ms", None),
    ];
    two_members_share_by(&properties, true);
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
fn a_partition_kept_at_its_end_loses_no_record_to_a_rebalance() {
    let cluster = Cluster::new(&[("orders", 2)]);
    let plan = cluster.plan("g", &["orders"]);
    let mut first = Member::start(&plan);
    let all = first.assigned();
    first.begin(&all, StartAt::Offset(Offset(0)), 1);
    first.caught_up(&all[0]);
    let mut second = Member::start(&plan);
    let revoked = first.revoked();
    // Written while everything is paused, behind the end that was seen.
    for partition in 0..2 {
        cluster.produce("orders", partition, 0..10);
    }
    first.handle.send(SourceCommand::Release(revoked.clone()));
    first.basin.wait_for(10);
    second.assigned();
    let kept = first.basin.offsets();
    assert_eq!(kept.len(), 1);
    for ((_, partition), offsets) in kept {
        assert_ne!(partition, revoked[0]);
        assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    }
    second.close();
    first.close();
}

#[test]
fn a_revocation_not_answered_within_the_drain_timeout_becomes_a_loss() {
    let cluster = Cluster::new(&[("orders", 2)]);
    let mut plan = cluster.plan("g", &["orders"]);
    plan.drain_timeout = Duration::from_secs(1);
    let mut first = Member::start(&plan);
    let all = first.assigned();
    first.begin(&all, StartAt::Offset(Offset(0)), 1);
    let mut second = Member::start(&plan);
    let revoked = first.revoked();
    assert_eq!(first.lost(), revoked);
    assert_eq!(second.assigned(), revoked);
    // What it kept it goes on reading.
    let kept: Vec<_> = all.into_iter().filter(|tp| *tp != revoked[0]).collect();
    cluster.produce("orders", kept[0].partition, 0..10);
    first.basin.wait_for(10);
    second.close();
    first.close();
}

#[test]
fn a_session_that_ended_is_a_loss_and_the_member_joins_again() {
    let cluster = Cluster::new(&[("orders", 2)]);
    let mut plan = cluster.plan("g", &["orders"]);
    set(&mut plan, "reconnect.backoff.max.ms", "300");
    let mut member = Member::start(&plan);
    let all = member.assigned();
    member.begin(&all, StartAt::Offset(Offset(0)), 1);
    member.caught_up(&all[0]);
    cluster.mock.broker_down(-1).unwrap();
    let mut lost = member.lost();
    lost.sort();
    assert_eq!(lost, [tp("orders", 0), tp("orders", 1)]);
    cluster.mock.broker_up(-1).unwrap();
    let all = member.assigned();
    member.begin(&all, StartAt::Offset(Offset(0)), 2);
    cluster.produce("orders", 0, 0..10);
    member.basin.wait_for(10);
    let basin = member.close();
    assert_eq!(
        basin.offsets()[&(2, tp("orders", 0))],
        (0..10).collect::<Vec<_>>()
    );
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
    assert_eq!(member.lost(), partitions);
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
    let matching: Vec<_> = matching
        .into_iter()
        .map(|(topic, p)| (topic, p.unwrap()))
        .collect();
    assert_eq!(matching, [(orders, vec![0, 1])]);
    let partitions = [tp("orders", 1), tp("orders", 0)];
    assert_eq!(
        facts.watermarks(&partitions).unwrap(),
        [Some((Offset(0), Offset(10))), Some((Offset(0), Offset(0)))]
    );
    assert_eq!(facts.committed(&partitions).unwrap(), [None, None]);
}

#[test]
fn a_partition_whose_leader_is_gone_or_unknown_costs_the_others_no_answer() {
    let cluster = Cluster::of(3, &[("orders", 4), ("refunds", 1)]);
    for (partition, leader) in [(0, 1), (1, 2), (2, 3), (3, 1)] {
        let mock = &cluster.mock;
        mock.partition_leader("orders", partition, Some(leader))
            .unwrap();
    }
    cluster.produce("orders", 0, 0..10);
    cluster.produce("orders", 2, 0..30);
    let facts = Facts::connect(&cluster.plan("g", &["orders"]), PATIENCE).unwrap();
    cluster.mock.partition_leader("orders", 3, None).unwrap();
    cluster.mock.broker_down(2).unwrap();
    let mut asked: Vec<_> = (0..4).map(|partition| tp("orders", partition)).collect();
    asked.push(tp("returns", 0));
    let bounds = facts.bounds(&asked, Duration::from_secs(2));
    let ends: Vec<_> = bounds
        .iter()
        .map(|bound| bound.as_ref().ok().map(|(_, end)| end.0))
        .collect();
    assert_eq!(ends, [Some(10), None, Some(30), None, None], "{bounds:?}");
    let why = |place: usize| bounds[place].as_ref().unwrap_err().to_string();
    assert!(why(3).contains("\"orders-3\" has no leader"), "{}", why(3));
    assert!(why(4).contains("\"returns\" does not exist"), "{}", why(4));
    // Whoever sums up knows which are missing.
    let marks = facts.watermarks(&asked[..1]).unwrap();
    assert_eq!(marks, [Some((Offset(0), Offset(10)))]);
}

#[test]
fn topics_that_exist_have_ids_of_their_own_and_keep_them() {
    let cluster = Cluster::new(&[("orders", 2), ("payments", 1)]);
    let facts = Facts::connect(&cluster.plan("g", &["orders"]), PATIENCE).unwrap();
    let topics = ["orders", "payments", "refunds"].map(TopicName::new);
    let ids = facts.topic_ids(&topics.clone().into());
    let known: Vec<_> = ids.keys().cloned().collect();
    assert_eq!(known, topics[..2]);
    // 128 bits in base64.
    assert!(ids.values().all(|id| id.len() == 22), "{ids:?}");
    assert_ne!(ids[&topics[0]], ids[&topics[1]]);
    let again = facts.topic_ids(&[topics[0].clone()].into());
    assert_eq!(again[&topics[0]], ids[&topics[0]]);
}

#[test]
fn ids_that_nobody_tells_are_unknown() {
    let orders = TopicName::new("orders");
    let cluster = Cluster::new(&[("orders", 1)]);
    // Metadata without topic ids, as of brokers before 2.8.
    let old = RDKafkaApiKey::Metadata;
    cluster.mock.apiversion(old, Some(0), Some(9)).unwrap();
    let facts = Facts::connect(&cluster.plan("g", &["orders"]), PATIENCE).unwrap();
    assert!(facts.topic_ids(&[orders.clone()].into()).is_empty());
    cluster.mock.broker_down(1).unwrap();
    assert!(facts.topic_ids(&[orders].into()).is_empty());
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
