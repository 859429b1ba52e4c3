//! The keys that a catalog vends with one table, asked for again before they end. The SDK asks here for every request
//! (its own cache could not be told of newer keys); almost always the answer is in memory.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use iceberg_catalog_rest::StorageCredential;
use parking_lot::Mutex;
use serde::Deserialize;

use super::client::RestClient;
use super::grant::{Grant, Keys};
use crate::catalog::CatalogError;
use crate::catalog::metadata_file::metadata_error;
use crate::errors::OneLine;

/// Before a catalog that did not answer is asked again, while the keys at hand hold.
const ASK_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Vending {
    client: Arc<RestClient>,
    /// URL of the catalog, for paths it gives.
    base: String,
    table_url: String,
    held: Mutex<Held>,
    /// Held while asking, so that many uploads ask once.
    asking: tokio::sync::Mutex<()>,
}

struct Held {
    grant: Grant,
    /// After a question in vain.
    not_before: Option<SystemTime>,
}

impl fmt::Debug for Vending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vending").field(&self.table_url).finish()
    }
}

impl Vending {
    /// `grant`: what holds until the table is loaded.
    pub(super) fn new(
        client: Arc<RestClient>,
        base: String,
        table_url: String,
        grant: Grant,
    ) -> Self {
        Self {
            client,
            base,
            table_url,
            held: Mutex::new(Held {
                grant,
                not_before: None,
            }),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// The table was loaded.
    pub(super) fn granted(&self, grant: Grant) {
        *self.held.lock() = Held {
            grant,
            not_before: None,
        };
    }

    pub(super) fn grant(&self) -> Grant {
        self.held.lock().grant.clone()
    }

    fn fresh(&self, location: &str, now: SystemTime) -> Option<Keys> {
        let held = self.held.lock();
        let keys = held.grant.keys(location)?;
        let renew_at = held.not_before.unwrap_or(keys.renew_at);
        (now < renew_at && !keys.ended(now)).then_some(keys)
    }

    async fn keys(&self, location: &str) -> Result<Credentials, CredentialsError> {
        if let Some(keys) = self.fresh(location, SystemTime::now()) {
            return Ok(keys.credentials);
        }
        let _asking = self.asking.lock().await;
        let now = SystemTime::now();
        if let Some(keys) = self.fresh(location, now) {
            return Ok(keys.credentials);
        }
        let asked = self.ask().await;
        let keys = self.grant().keys(location);
        match (asked, keys) {
            (Ok(()), Some(keys)) => Ok(keys.credentials),
            (Ok(()), None) => Err(CredentialsError::not_loaded(
                "the catalog vends no keys for this location",
            )),
            (Err(error), Some(keys)) if !keys.ended(SystemTime::now()) => {
                let error = OneLine(&error).to_string();
                tracing::warn!(%error, "no fresh keys for the table's files; those at hand still hold");
                self.held.lock().not_before = Some(now + ASK_AGAIN);
                Ok(keys.credentials)
            }
            (Err(error), _) => Err(CredentialsError::provider_error(error)),
        }
    }

    async fn ask(&self) -> Result<(), CatalogError> {
        let grant = self.grant();
        let at = SystemTime::now();
        let Some(endpoint) = grant.refresh_endpoint() else {
            let loaded: Loaded = self.read("load table", &self.table_url).await?;
            let mut config = grant.config;
            config.extend(loaded.config);
            self.granted(Grant {
                config,
                credentials: loaded.credentials,
                at,
            });
            return Ok(());
        };
        let url = if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
            endpoint.to_owned()
        } else {
            format!("{}/{}", self.base, endpoint.trim_start_matches('/'))
        };
        let loaded: Loaded = self.read("load credentials", &url).await?;
        self.granted(Grant {
            credentials: loaded.credentials,
            at,
            ..grant
        });
        Ok(())
    }

    async fn read(&self, operation: &'static str, url: &str) -> Result<Loaded, CatalogError> {
        let answer = self.client.read(operation, url, &[]).await?;
        if !answer.status.is_success() {
            return Err(answer.error(operation, url));
        }
        serde_json::from_slice(&answer.body).map_err(|e| metadata_error(operation, e))
    }
}

/// What matters of a loaded table here, and of loaded credentials.
#[derive(Deserialize)]
struct Loaded {
    #[serde(default)]
    config: std::collections::HashMap<String, String>,
    #[serde(default, rename = "storage-credentials")]
    credentials: Vec<StorageCredential>,
}

/// Keys for one location, for the SDK.
#[derive(Debug)]
pub(super) struct VendedKeys {
    pub(super) vending: Arc<Vending>,
    pub(super) location: String,
}

impl ProvideCredentials for VendedKeys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.vending.keys(&self.location))
    }
}

#[cfg(test)]
mod tests;
