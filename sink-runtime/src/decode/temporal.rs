//! ISO 8601 text and epoch numbers to Arrow's dates, times and timestamps. Pure.
//! Days and instants lie in the years 0000 to 9999: what four digits write, and what the calendars of readers hold.
//! Digits finer than a microsecond are cut off, never rounded: what is left is the microsecond that the instant lies in,
//! also before 1970. A timestamp without offset is taken as UTC; a value
//! with offset is converted to UTC, also for columns without zone.

use super::number;
use crate::schema::{Encoding, Type};

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// 0000-01-01, and 10000-01-01 as the first day that is too late.
const CALENDAR: std::ops::Range<i64> = -719_528..2_932_897;

/// Whether an instant is on a day of the calendar.
#[inline]
pub(super) fn in_calendar(micros: i64) -> bool {
    const INSTANTS: std::ops::Range<i64> =
        CALENDAR.start * MICROS_PER_DAY..CALENDAR.end * MICROS_PER_DAY;
    INSTANTS.contains(&micros)
}

/// What a temporal column accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) iso: bool,
    pub(super) ticks: Option<Ticks>,
}

/// Unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ticks {
    Days,
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Wire {
    /// Without an encoding: ISO strings, and integers in days for dates and in milliseconds for the others.
    pub(super) fn new(ty: &Type, encoding: Option<Encoding>) -> Self {
        let ticks = |ticks| Self {
            iso: false,
            ticks: Some(ticks),
        };
        match encoding {
            Some(Encoding::EpochSeconds) => ticks(Ticks::Seconds),
            Some(Encoding::EpochMillis) => ticks(Ticks::Millis),
            Some(Encoding::EpochMicros) => ticks(Ticks::Micros),
            Some(Encoding::EpochNanos) => ticks(Ticks::Nanos),
            Some(Encoding::EpochDays) => ticks(Ticks::Days),
            Some(Encoding::Iso8601) => Self {
                iso: true,
                ticks: None,
            },
            Some(Encoding::Base64 | Encoding::Hex | Encoding::Utf8) | None => Self {
                iso: true,
                ticks: Some(match ty {
                    Type::Date => Ticks::Days,
                    _ => Ticks::Millis,
                }),
            },
        }
    }
}

impl Ticks {
    /// Microseconds since the epoch.
    #[inline]
    pub(super) fn instant(self, value: i64) -> Option<i64> {
        self.micros(value).filter(|micros| in_calendar(*micros))
    }

    /// Microseconds since midnight.
    #[inline]
    pub(super) fn time(self, value: i64) -> Option<i64> {
        self.micros(value)
            .filter(|micros| (0..MICROS_PER_DAY).contains(micros))
    }

    /// `None` when 64 bits do not hold it.
    #[inline]
    fn micros(self, value: i64) -> Option<i64> {
        match self {
            Self::Days => value.checked_mul(MICROS_PER_DAY),
            Self::Seconds => value.checked_mul(MICROS_PER_SECOND),
            Self::Millis => value.checked_mul(1000),
            Self::Micros => Some(value),
            Self::Nanos => Some(value.div_euclid(1000)),
        }
    }

    /// Of a number of any spelling and length.
    pub(super) fn instant_of(self, text: &[u8]) -> Option<i64> {
        self.micros_of(text).filter(|micros| in_calendar(*micros))
    }

    pub(super) fn time_of(self, text: &[u8]) -> Option<i64> {
        self.micros_of(text)
            .filter(|micros| (0..MICROS_PER_DAY).contains(micros))
    }

    fn micros_of(self, text: &[u8]) -> Option<i64> {
        match self {
            Self::Days => self.micros(number::integral(text)?),
            Self::Seconds => number::floor(text, 6),
            Self::Millis => number::floor(text, 3),
            Self::Micros => number::floor(text, 0),
            Self::Nanos => number::floor(text, -3),
        }
    }

    /// Days have no fraction: see [`within_a_day`].
    pub(super) fn days_of(self, text: &[u8]) -> Option<i32> {
        self.days(match self {
            Self::Days => number::integral(text)?,
            _ => number::floor(text, 0)?,
        })
    }

