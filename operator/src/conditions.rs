//! The table of conditions: every type, reason, status and message that a resource's status may show. A condition can be
//! made from a row of it only. Pure. `docs/reference/conditions.md` is made from the table.

use std::fmt::Write;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use tidewater_runtime::errors::{Class, Fault, Retry, class};

/// Longest message, in bytes.
const LONGEST: usize = 1024;

/// What a condition is about, in the order of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    Ready,
    ConfigValid,
    SourceReachable,
    DestinationReady,
    TableSynced,
    Committing,
    Scaling,
    Paused,
}

impl Concern {
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::ConfigValid,
        Self::SourceReachable,
        Self::DestinationReady,
        Self::TableSynced,
        Self::Committing,
        Self::Scaling,
        Self::Paused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::ConfigValid => "ConfigValid",
            Self::SourceReachable => "SourceReachable",
            Self::DestinationReady => "DestinationReady",
            Self::TableSynced => "TableSynced",
            Self::Committing => "Committing",
            Self::Scaling => "Scaling",
            Self::Paused => "Paused",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Ready => {
                "Pods are available and commits go on, or there is legitimately nothing to do. A summary of the others: \
                 when it is `False`, its reason and message are those of the condition to look at first."
            }
            Self::ConfigValid => {
                "The spec is in force. While it is `False`, what was last in force goes on running."
            }
            Self::SourceReachable => {
                "The topics can be read: by the pods' word; while none answers, by what the brokers tell the operator. That the \
                 operator cannot reach them says nothing."
            }
            Self::DestinationReady => {
                "The pods are connected to the bucket, or to catalog and table."
            }
            Self::TableSynced => {
                "The table in the catalog is what the spec says: looked at when the spec changes, before the pods get to see \
                 the new one, and every few minutes. While it is `False` the pods of an IcebergTable go on with what was last \
                 in force, those of a KafkaS3Sink with what the spec says; while it is `Unknown` they are the ones who make the \
                 table and refuse one that does not fit. A condition of resources that have a table."
            }
            Self::Committing => "Records arrive in the destination as they come.",
            Self::Scaling => "As many pods are asked for as the spec or the autoscaler says.",
            Self::Paused => {
                "`True` while `spec.paused`, or the annotation `tidewater.dev/reconcile: paused`, is set."
            }
        }
    }
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    True,
    False,
    Unknown,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Which event is sent when a condition takes on a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    Nothing,
    /// A normal one, when the condition was `False` before.
    Recovery,
    Normal,
    Warning,
}

impl Tell {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Recovery => "Normal, after `False`",
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub concern: Concern,
    pub reason: &'static str,
    pub state: State,
    pub tell: Tell,
    /// What is said where there is nothing more precise.
    pub message: &'static str,
}

macro_rules! rows {
    ($($name:ident = $concern:ident, $reason:literal, $state:ident, $tell:ident, $message:literal;)*) => {
        $(pub static $name: Row = Row {
            concern: Concern::$concern,
            reason: $reason,
            state: State::$state,
            tell: Tell::$tell,
            message: $message,
        };)*
        static OWN: &[&Row] = &[$(&$name),*];
    };
}

