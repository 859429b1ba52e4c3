//! How a sink's pods fare, as they tell it themselves.

use k8s_openapi::jiff::Timestamp;

use crate::conditions::Trouble;

/// What the pods of one sink say, taken together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitState {
    /// Pods that answered.
    pub answered: u32,
    /// Of them, those connected to their destination.
    pub connected: u32,
    pub last_commit_time: Option<Timestamp>,
    pub last_commit_id: Option<String>,
    pub snapshot_id: Option<i64>,
    /// Since the pods started.
    pub committed_records: Option<i64>,
    pub files_in_flight: Option<i64>,
    /// The most of any pod.
    pub consecutive_failures: i64,
    /// What stands in a pod's way, by its status or by its last words.
    pub trouble: Option<Trouble>,
}
