//! Whether the topic that is read is still the one that a ledger speaks of, and what to do where it is not. Pure.

use std::fmt;

use super::LedgerDocument;
use crate::plan::{OnLogTruncated, OnRecordsExpired, OnSourceReset};
use crate::record::{Offset, OffsetRange};

/// What a ledger says of the topic-partition. An id is `None` where none was told when it was written.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    pub cluster_id: Option<&'a str>,
    pub topic_id: Option<&'a str>,
    pub next: Option<Offset>,
}

impl<'a> From<&'a LedgerDocument> for Recorded<'a> {
    fn from(document: &'a LedgerDocument) -> Self {
        Self {
            cluster_id: document.cluster_id.as_deref(),
            topic_id: document.topic_id.as_deref(),
            next: Some(document.next),
        }
    }
}

/// The same and its generation, to tell later whether the ledger still says it: what Kafka was asked after a ledger said
/// so speaks of that ledger and of no later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
    pub next: Option<Offset>,
    pub generation: u64,
}

impl From<&LedgerDocument> for Said {
    fn from(document: &LedgerDocument) -> Self {
        Self {
            cluster_id: document.cluster_id.clone(),
            topic_id: document.topic_id.clone(),
            next: Some(document.next),
            generation: document.generation,
        }
    }
}

/// What Kafka says of the topic-partition now. An id is `None` where the broker does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub cluster_id: Option<&'a str>,
    pub topic_id: Option<&'a str>,
    pub log_start: Offset,
    /// Behind all records, those of open transactions included: what was read before such a transaction began to be
    /// waited for is no sign that the log was cut.
    pub log_end: Offset,
    /// Where the log ended below what is recorded, before it grew to its end of now.
    pub cut: Option<Offset>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceCheck {
    Fine,
    /// Retention removed these offsets before they were read.
    RecordsExpired {
        gap: OffsetRange,
    },
    /// The same topic lost its newest records, some of which the destination holds.
    Truncated {
        end: Offset,
        next: Offset,
    },
    /// The offsets mean something else now.
    Recreated {
        why: Recreation,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recreation {
    Cluster { was: String, is: String },
    Topic { was: String, is: String },
    EndBelowNext { end: Offset, next: Offset },
}

impl fmt::Display for Recreation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { was, is } => write!(f, "cluster id was \"{was}\" and is \"{is}\""),
            Self::Topic { was, is } => write!(f, "topic id was \"{was}\" and is \"{is}\""),
            Self::EndBelowNext { end, next } => {
                write!(
                    f,
                    "the log ends at {end}, below the committed offset {next}"
                )
            }
        }
    }
}

/// An id that either side does not know proves nothing.
pub fn check_source(recorded: Recorded<'_>, origin: &Origin<'_>) -> SourceCheck {
    let changed = |was: Option<&str>, is: Option<&str>| match (was, is) {
        (Some(was), Some(is)) if was != is => Some((was.to_owned(), is.to_owned())),
        _ => None,
    };
    let recreated = |why| SourceCheck::Recreated { why };
    if let Some((was, is)) = changed(recorded.cluster_id, origin.cluster_id) {
        return recreated(Recreation::Cluster { was, is });
    }
    if let Some((was, is)) = changed(recorded.topic_id, origin.topic_id) {
        return recreated(Recreation::Topic { was, is });
    }
    let Some(next) = recorded.next else {
        return SourceCheck::Fine;
    };
    // Without an id on both sides a topic made anew looks the same, and that is the more dangerous of the two.
    let same = recorded.topic_id.is_some() && recorded.topic_id == origin.topic_id;
    let cut = origin.cut.filter(|cut| same && *cut < origin.log_end);
    let end = cut.unwrap_or(origin.log_end);
    if end < next {
        return match same {
            true => SourceCheck::Truncated { end, next },
            false => recreated(Recreation::EndBelowNext { end, next }),
        };
    }
    if origin.log_start > next {
        let gap = OffsetRange {
            start: next,
            end: origin.log_start,
        };
        return SourceCheck::RecordsExpired { gap };
    }
    SourceCheck::Fine
}

/// How to go on after a check that was not fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Raise a condition and read nothing until the user chose.
    Stop,
    /// Reset the ledger to this offset, in a new generation, and read on there.
    ResetTo(Offset),
}

