//! Whole resources to plans and back to problems. The refused ones stand in `tests/invalid.yaml`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
#![cfg_attr(
    not(feature = "cloud"),
    allow(dead_code, unused_imports, reason = "most specs need the cloud")
)]

use serde_json::{Value, json};

use super::*;
use crate::schema::{Encoding, Field};

const FULL_S3: &str = include_str!("tests/full-s3.yaml");
const FULL_ICEBERG: &str = include_str!("tests/full-iceberg.yaml");
const INVALID: &str = include_str!("tests/invalid.yaml");

const SECRETS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: open sesame, pem: "-----BEGIN X-----", empty: ""}
"#;

fn columns() -> Value {
    json!([
        {"name": "id", "type": "long"},
        {"name": "created_at", "type": "timestamptz"},
        {"name": "day", "type": "date"},
        {"name": "country", "type": "string"},
        {"name": "ratio", "type": "double"},
        {"name": "address", "type": "struct", "fields": [{"name": "city", "type": "string"}]},
    ])
}

fn s3() -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "KafkaS3Sink", "metadata": {"name": "orders"},
        "spec": {
            "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
            "value": {"schema": {"fields": columns()}},
            "destination": {"s3": {"bucket": "lake"}},
        },
    })
}

fn iceberg() -> Value {
    json!({
        "apiVersion": "tidewater.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": "orders"},
        "spec": {
            "source": {"bootstrapServers": "kafka:9092", "topics": ["orders"]},
            "schema": {"fields": columns()},
            "catalog": {"rest": {"uri": "http://catalog:8181"}},
            "namespace": "sales", "table": "orders",
        },
    })
}

fn merge(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in patch {
        if change.is_null() {
            value.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut value[key], change);
        }
    }
}

fn patched(mut value: Value, patch: Value) -> Value {
    merge(&mut value, &patch);
    value
}

fn planned(resource: &Value) -> Result<Plan, PlanErrors> {
    let text = format!(
        "{}\n---\n{SECRETS}",
        serde_yaml_ng::to_string(resource).unwrap()
    );
    Plan::from_yaml(&text, &NoSecrets).map(|mut plans| plans.remove(0))
}

fn valid(resource: Value) -> Plan {
    planned(&resource).unwrap_or_else(|errors| panic!("{resource}\n{errors}"))
}

fn dataset(plan: &Plan) -> &DatasetPlan {
    match &plan.destination {
        Destination::Dataset(dataset) => dataset,
        Destination::Iceberg(_) => panic!("not a dataset"),
    }
}

fn table(plan: &Plan) -> &IcebergPlan {
    match &plan.destination {
        Destination::Iceberg(table) => table,
        Destination::Dataset(_) => panic!("not a table"),
    }
}

fn property<'a>(plan: &'a Plan, key: &str) -> &'a str {
    plan.source.properties[key].expose()
}

