//! Values of their usual form, straight into their column: what the predicting decoder parses itself. Pure.
//! Each function either takes the value with exactly the general decoder's result, or declines with `None` and leaves
//! the column as it was. They read words past the value's end; what follows the value is for the caller to check.

use super::column::{Bytes, Column, Data, Rounding};
use super::cursor::string_stop;
use super::number;
use super::parse::scalar::binary;
use super::temporal::{self, MICROS_PER_DAY, MICROS_PER_SECOND};

/// The value at `pos` of its usual form, and where it ends. `None`, and an unchanged column, for everything else.
#[inline(always)]
pub(super) fn quick(
    column: &mut Column,
    arena: &[u8],
    pos: usize,
    dates: &mut Dates,
) -> Option<usize> {
    let after = match &mut column.data {
        Data::String(bytes) | Data::Text(bytes) => quick_string(bytes, arena, pos)?,
        Data::Long(values) => {
            let (value, after) = quick_integer(arena, pos)?;
            values.push(value);
            after
        }
        Data::Int(values) => {
            let (value, after) = quick_integer(arena, pos)?;
            values.push(i32::try_from(value).ok()?);
            after
        }
        Data::Timestamp(values, wire) | Data::Timestamptz(values, wire) => {
            if *arena.get(pos)? == b'"' {
                if !wire.iso {
                    return None;
                }
                let (value, after) = quick_timestamp(arena, pos, dates)?;
                values.push(value);
                after
            } else {
                let (value, after) = quick_integer(arena, pos)?;
                values.push(wire.ticks?.instant(value)?);
                after
            }
        }
        Data::Date(values, wire) => {
            if *arena.get(pos)? == b'"' {
                let text = arena.get(pos + 1..)?.first_chunk::<10>()?;
                if !wire.iso || *arena.get(pos + 11)? != b'"' {
                    return None;
                }
                values.push(dates.days(text)?);
                pos + 12
            } else {
                let (value, after) = quick_integer(arena, pos)?;
                values.push(wire.ticks?.days(value)?);
                after
            }
        }
        Data::Time(values, wire) => {
            if *arena.get(pos)? == b'"' {
                let (value, after) = quick_clock(arena, pos + 1)?;
                if !wire.iso || *arena.get(after)? != b'"' {
                    return None;
                }
                values.push(value);
                after + 1
            } else {
                let (value, after) = quick_integer(arena, pos)?;
                values.push(wire.ticks?.time(value)?);
                after
            }
        }
        Data::Uuid(values) => {
            // With its hyphens.
            let text = arena.get(pos..)?.first_chunk::<38>()?;
            let [b'"', text @ .., b'"'] = text else {
                return None;
            };
            let uuid = uuid::Uuid::try_parse_ascii(text).ok()?;
            values.extend_from_slice(uuid.as_bytes());
            pos + 38
        }
        Data::Binary(bytes, wire) => {
            let (text, after) = plain_string(arena, pos)?;
            binary(text, *wire, bytes).ok()?;
            after
        }
        Data::Decimal(decimals) => {
            let quoted = usize::from(*arena.get(pos)? == b'"');
            let mut number = quick_number(arena, pos + quoted)?;
            if quoted == 1 {
                if *arena.get(number.after)? != b'"' {
                    return None;
                }
                number.after += 1;
            }
            let scale = usize::from(decimals.scale).checked_sub(number.fraction)?;
            // 19 digits and 19 more fit 128 bits.
            let magnitude = i128::from(number.digits) * i128::from(*POW10.get(scale)?);
            if magnitude >= *number::POW10.get(usize::from(decimals.precision))? as i128 {
                return None;
            }
            decimals.values.push(if number.negative {
                -magnitude
            } else {
                magnitude
            });
            number.after
        }
        Data::Double(values, rounding) => {
            let number = quick_number(arena, pos)?;
            // Both are exact as doubles: one correctly rounded division gives the nearest double.
            let value = if number.digits <= 1 << 53 {
                let value = number.digits as f64 / F64_POW10.get(number.fraction)?;
                if number.negative { -value } else { value }
            } else if number.fraction > 0 || *rounding == Rounding::Any {
                fast_float2::parse(arena.get(pos..number.after)?).ok()?
            } else {
                return None;
            };
            values.push(value);
            number.after
        }
        Data::Float(values) => {
            let number = quick_number(arena, pos)?;
            let value = match F32_POW10.get(number.fraction) {
                Some(divisor) if number.digits <= 1 << 24 => {
                    let value = number.digits as f32 / divisor;
                    if number.negative { -value } else { value }
                }
                // 19 digits are far from infinity.
                _ => fast_float2::parse(arena.get(pos..number.after)?).ok()?,
            };
            values.push(value);
            number.after
        }
        Data::Boolean(values) => {
            let word = u32::from_le_bytes(*arena.get(pos..)?.first_chunk::<4>()?);
            if word == u32::from_le_bytes(*b"true") {
                values.push(true);
                pos + 4
            } else if word == u32::from_le_bytes(*b"fals") && *arena.get(pos + 4)? == b'e' {
                values.push(false);
                pos + 5
            } else {
                return None;
            }
        }
        Data::Struct(_) | Data::List(_) | Data::Map(_) => return None,
    };
    column.validity.append_non_null();
    Some(after)
}

