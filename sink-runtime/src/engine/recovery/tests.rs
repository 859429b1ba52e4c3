#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::super::coordinator::CutScope;
use super::super::deliver::{Job, Landed, Unsettled};
use super::*;
use crate::plan::NoSecrets;
use crate::record::{Counted, LastRead, TopicName};

/// A destination that keeps the first census that it is told.
#[derive(Debug, Default)]
struct Keeps {
    told: Mutex<Vec<Census>>,
}

#[async_trait]
impl Deliver for Keeps {
    type File = ();

    fn scope(&self) -> CutScope {
        CutScope::Lane
    }

    async fn recover(
        &self,
        _asked: &BTreeMap<TopicPartition, Facts>,
        _doubted: &Doubts,
    ) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
        panic!("not asked")
    }

    async fn census(&self, now: &Census) -> Result<Census, Failure> {
        let mut told = self.told.lock();
        told.push(now.clone());
        Ok(told[0].clone())
    }

    async fn anchor(
        &self,
        _tp: &TopicPartition,
        _at: Offset,
        _generation: u64,
        _facts: &Facts,
    ) -> Result<bool, Failure> {
        panic!("not asked")
    }

    async fn commit(&self, _job: &mut Job<()>) -> Result<Landed, Failure> {
        panic!("not asked")
    }

    fn abandon(&self, _files: Vec<()>) {}

    async fn settle(&self, _lanes: &[TopicPartition]) -> Unsettled {
        Unsettled::default()
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// Where these start, by the group's offsets and what the ledger says, and which of them wait.
async fn starts(
    look: &Look,
    deliver: &Keeps,
    partitions: &[i32],
    group: &[(i32, i64)],
    ledger: &[(i32, i64)],
) -> (Vec<(i32, i64)>, Vec<i32>) {
    let fact = Facts {
        cluster_id: None,
        topic_id: None,
        log_start: Offset(3),
        log_end: Offset(70),
        leader_epoch: None,
        cut: None,
    };
    let asked = partitions.iter().map(|n| (tp(*n), fact.clone())).collect();
    let group = group.iter().map(|(n, at)| (tp(*n), Offset(*at))).collect();
    let next = |at: i64| Known {
        next: Some(Offset(at)),
        ..Known::default()
    };
    let known = ledger.iter().map(|(n, at)| (tp(*n), next(*at))).collect();
    let mut looked = Looked {
        ask: Ask::default(),
        found: BTreeMap::new(),
        waiting: BTreeMap::new(),
        refused: None,
        doubts: Doubts::new(),
    };
    let found = look.starts(deliver, &asked, &group, &known, &mut looked);
    let found = found.await.unwrap().into_iter();
    let waiting = looked.waiting.keys().map(|tp| tp.partition);
    (
        found
            .map(|(tp, start)| (tp.partition, start.at.0))
            .collect(),
        waiting.collect(),
    )
}

fn looks_at(brokers: &str) -> Look {
    let spec = format!(
        "
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata: {{name: orders}}
spec:
  source: {{bootstrapServers: '{brokers}', topics: [orders], startup: {{mode: Latest}}}}
  value: {{schema: {{fields: [{{name: id, type: long}}]}}}}
  destination: {{local: {{path: /tmp/orders}}}}
"
    );
    let plan = Plan::from_yaml(&spec, &NoSecrets).unwrap().remove(0);
    let patience = Duration::from_secs(5);
    Look {
        facts: Arc::new(KafkaFacts::of_whole_logs(&plan.source, patience).unwrap()),
        plan: Arc::new(plan),
        counted: Arc::default(),
        patience,
    }
}

// R3, T16
#[tokio::test]
async fn the_end_is_said_of_what_is_there_when_the_sink_starts_also_where_its_group_was_before() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("orders", 2, 1).unwrap();
    let brokers = mock.bootstrap_servers();
    let (look, deliver) = (looks_at(&brokers), Keeps::default());
    // The group has offsets of all there is: nothing starts at its end, and nothing may be committed for long.
    let group = [(0, 40), (1, 50)];
    let found = starts(&look, &deliver, &[0, 1], &group, &[]).await;
    assert_eq!(found, (vec![(0, 40), (1, 50)], vec![]));
    assert_eq!(ends_told(&deliver), [[Some(0), Some(0)]]);
    // One that is noticed later is not among them.
    let found = starts(&look, &deliver, &[2], &[], &[]).await;
    assert_eq!(found, (vec![(2, 3)], vec![]));

    // It is looked up once by each process, and not at all where the ledger knows everything.
    let told = deliver.told.lock().len();
    starts(&look, &deliver, &[0, 1], &group, &[]).await;
    let another = looks_at(&brokers);
    starts(&another, &deliver, &[0, 1], &group, &[(0, 45), (1, 50)]).await;
    assert_eq!(deliver.told.lock().len(), told);
    starts(&another, &deliver, &[0, 1], &group, &[(0, 45)]).await;
    assert_eq!(deliver.told.lock().len(), told + 1);
}

/// The ends of the topic in each census that was told.
fn ends_told(deliver: &Keeps) -> Vec<Vec<Option<i64>>> {
    let told = deliver.told.lock();
    let ends = |census: &Census| match &census[&TopicName::new("orders")] {
        Counted::Ends { ends, .. } => ends.iter().map(|end| end.map(|end| end.0)).collect(),
        Counted::Partitions(_) => panic!("without ends: {census:?}"),
    };
    told.iter().map(ends).collect()
}

