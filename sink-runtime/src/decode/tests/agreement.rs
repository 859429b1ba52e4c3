//! The two decoders agree with each other on every input, and with `serde_json` on what is JSON and what it says.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::schema::{Encoding, Type};

fn fields(required: bool) -> Vec<Field> {
    let point = Type::Struct(vec![
        Field::required("x", Type::Long),
        Field::optional("y", Type::String),
    ]);
    vec![
        Field {
            required,
            ..Field::optional("id", Type::Long)
        },
        Field::optional("name", Type::String),
        Field::optional("amount", Type::Double),
        Field::optional(
            "price",
            Type::Decimal {
                precision: 12,
                scale: 2,
            },
        ),
        Field::optional("ok", Type::Boolean),
        Field::optional("at", Type::Timestamptz),
        Field {
            encoding: Some(Encoding::Hex),
            ..Field::optional("blob", Type::Binary)
        },
        Field::optional("point", point.clone()),
        Field::optional(
            "points",
            Type::List(Box::new(Field::optional("element", point))),
        ),
        Field::optional(
            "map",
            Type::Map(Box::new(Field::optional("value", Type::Int))),
        ),
        Field::optional("a longer name than two words of eight bytes", Type::Int),
    ]
}

const KEYS: [&str; 15] = [
    "id",
    "name",
    "amount",
    "price",
    "ok",
    "at",
    "blob",
    "point",
    "points",
    "map",
    "a longer name than two words of eight bytes",
    "unknown",
    "na\\u006de",
    "",
    "ключ",
];

const NUMBERS: [&str; 26] = [
    "0",
    "-0",
    "7",
    "-12",
    "12345678",
    "123456789",
    "1760000000000",
    "123456789012345678",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999999999",
    "0.5",
    "817.31",
    "-0.01",
    "817.310",
    "1.005",
    "3.141592653589793238",
    "1e3",
    "1E-2",
    "1.5e+2",
    "2e0",
    "9007199254740993",
    "9007199254740993.0",
    "0.000000000000000001",
    "12345678.12345678",
];

const STRINGS: [&str; 20] = [
    "",
    "a",
    "katya.horvat-07475",
    "exactly8",
    "exactly sixteen.",
    "żółć 🦆 żółć 🦆",
    "tab\\tnewline\\n",
    "\\\"quoted\\\"",
    "\\u00e9\\ud83e\\udd86",
    "\\ud83e",
    "\\udd86",
    "\\x",
    "2025-10-09T08:53:20.000Z",
    "2025-10-09T08:53:20Z",
    "2025-10-09T10:53:20.123456789+02:00",
    "2025-02-30T00:00:00Z",
    "2025-10-09T08:53:20.1234567890Z",
    "deadbeef",
    "817.31",
    "\u{1}",
];

const BROKEN: [&str; 12] = [
    "01", "1.", ".5", "-", "+1", "1e", "tru", "nul", "NaN", "'a'", "\"open", "\u{a0}",
];

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        2 => Just("null".to_owned()),
        2 => select(vec!["true".to_owned(), "false".to_owned()]),
        6 => select(NUMBERS.to_vec()).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|n| n.to_string()),
        2 => any::<f64>()
            .prop_filter("JSON has no such numbers", |n| n.is_finite())
            .prop_map(|n| format!("{n:?}")),
        2 => (0u64..1_000_000, 0usize..6).prop_map(|(n, digits)| format!("{n}.{n:0digits$}")),
        6 => select(STRINGS.to_vec()).prop_map(|s| format!("\"{s}\"")),
        1 => (0usize..300).prop_map(|n| format!("\"{}\"", "x".repeat(n))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..3), space()).prop_map(|(items, space)| {
                format!("[{space}{}]", items.join(&format!("{space},")))
            }),
            (vec((select(vec!["x", "y", "k"]), inner), 0..3), space())
                .prop_map(|(members, space)| object(&members, &space)),
        ]
    })
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(""),
        1 => Just(" "),
        1 => Just("\r\n\t"),
    ]
    .prop_map(str::to_owned)
}

