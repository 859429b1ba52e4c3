#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array,
    Int64Array, StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Int64Type};
use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::layout::Slice;
use crate::plan::{TimeLevel, TimeSource};
use crate::record::TopicPartition;

mod unfit;

const DAY: i64 = 86_400_000_000;
/// Bytes for all folders of a file.
const ROOM: usize = 700;

fn level(label: Option<&str>, format: &str) -> TimeLevel {
    TimeLevel {
        label: label.map(str::to_owned),
        format: format.to_owned(),
    }
}

fn time(source: TimeSource, timezone: Tz, levels: Vec<TimeLevel>) -> PartitionExpr {
    PartitionExpr::Time {
        source,
        timezone,
        levels,
    }
}

fn hourly(timezone: Tz) -> PartitionExpr {
    let levels = vec![level(Some("dt"), "%Y-%m-%d"), level(Some("hour"), "%H")];
    time(TimeSource::Column("at".to_owned()), timezone, levels)
}

fn column(column: &str, label: &str) -> PartitionExpr {
    PartitionExpr::Column {
        column: column.to_owned(),
        label: label.to_owned(),
    }
}

/// Rows with their own number in the column `n`, at offsets that grow in steps of three.
fn rows(columns: Vec<(&str, ArrayRef)>) -> Rows {
    let count = columns[0].1.len();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
    let mut columns = columns;
    columns.push(("n", numbers));
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Rows {
        tp: TopicPartition::new("orders", 0),
        batch: RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap(),
        offsets: (0..count as i64).map(|n| 100 + 3 * n).collect(),
        timestamps: vec![0; count],
    }
}

fn split(exprs: &[PartitionExpr], rows: &Rows) -> Vec<Slice<HivePartition>> {
    let mut splitter = HiveSplitter::new(exprs, rows.batch.schema_ref()).unwrap();
    let Split { slices, unfit } = splitter.split(rows, 0, ROOM).unwrap();
    assert!(unfit.is_empty());
    for slice in &slices {
        assert_eq!(slice.batch.schema_ref(), splitter.file_schema());
    }
    slices
}

fn numbers(slice: &Slice<HivePartition>) -> Vec<i64> {
    let column = slice.batch.column_by_name("n").unwrap();
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// Path -> row numbers.
fn by_path(slices: &[Slice<HivePartition>]) -> BTreeMap<String, Vec<i64>> {
    let pairs = slices
        .iter()
        .map(|slice| (slice.key.path.clone(), numbers(slice)));
    pairs.collect()
}

fn paths_of(array: ArrayRef) -> Vec<String> {
    let slices = split(&[column("c", "c")], &rows(vec![("c", array)]));
    slices.into_iter().map(|s| s.key.path.clone()).collect()
}

fn instants(texts: &[&str]) -> ArrayRef {
    let micros = texts.iter().map(|text| {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_micros()
    });
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn without_partitioning_all_rows_stay_together() {
    let rows = rows(vec![("c", Arc::new(Int32Array::from(vec![1, 2])))]);
    let slices = split(&[], &rows);
    assert_eq!(slices.len(), 1);
    assert_eq!((slices[0].first_offset, slices[0].last_offset), (100, 103));
    assert_eq!(slices[0].key.path, "");
    assert_eq!(slices[0].key.values, Vec::<String>::new());
    assert!(
        split(
            &[],
            &super::tests::rows(vec![("c", Arc::new(Int32Array::from(Vec::<i32>::new())))])
        )
        .is_empty()
    );
}

#[test]
fn each_row_goes_where_its_own_time_and_value_say() {
    let at = instants(&[
        "2026-11-21T10:00:00Z",
        "2026-11-21T10:59:59.999999Z",
        "2026-11-21T11:00:00Z",
        "2026-11-21T10:30:00Z",
    ]);
    let country: ArrayRef = Arc::new(StringArray::from(vec![
        Some("ES"),
        Some("ES"),
        None,
        Some("PT"),
    ]));
    let slices = split(
        &[hourly(Tz::UTC), column("country", "country")],
        &rows(vec![("at", at), ("country", country)]),
    );
    let found: Vec<_> = slices
        .iter()
        .map(|s| {
            (
                s.key.path.as_str(),
                numbers(s),
                s.first_offset,
                s.last_offset,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("dt=2026-11-21/hour=10/country=ES", vec![0, 1], 100, 103),
            (
                "dt=2026-11-21/hour=11/country=__HIVE_DEFAULT_PARTITION__",
                vec![2],
                106,
                106
            ),
            ("dt=2026-11-21/hour=10/country=PT", vec![3], 109, 109),
        ]
    );
    assert_eq!(slices[2].key.values, ["2026-11-21", "10", "PT"]);
}

#[test]
fn rows_that_stand_together_are_sliced_without_a_copy() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2, 2, 2]));
    let rows = rows(vec![("c", values)]);
    let source = rows.batch.column_by_name("n").unwrap().to_data().buffers()[0].as_ptr();
    for (slice, skipped) in split(&[column("c", "part")], &rows).iter().zip([0, 2]) {
        let data = slice.batch.column_by_name("n").unwrap().to_data();
        let start = data.buffers()[0].as_ptr().wrapping_add(data.offset() * 8);
        assert_eq!(start, source.wrapping_add(skipped * 8));
    }
}

