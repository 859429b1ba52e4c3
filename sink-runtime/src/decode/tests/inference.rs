//! Schemas from records: what they start as, and how they widen.

use arrow::datatypes::{DataType, Schema as ArrowSchema};

use super::*;
use crate::decode::Decoder;
use crate::schema::DEEPEST;

/// The default of `value.infer.maxColumns`.
const MAX_FIELDS: usize = 1000;

/// `name: type` of every column.
pub(super) fn shape(schema: &ArrowSchema) -> String {
    fn ty(data_type: &DataType) -> String {
        match data_type {
            DataType::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|f| format!("{}: {}", f.name(), ty(f.data_type())))
                    .collect();
                format!("{{{}}}", fields.join(", "))
            }
            DataType::List(element) => format!("[{}]", ty(element.data_type())),
            DataType::Map(entries, _) => {
                ty(entries.data_type()).replace('{', "<").replace('}', ">")
            }
            DataType::Int32 => "int".into(),
            DataType::Int64 => "long".into(),
            DataType::Float32 => "float".into(),
            DataType::Float64 => "double".into(),
            DataType::Utf8 => "string".into(),
            DataType::Boolean => "boolean".into(),
            other => other.to_string(),
        }
    }
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|f| format!("{}: {}", f.name(), ty(f.data_type())))
        .collect();
    columns.join(", ")
}

/// Batches one after the other; the last one's outcome.
pub(super) fn feed(decoder: &mut dyn Decoder, batches: &[&[&str]]) -> Decoded {
    let mut last = None;
    for records in batches {
        let decoded = decoder.decode(&raw(*records));
        assert_eq!(decoded.batch.schema(), decoder.schema());
        last = Some(decoded);
    }
    last.unwrap()
}

#[test]
fn every_json_kind_has_its_type() {
    let decoded = decode(
        &inferred(OnConflict::String),
        &raw([
            r#"{"l":1,"d":1.5,"b":true,"s":"2025-10-09T08:53:20Z","n":null,"o":{},"a":[],"p":{"x":[{"y":1}]},"big":18446744073709551615}"#,
        ]),
    );
    assert_eq!(
        shape(&decoded.batch.schema()),
        "l: long, d: double, b: boolean, s: string, p: {x: [{y: long}]}, big: string"
    );
}

