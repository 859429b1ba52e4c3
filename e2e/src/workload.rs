//! Records to produce: hand-made ones and a stream of realistic orders.

use std::fmt::Write;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::RECORD_MARKER;

/// A record to produce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Taken modulo the topic's number of partitions.
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the epoch; `None` lets the producer set it.
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record with this value in this partition, and nothing else.
    pub fn new(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        Record {
            partition,
            value: Some(value.into()),
            ..Record::default()
        }
    }

    /// The same with a key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with a timestamp.
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// The same with a further header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }
}

/// The lowest id of an order.
pub const FIRST_ORDER_ID: u64 = 1_000_000_000;
/// When the earliest order was created: 2026-01-01T00:00:00Z.
pub const FIRST_CREATED_MILLIS: u64 = 1_767_225_600_000;
/// From the creation of an order to that of the next, of [`orders_of_countries`].
pub const MILLIS_BETWEEN_ORDERS: u64 = 17;
const FORENAMES: [&str; 12] = [
    "amelie", "bruno", "carmen", "david", "esther", "felix", "giulia", "henrik", "ines", "jakub",
    "klara", "luca",
];
const SURNAMES: [&str; 12] = [
    "almeida",
    "berger",
    "costa",
    "dahl",
    "eriksen",
    "fontaine",
    "gruber",
    "hoffmann",
    "ionescu",
    "jansen",
    "kovacs",
    "lindqvist",
];
const ODD_SURNAMES: [&str; 8] = [
    "müller",
    "groß",
    "o'brien",
    "\"the cat\"",
    "𝄞",
    "a/b",
    "back\\slash",
    "berger 100%",
];
/// Over so many days are the orders of [`orders`] spread.
const DAYS_OF_ORDERS: u64 = 3;
const CURRENCIES: [&str; 6] = ["EUR", "USD", "GBP", "CHF", "SEK", "PLN"];
const STATUSES: [&str; 6] = ["new", "paid", "packed", "shipped", "delivered", "cancelled"];
/// Countries of orders: [`orders`] come from the first ten.
pub const COUNTRIES: [&str; 80] = [
    "AT", "CH", "DE", "DK", "ES", "FR", "IT", "NL", "PT", "SE", "AD", "AE", "AL", "AM", "AR", "AU",
    "AZ", "BA", "BD", "BE", "BG", "BO", "BR", "CA", "CL", "CN", "CO", "CR", "CY", "CZ", "EC", "EE",
    "EG", "FI", "GB", "GE", "GH", "GR", "GT", "HR", "HU", "ID", "IE", "IL", "IN", "IS", "JM", "JO",
    "JP", "KE", "KR", "KZ", "LB", "LI", "LK", "LT", "LU", "LV", "MA", "MC", "MD", "ME", "MK", "MT",
    "MX", "MY", "NG", "NO", "NZ", "PE", "PH", "PL", "RO", "RS", "SG", "SI", "SK", "TH", "TR", "UA",
];

/// `n` orders of about 200 bytes of JSON with nine typed fields, the same for the same seed, as crooked as life is.
/// Partitions get unlike shares: seven in ten go to the first, two to the second, and one to any. Ids are in no order, and
/// those of another seed are others. Orders are of three days, in no order either. Customers have letters of two, three
/// and four bytes, quotes and slashes in their names, and the order's number, so that no two are the same. Of each
/// field but the id and the time of creation one in twenty is null or left out.
pub fn orders(n: u64, seed: u64) -> impl Iterator<Item = Record> + Send {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..n).map(move |i| {
        let order = crooked_id(i, seed);
        let created = FIRST_CREATED_MILLIS + random.random_range(0..DAYS_OF_ORDERS * 86_400_000);
        let customer = format!(
            "{RECORD_MARKER}{}.{}-{order}",
            pick(&mut random, &FORENAMES),
            pick(&mut random, &ODD_SURNAMES)
        );
        let customer = serde_json::Value::from(customer);
        let amount = format!("{:.2}", random.random_range(1.0..5_000.0));
        let text = |word: &str| format!("\"{word}\"");
        let fields = [
            ("order_id", order.to_string()),
            ("customer", customer.to_string()),
            ("amount", amount),
            ("currency", text(pick(&mut random, &CURRENCIES))),
            ("status", text(pick(&mut random, &STATUSES))),
            ("country", text(pick(&mut random, &COUNTRIES[..10]))),
            ("created_at", created.to_string()),
            (
                "updated_at",
                text(&iso(created + random.random_range(0..60_000))),
            ),
            ("quantity", random.random_range(1..10).to_string()),
        ];
        let mut value = String::with_capacity(256);
        for (name, said) in fields {
            let optional = name != "order_id" && name != "created_at";
            let said = match random.random_range(0..40) {
                0 if optional => continue,
                1 if optional => "null",
                _ => &said,
            };
            let before = if value.is_empty() { '{' } else { ',' };
            // Writing to a String cannot fail.
            let _ = write!(value, "{before}\"{name}\":{said}");
        }
        value.push('}');
        Record {
            partition: crooked_partition(i),
            key: Some(order.to_string().into_bytes()),
            value: Some(value.into_bytes()),
            timestamp: i64::try_from(created).ok(),
            headers: Vec::new(),
        }
    })
}

/// The same records, as many to each partition as to any other: for who reckons with that.
pub fn evenly(records: impl Iterator<Item = Record> + Send) -> impl Iterator<Item = Record> + Send {
    records.zip(0..).map(|(record, i)| Record {
        partition: i,
        ..record
    })
}

