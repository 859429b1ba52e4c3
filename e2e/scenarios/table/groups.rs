//! Several processes of one sink commit to one table: once, whoever comes, goes or dies.

use tidewater_e2e::evenly;

use super::*;
use crate::dataset_sink::await_fenced;

impl TableSink {
    /// Waits until the process has partitions.
    pub(super) async fn await_assigned(running: &Tidewater) -> Result<()> {
        await_until(PATIENCE, "partitions assigned", async || {
            Ok(running.process().log().contains("\"message\":\"assigned\""))
        })
        .await
    }
}

// T1
#[tokio::test]
async fn two_processes_fill_one_table_once_while_a_third_comes_and_one_is_killed() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 6).await?;
    sink.topic.wear().await?;
    let (second, third) = (sink.twin()?, sink.twin()?);
    let a = sink.start()?;
    let b = second.start()?;
    TableSink::await_assigned(&a).await?;
    TableSink::await_assigned(&b).await?;
    sink.produce(300, 1).await?;
    sink.await_rows(300).await?;

    // One comes, and one dies, with records on their way all the time.
    let produced = async {
        for seed in 2..12 {
            sink.produce(120, seed).await?;
        }
        anyhow::Ok(())
    };
    let moved = async {
        let c = third.start()?;
        TableSink::await_assigned(&c).await?;
        b.kill9();
        anyhow::Ok(c)
    };
    let ((), c) = tokio::try_join!(produced, moved)?;
    sink.await_rows(1500).await?;
    sink.produce(120, 12).await?;
    sink.await_rows(1620).await?;
    end(&a).await?;
    end(&c).await?;
    sink.assert_rows_once().await
}

/// A process stands before the write that is its commit until another has made that commit.
async fn a_late_commit_adds_nothing(catalog: Catalog) -> Result<()> {
    let sink = TableSink::new(catalog, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    let ends = sink.ends().await?;
    sink.produce(200, 2).await?;
    let late = sink.start_in(&[("TIDEWATER_FAILPOINT", "iceberg.before-commit!stop")])?;
    late.await_stopped(PATIENCE).await?;
    assert_eq!(sink.count().await?, 100);
    let group = format!("tidewater.default.{}", sink.name);
    for (partition, end) in ends {
        let told = sink.topic.committed(&group, partition).await?;
        assert_eq!(told, Some(end), "{partition}");
    }

    let twin = sink.twin()?;
    let heir = twin.start()?;
    sink.await_rows(300)
        .await
        .with_context(|| heir.process().log_tail())?;
    late.thaw();
    await_fenced(&late).await?;
    // Both are of use.
    sink.produce(100, 3).await?;
    sink.await_rows(400).await?;
    end(&heir).await?;
    sink.produce(100, 4).await?;
    sink.await_rows(500).await?;
    end(&late).await?;
    sink.assert_rows_once().await
}

// T18
#[tokio::test]
async fn a_process_that_wakes_at_its_commit_after_another_made_it_adds_no_row() -> Result<()> {
    let rest = Box::pin(a_late_commit_adds_nothing(Catalog::Rest));
    let glue = Box::pin(a_late_commit_adds_nothing(Catalog::Glue));
    tokio::try_join!(rest, glue)?;
    Ok(())
}

// T21
#[tokio::test]
async fn a_new_column_that_two_processes_meet_together_is_added_once() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 4).await?.inferred();
    let second = sink.twin()?;
    sink.produce(40, 1).await?;
    let a = sink.start()?;
    let b = second.start()?;
    TableSink::await_assigned(&a).await?;
    TableSink::await_assigned(&b).await?;
    sink.await_rows(40).await?;
    let schemas = async || {
        let metadata = sink.metadata().await?;
        anyhow::Ok(metadata["schemas"].as_array().map_or(0, Vec::len))
    };
    let before = schemas().await?;

    let with_coupon = |i: i64| json!({"order_id": i, "coupon": format!("c{i}"), "rebate": i});
    sink.produce_values((0..40).map(with_coupon).collect())
        .await?;
    sink.await_rows(80).await?;
    assert_eq!(schemas().await?, before + 1);
    assert_eq!(
        sink.select("count(coupon), sum(rebate)::BIGINT").await?,
        [[json!(40), json!(780)]]
    );
    end(&a).await?;
    end(&b).await?;
    sink.assert_rows_once().await
}

// R3, T16
#[tokio::test]
async fn a_table_that_starts_at_the_end_misses_nothing_of_partitions_that_come_later() -> Result<()>
{
    let sink = TableSink::new(Catalog::Local, 2)
        .await?
        .set("/source/startup", json!({"mode": "Latest"}));
    let refresh = "/source/properties/topic.metadata.refresh.interval.ms";
    let sink = sink.set(refresh, json!("4000"));
    sink.topic.produce(evenly(orders(20, 1))).await?;
    let running = sink.start()?;
    await_until(PATIENCE, "it starts at the end", async || {
        let (_, status) = running.http_get("/status").await?;
        let status: Value = serde_json::from_str(&status)?;
        let partitions = status["sinks"][0]["partitions"].as_object();
        let known = |p: &Value| p["committed"] == json!(10);
        Ok(partitions.is_some_and(|all| all.len() == 2 && all.values().all(known)))
    })
    .await?;
    sink.topic.add_partitions(4).await?;
    sink.topic.produce(evenly(orders(40, 2))).await?;
    sink.await_rows(40).await?;
    end(&running).await?;
    let of_old = "count(*) FILTER (kafka_offset < 10 AND kafka_partition < 2)";
    assert_eq!(sink.select(of_old).await?, [[json!(0)]]);
    Ok(())
}

// T8
#[tokio::test]
async fn partitions_without_records_delay_nobody() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 8).await?;
    let record = |i: u64| {
        orders(1, i).map(|record| Record {
            partition: 3,
            ..record
        })
    };
    let running = sink.start()?;
    for i in 1..=3 {
        sink.topic.produce(record(i).collect::<Vec<_>>()).await?;
        // Every second, says the resource: nobody is waited for.
        let soon = Duration::from_secs(if i == 1 { 30 } else { 15 });
        tokio::time::timeout(soon, sink.await_rows(i))
            .await
            .with_context(|| format!("record {i}"))??;
    }
    end(&running).await?;
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_process_that_ends_leaves_its_group_so_that_the_next_need_not_wait() -> Result<()> {
    let sink = TableSink::new(Catalog::Local, 4).await?;
    // The session's timeout is far away.
    let mut sink = sink.set("/source/properties", json!({"session.timeout.ms": "45000"}));
    for round in 0..5 {
        let group = sink.lab.unique("group");
        sink.change("/source/groupId", json!(group));
        sink.produce(20, round).await?;
        sink.catch_up().await?;
        await_until(Duration::from_secs(5), "the group is empty", async || {
            tidewater_e2e::delete_group(sink.lab.kafka(), &group)
                .await
                .map(|()| true)
        })
        .await
        .with_context(|| format!("run {round}"))?;
    }
    Ok(())
}
