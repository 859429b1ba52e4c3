//! How a sink's pods fare, as they tell it themselves: what each answers on `/status`, and the last words of those that
//! ended. Pure; `observer` asks.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use tidewater_runtime::record::TopicPartition;

use crate::conditions::Trouble;
use crate::lag::Standing;

mod live;
pub mod observer;

pub use live::LivePod;
use live::LiveState;

/// What the pods of one sink say, taken together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitState {
    /// Pods that answered.
    pub answered: u32,
    /// Of them, those connected to their destination.
    pub connected: u32,
    /// Of them, those that are connected to no broker.
    pub cut_off: u32,
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
    /// What the pods say of the dataset's table in a catalog, where they keep one.
    pub table: Option<TableWord>,
    /// How large an IcebergTable's metadata are and what to do, where a pod finds them too large.
    pub large_metadata: Option<String>,
    /// What the owners of the partitions know of them.
    pub partitions: BTreeMap<TopicPartition, Standing>,
}

/// A pod's word on the table that it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableWord {
    Synced,
    /// Reason and message.
    Trouble(String, String),
}

/// What the operator reads of a pod's `/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Told {
    /// `<namespace>.<name>`.
    pub sink: String,
    ready: bool,
    brokers_connected: Option<bool>,
    partitions: BTreeMap<String, ToldPartition>,
    commit: ToldCommit,
    table: Option<ToldTable>,
    metadata: Option<ToldMetadata>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToldPartition {
    committed: Option<i64>,
    began: Option<i64>,
    position: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToldTable {
    synced: Option<bool>,
    reason: Option<String>,
    message: Option<String>,
}

impl ToldTable {
    fn word(self) -> Option<TableWord> {
        Some(match self.synced? {
            true => TableWord::Synced,
            false => TableWord::Trouble(
                self.reason.unwrap_or_default(),
                self.message.unwrap_or_default(),
            ),
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToldMetadata {
    snapshots: u64,
    manifests: u64,
    metadata_bytes: u64,
    advice: Option<String>,
}

impl ToldMetadata {
    fn word(self) -> Option<String> {
        let advice = self.advice?;
        Some(format!(
            "{} snapshots, {} manifests, {} MiB of metadata: {advice}",
            self.snapshots,
            self.manifests,
            self.metadata_bytes >> 20
        ))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToldCommit {
    last_commit_id: Option<String>,
    last_commit_time: Option<String>,
    snapshot_id: Option<i64>,
    committed_rows: u64,
    files_in_flight: u64,
    consecutive_failures: u32,
    last_error: Option<String>,
    last_error_reason: Option<String>,
}

/// The page of a process: a pod runs one sink.
#[derive(Debug, Default, Deserialize)]
struct Page {
    sinks: Vec<Told>,
}

/// What a pod answered on `/status`; `None` when it is not what a sink answers.
pub fn told(page: &[u8]) -> Option<Told> {
    serde_json::from_slice::<Page>(page).ok()?.sinks.pop()
}

/// The last words of a pod's sink, written as `<reason>: <message>`, when it ended by itself and has not come back.
pub fn last_words(pod: &LivePod) -> Option<Trouble> {
    let container = pod.container()?;
    if container.ready {
        return None;
    }
    let ended = |state: &LiveState| {
        let ended = state.terminated.clone();
        ended.filter(|ended| ended.exit_code != 0)
    };
    let words = ended(&container.state).or_else(|| ended(&container.last_state))?;
    let message = words.message.unwrap_or_default();
    let message = message.trim();
    Some(match message.split_once(": ") {
        Some((reason, rest)) if !reason.contains(' ') => Trouble::told(reason, rest),
        _ if message.is_empty() => Trouble::told(
            "InternalError",
            format!("the pod ended with exit code {}", words.exit_code),
        ),
        _ => Trouble::told("InternalError", message),
    })
}

/// All pods of a sink together; `None` when none answered and none left last words.
pub fn together(answers: Vec<Told>, words: Vec<Trouble>) -> Option<CommitState> {
    if answers.is_empty() && words.is_empty() {
        return None;
    }
    let mut state = CommitState {
        trouble: words.into_iter().next(),
        ..CommitState::default()
    };
    for pod in answers {
        state.answered += 1;
        state.connected += u32::from(pod.ready);
        state.cut_off += u32::from(pod.brokers_connected == Some(false));
        let commit = pod.commit;
        let at = commit
            .last_commit_time
            .and_then(|at| at.parse::<Timestamp>().ok());
        if at.is_some() && at >= state.last_commit_time {
            state.last_commit_time = at;
            state.last_commit_id = commit.last_commit_id;
            state.snapshot_id = commit.snapshot_id;
        }
        let add = |sum: Option<i64>, n: u64| Some(sum.unwrap_or(0).saturating_add(n as i64));
        state.committed_records = add(state.committed_records, commit.committed_rows);
        state.files_in_flight = add(state.files_in_flight, commit.files_in_flight);
        let failures = i64::from(commit.consecutive_failures);
        // What is in the way of a step that is still being tried again counts as no failure, and is told all the same.
        if (failures > state.consecutive_failures || state.trouble.is_none())
            && let Some(error) = commit.last_error
        {
            let reason = commit.last_error_reason.unwrap_or_default();
            state.trouble = Some(Trouble::told(&reason, error));
        }
        state.consecutive_failures = state.consecutive_failures.max(failures);
        let word = pod.table.and_then(ToldTable::word);
        if !matches!(state.table, Some(TableWord::Trouble(..))) {
            state.table = word.or(state.table);
        }
        let large = pod.metadata.and_then(ToldMetadata::word);
        state.large_metadata = state.large_metadata.or(large);
        for (tp, partition) in pod.partitions {
            let Some(tp) = topic_partition(&tp) else {
                continue;
            };
            let standing: &mut Standing = state.partitions.entry(tp).or_default();
            // While a partition moves two pods may speak of it: the one who knows more has it.
            standing.ledger = standing.ledger.max(partition.committed);
            standing.began = standing.began.max(partition.began);
            standing.position = standing.position.max(partition.position);
        }
    }
    Some(state)
}

/// `<topic>-<partition>`, as the runtime writes it.
fn topic_partition(text: &str) -> Option<TopicPartition> {
    let (topic, partition) = text.rsplit_once('-')?;
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(sink: serde_json::Value) -> Told {
        told(json!({ "sinks": [sink] }).to_string().as_bytes()).unwrap()
    }

    fn pod(container: serde_json::Value) -> LivePod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"containerStatuses": [container]},
        }))
        .unwrap()
    }

    #[test]
    fn pods_are_told_together_by_the_newest_commit_and_the_sum_of_rows() {
        let old = page(json!({
            "ready": true,
            "partitions": {"orders-eu-0": {"committed": 5, "position": 9}},
            "metadata": {"snapshots": 11, "manifests": 7, "metadataBytes": 5},
            "commit": {"lastCommitId": "a", "lastCommitTime": "2026-11-25T01:00:00+00:00", "committedRows": 10, "filesInFlight": 1},
        }));
        let new = page(json!({
            "ready": false, "brokersConnected": false,
            "partitions": {"orders-eu-1": {"committed": null, "began": 3}},
            "metadata": {"snapshots": 12000, "manifests": 7, "metadataBytes": 5 << 20, "advice": "expire"},
            "commit": {"lastCommitId": "b", "lastCommitTime": "2026-11-25T01:00:01.5+00:00", "snapshotId": 7, "committedRows": 32,
                       "consecutiveFailures": 2, "lastError": "no route", "lastErrorReason": "StoreUnavailable"},
        }));
        let state = together(vec![new, old], vec![]).unwrap();
        assert_eq!((state.answered, state.connected, state.cut_off), (2, 1, 1));
        assert_eq!(state.last_commit_id.as_deref(), Some("b"));
        assert_eq!(
            (state.snapshot_id, state.committed_records),
            (Some(7), Some(42))
        );
        assert_eq!(
            (state.files_in_flight, state.consecutive_failures),
            (Some(1), 2)
        );
        assert_eq!(
            state.trouble,
            Some(Trouble::told("StoreUnavailable", "no route"))
        );
        assert_eq!(
            state.large_metadata.as_deref(),
            Some("12000 snapshots, 7 manifests, 5 MiB of metadata: expire")
        );
        let first = state.partitions[&TopicPartition::new("orders-eu", 0)];
        assert_eq!((first.ledger, first.position), (Some(5), Some(9)));
        let second = state.partitions[&TopicPartition::new("orders-eu", 1)];
        assert_eq!((second.ledger, second.began), (None, Some(3)));
        assert_eq!(together(vec![], vec![]), None);
    }

    #[test]
    fn a_pod_of_another_version_is_understood_as_far_as_it_goes() {
        let state = together(vec![page(json!({"new": 1}))], vec![]).unwrap();
        assert_eq!((state.answered, state.connected), (1, 0));
        assert!(told(b"<html>").is_none());
        assert!(told(br#"{"sinks": []}"#).is_none());
    }

    #[test]
    fn the_last_words_of_a_pod_that_keeps_ending_are_heard() {
        let ended = |message: &str, code: i32| {
            json!({"name": "sink", "ready": false, "image": "i", "imageID": "", "restartCount": 1,
                   "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                   "lastState": {"terminated": {"exitCode": code, "message": message}}})
        };
        let words = last_words(&pod(ended("SourceReset: the topic was recreated\n", 1)));
        assert_eq!(
            words,
            Some(Trouble::told("SourceReset", "the topic was recreated"))
        );
        let words = last_words(&pod(ended("", 137))).unwrap();
        assert_eq!(
            words,
            Trouble::told("InternalError", "the pod ended with exit code 137")
        );
        assert_eq!(last_words(&pod(ended("x: y", 0))), None);
        let mut back = ended("SourceReset: x", 1);
        back["ready"] = json!(true);
        assert_eq!(last_words(&pod(back)), None);
        assert_eq!(last_words(&LivePod::default()), None);
    }
}
