//! From instants to the texts of a time path. A text is made once per stretch of time over which it cannot change;
//! rows find theirs by comparing with the last stretch, then by a table. Pure.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::BuildHasherDefault;
use std::ops::RangeInclusive;

use chrono::format::{Fixed, Item, Numeric, StrftimeItems};
use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;

use super::codes::{Mix, Parts};
use crate::layout::LayoutError;
use crate::plan::TimeLevel;

/// Years that folders have, in the zone that names them. What is beyond is a mistaken unit, and no reader looks there.
pub(super) const CALENDAR: RangeInclusive<i32> = 0..=9999;

/// What one unit of an integer time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) per_second: i64,
    /// The value already is local time: no zone is applied.
    pub(super) local: bool,
}

#[derive(Debug)]
pub(super) struct TimePath {
    timezone: Tz,
    levels: Vec<(Option<String>, Vec<Item<'static>>)>,
    grain: Grain,
    /// Stretches of this unit.
    unit: Unit,
    /// Number of a stretch -> its code; `None` where the text changes within the stretch.
    stretches: HashMap<i64, Option<u32>, BuildHasherDefault<Mix>>,
    codes: HashMap<Parts, u32>,
    /// `[from, to)` and its code: the stretch that the last row was in.
    last: Option<(i64, i64, u32)>,
}

/// How long a text lasts at least, away from the zone's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grain {
    /// Less than a second matters: every value for itself.
    Instant,
    Second,
    Minute,
    /// An hour or more. Zones are off UTC by quarters of an hour; where they are not, the stretch is found uneven.
    Quarter,
}

impl Grain {
    fn of(item: &Item<'_>) -> Self {
        match item {
            Item::Numeric(Numeric::Second | Numeric::Timestamp, _)
            | Item::Fixed(Fixed::RFC2822) => Self::Second,
            Item::Numeric(Numeric::Minute, _) => Self::Minute,
            Item::Numeric(Numeric::Nanosecond | Numeric::Internal(_), _)
            | Item::Fixed(
                Fixed::Nanosecond
                | Fixed::Nanosecond3
                | Fixed::Nanosecond6
                | Fixed::Nanosecond9
                | Fixed::RFC3339
                | Fixed::Internal(_),
            ) => Self::Instant,
            _ => Self::Quarter,
        }
    }

    /// In units; 0 when every value stands for itself.
    fn length(self, unit: Unit) -> i64 {
        match self {
            Self::Instant => 0,
            Self::Second => unit.per_second,
            Self::Minute => unit.per_second * 60,
            Self::Quarter => unit.per_second * 900,
        }
    }
}

impl TimePath {
    pub(super) fn new(timezone: Tz, levels: &[TimeLevel]) -> Result<Self, LayoutError> {
        let levels: Vec<_> = levels
            .iter()
            .map(|level| {
                let items = StrftimeItems::new(&level.format).parse_to_owned();
                let items = items.map_err(|_| LayoutError::Format {
                    format: level.format.clone(),
                })?;
                Ok((level.label.clone(), items))
            })
            .collect::<Result<_, LayoutError>>()?;
        let items = levels.iter().flat_map(|(_, items)| items);
        let grain = items.map(Grain::of).min().unwrap_or(Grain::Quarter);
        Ok(Self {
            timezone,
            levels,
            grain,
            unit: Unit {
                per_second: 1,
                local: false,
            },
            stretches: HashMap::default(),
            codes: HashMap::new(),
            last: None,
        })
    }

    pub(super) fn forget(&mut self) {
        self.stretches.clear();
        self.codes.clear();
        self.last = None;
    }

    pub(super) fn known(&self) -> usize {
        self.stretches.len().max(self.codes.len())
    }

    pub(super) fn use_unit(&mut self, unit: Unit) {
        if self.unit != unit {
            self.unit = unit;
            self.stretches.clear();
            self.last = None;
        }
    }

    /// Whether all values lie in the stretch of the last one asked for; then its code.
    pub(super) fn constant(&self, values: &[i64]) -> Option<u32> {
        let (from, to, code) = self.last?;
        values
            .iter()
            .all(|value| (from..to).contains(value))
            .then_some(code)
    }

