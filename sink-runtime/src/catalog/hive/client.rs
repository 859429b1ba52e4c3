//! The table and its partitions in Glue: looks, decides by `table::decide`, writes. Several processes may do so at once:
//! what another made first is as good as made here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_glue::types::{BatchUpdatePartitionRequestEntry, ErrorDetail};
use aws_sdk_glue::types::{
    Column as GlueColumn, PartitionInput, PartitionValueList, SerDeInfo, StorageDescriptor, Table,
    TableInput,
};

use super::table::{Decision, Definition, Found, decide, fingerprint, why_kept};
use super::{COLUMNS, Column, Deleted, Difference, HiveError, HivePlan, Partition, TableState};
use crate::aws::aws_config;
use crate::catalog::CatalogError;
use crate::catalog::glue::client::{GlueClient, kept};
use crate::catalog::glue::faults::Fault;
use crate::commit::backoff::{BackoffPolicy, Pacer};
use crate::errors::OneLine;

/// Glue's limits on one call.
const CREATED_AT_ONCE: usize = 100;
const ASKED_AT_ONCE: usize = 1000;

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
    /// It was not there.
    pub(super) created: bool,
}

/// What became of partitions that were to be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    pub(super) created: u64,
    /// Had columns of an earlier table.
    pub(super) updated: u64,
    pub(super) differences: Vec<Difference>,
}

impl Settled {
    fn add(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.differences.extend(other.differences);
    }
}

/// Partitions in parts of what one call takes. Glue refuses a whole call for one of them: then its halves are tried, down to
/// the one, so that it costs only itself.
struct Parts<'a>(Vec<&'a [Partition]>);

impl<'a> Parts<'a> {
    fn of(partitions: &'a [Partition], at_once: usize) -> Self {
        Self(partitions.chunks(at_once).rev().collect())
    }

