//! Tables that other engines made, and go on writing to, taken over with what they decided.

use std::cell::Cell;

use tidewater_e2e::PyIceberg;

use super::*;
use crate::dataset_sink::commits;

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

/// Appends a row sixty times, and six times writes the whole table again as one file, as a compaction does; each time
/// until its commit goes through.
const BESIDE: &str = "
import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, ValidationException
table = load({'kind': 'rest'}, args)
conflicts = rewritten = 0
def insist(change):
    global table, conflicts
    while True:
        table = load({'kind': 'rest'}, args)
        try:
            return change(table)
        except (CommitFailedException, ValidationException):
            conflicts += 1
def append(i):
    ids = pa.array([-1 - i], pa.int64())
    insist(lambda table: table.append(pa.table({'order_id': ids, 'customer': [f'theirs {i}']}, schema=pa.schema([
        pa.field('order_id', pa.int64(), nullable=False), pa.field('customer', pa.string())]))))
def rewrite():
    insist(lambda table: table.overwrite(table.scan().to_arrow()))
for i in range(60):
    append(i)
    if i % 10 == 9:
        rewrite()
        rewritten += 1
result = {'conflicts': conflicts, 'rewritten': rewritten}
";

// T29
#[tokio::test]
async fn pyiceberg_appends_and_rewrites_beside_a_running_sink_and_both_have_all_their_rows()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(200, 1).await?;
    sink.catch_up().await?;
    let running = sink.start()?;
    // A process of its own: the shared one is for those who ask short questions.
    let pyiceberg = PyIceberg::start(sink.lab.endpoints()).await?;
    let done = Cell::new(false);
    let theirs = async {
        let told = pyiceberg.run(BESIDE, json!(sink.table())).await;
        done.set(true);
        told
    };
    let ours = async {
        let mut beat = tokio::time::interval(Duration::from_millis(200));
        let mut rows = 200;
        let mut seed = 2;
        // Not without end: whoever is slower than the sink has its turn afterwards.
        while !done.get() && rows < 200 + 20 * 100 {
            beat.tick().await;
            sink.produce(20, seed).await?;
            (rows, seed) = (rows + 20, seed + 1);
        }
        anyhow::Ok(rows)
    };
    let (theirs, ours) = tokio::join!(theirs, ours);
    let (theirs, ours) = (theirs?, ours?);
    assert_eq!(theirs["rewritten"], json!(6), "{theirs}");
    sink.await_rows(ours + 60)
        .await
        .with_context(|| running.process().log_tail())?;
    // The sink committed in between, or this has shown nothing.
    let between = commits(&running, "committed").await?;
    assert!(between >= 5, "{between} commits, {theirs}");
    end(&running).await?;

    let foreign = "count(*), count(DISTINCT order_id), count(customer) WHERE kafka_offset IS NULL";
    assert_eq!(
        sink.select(foreign).await?,
        [[json!(60), json!(60), json!(60)]]
    );
    let own =
        "count(*), count(DISTINCT (kafka_partition, kafka_offset)) WHERE kafka_offset IS NOT NULL";
    assert_eq!(sink.select(own).await?, [[json!(ours), json!(ours)]]);
    let relation = sink.relation().await?;
    let own = format!("(SELECT * FROM {relation} WHERE kafka_offset IS NOT NULL)");
    assert_eq!(sink.assert_as_sent_in(own).await?, usize::try_from(ours)?);
    Ok(())
}
