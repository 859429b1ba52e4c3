//! Columns that are found in records, beside those of the table: a record that the table cannot hold costs itself only,
//! in this process and in the next.

use tidewater_e2e::Consumed;

use super::*;

impl TableSink {
    /// Offset and reason of each record that was refused.
    async fn letters(&self, letters: &Topic) -> Result<Vec<(i64, String)>> {
        let text = |consumed: &Consumed, name: &str| {
            let headers = consumed.record.headers.iter();
            let found = headers.filter(|(key, _)| key == name);
            let value = found.filter_map(|(_, value)| value.clone()).next();
            String::from_utf8(value.unwrap_or_default())
        };
        let mut found = Vec::new();
        for letter in letters.read_all().await? {
            let offset = text(&letter, "tidewater.offset")?.parse()?;
            found.push((offset, text(&letter, "tidewater.error.message")?));
        }
        found.sort();
        Ok(found)
    }

    async fn run(&self, values: Vec<Value>) -> Result<()> {
        self.produce_values(values).await?;
        self.catch_up().await
    }
}

#[track_caller]
fn same_reasons(found: &[(i64, String)], wanted: &[(i64, &str)]) {
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for ((offset, reason), (wanted, words)) in found.iter().zip(wanted) {
        assert!(
            offset == wanted && reason.contains(words),
            "offset {offset}: {reason}; wanted {wanted}: {words}"
        );
    }
}

