//! Shapes of records, and the least one that holds two of them. Pure.

use super::No;
use crate::decode::cursor::{Cursor, Number};
use crate::decode::number;
use crate::plan::OnConflict;
use crate::schema::arrow::ELEMENT;
use crate::schema::{DEEPEST, Encoding, Field, Type, count_in};

/// As many as there can be columns.
const MOST_KEYS: usize = 2000;

/// What is known of a value's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Only nulls so far.
    Unseen,
    Boolean,
    /// All seen are doubles as well.
    Long,
    /// With integers that a double would round.
    WideLong,
    Double,
    String,
    Struct(Vec<Member>),
    /// The member is the element.
    List(Box<Member>),
    /// Somebody said so.
    Given(Box<Type>, Option<Encoding>),
    /// No type holds all that was seen.
    Mixed,
}

/// A field, in the order first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) said: Said,
    pub(super) required: bool,
    /// A record had it, or must have it. What no record had costs nothing.
    pub(super) seen: bool,
}

/// Whose word a field's type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Records,
    Table,
    Hint,
}

impl Member {
    pub(super) fn found(name: String, shape: Shape) -> Self {
        Self {
            name,
            shape,
            said: Said::Records,
            required: false,
            seen: true,
        }
    }

    /// `forced`: what it stands in must be there.
    fn given(field: &Field, said: Said, forced: bool) -> Self {
        let seen = said == Said::Hint || field.required || forced;
        Self {
            name: field.name.clone(),
            shape: Shape::given(&field.ty, field.encoding, said, seen),
            said,
            required: field.required,
            seen,
        }
    }

    /// Whether there is something to store.
    pub(super) fn has_type(&self) -> bool {
        self.shape.column(None).is_some()
    }

    fn meet(&mut self, shape: Shape, on_conflict: OnConflict) {
        let before = std::mem::replace(&mut self.shape, Shape::Unseen);
        let stays = match (&before, &shape) {
            (_, Shape::Unseen)
            | (Shape::Given(..), _)
            | (Shape::Struct(_), Shape::Struct(_))
            | (Shape::List(_), Shape::List(_)) => true,
            _ => self.said == Said::Records,
        };
        self.seen |= shape != Shape::Unseen;
        self.shape = match stays {
            true => before.join(shape, on_conflict),
            false => Shape::Mixed,
        };
    }

    fn field(&self, before: Option<&Type>) -> Option<Field> {
        if !self.seen {
            return None;
        }
        let encoding = match &self.shape {
            Shape::Given(_, encoding) => *encoding,
            _ => None,
        };
        Some(Field {
            required: self.required,
            encoding,
            ..Field::optional(&self.name, self.shape.column(before)?)
        })
    }
}

/// The members of columns that somebody named.
pub(super) fn given(fields: &[Field], said: Said) -> Vec<Member> {
    let member = |field| Member::given(field, said, false);
    fields.iter().map(member).collect()
}

/// Puts hints in place of what a table says.
pub(super) fn overlay(members: &mut Vec<Member>, hints: Vec<Member>) {
    for hint in hints {
        let Some(member) = members.iter_mut().find(|m| m.name == hint.name) else {
            members.push(hint);
            continue;
        };
        match (&mut member.shape, hint.shape) {
            (Shape::Struct(inner), Shape::Struct(hints)) => {
                overlay(inner, hints);
            }
            (Shape::List(element), Shape::List(hint)) => {
                let mut elements = vec![std::mem::replace(
                    &mut **element,
                    Member::found(ELEMENT.to_owned(), Shape::Unseen),
                )];
                overlay(&mut elements, vec![*hint]);
                if let Some(merged) = elements.pop() {
                    **element = merged;
                }
            }
            (shape, hint) => *shape = hint,
        }
        (member.said, member.required, member.seen) = (Said::Hint, hint.required, true);
    }
}

/// What records had before, they had.
pub(super) fn remember(members: &mut [Member], before: &[Member]) {
    for member in members {
        let Some(before) = before.iter().find(|m| m.name == member.name) else {
            continue;
        };
        member.seen |= before.seen && before.has_type();
        match (&mut member.shape, &before.shape) {
            (Shape::Struct(inner), Shape::Struct(before)) => remember(inner, before),
            (Shape::List(element), Shape::List(before)) => {
                remember(
                    std::slice::from_mut(&mut **element),
                    std::slice::from_ref(&**before),
                );
            }
            _ => {}
        }
    }
}

