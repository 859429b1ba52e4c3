//! Values that others got wrong on the way from JSON to a column: right in type and value for readers that share no
//! code with us.

use super::*;

/// As producers write them: the text, not what a JSON library makes of it.
const RECORDS: [&str; 5] = [
    r#"{"id": 1, "small": 0.0001, "wide": "0.000000000000000001", "moment": "2026-03-29T01:30:00.123456+02:00", "local": "2026-03-29T01:30:00.5", "key": "67E55044-10B1-426F-9247-BB680E5FE0C8"}"#,
    r#"{"id": 2, "small": -5e-4, "wide": 1.5E+3, "moment": "2026-03-28T23:30:00.000001Z", "local": "1969-12-31 23:59:59.999999", "key": "67e5504410b1426f9247bb680e5fe0c8"}"#,
    r#"{"id": 3, "small": 1.2e1, "wide": 12345678901234567890.123456789012345678, "moment": "1969-12-31T16:00:00.25-08:00", "local": "2026-01-01T00:00:00", "key": "00000000-0000-0000-0000-000000000000"}"#,
    r#"{"id": 4, "small": "-0.0100", "wide": -1e-18, "moment": "2026-06-01T12:00:00+0530", "local": "2026-01-01T00:00:00.000001", "key": "ffffffff-ffff-ffff-ffff-ffffffffffff"}"#,
    r#"{"id": 5, "small": null, "moment": null, "local": null, "key": null}"#,
];

// T22
#[tokio::test]
async fn decimals_timestamps_and_uuids_have_their_type_and_every_digit_for_other_readers()
-> Result<()> {
    for catalog in [Catalog::Rest, Catalog::Glue] {
        let fields = json!([
            {"name": "id", "type": "long"},
            {"name": "small", "type": "decimal(9,4)"},
            {"name": "wide", "type": "decimal(38,18)"},
            {"name": "moment", "type": "timestamptz", "encoding": "Iso8601"},
            {"name": "local", "type": "timestamp", "encoding": "Iso8601"},
            {"name": "key", "type": "uuid"},
        ]);
        let sink = TableSink::new(catalog, 1).await?;
        let sink = sink.set("/schema/fields", fields);
        let records = RECORDS.map(|text| Record::new(0, text));
        sink.topic.produce(records).await?;
        sink.catch_up().await?;

        let types = sink
            .select(
                "DISTINCT typeof(small), typeof(wide), typeof(moment), typeof(local), typeof(key)",
            )
            .await?;
        assert_eq!(
            types,
            [[
                json!("DECIMAL(9,4)"),
                json!("DECIMAL(38,18)"),
                json!("TIMESTAMP WITH TIME ZONE"),
                json!("TIMESTAMP"),
                json!("UUID"),
            ]]
        );
        let wanted = [
            json!([
                "0.0001",
                "0.000000000000000001",
                "2026-03-28 23:30:00.123456+00",
                "2026-03-29 01:30:00.5",
                "67e55044-10b1-426f-9247-bb680e5fe0c8"
            ]),
            json!([
                "-0.0005",
                "1500.000000000000000000",
                "2026-03-28 23:30:00.000001+00",
                "1969-12-31 23:59:59.999999",
                "67e55044-10b1-426f-9247-bb680e5fe0c8"
            ]),
            json!([
                "12.0000",
                "12345678901234567890.123456789012345678",
                "1970-01-01 00:00:00.25+00",
                "2026-01-01 00:00:00",
                "00000000-0000-0000-0000-000000000000"
            ]),
            json!([
                "-0.0100",
                "-0.000000000000000001",
                "2026-06-01 06:30:00+00",
                "2026-01-01 00:00:00.000001",
                "ffffffff-ffff-ffff-ffff-ffffffffffff"
            ]),
            json!([null, null, null, null, null]),
        ];
        let found = sink
            .select("small::VARCHAR, wide::VARCHAR, moment::VARCHAR, local::VARCHAR, key::VARCHAR WHERE true ORDER BY id")
            .await?;
        assert_eq!(json!(found), json!(wanted), "DuckDB, {catalog:?}");

        let code = "
import uuid
def text(value):
    return None if value is None else str(uuid.UUID(bytes=value) if isinstance(value, bytes) else value)
rows = sorted(table.scan().to_arrow().to_pylist(), key=lambda row: row['id'])
result = {
    'types': [str(table.schema().find_type(name)) for name in ('small', 'wide', 'moment', 'local', 'key')],
    'rows': [[text(row[name]) for name in ('small', 'wide', 'moment', 'local', 'key')] for row in rows],
}
";
        let read = sink.python(code).await?;
        let types = json!([
            "decimal(9, 4)",
            "decimal(38, 18)",
            "timestamptz",
            "timestamp",
            "uuid"
        ]);
        assert_eq!(read["types"], types);
        let rows = read["rows"].as_array().context("rows")?;
        for (row, wanted) in rows.iter().zip(&wanted) {
            assert_eq!(row[0], wanted[0]);
            assert_eq!(exponent_free(&row[1]), wanted[1]);
            assert_eq!(same_moment(&row[2]), same_moment(&wanted[2]));
            assert_eq!(same_moment(&row[3]), same_moment(&wanted[3]));
            assert_eq!(row[4], wanted[4]);
        }
        assert_eq!(rows.len(), wanted.len());
        sink.assert_rows_once().await?;
    }
    Ok(())
}

/// Python writes the least decimals as `1E-18`.
fn exponent_free(text: &Value) -> Value {
    match text.as_str() {
        Some("1E-18") => json!("0.000000000000000001"),
        Some("-1E-18") => json!("-0.000000000000000001"),
        _ => text.clone(),
    }
}

/// Without the zeros that the one reader writes and the other does not.
fn same_moment(text: &Value) -> Value {
    let Some(text) = text.as_str() else {
        return Value::Null;
    };
    let (moment, zone) = match text.find('+') {
        Some(at) => (&text[..at], "Z"),
        None => (text, ""),
    };
    let moment = match moment.contains('.') {
        true => moment.trim_end_matches('0').trim_end_matches('.'),
        false => moment,
    };
    json!(format!("{moment}{zone}"))
}
