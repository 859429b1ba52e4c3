//! Which names found columns may have. Pure.
//!
//! Engines do not tell names apart by case, and a table knows its columns by their full names, with dots for levels: there
//! `a.b` is one column, whether `b` stands in `a` or the record has a key with a dot.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::No;
use super::shape::{Member, Said, Shape, full_name};
use crate::schema::arrow::{ELEMENT, KEY, VALUE};
use crate::schema::{Type, is_column_name};

/// Between the levels of a name where dots mean nothing; no column's name holds it.
const APART: char = '\u{1f}';

const BY_CASE: &str = "most engines do not tell names apart by case: rename one";

/// A name that is in use.
struct Used {
    /// As it is written.
    name: String,
    found: bool,
}

pub(super) struct Names<'a> {
    /// A full name belongs to one column, however it is spelled.
    pub(super) whole: bool,
    /// Why the name in lower case, with dots for levels, is not free.
    pub(super) taken: &'a dyn Fn(&str) -> Option<String>,
    /// How full names are spelled that will be columns, whatever records bring: by the name in lower case.
    pub(super) spelled: &'a BTreeMap<String, String>,
}

impl Names<'_> {
    /// # Errors
    /// The first found column that has a name which it cannot have.
    pub(super) fn check(&self, members: &[Member]) -> Result<(), No> {
        let mut used = HashMap::new();
        self.level(&mut used, "", "", members)
    }

    fn below(&self, key: &str, name: &str) -> String {
        let separator = if self.whole { '.' } else { APART };
        match key {
            "" => name.to_lowercase(),
            key => format!("{key}{separator}{}", name.to_lowercase()),
        }
    }

    fn level(
        &self,
        used: &mut HashMap<String, Used>,
        path: &str,
        key: &str,
        members: &[Member],
    ) -> Result<(), No> {
        for member in members {
            let found = member.said == Said::Records;
            if found && !member.has_type() {
                continue;
            }
            let path = full_name(path, &member.name);
            let key = self.below(key, &member.name);
            if found {
                if !is_column_name(&member.name) {
                    let why = "no column can have this name: it is empty, longer than 255 characters, or has control \
                               characters or spaces at its ends";
                    return Err(No::column(path, why));
                }
                let lower = path.to_lowercase();
                if let Some(why) = (self.taken)(&lower) {
                    return Err(No::column(path, why));
                }
                if let Some(spelled) = self.spelled.get(&lower)
                    && *spelled != path
                {
                    let why =
                        format!("the destination is laid out by \"{spelled}\", and {BY_CASE}");
                    return Err(No::column(path, why));
                }
            }
            one(used, &path, key.clone(), found)?;
            self.inside(used, &path, &key, &member.shape)?;
        }
        Ok(())
    }

    fn inside(
        &self,
        used: &mut HashMap<String, Used>,
        path: &str,
        key: &str,
        shape: &Shape,
    ) -> Result<(), No> {
        match shape {
            Shape::Struct(members) => self.level(used, path, key, members),
            Shape::List(element) => {
                let path = full_name(path, ELEMENT);
                let key = self.below(key, ELEMENT);
                one(used, &path, key.clone(), false)?;
                self.inside(used, &path, &key, &element.shape)
            }
            Shape::Given(ty, _) if self.whole => self.given(used, path, key, ty),
            _ => Ok(()),
        }
    }

    fn given(
        &self,
        used: &mut HashMap<String, Used>,
        path: &str,
        key: &str,
        ty: &Type,
    ) -> Result<(), No> {
        let fields: Vec<(&str, Option<&Type>)> = match ty {
            Type::Struct(fields) => fields
                .iter()
                .map(|field| (field.name.as_str(), Some(&field.ty)))
                .collect(),
            Type::List(element) => vec![(ELEMENT, Some(&element.ty))],
            Type::Map(value) => vec![(KEY, None), (VALUE, Some(&value.ty))],
            _ => return Ok(()),
        };
        for (name, ty) in fields {
            let path = full_name(path, name);
            let key = self.below(key, name);
            one(used, &path, key.clone(), false)?;
            if let Some(ty) = ty {
                self.given(used, &path, &key, ty)?;
            }
        }
        Ok(())
    }
}

/// Uses a name. Of two columns with one name the found one is to blame, of two found ones the later.
fn one(used: &mut HashMap<String, Used>, path: &str, key: String, found: bool) -> Result<(), No> {
    match used.entry(key) {
        Entry::Vacant(free) => {
            let name = path.to_owned();
            free.insert(Used { name, found });
            Ok(())
        }
        Entry::Occupied(other) if found || other.get().found => {
            let other = other.get();
            let (name, first) = if found {
                (path, &*other.name)
            } else {
                (&*other.name, path)
            };
            let why = if name == first {
                "a field with dots in its name and a nested one have this name together: rename one"
                    .to_owned()
            } else {
                format!("there is \"{first}\" already, and {BY_CASE}")
            };
            Err(No::column(name.to_owned(), why))
        }
        Entry::Occupied(_) => Ok(()),
    }
}
