#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod distant;
mod doubts;

use tempfile::TempDir;

use super::*;
use crate::catalog::TableOps;
use crate::catalog::faulty::{FaultyTable, Outcome, Step, foreign};
use crate::catalog::memory::MemoryTable;
use crate::commit::iceberg::Pace;
use crate::ledger::{Claim, CommitId};
use crate::plan::{
    CatalogPlan, Evolution, Inference, MetadataColumns, OnConflict, OnDestinationReset, OnError,
    ParquetCompression, ParquetOptions, PartitionField, PartitionTransform, SinkId, Tombstones,
};
use crate::record::Offset;
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

fn targets(plan: IcebergPlan, table: Arc<dyn TableOps>) -> Arc<Targets> {
    let decode = DecodePlan {
        value: ValueSchema::Inferred(Inference::new(1, OnConflict::String)),
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
    let runtime = Handle::current();
    Arc::new(Targets::new(plan, &decode, committer, runtime, budget, 5))
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

/// Rows with these columns of text besides the table's.
fn rows(names: &[&str]) -> ArrowSchemaRef {
    let text = |name: &&str| Field::optional(*name, Type::String);
    let fields = names.iter().map(text).collect();
    arrow_schema::arrow_schema(&Schema { fields }, &MetadataColumns::default())
}

/// What a process that has this target open commits.
fn progress(target: &Target, partition: i32) -> IcebergCommit {
    let (start, end) = (Offset(0), Offset(1));
    let claim = Claim {
        tp: TopicPartition::new("orders", partition),
        expected: None,
        range: OffsetRange { start, end },
        generation: 0,
    };
    IcebergCommit {
        table: target.uuid,
        commit_id: CommitId::fresh(),
        claims: vec![claim],
        floor: BTreeMap::new(),
        cluster_id: None,
        census: None,
        topic_ids: BTreeMap::new(),
        last_reads: BTreeMap::new(),
        files: Vec::new(),
        spec: Arc::clone(&target.spec),
        columns: target.columns.clone(),
    }
}

fn id(target: &Target, column: &str) -> Option<i32> {
    target.columns.schema.field_id_by_name(column)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_is_predicted_from_the_table_as_it_is_after_the_last_commit() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let [ours, theirs] = [(); 2].map(|()| targets(plan.clone(), table.clone()));
    ours.open().await.unwrap();
    theirs.open().await.unwrap();
    let first = ours.current().unwrap();

    let with_x = theirs.for_rows(&rows(&["x"])).unwrap();
    theirs.commit(&progress(&with_x, 0)).await.unwrap();
    foreign::add_column(&*table, "comment").await.unwrap();
    ours.commit(&progress(&first, 1)).await.unwrap();
    let with_y = ours.for_rows(&rows(&["y"])).unwrap();
    let ids = ["id", "x", "comment", "y"].map(|column| id(&with_y, column));
    assert_eq!(ids, [1, 2, 3, 4].map(Some));
    assert!(with_y.is_of_opening(&first), "nothing is read again for it");
    ours.commit(&progress(&with_y, 2)).await.unwrap();
    let metadata = table.load().await.unwrap().metadata;
    assert_eq!(metadata.current_schema().field_id_by_name("y"), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_given_up_when_its_ids_went_to_other_columns() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let targets = targets(plan, table.clone());
    targets.open().await.unwrap();
    let first = targets.current().unwrap();
    let with_y = targets.for_rows(&rows(&["y"])).unwrap();
    // Of the very type that was predicted under its id.
    foreign::add_column(&*table, "comment").await.unwrap();
    // A commit of earlier files learns of it.
    targets.commit(&progress(&first, 0)).await.unwrap();
    assert!(targets.current().is_none());
    let moved = targets.commit(&progress(&with_y, 1)).await.unwrap_err();
    assert!(matches!(moved.failure, IcebergFailure::SchemaMoved(_)));
    targets.open().await.unwrap();
    let again = targets.for_rows(&rows(&["y"])).unwrap();
    assert_eq!(
        ["comment", "y"].map(|column| id(&again, column)),
        [Some(2), Some(3)]
    );
    assert!(!again.is_of_opening(&with_y));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_renamed_while_it_is_written_is_not_made_anew() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let targets = targets(plan, table.clone());
    targets.open().await.unwrap();
    let with_note = targets.for_rows(&rows(&["note"])).unwrap();
    targets.commit(&progress(&with_note, 0)).await.unwrap();
    foreign::rename_column(&*table, "note", "remark")
        .await
        .unwrap();
    let moved = targets.commit(&progress(&with_note, 1)).await.unwrap_err();
    assert!(matches!(moved.failure, IcebergFailure::SchemaMoved(_)));
    targets.forget();
    targets.open().await.unwrap();
    let refused = targets.for_rows(&rows(&["note"])).unwrap_err();
    assert!(
        refused.to_string().contains("renamed to \"remark\""),
        "{refused}"
    );
    assert!(targets.for_rows(&rows(&["other"])).is_ok());
}

fn columns(fields: Vec<Field>) -> ArrowSchemaRef {
    arrow_schema::arrow_schema(&Schema { fields }, &MetadataColumns::default())
}

fn by(column: &str, transform: PartitionTransform, name: Option<&str>) -> PartitionField {
    PartitionField {
        column: column.to_owned(),
        transform,
        name: name.map(str::to_owned),
    }
}

/// As a worker asks.
async fn for_rows(targets: &Arc<Targets>, fields: Vec<Field>) -> Result<Arc<Target>, ShelfError> {
    let targets = Arc::clone(targets);
    let asked = tokio::task::spawn_blocking(move || targets.for_rows(&columns(fields)));
    asked.await.unwrap()
}

fn column_turned_down(refused: Result<Arc<Target>, ShelfError>) -> (String, Arc<Precedent>) {
    match refused {
        Err(ShelfError::Unlike {
            column, precedent, ..
        }) => (column, precedent),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_table_is_made_with_what_it_is_laid_out_by_though_no_record_has_it_yet() {
    let folder = TempDir::new().unwrap();
    let mut plan = plan(&folder);
    plan.partition_by = vec![
        by("country", PartitionTransform::Identity, None),
        by("place.city", PartitionTransform::Truncate(3), None),
    ];
    let table = Arc::new(MemoryTable::new("orders"));
    let targets = targets(plan, table.clone());
    assert!(targets.open().await.unwrap().is_none());
    let made = for_rows(&targets, vec![Field::optional("id", Type::Long)]).await;
    let made = made.unwrap();
    let text = |name: &str| {
        made.columns
            .schema
            .field_by_name(name)
            .unwrap()
            .field_type
            .to_string()
    };
    assert_eq!([text("country"), text("place.city")], ["string", "string"]);
    assert_eq!(made.spec.fields().len(), 2);
    // The next record has another type: it is told what the table has.
    let (column, precedent) =
        column_turned_down(for_rows(&targets, vec![Field::optional("country", Type::Long)]).await);
    assert_eq!(column, "country");
    assert_eq!(precedent.columns.fields.len(), 3);
    assert!(precedent.taken.contains_key("place_city_trunc_3"));
}

#[tokio::test]
async fn a_table_that_somebody_made_before_the_first_rows_keeps_its_types() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = Arc::new(MemoryTable::new("orders"));
    let late = targets(plan.clone(), table.clone());
    assert!(late.open().await.unwrap().is_none());
    let first = targets(plan, table);
    let int = Field::optional("id", Type::Int);
    for_rows(&first, vec![int.clone()]).await.unwrap();
    let text = Field::optional("id", Type::String);
    let (column, precedent) = column_turned_down(for_rows(&late, vec![text]).await);
    assert_eq!(
        (column.as_str(), &precedent.columns.fields[..]),
        ("id", &[int][..])
    );
}

#[tokio::test]
async fn a_column_too_many_or_with_the_name_of_a_partition_field_is_turned_down() {
    let folder = TempDir::new().unwrap();
    let mut plan = plan(&folder);
    plan.partition_by = vec![by("id", PartitionTransform::Bucket(4), Some("shard"))];
    let mut targets = targets(plan, Arc::new(MemoryTable::new("orders")));
    Arc::get_mut(&mut targets).unwrap().max_columns = 3;
    let long = |name: &str| Field::optional(name, Type::Long);
    for_rows(&targets, vec![long("id")]).await.unwrap();
    let refused = for_rows(&targets, vec![long("id"), long("shard")]).await;
    assert_eq!(column_turned_down(refused).0, "shard");
    let inner = Field::optional("p", Type::Struct(vec![long("x"), long("y")]));
    let refused = for_rows(&targets, vec![long("id"), inner]).await;
    assert_eq!(column_turned_down(refused).0, "p");
    let inner = Field::optional("p", Type::Struct(vec![long("x")]));
    for_rows(&targets, vec![long("id"), inner]).await.unwrap();
    let refused = for_rows(&targets, vec![long("more")]).await;
    assert_eq!(column_turned_down(refused).0, "more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_field_that_somebody_adds_while_a_sink_runs_has_its_name_after_the_next_commit()
{
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let targets = Arc::new(targets(plan, table.clone()));
    targets.open().await.unwrap();
    let first = targets.current().unwrap();
    foreign::add_buckets(&*table, "id", "shard").await.unwrap();
    targets.commit(&progress(&first, 0)).await.unwrap();
    let current = targets.current().unwrap();
    assert!(
        current.is_of_opening(&first),
        "nothing is read again for it"
    );
    let precedent = targets.precedent(&current).unwrap();
    assert!(precedent.taken.contains_key("shard"));
    let text = |name: &str| Field::optional(name, Type::String);
    let refused = for_rows(&targets, vec![text("shard")]).await;
    assert_eq!(column_turned_down(refused).0, "shard");
    for_rows(&targets, vec![text("other")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_given_up_when_a_partition_field_got_the_name_of_its_column() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = made(&plan).await;
    let targets = Arc::new(targets(plan, table.clone()));
    targets.open().await.unwrap();
    let first = targets.current().unwrap();
    let with_shard = targets.for_rows(&rows(&["shard"])).unwrap();
    foreign::add_buckets(&*table, "id", "shard").await.unwrap();
    // A commit of earlier files learns of it.
    targets.commit(&progress(&first, 0)).await.unwrap();
    assert!(targets.current().is_none());
    let moved = targets.commit(&progress(&with_shard, 1)).await.unwrap_err();
    assert!(matches!(moved.failure, IcebergFailure::SchemaMoved(_)));
    assert!(!moved.maybe_applied);
    targets.open().await.unwrap();
    let text = Field::optional("shard", Type::String);
    let refused = for_rows(&targets, vec![text]).await;
    assert_eq!(column_turned_down(refused).0, "shard");
}

#[tokio::test]
async fn what_a_table_requires_stays_required_until_a_record_lacks_it() {
    let folder = TempDir::new().unwrap();
    let plan = plan(&folder);
    let table = Arc::new(MemoryTable::new("orders"));
    let id = || Field::required("id", Type::Int);
    let inner = Field::optional("in", Type::Struct(vec![Field::required("x", Type::Long)]));
    let columns = Schema {
        fields: vec![id(), inner.clone()],
    };
    let made = targets(plan.clone(), table.clone());
    made.open_with(&columns).await.unwrap();

    let targets = targets(plan, table);
    targets.open().await.unwrap();
    let opened = targets.current().unwrap();
    let required =
        |target: &Target, name: &str| target.columns.schema.field_by_name(name).unwrap().required;
    assert!(required(&opened, "id") && required(&opened, "in.x"));
    let precedent = targets.precedent(&opened).unwrap();
    assert_eq!(precedent.columns.fields, [id(), inner]);
    let asked = for_rows(&targets, vec![Field::optional("id", Type::Int)]).await;
    assert!(!required(&asked.unwrap(), "id"));
}