#[cfg(feature = "cloud")]
#[test]
fn a_refused_spec_names_the_field_and_the_remedy() {
    let cases: Vec<Value> = serde_yaml_ng::from_str(INVALID).unwrap();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for case in &cases {
        let mut resource = if case["on"] == "s3" { s3() } else { iceberg() };
        merge(&mut resource, &case["patch"]);
        let (field, remedy) = (
            case["field"].as_str().unwrap(),
            case["remedy"].as_str().unwrap(),
        );
        match planned(&resource) {
            Ok(_) => wrong.push(format!("{case}: accepted")),
            Err(errors) => {
                let named = errors
                    .problems
                    .iter()
                    .any(|problem| problem.field == field && problem.remedy.contains(remedy));
                // One cause, one problem; two where two fields contradict each other.
                if !named || errors.problems.len() > 2 {
                    wrong.push(format!("{case}:\n{errors}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn all_problems_are_reported_at_once_whatever_their_kind() {
    let resource = patched(
        s3(),
        json!({"spec": {
            "source": {"topics": ["or ders"], "drainTimeout": "soon", "batchRecords": 0},
            "rotation": {"maxOpen": "0s", "maxSize": "5Mi"},
            "partitioning": [{"column": "nope"}],
            "output": {"format": "Avro"},
            "destination": {"s3": {"bucket": "UPPER"}},
        }}),
    );
    let errors = planned(&resource).unwrap_err();
    let fields: Vec<&str> = errors.problems.iter().map(|p| p.field.as_str()).collect();
    for field in [
        "spec.source.topics[0]",
        "spec.source.drainTimeout",
        "spec.source.batchRecords",
        "spec.rotation.maxOpen",
        "spec.rotation.maxSize",
        "spec.partitioning[0].column",
        "spec.output.format",
        "spec.destination.s3.bucket",
    ] {
        assert_eq!(
            fields.iter().filter(|f| **f == field).count(),
            1,
            "{field}: {errors}"
        );
    }
    let lines = errors.to_string();
    assert_eq!(lines.lines().count(), errors.problems.len());
    assert!(
        lines
            .lines()
            .all(|line| line.starts_with("KafkaS3Sink orders: "))
    );
}

#[test]
fn a_missing_required_field_does_not_hide_the_other_problems() {
    let resource = patched(
        s3(),
        json!({"spec": {"source": {"bootstrapServers": null}, "rotation": {"maxOpen": "0s"}}}),
    );
    let errors = planned(&resource).unwrap_err();
    let fields: Vec<&str> = errors.problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.source.bootstrapServers", "spec.rotation.maxOpen"]
    );
}

#[test]
fn problems_of_every_document_are_reported() {
    let bad = |name: &str| {
        patched(
            s3(),
            json!({"metadata": {"name": name}, "spec": {"rotation": {"maxOpen": "0s"}}}),
        )
    };
    let text = format!(
        "{}\n---\n{}\n---\nkind: ConfigMap\napiVersion: v1\n---\n# nothing\n",
        serde_yaml_ng::to_string(&bad("a")).unwrap(),
        serde_yaml_ng::to_string(&bad("b")).unwrap(),
    );
    let errors = Plan::from_yaml(&text, &NoSecrets).unwrap_err();
    let resources: Vec<&str> = errors
        .problems
        .iter()
        .map(|p| p.resource.as_str())
        .collect();
    assert_eq!(resources, ["", "KafkaS3Sink a", "KafkaS3Sink b"]);
    assert_eq!(errors.problems[0].field, "document 3: kind");
}

#[test]
fn text_that_is_not_yaml_or_holds_nothing_is_refused() {
    for (text, remedy) in [
        ("a: [", "not valid YAML"),
        ("", "no resource"),
        ("# nothing\n---\n", "no resource"),
        ("just words", "unknown kind"),
        ("a: 1\na: 2", "not valid YAML"),
    ] {
        let errors = Plan::from_yaml(text, &NoSecrets).unwrap_err();
        assert!(errors.to_string().contains(remedy), "{text}: {errors}");
    }
}

#[cfg(feature = "cloud")]
#[test]
fn two_resources_cannot_share_a_ledger_or_a_group() {
    let text = |resources: &[Value]| {
        let texts: Vec<String> = resources
            .iter()
            .map(|r| serde_yaml_ng::to_string(r).unwrap())
            .collect();
        Plan::from_yaml(&texts.join("\n---\n"), &NoSecrets)
    };
    let errors = text(&[s3(), iceberg()]).unwrap_err();
    assert_eq!(errors.problems[0].field, "metadata.name");
    let named = |name: &str| {
        patched(
            s3(),
            json!({"metadata": {"name": name}, "spec": {"source": {"groupId": "g"}}}),
        )
    };
    let errors = text(&[named("a"), named("b")]).unwrap_err();
    assert_eq!(errors.problems[0].field, "spec.source.groupId");
    let other = patched(named("b"), json!({"spec": {"source": {"groupId": "h"}}}));
    assert_eq!(text(&[named("a"), other]).unwrap().len(), 2);
}

#[cfg(feature = "cloud")]
#[test]
fn no_secret_appears_in_a_plan_or_a_problem_when_printed() {
    let secrets = ["sesame", "AKIA", "hush", "fleeting", "BEGIN PRIVATE KEY"];
    for text in [FULL_S3, FULL_ICEBERG] {
        let plans = Plan::from_yaml(text, &NoSecrets).unwrap();
        let broken = text.replace("bootstrapServers: kafka", "bootstrapServers: ka fka");
        let errors = Plan::from_yaml(&broken, &NoSecrets).unwrap_err();
        let shown = format!("{plans:?} {errors} {errors:?}");
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    // Secrets where they do not belong.
    for source in [
        json!({"security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Plain", "username": "u", "password": "hush"}}}),
        json!({"security": {"protocol": "SaslPlaintext", "sasl": {"mechanism": "Plain", "username": "u", "password": {"value": "hush"}}}}),
        json!({"properties": {"sasl.password": "hush"}}),
        json!({"properties": {"sasl.passwort": "hush"}}),
        json!({"properties": {"ssl.key.pem": "hush"}}),
    ] {
        let errors = planned(&patched(s3(), json!({"spec": {"source": source}}))).unwrap_err();
        assert!(!format!("{errors:?}").contains("hush"), "{errors}");
    }
}

#[test]
fn a_secret_written_as_data_must_be_base64() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: '&%'}\n";
    let errors = Plan::from_yaml(text, &NoSecrets).unwrap_err();
    assert_eq!(errors.problems[0].field, "document 1: data.a");
    assert!(!errors.to_string().contains("&%"));
}

#[test]
fn what_a_spec_leaves_out_has_the_documented_default() {
    let plan = valid(patched(
        s3(),
        json!({"spec": {"destination": {"s3": null, "local": {"path": "/tmp/orders"}}}}),
    ));
    assert_eq!(plan.sink.0, "default.orders");
    assert_eq!(plan.source.group_id, "tidewater.default.orders");
    assert_eq!(plan.source.startup, Startup::Earliest);
    assert_eq!(plan.source.isolation, Isolation::ReadCommitted);
    assert_eq!(plan.source.on_source_reset, OnSourceReset::Stop);
    assert_eq!(plan.source.on_records_expired, OnRecordsExpired::Stop);
    assert_eq!(plan.source.drain_timeout, Duration::from_secs(20));
    assert_eq!(plan.decode.on_error, OnError::Fail);
    assert_eq!(plan.decode.tombstones, Tombstones::Skip);
    assert_eq!(plan.decode.metadata, MetadataColumns::default());
    assert_eq!(plan.rotation.max_bytes, 128 << 20);
    assert_eq!(plan.rotation.max_open, Duration::from_secs(60));
    assert_eq!(plan.rotation.max_open_files, 2000);
    assert_eq!(plan.pod.memory_budget, 256 << 20);
    assert!(plan.pod.workers >= 1);
    assert!(plan.dead_letter.is_none());
    let dataset = dataset(&plan);
    assert_eq!(dataset.delivery, Delivery::ExactlyOnce);
    assert_eq!(
        dataset.output,
        OutputFormat::Parquet(ParquetOptions {
            compression: ParquetCompression::Zstd { level: 3 },
            row_group_rows: 1_048_576,
            row_group_bytes: 128 << 20,
            page_bytes: 1 << 20,
            dictionary: true,
            statistics: true,
            bloom_filters: BTreeMap::new(),
        })
    );
    let properties: Vec<String> = plan
        .source
        .properties
        .iter()
        .map(|(key, value)| format!("{key}={}", value.expose()))
        .collect();
    assert_eq!(
        properties,
        [
            "allow.auto.create.topics=false",
            "auto.offset.reset=error",
            "bootstrap.servers=kafka:9092",
            "check.crcs=true",
            "client.id=tidewater",
            "enable.auto.commit=false",
            "enable.auto.offset.store=false",
            "enable.partition.eof=true",
            "fetch.queue.backoff.ms=5",
            "group.id=tidewater.default.orders",
            "isolation.level=read_committed",
            "partition.assignment.strategy=cooperative-sticky",
            "queued.max.messages.kbytes=65536",
            "queued.min.messages=1000000",
            "statistics.interval.ms=5000",
            "topic.metadata.refresh.interval.ms=30000",
        ]
    );
}

#[cfg(feature = "cloud")]
#[test]
fn every_field_of_a_dataset_sink_arrives_in_the_plan() {
    let plan = Plan::from_yaml(FULL_S3, &NoSecrets).unwrap().remove(0);
    assert_eq!(plan.sink.0, "shop.orders");
    let source = &plan.source;
    assert_eq!(source.bootstrap_servers, "kafka-0:9093,kafka-1:9093");
    let topics = vec![TopicName::new("orders"), TopicName::new("returns")];
    assert_eq!(source.topics, Topics::List(topics));
    assert_eq!(source.group_id, "lake");
    let offsets = BTreeMap::from([(TopicPartition::new("orders", 1), 42)]);
    assert_eq!(source.startup, Startup::Offsets(offsets));
    assert_eq!(source.isolation, Isolation::ReadUncommitted);
    assert_eq!(source.on_source_reset, OnSourceReset::Restart);
    assert_eq!(source.on_records_expired, OnRecordsExpired::Skip);
    assert_eq!(source.drain_timeout, Duration::from_secs(15));
    assert_eq!(source.batch_records, 500);
    for (key, value) in [
        ("isolation.level", "read_uncommitted"),
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "me"),
        ("sasl.password", "open sesame"),
        ("ssl.ca.pem", "-----BEGIN CERTIFICATE-----\nCA"),
        ("ssl.certificate.pem", "-----BEGIN CERTIFICATE-----\nMINE"),
        ("ssl.key.pem", "-----BEGIN PRIVATE KEY-----\nMINE"),
        ("ssl.key.password", "sesame"),
        ("ssl.endpoint.identification.algorithm", "none"),
        ("session.timeout.ms", "30000"),
        ("fetch.min.bytes", "1000"),
        ("group.instance.id", "a"),
        ("queued.max.messages.kbytes", "16384"),
    ] {
        assert_eq!(property(&plan, key), value, "{key}");
    }
    assert!(matches!(
        source.properties["sasl.password"],
        Property::Secret(_)
    ));

    let ValueSchema::Declared { schema, unknown } = &plan.decode.value else {
        panic!("not declared");
    };
    assert_eq!(*unknown, UnknownFields::Reject);
    let encoded = |name: &str, ty, encoding| Field {
        encoding: Some(encoding),
        ..Field::optional(name, ty)
    };
    let address = vec![
        Field::required("city", Type::String),
        encoded("seen", Type::Timestamp, Encoding::EpochSeconds),
    ];
    let ints = Type::List(Box::new(Field::optional("element", Type::Int)));
    assert_eq!(
        schema.fields,
        [
            Field {
                doc: Some("the id".into()),
                ..Field::required("id", Type::Long)
            },
            encoded("created_at", Type::Timestamptz, Encoding::EpochMillis),
            encoded("day", Type::Date, Encoding::EpochDays),
            Field::optional("country", Type::String),
            Field::optional(
                "amount",
                Type::Decimal {
                    precision: 12,
                    scale: 2
                }
            ),
            encoded("photo", Type::Binary, Encoding::Hex),
            Field::optional("address", Type::Struct(address)),
            Field::optional(
                "tags",
                Type::List(Box::new(Field::required("element", Type::String)))
            ),
            Field::optional(
                "counts",
                Type::Map(Box::new(Field::optional("value", ints)))
            ),
        ]
    );
    assert_eq!(plan.decode.on_error, OnError::Skip);
    assert_eq!(plan.decode.tombstones, Tombstones::DeadLetter);
    assert_eq!(
        plan.decode.metadata,
        MetadataColumns {
            topic: Some("_t".into()),
            partition: Some("_p".into()),
            offset: Some("_o".into()),
            timestamp: Some("_ts".into()),
            timestamp_type: Some("_tt".into()),
            key: Some("_k".into()),
            headers: Some("_h".into()),
        }
    );

    let dataset = dataset(&plan);
    let level = |label: Option<&str>, format: &str| TimeLevel {
        label: label.map(str::to_owned),
        format: format.to_owned(),
    };
    let column = |column: &str, label: &str| PartitionExpr::Column {
        column: column.into(),
        label: label.into(),
    };
    assert_eq!(
        dataset.partitioning,
        [
            PartitionExpr::Time {
                source: TimeSource::Column("created_at".into()),
                timezone: chrono_tz::Europe::Madrid,
                levels: vec![level(Some("year"), "%Y"), level(Some("month"), "%m")],
            },
            PartitionExpr::Time {
                source: TimeSource::WallClock,
                timezone: chrono_tz::UTC,
                levels: vec![level(Some("dt"), "%Y-%m-%d"), level(None, "h%H")],
            },
            column("country", "land"),
            column("address.city", "city"),
            column("_t", "_t"),
        ]
    );
    assert_eq!(
        dataset.output,
        OutputFormat::Parquet(ParquetOptions {
            compression: ParquetCompression::Gzip { level: 9 },
            row_group_rows: 1000,
            row_group_bytes: 32 << 20,
            page_bytes: 64 << 10,
            dictionary: false,
            statistics: false,
            bloom_filters: BTreeMap::from([("id".into(), 0.2), ("address.city".into(), 0.01)]),
        })
    );
    assert_eq!(dataset.delivery, Delivery::AtLeastOnce);
    let StorePlan::S3(s3) = &dataset.store else {
        panic!("not S3");
    };
    assert_eq!(
        (s3.bucket.as_str(), s3.prefix.as_str()),
        ("lake", "raw/orders")
    );
    assert_eq!(s3.access.region.as_deref(), Some("eu-west-1"));
    assert_eq!(s3.access.endpoint.as_deref(), Some("http://127.0.0.1:7070"));
    assert!(s3.access.path_style);
    assert_eq!(
        s3.access.credentials,
        AwsCredentials::Static {
            access_key_id: Secret::new("AKIA"),
            secret_access_key: Secret::new("hush"),
            session_token: Some(Secret::new("fleeting")),
        }
    );
    assert_eq!(
        s3.access.assume_role,
        Some(AssumeRole {
            role_arn: "arn:aws:iam::123456789012:role/lake".into(),
            external_id: Some("ext".into()),
            session_name: "me".into(),
        })
    );
    assert_eq!(
        s3.encryption,
        Encryption::SseKms {
            key_id: Some("alias/lake".into()),
            bucket_key: false,
        }
    );
    assert_eq!(s3.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(s3.tags["team"], "sales");
    assert_eq!(s3.checksum, Checksum::Sha256);
    assert_eq!((s3.part_size, s3.upload_concurrency), (6 << 20, 3));
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        attempt: Duration::from_secs(2),
        max_attempts: 7,
    };
    assert_eq!(s3.timeouts, timeouts);

    let rotation = &plan.rotation;
    assert_eq!(rotation.max_bytes, 1 << 20);
    assert_eq!(rotation.max_records, Some(77));
    assert_eq!(rotation.max_open, Duration::from_secs(90));
    assert_eq!(rotation.max_idle, Some(Duration::from_secs(5)));
    let schedule = ("*/15 * * * *".to_owned(), chrono_tz::Asia::Tokyo);
    assert_eq!(rotation.schedule, Some(schedule));
    assert_eq!(rotation.max_open_files, 12);
    assert_eq!(plan.commit.max_consecutive_failures, 9);
    let dead_letter = plan.dead_letter.as_ref().unwrap();
    assert!(matches!(dead_letter, DeadLetter::Topic { topic } if topic.as_str() == "orders.dlq"));
    assert_eq!((plan.pod.memory_budget, plan.pod.workers), (64 << 20, 5));
}

#[cfg(feature = "cloud")]
#[test]
fn every_field_of_a_table_arrives_in_the_plan() {
    let plan = Plan::from_yaml(FULL_ICEBERG, &NoSecrets).unwrap().remove(0);
    assert_eq!(plan.source.topics, Topics::Pattern("orders-[a-z]+".into()));
    assert_eq!(plan.source.startup, Startup::Timestamp(1_767_225_600_000));
    assert_eq!(property(&plan, "group.protocol"), "consumer");
    assert!(
        !plan
            .source
            .properties
            .contains_key("partition.assignment.strategy")
    );
    assert_eq!(plan.decode.on_error, OnError::DeadLetter);
    let dead_letter = plan.dead_letter.as_ref().unwrap();
    assert!(matches!(dead_letter, DeadLetter::Prefix { prefix } if prefix == "_dead/orders"));

    let table = table(&plan);
    let CatalogPlan::Rest(rest) = &table.catalog else {
        panic!("not REST");
    };
    assert_eq!(rest.uri, "https://catalog.example.com/iceberg");
    assert_eq!(rest.warehouse.as_deref(), Some("s3://lake/wh"));
    assert_eq!(
        rest.auth,
        RestAuth::OAuth2 {
            token_uri: Some("https://login.example.com/token".into()),
            client_id: Secret::new("me"),
            client_secret: Secret::new("hush"),
            scope: "PRINCIPAL_ROLE:ALL".into(),
        }
    );
    assert_eq!(rest.headers["X-Tenant"], Property::Plain("sales".into()));
    assert_eq!(
        rest.headers["X-Key"],
        Property::Secret(Secret::new("open sesame"))
    );
    assert_eq!(rest.timeouts.max_attempts, 7);
    assert_eq!(table.namespace, ["sales", "eu"]);
    assert_eq!(table.table, "orders");
    assert!(!table.create_if_missing);
    assert_eq!(table.location.as_deref(), Some("s3://other/orders"));
    assert_eq!(table.format_version, 3);
    let field = |column: &str, transform, name: Option<&str>| PartitionField {
        column: column.into(),
        transform,
        name: name.map(str::to_owned),
    };
    assert_eq!(
        table.partition_by,
        [
            field("created_at", PartitionTransform::Hour, None),
            field("customer", PartitionTransform::Bucket(16), Some("who")),
            field("_p", PartitionTransform::Identity, None),
        ]
    );
    assert_eq!(
        table.sort_order,
        [
            SortField {
                column: "created_at".into(),
                transform: PartitionTransform::Identity,
                descending: true,
                nulls_first: true,
            },
            SortField {
                column: "customer".into(),
                transform: PartitionTransform::Truncate(4),
                descending: false,
                nulls_first: true,
            },
        ]
    );
    assert_eq!(
        table.properties["write.metadata.previous-versions-max"],
        "5"
    );
    let evolution = Evolution {
        add_columns: false,
        widen: false,
        make_optional: false,
    };
    assert_eq!(table.evolution, evolution);
    assert_eq!(
        table.parquet,
        ParquetOptions {
            compression: ParquetCompression::Zstd { level: 9 },
            row_group_rows: 1000,
            row_group_bytes: 32 << 20,
            page_bytes: 64 << 10,
            dictionary: false,
            statistics: false,
            bloom_filters: BTreeMap::from([("customer".into(), 0.01)]),
        }
    );
    assert_eq!(table.target_file_bytes, 64 << 20);
    assert_eq!(table.on_destination_reset, OnDestinationReset::Reread);
    let storage = table.storage.as_ref().unwrap();
    assert_eq!(
        (storage.bucket.as_str(), storage.prefix.as_str()),
        ("other", "orders")
    );
    assert_eq!(storage.access.region.as_deref(), Some("eu-west-1"));
    assert_eq!(storage.part_size, 16 << 20);

    assert_eq!(plan.commit.interval, Duration::from_secs(300));
    assert_eq!(plan.commit.max_bytes, Some(1 << 30));
    assert_eq!(plan.commit.max_records, Some(1000));
    assert_eq!(plan.commit.max_consecutive_failures, 3);
    assert_eq!(plan.rotation.max_bytes, table.target_file_bytes);
    assert_eq!(plan.rotation.max_open, plan.commit.interval);
    assert_eq!(plan.rotation.max_open_files, 12);
}

#[cfg(feature = "cloud")]
#[test]
fn the_other_variants_of_every_choice_arrive_too() {
    let dataset_of = |patch: Value| {
        let plan = valid(patched(s3(), json!({ "spec": patch })));
        dataset(&plan).clone()
    };
    for (output, expected) in [
        (
            json!({"format": "Json", "compression": "None"}),
            JsonCompression::None,
        ),
        (
            json!({"format": "Json", "compression": "Gzip"}),
            JsonCompression::Gzip,
        ),
        (
            json!({"format": "Json"}),
            JsonCompression::Zstd { level: 3 },
        ),
    ] {
        let output = dataset_of(json!({ "output": output })).output;
        assert_eq!(
            output,
            OutputFormat::JsonLines {
                compression: expected
            }
        );
    }
    for (name, expected) in [
        ("None", ParquetCompression::None),
        ("Snappy", ParquetCompression::Snappy),
        ("Lz4", ParquetCompression::Lz4),
        ("Gzip", ParquetCompression::Gzip { level: 6 }),
    ] {
        match dataset_of(json!({"output": {"compression": name}})).output {
            OutputFormat::Parquet(options) => assert_eq!(options.compression, expected),
            other => panic!("{other:?}"),
        }
    }
    match dataset_of(
        json!({"destination": {"s3": {"encryption": {"type": "SseS3"}, "checksum": "Crc64Nvme"}}}),
    )
    .store
    {
        StorePlan::S3(plan) => {
            assert_eq!(plan.encryption, Encryption::SseS3);
            assert_eq!(plan.checksum, Checksum::Crc64Nvme);
            assert_eq!(plan.access.credentials, AwsCredentials::DefaultChain);
        }
        StorePlan::Local { path } => panic!("{path:?}"),
    }

    let plan = valid(patched(
        s3(),
        json!({"spec": {"value": {"schema": null, "infer": {"sampleRecords": 5, "onConflict": "Reject"}},
            "partitioning": [{"column": "unseen"}], "output": {"bloomFilters": [{"column": "unseen"}]}}}),
    ));
    let ValueSchema::Inferred {
        sample_records,
        on_conflict,
    } = plan.decode.value
    else {
        panic!("not inferred");
    };
    assert_eq!((sample_records, on_conflict), (5, OnConflict::Reject));

    for (startup, expected) in [
        (json!({"mode": "GroupOffsets"}), Startup::GroupOffsets),
        (json!({"mode": "Latest"}), Startup::Latest),
        (
            json!({"mode": "Timestamp", "timestamp": 1_767_225_600_000_i64}),
            Startup::Timestamp(1_767_225_600_000),
        ),
        (
            json!({"mode": "Timestamp", "timestamp": "1767225600000"}),
            Startup::Timestamp(1_767_225_600_000),
        ),
    ] {
        let plan = valid(patched(
            s3(),
            json!({"spec": {"source": {"startup": startup}}}),
        ));
        assert_eq!(plan.source.startup, expected);
    }

    let catalog_of = |patch: Value| {
        let plan = valid(patched(iceberg(), json!({"spec": {"catalog": patch}})));
        table(&plan).clone()
    };
    let glue = json!({"rest": null, "glue": {"warehouse": "s3://lake/wh/", "catalogId": "123", "region": "eu-west-1",
        "endpoint": "http://127.0.0.1:4566", "assumeRole": {"roleArn": "arn:aws:iam::123456789012:role/lake"},
        "timeouts": {"maxAttempts": 2}}});
    let glued = catalog_of(glue);
    let CatalogPlan::Glue(glue) = &glued.catalog else {
        panic!("not Glue");
    };
    assert_eq!(glue.warehouse, "s3://lake/wh");
    assert_eq!(glue.catalog_id.as_deref(), Some("123"));
    assert_eq!(glue.access.region.as_deref(), Some("eu-west-1"));
    assert_eq!(
        glue.access.endpoint.as_deref(),
        Some("http://127.0.0.1:4566")
    );
    assert_eq!(
        glue.access.assume_role.as_ref().unwrap().session_name,
        "default.orders"
    );
    assert_eq!(glue.timeouts.max_attempts, 2);
    let storage = glued.storage.unwrap();
    assert_eq!(
        (storage.bucket.as_str(), storage.prefix.as_str()),
        ("lake", "wh")
    );

    let bearer = json!({"rest": {"auth": {"bearer": {"token": {"secretKeyRef": {"name": "s", "key": "password"}}}}}});
    let sigv4 =
        json!({"rest": {"auth": {"sigV4": {"region": "eu-west-1", "service": "s3tables"}}}});
    for (catalog, expected) in [
        (json!({}), RestAuth::None),
        (bearer, RestAuth::Bearer(Secret::new("open sesame"))),
        (
            sigv4,
            RestAuth::SigV4 {
                region: "eu-west-1".into(),
                service: "s3tables".into(),
            },
        ),
    ] {
        match catalog_of(catalog).catalog {
            CatalogPlan::Rest(rest) => assert_eq!(rest.auth, expected),
            other => panic!("{other:?}"),
        }
    }
    let local = catalog_of(json!({"rest": null, "local": {"path": "/w"}}));
    assert!(local.storage.is_none());
    assert!(matches!(local.catalog, CatalogPlan::Local { path } if path.as_os_str() == "/w"));
}

#[cfg(feature = "cloud")]
#[test]
fn every_example_is_a_plan() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let plans = Plan::from_yaml(&text, &NoSecrets)
                .unwrap_or_else(|errors| panic!("{}:\n{errors}", path.display()));
            assert_eq!(plans.len(), 1, "{}", path.display());
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert_eq!(
        names,
        [
            "orders-glue",
            "orders-iceberg",
            "orders-local-iceberg",
            "orders-local-s3",
            "orders-s3"
        ]
    );
}

