#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::shedding::WORTH_RELIEVING;
use super::*;
use crate::files::Places;
use crate::files::samples::orders;
use crate::plan::{JsonCompression, OutputFormat, ParquetCompression, ParquetOptions};
use crate::varied::explore;

mod bounds;

/// Uploads as vectors.
#[derive(Default)]
struct Memory {
    begun: Vec<(FileId, String, i64)>,
}

#[derive(Debug, Default)]
struct Upload(Vec<Bytes>);

impl<G> Outlet<G, String> for Memory {
    type Upload = Upload;

    fn begin(&mut self, opening: &Opening<'_, G, String>) -> Upload {
        self.begun
            .push((opening.id, opening.key.as_ref().clone(), opening.first.1));
        Upload::default()
    }

    fn push(&mut self, upload: &mut Upload, part: Bytes) {
        upload.0.push(part);
    }
}

type Table = OpenFiles<TopicPartition, String, Upload>;

fn limits() -> Limits {
    Limits {
        file_bytes: 1 << 40,
        file_records: None,
        places: Places::new(1000, 1),
        sealed_files: 1000,
        open_for: secs(60),
        idle_for: None,
        group_bytes: None,
        group_records: None,
    }
}

fn format() -> Format {
    let options = ParquetOptions {
        compression: ParquetCompression::Snappy,
        row_group_rows: 100_000,
        row_group_bytes: 128 << 20,
        page_bytes: 1 << 20,
        dictionary: true,
        statistics: true,
        bloom_filters: Default::default(),
    };
    Format::new(OutputFormat::Parquet(options), 32 << 10)
}

fn table(limits: Limits) -> Table {
    table_in(limits, &Budget::new(1 << 30))
}

