//! Drives the ledger against stores and catalogs: stages, publishes, retries.

pub mod iceberg;
