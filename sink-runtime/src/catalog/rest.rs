//! Iceberg tables behind a REST catalog. Our own client over the catalog protocol: it honours the server's
//! configuration, prefix and vended credentials, renews tokens, signs for AWS, and says exactly what became of a commit.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult};
use iceberg::{NamespaceIdent, TableIdent, TableRequirement, TableUpdate};
use iceberg_catalog_rest::{CreateNamespaceRequest, CreateTableRequest, LoadTableResult};
use reqwest::Method;
use serde_json::{Value, json};

use super::metadata_file::metadata_error;
use super::{Base, CatalogError, CommitError, TableOps};
use crate::aws::aws_config;
use crate::plan::{RestPlan, S3Plan};
use crate::store::{Store, StoreError};

mod answer;
mod auth;
mod client;
mod files;
mod grant;
mod vending;

use client::RestClient;
use files::Files;

#[derive(Debug)]
pub struct RestTable {
    client: Arc<RestClient>,
    /// `…/v1/<prefix>`.
    root: String,
    separator: String,
    namespace: NamespaceIdent,
    table: String,
    files: Files,
    /// The server's configuration; a table's own goes before it.
    config: HashMap<String, String>,
}

impl RestTable {
    /// Asks the server for its configuration.
    ///
    /// # Errors
    /// An unreachable server, refused credentials, an impossible name.
    pub async fn connect(
        plan: &RestPlan,
        storage: Option<&S3Plan>,
        namespace: &[String],
        table: &str,
    ) -> Result<Self, CatalogError> {
        let namespace = NamespaceIdent::from_vec(namespace.to_vec())
            .map_err(|e| metadata_error("name namespace", e))?;
        let mut client = Box::pin(RestClient::new(plan, storage)).await?;
        let base = plan.uri.trim_end_matches('/').to_owned();
        let config = configuration(&client, &base, plan.warehouse.as_deref()).await?;
        let base = config
            .get("uri")
            .map_or(base.as_str(), |uri| uri.trim_end_matches('/'));
        if let Some(server) = config.get("oauth2-server-uri") {
            client.offer_token_uri(server);
        }
        let root = match config.get("prefix").map(|p| p.trim_matches('/')) {
            None | Some("") => format!("{base}/v1"),
            Some(prefix) => format!("{base}/v1/{prefix}"),
        };
        let client = Arc::new(client);
        let separator = separator(config.get("namespace-separator").map(String::as_str));
        let files = Files::new(
            storage,
            &plan.timeouts,
            Arc::clone(&client),
            base.to_owned(),
            table_url(&root, &namespace, &separator, table),
            config.clone(),
        );
        Ok(Self {
            files: Box::pin(files).await,
            client,
            root,
            separator,
            namespace,
            table: table.to_owned(),
            config,
        })
    }

    fn name(&self) -> String {
        format!("{}.{}", self.namespace, self.table)
    }

    fn namespace_url(&self) -> String {
        namespace_url(&self.root, &self.namespace, &self.separator)
    }

    fn table_url(&self) -> String {
        table_url(&self.root, &self.namespace, &self.separator, &self.table)
    }

    fn base_of(&self, body: &[u8], operation: &'static str) -> Result<Base, CatalogError> {
        let loaded: LoadTableResult =
            serde_json::from_slice(body).map_err(|e| metadata_error(operation, e))?;
        let location = loaded.metadata.location().to_owned();
        let credentials = loaded.storage_credentials.unwrap_or_default();
        let mut config = self.config.clone();
        config.extend(loaded.config);
        self.files.granted(config, credentials, &location);
        Ok(Base {
            metadata: loaded.metadata.into(),
            metadata_location: loaded.metadata_location,
            version_token: None,
            metadata_bytes: body.len(),
        })
    }

    async fn ensure_namespace(&self) -> Result<(), CatalogError> {
        let operation = "look up namespace";
        let url = self.namespace_url();
        let answer = self.client.read(operation, &url, &[]).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        if !answer.is_missing() {
            return Err(answer.error(operation, &self.name()));
        }
        let operation = "create namespace";
        let request = CreateNamespaceRequest {
            namespace: self.namespace.clone(),
            properties: HashMap::new(),
        };
        let body = serde_json::to_value(request).map_err(|e| metadata_error(operation, e))?;
        let url = format!("{}/namespaces", self.root);
        let answer = self
            .client
            .once(Method::POST, &url, Some(&body))
            .await
            .map_err(|f| f.into_catalog_error(operation))?;
        // 409: somebody else made it.
        if answer.status.is_success() || answer.status.as_u16() == 409 {
            return Ok(());
        }
        Err(answer.error(operation, &self.name()))
    }
}

/// The server's word over ours over its defaults.
async fn configuration(
    client: &RestClient,
    base: &str,
    warehouse: Option<&str>,
) -> Result<HashMap<String, String>, CatalogError> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        defaults: HashMap<String, String>,
        #[serde(default)]
        overrides: HashMap<String, String>,
    }
    let operation = "get catalog configuration";
    let query: Vec<(&str, &str)> = warehouse.iter().map(|w| ("warehouse", *w)).collect();
    let answer = client
        .read(operation, &format!("{base}/v1/config"), &query)
        .await?;
    if !answer.status.is_success() {
        return Err(answer.error(operation, base));
    }
    let config: Config =
        serde_json::from_slice(&answer.body).map_err(|e| metadata_error(operation, e))?;
    let mut merged = config.defaults;
    merged.extend(config.overrides);
    Ok(merged)
}

