#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::types::HiveType;
use super::*;
use crate::plan::{AwsCredentials, S3Access, Timeouts};
use crate::schema::{Field, Type};

mod projection;

fn key(label: &str) -> PartitionKey {
    PartitionKey {
        name: label.to_lowercase(),
        folder: format!("{label}="),
        ty: "string".to_owned(),
    }
}

fn column(name: &str, ty: &str) -> Column {
    Column {
        name: name.to_owned(),
        ty: HiveType::parse(ty).unwrap(),
        comment: None,
    }
}

/// Of orders by day and country.
pub(super) fn plan() -> HivePlan {
    HivePlan {
        sink: SinkId("default.orders".to_owned()),
        access: GlueAccess {
            access: S3Access {
                region: None,
                endpoint: None,
                path_style: false,
                credentials: AwsCredentials::DefaultChain,
                assume_role: None,
            },
            catalog_id: None,
            timeouts: Timeouts {
                connect: Duration::from_secs(1),
                attempt: Duration::from_secs(1),
                max_attempts: 1,
            },
        },
        database: "raw".to_owned(),
        table: "orders".to_owned(),
        create_database: false,
        adopt: false,
        location: "s3://lake/raw/orders/".to_owned(),
        format: HiveFormat::Parquet,
        keys: vec![key("dt"), key("country")],
        columns: Some(vec![
            column("id", "bigint"),
            column("amount", "decimal(12,2)"),
        ]),
        partitions: Partitions::Register,
        allowed: Allowed {
            add_columns: true,
            widen: true,
        },
        repair_interval: Duration::from_secs(3600),
        deletion: Deletion::Retain,
    }
}

/// The table as this plan would have made it.
fn made(plan: &HivePlan) -> Found {
    let Decision::Keep {
        write: Some(write), ..
    } = decide(plan, plan.columns.as_deref(), None)
    else {
        panic!("a table is made");
    };
    found(plan, &write)
}

fn found(plan: &HivePlan, write: &Definition) -> Found {
    let storage = plan.format.storage();
    let pair = |column: &Column| (column.name.clone(), column.ty.to_string());
    Found {
        location: Some(plan.location.clone()),
        columns: write.columns.iter().map(pair).collect(),
        keys: plan
            .keys
            .iter()
            .map(|k| (k.name.clone(), k.ty.clone()))
            .collect(),
        serde: Some(storage.serde.to_owned()),
        input: Some(storage.input.to_owned()),
        kind: Some("EXTERNAL_TABLE".to_owned()),
        parameters: write.parameters.clone(),
    }
}

/// What is written, and what stays different.
fn kept(plan: &HivePlan, columns: &[Column], have: &Found) -> (Option<Definition>, Vec<String>) {
    match decide(plan, Some(columns), Some(have)) {
        Decision::Keep {
            write, differences, ..
        } => (write, differences.iter().map(ToString::to_string).collect()),
        other => panic!("{other:?}"),
    }
}

fn refused(plan: &HivePlan, have: &Found) -> String {
    match decide(plan, plan.columns.as_deref(), Some(have)) {
        Decision::Refuse(differences) => {
            let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
            told.join("; ")
        }
        other => panic!("{other:?}"),
    }
}

fn types(write: &Definition) -> Vec<String> {
    let told = write.columns.iter().map(|c| format!("{} {}", c.name, c.ty));
    told.collect()
}

#[test]
fn a_table_is_made_once_and_then_nothing_is_written() {
    for format in [HiveFormat::Parquet, HiveFormat::Json] {
        let plan = HivePlan { format, ..plan() };
        let table = made(&plan);
        assert_eq!(table.parameters[OWNER], "default.orders");
        assert_eq!(table.parameters[ORIGIN], "Created");
        assert_eq!(table.parameters["EXTERNAL"], "TRUE");
        let (write, differences) = kept(&plan, plan.columns.as_ref().unwrap(), &table);
        assert_eq!((write, differences), (None, Vec::new()));
        // One who knows no columns yet is content with those there are.
        assert!(matches!(
            decide(&plan, None, Some(&table)),
            Decision::Keep { write: None, .. }
        ));
    }
    assert_eq!(decide(&plan(), None, None), Decision::Wait);
}

