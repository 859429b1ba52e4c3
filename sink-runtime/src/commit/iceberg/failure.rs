//! Why a table could not be opened or a commit is not in it.

use uuid::Uuid;

use super::Found;
use super::table_ledger::{Offsets, Unreadable};
use crate::catalog::{CatalogError, CommitError};
use crate::errors::{Class, Classified, class};
use crate::schema::evolution::{Incompatible, SchemaMoved};
use crate::schema::iceberg::MappingError;

#[derive(Debug, thiserror::Error)]
pub enum IcebergFailure {
    #[error("{table} does not exist")]
    TableMissing { table: String },
    #[error("{table} was dropped and recreated: its uuid was {expected} and is {found}")]
    TableReplaced {
        table: String,
        expected: Uuid,
        found: Uuid,
    },
    #[error("{table} was rolled back past the last commit{}", unknown(held.as_ref()))]
    RolledBack {
        table: String,
        recorded: Offsets,
        /// What the table holds now; `None` when no snapshot tells any more, or when offsets were set since other than by
        /// a commit.
        held: Option<Offsets>,
    },
    #[error("the source was recreated: its id was \"{recorded}\" and is \"{found}\"")]
    SourceReset { recorded: String, found: String },
    #[error("another owner of {} topic-partitions went on", found.len())]
    Fenced { found: Found },
    #[error("files without claims: nothing could tell later whether they are in the table")]
    Unclaimed,
    #[error("the table's schema moved under the written files")]
    SchemaMoved(#[source] SchemaMoved),
    #[error("the table's partition spec {spec_id}, which the written files have, is gone")]
    LayoutMoved { spec_id: i32 },
    #[error("the table cannot hold the columns")]
    Incompatible(#[source] Incompatible),
    #[error("the table cannot be created as planned")]
    Mapping(#[source] MappingError),
    #[error("the ledger in the table cannot be read")]
    LedgerUnreadable(#[source] Unreadable),
    #[error(
        "{table}: the ledger of sink \"{sink}\" was moved to sink \"{to}\", which goes on with it"
    )]
    LedgerMoved {
        table: String,
        sink: String,
        to: String,
    },
    #[error("{table}: {step} failed")]
    Catalog {
        table: String,
        step: &'static str,
        #[source]
        source: CatalogError,
    },
    #[error("{table}: gave up after {attempts} attempts to commit")]
    Exhausted {
        table: String,
        attempts: u32,
        #[source]
        source: CommitError,
    },
}

fn unknown(held: Option<&Offsets>) -> &'static str {
    match held {
        Some(_) => "",
        None => {
            ", to where it does not tell what it holds of the topics as they are, so that Reread does not know where to begin"
        }
    }
}

impl Classified for IcebergFailure {
    fn class(&self) -> Class {
        match self {
            Self::TableMissing { .. } => class::TABLE_MISSING,
            Self::TableReplaced { .. } => class::TABLE_REPLACED,
            Self::RolledBack { .. } => class::TABLE_ROLLED_BACK,
            Self::SourceReset { .. } => class::SOURCE_RESET,
            Self::Fenced { .. } => class::FENCED,
            Self::Unclaimed => class::INTERNAL,
            // The files are written again on the table as it is; nobody has to do anything.
            Self::SchemaMoved(_) | Self::LayoutMoved { .. } => class::CATALOG_CONFLICT,
            Self::Incompatible(source) => source.class(),
            Self::Mapping(source) => source.class(),
            Self::LedgerUnreadable(_) => class::LEDGER_UNREADABLE,
            Self::LedgerMoved { .. } => class::LEDGER_MOVED,
            Self::Catalog { source, .. } => source.class(),
            Self::Exhausted { source, .. } => source.class(),
        }
    }
}

/// A commit that is not known to be in the table.
#[derive(Debug, thiserror::Error)]
#[error("not committed")]
pub struct NotCommitted {
    #[source]
    pub failure: IcebergFailure,
    /// Some attempt's outcome stayed unknown: its files must not be deleted, and a late application of it is found
    /// through the ledger.
    pub maybe_applied: bool,
}

impl Classified for NotCommitted {
    fn class(&self) -> Class {
        self.failure.class()
    }
}
