//! What a destination holds: its ledger and its data files. Only reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::TableMetadataRef;

use super::super::CliError;
use super::content::{self, Content, Each, Reading};
use crate::catalog::{self, CatalogError, TableOps, snapshot};
use crate::commit::dataset::{DatasetFileName, ledgers};
use crate::commit::iceberg::{Keys, Standing, standing};
use crate::errors::OneLine;
use crate::plan::{Destination, Evolution, Plan};
use crate::record::{Offset, TopicName, TopicPartition};
use crate::schema::evolution::partition_fields;
use crate::schema::precedent::Precedent;
use crate::store::{self, Store};

pub(super) enum Held {
    Dataset {
        store: Arc<dyn Store>,
        sink: String,
    },
    Table {
        ops: Arc<dyn TableOps>,
        sink: String,
        may: Evolution,
    },
}

/// Where each topic-partition stands, and since when its topic is the one that is read now.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) next: BTreeMap<TopicPartition, Offset>,
    since: Since,
}

/// Files of a lower [version](HeldFile::version) are of an earlier topic. Nothing is here of topics that were never
/// found recreated.
#[derive(Default)]
struct Since {
    partitions: BTreeMap<TopicPartition, i64>,
    topics: BTreeMap<TopicName, i64>,
}

/// Which topic of its name a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// The one that is read now.
    Current,
    /// One before it was recreated.
    Earlier,
    /// Another writer put rows together anew, or the table has no sequence numbers.
    Unknown,
}

impl Ledger {
    /// Of rows of a topic-partition in a file. `ours`: this sink wrote the file as it is.
    pub(super) fn age(&self, tp: &TopicPartition, file: &HeldFile, ours: bool) -> Age {
        let Since { partitions, topics } = &self.since;
        match partitions.get(tp).or_else(|| topics.get(&tp.topic)) {
            None => Age::Current,
            Some(since) => age(*since, file.version, ours),
        }
    }

    /// Of rows whose topic-partition is not known.
    pub(super) fn age_of_any(&self, only: Option<&TopicName>, file: &HeldFile, ours: bool) -> Age {
        let topics = &self.since.topics;
        match only {
            _ if topics.is_empty() => Age::Current,
            None => Age::Unknown,
            Some(topic) => match topics.get(topic) {
                None => Age::Current,
                Some(since) => age(*since, file.version, ours),
            },
        }
    }
}

fn age(since: i64, version: Option<i64>, ours: bool) -> Age {
    match version {
        Some(version) if version < since => Age::Earlier,
        Some(_) if ours && since > 0 => Age::Current,
        _ => Age::Unknown,
    }
}

pub(super) struct HeldFile {
    name: String,
    /// Of a dataset's file the generation it was written under, of a table's the sequence number.
    version: Option<i64>,
    pub(super) partition: String,
    /// Where all of its rows are of one topic-partition.
    pub(super) tp: Option<TopicPartition>,
    /// The lowest offset in it, where its name says so.
    pub(super) start: Option<i64>,
    place: Place,
}

enum Place {
    Store(Arc<dyn Store>),
    Io(FileIO),
}

impl Held {
    pub(super) async fn open(plan: &Plan) -> Result<Self, CliError> {
        let sink = plan.sink.to_string();
        Ok(match &plan.destination {
            Destination::Dataset(dataset) => Self::Dataset {
                store: store::open(&dataset.store).await?,
                sink,
            },
            Destination::Iceberg(table) => Self::Table {
                ops: catalog::connect(table).await?,
                sink,
                may: table.evolution,
            },
        })
    }

    pub(super) fn is_dataset(&self) -> bool {
        matches!(self, Self::Dataset { .. })
    }

    pub(super) async fn ledger(&self) -> Result<Ledger, CliError> {
        match self {
            Self::Dataset { store, sink } => dataset_ledger(store.as_ref(), sink).await,
            Self::Table { ops, sink, .. } => {
                let Some(metadata) = load(ops.as_ref()).await? else {
                    return Ok(Ledger::default());
                };
                let standing = standing(&metadata, &Keys::of(sink));
                let standing = standing
                    .map_err(|error| CliError(format!("read the table's ledger: {error}")))?;
                let (Standing::Settled(ledger)
                | Standing::RolledBack {
                    recorded: ledger, ..
                }) = standing;
                if let Some(to) = ledger.moved_to {
                    return Err(CliError(format!(
                        "the ledger of {sink} was moved to {to}: give that resource"
                    )));
                }
                Ok(Ledger {
                    next: ledger.next,
                    since: Since {
                        topics: ledger.topic_since,
                        partitions: BTreeMap::new(),
                    },
                })
            }
        }
    }

    /// What a table's columns are; of a dataset each file has its own.
    pub(super) async fn columns(&self) -> Result<Option<Arc<Precedent>>, CliError> {
        let Self::Table { ops, may, .. } = self else {
            return Ok(None);
        };
        let Some(metadata) = load(ops.as_ref()).await? else {
            return Ok(None);
        };
        let names = partition_fields(&metadata);
        let columns = Precedent::of(metadata.current_schema(), &names, *may);
        Ok(Some(Arc::new(columns)))
    }

