//! Found columns beside those that a table or a hint names.

use std::collections::BTreeSet;

use super::inference::{feed, shape};
use super::*;
use crate::decode::Decoder;
use crate::plan::{Evolution, Inference, Placed};
use crate::schema::Type;
use crate::schema::iceberg::to_iceberg;
use crate::schema::precedent::Precedent;

const ALL: Evolution = Evolution {
    add_columns: true,
    widen: true,
    make_optional: true,
    recreate_columns: false,
};
const NONE: Evolution = Evolution {
    add_columns: false,
    widen: false,
    make_optional: false,
    recreate_columns: false,
};

fn optional(name: &str, ty: Type) -> Field {
    Field::optional(name, ty)
}

fn long(name: &str) -> Field {
    optional(name, Type::Long)
}

fn record(name: &str, fields: Vec<Field>) -> Field {
    optional(name, Type::Struct(fields))
}

fn list(name: &str, element: Type) -> Field {
    optional(name, Type::List(Box::new(optional("element", element))))
}

/// Of a table; every name is one column's.
fn with(change: impl FnOnce(&mut Inference)) -> Arc<DecodePlan> {
    let mut inference = Inference::new(0, OnConflict::String);
    inference.whole_names = true;
    change(&mut inference);
    Arc::new(plan(ValueSchema::Inferred(inference)))
}

fn table(columns: Vec<Field>, partition_fields: &[&str], may: Evolution) -> Arc<Precedent> {
    let schema = to_iceberg(&Schema { fields: columns }).unwrap();
    let names: Vec<String> = partition_fields.iter().map(|n| (*n).to_owned()).collect();
    Arc::new(Precedent::of(&schema, &names, may))
}

fn beside(plan: &Arc<DecodePlan>, table: &Arc<Precedent>) -> Box<dyn Decoder> {
    let mut decoder = decoder(plan);
    assert!(decoder.adopt(table));
    assert!(!decoder.adopt(&Arc::new((**table).clone())));
    decoder
}

/// The rows that fit, and what is said of the others.
fn outcome(decoder: &mut dyn Decoder, records: &[&str]) -> (Vec<u32>, Vec<String>) {
    let decoded = feed(decoder, &[records]);
    let rejects = decoded.rejects.iter();
    let text = |r: &super::super::Reject| format!("{:?} {}", r.class, r.message);
    (decoded.rows, rejects.map(text).collect())
}

#[track_caller]
fn refused(decoder: &mut dyn Decoder, record: &str, words: &[&str]) {
    let before = decoder.schema();
    let (rows, messages) = outcome(decoder, &[record]);
    assert_eq!((rows, messages.len()), (vec![], 1), "{record}");
    for word in words {
        assert!(messages[0].contains(word), "{record}: {messages:?}");
    }
    assert_eq!(decoder.schema(), before, "{record} taught something");
}

