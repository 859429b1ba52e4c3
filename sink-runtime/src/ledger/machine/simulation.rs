//! Owners of one topic-partition, driven step by step against a simulated store in an order that the test generates:
//! crashes, new identities, lost requests and replies, requests that arrive late, staged uploads that vanish, visible
//! files whose rows a stranger moves elsewhere, topics that are made anew. After every action an oracle counts how often
//! each offset of each topic is visible. Protocols that leave something out must be found by it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::world::{Compacting, Manners, Omission, Operation, Oracle, Reply, Tally, World, version};
use super::*;
use crate::ledger::CommitId;

const SINK: &str = "default.orders";

fn tp() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

#[derive(Debug)]
struct Running {
    machine: Machine,
    /// The rest of the current step, and the replies so far.
    todo: Vec<Operation>,
    replies: Vec<Reply>,
    proposal: Option<Proposal>,
}

/// One process that believes that it owns the topic-partition.
#[derive(Debug, Default)]
struct Owner {
    running: Option<Running>,
    /// The ledger and its generation, as opened.
    known: Option<(Seen, u64)>,
    /// The topic that its records are of: as it was when the ledger had been opened.
    topic: u64,
    /// Given up on without an answer: to be tried again as it was.
    again: Option<Proposal>,
}

/// How the network treats one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Good,
    ReplyLost,
    RequestLost,
    RequestLate,
}

impl Owner {
    fn act(&mut self, world: &mut World, network: Network, choice: u8) {
        let Some(running) = &mut self.running else {
            return self.begin(world, choice);
        };
        if let Some(operation) = running.todo.first().cloned() {
            let reply = match network {
                Network::Good => Some(world.apply(&operation)),
                Network::ReplyLost => {
                    world.apply(&operation);
                    None
                }
                Network::RequestLost => None,
                Network::RequestLate => {
                    world.late.push(operation.clone());
                    None
                }
            };
            match reply {
                Some(reply) => {
                    running.todo.remove(0);
                    running.replies.push(reply);
                }
                // Everything but a put is simply asked again.
                None if matches!(operation, Operation::Put(..)) => {
                    running.todo.clear();
                    running.replies.clear();
                    return match (world.manners.leaves_out, &operation) {
                        (Some(Omission::Reread), Operation::Put(body, _)) => {
                            self.feed(world, Event::Put(version(body)))
                        }
                        _ => self.feed(world, Event::Unknown),
                    };
                }
                None => return,
            }
        }
        if running.todo.is_empty() {
            let replies = std::mem::take(&mut running.replies);
            let event = event_of(replies);
            self.feed(world, event);
        }
    }

    fn begin(&mut self, world: &mut World, choice: u8) {
        let (seen, generation, intent) = match (&self.known, self.again.take()) {
            (None, _) => (Seen::Unknown, 0, Intent::Open),
            (Some((_, generation)), Some(proposal)) => {
                (Seen::Unknown, *generation, Intent::Commit(proposal))
            }
            (Some((seen, generation)), None) if self.must_reset(world) => {
                let Seen::Present { document, .. } = seen else {
                    return;
                };
                // The records of a topic need not begin at its first offset.
                let next = match choice.is_multiple_of(2) {
                    true => document.next,
                    false => Offset(0),
                };
                let restart = Restart {
                    expected: Some(document.next),
                    next,
                    recreated: true,
                    commit_id: CommitId(uuid::Uuid::from_u128(world.fresh().into())),
                    cluster_id: None,
                    topic_id: world.id_of(self.topic),
                };
                (seen.clone(), *generation, Intent::Reset(restart))
            }
            (Some((seen, generation)), None) if choice.is_multiple_of(8) => {
                (seen.clone(), *generation, Intent::Settle)
            }
            (Some((seen, generation)), None) => {
                let expected = match seen {
                    Seen::Present { document, .. } => Some(document.next),
                    _ => None,
                };
                let start = expected.map_or(0, |next| next.0);
                let (len, files) = (1 + i64::from(choice % 5), 1 + i64::from(choice / 8 % 3));
                let proposal = world.stage(self.topic, expected, start, (len, files));
                (seen.clone(), *generation, Intent::Commit(proposal))
            }
        };
        let generation = match world.manners.leaves_out {
            Some(Omission::Generation) => world.document().map_or(0, |now| now.generation),
            _ => generation,
        };
        let proposal = match &intent {
            Intent::Commit(proposal) => Some(proposal.clone()),
            _ => None,
        };
        let stamp = Stamp {
            writer: self.topic.to_string(),
            written_at: String::new(),
        };
        self.running = Some(Running {
            machine: Machine::new(SINK, tp(), stamp, seen, generation, intent),
            todo: Vec::new(),
            replies: Vec::new(),
            proposal,
        });
        self.feed(world, Event::Begin);
    }

