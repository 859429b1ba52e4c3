#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::time::Duration;

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, PartitionSpec, Struct, TableMetadata,
    Transform,
};

use super::*;
use crate::catalog::faulty::{FaultyTable, Outcome, Step};
use crate::catalog::memory::MemoryTable;
use crate::plan::{
    CatalogPlan, Evolution, IcebergPlan, OnDestinationReset, ParquetCompression, ParquetOptions,
};
use crate::record::OffsetRange;
use crate::schema::{Field, Schema, Type};

mod by_hand;
mod contention;
mod generations;
mod histories;
mod layouts;
mod lost_replies;
mod merging;
mod resets;
mod schemas;
mod staging;
mod truncations;

const SINK: &str = "default.orders";

fn clock() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn plan() -> IcebergPlan {
    IcebergPlan {
        catalog: CatalogPlan::Local { path: "/".into() },
        namespace: vec!["sales".into()],
        table: "orders".into(),
        create_if_missing: true,
        location: None,
        format_version: 2,
        partition_by: vec![],
        sort_order: vec![],
        properties: BTreeMap::new(),
        evolution: Evolution {
            add_columns: true,
            widen: true,
            make_optional: true,
            recreate_columns: false,
        },
        parquet: ParquetOptions {
            compression: ParquetCompression::None,
            row_group_rows: 1,
            row_group_bytes: 1,
            page_bytes: 1,
            dictionary: false,
            statistics: false,
            bloom_filters: BTreeMap::new(),
        },
        target_file_bytes: 1,
        on_destination_reset: OnDestinationReset::Stop,
        storage: None,
    }
}

fn on_reset(choice: OnDestinationReset) -> IcebergPlan {
    IcebergPlan {
        on_destination_reset: choice,
        ..plan()
    }
}

fn columns(names: &[&str]) -> Schema {
    Schema {
        fields: names
            .iter()
            .map(|n| Field::optional(*n, Type::Long))
            .collect(),
    }
}

fn pace(attempts: u32) -> Pace {
    Pace {
        attempts,
        first: Duration::ZERO,
        longest: Duration::ZERO,
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn offsets(of: &[(i32, i64)]) -> Offsets {
    of.iter().map(|(p, o)| (tp(*p), Offset(*o))).collect()
}

fn claim(partition: i32, expected: Option<i64>, start: i64, end: i64) -> Claim {
    Claim {
        tp: tp(partition),
        expected: expected.map(Offset),
        range: OffsetRange {
            start: Offset(start),
            end: Offset(end),
        },
        generation: 0,
    }
}

/// A file whose name tells what is in it.
fn file(partition: i32, start: i64, end: i64) -> DataFile {
    named(
        &format!("{partition}+{start}-{end}.parquet"),
        (end - start) as u64,
    )
}

fn named(name: &str, rows: u64) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("memory:///data/{name}"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(rows)
        .file_size_in_bytes(100)
        .build()
        .unwrap()
}

/// Records `[start, end)` of a partition, next in line after `start`.
fn commit_of(opened: &Opened, partition: i32, expected: Option<i64>, end: i64) -> IcebergCommit {
    let start = expected.unwrap_or(0);
    IcebergCommit {
        table: opened.uuid,
        commit_id: CommitId::fresh(),
        claims: vec![claim(partition, expected, start, end)],
        floor: offsets(&[(partition, end)]),
        cluster_id: Some("cluster-1".into()),
        census: None,
        topic_ids: BTreeMap::new(),
        last_reads: BTreeMap::new(),
        files: vec![file(partition, start, end)],
        spec: opened.spec.clone(),
        columns: opened.columns.clone(),
    }
}

struct Lab {
    memory: Arc<MemoryTable>,
    table: Arc<dyn TableOps>,
}

impl Lab {
    fn new() -> Self {
        Self::with(Vec::new())
    }

    /// The script starts with the first commit after `create`.
    fn with(script: Vec<Step>) -> Self {
        let memory = Arc::new(MemoryTable::new("orders"));
        Self {
            table: Arc::new(FaultyTable::new(memory.clone(), script)),
            memory,
        }
    }

    fn committer(&self) -> IcebergCommitter {
        self.committer_with(5)
    }

    fn committer_with(&self, attempts: u32) -> IcebergCommitter {
        IcebergCommitter::new(
            self.table.clone(),
            &SinkId(SINK.into()),
            pace(attempts),
            clock,
        )
    }

    async fn opened(&self) -> (IcebergCommitter, Opened) {
        let mut committer = self.committer();
        let opened = committer.open(&plan(), &columns(&["id"])).await.unwrap();
        (committer, opened)
    }

    async fn metadata(&self) -> Arc<TableMetadata> {
        self.memory.load().await.unwrap().metadata
    }

    /// Names of the data files a reader of `main` sees.
    async fn visible(&self) -> Vec<String> {
        visible(&self.memory.file_io(), &*self.metadata().await).await
    }

    async fn ledger(&self) -> TableLedger {
        match standing(&*self.metadata().await, &Keys::of(SINK)).unwrap() {
            Standing::Settled(ledger) => ledger,
            other => panic!("{other:?}"),
        }
    }
}

async fn visible(io: &FileIO, table: &TableMetadata) -> Vec<String> {
    let files = crate::catalog::snapshot::data_files(io, table)
        .await
        .unwrap();
    let name = |path: String| path.rsplit('/').next().unwrap().to_owned();
    let mut names: Vec<_> = files.into_iter().map(|f| name(f.file_path)).collect();
    names.sort();
    names
}
