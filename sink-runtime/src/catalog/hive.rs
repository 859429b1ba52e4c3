//! The Glue table that shows a dataset to Athena, Spark and others: what it shall be (`table`, `types`, `projection`),
//! which partitions its folders are (`partition`), and what must change where Glue has something else. All of that is
//! pure; `client` speaks to Glue, `keeper` keeps table and partitions right while a sink runs.
//!
//! The table is a view of the files: it is never asked for progress, and nothing waits for it.
#![cfg_attr(
    not(feature = "cloud"),
    allow(dead_code, reason = "decides what only a build with the cloud does")
)]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalog::CatalogError;
use crate::errors::{Class, Classified, class};
use crate::plan::{GlueAccess, SinkId};

#[cfg(feature = "cloud")]
mod client;
#[cfg(feature = "cloud")]
mod keeper;
mod partition;
pub mod projection;
mod registrar;
mod table;
#[cfg(test)]
mod tests;
mod types;

#[cfg(feature = "cloud")]
pub use keeper::{Keeper, Kept};
pub use partition::Partition;
pub use registrar::Registrar;
pub use table::{Decision, Definition, Difference, Found, Storage, decide};
pub use types::{HiveType, Unfit, columns};

/// Name in the table's parameters of the sink that the table belongs to.
pub const OWNER: &str = "tidewater.dev/owner";
/// Whether that sink made the table or took it over: `Created` or `Adopted`.
pub const ORIGIN: &str = "tidewater.dev/origin";
/// Name in a partition's parameters of a short name for its columns.
pub const COLUMNS: &str = "tidewater.dev/columns";

/// The Glue table of a dataset, as its resource wants it.
#[derive(Clone, Debug)]
pub struct HivePlan {
    pub sink: SinkId,
    pub access: GlueAccess,
    pub database: String,
    pub table: String,
    pub create_database: bool,
    pub adopt: bool,
    /// `s3://bucket/prefix/`, with the slash.
    pub location: String,
    pub format: HiveFormat,
    /// One per folder level.
    pub keys: Vec<PartitionKey>,
    /// Of the files; `None` where only records will tell.
    pub columns: Option<Vec<Column>>,
    pub partitions: Partitions,
    pub allowed: Allowed,
    pub repair_interval: Duration,
    pub deletion: Deletion,
}

impl HivePlan {
    pub fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }
}

/// Formats of files that Glue's readers can be told to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiveFormat {
    Parquet,
    Json,
}

/// A level of folders, which is a column to readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKey {
    /// In lower case, as Glue has it.
    pub name: String,
    /// What the folders' names begin with: `label=`.
    pub folder: String,
    pub ty: String,
}

/// A column of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// In lower case, as Glue's readers compare names.
    pub name: String,
    pub ty: HiveType,
    pub comment: Option<String>,
}

/// How readers learn of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// Each folder becomes a partition.
    Register,
    /// Readers compute them by these parameters of the table.
    Projection(BTreeMap<String, String>),
    /// Somebody else registers them.
    None,
}

/// What may be changed in the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub add_columns: bool,
    pub widen: bool,
}

/// What becomes of the table when the resource is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    Retain,
    Delete,
}

/// How Glue's table stands to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableState {
    /// As the plan wants it.
    Synced,
    /// There is no table, and its columns are known with the first records only.
    Awaited,
    /// Something is not as wanted, and may not be or cannot be changed.
    Differs(Vec<Difference>),
}

impl TableState {
    /// What is wrong, if anything is: the reason and a message for people.
    pub fn trouble(&self) -> Option<(Class, String)> {
        let Self::Differs(differences) = self else {
            return None;
        };
        let first = differences.first()?;
        let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
        Some((first.class(), told.join("; ")))
    }
}

/// What became of a table that was to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is not there (any more).
    Gone,
    /// It stays: it is not the sink's own making. Why, for people.
    Kept(String),
}

/// Why the table could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum HiveError {
    #[error("database \"{database}\" does not exist")]
    NoDatabase { database: String },
    #[error(transparent)]
    Types(#[from] Unfit),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("list the dataset's folders")]
    Store(#[from] crate::store::StoreError),
    #[error("this build cannot reach Glue")]
    NoCloud,
}

impl Classified for HiveError {
    fn class(&self) -> Class {
        match self {
            Self::NoDatabase { .. } => class::CATALOG_DATABASE_MISSING,
            Self::Types(_) => class::TABLE_INCOMPATIBLE,
            Self::Catalog(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::NoCloud => class::INVALID_SPEC,
        }
    }
}

/// Makes the table, or changes it, as the plan wants it; looks first, and changes nothing that is as wanted. Safe to
/// call from several processes at once. Partitions are not touched: the pods see to them.
///
/// # Errors
/// Glue does not answer, denies, or lacks the database. What cannot be made as wanted is no error but
/// [`TableState::Differs`].
#[cfg_attr(
    not(feature = "cloud"),
    allow(clippy::unused_async, reason = "Glue is awaited")
)]
pub async fn ensure(plan: &HivePlan) -> Result<TableState, HiveError> {
    #[cfg(feature = "cloud")]
    {
        let client = Box::pin(client::HiveClient::connect(plan)).await;
        let ensured = client.ensure(plan.columns.as_deref()).await?;
        Ok(ensured.state)
    }
    #[cfg(not(feature = "cloud"))]
    {
        let _ = plan;
        Err(HiveError::NoCloud)
    }
}

/// What [`ensure`] would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    pub exists: bool,
    /// For people.
    pub steps: Vec<String>,
    /// What would stay different.
    pub differences: Vec<Difference>,
}

/// Tells what [`ensure`] would do, and changes nothing.
///
/// # Errors
/// Glue does not answer or denies.
#[cfg_attr(
    not(feature = "cloud"),
    allow(clippy::unused_async, reason = "Glue is awaited")
)]
pub async fn preview(plan: &HivePlan) -> Result<Preview, HiveError> {
    #[cfg(feature = "cloud")]
    {
        let client = Box::pin(client::HiveClient::connect(plan)).await;
        client.preview(plan.columns.as_deref()).await
    }
    #[cfg(not(feature = "cloud"))]
    {
        let _ = plan;
        Err(HiveError::NoCloud)
    }
}

/// Deletes the table, not its files, if the plan's sink made it and it still shows the plan's dataset. Twice is as good
/// as once.
///
/// # Errors
/// Glue does not answer or denies.
#[cfg_attr(
    not(feature = "cloud"),
    allow(clippy::unused_async, reason = "Glue is awaited")
)]
pub async fn delete_owned(plan: &HivePlan) -> Result<Deleted, HiveError> {
    #[cfg(feature = "cloud")]
    {
        let client = Box::pin(client::HiveClient::connect(plan)).await;
        client.delete_owned().await
    }
    #[cfg(not(feature = "cloud"))]
    {
        let _ = plan;
        Err(HiveError::NoCloud)
    }
}
