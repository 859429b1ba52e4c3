//! What a spec says of columns that are found in records.

use serde_json::{Value, json};

use super::*;
use crate::schema::{Encoding, Field, Type};

#[test]
fn hints_are_columns_and_the_layout_says_what_found_ones_may_be() {
    let hints = json!([
        {"name": "ts", "type": "timestamptz", "encoding": "EpochSeconds", "doc": "when"},
        {"name": "meta.day", "type": "date", "required": true},
        {"name": "meta.`x.y`", "type": "map", "value": {"type": "long"}},
    ]);
    let value = json!({"infer": {"hints": hints, "maxColumns": 7}});
    let local = json!({"rest": null, "local": {"path": "/w"}});
    let plan = valid(patched(
        iceberg(),
        json!({"spec": {"catalog": local, "schema": null, "value": value,
            "partitionBy": ["day(ts)", "bucket(4, id) as Shard", "country", "meta.day"],
            "sortOrder": ["id", "meta.who desc", "ts"], "evolution": {"addColumns": false}}}),
    ));
    let ValueSchema::Inferred(found) = plan.decode.value else {
        panic!("not inferred");
    };
    let map = Type::Map(Box::new(Field::optional("value", Type::Long)));
    let meta = vec![
        Field::required("day", Type::Date),
        Field::optional("x.y", map),
    ];
    let ts = Field {
        encoding: Some(Encoding::EpochSeconds),
        doc: Some("when".to_owned()),
        ..Field::optional("ts", Type::Timestamptz)
    };
    let meta = Field::optional("meta", Type::Struct(meta));
    assert_eq!(found.hints.fields, [ts, meta]);
    assert_eq!((found.max_columns, found.whole_names), (7, true));
    let placed = found.placed.iter();
    let placed: Vec<_> = placed.map(|p| (p.column.as_str(), p.double)).collect();
    assert_eq!(
        placed,
        [("id", false), ("country", true), ("meta.who", true)]
    );
    let taken: Vec<_> = found.taken.keys().map(String::as_str).collect();
    assert_eq!(taken, ["meta_day", "shard", "ts_day"]);

    let plan = valid(patched(
        local_infer(),
        json!({"spec": {"partitioning": [{"column": "ts"}, {"column": "code"}]}}),
    ));
    let ValueSchema::Inferred(found) = plan.decode.value else {
        panic!("not inferred");
    };
    let code = Placed {
        column: "code".to_owned(),
        boolean: true,
        double: false,
    };
    assert_eq!((found.placed, found.whole_names), (vec![code], false));
}

#[test]
fn a_folders_label_is_no_found_columns_name_but_that_of_its_own_column() {
    let folders = json!([
        {"time": {"format": "y=%Y/%m/Tag=%d"}},
        {"column": "code"},
        {"column": "place.city"},
        {"column": "land", "label": "country"},
        {"column": "ts", "label": "Ts"},
    ]);
    let plan = valid(patched(
        local_infer(),
        json!({"spec": {"partitioning": folders}}),
    ));
    let ValueSchema::Inferred(found) = plan.decode.value else {
        panic!("not inferred");
    };
    let taken: Vec<_> = found.taken.keys().map(String::as_str).collect();
    assert_eq!(taken, ["city", "country", "tag", "y"]);
}

fn local_infer() -> Value {
    let hints = json!([{"name": "ts", "type": "date"}]);
    let value = json!({"schema": null, "infer": {"hints": hints}});
    patched(local(), json!({"spec": {"value": value}}))
}
