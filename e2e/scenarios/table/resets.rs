//! The ground moves: group offsets vanish, topic or table are recreated, the table is rolled back. It is noticed, and
//! what happens then was chosen.

use tidewater_e2e::{delete_group, evenly};

use super::*;
use crate::dataset_sink::status;

/// Drops the table, and makes another of its name.
const RECREATE: &str = "
rest = catalog({'kind': 'rest'})
rest.drop_table(args)
rest.create_table(args, schema=table.schema())
";
const DROP: &str = "catalog({'kind': 'rest'}).drop_table(args)";
const ROLL_BACK: &str = "
table.manage_snapshots().rollback_to_snapshot(table.metadata.snapshots[0].snapshot_id).commit()
";

impl TableSink {
    /// Two commits of 100 records each.
    async fn filled_twice() -> Result<TableSink> {
        let sink = TableSink::new(Catalog::Rest, 2).await?;
        for seed in 1..=2 {
            sink.produce(100, seed).await?;
            sink.catch_up().await?;
        }
        Ok(sink)
    }
}

// T6
#[tokio::test]
async fn a_table_whose_group_offsets_expired_goes_on_where_it_stands() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    let group = sink.lab.unique("group");
    let sink = sink.set("/source/groupId", json!(group));
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    assert_eq!(
        sink.topic.committed(&group, 0).await?,
        sink.ends().await?.get(&0).copied(),
        "people see progress in the group"
    );
    await_until(PATIENCE, "the group deleted", async || {
        delete_group(sink.lab.kafka(), &group).await.map(|()| true)
    })
    .await?;
    sink.produce(100, 2).await?;
    let sink = sink.set("/source/startup", json!({"mode": "Latest"}));
    sink.catch_up().await?;
    sink.assert_rows_once().await
}

#[tokio::test]
async fn records_that_expired_unread_stop_a_tables_sink_or_are_counted_once() -> Result<()> {
    let mut sink = TableSink::new(Catalog::Local, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    let first = |ends: BTreeMap<i32, i64>| ends.get(&0).copied().context("no partition 0");
    let held = first(sink.ends().await?)?;
    sink.produce(100, 2).await?;
    let left = first(sink.ends().await?)? - 7;
    sink.topic.delete_records(0, left).await?;
    let lost = left - held;
    ensure!(lost > 0, "partition 0 got too few records: {held}, {left}");

    let error = sink.fail().await?;
    ensure!(error.contains("spec.source.onRecordsExpired"), "{error}");
    assert_eq!(sink.count().await?, json!(100));

    sink.change("/source/onRecordsExpired", json!("Skip"));
    let running = sink.start()?;
    sink.await_rows(u64::try_from(200 - lost)?).await?;
    let now = status(&running).await?;
    assert_eq!(now["expiredRecords"], json!(lost), "{now}");
    end(&running).await?;
    let (whole, report) = sink.look("verify").await?;
    ensure!(whole, "{report}");
    Ok(())
}

// T10
#[tokio::test]
async fn a_table_dropped_under_a_running_sink_stops_it() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    sink.python(DROP).await?;
    sink.produce(100, 2).await?;
    let error = sink.end_in_failure(&running).await?;
    assert!(
        error.contains("orders") && error.contains("recreate the table"),
        "{error}"
    );
    Ok(())
}

// T10
#[tokio::test]
async fn a_table_recreated_under_a_running_sink_stops_it() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    sink.python(RECREATE).await?;
    sink.produce(100, 2).await?;
    let error = sink.end_in_failure(&running).await?;
    assert!(
        error.contains("dropped and recreated; choose with spec.onDestinationReset"),
        "{error}"
    );
    assert_eq!(
        sink.count().await?,
        0,
        "nothing was written into a table that nobody chose"
    );
    Ok(())
}

// T10
#[tokio::test]
async fn a_table_recreated_under_a_running_sink_is_filled_anew_when_that_was_chosen() -> Result<()>
{
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    let sink = sink.set("/onDestinationReset", json!("Reread"));
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    sink.python(RECREATE).await?;
    sink.produce(100, 2).await?;
    sink.await_rows(200).await?;
    end(&running).await?;
    sink.assert_rows_once().await
}

// T10
#[tokio::test]
async fn a_table_dropped_under_a_running_sink_is_made_and_filled_anew_when_that_was_chosen()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?.inferred();
    let sink = sink.set("/onDestinationReset", json!("Reread"));
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    sink.python(DROP).await?;
    sink.produce(100, 2).await?;
    sink.await_rows(200).await?;
    end(&running).await?;
    sink.assert_rows_once().await
}

