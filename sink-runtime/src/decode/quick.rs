//! Values of their usual form, straight into their column: what the predicting decoder parses itself. Pure.
//! Each function either takes the value with exactly the general decoder's result, or declines with `None` and leaves
//! the column as it was. They read words past the value's end; what follows the value is for the caller to check.

use super::column::{Bytes, Column, Data};
use super::cursor::string_stop;
use super::number;
use super::temporal::{self, MICROS_PER_DAY, MICROS_PER_SECOND};

/// The value at `pos` of its usual form, and where it ends. `None`, and an unchanged column, for everything else.
#[inline(always)]
pub(super) fn quick(
    column: &mut Column,
    arena: &[u8],
    pos: usize,
    dates: &mut DateCache,
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
                values.push(wire.ticks?.micros(value)?);
                after
            }
        }
        Data::Decimal(decimals) => {
            let number = quick_number(arena, pos)?;
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
        Data::Double(values) => {
            let number = quick_number(arena, pos)?;
            // Both are exact as doubles: one correctly rounded division gives the nearest double.
            if number.digits > 1 << 53 {
                return None;
            }
            let value = number.digits as f64 / F64_POW10.get(number.fraction)?;
            values.push(if number.negative { -value } else { value });
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
        _ => return None,
    };
    column.validity.append_non_null();
    Some(after)
}

/// Without escapes; copied while it is scanned.
#[inline(always)]
fn quick_string(bytes: &mut Bytes<i32>, arena: &[u8], pos: usize) -> Option<usize> {
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

/// The last date read: records that come together mostly are of one day.
#[derive(Debug, Default)]
pub(super) struct DateCache {
    text: [u8; 10],
    micros: i64,
}

/// `"2025-10-09T08:53:20"`, with or without a fraction and `Z`.
#[inline(always)]
fn quick_timestamp(arena: &[u8], pos: usize, dates: &mut DateCache) -> Option<(i64, usize)> {
    let text = arena.get(pos + 1..)?.first_chunk::<19>()?;
    let (date, clock) = text.split_first_chunk::<10>()?;
    if *date != dates.text {
        let micros = quick_date(date)?;
        *dates = DateCache {
            text: *date,
            micros,
        };
    }
    // `08:53:20` behind the `T`.
    let [b'T', clock @ ..] = clock else {
        return None;
    };
    let word = u64::from_le_bytes(*clock.first_chunk::<8>()?);
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
    let mut micros =
        dates.micros + ((hours * 60 + minutes) * 60 + seconds) as i64 * MICROS_PER_SECOND;
    let mut after = pos + 20;
    if *arena.get(after)? == b'.' {
        let (fraction, digits) = digit_run(arena, after + 1)?;
        if digits == 0 || digits > 9 {
            return None;
        }
        micros += (fraction * POW10[9 - digits] / 1000) as i64;
        after += 1 + digits;
    }
    if *arena.get(after)? == b'Z' {
        after += 1;
    }
    (*arena.get(after)? == b'"').then_some((micros, after + 1))
}

fn quick_date(text: &[u8; 10]) -> Option<i64> {
    temporal::date(text).map(|days| i64::from(days) * MICROS_PER_DAY)
}
