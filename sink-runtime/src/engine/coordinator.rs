//! Who owns which topic-partition, what is being cut and committed, and what a rebalance waits for. A state machine
//! without I/O and without a clock: inputs and `now` in, outputs out; `engine` carries them out.
//!
//! A *lane* is one assigned topic-partition. A *cut* seals what a set of lanes has written so far and commits it.
//! Datasets cut lane by lane; an Iceberg table cuts all lanes together. A lane is in one cut at a time.
//!
//! Invariants: an input about a lane that is gone, or of an older epoch, changes nothing; a revocation is answered
//! exactly once, whole, when its last lane is committed or at its deadline; after `Discard` of a lane nothing it
//! wrote before is ever committed under its next epoch; with `Together` rows of a lane never go without its claim.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::record::{AssignmentEpoch, Offset, TopicPartition};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutScope {
    /// Each lane commits on its own.
    Lane,
    /// All lanes commit together.
    Together,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CutId(pub u64);

/// What the destination said of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where reading starts.
    pub start: Offset,
    /// The ledger's `next`, if it has one.
    pub expected: Option<Offset>,
}

/// How a commit ended, for all lanes of its cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// `next` of each lane now.
    Committed(BTreeMap<TopicPartition, Offset>),
    /// Fenced, staged data lost, schema moved: drop what these lanes hold and ask the destination again.
    Reread,
    /// It failed for good; the sink stops.
    Failed,
}

#[derive(Debug)]
pub enum Input {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Recovered {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        found: Recovered,
    },
    /// A rotation rule or the commit timer asks for a commit of these.
    Due(Vec<TopicPartition>),
    /// Every worker has sealed its share of the cut.
    Sealed(CutId),
    Settled(CutId, Settled),
    /// Something outside asks for these to be read again from the ledger.
    Reread(Vec<TopicPartition>),
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask the destination and the broker where these stand; answered by `Input::Recovered`.
    Recover(Vec<(TopicPartition, AssignmentEpoch)>),
    /// Let the worker and the consumer start. `seek`: the consumer has the partition already.
    Run {
        tp: TopicPartition,
        epoch: AssignmentEpoch,
        found: Recovered,
        seek: bool,
    },
    Cut {
        cut: CutId,
        lanes: Vec<(TopicPartition, AssignmentEpoch)>,
    },
    Commit {
        cut: CutId,
        expected: BTreeMap<TopicPartition, Option<Offset>>,
    },
    /// Drop what was sealed for this cut: a lane of it is not ours any more.
    Abandon(CutId),
    /// The worker drops all it holds of these. (With `Together` it is always every running lane: files mix them.)
    Discard(Vec<TopicPartition>),
    /// Answer to a revocation.
    Release(Vec<TopicPartition>),
    /// Advisory group offsets.
    Acknowledge(BTreeMap<TopicPartition, Offset>),
}

#[derive(Debug)]
enum Phase {
    Recovering,
    Running { expected: Option<Offset> },
}

#[derive(Debug)]
struct Lane {
    epoch: AssignmentEpoch,
    phase: Phase,
    cut: Option<CutId>,
    /// The consumer has been told to fetch it.
    fetching: bool,
    /// Being given up: the cut after the revocation is its last.
    leaving: bool,
    last_cut: Option<CutId>,
}

#[derive(Debug)]
struct Revocation {
    all: Vec<TopicPartition>,
    waiting: BTreeSet<TopicPartition>,
    deadline: Instant,
}

#[derive(Debug)]
struct OpenCut {
    lanes: BTreeMap<TopicPartition, AssignmentEpoch>,
}

#[derive(Debug)]
pub struct Coordinator {
    scope: CutScope,
    drain_timeout: Duration,
    lanes: BTreeMap<TopicPartition, Lane>,
    cuts: BTreeMap<CutId, OpenCut>,
    revocations: Vec<Revocation>,
    next_epoch: u64,
    next_cut: u64,
}

impl Coordinator {
    pub fn new(scope: CutScope, drain_timeout: Duration) -> Self {
        Self {
            scope,
            drain_timeout,
            lanes: BTreeMap::new(),
            cuts: BTreeMap::new(),
            revocations: Vec::new(),
            next_epoch: 1,
            next_cut: 1,
        }
    }

    /// Lanes that are assigned, and the ledger's `next` of those that run.
    pub fn lanes(&self) -> impl Iterator<Item = (&TopicPartition, Option<Offset>, bool)> {
        self.lanes.iter().map(|(tp, lane)| match lane.phase {
            Phase::Recovering => (tp, None, false),
            Phase::Running { expected } => (tp, expected, true),
        })
    }

    /// Whether the lane is assigned under this epoch.
    pub fn owns(&self, tp: &TopicPartition, epoch: AssignmentEpoch) -> bool {
        self.lanes.get(tp).is_some_and(|lane| lane.epoch == epoch)
    }

