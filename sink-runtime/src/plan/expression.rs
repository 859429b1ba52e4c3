//! `partitionBy` and `sortOrder`: transforms of columns as text. Pure.

use super::columns::{is_scalar, type_name};
use super::{PartitionField, PartitionTransform, SortField};
use crate::schema::Type;

/// How an expression is written, for remedies.
const FORMS: &str = "write a column, or year(c), month(c), day(c), hour(c), bucket(n, c), truncate(n, c) or void(c)";

/// `hour(ts)`, `bucket(16, c) as b`, `c`.
pub(super) fn partition(text: &str) -> Result<PartitionField, String> {
    let (expression, name) = match split_word(text, " as ") {
        Some((_, "")) => return Err("give a name after \"as\"".to_owned()),
        Some((expression, name)) => (expression, Some(name.to_owned())),
        None => (text, None),
    };
    let (column, transform) = transform(expression)?;
    Ok(PartitionField {
        column,
        transform,
        name,
    })
}

/// `c`, `c desc`, `hour(ts) asc nulls last`. Nulls stand as Iceberg has it where nothing is said: first when ascending,
/// last when descending.
pub(super) fn sort(text: &str) -> Result<SortField, String> {
    let mut rest = text.trim();
    let mut nulls_first = None;
    for (suffix, first) in [(" nulls first", true), (" nulls last", false)] {
        if let Some(head) = strip_suffix_ignoring_case(rest, suffix) {
            (rest, nulls_first) = (head.trim_end(), Some(first));
        }
    }
    let mut descending = None;
    for (suffix, down) in [(" desc", true), (" asc", false)] {
        if descending.is_none()
            && let Some(head) = strip_suffix_ignoring_case(rest, suffix)
        {
            (rest, descending) = (head.trim_end(), Some(down));
        }
    }
    let (column, transform) = transform(rest)
        .map_err(|reason| format!("{reason}; then asc or desc, then nulls first or nulls last"))?;
    let descending = descending.unwrap_or(false);
    Ok(SortField {
        column,
        transform,
        descending,
        nulls_first: nulls_first.unwrap_or(!descending),
    })
}

fn transform(text: &str) -> Result<(String, PartitionTransform), String> {
    let text = text.trim();
    let Some((name, inside)) = text.split_once('(') else {
        return Ok((column(text)?, PartitionTransform::Identity));
    };
    let inside = inside.strip_suffix(')').ok_or(FORMS)?;
    let name = name.trim().to_ascii_lowercase();
    let plain = match name.as_str() {
        "identity" => Some(PartitionTransform::Identity),
        "year" | "years" => Some(PartitionTransform::Year),
        "month" | "months" => Some(PartitionTransform::Month),
        "day" | "days" | "date" => Some(PartitionTransform::Day),
        "hour" | "hours" | "date_hour" => Some(PartitionTransform::Hour),
        "void" => Some(PartitionTransform::Void),
        _ => None,
    };
    if let Some(transform) = plain {
        return Ok((column(inside)?, transform));
    }
    let make: fn(u32) -> PartitionTransform = match name.as_str() {
        "bucket" => PartitionTransform::Bucket,
        "truncate" => PartitionTransform::Truncate,
        _ => return Err(FORMS.to_owned()),
    };
    // Iceberg's SQL has the number first, its Kafka Connect sink last: the number is the one made of digits.
    let (first, second) = inside.split_once(',').ok_or(FORMS)?;
    let (width, source) = match (first.trim().parse::<u32>(), second.trim().parse::<u32>()) {
        (Ok(width), _) => (width, second),
        (_, Ok(width)) => (width, first),
        _ => return Err(format!("{name} needs a number: {FORMS}")),
    };
    if width == 0 || width > i32::MAX as u32 {
        return Err(format!("{name} needs a number of 1 to {}", i32::MAX));
    }
    Ok((column(source)?, make(width)))
}