/// Without escapes; copied while it is scanned.
#[inline(always)]
pub(super) fn quick_string(bytes: &mut Bytes<i32>, arena: &[u8], pos: usize) -> Option<usize> {
    if *arena.get(pos)? != b'"' {
        return None;
    }
    let mut pos = pos + 1;
    let mut len = bytes.len;
    loop {
        let chunk = arena.get(pos..)?.first_chunk::<8>()?;
        if bytes.values.len() < len + 8 {
            bytes.grow(len + 8);
        }
        bytes.values[len..len + 8].copy_from_slice(chunk);
        let stop = string_stop(u64::from_le_bytes(*chunk));
        if stop == 0 {
            pos += 8;
            len += 8;
            continue;
        }
        let plain = (stop.trailing_zeros() / 8) as usize;
        pos += plain;
        if *arena.get(pos)? != b'"' {
            return None;
        }
        bytes.close(len + plain);
        return Some(pos + 1);
    }
}

/// Without escapes: what is between the quotes, and where it ends.
fn plain_string(arena: &[u8], pos: usize) -> Option<(&[u8], usize)> {
    if *arena.get(pos)? != b'"' {
        return None;
    }
    let start = pos + 1;
    let mut end = start;
    loop {
        let stop = string_stop(u64::from_le_bytes(*arena.get(end..)?.first_chunk::<8>()?));
        if stop == 0 {
            end += 8;
            continue;
        }
        end += (stop.trailing_zeros() / 8) as usize;
        return (*arena.get(end)? == b'"').then(|| (&arena[start..end], end + 1));
    }
}

const POW10: [u64; 20] = {
    let mut powers = [1_u64; 20];
    let mut i = 1;
    while i < 20 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Powers of ten that are exact as doubles.
const F64_POW10: [f64; 19] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

/// Powers of ten that are exact in 32 bits.
const F32_POW10: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// The digits at `pos`: their value and count. `None` for more than 18.
#[inline(always)]
fn digit_run(arena: &[u8], pos: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    let mut count = 0;
    loop {
        let word = u64::from_le_bytes(*arena.get(pos + count..)?.first_chunk::<8>()?);
        let run = leading_digits(word);
        if count + run > 18 {
            return None;
        }
        if run < 8 {
            if run > 0 {
                value = value * POW10[run] + eight_digits(word << (64 - 8 * run));
            }
            return Some((value, count + run));
        }
        value = value * POW10[8] + eight_digits(word);
        count += 8;
    }
}

/// How many of the word's first bytes are digits.
#[inline(always)]
fn leading_digits(word: u64) -> usize {
    // High nibble 3, and still so after adding 6: 0x30 to 0x39. A carry out of a byte only harms later ones.
    let high = 0xf0f0_f0f0_f0f0_f0f0;
    let threes = 0x3030_3030_3030_3030;
    let other =
        ((word & high) ^ threes) | ((word.wrapping_add(0x0606_0606_0606_0606) & high) ^ threes);
    (other.trailing_zeros() / 8) as usize
}

/// Eight digits, the first in the lowest byte; 0 bytes count as leading zeros.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let mask = 0x0000_00ff_0000_00ff;
    let digits = word & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits * 10) + (digits >> 8);
    let first = (pairs & mask).wrapping_mul(100 + (1_000_000 << 32));
    let second = ((pairs >> 16) & mask).wrapping_mul(1 + (10_000 << 32));
    first.wrapping_add(second) >> 32
}

