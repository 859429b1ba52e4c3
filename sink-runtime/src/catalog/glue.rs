//! Iceberg tables in the AWS Glue Data Catalog: a Glue table whose parameters point to the current metadata file.
//! A commit writes the next metadata file and moves the pointer with `UpdateTable` under the table's `VersionId`.
//! What else Glue stores with the table (owner, description, foreign parameters) is kept.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_glue::types::{StorageDescriptor, Table, TableInput};
use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult};

use super::metadata_file;
use super::storage::{ObjectOptions, s3_file_io};
use super::{Base, CatalogError, CommitError, TableOps};
use crate::aws::aws_config;
use crate::plan::{GluePlan, S3Plan};

pub(super) mod client;
mod columns;
pub(super) mod faults;

use client::{GlueClient, kept};
use faults::Fault;

const TABLE_TYPE: &str = "table_type";
const LOCATION: &str = "metadata_location";
const PREVIOUS: &str = "previous_metadata_location";

#[derive(Clone, Debug)]
pub struct GlueTable {
    client: GlueClient,
    warehouse: String,
    io: FileIO,
    latest: metadata_file::Latest,
}

impl GlueTable {
    /// # Errors
    /// A namespace of more than one level: Glue has databases only.
    pub async fn connect(
        plan: &GluePlan,
        storage: Option<&S3Plan>,
        namespace: &[String],
        table: &str,
    ) -> Result<Self, CatalogError> {
        let [database] = namespace else {
            return Err(CatalogError::Refused {
                operation: "name database",
                source: "a Glue namespace is one database name".into(),
            });
        };
        let glue = &plan.glue;
        let config = aws_config(&glue.access, &glue.timeouts).await;
        let files = match storage {
            Some(storage) => aws_config(&storage.access, &storage.timeouts).await,
            None => config.clone(),
        };
        let mut options = ObjectOptions::of(storage);
        if storage.is_none() {
            options.path_style = glue.access.path_style;
        }
        Ok(Self {
            client: GlueClient::new(&config, glue.catalog_id.as_deref(), database, table),
            warehouse: plan.warehouse.trim_end_matches('/').to_owned(),
            io: s3_file_io(&files, options),
            latest: metadata_file::Latest::default(),
        })
    }

    fn name(&self) -> String {
        format!("{}.{}", self.client.database, self.client.table)
    }

    async fn get(&self) -> Result<Table, Fault> {
        self.client.get().await
    }

    fn catalog_error(&self, operation: &'static str, fault: Fault) -> CatalogError {
        fault.into_catalog_error(operation, &self.name())
    }
}

/// The location of the metadata file, if this is an Iceberg table.
fn metadata_location(table: &Table) -> Result<String, CatalogError> {
    let parameter = |key: &str| table.parameters().and_then(|p| p.get(key));
    let iceberg = parameter(TABLE_TYPE).is_some_and(|t| t.eq_ignore_ascii_case("iceberg"));
    parameter(LOCATION)
        .filter(|_| iceberg)
        .cloned()
        .ok_or_else(|| CatalogError::Refused {
            operation: "find metadata location",
            source: "the Glue table is no Iceberg table".into(),
        })
}

/// What Glue shall store: the pointer, the columns, and everything else as `current` has it.
fn table_input(
    name: &str,
    current: Option<&Table>,
    metadata: &TableMetadata,
    location: &str,
) -> Result<TableInput, CatalogError> {
    let mut parameters = current
        .and_then(|t| t.parameters().cloned())
        .unwrap_or_default();
    let previous = parameters.insert(LOCATION.to_owned(), location.to_owned());
    parameters.insert(TABLE_TYPE.to_owned(), "ICEBERG".to_owned());
    if let Some(previous) = previous {
        parameters.insert(PREVIOUS.to_owned(), previous);
    }
    let mut descriptor = current
        .and_then(|t| t.storage_descriptor().cloned())
        .unwrap_or_else(|| StorageDescriptor::builder().build());
    descriptor.columns = Some(columns::glue_columns(metadata.current_schema())?);
    descriptor.location = Some(metadata.location().to_owned());
    kept(name, current)
        .storage_descriptor(descriptor)
        .set_parameters(Some(parameters))
        .build()
        .map_err(|e| metadata_file::metadata_error("describe table to Glue", e))
}

