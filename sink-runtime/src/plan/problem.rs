//! Problems of a spec, gathered so that all are reported at once. Pure.

use std::fmt;

use crate::errors::{Class, Classified, class};

/// One thing that is wrong with a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Kind and name of the resource; empty while neither is known.
    pub resource: String,
    /// Path of the field, e.g. `spec.source.topics[2]`.
    pub field: String,
    /// What stands there, shortened; empty where nothing does, and never a secret.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.resource.is_empty() {
            write!(f, "{}: ", self.resource)?;
        }
        f.write_str(&self.field)?;
        if !self.value.is_empty() {
            write!(f, " \"{}\"", self.value)?;
        }
        write!(f, ": {}", self.remedy)
    }
}

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanErrors {
    pub problems: Vec<Problem>,
}

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}

impl Classified for PlanErrors {
    fn class(&self) -> Class {
        class::INVALID_SPEC
    }
}

/// Gathers the problems of one resource.
#[derive(Debug, Default)]
pub(super) struct Checks {
    resource: String,
    problems: Vec<Problem>,
    /// Paths whose value was set aside because of its shape: what is said of them later would only confuse.
    damaged: Vec<String>,
}

/// Longest value shown.
const SHOWN: usize = 80;

impl Checks {
    pub(super) fn new(resource: impl Into<String>) -> Self {
        Self {
            resource: resource.into(),
            ..Self::default()
        }
    }

    /// `value` must not be a secret.
    pub(super) fn add(
        &mut self,
        field: impl Into<String>,
        value: impl fmt::Display,
        remedy: impl Into<String>,
    ) {
        let field = field.into();
        if self.is_damaged(&field) {
            return;
        }
        self.problems.push(Problem {
            resource: self.resource.clone(),
            field,
            value: shortened(&value.to_string()),
            remedy: remedy.into(),
        });
    }

    /// Adds a problem of shape; later problems at or below the field are dropped.
    pub(super) fn damage(
        &mut self,
        field: &str,
        value: impl fmt::Display,
        remedy: impl Into<String>,
    ) {
        self.add(field, value, remedy);
        self.damaged.push(field.to_owned());
    }

    fn is_damaged(&self, field: &str) -> bool {
        self.damaged.iter().any(|damaged| {
            field.strip_prefix(damaged.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
            })
        })
    }

    /// Exactly one of the fields below `path` must be given.
    pub(super) fn exactly_one(&mut self, path: &str, fields: &[(&str, bool)]) {
        let given = fields.iter().filter(|(_, given)| *given).count();
        let unclear = fields
            .iter()
            .any(|(name, _)| self.is_damaged(&format!("{path}.{name}")));
        if given == 1 || (given == 0 && unclear) {
            return;
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        let field = format!("{path}.{}", names.first().copied().unwrap_or_default());
        let remedy = format!("give exactly one of {} and {last}", others.join(", "));
        self.add(field, "", remedy);
    }

    /// Seals the gathered problems: `plan` when there are none.
    pub(super) fn finish<T>(self, plan: Option<T>) -> Result<T, Vec<Problem>> {
        match plan {
            Some(plan) if self.problems.is_empty() => Ok(plan),
            _ => Err(self.problems),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

fn shortened(value: &str) -> String {
    let mut shown: String = value
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_field_value_and_remedy() {
        let mut checks = Checks::new("KafkaS3Sink orders");
        checks.add("spec.a", "x\ny", "do this");
        checks.add("spec.b", "", "do that");
        checks.add("spec.c", "z".repeat(200), "shorten it");
        let errors = PlanErrors {
            problems: checks.finish(Some(())).err().unwrap_or_default(),
        };
        let text = errors.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "KafkaS3Sink orders: spec.a \"x y\": do this");
        assert_eq!(lines[1], "KafkaS3Sink orders: spec.b: do that");
        assert!(lines[2].len() < 150 && lines[2].contains('…'));
    }

    #[test]
    fn nothing_is_said_of_a_field_whose_shape_is_wrong_already() {
        let mut checks = Checks::default();
        checks.damage("spec.source.topics", "5", "give a list");
        checks.add("spec.source.topics[0]", "", "hidden");
        checks.add("spec.source.topicsPattern", "", "shown");
        checks.exactly_one("spec.source", &[("topics", false), ("topicPattern", false)]);
        let fields: Vec<String> = checks.problems.into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["spec.source.topics", "spec.source.topicsPattern"]);
    }
}
