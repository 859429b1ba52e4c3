//! What the topic says must be in the destination, of one slice of one topic-partition, and the rows held against it.
//! Pure.

use std::collections::BTreeMap;

use super::cells::{Cells, NULL, Pair, comparable};
use super::held::Age;
use super::report::{Lane, Witness};

/// Records of consecutive offsets as they were decoded.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Ascending, without repeats.
    offsets: Vec<i64>,
    seen: Vec<Seen>,
    /// By path. A column's kind may change while the topic is read: one run for each.
    columns: BTreeMap<String, Vec<Run>>,
    /// Offsets of rows that are none of these.
    others: Vec<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    #[default]
    Not,
    /// By a row that may be of this topic or of an earlier one of its name.
    Perhaps,
    Once,
}

#[derive(Debug)]
struct Run {
    from: usize,
    kind: String,
    hashes: Vec<u32>,
    single: Option<Vec<u32>>,
}

/// Rows of one file and one topic-partition.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub(super) offsets: &'a [i64],
    /// The first of them in `cells`.
    pub(super) first: usize,
    pub(super) cells: &'a [Cells],
    pub(super) age: Age,
}

impl Wanted {
    /// Further records, in order.
    pub(super) fn add(&mut self, offsets: impl Iterator<Item = i64>, cells: Vec<Cells>) {
        let from = self.offsets.len();
        self.offsets.extend(offsets);
        self.seen.resize(self.offsets.len(), Seen::Not);
        for cells in cells {
            let runs = self.columns.entry(cells.path).or_default();
            match runs.last_mut() {
                Some(run) if run.kind == cells.kind => {
                    // Batches in between had no such column.
                    run.hashes.resize(from - run.from, NULL);
                    run.hashes.extend(cells.hashes);
                    if let (Some(run_single), Some(single)) = (&mut run.single, cells.single) {
                        run_single.resize(from - run.from, NULL);
                        run_single.extend(single);
                    }
                }
                _ => runs.push(Run {
                    from,
                    kind: cells.kind,
                    hashes: cells.hashes,
                    single: cells.single,
                }),
            }
        }
    }

    /// Holds rows against the records.
    pub(super) fn meet(&mut self, rows: &Rows<'_>, lane: &mut Lane) {
        match rows.age {
            Age::Current => lane.found = Some(lane.found.unwrap_or(0) + rows.offsets.len() as u64),
            Age::Unknown => lane.either += rows.offsets.len() as u64,
            Age::Earlier => {
                lane.earlier += rows.offsets.len() as u64;
                return;
            }
        }
        if lane.witness != Witness::Log {
            return;
        }
        let place = |offset: &i64| self.offsets.binary_search(offset).ok();
        let places: Vec<Option<usize>> = rows.offsets.iter().map(place).collect();
        let different = self.different(rows, &places, lane);
        for ((offset, place), different) in rows.offsets.iter().zip(places).zip(different) {
            match (place, rows.age) {
                (None, Age::Current) => self.others.push(*offset),
                (None, _) => {}
                (Some(_), Age::Unknown) if different => {}
                (Some(place), Age::Unknown) => {
                    self.seen[place] = self.seen[place].max(Seen::Perhaps);
                }
                (Some(place), _) => {
                    if self.seen[place] == Seen::Once {
                        lane.duplicated.add(*offset);
                    }
                    self.seen[place] = Seen::Once;
                    if different {
                        lane.different.add(*offset);
                    }
                }
            }
        }
    }

