//! How far a sink is behind, as the brokers tell it. What is unknown is `None`, never 0.

use crate::conditions::Trouble;

/// The lag of one sink over all its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records below the end of the topics that are not committed.
    pub records: Option<i64>,
    /// Of them, those that no pod has read.
    pub unread: Option<i64>,
    /// Of them, those in open files.
    pub uncommitted: Option<i64>,
    /// Age of the oldest record that is not committed.
    pub seconds: Option<i64>,
    /// The largest lag of one partition.
    pub max_partition: Option<i64>,
    /// Partitions of all the topics.
    pub partitions: Option<u32>,
}

/// One look at the brokers.
pub type Look = Result<Lag, Trouble>;
