//! Glue loses answers, throttles, and lets another writer win: nothing is written twice, nothing is left out.

use super::*;
use tidewater_e2e::{Spoil, Spoiler};

impl TableSink {
    /// From now on Glue is reached by a way that can be spoilt.
    async fn by_way(&mut self) -> Result<Spoiler> {
        let way = Spoiler::start(&self.lab.ministack().endpoint).await?;
        self.change("/catalog/glue/endpoint", json!(way.endpoint()));
        Ok(way)
    }
}

// T2
#[tokio::test]
async fn a_glue_commit_whose_answer_is_lost_makes_one_snapshot() -> Result<()> {
    for spoil in [Spoil::CutAfter, Spoil::FailAfter] {
        let mut sink = TableSink::new(Catalog::Glue, 2).await?;
        let way = sink.by_way().await?;
        sink.produce(100, 1).await?;
        sink.catch_up().await?;
        sink.produce(100, 2).await?;
        way.spoil("UpdateTable", spoil, 1);
        sink.catch_up()
            .await
            .with_context(|| format!("{spoil:?}"))?;
        assert_eq!(way.spoilt("UpdateTable"), 1, "{spoil:?}");
        assert_eq!(sink.snapshots().await?, 2, "{spoil:?}");
        sink.assert_rows_once().await?;
    }
    Ok(())
}

// T4
#[tokio::test]
async fn a_glue_commit_whose_answer_is_lost_with_its_process_is_not_repeated_by_the_next()
-> Result<()> {
    let mut sink = TableSink::new(Catalog::Glue, 2).await?;
    let way = sink.by_way().await?;
    sink.produce(100, 1).await?;
    sink.catch_up().await?;
    sink.produce(100, 2).await?;
    way.spoil("UpdateTable", Spoil::CutAfter, 1);
    sink.start_to_die_at("iceberg.after-commit")?
        .wait_exit(PATIENCE)
        .await?;
    assert_eq!(way.spoilt("UpdateTable"), 1);
    sink = sink.twin()?;
    sink.catch_up().await?;
    assert_eq!(sink.snapshots().await?, 2);
    sink.assert_rows_once().await
}

#[tokio::test]
async fn a_glue_table_whose_creation_was_not_acknowledged_is_made_once() -> Result<()> {
    let mut sink = TableSink::new(Catalog::Glue, 1).await?;
    let way = sink.by_way().await?;
    way.spoil("CreateTable", Spoil::CutAfter, 1);
    sink.produce(50, 1).await?;
    sink.catch_up().await?;
    assert_eq!(way.spoilt("CreateTable"), 1);
    assert_eq!(sink.snapshots().await?, 1);
    sink.assert_rows_once().await
}

// T17
#[tokio::test]
async fn a_glue_that_throttles_or_lets_others_win_for_a_while_loses_nothing() -> Result<()> {
    for (code, count) in [
        ("ConcurrentModificationException", 4),
        ("ThrottlingException", 3),
        ("ResourceNotReadyException", 2),
    ] {
        let mut sink = TableSink::new(Catalog::Glue, 1).await?;
        let way = sink.by_way().await?;
        sink.produce(50, 1).await?;
        sink.catch_up().await?;
        sink.produce(50, 2).await?;
        way.spoil("UpdateTable", Spoil::Refuse(code), count);
        way.spoil("GetTable", Spoil::Refuse("ThrottlingException"), 2);
        sink.catch_up().await.context(code)?;
        assert_eq!(way.spoilt("UpdateTable"), count, "{code}");
        assert_eq!(way.spoilt("GetTable"), 2, "{code}");
        assert_eq!(sink.snapshots().await?, 2, "{code}");
        sink.assert_rows_once().await.context(code)?;
    }
    Ok(())
}
