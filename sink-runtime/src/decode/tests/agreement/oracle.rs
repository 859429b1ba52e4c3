//! What columns hold of JSON values, as other libraries read them: `serde_json`, `chrono`, `uuid`, `hex`, `base64`.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use serde_json::Value;

/// Columns of each type that is judged.
pub(super) const JUDGED: [&str; 17] = [
    "id",
    "name",
    "price",
    "ok",
    "at",
    "local",
    "since",
    "when",
    "day",
    "days",
    "clock",
    "nanos",
    "uuid",
    "blob",
    "base",
    "bytes",
    super::records::LONG_NAME,
];

/// A cell as text that rounds nothing: numbers in the unit that the column stores, bytes in hex.
pub(super) fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Time64(_) => array
            .as_primitive::<Time64MicrosecondType>()
            .value(row)
            .to_string(),
        DataType::Timestamp(..) => array
            .as_primitive::<TimestampMicrosecondType>()
            .value(row)
            .to_string(),
        DataType::Decimal128(..) => array
            .as_primitive::<Decimal128Type>()
            .value(row)
            .to_string(),
        // Hex for bytes, and the words for booleans and text.
        _ => array_value_to_string(array, row).unwrap(),
    }
}

/// What the cell of a declared column has to be; `None` where it is not judged.
pub(super) fn wanted(column: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("NULL".into()),
        Value::Bool(value) => (column == "ok").then(|| value.to_string()),
        Value::Number(number) => of_number(column, number),
        Value::String(text) => of_text(column, text),
        _ => None,
    }
}

fn of_number(column: &str, number: &serde_json::Number) -> Option<String> {
    match column {
        "price" => hundredths(&number.to_string()),
        "nanos" => Some((number.as_i64()? / 1000).to_string()),
        "id" | "since" | "day" | "days" | super::records::LONG_NAME => {
            Some(number.as_i64()?.to_string())
        }
        _ => None,
    }
}

fn of_text(column: &str, text: &str) -> Option<String> {
    // A leap second is no moment of its own.
    let leaps = text.contains(":60");
    match column {
        "name" => Some(text.to_owned()),
        "bytes" => Some(hex::encode(text)),
        "price" => hundredths(text),
        "at" | "when" if !leaps => {
            let zoned = DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_micros());
            zoned
                .ok()
                .or_else(|| naive(text))
                .map(|micros| micros.to_string())
        }
        "local" if !leaps => naive(text).map(|micros| micros.to_string()),
        "day" => {
            let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(
                day.signed_duration_since(NaiveDate::default())
                    .num_days()
                    .to_string(),
            )
        }
        "clock" if !leaps => {
            let clock = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok()?;
            let since: TimeDelta = clock.signed_duration_since(NaiveTime::MIN);
            Some(since.num_microseconds()?.to_string())
        }
        "uuid" => Some(hex::encode(uuid::Uuid::parse_str(text).ok()?)),
        "blob" => Some(hex::encode(hex::decode(text).ok()?)),
        "base" => {
            let bytes = STANDARD
                .decode(text)
                .or_else(|_| URL_SAFE_NO_PAD.decode(text));
            Some(hex::encode(bytes.ok()?))
        }
        _ => None,
    }
}

fn naive(text: &str) -> Option<i64> {
    let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(at.and_utc().timestamp_micros())
}

/// Of a number of no more than two digits behind its point.
fn hundredths(text: &str) -> Option<String> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{rest:0<2}");
    let plain = rest.len() <= 2 && digits.len() <= 12;
    plain
        .then(|| digits.parse::<i64>().ok())
        .flatten()
        .map(|number| number.to_string())
}

/// The same of a column that was found in the records, whose type says how it is read.
pub(super) fn wanted_of_found(ty: &DataType, value: &Value) -> Option<(&'static str, String)> {
    match (ty, value) {
        (DataType::Int64, Value::Number(number)) => Some(("long", number.as_i64()?.to_string())),
        (DataType::Boolean, Value::Bool(value)) => Some(("boolean", value.to_string())),
        (DataType::Utf8, Value::String(text)) => Some(("string", text.clone())),
        _ => None,
    }
}
