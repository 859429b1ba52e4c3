//! Small manifests become one on the way: nothing of what readers see changes.

use super::*;
use crate::catalog::faulty::foreign;
use crate::catalog::snapshot::{data_files, manifests};
use crate::plan::{PartitionField, PartitionTransform};

fn merging_at(count: usize, format_version: u8) -> IcebergPlan {
    let key = "commit.manifest.min-count-to-merge".to_owned();
    IcebergPlan {
        format_version,
        properties: [(key, count.to_string())].into(),
        ..plan()
    }
}

/// Commits of ten rows each, to three partitions in turn, from the `from`th on.
async fn commits(committer: &mut IcebergCommitter, opened: &Opened, turns: std::ops::Range<i64>) {
    for turn in turns {
        let (partition, start) = (i32::try_from(turn % 3).unwrap(), turn / 3 * 10);
        let expected = (start > 0).then_some(start);
        let wish = commit_of(opened, partition, expected, start + 10);
        committer.commit(&wish).await.unwrap();
    }
}

/// Of each file: its path, sequence numbers and first row id. Its snapshot is the one that added it.
async fn told(lab: &Lab) -> Vec<(String, Option<i64>, Option<i64>, Option<i64>)> {
    let table = lab.metadata().await;
    let entries = data_files(&lab.memory.file_io(), &table).await.unwrap();
    let mut told: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let snapshot = table.snapshot_by_id(entry.snapshot_id.unwrap()).unwrap();
            let added = Some(snapshot.sequence_number());
            assert!(
                table.format_version() == iceberg::spec::FormatVersion::V1
                    || entry.sequence_number == added
            );
            let sequences = (entry.sequence_number, entry.file_sequence_number);
            (
                entry.file_path,
                sequences.0,
                sequences.1,
                entry.first_row_id,
            )
        })
        .collect();
    told.sort();
    told
}

async fn list(lab: &Lab) -> Vec<iceberg::spec::ManifestFile> {
    let table = lab.metadata().await;
    let current = table.current_snapshot().unwrap();
    let io = lab.memory.file_io();
    manifests(&io, current, table.format_version())
        .await
        .unwrap()
}

#[tokio::test]
async fn manifests_are_few_and_files_keep_snapshot_sequence_and_row_ids() {
    for version in [1, 2, 3] {
        let (merged, plain) = (Lab::new(), Lab::new());
        for (lab, count) in [(&merged, 5), (&plain, 1_000)] {
            let mut committer = lab.committer();
            let plan = merging_at(count, version);
            let opened = committer.open(&plan, &columns(&["id"])).await.unwrap();
            commits(&mut committer, &opened, 0..40).await;
            foreign::compact(&*lab.memory).await.unwrap();
            commits(&mut committer, &opened, 40..61).await;
        }
        assert_eq!(told(&merged).await, told(&plain).await, "version {version}");
        assert_eq!(list(&plain).await.len(), 61);
        let list = list(&merged).await;
        assert!(list.len() <= 5, "{}", list.len());
        let rows: u64 = list
            .iter()
            .map(|m| m.added_rows_count.unwrap() + m.existing_rows_count.unwrap())
            .sum();
        assert_eq!(rows, 610);
        let (merged, plain) = (merged.metadata().await, plain.metadata().await);
        assert_eq!(merged.next_row_id(), plain.next_row_id());
    }
}

#[tokio::test]
async fn rows_of_a_table_that_was_upgraded_have_ids_of_their_own() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let opened = committer
        .open(&merging_at(4, 2), &columns(&["id"]))
        .await
        .unwrap();
    commits(&mut committer, &opened, 0..6).await;
    let declared = lab.committer();
    declared
        .declare(&merging_at(4, 3), Some(columns(&["id"])))
        .await
        .unwrap();
    commits(&mut committer, &opened, 6..20).await;
    let files = told(&lab).await;
    assert_eq!(files.len(), 20);
    let mut taken: Vec<i64> = files.iter().map(|file| file.3.unwrap()).collect();
    taken.sort_unstable();
    // Ten rows a file.
    assert!(
        taken.windows(2).all(|pair| pair[0] + 10 <= pair[1]),
        "{taken:?}"
    );
    let next = lab.metadata().await.next_row_id();
    assert!(taken.last().unwrap() + 10 <= i64::try_from(next).unwrap());
}

