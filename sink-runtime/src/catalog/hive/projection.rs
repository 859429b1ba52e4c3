//! Partitions that readers compute: the table's parameters, by the rules of Athena's partition projection. Pure.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono::format::{Item, Numeric, Pad, StrftimeItems};

use super::PartitionKey;
use crate::layout::hive::escape;

/// What the values of a level of folders are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projected {
    /// Text of a moment, by this strftime format.
    Time { format: String },
    /// Every value.
    List(Vec<String>),
    /// Whole numbers, both ends included.
    Range(i64, i64),
    /// Queries must name the one they want.
    Injected,
}

/// The table's parameters for levels in the order of `keys`.
///
/// # Errors
/// For the level at a place: why readers cannot compute its values, with the remedy.
pub fn parameters(
    keys: &[PartitionKey],
    levels: &[Projected],
    location: &str,
    since: NaiveDate,
) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut template = location.to_owned();
    let mut parameters = BTreeMap::from([("projection.enabled".to_owned(), "true".to_owned())]);
    for (n, (key, level)) in keys.iter().zip(levels).enumerate() {
        template.push_str(&format!("{}${{{}}}/", key.folder, key.name));
        let of_level = match level {
            Projected::Time { format } => time(format, since).map_err(|why| (n, why))?,
            Projected::List(values) => {
                if let Some(value) = values.iter().find(|value| !is_plain(value)) {
                    let why = format!(
                        "\"{value}\" is not written in a folder's name as it is: leave it out, or let queries name the value"
                    );
                    return Err((n, why));
                }
                vec![("type", "enum".to_owned()), ("values", values.join(","))]
            }
            Projected::Range(min, max) => vec![
                ("type", "integer".to_owned()),
                ("range", format!("{min},{max}")),
            ],
            Projected::Injected => vec![("type", "injected".to_owned())],
        };
        for (part, value) in of_level {
            parameters.insert(format!("projection.{}.{part}", key.name), value);
        }
    }
    parameters.insert("storage.location.template".to_owned(), template);
    Ok(parameters)
}

/// Whether a folder's name holds the value as it is, and a list of them can be read back.
fn is_plain(value: &str) -> bool {
    let mut name = String::new();
    escape(value, &mut name);
    name == value && !value.is_empty() && !value.contains(',')
}

/// Units from the longest, with what Java's formats call them, least and greatest value, and the reach of "until
/// tomorrow": folders may be in a zone that is ahead of UTC, which `NOW` is in.
const UNITS: [(Numeric, &str, i64, i64, &str); 5] = [
    (Numeric::Year, "yyyy", 0, 0, "NOW+1YEARS"),
    (Numeric::Month, "MM", 1, 12, "NOW+1MONTHS"),
    (Numeric::Day, "dd", 1, 31, "NOW+1DAYS"),
    (Numeric::Hour, "HH", 0, 23, "NOW+24HOURS"),
    (Numeric::Minute, "mm", 0, 59, "NOW+1440MINUTES"),
];
const UNIT_NAMES: [&str; 5] = ["YEARS", "MONTHS", "DAYS", "HOURS", "MINUTES"];

fn time(format: &str, since: NaiveDate) -> Result<Vec<(&'static str, String)>, String> {
    const REMEDY: &str = "readers cannot compute these folders: use %Y, %m, %d, %H and %M, each folder one of them or all from \
                          the year on, or partitions: Register";
    let mut java = String::new();
    // Before and after the first unit.
    let (mut before, mut after) = (String::new(), String::new());
    let mut units = Vec::new();
    for item in StrftimeItems::new(format) {
        match item {
            Item::Literal(text) | Item::Space(text) => {
                literal(text, &mut java);
                let side = if units.is_empty() {
                    &mut before
                } else {
                    &mut after
                };
                side.push_str(text);
            }
            Item::Numeric(numeric, Pad::Zero) => {
                let unit = UNITS.iter().position(|unit| unit.0 == numeric);
                let unit = unit.ok_or(REMEDY)?;
                java.push_str(UNITS[unit].1);
                units.push(unit);
            }
            _ => return Err(REMEDY.to_owned()),
        }
    }
    let mut sorted = units.clone();
    sorted.sort_unstable();
    if let [unit] = units[..]
        && unit > 0
    {
        let (_, java, min, max, _) = UNITS[unit];
        if before.is_empty() && after.is_empty() {
            return Ok(vec![
                ("type", "integer".to_owned()),
                ("range", format!("{min},{max}")),
                ("digits", java.len().to_string()),
            ]);
        }
        let values = (min..=max).map(|n| format!("{before}{n:02}{after}"));
        let values: Vec<String> = values.collect();
        if values.iter().all(|value| is_plain(value)) {
            return Ok(vec![
                ("type", "enum".to_owned()),
                ("values", values.join(",")),
            ]);
        }
    }
    // From the year down without a gap, each once.
    let finest = sorted.len().checked_sub(1).ok_or(REMEDY)?;
    if sorted.iter().enumerate().any(|(n, unit)| n != *unit) {
        return Err(REMEDY.to_owned());
    }
    let literals = format!("{before}{after}");
    if !literals.is_empty() && !is_plain(&literals) {
        return Err(format!(
            "readers cannot compute these folders: \"{format}\" has characters between its units that folders' names or a \
             range do not hold as they are: use others, or partitions: Register"
        ));
    }
    let first = since.and_hms_opt(0, 0, 0).unwrap_or_default();
    Ok(vec![
        ("type", "date".to_owned()),
        ("format", java),
        (
            "range",
            format!("{},{}", first.format(format), UNITS[finest].4),
        ),
        ("interval", "1".to_owned()),
        ("interval.unit", UNIT_NAMES[finest].to_owned()),
    ])
}

/// In quotes where Java would take letters for a field.
fn literal(text: &str, java: &mut String) {
    if text.contains(|c: char| c.is_ascii_alphabetic() || c == '\'') {
        java.push_str(&format!("'{}'", text.replace('\'', "''")));
    } else {
        java.push_str(text);
    }
}
