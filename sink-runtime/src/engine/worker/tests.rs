#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::errors::class;
use crate::layout::{Refusal, Unfit};
use crate::plan::NoSecrets;
use crate::record::{Arena, TimestampType};
use crate::schema::precedent::Precedent;

mod found_columns;

/// A shelf that has no place for some offsets and does not take a column, and remembers what it wrote.
#[derive(Default)]
struct Picky {
    unfit: Vec<i64>,
    unlike: Option<Unlike>,
    written: Arc<Mutex<Vec<i64>>>,
}

/// Columns of this name are not taken, and it is said that it is this one.
struct Unlike {
    precedent: Arc<Precedent>,
    refuses: &'static str,
    says: &'static str,
}

impl Shelf for Picky {
    type File = ();

    fn prepare(&mut self, schema: &SchemaRef) -> Result<(), ShelfError> {
        let Some(unlike) = &self.unlike else {
            return Ok(());
        };
        if schema.column_with_name(unlike.refuses).is_none() {
            return Ok(());
        }
        let why = ShelfError::Fatal(
            "it cannot be".to_owned(),
            "test".into(),
            class::TABLE_INCOMPATIBLE,
        );
        Err(ShelfError::Unlike {
            precedent: Arc::clone(&unlike.precedent),
            column: unlike.says.to_owned(),
            why: Box::new(why),
        })
    }