    pub(super) fn days(self, value: i64) -> Option<i32> {
        let days = match self {
            Self::Days => value,
            Self::Seconds => value.div_euclid(86_400),
            Self::Millis => value.div_euclid(86_400_000),
            Self::Micros => value.div_euclid(MICROS_PER_DAY),
            Self::Nanos => value.div_euclid(MICROS_PER_DAY * 1000),
        };
        CALENDAR.contains(&days).then_some(days as i32)
    }
}

/// Whether a number of days is none for its fraction, not for its size.
#[cold]
pub(super) fn within_a_day(text: &[u8]) -> bool {
    let fits = |day: &i64| CALENDAR.contains(day);
    number::floor(text, 0).as_ref().is_some_and(fits) && number::integral(text).is_none()
}

/// `2025-10-09`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = digits(&text[..4])?;
    let month = digits(&text[5..7])?;
    let day = digits(&text[8..])?;
    days_from_civil(year, month, day)
}

/// `08:53`, `08:53:20`, `08:53:20.123456789`.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    match clock(text)? {
        (micros, []) => Some(micros),
        _ => None,
    }
}

/// Date, `T` or a space, time, and an offset (`Z`, `+02:00`, `+0200`, `+02`) or none.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let days = i64::from(date(day)?);
    let [b'T' | b't' | b' ', rest @ ..] = rest else {
        return None;
    };
    let (micros, zone) = clock(rest)?;
    let instant = days * MICROS_PER_DAY + micros - offset(zone)?;
    in_calendar(instant).then_some(instant)
}

fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (minutes, mut rest) = hours_minutes(text)?;
    let mut micros = minutes * 60 * MICROS_PER_SECOND;
    if let [b':', tens, ones, after @ ..] = rest {
        let seconds = digits(&[*tens, *ones])?;
        if seconds > 59 {
            return None;
        }
        micros += i64::from(seconds) * MICROS_PER_SECOND;
        rest = after;
        if let [b'.', after @ ..] = rest {
            let count = after.iter().take_while(|b| b.is_ascii_digit()).count();
            if count == 0 || count > 9 {
                return None;
            }
            let places = after[..count].iter().chain(std::iter::repeat(&b'0'));
            let fraction = places
                .take(6)
                .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            micros += fraction;
            rest = &after[count..];
        }
    }
    Some((micros, rest))
}

/// `08:53`, in minutes, and what follows.
fn hours_minutes(text: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(5)?;
    if head[2] != b':' {
        return None;
    }
    Some((minutes(&head[..2], &head[3..])?, rest))
}

fn minutes(hours: &[u8], minutes: &[u8]) -> Option<i64> {
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(i64::from(hours) * 60 + i64::from(minutes))
}

/// In microseconds.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let minutes = match rest.len() {
        2 => minutes(rest, b"00")?,
        4 => minutes(&rest[..2], &rest[2..])?,
        5 => match hours_minutes(rest)? {
            (minutes, []) => minutes,
            _ => return None,
        },
        _ => return None,
    };
    Some(sign * minutes * 60 * MICROS_PER_SECOND)
}

fn digits(text: &[u8]) -> Option<u32> {
    let mut value = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u32::from(byte - b'0');
    }
    Some(value)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; `None` for a day that is not in it.