    fn next(&mut self) -> Option<&'a [Partition]> {
        self.0.pop()
    }

    /// # Errors
    /// The error, when it says nothing of the partitions.
    fn smaller(
        &mut self,
        part: &'a [Partition],
        error: HiveError,
        settled: &mut Settled,
    ) -> Result<(), HiveError> {
        let HiveError::Catalog(CatalogError::Refused { .. }) = &error else {
            return Err(error);
        };
        if let [partition] = part {
            settled.differences.push(Difference::Unlike(format!(
                "partition ({}) is refused: {}",
                partition.values.join(", "),
                OneLine(&error)
            )));
            return Ok(());
        }
        let (left, right) = part.split_at(part.len() / 2);
        self.0.extend([right, left]);
        Ok(())
    }
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
                    });
                }
                Decision::Refuse(differences) => {
                    return Ok(Ensured {
                        state: TableState::Differs(differences),
                        columns: None,
                        created: false,
                    });
                }
                Decision::Keep {
                    write,
                    columns,
                    differences,
                } => (write, columns, differences),
            };
            let mut created = false;
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
                        created = current.is_none();
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
            });
        }
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

    fn partition_input(
        &self,
        columns: &[Column],
        partition: &Partition,
    ) -> Result<PartitionInput, HiveError> {
        const DESCRIBE: &str = "describe partition to Glue";
        let glue: Result<Vec<_>, _> = columns.iter().map(glue_column).collect();
        let glue = glue.map_err(|error| refused(DESCRIBE, error))?;
        let location = partition.location(&self.plan.location);
        let descriptor = self
            .descriptor(glue, &location)
            .map_err(|error| refused(DESCRIBE, error))?;
        Ok(PartitionInput::builder()
            .set_values(Some(partition.values.clone()))
            .storage_descriptor(descriptor)
            .parameters(COLUMNS, fingerprint(columns))
            .build())
    }

    /// Registers partitions; those that are there already stay as they are.
    pub(super) async fn register(
        &self,
        columns: &[Column],
        partitions: &[Partition],
    ) -> Result<Settled, HiveError> {
        let mut settled = Settled::default();
        let mut parts = Parts::of(partitions, CREATED_AT_ONCE);
        while let Some(part) = parts.next() {
            match self.create(columns, part).await {
                Ok(created) => settled.created += created,
                Err(error) => parts.smaller(part, error, &mut settled)?,
            }
        }
        Ok(settled)
    }

    /// Looks which of these folders are partitions, and makes them so: with these columns.
    pub(super) async fn settle(
        &self,
        columns: &[Column],
        partitions: &[Partition],
    ) -> Result<Settled, HiveError> {
        let mut settled = Settled::default();
        let mut parts = Parts::of(partitions, ASKED_AT_ONCE);
        while let Some(part) = parts.next() {
            match self.settle_part(columns, part).await {
                Ok(done) => settled.add(done),
                Err(error) => parts.smaller(part, error, &mut settled)?,
            }
        }
        Ok(settled)
    }

    /// How many were new.
    async fn create(&self, columns: &[Column], partitions: &[Partition]) -> Result<u64, HiveError> {
        const CREATE: &str = "register partitions";
        let inputs = partitions.iter().map(|p| self.partition_input(columns, p));
        let request = self
            .glue
            .client
            .batch_create_partition()
            .set_catalog_id(self.glue.catalog_id.clone())
            .database_name(&self.plan.database)
            .table_name(&self.plan.table)
            .set_partition_input_list(Some(inputs.collect::<Result<_, _>>()?));
        let answer = Box::pin(request.send()).await.map_err(Fault::of);
        let answer = answer.map_err(|fault| self.error(CREATE, fault))?;
        let mut existing = 0;
        for error in answer.errors() {
            match code(error.error_detail()) {
                "AlreadyExistsException" => existing += 1,
                _ => return Err(self.failed(CREATE, error.error_detail())),
            }
        }
        Ok((partitions.len() as u64).saturating_sub(existing))
    }

    async fn settle_part(
        &self,
        columns: &[Column],
        partitions: &[Partition],
    ) -> Result<Settled, HiveError> {
        let mut settled = Settled::default();
        let wanted = fingerprint(columns);
        let found = self.look_up(partitions).await?;
        let (mut missing, mut outdated) = (Vec::new(), Vec::new());
        for partition in partitions {
            let Some(have) = found.get(&partition.values) else {
                missing.push(partition.clone());
                continue;
            };
            let location = partition.location(&self.plan.location);
            if !have.found.is_at(&location) {
                settled.differences.push(Difference::Unlike(format!(
                    "partition ({}) shows {}, its files are at {location}; delete the partition, not its files: it is \
                     registered anew",
                    partition.values.join(", "),
                    have.found.location.as_deref().unwrap_or("nowhere"),
                )));
            } else if have.columns.as_deref() != Some(&wanted) {
                outdated.push(partition.clone());
            }
        }
        settled.add(Box::pin(self.register(columns, &missing)).await?);
        settled.updated += self.update(columns, &outdated).await?;
        Ok(settled)
    }

    /// Those that Glue tells of. It leaves out what is not there and, when it is busy, what may be: both are "not
    /// processed". To register one that is there changes nothing.
    async fn look_up(
        &self,
        partitions: &[Partition],
    ) -> Result<HashMap<Vec<String>, FoundPartition>, HiveError> {
        const LOOK_UP: &str = "look up partitions";
        let asked = partitions.iter().map(|partition| {
            let list = PartitionValueList::builder();
            let list = list.set_values(Some(partition.values.clone()));
            list.build().map_err(|error| refused(LOOK_UP, error))
        });
        let request = self
            .glue
            .client
            .batch_get_partition()
            .set_catalog_id(self.glue.catalog_id.clone())
            .database_name(&self.plan.database)
            .table_name(&self.plan.table)
            .set_partitions_to_get(Some(asked.collect::<Result<_, _>>()?));
        let answer = Box::pin(request.send()).await.map_err(Fault::of);
        let answer = answer.map_err(|fault| self.error(LOOK_UP, fault))?;
        let found = answer.partitions.into_iter().flatten().map(|partition| {
            let values = partition.values.clone().unwrap_or_default();
            (values, FoundPartition::of(&partition))
        });
        Ok(found.collect())
    }

    async fn update(&self, columns: &[Column], partitions: &[Partition]) -> Result<u64, HiveError> {
        const UPDATE: &str = "update partitions";
        for chunk in partitions.chunks(CREATED_AT_ONCE) {
            let entries = chunk.iter().map(|partition| {
                let entry = BatchUpdatePartitionRequestEntry::builder()
                    .set_partition_value_list(Some(partition.values.clone()))
                    .partition_input(self.partition_input(columns, partition)?);
                entry.build().map_err(|error| refused(UPDATE, error))
            });
            let request = self
                .glue
                .client
                .batch_update_partition()
                .set_catalog_id(self.glue.catalog_id.clone())
                .database_name(&self.plan.database)
                .table_name(&self.plan.table)
                .set_entries(Some(entries.collect::<Result<_, _>>()?));
            let answer = Box::pin(request.send()).await.map_err(Fault::of);
            let answer = answer.map_err(|fault| self.error(UPDATE, fault))?;
            for error in answer.errors() {
                // Somebody deleted it meanwhile: the next comparison finds it missing.
                if code(error.error_detail()) != "EntityNotFoundException" {
                    return Err(self.failed(UPDATE, error.error_detail()));
                }
            }
        }
        Ok(partitions.len() as u64)
    }

    /// Folders that Glue has partitions for, a page at a time.
    pub(super) async fn folders(&self, mut page: impl FnMut(Vec<String>)) -> Result<(), HiveError> {
        let request = self
            .glue
            .client
            .get_partitions()
            .set_catalog_id(self.glue.catalog_id.clone())
            .database_name(&self.plan.database)
            .table_name(&self.plan.table)
            .exclude_column_schema(true);
        let mut pages = request.into_paginator().send();
        while let Some(answer) = Box::pin(pages.next()).await {
            let answer = answer.map_err(|error| self.error("list partitions", Fault::of(error)))?;
            let folders = answer.partitions().iter().filter_map(|partition| {
                let location = partition.storage_descriptor()?.location()?;
                let folder = location.strip_prefix(&self.plan.location)?;
                Some(folder.trim_end_matches('/').to_owned())
            });
            page(folders.collect());
        }
        Ok(())
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
        let request = self
            .glue
            .client
            .delete_table()
            .set_catalog_id(self.glue.catalog_id.clone())
            .database_name(&self.plan.database)
            .name(&self.plan.table);
        match Box::pin(request.send()).await.map_err(Fault::of) {
            Ok(_) | Err(Fault::Missing) => Ok(Deleted::Gone),
            Err(fault) => Err(self.error("delete table", fault)),
        }
    }

    /// A part of a batch was not done.
    fn failed(&self, operation: &'static str, detail: Option<&ErrorDetail>) -> HiveError {
        let code = code(detail).to_owned();
        let message = detail.and_then(|detail| detail.error_message());
        let source = format!("{code}: {}", message.unwrap_or_default()).into();
        let fault = match code.as_str() {
            "EntityNotFoundException" => Fault::Missing,
            "AccessDeniedException" => Fault::Denied(source),
            "InvalidInputException" => Fault::Refused(source),
            _ => Fault::Unanswered(source),
        };
        self.error(operation, fault)
    }
}

struct FoundPartition {
    found: Found,
    columns: Option<String>,
}

impl FoundPartition {
    fn of(partition: &aws_sdk_glue::types::Partition) -> Self {
        let descriptor = partition.storage_descriptor();
        let parameters = partition.parameters();
        Self {
            found: Found {
                location: descriptor.and_then(|d| d.location.clone()),
                ..Found::default()
            },
            columns: parameters.and_then(|p| p.get(COLUMNS)).cloned(),
        }
    }
}

fn code(detail: Option<&ErrorDetail>) -> &str {
    detail
        .and_then(|detail| detail.error_code())
        .unwrap_or("an error without a code")
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
