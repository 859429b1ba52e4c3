//! Parquet options → [`ParquetOptions`]. Pure.

use std::collections::BTreeMap;

use tidewater_crds::{
    BloomFilterSpec, ByteSize, ParquetCompression as CompressionSpec, ParquetSpec,
};

use super::columns::{Columns, is_scalar, type_name};
use super::problem::Checks;
use super::{ParquetCompression, ParquetOptions};
use crate::schema::Type;

/// The options as a spec gives them; what is left out is the default.
pub(super) struct ParquetParts<'a> {
    pub compression: CompressionSpec,
    pub level: Option<i32>,
    pub row_group_size: Option<ByteSize>,
    pub row_group_rows: Option<u32>,
    pub page_size: Option<ByteSize>,
    pub dictionary: Option<bool>,
    pub statistics: Option<bool>,
    pub bloom_filters: &'a [BloomFilterSpec],
}

impl<'a> From<&'a ParquetSpec> for ParquetParts<'a> {
    fn from(spec: &'a ParquetSpec) -> Self {
        Self {
            compression: spec.compression,
            level: spec.level,
            row_group_size: Some(spec.row_group_size),
            row_group_rows: Some(spec.row_group_rows),
            page_size: Some(spec.page_size),
            dictionary: Some(spec.dictionary),
            statistics: Some(spec.statistics),
            bloom_filters: &spec.bloom_filters,
        }
    }
}

pub(super) fn options(
    checks: &mut Checks,
    columns: &Columns,
    path: &str,
    parts: &ParquetParts<'_>,
) -> ParquetOptions {
    let defaults = ParquetSpec::default();
    let row_group = parts.row_group_size.unwrap_or(defaults.row_group_size);
    let page = parts.page_size.unwrap_or(defaults.page_size);
    if row_group.as_u64() < 64 << 10 {
        checks.add(
            format!("{path}.rowGroupSize"),
            row_group,
            "give at least 64Ki",
        );
    }
    if page.as_u64() < 1 << 10 || page > row_group {
        let remedy = format!("give 1Ki to the row group's size, {row_group}");
        checks.add(format!("{path}.pageSize"), page, remedy);
    }
    ParquetOptions {
        compression: compression(checks, path, parts),
        row_group_rows: parts.row_group_rows.unwrap_or(defaults.row_group_rows) as usize,
        row_group_bytes: row_group.as_usize(),
        page_bytes: page.as_usize(),
        dictionary: parts.dictionary.unwrap_or(defaults.dictionary),
        statistics: parts.statistics.unwrap_or(defaults.statistics),
        bloom_filters: bloom_filters(checks, columns, path, parts.bloom_filters),
    }
}

fn compression(checks: &mut Checks, path: &str, parts: &ParquetParts<'_>) -> ParquetCompression {
    let without_level = match parts.compression {
        CompressionSpec::Zstd => {
            let level = zstd_level(checks, path, parts.level);
            return ParquetCompression::Zstd { level };
        }
        CompressionSpec::Gzip => {
            let level = parts.level.unwrap_or(6);
            if !(0..=9).contains(&level) {
                checks.add(format!("{path}.level"), level, "give 0 to 9 with Gzip");
            }
            return ParquetCompression::Gzip {
                level: level.unsigned_abs(),
            };
        }
        CompressionSpec::None => ParquetCompression::None,
        CompressionSpec::Snappy => ParquetCompression::Snappy,
        CompressionSpec::Lz4 => ParquetCompression::Lz4,
    };
    if let Some(level) = parts.level {
        let remedy = "goes with compression Gzip and Zstd only: remove it";
        checks.add(format!("{path}.level"), level, remedy);
    }
    without_level
}

pub(super) fn zstd_level(checks: &mut Checks, path: &str, level: Option<i32>) -> i32 {
    let level = level.unwrap_or(3);
    if !(1..=22).contains(&level) {
        checks.add(format!("{path}.level"), level, "give 1 to 22 with Zstd");
    }
    level
}

fn bloom_filters(
    checks: &mut Checks,
    columns: &Columns,
    path: &str,
    specs: &[BloomFilterSpec],
) -> BTreeMap<String, f64> {
    let mut filters = BTreeMap::new();
    for (i, spec) in specs.iter().enumerate() {
        let path = format!("{path}.bloomFilters[{i}]");
        let field = format!("{path}.column");
        if let Some(ty) = columns.find(checks, &field, &spec.column)
            && (!is_scalar(ty) || matches!(ty, Type::Boolean))
        {
            let remedy = format!("a column of type {} takes no Bloom filter", type_name(ty));
            checks.add(&field, &spec.column, remedy);
        }
        let probability = spec.false_positive_probability;
        // Written so that NaN is refused as well.
        if !(probability > 0.0 && probability < 1.0) {
            let remedy = "give a number between 0 and 1, such as 0.01";
            checks.add(
                format!("{path}.falsePositiveProbability"),
                probability,
                remedy,
            );
        }
        if filters.insert(spec.column.clone(), probability).is_some() {
            checks.add(field, &spec.column, "named twice: remove one");
        }
    }
    filters
}
