//! What the predicting decoder knows of the keys of one kind of object: a graph. A node is a key just read; its edges
//! are the bytes seen between the end of that key's value and the start of the next value (`,"amount":`, with the
//! producer's whitespace). Keys that come and go, and several shapes in turn, are several edges of a node. Pure.

use super::pace::Pace;
use crate::decode::parse::Trail;
use crate::schema::{Field, Type};

/// Longer texts between values are not learnt.
const MAX_LITERAL: usize = 256;
const MAX_EDGES: usize = 8;

/// Of a record or a struct.
#[derive(Debug)]
pub(super) struct Graph {
    /// The first is the start of an object; then one per column; then one per unknown key and way to it.
    pub(super) nodes: Vec<Vec<Edge>>,
    pub(super) members: Vec<Member>,
    pub(super) pace: Pace,
}

/// What may stand within a column's values.
#[derive(Debug)]
pub(super) enum Member {
    Nothing,
    Struct(Graph),
    /// In each element of a list, or each value of a map.
    Each(Box<Member>),
}

#[derive(Debug)]
pub(super) struct Edge {
    /// The first 16 bytes, compared as two words under masks, and the others.
    head: [u64; 2],
    mask: [u64; 2],
    pub(super) len: usize,
    tail: Box<[u8]>,
    pub(super) target: Target,
    /// Node that the edge leads to.
    pub(super) node: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
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
    pub(super) fn matches(&self, window: &[u64; 2], data: &[u8], pos: usize) -> bool {
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
pub(super) fn words(bytes: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}

impl Graph {
    pub(super) fn new(fields: &[Field], pace: Pace) -> Self {
        Self {
            nodes: (0..=fields.len()).map(|_| Vec::new()).collect(),
            members: fields.iter().map(|f| Member::new(&f.ty, pace)).collect(),
            pace,
        }
    }

    /// From an object that the general decoder just took: `data` ends where the object ends. `room`: nodes that may
    /// still be made for unknown keys.
    pub(super) fn learn(&mut self, data: &[u8], trail: &Trail, room: &mut usize) {
        if trail.duplicates {
            return;
        }
        let mut node = 0;
        for step in &trail.steps {
            let target = step.column.map_or(Target::Unknown, Target::Column);
            match self.edge(node, &data[step.start..step.end], target, room) {
                Some(next) => node = next,
                None => return,
            }
        }
        self.edge(node, &data[trail.end..], Target::End, room);
    }

    /// The node behind the edge, which is made if it is not there.
    fn edge(
        &mut self,
        node: usize,
        literal: &[u8],
        target: Target,
        room: &mut usize,
    ) -> Option<usize> {
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
            Target::Unknown if *room == 0 => {
                // Keys that never come back have filled the graphs: this one starts anew.
                *room += self.nodes.len() - (self.members.len() + 1);
                self.nodes.truncate(self.members.len() + 1);
                self.nodes.iter_mut().for_each(Vec::clear);
                return None;
            }
            Target::Unknown => {
                *room -= 1;
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

impl Member {
    fn new(ty: &Type, pace: Pace) -> Self {
        match ty {
            Type::Struct(fields) => Self::Struct(Graph::new(fields, pace)),
            Type::List(element) => Self::Each(Box::new(Self::new(&element.ty, pace))),
            Type::Map(value) => Self::Each(Box::new(Self::new(&value.ty, pace))),
            _ => Self::Nothing,
        }
    }
}
