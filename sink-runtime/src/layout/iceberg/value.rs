//! Arrow values as Iceberg literals.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use iceberg::spec::{Literal, PrimitiveType};

/// The value of `row`; `None` for null.
pub(super) fn literal(array: &ArrayRef, row: usize, ty: &PrimitiveType) -> Option<Literal> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => Literal::bool(array.as_boolean().value(row)),
        DataType::Int32 => Literal::int(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Literal::long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Literal::float(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Literal::double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => Literal::date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time64(TimeUnit::Microsecond) => {
            Literal::time(array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Literal::timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Literal::long(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        DataType::Decimal128(_, _) => {
            Literal::decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Utf8 => Literal::string(array.as_string::<i32>().value(row)),
        DataType::LargeBinary => Literal::binary(array.as_binary::<i64>().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary().value(row);
            match (ty, <[u8; 16]>::try_from(bytes)) {
                (PrimitiveType::Uuid, Ok(id)) => Literal::uuid(uuid::Uuid::from_bytes(id)),
                _ => Literal::fixed(bytes.to_vec()),
            }
        }
        // The mapping from Iceberg's types makes no other arrays.
        _ => return None,
    })
}
