//! `spec.catalog` and the rest of what is particular to tables.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::max_consecutive_failures;
use crate::parquet::yes;
use crate::quantity::{ByteSize, TimeSpan};
use crate::secret::{FromSecret, MaybeSecret};
use crate::store::{AssumeRoleSpec, CredentialsSpec, TimeoutsSpec, WarehouseS3Spec};

/// The catalog that knows the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.local), has(self.rest), has(self.glue)].filter(c, c).size() == 1").message("give exactly one of local, rest and glue").field_path(".rest"))]
#[x_kube(validation = Rule::new("has(self.local) == has(oldSelf.local) && has(self.rest) == has(oldSelf.rest) && has(self.glue) == has(oldSelf.glue)").message("the kind of catalog cannot be changed: create a new resource").field_path(".rest"))]
pub struct CatalogSpec {
    /// A folder with metadata and data, for use on one machine. Example: `{path: /var/lib/tidewater/warehouse}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalCatalogSpec>,
    /// A server that speaks the Iceberg REST protocol. Example: `{uri: "http://catalog:8181", warehouse: lake}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<RestSpec>,
    /// AWS Glue. Example: `{region: eu-west-1, warehouse: "s3://lake/warehouse"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glue: Option<GlueSpec>,
}

/// A catalog in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalCatalogSpec {
    /// Path of the folder; made when missing. Cannot be changed. Example: `/var/lib/tidewater/warehouse`.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the warehouse cannot be changed: create a new resource"))]
    pub path: String,
}

/// A server that speaks the Iceberg REST protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestSpec {
    /// URL of the catalog, without `/v1`. Example: `https://catalog.example.com/iceberg`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://"))]
    pub uri: String,
    /// Warehouse, for catalogs that hold several. Example: `lake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub warehouse: Option<String>,
    /// Who we are. Default: nobody. Example: `{bearer: {token: {secretKeyRef: {name: catalog, key: token}}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RestAuthSpec>,
    /// Headers sent with every request. Example: `{X-Tenant: {value: sales}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub headers: BTreeMap<String, MaybeSecret>,
    /// How long to wait and how often to try. Example: `{attempt: 10s}`.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
}

/// Who we are to a REST catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.bearer), has(self.oauth2), has(self.sigV4)].filter(a, a).size() == 1").message("give exactly one of bearer, oauth2 and sigV4").field_path(".bearer"))]
pub struct RestAuthSpec {
    /// A fixed token. Example: `{token: {secretKeyRef: {name: catalog, key: token}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<BearerSpec>,
    /// OAuth2 client credentials; tokens are renewed. Example: `{clientId: {secretKeyRef: {name: catalog, key: id}},
    /// clientSecret: {secretKeyRef: {name: catalog, key: secret}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Spec>,
    /// AWS signatures with the credentials of the environment, for S3 Tables and Glue's REST endpoint. Example:
    /// `{region: eu-west-1, service: glue}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig_v4: Option<SigV4Spec>,
}

/// A fixed token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BearerSpec {
    /// The token. Example: `{secretKeyRef: {name: catalog, key: token}}`.
    pub token: FromSecret,
}

/// OAuth2 client credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OAuth2Spec {
    /// URL that gives tokens. Default: `<uri>/v1/oauth/tokens`. Example: `https://login.example.com/token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://"))]
    pub token_uri: Option<String>,
    /// Client id. Example: `{secretKeyRef: {name: catalog, key: clientId}}`.
    pub client_id: FromSecret,
    /// Client secret. Example: `{secretKeyRef: {name: catalog, key: clientSecret}}`.
    pub client_secret: FromSecret,
    /// Scope asked for. Example: `PRINCIPAL_ROLE:ALL`.
    #[serde(default = "scope")]
    #[schemars(length(min = 1, max = 1024))]
    pub scope: String,
}

fn scope() -> String {
    "catalog".to_owned()
}

