//! The predicting decoder: expects the keys that earlier records had, byte for byte, and parses each value where it
//! then must be. Pure.
//!
//! What it knows is a graph. A node is a key just read; its edges are the bytes seen between the end of that key's
//! value and the start of the next value (`,"amount":`, with the producer's whitespace). Keys that come and go, and
//! several shapes in turn, are several edges of a node. At the first surprise it gives up and the general decoder takes
//! the record; so it may only ever accept what that one accepts, with the same result:
//! * an edge is learnt from a record that the general decoder took, so its bytes are valid JSON there;
//! * a value it does not parse itself (escapes, exponents, nested values) is parsed by the general decoder's own code;
//! * a key seen twice, or bytes after the last edge, are surprises.
//!
//! It may look past the end of a record, into the next one's bytes, but never accepts a record that does not end
//! exactly where it should.

use super::column::{Bytes, Column, Data, Fields};
use super::cursor::{Cursor, string_stop};
use super::parse::{Parser, Trail, fill_missing};
use super::temporal::{self, MICROS_PER_DAY, MICROS_PER_SECOND};

/// Longer texts between values are not learnt.
const MAX_LITERAL: usize = 256;
const MAX_EDGES: usize = 8;
const MAX_NODES: usize = 4096;

/// Not taken. What was written must be cut off.
#[derive(Debug)]
pub(super) struct Surprise;

#[derive(Debug)]
pub(super) struct Predictor {
    /// The first is the start of a record; then one per column; then one per unknown key and way to it.
    nodes: Vec<Vec<Edge>>,
    columns: usize,
    dates: DateCache,
    pace: Pace,
}

#[derive(Debug)]
struct Edge {
    /// The first 16 bytes, compared as two words under masks, and the others.
    head: [u64; 2],
    mask: [u64; 2],
    len: usize,
    tail: Box<[u8]>,
    target: Target,
    /// Node that the edge leads to.
    node: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Column(usize),
    Unknown,
    End,
}

impl Edge {
    fn new(literal: &[u8], target: Target, node: usize) -> Self {
        let mut head = [0; 16];
        let mut mask = [0; 16];
        let inline = literal.len().min(16);
        head[..inline].copy_from_slice(&literal[..inline]);
        mask[..inline].fill(0xff);
        Self {
            head: words(&head),
            mask: words(&mask),
            len: literal.len(),
            tail: literal[inline..].into(),
            target,
            node,
        }
    }

    #[inline(always)]
    fn matches(&self, window: &[u64; 2], data: &[u8], pos: usize) -> bool {
        let differ = ((window[0] ^ self.head[0]) & self.mask[0])
            | ((window[1] ^ self.head[1]) & self.mask[1]);
        differ == 0
            && (self.tail.is_empty()
                || data
                    .get(pos + 16..)
                    .is_some_and(|rest| rest.starts_with(&self.tail)))
    }
}

#[inline(always)]
fn words(bytes: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}

/// Decides when predicting pays. Misses cost credit; without credit a growing number of records goes to the general
/// decoder unseen, so that records without pattern cost little more than without prediction.
#[derive(Debug)]
struct Pace {
    credit: i32,
    pause: u32,
    /// Records still to pass on.
    skip: u32,
}

impl Pace {
    const FULL: i32 = 32;
    const MISS: i32 = 8;
    const MIN_PAUSE: u32 = 64;
    const MAX_PAUSE: u32 = 4096;

    fn hit(&mut self) {
        if self.credit < Self::FULL {
            self.credit += 1;
            if self.credit == Self::FULL {
                self.pause = Self::MIN_PAUSE;
            }
        }
    }

    fn miss(&mut self) {
        self.credit -= Self::MISS;
        if self.credit < 0 {
            self.credit = Self::FULL / 2;
            self.skip = self.pause;
            self.pause = (self.pause * 2).min(Self::MAX_PAUSE);
        }
    }
}

