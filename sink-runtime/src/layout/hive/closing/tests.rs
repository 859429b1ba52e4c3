#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Date32Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Field;
use chrono::DateTime;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::plan::TimeLevel;

/// Long after every time here.
const NOW: i64 = 4_000_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

fn path(timezone: Tz, format: &str) -> TimePath {
    let level = TimeLevel {
        label: None,
        format: format.to_owned(),
    };
    let mut path = TimePath::new(timezone, &[level]).unwrap();
    path.use_unit(Unit {
        per_second: 1000,
        local: false,
    });
    path
}

fn closing(source: TimeSource, timezone: Tz, format: &str, lateness: Duration) -> Closing {
    let by_country = PartitionExpr::Column {
        column: "country".to_owned(),
        label: "country".to_owned(),
    };
    let by_time = PartitionExpr::Time {
        source,
        timezone,
        levels: vec![TimeLevel {
            label: None,
            format: format.to_owned(),
        }],
    };
    Closing::of(&[by_country, by_time], lateness)
        .unwrap()
        .unwrap()
}

fn hourly(lateness: Duration) -> Closing {
    closing(
        TimeSource::RecordTimestamp,
        Tz::UTC,
        "%Y-%m-%d/%H",
        lateness,
    )
}

fn ms(time: &str) -> i64 {
    DateTime::parse_from_rfc3339(time)
        .unwrap()
        .timestamp_millis()
}

fn at(time: &str) -> i64 {
    ms(&format!("2026-03-01T{time}Z"))
}

/// Rows of a partition with these record timestamps.
fn stamped(partition: i32, timestamps: Vec<i64>) -> Rows {
    let days: ArrayRef = Arc::new(Date32Array::from(vec![0; timestamps.len()]));
    column(partition, timestamps, days)
}

fn column(partition: i32, timestamps: Vec<i64>, times: ArrayRef) -> Rows {
    let field = Field::new("at", times.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    Rows {
        tp: TopicPartition::new("orders", partition),
        batch: RecordBatch::try_new(schema, vec![times]).unwrap(),
        offsets: (0..).take(timestamps.len()).collect(),
        timestamps,
    }
}

fn clock(times: &[&str]) -> Rows {
    stamped(0, times.iter().map(|time| at(time)).collect())
}

#[test]
fn a_partition_is_due_once_its_watermark_is_past_the_end_of_a_folder_and_the_lateness() {
    let mut closing = hourly(5 * MINUTE);
    assert!(!closing.see(&clock(&["10:00:00", "10:59:59"]), NOW));
    assert!(!closing.see(&clock(&["11:04:59"]), NOW));
    assert!(closing.see(&clock(&["11:05:00"]), NOW));
    // Until it is cut.
    assert!(closing.see(&clock(&["11:06:00"]), NOW));
    closing.cut(&TopicPartition::new("orders", 0));
    assert!(!closing.see(&clock(&["11:07:00"]), NOW));
    assert!(!closing.see(&clock(&["12:04:00"]), NOW));
    // A whole hour without a record: the end of the next is what counts.
    assert!(closing.see(&clock(&["15:00:00"]), NOW));
}

#[test]
fn a_backlog_is_due_at_the_first_batch_that_reaches_past_a_folder() {
    let mut closing = hourly(Duration::ZERO);
    assert!(closing.see(&clock(&["08:59:00", "09:00:00"]), NOW));
    let mut closing = hourly(Duration::ZERO);
    assert!(!closing.see(&clock(&["08:59:00", "08:00:00"]), NOW));
}

#[test]
fn rows_that_come_late_wait_for_the_other_rules() {
    let mut closing = hourly(MINUTE);
    assert!(closing.see(&clock(&["10:30:00", "11:01:00"]), NOW));
    closing.cut(&TopicPartition::new("orders", 0));
    // Of the hour that is over, of the day before, without a time.
    assert!(!closing.see(&clock(&["10:59:59"]), NOW));
    let before = stamped(0, vec![at("10:59:59") - 86_400_000, -1]);
    assert!(!closing.see(&before, NOW));
    // Within the allowed lateness: in time.
    assert!(!closing.see(&clock(&["11:00:30", "12:00:59"]), NOW));
    assert!(closing.see(&clock(&["12:01:00"]), NOW));
}

#[test]
fn every_partition_has_its_own_watermark_and_starts_over_when_it_is_read_again() {
    let mut closing = hourly(Duration::ZERO);
    assert!(!closing.see(&stamped(0, vec![at("10:30:00")]), NOW));
    assert!(!closing.see(&stamped(1, vec![at("11:30:00")]), NOW));
    assert!(!closing.see(&stamped(0, vec![at("10:59:00")]), NOW));
    assert!(closing.see(&stamped(0, vec![at("11:00:00")]), NOW));
    let tp = TopicPartition::new("orders", 0);
    closing.forget(&tp);
    assert!(!closing.see(&stamped(0, vec![at("10:30:00")]), NOW));
    assert!(closing.see(&stamped(0, vec![at("11:00:00")]), NOW));
}

#[test]
fn a_time_ahead_of_the_clock_ends_no_folder() {
    let mut closing = hourly(Duration::ZERO);
    let now = at("10:40:00");
    assert!(!closing.see(&clock(&["10:30:00", "23:00:00"]), now));
    assert!(!closing.see(&clock(&["10:50:00"]), at("10:50:00")));
    assert!(closing.see(&clock(&["11:00:00"]), at("11:00:00")));
}

#[test]
fn local_times_and_dates_are_judged_by_the_folders_zone() {
    let at_zone = |now: &str| {
        let source = TimeSource::Column("at".to_owned());
        let mut closing = closing(source, chrono_tz::Asia::Tokyo, "%Y-%m-%d", Duration::ZERO);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(20_000), None, Some(20_001)]));
        closing.see(&column(0, vec![0; 3], days), ms(now))
    };
    // Day 20001 is 2024-10-05, and begins in Tokyo at 15:00 UTC of the day before.
    assert!(!at_zone("2024-10-04T14:59:59Z"));
    assert!(at_zone("2024-10-04T15:00:00Z"));
}