pub(super) fn read(cursor: &mut Cursor<'_>, on_conflict: OnConflict) -> Result<Shape, No> {
    let mut scratch = Vec::new();
    match cursor.peek() {
        // A column's own value is at depth 1: its type is the first level.
        b'{' | b'[' if cursor.depth as usize >= DEEPEST => match cursor.skip(&mut scratch)? {
            true => Ok(text(on_conflict)),
            false => Ok(Shape::Unseen),
        },
        b'{' => {
            cursor.enter()?;
            let mut members: Vec<Member> = Vec::new();
            let mut more = !cursor.empty(b'}');
            while more {
                let key = cursor.key(&mut scratch)?;
                let name = String::from_utf8_lossy(key.unwrap_or(&scratch)).into_owned();
                let shape = read(cursor, on_conflict)?;
                // More than any schema takes; and each is compared with all before it.
                if members.len() > MOST_KEYS {
                    return Err(No::Shape);
                }
                add(&mut members, Member::found(name, shape), on_conflict);
                more = cursor.another(b'}')?;
            }
            Ok(Shape::Struct(members))
        }
        b'[' => {
            cursor.enter()?;
            let mut element = Shape::Unseen;
            let mut more = !cursor.empty(b']');
            while more {
                element = element.join(read(cursor, on_conflict)?, on_conflict);
                more = cursor.another(b']')?;
            }
            Ok(Shape::List(Box::new(Member::found(
                ELEMENT.to_owned(),
                element,
            ))))
        }
        b'-' | b'0'..=b'9' => {
            let number = cursor.number()?;
            Ok(shape_of_number(number).unwrap_or_else(|| text(on_conflict)))
        }
        byte => {
            cursor.skip(&mut scratch)?;
            Ok(match byte {
                b'"' => Shape::String,
                b'n' => Shape::Unseen,
                _ => Shape::Boolean,
            })
        }
    }
}

/// `None` for one that neither a long nor a double holds.
fn shape_of_number(number: Number<'_>) -> Option<Shape> {
    if !number.plain {
        return number::nearest_double(number.text).map(|_| Shape::Double);
    }
    let long = number::integer(number.text).is_some();
    let double = number::kept_by_double(number.text).is_some();
    match (long, double) {
        (true, true) => Some(Shape::Long),
        (true, false) => Some(Shape::WideLong),
        (false, true) => Some(Shape::Double),
        (false, false) => None,
    }
}

/// What has no other type.
pub(super) fn text(on_conflict: OnConflict) -> Shape {
    match on_conflict {
        OnConflict::String => Shape::String,
        OnConflict::Reject => Shape::Mixed,
    }
}

/// Joined with the member of its name, or put last.
fn add(members: &mut Vec<Member>, member: Member, on_conflict: OnConflict) {
    match members.iter_mut().find(|m| m.name == member.name) {
        Some(known) => known.meet(member.shape, on_conflict),
        None => members.push(member),
    }
}

impl Shape {
    fn given(ty: &Type, encoding: Option<Encoding>, said: Said, forced: bool) -> Self {
        match ty {
            Type::Struct(fields) => {
                let member = |field| Member::given(field, said, forced);
                Self::Struct(fields.iter().map(member).collect())
            }
            Type::List(element) if holds_fields(&element.ty) => {
                let element = Member {
                    seen: true,
                    ..Member::given(element, said, forced)
                };
                Self::List(Box::new(element))
            }
            other => Self::Given(Box::new(other.clone()), encoding),
        }
    }

    /// The least shape that holds both.
    pub(super) fn join(self, other: Self, on_conflict: OnConflict) -> Self {
        match (self, other) {
            (Self::Unseen, shape) | (shape, Self::Unseen) => shape,
            (given @ Self::Given(..), _) => given,
            (Self::Mixed, _) | (_, Self::Mixed) => Self::Mixed,
            (Self::Long | Self::Double, Self::Double) | (Self::Double, Self::Long) => Self::Double,
            (Self::Long, Self::WideLong) | (Self::WideLong, Self::Long) => Self::WideLong,
            (Self::Struct(mut members), Self::Struct(others)) => {
                for member in others {
                    add(&mut members, member, on_conflict);
                }
                Self::Struct(members)
            }
            (Self::List(mut element), Self::List(other)) => {
                element.meet(other.shape, on_conflict);
                Self::List(element)
            }
            (one, other) if one == other => one,
            // What has no column yet gives way.
            (one, other) if on_conflict == OnConflict::Reject && one.column(None).is_none() => {
                other
            }
            _ => text(on_conflict),
        }
    }

