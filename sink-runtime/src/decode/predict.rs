//! The predicting decoder: expects the keys that earlier records had, byte for byte, and parses each value where it
//! then must be. Pure.
//!
//! What it knows of a record is a [`Graph`], and of every struct in it another one. At the first surprise it gives up
//! and the general decoder takes the record; where only the keys of a struct surprise, it takes that struct. So the
//! predicting decoder may only ever accept what the general one accepts, with the same result:
//! * an edge is learnt from an object that the general decoder took, so its bytes are valid JSON there;
//! * a value it does not parse itself (escapes, exponents) is parsed by the general decoder's own code;
//! * a key seen twice, or bytes after the last edge, are surprises.
//!
//! It may look past the end of a record, into the next one's bytes, but never accepts a record that does not end
//! exactly where it should.

use self::graph::{Graph, Member, Target, words};
use self::pace::Pace;
use super::column::{Column, Data, Fields, List, Map};
use super::cursor::{Cursor, MAX_DEPTH};
use super::misfit::Halt;
use super::parse::map::superseded;
use super::parse::{Parser, Trail, fill_missing};
use super::quick::{Dates, quick, quick_string};
use crate::schema::Field;

mod graph;
mod pace;

/// The widest load reads two words at the end of a record.
const READ_AHEAD: usize = 16;

/// Nodes for unknown keys, in all graphs together.
const MAX_NODES: usize = 4096;

#[derive(Debug)]
pub(super) struct Predictor {
    graph: Graph,
    memory: Memory,
}

/// What all walks share.
#[derive(Debug)]
struct Memory {
    dates: Dates,
    trail: Trail,
    room: usize,
}

/// Not taken. What was written must be cut off.
#[derive(Debug)]
enum Surprise {
    /// Other keys, or other bytes between values, than expected: the general decoder may still take the object.
    Keys,
    /// A value that the general decoder refuses, too: the record does not fit.
    Value,
}

impl Predictor {
    pub(super) fn new(fields: &[Field]) -> Self {
        Self::with_pace(fields, Pace::new())
    }

    /// Never gives up predicting, however often it fails.
    #[cfg(test)]
    pub(super) fn eager(fields: &[Field]) -> Self {
        Self::with_pace(fields, Pace::without_pause())
    }

    fn with_pace(fields: &[Field], pace: Pace) -> Self {
        Self {
            graph: Graph::new(fields, pace),
            memory: Memory {
                dates: Dates::default(),
                trail: Trail::default(),
                room: MAX_NODES,
            },
        }
    }

    /// The record `arena[start..end]` as row `row`, by the general decoder where it surprises. The record is UTF-8.
    #[inline]
    pub(super) fn record(
        &mut self,
        arena: &[u8],
        (start, end): (usize, usize),
        fields: &mut Fields,
        row: usize,
        parser: &mut Parser,
    ) -> Result<(), Halt> {
        let data = &arena[..end];
        let Self { graph, memory } = self;
        if end + READ_AHEAD > arena.len() || !graph.pace.attentive() {
            return parser.record(data, start, fields, row, None);
        }
        let mut walk = Walk {
            arena,
            end,
            parser,
            memory,
        };
        if walk.object::<true>(graph, fields, start, 1).is_ok() {
            graph.pace.hit();
            return Ok(());
        }
        graph.pace.miss();
        fields.truncate(row);
        let Memory { trail, room, .. } = memory;
        parser.record(data, start, fields, row, Some(&mut *trail))?;
        graph.learn(data, trail, room);
        Ok(())
    }
}

/// Through one record.
struct Walk<'a> {
    arena: &'a [u8],
    end: usize,
    parser: &'a mut Parser,
    memory: &'a mut Memory,
}

impl<'a> Walk<'a> {
    /// The object at `pos`, and where it ends. `RECORD`: only one that ends with the record. `depth`: objects and
    /// arrays that its values are in.
    #[inline]
    fn object<const RECORD: bool>(
        &mut self,
        graph: &mut Graph,
        fields: &mut Fields,
        mut pos: usize,
        depth: u32,
    ) -> Result<usize, Surprise> {
        let arena = self.arena;
        let stamp = self.parser.next_instance();
        let mut written = 0;
        let mut node = 0;
        loop {
            let window = arena.get(pos..).and_then(|rest| rest.first_chunk::<16>());
            let window = words(window.ok_or(Surprise::Keys)?);
            let edges = graph.nodes.get(node).ok_or(Surprise::Keys)?;
            let edge = edges.iter().find(|edge| {
                edge.matches(&window, arena, pos)
                    && (!RECORD || edge.target != Target::End || pos + edge.len == self.end)
            });
            let edge = edge.ok_or(Surprise::Keys)?;
            pos += edge.len;
            node = edge.node;
            match edge.target {
                Target::Column(index) => {
                    let column = fields.columns.get_mut(index).ok_or(Surprise::Keys)?;
                    if column.stamp == stamp {
                        return Err(Surprise::Keys);
                    }
                    column.stamp = stamp;
                    written += 1;
                    pos = match quick(column, arena, pos, &mut self.memory.dates) {
                        Some(after) => after,
                        None => {
                            let member = graph.members.get_mut(index).ok_or(Surprise::Keys)?;
                            self.other(member, column, pos, depth)?
                        }
                    };
                }
                Target::Unknown => {
                    let mut cursor = self.cursor(pos, depth)?;
                    let unknown = self.parser.unknown_value(&mut cursor);
                    unknown.map_err(|_| Surprise::Value)?;
                    pos = cursor.pos;
                }
                Target::End => break,
            }
        }
        if written < fields.columns.len() {
            fill_missing(fields, stamp).map_err(|_| Surprise::Value)?;
        }
        Ok(pos)
    }

