//! Access to a table's files as its catalog grants it. What the plan says goes first, then the credentials vended with
//! the table, then the environment.

use std::collections::HashMap;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use iceberg::io::FileIO;
use iceberg_catalog_rest::StorageCredential;

use super::aws_config;
use crate::catalog::storage::{ObjectOptions, s3_file_io};
use crate::plan::{AwsCredentials, S3Access, S3Plan, Timeouts};

#[derive(Debug)]
pub(super) struct Files {
    config: SdkConfig,
    options: ObjectOptions,
    /// The plan gives keys; vended ones do not replace them.
    own_keys: bool,
    own_endpoint: bool,
    own_region: bool,
}

impl Files {
    pub(super) async fn new(storage: Option<&S3Plan>, timeouts: &Timeouts) -> Self {
        let environment = S3Access {
            region: None,
            endpoint: None,
            path_style: false,
            credentials: AwsCredentials::DefaultChain,
            assume_role: None,
        };
        let access = storage.map_or(&environment, |s| &s.access);
        let timeouts = storage.map_or(timeouts, |s| &s.timeouts);
        Self {
            config: Box::pin(aws_config(access, timeouts)).await,
            options: ObjectOptions::of(storage),
            own_keys: matches!(access.credentials, AwsCredentials::Static { .. })
                || access.assume_role.is_some(),
            own_endpoint: access.endpoint.is_some(),
            own_region: access.region.is_some(),
        }
    }

    /// For a table at `location`, with what the catalog said of it.
    pub(super) fn access(
        &self,
        config: &HashMap<String, String>,
        credentials: &[StorageCredential],
        location: &str,
    ) -> FileIO {
        if location.starts_with("file:") || location.starts_with('/') {
            return FileIO::new_with_fs();
        }
        let granted = Granted {
            config,
            vended: most_specific(credentials, location),
        };
        let mut sdk = self.config.to_builder();
        if !self.own_keys
            && let (Some(id), Some(key)) = (
                granted.get("s3.access-key-id"),
                granted.get("s3.secret-access-key"),
            )
        {
            let token = granted.get("s3.session-token").map(str::to_owned);
            let keys = Credentials::new(id, key, token, None, "catalog");
            sdk.set_credentials_provider(Some(SharedCredentialsProvider::new(keys)));
        }
        if !self.own_endpoint
            && let Some(endpoint) = granted.get("s3.endpoint")
        {
            sdk.set_endpoint_url(Some(endpoint.to_owned()));
        }
        let region = granted.get("client.region").or(granted.get("s3.region"));
        if !self.own_region
            && let Some(region) = region
        {
            sdk.set_region(Some(Region::new(region.to_owned())));
        }
        let mut options = self.options.clone();
        options.path_style |= granted
            .get("s3.path-style-access")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"));
        s3_file_io(&sdk.build(), options)
    }
}

struct Granted<'a> {
    config: &'a HashMap<String, String>,
    vended: Option<&'a StorageCredential>,
}

impl Granted<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.vended
            .and_then(|v| v.config.get(key))
            .or_else(|| self.config.get(key))
            .map(String::as_str)
    }
}

/// The credential with the longest prefix of the location.
fn most_specific<'a>(
    credentials: &'a [StorageCredential],
    location: &str,
) -> Option<&'a StorageCredential> {
    credentials
        .iter()
        .filter(|c| location.starts_with(&c.prefix))
        .max_by_key(|c| c.prefix.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_vended_credential_is_used() {
        let of = |prefix: &str| StorageCredential {
            prefix: prefix.to_owned(),
            config: HashMap::new(),
        };
        let all = [of("s3://lake"), of("s3://lake/sales"), of("s3://other")];
        let chosen = most_specific(&all, "s3://lake/sales/orders");
        assert_eq!(chosen.map(|c| c.prefix.as_str()), Some("s3://lake/sales"));
        assert!(most_specific(&all, "gs://elsewhere").is_none());
    }
}
