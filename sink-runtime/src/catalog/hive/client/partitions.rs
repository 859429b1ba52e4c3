//! Calls about partitions, in batches as large as Glue takes them.

use std::collections::HashMap;

use aws_sdk_glue::types::{
    BatchUpdatePartitionRequestEntry, Column as GlueColumn, ErrorDetail,
    Partition as GluePartition, PartitionInput, PartitionValueList,
};

use super::{HiveClient, glue_column, refused};
use crate::catalog::CatalogError;
use crate::catalog::glue::faults::Fault;
use crate::catalog::hive::table::{Found, fingerprint};
use crate::catalog::hive::{COLUMNS, Column, Difference, HiveError, HivePlan, Partition};
use crate::errors::OneLine;

/// Glue's limits on one call.
const CREATED_AT_ONCE: usize = 100;
const ASKED_AT_ONCE: usize = 1000;

/// What became of partitions that were to be there.
#[derive(Clone, Debug, Default)]
pub(in crate::catalog::hive) struct Settled {
    pub(in crate::catalog::hive) created: u64,
    /// Had columns of an earlier table.
    pub(in crate::catalog::hive) updated: u64,
    pub(in crate::catalog::hive) differences: Vec<Difference>,
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
    pub(in crate::catalog::hive) async fn register(
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
    pub(in crate::catalog::hive) async fn settle(
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
            if let Some(why) = unlike(&self.plan, partition, have) {
                settled.differences.push(Difference::Unlike(why));
            } else if have.parameters().and_then(|p| p.get(COLUMNS)) != Some(&wanted) {
                outdated.push(have);
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
    ) -> Result<HashMap<Vec<String>, GluePartition>, HiveError> {
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
            (values, partition)
        });
        Ok(found.collect())
    }

    async fn update(
        &self,
        columns: &[Column],
        partitions: &[&GluePartition],
    ) -> Result<u64, HiveError> {
        const UPDATE: &str = "update partitions";
        let glue: Result<Vec<_>, _> = columns.iter().map(glue_column).collect();
        let glue = glue.map_err(|error| refused(UPDATE, error))?;
        let mark = fingerprint(columns);
        for chunk in partitions.chunks(CREATED_AT_ONCE) {
            let entries = chunk.iter().map(|partition| {
                let entry = BatchUpdatePartitionRequestEntry::builder()
                    .set_partition_value_list(partition.values.clone())
                    .partition_input(with_columns(partition, &glue, &mark));
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
    pub(in crate::catalog::hive) async fn folders(
        &self,
        mut page: impl FnMut(Vec<String>),
    ) -> Result<(), HiveError> {
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

/// Why a partition that is there is not this folder with the dataset's files; then it is left alone.
fn unlike(plan: &HivePlan, partition: &Partition, have: &GluePartition) -> Option<String> {
    let descriptor = have.storage_descriptor();
    let found = Found {
        location: descriptor.and_then(|d| d.location.clone()),
        ..Found::default()
    };
    let values = partition.values.join(", ");
    let remedy = "delete the partition, not its files: it is registered anew";
    let location = partition.location(&plan.location);
    if !found.is_at(&location) {
        let at = found.location.as_deref().unwrap_or("nowhere");
        return Some(format!(
            "partition ({values}) shows {at}, its files are at {location}; {remedy}"
        ));
    }
    let serde = descriptor.and_then(|d| d.serde_info()?.serialization_library());
    let input = descriptor.and_then(|d| d.input_format());
    let storage = plan.format.storage();
    let differs = [
        ("serde", serde, storage.serde),
        ("input format", input, storage.input),
    ];
    let (what, have, want) = differs
        .into_iter()
        .find(|(_, have, want)| *have != Some(*want))?;
    let have = have.unwrap_or("none");
    Some(format!(
        "partition ({values}) has the {what} {have}, the files need {want}; {remedy}"
    ))
}

/// The partition as it is, with other columns.
fn with_columns(have: &GluePartition, columns: &[GlueColumn], mark: &str) -> PartitionInput {
    let mut descriptor = have.storage_descriptor.clone();
    if let Some(descriptor) = &mut descriptor {
        descriptor.columns = Some(columns.to_vec());
    }
    PartitionInput::builder()
        .set_values(have.values.clone())
        .set_last_access_time(have.last_access_time)
        .set_last_analyzed_time(have.last_analyzed_time)
        .set_storage_descriptor(descriptor)
        .set_parameters(have.parameters.clone())
        .parameters(COLUMNS, mark)
        .build()
}

fn code(detail: Option<&ErrorDetail>) -> &str {
    detail
        .and_then(|detail| detail.error_code())
        .unwrap_or("an error without a code")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use aws_sdk_glue::types::{SerDeInfo, StorageDescriptor};

    use super::*;
    use crate::catalog::hive::tests::plan;

    const FOLDER: &str = "dt=2026-01-01/country=ES";

    fn partition() -> Partition {
        Partition::of_file(&plan().keys, &format!("{FOLDER}/a.parquet")).unwrap()
    }

    fn found(serde: &str, input: &str) -> GluePartition {
        let serde = SerDeInfo::builder()
            .serialization_library(serde)
            .parameters("theirs", "1");
        let descriptor = StorageDescriptor::builder()
            .location(format!("s3://lake/raw/orders/{FOLDER}"))
            .input_format(input)
            .compressed(true)
            .serde_info(serde.build());
        GluePartition::builder()
            .set_values(Some(partition().values))
            .storage_descriptor(descriptor.build())
            .parameters("numRows", "7")
            .parameters(COLUMNS, "old")
            .build()
    }

    #[test]
    fn a_partition_of_another_make_is_told_and_left_alone() {
        let storage = plan().format.storage();
        let told = |have: &GluePartition| unlike(&plan(), &partition(), have);
        assert_eq!(told(&found(storage.serde, storage.input)), None);
        let serde = told(&found("org.example.Csv", storage.input)).unwrap();
        assert!(serde.contains("has the serde org.example.Csv"), "{serde}");
        let input = told(&found(storage.serde, "Text")).unwrap();
        assert!(input.contains("has the input format Text"), "{input}");
        let nowhere = told(&GluePartition::builder().build()).unwrap();
        assert!(nowhere.contains("shows nowhere"), "{nowhere}");
    }

    #[test]
    fn a_partition_that_gets_other_columns_keeps_what_others_said_of_it() {
        let storage = plan().format.storage();
        let have = found(storage.serde, storage.input);
        let column = GlueColumn::builder().name("id").r#type("bigint").build();
        let column = column.unwrap();
        let input = with_columns(&have, std::slice::from_ref(&column), "new");
        let mut descriptor = have.storage_descriptor.clone().unwrap();
        descriptor.columns = Some(vec![column]);
        assert_eq!(input.storage_descriptor, Some(descriptor));
        assert_eq!(input.values, have.values);
        let parameters = input.parameters.unwrap();
        assert_eq!(parameters["numRows"], "7");
        assert_eq!(parameters[COLUMNS], "new");
    }
}