    /// An element of a list or a value of a map.
    fn value(
        &mut self,
        member: &mut Member,
        column: &mut Column,
        pos: usize,
        depth: u32,
    ) -> Result<usize, Surprise> {
        match quick(column, self.arena, pos, &mut self.memory.dates) {
            Some(after) => Ok(after),
            None => self.other(member, column, pos, depth),
        }
    }

    /// A value that is nothing for [`quick`].
    #[inline(never)]
    fn other(
        &mut self,
        member: &mut Member,
        column: &mut Column,
        pos: usize,
        depth: u32,
    ) -> Result<usize, Surprise> {
        let row = column.len();
        let nested = match (self.byte(pos), &mut column.data, member) {
            (b'n', ..) if !column.required && self.arena[pos..].starts_with(b"null") => {
                column.push_absent();
                return Ok(pos + 4);
            }
            (b'{', Data::Struct(fields), Member::Struct(graph)) if depth < MAX_DEPTH => {
                self.nested(graph, fields, row, pos, depth)
            }
            (b'[', Data::List(list), Member::Each(element)) if depth < MAX_DEPTH => {
                self.list(element, list, pos, depth + 1)
            }
            (b'{', Data::Map(map), Member::Each(value)) if depth < MAX_DEPTH => {
                self.map(value, map, pos, depth + 1)
            }
            _ => Err(Surprise::Keys),
        };
        match nested {
            Ok(after) => {
                column.validity.append_non_null();
                Ok(after)
            }
            Err(Surprise::Value) => Err(Surprise::Value),
            Err(Surprise::Keys) => {
                column.truncate(row);
                let mut cursor = self.cursor(pos, depth)?;
                let value = self.parser.value(&mut cursor, column);
                value.map_err(|_| Surprise::Value)?;
                Ok(cursor.pos)
            }
        }
    }

    /// A struct; by the general decoder where its keys surprise.
    fn nested(
        &mut self,
        graph: &mut Graph,
        fields: &mut Fields,
        row: usize,
        pos: usize,
        depth: u32,
    ) -> Result<usize, Surprise> {
        if !graph.pace.attentive() {
            return Err(Surprise::Keys);
        }
        match self.object::<false>(graph, fields, pos, depth + 1) {
            Ok(after) => {
                graph.pace.hit();
                return Ok(after);
            }
            Err(Surprise::Value) => return Err(Surprise::Value),
            Err(Surprise::Keys) => graph.pace.miss(),
        }
        fields.truncate(row);
        let mut cursor = self.cursor(pos, depth)?;
        let Memory { trail, room, .. } = &mut *self.memory;
        trail.begin(pos);
        let taken = self
            .parser
            .object(&mut cursor, fields, row, Some(&mut *trail));
        taken.map_err(|_| Surprise::Value)?;
        graph.learn(&self.arena[..cursor.pos], trail, room);
        Ok(cursor.pos)
    }

    fn list(
        &mut self,
        member: &mut Member,
        list: &mut List,
        pos: usize,
        depth: u32,
    ) -> Result<usize, Surprise> {
        let mut pos = self.space(pos + 1);
        let mut more = self.byte(pos) != b']';
        while more {
            pos = self.value(member, &mut list.element, pos, depth)?;
            (pos, more) = self.another(pos, b']')?;
        }
        list.offsets.push(list.element.len() as i32);
        Ok(pos + 1)
    }

    fn map(
        &mut self,
        member: &mut Member,
        map: &mut Map,
        pos: usize,
        depth: u32,
    ) -> Result<usize, Surprise> {
        let first = map.keys.rows();
        let mut pos = self.space(pos + 1);
        let mut more = self.byte(pos) != b'}';
        while more {
            pos = quick_string(&mut map.keys, self.arena, pos).ok_or(Surprise::Keys)?;
            pos = self.space(pos);
            if self.byte(pos) != b':' {
                return Err(Surprise::Value);
            }
            pos = self.value(member, &mut map.value, self.space(pos + 1), depth)?;
            (pos, more) = self.another(pos, b'}')?;
        }
        if superseded(&map.keys, first).contains(&true) {
            return Err(Surprise::Keys);
        }
        map.offsets.push(map.value.len() as i32);
        Ok(pos + 1)
    }

    /// After an element or entry: where the next one starts, or where the closing byte stands; and which of the two.
    fn another(&self, pos: usize, close: u8) -> Result<(usize, bool), Surprise> {
        let pos = self.space(pos);
        // Elements beyond the record would be read for nothing.
        if pos >= self.end {
            return Err(Surprise::Value);
        }
        match self.byte(pos) {
            b',' => Ok((self.space(pos + 1), true)),
            byte if byte == close => Ok((pos, false)),
            _ => Err(Surprise::Value),
        }
    }

    /// The first byte from `pos` on that is no whitespace.
    fn space(&self, mut pos: usize) -> usize {
        while let b' ' | b'\t' | b'\n' | b'\r' = self.byte(pos) {
            pos += 1;
        }
        pos
    }

    /// 0, which no token starts with, behind the arena.
    fn byte(&self, pos: usize) -> u8 {
        self.arena.get(pos).copied().unwrap_or(0)
    }

    /// For the general decoder, within the record.
    fn cursor(&self, pos: usize, depth: u32) -> Result<Cursor<'a>, Surprise> {
        let data = &self.arena[..self.end];
        if pos > self.end {
            return Err(Surprise::Value);
        }
        Ok(Cursor {
            depth,
            ..Cursor::new(data, pos)
        })
    }
}
