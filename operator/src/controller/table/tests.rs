#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tidewater_crds::IcebergTable;
use tidewater_runtime::catalog::CatalogError;
use tidewater_runtime::commit::iceberg::IcebergFailure;
use tidewater_runtime::plan::{NoSecrets, Secrets};
use tokio::sync::mpsc::Receiver;

use super::wish::of_failure;
use super::*;
use crate::conditions::{AWAITING_RECORDS, DIFFERS, SYNCED, TABLE_MISSING};
use crate::controller::fixtures;
use crate::controller::kind::SinkKind;

fn found(revision: &str, finding: Finding) -> Found {
    Found {
        revision: revision.into(),
        finding,
        table: None,
        at: Instant::now(),
    }
}

fn key() -> SinkKey {
    SinkKey {
        kind: "IcebergTable",
        namespace: "shop".into(),
        name: "orders".into(),
    }
}

fn tables() -> (Tables, Receiver<SinkKey>) {
    let (observations, changed) = Observations::new();
    let identity = CatalogIdentity::Resource;
    (Tables::new(Arc::new(observations), identity), changed)
}

/// A table of this catalog.
fn wish(catalog: serde_json::Value) -> TableWish {
    let mut table = serde_json::to_value(fixtures::table()).unwrap();
    table["spec"]["catalog"] = catalog;
    let table: IcebergTable = serde_json::from_value(table).unwrap();
    TableWish::of(&table.plan(&NoSecrets).unwrap()).unwrap()
}

/// A table of a catalog that is not there.
fn nowhere() -> TableWish {
    wish(json!({"rest": {"uri": "http://127.0.0.1:9", "timeouts": {"maxAttempts": 1}}}))
}

/// Has every key of every Secret.
struct Any;

impl Secrets for Any {
    fn get(&self, _name: &str, _key: &str) -> Option<String> {
        Some("k".to_owned())
    }
}

#[test]
fn without_keys_of_the_resource_the_operator_asks_no_catalog_of_aws() {
    use CatalogIdentity::{Operator, Resource};
    let keys = |prefix: &str| json!({"accessKeyId": {"secretKeyRef": {"name": "s", "key": prefix}}, "secretAccessKey": {"secretKeyRef": {"name": "s", "key": prefix}}});
    let glue = json!({"warehouse": "s3://lake/w"});
    let glue_keys = json!({"warehouse": "s3://lake/w", "credentials": keys("k")});
    let rest =
        |auth: serde_json::Value| json!({"rest": {"uri": "http://catalog:8181", "auth": auth}});
    let signed = json!({"sigV4": {"region": "eu-west-1", "service": "glue"}});
    let stored = json!({"s3": {"credentials": keys("k")}});
    let token = json!({"bearer": {"token": {"secretKeyRef": {"name": "s", "key": "k"}}}});
    let cases = [
        (json!({"glue": glue}), json!(null), false),
        // The files are the other half.
        (json!({"glue": glue_keys}), json!(null), false),
        (
            json!({"glue": glue_keys}),
            json!({"s3": {"region": "eu-west-1"}}),
            false,
        ),
        (json!({"glue": glue_keys}), stored.clone(), true),
        (rest(json!(null)), json!(null), true),
        (rest(token), json!(null), true),
        (rest(signed.clone()), json!(null), false),
        (rest(signed), stored, true),
    ];
    for (catalog, storage, brought) in cases {
        let mut table = serde_json::to_value(fixtures::table()).unwrap();
        table["spec"]["catalog"] = catalog.clone();
        table["spec"]["storage"] = storage.clone();
        let table: IcebergTable = serde_json::from_value(table).unwrap();
        let wish = TableWish::of(&table.plan(&Any).unwrap()).unwrap();
        assert_eq!(
            wish.hidden(Resource).is_none(),
            brought,
            "{catalog} {storage}"
        );
        assert_eq!(wish.hidden(Operator), None, "{catalog} {storage}");
    }
}

#[test]
fn pods_get_a_new_configuration_when_the_table_has_taken_it_or_nobody_can_look() {
    let cases = [
        (None, false, Course::Wait),
        (None, true, Course::Go),
        (Some(("old", &SYNCED)), false, Course::Wait),
        (Some(("new", &SYNCED)), false, Course::Go),
        (Some(("new", &DIFFERS)), false, Course::Hold),
        (Some(("new", &TABLE_MISSING)), false, Course::Hold),
        // Somebody changed the table under pods that run with this very spec: nothing new is let loose.
        (Some(("new", &DIFFERS)), true, Course::Go),
        (Some(("new", &CATALOG_UNREACHABLE)), false, Course::Go),
        (Some(("new", &CATALOG_NOT_PERMITTED)), false, Course::Go),
        (Some(("new", &AWAITING_RECORDS)), false, Course::Go),
    ];
    for (known, deployed, expected) in cases {
        let known = known.map(|(revision, row)| found(revision, row.found()));
        let told = format!("{known:?}, {deployed}");
        assert_eq!(course(known.as_ref(), "new", deployed), expected, "{told}");
    }
}

#[test]
fn a_catalog_that_did_not_answer_says_nothing_about_the_table() {
    let unavailable = CatalogError::Unavailable {
        operation: "load table",
        source: "x".into(),
    };
    let denied = CatalogError::Denied {
        operation: "load table",
        source: "x".into(),
    };
    let refused = CatalogError::Refused {
        operation: "load table",
        source: "x".into(),
    };
    for (error, reason) in [
        (unavailable, "CatalogUnreachable"),
        (denied, "CatalogNotPermitted"),
        (refused, "CatalogRefused"),
    ] {
        let failure = IcebergFailure::Catalog {
            table: "t".into(),
            step: "load table",
            source: error,
        };
        let finding = of_failure(&failure);
        assert_eq!(
            (finding.state(), finding.reason()),
            (State::Unknown, reason)
        );
    }
    let missing = of_failure(&IcebergFailure::TableMissing { table: "t".into() });
    assert_eq!(
        (missing.state(), missing.reason()),
        (State::False, "TableMissing")
    );
    assert!(missing.message().contains("createIfMissing"));
}

