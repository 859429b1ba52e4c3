//! The ordinary way, with every catalog: records become typed rows once, in the right partitions, under bounds that
//! readers may trust; the table tells how far it has come.

use super::*;
use tidewater_e2e::{IcebergRest, IcebergRestOptions};

/// 2026-01-01T00:00:00Z
const FIRST_MILLI: u64 = 1_767_225_600_000;

/// Orders one after another every 30 s: 120 an hour.
fn spread(from: u64, n: u64) -> Vec<Value> {
    let sample = orders(from + n, 3).skip(from as usize);
    let values =
        sample.map(|record| serde_json::from_slice::<Value>(&record.value.unwrap()).unwrap());
    values
        .zip(from..)
        .map(|(mut value, i)| {
            value["created_at"] = json!(FIRST_MILLI + i * 30_000);
            value
        })
        .collect()
}

/// Of twenty orders in a row thirteen or fourteen go to the first partition.
fn unequally(values: Vec<Value>) -> Vec<Record> {
    let records = values.into_iter().zip(0_i32..);
    records
        .map(|(value, i)| Record::new(i32::from(i % 40 >= 27), value.to_string()))
        .collect()
}

/// Orders into the catalog's table in two runs.
async fn records_become_rows(sink: &TableSink) -> Result<()> {
    sink.topic.produce(unequally(spread(0, 360))).await?;
    sink.catch_up().await?;
    sink.assert_rows_once().await?;
    let first = sink.metadata().await?;

    sink.topic.produce(unequally(spread(360, 240))).await?;
    sink.catch_up().await?;
    sink.assert_rows_once().await?;
    let second = sink.metadata().await?;

    // The first run's rows were not written again.
    let summary = current_summary(&second).unwrap();
    assert_eq!(summary["added-records"], json!("240"), "{summary}");
    assert_eq!(summary["total-records"], json!("600"), "{summary}");
    assert_eq!(second["table-uuid"], first["table-uuid"]);
    let name = sink.topic.name();
    let ends = json!({name: {"0": 405, "1": 195}});
    let offsets = sink.property("offsets");
    let told: Value = serde_json::from_str(second["properties"][&offsets].as_str().unwrap())?;
    assert_eq!(told, ends);
    let moved = format!("all {name}=0:405,195");
    assert_eq!(summary[&offsets], moved, "{summary}");
    let (content, status) = sink.look("status").await?;
    assert!(content && status.contains("lag 0"), "{status}");
    assert!(
        status.contains("-0: committed 405, log [0, 405)"),
        "{status}"
    );
    Ok(())
}

async fn values_and_bounds_are_right(sink: &TableSink) -> Result<()> {
    let types = "DISTINCT typeof(order_id), typeof(amount), typeof(created_at), typeof(updated_at), typeof(quantity)";
    assert_eq!(
        sink.select(types).await?,
        [[
            "BIGINT",
            "DECIMAL(12,2)",
            "TIMESTAMP WITH TIME ZONE",
            "TIMESTAMP WITH TIME ZONE",
            "INTEGER"
        ]
        .map(Value::from)]
    );

    // Filters use bounds and partitions of manifests; they must leave no row out.
    let hour = "created_at >= TIMESTAMPTZ '2026-01-01 02:00:00+00' AND created_at < TIMESTAMPTZ '2026-01-01 03:00:00+00'";
    assert_eq!(
        sink.select(&format!("count(*) WHERE {hour}")).await?,
        [[json!(120)]]
    );
    let code = "
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, LessThan
hour = And(GreaterThanOrEqual('created_at', '2026-01-01T02:00:00+00:00'), LessThan('created_at', '2026-01-01T03:00:00+00:00'))
scan = table.scan(row_filter=hour)
at_two = 1767232800 // 3600
of_hour = [f for f in table.inspect.files().to_pylist() if f['partition']['created_at_hour'] == at_two]
customers = [row['customer'] for row in table.scan().to_arrow().to_pylist() if row['customer']]
customer = min(customers)
result = {
    'rows': scan.to_arrow().num_rows,
    'files': len(list(scan.plan_files())),
    'of the hour': len(of_hour),
    'all files': len(list(table.scan().plan_files())),
    'of customer': table.scan(row_filter=EqualTo('customer', customer)).to_arrow().num_rows,
    'amounts': table.scan(row_filter=LessThan('amount', '100.00')).to_arrow().num_rows,
    'orders': table.scan(row_filter=EqualTo('order_id', 1003000077)).to_arrow().num_rows,
}
";
    let read = sink.python(code).await?;
    assert_eq!(read["rows"], 120);
    assert_eq!(read["orders"], 1);
    // Each customer is one order's.
    assert_eq!(read["of customer"], 1);
    let cheap = spread(0, 600)
        .iter()
        .filter(|v| v["amount"].as_f64().is_some_and(|amount| amount < 100.0))
        .count();
    assert_eq!(read["amounts"], cheap);
    let number = |key: &str| read[key].as_i64().unwrap();
    let (files, of_the_hour, all) = (number("files"), number("of the hour"), number("all files"));
    assert!(
        files == of_the_hour && 0 < files && files < all,
        "{files} files are read for one hour that has {of_the_hour} of {all}"
    );
    Ok(())
}

