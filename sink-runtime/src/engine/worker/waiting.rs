//! Rows wait for a destination that cannot take them yet: in order, on the budget, and without standing in the way of
//! cuts, revocations or the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::sync::atomic::AtomicBool;

use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::errors::class;
use crate::layout::Unfit;
use crate::plan::NoSecrets;
use crate::record::{Arena, TimestampType};

const SINK: &str = "
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata: {name: orders}
spec:
  source: {bootstrapServers: 'kafka:9092', topics: [orders]}
  value: {schema: {fields: [{name: id, type: long}]}}
  onError: Skip
  destination: {local: {path: /tmp/orders}}
";

/// Takes nothing while it is away.
struct Distant {
    away: Arc<AtomicBool>,
    written: Vec<(i32, i64)>,
}

impl Shelf for Distant {
    type File = ();

    fn prepare(&mut self, _schema: &SchemaRef) -> Result<(), ShelfError> {
        if self.away.load(Ordering::Relaxed) {
            let told = Some((class::CATALOG_UNAVAILABLE, "nobody answers".to_owned()));
            return Err(ShelfError::Later { told });
        }
        Ok(())
    }

    fn write(&mut self, rows: Rows, _now: Instant) -> Result<Vec<Unfit>, ShelfError> {
        let each = rows
            .offsets
            .iter()
            .map(|offset| (rows.tp.partition, *offset));
        self.written.extend(each);
        Ok(Vec::new())
    }

    fn seal(&mut self, _lanes: &[TopicPartition]) -> Result<Vec<()>, ShelfError> {
        Ok(Vec::new())
    }

    fn discard(&mut self, _lanes: &[TopicPartition]) {}

    fn due(&mut self, _now: Instant) -> Vec<TopicPartition> {
        Vec::new()
    }

    fn shed(&mut self, _budget: &Budget) -> Result<(), ShelfError> {
        Ok(())
    }

    fn open_files(&self) -> usize {
        0
    }
}

struct Bench {
    away: Arc<AtomicBool>,
    budget: Budget,
    worker: Worker<Distant>,
    said: UnboundedReceiver<FromWorker<()>>,
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

impl Bench {
    fn new() -> Self {
        Self::with(SINK)
    }

    fn with(spec: &str) -> Self {
        let plan = Plan::from_yaml(spec, &NoSecrets).unwrap().remove(0);
        let (outbox, said) = unbounded_channel();
        let (_, inbox) = crossbeam_channel::unbounded();
        let away = Arc::new(AtomicBool::new(true));
        let shelf = Distant {
            away: Arc::clone(&away),
            written: Vec::new(),
        };
        let budget = Budget::new(64 << 20);
        let spares = Arc::new(Spares::new(&budget));
        let worker = Worker::new(
            Arc::new(plan),
            budget.clone(),
            Arc::default(),
            spares,
            shelf,
            inbox,
            outbox,
        );
        let mut bench = Self {
            away,
            budget,
            worker,
            said,
        };
        for partition in 0..2 {
            bench.tell(ToWorker::Start {
                tp: tp(partition),
                epoch: AssignmentEpoch(1),
                position: Offset(0),
            });
        }
        bench
    }

    fn tell(&mut self, message: ToWorker) {
        self.worker.handle(message).unwrap();
    }