#[cfg(feature = "cloud")]
#[test]
fn a_typed_resource_makes_the_same_plan_as_its_yaml() {
    let sink: tidewater_crds::KafkaS3Sink = serde_json::from_value(s3()).unwrap();
    let typed = Plan::from_s3_sink(&sink, &NoSecrets).unwrap();
    assert_eq!(format!("{typed:?}"), format!("{:?}", valid(s3())));
    let table: tidewater_crds::IcebergTable = serde_json::from_value(iceberg()).unwrap();
    let typed = Plan::from_iceberg_table(&table, &NoSecrets).unwrap();
    assert_eq!(format!("{typed:?}"), format!("{:?}", valid(iceberg())));
    let mut broken = sink;
    broken.spec.replicas = -1;
    broken.spec.source.topics = None;
    let errors = Plan::from_s3_sink(&broken, &NoSecrets).unwrap_err();
    assert_eq!(errors.problems.len(), 2);
}

#[cfg(not(feature = "cloud"))]
#[test]
fn a_build_without_cloud_says_so_once_for_each_thing_it_lacks() {
    for (resource, field) in [
        (s3(), "spec.destination.s3"),
        (iceberg(), "spec.catalog.rest"),
    ] {
        let errors = planned(&resource).unwrap_err();
        assert_eq!(errors.problems.len(), 1, "{errors}");
        assert_eq!(errors.problems[0].field, field);
        assert!(errors.problems[0].remedy.contains("cloud"));
    }
}
