//! What a commit writes, and what it leaves.

use super::*;

// R10
#[tokio::test]
async fn a_table_whose_last_writers_clock_was_ahead_takes_commits_and_new_columns() {
    const YEAR: i64 = 365 * 86_400_000;
    let lab = Lab::new();
    let (_, opened) = lab.opened().await;
    let ahead = || clock() + YEAR;
    let table = || lab.table.clone();
    let mut early = IcebergCommitter::new(table(), &SinkId(SINK.into()), pace(5), ahead);
    early.open(&plan(), &columns(&["id"])).await.unwrap();
    early
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();

    let mut committer = lab.committer();
    let opened = committer
        .open(&plan(), &columns(&["id", "new"]))
        .await
        .unwrap();
    for (expected, end) in [(10, 20), (20, 30)] {
        committer
            .commit(&commit_of(&opened, 0, Some(expected), end))
            .await
            .unwrap();
    }
    let table = lab.metadata().await;
    assert_eq!(table.current_schema().field_id_by_name("new"), Some(2));
    let snapshot = table.current_snapshot().unwrap();
    assert_eq!(snapshot.schema_id(), Some(table.current_schema_id()));
    assert!(snapshot.timestamp_ms() > clock());
    assert_eq!(lab.visible().await.len(), 3);
}
use crate::catalog::faulty::foreign;
use crate::catalog::stage;

#[tokio::test]
async fn the_ledger_is_in_the_properties_and_what_moved_in_the_summary() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let both = IcebergCommit {
        claims: vec![claim(0, None, 0, 10), claim(2, None, 0, 30)],
        ..commit_of(&opened, 0, None, 10)
    };
    committer.commit(&both).await.unwrap();
    let wish = commit_of(&opened, 2, Some(30), 40);
    committer.commit(&wish).await.unwrap();
    let table = lab.metadata().await;
    let properties = table.properties();
    for (key, value) in [
        ("offsets", r#"{"orders":{"0":10,"2":40}}"#),
        ("floor", r#"{"orders":{"0":10,"2":40}}"#),
        ("commit-id", &wish.commit_id.to_string()),
        ("cluster-id", "cluster-1"),
    ] {
        let key = format!("tidewater.default.orders.{key}");
        assert_eq!(properties[&key], value);
    }
    let current = table.current_snapshot().unwrap();
    let own = |snapshot: &iceberg::spec::Snapshot| -> BTreeMap<String, String> {
        let summary = snapshot.summary().additional_properties.clone();
        let ours = summary.into_iter();
        ours.filter(|(key, _)| key.starts_with("tidewater"))
            .collect()
    };
    let moved = own(current);
    let digest = &moved["tidewater.default.orders.offsets"]["moved ".len()..22];
    assert_eq!(
        moved,
        BTreeMap::from([
            (
                "tidewater.default.orders.offsets".to_owned(),
                format!("moved {digest} orders=2:40")
            ),
            ("tidewater.commit-id".to_owned(), wish.commit_id.to_string()),
        ])
    );
    let parent = table.snapshot_by_id(current.parent_snapshot_id().unwrap());
    assert_eq!(
        own(parent.unwrap())["tidewater.default.orders.offsets"],
        "all orders=0:10,2:30"
    );
}

#[tokio::test]
async fn progress_without_rows_is_a_commit_too() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let mut idle = commit_of(&opened, 0, Some(10), 50);
    idle.files.clear();
    committer.commit(&idle).await.unwrap();
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 50)]));
    assert_eq!(lab.visible().await, ["0+0-10.parquet"]);
}

#[tokio::test]
async fn files_without_claims_are_not_committed() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let mut wish = commit_of(&opened, 0, None, 10);
    wish.claims.clear();
    let refused = committer.commit(&wish).await.unwrap_err();
    assert!(matches!(refused.failure, IcebergFailure::Unclaimed));
    assert!(lab.visible().await.is_empty());
}

#[tokio::test]
async fn version_three_tables_number_their_rows() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let third = IcebergPlan {
        format_version: 3,
        ..plan()
    };
    let opened = committer.open(&third, &columns(&["id"])).await.unwrap();
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    foreign::compact(&*lab.memory).await.unwrap();
    committer
        .commit(&commit_of(&opened, 0, Some(10), 25))
        .await
        .unwrap();
    let table = lab.metadata().await;
    assert_eq!(table.next_row_id(), 25);
    assert_eq!(
        table.current_snapshot().unwrap().row_range(),
        Some((10, 15))
    );
    assert_eq!(lab.visible().await.len(), 2);
}

#[tokio::test]
async fn a_version_one_table_takes_commits() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let first = IcebergPlan {
        format_version: 1,
        ..plan()
    };
    let opened = committer.open(&first, &columns(&["id"])).await.unwrap();
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    committer
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    assert_eq!(lab.visible().await.len(), 2);
}

