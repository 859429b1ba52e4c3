//! What Iceberg wants to know of a data file, from the Parquet footer: sizes, counts and bounds of its leaf columns by
//! field id.
//!
//! A bound that excludes a row makes readers lose it silently, so: truncated statistics are bounds like any other (the
//! minimum is cut, the maximum cut and incremented); and where one row group with values has no statistics, the column
//! has no bounds. How much of it goes into a manifest is the table's to say: see [`modes`].

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PrimitiveLiteral,
    PrimitiveType, Struct,
};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::FileError;
use super::nan::NanCounts;

pub mod modes;

use self::modes::{Mode, Modes};

/// Column metrics of one data file, by field id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    pub record_count: u64,
    pub column_sizes: HashMap<i32, u64>,
    /// Nulls and NaN included.
    pub value_counts: HashMap<i32, u64>,
    pub null_value_counts: HashMap<i32, u64>,
    pub nan_value_counts: HashMap<i32, u64>,
    pub lower_bounds: HashMap<i32, Datum>,
    pub upper_bounds: HashMap<i32, Datum>,
    /// Where each row group starts.
    pub split_offsets: Vec<i64>,
    /// The table's order that the rows are in, from the first to the last.
    pub sort_order_id: Option<i32>,
}

impl Metrics {
    /// `None` when the columns carry no field ids.
    ///
    /// # Errors
    /// When the footer's statistics do not fit its schema.
    pub(super) fn of(
        footer: &ParquetMetaData,
        nans: &NanCounts,
    ) -> Result<Option<Self>, FileError> {
        let schema = footer.file_metadata().schema_descr();
        let mut metrics = Self {
            record_count: footer.file_metadata().num_rows().unsigned_abs(),
            split_offsets: footer
                .row_groups()
                .iter()
                .filter_map(|group| group.file_offset())
                .collect(),
            ..Self::default()
        };
        let mut any = false;
        for (leaf, column) in schema.columns().iter().enumerate() {
            let info = column.self_type().get_basic_info();
            if !info.has_id() {
                continue;
            }
            any = true;
            metrics.add_leaf(footer, leaf, column, info.id())?;
            if let Some(count) = nans.leaf(leaf) {
                metrics.nan_value_counts.insert(info.id(), count);
            }
        }
        Ok(any.then_some(metrics))
    }

    fn add_leaf(
        &mut self,
        footer: &ParquetMetaData,
        leaf: usize,
        column: &ColumnDescriptor,
        id: i32,
    ) -> Result<(), FileError> {
        let (mut size, mut values, mut nulls) = (0, 0, Some(0));
        let ty = primitive_type(column);
        // Items of lists and maps have no bounds, as in Iceberg's own writers.
        let mut bounds = ty
            .as_ref()
            .filter(|_| column.max_rep_level() == 0)
            .map(Bounds::new);
        for group in footer.row_groups() {
            let chunk = group.column(leaf);
            size += chunk.compressed_size().unsigned_abs();
            values += chunk.num_values().unsigned_abs();
            let statistics = chunk.statistics();
            let chunk_nulls = statistics.and_then(Statistics::null_count_opt);
            nulls = nulls.zip(chunk_nulls).map(|(a, b)| a + b);
            let all_null = chunk_nulls == Some(chunk.num_values().unsigned_abs());
            if all_null {
                continue;
            }
            bounds = match (bounds, statistics) {
                (Some(bounds), Some(statistics)) => bounds.with(statistics)?,
                _ => None,
            };
        }
        self.column_sizes.insert(id, size);
        self.value_counts.insert(id, values);
        if let Some(nulls) = nulls {
            self.null_value_counts.insert(id, nulls);
        }
        if let Some(bounds) = bounds {
            self.lower_bounds
                .extend(bounds.lower.map(|lower| (id, lower)));
            self.upper_bounds
                .extend(bounds.upper.map(|upper| (id, upper)));
        }
        Ok(())
    }

