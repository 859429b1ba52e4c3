//! The operator: runs `KafkaS3Sink` and `IcebergTable` resources in a cluster, and tells in their status what is true.
//! fetch (client) → validate (pure) → build (pure) → apply (client) → status (pure, then client); see `controller`.

pub mod cli;
pub mod conditions;
pub mod controller;
pub mod errors;
pub mod events;
pub mod external_metrics;
pub mod http;
pub mod lag;
pub mod lease;
pub mod metrics;
pub mod observations;
pub mod pods;
pub mod settings;
#[cfg(test)]
mod snapshot;
pub mod watching;

pub use k8s_openapi::jiff;
