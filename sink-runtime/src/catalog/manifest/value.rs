//! Partition values: as Avro bytes, as the bounds of a manifest list, and back.

use iceberg::spec::{PrimitiveLiteral, PrimitiveType, Type};

use super::avro::{self, Value};

/// Bytes of a decimal as `fixed`: the fewest that hold its precision.
pub(super) fn decimal_width(precision: u32) -> usize {
    // Sixteen hold the largest precision there is.
    Type::decimal_required_bytes(precision).map_or(16, |n| n as usize)
}

/// Whether `value` is one that `ty` can hold.
pub(super) fn fits(ty: &PrimitiveType, value: &PrimitiveLiteral) -> bool {
    ty.compatible(value)
        && match (ty, value) {
            (PrimitiveType::Fixed(size), PrimitiveLiteral::Binary(bytes)) => {
                u64::try_from(bytes.len()) == Ok(*size)
            }
            (PrimitiveType::Decimal { precision, .. }, PrimitiveLiteral::Int128(value)) => {
                let spare = 16 - decimal_width(*precision);
                spare == 0 || {
                    let bits = spare * 8;
                    (*value << bits) >> bits == *value
                }
            }
            _ => true,
        }
}

/// A value that [`fits`].
pub(super) fn encode(ty: &PrimitiveType, value: &PrimitiveLiteral, out: &mut Vec<u8>) {
    match value {
        PrimitiveLiteral::Boolean(v) => out.push(u8::from(*v)),
        PrimitiveLiteral::Int(v) => avro::long(out, i64::from(*v)),
        PrimitiveLiteral::Long(v) => avro::long(out, *v),
        PrimitiveLiteral::Float(v) => out.extend(v.0.to_le_bytes()),
        PrimitiveLiteral::Double(v) => out.extend(v.0.to_le_bytes()),
        PrimitiveLiteral::String(v) => avro::bytes(out, v.as_bytes()),
        PrimitiveLiteral::UInt128(v) => out.extend(v.to_be_bytes()),
        PrimitiveLiteral::Int128(v) => {
            let width = match ty {
                PrimitiveType::Decimal { precision, .. } => decimal_width(*precision),
                _ => 16,
            };
            out.extend(&v.to_be_bytes()[16 - width..]);
        }
        PrimitiveLiteral::Binary(v) if matches!(ty, PrimitiveType::Fixed(_)) => out.extend(v),
        PrimitiveLiteral::Binary(v) => avro::bytes(out, v),
        // No type holds them.
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => {}
    }
}

/// Iceberg's single-value form, for bounds.
pub(super) fn single(value: &PrimitiveLiteral) -> Vec<u8> {
    match value {
        PrimitiveLiteral::Boolean(v) => vec![u8::from(*v)],
        PrimitiveLiteral::Int(v) => v.to_le_bytes().into(),
        PrimitiveLiteral::Long(v) => v.to_le_bytes().into(),
        PrimitiveLiteral::Float(v) => v.0.to_le_bytes().into(),
        PrimitiveLiteral::Double(v) => v.0.to_le_bytes().into(),
        PrimitiveLiteral::String(v) => v.as_bytes().into(),
        PrimitiveLiteral::Binary(v) => v.clone(),
        PrimitiveLiteral::UInt128(v) => v.to_be_bytes().into(),
        PrimitiveLiteral::Int128(v) => {
            let bytes = v.to_be_bytes();
            // As few as keep the sign.
            let sign = if *v < 0 { 0xff } else { 0 };
            let spare = bytes
                .windows(2)
                .take_while(|pair| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0)
                .count();
            bytes[spare..].into()
        }
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => Vec::new(),
    }
}

/// Whether these bounds of uuids hold for every reader: the table format compares them as unsigned numbers, Java's
/// `UUID` as two signed ones.
pub(super) fn uuid_bounds_hold(low: u128, high: u128) -> bool {
    let halves = |n: u128| ((n >> 64) as u64, n as u64);
    let ((low_first, low_second), (high_first, high_second)) = (halves(low), halves(high));
    let alike = |a: u64, b: u64| a >> 63 == b >> 63;
    alike(low_first, high_first) && (low_first != high_first || alike(low_second, high_second))
}

/// What was read, as the type that the field has by now: a column may have been widened since.
pub(super) fn literal(value: &Value, ty: &PrimitiveType) -> Option<PrimitiveLiteral> {
    use PrimitiveType as T;
    Some(match (ty, value) {
        (T::Boolean, Value::Boolean(v)) => PrimitiveLiteral::Boolean(*v),
        (T::Int | T::Date, Value::Long(v)) => PrimitiveLiteral::Int(i32::try_from(*v).ok()?),
        (
            T::Long | T::Time | T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs,
            Value::Long(v),
        ) => PrimitiveLiteral::Long(*v),
        (T::Float, Value::Float(v)) => PrimitiveLiteral::Float((*v).into()),
        (T::Double, Value::Float(v)) => PrimitiveLiteral::Double(f64::from(*v).into()),
        (T::Double, Value::Double(v)) => PrimitiveLiteral::Double((*v).into()),
        (T::String, Value::Text(v)) => PrimitiveLiteral::String(v.clone()),
        (T::Binary | T::Fixed(_), Value::Bytes(v)) => PrimitiveLiteral::Binary(v.clone()),
        (T::Uuid, Value::Bytes(v)) => {
            PrimitiveLiteral::UInt128(u128::from_be_bytes(v.as_slice().try_into().ok()?))
        }
        (T::Uuid, Value::Text(v)) => {
            PrimitiveLiteral::UInt128(v.parse::<uuid::Uuid>().ok()?.as_u128())
        }
        (T::Decimal { .. }, Value::Bytes(v)) => PrimitiveLiteral::Int128(unscaled(v)?),
        _ => return None,
    })
}

fn unscaled(bytes: &[u8]) -> Option<i128> {
    let (first, width) = (*bytes.first()?, bytes.len());
    if width > 16 {
        return None;
    }
    let mut wide = if first & 0x80 == 0 {
        [0; 16]
    } else {
        [0xff; 16]
    };
    wide[16 - width..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}
