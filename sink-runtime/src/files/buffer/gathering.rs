//! Rows of many small batches in one growing array per column. A handful of rows costs an append per column, not an
//! array per column: with a row in each of eighty folders, arrays would cost more than the rows in them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, FixedSizeBinaryArray,
    GenericByteArray, PrimitiveArray, RecordBatch, downcast_primitive,
};
use arrow::array::{BooleanBufferBuilder, NullBufferBuilder};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::concat;
use arrow::datatypes::{
    ArrowNativeType, BinaryType, ByteArrayType, DataType, LargeBinaryType, LargeUtf8Type,
    SchemaRef, Utf8Type,
};
use arrow::error::ArrowError;

use super::{COLUMN_OVERHEAD, compact_column};

/// Pieces of one size class of a nested column that become one of the next; also the factor between classes.
const FAN: usize = 8;

/// The rows gathered so far, in the order they came.
pub(super) struct Gathering {
    schema: SchemaRef,
    columns: Vec<Box<dyn Growing>>,
    rows: usize,
    bytes: usize,
}

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering")
            .field("rows", &self.rows)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Gathering {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| growing(field.data_type()))
            .collect();
        Self {
            schema,
            columns,
            rows: 0,
            bytes: 0,
        }
    }

    /// `batch` has the schema of the first.
    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows();
        self.bytes = 0;
        for (column, rows) in self.columns.iter_mut().zip(batch.columns()) {
            column.append(rows)?;
            self.bytes += column.bytes() + COLUMN_OVERHEAD;
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Heap bytes held, room to grow included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.into_iter().map(|column| column.finish());
        RecordBatch::try_new(self.schema, columns.collect::<Result<_, _>>()?)
    }
}

/// A column that takes rows at its end.
trait Growing: Send {
    fn append(&mut self, rows: &ArrayRef) -> Result<(), ArrowError>;
    fn bytes(&self) -> usize;
    fn finish(self: Box<Self>) -> Result<ArrayRef, ArrowError>;
}

fn growing(data_type: &DataType) -> Box<dyn Growing> {
    macro_rules! fixed {
        ($ty:ty, $data_type:expr) => {
            Box::new(Fixed::<$ty> {
                data_type: $data_type.clone(),
                values: Vec::new(),
                nulls: NullBufferBuilder::new(0),
            })
        };
    }
    downcast_primitive! {
        data_type => (fixed, data_type),
        DataType::Utf8 => Box::new(Bytes::<Utf8Type>::default()),
        DataType::LargeUtf8 => Box::new(Bytes::<LargeUtf8Type>::default()),
        DataType::Binary => Box::new(Bytes::<BinaryType>::default()),
        DataType::LargeBinary => Box::new(Bytes::<LargeBinaryType>::default()),
        DataType::Boolean => Box::new(Bits {
            values: BooleanBufferBuilder::new(0),
            nulls: NullBufferBuilder::new(0),
        }),
        DataType::FixedSizeBinary(width) => Box::new(FixedBytes {
            width: *width,
            values: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }),
        _ => Box::new(Nested::default())
    }
}

/// Makes room by halves: a quarter of what is held stands empty on average, where doubling would take the half of it.
fn grow<T>(values: &mut Vec<T>, more: usize) {
    let needed = values.len() + more;
    if needed > values.capacity() {
        let target = needed.max(values.len() + values.len() / 2);
        values.reserve_exact(target - values.len());
    }
}

fn append_nulls(nulls: &mut NullBufferBuilder, rows: &dyn Array) {
    match rows.nulls() {
        Some(buffer) => nulls.append_buffer(buffer),
        None => nulls.append_n_non_nulls(rows.len()),
    }
}

struct Fixed<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Growing for Fixed<T> {
    fn append(&mut self, rows: &ArrayRef) -> Result<(), ArrowError> {
        let values = rows.as_primitive::<T>().values();
        grow(&mut self.values, values.len());
        self.values.extend_from_slice(values);
        append_nulls(&mut self.nulls, rows);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.nulls.allocated_size()
    }

    fn finish(self: Box<Self>) -> Result<ArrayRef, ArrowError> {
        let array =
            PrimitiveArray::<T>::try_new(ScalarBuffer::from(self.values), self.nulls.build())?;
        Ok(Arc::new(array.with_data_type(self.data_type)))
    }
}

