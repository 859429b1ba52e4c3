//! Refused records of a lane, from the refusal to the cut that delivers them.

use crate::budget::{Budget, Reservation};
use crate::deadletter::Letter;
use crate::record::TopicPartition;

/// At this many bytes the lane's cut is asked for.
const FULL: usize = 8 << 20;
/// Under pressure the fullest lanes are asked for sooner, but not for less than is worth a commit.
const WORTH_A_CUT: usize = 16 << 10;

/// What waits in one lane.
#[derive(Debug, Default)]
pub(super) struct Pile {
    letters: Vec<Letter>,
    held: Option<Reservation>,
}

impl Pile {
    pub(super) fn add(&mut self, mut letters: Vec<Letter>, budget: &Budget) {
        let bytes: usize = letters.iter().map(Letter::memory).sum();
        match &mut self.held {
            Some(held) => held.resize(held.bytes() + bytes),
            None => self.held = Some(budget.reserve(bytes)),
        }
        self.letters.append(&mut letters);
    }

    fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Reservation::bytes)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= FULL
    }

    /// All of it, on its way to where letters go.
    pub(super) fn take(&mut self) -> (Vec<Letter>, Option<Reservation>) {
        let letters = std::mem::take(&mut self.letters);
        (letters, self.held.take().map(Reservation::leaving))
    }
}

/// The lanes whose letters are to be delivered now, so that the memory account is `excess` bytes smaller.
pub(super) fn fullest<'a>(
    piles: impl Iterator<Item = (&'a TopicPartition, &'a Pile)>,
    excess: usize,
) -> Vec<TopicPartition> {
    if excess == 0 {
        return Vec::new();
    }
    let mut full: Vec<_> = piles
        .map(|(tp, pile)| (pile.bytes(), tp))
        .filter(|(bytes, _)| *bytes >= WORTH_A_CUT)
        .collect();
    full.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut given = 0;
    let mut chosen = Vec::new();
    for (bytes, tp) in full {
        if given >= excess {
            break;
        }
        given += bytes;
        chosen.push(tp.clone());
    }
    chosen
}
