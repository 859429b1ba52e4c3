//! One sink at work.
pub mod coordinator;
pub mod worker;
