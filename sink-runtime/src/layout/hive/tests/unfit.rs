//! Rows without a place: only they go without one, and the reason names the column.

use std::sync::Arc;

use super::*;

/// Row numbers by path, and the rows without a place with the reason.
type Placed = (
    BTreeMap<String, Vec<i64>>,
    Vec<(usize, RejectClass, String)>,
);

fn placed(splitter: &mut HiveSplitter, rows: &Rows, room: usize) -> Placed {
    let Split { slices, unfit } = splitter.split(rows, 0, room).unwrap();
    let unfit = unfit
        .into_iter()
        .map(|unfit| (unfit.row, unfit.why.class, unfit.why.message.clone()));
    (by_path(&slices), unfit.collect())
}

fn of_rows(exprs: &[PartitionExpr], rows: &Rows) -> HiveSplitter {
    HiveSplitter::new(exprs, rows.batch.schema_ref()).unwrap()
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

#[test]
fn a_value_too_long_for_a_folder_costs_only_its_own_row() {
    let letters = "x".repeat(254);
    let fitting = "x".repeat(253);
    // Each slash and each Chinese character is three bytes of a path.
    let (slashes, chinese) = ("/".repeat(85), "\u{4e2d}".repeat(85));
    let values = [
        "ES", &letters, &slashes, "FR", &chinese, &fitting, "ES", &letters,
    ];
    let rows = rows(vec![("c", texts(&values)), ("d", texts(&["d"; 8]))]);
    for exprs in [
        vec![column("c", "c")],
        vec![column("d", "d"), column("c", "c")],
        vec![column("c", "c"), column("d", "d")],
    ] {
        let mut splitter = of_rows(&exprs, &rows);
        // Twice: what was learnt of them changes nothing.
        for _ in 0..2 {
            let (paths, unfit) = placed(&mut splitter, &rows, ROOM);
            let found: Vec<_> = paths.values().cloned().collect();
            assert_eq!(found, [vec![0, 6], vec![3], vec![5]]);
            let unfit_rows: Vec<_> = unfit.iter().map(|(row, _, _)| *row).collect();
            assert_eq!(unfit_rows, [1, 2, 4, 7]);
            for (_, class, message) in unfit {
                assert_eq!(class, RejectClass::OutOfRange);
                assert!(message.starts_with("field `c`: "), "{message}");
                assert!(message.contains("255 bytes"), "{message}");
                assert!(!message.contains("xx"), "{message}");
            }
        }
    }
}

#[test]
fn slices_of_rows_beside_unfit_ones_keep_their_offsets() {
    let long = "x".repeat(300);
    let rows = rows(vec![("c", texts(&[&long, "a", &long, "b", "a"]))]);
    let split = of_rows(&[column("c", "c")], &rows).split(&rows, 0, ROOM);
    let offsets: Vec<_> = split
        .unwrap()
        .slices
        .iter()
        .map(|slice| (slice.first_offset, slice.last_offset))
        .collect();
    assert_eq!(offsets, [(103, 112), (109, 109)]);
}

#[test]
fn folders_that_are_too_long_together_cost_only_their_own_row() {
    let (a, b) = ("a".repeat(200), "b".repeat(200));
    let rows = rows(vec![
        ("p", texts(&[&a, &a, "p"])),
        ("q", texts(&[&b, "q", &b])),
    ]);
    let exprs = [column("p", "p"), column("q", "q")];
    let mut splitter = of_rows(&exprs, &rows);
    let (paths, unfit) = placed(&mut splitter, &rows, 404);
    assert_eq!(paths.into_values().collect::<Vec<_>>(), [vec![1], vec![2]]);
    let [(0, RejectClass::OutOfRange, message)] = unfit.as_slice() else {
        panic!("{unfit:?}");
    };
    assert!(message.contains("field `p`, field `q`") && message.contains("1024 bytes"));
    // A topic with a shorter name leaves more room.
    let (paths, unfit) = placed(&mut splitter, &rows, 405);
    assert_eq!((paths.len(), unfit.len()), (3, 0));
}

#[test]
fn a_time_beyond_the_calendar_has_no_folder_wherever_it_comes_from() {
    const YEAR_10000: i64 = 253_402_300_800;
    const YEAR_0: i64 = -62_167_219_200;
    let seconds = [0, YEAR_10000, YEAR_0 - 1, YEAR_10000 - 1, YEAR_0];
    let at: ArrayRef = Arc::new(
        TimestampMicrosecondArray::from_iter_values(seconds.iter().map(|s| s * 1_000_000))
            .with_timezone("UTC"),
    );
    let days = seconds
        .iter()
        .map(|s| i32::try_from(s.div_euclid(86_400)).unwrap());
    let day: ArrayRef = Arc::new(Date32Array::from_iter_values(days));
    let mut rows = rows(vec![("at", at), ("day", day)]);
    rows.timestamps = seconds.iter().map(|s| s * 1000).collect();
    let levels = || vec![level(Some("year"), "%Y"), level(Some("month"), "%m")];
    let of = |source| time(source, Tz::UTC, levels());
    let by_column = |name: &str| TimeSource::Column(name.to_owned());
    for (expr, subject) in [
        (of(by_column("at")), "field `at`"),
        (of(by_column("day")), "field `day`"),
        (of(TimeSource::RecordTimestamp), "the record's timestamp"),
        (column("at", "at"), "field `at`"),
        (column("day", "day"), "field `day`"),
    ] {
        let (paths, unfit) = placed(&mut of_rows(&[expr], &rows), &rows, ROOM);
        let mut found: Vec<_> = paths.values().flatten().copied().collect();
        found.sort_unstable();
        assert_eq!(found, [0, 3, 4], "{subject}");
        for (row, class, message) in &unfit {
            assert!([1, 2].contains(row), "{subject}");
            assert_eq!(*class, RejectClass::OutOfRange);
            assert!(message.starts_with(subject), "{message}");
            assert!(message.contains("0000 to 9999"), "{message}");
        }
        assert_eq!(unfit.len(), 2, "{subject}");
    }
    // Microseconds sent as milliseconds.
    rows.timestamps = vec![1_700_000_000_000_000; 5];
    let expr = of(TimeSource::RecordTimestamp);
    let (paths, unfit) = placed(&mut of_rows(&[expr], &rows), &rows, ROOM);
    assert_eq!((paths.len(), unfit.len()), (0, 5));
}

#[test]
fn a_time_is_beyond_the_calendar_in_the_zone_that_names_its_folder() {
    let at = instants(&["9999-12-31T22:30:00Z", "9999-12-31T23:30:00Z"]);
    let rows = rows(vec![("at", at)]);
    let expr = hourly(chrono_tz::Europe::Madrid);
    let (paths, unfit) = placed(&mut of_rows(&[expr], &rows), &rows, ROOM);
    assert_eq!(paths["dt=9999-12-31/hour=23"], [0]);
    assert_eq!((unfit.len(), unfit[0].0), (1, 1));
}

#[test]
fn a_struct_where_a_scalar_makes_folders_costs_only_its_own_row() {
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let fields = vec![Field::new("a", DataType::Int64, true)];
    let structs = StructArray::new(
        fields.into(),
        vec![inner],
        Some(NullBuffer::from(vec![true, false])),
    );
    let structs = rows(vec![("c", Arc::new(structs))]);
    let before = rows(vec![("c", Arc::new(Int64Array::from(vec![7, 8])))]);
    let doubles = rows(vec![("c", Arc::new(Float64Array::from(vec![7.0, 1.5])))]);
    let after = rows(vec![("c", texts(&["7", "1.5"]))]);
    let mut splitter = of_rows(&[column("c", "c")], &before);
    let names = |paths: &BTreeMap<String, Vec<i64>>| paths.keys().cloned().collect::<Vec<_>>();

    let (paths, unfit) = placed(&mut splitter, &before, ROOM);
    assert_eq!(
        (names(&paths), unfit),
        (vec!["c=7".into(), "c=8".into()], vec![])
    );
    let (paths, unfit) = placed(&mut splitter, &structs, ROOM);
    assert_eq!(names(&paths), [format!("c={DEFAULT_PARTITION}")]);
    let [(0, RejectClass::TypeMismatch, message)] = unfit.as_slice() else {
        panic!("{unfit:?}");
    };
    assert!(message.starts_with("field `c`: "), "{message}");
    // A column that turned to doubles, and then to text, keeps its folders.
    for rows in [&doubles, &after] {
        let (paths, unfit) = placed(&mut splitter, rows, ROOM);
        assert_eq!(
            (names(&paths), unfit),
            (vec!["c=1.5".into(), "c=7".into()], vec![])
        );
    }

    // Text where times make folders: nothing is a time, and null still has its folder.
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("2026-01-01"), None]));
    let text = rows(vec![("at", text)]);
    let (paths, unfit) = placed(&mut of_rows(&[hourly(Tz::UTC)], &text), &text, ROOM);
    assert_eq!(paths.into_values().collect::<Vec<_>>(), [vec![1]]);
    assert_eq!((unfit.len(), unfit[0].1), (1, RejectClass::TypeMismatch));
}

