//! Whether a value that was sent is the one that was read, as far as a column's type and JSON let one say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A column of the destination that a field of the records may be in.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: String,
    /// Of the declared field: how numbers and texts are meant.
    pub(super) encoding: Option<String>,
}

impl Column {
    /// An expression whose answer loses nothing on its way here.
    pub(super) fn as_read(&self) -> String {
        let name = format!("\"{}\"", self.name.replace('"', "\"\""));
        let ty = self.ty.as_str();
        if self.is_nested() {
            format!("to_json({name})::VARCHAR")
        } else if self.is_moment() || ty == "TIME" {
            format!("epoch_us({name})")
        } else if ty == "DATE" {
            format!("epoch_us({name}::TIMESTAMP)")
        } else if ty == "BLOB" {
            format!("lower(hex({name}))")
        } else if ty.starts_with("DECIMAL") || ty == "HUGEINT" || ty == "UUID" {
            format!("{name}::VARCHAR")
        } else {
            name
        }
    }

    fn is_nested(&self) -> bool {
        ["STRUCT", "MAP"]
            .iter()
            .any(|kind| self.ty.starts_with(kind))
            || self.ty.ends_with(']')
    }

    fn is_moment(&self) -> bool {
        self.ty.starts_with("TIMESTAMP")
    }

    pub(super) fn same(&self, sent: &Value, read: &Value, lossless: bool) -> bool {
        let ty = self.ty.as_str();
        if sent.is_null() || read.is_null() {
            return read.is_null() && (sent.is_null() || self.is_nested() && !says_something(sent));
        }
        if self.is_moment() || ty == "DATE" || ty == "TIME" {
            return moment(sent, self.encoding.as_deref()) == read.as_i64();
        }
        if self.is_nested() {
            let read = read
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok());
            return read.is_some_and(|read| alike(sent, &read, lossless));
        }
        match (sent, ty) {
            (Value::String(sent), "VARCHAR") => Some(sent.as_str()) == read.as_str(),
            (Value::String(sent), "BLOB") => bytes(sent, self.encoding.as_deref())
                .is_some_and(|bytes| Some(hex(&bytes).as_str()) == read.as_str()),
            (Value::String(sent), "UUID") => {
                plain_uuid(sent) == plain_uuid(&text(read).unwrap_or_default())
            }
            (Value::Number(sent), "FLOAT") => {
                sent.as_f64().map(|n| n as f32) == read.as_f64().map(|n| n as f32)
            }
            _ => alike(sent, read, lossless),
        }
    }
}

/// Whether they are the same value, as far as JSON without types can say.
fn alike(sent: &Value, read: &Value, lossless: bool) -> bool {
    match (sent, read) {
        (Value::Object(sent), Value::Object(read)) => {
            let kept = read
                .iter()
                .all(|(name, read)| alike(sent.get(name).unwrap_or(&Value::Null), read, lossless));
            let whole = sent
                .iter()
                .all(|(name, sent)| read.contains_key(name) || !says_something(sent));
            kept && (whole || !lossless)
        }
        (Value::Array(sent), Value::Array(read)) => {
            sent.len() == read.len()
                && sent
                    .iter()
                    .zip(read)
                    .all(|(sent, read)| alike(sent, read, lossless))
        }
        (Value::Number(sent), Value::Number(read)) => match (sent.as_i64(), read.as_i64()) {
            (Some(sent), Some(read)) => sent == read,
            _ => sent.as_f64() == read.as_f64(),
        },
        (Value::String(sent), Value::String(read)) => {
            let number = |text: &str| text.parse::<f64>().ok();
            sent == read
                || number(sent).is_some_and(|sent| Some(sent) == number(read))
                || instant(sent).is_some_and(|sent| Some(sent) == instant(read))
        }
        // A number in a column of texts or decimals, and the other way round.
        (Value::Number(_), Value::String(text)) | (Value::String(text), Value::Number(_)) => {
            let number = if sent.is_number() { sent } else { read };
            text.parse::<f64>().ok() == number.as_f64()
        }
        (Value::Bool(sent), Value::String(read)) => sent.to_string() == *read,
        (Value::Object(_) | Value::Array(_), Value::String(read)) => {
            serde_json::from_str::<Value>(read).is_ok_and(|read| alike(sent, &read, lossless))
        }
        (sent, Value::Null) => !says_something(sent),
        _ => sent == read,
    }
}

/// Whether a value has anything in it that a column could hold.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(fields) => fields.values().any(says_something),
        Value::Array(elements) => elements.iter().any(says_something),
        _ => true,
    }
}

/// Microseconds since the epoch; of a time since midnight.
fn moment(sent: &Value, encoding: Option<&str>) -> Option<i64> {
    let whole = |factor: i64| match sent.as_i64() {
        Some(whole) => whole.checked_mul(factor),
        None => sent.as_f64().map(|n| (n * factor as f64).floor() as i64),
    };
    match encoding {
        _ if sent.is_string() => instant(sent.as_str()?),
        Some("EpochDays") => whole(86_400_000_000),
        Some("EpochSeconds") => whole(1_000_000),
        Some("EpochMillis") => whole(1000),
        Some("EpochNanos") => Some(sent.as_i64()?.div_euclid(1000)),
        Some("EpochMicros") => whole(1),
        _ => None,
    }
}