fn days_from_civil(year: u32, month: u32, day: u32) -> Option<i32> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let index = month.checked_sub(1)? as usize;
    let length = LENGTHS.get(index)? + u32::from(leap && month == 2);
    if day == 0 || day > length {
        return None;
    }
    // Leap days in the years before this one; year 0 is one of them.
    let leaps = if year == 0 {
        0
    } else {
        let before = year - 1;
        before / 4 - before / 100 + before / 400 + 1
    };
    let ordinal = BEFORE[index] + u32::from(leap && month > 2) + day - 1;
    // 719 528 days lie between 0000-01-01 and 1970-01-01.
    Some((year * 365 + leaps + ordinal) as i32 - 719_528)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_the_calendar_over_ten_thousand_years() {
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let mut day = chrono::NaiveDate::from_ymd_opt(0, 1, 1).unwrap();
        while chrono::Datelike::year(&day) < 10_000 {
            let expected = (day - epoch).num_days() as i32;
            assert_eq!(date(day.to_string().as_bytes()), Some(expected), "{day}");
            day += chrono::TimeDelta::days(17);
        }
        for bad in [
            "2025-02-29",
            "1900-02-29",
            "2025-00-01",
            "2025-13-01",
            "2025-04-31",
            "2025-1-01",
            "2025/01/01",
        ] {
            assert_eq!(date(bad.as_bytes()), None, "{bad}");
        }
        assert!(date(b"2000-02-29").is_some());
    }

    #[test]
    fn timestamps_with_offsets_and_fractions_are_instants() {
        let base = 1_760_000_000_000_000;
        for (text, micros) in [
            ("2025-10-09T08:53:20Z", base),
            ("2025-10-09T08:53:20.000Z", base),
            ("2025-10-09t08:53:20z", base),
            ("2025-10-09 08:53:20", base),
            ("2025-10-09T10:53:20+02:00", base),
            ("2025-10-09T10:53:20+0200", base),
            ("2025-10-09T10:53:20+02", base),
            ("2025-10-09T03:23:20-05:30", base),
            ("2025-10-10T08:23:20+23:30", base),
            ("2025-10-09T08:53:20.1Z", base + 100_000),
            ("2025-10-09T08:53:20.123456Z", base + 123_456),
            ("2025-10-09T08:53:20.123456999Z", base + 123_456),
            ("2025-10-09T08:53Z", base - 20_000_000),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ] {
            assert_eq!(timestamp(text.as_bytes()), Some(micros), "{text}");
        }
        for bad in [
            "",
            "2025-10-09",
            "2025-10-09T",
            "2025-10-09T08",
            "2025-10-09T24:00:00Z",
            "2025-10-09T08:60:00Z",
            "2025-10-09T08:53:60Z",
            "2025-10-09T08:53:20.Z",
            "2025-10-09T08:53:20.1234567890Z",
            "2025-10-09T08:53:20+2:00",
            "2025-10-09T08:53:20+24:00",
            "2025-10-09T08:53:20ZZ",
            "2025-10-09T08:53:20 Z",
            "2025-10-09T08:53:20+02:00x",
            "+2025-10-09T08:53:20Z",
            "2025-10-09T8:53:20Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(timestamp(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn times_of_day_end_before_midnight() {
        assert_eq!(time(b"00:00"), Some(0));
        assert_eq!(time(b"23:59:59.999999"), Some(MICROS_PER_DAY - 1));
        assert_eq!(time(b"24:00:00"), None);
        assert_eq!(time(b"12:00:00Z"), None);
    }

    #[test]
    fn epoch_integers_are_cut_towards_the_past() {
        assert_eq!(Ticks::Nanos.micros(-1), Some(-1));
        assert_eq!(Ticks::Nanos.micros(1999), Some(1));
        assert_eq!(Ticks::Seconds.micros(i64::MAX), None);
        assert_eq!(Ticks::Millis.days(-1), Some(-1));
    }

    #[test]
    fn epoch_integers_keep_to_the_years_that_texts_can_write() {
        let first = timestamp(b"0000-01-01T00:00:00Z").unwrap();
        let last = timestamp(b"9999-12-31T23:59:59.999999Z").unwrap();
        assert_eq!(Ticks::Micros.instant(first), Some(first));
        assert_eq!(Ticks::Micros.instant(first - 1), None);
        assert_eq!(Ticks::Micros.instant(last), Some(last));
        assert_eq!(Ticks::Micros.instant(last + 1), None);
        for (day, text) in [(-719_528, "0000-01-01"), (2_932_896, "9999-12-31")] {
            assert_eq!(Ticks::Days.days(day), date(text.as_bytes()));
        }
        assert_eq!(Ticks::Days.days(-719_529), None);
        assert_eq!(Ticks::Days.days(2_932_897), None);
        assert_eq!(Ticks::Days.days(i64::from(i32::MAX) + 1), None);
    }
}
