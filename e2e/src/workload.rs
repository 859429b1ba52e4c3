//! Records to produce: hand-made ones and a stream of realistic orders.

use std::fmt::Write;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

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

/// The id of the first order; each further one is greater by one.
pub const FIRST_ORDER_ID: u64 = 1_000_000_000;
/// When the first order was created: 2026-01-01T00:00:00Z.
pub const FIRST_CREATED_MILLIS: u64 = 1_767_225_600_000;
/// From the creation of an order to that of the next.
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

/// `n` orders of about 200 bytes of JSON with nine typed fields, the same for the same seed. Order `i` goes to
/// partition `i` (modulo the topic's), has the id 1 000 000 000 + `i` as its key, and is created 17 ms after the one
/// before it ([`FIRST_ORDER_ID`], [`FIRST_CREATED_MILLIS`], [`MILLIS_BETWEEN_ORDERS`]).
pub fn orders(n: u64, seed: u64) -> impl Iterator<Item = Record> + Send {
    orders_of_countries(n, seed, 10)
}

/// The same, from the first `countries` of [`COUNTRIES`], mixed at random.
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
        let value = once[0].value.as_deref().unwrap_or_default();
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(value)?;
        assert_eq!(fields.len(), 9);
        Ok(())
    }

    #[test]
    fn timestamps_are_written_as_the_calendar_has_them() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(FIRST_CREATED_MILLIS), "2026-01-01T00:00:00.000Z");
        assert_eq!(iso(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
    }
}
