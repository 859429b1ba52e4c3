//! One column under construction: typed buffers that can be cut back to an earlier row, so that a record whose last
//! field does not fit leaves nothing behind. Pure.

use std::sync::Arc;

use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, GenericByteArray, ListArray,
    MapArray, NullBufferBuilder, OffsetSizeTrait, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ByteArrayType, DataType, Fields as ArrowFields};

use super::keys::KeyTable;
use super::temporal::Wire;
use crate::schema::arrow::{UTC, arrow_field, element_field, entries_field};
use crate::schema::{Encoding, Field, Type};

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: Box<str>,
    pub(super) required: bool,
    /// The object instance that wrote it last: tells a duplicate key and a missing one without clearing anything.
    pub(super) stamp: u64,
    /// Its length is the column's.
    pub(super) validity: NullBufferBuilder,
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Boolean(Vec<bool>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>, Rounding),
    Decimal(Decimals),
    Date(Vec<i32>, Wire),
    Time(Vec<i64>, Wire),
    Timestamp(Vec<i64>, Wire),
    Timestamptz(Vec<i64>, Wire),
    String(Bytes<i32>),
    /// Takes any JSON value, what is not a string as its text.
    Text(Bytes<i32>),
    /// 16 bytes each.
    Uuid(Vec<u8>),
    Binary(Bytes<i64>, BinaryWire),
    Struct(Fields),
    List(List),
    Map(Map),
}

/// What a double column takes that it must round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Any,
    /// No integers: nobody asked for a double.
    Fractions,
}

/// Who chose the columns' types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    Declared,
    /// They were found in the records. `text`: string columns take any JSON value.
    Found {
        text: bool,
        /// Columns of this level that are as good as declared.
        hints: &'a [Field],
    },
}

impl<'a> Origin<'a> {
    /// Of a column of this level.
    fn of(self, name: &str) -> Self {
        let Self::Found { text, hints } = self else {
            return self;
        };
        match hints.iter().find(|hint| hint.name == name) {
            Some(hint) => Self::inside(&hint.ty, text),
            None => Self::Found { text, hints: &[] },
        }
    }

    /// In a hinted struct there may be fields that were found.
    fn inside(hint: &'a Type, text: bool) -> Self {
        match hint {
            Type::Struct(hints) => Self::Found { text, hints },
            Type::List(element) => Self::inside(&element.ty, text),
            _ => Self::Declared,
        }
    }
}

#[derive(Debug)]
pub(super) struct Decimals {
    pub(super) values: Vec<i128>,
    pub(super) precision: u8,
    pub(super) scale: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum BinaryWire {
    Base64,
    Hex,
    Utf8,
}

/// The columns of a record or struct.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) columns: Vec<Column>,
    pub(super) keys: KeyTable,
    arrow: ArrowFields,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) offsets: Vec<i32>,
    pub(super) element: Box<Column>,
    arrow: Arc<arrow::datatypes::Field>,
}

#[derive(Debug)]
pub(super) struct Map {
    pub(super) offsets: Vec<i32>,
    pub(super) keys: Bytes<i32>,
    pub(super) value: Box<Column>,
    arrow: Arc<arrow::datatypes::Field>,
}

/// Strings or binaries, end to end. `values` is longer than what is in use, so that scanned text can be copied in
/// whole words.
#[derive(Debug)]
pub(super) struct Bytes<O> {
    pub(super) offsets: Vec<O>,
    pub(super) values: Vec<u8>,
    pub(super) len: usize,
    /// Bytes the last batch came to.
    hint: usize,
}