    /// Whether the cut is the last of lanes that are being given up.
    pub fn is_last(&self, cut: CutId) -> bool {
        self.lanes.values().any(|lane| lane.last_cut == Some(cut))
    }

    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Assigned(tps) => self.assigned(tps, &mut out),
            Input::Revoked(tps) => self.revoked(tps, now, &mut out),
            Input::Lost(tps) => self.lost(&tps, &mut out),
            Input::Recovered { tp, epoch, found } => self.recovered(&tp, epoch, found, &mut out),
            Input::Due(tps) => self.due(&tps, &mut out),
            Input::Sealed(cut) => self.sealed(cut, &mut out),
            Input::Settled(cut, how) => self.settled(cut, how, &mut out),
            Input::Reread(tps) => self.reread(&tps, &mut out),
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn epoch(&mut self) -> AssignmentEpoch {
        self.next_epoch += 1;
        AssignmentEpoch(self.next_epoch - 1)
    }

    fn assigned(&mut self, tps: Vec<TopicPartition>, out: &mut Vec<Output>) {
        let mut recover = Vec::new();
        for tp in tps {
            let epoch = self.epoch();
            let lane = Lane {
                epoch,
                phase: Phase::Recovering,
                cut: None,
                fetching: false,
                leaving: false,
                last_cut: None,
            };
            self.lanes.insert(tp.clone(), lane);
            recover.push((tp, epoch));
        }
        if !recover.is_empty() {
            out.push(Output::Recover(recover));
        }
    }

    fn revoked(&mut self, tps: Vec<TopicPartition>, now: Instant, out: &mut Vec<Output>) {
        let mut waiting = BTreeSet::new();
        let mut last = Vec::new();
        for tp in &tps {
            let Some(lane) = self.lanes.get_mut(tp) else {
                continue;
            };
            match lane.phase {
                Phase::Recovering => {
                    self.lanes.remove(tp);
                }
                Phase::Running { .. } => {
                    lane.leaving = true;
                    waiting.insert(tp.clone());
                    last.push(tp.clone());
                }
            }
        }
        let deadline = now + self.drain_timeout;
        self.revocations.push(Revocation {
            all: tps,
            waiting,
            deadline,
        });
        self.cut(&last, out);
        self.release_finished(out);
    }

    fn lost(&mut self, tps: &[TopicPartition], out: &mut Vec<Output>) {
        let gone: Vec<_> = tps
            .iter()
            .filter(|tp| self.lanes.remove(tp).is_some())
            .cloned()
            .collect();
        self.discard(gone, out);
        // A revocation cannot be answered for what is not ours any more.
        for revocation in &mut self.revocations {
            revocation.all.retain(|tp| !tps.contains(tp));
            revocation.waiting.retain(|tp| !tps.contains(tp));
        }
        self.release_finished(out);
    }

    fn recovered(
        &mut self,
        tp: &TopicPartition,
        epoch: AssignmentEpoch,
        found: Recovered,
        out: &mut Vec<Output>,
    ) {
        let Some(lane) = self.lanes.get_mut(tp).filter(|lane| lane.epoch == epoch) else {
            return;
        };
        lane.phase = Phase::Running {
            expected: found.expected,
        };
        out.push(Output::Run {
            tp: tp.clone(),
            epoch,
            found,
            seek: lane.fetching,
        });
        lane.fetching = true;
    }

    fn due(&mut self, tps: &[TopicPartition], out: &mut Vec<Output>) {
        let running: Vec<_> = tps
            .iter()
            .filter(|tp| self.lanes.get(tp).is_some_and(|lane| !lane.leaving))
            .cloned()
            .collect();
        self.cut(&running, out);
    }

    /// Cuts those of `tps` that run and are in no cut; with `Together`, every running lane when any of `tps` is due.
    fn cut(&mut self, tps: &[TopicPartition], out: &mut Vec<Output>) {
        if tps.is_empty() {
            return;
        }
        let ready = |lane: &Lane| lane.cut.is_none() && matches!(lane.phase, Phase::Running { .. });
        match self.scope {
            CutScope::Lane => {
                for tp in tps {
                    if self.lanes.get(tp).is_some_and(ready) {
                        self.open_cut(vec![tp.clone()], out);
                    }
                }
            }
            CutScope::Together => {
                let all: Vec<_> = self
                    .lanes
                    .iter()
                    .filter(|(_, lane)| ready(lane))
                    .map(|(tp, _)| tp.clone())
                    .collect();
                if self.cuts.is_empty() && !all.is_empty() {
                    self.open_cut(all, out);
                }
            }
        }
    }

    fn open_cut(&mut self, tps: Vec<TopicPartition>, out: &mut Vec<Output>) {
        let cut = CutId(self.next_cut);
        self.next_cut += 1;
        let mut lanes = BTreeMap::new();
        for tp in tps {
            if let Some(lane) = self.lanes.get_mut(&tp) {
                lane.cut = Some(cut);
                if lane.leaving {
                    lane.last_cut = Some(cut);
                }
                lanes.insert(tp, lane.epoch);
            }
        }
        out.push(Output::Cut {
            cut,
            lanes: lanes
                .iter()
                .map(|(tp, epoch)| (tp.clone(), *epoch))
                .collect(),
        });
        self.cuts.insert(cut, OpenCut { lanes });
    }