#[test]
fn a_key_that_differs_from_a_column_of_the_table_only_in_case_is_refused_by_itself() {
    let have = table(
        vec![
            long("userId"),
            record("u", vec![long("Id")]),
            list("l", Type::Struct(vec![long("k")])),
        ],
        &[],
        ALL,
    );
    let decoder = &mut *beside(&with(|_| {}), &have);
    for (record, field, other) in [
        (r#"{"userid":2}"#, "userid", "userId"),
        (r#"{"u":{"id":1}}"#, "u.id", "u.Id"),
        (r#"{"U":{"x":1}}"#, "U", "u"),
        (r#"{"l":[{"K":1}]}"#, "l.element.K", "l.element.k"),
        (r#"{"userID":null,"userid":2,"new":1}"#, "userid", "userId"),
    ] {
        let words = [
            "UnknownField",
            &format!("`{field}`"),
            &format!("\"{other}\""),
            "rename one",
        ];
        refused(decoder, record, &words);
    }
    let records = [
        r#"{"userId":1,"userid":null}"#,
        r#"{"u":{"Id":2}}"#,
        r#"{"l":[{"k":3}]}"#,
    ];
    assert_eq!(outcome(decoder, &records), (vec![0, 1, 2], vec![]));
    assert_eq!(
        shape(&decoder.schema()),
        "userId: long, u: {Id: long}, l: [{k: long}]"
    );
}

#[test]
fn a_key_that_differs_only_in_case_from_what_the_layout_names_is_refused_from_the_first_record_on()
{
    let plan = with(|inference| {
        inference.placed = ["country", "place.city"]
            .map(|column| Placed {
                column: column.to_owned(),
                boolean: true,
                double: true,
            })
            .to_vec();
    });
    let decoder = &mut *decoder(&plan);
    for (record, field, named) in [
        (r#"{"id":1,"Country":"ES"}"#, "Country", "country"),
        (r#"{"country":"ES","COUNTRY":"FR"}"#, "COUNTRY", "country"),
        (r#"{"place":{"City":"Rom"}}"#, "place.City", "place.city"),
        (r#"{"Place":{"zip":"1"}}"#, "Place", "place"),
        (r#"{"place.City":"Rom"}"#, "place.City", "place.city"),
    ] {
        let words = [
            "UnknownField",
            &format!("`{field}`"),
            &format!("\"{named}\""),
            "rename one",
        ];
        refused(decoder, record, &words);
    }
    let records = [
        r#"{"country":"ES","Country":null}"#,
        r#"{"place":{"city":"Rom","zip":"1"}}"#,
    ];
    assert_eq!(outcome(decoder, &records), (vec![0, 1], vec![]));
    assert_eq!(
        shape(&decoder.schema()),
        "country: string, place: {city: string, zip: string}"
    );
}

#[test]
fn a_key_with_a_dot_and_a_nested_field_are_one_column_of_a_table_whichever_comes_first() {
    let nested = r#"{"http":{"method":"GET"}}"#;
    let dotted = r#"{"http.method":"GET"}"#;
    let both = r#"{"http.method":"GET","http":{"method":"GET"}}"#;
    let other = r#"{"HTTP.Method":"GET"}"#;
    for (first, then) in [
        (nested, [dotted, both, other]),
        (dotted, [nested, both, other]),
    ] {
        let mut decoder = decoder(&with(|_| {}));
        assert_eq!(outcome(&mut *decoder, &[first]), (vec![0], vec![]));
        for record in then {
            refused(&mut *decoder, record, &["UnknownField", "rename one"]);
        }
    }
    let mut fresh = decoder(&with(|_| {}));
    refused(
        &mut *fresh,
        both,
        &["`http.method`", "with dots in its name and a nested one"],
    );
    let have = table(vec![optional("http.method", Type::String)], &[], ALL);
    refused(
        &mut *beside(&with(|_| {}), &have),
        nested,
        &["`http.method`"],
    );
    // In files of a dataset they are two columns.
    let mut files = decoder(&with(|inference| inference.whole_names = false));
    assert_eq!(
        outcome(&mut *files, &[both, dotted, nested]),
        (vec![0, 1, 2], vec![])
    );
}

#[test]
fn what_was_found_gives_way_to_what_the_table_has() {
    let mut decoder = decoder(&with(|_| {}));
    feed(
        &mut *decoder,
        &[&[r#"{"Id":1,"a.b":2,"n":1.5,"code":17,"p":{"x":true},"new":1}"#]],
    );
    let have = table(
        vec![
            long("id"),
            record("a", vec![long("b")]),
            long("n"),
            optional("code", Type::String),
            record("p", vec![long("x")]),
            long("never"),
        ],
        &[],
        ALL,
    );
    assert!(decoder.adopt(&have));
    let (rows, messages) = outcome(
        &mut *decoder,
        &[
            r#"{"n":2,"code":18,"p":{"x":3},"new":0.5}"#,
            r#"{"n":2.5}"#,
            r#"{"p":{"x":"y"}}"#,
            r#"{"never":true,"more":1}"#,
            r#"{"Id":1}"#,
            r#"{"a.b":1}"#,
            r#"{"code":"z"}"#,
        ],
    );
    assert_eq!(rows, [0, 6], "{messages:?}");
    assert_eq!(
        shape(&decoder.schema()),
        "n: long, code: string, p: {x: long}, new: double"
    );
}

#[test]
fn a_table_gives_its_types_to_what_records_bring() {
    let decimal = Type::Decimal {
        precision: 10,
        scale: 2,
    };
    let have = table(
        vec![
            optional("b", Type::Boolean),
            optional("i", Type::Int),
            optional("f", Type::Float),
            optional("amount", decimal),
            optional("d", Type::Date),
            optional("t", Type::Time),
            optional("ts", Type::Timestamp),
            optional("at", Type::Timestamptz),
            optional("u", Type::Uuid),
            optional("raw", Type::Binary),
            list("days", Type::Date),
            record("in", vec![optional("at", Type::Timestamptz)]),
        ],
        &[],
        NONE,
    );
    let decoder = &mut *beside(&with(|_| {}), &have);
    let decoded = feed(
        decoder,
        &[&[
            r#"{"b":true,"i":7,"f":0.5,"amount":12.50,"d":"2026-01-02","t":"08:00","ts":"2026-01-02T08:00:00","at":"2026-01-02T10:00:00+02:00","u":"67e55044-10b1-426f-9247-bb680e5fe0c8","raw":"aGk=","days":["2026-01-03"],"in":{"at":"2026-01-02T00:00:00Z"}}"#,
        ]],
    );
    let values: Vec<String> = [
        "b", "i", "f", "amount", "d", "t", "ts", "at", "u", "raw", "days", "in",
    ]
    .iter()
    .flat_map(|column| cells(&decoded, column))
    .collect();
    assert_eq!(
        values,
        [
            "true",
            "7",
            "0.5",
            "12.50",
            "2026-01-02",
            "08:00:00",
            "2026-01-02T08:00:00",
            "2026-01-02T08:00:00Z",
            "67e5504410b1426f9247bb680e5fe0c8",
            "6869",
            "[2026-01-03]",
            "{at: 2026-01-02T00:00:00Z}",
        ]
    );
    for (record, class) in [
        (r#"{"b":1}"#, "TypeMismatch"),
        (r#"{"i":3000000000}"#, "OutOfRange"),
        (r#"{"amount":12.505}"#, "OutOfRange"),
        (r#"{"d":"yesterday"}"#, "TypeMismatch"),
        (r#"{"at":"2026-01-02"}"#, "TypeMismatch"),
        (r#"{"u":"x"}"#, "TypeMismatch"),
        (r#"{"days":["x"]}"#, "TypeMismatch"),
        (r#"{"in":{"at":true}}"#, "TypeMismatch"),
        (r#"{"new":1}"#, "allow evolution.addColumns"),
        (r#"{"in":{"new":1}}"#, "`in.new`"),
    ] {
        refused(decoder, record, &[class]);
    }
}

#[test]
fn a_record_that_is_refused_for_a_value_brings_no_column() {
    let have = table(vec![optional("at", Type::Timestamptz)], &[], ALL);
    let decoder = &mut *beside(&with(|_| {}), &have);
    refused(
        decoder,
        r#"{"at":"soon","new":1}"#,
        &["TypeMismatch", "`at`"],
    );
    assert_eq!(shape(&decoder.schema()), "");
    assert_eq!(outcome(decoder, &[r#"{"new":1}"#]), (vec![0], vec![]));
}

#[test]
fn a_column_of_the_table_widens_only_for_a_value_that_needs_it() {
    let columns = || {
        vec![
            Field::required("id", Type::Int),
            optional("n", Type::Int),
            optional("f", Type::Float),
            record("in", vec![Field::required("x", Type::Int)]),
        ]
    };
    let decoder = &mut *beside(&with(|_| {}), &table(columns(), &[], ALL));
    let fits = [r#"{"id":1,"n":2,"f":0.1,"in":{"x":1}}"#];
    assert_eq!(outcome(decoder, &fits), (vec![0], vec![]));
    assert_eq!(
        shape(&decoder.schema()),
        "id: int, n: int, f: float, in: {x: int}"
    );
    assert!(!decoder.schema().field(0).is_nullable());
    let wider = [
        r#"{"id":1,"n":3000000000,"in":{"x":4000000000}}"#,
        r#"{"id":2,"f":1e300}"#,
        r#"{"n":5,"in":{}}"#,
        r#"{"id":3,"n":2.5}"#,
    ];
    let (rows, messages) = outcome(decoder, &wider);
    assert_eq!((rows, messages.len()), (vec![0, 1, 2], 1));
    assert_eq!(
        shape(&decoder.schema()),
        "id: int, n: long, f: double, in: {x: long}"
    );
    assert!(decoder.schema().field(0).is_nullable());

    let decoder = &mut *beside(&with(|_| {}), &table(columns(), &[], NONE));
    assert_eq!(outcome(decoder, &fits), (vec![0], vec![]));
    for record in wider {
        let (rows, messages) = outcome(decoder, &[record]);
        assert_eq!((rows, messages.len()), (vec![], 1), "{record}");
    }
    assert!(!decoder.schema().field(0).is_nullable());
}

#[test]
fn a_partition_fields_name_is_no_columns_in_the_first_record_and_in_any_other() {
    let planned = with(|inference| {
        inference
            .taken
            .insert("shard".to_owned(), "a partition field has it".to_owned());
    });
    let mut fresh = decoder(&planned);
    refused(
        &mut *fresh,
        r#"{"id":1,"Shard":"x"}"#,
        &["`Shard`", "partition field"],
    );
    let have = table(
        vec![long("id"), optional("country", Type::String)],
        &["shard", "country"],
        ALL,
    );
    let decoder = &mut *beside(&with(|_| {}), &have);
    refused(
        decoder,
        r#"{"id":1,"shard":"x"}"#,
        &["UnknownField", "`shard`", "partition field"],
    );
    let records = [r#"{"id":2,"shard":null}"#, r#"{"country":"ES"}"#];
    assert_eq!(outcome(decoder, &records), (vec![0, 1], vec![]));
}

#[test]
fn a_column_of_a_type_that_is_not_written_costs_the_records_that_have_it() {
    use iceberg::spec::{NestedField, PrimitiveType, Schema as IcebergSchema, Type as IcebergType};
    let field =
        |id, name, ty| Arc::new(NestedField::optional(id, name, IcebergType::Primitive(ty)));
    let schema = IcebergSchema::builder()
        .with_fields([
            field(1, "id", PrimitiveType::Long),
            field(2, "mac", PrimitiveType::Fixed(6)),
        ])
        .build()
        .unwrap();
    let have = Arc::new(Precedent::of(&schema, &BTreeSet::new(), ALL));
    let decoder = &mut *beside(&with(|_| {}), &have);
    refused(decoder, r#"{"id":1,"mac":"AAAA"}"#, &["`mac`", "fixed"]);
    assert_eq!(
        outcome(decoder, &[r#"{"id":1,"mac":null}"#]),
        (vec![0], vec![])
    );
}

#[test]
fn the_columns_of_the_table_count_for_the_bound() {
    let columns = |n: usize| (0..n).map(|i| long(&format!("c{i}"))).collect::<Vec<_>>();
    let plan = with(|inference| inference.max_columns = 10);
    // Nine and a nested one.
    let mut full = columns(8);
    full.push(record("p", vec![long("x")]));
    let decoder = &mut *beside(&plan, &table(full, &[], ALL));
    for record in [r#"{"one more":1}"#, r#"{"p":{"y":1}}"#] {
        let words = [
            "UnknownField",
            "10 columns",
            "value.infer.maxColumns",
            "map",
        ];
        refused(decoder, record, &words);
    }
    let nulls: Vec<String> = (0..50).map(|i| format!("\"n{i}\":null")).collect();
    let nulls = format!("{{\"c3\":1,{}}}", nulls.join(","));
    assert_eq!(
        outcome(decoder, &[&nulls, r#"{"p":{"x":1}}"#]),
        (vec![0, 1], vec![])
    );

    let decoder = &mut *beside(&plan, &table(columns(9), &[], ALL));
    assert_eq!(
        outcome(decoder, &[&nulls, r#"{"last":1}"#]),
        (vec![0, 1], vec![]),
        "what has no type is no column"
    );
    refused(decoder, r#"{"one more":1}"#, &["10 columns"]);
    // One that has room for one takes it whatever it could not take before.
    let decoder = &mut *beside(&plan, &table(columns(9), &[], ALL));
    refused(decoder, r#"{"last":1,"one more":1}"#, &["10 columns"]);
    assert_eq!(outcome(decoder, &[r#"{"last":1}"#]), (vec![0], vec![]));
    // What another worker added meanwhile takes the place of what was found here.
    let mut others = columns(9);
    others.push(long("other"));
    assert!(decoder.adopt(&table(others, &[], ALL)));
    refused(decoder, r#"{"last":1}"#, &["10 columns"]);
}

#[test]
fn a_column_that_the_destination_turns_down_is_refused_from_then_on() {
    let mut decoder = decoder(&with(|_| {}));
    feed(&mut *decoder, &[&[r#"{"a":1,"b":2,"p":{"x":1}}"#]]);
    assert!(decoder.forbid("p.x", "it cannot be"));
    assert!(
        !decoder.forbid("p.x", "it cannot be"),
        "twice changes nothing"
    );
    assert!(!decoder.forbid("", "nobody knows which"));
    assert_eq!(
        outcome(&mut *decoder, &[r#"{"a":1,"b":2}"#]),
        (vec![0], vec![])
    );
    refused(
        &mut *decoder,
        r#"{"a":1,"p":{"x":1}}"#,
        &["UnknownField", "`p.x`", "it cannot be"],
    );
}

fn hints() -> Vec<Field> {
    vec![
        Field {
            encoding: Some(crate::schema::Encoding::EpochSeconds),
            ..optional("ts", Type::Timestamptz)
        },
        record(
            "meta",
            vec![optional("day", Type::Date), optional("who", Type::String)],
        ),
        optional(
            "attributes",
            Type::Map(Box::new(optional("value", Type::String))),
        ),
        Field::required("id", Type::Int),
    ]
}

#[test]
fn a_hinted_column_is_there_from_the_first_and_takes_what_a_declared_one_takes() {
    let plan = with(|inference| inference.hints.fields = hints());
    let mut decoder = decoder(&plan);
    assert_eq!(decoder.schema().fields().len(), 4);
    let decoded = feed(
        &mut *decoder,
        &[&[
            r#"{"id":1,"ts":1760000000,"meta":{"day":"2026-01-02","x":true},"free":1}"#,
            r#"{"id":2,"attributes":{"k1":"v","k2":null},"free":0.5}"#,
            r#"{"id":3,"ts":"2026-01-02T00:00:00Z"}"#,
            r#"{"id":3,"attributes":{"k":1}}"#,
            r#"{"id":3,"meta":{"who":7}}"#,
            r#"{"id":3,"meta":"x"}"#,
            r#"{"id":3000000000}"#,
            r#"{"ts":1}"#,
            r#"{"id":4,"ID":1}"#,
            r#"{"id":4,"free":"text"}"#,
        ]],
    );
    assert_eq!(decoded.rows, [0, 1, 9]);
    assert_eq!(
        cells(&decoded, "ts"),
        ["2025-10-09T08:53:20Z", "NULL", "NULL"]
    );
    assert_eq!(
        shape(&decoded.batch.schema()),
        "ts: Timestamp(µs, \"+00:00\"), meta: {day: Date32, who: string, x: boolean}, \
         attributes: <key: string, value: string>, id: int, free: string"
    );
    // After a restart the table has them too, some of them wider.
    let mut columns = hints();
    columns[3].ty = Type::Long;
    columns.push(optional("free", Type::String));
    let decoder = &mut *beside(&plan, &table(columns, &[], ALL));
    refused(decoder, r#"{"id":3,"meta":{"who":7}}"#, &["TypeMismatch"]);
    refused(
        decoder,
        r#"{"id":3,"ts":"2026-01-02T00:00:00Z"}"#,
        &["TypeMismatch"],
    );
    refused(decoder, r#"{"free":1}"#, &["MissingField"]);
    assert_eq!(
        outcome(decoder, &[r#"{"id":5,"ts":1,"free":8}"#]),
        (vec![0], vec![])
    );
}

#[test]
fn what_rows_are_placed_by_is_a_scalar_that_can_be_or_text() {
    let placed = |on_conflict| {
        let mut inference = Inference::new(0, on_conflict);
        let place = |column: &str, any| Placed {
            column: column.to_owned(),
            boolean: any,
            double: any,
        };
        inference.placed = vec![
            place("country", true),
            place("shard", false),
            place("who.city", false),
        ];
        Arc::new(plan(ValueSchema::Inferred(inference)))
    };
    let records = [
        r#"{"country":{"a":1},"shard":1.5,"who":{"city":true,"zip":1.5}}"#,
        r#"{"country":"ES","shard":7,"who":{"city":[1]}}"#,
        r#"{"who":"nobody"}"#,
    ];
    let mut decoder = decoder(&placed(OnConflict::String));
    let decoded = feed(&mut *decoder, &[&records]);
    assert_eq!(decoded.rows, [0, 1]);
    assert_eq!(cells(&decoded, "country"), [r#"{"a":1}"#, "ES"]);
    assert_eq!(cells(&decoded, "shard"), ["1.5", "7"]);
    assert_eq!(
        shape(&decoder.schema()),
        "country: string, shard: string, who: {city: string, zip: double}"
    );
    let mut decoder = super::decoder(&placed(OnConflict::Reject));
    for record in [
        r#"{"shard":1.5}"#,
        r#"{"country":{"a":1}}"#,
        r#"{"who":{"city":true}}"#,
    ] {
        refused(&mut *decoder, record, &["UnknownField"]);
    }
    let fits = [r#"{"shard":7,"country":1.5,"who":{"city":"Rom"}}"#];
    assert_eq!(outcome(&mut *decoder, &fits), (vec![0], vec![]));
}