#[async_trait]
impl TableOps for GlueTable {
    fn describe(&self) -> String {
        format!("Glue table {}", self.name())
    }

    fn file_io(&self) -> FileIO {
        self.io.clone()
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        let table = self
            .get()
            .await
            .map_err(|f| self.catalog_error("get table", f))?;
        let location = metadata_location(&table)?;
        let (metadata, metadata_bytes) = match self.latest.get(&location) {
            Some(latest) => latest,
            None => {
                let (metadata, bytes) = metadata_file::read(&self.io, &location).await?;
                let metadata = Arc::new(metadata);
                self.latest.keep(&location, Arc::clone(&metadata), bytes);
                (metadata, bytes)
            }
        };
        Ok(Base {
            metadata,
            metadata_location: Some(location),
            version_token: table.version_id,
            metadata_bytes,
        })
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        let database = self.client.ensure_database().await;
        database.map_err(|(operation, fault)| self.catalog_error(operation, fault))?;
        let initial = if initial.location().is_empty() {
            let location = format!(
                "{}/{}.db/{}",
                self.warehouse, self.client.database, self.client.table
            );
            initial
                .into_builder(None)
                .set_location(location)
                .build()
                .map_err(|e| metadata_file::metadata_error("build metadata", e))?
                .metadata
        } else {
            initial
        };
        let location = metadata_file::next_location(&initial, None);
        metadata_file::write(&self.io, &location, &initial).await?;
        let input = table_input(&self.client.table, None, &initial, &location)?;
        match self.client.create(input).await {
            Ok(()) => self.load().await,
            Err(fault) => {
                if fault.certain() {
                    super::stage::discard(&self.io, &[location]).await;
                }
                Err(self.catalog_error("create table", fault))
            }
        }
    }

    async fn commit(
        &self,
        base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError> {
        // The version guards all of `base`, so requirements can only fail on it.
        if requirements
            .iter()
            .any(|r| r.check(Some(&base.metadata)).is_err())
        {
            return Err(CommitError::Conflict);
        }
        let before = |fault: Fault| match self.catalog_error("get table", fault) {
            CatalogError::Unavailable { source, .. } => CommitError::Unavailable(source),
            other => CommitError::Refused(other),
        };
        let current = self.get().await.map_err(before)?;
        let Some(version) = base.version_token.as_deref() else {
            return Err(CommitError::Refused(metadata_file::metadata_error(
                "compare table version",
                "Glue gave no version id",
            )));
        };
        if current.version_id.as_deref() != Some(version) {
            return Err(CommitError::Conflict);
        }
        let location =
            metadata_file::next_location(&built.metadata, base.metadata_location.as_deref());
        let bytes = metadata_file::write(&self.io, &location, &built.metadata)
            .await
            .map_err(|e| match e {
                CatalogError::Unavailable { source, .. } => CommitError::Unavailable(source),
                other => CommitError::Refused(other),
            })?;
        let input = table_input(
            &self.client.table,
            Some(&current),
            &built.metadata,
            &location,
        )
        .map_err(CommitError::Refused)?;
        match self.client.update(Some(version), input).await {
            Ok(()) => {
                metadata_file::remove_expired(&self.io, &built).await;
                self.latest.keep(&location, Arc::new(built.metadata), bytes);
                Ok(())
            }
            Err(fault) => {
                if fault.certain() {
                    super::stage::discard(&self.io, &[location]).await;
                }
                Err(fault.into_commit_error(&self.name()))
            }
        }
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        let operation = "drop table";
        let found = self
            .get()
            .await
            .map_err(|fault| self.catalog_error(operation, fault))?;
        if found.version_id != base.version_token {
            return Err(super::another(operation));
        }
        self.client
            .delete()
            .await
            .map_err(|fault| self.catalog_error(operation, fault))
    }
}

#[cfg(test)]
mod tests;