#[test]
fn what_others_put_into_the_table_stays() {
    let plan = plan();
    let mut table = made(&plan);
    let foreign = [("their.key", "theirs"), ("projection.enabled", "true")];
    for (key, value) in foreign {
        table.parameters.insert(key.to_owned(), value.to_owned());
    }
    table
        .columns
        .insert(0, ("their_column".to_owned(), "string".to_owned()));
    let (write, _) = kept(&plan, plan.columns.as_ref().unwrap(), &table);
    let write = write.expect("readers would not look at registered partitions");
    assert_eq!(write.parameters["their.key"], "theirs");
    assert!(!write.parameters.contains_key("projection.enabled"));
    assert_eq!(
        types(&write),
        ["their_column string", "id bigint", "amount decimal(12,2)"]
    );
    let left = HivePlan {
        partitions: Partitions::None,
        ..plan.clone()
    };
    let (write, _) = kept(&left, plan.columns.as_ref().unwrap(), &table);
    assert_eq!(write, None);
}

#[test]
fn columns_follow_the_files_as_far_as_the_policy_allows() {
    let plan = plan();
    let table = made(&plan);
    let wanted = [
        column("id", "int"),
        column("amount", "decimal(18,2)"),
        column("address", "struct<city:string>"),
    ];
    let (write, differences) = kept(&plan, &wanted, &table);
    let write = write.unwrap();
    assert_eq!(
        types(&write),
        [
            "id bigint",
            "amount decimal(18,2)",
            "address struct<city:string>"
        ]
    );
    assert_eq!(differences, Vec::<String>::new());
    let table = found(&plan, &write);
    let deeper = [column("address", "struct<zip:int,city:string>")];
    let (write, _) = kept(&plan, &deeper, &table);
    assert_eq!(
        types(&write.unwrap())[2],
        "address struct<city:string,zip:int>"
    );

    let strict = HivePlan {
        allowed: Allowed {
            add_columns: false,
            widen: false,
        },
        ..plan.clone()
    };
    let (write, differences) = kept(&strict, &wanted, &made(&plan));
    assert_eq!(write, None);
    assert!(
        differences[0].contains("evolution.widen"),
        "{differences:?}"
    );
    assert!(
        differences[1].contains("evolution.addColumns"),
        "{differences:?}"
    );
}

