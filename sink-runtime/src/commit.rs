//! Drives the ledger against stores and catalogs: retries, recovery, publishing of progress.

pub mod backoff;
pub mod dataset;
pub mod iceberg;
