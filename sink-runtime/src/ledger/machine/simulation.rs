//! Owners of one topic-partition, driven step by step against a simulated store in an order that the test generates:
//! crashes, new identities, lost requests and replies, requests that arrive late, staged uploads that vanish, visible
//! files whose rows a stranger moves elsewhere, topics that are made anew. After every action an oracle counts how often
//! each offset of each topic is visible. Protocols that leave something out must be found by it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod owner;
mod world;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::owner::{Network, Owner};
use self::world::{Compacting, Manners, Omission, Oracle, Tally, World};
use super::*;

const SINK: &str = "default.orders";

fn tp() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

#[derive(Clone, Copy, Debug)]
struct Action {
    who: u8,
    what: u8,
    choice: u8,
}

/// Runs the actions, then lets everything come to rest.
fn run(owners: usize, manners: Manners, actions: &[Action]) -> Result<Tally, String> {
    let mut world = World {
        manners,
        ledger: None,
        topic: 0,
        topics: BTreeMap::new(),
        visible: Vec::new(),
        objects: BTreeMap::new(),
        compacted: Vec::new(),
        uploads: BTreeMap::new(),
        finished: Vec::new(),
        late: Vec::new(),
        ids: 0,
        wrongly_fenced: None,
        tally: Tally::default(),
    };
    let mut oracle = Oracle::default();
    let mut owners: Vec<Owner> = (0..owners).map(|_| Owner::default()).collect();
    for action in actions {
        let who = usize::from(action.who) % owners.len();
        match action.what {
            0..=179 => owners[who].act(&mut world, Network::Good, action.choice),
            180..=195 => owners[who].act(&mut world, Network::ReplyLost, action.choice),
            196..=203 => owners[who].act(&mut world, Network::RequestLost, action.choice),
            204..=217 => owners[who].act(&mut world, Network::RequestLate, action.choice),
            // Dead, and born again with a new identity.
            218..=227 => owners[who] = Owner::default(),
            228..=235 => owners[who].give_up(action.choice),
            236..=242 => arrive(&mut world, action.choice.into()),
            243..=247 => world.compact(action.choice.into()),
            248 => world.topic += 1,
            _ if manners.vanishing => vanish(&mut world, action.choice.into()),
            _ => {}
        }
        oracle.check(&world)?;
    }
    rest(world, oracle, owners)
}

fn arrive(world: &mut World, choice: usize) {
    if !world.late.is_empty() {
        let operation = world.late.remove(choice % world.late.len());
        world.apply(&operation);
    }
}

/// A lifecycle rule, or a sweep in another process, aborts a staged upload.
fn vanish(world: &mut World, choice: usize) {
    let id = world
        .uploads
        .keys()
        .nth(choice % world.uploads.len().max(1))
        .cloned();
    if let Some(id) = id {
        world.uploads.remove(&id);
    }
}

fn settle_down(world: &mut World, oracle: &mut Oracle, owner: &mut Owner) -> Result<(), String> {
    // Opening, retracting and committing a handful of files takes some thirty requests.
    for _ in 0..200 {
        owner.act(world, Network::Good, 1);
        oracle.check(world)?;
        if owner.running.is_none() && owner.known.is_some() {
            return Ok(());
        }
    }
    Err("an undisturbed owner does not come to an end".into())
}

fn rest(mut world: World, mut oracle: Oracle, owners: Vec<Owner>) -> Result<Tally, String> {
    // Zombies finish what they had begun, while half of the late requests arrive.
    for mut owner in owners {
        arrive(&mut world, 0);
        if owner.running.is_some() {
            settle_down(&mut world, &mut oracle, &mut owner)?;
        }
    }
    let mut heir = Owner::default();
    settle_down(&mut world, &mut oracle, &mut heir)?;
    while !world.late.is_empty() {
        arrive(&mut world, 0);
        oracle.check(&world)?;
    }
    // A crash would forget what it knows; so does it here, and it must still be able to go on.
    let mut heir = Owner::default();
    settle_down(&mut world, &mut oracle, &mut heir)?;
    if heir.must_reset(&world) {
        heir.act(&mut world, Network::Good, 1);
        settle_down(&mut world, &mut oracle, &mut heir)?;
    }
    let before = world.document().map_or(0, |document| document.next.0);
    heir.act(&mut world, Network::Good, 1);
    settle_down(&mut world, &mut oracle, &mut heir)?;
    let document = world.document().ok_or("no ledger after a commit")?;
    let next = document.next.0;
    if next <= before {
        return Err(format!("an undisturbed commit did not go beyond {before}"));
    }
    let (topic, start) = world.topic_of(document);
    let batches = world.objects.values().chain(&world.compacted);
    let of_topic = batches.filter(|batch| batch.topic == topic);
    let mut visible: Vec<i64> = of_topic.flat_map(|batch| batch.offsets.clone()).collect();
    visible.sort_unstable();
    match visible == (start..next).collect::<Vec<i64>>() {
        true => Ok(world.tally),
        false => Err(format!("from {start} to {next} there are {visible:?}")),
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(who, what, choice)| Action {
        who,
        what,
        choice,
    });
    prop::collection::vec(action, 10..220)
}

