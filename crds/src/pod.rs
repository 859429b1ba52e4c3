//! `spec.pod`: the process that does the work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::ByteSize;

/// What the process may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// Memory for records on their way: fetched, being decoded, in open files, being uploaded. Example: `512Mi`.
    #[serde(default = "memory_budget")]
    pub memory_budget: ByteSize,
    /// Threads that decode and encode. Default: one per core. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u32>,
}

impl Default for PodSpec {
    fn default() -> Self {
        Self {
            memory_budget: memory_budget(),
            workers: None,
        }
    }
}

fn memory_budget() -> ByteSize {
    ByteSize::mebibytes(256)
}
