//! What a plan says of an Iceberg table: where it is, how it is laid out, what may become of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{GluePlan, ParquetOptions, RestPlan, S3Plan};

#[derive(Clone, Debug)]
pub struct IcebergPlan {
    pub catalog: CatalogPlan,
    /// Namespace levels.
    pub namespace: Vec<String>,
    pub table: String,
    pub create_if_missing: bool,
    pub location: Option<String>,
    pub format_version: u8,
    pub partition_by: Vec<PartitionField>,
    pub sort_order: Vec<SortField>,
    pub properties: BTreeMap<String, String>,
    pub evolution: Evolution,
    pub parquet: ParquetOptions,
    pub target_file_bytes: usize,
    pub on_destination_reset: OnDestinationReset,
    /// For warehouses on S3; `None` for local ones.
    pub storage: Option<S3Plan>,
}

/// What may be changed in an existing table to hold the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evolution {
    pub add_columns: bool,
    pub widen: bool,
    pub make_optional: bool,
    pub recreate_columns: bool,
}

/// The table was rolled back, or dropped and recreated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDestinationReset {
    Stop,
    /// Read again from what the table holds now.
    Reread,
    /// Go on from the recorded offsets and leave the hole.
    Continue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionField {
    pub column: String,
    pub transform: PartitionTransform,
    /// `None`: Iceberg's usual name (`ts_hour`, `c_bucket_16`, …).
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTransform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    Bucket(u32),
    Truncate(u32),
    Void,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortField {
    pub column: String,
    pub transform: PartitionTransform,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Debug)]
pub enum CatalogPlan {
    Local { path: PathBuf },
    Rest(RestPlan),
    Glue(GluePlan),
}
