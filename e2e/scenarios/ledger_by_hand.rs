//! `tidewater ledger` on a dataset: a person moves it, knowing what that costs, and nothing else changes.

use anyhow::{Result, ensure};
use serde_json::json;
use tidewater_e2e::{Lab, Record, Topic, orders};

use crate::dataset_sink::{Answer, DatasetSink, stop};

/// What a command said, which must have gone well.
fn said(answer: Answer) -> Result<String> {
    ensure!(
        answer.code == Some(0),
        "{}\n{}",
        answer.stdout,
        answer.stderr
    );
    Ok(answer.stdout)
}

fn refused(answer: Answer) -> Result<String> {
    ensure!(answer.code == Some(1), "{}", answer.stdout);
    Ok(answer.stderr)
}

/// `n` orders in partition 0.
async fn filled(n: u64) -> Result<(Topic, DatasetSink)> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(n, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?;
    Ok((topic, sink))
}

#[tokio::test]
async fn a_record_that_stops_a_sink_is_passed_by_hand_and_nothing_else_is_left_out() -> Result<()> {
    let (topic, sink) = filled(50).await?;
    let sink = sink.with(json!({"onError": "Fail"}));
    topic.produce([Record::new(0, "no order")]).await?;
    topic.produce(orders(50, 2)).await?;
    let ended = sink.run_to_the_end(&[]).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);

    let place = ["--topic", topic.name(), "--partition", "0"];
    let skip = |to: &'static str| [&place[..], &["--to", to]].concat();
    let shown = said(sink.command("ledger show").await?)?;
    ensure!(shown.contains("next 50, topic "), "{shown}");
    let told = said(sink.command_with("ledger skip", &skip("51")).await?)?;
    ensure!(
        told.contains("50 -> 51: 1 offsets, [50, 51), are never read")
            && told.contains("give --apply"),
        "{told}"
    );
    assert_eq!(
        said(sink.command("ledger show").await?)?,
        shown,
        "only told"
    );
    for (to, why) in [
        ("40", "is below 50, where the ledger stands"),
        ("102", "is beyond the log's end 101"),
        ("tomorrow", "give an offset, earliest or latest"),
    ] {
        let apply = [&skip(to)[..], &["--apply"]].concat();
        let answer = sink.command_with("ledger skip", &apply).await?;
        ensure!(
            answer.code != Some(0) && answer.stderr.contains(why),
            "{}",
            answer.stderr
        );
    }
    let other = Lab::shared().await?.topic("others", 1).await?;
    let elsewhere = ["--topic", other.name(), "--to", "latest", "--apply"];
    let why = refused(sink.command_with("ledger set", &elsewhere).await?)?;
    ensure!(
        why.contains("no topic of that name is there and read by"),
        "{why}"
    );
    let apply = [&skip("51")[..], &["--apply"]].concat();
    let done = said(sink.command_with("ledger skip", &apply).await?)?;
    ensure!(done.contains("is read on at 51"), "{done}");
    // What lag is counted from while nobody reads.
    assert_eq!(topic.committed(&sink.group(), 0).await?, Some(51));
    sink.catch_up().await?;
    assert_eq!(sink.count().await?, (100, 100));
    let around = "SELECT count(*) FROM $t WHERE _offset IN (49, 50, 51)";
    assert_eq!(sink.value(around).await?, json!(2));
    sink.assert_as_sent().await?;
    Ok(())
}

/// The group is of the brokers' own protocol (KIP-848), which older calls do not describe.
#[tokio::test]
async fn a_running_sink_is_not_touched_by_hand_unless_it_is_fenced_and_then_reads_on_there()
-> Result<()> {
    let (topic, sink) = filled(100).await?;
    let sink = sink.with(json!({"source": {"properties": {
        "group.protocol": "consumer", "session.timeout.ms": null, "heartbeat.interval.ms": null,
    }}}));
    let running = sink.start()?;
    sink.await_rows(100).await?;
    let set = ["--topic", topic.name(), "--to", "earliest", "--apply"];
    let why = refused(sink.command_with("ledger set", &set).await?)?;
    ensure!(
        why.contains("has members") && why.contains("spec.paused: true"),
        "{why}"
    );
    let fenced = [&set[..], &["--fence"]].concat();
    let done = said(sink.command_with("ledger set", &fenced).await?)?;
    ensure!(
        done.contains("100 -> 0: 100 offsets, [0, 100), are read again")
            && done.contains("_partition = 0 AND _offset >= 0 AND _offset < 100"),
        "{done}"
    );
    // It hears of it at its next commit.
    topic.produce(orders(10, 2)).await?;
    sink.await_rows(210).await?;
    stop(&running).await?;
    assert_eq!(sink.count().await?, (210, 110));
    Ok(())
}

#[tokio::test]
async fn a_ledger_goes_on_under_another_name_and_under_that_alone() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 3).await?;
    topic.produce(orders(100, 1)).await?;
    let old = DatasetSink::of(lab, &topic).await?;
    old.catch_up().await?;
    let mut new = DatasetSink::of(lab, &topic).await?;
    new.move_to(old.bucket());
    let none = refused(
        new.command_with("ledger move", &["--from", "default.nobody"])
            .await?,
    )?;
    ensure!(none.contains("--from default.nobody: no ledger"), "{none}");

    let from = ["--from", &old.id()];
    let told = said(new.command_with("ledger move", &from).await?)?;
    ensure!(told.contains("give --apply"), "{told}");
    let done = said(
        new.command_with("ledger move", &[&from[..], &["--apply"]].concat())
            .await?,
    )?;
    ensure!(done.contains("stops with LedgerMoved"), "{done}");
    for partition in 0..3 {
        let next = topic.offsets(partition).await?.1;
        assert_eq!(topic.committed(&new.group(), partition).await?, Some(next));
    }
    let again = said(
        new.command_with("ledger move", &[&from[..], &["--apply"]].concat())
            .await?,
    )?;
    ensure!(again.contains("nothing to do"), "{again}");

    topic.produce(orders(100, 2)).await?;
    let ended = old.run_to_the_end(&[]).await?;
    assert_eq!(ended.status.code(), Some(1));
    ensure!(
        ended
            .log
            .contains(&format!("was moved to sink \"{}\"", new.id())),
        "{}",
        ended.log
    );
    new.catch_up().await?;
    new.assert_once(200).await?;
    // Its ledger is there, and another's would have to go in its place.
    let mut third = DatasetSink::of(lab, &topic).await?;
    third.move_to(old.bucket());
    let why = refused(third.command_with("ledger move", &from).await?)?;
    ensure!(why.contains(&format!("was moved to {}", new.id())), "{why}");
    Ok(())
}