impl<O: OffsetSizeTrait> Bytes<O> {
    fn new() -> Self {
        Self {
            offsets: vec![O::usize_as(0)],
            values: Vec::new(),
            len: 0,
            hint: 0,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
        let expected = self.hint + self.hint / 8 + 64;
        if self.values.is_empty() {
            // Fresh zeroed pages cost nothing; filling an allocation does.
            self.values = vec![0; expected];
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        let end = self.len + value.len();
        if self.values.len() < end {
            self.grow(end);
        }
        self.values[self.len..end].copy_from_slice(value);
        self.close(end);
    }

    /// The bytes up to `end` are in place: they are the next value.
    #[inline]
    pub(super) fn close(&mut self, end: usize) {
        self.len = end;
        self.offsets.push(O::usize_as(end));
    }

    #[cold]
    pub(super) fn grow(&mut self, end: usize) {
        self.values.resize((end + 64).max(self.values.len() * 2), 0);
    }

    pub(super) fn value(&self, row: usize) -> &[u8] {
        &self.values[self.offsets[row].as_usize()..self.offsets[row + 1].as_usize()]
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.len = self.offsets[rows].as_usize();
    }

    fn finish<T: ByteArrayType<Offset = O>>(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let mut values = std::mem::take(&mut self.values);
        values.truncate(self.len);
        self.hint = self.len;
        self.len = 0;
        let offsets = std::mem::replace(&mut self.offsets, vec![O::usize_as(0)]);
        Arc::new(GenericByteArray::<T>::new(
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(values),
            nulls,
        ))
    }
}

impl Fields {
    pub(super) fn new(fields: &[Field], origin: Origin<'_>) -> Self {
        Self {
            columns: fields
                .iter()
                .map(|f| Column::new(f, origin.of(&f.name)))
                .collect(),
            keys: KeyTable::new(fields.iter().map(|f| f.name.as_str())),
            arrow: fields.iter().map(arrow_field).collect(),
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.reserve(rows);
        }
    }

    pub(super) fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

impl Column {
    /// `origin`: its own, and that of what is in it.
    pub(super) fn new(field: &Field, origin: Origin<'_>) -> Self {
        let wire = || Wire::new(&field.ty, field.encoding);
        let data = match &field.ty {
            Type::Boolean => Data::Boolean(Vec::new()),
            Type::Int => Data::Int(Vec::new()),
            Type::Long => Data::Long(Vec::new()),
            Type::Float => Data::Float(Vec::new()),
            Type::Double => Data::Double(
                Vec::new(),
                match origin {
                    Origin::Declared => Rounding::Any,
                    Origin::Found { .. } => Rounding::Fractions,
                },
            ),
            Type::Decimal { precision, scale } => Data::Decimal(Decimals {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            }),
            Type::Date => Data::Date(Vec::new(), wire()),
            Type::Time => Data::Time(Vec::new(), wire()),
            Type::Timestamp => Data::Timestamp(Vec::new(), wire()),
            Type::Timestamptz => Data::Timestamptz(Vec::new(), wire()),
            Type::String if matches!(origin, Origin::Found { text: true, .. }) => {
                Data::Text(Bytes::new())
            }
            Type::String => Data::String(Bytes::new()),
            Type::Uuid => Data::Uuid(Vec::new()),
            Type::Binary => Data::Binary(
                Bytes::new(),
                match field.encoding {
                    Some(Encoding::Hex) => BinaryWire::Hex,
                    Some(Encoding::Utf8) => BinaryWire::Utf8,
                    _ => BinaryWire::Base64,
                },
            ),
            Type::Struct(fields) => Data::Struct(Fields::new(fields, origin)),
            Type::List(element) => Data::List(List {
                offsets: vec![0],
                element: Box::new(Self::new(element, origin)),
                arrow: Arc::new(element_field(element)),
            }),
            Type::Map(value) => Data::Map(Map {
                offsets: vec![0],
                keys: Bytes::new(),
                value: Box::new(Self::new(value, origin)),
                arrow: Arc::new(entries_field(value)),
            }),
        };
        Self {
            name: field.name.as_str().into(),
            required: field.required,
            stamp: 0,
            validity: NullBufferBuilder::new(0),
            data,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Room for this many rows; nested columns grow as they go.
    fn reserve(&mut self, rows: usize) {
        match &mut self.data {
            Data::Boolean(values) => values.reserve(rows),
            Data::Int(values) | Data::Date(values, _) => values.reserve(rows),
            Data::Long(values)
            | Data::Time(values, _)
            | Data::Timestamp(values, _)
            | Data::Timestamptz(values, _) => values.reserve(rows),
            Data::Float(values) => values.reserve(rows),
            Data::Double(values, _) => values.reserve(rows),
            Data::Decimal(decimals) => decimals.values.reserve(rows),
            Data::String(bytes) | Data::Text(bytes) => bytes.reserve(rows),
            Data::Uuid(values) => values.reserve(rows * 16),
            Data::Binary(bytes, _) => bytes.reserve(rows),
            Data::Struct(fields) => fields.reserve(rows),
            Data::List(list) => list.offsets.reserve(rows),
            Data::Map(map) => map.offsets.reserve(rows),
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.validity.truncate(rows);
        match &mut self.data {
            Data::Boolean(values) => values.truncate(rows),
            Data::Int(values) | Data::Date(values, _) => values.truncate(rows),
            Data::Long(values)
            | Data::Time(values, _)
            | Data::Timestamp(values, _)
            | Data::Timestamptz(values, _) => values.truncate(rows),
            Data::Float(values) => values.truncate(rows),
            Data::Double(values, _) => values.truncate(rows),
            Data::Decimal(decimals) => decimals.values.truncate(rows),
            Data::String(bytes) | Data::Text(bytes) => bytes.truncate(rows),
            Data::Uuid(values) => values.truncate(rows * 16),
            Data::Binary(bytes, _) => bytes.truncate(rows),
            Data::Struct(fields) => fields.truncate(rows),
            Data::List(list) => {
                list.offsets.truncate(rows + 1);
                list.element.truncate(list.offsets[rows] as usize);
            }
            Data::Map(map) => {
                map.offsets.truncate(rows + 1);
                let entries = map.offsets[rows] as usize;
                map.keys.truncate(entries);
                map.value.truncate(entries);
            }
        }
    }

    /// A row without value: null, or below a null struct a value that nobody sees.
    pub(super) fn push_absent(&mut self) {
        match &mut self.data {
            Data::Boolean(values) => values.push(false),
            Data::Int(values) | Data::Date(values, _) => values.push(0),
            Data::Long(values)
            | Data::Time(values, _)
            | Data::Timestamp(values, _)
            | Data::Timestamptz(values, _) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Double(values, _) => values.push(0.0),
            Data::Decimal(decimals) => decimals.values.push(0),
            Data::String(bytes) | Data::Text(bytes) => bytes.close(bytes.len),
            Data::Uuid(values) => values.extend_from_slice(&[0; 16]),
            Data::Binary(bytes, _) => bytes.close(bytes.len),
            Data::Struct(fields) => fields.columns.iter_mut().for_each(Self::push_absent),
            Data::List(list) => list.offsets.push(list.element.len() as i32),
            Data::Map(map) => map.offsets.push(map.value.len() as i32),
        }
        self.validity.append(self.required);
    }

    /// The rows so far as an array; empty afterwards.
    #[allow(
        clippy::expect_used,
        reason = "the buffers are kept as the array types demand"
    )]
    pub(super) fn finish(&mut self) -> ArrayRef {
        let len = self.len();
        let nulls = self.validity.finish();
        match &mut self.data {
            Data::Boolean(values) => {
                let values = BooleanBuffer::from(std::mem::take(values));
                Arc::new(BooleanArray::new(values, nulls))
            }
            Data::Int(values) => primitive::<Int32Type>(values, nulls),
            Data::Long(values) => primitive::<Int64Type>(values, nulls),
            Data::Float(values) => primitive::<Float32Type>(values, nulls),
            Data::Double(values, _) => primitive::<Float64Type>(values, nulls),
            Data::Decimal(Decimals {
                values,
                precision,
                scale,
            }) => Arc::new(
                array::<Decimal128Type>(values, nulls)
                    .with_data_type(DataType::Decimal128(*precision, *scale as i8)),
            ),
            Data::Date(values, _) => primitive::<Date32Type>(values, nulls),
            Data::Time(values, _) => primitive::<Time64MicrosecondType>(values, nulls),
            Data::Timestamp(values, _) => primitive::<TimestampMicrosecondType>(values, nulls),
            Data::Timestamptz(values, _) => {
                Arc::new(array::<TimestampMicrosecondType>(values, nulls).with_timezone(UTC))
            }
            Data::String(bytes) | Data::Text(bytes) => {
                bytes.finish::<arrow::datatypes::Utf8Type>(nulls)
            }
            Data::Uuid(values) => {
                let values = Buffer::from_vec(std::mem::take(values));
                Arc::new(
                    FixedSizeBinaryArray::try_new(16, values, nulls).expect("16 bytes per row"),
                )
            }
            Data::Binary(bytes, _) => bytes.finish::<arrow::datatypes::LargeBinaryType>(nulls),
            Data::Struct(fields) => {
                let arrays = fields.finish();
                Arc::new(
                    StructArray::try_new_with_length(fields.arrow.clone(), arrays, nulls, len)
                        .expect("children as long as their struct, nulls only where allowed"),
                )
            }
            Data::List(list) => Arc::new(ListArray::new(
                Arc::clone(&list.arrow),
                offsets(&mut list.offsets),
                list.element.finish(),
                nulls,
            )),
            Data::Map(map) => {
                let DataType::Struct(fields) = map.arrow.data_type() else {
                    unreachable!("a map's entries are a struct")
                };
                let entries = map.value.len();
                let keys = map.keys.finish::<arrow::datatypes::Utf8Type>(None);
                let arrays = vec![keys, map.value.finish()];
                let entries =
                    StructArray::try_new_with_length(fields.clone(), arrays, None, entries)
                        .expect("as many keys as values");
                Arc::new(MapArray::new(
                    Arc::clone(&map.arrow),
                    offsets(&mut map.offsets),
                    entries,
                    nulls,
                    false,
                ))
            }
        }
    }
}

fn array<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> PrimitiveArray<T> {
    PrimitiveArray::new(ScalarBuffer::from(std::mem::take(values)), nulls)
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(array::<T>(values, nulls))
}

fn offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])))
}

/// `value` in every row.
pub(super) fn constant(value: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
        value, rows,
    )))
}