struct QuickNumber {
    negative: bool,
    digits: u64,
    /// Digits behind the point.
    fraction: usize,
    after: usize,
}

/// Digits, or digits, a point and digits; no more than 19 in all, no exponent.
#[inline(always)]
fn quick_number(arena: &[u8], pos: usize) -> Option<QuickNumber> {
    let negative = *arena.get(pos)? == b'-';
    let start = pos + usize::from(negative);
    let (whole, count) = digit_run(arena, start)?;
    if count == 0 || (count > 1 && *arena.get(start)? == b'0') {
        return None;
    }
    let mut number = QuickNumber {
        negative,
        digits: whole,
        fraction: 0,
        after: start + count,
    };
    let mut next = *arena.get(number.after)?;
    if next == b'.' {
        let (fraction, digits) = digit_run(arena, number.after + 1)?;
        if digits == 0 || count + digits > 19 {
            return None;
        }
        number.digits = whole * POW10[digits] + fraction;
        number.fraction = digits;
        number.after += 1 + digits;
        next = *arena.get(number.after)?;
    }
    if next | 0x20 == b'e' {
        return None;
    }
    Some(number)
}

#[inline(always)]
fn quick_integer(arena: &[u8], pos: usize) -> Option<(i64, usize)> {
    let negative = *arena.get(pos)? == b'-';
    let start = pos + usize::from(negative);
    let (magnitude, count) = digit_run(arena, start)?;
    if count == 0 || (count > 1 && *arena.get(start)? == b'0') {
        return None;
    }
    let after = start + count;
    let next = *arena.get(after)?;
    if next == b'.' || next | 0x20 == b'e' {
        return None;
    }
    // 18 digits fit.
    let value = magnitude as i64;
    Some((if negative { -value } else { value }, after))
}

/// Dates read before: records that come together mostly are of few days.
#[derive(Debug)]
pub(super) struct Dates {
    /// By the last digit of the day.
    known: [(Date, i32); 16],
}

/// `2025-10-09`.
type Date = [u8; 10];

impl Default for Dates {
    fn default() -> Self {
        Self {
            known: [(*b"1970-01-01", 0); 16],
        }
    }
}

impl Dates {
    /// Days since the epoch.
    #[inline(always)]
    fn days(&mut self, text: &Date) -> Option<i32> {
        let known = &mut self.known[usize::from(text[9] & 0xf)];
        if known.0 != *text {
            *known = (*text, temporal::date(text)?);
        }
        Some(known.1)
    }
}

/// `"2025-10-09T08:53:20"`, with or without a fraction and `Z`.
#[inline(always)]
fn quick_timestamp(arena: &[u8], pos: usize, dates: &mut Dates) -> Option<(i64, usize)> {
    let [date @ .., b'T'] = arena.get(pos + 1..)?.first_chunk::<11>()? else {
        return None;
    };
    let day = i64::from(dates.days(date)?) * MICROS_PER_DAY;
    let (time, mut after) = quick_clock(arena, pos + 12)?;
    if *arena.get(after)? == b'Z' {
        after += 1;
    }
    (*arena.get(after)? == b'"').then_some((day + time, after + 1))
}