fn partitioned(sink: TableSink) -> TableSink {
    sink.set(
        "/partitionBy",
        json!(["hour(created_at)", "bucket(16, customer)", "country"]),
    )
}

#[tokio::test]
async fn a_rest_catalogs_table_holds_every_record_once_typed_and_pruned() -> Result<()> {
    let sink = partitioned(TableSink::new(Catalog::Rest, 2).await?);
    records_become_rows(&sink).await?;
    values_and_bounds_are_right(&sink).await?;
    let attached = format!(
        "SELECT count(*), min(kafka_offset) FROM ice.{}",
        sink.table()
    );
    let duckdb = sink.lab.duckdb().await?;
    assert_eq!(duckdb.query(&attached).await?, [[json!(600), json!(0)]]);
    Ok(())
}

#[tokio::test]
async fn glues_table_holds_every_record_once_and_glue_knows_its_columns() -> Result<()> {
    let sink = partitioned(TableSink::new(Catalog::Glue, 2).await?);
    records_become_rows(&sink).await?;
    values_and_bounds_are_right(&sink).await?;
    let glue = sink.lab.glue_client();
    let table = glue
        .get_table()
        .database_name(&sink.namespace)
        .name("orders")
        .send()
        .await?;
    let columns = table
        .table()
        .and_then(|table| table.storage_descriptor())
        .unwrap()
        .columns();
    let columns: Vec<_> = columns
        .iter()
        .map(|c| (c.name(), c.r#type().unwrap_or_default()))
        .collect();
    assert_eq!(
        columns,
        [
            ("order_id", "bigint"),
            ("customer", "string"),
            ("amount", "decimal(12,2)"),
            ("currency", "string"),
            ("status", "string"),
            ("country", "string"),
            ("created_at", "timestamp"),
            ("updated_at", "timestamp"),
            ("quantity", "int"),
            ("kafka_partition", "int"),
            ("kafka_offset", "bigint"),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_table_in_a_folder_holds_every_record_once() -> Result<()> {
    let sink = partitioned(TableSink::new(Catalog::Local, 2).await?);
    records_become_rows(&sink).await?;
    values_and_bounds_are_right(&sink).await
}

#[tokio::test]
async fn a_table_of_format_version_3_holds_every_record_once() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/formatVersion", json!(3));
    sink.produce(500, 5).await?;
    sink.catch_up().await?;
    sink.produce(300, 6).await?;
    sink.catch_up().await?;
    let version = sink
        .python("result = table.metadata.format_version")
        .await?;
    assert_eq!(version, 3);
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_guarded_catalog_gives_its_token_for_client_id_and_secret() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?;
    let options = IcebergRestOptions {
        token: Some("let-me-in".to_owned()),
        vend_credentials: true,
    };
    let warehouse = format!("s3://{}/tables", sink.lab.bucket().await?);
    let catalog = IcebergRest::start(&sink.folder, &warehouse, sink.lab.s3(), &options).await?;
    let oauth2 = json!({
        "clientId": {"secretKeyRef": {"name": "s3", "key": "id"}},
        "clientSecret": {"secretKeyRef": {"name": "s3", "key": "key"}},
    });
    let rest = json!({"uri": catalog.uri(), "auth": {"oauth2": oauth2}});
    let sink = sink.set("/catalog/rest", rest);
    sink.produce(300, 5).await?;
    sink.catch_up().await?;
    let (whole, report) = sink.look("verify").await?;
    assert!(whole && report.contains("300 rows"), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_table_that_pyiceberg_made_is_taken_over_with_its_rows_partitions_and_properties()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/createIfMissing", json!(false));
    let code = "
import pyarrow as pa
from pyiceberg.partitioning import PartitionSpec, PartitionField
from pyiceberg.transforms import IdentityTransform
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, LongType, StringType
rest = catalog({'kind': 'rest'})
rest.create_namespace(args.split('.')[0])
schema = Schema(NestedField(1, 'order_id', LongType(), required=False), NestedField(2, 'country', StringType()),
                NestedField(3, 'remark', StringType()))
spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), 'country'))
table = rest.create_table(args, schema=schema, partition_spec=spec, properties={'owner': 'finance'})
table.append(pa.table({'order_id': pa.array([1, 2], pa.int64()), 'country': ['DE', 'FR'], 'remark': ['a', 'b']}))
result = table.metadata.table_uuid.hex
";
    sink.lab
        .pyiceberg()
        .await?
        .run(code, json!(sink.table()))
        .await?;
    sink.produce(200, 1).await?;
    sink.catch_up().await?;
    let metadata = sink.metadata().await?;
    assert_eq!(metadata["properties"]["owner"], "finance");
    assert_eq!(metadata["partition-specs"].as_array().unwrap().len(), 1);
    let amounts = sink.saying("amount").await?;
    let counts = "count(*), count(remark), count(kafka_offset), count(DISTINCT (kafka_partition, kafka_offset)), \
                  count(amount)";
    assert_eq!(
        sink.select(counts).await?,
        [[json!(202), json!(2), json!(200), json!(201), json!(amounts)]]
    );
    Ok(())
}