/// What stands between namespace levels in a path. Servers give it encoded.
fn separator(configured: Option<&str>) -> String {
    match configured {
        None | Some("") => "%1F".to_owned(),
        Some(encoded) if encoded.contains('%') => encoded.to_owned(),
        Some(plain) => segment(plain),
    }
}

fn namespace_url(root: &str, namespace: &NamespaceIdent, separator: &str) -> String {
    let levels: Vec<String> = namespace.iter().map(|l| segment(l)).collect();
    format!("{root}/namespaces/{}", levels.join(separator))
}

fn table_url(root: &str, namespace: &NamespaceIdent, separator: &str, table: &str) -> String {
    let namespace = namespace_url(root, namespace, separator);
    format!("{namespace}/tables/{}", segment(table))
}

/// One segment of a path.
fn segment(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Updates as the protocol has them, with what older servers still ask for.
fn updates(changes: Vec<TableUpdate>) -> serde_json::Result<Value> {
    let mut updates = Vec::with_capacity(changes.len());
    for change in changes {
        let last_column_id = match &change {
            TableUpdate::AddSchema { schema } => Some(schema.highest_field_id()),
            _ => None,
        };
        let mut update = serde_json::to_value(change)?;
        if let (Some(id), Some(update)) = (last_column_id, update.as_object_mut()) {
            update.insert("last-column-id".to_owned(), json!(id));
        }
        updates.push(update);
    }
    Ok(Value::Array(updates))
}

#[async_trait]
impl TableOps for RestTable {
    fn describe(&self) -> String {
        format!("REST catalog table {}", self.name())
    }

    fn file_io(&self) -> FileIO {
        self.files.io()
    }

    async fn store(&self, plan: &S3Plan) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.files.store(plan)?))
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        let operation = "load table";
        let answer = self.client.read(operation, &self.table_url(), &[]).await?;
        if !answer.status.is_success() {
            return Err(answer.error(operation, &self.name()));
        }
        self.base_of(&answer.body, operation)
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        self.ensure_namespace().await?;
        let operation = "create table";
        let mut properties = initial.properties().clone();
        properties.insert(
            "format-version".to_owned(),
            (initial.format_version() as u8).to_string(),
        );
        let location = initial.location();
        let request = CreateTableRequest {
            name: self.table.clone(),
            location: (!location.is_empty()).then(|| location.to_owned()),
            schema: initial.current_schema().as_ref().clone(),
            partition_spec: Some(
                initial
                    .default_partition_spec()
                    .as_ref()
                    .clone()
                    .into_unbound(),
            ),
            write_order: Some(initial.default_sort_order().as_ref().clone()),
            stage_create: Some(false),
            properties,
        };
        let body = serde_json::to_value(request).map_err(|e| metadata_error(operation, e))?;
        let url = format!("{}/tables", self.namespace_url());
        let answer = self
            .client
            .once(Method::POST, &url, Some(&body))
            .await
            .map_err(|f| f.into_catalog_error(operation))?;
        match answer.status.as_u16() {
            200..=299 => self.load().await,
            409 => Err(CatalogError::TableExists { table: self.name() }),
            _ => Err(answer.not_created(&self.name(), !location.is_empty())),
        }
    }

    async fn commit(
        &self,
        _base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError> {
        let operation = "commit table";
        let encoding = |e: serde_json::Error| CommitError::Refused(metadata_error(operation, e));
        let identifier = TableIdent::new(self.namespace.clone(), self.table.clone());
        let body = json!({
            "identifier": serde_json::to_value(identifier).map_err(encoding)?,
            "requirements": serde_json::to_value(requirements).map_err(encoding)?,
            "updates": updates(built.changes).map_err(encoding)?,
        });
        let answer = self
            .client
            .once(Method::POST, &self.table_url(), Some(&body))
            .await
            .map_err(client::Failure::into_commit_error)?;
        answer.into_commit(&self.name())
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        let operation = "drop table";
        if self.load().await?.metadata.uuid() != base.metadata.uuid() {
            return Err(super::another(operation));
        }
        let delete = async |url: &str| {
            let sent = self.client.once(Method::DELETE, url, None).await;
            sent.map_err(|failure| failure.into_catalog_error(operation))
        };
        let url = self.table_url();
        let mut answer = delete(&format!("{url}?purgeRequested=true")).await?;
        // There are servers that drop tables and purge none.
        if matches!(answer.status.as_u16(), 400 | 403 | 405 | 406 | 422 | 501) {
            answer = delete(&url).await?;
        }
        if answer.status.is_success() {
            return Ok(());
        }
        Err(answer.error(operation, &self.name()))
    }
}

#[cfg(test)]
mod tests;
