//! Rows of a table with a sort order: sorted in each file, and said to be so where they are.

use super::*;

/// Of each data file: its sort order's id in the manifest, and columns of its rows as they stand in it.
const FILES: &str = "
import pyarrow.parquet as parquet
ids = {f['file_path']: f['sort_order_id'] for f in table.inspect.files().to_pylist()}
result = []
for path, id in ids.items():
    with table.io.new_input(path).open() as stream:
        rows = parquet.read_table(stream, columns=['country', 'order_id']).to_pylist()
    result.append({'id': id, 'rows': [[row['country'], row['order_id']] for row in rows]})
";

struct File {
    id: Value,
    rows: Vec<(Option<String>, i64)>,
}

impl TableSink {
    async fn files(&self) -> Result<Vec<File>> {
        let files: Vec<Value> = serde_json::from_value(self.python(FILES).await?)?;
        files
            .into_iter()
            .map(|file| {
                Ok(File {
                    rows: serde_json::from_value(file["rows"].clone())?,
                    id: file["id"].clone(),
                })
            })
            .collect()
    }
}

/// Orders of every country, some of none.
fn mixed(n: u64) -> Vec<Value> {
    let values = orders(n, 7).map(|r| serde_json::from_slice::<Value>(&r.value.unwrap()).unwrap());
    values
        .enumerate()
        .map(|(i, mut value)| {
            if i % 10 == 0 {
                value["country"] = Value::Null;
            }
            value
        })
        .collect()
}

#[tokio::test]
async fn a_table_made_with_a_sort_order_has_sorted_files_that_say_so() -> Result<()> {
    let order = json!(["country desc nulls last", "order_id desc"]);
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/sortOrder", order);
    sink.produce_values(mixed(2000)).await?;
    sink.catch_up().await?;
    let files = sink.files().await?;
    assert!(!files.is_empty());
    for File { id, rows } in &files {
        assert_eq!(id, &json!(1));
        // The last countries first, those without one at the end, each country's orders from the highest down:
        // the order in which they came would do for neither.
        assert!(
            rows.is_sorted_by(|(a, n), (b, m)| match (a, b) {
                (None, Some(_)) => false,
                (Some(_), None) => true,
                (Some(a), Some(b)) if a != b => a > b,
                _ => n >= m,
            }),
            "{rows:?}"
        );
    }
    let rows: usize = files.iter().map(|file| file.rows.len()).sum();
    assert_eq!(rows, 2000);
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_file_of_several_row_groups_does_not_call_itself_sorted_unless_it_is() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1)
        .await?
        .set("/sortOrder", json!(["country"]))
        .set("/parquet", json!({"rowGroupRows": 100}));
    sink.produce_values(mixed(1000)).await?;
    sink.catch_up().await?;
    for File { id, rows } in sink.files().await? {
        let whole = rows.is_sorted_by(|(a, _), (b, _)| a <= b);
        assert_eq!(id == json!(1), whole, "{} rows", rows.len());
        for group in rows.chunks(100) {
            assert!(group.is_sorted_by(|(a, _), (b, _)| a <= b), "{group:?}");
        }
    }
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_table_that_pyiceberg_made_with_partitions_and_a_sort_order_keeps_both() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/createIfMissing", json!(false));
    let code = "
from pyiceberg.partitioning import PartitionSpec, PartitionField
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, TruncateTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType
rest = catalog({'kind': 'rest'})
rest.create_namespace(args.split('.')[0])
schema = Schema(NestedField(1, 'order_id', LongType()), NestedField(2, 'country', StringType()),
                NestedField(3, 'created_at', TimestamptzType()))
spec = PartitionSpec(PartitionField(3, 1000, DayTransform(), 'day'), PartitionField(1, 1001, BucketTransform(2), 'half'))
order = SortOrder(SortField(2, transform=TruncateTransform(1), direction=SortDirection.DESC, null_order=NullOrder.NULLS_FIRST),
                  SortField(1, transform=IdentityTransform()))
table = rest.create_table(args, schema=schema, partition_spec=spec, sort_order=order)
result = table.sort_order().order_id
";
    let pyiceberg = sink.lab.pyiceberg().await?;
    let id = pyiceberg.run(code, json!(sink.table())).await?;
    sink.produce_values(mixed(1000)).await?;
    sink.catch_up().await?;
    for File { id: told, rows } in sink.files().await? {
        assert_eq!(told, id);
        let letter = |country: &Option<String>| country.as_ref().map(|c| c[..1].to_owned());
        assert!(
            rows.is_sorted_by(|(a, n), (b, m)| match (letter(a), letter(b)) {
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (a, b) if a != b => a > b,
                _ => n <= m,
            }),
            "{rows:?}"
        );
    }
    let metadata = sink.metadata().await?;
    assert_eq!(metadata["sort-orders"].as_array().map(Vec::len), Some(1));
    let code = "result = sorted({(f['partition']['day'], f['partition']['half']) for f in table.inspect.files().to_pylist()}, key=str)";
    let partitions = sink.python(code).await?;
    assert!(
        partitions.as_array().is_some_and(|p| p.len() >= 2),
        "{partitions}"
    );
    sink.assert_rows_once().await
}
