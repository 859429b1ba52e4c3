//! The table in Glue, and in `partitions` its partitions: looks, decides by `table::decide`, writes. Several processes
//! may do so at once: what another made first is as good as made here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_glue::primitives::DateTime;
use aws_sdk_glue::types::{Column as GlueColumn, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::table::{Decision, Definition, Found, decide, why_kept};
use super::{Column, Deleted, HiveError, HivePlan, Preview, TableState};
use crate::aws::aws_config;
use crate::catalog::CatalogError;
use crate::catalog::glue::client::{GlueClient, kept};
use crate::catalog::glue::faults::Fault;
use crate::commit::backoff::{BackoffPolicy, Pacer};

mod partitions;

/// Of one look at the table, in tries; whoever called tries again later.
const TRIES: BackoffPolicy = BackoffPolicy {
    base: Duration::from_millis(100),
    max: Duration::from_secs(2),
    attempts: 8,
    total: Duration::from_secs(15),
};

#[derive(Clone, Debug)]
pub(super) struct HiveClient {
    plan: HivePlan,
    glue: GlueClient,
}

/// A table after it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Ensured {
    pub(super) state: TableState,
    /// As readers see them; `None` where there is no table whose partitions may be touched.
    pub(super) columns: Option<Vec<Column>>,
    /// By this call.
    pub(super) created: bool,
    /// When Glue says that it was made: another moment is another table, with partitions of its own or none.
    pub(super) made: Option<DateTime>,
}

impl HiveClient {
    pub(super) async fn connect(plan: &HivePlan) -> Self {
        let access = &plan.access;
        let config = Box::pin(aws_config(&access.access, &access.timeouts)).await;
        let catalog_id = access.catalog_id.as_deref();
        Self {
            glue: GlueClient::new(&config, catalog_id, &plan.database, &plan.table),
            plan: plan.clone(),
        }
    }

    fn error(&self, operation: &'static str, fault: Fault) -> HiveError {
        fault
            .into_catalog_error(operation, &self.plan.name())
            .into()
    }

    /// Makes the table, or changes it, so that it shows files of these columns.
    pub(super) async fn ensure(&self, columns: Option<&[Column]>) -> Result<Ensured, HiveError> {
        let mut pacer = Pacer::start(TRIES);
        let mut created = false;
        loop {
            let current = match self.glue.get().await {
                Ok(table) => Some(table),
                Err(Fault::Missing) => None,
                Err(fault) => {
                    self.again(&mut pacer, "get table", fault).await?;
                    continue;
                }
            };
            let found = current.as_ref().map(found);
            let (write, columns, differences) = match decide(&self.plan, columns, found.as_ref()) {
                Decision::Wait => {
                    return Ok(Ensured {
                        state: TableState::Awaited,
                        columns: None,
                        created: false,
                        made: None,
                    });
                }
                Decision::Refuse(differences) => {
                    return Ok(Ensured {
                        state: TableState::Differs(differences),
                        columns: None,
                        created: false,
                        made: None,
                    });
                }
                Decision::Keep {
                    write,
                    columns,
                    differences,
                } => (write, columns, differences),
            };
            if let Some(write) = write {
                let input = self.input(&write, current.as_ref())?;
                let (operation, answer) = match &current {
                    None => ("create table", self.glue.create(input).await),
                    Some(table) => {
                        let version = table.version_id.as_deref();
                        ("update table", self.glue.update(version, input).await)
                    }
                };
                match answer {
                    Ok(()) => {
                        let (table, changes) = (self.plan.name(), write.changes.join(", "));
                        tracing::info!(table, changes, "the Glue table was changed");
                        if current.is_none() {
                            created = true;
                            // Only a look tells when.
                            continue;
                        }
                    }
                    Err(Fault::Missing) if current.is_none() => {
                        self.ensure_database().await?;
                        self.again(&mut pacer, operation, Fault::Missing).await?;
                        continue;
                    }
                    Err(fault) => {
                        self.again(&mut pacer, operation, fault).await?;
                        continue;
                    }
                }
            }
            let state = match differences.is_empty() {
                true => TableState::Synced,
                false => TableState::Differs(differences),
            };
            return Ok(Ensured {
                state,
                columns: Some(columns),
                created,
                made: current.and_then(|table| table.create_time),
            });
        }
    }

    /// Columns of the table as it is, if it is there and ours.
    pub(super) async fn columns(&self) -> Result<Option<Vec<Column>>, HiveError> {
        let found = match self.glue.get().await {
            Ok(table) => found(&table),
            Err(Fault::Missing) => return Ok(None),
            Err(fault) => return Err(self.error("get table", fault)),
        };
        if found.owner().is_none() {
            return Ok(None);
        }
        match decide(&self.plan, None, Some(&found)) {
            Decision::Keep { columns, .. } => Ok(Some(columns)),
            Decision::Wait | Decision::Refuse(_) => Ok(None),
        }
    }

    /// What [`Self::ensure`] would do.
    pub(super) async fn preview(&self, columns: Option<&[Column]>) -> Result<Preview, HiveError> {
        let current = match self.glue.get().await {
            Ok(table) => Some(found(&table)),
            Err(Fault::Missing) => None,
            Err(fault) => return Err(self.error("get table", fault)),
        };
        let (steps, differences) = match decide(&self.plan, columns, current.as_ref()) {
            Decision::Wait => (Vec::new(), Vec::new()),
            Decision::Refuse(differences) => (Vec::new(), differences),
            Decision::Keep {
                write, differences, ..
            } => (
                write.map_or_else(Vec::new, |write| write.changes),
                differences,
            ),
        };
        Ok(Preview {
            exists: current.is_some(),
            steps,
            differences,
        })
    }

