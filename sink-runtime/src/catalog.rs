//! Iceberg table operations: `local`, `rest` and `glue` behind one trait, and `stage`, which turns a wished change into
//! manifests and a metadata update. The commit loop on top of it is `commit::iceberg`.

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult, TableMetadataRef};

use crate::errors::{Class, Classified, class};
use crate::plan::{CatalogPlan, IcebergPlan, S3Plan, StorePlan};
use crate::store::{self, BoxError, Store, StoreError};

pub mod faulty;
#[cfg(feature = "cloud")]
pub mod glue;
pub mod hive;
pub mod local;
pub(crate) mod manifest;
pub mod memory;
pub mod merge;
mod metadata_file;
#[cfg(feature = "cloud")]
pub mod rest;
pub(crate) mod snapshot;
pub mod stage;
#[cfg(feature = "cloud")]
mod storage;

/// A table as loaded.
#[derive(Clone, Debug)]
pub struct Base {
    pub metadata: TableMetadataRef,
    /// Location of the metadata file, where the catalog tells.
    pub metadata_location: Option<String>,
    /// What the catalog compares on commit beyond the requirements (Glue's VersionId).
    pub version_token: Option<String>,
    /// Length of the metadata as the catalog gave them.
    pub metadata_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("table \"{table}\" does not exist")]
    NoSuchTable { table: String },
    #[error("table \"{table}\" exists already")]
    TableExists { table: String },
    #[error("catalog failed for now: {operation}")]
    Unavailable {
        operation: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("catalog denied: {operation}")]
    Denied {
        operation: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("catalog refused: {operation}")]
    Refused {
        operation: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("table metadata cannot be used: {operation}")]
    Metadata {
        operation: &'static str,
        #[source]
        source: BoxError,
    },
}

impl Classified for CatalogError {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchTable { .. } => class::TABLE_MISSING,
            Self::TableExists { .. } | Self::Refused { .. } | Self::Metadata { .. } => {
                class::CATALOG_REFUSED
            }
            Self::Unavailable { .. } => class::CATALOG_UNAVAILABLE,
            Self::Denied { .. } => class::CATALOG_DENIED,
        }
    }
}

/// What became of a commit.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Someone else won; nothing of ours is there. Load, judge, stage again.
    #[error("another writer changed the table")]
    Conflict,
    /// May have happened. Load and look before anything else.
    #[error("outcome of the commit is unknown")]
    Unknown(#[source] BoxError),
    /// Did not happen; may work later.
    #[error("the catalog did not take the commit for now")]
    Unavailable(#[source] BoxError),
    /// Never will.
    #[error(transparent)]
    Refused(CatalogError),
}

impl Classified for CommitError {
    fn class(&self) -> Class {
        match self {
            Self::Conflict => class::CATALOG_CONFLICT,
            Self::Unknown(_) => class::CATALOG_UNKNOWN,
            Self::Unavailable(_) => class::CATALOG_UNAVAILABLE,
            Self::Refused(refusal) => refusal.class(),
        }
    }
}

/// The plan's table in the plan's catalog. The table need not exist.
///
/// # Errors
/// An impossible name; for REST, a server that does not answer or refuses.
#[cfg_attr(
    not(feature = "cloud"),
    allow(clippy::unused_async, reason = "the other catalogs await")
)]
pub async fn connect(plan: &IcebergPlan) -> Result<Arc<dyn TableOps>, CatalogError> {
    match &plan.catalog {
        CatalogPlan::Local { path } => Ok(Arc::new(local::LocalTable::new(
            path,
            &plan.namespace,
            &plan.table,
        )?)),
        #[cfg(feature = "cloud")]
        CatalogPlan::Rest(rest) => Ok(Arc::new(
            Box::pin(rest::RestTable::connect(
                rest,
                plan.storage.as_ref(),
                &plan.namespace,
                &plan.table,
            ))
            .await?,
        )),
        #[cfg(feature = "cloud")]
        CatalogPlan::Glue(glue) => Ok(Arc::new(
            Box::pin(glue::GlueTable::connect(
                glue,
                plan.storage.as_ref(),
                &plan.namespace,
                &plan.table,
            ))
            .await?,
        )),
        #[cfg(not(feature = "cloud"))]
        CatalogPlan::Rest(_) | CatalogPlan::Glue(_) => Err(CatalogError::Refused {
            operation: "connect to catalog",
            source: "this build has local catalogs only".into(),
        }),
    }
}

/// Another table has the name by now.
fn another(operation: &'static str) -> CatalogError {
    CatalogError::Unavailable {
        operation,
        source: "the table was changed or made anew meanwhile".into(),
    }
}

/// One table in one catalog.
#[async_trait]
pub trait TableOps: Send + Sync + std::fmt::Debug {
    /// `namespace.table` with the catalog's kind, for messages.
    fn describe(&self) -> String;

    /// The warehouse's files.
    fn file_io(&self) -> FileIO;

    /// A store of the warehouse: bucket and prefix are the plan's. A catalog may have more to say of it, keys above
    /// all, once the table is loaded.
    async fn store(&self, plan: &S3Plan) -> Result<Arc<dyn Store>, StoreError> {
        store::open(&StorePlan::S3(plan.clone())).await
    }

    async fn load(&self) -> Result<Base, CatalogError>;

    /// Creates the table (and its namespace) with this initial metadata. An empty location leaves the choice to the
    /// catalog. A catalog that assigns the uuid itself does so: what counts is the answer.
    ///
    /// # Errors
    /// [`CatalogError::TableExists`] when somebody was faster.
    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError>;

    /// Publishes `built`, which was built on `base`, if every requirement still holds.
    async fn commit(
        &self,
        base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError>;

    /// Removes the table that `base` is from the catalog, and its files where the catalog does that: `local` and REST
    /// catalogs do, Glue leaves them.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchTable`] when it is gone already, [`CatalogError::Unavailable`] when another one has its name
    /// by now.
    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError>;
}