    /// The ledger, as it was seen, is of an earlier topic than the records.
    fn must_reset(&self, world: &World) -> bool {
        match &self.known {
            Some((Seen::Present { document, .. }, _)) => world.topic_of(document).0 < self.topic,
            _ => false,
        }
    }

    fn feed(&mut self, world: &mut World, event: Event) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.todo = match running.machine.step(event) {
            Step::Get { .. } => vec![Operation::Get],
            Step::Put { body, expect, .. } => vec![Operation::Put(body, expect)],
            Step::Complete(files) => files.into_iter().map(Operation::Complete).collect(),
            Step::Head(keys) => keys.into_iter().map(Operation::Head).collect(),
            Step::Abort { required: true, .. }
                if world.manners.leaves_out == Some(Omission::AbortBeforeDelete) =>
            {
                return self.feed(world, Event::Aborted);
            }
            Step::Abort { uploads, .. } => {
                let ids = uploads.into_iter().map(|(_, id)| id);
                ids.map(Operation::Abort).collect()
            }
            Step::Delete(keys) => keys.into_iter().map(Operation::Delete).collect(),
            Step::Done(outcome) => {
                if self.known.is_none() {
                    // Reading begins when the ledger has said where.
                    self.topic = world.topic;
                }
                return self.done(&mut world.tally, &outcome);
            }
        };
    }

    fn done(&mut self, tally: &mut Tally, outcome: &Outcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        match outcome {
            Outcome::Stands { .. } if running.proposal.is_none() => tally.resets += 1,
            Outcome::Stands { already: false } => tally.commits += 1,
            Outcome::Stands { already: true } => tally.found += 1,
            Outcome::Fenced { .. } => tally.fenced += 1,
            Outcome::Lost { .. } => tally.lost += 1,
            Outcome::Whole | Outcome::Unreadable(_) => {}
        }
        self.known = match outcome {
            Outcome::Whole | Outcome::Stands { .. } => {
                let seen = running.machine.into_seen();
                let generation = match &seen {
                    Seen::Present { document, .. } => document.generation,
                    _ => 0,
                };
                // What was settled meanwhile may be another's: as the committer does, it is opened anew.
                let before = self.known.take().map(|(_, before)| before);
                let settled = matches!(outcome, Outcome::Whole) && before.is_some();
                let moved = settled && before != Some(generation);
                (!moved).then_some((seen, generation))
            }
            Outcome::Fenced { .. } | Outcome::Lost { .. } => None,
            Outcome::Unreadable(problem) => panic!("{problem:?}"),
        };
    }

    /// The driver's deadline passed: the machine is dropped, the engine asks again or opens anew.
    fn give_up(&mut self, choice: u8) {
        if let Some(running) = self.running.take() {
            self.again = running.proposal.filter(|_| choice.is_multiple_of(2));
            self.known = match (self.known.take(), &self.again) {
                (Some((_, generation)), Some(_)) => Some((Seen::Unknown, generation)),
                _ => None,
            };
        }
    }
}

fn event_of(replies: Vec<Reply>) -> Event {
    match &replies[0] {
        Reply::Got(found) => Event::Got(found.clone()),
        Reply::Put(version) => Event::Put(version.clone()),
        Reply::Conflict => Event::Conflict,
        Reply::Completed(_) => Event::Completed(
            replies
                .iter()
                .map(|reply| match reply {
                    Reply::Completed(reply) => reply.clone(),
                    other => panic!("{other:?}"),
                })
                .collect(),
        ),
        Reply::Headed(_) => Event::Headed(
            replies
                .iter()
                .map(|reply| match reply {
                    Reply::Headed(size) => *size,
                    other => panic!("{other:?}"),
                })
                .collect(),
        ),
        Reply::Aborted => Event::Aborted,
        Reply::Deleted => Event::Deleted,
    }
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
        resets,
        compacted,
    } = tally;
    let all = [commits, found, fenced, lost, removed, resets, compacted];
    let least = all.into_iter().min();
    assert!(least >= Some(100), "{tally:?}");
}

const HONEST: Manners = Manners {
    compare_and_swap: true,
    remembers_finished: true,
    vanishing: true,
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