proptest! {
    #[test]
    fn every_row_is_in_a_slice_or_unfit_and_never_both(
        data in proptest::collection::vec(
            (prop_oneof![Just(""), Just("a"), Just("b"), Just("/")], 1_usize..120, any::<bool>()),
            1..40,
        ),
        room in 0_usize..300,
    ) {
        let values: Vec<_> = data.iter().map(|(text, times, _)| text.repeat(*times)).collect();
        let times = data.iter().map(|(_, n, late)| if *late { i64::MAX - *n as i64 } else { 0 });
        let at = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let c = StringArray::from_iter_values(&values);
        let rows = rows(vec![("at", Arc::new(at)), ("c", Arc::new(c))]);
        let exprs = [column("c", "c"), hourly(Tz::UTC)];
        let (paths, unfit) = placed(&mut of_rows(&exprs, &rows), &rows, room);
        let mut seen = vec![0; data.len()];
        for (path, numbers) in paths {
            prop_assert!(path.len() <= room);
            prop_assert!(path.split('/').all(|name| name.len() <= 255));
            for n in numbers {
                let row = usize::try_from(n).unwrap();
                prop_assert!(!data[row].2);
                seen[row] += 1;
            }
        }
        for (row, _, _) in unfit {
            seen[row] += 1;
        }
        prop_assert!(seen.iter().all(|times| *times == 1));
    }
}
