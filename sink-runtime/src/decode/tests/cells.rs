//! One value, one column: what fits, as what, and what does not.

use super::*;
use crate::schema::{Encoding, Type};
use RejectClass::{Malformed, OutOfRange, TypeMismatch};

mod nested;
mod temporal;

/// The value in a column of its own, after records that taught the predictor the shape, and before one that keeps it
/// from the end of the arena.
fn cell(field: &Field, value: &str) -> Result<String, RejectClass> {
    let field = Field {
        name: "v".into(),
        ..field.clone()
    };
    let plan = declared(
        vec![field, Field::optional("z", Type::Boolean)],
        UnknownFields::Ignore,
    );
    let record = format!(r#"{{"v":{value},"z":true}}"#);
    let batch = raw([
        r#"{"v":null,"z":true}"#,
        &record,
        r#"{"v":null,"z":true}"#,
        r#"{"z":true,"filler":"............"}"#,
    ]);
    let decoded = decode(&plan, &batch);
    match decoded.rows.iter().position(|row| *row == 1) {
        Some(row) => Ok(cells(&decoded, "v")[row].clone()),
        None => Err(decoded.rejects.iter().find(|r| r.row == 1).unwrap().class),
    }
}

fn check(ty: &Type, encoding: Option<Encoding>, table: &[(&str, Result<&str, RejectClass>)]) {
    let field = Field {
        encoding,
        ..Field::optional("v", ty.clone())
    };
    for (value, expected) in table {
        let found = cell(&field, value);
        assert_eq!(
            found.as_deref(),
            expected.as_ref().map(|s| *s),
            "{ty:?} {encoding:?} {value}"
        );
    }
}

#[test]
fn booleans() {
    check(
        &Type::Boolean,
        None,
        &[
            ("true", Ok("true")),
            ("false", Ok("false")),
            ("null", Ok("NULL")),
            ("0", Err(TypeMismatch)),
            ("\"true\"", Err(TypeMismatch)),
            ("True", Err(Malformed)),
            ("tru", Err(Malformed)),
            ("truee", Err(Malformed)),
        ],
    );
}

#[test]
fn integers_of_every_spelling_and_edge() {
    check(
        &Type::Long,
        None,
        &[
            ("0", Ok("0")),
            ("-0", Ok("0")),
            ("1760000000000", Ok("1760000000000")),
            ("123456789012345678", Ok("123456789012345678")),
            ("1234567890123456789", Ok("1234567890123456789")),
            ("9223372036854775807", Ok("9223372036854775807")),
            ("-9223372036854775808", Ok("-9223372036854775808")),
            ("9223372036854775808", Err(OutOfRange)),
            ("123456789012345678901234567890", Err(OutOfRange)),
            ("1.0", Ok("1")),
            ("1e3", Ok("1000")),
            ("1E+3", Ok("1000")),
            ("1.5", Err(OutOfRange)),
            ("1e-3", Err(OutOfRange)),
            ("1e400", Err(OutOfRange)),
            ("01", Err(Malformed)),
            ("00", Err(Malformed)),
            ("-", Err(Malformed)),
            ("+1", Err(Malformed)),
            ("1.", Err(Malformed)),
            (".5", Err(Malformed)),
            ("1e", Err(Malformed)),
            ("1x", Err(Malformed)),
            ("0x1", Err(Malformed)),
            ("NaN", Err(Malformed)),
            ("Infinity", Err(Malformed)),
            ("\"1\"", Err(TypeMismatch)),
            ("true", Err(TypeMismatch)),
            ("[1]", Err(TypeMismatch)),
            ("{}", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Int,
        None,
        &[
            ("2147483647", Ok("2147483647")),
            ("-2147483648", Ok("-2147483648")),
            ("2147483648", Err(OutOfRange)),
            ("1e10", Err(OutOfRange)),
        ],
    );
}

#[test]
fn floating_point_numbers_are_the_nearest() {
    check(
        &Type::Double,
        None,
        &[
            ("0", Ok("0.0")),
            ("-0", Ok("-0.0")),
            ("817.31", Ok("817.31")),
            ("-0.1", Ok("-0.1")),
            ("9007199254740993", Ok("9007199254740992.0")),
            ("0.1234567890123456789", Ok("0.12345678901234568")),
            ("1.7976931348623157e308", Ok("1.7976931348623157e308")),
            ("1e309", Err(OutOfRange)),
            ("-1e999999999999", Err(OutOfRange)),
            ("1e-400", Ok("0.0")),
            ("5e-324", Ok("5e-324")),
            ("\"1.5\"", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Float,
        None,
        &[
            ("0.1", Ok("0.1")),
            ("16777217", Ok("16777216.0")),
            ("16777217.5", Ok("16777218.0")),
            ("-0.0", Ok("-0.0")),
            ("0.12345678901", Ok("0.12345679")),
            ("1.17549429e-38", Ok("1.1754944e-38")),
            (
                "340282346638528859811704183484516925440",
                Ok("3.4028235e38"),
            ),
            ("1e-60", Ok("0.0")),
            ("3.5e38", Err(OutOfRange)),
        ],
    );
}

#[test]
fn decimals_from_numbers_and_strings_keep_every_digit() {
    let ty = Type::Decimal {
        precision: 12,
        scale: 2,
    };
    check(
        &ty,
        None,
        &[
            ("817.31", Ok("817.31")),
            ("817.3", Ok("817.30")),
            ("817", Ok("817.00")),
            ("-817.31", Ok("-817.31")),
            ("0.01", Ok("0.01")),
            ("-0.01", Ok("-0.01")),
            ("-0.00", Ok("0.00")),
            ("0.010", Ok("0.01")),
            ("0.001", Err(OutOfRange)),
            ("1e-2", Ok("0.01")),
            ("1e-3", Err(OutOfRange)),
            ("8.1731e2", Ok("817.31")),
            ("1e10", Err(OutOfRange)),
            ("9999999999.99", Ok("9999999999.99")),
            ("9999999999.991", Err(OutOfRange)),
            ("10000000000", Err(OutOfRange)),
            ("\"817.31\"", Ok("817.31")),
            ("\"+1E+3\"", Ok("1000.00")),
            ("\"817,31\"", Err(TypeMismatch)),
            ("\"\"", Err(TypeMismatch)),
            ("\"817.315\"", Err(OutOfRange)),
            ("true", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Decimal {
            precision: 38,
            scale: 38,
        },
        None,
        &[
            (
                "0.99999999999999999999999999999999999999",
                Ok("0.99999999999999999999999999999999999999"),
            ),
            ("1", Err(OutOfRange)),
            ("1e-38", Ok("0.00000000000000000000000000000000000001")),
            ("1e-39", Err(OutOfRange)),
            ("123456789.123456789", Err(OutOfRange)),
        ],
    );
}

#[test]
fn strings_are_json_strings_only() {
    check(
        &Type::String,
        None,
        &[
            ("\"\"", Ok("")),
            ("\"katya\"", Ok("katya")),
            ("\"eight___\"", Ok("eight___")),
            ("\"żółć 🦆\"", Ok("żółć 🦆")),
            (r#""a\"\\\/\b\f\n\r\tz""#, Ok("a\"\\/\u{8}\u{c}\n\r\tz")),
            (r#""\u00e9\ud83e\udd86\u0000""#, Ok("é🦆\0")),
            (r#""\ud83e""#, Err(Malformed)),
            (r#""\udd86\ud83e""#, Err(Malformed)),
            (r#""\ud83e\n""#, Err(Malformed)),
            (r#""\ud83e\u0041""#, Err(Malformed)),
            (r#""\u12g4""#, Err(Malformed)),
            (r#""\x""#, Err(Malformed)),
            ("\"a\nb\"", Err(Malformed)),
            ("\"a\tb\"", Err(Malformed)),
            ("\"a\u{7f}b\"", Ok("a\u{7f}b")),
            ("\"open", Err(Malformed)),
            ("'single'", Err(Malformed)),
            ("1", Err(TypeMismatch)),
            ("true", Err(TypeMismatch)),
            ("[]", Err(TypeMismatch)),
        ],
    );
}

#[test]
fn uuids_and_binaries() {
    check(
        &Type::Uuid,
        None,
        &[
            (
                "\"67E55044-10B1-426F-9247-BB680E5FE0C8\"",
                Ok("67e5504410b1426f9247bb680e5fe0c8"),
            ),
            (
                "\"67e5504410b1426f9247bb680e5fe0c8\"",
                Ok("67e5504410b1426f9247bb680e5fe0c8"),
            ),
            (
                "\"{67e55044-10b1-426f-9247-bb680e5fe0c8}\"",
                Ok("67e5504410b1426f9247bb680e5fe0c8"),
            ),
            (
                "\"urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8\"",
                Ok("67e5504410b1426f9247bb680e5fe0c8"),
            ),
            (
                r#""67e55044\u002d10b1-426f-9247-bb680e5fe0c8""#,
                Ok("67e5504410b1426f9247bb680e5fe0c8"),
            ),
            ("\"67e55044-10b1-426f-9247-bb680e5fe0c\"", Err(TypeMismatch)),
            (
                "\"67e5504-410b1-426f-9247-bb680e5fe0c8\"",
                Err(TypeMismatch),
            ),
            (
                "\"67e55044-10b1-426f-9247-bb680e5fe0cg\"",
                Err(TypeMismatch),
            ),
            ("7", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Binary,
        None,
        &[
            ("\"3q2+7w==\"", Ok("deadbeef")),
            ("\"3q2+7w\"", Ok("deadbeef")),
            (r#""3q2\u002b7w==""#, Ok("deadbeef")),
            ("\"\"", Ok("")),
            ("\"3q2-7w==\"", Err(TypeMismatch)),
            ("\"3q2+7x==\"", Err(TypeMismatch)),
            ("\"!\"", Err(TypeMismatch)),
            ("1", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Binary,
        Some(Encoding::Hex),
        &[
            ("\"DEADbeef\"", Ok("deadbeef")),
            ("\"abc\"", Err(TypeMismatch)),
            ("\"zz\"", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::Binary,
        Some(Encoding::Utf8),
        &[("\"é\"", Ok("c3a9"))],
    );
}

#[test]
fn messages_name_the_field_and_never_the_value() {
    let inner = Type::Struct(vec![Field::required("zip", Type::String)]);
    let list = Type::List(Box::new(Field::optional("element", inner)));
    let plan = declared(
        vec![
            Field::optional("addresses", list),
            Field::optional("n", Type::Long),
        ],
        UnknownFields::Reject,
    );
    let decoded = decode(
        &plan,
        &raw([
            r#"{"addresses":[{}]}"#,
            r#"{"n":"hunter2"}"#,
            r#"{"secret":"hunter2"}"#,
            r#"{"n":1"#,
            "7",
            "",
            "\0\0\0\0\u{7}{\"n\":1}",
            "\u{feff}{\"n\":1}",
            r#"{"n":-Infinity}"#,
            r#"{"ignored":NaN}"#,
            r#"{"n":"\ud83d"}"#,
        ]),
    );
    let messages: Vec<&str> = decoded.rejects.iter().map(|r| r.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "field `addresses.element.zip`: a required field is missing",
            "field `n`: expected long, found string",
            "field `secret`: no column for it (string)",
            "not JSON at byte 6: expected a comma or the end of the object or array",
            "expected an object, found number",
            "not JSON at byte 0: empty",
            "not JSON at byte 0: begins with the five-byte header of a schema registry's serializer (schema id 7): write \
             plain JSON, with a serializer that uses no registry",
            "not JSON at byte 0: begins with a byte-order mark: write UTF-8 without one",
            "not JSON at byte 6: -Infinity is no JSON: write null instead",
            "not JSON at byte 11: NaN is no JSON: write null instead",
            "not JSON at byte 12: lone surrogate, half of a character: the producer must not cut texts between the two",
        ]
    );
    let gzip = decode(&plan, &raw([&b"\x1f\x8b\x08\x00"[..], b"{}"]));
    assert_eq!(
        gzip.rejects[0].message,
        "not UTF-8: compressed with gzip by its producer: write plain JSON, and leave compression to the Kafka client \
         (compression.type)"
    );
}