#[tokio::test]
async fn a_clock_behind_the_table_does_not_stop_commits() {
    let lab = Lab::new();
    lab.opened().await;
    let mut behind = IcebergCommitter::new(lab.table.clone(), &SinkId(SINK.into()), pace(5), || 0);
    let opened = behind.open(&plan(), &columns(&["id"])).await.unwrap();
    behind
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    behind
        .commit(&commit_of(&opened, 0, Some(10), 20))
        .await
        .unwrap();
    assert_eq!(lab.visible().await.len(), 2);
}

#[tokio::test]
async fn files_of_a_spec_the_table_does_not_have_are_not_committed() {
    let lab = Lab::new();
    let (mut committer, opened) = lab.opened().await;
    let mut wish = commit_of(&opened, 0, None, 10);
    let spec = |id, transform| {
        let spec = PartitionSpec::builder(opened.columns.schema.clone()).with_spec_id(id);
        let spec = spec.add_partition_field("id", "part", transform);
        Arc::new(spec.unwrap().build().unwrap())
    };
    // The second has an id that the table gave to another.
    for (id, transform) in [(9, Transform::Void), (0, Transform::Bucket(4))] {
        wish.spec = spec(id, transform);
        let refused = committer.commit(&wish).await.unwrap_err();
        assert!(
            matches!(refused.failure, IcebergFailure::LayoutMoved { spec_id } if spec_id == id),
            "{refused:?}"
        );
    }
    assert!(lab.metadata().await.current_snapshot().is_none());
}

/// Stages one commit and tells its manifest files.
async fn staged_paths(lab: &Lab, outcome: Outcome) -> Vec<(String, bool)> {
    let (_, opened) = lab.opened().await;
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let faulty = FaultyTable::new(lab.memory.clone(), [Step::outcome(outcome)]);
    let spying = Arc::new(Spy {
        inner: faulty,
        lists: seen.clone(),
    });
    let mut committer = IcebergCommitter::new(spying, &SinkId(SINK.into()), pace(5), clock);
    let _ = committer.commit(&commit_of(&opened, 0, None, 10)).await;
    let lists = seen.lock().clone();
    let mut found = Vec::new();
    for list in lists {
        let there = lab.memory.file_io().exists(&list).await.unwrap();
        found.push((list, there));
    }
    found
}

#[tokio::test]
async fn manifests_of_a_lost_attempt_go_only_when_it_certainly_lost() {
    for (outcome, stays) in [
        (Outcome::Conflict, false),
        (Outcome::Refused, false),
        (Outcome::LostRequest, true),
        (Outcome::Unavailable, true),
        (Outcome::LostReply, true),
    ] {
        let lists = staged_paths(&Lab::new(), outcome).await;
        assert_eq!(lists[0].1, stays, "{outcome:?}");
    }
}

#[tokio::test]
async fn staging_that_fails_leaves_no_files() {
    let lab = Lab::new();
    let (_, opened) = lab.opened().await;
    let base = lab.memory.load().await.unwrap();
    let mut broken = file(0, 0, 10);
    broken = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(broken.file_path().to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(iceberg::spec::Literal::int(1))]))
        .record_count(1)
        .file_size_in_bytes(1)
        .build()
        .unwrap();
    let change = Change {
        snapshot_id: 1,
        commit_uuid: Uuid::new_v4(),
        now_ms: clock(),
        files: vec![broken],
        spec_id: opened.spec.spec_id(),
        schema: None,
        set_properties: BTreeMap::new(),
        remove_properties: vec![],
        summary: BTreeMap::new(),
        merge: None,
    };
    assert!(
        stage::stage(&lab.memory.file_io(), &base, change)
            .await
            .is_err()
    );
}

/// Notes the manifest list of every commit.
#[derive(Debug)]
pub(super) struct Spy {
    pub(super) inner: FaultyTable,
    pub(super) lists: Arc<parking_lot::Mutex<Vec<String>>>,
}

#[async_trait::async_trait]
impl TableOps for Spy {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn file_io(&self) -> FileIO {
        self.inner.file_io()
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        self.inner.load().await
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        self.inner.create(initial).await
    }

    async fn commit(
        &self,
        base: &Base,
        built: iceberg::spec::TableMetadataBuildResult,
        requirements: Vec<iceberg::TableRequirement>,
    ) -> Result<(), CommitError> {
        let list = built
            .metadata
            .current_snapshot()
            .unwrap()
            .manifest_list()
            .to_owned();
        self.lists.lock().push(list);
        self.inner.commit(base, built, requirements).await
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        self.inner.drop_table(base).await
    }
}