    /// `intern` gives a new code to new parts.
    #[inline]
    pub(super) fn code(
        &mut self,
        value: i64,
        intern: &mut impl FnMut(Option<&[String]>) -> u32,
    ) -> u32 {
        match self.last {
            Some((from, to, code)) if from <= value && value < to => code,
            _ => self.look_up(value, intern),
        }
    }

    fn look_up(&mut self, value: i64, intern: &mut impl FnMut(Option<&[String]>) -> u32) -> u32 {
        let length = self.grain.length(self.unit);
        let Some(number) = value.checked_div_euclid(length) else {
            return self.code_of_text(value, intern);
        };
        // At the ends of the integers a stretch may not fit; such times are beyond the calendar anyway.
        let bounds = number
            .checked_mul(length)
            .and_then(|from| Some((from, from.checked_add(length)?)));
        let Some((from, to)) = bounds else {
            return self.code_of_text(value, intern);
        };
        let even = match self.stretches.get(&number) {
            Some(known) => *known,
            None => {
                let first = self.code_of_text(from, intern);
                let last = self.code_of_text(to - 1, intern);
                let even = (first == last).then_some(first);
                self.stretches.insert(number, even);
                even
            }
        };
        match even {
            Some(code) => {
                self.last = Some((from, to, code));
                code
            }
            None => self.code_of_text(value, intern),
        }
    }

    fn code_of_text(
        &mut self,
        value: i64,
        intern: &mut impl FnMut(Option<&[String]>) -> u32,
    ) -> u32 {
        let parts = self.texts(value);
        if let Some(code) = self.codes.get(&parts) {
            return *code;
        }
        let code = intern(parts.as_deref());
        self.codes.insert(parts, code);
        code
    }

    /// One text per level; `None` for a time beyond the calendar.
    fn texts(&self, value: i64) -> Parts {
        let per_second = self.unit.per_second;
        let seconds = value.div_euclid(per_second);
        let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
        let instant: DateTime<Utc> = DateTime::from_timestamp(seconds, u32::try_from(nanos).ok()?)?;
        let zoned = instant.with_timezone(&self.timezone);
        let year = match self.unit.local {
            true => instant.year(),
            false => zoned.year(),
        };
        if !CALENDAR.contains(&year) {
            return None;
        }
        let formatted = self.levels.iter().map(|(_, items)| {
            let mut text = String::new();
            let written = if self.unit.local {
                write!(text, "{}", instant.format_with_items(items.iter()))
            } else {
                write!(text, "{}", zoned.format_with_items(items.iter()))
            };
            written.ok().map(|()| text)
        });
        formatted.collect()
    }

    /// A moment as this path's integers tell it.
    pub(super) fn in_unit(&self, epoch_ms: i64) -> i64 {
        let Unit { per_second, local } = self.unit;
        let zoned = DateTime::from_timestamp_millis(epoch_ms)
            .filter(|_| local)
            .map(|moment| moment.with_timezone(&self.timezone).naive_local());
        let ms = zoned.map_or(epoch_ms, |moment| moment.and_utc().timestamp_millis());
        match per_second {
            1 => ms.div_euclid(1000),
            _ => ms.saturating_mul(per_second / 1000),
        }
    }

    /// The stretch of time around `at` over which the text stays the same, to the grain; `None` beyond the calendar.
    /// Found by strides that double and then halve: a text that comes again after a while (an hour without its day) ends
    /// at its end.
    pub(super) fn stretch(&self, at: i64) -> Option<(i64, i64)> {
        let length = self.grain.length(self.unit).max(1);
        let text = self.texts(at)?;
        let here = at.div_euclid(length);
        let same = |number: i64| {
            let at = number.checked_mul(length);
            at.is_some_and(|at| self.texts(at).as_ref() == Some(&text))
        };
        let furthest = |direction: i64| {
            let (mut inside, mut stride) = (here, 1);
            while same(inside + direction * stride) {
                inside += direction * stride;
                stride *= 2;
            }
            while stride > 1 {
                stride /= 2;
                if same(inside + direction * stride) {
                    inside += direction * stride;
                }
            }
            inside
        };
        Some((furthest(-1) * length, (furthest(1) + 1) * length))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = Option<&str>> {
        self.levels.iter().map(|(label, _)| label.as_deref())
    }
}
