//! Decimal text to integers and decimals, exactly: a digit that does not fit is never rounded away. Pure.

/// `±digits × 10^exponent`, without trailing zeros in `digits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exact {
    negative: bool,
    digits: u128,
    exponent: i64,
}

/// More than any decimal(38) holds.
const MAX_DIGITS: i64 = 38;

pub(super) const POW10: [u128; 39] = {
    let mut powers = [1_u128; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// An integer of JSON's grammar: no fraction, no exponent.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // 19 digits always fit 64 bits unsigned; JSON has no leading zeros.
    if digits.len() > 19 {
        return None;
    }
    let mut magnitude = 0_u64;
    for digit in digits {
        magnitude = magnitude * 10 + u64::from(digit.wrapping_sub(b'0'));
    }
    if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// The integer that a number with fraction or exponent is exactly equal to.
pub(super) fn integral(text: &[u8]) -> Option<i64> {
    let unscaled = parse(text)?.unscaled(0)?;
    i64::try_from(unscaled).ok()
}

/// The greatest integer that is not above `number × 10^scale`, whatever the number's spelling; `None` where 64 bits do
/// not hold it.
pub(super) fn floor(text: &[u8], scale: i64) -> Option<i64> {
    let negative = text.first() == Some(&b'-');
    let end = text.iter().position(|b| matches!(b, b'e' | b'E'));
    let (mantissa, exponent) = match end {
        Some(end) => (&text[..end], saturating_exponent(&text[end + 1..])),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|b| *b == b'.');
    let whole = &mantissa[..point.unwrap_or(mantissa.len())];
    // How many of the digits stand before the point, once it is moved.
    let before = leading_digits(&whole[usize::from(negative)..]) as i64;
    let before = before.saturating_add(exponent).saturating_add(scale);
    let (mut value, mut count, mut cut) = (0_i64, 0_i64, false);
    for digit in mantissa.iter().filter(|b| b.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        if count < before {
            value = value.checked_mul(10)?.checked_sub(digit)?;
        } else {
            cut |= digit != 0;
        }
        count += 1;
    }
    // Held as its negative, which has the greater range. Ends early: 19 more digits are too many for all but 0.
    while count < before && value != 0 {
        value = value.checked_mul(10)?;
        count += 1;
    }
    if negative {
        value.checked_sub(i64::from(cut))
    } else {
        value.checked_neg()
    }
}

/// The double that is nearest to a number; `None` where that is infinity.
pub(super) fn nearest_double(text: &[u8]) -> Option<f64> {
    fast_float2::parse(text)
        .ok()
        .filter(|v: &f64| v.is_finite())
}

/// The double that keeps every digit of an integer: the two are equal, or the integer is the double's shortest form, as
/// producers that have nothing but doubles write it.
pub(super) fn kept_by_double(text: &[u8]) -> Option<f64> {
    let value = nearest_double(text)?;
    // As many digits always survive.
    if text.len() <= 15 {
        return Some(value);
    }
    let exact = parse(text)?;
    let shortest = format!("{value:e}");
    // Beyond 128 bits it saturates, and differs.
    let whole = format!("{}", value as i128);
    [shortest, whole]
        .iter()
        .any(|form| parse(form.as_bytes()) == Some(exact))
        .then_some(value)
}

/// `text × 10^scale`, if that is an integer of at most `precision` digits. `text` is of JSON's number grammar, or of
/// [`is_decimal`]'s wider one.
pub(super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let unscaled = parse(text)?.unscaled(i64::from(scale))?;
    let limit = POW10.get(usize::from(precision))?;
    (unscaled.unsigned_abs() < *limit).then_some(unscaled)
}

/// What a string may hold for a decimal column: a number that may have a plus sign, leading zeros, and no digits on
/// one side of its point.
pub(super) fn is_decimal(text: &[u8]) -> bool {
    let mut rest = match text {
        [b'-' | b'+', rest @ ..] => rest,
        _ => text,
    };
    let whole = leading_digits(rest);
    rest = &rest[whole..];
    let mut fraction = 0;
    if let [b'.', after @ ..] = rest {
        fraction = leading_digits(after);
        rest = &after[fraction..];
    }
    if let [b'e' | b'E', after @ ..] = rest {
        let after = match after {
            [b'-' | b'+', digits @ ..] => digits,
            _ => after,
        };
        let exponent = leading_digits(after);
        if exponent == 0 {
            return false;
        }
        rest = &after[exponent..];
    }
    whole + fraction > 0 && rest.is_empty()
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// `None` when more than 38 digits are significant.
fn parse(text: &[u8]) -> Option<Exact> {
    let mut negative = false;
    let mut digits = 0_u128;
    let mut significant = 0_i64;
    // Zeros seen after the last significant digit: they shift the exponent, unless another digit follows.
    let mut zeros = 0_i64;
    let mut fraction = 0_i64;
    let mut in_fraction = false;
    let mut exponent = 0_i64;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'-' => negative = true,
            b'.' => in_fraction = true,
            b'e' | b'E' => {
                exponent = saturating_exponent(&text[at + 1..]);
                break;
            }
            b'0'..=b'9' => {
                fraction += i64::from(in_fraction);
                let digit = u128::from(byte - b'0');
                if digit == 0 {
                    zeros += i64::from(digits != 0);
                } else {
                    significant += zeros + 1;
                    if significant > MAX_DIGITS {
                        return None;
                    }
                    digits = digits * POW10[zeros as usize + 1] + digit;
                    zeros = 0;
                }
            }
            _ => {}
        }
    }
    Some(Exact {
        negative,
        digits,
        exponent: exponent.saturating_add(zeros).saturating_sub(fraction),
    })
}

fn saturating_exponent(text: &[u8]) -> i64 {
    let mut negative = false;
    let mut value = 0_i64;
    for byte in text {
        match byte {
            b'-' => negative = true,
            b'0'..=b'9' => {
                value = value
                    .saturating_mul(10)
                    .saturating_add(i64::from(byte - b'0'));
            }
            _ => {}
        }
    }
    if negative { -value } else { value }
}

impl Exact {
    fn unscaled(&self, scale: i64) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        // Below zero a digit other than zero would be cut off.
        let shift = usize::try_from(self.exponent.saturating_add(scale)).ok()?;
        let magnitude = self.digits.checked_mul(*POW10.get(shift)?)?;
        let value = i128::try_from(magnitude).ok()?;
        Some(if self.negative { -value } else { value })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        let table: &[(&str, u8, u8, Option<i128>)] = &[
            ("817.31", 12, 2, Some(81731)),
            ("-817.3", 12, 2, Some(-81730)),
            ("0.05", 12, 2, Some(5)),
            ("0.005", 12, 2, None),
            ("0.050", 12, 2, Some(5)),
            ("-0.0", 12, 2, Some(0)),
            ("1e2", 12, 2, Some(10000)),
            ("12345e-2", 12, 2, Some(12345)),
            ("12345e-3", 12, 2, None),
            ("1.5E+3", 5, 0, Some(1500)),
            ("9999999999.99", 12, 2, Some(999_999_999_999)),
            ("10000000000.00", 12, 2, None),
            ("0e99999999999999999999", 12, 2, Some(0)),
            ("1e99999999999999999999", 12, 2, None),
            ("1e-99999999999999999999", 12, 2, None),
            (
                "100000000000000000000000000000000000000000e-39",
                4,
                0,
                Some(100),
            ),
            (
                "99999999999999999999999999999999999999",
                38,
                0,
                Some(99_999_999_999_999_999_999_999_999_999_999_999_999),
            ),
            ("100000000000000000000000000000000000000", 38, 0, None),
            ("+007.50", 12, 2, Some(750)),
            (".5", 1, 1, Some(5)),
        ];
        for (text, precision, scale, expected) in table {
            assert_eq!(
                decimal(text.as_bytes(), *precision, *scale),
                *expected,
                "{text}"
            );
        }
    }

    #[test]
    fn integers_are_exact_or_refused() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("9999999999999999999", None),
            ("10000000000000000000", None),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
        for (text, expected) in [
            ("1.0", Some(1)),
            ("1e3", Some(1000)),
            ("1.5", None),
            ("15e-1", None),
            ("150e-1", Some(15)),
            ("9.223372036854775807e18", Some(i64::MAX)),
            ("9.223372036854775808e18", None),
        ] {
            assert_eq!(integral(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_cut_towards_the_past_exactly() {
        let long = format!("0.{}1", "0".repeat(400));
        for (text, scale, expected) in [
            ("1700000000.123", 6, Some(1_700_000_000_123_000)),
            ("1.700000000123E9", 6, Some(1_700_000_000_123_000)),
            ("1700000000.1234567", 6, Some(1_700_000_000_123_456)),
            ("-1.5", 0, Some(-2)),
            ("-1.0", 0, Some(-1)),
            ("-0.0", 0, Some(0)),
            ("-0.0000001", 6, Some(-1)),
            ("0.0000009", 6, Some(0)),
            (long.as_str(), 6, Some(0)),
            ("1e-999999999999999999999", 0, Some(0)),
            ("-1e-999999999999999999999", 0, Some(-1)),
            ("0e999999999999999999999", 0, Some(0)),
            ("1e999999999999999999999", 0, None),
            ("1e18", 0, Some(1_000_000_000_000_000_000)),
            ("1e19", 0, None),
            ("170000000012345678901", -3, Some(170_000_000_012_345_678)),
            ("-9223372036854775808", 0, Some(i64::MIN)),
            ("-9223372036854775808.5", 0, None),
            ("9223372036854775807.9", 0, Some(i64::MAX)),
            ("9223372036854775808", 0, None),
            ("0.00017e5", 0, Some(17)),
        ] {
            assert_eq!(floor(text.as_bytes(), scale), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_cut_number_is_the_greatest_integer_not_above_it(
            digits in -999_999_999_999_999_i64..=999_999_999_999_999, point in 0_usize..25, exponent in -30_i64..20,
            scale in -9_i64..9,
        ) {
            // digits × 10^(exponent - point), with its point written out.
            let plain = format!("{:026}", digits.unsigned_abs());
            let (whole, fraction) = plain.split_at(26 - point);
            let whole = whole.trim_start_matches('0');
            let sign = if digits < 0 { "-" } else { "" };
            let whole = if whole.is_empty() { "0" } else { whole };
            let text = if fraction.is_empty() {
                format!("{sign}{whole}e{exponent}")
            } else {
                format!("{sign}{whole}.{fraction}E{exponent:+}")
            };
            let shift = exponent - point as i64 + scale;
            let expected = if shift >= 0 {
                10_i128.checked_pow(shift as u32).and_then(|power| power.checked_mul(i128::from(digits)))
            } else {
                let power = 10_i128.checked_pow(shift.unsigned_abs() as u32);
                Some(power.map_or(-i128::from(digits < 0), |power| i128::from(digits).div_euclid(power)))
            };
            let expected = expected.and_then(|value| i64::try_from(value).ok());
            proptest::prop_assert_eq!(floor(text.as_bytes(), scale), expected, "{} {}", text, scale);
        }
    }

    #[test]
    fn integers_become_doubles_that_keep_their_digits_or_none() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("-12", Some(-12.0)),
            ("999999999999999", Some(999_999_999_999_999.0)),
            ("9007199254740992", Some(9_007_199_254_740_992.0)),
            ("9007199254740993", None),
            ("-9007199254740993", None),
            ("9007199254740994", Some(9_007_199_254_740_994.0)),
            ("9223372036854775807", None),
            ("9223372036854775808", Some(9_223_372_036_854_775_808.0)),
            ("9223372036854776000", Some(9_223_372_036_854_775_808.0)),
            ("18446744073709551615", None),
            ("18446744073709551616", Some(18_446_744_073_709_551_616.0)),
            ("12345678901234567000", Some(1.234_567_890_123_456_7e19)),
            ("12345678901234567001", None),
            ("100000000000000000000000000000000000000000", Some(1e41)),
        ] {
            assert_eq!(kept_by_double(text.as_bytes()), expected, "{text}");
        }
        let huge = format!("1{}", "0".repeat(400));
        assert_eq!(kept_by_double(huge.as_bytes()), None);
    }

    #[test]
    fn only_numbers_pass_for_decimal_strings() {
        for good in ["1", "+1", "-1.5", ".5", "5.", "007", "1e5", "1.e-5"] {
            assert!(is_decimal(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ".", "-", "e5", "1e", "1e+", " 1", "1 ", "NaN", "Infinity", "1,5", "0x1", "1.2.3",
        ] {
            assert!(!is_decimal(bad.as_bytes()), "{bad}");
        }
    }
}
