//! Partition values as Iceberg's own writers spell them in paths: `created_at_hour=2026-11-21-09`. Readers never
//! parse them; people and lifecycle rules do. So what is too long for a path is cut, and a hash stands for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, SecondsFormat};
use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use twox_hash::XxHash64;

use super::transform::Granularity;
use crate::layout::NAME_LIMIT;

/// Of [`hash`].
const HASH_LENGTH: usize = 16;

/// What a form-encoded text keeps; the space becomes a plus.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'*')
    .remove(b'_')
    .remove(b' ');

/// One directory of a partition's path.
pub(super) fn level(
    name: &str,
    granularity: Option<Granularity>,
    ty: &PrimitiveType,
    value: Option<&Literal>,
) -> String {
    let value = match value {
        Some(Literal::Primitive(value)) => text(granularity, ty, value),
        _ => "null".to_owned(),
    };
    bounded(format!("{}={}", escape(name), escape(&value)))
}

/// The levels in at most `limit` bytes: of those that do not fit, one with a hash of them.
pub(super) fn path(levels: &[String], limit: usize) -> String {
    let mut path = levels.join("/");
    if path.len() <= limit {
        return path;
    }
    let mut kept = 0;
    for level in levels {
        let end = kept + level.len() + 1;
        if end + HASH_LENGTH > limit {
            break;
        }
        kept = end;
    }
    let rest = hash(&path[kept..]);
    path.truncate(kept);
    if kept + HASH_LENGTH <= limit {
        path.push_str(&rest);
    }
    path
}

/// A name that file systems take: the beginning of a longer one, and a hash of all of it.
fn bounded(mut name: String) -> String {
    if name.len() <= NAME_LIMIT {
        return name;
    }
    let tail = hash(&name);
    let mut end = NAME_LIMIT - 1 - HASH_LENGTH;
    while !ends_character(name.as_bytes(), end) {
        end -= 1;
    }
    name.truncate(end);
    name.push('-');
    name.push_str(&tail);
    name
}

/// Whether an escaped name can be cut here: not within an escape, nor between those of one character (`%E4%B8%AD`).
fn ends_character(name: &[u8], end: usize) -> bool {
    let within = name[..end].iter().rev().take(2).any(|byte| *byte == b'%');
    let continued = matches!(name[end..], [b'%', b'8' | b'9' | b'A' | b'B', ..]);
    !within && !continued
}

fn hash(text: &str) -> String {
    format!("{:016x}", XxHash64::oneshot(0, text.as_bytes()))
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED)
        .to_string()
        .replace(' ', "+")
}

fn text(granularity: Option<Granularity>, ty: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    if let (Some(granularity), L::Int(count)) = (granularity, value) {
        return calendar(granularity, *count);
    }
    match (ty, value) {
        (_, L::Boolean(v)) => v.to_string(),
        (T::Date, L::Int(days)) => calendar(Granularity::Day, *days),
        (_, L::Int(v)) => v.to_string(),
        (T::Time, L::Long(micros)) => time(*micros),
        (T::Timestamp, L::Long(micros)) => local(DateTime::from_timestamp_micros(*micros)),
        (T::Timestamptz, L::Long(micros)) => instant(DateTime::from_timestamp_micros(*micros)),
        (T::TimestampNs, L::Long(nanos)) => local(Some(DateTime::from_timestamp_nanos(*nanos))),
        (T::TimestamptzNs, L::Long(nanos)) => instant(Some(DateTime::from_timestamp_nanos(*nanos))),
        (_, L::Long(v)) => v.to_string(),
        (_, L::Float(v)) => v.to_string(),
        (_, L::Double(v)) => v.to_string(),
        (_, L::String(v)) => v.clone(),
        (_, L::Binary(v)) => STANDARD.encode(v),
        (T::Decimal { scale, .. }, L::Int128(v)) => decimal(*v, *scale),
        (_, L::Int128(v)) => v.to_string(),
        (_, L::UInt128(v)) => uuid::Uuid::from_u128(*v).to_string(),
        (_, L::AboveMax | L::BelowMin) => "null".to_owned(),
    }
}

fn calendar(granularity: Granularity, count: i32) -> String {
    let count64 = i64::from(count);
    match granularity {
        Granularity::Year => format!("{:04}", 1970 + count64),
        Granularity::Month => format!(
            "{:04}-{:02}",
            1970 + count64.div_euclid(12),
            count64.rem_euclid(12) + 1
        ),
        Granularity::Day => date(count64),
        Granularity::Hour => {
            format!(
                "{}-{:02}",
                date(count64.div_euclid(24)),
                count64.rem_euclid(24)
            )
        }
    }
}

fn date(days: i64) -> String {
    let epoch = NaiveDate::default();
    let distance = Days::new(days.unsigned_abs());
    let date = match days < 0 {
        true => epoch.checked_sub_days(distance),
        false => epoch.checked_add_days(distance),
    };
    // Beyond the calendar the count itself names the day.
    date.map_or_else(|| days.to_string(), |d| d.to_string())
}

fn time(micros: i64) -> String {
    let nanos = micros.rem_euclid(1_000_000) as u32 * 1000;
    NaiveTime::from_num_seconds_from_midnight_opt(micros.div_euclid(1_000_000) as u32, nanos)
        .map_or_else(|| micros.to_string(), |t| t.to_string())
}

fn local(at: Option<DateTime<chrono::Utc>>) -> String {
    at.map_or_else(|| "null".to_owned(), |at| format!("{:?}", at.naive_utc()))
}

fn instant(at: Option<DateTime<chrono::Utc>>) -> String {
    at.map_or_else(
        || "null".to_owned(),
        |at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}

fn decimal(unscaled: i128, scale: u32) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let scale = scale as usize;
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}
