//! Folders by time: formats and their labels. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use tidewater_crds::{Granularity, PartitionTime, TimePartitionSpec};

use super::timezone;
use crate::files::conform::dataset_schema;
use crate::layout::NAME_LIMIT;
use crate::layout::hive::{DEFAULT_PARTITION, HiveSplitter, escape};
use crate::plan::columns::{Columns, type_name};
use crate::plan::problem::Checks;
use crate::plan::{DecodePlan, PartitionExpr, TimeLevel, TimeSource, ValueSchema};
use crate::schema::Type;
use crate::schema::arrow::arrow_schema;

pub(super) fn time(
    checks: &mut Checks,
    columns: &Columns,
    path: &str,
    spec: &TimePartitionSpec,
) -> PartitionExpr {
    let given = [
        ("granularity", spec.granularity.is_some()),
        ("format", spec.format.is_some()),
    ];
    checks.exactly_one(path, &given);
    if spec.column.is_some() && spec.source.is_some() {
        checks.add(
            format!("{path}.source"),
            "",
            "give one of column and source",
        );
    }
    let mut of_dates = false;
    let source = match (&spec.column, spec.source) {
        (Some(column), _) => {
            let field = format!("{path}.column");
            match columns.find_time(checks, &field, column, column) {
                Some(Type::Date) => of_dates = true,
                Some(Type::Timestamp | Type::Timestamptz) => {}
                None if columns.awaits(column) => {
                    let remedy = "no time is found in records, only text and numbers: declare spec.value.schema, or leave the column out for the record's own timestamp";
                    checks.add(field, column, remedy);
                }
                None => {}
                Some(other) => {
                    let remedy = format!(
                        "the column is of type {}: use one of type timestamptz, timestamp or date",
                        type_name(other)
                    );
                    checks.add(field, column, remedy);
                }
            }
            TimeSource::Column(column.clone())
        }
        (None, Some(PartitionTime::WallClock)) => TimeSource::WallClock,
        (None, Some(PartitionTime::RecordTimestamp) | None) => TimeSource::RecordTimestamp,
    };
    let levels = match (&spec.format, spec.granularity) {
        (Some(format), _) => levels(checks, &format!("{path}.format"), format, of_dates),
        (None, Some(granularity)) => {
            if of_dates && granularity == Granularity::Hour {
                let remedy = "a date has no hour: use Day, or a column with a time";
                checks.add(format!("{path}.granularity"), "Hour", remedy);
            }
            down_to(granularity)
        }
        (None, None) => Vec::new(),
    };
    PartitionExpr::Time {
        source,
        timezone: timezone(checks, &format!("{path}.timezone"), &spec.timezone),
        levels,
    }
}

fn down_to(granularity: Granularity) -> Vec<TimeLevel> {
    let count = match granularity {
        Granularity::Year => 1,
        Granularity::Month => 2,
        Granularity::Day => 3,
        Granularity::Hour => 4,
    };
    [
        ("year", "%Y"),
        ("month", "%m"),
        ("day", "%d"),
        ("hour", "%H"),
    ]
    .into_iter()
    .take(count)
    .map(|(label, format)| TimeLevel {
        label: Some(label.to_owned()),
        format: format.to_owned(),
    })
    .collect()
}

fn levels(checks: &mut Checks, field: &str, format: &str, of_dates: bool) -> Vec<TimeLevel> {
    if !format.contains('%') {
        let remedy = "no time in it: use strftime specifiers such as %Y-%m-%d";
        checks.add(field, format, remedy);
    }
    format
        .split('/')
        .map(|folder| {
            if folder.is_empty() {
                let remedy = "remove the empty folder: no slashes at the ends, none doubled";
                checks.add(field, format, remedy);
            } else if StrftimeItems::new(folder).any(|item| matches!(item, Item::Error)) {
                let remedy = "not a strftime format: see %Y %m %d %H %M";
                checks.add(field, folder, remedy);
            } else {
                match rendered(folder, of_dates) {
                    None => {
                        let remedy = "a date has no time of day: use %Y, %m and %d only";
                        checks.add(field, folder, remedy);
                    }
                    Some(name) if name.contains('/') || matches!(name.as_str(), "." | "..") => {
                        let remedy =
                            format!("makes \"{name}\", which is not one folder: use %Y-%m-%d");
                        checks.add(field, folder, remedy);
                    }
                    Some(name) if length(&name) > NAME_LIMIT => {
                        let remedy = "makes a folder's name of more than 255 bytes: shorten it";
                        checks.add(field, folder, remedy);
                    }
                    Some(_) => {}
                }
            }
            let (label, format) = match folder.split_once('=') {
                Some((label, format)) if !label.contains('%') => (Some(label.to_owned()), format),
                _ => (None, folder),
            };
            TimeLevel {
                label,
                format: format.to_owned(),
            }
        })
        .collect()
}

