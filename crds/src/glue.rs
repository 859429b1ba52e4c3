//! `spec.glue`: the table of the AWS Glue Data Catalog that shows a dataset to Athena, Spark and others.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parquet::yes;
use crate::quantity::TimeSpan;
use crate::store::{AssumeRoleSpec, CredentialsSpec, TimeoutsSpec};

/// The table of the AWS Glue Data Catalog that shows a dataset to Athena, Spark and others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.projection) || self.partitions == 'Projection'").message("projection goes with partitions: Projection only").field_path(".projection"))]
pub struct GlueTableSpec {
    /// Database. Example: `raw`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9_-]+$')").message("use lower case letters, digits, _ and - only"))]
    pub database: String,
    /// Name of the table. Default: made from the topic, when the sink reads exactly one. Example: `orders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9_-]+$')").message("use lower case letters, digits, _ and - only"))]
    pub table: Option<String>,
    /// Whether a missing database is made. Example: `true`.
    #[serde(default)]
    pub create_database: bool,
    /// Whether a table is taken over that exists already and that no sink made. Example: `true`.
    #[serde(default)]
    pub adopt: bool,
    /// How readers learn of folders: `Register` (each folder becomes a partition of the table), `Projection` (readers
    /// compute them) or `None` (somebody else registers them). Example: `Projection`.
    #[serde(default)]
    pub partitions: GluePartitions,
    /// With `Projection`: what readers cannot know by themselves. Example: `{since: "2026-01-01", columns: {country:
    /// {values: [ES, FR]}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<ProjectionSpec>,
    /// What may be changed in the table's columns to show the records. Example: `{addColumns: false}`.
    #[serde(default)]
    pub evolution: GlueEvolutionSpec,
    /// How often table and partitions are compared with the dataset's folders, and what is missing is registered again.
    /// Example: `15m`.
    #[serde(default = "repair_interval")]
    pub repair_interval: TimeSpan,
    /// What becomes of the table when the resource is deleted from a cluster: `Retain`, or `Delete` (only if a sink made
    /// it; the files stay). Example: `Delete`.
    #[serde(default)]
    pub deletion_policy: GlueDeletionPolicy,
    /// Account whose catalog it is. Default: the credentials' own. Example: `123456789012`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub catalog_id: Option<String>,
    /// Region. Default: that of `destination.s3`. Example: `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// URL of the service, when it is not AWS's own. Default: the region's. Example: `http://127.0.0.1:4566`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// Fixed credentials. Default: those of `destination.s3`. Example: `{accessKeyId: {secretKeyRef: {name: glue, key:
    /// id}}, secretAccessKey: {secretKeyRef: {name: glue, key: secret}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// Role to take on with these credentials. Default: with `destination.s3`'s credentials also its role. Example:
    /// `{roleArn: "arn:aws:iam::123456789012:role/catalog"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRoleSpec>,
    /// How long to wait and how often to try. Example: `{attempt: 10s}`.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
}

fn repair_interval() -> TimeSpan {
    TimeSpan::seconds(3600)
}

/// How readers of a Glue table learn of folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GluePartitions {
    #[default]
    Register,
    Projection,
    None,
}

/// What becomes of a Glue table with its resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GlueDeletionPolicy {
    #[default]
    Retain,
    Delete,
}

/// What may be changed in a Glue table's columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlueEvolutionSpec {
    /// Whether columns may be added. Example: `false`.
    #[serde(default = "yes")]
    pub add_columns: bool,
    /// Whether a column's type may be widened: `int` to `bigint`, `float` to `double`, `decimal` to more digits; with
    /// JSON files also any simple type to `string`. Example: `false`.
    #[serde(default = "yes")]
    pub widen: bool,
}

impl Default for GlueEvolutionSpec {
    fn default() -> Self {
        Self {
            add_columns: true,
            widen: true,
        }
    }
}

/// What readers that compute partitions cannot know by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectionSpec {
    /// First day of the folders by time; the last is tomorrow. Example: `2026-01-01`.
    #[serde(default = "since")]
    #[schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub since: String,
    /// Values of the folders by column, by the folder's label. Default: readers must give the value of each (`injected`).
    /// Example: `{country: {values: [ES, FR]}, shard: {min: 0, max: 15}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub columns: BTreeMap<String, ProjectedValuesSpec>,
}

fn since() -> String {
    "2020-01-01".to_owned()
}

/// Values that folders by a column may have: a list, or a range of whole numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.values) != (has(self.min) && has(self.max))").message("give values, or min and max").field_path(".values"))]
pub struct ProjectedValuesSpec {
    /// Every value. Example: `[ES, FR]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub values: Option<Vec<String>>,
    /// Least whole number. Example: `0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Greatest whole number. Example: `15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}