impl Predictor {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            nodes: fresh_nodes(columns),
            columns,
            dates: DateCache::default(),
            pace: Pace {
                credit: Pace::FULL,
                pause: Pace::MIN_PAUSE,
                skip: 0,
            },
        }
    }

    /// Whether the next record is worth a try, and worth learning from.
    #[inline]
    pub(super) fn attentive(&mut self) -> bool {
        if self.pace.skip == 0 {
            return true;
        }
        self.pace.skip -= 1;
        false
    }

    /// The record `arena[start..end]` as row `row`. The record is UTF-8.
    #[inline]
    pub(super) fn record(
        &mut self,
        arena: &[u8],
        (start, end): (usize, usize),
        fields: &mut Fields,
        row: usize,
        parser: &mut Parser,
    ) -> Result<(), Surprise> {
        let outcome = self.walk(arena, start, end, fields, row, parser);
        match outcome {
            Some(()) => {
                self.pace.hit();
                Ok(())
            }
            None => {
                self.pace.miss();
                Err(Surprise)
            }
        }
    }

    #[inline]
    fn walk(
        &mut self,
        arena: &[u8],
        start: usize,
        end: usize,
        fields: &mut Fields,
        row: usize,
        parser: &mut Parser,
    ) -> Option<()> {
        let stamp = parser.next_instance();
        let mut written = 0;
        let mut pos = start;
        let mut node = 0;
        loop {
            let window = words(arena.get(pos..)?.first_chunk::<16>()?);
            let edge = self.nodes.get(node)?.iter().find(|edge| {
                edge.matches(&window, arena, pos)
                    && (edge.target != Target::End || pos + edge.len == end)
            })?;
            pos += edge.len;
            node = edge.node;
            match edge.target {
                Target::Column(index) => {
                    let column = fields.columns.get_mut(index)?;
                    if column.stamp == stamp {
                        return None;
                    }
                    column.stamp = stamp;
                    written += 1;
                    pos = match quick(column, arena, pos, &mut self.dates) {
                        Some(after) => after,
                        None => {
                            // A cell that was begun leaves nothing behind: the row's length is known.
                            debug_assert_eq!(column.len(), row);
                            let mut cursor = inside(arena, pos, end)?;
                            parser.value(&mut cursor, column).ok()?;
                            cursor.pos
                        }
                    };
                }
                Target::Unknown => {
                    let mut cursor = inside(arena, pos, end)?;
                    parser.unknown_value(&mut cursor).ok()?;
                    pos = cursor.pos;
                }
                Target::End => break,
            }
        }
        if written < fields.columns.len() {
            fill_missing(fields, stamp).ok()?;
        }
        Some(())
    }

    /// From a record that the general decoder just took: `data` ends where the record ends.
    pub(super) fn learn(&mut self, data: &[u8], trail: &Trail) {
        if trail.duplicates {
            return;
        }
        let mut node = 0;
        for step in &trail.steps {
            let target = step.column.map_or(Target::Unknown, Target::Column);
            match self.edge(node, &data[step.start..step.end], target) {
                Some(next) => node = next,
                None => return,
            }
        }
        self.edge(node, &data[trail.end..], Target::End);
    }

    /// The node behind the edge, which is made if it is not there.
    fn edge(&mut self, node: usize, literal: &[u8], target: Target) -> Option<usize> {
        if literal.len() > MAX_LITERAL {
            return None;
        }
        let candidate = Edge::new(literal, target, 0);
        let known = self.nodes.get(node)?.iter().find(|edge| {
            edge.len == candidate.len && edge.head == candidate.head && edge.tail == candidate.tail
        });
        if let Some(edge) = known {
            return Some(edge.node);
        }
        let next = match target {
            Target::Column(index) => index + 1,
            Target::End => 0,
            Target::Unknown => {
                if self.nodes.len() > MAX_NODES + self.columns {
                    // Keys that never come back have filled the graph: start anew.
                    self.nodes = fresh_nodes(self.columns);
                    return None;
                }
                self.nodes.push(Vec::new());
                self.nodes.len() - 1
            }
        };
        let edges = self.nodes.get_mut(node)?;
        if edges.len() == MAX_EDGES {
            edges.remove(0);
        }
        edges.push(Edge {
            node: next,
            ..candidate
        });
        Some(next)
    }
}

fn fresh_nodes(columns: usize) -> Vec<Vec<Edge>> {
    (0..=columns).map(|_| Vec::new()).collect()
}

fn inside(arena: &[u8], pos: usize, end: usize) -> Option<Cursor<'_>> {
    if pos > end {
        return None;
    }
    let mut cursor = Cursor::new(arena.get(..end)?, pos);
    // Within the record's own object.
    cursor.depth = 1;
    Some(cursor)
}

/// The value at `pos` of its usual form, and where it ends. `None`, and an unchanged column, for everything else.
#[inline(always)]
fn quick(column: &mut Column, arena: &[u8], pos: usize, dates: &mut DateCache) -> Option<usize> {
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
            if magnitude >= *super::number::POW10.get(usize::from(decimals.precision))? as i128 {
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
struct DateCache {
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
