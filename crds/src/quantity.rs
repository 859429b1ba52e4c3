//! Sizes and durations as people write them in YAML: `128Mi`, `30s`. Pure; parsing accepts exactly what the schema's
//! pattern accepts, so that the API server and the runtime agree.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a quantity was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    expected: &'static str,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for QuantityError {}

/// A number of bytes, written `512Ki`, `128Mi`, `2Gi` (powers of 1024), `1M` (powers of 1000) or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Seven digits with a unit: the largest, 9999999Ti, still fits 64 bits.
const SIZE_PATTERN: &str = "^([0-9]{1,7}(Ki|Mi|Gi|Ti|k|M|G|T)|[0-9]{1,18})$";

const SIZE_UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

impl ByteSize {
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Saturates on machines with less than 64 bits.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = QuantityError {
            expected: "a size such as \"512Ki\", \"128Mi\" or \"2Gi\"",
        };
        let (digits, unit, limit) = SIZE_UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, *unit, 7)))
            .unwrap_or((text, 1, 18));
        number(digits, limit)
            .and_then(|n| n.checked_mul(unit))
            .map(Self)
            .ok_or(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .filter(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit))
            .min_by_key(|(_, unit)| self.0 / unit);
        match unit {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A duration, written `500ms`, `30s`, `5m`, `1h`, `1d`, or several of them: `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(Duration);

/// Three parts of seven digits: the longest, 3 * 9999999d in milliseconds, fits 64 bits by far.
const SPAN_PATTERN: &str = "^([0-9]{1,7}(ms|s|m|h|d)){1,3}$";

/// `ms` before `m` and `s`: the first suffix that fits decides.
const SPAN_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl TimeSpan {
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeSpan {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError {
            expected: "a duration such as \"500ms\", \"30s\", \"5m\" or \"1h30m\"",
        };
        let mut rest = text;
        let mut millis = 0u64;
        let mut parts = 0;
        while !rest.is_empty() {
            parts += 1;
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let value = number(&rest[..digits], 7).ok_or_else(error)?;
            let (suffix, unit) = SPAN_UNITS
                .iter()
                .find(|(suffix, _)| rest[digits..].starts_with(suffix))
                .ok_or_else(error)?;
            millis += value * unit;
            rest = &rest[digits + suffix.len()..];
        }
        if parts == 0 || parts > 3 {
            return Err(error());
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        // Seconds up to two minutes: "60s" reads better than "1m" beside "90s".
        let units: &[(&str, u64)] = if millis <= 120_000 {
            &SPAN_UNITS[..2]
        } else {
            &SPAN_UNITS
        };
        for (suffix, unit) in units.iter().rev() {
            if millis >= *unit {
                write!(f, "{}{suffix}", millis / unit)?;
                millis %= unit;
            }
        }
        Ok(())
    }
}

/// Digits alone, at most `limit` of them.
fn number(digits: &str, limit: usize) -> Option<u64> {
    let fits = !digits.is_empty()
        && digits.len() <= limit
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

macro_rules! written_as_string {
    ($name:ident, $pattern:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": 32 })
            }
        }
    };
}

written_as_string!(ByteSize, SIZE_PATTERN);
written_as_string!(TimeSpan, SPAN_PATTERN);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_in_binary_units() {
        for (text, bytes, written) in [
            ("128Mi", 128 << 20, "128Mi"),
            ("1024Ki", 1 << 20, "1Mi"),
            ("1500", 1500, "1500"),
            ("2G", 2_000_000_000, "2G"),
            ("0", 0, "0"),
            ("9999999Ti", 9_999_999 << 40, "9999999Ti"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.as_u64(), bytes, "{text}");
            assert_eq!(size.to_string(), written);
            assert_eq!(written.parse::<ByteSize>().unwrap(), size);
        }
        for text in ["", "Mi", "1.5Gi", "-1", "+1", "10MB", "12345678Mi", "1 Mi"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_written_with_units() {
        for (text, millis, written) in [
            ("500ms", 500, "500ms"),
            ("60s", 60_000, "60s"),
            ("1m", 60_000, "60s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("0s", 0, "0s"),
            ("2d", 172_800_000, "2d"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span.duration(), Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse::<TimeSpan>().unwrap(), span);
        }
        for text in [
            "",
            "5",
            "5 s",
            "-5s",
            "1.5h",
            "s",
            "1h1m1s1ms",
            "12345678s",
            "5é",
        ] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }
}
