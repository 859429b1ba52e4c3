//! Where files go: S3 (or what speaks its language) and local folders, and how an AWS service is reached.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{ByteSize, TimeSpan};
use crate::secret::FromSecret;

/// Where a dataset's files go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.s3) != has(self.local)").message("give exactly one of s3 and local").field_path(".s3"))]
#[x_kube(validation = Rule::new("has(self.s3) == has(oldSelf.s3)").message("the destination cannot be changed: create a new resource").field_path(".s3"))]
pub struct DestinationSpec {
    /// A bucket of S3 or of a store that speaks its language. Example: `{bucket: lake, prefix: raw/orders, region:
    /// eu-west-1}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Spec>,
    /// A folder, for use on one machine. Example: `{path: /var/lib/tidewater/orders}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalSpec>,
}

/// A folder on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalSpec {
    /// Path of the folder; made when missing. Cannot be changed. Example: `/var/lib/tidewater/orders`.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the destination cannot be changed: create a new resource"))]
    pub path: String,
}

/// How files are written to S3: borrowed from whichever spec holds them.
#[derive(Clone, Copy, Debug)]
pub struct S3Options<'a> {
    pub region: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub path_style: bool,
    pub credentials: Option<&'a CredentialsSpec>,
    pub assume_role: Option<&'a AssumeRoleSpec>,
    pub encryption: &'a EncryptionSpec,
    pub storage_class: Option<&'a str>,
    pub tags: &'a BTreeMap<String, String>,
    pub checksum: Checksum,
    pub part_size: ByteSize,
    pub upload_concurrency: u32,
    pub timeouts: &'a TimeoutsSpec,
}

// A dataset names its bucket and a table's warehouse does not; everything else is the same. Flattening one struct into
// the other would lose the refusal of unknown fields.
macro_rules! s3_spec {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// Region. Default: from the environment. Example: `eu-west-1`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 64))]
            pub region: Option<String>,
            /// URL of the store, when it is not AWS. Default: the region's. Example: `http://minio.lake:9000`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://"))]
            pub endpoint: Option<String>,
            /// Whether the bucket stands in the URL's path instead of its host; most other stores than AWS want it.
            /// Example: `true`.
            #[serde(default)]
            pub path_style: bool,
            /// Fixed credentials. Default: the SDK's chain (environment, profile, web identity, container, instance).
            /// Example: `{accessKeyId: {secretKeyRef: {name: lake, key: id}}, secretAccessKey: {secretKeyRef: {name:
            /// lake, key: secret}}}`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub credentials: Option<CredentialsSpec>,
            /// Role to take on with these credentials. Example: `{roleArn: "arn:aws:iam::123456789012:role/lake"}`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub assume_role: Option<AssumeRoleSpec>,
            /// Server-side encryption. Example: `{type: SseKms, keyId: alias/lake}`.
            #[serde(default)]
            pub encryption: EncryptionSpec,
            /// Storage class of the objects. Default: the bucket's. Example: `INTELLIGENT_TIERING`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Z0-9_]+$"))]
            pub storage_class: Option<String>,
            /// Tags of the objects, ten at the most. Example: `{team: sales}`.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            #[schemars(extend("maxProperties" = 10))]
            pub tags: BTreeMap<String, String>,
            /// Checksum that travels with each part: `Crc32`, `Crc32c`, `Crc64Nvme`, `Sha256` or `None`. Example:
            /// `Sha256`.
            #[serde(default)]
            pub checksum: Checksum,
            /// Bytes of one part of an upload, at least 5Mi. Example: `16Mi`.
            #[serde(default = "part_size")]
            pub part_size: ByteSize,
            /// Parts in flight per process. Example: `16`.
            #[serde(default = "upload_concurrency")]
            #[schemars(range(min = 1, max = 256))]
            pub upload_concurrency: u32,
            /// How long to wait and how often to try. Example: `{attempt: 10s}`.
            #[serde(default)]
            pub timeouts: TimeoutsSpec,
        }

        impl $name {
            pub fn options(&self) -> S3Options<'_> {
                S3Options {
                    region: self.region.as_deref(),
                    endpoint: self.endpoint.as_deref(),
                    path_style: self.path_style,
                    credentials: self.credentials.as_ref(),
                    assume_role: self.assume_role.as_ref(),
                    encryption: &self.encryption,
                    storage_class: self.storage_class.as_deref(),
                    tags: &self.tags,
                    checksum: self.checksum,
                    part_size: self.part_size,
                    upload_concurrency: self.upload_concurrency,
                    timeouts: &self.timeouts,
                }
            }
        }
    };
}

