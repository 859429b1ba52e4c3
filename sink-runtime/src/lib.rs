//! The sink runtime: Kafka topics into S3 datasets and Iceberg tables, exactly once.
//! Modules stand in the order that data flows; see `docs/concepts.md`.

pub mod allocators;
#[cfg(feature = "cloud")]
pub mod aws;
pub mod backoff;
pub mod budget;
pub mod catalog;
pub mod cgroup;
pub mod cli;
pub mod commit;
pub mod deadletter;
pub mod decode;
pub mod engine;
pub mod errors;
pub mod failpoint;
pub mod files;
pub mod layout;
pub mod ledger;
pub mod observe;
pub mod plan;
pub mod reach;
pub mod record;
pub mod schema;
pub mod sink;
pub mod source;
pub mod store;
#[cfg(test)]
mod varied;