#[test]
fn hours_follow_the_zone_over_both_changes_of_its_clocks() {
    let at = instants(&[
        "2026-03-29T00:59:59Z", // 01:59:59, then the clocks go forward
        "2026-03-29T01:00:00Z",
        "2026-10-25T00:59:59Z", // 02:59:59, then back
        "2026-10-25T01:00:00Z",
        "2026-10-24T22:00:00Z",
    ]);
    let found = by_path(&split(
        &[hourly(chrono_tz::Europe::Madrid)],
        &rows(vec![("at", at)]),
    ));
    let wanted = BTreeMap::from([
        ("dt=2026-03-29/hour=01".to_owned(), vec![0]),
        ("dt=2026-03-29/hour=03".to_owned(), vec![1]),
        ("dt=2026-10-25/hour=02".to_owned(), vec![2, 3]),
        ("dt=2026-10-25/hour=00".to_owned(), vec![4]),
    ]);
    assert_eq!(found, wanted);
}

#[test]
fn times_before_1970_fall_into_their_own_day() {
    let at: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, -DAY, -DAY - 1]).with_timezone("UTC"));
    let found = by_path(&split(&[hourly(Tz::UTC)], &rows(vec![("at", at)])));
    let wanted = BTreeMap::from([
        ("dt=1969-12-31/hour=23".to_owned(), vec![0]),
        ("dt=1970-01-01/hour=00".to_owned(), vec![1]),
        ("dt=1969-12-31/hour=00".to_owned(), vec![2]),
        ("dt=1969-12-30/hour=23".to_owned(), vec![3]),
    ]);
    assert_eq!(found, wanted);
}

#[test]
fn a_null_where_times_make_folders_goes_to_the_default_partition() {
    let at: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![None, None]).with_timezone("UTC"));
    let slices = split(&[hourly(chrono_tz::Asia::Kolkata)], &rows(vec![("at", at)]));
    let default = DEFAULT_PARTITION;
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].key.path, format!("dt={default}/hour={default}"));
    assert_eq!(slices[0].key.values, [default, default]);
    assert!(slices[0].batch.column_by_name("at").is_some());
}

#[test]
fn what_has_no_zone_is_not_moved() {
    let local: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![DAY - 1]));
    let date: ArrayRef = Arc::new(Date32Array::from(vec![0]));
    for array in [local, date] {
        let slices = split(
            &[hourly(chrono_tz::America::New_York)],
            &rows(vec![("at", array)]),
        );
        assert!(slices[0].key.path.starts_with("dt=1970-01-01/"));
    }
}

#[test]
fn record_time_and_wall_clock_need_no_column() {
    let mut rows = rows(vec![("c", Arc::new(Int32Array::from(vec![1, 2, 3])))]);
    rows.timestamps = vec![3_600_000, -1, 3_600_001];
    let levels = || vec![level(None, "%Y/%m/%d/%H")];
    let by_record = [time(TimeSource::RecordTimestamp, Tz::UTC, levels())];
    let wanted = BTreeMap::from([
        ("1970/01/01/01".to_owned(), vec![0, 2]),
        (DEFAULT_PARTITION.to_owned(), vec![1]),
    ]);
    assert_eq!(by_path(&split(&by_record, &rows)), wanted);

    let by_clock = [time(TimeSource::WallClock, Tz::UTC, levels())];
    let mut splitter = HiveSplitter::new(&by_clock, rows.batch.schema_ref()).unwrap();
    let mut path = |now| {
        splitter.split(&rows, now, ROOM).unwrap().slices[0]
            .key
            .path
            .clone()
    };
    assert_eq!(path(0), "1970/01/01/00");
    assert_eq!(path(7_200_000), "1970/01/01/02");
}

#[test]
fn finer_formats_split_as_finely() {
    let at = instants(&[
        "2026-11-21T10:00:00.000Z",
        "2026-11-21T10:00:00.500Z",
        "2026-11-21T10:00:01Z",
        "2026-11-21T10:01:00Z",
    ]);
    let rows = rows(vec![("at", at)]);
    for (format, partitions) in [
        ("%H", 1),
        ("%H%M", 2),
        ("%s", 3),
        ("%H%M%S%.3f", 4),
        ("%+", 4),
    ] {
        let levels = vec![level(Some("t"), format)];
        let expr = time(TimeSource::Column("at".to_owned()), Tz::UTC, levels);
        assert_eq!(split(&[expr], &rows).len(), partitions, "{format}");
    }
}

