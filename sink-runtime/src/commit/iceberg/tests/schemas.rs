//! Schema changes that travel with a commit.

use super::*;
use crate::catalog::faulty::foreign;

// T21
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_writers_that_see_the_same_new_column_change_the_schema_once() {
    let lab = Lab::new();
    lab.opened().await;
    let writers = (0..16).map(|partition| {
        let mut committer = lab.committer_with(400);
        async move {
            let opened = committer
                .open(&plan(), &columns(&["id", "new"]))
                .await
                .unwrap();
            (committer, commit_of(&opened, partition, None, 10))
        }
    });
    let ready = futures::future::join_all(writers).await;
    assert!(
        ready
            .iter()
            .all(|(_, wish)| wish.columns.schema.field_id_by_name("new") == Some(2))
    );
    let commits = ready.into_iter().map(|(mut committer, wish)| {
        tokio::spawn(async move { committer.commit(&wish).await.unwrap() })
    });
    let done: Vec<Committed> = futures::future::join_all(commits)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        done.iter().filter(|c| !c.schema_changes.is_empty()).count(),
        1
    );
    let table = lab.metadata().await;
    assert_eq!(table.schemas_iter().len(), 2);
    assert_eq!(table.last_column_id(), 2);
    assert_eq!(lab.visible().await.len(), 16);
}

#[tokio::test]
async fn files_whose_predicted_ids_went_to_another_column_are_to_be_written_again() {
    let lab = Lab::new();
    // Of the type that other engines' columns have here: only the name tells them apart.
    let columns = |names: &[&str]| Schema {
        fields: names
            .iter()
            .map(|name| Field::optional(*name, Type::String))
            .collect(),
    };
    let mut committer = lab.committer();
    let opened = committer
        .open(&plan(), &columns(&["id", "mine"]))
        .await
        .unwrap_or_else(|e| panic!("{e:?}"));
    // The table was created with both; what follows is predicted on top of it.
    let opened = {
        drop(opened);
        committer
            .open(&plan(), &columns(&["id", "mine", "next"]))
            .await
            .unwrap()
    };
    foreign::add_column(&*lab.memory, "theirs").await.unwrap();
    let moved = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap_err();
    assert!(matches!(moved.failure, IcebergFailure::SchemaMoved(_)));
    assert!(!moved.maybe_applied);

    let opened = committer
        .open(&plan(), &columns(&["id", "mine", "next"]))
        .await
        .unwrap();
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert_eq!(
        lab.metadata()
            .await
            .current_schema()
            .field_id_by_name("next"),
        Some(4)
    );
}

#[tokio::test]
async fn a_foreign_column_that_comes_between_is_seen_by_the_retry() {
    let lab = Lab::with(vec![Step::default().before(|table| async move {
        foreign::add_column(&*table, "theirs").await.unwrap();
    })]);
    let (mut committer, opened) = lab.opened().await;
    let done = committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    assert_eq!(done.attempts, 2);
    let table = lab.metadata().await;
    let snapshot = table.current_snapshot().unwrap();
    assert_eq!(snapshot.schema_id(), Some(table.current_schema_id()));
    assert!(table.current_schema().field_by_name("theirs").is_some());
}

#[tokio::test]
async fn a_schema_change_and_its_rows_are_one_commit() {
    let lab = Lab::new();
    let (mut committer, _) = lab.opened().await;
    let opened = committer
        .open(&plan(), &columns(&["id", "new"]))
        .await
        .unwrap();
    assert!(
        lab.metadata()
            .await
            .current_schema()
            .field_by_name("new")
            .is_none()
    );
    committer
        .commit(&commit_of(&opened, 0, None, 10))
        .await
        .unwrap();
    let table = lab.metadata().await;
    assert_eq!(table.current_schema().field_id_by_name("new"), Some(2));
    assert_eq!(
        table.current_snapshot().unwrap().schema_id(),
        Some(table.current_schema_id())
    );
}

#[tokio::test]
async fn a_partition_field_that_gets_the_name_of_a_new_column_before_the_commit_has_it_read_again()
{
    // Catalogs that see no conflict refuse it.
    for outcome in [Outcome::Real, Outcome::Refused] {
        let between = Step::outcome(outcome).before(|table| async move {
            foreign::add_buckets(&*table, "id", "shard").await.unwrap();
        });
        let lab = Lab::with(vec![between]);
        let (mut committer, _) = lab.opened().await;
        let opened = committer
            .open(&plan(), &columns(&["id", "shard"]))
            .await
            .unwrap();
        let wish = commit_of(&opened, 0, None, 10);
        let moved = committer.commit(&wish).await.unwrap_err();
        match moved.failure {
            IcebergFailure::SchemaMoved(moved) => assert_eq!(moved.column, "shard"),
            other => panic!("{outcome:?}: {other:?}"),
        }
        assert!(!moved.maybe_applied);
        assert_eq!(lab.visible().await.len(), 0);
        // Where the columns are declared the resource is refused, with what to do.
        let refused = committer
            .open(&plan(), &columns(&["id", "shard"]))
            .await
            .unwrap_err();
        let IcebergFailure::Incompatible(why) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.to_string().contains("partition field"), "{why}");
    }
}

#[tokio::test]
async fn a_change_of_columns_requires_that_no_partition_field_comes_between() {
    let lab = Lab::new();
    let (mut committer, first) = lab.opened().await;
    let opened = committer.open(&plan(), &columns(&["id", "new"])).await;
    let change = |opened: &Opened| Change {
        snapshot_id: 1,
        commit_uuid: Uuid::new_v4(),
        now_ms: clock(),
        files: vec![file(0, 0, 10)],
        spec_id: opened.spec.spec_id(),
        schema: (opened.columns != opened.table_columns)
            .then(|| opened.columns.schema.as_ref().clone()),
        set_properties: BTreeMap::new(),
        remove_properties: vec![],
        summary: BTreeMap::new(),
        merge: None,
    };
    let base = lab.memory.load().await.unwrap();
    let io = lab.memory.file_io();
    let rows = stage::stage(&io, &base, change(&first)).await.unwrap();
    let columns = stage::stage(&io, &base, change(&opened.unwrap()))
        .await
        .unwrap();
    foreign::add_buckets(&*lab.memory, "id", "shard")
        .await
        .unwrap();
    let now = lab.metadata().await;
    let holds = |staged: &Staged| {
        let mut requirements = staged.requirements.iter();
        requirements.all(|required| required.check(Some(&now)).is_ok())
    };
    assert!(holds(&rows), "rows of an older spec are no worse");
    assert!(!holds(&columns));
}

#[tokio::test]
async fn a_column_that_may_not_be_added_stops_opening_with_the_remedy() {
    let lab = Lab::new();
    let (mut committer, _) = lab.opened().await;
    let mut strict = plan();
    strict.evolution.add_columns = false;
    let refused = committer
        .open(&strict, &columns(&["id", "new"]))
        .await
        .unwrap_err();
    let IcebergFailure::Incompatible(why) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.to_string().contains("evolution.addColumns"), "{why}");
}
