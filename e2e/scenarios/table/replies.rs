//! The catalog's answer is lost, late or unkind: nothing is written twice, nothing is left out.

use super::*;

impl TableSink {
    /// Path of the table's commits in the REST catalog.
    fn path(&self) -> String {
        format!("/{}/tables/orders", self.namespace)
    }

    async fn spoil(&self, mode: &str, count: u32) -> Result<()> {
        self.lab.fault(mode, count, &self.path()).await?;
        Ok(())
    }

    /// How many requests were spoilt; no more are.
    async fn spoilt(&self) -> Result<u32> {
        self.lab.fault("slow", 0, &self.path()).await
    }
}

/// Another engine compacts the table into new files and expires every snapshot but the current.
const COMPACT_AND_EXPIRE: &str = "
import datetime
before = table.scan().to_arrow()
table.overwrite(before)
table.maintenance.expire_snapshots().older_than(datetime.datetime.now() + datetime.timedelta(days=1)).commit()
result = [table.refresh().scan().to_arrow().num_rows, len(table.metadata.snapshots)]
";

// T2
#[tokio::test]
async fn a_commit_whose_answer_is_lost_makes_one_snapshot() -> Result<()> {
    for mode in ["500-after", "504-after", "drop-after"] {
        let sink = TableSink::new(Catalog::Rest, 2).await?;
        sink.produce(100, 1).await?;
        sink.catch_up().await?;
        sink.produce(100, 2).await?;
        sink.spoil(mode, 1).await?;
        sink.catch_up().await.context(mode)?;
        assert_eq!(sink.spoilt().await?, 1, "{mode}");
        assert_eq!(sink.snapshots().await?, 2, "{mode}");
        sink.assert_rows_once().await.context(mode)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_table_whose_creation_was_not_acknowledged_is_made_once() -> Result<()> {
    for mode in ["500-after", "502-after", "drop-after"] {
        let sink = TableSink::new(Catalog::Rest, 1).await?;
        let tables = format!("/{}/tables", sink.namespace);
        sink.produce(50, 1).await?;
        sink.lab.fault(mode, 1, &tables).await?;
        sink.catch_up().await.context(mode)?;
        assert_eq!(sink.lab.fault("slow", 0, &tables).await?, 1, "{mode}");
        assert_eq!(sink.snapshots().await?, 1, "{mode}");
        sink.assert_rows_once().await.context(mode)?;
    }
    Ok(())
}

// T4
#[tokio::test]
async fn a_commit_whose_answer_is_lost_with_its_process_is_not_repeated_by_the_next() -> Result<()>
{
    let mut sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    sink.produce(100, 2).await?;
    sink.spoil("500-after", 1).await?;
    sink.start_to_die_at("iceberg.after-commit")?
        .wait_exit(PATIENCE)
        .await?;
    assert_eq!(sink.spoilt().await?, 1);
    // Another host, another consumer group.
    sink = sink.twin()?;
    let group = sink.lab.unique("group");
    sink.change("/source/groupId", json!(group));
    sink.catch_up().await?;
    assert_eq!(sink.snapshots().await?, 2);
    sink.assert_rows_once().await
}

// T3
#[tokio::test]
async fn a_lost_commit_that_was_compacted_and_expired_before_the_restart_is_not_repeated()
-> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    sink.produce(100, 2).await?;
    sink.spoil("504-after", 1).await?;
    sink.start_to_die_at("iceberg.after-commit")?
        .wait_exit(PATIENCE)
        .await?;
    assert_eq!(sink.python(COMPACT_AND_EXPIRE).await?, json!([200, 1]));
    sink.produce(100, 3).await?;
    sink.catch_up().await?;
    sink.assert_rows_once().await
}

// T3
#[tokio::test]
async fn a_commit_that_was_compacted_and_expired_before_its_retry_is_not_repeated() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    let proxy = sink.lab.proxy(sink.lab.iceberg_rest()).await?;
    let sink = sink.set("/catalog/rest/uri", json!(proxy.endpoint()));
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    let before = sink.snapshots().await?;

    // The commit reaches the catalog, its answer nobody.
    sink.spoil("slow", 1).await?;
    sink.produce(100, 2).await?;
    await_until(PATIENCE, "a commit under way", async || {
        Ok(sink.lab.fault("slow", 1, &sink.path()).await? == 1)
    })
    .await?;
    proxy.disable().await?;
    sink.spoil("slow", 0).await?;
    await_until(PATIENCE, "the commit in the table", async || {
        Ok(sink.snapshots().await? > before)
    })
    .await?;
    assert_eq!(sink.python(COMPACT_AND_EXPIRE).await?, json!([200, 1]));
    proxy.enable().await?;

    sink.produce(100, 3).await?;
    sink.await_rows(300).await?;
    running.sigterm();
    ensure!(running.wait_exit(PATIENCE).await?.success());
    sink.assert_rows_once().await
}

// T17
#[tokio::test]
async fn a_catalog_that_refuses_conflicts_or_throttles_for_a_while_loses_nothing() -> Result<()> {
    for (mode, count) in [
        ("409-before", 4),
        ("429-before", 3),
        ("503-before", 3),
        ("500-before", 3),
    ] {
        let sink = TableSink::new(Catalog::Rest, 1).await?;
        sink.produce(50, 1).await?;
        sink.catch_up().await?;
        sink.produce(50, 2).await?;
        sink.spoil(mode, count).await?;
        sink.catch_up().await.context(mode)?;
        assert_eq!(sink.spoilt().await?, count, "{mode}");
        assert_eq!(sink.snapshots().await?, 2, "{mode}");
        sink.assert_rows_once().await.context(mode)?;
    }
    Ok(())
}
