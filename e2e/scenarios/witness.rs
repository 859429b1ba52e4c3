//! The topic as witness: what each row must say, from the bytes that were produced, by a JSON parser that is not ours.
//! Rows are read by DuckDB and compared with it column by column, by name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use tidewater_e2e::{DuckDb, Topic};

use self::values::{Column, says_something, text};

mod values;

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
