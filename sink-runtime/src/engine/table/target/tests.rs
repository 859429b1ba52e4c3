#![allow(clippy::unwrap_used, reason = "tests")]

use tempfile::TempDir;

use super::*;
use crate::catalog::TableOps;
use crate::catalog::faulty::{FaultyTable, Outcome, Step, foreign};
use crate::catalog::memory::MemoryTable;
use crate::commit::iceberg::Pace;
use crate::plan::{
    CatalogPlan, Evolution, MetadataColumns, OnConflict, OnDestinationReset, OnError,
    ParquetCompression, ParquetOptions, SinkId, Tombstones,
};
use crate::schema::{Field, Type};

const KEY: &str = "owner";

/// With one property, and its files in `folder`.
fn plan(folder: &TempDir) -> IcebergPlan {
    IcebergPlan {
        catalog: CatalogPlan::Local { path: "/".into() },
        namespace: vec!["sales".into()],
        table: "orders".into(),
        create_if_missing: true,
        location: Some(folder.path().to_str().unwrap().to_owned()),
        format_version: 2,
        partition_by: vec![],
        sort_order: vec![],
        properties: [(KEY.to_owned(), "shop".to_owned())].into(),
        evolution: Evolution {
            add_columns: true,
            widen: true,
            make_optional: true,
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

fn targets(plan: IcebergPlan, table: Arc<dyn TableOps>) -> Targets {
    let decode = DecodePlan {
        value: ValueSchema::Inferred {
            sample_records: 1,
            on_conflict: OnConflict::String,
        },
        on_error: OnError::DeadLetter,
        tombstones: Tombstones::Skip,
        metadata: MetadataColumns::default(),
    };
    let pace = Pace {
        attempts: 2,
        first: std::time::Duration::ZERO,
        longest: std::time::Duration::ZERO,
    };
    let clock = || chrono::Utc::now().timestamp_millis();
    let committer = IcebergCommitter::new(table, &SinkId("default.orders".into()), pace, clock);
    let budget = Budget::new(1 << 20);
    Targets::new(plan, &decode, committer, Handle::current(), budget)
}

async fn owner(table: &MemoryTable) -> Option<String> {
    let metadata = table.load().await.unwrap().metadata;
    metadata.properties().get(KEY).cloned()
}

/// A table that somebody made without the property.
async fn made(plan: &IcebergPlan) -> Arc<MemoryTable> {
    let table = Arc::new(MemoryTable::new("orders"));
    let bare = IcebergPlan {
        properties: BTreeMap::new(),
        ..plan.clone()
    };
    let columns = Schema {
        fields: vec![Field::optional("id", Type::Long)],
    };
    let opened = targets(bare, table.clone()).open_with(&columns).await;
    opened.unwrap();
    table
}

#[tokio::test]
async fn a_declaration_that_the_catalog_does_not_take_stops_no_data() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let never = || (0..9).map(|_| Step::outcome(Outcome::Conflict)).collect();
    for script in [vec![Step::outcome(Outcome::Refused)], never()] {
        let table = made(&plan).await;
        let faulty = Arc::new(FaultyTable::new(table.clone(), script));
        let targets = targets(plan.clone(), faulty);
        assert!(targets.open().await.unwrap().is_some());
        assert!(targets.current().is_some());
        assert_eq!(owner(&table).await, None);
    }
}

#[tokio::test]
async fn a_process_declares_once_and_later_undoes_no_newer_declaration() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let targets = targets(plan, table.clone());
    targets.open().await.unwrap();
    assert_eq!(owner(&table).await.as_deref(), Some("shop"));
    foreign::set_property(&*table, KEY, "newer").await.unwrap();
    targets.forget();
    targets.open().await.unwrap();
    assert_eq!(owner(&table).await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_file_goes_with_files_of_the_same_opening_of_the_table_only() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let targets = targets(plan.clone(), made(&plan).await);
    targets.open().await.unwrap();
    let first = targets.current().unwrap();
    let more = Schema {
        fields: vec![Field::optional("note", Type::String)],
    };
    let rows = arrow_schema::arrow_schema(&more, &MetadataColumns::default());
    let extended = targets.for_rows(&rows).unwrap();
    assert!(!Arc::ptr_eq(&first, &extended) && extended.is_of_opening(&first));
    // What another process adds meanwhile may have the id that was predicted for the note.
    targets.forget();
    targets.open().await.unwrap();
    assert!(!targets.current().unwrap().is_of_opening(&extended));
}
