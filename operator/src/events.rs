//! Events: which changes of conditions are told (pure), and telling them. The recorder is shared, since it counts repeats
//! instead of telling them again.

use std::fmt::Write;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::conditions::{self, Concern, Finding, State, Tell, shortened};
use crate::controller::table::News;

/// Longest note, in bytes: the API server's own bound.
const LONGEST: usize = 1024;
const ACTION: &str = "Reconcile";
/// Reasons of the events that tell of no condition.
const DRIFT: &str = "DriftRepaired";
const TABLE_CREATED: &str = "TableCreated";
const TABLE_CHANGED: &str = "TableChanged";
const TABLE_DROPPED: &str = "TableDropped";
const TABLE_KEPT: &str = "TableKept";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
}

/// The operator put right what somebody else had changed.
pub fn drift(objects: &[String]) -> Option<Notice> {
    (!objects.is_empty()).then(|| Notice {
        warning: false,
        reason: DRIFT,
        note: format!("put back: {}", objects.join(", ")),
    })
}

/// The operator made the table, or changed it to what the spec says.
pub fn table_news(news: &News) -> Notice {
    let (reason, note) = match news {
        News::Created(table) => (TABLE_CREATED, format!("table {table} was made")),
        News::Changed(steps) => (TABLE_CHANGED, steps.join("; ")),
    };
    Notice {
        warning: false,
        reason,
        note,
    }
}

/// The table went with its resource.
pub fn table_dropped(table: &str) -> Notice {
    Notice {
        warning: false,
        reason: TABLE_DROPPED,
        note: format!("table {table} was dropped from its catalog"),
    }
}

/// The table stays though its resource goes.
pub fn table_kept(table: &str, why: &str) -> Notice {
    Notice {
        warning: true,
        reason: TABLE_KEPT,
        note: format!("table {table} is not dropped: {why}"),
    }
}

/// What is to be told of conditions that were `before` and are found so now.
pub fn transitions(before: &[Condition], findings: &[Finding]) -> Vec<Notice> {
    let mut notices = Vec::new();
    for finding in findings {
        let old = before
            .iter()
            .find(|old| old.type_ == finding.concern().name());
        let same = |old: &Condition| {
            old.status == finding.state().name() && old.reason == finding.reason()
        };
        if old.is_some_and(same) {
            continue;
        }
        let row = conditions::all()
            .find(|row| row.concern == finding.concern() && row.reason == finding.reason());
        // None where `Ready` has another condition's reason: that condition tells.
        let tell = row.map_or(Tell::Nothing, |row| row.tell);
        let was_false = old.is_some_and(|old| old.status == State::False.name());
        let told = match tell {
            Tell::Nothing => false,
            Tell::Recovery => was_false,
            // Still ready, whatever the reason: nothing happened.
            Tell::Normal if finding.concern() == Concern::Ready => {
                old.is_none_or(|old| old.status != finding.state().name())
            }
            Tell::Normal | Tell::Warning => true,
        };
        if told {
            notices.push(Notice {
                warning: tell == Tell::Warning,
                reason: finding.reason(),
                note: finding.message().to_owned(),
            });
        }
    }
    notices
}

