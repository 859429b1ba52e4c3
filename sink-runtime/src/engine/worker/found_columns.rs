//! A column that was found and that the destination does not take costs the records that have it; what no record can
//! mend ends the worker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use parking_lot::Mutex;

use super::*;
use crate::errors::class;
use crate::plan::{Evolution, NoSecrets};
use crate::record::{Arena, TimestampType};
use crate::schema::iceberg::to_iceberg;
use crate::schema::{Field, Schema, Type};

const SINK: &str = "
apiVersion: tidewater.dev/v1alpha1
kind: KafkaS3Sink
metadata: {name: orders}
spec:
  source: {bootstrapServers: 'kafka:9092', topics: [orders]}
  value: {infer: {sampleRecords: 1}}
  destination: {local: {path: /tmp/orders}}
  onError: Skip
";
const BY_DAY: &str = "  partitioning: [{time: {granularity: Day}}]";

/// Does not take columns of this name, and says that it is this one.
struct Fussy {
    precedent: Arc<Precedent>,
    refuses: &'static str,
    says: &'static str,
    written: Arc<Mutex<Vec<i64>>>,
}

impl Shelf for Fussy {
    type File = ();

    fn prepare(&mut self, schema: &SchemaRef) -> Result<(), ShelfError> {
        if schema.column_with_name(self.refuses).is_none() {
            return Ok(());
        }
        let why = ShelfError::Fatal(
            "it cannot be".to_owned(),
            "test".into(),
            class::TABLE_INCOMPATIBLE,
        );
        Err(ShelfError::Unlike {
            precedent: Arc::clone(&self.precedent),
            column: self.says.to_owned(),
            why: Box::new(why),
        })
    }

    fn write(&mut self, rows: Rows, _now: Instant) -> Result<Vec<Unfit>, ShelfError> {
        self.written.lock().extend(rows.offsets);
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

/// What becomes of the records, whose offsets count from 10: those written, and how many were refused.
fn taken(
    layout: &str,
    columns: Vec<Field>,
    (refuses, says): (&'static str, &'static str),
    records: &[&str],
) -> Result<(Vec<i64>, u64), ShelfError> {
    let sink = format!("{SINK}{layout}");
    let plan = Plan::from_yaml(&sink, &NoSecrets).unwrap().remove(0);
    let everything = Evolution {
        add_columns: true,
        widen: true,
        make_optional: true,
        recreate_columns: false,
    };
    let schema = to_iceberg(&Schema { fields: columns }).unwrap();
    let written = Arc::new(Mutex::new(Vec::new()));
    let shelf = Fussy {
        precedent: Arc::new(Precedent::of(&schema, &[], everything)),
        refuses,
        says,
        written: Arc::clone(&written),
    };
    let counters = Arc::new(Counters::default());
    let (_, inbox) = crossbeam_channel::unbounded();
    let (outbox, _heard) = tokio::sync::mpsc::unbounded_channel();
    let budget = Budget::new(64 << 20);
    let spares = Arc::new(Spares::new(&budget));
    let mut worker = Worker::new(
        Arc::new(plan),
        budget,
        Arc::clone(&counters),
        spares,
        shelf,
        inbox,
        outbox,
    );
    let tp = TopicPartition::new("orders", 0);
    let epoch = AssignmentEpoch(0);
    worker.handle(ToWorker::Start {
        tp: tp.clone(),
        epoch,
        position: Offset(10),
    })?;
    let mut values = Arena::default();
    for record in records {
        values.push(Some(record.as_bytes()));
    }
    let rows = values.len();
    worker.batch(&RawBatch {
        tp,
        epoch,
        values,
        offsets: (10..10 + rows as i64).collect(),
        timestamps: vec![0; rows],
        timestamp_type: TimestampType::CreateTime,
        keys: None,
        headers: None,
    })?;
    let refused = counters.rejected.iter();
    let refused = refused.map(|count| count.load(Ordering::Relaxed)).sum();
    let written = written.lock().clone();
    Ok((written, refused))
}

const RECORDS: [&str; 4] = [
    r#"{"id":1}"#,
    r#"{"id":2,"odd":1}"#,
    r#"{"odd":null,"id":3,"new":1}"#,
    r#"{"Id":4}"#,
];

#[test]
fn records_with_a_column_that_the_destination_does_not_take_are_refused_and_the_others_written() {
    let id = || vec![Field::optional("id", Type::Long)];
    assert_eq!(
        taken("", id(), ("odd", "odd"), &RECORDS).unwrap(),
        (vec![10, 12], 2)
    );
    // Where the table's names are reason enough, nothing is named.
    let text = vec![
        Field::optional("Id", Type::Long),
        Field::optional("odd", Type::String),
    ];
    assert_eq!(
        taken("", text, ("id", ""), &RECORDS).unwrap(),
        (vec![13], 3)
    );
}

#[test]
fn a_refusal_that_names_no_found_column_ends_the_worker() {
    let id = || vec![Field::optional("id", Type::Long)];
    for says in ["", "another"] {
        let error = taken("", id(), ("id", says), &RECORDS).unwrap_err();
        assert_eq!(error.class(), class::TABLE_INCOMPATIBLE, "{says}");
        assert_eq!(error.to_string(), "it cannot be");
    }
}

#[test]
fn a_field_named_as_a_folder_is_labelled_costs_its_record_only() {
    let nobody = ("nothing", "nothing");
    let records = [
        r#"{"id":1}"#,
        r#"{"id":2,"day":"monday"}"#,
        r#"{"Year":1999}"#,
        r#"{"id":4,"day":null,"week":{"day":1}}"#,
    ];
    let with_folders = taken(BY_DAY, Vec::new(), nobody, &records);
    assert_eq!(with_folders.unwrap(), (vec![10, 13], 2));
    let without = taken("", Vec::new(), nobody, &records);
    assert_eq!(without.unwrap(), (vec![10, 11, 12, 13], 0));
}
