//! Access to a table's files as its catalog grants it. What the plan says goes first, then what the catalog gives with
//! the table (keys, endpoint, region), then the environment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use aws_config::identity::IdentityCache;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use iceberg::io::FileIO;
use iceberg_catalog_rest::StorageCredential;
use parking_lot::Mutex;

use super::aws_config;
use super::client::RestClient;
use super::grant::{Grant, Place};
use super::vending::{VendedKeys, Vending};
use crate::aws::with_endpoint;
use crate::catalog::storage::{ObjectOptions, s3_file_io};
use crate::plan::{AwsCredentials, S3Access, S3Plan, Timeouts};
use crate::store::StoreError;
use crate::store::s3::S3Store;

#[derive(Debug)]
pub(super) struct Files {
    config: SdkConfig,
    options: ObjectOptions,
    /// The plan gives keys or a role; vended keys do not replace them.
    own_keys: bool,
    own_endpoint: bool,
    own_region: bool,
    vending: Arc<Vending>,
    /// For the metadata of the table as last loaded. One client serves as long as the catalog says the same of the
    /// place: its connections and its keys stay.
    io: Mutex<(Access, FileIO)>,
}

/// What a client is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Access {
    Folder,
    Store {
        place: Place,
        /// Location that the catalog vends keys for.
        vended: Option<String>,
    },
}

/// Whether the storage's credentials are those of the plan.
pub(super) fn own_keys(storage: Option<&S3Plan>) -> bool {
    storage.is_some_and(|s| {
        matches!(s.access.credentials, AwsCredentials::Static { .. })
            || s.access.assume_role.is_some()
    })
}

impl Files {
    /// `config`: the server's.
    pub(super) async fn new(
        storage: Option<&S3Plan>,
        timeouts: &Timeouts,
        client: Arc<RestClient>,
        base: String,
        table_url: String,
        config: HashMap<String, String>,
    ) -> Self {
        let environment = S3Access {
            region: None,
            endpoint: None,
            path_style: false,
            credentials: AwsCredentials::DefaultChain,
            assume_role: None,
        };
        let access = storage.map_or(&environment, |s| &s.access);
        let timeouts = storage.map_or(timeouts, |s| &s.timeouts);
        let grant = Grant {
            config: config.clone(),
            credentials: Vec::new(),
            at: SystemTime::now(),
        };
        let sdk = Box::pin(aws_config(access, timeouts)).await;
        let options = ObjectOptions::of(storage);
        let nothing = (Access::Folder, FileIO::new_with_fs());
        let files = Self {
            config: sdk,
            options,
            own_keys: own_keys(storage),
            own_endpoint: access.endpoint.is_some(),
            own_region: access.region.is_some(),
            vending: Arc::new(Vending::new(client, base, table_url, grant)),
            io: Mutex::new(nothing),
        };
        files.granted(config, Vec::new(), "");
        files
    }

    /// The table at `location` was loaded, and this came with it. `config`: the server's, the table's own over it.
    pub(super) fn granted(
        &self,
        config: HashMap<String, String>,
        credentials: Vec<StorageCredential>,
        location: &str,
    ) {
        let grant = Grant {
            config,
            credentials,
            at: SystemTime::now(),
        };
        let access = self.access(&grant, location);
        self.vending.granted(grant);
        let mut io = self.io.lock();
        if io.0 == access {
            return;
        }
        let made = match &access {
            Access::Folder => FileIO::new_with_fs(),
            Access::Store { place, .. } => {
                let mut options = self.options.clone();
                options.path_style |= place.path_style;
                s3_file_io(&self.sdk(&access), options)
            }
        };
        *io = (access, made);
    }

    pub(super) fn io(&self) -> FileIO {
        self.io.lock().1.clone()
    }

    /// The store at the plan's bucket and prefix.
    pub(super) fn store(&self, plan: &S3Plan) -> Result<S3Store, StoreError> {
        let location = format!("s3://{}/{}", plan.bucket, plan.prefix);
        let access = self.access(&self.vending.grant(), &location);
        let mut plan = plan.clone();
        if let Access::Store { place, .. } = &access {
            plan.access.path_style |= place.path_style;
        }
        S3Store::with_config(&plan, &self.sdk(&access))
    }

    fn access(&self, grant: &Grant, location: &str) -> Access {
        if location.starts_with("file:") || location.starts_with('/') {
            return Access::Folder;
        }
        let vended = !self.own_keys && grant.keys(location).is_some();
        Access::Store {
            place: grant.place(location),
            vended: vended.then(|| location.to_owned()),
        }
    }

    fn sdk(&self, access: &Access) -> SdkConfig {
        let Access::Store { place, vended } = access else {
            return self.config.clone();
        };
        let mut sdk = self.config.to_builder();
        if let Some(location) = vended {
            let keys = VendedKeys {
                vending: Arc::clone(&self.vending),
                location: location.clone(),
            };
            sdk.set_credentials_provider(Some(SharedCredentialsProvider::new(keys)));
            sdk.set_identity_cache(Some(IdentityCache::no_cache()));
        }
        if !self.own_region
            && let Some(region) = &place.region
        {
            sdk.set_region(Some(Region::new(region.clone())));
        }
        match &place.endpoint {
            Some(endpoint) if !self.own_endpoint => with_endpoint(&sdk.build(), endpoint),
            _ => sdk.build(),
        }
    }
}
