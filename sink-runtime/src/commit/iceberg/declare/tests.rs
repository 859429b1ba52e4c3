#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iceberg::spec::FormatVersion;

use super::*;
use crate::catalog::faulty::{FaultyTable, Outcome, Step as Fault, foreign};
use crate::catalog::memory::MemoryTable;
use crate::plan::{
    CatalogPlan, Evolution, IcebergPlan, OnDestinationReset, ParquetCompression, ParquetOptions,
    PartitionField, PartitionTransform, SortField,
};
use crate::schema::{Field, Schema, Type};

const PACE: Pace = Pace {
    attempts: 4,
    first: Duration::ZERO,
    longest: Duration::ZERO,
};

fn clock() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn declaration() -> Declaration {
    Declaration {
        sink: SinkId("shop.orders".into()),
        plan: IcebergPlan {
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
        },
        columns: Some(columns(&[
            ("id", Type::Int),
            ("at", Type::Timestamptz),
            ("country", Type::String),
        ])),
    }
}

fn columns(of: &[(&str, Type)]) -> Schema {
    let fields = of
        .iter()
        .map(|(name, ty)| Field::optional(*name, ty.clone()));
    Schema {
        fields: fields.collect(),
    }
}

fn by(column: &str, transform: PartitionTransform) -> PartitionField {
    PartitionField {
        column: column.into(),
        transform,
        name: None,
    }
}

fn sorted(column: &str) -> SortField {
    SortField {
        column: column.into(),
        transform: PartitionTransform::Identity,
        descending: true,
        nulls_first: false,
    }
}

/// What differs from [`declaration`].
fn with(change: impl FnOnce(&mut Declaration)) -> Declaration {
    let mut declaration = declaration();
    change(&mut declaration);
    declaration
}

fn full() -> Declaration {
    with(|d| {
        d.plan.partition_by = vec![by("at", PartitionTransform::Day)];
        d.plan.sort_order = vec![sorted("id")];
        d.plan.properties = [("owner".to_owned(), "shop".to_owned())].into();
    })
}

async fn declared(table: &dyn TableOps, wanted: &Declaration) -> Declared {
    declare(table, wanted, PACE, clock).await.unwrap()
}