    /// Paths of a table's columns by their ids; a dataset has no ids.
    pub(super) async fn names(&self) -> Result<Option<BTreeMap<i32, String>>, CliError> {
        let Self::Table { ops, .. } = self else {
            return Ok(None);
        };
        let metadata = load(ops.as_ref()).await?;
        Ok(metadata.map(|metadata| {
            let names = metadata.current_schema().field_id_to_name_map();
            names.iter().map(|(id, name)| (*id, name.clone())).collect()
        }))
    }

    pub(super) async fn files(&self) -> Result<Vec<HeldFile>, CliError> {
        match self {
            Self::Dataset { store, .. } => dataset_files(store).await,
            Self::Table { ops, .. } => match load(ops.as_ref()).await? {
                Some(metadata) => table_files(&metadata, &ops.file_io()).await,
                None => Ok(Vec::new()),
            },
        }
    }
}

fn version(generation: u64) -> i64 {
    i64::try_from(generation).unwrap_or(i64::MAX)
}

async fn load(ops: &dyn TableOps) -> Result<Option<TableMetadataRef>, CliError> {
    match ops.load().await {
        Ok(base) => Ok(Some(base.metadata)),
        Err(CatalogError::NoSuchTable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn dataset_ledger(store: &dyn Store, sink: &str) -> Result<Ledger, CliError> {
    let mut ledger = Ledger::default();
    for document in ledgers(store, sink).await? {
        let tp = document.tp();
        let document = document.here()?;
        if document.topic_since > 0 {
            let since = version(document.topic_since);
            ledger.since.partitions.insert(tp.clone(), since);
        }
        ledger.next.insert(tp, document.next);
    }
    Ok(ledger)
}

async fn dataset_files(store: &Arc<dyn Store>) -> Result<Vec<HeldFile>, CliError> {
    let mut files = Vec::new();
    for object in store.list("").await? {
        // Readers of Hive layouts pass over what begins with an underscore, and so do we.
        if object
            .key
            .split('/')
            .any(|segment| segment.starts_with('_'))
        {
            continue;
        }
        if let Some(name) = DatasetFileName::parse(&object.key) {
            let partition = object
                .key
                .rsplit_once('/')
                .map_or("", |(path, _)| path)
                .to_owned();
            files.push(HeldFile {
                name: object.key,
                version: Some(version(name.generation)),
                partition,
                tp: Some(name.tp),
                start: Some(name.start.0),
                place: Place::Store(Arc::clone(store)),
            });
        }
    }
    Ok(files)
}

async fn table_files(metadata: &TableMetadataRef, io: &FileIO) -> Result<Vec<HeldFile>, CliError> {
    let entries = snapshot::data_files(io, metadata).await;
    let entries = entries
        .map_err(|error| CliError(format!("read the table's files: {}", OneLine(&error))))?;
    let files = entries.into_iter().map(|entry| {
        let name = entry.file_path;
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        let partition = directory
            .rsplit_once("/data")
            .map_or(directory, |(_, partition)| partition);
        HeldFile {
            partition: partition.trim_start_matches('/').to_owned(),
            name,
            version: entry.sequence_number,
            tp: None,
            start: None,
            place: Place::Io(io.clone()),
        }
    });
    Ok(files.collect())
}

impl HeldFile {
    async fn bytes(&self) -> Result<Bytes, CliError> {
        match &self.place {
            Place::Store(store) => match store.get(&self.name).await? {
                Some((bytes, _)) => Ok(bytes),
                None => Err(CliError(format!("{} is gone", self.name))),
            },
            Place::Io(io) => {
                let failed =
                    |error: iceberg::Error| CliError(format!("read {}: {error}", self.name));
                io.new_input(&self.name)
                    .map_err(failed)?
                    .read()
                    .await
                    .map_err(failed)
            }
        }
    }

    pub(super) async fn read(
        &self,
        reading: &Reading,
        each: &mut Each<'_>,
    ) -> Result<Content, CliError> {
        let bytes = self.bytes().await?;
        if self.name.ends_with(".parquet") {
            content::of_parquet(reading, bytes, &self.name, each)
        } else {
            content::of_json_lines(reading, &bytes, &self.name, each)
        }
    }

    pub(super) async fn sample(&self, rows: usize) -> Result<String, CliError> {
        content::sample(self.bytes().await?, &self.name, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_our_own_from_after_the_recreation_are_surely_of_the_topic_as_it_is() {
        for (since, version, ours, wanted) in [
            (7, Some(6), true, Age::Earlier),
            (7, Some(6), false, Age::Earlier),
            (7, Some(7), true, Age::Current),
            (7, Some(8), false, Age::Unknown),
            (7, None, true, Age::Unknown),
            // No sequence numbers.
            (0, Some(0), true, Age::Unknown),
        ] {
            assert_eq!(
                age(since, version, ours),
                wanted,
                "{since} {version:?} {ours}"
            );
        }
    }
}