    /// Two records, and a kilobyte on the budget.
    fn feed(&mut self, partition: i32, first: i64) {
        self.feed_these(partition, first, [r#"{"id": 1}"#; 2]);
    }

    fn feed_these(&mut self, partition: i32, first: i64, values: [&str; 2]) {
        let mut raw = RawBatch {
            tp: tp(partition),
            epoch: AssignmentEpoch(1),
            values: Arena::default(),
            offsets: vec![first, first + 1],
            timestamps: vec![0; 2],
            timestamp_type: TimestampType::CreateTime,
            keys: None,
            headers: None,
            leader_epoch: None,
        };
        for value in values {
            raw.values.push(Some(value.as_bytes()));
        }
        let held = [self.budget.reserve(1024), self.budget.reserve(0)];
        self.tell(ToWorker::Batch(Box::new((raw, held))));
    }

    fn advance(&mut self, partition: i32, at: i64) {
        self.tell(ToWorker::Advance {
            tp: tp(partition),
            epoch: AssignmentEpoch(1),
            at: Offset(at),
        });
    }

    /// Tries again as often as that, each time when it is time.
    fn try_again(&mut self, times: u32) {
        for _ in 0..times {
            let due = self.worker.backlog.again().unwrap();
            self.worker.catch_up(due).unwrap();
        }
    }

    fn sealed(&mut self, partition: i32) -> OffsetRange {
        let lanes = vec![(tp(partition), AssignmentEpoch(1))];
        let cut = CutId(1);
        self.tell(ToWorker::Cut { cut, lanes });
        while let Ok(said) = self.said.try_recv() {
            if let FromWorker::Sealed { share, .. } = said {
                return share.lanes[0].range;
            }
        }
        panic!("nothing was sealed");
    }

    fn reasons(&mut self) -> Vec<&'static str> {
        let said = std::iter::from_fn(|| self.said.try_recv().ok());
        said.filter_map(|said| match said {
            FromWorker::Waits { class, .. } => Some(class.reason),
            FromWorker::Broken { class, message } => panic!("{class:?}: {message}"),
            _ => None,
        })
        .collect()
    }
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange {
        start: Offset(start),
        end: Offset(end),
    }
}

#[test]
fn rows_that_the_destination_cannot_take_yet_wait_without_end_and_go_in_as_they_came() {
    let mut bench = Bench::new();
    bench.feed(0, 0);
    bench.advance(0, 5);
    bench.feed(1, 0);
    bench.feed(0, 5);
    bench.try_again(1000);
    assert_eq!(bench.worker.shelf.written, []);
    let told = bench.reasons();
    assert_eq!(
        (told.len(), told[0]),
        (1001, class::CATALOG_UNAVAILABLE.reason)
    );
    assert_eq!(bench.budget.used(), 3 * 1024, "reading stops by it");

    bench.away.store(false, Ordering::Relaxed);
    let too_early = bench.worker.backlog.again().unwrap() - Duration::from_millis(1);
    bench.worker.catch_up(too_early).unwrap();
    assert_eq!(bench.worker.shelf.written, []);
    bench.try_again(1);
    let written = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 5), (0, 6)];
    assert_eq!(bench.worker.shelf.written, written);
    assert_eq!(bench.sealed(0), range(0, 7));
    // What comes now goes in at once.
    bench.feed(1, 2);
    assert_eq!(bench.worker.shelf.written[6..], [(1, 2), (1, 3)]);
}

#[test]
fn what_waits_is_in_no_cut() {
    let mut bench = Bench::new();
    bench.feed(0, 0);
    bench.advance(0, 9);
    assert_eq!(bench.sealed(0), range(0, 0));
    bench.away.store(false, Ordering::Relaxed);
    bench.try_again(1);
    assert_eq!(bench.sealed(0), range(0, 9));
}

#[test]
fn what_waits_makes_nobody_give_memory_back() {
    let mut bench = Bench::new();
    bench.budget = Budget::new(4000);
    bench.feed(0, 0);
    bench.feed(0, 2);
    assert!(!bench.budget.must_shed(), "the first two thirds");
    bench.feed(0, 4);
    bench.feed(0, 6);
    assert!(bench.budget.must_pause());
    assert_eq!(
        (bench.budget.must_shed(), bench.budget.excess()),
        (false, 0)
    );
    bench.away.store(false, Ordering::Relaxed);
    bench.try_again(1);
    assert!(bench.budget.may_resume());
}

#[test]
fn a_record_that_stops_the_sink_is_told_after_what_waits_before_it() {
    let mut bench = Bench::with(&SINK.replace("Skip", "Fail"));
    bench.feed(0, 0);
    bench.feed_these(0, 2, [r#"{"id": 1}"#, "no record"]);
    bench.feed(0, 4);
    bench.try_again(10);
    let refused = |said: FromWorker<()>| match said {
        FromWorker::Refused(refused) => Some((refused.offset, refused.before)),
        _ => None,
    };
    let said = |bench: &mut Bench| {
        let said = std::iter::from_fn(|| bench.said.try_recv().ok());
        said.filter_map(refused).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut bench), []);
    bench.away.store(false, Ordering::Relaxed);
    bench.try_again(1);
    assert_eq!(said(&mut bench), [(Offset(3), true)]);
    assert_eq!(bench.worker.shelf.written, [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(bench.sealed(0), range(0, 3));
}

#[test]
fn a_worker_whose_rows_wait_ends_when_it_is_told() {
    let mut bench = Bench::new();
    bench.feed(0, 0);
    let (inbox, messages) = crossbeam_channel::unbounded();
    bench.worker.inbox = messages;
    let running = std::thread::spawn(|| bench.worker.run());
    inbox.send(ToWorker::Stop).unwrap();
    running.join().unwrap();
}

#[test]
fn what_waits_of_a_lane_that_is_gone_is_dropped_and_gives_its_memory_back() {
    let mut bench = Bench::new();
    bench.feed(0, 0);
    bench.feed(1, 0);
    bench.feed(0, 2);
    bench.tell(ToWorker::Discard(vec![tp(0)]));
    assert_eq!(bench.budget.used(), 1024);
    bench.away.store(false, Ordering::Relaxed);
    bench.try_again(1);
    assert_eq!(bench.worker.shelf.written, [(1, 0), (1, 1)]);
}