#[tokio::test]
async fn names_that_the_table_cannot_have_cost_their_record_in_every_run_and_late_partitions_wait_for_nothing()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    let letters = sink.lab.topic("letters", 1).await?;
    let hints = json!([
        {"name": "ts", "type": "timestamptz"},
        {"name": "attributes", "type": "map", "value": {"type": "long"}},
    ]);
    let sink = sink
        .set("/value/infer/hints", hints)
        .set("/value/infer/maxColumns", json!(12))
        .set(
            "/partitionBy",
            json!(["country", "day(ts)", "bucket(4, userId) as shard"]),
        )
        .set("/deadLetter", json!({"topic": letters.name()}));
    // Nothing is known of the country yet, but its name.
    sink.run(vec![
        json!({"userId": 0, "Country": "ES"}),
        json!({"userId": 1, "u": {"Id": 1}}),
    ])
    .await?;
    sink.run(vec![
        json!({"userid": 2}),
        json!({"userId": 3, "country": "ES", "ts": "2026-01-02T03:04:05Z", "http": {"method": "GET"}}),
        json!({"userId": 4, "shard": "x"}),
        json!({"userId": 5, "http.method": "PUT"}),
        json!({"userId": 6, "http.host": "a", "http": {"host": "b"}}),
        json!({"u": {"id": 2}}),
    ])
    .await?;
    sink.run(vec![
        json!({"USERID": 7}),
        json!({"userId": 8, "country": 49, "attributes": {"7a1": 1, "7a2": 2}}),
        json!({"userId": 9, "ts": "soon"}),
        json!({"http.method": "GET"}),
        // Two places are left of the twelve.
        json!({"userId": 10, "a": 1, "b": "b"}),
        json!({"userId": 11, "c": 1}),
    ])
    .await?;
    sink.run(vec![
        json!({"userId": 12, "d": 1}),
        json!({"userId": 13, "b": "B"}),
    ])
    .await?;
    let what = "userId, country, ts::VARCHAR, http.method, u.Id, attributes['7a2'], a, b \
                WHERE true ORDER BY kafka_offset";
    let rows = sink.select(what).await?;
    let at = "2026-01-02 03:04:05+00";
    assert_eq!(
        json!(rows),
        json!([
            [1, null, null, null, 1, null, null, null],
            [3, "ES", at, "GET", null, null, null, null],
            [8, "49", null, null, null, 2, null, null],
            [10, null, null, null, null, null, 1, "b"],
            [13, null, null, null, null, null, null, "B"],
        ])
    );
    same_reasons(
        &sink.letters(&letters).await?,
        &[
            (0, "`Country`: the destination is laid out by \"country\""),
            (2, "`userid`: the destination is laid out by \"userId\""),
            (4, "`shard`: the table has a partition field of this name"),
            (5, "`http.method`: a field with dots"),
            (6, "`http.host`: a field with dots"),
            (7, "`u.id`: there is \"u.Id\" already"),
            (8, "`USERID`: the destination is laid out by \"userId\""),
            (10, "field `ts`"),
            (11, "`http.method`: a field with dots"),
            (13, "`c`: one more than the 12 columns"),
            (14, "`d`: one more than the 12 columns"),
        ],
    );
    let (whole, report) = sink.look("verify").await?;
    assert!(whole && report.contains("11 records rejected"), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_table_that_pyiceberg_made_gives_its_types_to_what_records_bring() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    let letters = sink.lab.topic("letters", 1).await?;
    let code = "
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (DateType, DecimalType, FixedType, FloatType, IntegerType, NestedField, StructType,
                             TimestamptzType, UUIDType)
rest = catalog({'kind': 'rest'})
rest.create_namespace(args.split('.')[0])
columns = Schema(
    NestedField(1, 'id', IntegerType(), required=True),
    NestedField(2, 'ts', TimestamptzType()),
    NestedField(3, 'amount', DecimalType(10, 2)),
    NestedField(4, 'd', DateType()),
    NestedField(5, 'ratio', FloatType()),
    NestedField(6, 'device', UUIDType()),
    NestedField(7, 'who', StructType(NestedField(8, 'since', DateType()))),
    NestedField(9, 'mac', FixedType(6)),
    identifier_field_ids=[1],
)
rest.create_table(args, schema=columns, partition_spec=PartitionSpec(PartitionField(2, 1000, DayTransform(), 'ts_day')))
result = True
";
    let pyiceberg = sink.lab.pyiceberg().await?;
    pyiceberg.run(code, json!(sink.table())).await?;
    let sink = sink.set("/deadLetter", json!({"topic": letters.name()}));
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    sink.run(vec![
        json!({"id": 1, "ts": "2026-01-02T03:04:05+01:00", "amount": 12.50, "d": "2026-01-01", "ratio": 0.5,
            "device": uuid, "who": {"since": "2020-02-29", "name": "Ann"}}),
        json!({"id": 2, "amount": 12.505}),
        json!({"id": 3, "ts": "soon"}),
        json!({"ts": "2026-01-02T03:04:05Z"}),
        json!({"id": 5, "mac": "AAAA"}),
        json!({"id": 6, "note": "new", "ratio": 2}),
        json!({"id": 7, "ts_day": 1}),
    ])
    .await?;
    let sink = sink.set("/evolution", json!({"addColumns": false, "widen": false}));
    sink.run(vec![
        json!({"id": 8, "more": 1}),
        json!({"id": 3_000_000_000_i64}),
        json!({"id": 10, "note": "old", "d": "2026-01-03"}),
    ])
    .await?;
    let what = "id, ts::VARCHAR, amount, d::VARCHAR, ratio, device::VARCHAR, who.since::VARCHAR, who.name, note \
                WHERE true ORDER BY kafka_offset";
    assert_eq!(
        json!(sink.select(what).await?),
        json!([
            [
                1,
                "2026-01-02 02:04:05+00",
                "12.50",
                "2026-01-01",
                0.5,
                uuid,
                "2020-02-29",
                "Ann",
                null
            ],
            [6, null, null, null, 2.0, null, null, null, "new"],
            [10, null, null, "2026-01-03", null, null, null, null, "old"],
        ])
    );
    let types = sink
        .python("result = {f.name: [str(f.field_type), f.required] for f in table.schema().fields}")
        .await?;
    assert_eq!(types["id"], json!(["int", true]));
    assert_eq!(types["ratio"], json!(["float", false]));
    same_reasons(
        &sink.letters(&letters).await?,
        &[
            (1, "field `amount`"),
            (2, "field `ts`"),
            (3, "field `id`"),
            (4, "`mac`: the table's column is of type fixed"),
            (6, "`ts_day`: the table has a partition field"),
            (
                7,
                "`more`: the table has no such column: allow evolution.addColumns",
            ),
            (8, "field `id`"),
        ],
    );
    let (whole, report) = sink.look("verify").await?;
    assert!(whole && report.contains("7 records rejected"), "{report}");
    Ok(())
}
