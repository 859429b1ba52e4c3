//! How stores and catalogs are reached: addresses, credentials, how long to wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Property, Secret};

#[derive(Clone, Debug)]
pub struct S3Plan {
    /// Empty when only a REST catalog knows it, once the table is loaded.
    pub bucket: String,
    /// Without leading or trailing slash; may be empty.
    pub prefix: String,
    pub access: S3Access,
    /// Whether the store is trusted to judge preconditions. Else an object is looked at before it is replaced, and two
    /// writers may both believe to have won.
    pub conditional_writes: bool,
    pub encryption: Encryption,
    pub storage_class: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub checksum: Checksum,
    /// Bytes, at least 5 MiB.
    pub part_size: usize,
    /// Parts in flight per process.
    pub upload_concurrency: usize,
    pub timeouts: Timeouts,
}

/// How to reach an AWS service.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// `None`: from the environment.
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub path_style: bool,
    pub credentials: AwsCredentials,
    pub assume_role: Option<AssumeRole>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsCredentials {
    /// Environment, profile, web identity, container, instance: the SDK's chain.
    DefaultChain,
    Static {
        access_key_id: Secret,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    pub role_arn: String,
    pub external_id: Option<String>,
    pub session_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    BucketDefault,
    SseS3,
    SseKms {
        key_id: Option<String>,
        bucket_key: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha256,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub attempt: Duration,
    pub max_attempts: u32,
}

#[derive(Clone, Debug)]
pub struct RestPlan {
    pub uri: String,
    pub warehouse: Option<String>,
    pub auth: RestAuth,
    pub headers: BTreeMap<String, Property>,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestAuth {
    None,
    Bearer(Secret),
    OAuth2 {
        token_uri: Option<String>,
        client_id: Secret,
        client_secret: Secret,
        scope: String,
    },
    SigV4 {
        region: String,
        service: String,
    },
}

/// How Glue is reached, and whose catalog is meant.
#[derive(Clone, Debug)]
pub struct GlueAccess {
    pub access: S3Access,
    /// `None`: the credentials' own account's.
    pub catalog_id: Option<String>,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug)]
pub struct GluePlan {
    pub glue: GlueAccess,
    /// `s3://bucket/prefix` under which new tables are created.
    pub warehouse: String,
}
