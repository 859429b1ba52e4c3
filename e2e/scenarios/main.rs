//! Scenarios on real servers. Each module is named for what it guards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod chart;
mod clock;
mod cluster;
mod commands;
mod dataset;
mod dataset_failpoints;
mod dataset_faults;
mod dataset_glue;
mod dataset_letters;
mod dataset_places;
mod dataset_sink;
mod dataset_sources;
mod dataset_stores;
mod dataset_time;
mod dead_letters;
mod docs;
mod lab;
mod ledger_by_hand;
mod lost_replies;
mod memory;
mod neighbours;
mod operator;
mod partitions;
mod positions;
mod progress;
mod soak;
mod source_identity;
mod table;
mod witness;