impl Recreation {
    /// Whether the topic id that the brokers tell now is that of the new topic. Where only the log told, the brokers may
    /// not have agreed on the new one yet: the next commit learns it.
    pub fn knows_topic(&self) -> bool {
        !matches!(self, Self::EndBelowNext { .. })
    }

    /// A new topic is read from its start.
    pub fn resume(&self, policy: OnSourceReset, log_start: Offset) -> Resume {
        match policy {
            OnSourceReset::Stop => Resume::Stop,
            OnSourceReset::Restart => Resume::ResetTo(log_start),
        }
    }
}

/// Retention removed records. Skipping closes the gap in the ledger itself, so that no stale owner fills it.
pub fn after_expiry(policy: OnRecordsExpired, log_start: Offset) -> Resume {
    match policy {
        OnRecordsExpired::Stop => Resume::Stop,
        OnRecordsExpired::Skip => Resume::ResetTo(log_start),
    }
}

/// Kafka lost records that the destination holds: they stay there. `end`: where the log was cut, or where it ends, where
/// that is not known; what was written to it since it was cut, below its end, cannot be told from them then.
pub fn after_truncation(policy: OnLogTruncated, end: Offset) -> Resume {
    match policy {
        OnLogTruncated::Stop => Resume::Stop,
        OnLogTruncated::Continue => Resume::ResetTo(end),
    }
}

/// What to say of a log that was cut.
pub fn truncation(end: Offset, next: Offset, origin: &Origin<'_>) -> String {
    let log_end = origin.log_end;
    let (how, since) = match log_end > end {
        true => ("was cut at", format!(", and has grown to {log_end} since")),
        false => ("ends at", String::new()),
    };
    format!("the log {how} {end}, below the committed offset {next}{since}: Kafka lost records")
}

/// What is wrong with an offset, chosen by the user or the group, that a partition without a ledger is to start at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstCheck {
    Fine,
    Expired { gap: OffsetRange },
    BeyondEnd,
}

