//! Whole batches: rows, rejects, tombstones, metadata columns.

use arrow::datatypes::DataType;

use super::*;
use crate::schema::Type;

fn id() -> Vec<Field> {
    vec![Field::required("id", Type::Long)]
}

#[test]
fn one_bad_record_costs_only_itself() {
    let mut fields = id();
    fields.push(Field::optional("name", Type::String));
    fields.push(Field::optional(
        "tags",
        Type::List(Box::new(Field::optional("element", Type::String))),
    ));
    let plan = declared(fields, UnknownFields::Ignore);
    let decoded = decode(
        &plan,
        &raw([
            r#"{"id":0,"name":"a","tags":["x"]}"#,
            r#"{"id":1,"name":"bbbbbbbbbbbbbbbbbb","tags":["y","z",3]}"#,
            r#"{"id":2,"name":"c","tags":["w"]}"#,
            r#"{"id":3,"name":"c","tags":["w"]"#,
            "",
            "{}",
            r#"{"name":"d","tags":null,"id":6}"#,
        ]),
    );
    assert_eq!(decoded.rows, [0, 2, 6]);
    assert_eq!(cells(&decoded, "name"), ["a", "c", "d"]);
    assert_eq!(cells(&decoded, "tags"), ["[x]", "[w]", "NULL"]);
    assert_eq!(
        classes(&decoded),
        [
            (1, RejectClass::TypeMismatch),
            (3, RejectClass::Malformed),
            (4, RejectClass::Malformed),
            (5, RejectClass::MissingField),
        ]
    );
}

#[test]
fn a_record_that_is_not_json_is_malformed_whatever_else_is_wrong() {
    let plan = declared(id(), UnknownFields::Reject);
    let decoded = decode(
        &plan,
        &raw([
            r#"{"id":"x","y":1,}"#,
            r#"[1,"#,
            r#"[1,2]"#,
            r#"{"id":1} {"id":2}"#,
        ]),
    );
    assert_eq!(
        classes(&decoded),
        [
            (0, RejectClass::Malformed),
            (1, RejectClass::Malformed),
            (2, RejectClass::NotARecord),
            (3, RejectClass::Malformed),
        ]
    );
}

#[test]
fn a_character_split_between_two_records_makes_neither_valid() {
    let plan = declared(
        vec![Field::optional("s", Type::String)],
        UnknownFields::Ignore,
    );
    let decoded = decode(
        &plan,
        &raw([
            &b"{\"s\":\"ok\"}"[..],
            b"{\"s\":\"\xc3",
            b"\xa9\"}",
            b"{\"s\":\"\xff\"}",
            b"{\"s\":\"\xc3\xa9\"}",
            b"{\"s\":\"a long enough tail\"}",
        ]),
    );
    assert_eq!(decoded.rows, [0, 4, 5]);
    assert!(
        decoded
            .rejects
            .iter()
            .all(|r| r.class == RejectClass::Malformed)
    );
}

#[test]
fn a_duplicate_key_has_its_last_value() {
    let plan = declared(id(), UnknownFields::Ignore);
    let decoded = decode(
        &plan,
        &raw([
            r#"{"id":1}"#,
            r#"{"id":1,"id":2}"#,
            r#"{"id":1,"i\u0064":3}"#,
            r#"{"id":1,"id":"x"}"#,
            r#"{"id":"x","id":1}"#,
            r#"{"id":9,"u":"filler filler"}"#,
        ]),
    );
    assert_eq!(cells(&decoded, "id"), ["1", "2", "3", "9"]);
}

