//! Columns come, widen and nest while the table is written to; no value is dropped in silence.

use super::*;

impl TableSink {
    /// Values into partition after partition, and into the table.
    async fn take(&self, values: Vec<Value>) -> Result<()> {
        self.produce_values(values).await?;
        self.catch_up().await
    }

    /// The table's columns and types, as DuckDB has them, without the metadata columns.
    async fn columns(&self) -> Result<Vec<(String, String)>> {
        let sql = format!("DESCRIBE SELECT * FROM {}", self.relation().await?);
        let rows = self.lab.duckdb().await?.query(&sql).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let columns = rows.iter().map(|row| (text(&row[0]), text(&row[1])));
        Ok(columns
            .filter(|(name, _)| !name.starts_with("kafka_"))
            .collect())
    }
}

fn typed(columns: &[(&str, &str)]) -> Vec<(String, String)> {
    columns
        .iter()
        .map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_declared_column_that_is_new_or_wider_is_so_in_the_table_from_the_next_run_on()
-> Result<()> {
    let fields = json!([
        {"name": "id", "type": "int", "required": true},
        {"name": "ratio", "type": "float"},
        {"name": "price", "type": "decimal(6,2)"},
    ]);
    let sink = TableSink::new(Catalog::Rest, 1)
        .await?
        .set("/schema/fields", fields);
    sink.take(vec![json!({"id": 1, "ratio": 0.5, "price": 1.25})])
        .await?;
    let wider = json!([
        {"name": "id", "type": "long"},
        {"name": "note", "type": "string", "doc": "free text"},
        {"name": "ratio", "type": "double"},
        {"name": "price", "type": "decimal(12,2)"},
    ]);
    let sink = sink.set("/schema/fields", wider);
    sink.take(vec![
        json!({"id": 3_000_000_000_i64, "ratio": 0.1, "price": 123_456_789.01, "note": "new"}),
        json!({"ratio": 0.25}),
    ])
    .await?;
    assert_eq!(
        sink.columns().await?,
        typed(&[
            ("id", "BIGINT"),
            ("ratio", "DOUBLE"),
            ("price", "DECIMAL(12,2)"),
            ("note", "VARCHAR")
        ])
    );
    assert_eq!(
        sink.select("id, ratio, price, note WHERE true ORDER BY kafka_offset")
            .await?,
        [
            [json!(1), json!(0.5), json!("1.25"), json!(null)],
            [
                json!(3_000_000_000_i64),
                json!(0.1),
                json!("123456789.01"),
                json!("new")
            ],
            [json!(null), json!(0.25), json!(null), json!(null)],
        ]
    );
    let schemas = sink.metadata().await?["schemas"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(schemas, 2, "one schema change");
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_declared_column_that_the_table_may_not_get_stops_the_sink_with_the_remedy() -> Result<()>
{
    let sink = TableSink::new(Catalog::Rest, 1).await?;
    let sink = sink.set("/schema/fields", json!([{"name": "id", "type": "long"}]));
    sink.take(vec![json!({"id": 1})]).await?;
    let sink = sink.set(
        "/schema/fields",
        json!([{"name": "id", "type": "long"}, {"name": "note", "type": "string"}]),
    );
    let sink = sink.set("/evolution", json!({"addColumns": false}));
    let error = sink.fail().await?;
    assert!(
        error.contains("note") && error.contains("allow evolution.addColumns"),
        "{error}"
    );
    let sink = sink.set("/schema/fields", json!([{"name": "id", "type": "boolean"}]));
    let error = sink.fail().await?;
    assert!(
        error.contains("\"id\"") && error.contains("change the field's type"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn columns_found_in_records_make_the_table_and_grow_with_them() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .inferred()
        .set("/partitionBy", json!(["country"]));
    sink.catch_up().await?;
    sink.take((0..20).map(|i| json!({"id": i, "country": "DE"})).collect())
        .await?;
    assert_eq!(
        sink.columns().await?,
        typed(&[("country", "VARCHAR"), ("id", "BIGINT")])
    );
    sink.assert_rows_once().await?;

    sink.take(vec![
        json!({"id": 20, "country": "FR", "vip": true, "score": 1.5}),
        json!({"country": "FR"}),
    ])
    .await?;
    let mut columns = sink.columns().await?;
    columns.sort();
    assert_eq!(
        columns,
        typed(&[
            ("country", "VARCHAR"),
            ("id", "BIGINT"),
            ("score", "DOUBLE"),
            ("vip", "BOOLEAN")
        ])
    );
    let counts = "count(*), count(id), count(vip), count(score), count(*) FILTER (country = 'FR')";
    assert_eq!(
        sink.select(counts).await?,
        [[json!(22), json!(21), json!(1), json!(1), json!(2)]]
    );
    sink.assert_rows_once().await
}

// T20
#[tokio::test]
async fn structs_and_lists_of_structs_gain_fields() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    sink.take(vec![
        json!({"id": 1, "place": {"city": "Bern"}, "lines": [{"sku": "a"}, {"sku": "b"}]}),
        json!({"id": 2, "place": null, "lines": []}),
    ])
    .await?;
    sink.take(vec![
        json!({"id": 3, "place": {"city": "Rom", "zip": "00100"}, "lines": [{"sku": "c", "n": 2}]}),
        json!({"id": 4, "place": null, "lines": [{"n": 3}]}),
        json!({"id": 5, "place": {"zip": "x", "geo": {"lat": 1.5}}}),
    ])
    .await?;
    assert_eq!(
        sink.select("id, place.city, place.zip, place.geo.lat, len(lines), lines[1].sku, lines[1].n WHERE true ORDER BY id").await?,
        [
            json!([1, "Bern", null, null, 2, "a", null]),
            json!([2, null, null, null, 0, null, null]),
            json!([3, "Rom", "00100", null, 1, "c", 2]),
            json!([4, null, null, null, 1, null, 3]),
            json!([5, null, "x", 1.5, null, null, null]),
        ]
        .map(|row| row.as_array().unwrap().clone())
    );
    sink.assert_rows_once().await
}

#[tokio::test]
async fn records_that_look_narrower_after_a_restart_still_fit_the_tables_columns() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    sink.take(vec![
        json!({"id": 1, "ratio": 0.5, "code": "x1"}),
        json!({"id": 2, "ratio": 1, "code": 17}),
    ])
    .await?;
    sink.take(vec![json!({"id": 3, "ratio": 2, "code": 18})])
        .await?;
    assert_eq!(
        sink.select("id, ratio, code WHERE true ORDER BY id")
            .await?,
        [
            [json!(1), json!(0.5), json!("x1")],
            [json!(2), json!(1.0), json!("17")],
            [json!(3), json!(2.0), json!("18")],
        ]
    );
    sink.assert_rows_once().await
}

// R12, T30
#[tokio::test]
async fn a_fraction_in_a_column_of_whole_numbers_is_refused_and_what_follows_is_not() -> Result<()>
{
    let sink = TableSink::new(Catalog::Rest, 1).await?.inferred();
    sink.take(vec![json!({"id": 1, "n": 7})]).await?;
    sink.produce_values(vec![json!({"id": 2, "n": 7.5}), json!({"id": 3, "n": 8})])
        .await?;
    let error = sink.fail().await?;
    assert!(error.contains("offset 1 does not fit"), "{error}");
    assert_eq!(sink.count().await?, 1);

    let letters = sink.lab.topic("letters", 1).await?;
    let sink = sink
        .set("/deadLetter", json!({"topic": letters.name()}))
        .set("/onError", json!("DeadLetter"));
    sink.catch_up().await?;
    assert_eq!(
        sink.select("id, n WHERE true ORDER BY id").await?,
        [[json!(1), json!(7)], [json!(3), json!(8)]]
    );
    assert_eq!(letters.read_all().await?.len(), 1);
    let (whole, report) = sink.look("verify").await?;
    assert!(whole && report.contains("1 records rejected"), "{report}");
    Ok(())
}

#[tokio::test]
async fn partitions_whose_records_look_different_share_one_column() -> Result<()> {
    // Each partition has a worker, and each worker finds its own type first.
    let sink = TableSink::new(Catalog::Rest, 4).await?.inferred();
    let sink = sink.set("/pod", json!({"workers": 4}));
    let code = |i: i64| if i % 4 == 0 { json!("x") } else { json!(i) };
    sink.take(vec![json!({"id": -1, "code": "first"})]).await?;
    sink.take((0..40).map(|i| json!({"id": i, "code": code(i)})).collect())
        .await?;
    let counts =
        "count(*), count(code), count(*) FILTER (code = 'x'), count(*) FILTER (code = '17')";
    assert_eq!(
        sink.select(counts).await?,
        [[json!(41), json!(41), json!(10), json!(1)]]
    );
    sink.assert_rows_once().await
}
