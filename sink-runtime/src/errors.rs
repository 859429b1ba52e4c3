//! How an error is treated, whatever module it comes from: one table from kind to retry class, fault, condition
//! reason and advice. Each module's error enum implements [`Classified`] with rows of this table.

use std::fmt;

/// What the one who meets the error may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call again, after a jittered back-off.
    Backoff,
    /// Look at the destination first, then decide.
    Reload,
    /// Never: somebody must change something.
    Never,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    User,
    External,
    Internal,
}

/// A row of the error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub retry: Retry,
    pub fault: Fault,
    /// Reason of the resource's condition, PascalCase.
    pub reason: &'static str,
    /// What to do, for a stranger at night.
    pub advice: &'static str,
}

pub trait Classified: std::error::Error {
    fn class(&self) -> Class;
}

macro_rules! classes {
    ($($name:ident = $retry:ident, $fault:ident, $reason:literal, $advice:literal;)*) => {
        $(pub const $name: Class =
            Class { retry: Retry::$retry, fault: Fault::$fault, reason: $reason, advice: $advice };)*
        /// The whole table, for the reference page and the tests.
        pub const ALL: &[Class] = &[$($name),*];
    };
}

/// The table. Add a row rather than a second meaning to an old one.
pub mod class {
    use super::{Class, Fault, Retry};
    classes! {
        INVALID_SPEC = Never, User, "InvalidSpec", "correct the fields named in the message";
        BROKER_UNREACHABLE = Backoff, External, "SourceUnreachable", "check spec.source.bootstrapServers, the network and the brokers";
        SOURCE_AUTH = Never, User, "SourceAuthenticationFailed", "check spec.source.security and the credentials it names";
        SOURCE_DENIED = Never, User, "SourceAuthorizationFailed", "grant the principal Read on the topics and the consumer group";
        SOURCE_FATAL = Never, External, "SourceFatal", "read the client's message; the process restarts and rejoins the group";
        TOPIC_MISSING = Backoff, User, "TopicNotFound", "create the topic, or correct spec.source.topics";
        SOURCE_RESET = Never, User, "SourceReset", "the topic or cluster was recreated; choose with spec.source.onSourceReset";
        OFFSET_OUT_OF_RANGE = Never, User, "RecordsExpired", "retention removed records before they were read; choose with spec.source.onRecordsExpired";
        LOG_TRUNCATED = Never, User, "LogTruncated", "Kafka lost records that the destination holds; choose with spec.source.onLogTruncated";
        START_BEYOND_LOG = Never, User, "StartBeyondLog", "the log ends before the offset to start at: correct spec.source.startup, or the group's offsets";
        STORE_UNAVAILABLE = Backoff, External, "StoreUnavailable", "wait, or check the object store's endpoint and health";
        STORE_DENIED = Never, User, "StoreAccessDenied", "check the credentials and the bucket policy";
        STORE_MISSING = Never, User, "BucketNotFound", "create the bucket, or correct spec.destination.s3.bucket";
        STORE_UNFIT = Never, User, "StoreUnfit", "use a store that honours conditional writes, or set spec.delivery: AtLeastOnce";
        STORE_CONFLICT = Reload, Internal, "StoreConflict", "another owner went on; this one reloads the ledger";
        CATALOG_UNAVAILABLE = Backoff, External, "CatalogUnavailable", "wait, or check the catalog's endpoint and health";
        CATALOG_DENIED = Never, User, "CatalogAccessDenied", "check the catalog credentials and grants";
        CATALOG_CONFLICT = Reload, External, "CatalogConflict", "another writer changed the table; the commit is tried again on top";
        CATALOG_UNKNOWN = Reload, External, "CommitStateUnknown", "the answer was lost; the table is looked at before anything is written again";
        TABLE_MISSING = Never, User, "TableNotFound", "recreate the table, or set spec.createIfMissing: true";
        TABLE_REPLACED = Never, User, "TableReplaced", "the table was dropped and recreated; choose with spec.onDestinationReset";
        TABLE_ROLLED_BACK = Never, User, "TableRolledBack", "the table was rolled back; choose with spec.onDestinationReset";
        TABLE_INCOMPATIBLE = Never, User, "TableIncompatible", "change the schema as the message says, or allow the evolution";
        CATALOG_DATABASE_MISSING = Backoff, User, "CatalogDatabaseNotFound", "create the database, or set spec.glue.createDatabase: true";
        TABLE_NOT_OURS = Backoff, User, "TableNotOurs", "choose another table, or take it over as the message says";
        TABLE_DIFFERS = Backoff, User, "TableDiffers", "change the table or the resource as the message says";
        CATALOG_REFUSED = Never, External, "CatalogRefused", "read the catalog's message";
        LEDGER_UNREADABLE = Never, External, "LedgerUnreadable", "restore the ledger object from a backup or a bucket version";
        LEDGER_MOVED = Never, User, "LedgerMoved", "delete this resource, or move its ledger back: tidewater ledger move --from <namespace>.<name>";
        FILES_LOST = Reload, External, "StagedFilesLost", "a lifecycle rule or another tool removed uploads in progress; the records are read again";
        FILE_ALTERED = Never, User, "FileAltered", "restore the file named in the message, or delete it: its records are then read again";
        RECORD_REFUSED = Never, User, "RecordRefused", "a record does not fit the schema; set spec.onError or correct the producer";
        DEAD_LETTER_UNAVAILABLE = Backoff, External, "DeadLetterUnavailable", "check the dead-letter topic or prefix";
        FENCED = Reload, Internal, "Fenced", "another owner of the partition went on; nothing to do";
        INTERNAL = Never, Internal, "InternalError", "report it with the log";
    }
}

/// The error and all its sources on one line.
#[derive(Debug)]
pub struct OneLine<'a>(pub &'a (dyn std::error::Error + 'a));

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn the_reference_page_is_the_table() {
        let page = include_str!("../../docs/reference/errors.md");
        let rows = page.lines().skip_while(|line| !line.starts_with("|---"));
        let documented: Vec<&str> = rows
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let rows = class::ALL.iter().map(|class| {
            let (retry, fault) = (class.retry, class.fault);
            format!(
                "| `{}` | {retry:?} | {fault:?} | {} |",
                class.reason, class.advice
            )
        });
        assert_eq!(documented, rows.collect::<Vec<_>>());
    }
}
