#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use iceberg::spec::{
    FormatVersion, NestedField, PartitionSpec, PrimitiveType, Schema, SortOrder,
    TableMetadataBuilder, Type,
};

use super::*;
use crate::catalog::stage;

fn initial() -> TableMetadata {
    let schema = Schema::builder()
        .with_fields([NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into()])
        .build()
        .unwrap();
    TableMetadataBuilder::new(
        schema,
        PartitionSpec::unpartition_spec(),
        SortOrder::unsorted_order(),
        String::new(),
        FormatVersion::V2,
        [].into(),
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

fn table(root: &Path) -> LocalTable {
    LocalTable::new(root, &["sales".to_owned()], "orders").unwrap()
}

fn with_property(base: &Base, key: &str) -> TableMetadataBuildResult {
    TableMetadata::clone(&base.metadata)
        .into_builder(base.metadata_location.clone())
        .set_properties([(key.to_owned(), "1".to_owned())].into())
        .unwrap()
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_table_that_is_not_there_is_told_apart_from_one_that_is() {
    let root = tempfile::tempdir().unwrap();
    let table = table(root.path());
    assert!(matches!(
        table.load().await,
        Err(CatalogError::NoSuchTable { .. })
    ));
    table.create(initial()).await.unwrap();
    assert!(matches!(
        table.create(initial()).await,
        Err(CatalogError::TableExists { .. })
    ));
}

#[tokio::test]
async fn the_hint_names_the_current_metadata_file() {
    let root = tempfile::tempdir().unwrap();
    let table = table(root.path());
    let base = table.create(initial()).await.unwrap();
    table
        .commit(&base, with_property(&base, "a"), vec![])
        .await
        .unwrap();
    let hint = std::fs::read_to_string(table.metadata_directory().join(HINT)).unwrap();
    assert!(hint.starts_with("00001-"), "{hint}");
    assert!(
        table
            .metadata_directory()
            .join(format!("{hint}.metadata.json"))
            .exists()
    );
}

#[tokio::test]
async fn of_commits_on_one_base_one_wins_and_the_others_hear_so() {
    let root = tempfile::tempdir().unwrap();
    let base = table(root.path()).create(initial()).await.unwrap();
    let commits = (0..8).map(|n| {
        let (table, base) = (table(root.path()), base.clone());
        tokio::spawn(async move {
            let built = with_property(&base, &format!("writer-{n}"));
            table.commit(&base, built, vec![]).await
        })
    });
    let answers = futures::future::join_all(commits).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .map(Result::unwrap)
        .partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|l| matches!(l, Err(CommitError::Conflict))));
}

#[tokio::test]
async fn expired_metadata_files_go_when_the_table_asks_for_it() {
    let root = tempfile::tempdir().unwrap();
    let table = table(root.path());
    let created = table.create(initial()).await.unwrap();
    let built = TableMetadata::clone(&created.metadata)
        .into_builder(created.metadata_location.clone())
        .set_properties(
            [
                ("write.metadata.previous-versions-max", "2"),
                ("write.metadata.delete-after-commit.enabled", "true"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        )
        .unwrap()
        .build()
        .unwrap();
    table.commit(&created, built, vec![]).await.unwrap();
    for n in 0..6 {
        let base = table.load().await.unwrap();
        let built = with_property(&base, &format!("k{n}"));
        table.commit(&base, built, vec![]).await.unwrap();
    }
    let files = std::fs::read_dir(table.metadata_directory())
        .unwrap()
        .filter(|e| {
            e.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .ends_with(SUFFIX)
        })
        .count();
    assert_eq!(files, 3, "the current one and two before it");
}

#[test]
fn a_name_that_leaves_the_warehouse_is_refused() {
    for name in ["..", "a/b", "", ".hidden"] {
        assert!(LocalTable::new(Path::new("/w"), &["ns".to_owned()], name).is_err());
    }
}

#[tokio::test]
async fn metadata_that_are_not_read_again_are_those_of_the_file_and_a_foreign_commit_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let (ours, theirs) = (table(root.path()), table(root.path()));
    ours.create(initial()).await.unwrap();
    for round in 0..3 {
        // A snapshot each, of two processes in turn.
        let writer = if round % 2 == 0 { &ours } else { &theirs };
        let base = writer.load().await.unwrap();
        let change = stage::Change {
            snapshot_id: stage::fresh_snapshot_id(&base.metadata),
            commit_uuid: uuid::Uuid::new_v4(),
            now_ms: 1_700_000_000_000 + round,
            files: Vec::new(),
            spec_id: base.metadata.default_partition_spec_id(),
            schema: None,
            set_properties: [(format!("round-{round}"), "1".to_owned())].into(),
            remove_properties: Vec::new(),
            summary: [("tidewater.round".to_owned(), round.to_string())].into(),
            merge: None,
        };
        let staged = stage::stage(&writer.file_io(), &base, change)
            .await
            .unwrap();
        writer
            .commit(&base, staged.built, staged.requirements)
            .await
            .unwrap();
        let read = table(root.path()).load().await.unwrap();
        for reader in [&ours, &theirs] {
            let known = reader.load().await.unwrap();
            assert_eq!(known.metadata, read.metadata, "round {round}");
            assert_eq!(known.metadata_location, read.metadata_location);
            assert_eq!(known.metadata_bytes, read.metadata_bytes);
        }
        assert_eq!(read.metadata.snapshots().len() as i64, round + 1);
    }
    // The file itself is not looked at again.
    let location = ours.load().await.unwrap().metadata_location.unwrap();
    std::fs::write(&location, "gone").unwrap();
    assert!(ours.load().await.is_ok());
    assert!(table(root.path()).load().await.is_err());
}
