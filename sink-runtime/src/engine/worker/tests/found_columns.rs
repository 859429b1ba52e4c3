//! A column that was found and that the destination does not take costs the records that have it; what no record can
//! mend ends the worker.

use super::*;
use crate::plan::Evolution;
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

/// What becomes of the records, whose offsets count from 10: those written, and how many were refused.
fn taken(
    layout: &str,
    columns: Vec<Field>,
    (refuses, says): (&'static str, &'static str),
    records: &[&str],
) -> Result<(Vec<i64>, u64), ShelfError> {
    let everything = Evolution {
        add_columns: true,
        widen: true,
        make_optional: true,
        recreate_columns: false,
    };
    let schema = to_iceberg(&Schema { fields: columns }).unwrap();
    let shelf = Picky {
        unlike: Some(Unlike {
            precedent: Arc::new(Precedent::of(&schema, &[], everything)),
            refuses,
            says,
        }),
        ..Picky::default()
    };
    let mut bench = Bench::of(&format!("{SINK}{layout}"), shelf, &Budget::new(64 << 20));
    bench.start(0, 10);
    bench.try_feed(0, 10, records)?;
    let refused = bench.worker.counters.rejected.iter();
    let refused = refused.map(|count| count.load(Ordering::Relaxed)).sum();
    Ok((bench.written(), refused))
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