    /// What the table wants of it.
    #[must_use]
    pub fn kept(mut self, modes: &Modes) -> Self {
        let counted = |id: &i32| modes.column(*id) != Mode::None;
        for counts in [
            &mut self.value_counts,
            &mut self.null_value_counts,
            &mut self.nan_value_counts,
        ] {
            counts.retain(|id, _| counted(id));
        }
        let bounded = |bounds: HashMap<i32, Datum>, cut: fn(Datum, usize) -> Option<Datum>| {
            let kept = |(id, bound)| match modes.column(id) {
                Mode::None | Mode::Counts => None,
                Mode::Truncate(length) => Some((id, cut(bound, length)?)),
                Mode::Full => Some((id, bound)),
            };
            bounds.into_iter().filter_map(kept).collect()
        };
        self.lower_bounds = bounded(self.lower_bounds, lower_bound);
        self.upper_bounds = bounded(self.upper_bounds, upper_bound);
        self
    }

    /// The manifest entry of a data file.
    ///
    /// # Errors
    /// None today; the builder's own.
    pub fn data_file(
        &self,
        location: String,
        size: u64,
        spec_id: i32,
        partition: Struct,
    ) -> Result<DataFile, FileError> {
        let mut builder = DataFileBuilder::default();
        if let Some(id) = self.sort_order_id {
            builder.sort_order_id(id);
        }
        builder
            .content(DataContentType::Data)
            .file_path(location)
            .file_format(DataFileFormat::Parquet)
            .partition(partition)
            .partition_spec_id(spec_id)
            .record_count(self.record_count)
            .file_size_in_bytes(size)
            .column_sizes(self.column_sizes.clone())
            .value_counts(self.value_counts.clone())
            .null_value_counts(self.null_value_counts.clone())
            .nan_value_counts(self.nan_value_counts.clone())
            .lower_bounds(self.lower_bounds.clone())
            .upper_bounds(self.upper_bounds.clone())
            .split_offsets(Some(self.split_offsets.clone()))
            .build()
            .map_err(|source| {
                FileError::Metrics(Box::new(
                    iceberg::Error::new(iceberg::ErrorKind::Unexpected, "build data file")
                        .with_source(source),
                ))
            })
    }
}

/// Bounds of one column over its row groups, not yet cut.
struct Bounds<'a> {
    ty: &'a PrimitiveType,
    lower: Option<Datum>,
    upper: Option<Datum>,
}

impl<'a> Bounds<'a> {
    fn new(ty: &'a PrimitiveType) -> Self {
        Self {
            ty,
            lower: None,
            upper: None,
        }
    }

    /// `None` when this row group has values of unknown extent.
    fn with(mut self, statistics: &Statistics) -> Result<Option<Self>, FileError> {
        let (Some(min), Some(max)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt())
        else {
            // Floats without bounds in a chunk with statistics are all NaN: nothing to bound.
            let float = matches!(self.ty, PrimitiveType::Float | PrimitiveType::Double);
            return Ok(float.then_some(self));
        };
        let min = datum(min, self.ty, statistics)?;
        let max = datum(max, self.ty, statistics)?;
        if self
            .lower
            .as_ref()
            .is_none_or(|l| min.literal() < l.literal())
        {
            self.lower = Some(min);
        }
        if self
            .upper
            .as_ref()
            .is_none_or(|u| max.literal() > u.literal())
        {
            self.upper = Some(max);
        }
        Ok(Some(self))
    }
}

fn datum(bytes: &[u8], ty: &PrimitiveType, statistics: &Statistics) -> Result<Datum, FileError> {
    // Parquet keeps small decimals as little-endian integers, Iceberg all of them big-endian.
    let reversed: Vec<u8>;
    let bytes = match (ty, statistics) {
        (PrimitiveType::Decimal { .. }, Statistics::Int32(_) | Statistics::Int64(_)) => {
            reversed = bytes.iter().rev().copied().collect();
            &reversed
        }
        _ => bytes,
    };
    Datum::try_from_bytes(bytes, ty.clone()).map_err(|e| FileError::Metrics(Box::new(e)))
}