#[test]
fn values_of_every_type_have_their_usual_text() {
    let cases: Vec<(ArrayRef, &[&str])> = vec![
        (Arc::new(Int32Array::from(vec![-7, 0])), &["c=-7", "c=0"]),
        (
            Arc::new(BooleanArray::from(vec![true, false])),
            &["c=true", "c=false"],
        ),
        (
            Arc::new(Float64Array::from(vec![7.0, 1.5, -0.25, 1e300])),
            &["c=7", "c=1.5", "c=-0.25", "c=1e300"],
        ),
        (
            Arc::new(Time64MicrosecondArray::from(vec![0, 32_003_500_000])),
            &["c=00%3A00%3A00", "c=08%3A53%3A23.500"],
        ),
        (
            Arc::new(Date32Array::from(vec![-1, 20_778])),
            &["c=1969-12-31", "c=2026-11-21"],
        ),
        (
            Arc::new(
                Decimal128Array::from(vec![1250, -5])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            &["c=12.50", "c=-0.05"],
        ),
        (
            Arc::new(FixedSizeBinaryArray::try_from_iter([[0xab; 16]].into_iter()).unwrap()),
            &["c=abababab-abab-abab-abab-abababababab"],
        ),
        (
            instants(&["2026-11-21T10:00:00Z", "1969-12-31T23:59:59.5Z"]),
            &["c=2026-11-21 10%3A00%3A00", "c=1969-12-31 23%3A59%3A59.500"],
        ),
        (
            Arc::new(StringArray::from(vec![
                "a b", "50%", "x/y", "ü=[1]", "", "tab\t^",
            ])),
            &[
                "c=a b",
                "c=50%25",
                "c=x%2Fy",
                "c=ü%3D%5B1%5D",
                "c=__HIVE_DEFAULT_PARTITION__",
                "c=tab%09%5E",
            ],
        ),
    ];
    for (array, wanted) in cases {
        assert_eq!(paths_of(array), wanted);
    }
}

#[test]
fn a_column_under_its_own_name_leaves_the_file_and_under_another_stays() {
    let country: ArrayRef = Arc::new(StringArray::from(vec!["ES"]));
    let rows = rows(vec![("Country", country)]);
    let names = |label| {
        let slices = split(&[column("Country", label)], &rows);
        let schema = slices[0].batch.schema();
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
        names
    };
    assert_eq!(names("country"), ["n"]);
    assert_eq!(names("land"), ["Country", "n"]);
}

#[test]
fn a_column_may_appear_change_its_type_and_go_between_batches() {
    let without = rows(vec![("x", Arc::new(Int32Array::from(vec![1])))]);
    let integer = rows(vec![("c", Arc::new(Int32Array::from(vec![7])))]);
    let string = rows(vec![("c", Arc::new(StringArray::from(vec!["7"])))]);
    let exprs = [column("c", "c")];
    let mut splitter = HiveSplitter::new(&exprs, without.batch.schema_ref()).unwrap();
    for (rows, path) in [
        (&without, "c=__HIVE_DEFAULT_PARTITION__"),
        (&integer, "c=7"),
        (&string, "c=7"),
        (&without, "c=__HIVE_DEFAULT_PARTITION__"),
    ] {
        let slices = splitter.split(rows, 0, ROOM).unwrap().slices;
        assert_eq!(slices[0].key.path, path);
        assert_eq!(slices[0].batch.schema_ref(), splitter.file_schema());
    }
}

#[test]
fn a_column_inside_a_struct_is_null_where_the_struct_is() {
    let inner: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let fields = vec![Field::new("region", DataType::Utf8, true)];
    let array = StructArray::new(
        fields.into(),
        vec![inner],
        Some(NullBuffer::from(vec![true, false])),
    );
    let rows = rows(vec![("shop", Arc::new(array))]);
    let found = by_path(&split(&[column("shop.region", "region")], &rows));
    let wanted = BTreeMap::from([
        ("region=a".to_owned(), vec![0]),
        (format!("region={DEFAULT_PARTITION}"), vec![1]),
    ]);
    assert_eq!(found, wanted);
}

#[test]
fn a_format_that_cannot_be_read_is_refused() {
    let expr = time(
        TimeSource::WallClock,
        Tz::UTC,
        vec![level(None, "%Y-%Q-%!")],
    );
    let refused = HiveSplitter::new(&[expr], &Schema::empty()).unwrap_err();
    assert!(matches!(refused, LayoutError::Format { .. }));
}

#[test]
fn more_values_than_are_remembered_still_go_to_their_own_directories() {
    let count = i64::try_from(KNOWN).unwrap() + 10;
    let exprs = [column("c", "c"), column("n", "n")];
    let batch = |from: i64| {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
        rows(vec![("c", values)])
    };
    let first = batch(0);
    let mut splitter = HiveSplitter::new(&exprs, first.batch.schema_ref()).unwrap();
    assert_eq!(
        splitter.split(&first, 0, ROOM).unwrap().slices.len(),
        first.offsets.len()
    );
    let second = splitter.split(&batch(5), 0, ROOM).unwrap();
    assert_eq!(second.slices[3].key.path, "c=8/n=3");
}

fn zones() -> impl Strategy<Value = Tz> {
    prop_oneof![
        Just(Tz::UTC),
        Just(chrono_tz::Europe::Madrid),
        Just(chrono_tz::Australia::Lord_Howe), // half an hour of summer time
        Just(chrono_tz::Asia::Kathmandu),      // +05:45
        Just(chrono_tz::Africa::Monrovia),     // -00:44:30 until 1972
        Just(chrono_tz::Pacific::Apia),        // skipped a day
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_row_is_in_one_slice_in_offset_order(
        zone in zones(),
        data in proptest::collection::vec(
            (proptest::option::of(0_i64..5 * DAY), proptest::option::of("[ab/=]{0,2}")),
            0..60,
        ),
        repeat in 1_usize..4,
    ) {
        let data: Vec<_> = data.iter().flat_map(|row| std::iter::repeat_n(row, repeat)).collect();
        let at: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from_iter(data.iter().map(|(at, _)| *at)).with_timezone("UTC"),
        );
        let name: ArrayRef = Arc::new(StringArray::from_iter(data.iter().map(|(_, name)| name.as_deref())));
        let rows = rows(vec![("at", at), ("name", name)]);
        let slices = split(&[hourly(zone), column("name", "name")], &rows);

        let mut seen = vec![0; data.len()];
        let mut firsts = Vec::new();
        for slice in &slices {
            let numbers = numbers(slice);
            prop_assert!(numbers.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(slice.first_offset, 100 + 3 * numbers[0]);
            prop_assert_eq!(slice.last_offset, 100 + 3 * numbers[numbers.len() - 1]);
            firsts.push(slice.first_offset);
            for n in numbers {
                let row = usize::try_from(n).unwrap();
                seen[row] += 1;
                let (at, name) = data[row];
                let (day, hour) = match at {
                    Some(at) => {
                        let local = zone.timestamp_micros(*at).unwrap();
                        (local.format("%Y-%m-%d").to_string(), local.format("%H").to_string())
                    }
                    None => (DEFAULT_PARTITION.to_owned(), DEFAULT_PARTITION.to_owned()),
                };
                let name = name.clone().filter(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| DEFAULT_PARTITION.to_owned());
                prop_assert_eq!(&slice.key.values, &[day, hour, name]);
            }
            let parsed: Vec<_> = slice
                .key
                .path
                .split('/')
                .map(|directory| unescape(directory.split_once('=').unwrap().1))
                .collect();
            prop_assert_eq!(&parsed, &slice.key.values);
        }
        prop_assert!(seen.iter().all(|count| *count == 1));
        prop_assert!(firsts.is_sorted());
        let paths: std::collections::BTreeSet<_> = slices.iter().map(|s| &s.key.path).collect();
        prop_assert_eq!(paths.len(), slices.len());
    }

    #[test]
    fn any_instant_in_any_zone_gets_the_path_that_formatting_it_gives(
        zone in zones(),
        around in proptest::collection::vec(-4_000_000_000_i64..8_000_000_000, 1..40),
        format in prop_oneof![Just("%Y-%m-%d %H"), Just("%H:%M"), Just("%Y-W%W %z"), Just("%H %Z")],
    ) {
        let at: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from_iter_values(around.iter().map(|s| s * 1_000_000)).with_timezone("UTC"),
        );
        let expr = time(TimeSource::Column("at".to_owned()), zone, vec![level(Some("t"), format)]);
        for slice in split(&[expr], &rows(vec![("at", at)])) {
            for n in numbers(&slice) {
                let seconds = around[usize::try_from(n).unwrap()];
                let wanted = zone.timestamp_opt(seconds, 0).unwrap().format(format).to_string();
                prop_assert_eq!(&slice.key.values[0], &wanted);
            }
        }
    }

    #[test]
    fn any_text_survives_its_path(text in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
        let mut path = String::new();
        escape(&text, &mut path);
        prop_assert_eq!(unescape(&path), text);
        prop_assert!(!path.contains(['/', '=', ':', '\0', '\n']));
    }
}