    /// Which rows do not say what their record says. Of rows that are surely of this topic the lane hears the columns,
    /// and what could not be compared.
    fn different(&self, rows: &Rows<'_>, places: &[Option<usize>], lane: &mut Lane) -> Vec<bool> {
        let mut different = vec![false; places.len()];
        if rows.cells.is_empty() {
            return different;
        }
        let sure = rows.age == Age::Current;
        for cells in rows.cells {
            // A column that the records do not have: of the folder, or somebody else's.
            let Some(runs) = self.columns.get(&cells.path) else {
                continue;
            };
            let mut current: Option<(usize, Option<Pair<'_>>)> = None;
            for (row, place) in places.iter().enumerate() {
                let Some(place) = *place else { continue };
                let at = rows.first + row;
                let run = runs.partition_point(|run| run.from <= place).checked_sub(1);
                let Some(run) = run else {
                    different[row] |= cells.hashes[at] != NULL;
                    if sure && cells.hashes[at] != NULL {
                        lane.differs(&cells.path, rows.offsets[row]);
                    }
                    continue;
                };
                let of = &runs[run];
                let pair = match current {
                    Some((known, pair)) if known == run => pair,
                    _ => {
                        let sent = (of.kind.as_str(), of.hashes.as_slice(), of.single.as_deref());
                        let pair = comparable(sent, (&cells.kind, cells));
                        current = Some((run, pair));
                        pair
                    }
                };
                let Some((sent, read)) = pair else {
                    let said = of.hashes.get(place - of.from).copied().unwrap_or(NULL);
                    let nothing = said == NULL && cells.hashes[at] == NULL;
                    if sure && !nothing {
                        let why = format!("{} in the file, {} now", cells.kind, of.kind);
                        lane.not_compared(&cells.path, why);
                    }
                    continue;
                };
                let sent = sent.get(place - of.from).copied().unwrap_or(NULL);
                if sent != read[at] {
                    different[row] = true;
                    if sure {
                        lane.differs(&cells.path, rows.offsets[row]);
                    }
                }
            }
        }
        if sure {
            self.without_column(rows, places, lane);
        }
        different
    }

    /// Values that the file has no column for: it may be older than the column.
    fn without_column(&self, rows: &Rows<'_>, places: &[Option<usize>], lane: &mut Lane) {
        for (path, runs) in &self.columns {
            if rows.cells.iter().any(|cells| cells.path == *path) {
                continue;
            }
            for place in places.iter().flatten() {
                let run = runs
                    .partition_point(|run| run.from <= *place)
                    .checked_sub(1);
                let said = run.and_then(|run| runs[run].hashes.get(place - runs[run].from));
                if said.is_some_and(|said| *said != NULL) {
                    lane.not_compared(path, "no such column in the file".to_owned());
                }
            }
        }
    }

    /// What was not found, and what was found beyond it.
    pub(super) fn settle(mut self, lane: &mut Lane) {
        lane.expected += self.offsets.len() as u64;
        if lane.witness != Witness::Log {
            return;
        }
        for (offset, seen) in self.offsets.iter().zip(&self.seen) {
            if *seen == Seen::Not {
                lane.missing.add(*offset);
            }
        }
        self.others.sort_unstable();
        let mut last = None;
        for offset in self.others {
            if last == Some(offset) {
                lane.duplicated.add(offset);
            } else if offset >= lane.log_start {
                // Below the log's start the topic cannot say.
                lane.unexpected.add(offset);
            }
            last = Some(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
        StringArray, StructArray,
    };

    use super::super::cells::cells;
    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> Vec<Cells> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        cells(&batch, &|_, path| Some(path.to_owned()))
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    /// Records and rows of these offsets and columns, compared.
    fn held_against(
        records: (&[i64], Vec<Cells>),
        files: Vec<(&[i64], Vec<Cells>, Age)>,
        log_start: i64,
    ) -> Lane {
        let mut lane = Lane::new(Witness::Log, log_start, 100);
        let mut wanted = Wanted::default();
        wanted.add(records.0.iter().copied(), records.1);
        for (offsets, cells, age) in files {
            let rows = Rows {
                offsets,
                first: 0,
                cells: &cells,
                age,
            };
            wanted.meet(&rows, &mut lane);
        }
        wanted.settle(&mut lane);
        lane
    }

    fn compared(wanted: &[i64], current: &[i64], either: &[i64], log_start: i64) -> Lane {
        let files = vec![
            (current, Vec::new(), Age::Current),
            (either, Vec::new(), Age::Unknown),
        ];
        held_against((wanted, Vec::new()), files, log_start)
    }

    fn is_whole(lane: &Lane) -> bool {
        [
            &lane.missing,
            &lane.duplicated,
            &lane.unexpected,
            &lane.different,
        ]
        .iter()
        .all(|offsets| offsets.is_empty())
    }

    #[test]
    fn each_offset_is_found_missing_duplicated_or_unexpected() {
        let lane = compared(&[0, 1, 2, 5, 6], &[6, 0, 2, 2, 3], &[], 0);
        assert_eq!(lane.missing.text(), "offsets 1, 5");
        assert_eq!(lane.duplicated.text(), "offsets 2");
        assert_eq!(lane.unexpected.text(), "offsets 3");
        assert_eq!((lane.expected, lane.found), (5, Some(5)));
        assert!(is_whole(&compared(&[0, 1], &[1, 0], &[], 0)));
    }

    #[test]
    fn rows_older_than_the_log_are_not_held_against_the_destination() {
        assert!(is_whole(&compared(&[10, 11], &[8, 9, 10, 11], &[], 10)));
        let twice = compared(&[10, 11], &[8, 9, 8, 10, 11], &[], 10);
        assert_eq!(twice.duplicated.text(), "offsets 8");
    }

    #[test]
    fn rows_that_may_be_of_an_earlier_topic_fill_holes_and_are_never_too_many() {
        assert!(is_whole(&compared(&[0, 1, 2], &[0], &[2, 1, 1, 0, 7], 0)));
        let lane = compared(&[0, 1, 2], &[0, 0], &[1], 0);
        assert_eq!(lane.missing.text(), "offsets 2");
        assert_eq!(lane.duplicated.text(), "offsets 0");
    }

    #[test]
    fn a_row_of_an_earlier_topic_with_other_values_fills_no_hole() {
        let sent = || batch(vec![("a", texts(&["new0", "new1"]))]);
        let read = batch(vec![("a", texts(&["old0", "new1"]))]);
        let lane = held_against((&[0, 1], sent()), vec![(&[0, 1], read, Age::Unknown)], 0);
        assert_eq!(lane.missing.text(), "offsets 0");
        assert!(lane.different.is_empty() && lane.columns.is_empty());
    }

    #[test]
    fn values_in_another_column_are_told_by_column_and_offset() {
        let sent = batch(vec![
            ("a", texts(&["a0", "a1", "a2"])),
            ("b", texts(&["b0", "b1", "b2"])),
            ("c", texts(&["c0", "c1", "c2"])),
        ]);
        // Rows come in another order, columns too, and one row has two values swapped.
        let read = batch(vec![
            ("c", texts(&["c2", "c0", "c1"])),
            ("b", texts(&["b2", "b0", "a1"])),
            ("a", texts(&["a2", "a0", "b1"])),
        ]);
        let lane = held_against(
            (&[4, 5, 6], sent),
            vec![(&[6, 4, 5], read, Age::Current)],
            0,
        );
        assert_eq!(lane.different.text(), "offsets 5");
        let columns: Vec<_> = lane.columns.keys().map(String::as_str).collect();
        assert_eq!(columns, ["a", "b"]);
        assert!(lane.uncompared.is_empty());
    }

    #[test]
    fn a_value_is_the_same_in_a_wider_type_and_a_field_of_a_struct_is_compared_by_name() {
        let inner = |names: [&str; 2], values: [&str; 2]| -> ArrayRef {
            let field = |i: usize| {
                let field =
                    arrow::datatypes::Field::new(names[i], arrow::datatypes::DataType::Utf8, true);
                (Arc::new(field), texts(&[values[i]]))
            };
            Arc::new(StructArray::from(vec![field(0), field(1)]))
        };
        let decimal = |digits: i128, scale: i8| -> ArrayRef {
            let value = Decimal128Array::from(vec![digits]);
            Arc::new(value.with_precision_and_scale(20, scale).unwrap())
        };
        let sent = batch(vec![
            ("whole", Arc::new(Int64Array::from(vec![-17]))),
            ("ratio", Arc::new(Float64Array::from(vec![0.1]))),
            ("money", decimal(150, 2)),
            ("place", inner(["x", "y"], ["x0", "y0"])),
        ]);
        let read = batch(vec![
            ("place", inner(["y", "x"], ["y0", "x0"])),
            ("money", decimal(15, 1)),
            ("ratio", Arc::new(Float32Array::from(vec![0.1]))),
            ("whole", Arc::new(Int32Array::from(vec![-17]))),
        ]);
        let lane = held_against((&[0], sent), vec![(&[0], read, Age::Current)], 0);
        assert!(is_whole(&lane) && lane.uncompared.is_empty(), "{lane:?}");

        let sent = batch(vec![("place", inner(["x", "y"], ["x0", "y0"]))]);
        let read = batch(vec![("place", inner(["x", "y"], ["y0", "x0"]))]);
        let lane = held_against((&[0], sent), vec![(&[0], read, Age::Current)], 0);
        let columns: Vec<_> = lane.columns.keys().map(String::as_str).collect();
        assert_eq!(columns, ["place.x", "place.y"]);
    }

    #[test]
    fn what_a_file_cannot_say_is_told_apart_from_what_it_says_wrong() {
        let sent = batch(vec![
            ("code", texts(&["1", "2"])),
            ("note", texts(&["n0", "n1"])),
        ]);
        let read = batch(vec![("code", Arc::new(Int64Array::from(vec![1, 2])))]);
        let lane = held_against((&[0, 1], sent), vec![(&[0, 1], read, Age::Current)], 0);
        assert!(is_whole(&lane), "{lane:?}");
        let uncompared: Vec<_> = lane
            .uncompared
            .keys()
            .map(|(column, _)| column.as_str())
            .collect();
        assert_eq!(uncompared, ["code", "note"]);
    }

    #[test]
    fn a_column_that_comes_late_was_null_before() {
        let mut wanted = Wanted::default();
        wanted.add([0, 1].into_iter(), batch(vec![("a", texts(&["a0", "a1"]))]));
        let later = vec![("a", texts(&["a2"])), ("b", texts(&["b2"]))];
        wanted.add([2].into_iter(), batch(later));
        wanted.add([3].into_iter(), batch(vec![("a", texts(&["a3"]))]));
        let b: ArrayRef = Arc::new(StringArray::from(vec![Some("b1"), None, Some("b2"), None]));
        let read = batch(vec![("a", texts(&["a1", "a0", "a2", "a3"])), ("b", b)]);
        let mut lane = Lane::new(Witness::Log, 0, 4);
        let rows = Rows {
            offsets: &[1, 0, 2, 3],
            first: 0,
            cells: &read,
            age: Age::Current,
        };
        wanted.meet(&rows, &mut lane);
        wanted.settle(&mut lane);
        assert_eq!(lane.different.text(), "offsets 1");
        assert_eq!(lane.columns["b"].text(), "offsets 1");
    }
}