pub fn check_first(at: Offset, log_start: Offset, log_end: Offset) -> FirstCheck {
    if at < log_start {
        let gap = OffsetRange {
            start: at,
            end: log_start,
        };
        FirstCheck::Expired { gap }
    } else if at > log_end {
        FirstCheck::BeyondEnd
    } else {
        FirstCheck::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::document::Entry;
    use crate::ledger::{CommitId, Stamp};
    use crate::record::TopicPartition;

    /// Holds `[0, 10)` of topic `t1` in cluster `c1`.
    fn document() -> LedgerDocument {
        let entry = Entry {
            range: OffsetRange {
                start: Offset(0),
                end: Offset(10),
            },
            floor: Offset(0),
            last_read: None,
            commit_id: CommitId(uuid::Uuid::nil()),
            files: &[],
            cluster_id: Some("c1"),
            topic_id: Some("t1"),
        };
        let stamp = Stamp {
            writer: String::new(),
            written_at: String::new(),
        };
        let tp = TopicPartition::new("orders", 0);
        LedgerDocument::committed(None, "s", &tp, entry, &stamp)
    }

    fn check(cluster: Option<&str>, topic: Option<&str>, start: i64, end: i64) -> SourceCheck {
        let origin = Origin {
            cluster_id: cluster,
            topic_id: topic,
            log_start: Offset(start),
            log_end: Offset(end),
            cut: None,
        };
        check_source(Recorded::from(&document()), &origin)
    }

    #[test]
    fn the_same_topic_is_fine_also_where_ids_are_unknown() {
        for (cluster, topic) in [(Some("c1"), Some("t1")), (None, None)] {
            assert_eq!(check(cluster, topic, 0, 10), SourceCheck::Fine);
            assert_eq!(check(cluster, topic, 10, 50), SourceCheck::Fine);
        }
    }

    // T15
    #[test]
    fn a_recreated_cluster_or_topic_is_told_by_id_or_by_an_end_below_next() {
        let why = |check| match check {
            SourceCheck::Recreated { why } => why.to_string(),
            other => format!("{other:?}"),
        };
        assert!(why(check(Some("c2"), Some("t1"), 0, 99)).contains("cluster id was \"c1\""));
        assert!(why(check(Some("c1"), Some("t2"), 0, 99)).contains("is \"t2\""));
        assert!(why(check(None, None, 0, 9)).contains("ends at 9, below"));
    }

    // T15
    #[test]
    fn a_recreated_topic_is_told_by_its_id_also_for_a_partition_that_was_never_read() {
        let recorded = Recorded {
            cluster_id: Some("c1"),
            topic_id: Some("t1"),
            next: None,
        };
        let check = |topic_id| {
            let origin = Origin {
                cluster_id: Some("c1"),
                topic_id,
                log_start: Offset(3),
                log_end: Offset(9),
                cut: None,
            };
            check_source(recorded, &origin)
        };
        assert_eq!(check(Some("t1")), SourceCheck::Fine);
        assert_eq!(check(None), SourceCheck::Fine);
        let SourceCheck::Recreated { why } = check(Some("t2")) else {
            unreachable!("{:?}", check(Some("t2")));
        };
        assert!(why.knows_topic());
    }

    // T15
    #[test]
    fn a_shorter_log_of_the_very_same_topic_was_truncated_and_is_not_another() {
        let truncated = SourceCheck::Truncated {
            end: Offset(7),
            next: Offset(10),
        };
        assert_eq!(check(Some("c1"), Some("t1"), 0, 7), truncated);
        for (cluster, topic) in [(Some("c1"), None), (Some("c1"), Some("t2")), (None, None)] {
            let found = check(cluster, topic, 0, 7);
            let another = matches!(found, SourceCheck::Recreated { .. });
            assert!(another, "{topic:?}: {found:?}");
        }
        let go_on = after_truncation(OnLogTruncated::Continue, Offset(7));
        assert_eq!(go_on, Resume::ResetTo(Offset(7)));
        let stop = after_truncation(OnLogTruncated::Stop, Offset(7));
        assert_eq!(stop, Resume::Stop);
    }

    // T15
    #[test]
    fn a_cut_counts_where_it_is_below_what_was_committed_in_the_very_same_topic() {
        let check = |topic_id, cut: Option<i64>, end: i64| {
            let origin = Origin {
                cluster_id: Some("c1"),
                topic_id,
                log_start: Offset(0),
                log_end: Offset(end),
                cut: cut.map(Offset),
            };
            check_source(Recorded::from(&document()), &origin)
        };
        let truncated = SourceCheck::Truncated {
            end: Offset(7),
            next: Offset(10),
        };
        assert_eq!(check(Some("t1"), Some(7), 50), truncated);
        for (topic_id, cut) in [(Some("t1"), None), (Some("t1"), Some(10)), (None, Some(7))] {
            assert_eq!(check(topic_id, cut, 50), SourceCheck::Fine);
        }
    }

    #[test]
    fn a_first_offset_may_be_anywhere_in_the_log_its_end_included() {
        let check = |at| check_first(Offset(at), Offset(3), Offset(9));
        let gap = OffsetRange {
            start: Offset(2),
            end: Offset(3),
        };
        assert_eq!(check(2), FirstCheck::Expired { gap });
        assert_eq!((check(3), check(9)), (FirstCheck::Fine, FirstCheck::Fine));
        assert_eq!(check(10), FirstCheck::BeyondEnd);
    }

    // T25
    #[test]
    fn records_that_expired_unread_are_a_gap_with_bounds() {
        let gap = OffsetRange {
            start: Offset(10),
            end: Offset(30),
        };
        assert_eq!(
            check(None, None, 30, 99),
            SourceCheck::RecordsExpired { gap }
        );
    }

    #[test]
    fn nothing_is_skipped_or_restarted_unless_the_user_chose_it() {
        let why = Recreation::EndBelowNext {
            end: Offset(1),
            next: Offset(2),
        };
        assert_eq!(why.resume(OnSourceReset::Stop, Offset(0)), Resume::Stop);
        let restart = why.resume(OnSourceReset::Restart, Offset(5));
        assert_eq!(restart, Resume::ResetTo(Offset(5)));
        assert_eq!(
            after_expiry(OnRecordsExpired::Stop, Offset(5)),
            Resume::Stop
        );
        let skip = after_expiry(OnRecordsExpired::Skip, Offset(5));
        assert_eq!(skip, Resume::ResetTo(Offset(5)));
    }
}