#[tokio::test]
async fn a_merged_manifest_of_a_commit_that_lost_is_deleted_with_the_others() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let opened = committer
        .open(&merging_at(3, 2), &columns(&["id"]))
        .await
        .unwrap();
    commits(&mut committer, &opened, 0..2).await;
    let faulty = FaultyTable::new(lab.memory.clone(), [Step::outcome(Outcome::Conflict)]);
    let lists = Arc::default();
    let spying = Arc::new(staging::Spy {
        inner: faulty,
        lists: Arc::clone(&lists),
    });
    let mut late = IcebergCommitter::new(spying, &SinkId(SINK.into()), pace(5), clock);
    let committed = late.commit(&commit_of(&opened, 2, None, 10)).await.unwrap();
    assert_eq!(committed.attempts, 2);
    assert_eq!(list(&lab).await.len(), 2);
    let io = lab.memory.file_io();
    let lists = lists.lock().clone();
    for (list, stays) in lists.iter().zip([false, true]) {
        let (directory, name) = list.rsplit_once('/').unwrap();
        let commit = name
            .splitn(4, '-')
            .nth(3)
            .unwrap()
            .trim_end_matches(".avro");
        for file in ["m0", "m1"] {
            let path = format!("{directory}/{commit}-{file}.avro");
            assert_eq!(io.exists(&path).await.unwrap(), stays, "{path}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_left_as_it_is_and_commits_go_on() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let opened = committer
        .open(&merging_at(3, 2), &columns(&["id"]))
        .await
        .unwrap();
    commits(&mut committer, &opened, 0..1).await;
    let broken = list(&lab).await[0].manifest_path.clone();
    let io = lab.memory.file_io();
    let output = io.new_output(&broken).unwrap();
    output.write("no manifest".into()).await.unwrap();
    commits(&mut committer, &opened, 1..9).await;
    let list = list(&lab).await;
    assert!(list.len() <= 4, "{}", list.len());
    assert_eq!(list.iter().filter(|m| m.manifest_path == broken).count(), 1);
    let files: u32 = list
        .iter()
        .map(|m| m.added_files_count.unwrap() + m.existing_files_count.unwrap())
        .sum();
    assert_eq!(files, 9);
}

#[tokio::test]
async fn manifests_of_a_spec_whose_column_was_dropped_keep_no_others_from_being_merged() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let by_shop = IcebergPlan {
        partition_by: vec![PartitionField {
            column: "shop".into(),
            transform: PartitionTransform::Identity,
            name: None,
        }],
        ..merging_at(100, 2)
    };
    let both = columns(&["id", "shop"]);
    let opened = committer.open(&by_shop, &both).await.unwrap();
    for turn in 0..30 {
        let (start, end) = (turn * 10, turn * 10 + 10);
        let mut wish = commit_of(&opened, 0, (start > 0).then_some(start), end);
        wish.files = vec![in_partition(&wish.files[0], 7)];
        committer.commit(&wish).await.unwrap();
    }
    let plain = merging_at(10, 2);
    let declared = committer.declare(&plain, Some(both)).await;
    assert!(matches!(declared.unwrap(), Declared::Synced { .. }));
    foreign::drop_column(&*lab.memory, "shop").await.unwrap();
    let opened = committer.open(&plain, &columns(&["id"])).await.unwrap();
    for turn in 30..60 {
        let wish = commit_of(&opened, 0, Some(turn * 10), turn * 10 + 10);
        committer.commit(&wish).await.unwrap();
    }
    let list = list(&lab).await;
    let of = |spec: i32| list.iter().filter(|m| m.partition_spec_id == spec).count();
    assert_eq!(of(0), 30);
    assert!(of(1) <= 10, "{}", of(1));
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 600)]));
}

/// The same file in a partition of one value.
fn in_partition(file: &DataFile, value: i64) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(file.file_path().to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(iceberg::spec::Literal::long(
            value,
        ))]))
        .record_count(file.record_count())
        .file_size_in_bytes(100)
        .build()
        .unwrap()
}

#[tokio::test]
async fn metadata_grow_by_what_commits_move_and_not_by_the_partitions_of_the_topic() {
    let lab = Lab::new();
    let mut committer = lab.committer();
    let opened = committer.open(&plan(), &columns(&["id"])).await.unwrap();
    let everything = IcebergCommit {
        claims: (0..500).map(|p| claim(p, None, 0, 1_000_000_000)).collect(),
        files: Vec::new(),
        ..commit_of(&opened, 0, None, 0)
    };
    committer.commit(&everything).await.unwrap();
    let mut sizes = Vec::new();
    for turn in 0..200i64 {
        // One of three pods, with a third of the partitions, of which a tenth had records.
        let first = i32::try_from(turn % 3).unwrap();
        let at = 1_000_000_000 + turn / 30 * 10;
        let moved = (0..500)
            .filter(|p| p % 3 == first && p / 3 % 10 == i32::try_from(turn / 3 % 10).unwrap());
        let idle = IcebergCommit {
            claims: moved.map(|p| claim(p, Some(at), at, at + 10)).collect(),
            files: Vec::new(),
            ..commit_of(&opened, 0, None, 0)
        };
        committer.commit(&idle).await.unwrap();
        let metadata = lab.metadata().await;
        sizes.push(serde_json::to_vec(&*metadata).unwrap().len());
    }
    let a_snapshot = (sizes[199] - sizes[99]) / 100;
    assert!(a_snapshot < 1500, "{a_snapshot} bytes a snapshot");
    let ledger = lab.ledger().await;
    assert_eq!(ledger.next.len(), 500);
}