// T10
#[tokio::test]
async fn a_table_recreated_under_a_running_sink_gets_only_what_is_new_when_that_was_chosen()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    let sink = sink.set("/onDestinationReset", json!("Continue"));
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    sink.python(RECREATE).await?;
    let ends = sink.ends().await?;
    sink.produce(60, 2).await?;
    sink.await_rows(60).await?;
    end(&running).await?;
    let first = "kafka_partition, min(kafka_offset)";
    let sql = format!(
        "SELECT {first} FROM {} GROUP BY ALL ORDER BY 1",
        sink.relation().await?
    );
    assert_eq!(
        json!(sink.lab.duckdb().await?.query(&sql).await?),
        json!(Vec::from_iter(ends))
    );
    assert_eq!(sink.assert_as_sent().await?, 60);
    Ok(())
}

// T15
#[tokio::test]
async fn a_recreated_topic_stops_the_sink_or_is_read_from_its_start_when_that_was_chosen()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.topic.produce(evenly(orders(300, 1))).await?;
    sink.catch_up().await?;
    sink.topic.delete().await?;
    Topic::create(sink.lab.kafka(), sink.topic.name(), 2).await?;
    sink.topic.produce(evenly(orders(100, 2))).await?;
    let error = sink.fail().await?;
    assert!(
        error.contains("recreated; choose with spec.source.onSourceReset"),
        "{error}"
    );
    assert_eq!(sink.count().await?, 300);

    let sink = sink.set("/source/onSourceReset", json!("Restart"));
    // Twice, and then with more: the choice is not made again.
    for (more, rows) in [(0, 400), (0, 400), (50, 450)] {
        sink.topic.produce(evenly(orders(more, 3))).await?;
        sink.catch_up().await?;
        assert_eq!(sink.count().await?, rows);
    }
    let twice = "count(*), max(kafka_offset) FILTER (n = 2) FROM (SELECT kafka_partition, kafka_offset, count(*) AS n";
    let sql = format!(
        "SELECT {twice} FROM {} GROUP BY ALL)",
        sink.relation().await?
    );
    assert_eq!(
        sink.lab.duckdb().await?.query(&sql).await?,
        [[json!(300), json!(74)]]
    );
    let (whole, report) = sink.look("verify").await?;
    assert!(whole, "{report}");
    for said in [
        "75 rows expected, 75 found",
        "150 rows of an earlier topic of this name",
        "whole: 0 missing, 0 duplicated",
    ] {
        assert!(report.contains(said), "{said}\n{report}");
    }
    Ok(())
}

// T29
#[tokio::test]
async fn a_table_rolled_back_stops_the_sink() -> Result<()> {
    let sink = TableSink::filled_twice().await?;
    sink.python(ROLL_BACK).await?;
    sink.produce(50, 3).await?;
    let error = sink.fail().await?;
    assert!(
        error.contains("rolled back; choose with spec.onDestinationReset"),
        "{error}"
    );
    assert_eq!(sink.count().await?, 100);
    Ok(())
}

// T29
#[tokio::test]
async fn a_table_rolled_back_stays_without_the_rows_when_that_was_chosen() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    let sink = sink.set("/onDestinationReset", json!("Continue"));
    let mut ends = Vec::new();
    for seed in 1..=2 {
        sink.produce(100, seed).await?;
        sink.catch_up().await?;
        ends.push(sink.ends().await?);
    }
    sink.python(ROLL_BACK).await?;
    sink.produce(50, 3).await?;
    sink.catch_up().await?;
    for (partition, first) in &ends[0] {
        let hole = format!(
            "count(*) WHERE kafka_partition = {partition} AND kafka_offset >= {first} AND kafka_offset < {}",
            ends[1][partition]
        );
        assert_eq!(sink.select(&hole).await?, [[json!(0)]]);
    }
    assert_eq!(sink.count().await?, 150);
    assert_eq!(sink.assert_as_sent().await?, 150);
    Ok(())
}

// T29
#[tokio::test]
async fn a_table_rolled_back_gets_the_rows_again_when_that_was_chosen() -> Result<()> {
    let sink = TableSink::filled_twice()
        .await?
        .set("/onDestinationReset", json!("Reread"));
    sink.python(ROLL_BACK).await?;
    sink.produce(50, 3).await?;
    sink.catch_up().await?;
    sink.assert_rows_once().await?;

    // Under a running sink as well.
    let running = sink.start()?;
    sink.produce(50, 4).await?;
    sink.await_rows(300).await?;
    sink.python(ROLL_BACK).await?;
    sink.produce(50, 5).await?;
    sink.await_rows(350).await?;
    end(&running).await?;
    sink.assert_rows_once().await
}
