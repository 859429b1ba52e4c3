//! What a destination holds: its ledger and its data files. Only reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{DataContentType, ManifestList, ManifestStatus, TableMetadataRef};

use super::super::CliError;
use super::content::{self, Content};
use crate::catalog::{self, CatalogError, TableOps};
use crate::commit::dataset::DatasetFileName;
use crate::commit::iceberg::{Keys, Standing, standing};
use crate::ledger::{LedgerDocument, ledger_key};
use crate::plan::{Destination, Plan};
use crate::record::{Offset, TopicPartition};
use crate::schema::Schema;
use crate::schema::iceberg::from_iceberg;
use crate::store::{self, Store};

pub(super) enum Held {
    Dataset {
        store: Arc<dyn Store>,
        sink: String,
    },
    Table {
        ops: Arc<dyn TableOps>,
        sink: String,
    },
}

pub(super) struct HeldFile {
    name: String,
    pub(super) partition: String,
    /// Where all of its rows are of one topic-partition.
    pub(super) tp: Option<TopicPartition>,
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
            },
        })
    }

    pub(super) fn is_dataset(&self) -> bool {
        matches!(self, Self::Dataset { .. })
    }

    /// Where each topic-partition stands.
    pub(super) async fn ledger(&self) -> Result<BTreeMap<TopicPartition, Offset>, CliError> {
        match self {
            Self::Dataset { store, sink } => dataset_ledger(store.as_ref(), sink).await,
            Self::Table { ops, sink } => {
                let Some(metadata) = load(ops.as_ref()).await? else {
                    return Ok(BTreeMap::new());
                };
                let standing = standing(&metadata, &Keys::of(sink));
                match standing
                    .map_err(|error| CliError(format!("read the table's ledger: {error}")))?
                {
                    Standing::Settled(ledger) => Ok(ledger.next),
                    Standing::RolledBack { recorded, .. } => Ok(recorded.next),
                }
            }
        }
    }

    /// What a table's columns are; of a dataset each file has its own.
    pub(super) async fn columns(&self) -> Result<Option<Schema>, CliError> {
        let Self::Table { ops, .. } = self else {
            return Ok(None);
        };
        let metadata = load(ops.as_ref()).await?;
        // Of types that the sink never writes nothing can be expected.
        Ok(metadata.and_then(|metadata| from_iceberg(metadata.current_schema()).ok()))
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

async fn load(ops: &dyn TableOps) -> Result<Option<TableMetadataRef>, CliError> {
    match ops.load().await {
        Ok(base) => Ok(Some(base.metadata)),
        Err(CatalogError::NoSuchTable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn dataset_ledger(
    store: &dyn Store,
    sink: &str,
) -> Result<BTreeMap<TopicPartition, Offset>, CliError> {
    let mut ledger = BTreeMap::new();
    for object in store.list(&format!("_tidewater/{sink}/")).await? {
        let mut parts = object.key.rsplitn(3, '/');
        let (Some(file), Some(topic)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Some(partition) = file
            .strip_suffix(".json")
            .and_then(|number| number.parse().ok())
        else {
            continue;
        };
        let tp = TopicPartition::new(topic, partition);
        if ledger_key(sink, &tp) != object.key {
            continue;
        }
        if let Some((body, _)) = store.get(&object.key).await? {
            ledger.insert(tp.clone(), LedgerDocument::parse(&body, sink, &tp)?.next);
        }
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
                partition,
                tp: Some(name.tp),
                place: Place::Store(Arc::clone(store)),
            });
        }
    }
    Ok(files)
}

async fn table_files(metadata: &TableMetadataRef, io: &FileIO) -> Result<Vec<HeldFile>, CliError> {
    let failed = |error: iceberg::Error| CliError(format!("read the table's manifests: {error}"));
    let Some(snapshot) = metadata.current_snapshot() else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    let list = io
        .new_input(snapshot.manifest_list())
        .map_err(failed)?
        .read()
        .await
        .map_err(failed)?;
    let list =
        ManifestList::parse_with_version(&list, metadata.format_version()).map_err(failed)?;
    for manifest in list.entries() {
        let manifest = manifest.load_manifest(io).await.map_err(failed)?;
        for entry in manifest.entries() {
            if entry.status() == ManifestStatus::Deleted
                || entry.content_type() != DataContentType::Data
            {
                continue;
            }
            let name = entry.file_path().to_owned();
            let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            let partition = directory
                .rsplit_once("/data")
                .map_or(directory, |(_, partition)| partition);
            let partition = partition.trim_start_matches('/').to_owned();
            files.push(HeldFile {
                name,
                partition,
                tp: None,
                place: Place::Io(io.clone()),
            });
        }
    }
    Ok(files)
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

    pub(super) async fn read(&self, plan: &Plan) -> Result<Content, CliError> {
        let bytes = self.bytes().await?;
        if self.name.ends_with(".parquet") {
            content::of_parquet(plan, bytes, &self.name)
        } else {
            content::of_json_lines(plan, &bytes, &self.name)
        }
    }

    pub(super) async fn sample(&self, rows: usize) -> Result<String, CliError> {
        content::sample(self.bytes().await?, &self.name, rows)
    }
}