rows! {
    READY = Ready, "Ready", True, Normal, "the pods are ready and commits go on";
    SCALED_TO_ZERO = Ready, "ScaledToZero", True, Nothing, "no pods are asked for";
    NOT_RECONCILED = Ready, "NotReconciled", Unknown, Nothing, "not looked at yet";
    PROVISIONING = Ready, "Provisioning", False, Nothing, "the pods are being started";
    PODS_NOT_READY = Ready, "PodsNotReady", False, Warning, "too few pods are ready";
    NOT_READY_PAUSED = Ready, "Paused", False, Nothing, "paused by spec.paused";

    VALID = ConfigValid, "Valid", True, Recovery, "the spec is in force";
    SECRET_MISSING = ConfigValid, "SecretMissing", False, Warning, "a Secret or a key of it is missing";
    GROUP_CONFLICT = ConfigValid, "ConsumerGroupConflict", False, Warning, "another resource reads in this consumer group";
    NAME_CONFLICT = ConfigValid, "NameConflict", False, Warning, "an object of that name belongs to somebody else";
    REFUSED = ConfigValid, "RefusedByCluster", False, Warning, "the cluster does not let an object be made";

    REACHABLE = SourceReachable, "Reachable", True, Recovery, "the brokers answer";
    SOURCE_NOT_OBSERVED = SourceReachable, "NotObserved", Unknown, Nothing, "not looked at yet";

    CONNECTED = DestinationReady, "Connected", True, Recovery, "the pods are connected";
    DESTINATION_NOT_OBSERVED = DestinationReady, "NotObserved", Unknown, Nothing, "no pod has told yet";
    DESTINATION_NO_PODS = DestinationReady, "NoPods", Unknown, Nothing, "there is no pod to tell";

    SYNCED = TableSynced, "Synced", True, Recovery, "the table is as the spec says";
    LARGE_METADATA = TableSynced, "LargeMetadata", True, Warning, "the table's metadata are large: readers and commits become slow";
    DIFFERS = TableSynced, "Differs", False, Warning, "the table cannot become what the spec says";
    TABLE_MISSING = TableSynced, "TableMissing", False, Warning, "the table does not exist: make it, or set spec.createIfMissing: true";
    TABLE_ACCESS_DENIED = TableSynced, "CatalogAccessDenied", False, Warning, "the catalog does not let the pods in: data goes on, the table falls behind";
    DELETION_BLOCKED = TableSynced, "DeletionBlocked", False, Warning, "the table cannot be dropped for now";
    AWAITING_RECORDS = TableSynced, "AwaitingRecords", Unknown, Nothing, "the columns are inferred: the table is made with the first records";
    CATALOG_UNREACHABLE = TableSynced, "CatalogUnreachable", Unknown, Warning, "the operator cannot reach the catalog; the pods look after the table";
    CATALOG_NOT_PERMITTED = TableSynced, "CatalogNotPermitted", Unknown, Normal, "the catalog does not let the operator in; the pods look after the table";
    CATALOG_REFUSED = TableSynced, "CatalogRefused", Unknown, Warning, "the catalog refuses the operator's request; the pods look after the table";
    TABLE_NOT_OBSERVED = TableSynced, "NotObserved", Unknown, Nothing, "not looked at yet";

    PROGRESSING = Committing, "Progressing", True, Recovery, "commits go on";
    IDLE = Committing, "Idle", True, Recovery, "all records are committed";
    STALLED = Committing, "Stalled", False, Warning, "records wait, and there was no commit for three intervals";
    FAILING = Committing, "Failing", False, Warning, "the last commit failed";
    COMMITS_NOT_OBSERVED = Committing, "NotObserved", Unknown, Nothing, "no pod has told yet";
    COMMITS_NO_PODS = Committing, "NoPods", Unknown, Nothing, "there is no pod to commit";

    STEADY = Scaling, "Steady", True, Nothing, "as many pods as asked for";
    AUTOSCALER_LIMITED = Scaling, "AutoscalerLimited", True, Nothing, "the autoscaler is at one of its bounds";
    AUTOSCALER_UNABLE = Scaling, "AutoscalerUnable", False, Warning, "the autoscaler cannot tell how many pods are needed";
    CAPPED_BY_PARTITIONS = Scaling, "CappedByPartitions", False, Normal, "more pods are asked for than there are partitions";

    PAUSED = Paused, "Paused", True, Normal, "paused by spec.paused: no pods";
    RECONCILIATION_PAUSED = Paused, "ReconciliationPaused", True, Normal, "annotation tidewater.dev/reconcile: paused; changes of the spec take no effect";
    RUNNING = Paused, "Running", False, Nothing, "not paused";
}

/// A row for each class of the runtime's errors: what pods, brokers and catalogs report.
static OF_CLASSES: LazyLock<Vec<Row>> = LazyLock::new(|| {
    class::ALL
        .iter()
        .map(|class| Row {
            concern: concern(class),
            reason: class.reason,
            state: State::False,
            tell: Tell::Warning,
            message: class.advice,
        })
        .collect()
});