#[tokio::test]
async fn the_end_is_that_of_the_first_start_also_of_a_partition_that_it_did_not_get_to() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("orders", 3, 1).unwrap();
    let brokers = mock.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .unwrap();
    let produce = |partition: i32, records: usize| {
        for _ in 0..records {
            let record = BaseRecord::<(), str>::to("orders").partition(partition);
            producer.send(record.payload("{}")).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    };
    produce(0, 4);
    produce(1, 7);
    let deliver = Keeps::default();
    // The first process got as far as one partition, and wrote nothing of it down.
    let found = starts(&looks_at(&brokers), &deliver, &[0], &[], &[]).await;
    assert_eq!(found, (vec![(0, 4)], vec![]));
    assert_eq!(ends_told(&deliver), [[Some(4), Some(7), Some(0)]]);
    for partition in 0..3 {
        produce(partition, 5);
    }
    let found = starts(&looks_at(&brokers), &deliver, &[0, 1, 2], &[], &[]).await;
    assert_eq!(found, (vec![(0, 4), (1, 7), (2, 0)], vec![]));
}

#[tokio::test]
async fn a_partition_that_did_not_tell_its_end_then_starts_at_its_end_of_now() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("orders", 2, 1).unwrap();
    let deliver = Keeps::default();
    let of_then = Counted::Ends {
        id: None,
        ends: vec![None, Some(Offset(9))],
    };
    let of_then: Census = [(TopicName::new("orders"), of_then)].into();
    deliver.told.lock().push(of_then);
    let look = looks_at(&mock.bootstrap_servers());
    let found = starts(&look, &deliver, &[0, 1], &[], &[]).await;
    assert_eq!(found, (vec![(0, 0), (1, 9)], vec![]));
    // The other's log lost its end meanwhile, or is another one.
    let of_log = |log_start, log_end| Facts {
        cluster_id: None,
        topic_id: None,
        log_start: Offset(log_start),
        log_end: Offset(log_end),
        leader_epoch: None,
        cut: None,
    };
    let sure = [(tp(1), Said::default())].into();
    let check = |log: &Facts| look.check_first(&tp(1), Offset(9), By::FirstStart, log, &sure);
    assert!(check(&of_log(3, 9)).is_ok());
    for (log, as_class, says) in [
        (of_log(0, 8), class::START_BEYOND_LOG, "first start"),
        (of_log(10, 20), class::OFFSET_OUT_OF_RANGE, "[9, 10)"),
    ] {
        match check(&log) {
            Err(Failure::Trouble { class, message }) => {
                assert_eq!(class, as_class);
                assert!(message.contains(says), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_read_before_it_is_known_what_was_there_at_the_start() {
    // Nobody listens there.
    let (look, deliver) = (looks_at("127.0.0.1:1"), Keeps::default());
    let found = starts(&look, &deliver, &[0, 1, 2], &[(0, 40), (1, 50)], &[(1, 60)]).await;
    assert_eq!(found, (vec![(1, 60)], vec![0, 2]));
    assert_eq!(deliver.told.lock().len(), 0);
}

// T15
#[tokio::test]
async fn a_log_that_had_another_leader_is_held_against_the_last_record() {
    let mock = MockCluster::new(2).unwrap();
    mock.create_topic("orders", 2, 1).unwrap();
    let look = looks_at(&mock.bootstrap_servers());
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .create()
        .unwrap();
    let produce = |records: usize| {
        for partition in 0..2 {
            for _ in 0..records {
                let record = BaseRecord::<(), str>::to("orders").partition(partition);
                producer.send(record.payload("{}")).unwrap();
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    };
    let facts = || {
        let tps = [tp(0), tp(1)];
        let told = ask_kafka(&look, tps.to_vec()).into_iter();
        // The mock cluster, which counts leaders from 0, tells an epoch with records only.
        let of_second = |facts| Facts {
            leader_epoch: Some(1),
            ..facts
        };
        let facts = told.map(|(tp, told)| (tp, of_second(told.unwrap().0)));
        facts.collect::<BTreeMap<_, _>>()
    };
    produce(5);
    for partition in 0..2 {
        mock.partition_leader("orders", partition, Some(2)).unwrap();
    }
    produce(5);
    // As if the first leader had written eight, of which three were lost.
    let last = |offset: i64| Known {
        next: Some(Offset(offset + 1)),
        last_read: Some(LastRead {
            offset: Offset(offset),
            leader_epoch: 0,
        }),
        ..Known::default()
    };
    let find = async |known: &BTreeMap<TopicPartition, Known>| {
        let mut asked = facts();
        let mut looked = Looked {
            ask: Ask::default(),
            found: BTreeMap::new(),
            waiting: BTreeMap::new(),
            refused: None,
            doubts: Doubts::new(),
        };
        let any = look.find_cuts(&mut asked, known, &mut looked).await;
        assert!(looked.waiting.is_empty(), "{:?}", looked.waiting);
        let cuts: Vec<_> = asked.values().map(|fact| fact.cut).collect();
        (any.unwrap(), cuts)
    };
    let known = [(tp(0), last(7)), (tp(1), last(4))].into();
    assert_eq!(find(&known).await, (true, vec![Some(Offset(5)), None]));
    let known = [(tp(1), last(4))].into();
    assert_eq!(find(&known).await, (false, vec![None, None]));
}
