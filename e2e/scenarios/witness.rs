//! The topic as witness: what each row must say, from the bytes that were produced, by a JSON parser that is not ours.
//! Rows are read by DuckDB and compared with it column by column, by name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tidewater_e2e::{DuckDb, Topic};

/// Differences that an error names.
const NAMED: usize = 10;

/// Rows of a destination, and how they name where they come from.
pub(crate) struct Rows<'a> {
    pub(crate) duckdb: &'a DuckDb,
    /// What DuckDB reads from.
    pub(crate) relation: String,
    /// Column or constant.
    pub(crate) topic: String,
    pub(crate) partition: &'a str,
    pub(crate) offset: &'a str,
    /// The resource's declared fields; `None` where columns are found in the records.
    pub(crate) fields: Option<&'a Value>,
    /// Also what no transaction has committed.
    pub(crate) uncommitted: bool,
}

/// A column of the destination that a field of the records may be in.
struct Column {
    name: String,
    ty: String,
    /// Of the declared field: how numbers and texts are meant.
    encoding: Option<String>,
}

impl Rows<'_> {
    /// Every row says in every column what its record says in the field of that name, and no field of a record is left
    /// out. Rows of records that retention has removed cannot be compared. Tells how many rows were.
    pub(crate) async fn assert_as_sent(&self, of: &Topic) -> Result<usize> {
        let columns = self.columns().await?;
        let Rows {
            topic,
            partition,
            offset,
            relation,
            ..
        } = self;
        let texts: Vec<_> = columns.iter().map(Column::as_read).collect();
        let sql = format!(
            "SELECT {topic}, {partition}, {offset}{} FROM {relation}",
            texts
                .iter()
                .map(|text| format!(", {text}"))
                .collect::<String>()
        );
        let rows = self.duckdb.query(&sql).await?;
        let mut logs: BTreeMap<String, Log> = BTreeMap::new();
        let (mut differences, mut different, mut compared) = (Vec::new(), 0, 0);
        for row in &rows {
            let [Some(name), Some(partition), Some(offset)] = [
                row[0].as_str().map(str::to_owned),
                text(&row[1]),
                text(&row[2]),
            ] else {
                bail!("a row that does not say where it comes from: {row:?}");
            };
            let at = (partition.parse()?, offset.parse()?);
            if !logs.contains_key(&name) {
                let topic = of.sibling(&name);
                logs.insert(name.clone(), Log::read(&topic, self.uncommitted).await?);
            }
            let log = &logs[&name];
            if at.1 < log.start(at.0) {
                continue;
            }
            compared += 1;
            let found = match log.records.get(&at) {
                None => vec!["there is no such record".to_owned()],
                Some(None) => vec!["the record is no JSON object".to_owned()],
                Some(Some(sent)) => self.differences(&columns, sent, &row[3..], &log.fields),
            };
            different += usize::from(!found.is_empty());
            if !found.is_empty() && differences.len() < NAMED {
                differences.push(format!("{name}-{} at {}: {}", at.0, at.1, found.join("; ")));
            }
        }
        ensure!(
            different == 0,
            "{different} of {compared} rows are not as sent:\n{}",
            differences.join("\n")
        );
        Ok(compared)
    }

    fn differences(
        &self,
        columns: &[Column],
        sent: &Map<String, Value>,
        read: &[Value],
        fields: &BTreeSet<String>,
    ) -> Vec<String> {
        let lossless = self.fields.is_none();
        let mut differences = Vec::new();
        for (column, read) in columns.iter().zip(read) {
            // Kafka's, a folder's, or somebody else's.
            if lossless && !fields.contains(&column.name) {
                continue;
            }
            let sent = sent.get(&column.name).unwrap_or(&Value::Null);
            if !column.same(sent, read, lossless) {
                differences.push(format!("{} is {read} and was sent as {sent}", column.name));
            }
        }
        let known = |name: &str| columns.iter().any(|column| column.name == name);
        if lossless {
            let left_out = sent
                .iter()
                .filter(|(name, value)| !known(name) && says_something(value));
            differences.extend(left_out.map(|(name, _)| format!("{name} has no column")));
        }
        differences
    }

    /// Columns of the destination that fields of the records are in.
    async fn columns(&self) -> Result<Vec<Column>> {
        let sql = format!("DESCRIBE SELECT * FROM {}", self.relation);
        let declared: Option<BTreeMap<String, Option<String>>> = self.fields.map(|fields| {
            let fields = fields.as_array().into_iter().flatten();
            let owned = |value: &Value| value.as_str().map(str::to_owned);
            let encoded = fields.map(|field| {
                let name = owned(&field["name"]).unwrap_or_default();
                (name, owned(&field["encoding"]))
            });
            encoded.collect()
        });
        let mut columns = Vec::new();
        for row in self.duckdb.query(&sql).await? {
            let [Some(name), Some(ty)] = [&row[0], &row[1]].map(Value::as_str) else {
                bail!("a column without a name or type: {row:?}");
            };
            let encoding = match &declared {
                // Kafka's, a folder's, or somebody else's.
                Some(declared) => match declared.get(name) {
                    None => continue,
                    Some(encoding) => encoding.clone(),
                },
                None => None,
            };
            columns.push(Column {
                name: name.to_owned(),
                ty: ty.to_owned(),
                encoding,
            });
        }
        if let Some(declared) = &declared {
            let there = |name: &str| columns.iter().any(|column| column.name == name);
            let missing: Vec<_> = declared.keys().filter(|name| !there(name)).collect();
            ensure!(missing.is_empty(), "no column for the fields {missing:?}");
        }
        Ok(columns)
    }
}