/// The steps taken, as people read them.
async fn steps(table: &dyn TableOps, wanted: &Declaration) -> Vec<String> {
    match declared(table, wanted).await {
        Declared::Synced { steps, .. } => steps.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

async fn refused(table: &dyn TableOps, wanted: &Declaration) -> Vec<String> {
    let before = table.load().await.unwrap().metadata;
    let refused = match declared(table, wanted).await {
        Declared::Refused { changes, .. } => changes.refused,
        other => panic!("{other:?}"),
    };
    assert_eq!(table.load().await.unwrap().metadata, before);
    refused
}

/// A table made as [`declaration`] says.
async fn made() -> MemoryTable {
    let table = MemoryTable::new("orders");
    let made = declared(&table, &declaration()).await;
    assert!(matches!(made, Declared::Synced { created: true, .. }));
    table
}

#[tokio::test]
async fn a_missing_table_is_made_as_declared_and_is_then_settled() {
    let table = MemoryTable::new("orders");
    let Declared::Synced {
        created: true,
        table: base,
        ..
    } = declared(&table, &full()).await
    else {
        panic!("not made");
    };
    let metadata = &base.metadata;
    assert_eq!(metadata.properties()[CREATED_BY], "shop.orders");
    assert_eq!(metadata.properties()["owner"], "shop");
    assert_eq!(metadata.default_partition_spec().fields()[0].name, "at_day");
    assert_eq!(metadata.default_sort_order().fields.len(), 1);
    assert!(plan_changes(metadata, &full()).is_settled());
    assert_eq!(steps(&table, &full()).await, Vec::<String>::new());
    assert_eq!(
        table.load().await.unwrap().version_token,
        base.version_token
    );
}

#[tokio::test]
async fn a_table_that_is_not_to_be_made_or_has_no_columns_yet_is_not() {
    let table = MemoryTable::new("orders");
    let wanted = with(|d| d.plan.create_if_missing = false);
    let failure = declare(&table, &wanted, PACE, clock).await.unwrap_err();
    assert!(matches!(failure, IcebergFailure::TableMissing { .. }));
    let wanted = with(|d| d.columns = None);
    assert!(matches!(
        declared(&table, &wanted).await,
        Declared::Awaiting
    ));
    assert_eq!(preview(&table, &wanted, clock).await.unwrap(), None);
}

#[tokio::test]
async fn every_safe_change_is_one_commit_of_metadata() {
    let upgrade = "upgrade format version 2 to 3";
    let wider = with(|d| {
        d.columns = Some(columns(&[
            ("id", Type::Long),
            ("at", Type::Timestamptz),
            ("country", Type::String),
            ("note", Type::String),
        ]));
    });
    let cases: [(&str, Declaration, Vec<&str>); 7] = [
        ("nothing", declaration(), vec![]),
        (
            "columns",
            wider,
            vec!["widen \"id\" from int to long; add \"note\" string (id 4)"],
        ),
        (
            "partitions",
            with(|d| d.plan.partition_by = vec![by("country", PartitionTransform::Identity)]),
            vec!["partition by country instead of nothing"],
        ),
        (
            "order",
            with(|d| d.plan.sort_order = vec![sorted("at")]),
            vec!["sort by at desc nulls last instead of nothing"],
        ),
        (
            "property",
            with(|d| d.plan.properties = [("a".to_owned(), "1".to_owned())].into()),
            vec!["set property \"a\" to \"1\""],
        ),
        (
            "version",
            with(|d| d.plan.format_version = 3),
            vec![upgrade],
        ),
        (
            "all, and a partition by a new column",
            with(|d| {
                d.columns = Some(columns(&[
                    ("id", Type::Int),
                    ("at", Type::Timestamptz),
                    ("country", Type::String),
                    ("shop", Type::Long),
                ]));
                d.plan.format_version = 3;
                d.plan.partition_by = vec![by("shop", PartitionTransform::Bucket(8))];
                d.plan.sort_order = vec![sorted("shop")];
            }),
            vec![
                upgrade,
                "add \"shop\" long (id 4)",
                "partition by bucket(8, shop) instead of nothing",
                "sort by shop desc nulls last instead of nothing",
            ],
        ),
    ];
    for (name, wanted, expected) in cases {
        let table = made().await;
        let version = |base: &Base| {
            let token = base.version_token.as_deref();
            token.unwrap_or_default().parse::<u64>().unwrap()
        };
        let before = version(&table.load().await.unwrap());
        assert_eq!(steps(&table, &wanted).await, expected, "{name}");
        let after = version(&table.load().await.unwrap());
        assert_eq!(after - before, u64::from(!expected.is_empty()), "{name}");
        assert!(steps(&table, &wanted).await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn partition_fields_get_fresh_ids_and_get_back_those_they_had() {
    let table = made().await;
    let ids = async || {
        let metadata = table.load().await.unwrap().metadata;
        let fields = metadata.default_partition_spec().fields().iter();
        fields
            .map(|field| (field.name.clone(), field.field_id))
            .collect::<Vec<_>>()
    };
    let say = async |fields: &[PartitionField]| {
        steps(&table, &with(|d| d.plan.partition_by = fields.to_vec())).await
    };
    let day = by("at", PartitionTransform::Day);
    let hour = by("at", PartitionTransform::Hour);
    let country = by("country", PartitionTransform::Identity);
    say(std::slice::from_ref(&day)).await;
    assert_eq!(ids().await, [("at_day".to_owned(), 1000)]);
    say(&[hour, country.clone()]).await;
    assert_eq!(
        ids().await,
        [("at_hour".to_owned(), 1001), ("country".to_owned(), 1002)]
    );
    say(&[country, day]).await;
    assert_eq!(
        ids().await,
        [("country".to_owned(), 1002), ("at_day".to_owned(), 1000)]
    );
    assert_eq!(
        say(&[]).await,
        ["partition by nothing instead of country, day(at)"]
    );
    assert_eq!(
        table.load().await.unwrap().metadata.last_partition_id(),
        1002
    );
}

#[tokio::test]
async fn a_layout_that_the_table_had_before_is_named_and_not_added_again() {
    use iceberg::TableUpdate::{AddSortOrder, AddSpec};
    let table = made().await;
    let updates = async |wanted: &Declaration| {
        let metadata = table.load().await.unwrap().metadata;
        let changes = plan_changes(&metadata, wanted);
        let built = build::build(&metadata, None, &changes).unwrap();
        let adds = |update: &&_| matches!(update, AddSpec { .. } | AddSortOrder { .. });
        built.changes.iter().filter(adds).count()
    };
    for (wanted, added) in [(full(), 2), (declaration(), 0), (full(), 0)] {
        assert_eq!(updates(&wanted).await, added);
        steps(&table, &wanted).await;
    }
}

#[tokio::test]
async fn what_was_declared_once_and_is_not_any_more_goes_and_what_others_set_stays() {
    let table = made().await;
    steps(&table, &full()).await;
    foreign::set_property(&table, "theirs", "1").await.unwrap();
    assert_eq!(
        steps(&table, &declaration()).await,
        [
            "partition by nothing instead of day(at)",
            "sort by nothing instead of id desc nulls last",
            "remove property \"owner\"",
        ]
    );
    let metadata = table.load().await.unwrap().metadata;
    assert_eq!(metadata.properties()["theirs"], "1");
    assert!(
        !metadata
            .properties()
            .contains_key("tidewater.shop.orders.declared")
    );
}

#[tokio::test]
async fn a_table_of_somebody_else_keeps_what_is_left_open() {
    let table = MemoryTable::new("orders");
    let theirs = with(|d| {
        d.plan = full().plan;
        d.sink = SinkId("else.where".into());
        d.plan.format_version = 3;
    });
    declared(&table, &theirs).await;
    assert_eq!(steps(&table, &declaration()).await, Vec::<String>::new());
    let metadata = table.load().await.unwrap().metadata;
    assert_eq!(metadata.properties()[CREATED_BY], "else.where");
    assert_eq!(metadata.format_version(), FormatVersion::V3);
    assert!(!metadata.default_partition_spec().is_unpartitioned());
}

#[tokio::test]
async fn two_sinks_that_declare_otherwise_do_not_undo_each_other() {
    let table = MemoryTable::new("orders");
    let theirs = with(|d| {
        d.plan = full().plan;
        d.sink = SinkId("else.where".into());
    });
    declared(&table, &theirs).await;
    let ours = with(|d| {
        d.plan.partition_by = vec![by("country", PartitionTransform::Identity)];
        d.plan.sort_order = vec![sorted("at")];
        d.plan.properties = [("owner".to_owned(), "us".to_owned())].into();
    });
    let refused = refused(&table, &ours).await;
    assert_eq!(refused.len(), 3, "{refused:?}");
    for why in refused {
        assert!(why.contains("declared by sink \"else.where\""), "{why}");
        assert!(why.contains("tidewater.else.where.declared"), "{why}");
    }
}

#[tokio::test]
async fn a_sink_that_says_no_more_what_another_says_too_leaves_it_to_the_other() {
    let table = made().await;
    let theirs = with(|d| {
        d.plan = full().plan;
        d.sink = SinkId("else.where".into());
    });
    assert_eq!(steps(&table, &full()).await.len(), 3);
    assert_eq!(steps(&table, &theirs).await, Vec::<String>::new());
    assert_eq!(steps(&table, &declaration()).await, Vec::<String>::new());
    let metadata = table.load().await.unwrap().metadata;
    assert!(plan_changes(&metadata, &theirs).is_settled());
    let records = ["shop.orders", "else.where"].map(|sink| {
        let key = format!("tidewater.{sink}.declared");
        metadata.properties().contains_key(&key)
    });
    assert_eq!(records, [false, true]);
}

#[tokio::test]
async fn only_a_property_that_the_sink_set_and_nobody_changed_since_is_removed() {
    let says = |value: &str| with(|d| d.plan.properties = [("a".into(), value.to_owned())].into());
    for (name, before, after, removed) in [
        ("set by the sink", None, None, true),
        ("changed by it", Some("0"), None, true),
        ("there before", Some("1"), None, false),
        ("changed by others", None, Some("2"), false),
    ] {
        let table = made().await;
        if let Some(value) = before {
            foreign::set_property(&table, "a", value).await.unwrap();
        }
        steps(&table, &says("1")).await;
        assert!(steps(&table, &says("1")).await.is_empty(), "{name}");
        if let Some(value) = after {
            foreign::set_property(&table, "a", value).await.unwrap();
        }
        let taken = steps(&table, &declaration()).await;
        assert_eq!(!taken.is_empty(), removed, "{name}: {taken:?}");
        let metadata = table.load().await.unwrap().metadata;
        assert_eq!(!metadata.properties().contains_key("a"), removed, "{name}");
    }
}

#[tokio::test]
async fn an_unsafe_change_is_refused_with_its_reason_and_nothing_is_done() {
    let safe = |d: &mut Declaration| {
        d.plan.properties = [("a".to_owned(), "1".to_owned())].into();
    };
    let cases: [(Declaration, &str); 7] = [
        (
            with(|d| d.columns = Some(columns(&[("id", Type::Boolean)]))),
            "column \"id\": the table has int, the records have boolean",
        ),
        (
            with(|d| {
                d.columns = Some(columns(&[("other", Type::Int)]));
                d.plan.evolution.add_columns = false;
            }),
            "allow evolution.addColumns",
        ),
        (
            with(|d| d.plan.partition_by = vec![by("nowhere", PartitionTransform::Identity)]),
            "partitionBy: no column \"nowhere\"",
        ),
        (
            with(|d| d.plan.partition_by = vec![by("country", PartitionTransform::Day)]),
            "partitionBy: cannot partition by \"country\"",
        ),
        (
            with(|d| d.plan.sort_order = vec![sorted("nowhere")]),
            "sortOrder: no column \"nowhere\"",
        ),
        (
            with(|d| d.plan.location = Some("s3://lake/elsewhere".into())),
            "a table is not moved",
        ),
        (
            with(|d| {
                d.plan.partition_by = vec![PartitionField {
                    name: Some("id".into()),
                    ..by("country", PartitionTransform::Identity)
                }];
            }),
            "field",
        ),
    ];
    for (mut wanted, expected) in cases {
        safe(&mut wanted);
        let table = made().await;
        let refused = refused(&table, &wanted).await;
        assert!(
            refused.iter().any(|why| why.contains(expected)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_narrower_column_is_no_difference_and_a_required_one_only_where_it_may_be_optional() {
    let table = MemoryTable::new("orders");
    let required = |ty: Type| {
        with(|d| {
            let field = Field {
                required: true,
                ..Field::optional("id", ty.clone())
            };
            d.columns = Some(Schema {
                fields: vec![field],
            });
        })
    };
    declared(&table, &required(Type::Long)).await;
    assert!(steps(&table, &required(Type::Int)).await.is_empty());
    let mut optional = with(|d| d.columns = Some(columns(&[("id", Type::Long)])));
    optional.plan.evolution.make_optional = false;
    let why = refused(&table, &optional).await;
    assert!(why[0].contains("allow evolution.makeOptional"), "{why:?}");
    optional.plan.evolution.make_optional = true;
    assert_eq!(steps(&table, &optional).await, ["make \"id\" optional"]);
}

#[tokio::test]
async fn after_an_answer_that_says_nothing_the_table_is_looked_at() {
    let outcomes = [
        Outcome::LostReply,
        Outcome::LostRequest,
        Outcome::Unavailable,
        Outcome::Conflict,
    ];
    for outcome in outcomes {
        let memory = Arc::new(made().await);
        let faulty = FaultyTable::new(memory.clone(), [Fault::outcome(outcome)]);
        let done = steps(&faulty, &full()).await;
        assert_eq!(done.len(), 3, "{outcome:?}: {done:?}");
        let metadata = memory.load().await.unwrap().metadata;
        assert_eq!(metadata.partition_specs_iter().len(), 2, "{outcome:?}");
        assert!(plan_changes(&metadata, &full()).is_settled());
    }
}

#[tokio::test]
async fn a_catalog_that_never_answers_is_given_up_and_one_that_refuses_at_once() {
    let memory = Arc::new(made().await);
    let never = (0..100).map(|_| Fault::outcome(Outcome::LostRequest));
    let faulty = FaultyTable::new(memory.clone(), never);
    let failure = declare(&faulty, &full(), PACE, clock).await.unwrap_err();
    assert!(
        matches!(failure, IcebergFailure::Exhausted { attempts: 5, .. }),
        "{failure:?}"
    );
    let faulty = FaultyTable::new(memory, [Fault::outcome(Outcome::Refused)]);
    let failure = declare(&faulty, &full(), PACE, clock).await.unwrap_err();
    assert!(matches!(failure, IcebergFailure::Catalog { .. }));
    assert_eq!(faulty.steps_left(), 0);
}

#[tokio::test]
async fn ten_that_declare_the_same_change_it_once() {
    let memory = Arc::new(made().await);
    let (all, patient) = (
        0..10,
        Pace {
            attempts: 50,
            ..PACE
        },
    );
    let all = all.map(|_| {
        let memory = memory.clone();
        tokio::spawn(async move { declare(&*memory, &full(), patient, clock).await })
    });
    for one in futures::future::join_all(all).await {
        assert!(matches!(one.unwrap().unwrap(), Declared::Synced { .. }));
    }
    let metadata = memory.load().await.unwrap().metadata;
    assert_eq!(metadata.partition_specs_iter().len(), 2);
    assert_eq!(metadata.sort_orders_iter().len(), 2);
}

#[tokio::test]
async fn a_change_waits_while_the_last_writers_clock_is_ahead() {
    let table = made().await;
    let behind = || clock() - 120_000;
    let failure = declare(&table, &full(), PACE, behind).await.unwrap_err();
    assert!(matches!(
        failure,
        IcebergFailure::Exhausted { attempts: 0, .. }
    ));
    let settled = declare(&table, &declaration(), PACE, behind).await;
    assert!(matches!(settled.unwrap(), Declared::Synced { .. }));
}

#[tokio::test]
async fn only_the_maker_drops_a_table_and_only_while_it_is_the_only_writer() {
    let sink = |name: &str| SinkId(name.into());
    let table = made().await;
    let other = drop_made(&table, &sink("else.where"), PACE).await.unwrap();
    assert_eq!(other, Dropped::Kept("sink \"shop.orders\" made it".into()));
    let key = "tidewater.else.where.offsets";
    foreign::set_property(&table, key, "{}").await.unwrap();
    let ours = drop_made(&table, &sink("shop.orders"), PACE).await.unwrap();
    let why = "sink \"else.where\" writes to it too";
    assert_eq!(ours, Dropped::Kept(why.into()));
    foreign::remove_properties(&table, &[key.to_owned(), CREATED_BY.to_owned()])
        .await
        .unwrap();
    let theirs = drop_made(&table, &sink("shop.orders"), PACE).await.unwrap();
    assert_eq!(theirs, Dropped::Kept("it was there before".into()));
    foreign::set_property(&table, CREATED_BY, "shop.orders")
        .await
        .unwrap();
    let ours = drop_made(&table, &sink("shop.orders"), PACE).await.unwrap();
    assert_eq!(ours, Dropped::Dropped);
    let again = drop_made(&table, &sink("shop.orders"), PACE).await.unwrap();
    assert_eq!(again, Dropped::Absent);
}

#[tokio::test]
async fn a_drop_whose_reply_is_lost_is_found() {
    for outcome in [Outcome::LostReply, Outcome::LostRequest] {
        let memory = Arc::new(made().await);
        let faulty = FaultyTable::new(memory.clone(), [Fault::outcome(outcome)]);
        let dropped = drop_made(&faulty, &SinkId("shop.orders".into()), PACE).await;
        assert_eq!(dropped.unwrap(), Dropped::Dropped, "{outcome:?}");
        assert!(memory.load().await.is_err());
    }
}

#[tokio::test]
async fn a_table_made_after_a_drop_without_an_answer_is_not_dropped() {
    let memory = Arc::new(made().await);
    let remade = Fault::outcome(Outcome::LostReply).after(|table| async move {
        declared(&*table, &declaration()).await;
    });
    let faulty = FaultyTable::new(memory.clone(), [remade]);
    let dropped = drop_made(&faulty, &SinkId("shop.orders".into()), PACE).await;
    assert_eq!(dropped.unwrap(), Dropped::Dropped);
    assert!(memory.load().await.is_ok());
}