    fn sealed(&mut self, cut: CutId, out: &mut Vec<Output>) {
        let Some(open) = self.cuts.get(&cut) else {
            return;
        };
        let mut expected = BTreeMap::new();
        for (tp, epoch) in &open.lanes {
            match self.lanes.get(tp) {
                Some(Lane {
                    epoch: current,
                    phase: Phase::Running { expected: next },
                    ..
                }) if current == epoch => {
                    expected.insert(tp.clone(), *next);
                }
                _ => {
                    out.push(Output::Abandon(cut));
                    self.settled(cut, Settled::Failed, out);
                    return;
                }
            }
        }
        out.push(Output::Commit { cut, expected });
    }

    fn settled(&mut self, cut: CutId, how: Settled, out: &mut Vec<Output>) {
        let Some(open) = self.cuts.remove(&cut) else {
            return;
        };
        let mut mine = Vec::new();
        for (tp, epoch) in &open.lanes {
            if let Some(lane) = self.lanes.get_mut(tp).filter(|lane| lane.epoch == *epoch) {
                lane.cut = None;
                mine.push(tp.clone());
            }
        }
        match how {
            Settled::Committed(next) => {
                for tp in &mine {
                    if let (Some(lane), Some(offset)) = (self.lanes.get_mut(tp), next.get(tp)) {
                        lane.phase = Phase::Running {
                            expected: Some(*offset),
                        };
                    }
                }
                let acknowledged: BTreeMap<_, _> = next
                    .into_iter()
                    .filter(|(tp, _)| self.lanes.contains_key(tp))
                    .collect();
                if !acknowledged.is_empty() {
                    out.push(Output::Acknowledge(acknowledged));
                }
            }
            Settled::Reread => self.reread(&mine, out),
            Settled::Failed => {}
        }
        let finished: Vec<_> = mine
            .iter()
            .filter(|tp| {
                self.lanes
                    .get(tp)
                    .is_some_and(|lane| lane.leaving && lane.last_cut == Some(cut))
            })
            .cloned()
            .collect();
        self.leave(&finished, out);
        let still_leaving: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.leaving && lane.cut.is_none() && lane.last_cut.is_none())
            .map(|(tp, _)| tp.clone())
            .collect();
        self.cut(&still_leaving, out);
        self.release_finished(out);
    }

    /// Tells the worker to drop lanes that are gone. Files of a table mix lanes, so there the others start over, too.
    fn discard(&mut self, gone: Vec<TopicPartition>, out: &mut Vec<Output>) {
        if gone.is_empty() {
            return;
        }
        out.push(Output::Discard(gone));
        if self.scope == CutScope::Together {
            self.reread(&[], out);
        }
    }

    fn reread(&mut self, tps: &[TopicPartition], out: &mut Vec<Output>) {
        let mut recover = Vec::new();
        let mut leaving = Vec::new();
        let mut discard = Vec::new();
        let tps: Vec<_> = match self.scope {
            CutScope::Lane => tps.to_vec(),
            CutScope::Together => self.lanes.keys().cloned().collect(),
        };
        for tp in &tps {
            let epoch = AssignmentEpoch(self.next_epoch);
            let Some(lane) = self.lanes.get_mut(tp) else {
                continue;
            };
            if matches!(lane.phase, Phase::Recovering) {
                continue;
            }
            discard.push(tp.clone());
            if lane.leaving {
                leaving.push(tp.clone());
                continue;
            }
            self.next_epoch += 1;
            lane.epoch = epoch;
            lane.phase = Phase::Recovering;
            lane.cut = None;
            recover.push((tp.clone(), epoch));
        }
        if !discard.is_empty() {
            out.push(Output::Discard(discard));
        }
        if !recover.is_empty() {
            out.push(Output::Recover(recover));
        }
        self.leave(&leaving, out);
    }

    /// These lanes have nothing left to commit.
    fn leave(&mut self, tps: &[TopicPartition], out: &mut Vec<Output>) {
        for tp in tps {
            self.lanes.remove(tp);
            for revocation in &mut self.revocations {
                revocation.waiting.remove(tp);
            }
        }
        self.release_finished(out);
    }

    fn release_finished(&mut self, out: &mut Vec<Output>) {
        self.revocations.retain(|revocation| {
            if revocation.waiting.is_empty() && !revocation.all.is_empty() {
                out.push(Output::Release(revocation.all.clone()));
            }
            !revocation.waiting.is_empty()
        });
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let late: Vec<_> = self
            .revocations
            .iter()
            .filter(|revocation| revocation.deadline <= now)
            .flat_map(|revocation| revocation.waiting.iter().cloned())
            .collect();
        if !late.is_empty() {
            for tp in &late {
                self.lanes.remove(tp);
            }
            self.discard(late.clone(), out);
            self.leave(&late, out);
        }
    }
}

#[cfg(test)]
mod tests;