/// Every record of the topic that is no JSON object is a letter in the other topic, once or more, with all that it was
/// sent with; and nothing else is. Tells how many such records there are.
pub(crate) async fn assert_letters(of: &Topic, letters: &Topic) -> Result<usize> {
    let mut wanted = BTreeMap::new();
    for sent in of.read_all().await? {
        let value = sent.record.value.as_deref().unwrap_or_default();
        if serde_json::from_slice::<Map<String, Value>>(value).is_err() {
            wanted.insert((sent.record.partition, sent.offset), sent.record);
        }
    }
    let mut found = BTreeSet::new();
    for letter in letters.read_all().await? {
        let header = |name: &str| -> Option<String> {
            let named = letter.record.headers.iter().find(|(key, _)| key == name);
            String::from_utf8(named?.1.clone()?).ok()
        };
        let number = |name: &str| header(name).and_then(|text| text.parse::<i64>().ok());
        let [Some(partition), Some(offset), Some(timestamp)] = [
            "tidewater.partition",
            "tidewater.offset",
            "tidewater.timestamp",
        ]
        .map(number) else {
            bail!("a letter that does not say where it comes from: {letter:?}");
        };
        let at = (i32::try_from(partition)?, offset);
        let sent = wanted
            .get(&at)
            .with_context(|| format!("a letter of a record that fits: {at:?}"))?;
        let own: Vec<_> = letter
            .record
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with("tidewater."))
            .cloned()
            .collect();
        let key = header("tidewater.key").map(String::into_bytes);
        let told = |name: &str| header(name).is_some_and(|text| !text.is_empty());
        ensure!(
            letter.record.value == sent.value
                && own == sent.headers
                && key == sent.key
                && Some(timestamp) == sent.timestamp
                && header("tidewater.topic").as_deref() == Some(of.name())
                && told("tidewater.error.message"),
            "sent as {sent:?}, and the letter is {letter:?}"
        );
        let class = header("tidewater.error.class");
        ensure!(class.as_deref() == Some("Malformed"), "{class:?}");
        found.insert(at);
    }
    let missing: Vec<_> = wanted.keys().filter(|at| !found.contains(at)).collect();
    ensure!(missing.is_empty(), "no letter of {missing:?}");
    Ok(wanted.len())
}

/// What a topic holds.
struct Log {
    starts: BTreeMap<i32, i64>,
    /// By partition and offset; `None` of what is no JSON object.
    records: BTreeMap<(i32, i64), Option<Map<String, Value>>>,
    /// Of all records.
    fields: BTreeSet<String>,
}

impl Log {
    async fn read(topic: &Topic, uncommitted: bool) -> Result<Log> {
        let read = match uncommitted {
            true => topic.read_uncommitted().await,
            false => topic.read_all().await,
        };
        let mut starts = BTreeMap::new();
        let mut records = BTreeMap::new();
        let mut fields = BTreeSet::new();
        for consumed in read.with_context(|| format!("read topic '{}'", topic.name()))? {
            let partition = consumed.record.partition;
            starts.entry(partition).or_insert(consumed.offset);
            let value = consumed.record.value.as_deref().unwrap_or_default();
            let sent: Option<Map<String, Value>> = serde_json::from_slice(value).ok();
            for name in sent.iter().flat_map(Map::keys) {
                if !fields.contains(name) {
                    fields.insert(name.clone());
                }
            }
            records.insert((partition, consumed.offset), sent);
        }
        Ok(Log {
            starts,
            records,
            fields,
        })
    }

    /// The first record that there is still.
    fn start(&self, partition: i32) -> i64 {
        self.starts.get(&partition).copied().unwrap_or(i64::MAX)
    }
}

impl Column {
    /// An expression whose answer loses nothing on its way here.
    fn as_read(&self) -> String {
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

    fn same(&self, sent: &Value, read: &Value, lossless: bool) -> bool {
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
fn says_something(value: &Value) -> bool {
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

fn text(value: &Value) -> Option<String> {
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