fn concern(class: &Class) -> Concern {
    match class.reason {
        "InvalidSpec" => Concern::ConfigValid,
        "SourceUnreachable"
        | "SourceAuthenticationFailed"
        | "SourceAuthorizationFailed"
        | "SourceFatal"
        | "TopicNotFound"
        | "SourceReset"
        | "LogTruncated"
        | "StartBeyondLog"
        | "RecordsExpired" => Concern::SourceReachable,
        "RecordRefused" | "DeadLetterUnavailable" | "Fenced" | "InternalError" => {
            Concern::Committing
        }
        // Stores, catalogs, tables, ledgers, files.
        _ => Concern::DestinationReady,
    }
}

/// The whole table.
pub fn all() -> impl Iterator<Item = &'static Row> {
    OWN.iter().copied().chain(OF_CLASSES.iter())
}

impl Row {
    /// The row of an error class.
    pub fn of(class: Class) -> &'static Self {
        Self::of_reason(class.reason)
    }

    /// The row of an error class by its reason; of `InternalError` when there is no such class, as when another version
    /// of the runtime reports it.
    pub fn of_reason(reason: &str) -> &'static Self {
        let named = |reason: &str| OF_CLASSES.iter().find(|row| row.reason == reason);
        named(reason)
            .or_else(|| named(class::INTERNAL.reason))
            .unwrap_or(&FAILING)
    }

    /// Finds the condition so, with the row's own message.
    pub fn found(&'static self) -> Finding {
        self.because(self.message)
    }

    /// Finds the condition so, with a message of its own.
    pub fn because(&'static self, message: impl Into<String>) -> Finding {
        Finding {
            concern: self.concern,
            state: self.state,
            reason: self.reason,
            message: message.into(),
        }
    }
}

/// A condition as a status shows it, found as it was.
pub fn remembered(concern: Concern, before: &[Condition]) -> Option<Finding> {
    let old = before.iter().find(|old| old.type_ == concern.name())?;
    let row = all().find(|row| {
        row.concern == concern && row.reason == old.reason && row.state.name() == old.status
    })?;
    Some(row.because(old.message.clone()))
}

/// What an error means for the conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    row: &'static Row,
    message: String,
}

/// Whether a trouble is over without anybody's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transience {
    /// With the next try, as when another owner or writer was faster.
    Settles,
    /// When what is out there is well again.
    Passes,
    /// Somebody must change something.
    Stays,
}

impl Transience {
    fn of(class: &Class) -> Self {
        match (class.retry, class.fault) {
            (Retry::Reload, _) => Self::Settles,
            (Retry::Backoff, Fault::External | Fault::Internal) => Self::Passes,
            _ => Self::Stays,
        }
    }
}

impl Trouble {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            row: Row::of(class),
            message: message.into(),
        }
    }

    /// Of a pod, which tells the reason as a text.
    pub fn told(reason: &str, message: impl Into<String>) -> Self {
        Self {
            row: Row::of_reason(reason),
            message: message.into(),
        }
    }

    pub fn concern(&self) -> Concern {
        self.row.concern
    }

    pub fn transience(&self) -> Transience {
        let class = class::ALL
            .iter()
            .find(|class| class.reason == self.row.reason);
        class.map_or(Transience::Stays, Transience::of)
    }

    /// The message and what to do about it.
    pub fn finding(&self) -> Finding {
        self.row
            .because(format!("{} ({})", self.message, self.row.message))
    }
}

/// How a condition was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    concern: Concern,
    state: State,
    reason: &'static str,
    message: String,
}