/// AWS signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigV4Spec {
    /// Region signed for. Example: `eu-west-1`.
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// Service signed for: `glue`, `s3tables` or `execute-api`. Example: `s3tables`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub service: String,
}

/// AWS Glue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlueSpec {
    /// `s3://bucket/prefix` under which new tables are made. Example: `s3://lake/warehouse`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^s3://"))]
    pub warehouse: String,
    /// Account whose catalog it is. Default: the credentials' own. Example: `123456789012`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub catalog_id: Option<String>,
    /// Region. Default: from the environment. Example: `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// URL of the service, when it is not AWS's own. Default: the region's. Example: `http://127.0.0.1:4566`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// Fixed credentials. Default: the SDK's chain (environment, profile, web identity, container, instance). Example:
    /// `{accessKeyId: {secretKeyRef: {name: glue, key: id}}, secretAccessKey: {secretKeyRef: {name: glue, key:
    /// secret}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// Role to take on with these credentials. Example: `{roleArn: "arn:aws:iam::123456789012:role/lake"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRoleSpec>,
    /// How long to wait and how often to try. Example: `{attempt: 10s}`.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
}

/// The store of a table's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageSpec {
    /// How files are written to S3, metadata and data alike; the bucket is the warehouse's. Without `credentials` and
    /// `assumeRole`, those that a REST catalog vends go before the environment's. Example: `{region: eu-west-1,
    /// partSize: 16Mi}`.
    pub s3: WarehouseS3Spec,
}

/// What may be changed in an existing table to hold the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvolutionSpec {
    /// Whether columns may be added. Where not, a record with a field that the table has not goes by `onError` with
    /// `value.infer`, and a declared column stops the sink. Example: `false`.
    #[serde(default = "yes")]
    pub add_columns: bool,
    /// Whether a column's type may be widened: `int` to `long`, `float` to `double`, `decimal` to more digits. Example:
    /// `false`.
    #[serde(default = "yes")]
    pub widen: bool,
    /// Whether a required column may be made optional. Example: `false`.
    #[serde(default = "yes")]
    pub make_optional: bool,
    /// Whether a column that somebody renamed or dropped in the table is added again, under a new id, when records bring its
    /// old name. Otherwise such a record does not fit (`onError`), and a resource that declares such a column is refused.
    /// Example: `true`.
    #[serde(default)]
    pub recreate_columns: bool,
}

impl Default for EvolutionSpec {
    fn default() -> Self {
        Self {
            add_columns: true,
            widen: true,
            make_optional: true,
            recreate_columns: false,
        }
    }
}

/// What becomes of what was made for a resource when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It goes.
    Delete,
}

/// The table was rolled back, or dropped and made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDestinationReset {
    /// Stop and say so.
    #[default]
    Stop,
    /// Read again from what the table holds now.
    Reread,
    /// Go on from the recorded offsets and leave the hole.
    Continue,
}

/// When a table's commit is due. The first rule that holds decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableCommitSpec {
    /// Time since the first record, 6 days at most; how late a record may be visible. Example: `5m`.
    #[serde(default = "interval")]
    #[x_kube(validation = Rule::new("self.matches('[1-9]')").message("give more than 0s"))]
    pub interval: TimeSpan,
    /// Bytes written since the last commit. Default: no limit. Example: `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Records written since the last commit. Default: no limit. Example: `1000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_records: Option<u64>,
    /// Failures in a row of one commit before the sink stops and starts afresh; what waiting may mend is waited for.
    /// Example: `10`.
    #[serde(default = "max_consecutive_failures")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_consecutive_failures: u32,
}

impl Default for TableCommitSpec {
    fn default() -> Self {
        Self {
            interval: interval(),
            max_bytes: None,
            max_records: None,
            max_consecutive_failures: max_consecutive_failures(),
        }
    }
}

fn interval() -> TimeSpan {
    TimeSpan::seconds(60)
}