/// Microseconds since the epoch of a text in one of ISO 8601's ways to write a moment, a day or a time of day.
fn instant(text: &str) -> Option<i64> {
    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
    let zoned = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"];
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let zoned = zoned
        .iter()
        .find_map(|form| DateTime::parse_from_str(text, form).ok());
    let zoned = zoned.or_else(|| DateTime::parse_from_rfc3339(text).ok());
    if let Some(moment) = zoned {
        return Some(moment.timestamp_micros());
    }
    let local = local
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()?
            .and_hms_opt(0, 0, 0)
    };
    if let Some(moment) = local.or_else(day) {
        return Some(moment.and_utc().timestamp_micros());
    }
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok()?;
    let seconds = i64::from(time.num_seconds_from_midnight());
    Some(seconds * 1_000_000 + i64::from(time.nanosecond() / 1000))
}

fn bytes(sent: &str, encoding: Option<&str>) -> Option<Vec<u8>> {
    match encoding {
        Some("Utf8") => Some(sent.as_bytes().to_vec()),
        Some("Hex") => (0..sent.len() / 2)
            .map(|i| u8::from_str_radix(sent.get(2 * i..2 * i + 2)?, 16).ok())
            .collect(),
        _ => STANDARD.decode(sent).ok(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain_uuid(text: &str) -> String {
    text.replace('-', "").to_lowercase()
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn column(name: &str, ty: &str, encoding: Option<&str>) -> Column {
    Column {
        name: name.to_owned(),
        ty: ty.to_owned(),
        encoding: encoding.map(str::to_owned),
    }
}

#[test]
fn a_value_is_itself_in_its_columns_type_and_nothing_else() {
    let cases = [
        ("VARCHAR", None, json!("ß\"/"), json!("ß\"/"), json!("ss")),
        ("VARCHAR", None, json!("17"), json!("17"), json!("17.0")),
        ("VARCHAR", None, json!(17), json!("17"), json!("18")),
        (
            "BIGINT",
            None,
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_992_i64),
        ),
        (
            "DECIMAL(12,2)",
            None,
            json!(1.5),
            json!("1.50"),
            json!("1.51"),
        ),
        (
            "FLOAT",
            None,
            json!(0.1),
            json!(f64::from(0.1_f32)),
            json!(0.2),
        ),
        (
            "TIMESTAMP WITH TIME ZONE",
            Some("EpochMillis"),
            json!(1500),
            json!(1_500_000),
            json!(1500),
        ),
        (
            "TIMESTAMP WITH TIME ZONE",
            Some("Iso8601"),
            json!("1970-01-01T02:00:00.5+02:00"),
            json!(500_000),
            json!(7_200_500_000_i64),
        ),
        (
            "DATE",
            None,
            json!("1970-01-02"),
            json!(86_400_000_000_i64),
            json!(0),
        ),
        ("BLOB", None, json!("AP8="), json!("00ff"), json!("ff00")),
        (
            "UUID",
            None,
            json!("67E5504410B1426F9247BB680E5FE0C8"),
            json!("67e55044-10b1-426f-9247-bb680e5fe0c8"),
            json!("00000000-10b1-426f-9247-bb680e5fe0c8"),
        ),
        (
            "STRUCT(a VARCHAR, b VARCHAR)",
            None,
            json!({"b": "b1", "a": "a1"}),
            json!(r#"{"a":"a1","b":"b1"}"#),
            json!(r#"{"a":"b1","b":"a1"}"#),
        ),
        (
            "STRUCT(a VARCHAR)[]",
            None,
            json!([{"a": "x"}, {}]),
            json!(r#"[{"a":"x"},{"a":null}]"#),
            json!(r#"[{"a":"x"}]"#),
        ),
        (
            "MAP(VARCHAR, BIGINT)",
            None,
            json!({"k": 1}),
            json!(r#"{"k":1}"#),
            json!(r#"{"l":1}"#),
        ),
    ];
    for (ty, encoding, sent, right, wrong) in cases {
        let column = column("c", ty, encoding);
        assert!(column.same(&sent, &right, true), "{ty} {sent} {right}");
        assert!(!column.same(&sent, &wrong, true), "{ty} {sent} {wrong}");
        assert!(!column.same(&sent, &Value::Null, true), "{ty} {sent} null");
        assert!(
            !column.same(&Value::Null, &right, true),
            "{ty} null {right}"
        );
        assert!(column.same(&Value::Null, &Value::Null, true), "{ty}");
    }
}

#[test]
fn what_a_nested_value_says_beyond_its_column_counts_where_columns_follow_the_records() {
    let column = column("c", "STRUCT(a VARCHAR)", None);
    let (sent, read) = (json!({"a": "x", "b": "y"}), json!(r#"{"a":"x"}"#));
    assert!(!column.same(&sent, &read, true));
    assert!(column.same(&sent, &read, false));
}
