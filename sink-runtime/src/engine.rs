//! One sink at work.
pub mod coordinator;
