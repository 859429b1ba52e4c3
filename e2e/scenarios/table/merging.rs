//! Small manifests are merged as commits go.

use super::*;

/// Appends a row as another engine does.
const APPEND: &str = "
import pyarrow as pa
schema = pa.schema([pa.field('order_id', pa.int64(), nullable=False), ('country', pa.string()), ('customer', pa.string())])
table = load({'kind': 'rest'}, args['table'])
columns = {'order_id': [args['id']], 'country': ['DE'], 'customer': ['by hand']}
table.append(pa.table(columns, schema=schema))
";

#[tokio::test]
async fn small_manifests_are_merged_as_commits_go_and_every_writers_rows_stay() -> Result<()> {
    let merging = json!({"commit.manifest.min-count-to-merge": "5"});
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/properties", merging)
        .set("/partitionBy", json!(["country"]))
        .set("/commit/interval", json!("20ms"));
    let mut seed = 0;
    let running = sink.start()?;
    for turn in 1..=3 {
        let more = async {
            while commits(&running).await.unwrap_or_default() < turn * 50 {
                seed += 1;
                sink.produce(4, seed).await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, more)
            .await
            .context("fifty more snapshots")??;
        let args = json!({"table": sink.table(), "id": -(turn as i64)});
        sink.lab.pyiceberg().await?.run(APPEND, args).await?;
    }
    end(&running).await?;
    sink.catch_up().await?;

    // Each value as it was produced, by its partition and offset, and what came by hand.
    let mut wanted = Vec::new();
    for consumed in sink.topic.read_all().await? {
        let value: Value = serde_json::from_slice(&consumed.record.value.unwrap_or_default())?;
        wanted.push(json!([
            consumed.record.partition,
            consumed.offset,
            value["order_id"],
            value["country"],
            value["customer"],
        ]));
    }
    wanted.extend((1..=3).map(|turn| json!([null, null, -turn, "DE", "by hand"])));
    let columns = "kafka_partition, kafka_offset, order_id, country, customer";
    let found = sink.select(columns).await?;
    assert_eq!(
        sorted(found.into_iter().map(Value::from)),
        sorted(wanted.clone()),
        "DuckDB"
    );
    let code = "
names = ['kafka_partition', 'kafka_offset', 'order_id', 'country', 'customer']
result = {
    'rows': [[row[name] for name in names] for row in table.scan().to_arrow().to_pylist()],
    'manifests': len(table.inspect.manifests().to_pylist()),
    'snapshots': len(table.metadata.snapshots),
    'of DE': table.scan(row_filter=\"country == 'DE'\").to_arrow().num_rows,
}
";
    let read = sink.python(code).await?;
    let rows: Vec<Value> = serde_json::from_value(read["rows"].clone())?;
    assert_eq!(sorted(rows), sorted(wanted.clone()), "PyIceberg");
    let of_germany = wanted.iter().filter(|row| row[3] == "DE").count();
    assert_eq!(read["of DE"], of_germany);
    let (snapshots, manifests) = (read["snapshots"].as_u64(), read["manifests"].as_u64());
    assert!(
        snapshots >= Some(150) && manifests <= Some(8),
        "{snapshots:?}, {manifests:?}"
    );
    Ok(())
}

/// How many commits a process has made.
async fn commits(running: &Tidewater) -> Result<u64> {
    let (_, status) = running.http_get("/status").await?;
    let status: Value = serde_json::from_str(&status)?;
    let commits = status["sinks"][0]["commit"]["commits"].as_u64();
    commits.context("commits")
}

fn sorted(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.to_string()).collect();
    rows.sort();
    rows
}
