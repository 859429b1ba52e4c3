//! Tables that other engines made, and go on writing to, taken over with what they decided.

use super::*;

#[tokio::test]
async fn a_table_that_duckdb_made_is_taken_over_and_both_go_on_writing_to_it() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/createIfMissing", json!(false));
    let (duckdb, table) = (sink.lab.duckdb().await?, sink.table());
    for sql in [
        format!("CREATE SCHEMA ice.{}", sink.namespace),
        format!(
            "CREATE TABLE ice.{table} (order_id BIGINT, country VARCHAR, amount DECIMAL(12,2), \
             created_at TIMESTAMPTZ, remark VARCHAR)"
        ),
        format!(
            "INSERT INTO ice.{table} VALUES (1, 'DE', 1.5, '2026-01-01 00:00:00+00', 'by hand')"
        ),
    ] {
        duckdb.query(&sql).await?;
    }
    sink.produce(200, 1).await?;
    sink.catch_up().await?;
    let insert =
        format!("INSERT INTO ice.{table} (order_id, remark) VALUES (2, 'by hand'), (3, 'by hand')");
    duckdb.query(&insert).await?;
    sink.produce(100, 2).await?;
    sink.catch_up().await?;

    let counts = "count(*), count(remark), count(kafka_offset), count(quantity), \
                  count(DISTINCT (kafka_partition, kafka_offset)) FILTER (kafka_offset IS NOT NULL)";
    let quantities = sink.saying("quantity").await?;
    let wanted = [[
        json!(303),
        json!(3),
        json!(300),
        json!(quantities),
        json!(300),
    ]];
    assert_eq!(sink.select(counts).await?, wanted);
    let attached = format!("SELECT {counts} FROM ice.{table}");
    assert_eq!(duckdb.query(&attached).await?, wanted);
    let read = sink
        .python("result = table.scan().to_arrow().num_rows")
        .await?;
    assert_eq!(read, 303);
    Ok(())
}

#[tokio::test]
async fn verify_goes_by_the_columns_that_readers_see_whatever_the_files_call_them() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    sink.assert_rows_once().await?;
    // Two columns of one type change names. Files are what they were, and say what they said.
    let code = "
for old, new in (('currency', 'aside'), ('status', 'currency'), ('aside', 'status')):
    with table.update_schema() as schema:
        schema.rename_column(old, new)
result = [field.name for field in table.schema().fields]
";
    sink.python(code).await?;
    assert!(sink.assert_as_sent().await.is_err());
    let (whole, report) = sink.look("verify").await?;
    assert!(!whole, "{report}");
    for said in ["column currency in ", "column status in ", "0 missing"] {
        assert!(report.contains(said), "{said}\n{report}");
    }
    Ok(())
}