s3_spec! {
    /// A bucket of S3, or of a store that speaks its language.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
    S3Spec {
        /// Bucket. Cannot be changed. Example: `lake`.
        #[schemars(length(min = 3, max = 63))]
        #[x_kube(validation = Rule::new("self == oldSelf").message("the destination cannot be changed: create a new resource"))]
        #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$')").message("use lower case letters, digits, '.' and '-', with a letter or digit at each end"))]
        pub bucket: String,
        /// Folder in the bucket, without slashes at its ends. Cannot be changed. Example: `raw/orders`.
        #[serde(default)]
        #[schemars(length(max = 512))]
        #[x_kube(validation = Rule::new("self == oldSelf").message("the destination cannot be changed: create a new resource"))]
        #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')").message("give it without slashes at its ends and without empty parts"))]
        pub prefix: String,
    }
}

s3_spec! {
    /// How a table's files are written to S3.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    WarehouseS3Spec {}
}

impl Default for WarehouseS3Spec {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            path_style: false,
            credentials: None,
            assume_role: None,
            encryption: EncryptionSpec::default(),
            storage_class: None,
            tags: BTreeMap::new(),
            checksum: Checksum::default(),
            part_size: part_size(),
            upload_concurrency: upload_concurrency(),
            timeouts: TimeoutsSpec::default(),
        }
    }
}

fn part_size() -> ByteSize {
    ByteSize::mebibytes(8)
}

fn upload_concurrency() -> u32 {
    8
}

/// Fixed AWS credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialsSpec {
    /// Access key id. Example: `{secretKeyRef: {name: lake, key: accessKeyId}}`.
    pub access_key_id: FromSecret,
    /// Secret access key. Example: `{secretKeyRef: {name: lake, key: secretAccessKey}}`.
    pub secret_access_key: FromSecret,
    /// Session token of temporary credentials. Example: `{secretKeyRef: {name: lake, key: sessionToken}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<FromSecret>,
}

/// A role to take on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssumeRoleSpec {
    /// ARN of the role. Example: `arn:aws:iam::123456789012:role/lake-writer`.
    #[schemars(length(min = 20, max = 2048), regex(pattern = "^arn:"))]
    pub role_arn: String,
    /// External id that the role's trust policy asks for. Example: `lake-42`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
    /// Name of the session in audit logs. Default: `<namespace>.<name>` of the resource. Example: `orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 64), regex(pattern = "^[A-Za-z0-9_+=,.@-]+$"))]
    pub session_name: Option<String>,
}

/// Server-side encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.keyId) || self.type == 'SseKms'").message("keyId goes with type: SseKms only").field_path(".keyId"))]
#[x_kube(validation = Rule::new("!has(self.bucketKey) || self.type == 'SseKms'").message("bucketKey goes with type: SseKms only").field_path(".bucketKey"))]
pub struct EncryptionSpec {
    /// `BucketDefault`, `SseS3` or `SseKms`. Example: `SseKms`.
    #[serde(default, rename = "type")]
    pub type_: EncryptionType,
    /// KMS key: id, ARN or alias. Default: the account's key for S3. Example: `alias/lake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub key_id: Option<String>,
    /// With `SseKms`: whether a key of the bucket spares calls to KMS. Default: `true`. Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_key: Option<bool>,
}

/// Kinds of server-side encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncryptionType {
    #[default]
    BucketDefault,
    SseS3,
    SseKms,
}

/// Checksum that travels with each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Checksum {
    #[default]
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha256,
    None,
}

/// How long to wait for an answer and how often to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeoutsSpec {
    /// Longest wait for a connection. Example: `2s`.
    #[serde(default = "connect")]
    pub connect: TimeSpan,
    /// Longest time of one attempt of a call. Example: `10s`.
    #[serde(default = "attempt")]
    pub attempt: TimeSpan,
    /// Attempts of a call, the first included. Example: `3`.
    #[serde(default = "max_attempts")]
    #[schemars(range(min = 1, max = 20))]
    pub max_attempts: u32,
}

impl Default for TimeoutsSpec {
    fn default() -> Self {
        Self {
            connect: connect(),
            attempt: attempt(),
            max_attempts: max_attempts(),
        }
    }
}

fn connect() -> TimeSpan {
    TimeSpan::seconds(5)
}

fn attempt() -> TimeSpan {
    TimeSpan::seconds(30)
}

fn max_attempts() -> u32 {
    5
}
