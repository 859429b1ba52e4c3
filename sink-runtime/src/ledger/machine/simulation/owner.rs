//! One owner: its machine, and what it knows and forgets.

use super::world::{Omission, Operation, Reply, version};
use super::*;
use crate::ledger::CommitId;

#[derive(Debug)]
pub(super) struct Running {
    machine: Machine,
    /// The rest of the current step, and the replies so far.
    todo: Vec<Operation>,
    replies: Vec<Reply>,
    proposal: Option<Proposal>,
    generation: u64,
}

/// One process that believes that it owns the topic-partition.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) running: Option<Running>,
    /// The ledger and its generation, as opened.
    pub(super) known: Option<(Seen, u64)>,
    /// The ledger as it was known before.
    earlier: Option<Seen>,
    /// The topic that its records are of: as it was when the ledger had been opened.
    topic: u64,
    /// Given up on without an answer: to be tried again as it was.
    again: Option<Proposal>,
}

/// How the network treats one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Good,
    ReplyLost,
    RequestLost,
    RequestLate,
}

impl Owner {
    pub(super) fn act(&mut self, world: &mut World, network: Network, choice: u8) {
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
                // What is remembered may be older than what is claimed.
                let stale = self.earlier.clone().filter(|_| choice.is_multiple_of(3));
                world.tally.stale += u64::from(stale.is_some());
                let seen = stale.unwrap_or_else(|| seen.clone());
                (seen, *generation, Intent::Commit(proposal))
            }
        };
        let (seen, generation) = match world.manners.leaves_out {
            // It is looked up and believed.
            Some(Omission::Generation) => {
                let now = world.document().map_or(0, |now| now.generation);
                (Seen::Unknown, now)
            }
            _ => (seen, generation),
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
            generation,
        });
        self.feed(world, Event::Begin);
    }

    /// The ledger, as it was seen, is of an earlier topic than the records.
    pub(super) fn must_reset(&self, world: &World) -> bool {
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
                return self.done(world, &outcome);
            }
        };
    }

    fn done(&mut self, world: &mut World, outcome: &Outcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        if let (Outcome::Fenced { .. }, Some(proposal)) = (outcome, &running.proposal) {
            world.look_at_fenced(proposal, running.generation);
        }
        let tally = &mut world.tally;
        match outcome {
            Outcome::Stands { .. } if running.proposal.is_none() => tally.resets += 1,
            Outcome::Stands { already: false } => tally.commits += 1,
            Outcome::Stands { already: true } => tally.found += 1,
            Outcome::Fenced { .. } => tally.fenced += 1,
            Outcome::Lost { .. } => tally.lost += 1,
            Outcome::Whole | Outcome::Unreadable(_) => {}
        }
        self.earlier = self.known.as_ref().map(|(seen, _)| seen.clone());
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
    pub(super) fn give_up(&mut self, choice: u8) {
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