    /// Whether joining `other` would change nothing.
    pub(super) fn covers(&self, other: &Self, on_conflict: OnConflict) -> bool {
        match (self, other) {
            (_, Self::Unseen)
            | (Self::Given(..), _)
            | (Self::WideLong, Self::Long)
            | (Self::Double, Self::Long | Self::Double) => true,
            (Self::Struct(members), Self::Struct(others)) => {
                others.iter().enumerate().all(|(at, other)| {
                    member_at(members, &other.name, at).is_some_and(|m| {
                        (m.seen || other.shape == Self::Unseen)
                            && m.shape.covers(&other.shape, on_conflict)
                    })
                })
            }
            (Self::List(element), Self::List(other)) => {
                element.shape.covers(&other.shape, on_conflict)
            }
            (Self::String, _) => on_conflict == OnConflict::String || *other == Self::String,
            (one, other) => one == other,
        }
    }

    /// The first field of `other` that would become a column here, by its full name.
    pub(super) fn first_new(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Struct(members), Self::Struct(others)) => {
                others.iter().enumerate().find_map(|(at, other)| {
                    if !other.has_type() {
                        return None;
                    }
                    let known = member_at(members, &other.name, at);
                    let inner = match known.filter(|m| m.said != Said::Records || m.has_type()) {
                        Some(known) => known.shape.first_new(&other.shape)?,
                        None => String::new(),
                    };
                    Some(full_name(&other.name, &inner))
                })
            }
            (Self::List(element), Self::List(other)) => {
                let inner = element.shape.first_new(&other.shape)?;
                Some(full_name(ELEMENT, &inner))
            }
            _ => None,
        }
    }

    /// Whether there is such a member, on any level.
    pub(super) fn any(&self, such: &dyn Fn(&Member) -> bool) -> bool {
        let one = |member: &Member| such(member) || member.shape.any(such);
        match self {
            Self::Struct(members) => members.iter().any(one),
            Self::List(element) => one(element),
            _ => false,
        }
    }

    /// Whether there is something that no type holds.
    pub(super) fn is_mixed(&self) -> bool {
        *self == Self::Mixed || self.any(&|member| member.shape == Self::Mixed)
    }

    /// Without what has no type yet.
    pub(super) fn prune(&mut self) {
        match self {
            Self::Struct(members) => {
                members.retain(|m| m.said != Said::Records || m.has_type());
                members.iter_mut().for_each(|m| m.shape.prune());
            }
            Self::List(element) => element.shape.prune(),
            _ => {}
        }
    }

    /// Fields in it, of all levels.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Struct(members) => members.iter().map(|m| 1 + m.shape.size()).sum(),
            Self::List(element) => element.shape.size(),
            Self::Given(ty, _) => count_in(ty),
            _ => 0,
        }
    }

    /// `None` while there is nothing to store. `before`: the type it had.
    pub(super) fn column(&self, before: Option<&Type>) -> Option<Type> {
        Some(match self {
            Self::Unseen | Self::Mixed => return None,
            Self::Boolean => Type::Boolean,
            Self::Long | Self::WideLong => Type::Long,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Given(ty, _) => (**ty).clone(),
            Self::Struct(members) => {
                let before = match before {
                    Some(Type::Struct(fields)) => fields.as_slice(),
                    _ => &[],
                };
                let fields = fields(members, before);
                if fields.is_empty() {
                    return None;
                }
                Type::Struct(fields)
            }
            Self::List(element) => {
                let before = match before {
                    Some(Type::List(element)) => Some(&element.ty),
                    _ => None,
                };
                Type::List(Box::new(element.field(before)?))
            }
        })
    }
}

/// Whether there are fields that more may come beside.
fn holds_fields(ty: &Type) -> bool {
    match ty {
        Type::Struct(_) => true,
        Type::List(element) => holds_fields(&element.ty),
        _ => false,
    }
}

/// Most often it is where it was in the record.
fn member_at<'a>(members: &'a [Member], name: &str, at: usize) -> Option<&'a Member> {
    let guess = members.get(at).filter(|m| m.name == name);
    guess.or_else(|| members.iter().find(|m| m.name == name))
}

pub(super) fn full_name(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        (only, "") | ("", only) => only.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

/// The columns that there were, in their order, then the new ones.
pub(super) fn fields(members: &[Member], before: &[Field]) -> Vec<Field> {
    let mut fields: Vec<Field> = before
        .iter()
        .filter_map(|field| {
            let member = members.iter().find(|m| m.name == field.name)?;
            member.field(Some(&field.ty))
        })
        .collect();
    let new = members
        .iter()
        .filter(|m| before.iter().all(|f| f.name != m.name));
    fields.extend(new.filter_map(|m| m.field(None)));
    fields
}
