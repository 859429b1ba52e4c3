//! Where a person wants a topic-partition to be read on, and what that costs. Pure.

use std::fmt;
use std::str::FromStr;

use crate::record::{Offset, OffsetRange};

/// A position to read on at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    At(Offset),
    /// The log's start.
    Earliest,
    /// The log's end, now.
    Latest,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::At(Offset(offset))),
                _ => Err(format!(
                    "\"{text}\" is no position: give an offset, earliest or latest"
                )),
            },
        }
    }
}

/// Which ways a position may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    Forward,
    Both,
}

/// What becomes of a topic-partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// `None`: the destination knows nothing of it yet.
    pub from: Option<Offset>,
    pub to: Offset,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is there already.
    None,
    /// These offsets are never read; the log has lost so many of them anyway.
    LeftOut { offsets: OffsetRange, gone: i64 },
    /// These offsets, of which the destination has the rows, are read again.
    ReadAgain { offsets: OffsetRange },
    /// It is read for the first time.
    Begins,
    /// The destination has rows of offsets beyond the log's end: they stay. Records that come there are read.
    CutOff { offsets: OffsetRange },
}

/// Why it must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "--to {to} is below the log's start {start}: retention removed what was there; the lowest position is {start}"
    )]
    Expired { to: Offset, start: Offset },
    #[error("--to {to} is beyond the log's end {end}; the highest position is {end}")]
    BeyondEnd { to: Offset, end: Offset },
    #[error(
        "--to {to} is below {next}, where the ledger stands: to read records again use `ledger set`"
    )]
    Back { to: Offset, next: Offset },
    #[error("the ledger does not know it yet, so there is nothing to skip: use `ledger set`")]
    Unknown,
}

/// `next`: as the ledger says. `log`: from its start to its end, records of open transactions included.
///
/// # Errors
/// Why the position is refused.
pub fn decide(
    next: Option<Offset>,
    log: OffsetRange,
    wish: Wish,
    ways: Ways,
) -> Result<Move, Refusal> {
    let to = match wish {
        Wish::At(offset) => offset,
        Wish::Earliest => log.start,
        Wish::Latest => log.end,
    };
    if to > log.end {
        return Err(Refusal::BeyondEnd { to, end: log.end });
    }
    if to < log.start {
        return Err(Refusal::Expired {
            to,
            start: log.start,
        });
    }
    let range = |start: Offset, end: Offset| OffsetRange { start, end };
    let effect = match next {
        None if ways == Ways::Forward => return Err(Refusal::Unknown),
        None => Effect::Begins,
        Some(next) if to == next => Effect::None,
        Some(next) if to > next => Effect::LeftOut {
            offsets: range(next, to),
            gone: (log.start.0 - next.0).max(0),
        },
        // Rows of what the log lost are no reason to stay behind it.
        Some(next) if to == log.end => Effect::CutOff {
            offsets: range(to, next),
        },
        Some(next) if ways == Ways::Forward => return Err(Refusal::Back { to, next }),
        Some(next) => Effect::ReadAgain {
            offsets: range(to, next),
        },
    };
    Ok(Move {
        from: next,
        to,
        effect,
    })
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "it is there already"),
            Self::Begins => write!(f, "it is read for the first time, from there"),
            Self::LeftOut { offsets, gone } => {
                write!(
                    f,
                    "{} offsets, {offsets}, are never read: no row and no dead letter is made of them",
                    len(*offsets)
                )?;
                match gone {
                    0 => Ok(()),
                    gone => write!(f, " ({gone} of them are gone from the log)"),
                }
            }
            Self::ReadAgain { offsets } => write!(
                f,
                "{} offsets, {offsets}, are read again: their rows will be there twice unless they are deleted first",
                len(*offsets)
            ),
            Self::CutOff { offsets } => write!(
                f,
                "the log ends there; rows of {} offsets, {offsets}, which Kafka lost, stay, and records that come at \
                 these offsets are read",
                len(*offsets)
            ),
        }
    }
}

fn len(offsets: OffsetRange) -> i64 {
    offsets.end.0 - offsets.start.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(
        next: Option<i64>,
        log: (i64, i64),
        wish: Wish,
        ways: Ways,
    ) -> Result<(i64, Effect), Refusal> {
        let log = OffsetRange {
            start: Offset(log.0),
            end: Offset(log.1),
        };
        decide(next.map(Offset), log, wish, ways).map(|to| (to.to.0, to.effect))
    }

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange {
            start: Offset(start),
            end: Offset(end),
        }
    }

    #[test]
    fn what_is_left_out_and_what_is_read_again_is_told_to_the_offset() {
        let at = |offset| Wish::At(Offset(offset));
        let left_out = |start, end, gone| Effect::LeftOut {
            offsets: range(start, end),
            gone,
        };
        for (next, wish, wanted) in [
            (Some(40), at(41), (41, left_out(40, 41, 0))),
            (Some(3), at(41), (41, left_out(3, 41, 7))),
            (Some(40), Wish::Latest, (90, left_out(40, 90, 0))),
            (Some(40), at(40), (40, Effect::None)),
            (None, at(40), (40, Effect::Begins)),
            (None, Wish::Earliest, (10, Effect::Begins)),
            (
                Some(40),
                at(20),
                (
                    20,
                    Effect::ReadAgain {
                        offsets: range(20, 40),
                    },
                ),
            ),
            (
                Some(40),
                Wish::Earliest,
                (
                    10,
                    Effect::ReadAgain {
                        offsets: range(10, 40),
                    },
                ),
            ),
        ] {
            assert_eq!(decided(next, (10, 90), wish, Ways::Both), Ok(wanted));
        }
    }

    #[test]
    fn a_log_that_was_cut_is_followed_back_to_its_end_by_either_way() {
        for ways in [Ways::Forward, Ways::Both] {
            let offsets = range(90, 120);
            let wanted = Ok((90, Effect::CutOff { offsets }));
            assert_eq!(decided(Some(120), (10, 90), Wish::Latest, ways), wanted);
        }
    }

    #[test]
    fn a_position_that_no_sink_could_start_at_is_refused_with_the_nearest_that_can() {
        let (log, to) = ((10, 90), Offset(7));
        let (start, end) = (Offset(10), Offset(90));
        let at = |offset| Wish::At(Offset(offset));
        for ways in [Ways::Forward, Ways::Both] {
            assert_eq!(
                decided(Some(3), log, at(7), ways),
                Err(Refusal::Expired { to, start })
            );
            let beyond = Offset(91);
            assert_eq!(
                decided(Some(3), log, at(91), ways),
                Err(Refusal::BeyondEnd { to: beyond, end })
            );
        }
        assert_eq!(
            decided(Some(40), log, at(39), Ways::Forward),
            Err(Refusal::Back {
                to: Offset(39),
                next: Offset(40)
            })
        );
        assert_eq!(
            decided(None, log, at(39), Ways::Forward),
            Err(Refusal::Unknown)
        );
    }

    #[test]
    fn a_position_is_an_offset_or_an_end_of_the_log() {
        assert_eq!("17".parse(), Ok(Wish::At(Offset(17))));
        assert_eq!("latest".parse(), Ok(Wish::Latest));
        for wrong in ["-1", "end", "", "1.5", "99999999999999999999"] {
            assert!(wrong.parse::<Wish>().is_err(), "{wrong}");
        }
    }
}
