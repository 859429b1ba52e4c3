//! The two decoders agree with each other on every input, and with `serde_json` on what is JSON and what it says.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use self::oracle::{JUDGED, cell, wanted, wanted_of_found};
use self::records::{fields, record};
use super::*;
use crate::schema::{Type, is_column_name};
use crate::varied::explore;

mod oracle;
mod records;

/// `None` where `serde_json` cannot judge: its numbers are bounded.
fn judged(record: &[u8]) -> Option<Result<serde_json::Value, ()>> {
    match serde_json::from_slice(record) {
        Ok(value) => Some(Ok(value)),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(_) => Some(Err(())),
    }
}

/// Of fields on all levels.
fn names(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| std::iter::once(name.clone()).chain(names(value)))
            .collect(),
        serde_json::Value::Array(items) => items.iter().flat_map(names).collect(),
        _ => Vec::new(),
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
        let judged: Option<Vec<_>> = records.iter().map(|r| judged(r)).collect();
        let Some(judged) = judged else { return Ok(()) };
        let names: Vec<_> = judged.iter().map(|j| j.as_ref().map(names).unwrap_or_default()).collect();
        // A change may have made another column of a known name.
        let mixed_case = names.iter().flatten().any(|name| *name != name.to_lowercase());
        if on_conflict == OnConflict::String && !mixed_case {
            for reject in &decoded.rejects {
                let row = reject.row as usize;
                prop_assert!(
                    !judged[row].as_ref().is_ok_and(serde_json::Value::is_object)
                        || !names[row].iter().all(|name| is_column_name(name)),
                    "every object fits whose fields can be columns: {reject:?}"
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
fn declared_columns_hold_what_other_libraries_read() {
    let plan = declared(fields(false), UnknownFields::Ignore);
    let varied = explore(400, &vec(record(), 1..20), |records, varied| {
        let decoded = decode(&plan, &raw(&records));
        for (at, row) in decoded.rows.iter().enumerate() {
            let Some(Ok(record)) = judged(&records[*row as usize]) else {
                continue;
            };
            for column in JUDGED {
                let value = record.get(column);
                let Some(wanted) = value.and_then(|value| wanted(column, value)) else {
                    continue;
                };
                let array = decoded.batch.column_by_name(column).expect("column");
                prop_assert_eq!(cell(array, at), &wanted[..], "{} of {}", column, record);
                if wanted != "NULL" {
                    varied.met(column);
                }
            }
        }
        Ok(())
    });
    varied.assert_varied(&JUDGED, 30);
}

#[test]
fn found_columns_hold_what_serde_json_reads() {
    let varied = explore(400, &vec(record(), 1..20), |records, varied| {
        let decoded = decode(&inferred(OnConflict::Reject), &raw(&records));
        for (at, row) in decoded.rows.iter().enumerate() {
            let Some(Ok(record)) = judged(&records[*row as usize]) else {
                continue;
            };
            for (name, value) in record.as_object().expect("accepted, so a record") {
                let Some(array) = decoded.batch.column_by_name(name) else {
                    // What is nested may have nothing in it.
                    let nothing = value.is_null() || value.is_array() || value.is_object();
                    prop_assert!(nothing, "{name}: {value}");
                    continue;
                };
                if let Some((ty, wanted)) = wanted_of_found(array.data_type(), value) {
                    prop_assert_eq!(cell(array, at), wanted, "{} of {}", name, record);
                    varied.met(ty);
                }
            }
        }
        Ok(())
    });
    varied.assert_varied(&["long", "boolean", "string"], 100);
}

#[test]
fn truncated_and_mutated_orders_are_never_taken_for_others() {
    let orders = [
        &br#"{"id":1000000000,"name":"katya.horvat-07475","amount":817.31,"price":817.31,"ok":true,"at":"2025-10-09T08:53:20.000Z","point":{"x":1,"y":"z"}}"#[..],
        br#"{"uuid":"67e55044-10b1-426f-9247-bb680e5fe0c8","id":7,"day":"2025-10-09","clock":"08:53:20.5","blob":"00ff","base":"3q2+7w==","ratio":0.5,"wide":{"day":"2025-10-09","name":"n"},"tags":["a",null],"grid":[[1,2],[]],"places":{"a":{"x":1}}}"#,
    ];
    for order in orders {
        mutate(order);
    }
}

fn mutate(order: &[u8]) {
    let mut records: Vec<Vec<u8>> = Vec::new();
    for at in 0..order.len() {
        records.push(order.to_vec());
        records.push(order[..at].to_vec());
        for byte in [
            b'"', b'\\', b'}', b']', b',', b':', b' ', b'0', b'9', b'.', b'e', b'-', 0, 0xff,
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
fn nul_bytes_in_place_of_a_date_are_no_date() {
    let records = [
        &br#"{"name":"n","at":null}"#[..],
        b"{\"name\":\"n\",\"at\":\"\0\0\0\0\0\0\0\0\0\0T08:53:20Z\"}",
        br#"{"name":"n","at":"2025-10-09T08:53:20Z"}"#,
        br#"{"name":"n","at":null,"filler":"filler"}"#,
    ];
    let decoded = decode(
        &declared(fields(false), UnknownFields::Ignore),
        &raw(records),
    );
    assert_eq!(classes(&decoded), [(1, RejectClass::Malformed)]);
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
