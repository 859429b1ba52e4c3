//! Folders as readers compute them.

use chrono::NaiveDate;

use super::key;
use crate::catalog::hive::projection::{Projected, parameters};

fn time(format: &str) -> Projected {
    Projected::Time {
        format: format.to_owned(),
    }
}

/// The parameters of one level, without their common beginning.
fn of(level: Projected) -> Result<Vec<(String, String)>, String> {
    let since = NaiveDate::from_ymd_opt(2025, 3, 1).unwrap();
    let found = parameters(&[key("k")], &[level], "s3://b/", since).map_err(|(_, why)| why)?;
    let of_key = found
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("projection.k.")?.to_owned(), value)));
    Ok(of_key.collect())
}

fn says(level: Projected, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    assert_eq!(of(level), Ok(wanted));
}

#[test]
fn times_are_dates_from_the_year_on_and_numbers_alone() {
    says(
        time("%Y-%m-%d"),
        &[
            ("format", "yyyy-MM-dd"),
            ("interval", "1"),
            ("interval.unit", "DAYS"),
            ("range", "2025-03-01,NOW+1DAYS"),
            ("type", "date"),
        ],
    );
    says(
        time("%Y"),
        &[
            ("format", "yyyy"),
            ("interval", "1"),
            ("interval.unit", "YEARS"),
            ("range", "2025,NOW+1YEARS"),
            ("type", "date"),
        ],
    );
    says(
        time("%dd%m%Y%HT"),
        &[
            ("format", "dd'd'MMyyyyHH'T'"),
            ("interval", "1"),
            ("interval.unit", "HOURS"),
            ("range", "01d03202500T,NOW+24HOURS"),
            ("type", "date"),
        ],
    );
    says(
        time("%m"),
        &[("digits", "2"), ("range", "1,12"), ("type", "integer")],
    );
    says(
        time("%H"),
        &[("digits", "2"), ("range", "0,23"), ("type", "integer")],
    );
    let quarter = of(time("m%M")).unwrap();
    assert!(quarter[1].1.starts_with("m00,m01,"), "{quarter:?}");
}

#[test]
fn folders_that_cannot_be_computed_are_refused() {
    for format in [
        "%Y-%d",
        "%m-%d",
        "%-m",
        "%j",
        "%Y%Y",
        "%A",
        "%s",
        "%H:%M",
        "%Y-%m-%dT%H:%M",
        "%Y:",
        "%Y,%m",
    ] {
        let why = of(time(format)).unwrap_err();
        assert!(why.contains("partitions: Register"), "{format}: {why}");
    }
    for value in ["a/b", "a,b", "50%", ""] {
        let list = Projected::List(vec!["ES".to_owned(), value.to_owned()]);
        assert!(of(list).is_err(), "{value}");
    }
}

#[test]
fn columns_are_listed_ranged_or_asked_of_the_query() {
    let list = Projected::List(vec!["ES".to_owned(), "FR".to_owned()]);
    says(list, &[("type", "enum"), ("values", "ES,FR")]);
    says(
        Projected::Range(-1, 9),
        &[("range", "-1,9"), ("type", "integer")],
    );
    says(Projected::Injected, &[("type", "injected")]);
}

#[test]
fn the_template_has_every_folder_in_its_place() {
    let since = NaiveDate::from_ymd_opt(2025, 3, 1).unwrap();
    let levels = [time("%Y"), Projected::Injected];
    let found = parameters(&[key("Year"), key("land")], &levels, "s3://b/p/", since).unwrap();
    assert_eq!(
        found["storage.location.template"],
        "s3://b/p/Year=${year}/land=${land}/"
    );
    assert_eq!(found["projection.enabled"], "true");
}
