//! `spec.pod`: the process that does the work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::ByteSize;

/// What the process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// Memory for records on their way: fetched, being decoded, in open files, being uploaded. Default: three quarters
    /// of the container's memory limit, shared by the sinks of the process; `256Mi` where there is no limit. Example:
    /// `512Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<ByteSize>,
    /// Threads that decode and encode. Default: one per core. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u32>,
}
