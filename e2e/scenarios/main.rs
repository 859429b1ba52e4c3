//! Scenarios on real servers. Each module is named for what it guards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod commands;
mod dataset;
mod dataset_failpoints;
mod dataset_sink;
mod docs;
mod lab;
mod soak;
mod table;