#[test]
fn a_column_that_cannot_follow_is_told_and_the_others_follow() {
    let plan = plan();
    let table = made(&plan);
    let wanted = [
        column("id", "string"),
        column("note", "string"),
        column("dt", "string"),
    ];
    let (write, differences) = kept(&plan, &wanted, &table);
    assert_eq!(
        types(&write.unwrap()),
        ["id bigint", "amount decimal(12,2)", "note string"]
    );
    assert!(differences[0].contains("\"id\" is bigint, the files have string"));
    assert!(differences[1].contains("name of a partition column"));
    // Texts of numbers and numbers are one to readers of JSON.
    let json = HivePlan {
        format: HiveFormat::Json,
        ..plan
    };
    let (write, differences) = kept(&json, &wanted[..1], &made(&json));
    assert_eq!(types(&write.unwrap())[0], "id string");
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn a_table_that_no_sink_made_is_taken_over_only_when_told() {
    let plan = plan();
    let mut table = made(&plan);
    table.parameters = BTreeMap::from([("their.key".to_owned(), "theirs".to_owned())]);
    assert!(refused(&plan, &table).contains("spec.glue.adopt: true"));
    let adopting = HivePlan {
        adopt: true,
        ..plan.clone()
    };
    let (write, _) = kept(&adopting, plan.columns.as_ref().unwrap(), &table);
    let write = write.unwrap();
    assert_eq!(write.parameters[ORIGIN], "Adopted");
    assert_eq!(write.parameters["their.key"], "theirs");
    // It stays taken over, whatever the resource says later.
    let table = found(&plan, &write);
    assert_eq!(kept(&plan, plan.columns.as_ref().unwrap(), &table).0, None);
}

#[test]
fn two_sinks_do_not_fight_for_a_table() {
    let plan = HivePlan {
        adopt: true,
        ..plan()
    };
    let theirs = HivePlan {
        sink: SinkId("default.returns".to_owned()),
        ..plan.clone()
    };
    assert!(refused(&plan, &made(&theirs)).contains("belongs to the sink \"default.returns\""));
    let twin = HivePlan {
        location: "s3://other/raw/orders/".to_owned(),
        ..plan.clone()
    };
    assert!(refused(&plan, &made(&twin)).contains("writes to s3://other/raw/orders/"));
}

#[test]
fn only_a_table_of_the_sinks_own_making_goes_with_it() {
    use super::table::why_kept;
    let plan = plan();
    assert_eq!(why_kept(&plan, &made(&plan)), None);
    for (key, value) in [(OWNER, "default.returns"), (ORIGIN, "Adopted")] {
        let mut table = made(&plan);
        table.parameters.insert(key.to_owned(), value.to_owned());
        assert!(why_kept(&plan, &table).is_some(), "{key}");
    }
    let mut elsewhere = made(&plan);
    elsewhere.location = Some("s3://lake/else/".to_owned());
    assert!(why_kept(&plan, &elsewhere).is_some());
    assert!(why_kept(&plan, &Found::default()).is_some());
}

#[test]
fn a_table_of_another_make_is_not_touched() {
    let plan = HivePlan {
        adopt: true,
        ..plan()
    };
    let changed = |change: &dyn Fn(&mut Found)| {
        let mut table = made(&plan);
        table.parameters.remove(OWNER);
        change(&mut table);
        refused(&plan, &table)
    };
    for (change, told) in [
        (
            (&|t: &mut Found| {
                t.parameters
                    .insert("table_type".to_owned(), "ICEBERG".to_owned());
            }) as &dyn Fn(&mut Found),
            "is of type ICEBERG",
        ),
        (
            &|t| t.kind = Some("VIRTUAL_VIEW".to_owned()),
            "is a VIRTUAL_VIEW",
        ),
        (
            &|t| t.location = Some("s3://lake/else".to_owned()),
            "shows s3://lake/else",
        ),
        (&|t| t.serde = None, "has the serde none"),
        (
            &|t| t.keys.truncate(1),
            "is partitioned by (dt), the folders by (dt, country)",
        ),
    ] {
        let text = changed(change);
        assert!(text.contains(told), "{told}: {text}");
    }
    let mut slashless = made(&plan);
    slashless.location = Some("s3a://lake/raw/orders".to_owned());
    assert_eq!(
        kept(&plan, plan.columns.as_ref().unwrap(), &slashless).0,
        None
    );
}

#[test]
fn every_type_has_its_hive_name_and_times_in_json_are_texts() {
    let nested = Type::List(Box::new(Field::optional(
        "element",
        Type::Struct(vec![
            Field::optional("Day", Type::Date),
            Field::optional(
                "m",
                Type::Map(Box::new(Field::optional("value", Type::Int))),
            ),
        ]),
    )));
    for (ty, parquet, json) in [
        (Type::Boolean, "boolean", "boolean"),
        (Type::Int, "int", "int"),
        (Type::Long, "bigint", "bigint"),
        (Type::Float, "float", "float"),
        (Type::Double, "double", "double"),
        (
            Type::Decimal {
                precision: 9,
                scale: 2,
            },
            "decimal(9,2)",
            "decimal(9,2)",
        ),
        (Type::Date, "date", "string"),
        (Type::Timestamp, "timestamp", "string"),
        (Type::Timestamptz, "timestamp", "string"),
        (Type::String, "string", "string"),
        (Type::Uuid, "string", "string"),
        (Type::Binary, "binary", "string"),
        (
            nested,
            "array<struct<day:date,m:map<string,int>>>",
            "array<struct<day:string,m:map<string,int>>>",
        ),
    ] {
        let of = |format| HiveType::of(&ty, format).unwrap().to_string();
        assert_eq!(of(HiveFormat::Parquet), parquet);
        assert_eq!(of(HiveFormat::Json), json);
        assert_eq!(HiveType::parse(parquet).unwrap().to_string(), parquet);
    }
    assert!(HiveType::of(&Type::Time, HiveFormat::Parquet).is_err());
    assert_eq!(
        HiveType::of(&Type::Time, HiveFormat::Json)
            .unwrap()
            .to_string(),
        "string"
    );
    let odd = Type::Struct(vec![Field::optional("a:b", Type::Int)]);
    assert!(HiveType::of(&odd, HiveFormat::Parquet).is_err());
}

fn any_type() -> impl Strategy<Value = HiveType> {
    let simple = prop_oneof![
        Just("string"),
        Just("int"),
        Just("bigint"),
        Just("double"),
        Just("varchar(10)"),
        Just("timestamp"),
    ]
    .prop_map(|name| HiveType::Simple(name.to_owned()));
    let decimal =
        (1u8..=38, 0u8..=10).prop_map(|(precision, scale)| HiveType::Decimal { precision, scale });
    prop_oneof![simple, decimal].prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|ty| HiveType::Array(Box::new(ty))),
            (inner.clone(), inner.clone())
                .prop_map(|(k, v)| HiveType::Map(Box::new(k), Box::new(v))),
            prop::collection::btree_map("[a-z_]{1,6}", inner, 1..4)
                .prop_map(|fields| HiveType::Struct(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_type_is_read_as_it_was_written(ty in any_type()) {
        prop_assert_eq!(HiveType::parse(&ty.to_string()), Some(ty));
    }

    #[test]
    fn no_text_confuses_the_reader_of_types(text in "[a-z<>(),: 0-9]{0,40}") {
        let _ = HiveType::parse(&text);
    }

    #[test]
    fn what_was_merged_holds_both_and_is_merged_no_further(have in any_type(), want in any_type()) {
        let anything = Allowed { add_columns: true, widen: true };
        for format in [HiveFormat::Parquet, HiveFormat::Json] {
            let merge = |a: &HiveType, b: &HiveType| HiveType::merged(a, b, format, anything);
            if let Ok(both) = merge(&have, &want) {
                prop_assert_eq!(merge(&both, &have), Ok(both.clone()));
                prop_assert_eq!(merge(&both, &want), Ok(both));
            }
        }
    }

    #[test]
    fn a_files_folders_are_its_partition(country in "\\PC{1,20}", day in "[0-9-]{1,10}") {
        let mut folder = format!("dt={day}/country=");
        crate::layout::hive::escape(&country, &mut folder);
        let partition = Partition::of_file(&plan().keys, &format!("{folder}/a.parquet")).unwrap();
        prop_assert_eq!(partition.location("s3://b/p/"), format!("s3://b/p/{folder}/"));
        prop_assert_eq!(partition.values, [day, country]);
    }
}

#[test]
fn other_folders_are_no_partitions() {
    for key in [
        "a.parquet",
        "dt=1/a.parquet",
        "country=ES/dt=1/a.parquet",
        "dt=1/country=ES/hour=2/a.parquet",
        "dt=1/country=/a.parquet",
        "dt=1/country=%zz/a.parquet",
        "_tidewater/default.orders/orders/0.json",
    ] {
        assert_eq!(Partition::of_file(&plan().keys, key), None, "{key}");
    }
    for folder in ["", "dt=1", "dt=1/country=ES/hour=2"] {
        assert_eq!(Partition::of_folder(&plan().keys, folder), None, "{folder}");
    }
}
