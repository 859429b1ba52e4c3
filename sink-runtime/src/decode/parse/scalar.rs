//! Scalar values of the general decoder: from the cursor, or a string's text, to what a column stores. Pure.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::decode::column::{BinaryWire, Bytes, Rounding};
use crate::decode::cursor::{Cursor, Number, kind};
use crate::decode::misfit::Halt;
use crate::decode::number;

/// A value of another kind than the column's, or none at all.
#[cold]
pub(in crate::decode) fn mismatch(cursor: &Cursor<'_>, expected: &str) -> Halt {
    Halt::mismatch(expected, kind(cursor.peek()))
}

pub(in crate::decode) fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Halt> {
    match cursor.peek() {
        b't' => cursor.literal(b"true")?,
        b'f' => {
            cursor.literal(b"false")?;
            return Ok(false);
        }
        _ => return Err(mismatch(cursor, "boolean")),
    }
    Ok(true)
}

#[inline]
pub(in crate::decode) fn a_number<'a>(
    cursor: &mut Cursor<'a>,
    expected: &'static str,
) -> Result<Number<'a>, Halt> {
    match cursor.peek() {
        b'-' | b'0'..=b'9' => Ok(cursor.number()?),
        _ => Err(mismatch(cursor, expected)),
    }
}

#[inline]
pub(in crate::decode) fn integer(
    cursor: &mut Cursor<'_>,
    expected: &'static str,
) -> Result<i64, Halt> {
    let found = a_number(cursor, expected)?;
    let value = if found.plain {
        number::integer(found.text)
    } else {
        number::integral(found.text)
    };
    value.ok_or_else(|| Halt::out_of_range(expected))
}

/// The nearest one.
pub(in crate::decode) fn float(cursor: &mut Cursor<'_>) -> Result<f32, Halt> {
    let found = a_number(cursor, "float")?;
    let value = fast_float2::parse(found.text).ok();
    value
        .filter(|value: &f32| value.is_finite())
        .ok_or_else(|| Halt::out_of_range("float"))
}

/// The nearest one, or where integers must not be rounded, one that keeps all their digits.
pub(in crate::decode) fn double(cursor: &mut Cursor<'_>, rounding: Rounding) -> Result<f64, Halt> {
    let found = a_number(cursor, "double")?;
    let value = if rounding == Rounding::Fractions && found.plain {
        number::kept_by_double(found.text)
    } else {
        number::nearest_double(found.text)
    };
    value.ok_or_else(|| Halt::out_of_range("double"))
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(in crate::decode) fn binary(
    text: &[u8],
    wire: BinaryWire,
    bytes: &mut Bytes<i64>,
) -> Result<(), Halt> {
    let start = bytes.len;
    let room = match wire {
        BinaryWire::Base64 => base64::decoded_len_estimate(text.len()),
        BinaryWire::Hex | BinaryWire::Utf8 => text.len(),
    };
    if bytes.values.len() < start + room {
        bytes.grow(start + room);
    }
    let target = &mut bytes.values[start..start + room];
    let written = match wire {
        BinaryWire::Base64 => BASE64
            .decode_slice(text, target)
            .map_err(|_| Halt::mismatch("binary", "a string that is not Base64"))?,
        BinaryWire::Hex => {
            let half = text.len() / 2;
            hex::decode_to_slice(text, &mut target[..half])
                .map_err(|_| Halt::mismatch("binary", "a string that is not hexadecimal"))?;
            half
        }
        BinaryWire::Utf8 => {
            target.copy_from_slice(text);
            room
        }
    };
    bytes.close(start + written);
    Ok(())
}
