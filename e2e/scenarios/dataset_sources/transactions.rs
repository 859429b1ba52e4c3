//! Records of transactions: committed, aborted, and open.

use super::*;

#[tokio::test]
async fn aborted_transactions_stay_invisible_and_control_records_are_no_lag() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.transaction(orders(100, 1), Outcome::Abort).await?;
    topic.transaction(orders(60, 2), Outcome::Commit).await?;
    topic.transaction(orders(40, 3), Outcome::Abort).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    sink.catch_up().await?;
    sink.assert_once(60).await?;
    let status = sink.command("status").await?;
    assert!(
        status.stdout.contains(&format!("{}: lag 0", sink.id())),
        "{}",
        status.stdout
    );
    let (_, end) = topic.offsets(0).await?;
    assert_eq!(topic.committed(&sink.group(), 0).await?, Some(end));

    let everything = DatasetSink::of(lab, &topic).await?;
    let everything = everything.with(json!({"source": {"isolationLevel": "ReadUncommitted"}}));
    everything.catch_up().await?;
    everything.assert_once(200).await
}

#[tokio::test]
async fn an_open_transaction_is_waited_for_and_holds_up_its_partition_only() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let to = |partition: i32, n: u64, seed: u64| {
        orders(n, seed).map(move |record| Record {
            partition,
            ..record
        })
    };
    topic.produce(to(0, 10, 1)).await?;
    let open = topic.open_transaction(to(0, 30, 2)).await?;
    topic.produce(to(0, 7, 3)).await?;
    topic.produce(to(1, 50, 4)).await?;
    let mut sink = DatasetSink::of(lab, &topic).await?.alone();
    let first = sink.start()?;
    sink.await_rows(60).await?;
    topic.produce(to(1, 5, 5)).await?;
    sink.await_rows(65).await?;
    let by_partition = "SELECT count(*) FROM $t WHERE _partition = 0";
    assert_eq!(sink.value(by_partition).await?, json!(10));
    assert_eq!(topic.committed(&sink.group(), 0).await?, Some(10));
    first.kill9();

    // What the transaction began is read once it ends, whoever runs then, and what came behind it too.
    sink.change(json!({"rotation": {"maxOpen": "500ms"}}));
    let second = sink.start()?;
    topic.produce(to(1, 5, 6)).await?;
    sink.await_rows(70).await?;
    assert_eq!(sink.value(by_partition).await?, json!(10));
    open.end(Outcome::Commit).await?;
    sink.await_rows(107)
        .await
        .with_context(|| second.process().log_tail())?;
    stop(&second).await?;
    sink.assert_once(107).await
}