#[test]
fn a_column_in_microseconds_closes_folders_of_its_zone() {
    let source = TimeSource::Column("at".to_owned());
    let madrid = chrono_tz::Europe::Madrid;
    let mut closing = closing(source, madrid, "dt=%Y-%m-%d", Duration::ZERO);
    let mut see = |time: &str| {
        let times = TimestampMicrosecondArray::from(vec![ms(time) * 1000]).with_timezone("+00:00");
        closing.see(&column(0, vec![0], Arc::new(times)), NOW)
    };
    assert!(!see("2026-03-01T22:59:59Z"));
    assert!(see("2026-03-01T23:00:00Z"));
}

#[test]
fn without_a_time_of_the_rows_there_is_nothing_to_close() {
    let by_clock = PartitionExpr::Time {
        source: TimeSource::WallClock,
        timezone: Tz::UTC,
        levels: Vec::new(),
    };
    assert!(Closing::of(&[by_clock], MINUTE).unwrap().is_none());
}

#[test]
fn a_stretch_is_as_long_as_its_folder() {
    let length = |timezone, format: &str, at: &str| {
        let (from, to) = path(timezone, format).stretch(ms(at)).unwrap();
        (to - from) / 60_000
    };
    let hour = "2026-03-29T00:30:00Z";
    assert_eq!(length(Tz::UTC, "%Y/%m/%d/%H", hour), 60);
    assert_eq!(length(Tz::UTC, "%H", hour), 60);
    assert_eq!(length(Tz::UTC, "%H-%M", hour), 1);
    assert_eq!(length(Tz::UTC, "%Y-%m", hour), 31 * 24 * 60);
    assert_eq!(length(Tz::UTC, "%Y", hour), 365 * 24 * 60);
    // The clocks of Madrid go forward that day, and back in October, where one hour comes twice.
    let madrid = chrono_tz::Europe::Madrid;
    assert_eq!(length(madrid, "%Y-%m-%d", hour), 23 * 60);
    let twice = "2026-10-25T00:30:00Z";
    assert_eq!(length(madrid, "%Y-%m-%d", twice), 25 * 60);
    assert_eq!(length(madrid, "%Y-%m-%d/%H", twice), 120);
}

proptest! {
    #[test]
    fn a_stretch_holds_its_moment_and_borders_on_others(
        at in 0_i64..4_000_000_000_000,
        format in prop::sample::select(vec!["%Y", "%Y/%m", "%Y/%m/%d", "%Y/%m/%d/%H", "%H", "%G-W%V"]),
        zone in prop::sample::select(vec![Tz::UTC, Tz::Europe__Madrid, Tz::Asia__Kathmandu, Tz::America__New_York]),
    ) {
        let path = path(zone, format);
        let (from, to) = path.stretch(at).unwrap();
        prop_assert!((from..to).contains(&at));
        for inside in [from, to - 1, from + (to - from) / 2] {
            prop_assert_eq!(path.stretch(inside), Some((from, to)));
        }
        for outside in [from - 1, to] {
            prop_assert_ne!(path.stretch(outside), Some((from, to)));
        }
    }
}