#[test]
fn tombstones_are_skipped_or_refused_by_plan() {
    let batch = raw_with_nulls([
        Some(r#"{"id":1}"#),
        None,
        Some(r#"{"id":2}"#),
        None,
        Some(""),
    ]);
    let mut plan = (*declared(id(), UnknownFields::Ignore)).clone();
    let decoded = decode(&Arc::new(plan.clone()), &batch);
    assert_eq!(decoded.rows, [0, 2]);
    assert_eq!(classes(&decoded), [(4, RejectClass::Malformed)]);

    plan.tombstones = Tombstones::DeadLetter;
    let decoded = decode(&Arc::new(plan), &batch);
    assert_eq!(
        classes(&decoded),
        [
            (1, RejectClass::Tombstone),
            (3, RejectClass::Tombstone),
            (4, RejectClass::Malformed),
        ]
    );
}

#[test]
fn unknown_fields_are_ignored_or_refused_by_plan() {
    let batch = raw([
        r#"{"id":1,"more":{"a":[1,2,"\n"]}}"#,
        r#"{"id":2,"more":{"a":[1,2,"\n"]}}"#,
        r#"{"more":null,"id":3}"#,
        r#"{"id":4,"filler":"filler"}"#,
    ]);
    let decoded = decode(&declared(id(), UnknownFields::Ignore), &batch);
    assert_eq!(cells(&decoded, "id"), ["1", "2", "3", "4"]);
    let decoded = decode(&declared(id(), UnknownFields::Reject), &batch);
    assert!(decoded.rows.is_empty());
    assert!(
        decoded
            .rejects
            .iter()
            .all(|r| r.class == RejectClass::UnknownField)
    );
}

#[test]
fn metadata_columns_hold_what_kafka_knows_of_the_rows_kept() {
    let name = |name: &str| Some(name.to_owned());
    let mut plan = (*declared(id(), UnknownFields::Ignore)).clone();
    plan.metadata = MetadataColumns {
        topic: name("_topic"),
        partition: name("_partition"),
        offset: name("_offset"),
        timestamp: name("_timestamp"),
        timestamp_type: name("_timestamp_type"),
        key: name("_key"),
        headers: name("_headers"),
    };
    let mut batch = raw([
        r#"{"id":1}"#,
        "bad",
        r#"{"id":2}"#,
        r#"{"id":3}"#,
        r#"{"id":4}"#,
    ]);
    batch.timestamps[2] = -1;
    batch.timestamps[4] = i64::MAX;
    let mut keys = Arena::default();
    for key in [Some(&b"a"[..]), Some(b"b"), None, Some(b""), None] {
        keys.push(key);
    }
    batch.keys = Some(keys);
    batch.headers = Some(vec![
        vec![("h".into(), Some(vec![1])), ("h".into(), None)],
        vec![("lost".into(), None)],
        vec![],
        vec![("i".into(), Some(vec![]))],
        vec![],
    ]);
    let plan = Arc::new(plan);
    let decoded = decode(&plan, &batch);
    assert_eq!(cells(&decoded, "_topic"), ["orders", "orders", "orders"]);
    assert_eq!(cells(&decoded, "_partition"), ["3", "3", "3"]);
    assert_eq!(cells(&decoded, "_offset"), ["100", "102", "103"]);
    assert_eq!(
        cells(&decoded, "_timestamp"),
        ["2025-10-09T08:53:20Z", "NULL", "2025-10-09T08:53:20Z"]
    );
    assert_eq!(cells(&decoded, "_timestamp_type"), ["CreateTime"; 3]);
    assert_eq!(cells(&decoded, "_key"), ["61", "NULL", ""]);
    assert_eq!(
        cells(&decoded, "_headers"),
        [
            "[{name: h, value: 01}, {name: h, value: }]",
            "[]",
            "[{name: i, value: }]"
        ]
    );
    assert_eq!(
        classes(&decoded),
        [(1, RejectClass::Malformed), (4, RejectClass::OutOfRange)]
    );
    assert_eq!(decoder(&plan).schema(), decoded.batch.schema());
    assert_eq!(
        decoded.batch.schema().field(6).data_type(),
        &DataType::LargeBinary
    );
}

#[test]
fn an_empty_batch_has_the_schema_and_no_rows() {
    let decoded = decode(
        &declared(id(), UnknownFields::Ignore),
        &raw(std::iter::empty::<&str>()),
    );
    assert_eq!(decoded.batch.num_rows(), 0);
    assert_eq!(decoded.batch.num_columns(), 1);
}

#[test]
fn rows_are_counted_without_columns() {
    let decoded = decode(
        &declared(vec![], UnknownFields::Ignore),
        &raw(["{}", r#"{"a":1}"#]),
    );
    assert_eq!(decoded.batch.num_rows(), 2);
}
