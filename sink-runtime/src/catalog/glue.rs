//! Iceberg tables in the AWS Glue Data Catalog: a Glue table whose parameters point to the current metadata file.
//! A commit writes the next metadata file and moves the pointer with `UpdateTable` under the table's `VersionId`.
//!
//! The SDK never repeats `UpdateTable` by itself: its second attempt could meet its first one's success and report a
//! conflict. What else Glue stores with the table (owner, description, foreign parameters) is kept.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::retry::RetryConfig;
use aws_sdk_glue::types::{DatabaseInput, StorageDescriptor, Table, TableInput};
use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult};

use super::metadata_file;
use super::storage::{ObjectOptions, s3_file_io};
use super::{Base, CatalogError, CommitError, TableOps};
use crate::aws::aws_config;
use crate::plan::{GluePlan, S3Plan};

mod columns;
mod faults;

use faults::Fault;

const TABLE_TYPE: &str = "table_type";
const LOCATION: &str = "metadata_location";
const PREVIOUS: &str = "previous_metadata_location";

#[derive(Clone, Debug)]
pub struct GlueTable {
    client: Client,
    /// Without retries.
    committing: Client,
    catalog_id: Option<String>,
    database: String,
    table: String,
    warehouse: String,
    io: FileIO,
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
        let config = aws_config(&plan.access, &plan.timeouts).await;
        let files = match storage {
            Some(storage) => aws_config(&storage.access, &storage.timeouts).await,
            None => config.clone(),
        };
        let mut options = ObjectOptions::of(storage);
        if storage.is_none() {
            options.path_style = plan.access.path_style;
        }
        let once = aws_sdk_glue::config::Builder::from(&config)
            .retry_config(RetryConfig::disabled())
            .build();
        Ok(Self {
            client: Client::new(&config),
            committing: Client::from_conf(once),
            catalog_id: plan.catalog_id.clone(),
            database: database.clone(),
            table: table.to_owned(),
            warehouse: plan.warehouse.trim_end_matches('/').to_owned(),
            io: s3_file_io(&files, options),
        })
    }

    fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    async fn get(&self) -> Result<Table, Fault> {
        let request = self
            .client
            .get_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .name(&self.table);
        let answer = Box::pin(request.send()).await.map_err(Fault::of)?;
        answer
            .table
            .ok_or_else(|| Fault::unanswered("an answer without a table"))
    }

    fn catalog_error(&self, operation: &'static str, fault: Fault) -> CatalogError {
        fault.into_catalog_error(operation, &self.name())
    }

    /// Makes the database where it is missing; others may do so at the same time.
    async fn ensure_database(&self) -> Result<(), CatalogError> {
        let get = self
            .client
            .get_database()
            .set_catalog_id(self.catalog_id.clone())
            .name(&self.database);
        match Box::pin(get.send()).await.map_err(Fault::of) {
            Ok(_) => return Ok(()),
            Err(Fault::Missing) => {}
            Err(fault) => return Err(self.catalog_error("look up database", fault)),
        }
        let input = DatabaseInput::builder()
            .name(&self.database)
            .build()
            .map_err(|e| metadata_file::metadata_error("name database", e))?;
        let create = self
            .client
            .create_database()
            .set_catalog_id(self.catalog_id.clone())
            .database_input(input);
        match Box::pin(create.send()).await.map_err(Fault::of) {
            Ok(_) | Err(Fault::Exists) => Ok(()),
            Err(fault) => Err(self.catalog_error("create database", fault)),
        }
    }

    async fn update(&self, version: &str, input: TableInput) -> Result<(), Fault> {
        let request = self
            .committing
            .update_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .table_input(input)
            .skip_archive(true)
            .version_id(version);
        Box::pin(request.send()).await.map(drop).map_err(Fault::of)
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
    TableInput::builder()
        .name(name)
        .set_description(current.and_then(|t| t.description.clone()))
        .set_owner(current.and_then(|t| t.owner.clone()))
        .set_last_access_time(current.and_then(|t| t.last_access_time))
        .set_last_analyzed_time(current.and_then(|t| t.last_analyzed_time))
        .retention(current.map_or(0, |t| t.retention))
        .storage_descriptor(descriptor)
        .set_partition_keys(current.and_then(|t| t.partition_keys.clone()))
        .set_view_original_text(current.and_then(|t| t.view_original_text.clone()))
        .set_view_expanded_text(current.and_then(|t| t.view_expanded_text.clone()))
        .table_type(
            current
                .and_then(|t| t.table_type.clone())
                .unwrap_or_else(|| "EXTERNAL_TABLE".to_owned()),
        )
        .set_parameters(Some(parameters))
        .set_target_table(current.and_then(|t| t.target_table.clone()))
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
        let metadata = metadata_file::read(&self.io, &location).await?;
        Ok(Base {
            metadata: Arc::new(metadata),
            metadata_location: Some(location),
            version_token: table.version_id,
        })
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        self.ensure_database().await?;
        let initial = if initial.location().is_empty() {
            let location = format!("{}/{}.db/{}", self.warehouse, self.database, self.table);
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
        let request = self
            .committing
            .create_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .table_input(table_input(&self.table, None, &initial, &location)?);
        match Box::pin(request.send()).await.map_err(Fault::of) {
            Ok(_) => self.load().await,
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
        metadata_file::write(&self.io, &location, &built.metadata)
            .await
            .map_err(|e| match e {
                CatalogError::Unavailable { source, .. } => CommitError::Unavailable(source),
                other => CommitError::Refused(other),
            })?;
        let input = table_input(&self.table, Some(&current), &built.metadata, &location)
            .map_err(CommitError::Refused)?;
        match self.update(version, input).await {
            Ok(()) => {
                metadata_file::remove_expired(&self.io, &built).await;
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
        let request = self
            .client
            .delete_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .name(&self.table);
        let answer = Box::pin(request.send()).await.map_err(Fault::of);
        answer
            .map(drop)
            .map_err(|fault| self.catalog_error(operation, fault))
    }
}

#[cfg(test)]
mod tests;
