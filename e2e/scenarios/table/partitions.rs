//! Partitions by values that no path can hold.

use super::*;

#[tokio::test]
async fn a_table_partitioned_by_long_values_goes_on_and_has_each_of_them_exactly() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1)
        .await?
        .set("/partitionBy", json!(["customer", "status"]));
    let customers = [
        "short".to_owned(),
        "x".repeat(1500),
        format!("{}y", "x".repeat(1499)),
        "中".repeat(120),
        "a/b=ü 中%".to_owned(),
    ];
    let long = "s".repeat(600);
    let order = |(id, customer): (i64, &String)| json!({"order_id": id, "customer": customer, "status": long});
    let orders = (0..).zip(&customers).map(order);
    sink.produce_values(orders.collect()).await?;
    sink.catch_up().await?;

    let wanted: Vec<_> = (0_i64..)
        .zip(&customers)
        .map(|(id, c)| json!([id, c]))
        .collect();
    let found = sink
        .select("order_id, customer WHERE true ORDER BY order_id")
        .await?;
    assert_eq!(json!(found), json!(wanted), "DuckDB");
    let code = "
from pyiceberg.expressions import EqualTo
rows = table.scan().to_arrow().to_pylist()
result = {
    'rows': sorted([row['order_id'], row['customer']] for row in rows),
    'pruned': len(list(table.scan(row_filter=EqualTo('customer', 'x' * 1500)).plan_files())),
    'longest': max(len(level) for f in table.inspect.files().to_pylist() for level in f['file_path'].split('/')),
}
";
    let read = sink.python(code).await?;
    assert_eq!(read["rows"], json!(wanted), "PyIceberg");
    assert_eq!(read["pruned"], json!(1));
    let longest = read["longest"].as_u64().context("a length")?;
    assert!((200..=255).contains(&longest), "{longest}");
    sink.assert_rows_once().await
}
