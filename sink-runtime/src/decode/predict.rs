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

use super::column::Fields;
use super::cursor::Cursor;
use super::parse::{Parser, Trail, fill_missing};
use super::quick::{DateCache, quick};

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

    /// Never gives up predicting, however often it fails.
    #[cfg(test)]
    pub(super) fn eager(columns: usize) -> Self {
        let mut predictor = Self::new(columns);
        predictor.pace.credit = i32::MAX;
        predictor
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
