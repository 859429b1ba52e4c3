//! The calls that everything in Glue needs, whatever kind of table it keeps there.
//!
//! The SDK never repeats a write of a table by itself: its second attempt could meet its first one's success and report
//! a conflict, or delete what somebody else made in between.

use aws_config::SdkConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::retry::RetryConfig;
use aws_sdk_glue::types::builders::TableInputBuilder;
use aws_sdk_glue::types::{DatabaseInput, Table, TableInput};

use super::faults::Fault;

#[derive(Clone, Debug)]
pub(in crate::catalog) struct GlueClient {
    pub(in crate::catalog) client: Client,
    /// Without retries.
    writing: Client,
    pub(in crate::catalog) catalog_id: Option<String>,
    pub(in crate::catalog) database: String,
    pub(in crate::catalog) table: String,
}

impl GlueClient {
    pub(in crate::catalog) fn new(
        config: &SdkConfig,
        catalog_id: Option<&str>,
        database: &str,
        table: &str,
    ) -> Self {
        let once = aws_sdk_glue::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .build();
        Self {
            client: Client::new(config),
            writing: Client::from_conf(once),
            catalog_id: catalog_id.map(str::to_owned),
            database: database.to_owned(),
            table: table.to_owned(),
        }
    }

    pub(in crate::catalog) async fn get(&self) -> Result<Table, Fault> {
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

    pub(in crate::catalog) async fn create(&self, input: TableInput) -> Result<(), Fault> {
        let request = self
            .writing
            .create_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .table_input(input);
        Box::pin(request.send()).await.map(drop).map_err(Fault::of)
    }

    /// Replaces the table if it is still of this version.
    pub(in crate::catalog) async fn update(
        &self,
        version: Option<&str>,
        input: TableInput,
    ) -> Result<(), Fault> {
        let request = self
            .writing
            .update_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .table_input(input)
            .skip_archive(true)
            .set_version_id(version.map(str::to_owned));
        Box::pin(request.send()).await.map(drop).map_err(Fault::of)
    }

    pub(in crate::catalog) async fn delete(&self) -> Result<(), Fault> {
        let request = self
            .writing
            .delete_table()
            .set_catalog_id(self.catalog_id.clone())
            .database_name(&self.database)
            .name(&self.table);
        Box::pin(request.send()).await.map(drop).map_err(Fault::of)
    }

    /// Makes the database where it is missing; others may do so at the same time. A failure comes with what failed.
    pub(in crate::catalog) async fn ensure_database(&self) -> Result<(), (&'static str, Fault)> {
        let get = self
            .client
            .get_database()
            .set_catalog_id(self.catalog_id.clone())
            .name(&self.database);
        match Box::pin(get.send()).await.map_err(Fault::of) {
            Ok(_) => return Ok(()),
            Err(Fault::Missing) => {}
            Err(fault) => return Err(("look up database", fault)),
        }
        const CREATE: &str = "create database";
        let input = DatabaseInput::builder()
            .name(&self.database)
            .build()
            .map_err(|error| (CREATE, Fault::Refused(error.into())))?;
        let create = self
            .client
            .create_database()
            .set_catalog_id(self.catalog_id.clone())
            .database_input(input);
        match Box::pin(create.send()).await.map_err(Fault::of) {
            Ok(_) | Err(Fault::Exists) => Ok(()),
            Err(fault) => Err((CREATE, fault)),
        }
    }
}

/// What Glue stores with a table beside columns and parameters, as `current` has it: an update replaces everything.
pub(in crate::catalog) fn kept(name: &str, current: Option<&Table>) -> TableInputBuilder {
    TableInput::builder()
        .name(name)
        .set_description(current.and_then(|t| t.description.clone()))
        .set_owner(current.and_then(|t| t.owner.clone()))
        .set_last_access_time(current.and_then(|t| t.last_access_time))
        .set_last_analyzed_time(current.and_then(|t| t.last_analyzed_time))
        .retention(current.map_or(0, |t| t.retention))
        .set_partition_keys(current.and_then(|t| t.partition_keys.clone()))
        .set_view_original_text(current.and_then(|t| t.view_original_text.clone()))
        .set_view_expanded_text(current.and_then(|t| t.view_expanded_text.clone()))
        .table_type(
            current
                .and_then(|t| t.table_type.clone())
                .unwrap_or_else(|| "EXTERNAL_TABLE".to_owned()),
        )
        .set_target_table(current.and_then(|t| t.target_table.clone()))
}