impl Finding {
    pub fn concern(&self) -> Concern {
        self.concern
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn reason(&self) -> &'static str {
        self.reason
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// `Ready` is `False` because of this condition.
    pub fn not_ready(&self) -> Self {
        Self {
            concern: Concern::Ready,
            state: State::False,
            reason: self.reason,
            message: self.message.clone(),
        }
    }
}

/// The findings as the status shows them: in the table's order, and each with the time at which its status became what it
/// is, which for one that did not change stands in `before`.
pub fn conditions(
    before: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|finding| finding.concern);
    findings
        .into_iter()
        .map(|finding| {
            let status = finding.state.name();
            let since = before
                .iter()
                .find(|old| old.type_ == finding.concern.name() && old.status == status)
                .map_or(Time(now), |old| old.last_transition_time.clone());
            Condition {
                type_: finding.concern.name().to_owned(),
                status: status.to_owned(),
                reason: finding.reason.to_owned(),
                message: shortened(&finding.message, LONGEST),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// At most `longest` bytes, with an ellipsis where something is cut off, and no control characters but line breaks.
pub fn shortened(text: &str, longest: usize) -> String {
    let clean = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    if text.len() <= longest {
        return text.chars().map(clean).collect();
    }
    let mut end = longest.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut short: String = text[..end].chars().map(clean).collect();
    short.push('…');
    short
}

/// The reference page.
pub fn page() -> String {
    let mut page = String::from(
        "<!-- Generated from operator/src/conditions.rs by `make generate`; do not edit. -->\n\
         # Conditions\n\n\
         What `status.conditions` of both kinds may show, and the events that go with it. Programs read type, status and\n\
         reason; messages are for people and may change. A message is at most 1 KiB long. `observedGeneration` tells\n\
         which generation of the spec a condition speaks of.\n\n\
         Events are sent when a condition changes, with its reason and message. Where `Ready` is `False` because of another\n\
         condition it has that condition's reason, and one event tells both. Reasons with an advice for a meaning are those\n\
         of [errors](errors.md).\n",
    );
    for concern in Concern::ALL {
        let rows: Vec<_> = all().filter(|row| row.concern == concern).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| reason | status | event | meaning |\n|---|---|---|---|\n",
            concern.name(),
            concern.meaning()
        );
        for row in rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                row.reason,
                row.state.name(),
                row.tell.name(),
                row.message
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::snapshot;

    #[test]
    fn the_reference_page_is_the_table() {
        snapshot::assert("../docs/reference/conditions.md", &page());
    }

    #[test]
    fn a_reason_stands_once_in_each_condition_and_is_one_word() {
        let mut seen = BTreeSet::new();
        for row in all() {
            assert!(seen.insert((row.concern.name(), row.reason)), "{row:?}");
            let word = row.reason.bytes().all(|b| b.is_ascii_alphanumeric())
                && row.reason.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(word && !row.message.is_empty(), "{row:?}");
        }
    }

    #[test]
    fn every_class_of_the_runtimes_errors_is_about_something() {
        let destination = [
            "Store", "Bucket", "Catalog", "Commit", "Table", "Ledger", "Staged", "File",
        ];
        for class in class::ALL {
            let row = Row::of(*class);
            assert_eq!(row.reason, class.reason);
            let by_name = destination
                .iter()
                .any(|start| class.reason.starts_with(start));
            assert_eq!(
                row.concern == Concern::DestinationReady,
                by_name,
                "{}",
                class.reason
            );
        }
        assert_eq!(Row::of_reason("OfTheFuture").reason, "InternalError");
    }

    #[test]
    fn a_message_of_megabytes_is_cut_to_a_kibibyte_between_characters() {
        for text in [
            "é".repeat(3 << 20),
            format!("a{}", "é".repeat(3 << 20)),
            "x".repeat(1025),
        ] {
            let findings = [Trouble::new(class::INTERNAL, text).finding()];
            let made = conditions(&[], &findings, None, Timestamp::UNIX_EPOCH);
            assert!(made[0].message.len() <= LONGEST && made[0].message.len() > LONGEST - 8);
            assert!(made[0].message.ends_with('…'));
        }
        assert_eq!(shortened("x\u{1b}[31m\ny", 100), "x [31m\ny");
    }

    #[test]
    fn the_transition_time_is_that_of_the_last_change_of_status() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let stalled = STALLED.found();
        let first = conditions(&[], std::slice::from_ref(&stalled), Some(1), at(10));
        let second = conditions(&first, &[FAILING.found()], Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].reason, "Failing");
        assert_eq!(second[0].observed_generation, Some(2));
        let third = conditions(&second, &[IDLE.found()], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }
}
