//! Opening a table: load it or create it, see that it can hold the columns, settle a reset as the plan says.

use std::collections::BTreeMap;

use iceberg::spec::{
    FormatVersion, PartitionSpecRef, SortOrderRef, TableMetadata, TableMetadataBuilder,
};
use uuid::Uuid;

use super::declare::Declaration;
use super::table_ledger::{Offsets, TableLedger};
use super::{Attempts, IcebergCommitter, IcebergFailure};
use crate::catalog::{Base, CatalogError, CommitError};
use crate::plan::{IcebergPlan, OnDestinationReset, SinkId};
use crate::schema::Schema;
use crate::schema::evolution::{self, TableColumns, plan_evolution};
use crate::schema::iceberg::{partition_spec, sort_order, to_iceberg};

/// A table, ready to be written to.
#[derive(Clone, Debug)]
pub struct Opened {
    pub uuid: Uuid,
    pub location: String,
    pub format_version: FormatVersion,
    /// To write files with: the table's columns and, with predicted ids, those the first commit will add.
    pub columns: TableColumns,
    /// The table's alone.
    pub table_columns: TableColumns,
    /// What the first commit will change in the table's schema.
    pub schema_changes: Vec<evolution::Change>,
    /// The table's own, whatever the plan says.
    pub spec: PartitionSpecRef,
    pub sort_order: SortOrderRef,
    pub properties: BTreeMap<String, String>,
    pub ledger: TableLedger,
    pub created: bool,
    /// What was settled by `onDestinationReset`.
    pub reset: Option<Reset>,
}

/// A reset of the destination that was settled as the plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reset {
    RolledBack { recorded: Offsets, resumed: Offsets },
    Replaced { resumed: Offsets },
}

impl IcebergCommitter {
    /// Loads the table, or creates it where the plan allows; several processes may do so at once.
    ///
    /// # Errors
    /// What only somebody else can mend, and resets that the plan does not settle.
    pub async fn open(
        &mut self,
        plan: &IcebergPlan,
        schema: &Schema,
    ) -> Result<Opened, IcebergFailure> {
        let mut attempts = Attempts::default();
        let mut created = false;
        let mut reset = None;
        for round in 0..=self.pace.attempts {
            if round > 0 {
                self.pace.pause(round).await;
            }
            let base = match self.ops.load().await {
                Ok(base) => base,
                Err(CatalogError::NoSuchTable { .. }) => {
                    created |= self.create(plan, schema, &mut attempts).await?;
                    continue;
                }
                Err(error) => {
                    self.later("load table", error, &mut attempts)?;
                    continue;
                }
            };
            match self
                .settle(&base, plan.on_destination_reset, &mut attempts)
                .await?
            {
                Settled::Yes(ledger, replaced) => {
                    let opened = describe(&base, *ledger, plan, schema)?;
                    self.known = Some((opened.uuid, opened.ledger.clone()));
                    return Ok(Opened {
                        created,
                        reset: replaced.or(reset),
                        ..opened
                    });
                }
                Settled::Written(how) => reset = Some(how),
                Settled::NotYet => {}
            }
        }
        Err(IcebergFailure::Exhausted {
            table: self.ops.describe(),
            attempts: attempts.sent,
            source: attempts.last.unwrap_or(CommitError::Conflict),
        })
    }

    /// Whether it was this call that created it.
    async fn create(
        &self,
        plan: &IcebergPlan,
        schema: &Schema,
        attempts: &mut Attempts,
    ) -> Result<bool, IcebergFailure> {
        // A table that was there and is not any more is no table to be created, unless the plan says so.
        let vanished = self.known.is_some();
        if !plan.create_if_missing
            || (vanished && plan.on_destination_reset == OnDestinationReset::Stop)
        {
            return Err(IcebergFailure::TableMissing {
                table: self.ops.describe(),
            });
        }
        let initial = initial(&self.sink, plan, schema)?;
        match self.ops.create(initial).await {
            Ok(_) => Ok(true),
            Err(CatalogError::TableExists { .. }) => Ok(false),
            Err(error) => self.later("create table", error, attempts).map(|()| false),
        }
    }
}

pub(super) enum Settled {
    Yes(Box<TableLedger>, Option<Reset>),
    /// A commit that settles it went through; look again.
    Written(Reset),
    NotYet,
}

/// The metadata of a table made for `sink`.
pub(super) fn initial(
    sink: &SinkId,
    plan: &IcebergPlan,
    schema: &Schema,
) -> Result<TableMetadata, IcebergFailure> {
    let columns = to_iceberg(schema).map_err(IcebergFailure::Mapping)?;
    let spec = partition_spec(&columns, &plan.partition_by).map_err(IcebergFailure::Mapping)?;
    let order = sort_order(&columns, &plan.sort_order).map_err(IcebergFailure::Mapping)?;
    let refused = |source: crate::store::BoxError| IcebergFailure::Catalog {
        table: plan.table.clone(),
        step: "make initial metadata",
        source: CatalogError::Refused {
            operation: "make initial metadata",
            source,
        },
    };
    let version = match plan.format_version {
        1 => FormatVersion::V1,
        2 => FormatVersion::V2,
        3 => FormatVersion::V3,
        other => return Err(refused(format!("no format version {other}").into())),
    };
    let mut properties = plan.properties.clone();
    properties.extend(Declaration::marks(sink, plan));
    TableMetadataBuilder::new(
        columns,
        spec,
        order,
        plan.location.clone().unwrap_or_default(),
        version,
        properties.into_iter().collect(),
    )
    .and_then(TableMetadataBuilder::build)
    .map(|built| built.metadata)
    .map_err(|e| refused(e.into()))
}

fn describe(
    base: &Base,
    ledger: TableLedger,
    plan: &IcebergPlan,
    schema: &Schema,
) -> Result<Opened, IcebergFailure> {
    let table = &base.metadata;
    let have = TableColumns::of(table);
    let planned =
        plan_evolution(&have, schema, plan.evolution).map_err(IcebergFailure::Incompatible)?;
    let (columns, schema_changes) = match planned {
        Some(new) => (have.evolved(new.schema), new.changes),
        None => (have.clone(), Vec::new()),
    };
    Ok(Opened {
        uuid: table.uuid(),
        location: table.location().to_owned(),
        format_version: table.format_version(),
        columns,
        table_columns: have,
        schema_changes,
        spec: table.default_partition_spec().clone(),
        sort_order: table.default_sort_order().clone(),
        properties: table.properties().clone().into_iter().collect(),
        ledger,
        created: false,
        reset: None,
    })
}