/// The same schedules on every run.
fn explore(cases: u32, owners: usize, manners: Manners) -> Result<Tally, TestError<Vec<Action>>> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let sum = Cell::new(Tally::default());
    TestRunner::new_with_rng(config, rng).run(&actions(), |actions| {
        let one = run(owners, manners, &actions).map_err(TestCaseError::fail)?;
        let all = sum.get();
        sum.set(Tally {
            commits: all.commits + one.commits,
            found: all.found + one.found,
            fenced: all.fenced + one.fenced,
            lost: all.lost + one.lost,
            removed: all.removed + one.removed,
            stale: all.stale + one.stale,
            resets: all.resets + one.resets,
            compacted: all.compacted + one.compacted,
        });
        Ok(())
    })?;
    Ok(sum.get())
}

/// A test that never meets the rare cases proves nothing about them.
fn assert_varied(tally: Tally) {
    let Tally {
        commits,
        found,
        fenced,
        lost,
        removed,
        stale,
        resets,
        compacted,
    } = tally;
    let all = [
        commits, found, fenced, lost, removed, stale, resets, compacted,
    ];
    let least = all.into_iter().min();
    assert!(least >= Some(100), "{tally:?}");
}

const HONEST: Manners = Manners {
    compare_and_swap: true,
    remembers_finished: true,
    vanishing: true,
    slow_completions: true,
    compacting: Compacting::AtRest,
    topic_ids: false,
    leaves_out: None,
};

// T2, T5, T7, T18, T24
#[test]
fn every_offset_is_there_exactly_once_whatever_two_owners_do_and_suffer() {
    assert_varied(explore(2500, 2, HONEST).unwrap());
}

#[test]
fn every_offset_is_there_exactly_once_with_three_owners_and_a_forgetful_store() {
    let manners = Manners {
        remembers_finished: false,
        topic_ids: true,
        ..HONEST
    };
    assert_varied(explore(2500, 3, manners).unwrap());
}

#[test]
fn no_commit_is_ever_taken_back_while_nothing_vanishes() {
    for remembers_finished in [true, false] {
        let manners = Manners {
            remembers_finished,
            vanishing: false,
            slow_completions: false,
            ..HONEST
        };
        let tally = explore(700, 2, manners).unwrap();
        assert_eq!((tally.lost, tally.removed), (0, 0), "{tally:?}");
    }
}

/// A world in which the oracle must find damage.
fn assert_found(manners: Manners) {
    let found = explore(2500, 2, manners);
    assert!(
        matches!(found, Err(TestError::Fail(..))),
        "{manners:?}: {found:?}"
    );
}

#[test]
fn the_oracle_finds_the_damage_of_a_store_that_ignores_preconditions() {
    assert_found(Manners {
        compare_and_swap: false,
        ..HONEST
    });
}

#[test]
fn the_oracle_finds_the_damage_of_a_protocol_that_leaves_something_out() {
    for omission in [
        Omission::Generation,
        Omission::AbortBeforeDelete,
        Omission::Reread,
    ] {
        assert_found(Manners {
            leaves_out: Some(omission),
            ..HONEST
        });
    }
}

/// Why a commit is settled when none follows soon: until then its files are not to be moved.
#[test]
fn the_oracle_finds_the_damage_of_a_compaction_of_what_is_not_settled() {
    assert_found(Manners {
        compacting: Compacting::All,
        remembers_finished: false,
        ..HONEST
    });
}
