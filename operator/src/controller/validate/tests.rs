#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "tests")]

use serde_json::json;
use tidewater_crds::{IcebergTable, KafkaS3Sink};
use tidewater_runtime::plan::NoSecrets;

use super::*;
use crate::controller::fixtures;

const NOTHING: Known<'static> = Known {
    secrets: &BTreeMap::new(),
    claims: &[],
    partitions: None,
    deployment: None,
    runtime: None,
    scaling: None,
    image: "runtime:2",
};

fn check(sink: &KafkaS3Sink, known: &Known<'_>) -> Result<Checked, Finding> {
    validate(sink, &References::of(sink), &KafkaS3Sink::schema(), known)
}

fn secret(version: &str, entries: &[(&str, &str)]) -> SecretFacts {
    SecretFacts {
        version: version.to_owned(),
        values: entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Secret::new(*value)))
            .collect(),
    }
}

fn secrets() -> FetchedSecrets {
    [
        ("orders-kafka", secret("5", &[("password", "open sesame")])),
        (
            "kafka-ca",
            secret("6", &[("ca.crt", "-----BEGIN CERTIFICATE-----")]),
        ),
        ("orders-env", secret("7", &[("token", "t")])),
    ]
    .map(|(name, secret)| (name.to_owned(), secret))
    .into()
}

#[test]
fn a_missing_secret_or_key_is_named_and_its_value_never() {
    let sink = fixtures::full_sink();
    let refused = check(&sink, &NOTHING).unwrap_err();
    assert_eq!(refused.reason(), "SecretMissing");
    for name in ["orders-kafka", "kafka-ca", "orders-env"] {
        assert!(refused.message().contains(name), "{}", refused.message());
    }
    let mut some = secrets();
    some.insert(
        "orders-kafka".into(),
        secret("5", &[("pass", "open sesame")]),
    );
    let refused = check(
        &sink,
        &Known {
            secrets: &some,
            ..NOTHING
        },
    )
    .unwrap_err();
    assert_eq!(
        refused.message(),
        "Secret \"orders-kafka\" has no text under key \"password\""
    );
    assert!(!refused.message().contains("sesame"));
}

#[test]
fn an_optional_variable_of_the_environment_may_lack_its_secret() {
    let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k", "optional": true}}}]);
    let sink = fixtures::changed(&fixtures::sink(), &json!({"pod": {"env": env}}));
    let before = check(&sink, &NOTHING).unwrap();
    assert!(before.mounted.is_empty());
    let secrets = [("a".to_owned(), secret("1", &[]))].into();
    let after = check(
        &sink,
        &Known {
            secrets: &secrets,
            ..NOTHING
        },
    )
    .unwrap();
    assert_ne!(before.secrets_hash, after.secrets_hash);
}

#[test]
fn a_new_version_of_any_secret_named_changes_the_hash() {
    let sink = fixtures::full_sink();
    let hash = |secrets: &FetchedSecrets| {
        let checked = check(&sink, &Known { secrets, ..NOTHING }).unwrap();
        (checked.secrets_hash.unwrap(), checked.config.hash)
    };
    let (first, config) = hash(&secrets());
    assert_eq!(hash(&secrets()).0, first);
    for name in ["orders-kafka", "kafka-ca", "orders-env"] {
        let mut changed = secrets();
        changed.get_mut(name).unwrap().version = "8".into();
        let (second, same_config) = hash(&changed);
        assert_ne!(second, first, "{name}");
        assert_eq!(same_config, config);
    }
    assert_eq!(
        check(&fixtures::sink(), &NOTHING).unwrap().secrets_hash,
        None
    );
}

#[test]
fn what_the_process_reads_is_mounted_and_what_the_environment_names_is_not() {
    let checked = check(
        &fixtures::full_sink(),
        &Known {
            secrets: &secrets(),
            ..NOTHING
        },
    )
    .unwrap();
    let mounted: Vec<_> = checked.mounted.keys().map(String::as_str).collect();
    assert_eq!(mounted, ["kafka-ca", "orders-kafka"]);
    assert!(!format!("{checked:?}").contains("sesame"));
}

#[test]
fn every_problem_of_a_spec_is_in_the_message() {
    let sink = fixtures::changed(
        &fixtures::sink(),
        &json!({"rotation": {"maxBytes": "0"}, "source": {"topics": ["a b"]}}),
    );
    let refused = check(&sink, &NOTHING).unwrap_err();
    assert_eq!(refused.reason(), "InvalidSpec");
    assert!(refused.message().contains("spec.rotation.maxBytes"));
    assert!(refused.message().contains("spec.source.topics[0]"));
}

