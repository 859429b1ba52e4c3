//! Records that no folder can hold: each costs itself only, and every other row is there with its values.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_e2e::{Lab, Record, await_until};

use crate::dataset_sink::{DatasetSink, PATIENCE};

/// 2026-07-01T00:00:00Z
const JULY: i64 = 1_782_864_000_000;
const YEAR_10000: i64 = 253_402_300_800_000;

/// An order's columns that make folders, its timestamp, and what the letter says where it has no place.
struct Case {
    texts: [String; 4],
    timestamp: i64,
    letter: Option<&'static str>,
}

fn case(country: &str, timestamp: i64, letter: Option<&'static str>) -> Case {
    let texts = [country, "c", "EUR", "new"].map(str::to_owned);
    Case {
        texts,
        timestamp,
        letter,
    }
}

fn cases() -> Vec<Case> {
    let long = Some("field `country`");
    let deep = Case {
        texts: ["a", "b", "c", "d"].map(|text| text.repeat(230)),
        timestamp: JULY,
        letter: Some("1024 bytes"),
    };
    let beyond = Some("the record's timestamp");
    vec![
        case("ES", JULY, None),
        case(&"x".repeat(300), JULY, long),
        case(&"/".repeat(90), JULY, long),
        // No escapes: DuckDB decodes the keys that this store lists as they are.
        case("ü 中", JULY, None),
        case(&"中".repeat(100), JULY, long),
        case(&"中".repeat(80), JULY, None),
        deep,
        // Microseconds; librdkafka takes 0 for now.
        case("ES", 1_700_000_000_000_000, beyond),
        case("ES", YEAR_10000, beyond),
        case("ES", YEAR_10000 - 1, None),
        case("ES", 1, None),
        case("", JULY, None),
        case("ES", JULY, None),
    ]
}

fn record(id: usize, case: &Case) -> Record {
    let [country, customer, currency, status] = &case.texts;
    let value = json!({"order_id": id, "country": country, "customer": customer,
        "currency": currency, "status": status});
    Record::new(0, value.to_string()).timestamp(case.timestamp)
}

// T26, T30
#[tokio::test]
async fn a_record_without_a_folder_is_a_dead_letter_and_every_other_row_is_there() -> Result<()> {
    let lab = Lab::shared().await?;
    let (topic, dead) = (lab.topic("orders", 1).await?, lab.topic("dead", 1).await?);
    let cases = cases();
    let records = cases.iter().enumerate().map(|(id, case)| record(id, case));
    topic.produce(records.collect::<Vec<_>>()).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "partitioning": [
            {"time": {"granularity": "Year"}},
            {"column": "country", "label": "land"},
            {"column": "customer", "label": "buyer"},
            {"column": "currency", "label": "coin"},
            {"column": "status", "label": "state"},
        ],
        "onError": "DeadLetter",
        "deadLetter": {"topic": dead.name()},
    }));
    sink.catch_up().await?;

    let placed: Vec<_> = cases
        .iter()
        .enumerate()
        .filter(|(_, case)| case.letter.is_none())
        .map(|(id, case)| json!([id, case.texts[0]]))
        .collect();
    let sql = format!(
        "SELECT order_id, country FROM {} ORDER BY order_id",
        sink.table()
    );
    let found = sink.duckdb().await?.query(&sql).await?;
    assert_eq!(json!(found), json!(placed));
    let years = sink
        .value("SELECT list(DISTINCT year::INT ORDER BY year::INT) FROM $t")
        .await?;
    assert_eq!(years, json!([1970, 2026, 9999]));
    let in_folder = "SELECT count(*) FROM $t WHERE land = 'ES' AND country = 'ES'";
    assert_eq!(sink.value(in_folder).await?, json!(4));
    // `verify` knows such records for refused ones.
    sink.assert_once(i64::try_from(placed.len())?).await?;

    let refused: Vec<_> = (0..)
        .zip(&cases)
        .filter(|(_, c)| c.letter.is_some())
        .collect();
    let letters = dead.read_all().await?;
    assert_eq!(letters.len(), refused.len());
    for (letter, (offset, case)) in letters.iter().zip(refused) {
        let header = |name: &str| {
            let found = letter.record.headers.iter().find(|(key, _)| key == name);
            let value = found.and_then(|(_, value)| value.clone());
            value.map(|value| String::from_utf8(value).unwrap())
        };
        assert_eq!(header("tidewater.offset"), Some(offset.to_string()));
        assert_eq!(
            header("tidewater.error.class").as_deref(),
            Some("OutOfRange")
        );
        let message = header("tidewater.error.message").context("a message")?;
        assert!(message.contains(case.letter.unwrap()), "{message}");
        let sent = record(usize::try_from(offset)?, case);
        assert_eq!(letter.record.value, sent.value);
    }
    Ok(())
}

// R12
#[tokio::test]
async fn a_folders_column_that_is_found_may_become_anything_and_the_sink_goes_on() -> Result<()> {
    let lab = Lab::shared().await?;
    let (topic, dead) = (lab.topic("codes", 1).await?, lab.topic("dead", 1).await?);
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "value": {"schema": Value::Null, "infer": {"sampleRecords": 1}},
        "partitioning": [{"column": "code"}],
        "onError": "DeadLetter",
        "deadLetter": {"topic": dead.name()},
    }));
    let tidewater = sink.start()?;
    let codes = [json!(7), json!(1.5), json!(7), json!("x")];
    for (rows, code) in (1..).zip(codes) {
        let value = json!({"id": rows, "code": code}).to_string();
        topic.produce([Record::new(0, value)]).await?;
        sink.await_rows(rows)
            .await
            .with_context(|| tidewater.process().log_tail())?;
    }
    let files = sink.files().await?;
    let folders: Vec<_> = files
        .iter()
        .filter_map(|key| key.split('/').next())
        .collect();
    assert_eq!(folders, ["code=1.5", "code=7", "code=7", "code=x"]);
    // The text of what has none of its own. DuckDB does not read it: it decodes what this store lists.
    let nested = json!({"id": 5, "code": {"a": 1}}).to_string();
    topic.produce([Record::new(0, nested)]).await?;
    await_until(PATIENCE, "a folder of the text", async || {
        let files = sink.files().await?;
        let named = |key: &String| key.starts_with("code=%7B%22a%22%3A1}/");
        Ok(files.iter().any(named))
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    assert_eq!(dead.read_all().await?.len(), 0);
    Ok(())
}