/// The reference page.
pub fn page() -> String {
    let mut page = String::from(
        "<!-- Generated from operator/src/events.rs and conditions.rs by `make generate`; do not edit. -->\n\
         # Events\n\n\
         What the operator tells of a resource: `kubectl describe`, or `kubectl get events`. Its events are of\n\
         `events.k8s.io/v1`, with `tidewater-operator` as reporting controller and `Reconcile` as action. An event tells\n\
         a change, once; the note is the condition's message at that time, 1 KiB at the longest. What is so stands in the\n\
         [conditions](conditions.md), what to do in [operations](../operations.md). An event may be lost, a condition not.\n\n\
         | reason | type | told when | meaning |\n|---|---|---|---|\n",
    );
    for row in conditions::all() {
        let (concern, state) = (row.concern.name(), row.state.name());
        let (kind, when) = match row.tell {
            Tell::Nothing => continue,
            Tell::Recovery => ("Normal", format!("`{concern}` is `{state}` again")),
            Tell::Normal if row.concern == Concern::Ready => {
                ("Normal", format!("`{concern}` becomes `{state}`"))
            }
            Tell::Normal => (
                "Normal",
                format!("`{concern}` is `{state}` for this reason"),
            ),
            Tell::Warning => (
                "Warning",
                format!("`{concern}` is `{state}` for this reason"),
            ),
        };
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {when} | {} |",
            row.reason, row.message
        );
    }
    for (reason, kind, when, meaning) in [
        (
            DRIFT,
            "Normal",
            "somebody else had changed or removed what was made for the resource",
            "it was put back; the note says what",
        ),
        (
            TABLE_CREATED,
            "Normal",
            "the operator made the table",
            "it is in the catalog before the first pod",
        ),
        (
            TABLE_CHANGED,
            "Normal",
            "the operator changed the table to what the spec says",
            "the note has the changes",
        ),
        (
            TABLE_DROPPED,
            "Normal",
            "a resource with `deletionPolicy: Delete` was deleted",
            "the table went with it",
        ),
        (
            TABLE_KEPT,
            "Warning",
            "a resource with `deletionPolicy: Delete` was deleted",
            "the table stays, for the reason in the note",
        ),
    ] {
        let _ = writeln!(page, "| `{reason}` | {kind} | {when} | {meaning} |");
    }
    page
}

/// Tells events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub fn new(client: Client) -> Self {
        let reporter = Reporter::from("tidewater-operator");
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells them as well as it goes: an event that is lost changes nothing.
    pub async fn tell(&self, about: &ObjectReference, notices: Vec<Notice>) {
        for notice in notices {
            let event = Event {
                type_: if notice.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: notice.reason.to_owned(),
                note: Some(shortened(&notice.note, LONGEST)),
                action: ACTION.to_owned(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, about).await {
                tracing::warn!(%error, reason = notice.reason, "event not told");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::{
        GROUP_CONFLICT, IDLE, PAUSED, PROGRESSING, PROVISIONING, READY, RUNNING, SCALED_TO_ZERO,
        STALLED, VALID, conditions,
    };
    use crate::snapshot;

    #[test]
    fn the_reference_page_is_the_table() {
        snapshot::assert("../docs/reference/events.md", &page());
    }

    fn told(before: &[Finding], now: &[Finding]) -> Vec<(&'static str, bool)> {
        let before = conditions(&[], before, None, Timestamp::UNIX_EPOCH);
        transitions(&before, now)
            .into_iter()
            .map(|notice| (notice.reason, notice.warning))
            .collect()
    }

    #[test]
    fn a_change_is_told_once_by_the_condition_it_is_about() {
        let refused = GROUP_CONFLICT.because("orders is older");
        let both = [refused.not_ready(), refused.clone()];
        assert_eq!(
            told(&[READY.found(), VALID.found()], &both),
            [("ConsumerGroupConflict", true)]
        );
        assert_eq!(told(&both, &both), []);
    }

    #[test]
    fn a_new_resource_tells_only_that_it_became_ready() {
        let start = [
            PROVISIONING.found(),
            VALID.found(),
            PROGRESSING.found(),
            RUNNING.found(),
        ];
        assert_eq!(told(&[], &start), []);
        assert_eq!(told(&start, &[READY.found()]), [("Ready", false)]);
        assert_eq!(told(&[SCALED_TO_ZERO.found()], &[READY.found()]), []);
    }

    #[test]
    fn a_recovery_is_told_and_idling_is_not() {
        assert_eq!(
            told(&[STALLED.found()], &[PROGRESSING.found()]),
            [("Progressing", false)]
        );
        assert_eq!(told(&[PROGRESSING.found()], &[IDLE.found()]), []);
        assert_eq!(
            told(&[RUNNING.found()], &[PAUSED.found()]),
            [("Paused", false)]
        );
    }

    #[test]
    fn a_repair_is_told_with_what_was_put_back() {
        assert_eq!(drift(&[]), None);
        let notice = drift(&["Service orders-ks3".into()]);
        assert!(notice.is_some_and(|n| n.note.contains("Service orders-ks3") && !n.warning));
    }
}
