//! Why a record does not become a row. Pure. Messages name the field and the kind of value found, never the value.

use super::RejectClass;
use super::cursor::Syntax;

/// Why a record was left.
#[derive(Debug)]
pub(super) enum Halt {
    Syntax(Syntax),
    Misfit(Box<Misfit>),
}

#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) class: RejectClass,
    /// Innermost first.
    path: Vec<String>,
    what: String,
}

impl From<Syntax> for Halt {
    fn from(error: Syntax) -> Self {
        Self::Syntax(error)
    }
}

impl Halt {
    #[cold]
    pub(super) fn misfit(class: RejectClass, what: impl Into<String>) -> Self {
        Self::Misfit(Box::new(Misfit {
            class,
            path: Vec::new(),
            what: what.into(),
        }))
    }

    #[cold]
    pub(super) fn mismatch(expected: &str, found: &str) -> Self {
        Self::misfit(
            RejectClass::TypeMismatch,
            format!("expected {expected}, found {found}"),
        )
    }

    #[cold]
    pub(super) fn out_of_range(expected: &str) -> Self {
        Self::misfit(
            RejectClass::OutOfRange,
            format!("a number that does not fit {expected}"),
        )
    }

    #[cold]
    pub(super) fn within(mut self, name: &str) -> Self {
        if let Self::Misfit(misfit) = &mut self {
            misfit.path.push(name.into());
        }
        self
    }
}

impl Misfit {
    /// Names of the levels, outermost first.
    pub(super) fn path(&self) -> impl Iterator<Item = &str> {
        self.path.iter().rev().map(String::as_str)
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.what);
        }
        f.write_str("field `")?;
        for (i, name) in self.path.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            f.write_str(name)?;
        }
        write!(f, "`: {}", self.what)
    }
}

#[cold]
pub(super) fn missing(what: &'static str) -> Halt {
    Halt::misfit(RejectClass::MissingField, what)
}

#[cold]
pub(super) fn refuse(key: &[u8], found: &str) -> Halt {
    let name = cut(&String::from_utf8_lossy(key));
    Halt::misfit(
        RejectClass::UnknownField,
        format!("no column for it ({found})"),
    )
    .within(&name)
}

/// Keys are data: a long one is cut before it reaches a log line.
pub(super) fn cut(name: &str) -> String {
    name.chars().take(128).collect()
}
