//! `tidewater ledger` on a table: the same commands, the same promises.

use super::*;

#[tokio::test]
async fn a_tables_ledger_is_set_by_hand_and_goes_on_under_another_name() -> Result<()> {
    let sink = TableSink::new(Catalog::Rest, 2).await?;
    sink.produce(100, 1).await?;
    let running = sink.start()?;
    sink.await_rows(100).await?;
    let topic = sink.topic.name();
    let ends = sink.ends().await?;
    let set = format!("--topic {topic} --partition 1 --to earliest");
    let (well, said) = sink.command("ledger set", &set).await?;
    let again = format!("{0} -> 0: {0} offsets, [0, {0}), are read again", ends[&1]);
    ensure!(
        well && said.contains(&again) && said.contains("would be refused"),
        "{said}"
    );
    ensure!(
        said.contains(&format!(
            "kafka_partition = 1 AND kafka_offset >= 0 AND kafka_offset < {}",
            ends[&1]
        )),
        "{said}"
    );
    let (well, said) = sink
        .command("ledger set", &format!("{set} --apply"))
        .await?;
    ensure!(!well && said.contains("has members"), "{said}");
    let (well, said) = sink
        .command("ledger set", &format!("{set} --apply --fence"))
        .await?;
    ensure!(well && said.contains("done"), "{said}");
    // The running one hears of it at its next commit.
    sink.produce(20, 2).await?;
    let twice = 120 + ends[&1];
    sink.await_rows(twice.try_into()?).await?;
    end(&running).await?;
    let found = sink
        .select("count(*), count(DISTINCT (kafka_partition, kafka_offset))")
        .await?;
    assert_eq!(found, [[json!(twice), json!(120)]]);

    let old = format!("default.{}", sink.name);
    let mut renamed = sink.twin()?;
    renamed.name = sink.lab.unique("sink");
    let (well, said) = renamed
        .command("ledger move", &format!("--from {old} --apply"))
        .await?;
    ensure!(well && said.contains("done"), "{said}");
    sink.produce(30, 3).await?;
    let stopped = sink.fail().await?;
    ensure!(stopped.contains("was moved to sink"), "{stopped}");
    renamed.catch_up().await?;
    let found = renamed
        .select("count(*), count(DISTINCT (kafka_partition, kafka_offset))")
        .await?;
    assert_eq!(found, [[json!(twice + 30), json!(150)]]);
    let (well, said) = renamed.command("ledger show", "").await?;
    let ends = sink.ends().await?;
    ensure!(
        well && ends
            .iter()
            .all(|(p, end)| said.contains(&format!("{topic}-{p}: next {end}"))),
        "{said}"
    );
    Ok(())
}