#[test]
fn a_catalog_in_a_folder_is_left_to_the_pods() {
    let (tables, _changed) = tables();
    let wish = wish(json!({"local": {"path": "/warehouse"}}));
    let found = tables.look(&key(), "u", "r", &wish).unwrap();
    assert_eq!(found.finding.reason(), "NotObserved");
    assert_eq!(course(Some(&found), "r", false), Course::Go);
    let kept = tables.delete(&key(), "u", &wish);
    assert!(matches!(kept, Some(Ok(Dropped::Kept(_)))));
}

#[tokio::test]
async fn a_look_runs_once_beside_the_reconciles_and_calls_for_one_when_it_ends() {
    let (tables, mut changed) = tables();
    for _ in 0..3 {
        assert!(tables.look(&key(), "u", "r", &nowhere()).is_none());
    }
    assert_eq!(changed.recv().await, Some(key()));
    let found = tables.look(&key(), "u", "r", &nowhere()).unwrap();
    assert_eq!(found.finding.reason(), "CatalogUnreachable");
    assert!(changed.try_recv().is_err());
    // Another spec: what is known is of the old one.
    let stale = tables.look(&key(), "u", "s", &nowhere()).unwrap();
    assert_eq!(stale.revision, "r");
    assert_eq!(changed.recv().await, Some(key()));
    assert_eq!(tables.known(&key(), "u").unwrap().revision, "s");
    // Another resource of the name.
    assert!(tables.look(&key(), "v", "s", &nowhere()).is_none());
    assert!(tables.known(&key(), "u").is_none());
    tables.forget(&key(), "v");
    assert!(tables.known(&key(), "v").is_none());
}

#[tokio::test]
async fn a_drop_that_failed_is_told_once_and_tried_again() {
    let (tables, mut changed) = tables();
    for _ in 0..2 {
        assert!(tables.delete(&key(), "u", &nowhere()).is_none());
        assert_eq!(changed.recv().await, Some(key()));
        assert!(matches!(
            tables.delete(&key(), "u", &nowhere()),
            Some(Err(_))
        ));
    }
}

#[test]
fn what_may_pass_is_looked_at_again_soon_and_what_others_must_do_is_not_asked_for_all_the_time() {
    let again = |row: &'static crate::conditions::Row| {
        let found = found("r", row.found());
        TableFound::from(&found)
            .again
            .map(|again| again.as_secs_f64().round())
    };
    assert_eq!(again(&SYNCED), Some(300.0));
    assert_eq!(again(&CATALOG_NOT_PERMITTED), Some(300.0));
    assert_eq!(again(&CATALOG_REFUSED), Some(300.0));
    assert_eq!(again(&CATALOG_UNREACHABLE), Some(20.0));
    assert_eq!(again(&AWAITING_RECORDS), Some(20.0));
    assert_eq!(again(&DIFFERS), Some(20.0));
    assert_eq!(again(&TABLE_NOT_OBSERVED), None);
}

#[test]
fn after_a_restart_the_table_is_as_the_status_says() {
    let differs = DIFFERS.because("table sales.orders: no");
    let epoch = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    let before = SinkStatus {
        conditions: crate::conditions::conditions(&[], &[differs], None, epoch),
        ..SinkStatus::default()
    };
    let found = TableFound::remembered(&before).unwrap();
    assert_eq!(found.finding.message(), "table sales.orders: no");
    assert_eq!(found.finding.state(), State::False);
    assert!(TableFound::remembered(&SinkStatus::default()).is_none());
}

#[test]
fn what_pods_say_of_the_table_they_keep_goes_before_what_the_operator_could_not_see() {
    let with = |finding: Finding, word: Option<TableWord>| {
        let found = TableFound::from(finding).with(word.as_ref()).finding;
        (found.state().name(), found.reason())
    };
    let trouble = |class: tidewater_runtime::errors::Class| {
        Some(TableWord::Trouble(class.reason.into(), "why".into()))
    };
    use tidewater_runtime::errors::class;
    assert_eq!(with(SYNCED.found(), None), ("True", "Synced"));
    let unseen = || CATALOG_NOT_PERMITTED.found();
    assert_eq!(with(unseen(), Some(TableWord::Synced)), ("True", "Synced"));
    // Nobody is left who could look after it: readers do not find what is new.
    assert_eq!(
        with(unseen(), trouble(class::CATALOG_DENIED)),
        ("False", "CatalogAccessDenied")
    );
    assert_eq!(
        with(SYNCED.found(), trouble(class::TABLE_DIFFERS)),
        ("False", "Differs")
    );
    assert_eq!(
        with(SYNCED.found(), trouble(class::CATALOG_UNAVAILABLE)),
        ("Unknown", "CatalogUnreachable")
    );
    let denied = || TABLE_ACCESS_DENIED.found();
    assert_eq!(with(denied(), Some(TableWord::Synced)), ("True", "Synced"));
    assert_eq!(with(denied(), None), ("False", "CatalogAccessDenied"));
    assert_eq!(
        with(DIFFERS.found(), Some(TableWord::Synced)),
        ("False", "Differs")
    );
}
