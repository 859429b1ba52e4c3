//! Counts NaN while rows go by: Parquet's statistics leave NaN out and do not say how many there were, Iceberg asks.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};

/// NaN per leaf column, in Parquet's order of leaves; `None` for leaves that are no floats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NanCounts(Vec<Option<u64>>);

impl NanCounts {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut leaves = Vec::new();
        for field in schema.fields() {
            add_leaves(field.data_type(), &mut leaves);
        }
        Self(leaves)
    }

    pub(super) fn leaf(&self, leaf: usize) -> Option<u64> {
        self.0.get(leaf).copied().flatten()
    }

    pub(super) fn add(&mut self, columns: &[ArrayRef]) {
        let mut leaf = 0;
        for column in columns {
            self.walk(column, None, &mut leaf);
        }
    }

    fn walk(&mut self, array: &ArrayRef, parent: Option<&NullBuffer>, leaf: &mut usize) {
        let nulls = NullBuffer::union(parent, array.nulls());
        match array.data_type() {
            DataType::Struct(_) => {
                for child in array.as_struct().columns() {
                    self.walk(child, nulls.as_ref(), leaf);
                }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                self.walk(&items(list.values(), list.offsets()), None, leaf);
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                self.walk(&items(list.values(), list.offsets()), None, leaf);
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                self.walk(&items(map.keys(), map.offsets()), None, leaf);
                self.walk(&items(map.values(), map.offsets()), None, leaf);
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>().values();
                self.count(leaf, values, nulls.as_ref(), |v| v.is_nan());
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                self.count(leaf, values, nulls.as_ref(), |v| v.is_nan());
            }
            _ => *leaf += 1,
        }
    }

    fn count<T>(
        &mut self,
        leaf: &mut usize,
        values: &[T],
        nulls: Option<&NullBuffer>,
        is_nan: impl Fn(&T) -> bool,
    ) {
        let found = match nulls {
            None => values.iter().filter(|v| is_nan(v)).count(),
            Some(nulls) => nulls
                .valid_indices()
                .filter(|i| is_nan(&values[*i]))
                .count(),
        };
        if let Some(Some(total)) = self.0.get_mut(*leaf) {
            *total += found as u64;
        }
        *leaf += 1;
    }
}

fn add_leaves(ty: &DataType, leaves: &mut Vec<Option<u64>>) {
    match ty {
        DataType::Struct(fields) => {
            for field in fields {
                add_leaves(field.data_type(), leaves);
            }
        }
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            add_leaves(field.data_type(), leaves);
        }
        DataType::Float32 | DataType::Float64 => leaves.push(Some(0)),
        _ => leaves.push(None),
    }
}

/// The items that the lists of a (possibly sliced) array hold.
fn items<O: arrow::array::OffsetSizeTrait>(
    values: &ArrayRef,
    offsets: &arrow::buffer::OffsetBuffer<O>,
) -> ArrayRef {
    let first = offsets.first().map_or(0, |o| o.as_usize());
    let last = offsets.last().map_or(0, |o| o.as_usize());
    values.slice(first, last - first)
}
