#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::{Told, check_topic};
use super::*;
use crate::commit::dataset::CommitRequest;
use crate::plan::NoSecrets;
use crate::record::OffsetRange;
use crate::store::MemoryStore;

const OLD: &str = "default.old";
const NEW: &str = "default.new";

fn plan(name: &str) -> Plan {
    let spec = format!(
        "
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata: {{name: {name}, namespace: default}}
spec:
  source: {{bootstrapServers: 'nowhere:9092', topics: [orders]}}
  value: {{schema: {{fields: [{{name: id, type: long}}]}}}}
  destination: {{local: {{path: /tmp/orders}}}}
"
    );
    Plan::from_yaml(&spec, &NoSecrets).unwrap().remove(0)
}

fn sink(name: &str) -> SinkId {
    SinkId(name.to_owned())
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// A process of the sink has read `[0, end)`.
async fn reads(store: &Arc<dyn Store>, name: &str, partition: i32, end: i64) {
    let committer = sink::committer(&plan(name), store);
    committer.open(&tp(partition)).await.unwrap();
    let range = OffsetRange {
        start: Offset(0),
        end: Offset(end),
    };
    let request = CommitRequest {
        tp: tp(partition),
        expected: None,
        range,
        generation: 0,
        floor: Offset(0),
        last_read: None,
        files: Vec::new(),
        commit_id: CommitId::fresh(),
        cluster_id: None,
        topic_id: None,
    };
    committer.commit(request).await.unwrap();
}

/// The old sink has `[0, 30)` of partition 0 and `[0, 7)` of partition 1.
async fn begun() -> (Arc<dyn Store>, Held) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    reads(&store, "old", 0, 30).await;
    reads(&store, "old", 1, 7).await;
    (Arc::clone(&store), Held::Dataset(store))
}

async fn moving(held: &Held) -> Result<Lines, CliError> {
    held.moving(&plan("new"), &sink(OLD), &sink(NEW)).await
}

#[tokio::test]
async fn a_move_that_died_anywhere_is_finished_by_the_same_command() {
    let (store, held) = begun().await;
    let (old, new) = (
        sink::committer(&plan("old"), &store),
        sink::committer(&plan("new"), &store),
    );
    for step in 0..3 {
        match step {
            0 => new.reserve(&tp(0), OLD, Offset(30)).await.unwrap(),
            1 => drop(old.leave(&tp(0), NEW).await.unwrap()),
            _ => drop(
                new.arrive(old.leave(&tp(0), NEW).await.unwrap())
                    .await
                    .unwrap(),
            ),
        }
        let todo = moving(&held).await.unwrap();
        assert_eq!(todo.contains_key(&tp(0)), step < 2, "{step}");
        assert!(todo.contains_key(&tp(1)));
    }
    let todo = moving(&held).await.unwrap();
    held.take_over(&plan("new"), &sink(OLD), &todo)
        .await
        .unwrap();
    assert!(moving(&held).await.unwrap().is_empty());
    let there = held.lines(&plan("new"), &sink(NEW)).await.unwrap();
    let next = there.values().map(|line| line.next().unwrap());
    assert_eq!(next.collect::<Vec<_>>(), [Offset(30), Offset(7)]);
}

#[tokio::test]
async fn a_place_that_is_kept_is_told_and_is_no_ledger_to_be_moved() {
    let (store, held) = begun().await;
    let new = sink::committer(&plan("new"), &store);
    new.reserve(&tp(0), OLD, Offset(30)).await.unwrap();
    let there = held.lines(&plan("new"), &sink(NEW)).await.unwrap();
    let line = &there[&tp(0)];
    assert!(
        line.to_string()
            .contains("kept for the ledger of default.old")
    );
    assert!(
        line.next()
            .is_err_and(|e| e.0.contains("--from default.old"))
    );
    let back = held.moving(&plan("old"), &sink(NEW), &sink(OLD)).await;
    assert!(back.is_err_and(|e| e.0.contains("no ledger of that sink")));
}

#[tokio::test]
async fn a_ledger_that_the_new_sink_began_by_itself_is_not_taken_for_the_one_that_was_left() {
    let (store, held) = begun().await;
    let old = sink::committer(&plan("old"), &store);
    old.leave(&tp(0), NEW).await.unwrap();
    reads(&store, "new", 0, 12).await;
    let CliError(why) = moving(&held).await.map(drop).unwrap_err();
    assert!(why.contains("at 30") && why.contains("next 12"), "{why}");
}

#[tokio::test]
async fn a_sink_that_began_since_it_was_looked_at_leaves_the_old_ledger_as_it_was() {
    let (store, held) = begun().await;
    let todo = moving(&held).await.unwrap();
    reads(&store, "new", 0, 12).await;
    let key = crate::ledger::ledger_key(OLD, &tp(0));
    let before = store.get(&key).await.unwrap();
    let refused = held.take_over(&plan("new"), &sink(OLD), &todo).await;
    let CliError(why) = refused.unwrap_err();
    assert!(why.contains("nothing was changed"), "{why}");
    assert_eq!(store.get(&key).await.unwrap(), before);
}

#[test]
fn a_move_that_is_half_done_does_not_say_that_nothing_was_changed() {
    let (old, new) = (sink(OLD), sink(NEW));
    let fenced = || CommitFailure::Fenced {
        found: Some(Offset(12)),
    };
    let CliError(left) = not_left((&old, &new), fenced());
    let CliError(arrived) = not_arrived((&old, &new), fenced());
    for why in [&left, &arrived] {
        assert!(!why.contains("nothing was changed"), "{why}");
        assert!(why.contains("the same command"), "{why}");
    }
    assert!(arrived.contains("has left its ledger") && arrived.contains("next 12"));
}

#[test]
fn a_position_is_not_set_in_a_topic_whose_log_says_that_it_is_another() {
    let tp = TopicPartition::new("orders", 0);
    let topic = tp.topic.clone();
    let ids = |id: Option<&str>| -> BTreeMap<TopicName, String> {
        let id = id.map(str::to_owned);
        id.map(|id| (topic.clone(), id)).into_iter().collect()
    };
    let may = |recorded: Option<&str>, found: Option<&str>, end: i64| {
        let ledger = TableLedger {
            topic_ids: ids(recorded),
            ..TableLedger::default()
        };
        let told = Told {
            runs: Ok(false),
            cluster_id: None,
            topic_ids: ids(found),
            logs: BTreeMap::new(),
            census: Census::new(),
        };
        let log = OffsetRange {
            start: Offset(0),
            end: Offset(end),
        };
        let line = Line::of_table(&ledger, &tp, Offset(100));
        check_topic(&tp, Some(&line), &told, log).is_ok()
    };
    assert!(!may(None, None, 60), "a new one, as a sink takes it too");
    assert!(!may(Some("a"), None, 60));
    assert!(!may(Some("a"), Some("b"), 200));
    assert!(may(Some("a"), Some("a"), 60), "the same one, that was cut");
    assert!(may(None, None, 100));
}