/// Ids of 1024 consecutive orders are 1024 consecutive numbers, shuffled.
fn crooked_id(i: u64, seed: u64) -> u64 {
    // An odd factor leaves none out and none twice.
    let shuffled = (i % 1024 * 389 + 77) % 1024;
    FIRST_ORDER_ID + seed % 1000 * 1_000_000 + i / 1024 * 1024 + shuffled
}

fn crooked_partition(i: u64) -> i32 {
    match i % 10 {
        3 | 8 => 1,
        // Each in its turn, from the third on.
        5 => i32::try_from(2 + i / 10 % 60).unwrap_or(2),
        _ => 0,
    }
}

/// `n` orders of about 200 bytes of JSON with nine typed fields, the same for the same seed, from the first `countries`
/// of [`COUNTRIES`], mixed at random; for measuring. Order `i` goes to partition `i` (modulo the topic's), has the id
/// 1 000 000 000 + `i` as its key, and is created 17 ms after the one before it ([`FIRST_ORDER_ID`],
/// [`FIRST_CREATED_MILLIS`], [`MILLIS_BETWEEN_ORDERS`]).
pub fn orders_of_countries(
    n: u64,
    seed: u64,
    countries: usize,
) -> impl Iterator<Item = Record> + Send {
    let countries = &COUNTRIES[..countries.clamp(1, COUNTRIES.len())];
    let mut random = SmallRng::seed_from_u64(seed);
    (0..n).map(move |i| {
        let order = FIRST_ORDER_ID + i;
        let created = FIRST_CREATED_MILLIS + i * MILLIS_BETWEEN_ORDERS;
        let mut value = String::with_capacity(224);
        // Writing to a String cannot fail.
        let _ = write!(
            value,
            r#"{{"order_id":{order},"customer":"{}.{}-{:05}","amount":{:.2},"currency":"{}","status":"{}","country":"{}","created_at":{created},"updated_at":"{}","quantity":{}}}"#,
            pick(&mut random, &FORENAMES),
            pick(&mut random, &SURNAMES),
            random.random_range(0..50_000),
            random.random_range(1.0..5_000.0),
            pick(&mut random, &CURRENCIES),
            pick(&mut random, &STATUSES),
            pick(&mut random, countries),
            iso(created + random.random_range(0..60_000)),
            random.random_range(1..10),
        );
        Record {
            partition: i32::try_from(i % (1 << 20)).unwrap_or(0),
            key: Some(order.to_string().into_bytes()),
            value: Some(value.into_bytes()),
            timestamp: i64::try_from(created).ok(),
            headers: Vec::new(),
        }
    })
}

fn pick(random: &mut SmallRng, words: &[&'static str]) -> &'static str {
    words[random.random_range(0..words.len())]
}

/// `2026-01-01T00:00:00.000Z` of milliseconds since the epoch.
fn iso(millis: u64) -> String {
    let (days, milli) = (millis / 86_400_000, millis % 86_400_000);
    // Civil date of a day number: years begin in March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (milli / 3_600_000, milli / 60_000 % 60, milli / 1_000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        milli % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_repeat_with_their_seed_and_are_about_200_bytes() -> anyhow::Result<()> {
        let once: Vec<Record> = orders(1000, 7).collect();
        assert_eq!(once, orders(1000, 7).collect::<Vec<_>>());
        assert_ne!(once, orders(1000, 8).collect::<Vec<_>>());
        let bytes: usize = once
            .iter()
            .filter_map(|r| r.value.as_ref())
            .map(Vec::len)
            .sum();
        assert!(
            (180_000..220_000).contains(&bytes),
            "{bytes} bytes in 1000 orders"
        );
        Ok(())
    }

    #[test]
    fn orders_are_crooked_in_every_way_that_hides_a_mistake() -> anyhow::Result<()> {
        let records: Vec<Record> = orders(2000, 7).collect();
        let values: Vec<serde_json::Map<String, serde_json::Value>> = records
            .iter()
            .map(|record| serde_json::from_slice(record.value.as_deref().unwrap_or_default()))
            .collect::<Result<_, _>>()?;
        let numbers = |field: &str| -> Vec<u64> {
            let numbers = values.iter().filter_map(|value| value.get(field)?.as_u64());
            numbers.collect()
        };
        for field in ["order_id", "created_at"] {
            let numbers = numbers(field);
            assert_eq!(numbers.len(), 2000, "{field}");
            assert!(
                !numbers.is_sorted() && !numbers.iter().rev().is_sorted(),
                "{field}"
            );
        }
        let ids: std::collections::BTreeSet<u64> = numbers("order_id").into_iter().collect();
        assert_eq!(ids.len(), 2000);
        let days: std::collections::BTreeSet<u64> = numbers("created_at")
            .into_iter()
            .map(|millis| millis / 86_400_000)
            .collect();
        assert_eq!(days.len(), 3);
        for field in [
            "customer",
            "amount",
            "currency",
            "status",
            "country",
            "updated_at",
            "quantity",
        ] {
            let left_out = values
                .iter()
                .filter(|value| !value.contains_key(field))
                .count();
            let null = values
                .iter()
                .filter(|value| value.get(field).is_some_and(|v| v.is_null()));
            assert!((20..90).contains(&left_out), "{field}: {left_out}");
            assert!((20..90).contains(&null.count()), "{field}");
        }
        for partitions in 1..=6 {
            let mut shares = [0; 6];
            for record in &records {
                shares[(record.partition % partitions) as usize] += 1;
            }
            let shares = &shares[..partitions as usize];
            assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
            assert!(partitions == 1 || shares[0] > 2 * shares[1], "{shares:?}");
        }
        Ok(())
    }

    #[test]
    fn timestamps_are_written_as_the_calendar_has_them() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(FIRST_CREATED_MILLIS), "2026-01-01T00:00:00.000Z");
        assert_eq!(iso(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
    }
}
