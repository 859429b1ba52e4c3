//! Dates, times and timestamps.

use super::*;

#[test]
fn timestamps_by_encoding() {
    let instant = "2025-10-09T08:53:20Z";
    for ty in [Type::Timestamptz, Type::Timestamp] {
        let shown = if ty == Type::Timestamp {
            "2025-10-09T08:53:20"
        } else {
            instant
        };
        check(
            &ty,
            None,
            &[
                ("\"2025-10-09T08:53:20.000Z\"", Ok(shown)),
                ("\"2025-10-09T08:53:20Z\"", Ok(shown)),
                ("\"2025-10-09T08:53:20\"", Ok(shown)),
                ("\"2025-10-09 10:53:20.000000000+02:00\"", Ok(shown)),
                ("\"2025-10-09T08:53:20\\u002e0Z\"", Ok(shown)),
                ("1760000000000", Ok(shown)),
                ("1.76e12", Ok(shown)),
                ("9223372036854775807", Err(OutOfRange)),
                ("\"yesterday\"", Err(TypeMismatch)),
                ("\"2025-02-30T00:00:00Z\"", Err(TypeMismatch)),
                ("\"2025-10-09T24:00:00Z\"", Err(TypeMismatch)),
                ("\"2016-12-31T23:59:60Z\"", Err(TypeMismatch)),
                ("\"2025-10-09T08:53:20.Z\"", Err(TypeMismatch)),
                ("\"2025-10-09T08:53:20.0123456789Z\"", Err(TypeMismatch)),
                ("\"2025-10-09T08:5:20Z\"", Err(TypeMismatch)),
                ("\"1760000000000\"", Err(TypeMismatch)),
                ("false", Err(TypeMismatch)),
            ],
        );
    }
    let zoned = Type::Timestamptz;
    check(
        &zoned,
        None,
        &[(
            "\"2025-10-09T08:53:20.123456789Z\"",
            Ok("2025-10-09T08:53:20.123456Z"),
        )],
    );
    for (encoding, value) in [
        (Encoding::EpochSeconds, "1760000000"),
        (Encoding::EpochMillis, "1760000000000"),
        (Encoding::EpochMicros, "1760000000000000"),
        (Encoding::EpochNanos, "1760000000000000999"),
    ] {
        check(
            &zoned,
            Some(encoding),
            &[
                (value, Ok(instant)),
                ("\"2025-10-09T08:53:20Z\"", Err(TypeMismatch)),
            ],
        );
    }
    check(
        &zoned,
        Some(Encoding::EpochNanos),
        &[("-1", Ok("1969-12-31T23:59:59.999999Z"))],
    );
    check(
        &zoned,
        Some(Encoding::Iso8601),
        &[
            ("\"2025-10-09T08:53:20Z\"", Ok(instant)),
            ("1760000000000", Err(TypeMismatch)),
        ],
    );
}

/// As Python's `time.time()`, nginx and Fluent Bit write them.
#[test]
fn epoch_numbers_with_a_fraction_or_an_exponent_are_cut_at_the_microsecond() {
    let zoned = Type::Timestamptz;
    let second = "2023-11-14T22:13:20.123Z";
    for (encoding, given) in [
        (
            Some(Encoding::EpochSeconds),
            [
                ("1700000000.123", Ok(second)),
                ("1.700000000123E9", Ok(second)),
                ("1700000000.12300099999", Ok(second)),
                ("1700000000.0", Ok("2023-11-14T22:13:20Z")),
                ("-0.0000001", Ok("1969-12-31T23:59:59.999999Z")),
                ("253402300800.0", Err(OutOfRange)),
            ],
        ),
        (
            None,
            [
                ("1700000000123.0", Ok(second)),
                ("1.700000000123e+12", Ok(second)),
                ("17000000001230e-1", Ok(second)),
                ("1700000000123.4", Ok("2023-11-14T22:13:20.123400Z")),
                ("-1.5", Ok("1969-12-31T23:59:59.998500Z")),
                ("1e400", Err(OutOfRange)),
            ],
        ),
        (
            Some(Encoding::EpochNanos),
            [
                ("1.700000000123E18", Ok(second)),
                ("1700000000123000999.9", Ok(second)),
                ("-0.1", Ok("1969-12-31T23:59:59.999999Z")),
                // More than 64 bits hold, and not beyond the calendar.
                ("95617584000000000001", Ok("5000-01-01T00:00:00Z")),
                ("9.5617584e19", Ok("5000-01-01T00:00:00Z")),
                ("253402300800000000000", Err(OutOfRange)),
            ],
        ),
    ] {
        check(&zoned, encoding, &given);
    }
    check(
        &Type::Time,
        Some(Encoding::EpochSeconds),
        &[
            ("86399.9999999", Ok("23:59:59.999999")),
            ("-0.0000001", Err(OutOfRange)),
            ("86400.0", Err(OutOfRange)),
        ],
    );
    check(
        &Type::Date,
        Some(Encoding::EpochDays),
        &[
            ("19000.0", Ok("2022-01-08")),
            ("1.9e4", Ok("2022-01-08")),
            ("19000.5", Err(TypeMismatch)),
            ("2932897.5", Err(OutOfRange)),
            ("1e400", Err(OutOfRange)),
        ],
    );
    let millis = Some(Encoding::EpochMillis);
    check(&Type::Date, millis, &[("-0.5", Ok("1969-12-31"))]);
}

#[test]
fn dates_and_times_by_encoding() {
    check(
        &Type::Date,
        None,
        &[
            ("\"2025-10-09\"", Ok("2025-10-09")),
            ("20370", Ok("2025-10-09")),
            ("-1", Ok("1969-12-31")),
            ("2147483648", Err(OutOfRange)),
            ("\"2025-10-09T00:00:00Z\"", Err(TypeMismatch)),
            ("\"2025-02-29\"", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Date,
        Some(Encoding::EpochMillis),
        &[("1760000000000", Ok("2025-10-09"))],
    );
    check(
        &Type::Date,
        Some(Encoding::EpochDays),
        &[("\"2025-10-09\"", Err(TypeMismatch))],
    );
    check(
        &Type::Time,
        None,
        &[
            ("\"08:53:20.5\"", Ok("08:53:20.500")),
            ("\"08:53\"", Ok("08:53:00")),
            ("32000000", Ok("08:53:20")),
            ("-1", Err(OutOfRange)),
            ("86400000", Err(OutOfRange)),
            ("\"24:00:00\"", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Time,
        Some(Encoding::EpochNanos),
        &[("86399999999999", Ok("23:59:59.999999"))],
    );
}

#[test]
fn times_beyond_the_years_of_four_digits_do_not_fit() {
    check(
        &Type::Timestamptz,
        None,
        &[
            ("-62167219200000", Ok("0000-01-01T00:00:00Z")),
            ("-62167219200001", Err(OutOfRange)),
            ("253402300799999", Ok("9999-12-31T23:59:59.999Z")),
            ("253402300800000", Err(OutOfRange)),
            ("1760000000000000", Err(OutOfRange)),
            ("\"9999-12-31T23:59:59-01:00\"", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Date,
        None,
        &[
            ("-719528", Ok("0000-01-01")),
            ("-719529", Err(OutOfRange)),
            ("2932896", Ok("9999-12-31")),
            ("2932897", Err(OutOfRange)),
        ],
    );
}