fn lower_bound(datum: Datum, length: usize) -> Option<Datum> {
    match datum.literal() {
        PrimitiveLiteral::String(s) => match s.char_indices().nth(length) {
            Some((end, _)) => Some(Datum::string(&s[..end])),
            None => Some(datum),
        },
        PrimitiveLiteral::Binary(b) if b.len() > length => {
            cut_binary(datum.data_type(), b[..length].to_vec())
        }
        _ => Some(datum),
    }
}

fn upper_bound(datum: Datum, length: usize) -> Option<Datum> {
    match datum.literal() {
        PrimitiveLiteral::String(s) => match s.char_indices().nth(length) {
            Some((end, _)) => increment_string(&s[..end]).map(Datum::string),
            None => Some(datum),
        },
        PrimitiveLiteral::Binary(b) if b.len() > length => {
            let mut cut = b[..length].to_vec();
            while let Some(last) = cut.last_mut() {
                if let Some(next) = last.checked_add(1) {
                    *last = next;
                    return cut_binary(datum.data_type(), cut);
                }
                cut.pop();
            }
            None
        }
        _ => Some(datum),
    }
}

fn cut_binary(ty: &PrimitiveType, bytes: Vec<u8>) -> Option<Datum> {
    Datum::try_from_bytes(&bytes, ty.clone()).ok()
}

/// The smallest string of at most as many code points that is above everything starting with `prefix`.
fn increment_string(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            // Over the surrogates, which are no characters.
            '\u{D7FF}' => Some('\u{E000}'),
            c => char::from_u32(u32::from(c) + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// The Iceberg type of a leaf, as Iceberg's own mapping writes it to Parquet.
fn primitive_type(column: &ColumnDescriptor) -> Option<PrimitiveType> {
    let logical = column.logical_type_ref();
    Some(match (column.physical_type(), logical) {
        (PhysicalType::BOOLEAN, _) => PrimitiveType::Boolean,
        (PhysicalType::FLOAT, _) => PrimitiveType::Float,
        (PhysicalType::DOUBLE, _) => PrimitiveType::Double,
        (_, Some(LogicalType::Decimal { scale, precision })) => PrimitiveType::Decimal {
            precision: precision.unsigned_abs(),
            scale: scale.unsigned_abs(),
        },
        (PhysicalType::INT32, Some(LogicalType::Date)) => PrimitiveType::Date,
        (PhysicalType::INT32, None) => PrimitiveType::Int,
        (
            PhysicalType::INT64,
            Some(LogicalType::Time {
                unit: TimeUnit::MICROS,
                ..
            }),
        ) => PrimitiveType::Time,
        (
            PhysicalType::INT64,
            Some(LogicalType::Timestamp {
                is_adjusted_to_u_t_c,
                unit,
            }),
        ) => match (unit, is_adjusted_to_u_t_c) {
            (TimeUnit::MICROS, false) => PrimitiveType::Timestamp,
            (TimeUnit::MICROS, true) => PrimitiveType::Timestamptz,
            (TimeUnit::NANOS, false) => PrimitiveType::TimestampNs,
            (TimeUnit::NANOS, true) => PrimitiveType::TimestamptzNs,
            (TimeUnit::MILLIS, _) => return None,
        },
        (PhysicalType::INT64, None) => PrimitiveType::Long,
        (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)) => PrimitiveType::String,
        (PhysicalType::BYTE_ARRAY, None) if column.converted_type() == ConvertedType::NONE => {
            PrimitiveType::Binary
        }
        (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)) => PrimitiveType::Uuid,
        (PhysicalType::FIXED_LEN_BYTE_ARRAY, None) => {
            PrimitiveType::Fixed(u64::from(column.type_length().unsigned_abs()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
