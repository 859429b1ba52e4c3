//! Realistic orders for the demo: about 200 bytes of JSON each, some late, some that no schema takes. Deterministic.

use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const FIRST: [&str; 12] = [
    "ada", "bruno", "chiara", "dmitri", "elif", "farah", "goran", "hana", "ivo", "jonas", "katya",
    "lena",
];
const LAST: [&str; 10] = [
    "ahmed", "berg", "costa", "dubois", "eriksson", "fischer", "garcia", "horvat", "ito", "jansen",
];
const CURRENCY: [&str; 5] = ["EUR", "USD", "SEK", "GBP", "PLN"];
const STATUS: [&str; 5] = ["new", "paid", "packed", "shipped", "delivered"];
const COUNTRY: [&str; 8] = ["DE", "ES", "FR", "IT", "NL", "PL", "SE", "US"];

/// One in so many is days late, and one in so many is malformed.
const LATE: u64 = 97;
const MALFORMED: u64 = 10_007;

pub(super) struct Orders {
    random: StdRng,
    next: u64,
    /// Event time of the first order, milliseconds since the epoch.
    epoch: i64,
}

impl Orders {
    pub(super) fn new(epoch: i64) -> Self {
        Self {
            random: StdRng::seed_from_u64(42),
            next: 0,
            epoch,
        }
    }

    /// Writes the next order into `value`; true when it is a good one.
    pub(super) fn write(&mut self, value: &mut String) -> bool {
        let n = self.next;
        self.next += 1;
        let random = &mut self.random;
        // Forty orders a second of event time: a few hundred thousand span a few hours.
        let mut at = self.epoch + n as i64 * 25 + random.random_range(0..25);
        if n.is_multiple_of(LATE) {
            at -= random.random_range(1..4) * 86_400_000;
        }
        let updated = chrono::DateTime::from_timestamp_millis(at + random.random_range(0..60_000))
            .unwrap_or_default();
        value.clear();
        if n % MALFORMED == MALFORMED - 1 {
            let broken = match n / MALFORMED % 3 {
                0 => format!(
                    "{{\"order_id\":{},\"customer\":\"cut off",
                    1_000_000_000 + n
                ),
                1 => format!("{{\"order_id\":\"no number\",\"created_at\":{at}}}"),
                _ => "not json at all".to_owned(),
            };
            value.push_str(&broken);
            return false;
        }
        let pick =
            |random: &mut StdRng, from: &[&'static str]| from[random.random_range(0..from.len())];
        let _ = write!(
            value,
            "{{\"order_id\":{},\"customer\":\"{}.{}-{:05}\",\"amount\":{}.{:02},\"currency\":\"{}\",\"status\":\"{}\",\
             \"country\":\"{}\",\"created_at\":{at},\"updated_at\":\"{}\",\"quantity\":{}}}",
            1_000_000_000 + n,
            pick(random, &FIRST),
            pick(random, &LAST),
            random.random_range(0..100_000),
            random.random_range(1..2000),
            random.random_range(0..100),
            pick(random, &CURRENCY),
            pick(random, &STATUS),
            pick(random, &COUNTRY),
            updated.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
            random.random_range(1..10),
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_orders_are_json_of_about_200_bytes_and_bad_ones_are_rare() {
        let mut orders = Orders::new(1_760_000_000_000);
        let (mut value, mut good, mut bytes) = (String::new(), 0u64, 0);
        for _ in 0..30_000 {
            if orders.write(&mut value) {
                assert!(
                    serde_json::from_str::<serde_json::Value>(&value).is_ok(),
                    "{value}"
                );
                good += 1;
                bytes += value.len() as u64;
            }
        }
        assert_eq!(30_000 - good, 2);
        assert!((170..=230).contains(&(bytes / good)));
    }
}