/// The folder of some moment; `None` where the format asks for more than there is.
fn rendered(format: &str, of_dates: bool) -> Option<String> {
    let mut name = String::new();
    if of_dates {
        let date = NaiveDate::from_ymd_opt(2026, 1, 2)?;
        write!(name, "{}", date.format(format)).ok()?;
    } else {
        let moment: DateTime<Utc> = Utc.timestamp_opt(1_767_323_045, 0).single()?;
        write!(name, "{}", moment.format(format)).ok()?;
    }
    Some(name)
}

/// Bytes of it in a path.
fn length(name: &str) -> usize {
    let mut path = String::new();
    escape(name, &mut path);
    path.len()
}

/// Labels become column names of the readers: they must differ, from each other and from the files' own columns.
#[derive(Default)]
pub(super) struct Labels {
    /// In lower case, with what makes it: its field.
    seen: BTreeMap<String, (String, String)>,
}

impl Labels {
    pub(super) fn add(&mut self, checks: &mut Checks, field: &str, label: &str) {
        let illegal = |c: char| c.is_control() || matches!(c, '/' | '=' | '\\');
        let lower = label.to_lowercase();
        if label.is_empty() || label.chars().any(illegal) {
            let remedy = "a label is not empty and has no '/', '=' or control characters";
            checks.add(field, label, remedy);
        } else if length(label) + 1 + DEFAULT_PARTITION.len() > NAME_LIMIT {
            let remedy = "makes a folder's name of more than 255 bytes: shorten it";
            checks.add(field, label, remedy);
        } else if let Entry::Vacant(free) = self.seen.entry(lower) {
            free.insert((field.to_owned(), label.to_owned()));
        } else {
            checks.add(field, label, "two folders have this label: choose another");
        }
    }

    /// Columns that records bring later are not known here: see [`labels`].
    pub(super) fn check_against_files(
        &self,
        checks: &mut Checks,
        exprs: &[PartitionExpr],
        decode: &DecodePlan,
    ) {
        let declared = match &decode.value {
            ValueSchema::Declared { schema, .. } => schema,
            ValueSchema::Inferred(inference) => &inference.hints,
        };
        let columns = dataset_schema(&arrow_schema(declared, &decode.metadata));
        // What cannot make folders is told where it stands.
        let Ok(splitter) = HiveSplitter::new(exprs, &columns) else {
            return;
        };
        for column in splitter.file_schema().fields() {
            let name = column.name();
            if let Some((field, label)) = self.seen.get(&name.to_lowercase()) {
                let remedy = if field.ends_with(".time") {
                    format!(
                        "the files have a column \"{name}\" too, and readers would see one of the two: label the folders \
                         otherwise, with format: \"part_{label}=…\""
                    )
                } else {
                    format!(
                        "the files have a column \"{name}\" too, and readers would see one of the two: give the folder \
                         another label"
                    )
                };
                checks.add(field.as_str(), label, remedy);
            }
        }
    }
}

/// Labels, in lower case, that columns found in records cannot have as their names, and why: all but those of columns that
/// stand in the path under their own.
pub(super) fn labels(exprs: &[PartitionExpr]) -> BTreeMap<String, String> {
    let labels = exprs.iter().flat_map(|expr| match expr {
        PartitionExpr::Time { levels, .. } => {
            levels.iter().filter_map(|l| l.label.as_ref()).collect()
        }
        PartitionExpr::Column { column, label } if label.eq_ignore_ascii_case(column) => Vec::new(),
        PartitionExpr::Column { label, .. } => vec![label],
    });
    let taken = labels.map(|label| {
        let why = format!(
            "a folder of the dataset has the label \"{label}\", and readers would see one of the two: rename the field, or \
             label the folder otherwise"
        );
        (label.to_lowercase(), why)
    });
    taken.collect()
}