struct Bytes<T: ByteArrayType> {
    /// Of each row; the first begins at zero.
    ends: Vec<T::Offset>,
    values: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl<T: ByteArrayType> Default for Bytes<T> {
    fn default() -> Self {
        Self {
            ends: vec![T::Offset::default()],
            values: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }
}

impl<T: ByteArrayType> Growing for Bytes<T> {
    fn append(&mut self, rows: &ArrayRef) -> Result<(), ArrowError> {
        let rows = rows.as_bytes::<T>();
        let offsets = rows.value_offsets();
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return Ok(());
        };
        let taken = first.as_usize()..last.as_usize();
        let before = self.values.len();
        if T::Offset::from_usize(before + taken.len()).is_none() {
            return Err(ArrowError::OffsetOverflowError(before + taken.len()));
        }
        grow(&mut self.values, taken.len());
        self.values
            .extend_from_slice(&rows.value_data()[taken.clone()]);
        grow(&mut self.ends, rows.len());
        let moved = |end: &T::Offset| T::Offset::usize_as(end.as_usize() - taken.start + before);
        self.ends.extend(offsets[1..].iter().map(moved));
        append_nulls(&mut self.nulls, rows);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.values.capacity()
            + self.ends.capacity() * size_of::<T::Offset>()
            + self.nulls.allocated_size()
    }

    fn finish(self: Box<Self>) -> Result<ArrayRef, ArrowError> {
        let array = GenericByteArray::<T>::try_new(
            OffsetBuffer::new(ScalarBuffer::from(self.ends)),
            Buffer::from_vec(self.values),
            self.nulls.build(),
        )?;
        Ok(Arc::new(array))
    }
}

struct Bits {
    values: BooleanBufferBuilder,
    nulls: NullBufferBuilder,
}

impl Growing for Bits {
    fn append(&mut self, rows: &ArrayRef) -> Result<(), ArrowError> {
        self.values.append_buffer(rows.as_boolean().values());
        append_nulls(&mut self.nulls, rows);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.values.capacity() / 8 + self.nulls.allocated_size()
    }

    fn finish(self: Box<Self>) -> Result<ArrayRef, ArrowError> {
        let array = BooleanArray::new(self.values.build(), self.nulls.build());
        Ok(Arc::new(array))
    }
}

struct FixedBytes {
    width: i32,
    values: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl Growing for FixedBytes {
    fn append(&mut self, rows: &ArrayRef) -> Result<(), ArrowError> {
        let rows = rows.as_fixed_size_binary();
        let values = rows.value_data();
        grow(&mut self.values, values.len());
        self.values.extend_from_slice(values);
        append_nulls(&mut self.nulls, rows);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.values.capacity() + self.nulls.allocated_size()
    }

    fn finish(self: Box<Self>) -> Result<ArrayRef, ArrowError> {
        let values = Buffer::from_vec(self.values);
        let array = FixedSizeBinaryArray::try_new(self.width, values, self.nulls.build())?;
        Ok(Arc::new(array))
    }
}

/// Lists, maps and structs: copies of what came. [`FAN`] pieces of one size class are made one of the next, so each row
/// is copied a few times at the most and headers stay a small share.
#[derive(Default)]
struct Nested {
    pieces: Vec<ArrayRef>,
    bytes: usize,
}

impl Nested {
    fn add(&mut self, piece: ArrayRef) {
        self.bytes += piece.get_array_memory_size() + COLUMN_OVERHEAD;
        self.pieces.push(piece);
    }

    fn joined(pieces: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
        concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    }
}

impl Growing for Nested {
    fn append(&mut self, rows: &ArrayRef) -> Result<(), ArrowError> {
        let class = |piece: &ArrayRef| piece.len().max(1).ilog(FAN);
        self.add(compact_column(rows)?);
        while let Some(last) = self.pieces.last().map(class) {
            let tail = self.pieces.iter().rev();
            let run = tail.take_while(|piece| class(piece) <= last).count();
            if run < FAN {
                break;
            }
            let tail = self.pieces.split_off(self.pieces.len() - run);
            let held = |piece: &ArrayRef| piece.get_array_memory_size() + COLUMN_OVERHEAD;
            self.bytes -= tail.iter().map(held).sum::<usize>();
            self.add(Self::joined(&tail)?);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn finish(self: Box<Self>) -> Result<ArrayRef, ArrowError> {
        Self::joined(&self.pieces)
    }
}