fn column(text: &str) -> Result<String, String> {
    let text = text.trim();
    let quoted = text
        .strip_prefix('`')
        .and_then(|text| text.strip_suffix('`'))
        .filter(|quoted| !quoted.is_empty() && !quoted.contains('`'));
    if let Some(quoted) = quoted {
        return Ok(quoted.to_owned());
    }
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"(),`".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(FORMS.to_owned());
    }
    Ok(text.to_owned())
}

fn split_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    // Lower-casing ASCII alone keeps the positions.
    let at = text.to_ascii_lowercase().rfind(word)?;
    Some((&text[..at], text[at + word.len()..].trim()))
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let lower = text.to_ascii_lowercase();
    lower.strip_suffix(suffix).map(|head| &text[..head.len()])
}

/// Why the transform does not fit a column of the type.
pub(super) fn misfit(transform: PartitionTransform, ty: &Type) -> Option<String> {
    let (fits, wanted) = match transform {
        PartitionTransform::Identity => (is_scalar(ty), "a scalar type"),
        PartitionTransform::Void => (true, ""),
        PartitionTransform::Year | PartitionTransform::Month | PartitionTransform::Day => (
            matches!(ty, Type::Date | Type::Timestamp | Type::Timestamptz),
            "date, timestamp or timestamptz",
        ),
        PartitionTransform::Hour => (
            matches!(ty, Type::Timestamp | Type::Timestamptz),
            "timestamp or timestamptz",
        ),
        PartitionTransform::Bucket(_) => (
            is_scalar(ty) && !matches!(ty, Type::Boolean | Type::Float | Type::Double),
            "any scalar type but boolean, float and double",
        ),
        PartitionTransform::Truncate(_) => (
            matches!(
                ty,
                Type::Int | Type::Long | Type::Decimal { .. } | Type::String | Type::Binary
            ),
            "int, long, decimal, string or binary",
        ),
    };
    (!fits).then(|| {
        format!(
            "the column is of type {}; the transform takes {wanted}",
            type_name(ty)
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use PartitionTransform::{Bucket, Day, Hour, Identity, Truncate, Void};

    #[test]
    fn partition_expressions_are_read_in_every_usual_form() {
        for (text, column, transform, name) in [
            ("country", "country", Identity, None),
            ("hour(ts)", "ts", Hour, None),
            ("Days( ts )", "ts", Day, None),
            ("bucket(16, c)", "c", Bucket(16), None),
            ("bucket(c, 16)", "c", Bucket(16), None),
            ("truncate(4,c) as start", "c", Truncate(4), Some("start")),
            ("void(c)", "c", Void, None),
            ("address.city", "address.city", Identity, None),
            ("`odd name`", "odd name", Identity, None),
        ] {
            let field = partition(text).unwrap();
            assert_eq!(field.column, column, "{text}");
            assert_eq!(field.transform, transform, "{text}");
            assert_eq!(field.name.as_deref(), name, "{text}");
        }
        for text in [
            "",
            "hour ts",
            "hour(ts",
            "bucket(c)",
            "bucket(0, c)",
            "bucket(a, b)",
            "week(ts)",
            "c as ",
            "a b",
        ] {
            assert!(partition(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nulls_stand_where_iceberg_has_them_unless_said_otherwise() {
        for (text, transform, descending, nulls_first) in [
            ("c", Identity, false, true),
            ("c asc", Identity, false, true),
            ("c desc", Identity, true, false),
            ("c DESC NULLS FIRST", Identity, true, true),
            ("c nulls last", Identity, false, false),
            ("bucket(8, c) asc nulls last", Bucket(8), false, false),
        ] {
            let field = sort(text).unwrap();
            assert_eq!(field.column, "c", "{text}");
            assert_eq!(
                (field.transform, field.descending, field.nulls_first),
                (transform, descending, nulls_first),
                "{text}"
            );
        }
        for text in ["", "c down", "c desc asc", "desc nulls", "c nulls"] {
            assert!(sort(text).is_err(), "{text}");
        }
    }
}