#[test]
fn of_two_resources_in_one_group_the_younger_yields_whatever_their_kinds() {
    let mut table: IcebergTable = fixtures::table();
    table.spec.source.group_id = None;
    table.spec.source.bootstrap_servers = "kafka:9092".into();
    let (sink, table) = (fixtures::sink(), table);
    let (older, younger) = (Claim::of(&sink), Claim::of(&table));
    for deployed in [false, true] {
        assert_eq!(
            younger.yields_to(&older, deployed),
            !deployed || older.in_force
        );
        assert!(!older.yields_to(&younger, deployed));
    }
    // One that reads there already keeps the group, whoever is older: an edit takes it from nobody.
    let mut running = younger.clone();
    running.in_force = true;
    assert!(older.yields_to(&running, false) && !older.yields_to(&running, true));
    let refused = validate(
        &table,
        &References::of(&table),
        &IcebergTable::schema(),
        &Known {
            claims: &[older.clone(), younger.clone()],
            ..NOTHING
        },
    )
    .unwrap_err();
    assert_eq!(refused.reason(), "ConsumerGroupConflict");
    assert!(refused.message().contains("KafkaS3Sink shop/orders"));
    assert!(
        check(
            &sink,
            &Known {
                claims: &[older.clone(), younger],
                ..NOTHING
            }
        )
        .is_ok()
    );
    // Elsewhere a group of that name is another group.
    let mut elsewhere = older.clone();
    elsewhere.brokers = vec!["other:9092".into()];
    assert!(!Claim::of(&table).yields_to(&elsewhere, false));
    // Made in the same second: still only one of them.
    let mut twin = Claim::of(&table);
    twin.created = older.created;
    assert_ne!(twin.yields_to(&older, false), older.yields_to(&twin, false));
}

#[test]
fn the_default_group_is_the_runtimes() {
    let sink = fixtures::sink();
    assert_eq!(
        Claim::of(&sink).group,
        sink.plan(&NoSecrets).unwrap().source.group_id
    );
}

#[test]
fn no_more_pods_than_partitions_and_none_while_paused() {
    let sink = |patch| fixtures::changed(&fixtures::sink(), &patch);
    let wanted = |sink: &KafkaS3Sink, partitions| {
        check(
            sink,
            &Known {
                partitions,
                ..NOTHING
            },
        )
        .unwrap()
        .replicas
        .wanted
    };
    let five = sink(json!({"replicas": 5}));
    assert_eq!(wanted(&five, None), 5);
    assert_eq!(wanted(&five, Some(3)), 3);
    assert_eq!(wanted(&five, Some(12)), 5);
    assert_eq!(wanted(&five, Some(0)), 1);
    assert_eq!(
        wanted(&sink(json!({"replicas": 5, "paused": true})), None),
        0
    );
    assert_eq!(wanted(&sink(json!({"replicas": 0})), Some(3)), 0);
}

#[test]
fn brokers_that_do_not_answer_start_no_idle_pods() {
    let sink = fixtures::changed(&fixtures::sink(), &json!({"replicas": 5}));
    let deployment = DeploymentFacts {
        wanted: 3,
        ..DeploymentFacts::default()
    };
    let known = Known {
        deployment: Some(&deployment),
        scaling: Some("CappedByPartitions"),
        ..NOTHING
    };
    assert_eq!(check(&sink, &known).unwrap().replicas.wanted, 3);
    let free = Known {
        scaling: Some("Steady"),
        ..known
    };
    assert_eq!(check(&sink, &free).unwrap().replicas.wanted, 5);
}

#[test]
fn an_upgrade_of_the_operator_keeps_the_image_until_the_configuration_changes() {
    let sink = fixtures::sink();
    let hash = check(&sink, &NOTHING).unwrap().config.hash;
    let runtime = RuntimeStatus {
        image: Some("runtime:1".into()),
        config_hash: Some(hash.clone()),
    };
    let deployment = DeploymentFacts {
        image: Some("runtime:1".into()),
        config_hash: Some(hash),
        ..DeploymentFacts::default()
    };
    let by_status = Known {
        runtime: Some(&runtime),
        ..NOTHING
    };
    let by_deployment = Known {
        deployment: Some(&deployment),
        ..NOTHING
    };
    let image = |sink: &KafkaS3Sink, known: &Known<'_>| check(sink, known).unwrap().image;
    assert_eq!(image(&sink, &NOTHING), "runtime:2");
    for known in [&by_status, &by_deployment] {
        assert_eq!(image(&sink, known), "runtime:1");
        let scaled = fixtures::changed(&sink, &json!({"replicas": 9}));
        assert_eq!(image(&scaled, known), "runtime:1");
        for patch in [
            json!({"rotation": {"maxOpen": "9s"}}),
            json!({"restartNonce": 2}),
        ] {
            assert_eq!(image(&fixtures::changed(&sink, &patch), known), "runtime:2");
        }
        let own = fixtures::changed(&sink, &json!({"pod": {"image": "mine"}}));
        assert_eq!(image(&own, known), "mine");
    }
}