fn object(members: &[(&str, String)], space: &str) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{space}\"{key}\":{space}{value}{space}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A value that fits the column, most of the time.
fn fitting(key: &'static str) -> BoxedStrategy<String> {
    let number = select(NUMBERS.to_vec()).prop_map(str::to_owned);
    let string = select(STRINGS.to_vec()).prop_map(|s| format!("\"{s}\""));
    match key {
        "id" => any::<i64>().prop_map(|n| n.to_string()).boxed(),
        "name" => string.boxed(),
        "amount" => number.boxed(),
        "price" => (0..99_999_999_i64)
            .prop_map(|n| format!("{}.{:02}", n / 100, n % 100))
            .boxed(),
        "ok" => select(vec!["true", "false"])
            .prop_map(str::to_owned)
            .boxed(),
        "at" => prop_oneof![
            (0..4_000_000_000_000_i64).prop_map(|n| n.to_string()),
            Just("\"2025-10-09T08:53:20.000Z\"".to_owned()),
            Just("\"2025-10-10T08:53:20\"".to_owned()),
        ]
        .boxed(),
        "blob" => Just("\"00ff\"".to_owned()).boxed(),
        "point" => Just(r#"{"x":1,"y":"z"}"#.to_owned()).boxed(),
        "points" => Just(r#"[{"y":"z","x":1}, null]"#.to_owned()).boxed(),
        "map" => Just(r#"{"a":1,"b":null}"#.to_owned()).boxed(),
        _ => value().boxed(),
    }
}

fn member() -> impl Strategy<Value = (&'static str, String)> {
    select(KEYS.to_vec()).prop_flat_map(|key| {
        prop_oneof![8 => fitting(key), 1 => value(), 1 => select(BROKEN.to_vec()).prop_map(str::to_owned)]
            .prop_map(move |value| (key, value))
    })
}

/// Records that mostly follow one of a few shapes.
fn shaped() -> impl Strategy<Value = String> {
    select(vec![
        vec!["id", "name", "amount", "at"],
        vec!["id", "at", "name", "amount"],
        vec!["id", "price", "ok", "point", "map"],
        vec!["id", "unknown", "points", "blob"],
        vec!["id", "a longer name than two words of eight bytes", "name"],
    ])
    .prop_flat_map(|keys| {
        let members: Vec<_> = keys
            .into_iter()
            .map(|key| {
                prop_oneof![12 => fitting(key), 1 => value()].prop_map(move |value| (key, value))
            })
            .collect();
        (members, space()).prop_map(|(members, space)| object(&members, &space))
    })
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        8 => shaped(),
        4 => (vec(member(), 0..8), space()).prop_map(|(members, space)| object(&members, &space)),
        1 => value(),
    ];
    let change = prop_oneof![
        12 => Just(None),
        1 => (any::<prop::sample::Index>(), any::<u8>(), 0u8..4).prop_map(Some),
    ];
    (text, change).prop_map(|(text, change)| {
        let mut bytes = text.into_bytes();
        if let Some((index, byte, how)) = change {
            let at = index.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.extend_from_slice(b" \n"),
            }
        }
        bytes
    })
}

/// `None` where `serde_json` cannot judge: its numbers are bounded.
fn judged(record: &[u8]) -> Option<Result<serde_json::Value, ()>> {
    match serde_json::from_slice(record) {
        Ok(value) => Some(Ok(value)),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(_) => Some(Err(())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_decoders_give_the_same_columns_rows_and_rejects(
        records in vec(record(), 1..30),
        required in any::<bool>(),
        refuse in any::<bool>(),
    ) {
        let unknown = if refuse { UnknownFields::Reject } else { UnknownFields::Ignore };
        decode(&declared(fields(required), unknown), &raw(records));
    }

    #[test]
    fn both_decoders_infer_the_same(records in vec(record(), 1..20), reject in any::<bool>()) {
        let on_conflict = if reject { OnConflict::Reject } else { OnConflict::String };
        let plan = inferred(on_conflict);
        let batch = raw(&records);
        let decoded = decode(&plan, &batch);
        if on_conflict == OnConflict::String {
            for reject in &decoded.rejects {
                let judged = judged(&records[reject.row as usize]);
                prop_assert!(
                    !matches!(judged, Some(Ok(serde_json::Value::Object(_)))),
                    "every object fits: {reject:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_json_and_what_is_not_is_as_serde_json_says(records in vec(record(), 1..20)) {
        let decoded = decode(&declared(vec![], UnknownFields::Ignore), &raw(&records));
        let classes: BTreeMap<u32, RejectClass> = classes(&decoded).into_iter().collect();
        for (row, record) in records.iter().enumerate() {
            let expected = match judged(record) {
                None => continue,
                Some(Err(())) => Some(RejectClass::Malformed),
                Some(Ok(serde_json::Value::Object(_))) => None,
                Some(Ok(_)) => Some(RejectClass::NotARecord),
            };
            let found = classes.get(&(row as u32)).copied();
            prop_assert_eq!(found, expected, "{}", String::from_utf8_lossy(record));
        }
    }

    #[test]
    fn values_are_those_that_serde_json_reads(records in vec(record(), 1..20)) {
        let decoded = decode(&declared(fields(false), UnknownFields::Ignore), &raw(&records));
        let (ids, names, amounts, oks) = (
            cells(&decoded, "id"),
            cells(&decoded, "name"),
            cells(&decoded, "amount"),
            cells(&decoded, "ok"),
        );
        for (at, row) in decoded.rows.iter().enumerate() {
            let Some(judged) = judged(&records[*row as usize]) else { continue };
            let value = judged.expect("accepted, so JSON");
            let text = |key: &str| value.get(key).map_or("NULL".into(), |v| match v {
                serde_json::Value::Null => "NULL".into(),
                serde_json::Value::String(s) => s.clone(),
                other => other.to_string(),
            });
            prop_assert_eq!(&names[at], &text("name"));
            prop_assert_eq!(&oks[at], &text("ok"));
            if let Some(id) = value.get("id").and_then(serde_json::Value::as_i64) {
                prop_assert_eq!(&ids[at], &id.to_string());
            }
            if let Some(amount) = value.get("amount").and_then(serde_json::Value::as_f64) {
                // serde_json without `float_roundtrip` may be off by one unit in the last place.
                let ours: f64 = amounts[at].parse().unwrap();
                prop_assert!((ours - amount).abs() <= amount.abs() * f64::EPSILON, "{ours} {amount}");
            }
        }
    }

    #[test]
    fn doubles_are_correctly_rounded(number in prop_oneof![
        any::<f64>().prop_filter("finite", |n| n.is_finite()),
        (-1_000_000i64..1_000_000, 0i32..12).prop_map(|(n, e)| n as f64 / 10f64.powi(e)),
    ], digits in 0usize..20) {
        let plan = declared(vec![Field::optional("v", Type::Double)], UnknownFields::Ignore);
        let texts = [format!("{number:?}"), format!("{number:.digits$}")];
        let records = texts.iter().map(|t| format!("{{\"v\":{t}}}"));
        let tail = ["{\"v\":null}".to_owned(), "{\"filler\":\"filler\"}".to_owned()];
        let decoded = decode(&plan, &raw(records.chain(tail)));
        for (text, cell) in texts.iter().zip(cells(&decoded, "v")) {
            let (expected, found): (f64, f64) = (text.parse().unwrap(), cell.parse().unwrap());
            prop_assert_eq!(expected.to_bits(), found.to_bits(), "{}", text);
        }
    }
}

#[test]
fn truncated_and_mutated_orders_are_never_taken_for_others() {
    let order = br#"{"id":1000000000,"name":"katya.horvat-07475","amount":817.31,"price":817.31,"ok":true,"at":"2025-10-09T08:53:20.000Z","point":{"x":1,"y":"z"}}"#;
    let mut records: Vec<Vec<u8>> = Vec::new();
    for at in 0..order.len() {
        records.push(order.to_vec());
        records.push(order[..at].to_vec());
        for byte in [
            b'"', b'\\', b'}', b',', b' ', b'0', b'9', b'.', b'e', b'-', 0, 0xff,
        ] {
            let mut changed = order.to_vec();
            changed[at] = byte;
            records.push(changed.clone());
            changed.insert(at, byte);
            records.push(changed);
        }
    }
    for fields in [fields(true), fields(false)] {
        decode(&declared(fields, UnknownFields::Ignore), &raw(&records));
    }
    let valid: Vec<Vec<u8>> = records
        .into_iter()
        .filter(|r| std::str::from_utf8(r).is_ok())
        .collect();
    decode(
        &declared(fields(false), UnknownFields::Ignore),
        &raw(&valid),
    );
}

#[test]
fn known_keys_in_new_combinations_are_no_new_records() {
    let known = [
        r#"{"id":1,"name":"a","ok":true}"#,
        r#"{"name":"a","id":1}"#,
        r#"{"id":1}"#,
        r#"{"id":1} "#,
        r#"{}"#,
    ];
    let surprising = [
        r#"{"id":1,"name":"a","id":2}"#,
        r#"{"name":"a","id":1,"name":"b"}"#,
        r#"{"id":1}}"#,
        r#"{"id":1}{"id":1}"#,
        r#"{"id":1} {"id":1}"#,
        r#"{"id":1}  "#,
        r#"{"id":1"#,
        r#"{"id":1,"name":"a\,"ok":true}"#,
        r#"{"id":1,"name":"a\\","ok":true}"#,
        r#"{"id":1,"name":"a\","ok":true}"#,
        r#"{"id":01}"#,
        r#"{"id":-}"#,
        r#"{"id":}"#,
        r#"{"id":1e}"#,
        r#"{"id":123456789012345678901234567890}"#,
        r#"{}{}"#,
        "{\"id\":1,\"name\":\"a\u{0}\",\"ok\":true}",
    ];
    let mut records: Vec<&str> = known.to_vec();
    for record in surprising {
        records.push(record);
        records.extend(known);
    }
    let decoded = decode(
        &declared(fields(false), UnknownFields::Ignore),
        &raw(&records),
    );
    let accepted: Vec<&str> = decoded
        .rows
        .iter()
        .map(|row| records[*row as usize])
        .filter(|record| surprising.contains(record))
        .collect();
    assert_eq!(
        accepted,
        [surprising[0], surprising[1], surprising[5], surprising[8],]
    );
}

#[test]
fn more_keys_than_the_graph_holds_are_still_decoded() {
    let records: Vec<String> = (0..6000)
        .map(|i| format!("{{\"id\":{i},\"unknown_{i}\":[{i}],\"name\":\"n\"}}"))
        .collect();
    let decoded = decode(
        &declared(fields(true), UnknownFields::Ignore),
        &raw(&records),
    );
    assert_eq!(decoded.rows.len(), 6000);
}