#[test]
fn columns_widen_and_new_ones_come_last() {
    let mut decoder = decoder(&inferred(OnConflict::String));
    let decoded = feed(
        &mut *decoder,
        &[
            &[r#"{"a":1,"n":null,"p":{"x":1},"e":{},"l":[]}"#],
            &[r#"{"z":true,"a":2}"#],
            &[
                r#"{"a":7}"#,
                r#"{"n":"now","a":1.5}"#,
                r#"{"p":{"w":2,"x":0.5},"e":{"f":1},"l":[{"g":1}]}"#,
                r#"{"l":[{"g":2,"h":[1]}]}"#,
            ],
        ],
    );
    assert_eq!(
        shape(&decoded.batch.schema()),
        "a: double, p: {x: double, w: long}, z: boolean, n: string, e: {f: long}, l: [{g: long, h: [long]}]"
    );
    assert!(decoded.rejects.is_empty());
    assert_eq!(cells(&decoded, "a"), ["7.0", "1.5", "NULL", "NULL"]);
    assert_eq!(
        cells(&decoded, "l"),
        ["NULL", "NULL", "[{g: 1, h: }]", "[{g: 2, h: [1]}]"]
    );
}

#[test]
fn a_null_parent_gains_fields() {
    let mut decoder = decoder(&inferred(OnConflict::Reject));
    let decoded = feed(
        &mut *decoder,
        &[&[r#"{"p":null,"i":1}"#], &[r#"{"p":{"q":{"r":1}}}"#]],
    );
    assert_eq!(shape(&decoded.batch.schema()), "i: long, p: {q: {r: long}}");
}

#[test]
fn conflicts_become_strings_of_the_json_text() {
    let mut decoder = decoder(&inferred(OnConflict::String));
    let decoded = feed(
        &mut *decoder,
        &[
            &[r#"{"v":1,"l":[1]}"#],
            &[
                r#"{"v":1.50,"l":[1.0]}"#,
                r#"{"v":"text"}"#,
                r#"{"v":true,"l":["x",2,null]}"#,
                r#"{"v": {"a" : [1, 2]} }"#,
                r#"{"v":null}"#,
            ],
        ],
    );
    assert_eq!(shape(&decoded.batch.schema()), "v: string, l: [string]");
    assert_eq!(
        cells(&decoded, "v"),
        ["1.50", "text", "true", r#"{"a" : [1, 2]}"#, "NULL"]
    );
    assert_eq!(
        cells(&decoded, "l"),
        ["[1.0]", "NULL", "[x, 2, ]", "NULL", "NULL"]
    );
}

#[test]
fn conflicts_are_refused_where_the_plan_says_so_and_teach_nothing() {
    let mut decoder = decoder(&inferred(OnConflict::Reject));
    let decoded = feed(
        &mut *decoder,
        &[
            &[r#"{"v":1}"#],
            &[
                r#"{"v":"text","new":1}"#,
                r#"{"v":2}"#,
                r#"{"v":{}}"#,
                r#"{"v":2.5}"#,
            ],
        ],
    );
    assert_eq!(shape(&decoded.batch.schema()), "v: double");
    assert_eq!(decoded.rows, [1, 3]);
    assert_eq!(
        classes(&decoded),
        [
            (0, RejectClass::TypeMismatch),
            (2, RejectClass::TypeMismatch)
        ]
    );
}

#[test]
fn shapes_in_turn_do_not_change_the_schema_back_and_forth() {
    let mut decoder = decoder(&inferred(OnConflict::String));
    let one = r#"{"id":1,"amount":1,"who":{"name":"a"}}"#;
    let other = r#"{"amount":2.5,"extra":[{"k":1}],"id":2,"who":{"age":3}}"#;
    feed(&mut *decoder, &[&[one], &[other]]);
    let settled = decoder.schema();
    for _ in 0..5 {
        feed(
            &mut *decoder,
            &[&[one], &[other], &[one, other, one], &["{}"], &[]],
        );
        assert_eq!(decoder.schema(), settled);
    }
    assert_eq!(
        shape(&settled),
        "id: long, amount: double, who: {name: string, age: long}, extra: [{k: long}]"
    );
}

#[test]
fn the_number_of_columns_is_bounded() {
    let mut decoder = decoder(&inferred(OnConflict::String));
    let wide: Vec<String> = (0..MAX_FIELDS).map(|i| format!("\"c{i}\":{i}")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    let decoded = feed(
        &mut *decoder,
        &[
            &[&wide],
            &[r#"{"one more":1}"#, r#"{"c7":1.5}"#, r#"{"one more":null}"#],
        ],
    );
    assert_eq!(decoder.schema().fields().len(), MAX_FIELDS);
    assert_eq!(classes(&decoded), [(0, RejectClass::UnknownField)]);
    assert_eq!(cells(&decoded, "c7"), ["1.5", "NULL"]);
}

#[test]
fn a_record_of_countless_fields_teaches_nothing() {
    let fields: Vec<String> = (0..300_000).map(|i| format!("\"c{i}\":{i}")).collect();
    let decoded = decode(
        &inferred(OnConflict::String),
        &raw([format!("{{{}}}", fields.join(",")), r#"{"a":1}"#.into()]),
    );
    assert_eq!(shape(&decoded.batch.schema()), "a: long");
    assert_eq!(classes(&decoded), [(0, RejectClass::UnknownField)]);
}

#[test]
fn integers_that_no_double_holds_are_kept_as_text_or_refused() {
    let records = [
        r#"{"id":1,"n":0.5}"#,
        r#"{"id":9007199254740993,"n":2}"#,
        r#"{"id":2.5,"n":9007199254740992}"#,
        r#"{"id":-9007199254740993,"n":12345678901234567000}"#,
        r#"{"id":18446744073709551615}"#,
        r#"{"id":1e400}"#,
    ];
    let decoded = decode(&inferred(OnConflict::String), &raw(records));
    assert_eq!(shape(&decoded.batch.schema()), "id: string, n: double");
    assert_eq!(
        cells(&decoded, "id"),
        [
            "1",
            "9007199254740993",
            "2.5",
            "-9007199254740993",
            "18446744073709551615",
            "1e400"
        ]
    );
    assert_eq!(
        cells(&decoded, "n"),
        [
            "0.5",
            "2.0",
            "9007199254740992.0",
            "1.2345678901234567e19",
            "NULL",
            "NULL"
        ]
    );

    let decoded = decode(&inferred(OnConflict::Reject), &raw(records));
    assert_eq!(shape(&decoded.batch.schema()), "id: long, n: double");
    assert_eq!(decoded.rows, [0, 1, 3]);
    let mut decoder = decoder(&inferred(OnConflict::Reject));
    let decoded = feed(&mut *decoder, &[&[r#"{"id":2.5}"#], &records[..3]]);
    assert_eq!(classes(&decoded), [(1, RejectClass::OutOfRange)]);
}

#[test]
fn what_is_nested_deeper_than_a_declared_column_may_be_is_kept_as_text_or_refused() {
    let lists = |depth: usize| format!("{}7{}", "[".repeat(depth), "]".repeat(depth));
    let structs = |depth: usize| format!("{}7{}", r#"{"x":"#.repeat(depth), "}".repeat(depth));
    let deepest = DEEPEST - 1;
    for nest in [&lists as &dyn Fn(usize) -> String, &structs] {
        let records = [
            format!("{{\"v\":{}}}", nest(deepest)),
            format!("{{\"w\":{}}}", nest(deepest + 1)),
            format!("{{\"w\":{}}}", nest(100)),
        ];
        let decoded = decode(&inferred(OnConflict::String), &raw(&records));
        assert_eq!(decoded.rows, [0, 1, 2]);
        let schema = shape(&decoded.batch.schema());
        assert_eq!(schema.matches("long").count(), 1, "{schema}");
        assert_eq!(schema.matches("string").count(), 1, "{schema}");
        assert!(cells(&decoded, "w")[2].contains(&nest(100 - deepest)));
        let decoded = decode(&inferred(OnConflict::Reject), &raw(&records));
        assert_eq!(
            classes(&decoded),
            [
                (1, RejectClass::UnknownField),
                (2, RejectClass::UnknownField)
            ]
        );
    }
}

#[test]
fn names_that_no_declared_column_could_have_make_no_column() {
    let long = "x".repeat(256);
    let records = [
        r#"{"id":1,"p":{"x":1}}"#.to_owned(),
        r#"{"":1}"#.to_owned(),
        r#"{" a":1}"#.to_owned(),
        r#"{"a\u0000":1}"#.to_owned(),
        r#"{"ID":1}"#.to_owned(),
        r#"{"p":{"X":1}}"#.to_owned(),
        r#"{"b":1,"B":1}"#.to_owned(),
        format!("{{\"{long}\":1}}"),
        r#"{"":null,"ID":null,"id":2}"#.to_owned(),
        format!("{{\"{}\":1}}", &long[..255]),
    ];
    let decoded = decode(&inferred(OnConflict::String), &raw(&records));
    assert_eq!(decoded.rows, [0, 8, 9]);
    assert!(
        decoded
            .rejects
            .iter()
            .all(|r| r.class == RejectClass::UnknownField)
    );
    assert_eq!(
        shape(&decoded.batch.schema()),
        format!("id: long, p: {{x: long}}, {}: long", &long[..255])
    );
}

#[test]
fn a_metadata_column_keeps_its_name() {
    let mut plan = (*inferred(OnConflict::String)).clone();
    plan.metadata.topic = Some("topic".into());
    let decoded = decode(
        &Arc::new(plan),
        &raw([
            r#"{"id":1}"#,
            r#"{"id":2,"topic":"x"}"#,
            r#"{"topic":null}"#,
        ]),
    );
    assert_eq!(shape(&decoded.batch.schema()), "id: long, topic: string");
    assert_eq!(cells(&decoded, "topic"), ["orders", "orders"]);
    assert_eq!(classes(&decoded), [(1, RejectClass::UnknownField)]);
}

#[test]
fn broken_records_teach_nothing() {
    let decoded = decode(
        &inferred(OnConflict::String),
        &raw([
            &b"{\"a\":1,\"b\":\"\xff\"}"[..],
            b"{\"c\":1",
            b"[1]",
            b"{\"d\":1}",
        ]),
    );
    assert_eq!(shape(&decoded.batch.schema()), "d: long");
    assert_eq!(decoded.rows, [3]);
}