    fn write(&mut self, rows: Rows, _now: Instant) -> Result<Vec<Unfit>, ShelfError> {
        let why = Arc::new(Refusal {
            class: RejectClass::OutOfRange,
            message: "field `c`: no place".to_owned(),
        });
        let (unfit, fit): (Vec<_>, Vec<_>) =
            (0..rows.offsets.len()).partition(|row| self.unfit.contains(&rows.offsets[*row]));
        self.written
            .lock()
            .extend(fit.iter().map(|row| rows.offsets[*row]));
        let unfit = unfit.into_iter().map(|row| Unfit {
            row,
            why: Arc::clone(&why),
        });
        Ok(unfit.collect())
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

/// A worker that is told what to do, and what it says.
struct Bench {
    worker: Worker<Picky>,
    said: UnboundedReceiver<FromWorker<()>>,
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

impl Bench {
    fn new(on_error: &str, unfit: &[i64], budget: &Budget) -> Self {
        let dead_letter = match on_error {
            "DeadLetter" => "  deadLetter: {topic: dead}",
            _ => "",
        };
        let text = format!(
            "
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata: {{name: orders}}
spec:
  source: {{bootstrapServers: 'kafka:9092', topics: [orders]}}
  value: {{schema: {{fields: [{{name: id, type: long}}]}}}}
  onError: {on_error}
{dead_letter}
  rotation: {{maxOpen: 1h}}
  destination: {{local: {{path: /tmp/orders}}}}
"
        );
        let shelf = Picky {
            unfit: unfit.to_vec(),
            ..Picky::default()
        };
        Self::of(&text, shelf, budget)
    }

    fn of(sink: &str, shelf: Picky, budget: &Budget) -> Self {
        let plan = Plan::from_yaml(sink, &NoSecrets).unwrap().remove(0);
        let (outbox, said) = unbounded_channel();
        let (_, inbox) = crossbeam_channel::unbounded();
        let worker = Worker::new(
            Arc::new(plan),
            budget.clone(),
            Arc::default(),
            Arc::new(Spares::new(budget)),
            shelf,
            inbox,
            outbox,
        );
        Self { worker, said }
    }

    fn start(&mut self, partition: i32, position: i64) {
        let start = ToWorker::Start {
            tp: tp(partition),
            epoch: AssignmentEpoch(1),
            position: Offset(position),
        };
        self.worker.handle(start).unwrap();
    }

    /// Records at offsets from `first` on.
    fn feed(&mut self, partition: i32, first: i64, values: &[&str]) {
        self.try_feed(partition, first, values).unwrap();
    }

    fn try_feed(&mut self, partition: i32, first: i64, values: &[&str]) -> Result<(), ShelfError> {
        let mut raw = RawBatch {
            tp: tp(partition),
            epoch: AssignmentEpoch(1),
            values: Arena::default(),
            offsets: (first..).take(values.len()).collect(),
            timestamps: vec![0; values.len()],
            timestamp_type: TimestampType::CreateTime,
            keys: None,
            headers: None,
            leader_epoch: None,
        };
        for value in values {
            raw.values.push(Some(value.as_bytes()));
        }
        self.worker.batch(&raw)
    }

    fn written(&self) -> Vec<i64> {
        self.worker.shelf.written.lock().clone()
    }

    fn cut(&mut self, partition: i32) -> SealedLane {
        let lanes = [(tp(partition), AssignmentEpoch(1))];
        self.worker.cut(CutId(1), &lanes).unwrap();
        loop {
            match self.said.try_recv() {
                Ok(FromWorker::Sealed { mut share, .. }) => return share.lanes.remove(0),
                Ok(FromWorker::Began(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn due(&mut self) -> Vec<TopicPartition> {
        self.worker.look(Instant::now()).unwrap();
        while let Ok(said) = self.said.try_recv() {
            if let FromWorker::Due(lanes) = said {
                return lanes;
            }
        }
        Vec::new()
    }
}

const FIVE: [&str; 5] = [
    r#"{"id": 0}"#,
    r#"{"id": 1}"#,
    "no json",
    r#"{"id": 3}"#,
    r#"{"id": 4}"#,
];

#[test]
fn a_row_without_a_place_is_a_dead_letter_among_the_others_and_costs_no_other_row() {
    let mut bench = Bench::new("DeadLetter", &[11, 13], &Budget::new(1 << 20));
    bench.start(0, 10);
    bench.feed(0, 10, &FIVE);
    assert_eq!(bench.written(), [10, 14]);
    let sealed = bench.cut(0);
    let letters: Vec<_> = sealed
        .letters
        .iter()
        .map(|letter| (letter.offset.0, letter.class))
        .collect();
    let wanted = [
        (11, RejectClass::OutOfRange),
        (12, RejectClass::Malformed),
        (13, RejectClass::OutOfRange),
    ];
    assert_eq!(letters, wanted);
    assert_eq!(sealed.letters[0].value.as_deref(), Some(FIVE[1].as_bytes()));
    assert_eq!((sealed.rows, sealed.range.end), (2, Offset(15)));
}

#[test]
fn a_row_without_a_place_is_skipped_and_counted_where_that_is_wanted() {
    let mut bench = Bench::new("Skip", &[13], &Budget::new(1 << 20));
    bench.start(0, 10);
    bench.feed(0, 10, &FIVE);
    let sealed = bench.cut(0);
    assert_eq!((sealed.rows, sealed.letters.len()), (3, 0));
    assert_eq!(sealed.range.end, Offset(15));
    let counters = &bench.worker.counters;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(
        count(&counters.rejected[RejectClass::OutOfRange as usize]),
        1
    );
    assert_eq!(
        count(&counters.rejected[RejectClass::Malformed as usize]),
        1
    );
    assert_eq!((count(&counters.rows), count(&counters.tombstones)), (3, 0));
}

#[test]
fn a_row_without_a_place_stops_the_sink_where_that_is_wanted_and_the_first_is_named() {
    let mut bench = Bench::new("Fail", &[11, 13], &Budget::new(1 << 20));
    bench.start(0, 10);
    bench.feed(0, 10, &FIVE);
    let said = bench.said.try_recv();
    let Ok(FromWorker::Refused(refused)) = said else {
        panic!("{said:?}");
    };
    assert_eq!(
        (refused.offset, refused.class),
        (Offset(11), RejectClass::OutOfRange)
    );
    // Rows behind it are in the open file.
    assert!(bench.worker.halted && !refused.before);
    assert_eq!(bench.worker.lanes[&tp(0)].position, 10);
}

#[test]
fn what_is_before_a_record_that_stops_the_sink_can_be_committed_and_nothing_behind_it() {
    let mut bench = Bench::new("Fail", &[], &Budget::new(1 << 20));
    bench.start(0, 10);
    bench.start(1, 0);
    bench.feed(0, 10, &FIVE);
    let refused = std::iter::from_fn(|| bench.said.try_recv().ok()).find_map(|said| match said {
        FromWorker::Refused(refused) => Some(refused),
        _ => None,
    });
    let refused = refused.unwrap();
    assert_eq!(
        (refused.offset, refused.class, refused.before),
        (Offset(12), RejectClass::Malformed, true)
    );
    assert_eq!(bench.written(), [10, 11]);
    // What comes behind it is not taken, of another partition all.
    bench.feed(0, 15, &FIVE[3..]);
    bench.feed(1, 0, &FIVE[3..]);
    assert_eq!(bench.written(), [10, 11, 0, 1]);
    let counters = &bench.worker.counters;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let rejected = count(&counters.rejected[RejectClass::Malformed as usize]);
    assert_eq!(
        (count(&counters.rows), count(&counters.tombstones), rejected),
        (4, 0, 1)
    );
    let sealed = bench.cut(0);
    assert_eq!((sealed.rows, sealed.range.end), (2, Offset(12)));
}

#[test]
fn of_a_batch_that_begins_before_the_lane_only_the_rest_is_taken() {
    let mut bench = Bench::new("DeadLetter", &[], &Budget::new(1 << 20));
    bench.start(0, 13);
    bench.feed(0, 10, &FIVE);
    assert_eq!(bench.written(), [13, 14]);
    let sealed = bench.cut(0);
    assert_eq!((sealed.rows, sealed.letters.len()), (2, 0));
    let range = (sealed.range.start, sealed.range.end);
    assert_eq!(range, (Offset(13), Offset(15)));
    // The whole of it again: nothing.
    bench.feed(0, 10, &FIVE);
    assert_eq!(bench.written(), [13, 14]);
}

#[test]
fn above_the_mark_the_lanes_with_most_letters_are_due() {
    let budget = Budget::new(1 << 20);
    let mut bench = Bench::new("DeadLetter", &[], &budget);
    let broken = "x".repeat(100 << 10);
    for (partition, letters) in [(0, 1), (1, 4), (2, 2)] {
        bench.start(partition, 0);
        bench.feed(partition, 0, &vec![broken.as_str(); letters]);
    }
    assert!(!budget.must_shed());
    assert!(bench.due().is_empty());
    bench.start(3, 0);
    bench.feed(3, 0, &["no json"]);
    bench.feed(2, 2, &[broken.as_str()]);
    assert!(budget.must_shed());
    assert_eq!(bench.due(), [tp(1)]);
    let sealed = bench.cut(1);
    assert_eq!(sealed.letters.len(), 4);
    // What is on its way asks for no more, though it is still held.
    assert!(budget.used() > 700 << 10);
    assert!(bench.due().is_empty());

    // Not for what is not worth a commit.
    let _much = budget.reserve(1 << 20);
    assert_eq!(bench.due(), [tp(2), tp(0)]);
}