/// `08:53:20`, with or without a fraction, in microseconds.
#[inline(always)]
fn quick_clock(arena: &[u8], pos: usize) -> Option<(i64, usize)> {
    let word = u64::from_le_bytes(*arena.get(pos..)?.first_chunk::<8>()?);
    // With the colons made digits, eight digits.
    let at_colons = |byte| u64::from_le_bytes([0, 0, byte, 0, 0, byte, 0, 0]);
    let (colons, colon_bytes, zeros) = (at_colons(b':'), at_colons(0xff), at_colons(b'0'));
    if word & colon_bytes != colons || leading_digits(word & !colon_bytes | zeros) != 8 {
        return None;
    }
    let two = |at: u32| ((word >> (8 * at)) & 0xf) * 10 + ((word >> (8 * at + 8)) & 0xf);
    let (hours, minutes, seconds) = (two(0), two(3), two(6));
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let mut micros = ((hours * 60 + minutes) * 60 + seconds) as i64 * MICROS_PER_SECOND;
    let mut after = pos + 8;
    if *arena.get(after)? == b'.' {
        let (fraction, digits) = digit_run(arena, after + 1)?;
        if digits == 0 || digits > 9 {
            return None;
        }
        micros += (fraction * POW10[9 - digits] / 1000) as i64;
        after += 1 + digits;
    }
    Some((micros, after))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::decode::column::Origin;
    use crate::schema::{Encoding, Field, Type};

    #[test]
    fn values_of_their_usual_form_are_taken_and_others_are_left() {
        let decimal = Type::Decimal {
            precision: 12,
            scale: 2,
        };
        for (ty, encoding, taken, left) in [
            (Type::String, None, "\"katya\"", "\"ka\\tya\""),
            (Type::Long, None, "-1760000000000", "1e3"),
            (Type::Int, None, "2147483647", "2147483648"),
            (Type::Double, None, "9007199254740993.5", "1e3"),
            (Type::Float, None, "16777217.25", "1e3"),
            (decimal.clone(), None, "817.31", "817.315"),
            (decimal, None, "\"817.31\"", "\"+817.31\""),
            (Type::Boolean, None, "false", "null"),
            (
                Type::Timestamptz,
                None,
                "\"2025-10-09T08:53:20.5Z\"",
                "\"2025-10-09\"",
            ),
            (Type::Timestamp, None, "1760000000000", "1760000000000000"),
            (Type::Date, None, "\"2025-10-09\"", "\"2025-10-39\""),
            (
                Type::Date,
                Some(Encoding::EpochDays),
                "20370",
                "\"2025-10-09\"",
            ),
            (Type::Time, None, "\"08:53:20.5\"", "\"08:53\""),
            (Type::Time, None, "32000000", "86400000"),
            (
                Type::Uuid,
                None,
                "\"67e55044-10b1-426f-9247-bb680e5fe0c8\"",
                "\"67e5504410b1426f9247bb680e5fe0c8\"",
            ),
            (Type::Binary, None, "\"3q2+7w==\"", "\"3q2-7w==\""),
            (Type::Binary, Some(Encoding::Hex), "\"00ff\"", "\"0ff\""),
            (Type::Binary, Some(Encoding::Utf8), "\"é\"", "\"\\u00e9\""),
        ] {
            let field = Field {
                encoding,
                ..Field::optional("v", ty)
            };
            let mut column = Column::new(&field, Origin::Declared);
            let mut dates = Dates::default();
            let mut try_out = |value: &str| {
                let record = format!("{value},\"filler\":\"forty bytes that follow every value\"");
                let after = quick(&mut column, record.as_bytes(), 0, &mut dates);
                (after, column.len())
            };
            assert_eq!(try_out(taken), (Some(taken.len()), 1), "{field:?}");
            assert_eq!(try_out(left), (None, 1), "{field:?}");
            assert_eq!(column.finish().len(), 1, "{field:?}");
        }
    }
}