fn table_in(limits: Limits, budget: &Budget) -> Table {
    let sink = ("tidewater.sink".to_owned(), "default.orders".to_owned());
    OpenFiles::new(format(), limits, vec![sink], budget)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn slice(key: &str, first: i64, rows: usize) -> Slice<String> {
    Slice {
        key: Arc::new(key.to_owned()),
        batch: orders(first, rows),
        first_offset: first,
        last_offset: first + rows as i64 - 1,
    }
}

fn write(table: &mut Table, partition: i32, slice: &Slice<String>, at: u64) {
    let tp = tp(partition);
    table
        .write(&tp, &tp, slice, secs(at), &mut Memory::default())
        .unwrap();
}

fn cut(table: &mut Table, partition: i32) -> Cut<String, Upload> {
    table.cut(&tp(partition), &mut Memory::default()).unwrap()
}

fn read(file: &Sealed<String, Upload>) -> RecordBatch {
    let bytes = Bytes::from(file.upload.0.concat());
    assert_eq!(bytes.len() as u64, file.size);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

#[test]
fn a_group_with_a_failed_upload_is_due_at_once_and_no_other() {
    let mut table = table(Limits {
        file_records: Some(2000),
        ..limits()
    });
    // A file of 1 is sealed and waits; the others have rows, and no byte on its way.
    write(&mut table, 0, &slice("a", 0, 1999), 0);
    write(&mut table, 1, &slice("a", 0, 1500), 0);
    write(&mut table, 1, &slice("b", 1500, 2500), 0);
    write(&mut table, 2, &slice("a", 0, 1), 0);
    let due = |table: &mut Table, failed: bool| {
        table.make_spoiled_due(|upload| failed && !upload.0.is_empty());
        table.due(secs(1))
    };
    assert!(due(&mut table, false).is_empty());
    assert_eq!(due(&mut table, true), [tp(1)]);
    assert_eq!(table.totals(&tp(1)).sealed_files, 1);
    cut(&mut table, 1);
    assert!(due(&mut table, true).is_empty());
}

#[test]
fn a_group_is_due_by_the_first_rule_that_holds() {
    struct Case {
        name: &'static str,
        limits: Limits,
        schedule: Option<u64>,
        /// Second and rows of each write.
        writes: &'static [(u64, usize)],
        not_due_at: u64,
        due_at: u64,
    }
    let cases = [
        Case {
            name: "open since its first record",
            limits: limits(),
            schedule: None,
            writes: &[(100, 1), (150, 1)],
            not_due_at: 159,
            due_at: 160,
        },
        Case {
            name: "idle since its last record",
            limits: Limits {
                idle_for: Some(secs(5)),
                ..limits()
            },
            schedule: None,
            writes: &[(100, 1), (104, 1)],
            not_due_at: 108,
            due_at: 109,
        },
        Case {
            name: "a moment of the schedule",
            limits: limits(),
            schedule: Some(120),
            writes: &[(100, 1)],
            not_due_at: 119,
            due_at: 120,
        },
        Case {
            name: "a moment before its first record is not its",
            limits: limits(),
            schedule: Some(90),
            writes: &[(100, 1)],
            not_due_at: 159,
            due_at: 160,
        },
        Case {
            name: "records of the group",
            limits: Limits {
                group_records: Some(10),
                ..limits()
            },
            schedule: None,
            writes: &[(100, 4), (100, 6)],
            not_due_at: 0,
            due_at: 100,
        },
        Case {
            name: "bytes of the group",
            limits: Limits {
                group_bytes: Some(1000),
                ..limits()
            },
            schedule: None,
            writes: &[(100, 100)],
            not_due_at: 0,
            due_at: 100,
        },
    ];
    for case in cases {
        let mut table = table(case.limits);
        table.set_schedule(case.schedule.map(secs));
        assert_eq!(table.next_deadline(), None, "{}", case.name);
        let mut offset = 0;
        for (at, rows) in case.writes {
            write(&mut table, 0, &slice("k", offset, *rows), *at);
            offset += *rows as i64;
        }
        if case.not_due_at > 0 {
            assert!(table.due(secs(case.not_due_at)).is_empty(), "{}", case.name);
            assert_eq!(
                table.next_deadline(),
                Some(secs(case.due_at)),
                "{}",
                case.name
            );
        }
        assert_eq!(table.due(secs(case.due_at)), [tp(0)], "{}", case.name);
        assert_eq!(table.due(secs(case.due_at)), [tp(0)], "stays until cut");
        assert_eq!(cut(&mut table, 0).files.len(), 1, "{}", case.name);
        assert!(table.due(secs(1_000_000)).is_empty(), "{}", case.name);
    }
}

#[test]
fn a_full_file_makes_its_group_due_only_when_it_is_the_last_open_one() {
    let full = Limits {
        file_records: Some(10),
        ..limits()
    };
    let mut table = table(full);
    write(&mut table, 0, &slice("a", 0, 5), 0);
    write(&mut table, 0, &slice("b", 5, 10), 0);
    assert!(table.due(secs(0)).is_empty());
    let totals = table.totals(&tp(0));
    assert_eq!(
        (totals.open_files, totals.sealed_files, totals.rows),
        (1, 1, 15)
    );
    write(&mut table, 0, &slice("a", 15, 5), 0);
    assert_eq!(table.due(secs(0)), [tp(0)]);
}

#[test]
fn large_files_are_sealed_near_their_limit() {
    let mut table = table(Limits {
        file_bytes: 512 << 10,
        ..limits()
    });
    for n in 0..30 {
        write(&mut table, 0, &slice("a", n * 2000, 2000), 0);
    }
    let files = cut(&mut table, 0).files;
    assert!(files.len() > 2);
    for file in &files[..files.len() - 1] {
        assert!((256 << 10..1 << 20).contains(&file.size), "{}", file.size);
    }
}

#[test]
fn a_partition_that_goes_quiet_is_still_committed_and_progress_without_rows_too() {
    let mut table = table(limits());
    write(&mut table, 0, &slice("a", 0, 1), 10);
    table.note(&tp(1), secs(20));
    assert_eq!(table.next_deadline(), Some(secs(70)));
    assert_eq!(table.due(secs(80)), [tp(0), tp(1)]);
    assert_eq!(cut(&mut table, 0).since, Some(secs(10)));
    let empty = cut(&mut table, 1);
    assert_eq!((empty.files.len(), empty.since), (0, Some(secs(20))));
    assert_eq!(cut(&mut table, 1).since, None);
}

fn versioned(version: u32, id: i64) -> Slice<String> {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    let mut columns = vec![("id", ids, false)];
    if version == 2 {
        let added: ArrayRef = Arc::new(StringArray::from(vec!["new"]));
        columns.push(("added", added, false));
    }
    Slice {
        key: Arc::new("k".to_owned()),
        batch: RecordBatch::try_from_iter_with_nullable(columns).unwrap(),
        first_offset: id,
        last_offset: id,
    }
}

/// T19: confluentinc/kafka-connect-storage-cloud#412, #520.
#[test]
fn alternating_schemas_do_not_rotate_the_file() {
    let mut table = table(limits());
    for id in 0..100 {
        write(&mut table, 0, &versioned(1 + (id % 2) as u32, id), 0);
    }
    let files = cut(&mut table, 0).files;
    // One of the first version alone, begun before the second was known.
    assert_eq!(files.iter().map(|f| f.rows).collect::<Vec<_>>(), [1, 99]);
    assert_ne!(files[0].fingerprint, files[1].fingerprint);
    let rows = read(&files[1]);
    let ids = rows
        .column_by_name("id")
        .unwrap()
        .as_primitive::<Int64Type>();
    assert_eq!(ids.values().to_vec(), (1..100).collect::<Vec<_>>());
    assert_eq!(rows.column_by_name("added").unwrap().null_count(), 49);

    for id in 100..110 {
        write(&mut table, 0, &versioned(1 + (id % 2) as u32, id), 0);
    }
    assert_eq!(cut(&mut table, 0).files.len(), 1, "known from the start");
}

#[test]
fn rows_of_a_changed_table_go_into_a_file_of_their_own() {
    let field = |id: &str| {
        arrow::datatypes::Field::new("c", arrow::datatypes::DataType::Int64, true)
            .with_metadata([("PARQUET:field_id".to_owned(), id.to_owned())].into())
    };
    let of = |id: &str, offset: i64| Slice {
        key: Arc::new("k".to_owned()),
        batch: RecordBatch::try_new(
            Arc::new(arrow::datatypes::Schema::new(vec![field(id)])),
            vec![Arc::new(Int64Array::from(vec![offset]))],
        )
        .unwrap(),
        first_offset: offset,
        last_offset: offset,
    };
    let mut table = table(limits());
    write(&mut table, 0, &of("1", 0), 0);
    write(&mut table, 0, &of("1", 1), 0);
    // Dropped and added again: same name, other column.
    write(&mut table, 0, &of("2", 2), 0);
    let files = cut(&mut table, 0).files;
    let ids = |f: &Sealed<String, Upload>| {
        let counts = &f.metrics.as_ref().unwrap().value_counts;
        counts.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(files.iter().map(ids).collect::<Vec<_>>(), [[1], [2]]);
}

#[test]
fn small_files_begin_no_upload_before_they_are_sealed() {
    let mut table = table(limits());
    let mut outlet = Memory::default();
    let tp = tp(3);
    table
        .write(&tp, &tp, &slice("a", 7, 5), secs(0), &mut outlet)
        .unwrap();
    assert!(outlet.begun.is_empty());
    table.cut(&tp, &mut outlet).unwrap();
    assert_eq!(outlet.begun, [(FileId(0), "a".to_owned(), 7)]);
}

/// One group for all: files by partition alone, as Iceberg tables have them.
#[test]
fn files_may_mix_topic_partitions_and_know_what_they_hold() {
    let mut table: OpenFiles<(), String, Upload> =
        OpenFiles::new(format(), limits(), Vec::new(), &Budget::new(1 << 30));
    let mut outlet = Memory::default();
    for (partition, first) in [(0, 10), (1, 50), (0, 30)] {
        let rows = slice("p=1", first, 5);
        table
            .write(&(), &tp(partition), &rows, secs(0), &mut outlet)
            .unwrap();
    }
    let files = table.cut(&(), &mut outlet).unwrap().files;
    assert_eq!(files.len(), 1);
    let span = |first, last, rows| Span { first, last, rows };
    assert_eq!(
        files[0]
            .spans
            .iter()
            .map(|(tp, s)| (tp.partition, *s))
            .collect::<Vec<_>>(),
        [(0, span(10, 34, 10)), (1, span(50, 54, 5))]
    );
}

#[test]
fn every_row_is_in_exactly_one_sealed_file() {
    let cases = (
        prop::collection::vec((0..2i32, 0..4usize, 1..400usize, 0..8u8), 1..40),
        50..2000u64,
        1..6usize,
    );
    let varied = explore(24, &cases, |(steps, file_records, open_files), varied| {
        let budget = Budget::new(1 << 20);
        let mut table = table_in(
            Limits {
                file_records: Some(file_records),
                places: Places::new(open_files, 1),
                ..limits()
            },
            &budget,
        );
        let mut outlet = Memory::default();
        let mut next = [0i64, 0];
        let mut files: Vec<(i32, Sealed<String, Upload>)> = Vec::new();
        for (second, (partition, key, rows, act)) in steps.into_iter().enumerate() {
            let first = next[partition as usize];
            next[partition as usize] += rows as i64;
            let rows = slice(&format!("k{key}"), first, rows);
            let group = tp(partition);
            table
                .write(&group, &group, &rows, secs(second as u64), &mut outlet)
                .unwrap();
            if act == 0 {
                let cut = table.cut(&group, &mut outlet).unwrap();
                files.extend(cut.files.into_iter().map(|f| (partition, f)));
            }
            if act < 3 {
                varied.met(match table.shed(&mut outlet).unwrap() {
                    0 => "nothing to shed",
                    _ => "shed",
                });
            }
            prop_assert_eq!(budget.used(), table.memory());
        }
        for partition in 0..2 {
            let cut = table.cut(&tp(partition), &mut outlet).unwrap();
            files.extend(cut.files.into_iter().map(|f| (partition, f)));
        }
        prop_assert_eq!((table.memory(), table.open_files()), (0, 0));
        let mut seen = [Vec::new(), Vec::new()];
        for (partition, file) in &files {
            let rows = read(file);
            let ids = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            let span = file.spans[&tp(*partition)];
            prop_assert_eq!(file.spans.len(), 1);
            prop_assert_eq!(Some(&span.first), ids.first());
            prop_assert_eq!(Some(&span.last), ids.last());
            prop_assert!(ids.is_sorted());
            prop_assert_eq!((span.rows, file.rows), (ids.len() as u64, ids.len() as u64));
            varied.met(match file.rows >= file_records {
                true => "sealed for its records",
                false => "sealed before",
            });
            seen[*partition as usize].extend(ids);
        }
        for (partition, mut ids) in seen.into_iter().enumerate() {
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..next[partition]).collect::<Vec<_>>());
        }
        Ok(())
    });
    varied.assert_varied(&["sealed for its records", "sealed before"], 20);
}
