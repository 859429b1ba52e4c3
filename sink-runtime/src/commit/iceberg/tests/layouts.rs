//! Partitions, order, columns, properties and format change under a sink that runs.

use super::*;
use crate::catalog::faulty::foreign;
use crate::plan::{PartitionField, PartitionTransform, SortField};

/// The plan with another layout, as the next version of the resource says it.
fn laid_out(format_version: u8) -> IcebergPlan {
    IcebergPlan {
        format_version,
        partition_by: vec![PartitionField {
            column: "id".into(),
            transform: PartitionTransform::Bucket(4),
            name: None,
        }],
        sort_order: vec![SortField {
            column: "id".into(),
            transform: PartitionTransform::Identity,
            descending: false,
            nulls_first: true,
        }],
        properties: [("owner".to_owned(), "shop".to_owned())].into(),
        ..plan()
    }
}

async fn declare(lab: &Lab, plan: &IcebergPlan, names: &[&str]) {
    let declared = lab.committer().declare(plan, Some(columns(names))).await;
    assert!(matches!(declared.unwrap(), Declared::Synced { .. }));
}

/// Spec ids of the manifests that a reader of `main` sees, with the number of live rows in each.
async fn manifests(lab: &Lab) -> Vec<(i32, u64)> {
    let table = lab.metadata().await;
    let (io, current) = (lab.memory.file_io(), table.current_snapshot().unwrap());
    let list = crate::catalog::snapshot::manifests(&io, current, table.format_version());
    let list = list.await.unwrap();
    let rows = list.iter().map(|manifest| {
        let rows = manifest.added_rows_count.unwrap() + manifest.existing_rows_count.unwrap();
        (manifest.partition_spec_id, rows)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn files_written_before_a_change_of_layout_are_committed_with_their_own_partition_spec() {
    for version in [2, 3] {
        let lab = Lab::new();
        let (mut running, opened) = lab.opened().await;
        running
            .commit(&commit_of(&opened, 0, None, 10))
            .await
            .unwrap();
        declare(&lab, &laid_out(version), &["id", "note"]).await;
        let wish = commit_of(&opened, 0, Some(10), 30);
        let committed = running.commit(&wish).await.unwrap();
        assert_eq!(committed.attempts, 1);
        let metadata = lab.metadata().await;
        assert_eq!(metadata.format_version() as u8, version);
        assert_ne!(metadata.default_partition_spec_id(), opened.spec.spec_id());
        assert_eq!(metadata.properties()["owner"], "shop");
        assert_eq!(manifests(&lab).await, [(0, 10), (0, 20)]);
        assert_eq!(lab.visible().await.len(), 2);
        // Who opens it now writes in the new layout.
        let mut fresh = lab.committer();
        let reopened = fresh
            .open(&laid_out(version), &columns(&["id", "note"]))
            .await
            .unwrap();
        assert_eq!(reopened.spec.fields().len(), 1);
        assert_eq!(reopened.sort_order.fields.len(), 1);
        assert_eq!(reopened.ledger.next, offsets(&[(0, 30)]));
    }
}

#[tokio::test]
async fn a_change_of_layout_between_look_and_commit_loses_and_doubles_nothing() {
    for version in [2, 3] {
        let between = Step::default().before(move |table| async move {
            let other = IcebergCommitter::new(table, &SinkId(SINK.into()), pace(5), clock);
            let declared = other
                .declare(&laid_out(version), Some(columns(&["id", "note"])))
                .await;
            assert!(matches!(declared.unwrap(), Declared::Synced { .. }));
        });
        let lab = Lab::with(vec![between]);
        let (mut running, opened) = lab.opened().await;
        let wish = commit_of(&opened, 0, None, 10);
        let committed = running.commit(&wish).await.unwrap();
        assert_eq!(committed.attempts, 2);
        assert_eq!(lab.ledger().await.next, offsets(&[(0, 10)]));
        assert_eq!(manifests(&lab).await, [(0, 10)]);
    }
}

#[tokio::test]
async fn a_commit_that_is_refused_since_the_table_was_upgraded_meanwhile_is_staged_again() {
    let refused = Step::outcome(Outcome::Refused).before(|table| async move {
        let other = IcebergCommitter::new(table, &SinkId(SINK.into()), pace(5), clock);
        let declared = other.declare(&laid_out(3), Some(columns(&["id"]))).await;
        assert!(matches!(declared.unwrap(), Declared::Synced { .. }));
    });
    let lab = Lab::with(vec![refused]);
    let (mut running, opened) = lab.opened().await;
    let committed = running.commit(&commit_of(&opened, 0, None, 10)).await;
    assert_eq!(committed.unwrap().attempts, 2);
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 10)]));
}

#[tokio::test]
async fn files_of_a_partition_spec_that_is_gone_are_to_be_written_again() {
    let lab = Lab::new();
    let (mut running, opened) = lab.opened().await;
    declare(&lab, &laid_out(2), &["id"]).await;
    foreign::remove_old_specs(&*lab.table).await.unwrap();
    let wish = commit_of(&opened, 0, None, 10);
    let refused = running.commit(&wish).await.unwrap_err();
    assert!(
        matches!(refused.failure, IcebergFailure::LayoutMoved { spec_id: 0 }),
        "{refused:?}"
    );
    assert!(!refused.maybe_applied);
    // Progress without rows needs no partition spec of its own.
    let mut wish = commit_of(&opened, 0, None, 10);
    wish.files.clear();
    running.commit(&wish).await.unwrap();
    assert_eq!(lab.ledger().await.next, offsets(&[(0, 10)]));
}
