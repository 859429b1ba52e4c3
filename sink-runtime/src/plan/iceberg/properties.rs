//! `spec.properties`, and the properties of a table that is there: which of those that govern writing the sink obeys,
//! which agree with a field of the resource, and which would do nothing. Pure.

use std::collections::BTreeMap;

use super::super::columns::Columns;
use super::super::problem::Checks;
use super::super::{IcebergPlan, ParquetCompression};
use crate::files::metrics::modes::{self, Mode};

/// Who goes by a property.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heed {
    /// The sink, or engines in what a sink does not do: deletes, compactions, reads.
    Somebody,
    /// The sink goes by a field of the resource, which says `says`.
    Field { field: &'static str, says: String },
    /// Nobody.
    Nobody { remedy: &'static str },
}

const BOOLEANS: [&str; 4] = [
    "commit.manifest-merge.enabled",
    "write.object-storage.enabled",
    "write.object-storage.partitioned-paths",
    "write.metadata.delete-after-commit.enabled",
];

const COUNTS: [&str; 2] = [
    "commit.manifest.min-count-to-merge",
    "commit.manifest.target-size-bytes",
];

/// Obeyed, and checked here or by the table's metadata.
const OBEYED: [&str; 4] = [
    "write.metadata.path",
    "write.metadata.compression-codec",
    "write.metadata.previous-versions-max",
    modes::MOST_COLUMNS,
];

/// Of engines that delete, update, or shuffle rows.
const OF_OTHERS: [&str; 7] = [
    "write.delete.",
    "write.update.",
    "write.merge.",
    "write.upsert.",
    "write.spark.",
    "write.wap.",
    "write.distribution-mode",
];

const BLOOM_ENABLED: &str = "write.parquet.bloom-filter-enabled.column.";
const BLOOM_PROBABILITY: &str = "write.parquet.bloom-filter-fpp.column.";

/// `plan` with its Parquet options.
fn heed(key: &str, plan: &IcebergPlan) -> Heed {
    let parquet = &plan.parquet;
    let field = |field, says: String| Heed::Field { field, says };
    let level = match parquet.compression {
        ParquetCompression::Gzip { level } => level.to_string(),
        ParquetCompression::Zstd { level } => level.to_string(),
        _ => String::new(),
    };
    match key {
        "write.format.default" => field("spec.parquet", "parquet".to_owned()),
        "write.target-file-size-bytes" => {
            field("spec.targetFileSize", plan.target_file_bytes.to_string())
        }
        "write.parquet.compression-codec" => {
            let codec = match parquet.compression {
                ParquetCompression::None => "uncompressed",
                ParquetCompression::Snappy => "snappy",
                ParquetCompression::Gzip { .. } => "gzip",
                ParquetCompression::Lz4 => "lz4_raw",
                ParquetCompression::Zstd { .. } => "zstd",
            };
            field("spec.parquet.compression", codec.to_owned())
        }
        "write.parquet.compression-level" => field("spec.parquet.level", level),
        "write.parquet.row-group-size-bytes" => field(
            "spec.parquet.rowGroupSize",
            parquet.row_group_bytes.to_string(),
        ),
        "write.parquet.page-size-bytes" => {
            field("spec.parquet.pageSize", parquet.page_bytes.to_string())
        }
        "write.data.path" | "write.folder-storage.path" | "write.object-storage.path" => {
            Heed::Nobody {
                remedy: "data files go below the table's location: set spec.location, or remove it",
            }
        }
        _ if BOOLEANS.contains(&key) || OBEYED.contains(&key) || key == modes::DEFAULT => {
            Heed::Somebody
        }
        _ if key.starts_with(modes::COLUMN) => Heed::Somebody,
        _ if OF_OTHERS.iter().any(|prefix| key.starts_with(prefix)) => Heed::Somebody,
        _ => {
            if let Some(column) = key.strip_prefix(BLOOM_ENABLED) {
                let given = parquet.bloom_filters.contains_key(column);
                return field("spec.parquet.bloomFilters", given.to_string());
            }
            if let Some(column) = key.strip_prefix(BLOOM_PROBABILITY) {
                let given = parquet.bloom_filters.get(column);
                let given = given.map_or_else(String::new, ToString::to_string);
                return field("spec.parquet.bloomFilters", given);
            }
            if key.starts_with("write.") {
                return Heed::Nobody {
                    remedy: "the sink does not obey it: remove it",
                };
            }
            Heed::Somebody
        }
    }
}

/// Whether a property says what the field says.
fn agrees(value: &str, says: &str) -> bool {
    let value = value.trim().to_lowercase();
    let value = match value.as_str() {
        "lz4" | "lz4raw" => "lz4_raw",
        "none" => "uncompressed",
        other => other,
    };
    let same_number =
        || matches!((value.parse::<f64>(), says.parse::<f64>()), (Ok(a), Ok(b)) if a == b);
    value == says || same_number()
}

pub(super) fn check(checks: &mut Checks, columns: &Columns, plan: &IcebergPlan) {
    for (key, value) in &plan.properties {
        let field = format!("spec.properties[\"{key}\"]");
        let remedy = match key.as_str() {
            "format-version" => "set spec.formatVersion instead",
            _ if key.starts_with("tidewater.") => {
                "\"tidewater.\" is where progress is kept: choose another name"
            }
            _ if key.trim() != key || key.is_empty() => "give a name without spaces at its ends",
            _ => match heed(key, plan) {
                Heed::Somebody => {
                    check_value(checks, columns, field, key, value);
                    continue;
                }
                Heed::Nobody { remedy } => remedy,
                Heed::Field { says, .. } if agrees(value, &says) => continue,
                Heed::Field { field: by, says } => {
                    let remedy = match says.as_str() {
                        "" => format!(
                            "files are written by {by}, which says nothing of it: remove it"
                        ),
                        says => format!(
                            "files are written by {by}, which says {says}: change that, or remove this"
                        ),
                    };
                    checks.add(field, value, remedy);
                    continue;
                }
            },
        };
        checks.add(field, value, remedy);
    }
}

fn check_value(checks: &mut Checks, columns: &Columns, field: String, key: &str, value: &str) {
    if BOOLEANS.contains(&key) {
        if !["true", "false"].contains(&value.trim().to_lowercase().as_str()) {
            checks.add(field, value, "give \"true\" or \"false\"");
        }
    } else if COUNTS.contains(&key) {
        if !value.trim().parse::<u64>().is_ok_and(|n| n > 0) {
            checks.add(field, value, "give a number above 0");
        }
    } else if key == modes::MOST_COLUMNS || key == "write.metadata.previous-versions-max" {
        if value.trim().parse::<u32>().is_err() {
            checks.add(field, value, "give a whole number, such as \"100\"");
        }
    } else if key == "write.metadata.compression-codec" {
        if !["none", "gzip"].contains(&value.to_lowercase().as_str()) {
            checks.add(field, value, "give \"none\" or \"gzip\"");
        }
    } else if key == modes::DEFAULT || key.starts_with(modes::COLUMN) {
        if Mode::parse(value).is_none() {
            let remedy = "give none, counts, full, or truncate(16) with another length";
            checks.add(field, value, remedy);
        } else if let Some(column) = key.strip_prefix(modes::COLUMN) {
            // Inside lists and maps there are no bounds, and counts hurt nobody.
            let top = column.split('.').next().unwrap_or(column);
            if !columns.holds(column) {
                columns.find(checks, &field, top);
            }
        }
    }
}

/// What a table's properties ask for and its files will not have; one sentence each.
pub fn unheeded(properties: &BTreeMap<String, String>, plan: &IcebergPlan) -> Vec<String> {
    let told = |(key, value): (&String, &String)| match heed(key, plan) {
        Heed::Somebody => None,
        Heed::Nobody { .. } => Some(format!(
            "\"{key}\" is \"{value}\", which the sink does not obey"
        )),
        Heed::Field { says, .. } if agrees(value, &says) => None,
        Heed::Field { field, says } => {
            let says = if says.is_empty() {
                "nothing of it"
            } else {
                &says
            };
            Some(format!(
                "\"{key}\" is \"{value}\", but files are written by {field}, which says {says}"
            ))
        }
    };
    properties.iter().filter_map(told).collect()
}