    async fn ensure_database(&self) -> Result<(), HiveError> {
        if !self.plan.create_database {
            let database = self.plan.database.clone();
            return Err(HiveError::NoDatabase { database });
        }
        let made = self.glue.ensure_database().await;
        made.map_err(|(operation, fault)| self.error(operation, fault))
    }

    /// Waits before the next look where one may help; else the fault is the answer.
    async fn again(
        &self,
        pacer: &mut Pacer,
        operation: &'static str,
        fault: Fault,
    ) -> Result<(), HiveError> {
        let hopeless = matches!(fault, Fault::Denied(_) | Fault::Refused(_));
        if hopeless || !pacer.again().await {
            return Err(self.error(operation, fault));
        }
        Ok(())
    }

    fn input(&self, write: &Definition, current: Option<&Table>) -> Result<TableInput, HiveError> {
        const DESCRIBE: &str = "describe table to Glue";
        let descriptor = current.and_then(|table| table.storage_descriptor.clone());
        let kept_columns = descriptor.as_ref().map(|d| d.columns().to_vec());
        let columns = write.columns.iter().map(|column| {
            // What its owner said of a column stays, as long as it is that column.
            let same = kept_columns.iter().flatten().find(|have| {
                let ty = have.r#type().and_then(super::HiveType::parse);
                have.name().eq_ignore_ascii_case(&column.name) && ty.as_ref() == Some(&column.ty)
            });
            match same {
                Some(have) => Ok(have.clone()),
                None => glue_column(column),
            }
        });
        let columns = columns
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(DESCRIBE, error))?;
        let descriptor = match descriptor {
            Some(mut have) => {
                have.columns = Some(columns);
                have
            }
            None => self
                .descriptor(columns, &self.plan.location)
                .map_err(|error| refused(DESCRIBE, error))?,
        };
        let mut input = kept(&self.plan.table, current)
            .storage_descriptor(descriptor)
            .set_parameters(Some(write.parameters.clone().into_iter().collect()));
        if current.is_none() {
            let keys = self.plan.keys.iter().map(|key| {
                let column = GlueColumn::builder()
                    .name(&key.name)
                    .r#type(&key.ty)
                    .build();
                column.map_err(|error| refused(DESCRIBE, error))
            });
            input = input.set_partition_keys(Some(keys.collect::<Result<_, _>>()?));
        }
        input.build().map_err(|error| refused(DESCRIBE, error))
    }

    fn descriptor(
        &self,
        columns: Vec<GlueColumn>,
        location: &str,
    ) -> Result<StorageDescriptor, aws_sdk_glue::error::BuildError> {
        let storage = self.plan.format.storage();
        let parameters = storage.serde_parameters.iter();
        let parameters: HashMap<String, String> = parameters
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let serde = SerDeInfo::builder()
            .serialization_library(storage.serde)
            .set_parameters(Some(parameters))
            .build();
        Ok(StorageDescriptor::builder()
            .set_columns(Some(columns))
            .location(location)
            .input_format(storage.input)
            .output_format(storage.output)
            .serde_info(serde)
            .build())
    }

    pub(super) async fn delete_owned(&self) -> Result<Deleted, HiveError> {
        let table = match self.glue.get().await {
            Ok(table) => table,
            Err(Fault::Missing) => return Ok(Deleted::Gone),
            Err(fault) => return Err(self.error("get table", fault)),
        };
        if let Some(why) = why_kept(&self.plan, &found(&table)) {
            let name = self.plan.name();
            return Ok(Deleted::Kept(format!("table \"{name}\" stays: {why}")));
        }
        match self.glue.delete().await {
            Ok(()) | Err(Fault::Missing) => Ok(Deleted::Gone),
            Err(fault) => Err(self.error("delete table", fault)),
        }
    }
}

fn refused(operation: &'static str, error: aws_sdk_glue::error::BuildError) -> HiveError {
    let source = error.into();
    CatalogError::Refused { operation, source }.into()
}

/// Glue's limit on a column's comment.
const COMMENT_CHARS: usize = 255;

fn glue_column(column: &Column) -> Result<GlueColumn, aws_sdk_glue::error::BuildError> {
    let comment = column.comment.as_ref();
    GlueColumn::builder()
        .name(&column.name)
        .r#type(column.ty.to_string())
        .set_comment(comment.map(|doc| doc.chars().take(COMMENT_CHARS).collect()))
        .build()
}

fn found(table: &Table) -> Found {
    let descriptor = table.storage_descriptor();
    let pairs = |columns: &[GlueColumn]| {
        let pair = |column: &GlueColumn| {
            let ty = column.r#type().unwrap_or_default().to_owned();
            (column.name().to_owned(), ty)
        };
        columns.iter().map(pair).collect::<Vec<_>>()
    };
    let serde = descriptor.and_then(|d| d.serde_info());
    Found {
        location: descriptor.and_then(|d| d.location.clone()),
        columns: pairs(descriptor.map_or(&[], |d| d.columns())),
        keys: pairs(table.partition_keys()),
        serde: serde.and_then(|serde| serde.serialization_library.clone()),
        input: descriptor.and_then(|d| d.input_format.clone()),
        kind: table.table_type.clone(),
        parameters: table
            .parameters
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
    }
}
