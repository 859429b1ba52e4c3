//! What the resource says of the table's partitions, order, properties and format becomes so in the table: by the next run,
//! or under a sink that runs, and no row is lost, doubled or unreadable over it.

use super::*;

/// The layout of a table, as PyIceberg has it: partition fields, sort fields, format version.
async fn layout(sink: &TableSink) -> Result<Value> {
    let code = "
name = lambda field: table.schema().find_column_name(field.source_id)
result = {
    'partitions': [f'{f.transform}({name(f)})' for f in table.spec().fields],
    'order': [f'{f.transform}({name(f)}) {f.direction.name}' for f in table.sort_order().fields],
    'version': table.metadata.format_version,
}
";
    sink.python(code).await
}

/// Ids of the partition specs that the table's files have, ascending, one each.
async fn specs_of_files(sink: &TableSink) -> Result<Value> {
    sink.python("result = sorted({f['spec_id'] for f in table.inspect.files().to_pylist()})")
        .await
}

/// Of the files of partition spec 1: whether there are any, whether their folders are spread, and columns with bounds.
async fn files_as_the_properties_say(sink: &TableSink) -> Result<Value> {
    let code = "
import re
name = table.schema().find_column_name
new = [f for f in table.inspect.files().to_pylist() if f['spec_id'] == 1]
spread = re.compile('/data/[01]{4}/[01]{4}/[01]{4}/[01]{8}/created_at_day=')
result = {
    'some': len(new) > 0,
    'spread': all(spread.search(f['file_path']) for f in new),
    'bounds': sorted({name(id) for f in new for id, _ in f['lower_bounds']}),
    'counts': all(len(f['value_counts']) > 1 for f in new),
}
";
    sink.python(code).await
}

/// The next version of the resource, and one after it that says nothing any more, each applied by the run after it.
async fn layout_follows_the_resource(catalog: Catalog) -> Result<()> {
    let mut sink = TableSink::new(catalog, 2)
        .await?
        .set("/partitionBy", json!(["country"]));
    sink.produce(200, 1).await?;
    sink.catch_up().await?;
    sink.change(
        "/partitionBy",
        json!(["day(created_at)", "bucket(4, order_id)"]),
    );
    sink.change("/sortOrder", json!(["order_id desc"]));
    sink.change(
        "/properties",
        json!({
            "owner": "shop", "write.metadata.metrics.default": "counts", "write.object-storage.enabled": "true",
        }),
    );
    sink.produce(200, 2).await?;
    sink.catch_up().await?;
    assert_eq!(
        files_as_the_properties_say(&sink).await?,
        json!({"some": true, "spread": true, "bounds": ["order_id"], "counts": true})
    );
    assert_eq!(
        layout(&sink).await?,
        json!({
            "partitions": ["day(created_at)", "bucket[4](order_id)"],
            "order": ["identity(order_id) DESC"],
            "version": 2,
        })
    );
    assert_eq!(specs_of_files(&sink).await?, json!([0, 1]));
    let metadata = sink.metadata().await?;
    assert_eq!(metadata["properties"]["owner"], "shop");
    let made_by = format!("default.{}", sink.name);
    assert_eq!(
        metadata["properties"]["tidewater.created-by"],
        json!(made_by)
    );

    for field in ["partitionBy", "sortOrder", "properties"] {
        sink.spec.as_object_mut().unwrap().remove(field);
    }
    sink.produce(200, 3).await?;
    sink.catch_up().await?;
    let nothing = json!({"partitions": [], "order": [], "version": 2});
    assert_eq!(layout(&sink).await?, nothing);
    assert_eq!(specs_of_files(&sink).await?, json!([0, 1, 2]));
    assert_eq!(sink.metadata().await?["properties"].get("owner"), None);
    sink.assert_rows_once().await?;
    // Readers prune by the partitions of each file's own spec.
    for id in [1_001_000_077_u64, 1_002_000_077, 1_003_000_077] {
        let found = sink
            .select(&format!("count(*) WHERE order_id = {id}"))
            .await?;
        assert_eq!(found, [[json!(1)]], "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn a_rest_table_follows_its_resource_in_partitions_order_and_properties() -> Result<()> {
    layout_follows_the_resource(Catalog::Rest).await
}

#[tokio::test]
async fn a_glue_table_follows_its_resource_in_partitions_order_and_properties() -> Result<()> {
    layout_follows_the_resource(Catalog::Glue).await
}

#[tokio::test]
async fn a_local_table_follows_its_resource_in_partitions_order_and_properties() -> Result<()> {
    layout_follows_the_resource(Catalog::Local).await
}

#[tokio::test]
async fn a_table_gets_another_layout_under_a_running_sink_and_every_row_is_there_once() -> Result<()>
{
    let sink = TableSink::new(Catalog::Rest, 2)
        .await?
        .set("/partitionBy", json!(["country"]));
    let running = sink.start()?;
    sink.produce(200, 1).await?;
    sink.await_rows(200).await?;
    let code = "
from pyiceberg.transforms import DayTransform
from pyiceberg.types import StringType
with table.transaction() as change:
    with change.update_spec() as spec:
        spec.remove_field('country')
        spec.add_field('created_at', DayTransform(), 'day')
    with change.update_schema() as schema:
        schema.add_column('remark', StringType())
    change.set_properties(theirs='1')
result = table.spec().spec_id
";
    assert_eq!(sink.python(code).await?, 1);
    sink.produce(200, 2).await?;
    sink.await_rows(400).await?;
    assert_eq!(specs_of_files(&sink).await?, json!([0]));
    end(&running).await?;
    sink.assert_rows_once().await?;

    // The resource says what it said: the next run goes by it again, and what others added stays.
    sink.produce(200, 3).await?;
    sink.catch_up().await?;
    let layout = layout(&sink).await?;
    assert_eq!(layout["partitions"], json!(["identity(country)"]));
    let metadata = sink.metadata().await?;
    assert_eq!(metadata["properties"]["theirs"], "1");
    assert_eq!(metadata["default-spec-id"], 0);
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_table_of_version_2_is_upgraded_to_3_with_its_rows_and_never_back() -> Result<()> {
    let mut sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(200, 1).await?;
    sink.catch_up().await?;
    for version in [3, 2] {
        sink.change("/formatVersion", json!(version));
        sink.produce(200, 2).await?;
        sink.catch_up().await?;
        assert_eq!(layout(&sink).await?["version"], 3);
        sink.assert_rows_once().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_table_cannot_become_is_told_and_rows_go_on() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 1).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    let before = sink.metadata().await?;
    let elsewhere = format!("s3://{}/elsewhere", sink.lab.bucket().await?);
    let sink = sink
        .set("/location", json!(elsewhere))
        .set("/properties", json!({"owner": "shop"}));
    sink.produce(100, 2).await?;
    let running = sink.start_to_catch_up()?;
    let ended = running.wait_exit(PATIENCE).await?;
    let log = running.process().log();
    ensure!(ended.success(), "{ended}:\n{log}");
    assert!(log.contains("a table is not moved"), "{log}");
    let after = sink.metadata().await?;
    assert_eq!(after["location"], before["location"]);
    // All or nothing.
    assert_eq!(after["properties"].get("owner"), None);
    sink.assert_rows_once().await
}
