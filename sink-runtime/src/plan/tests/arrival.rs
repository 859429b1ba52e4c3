//! Every field of a spec is in its plan, and what a spec leaves out is what the reference says.

#[cfg(feature = "cloud")]
mod choices;

use serde_json::{Value, json};

use super::*;
use crate::schema::{Encoding, Field, Type};

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

#[test]
fn what_a_spec_leaves_out_has_the_documented_default() {
    let plan = valid(local());
    assert_eq!(plan.sink.0, "default.orders");
    assert_eq!(plan.source.group_id, "tidewater.default.orders");
    assert_eq!(plan.source.startup, Startup::Earliest);
    assert_eq!(plan.source.isolation, Isolation::ReadCommitted);
    assert_eq!(plan.source.on_source_reset, OnSourceReset::Stop);
    assert_eq!(plan.source.on_records_expired, OnRecordsExpired::Stop);
    assert_eq!(plan.source.on_log_truncated, OnLogTruncated::Stop);
    assert_eq!(plan.source.drain_timeout, Duration::from_millis(22_500));
    assert_eq!(plan.decode.on_error, OnError::Fail);
    assert_eq!(plan.decode.tombstones, Tombstones::Skip);
    assert_eq!(plan.decode.metadata, MetadataColumns::default());
    assert_eq!(plan.rotation.max_bytes, 128 << 20);
    assert_eq!(plan.rotation.max_open, Duration::from_secs(60));
    assert_eq!(plan.rotation.max_open_files, 2000);
    assert_eq!(plan.rotation.partition_close, None);
    assert_eq!(plan.pod.memory_budget, 256 << 20);
    assert_eq!(plan.pod.budget_origin, BudgetOrigin::Default);
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
            "fetch.max.bytes=2097152",
            "fetch.queue.backoff.ms=5",
            "group.id=tidewater.default.orders",
            "isolation.level=read_committed",
            "partition.assignment.strategy=cooperative-sticky",
            "queued.max.messages.kbytes=8192",
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
    assert_eq!(source.on_log_truncated, OnLogTruncated::Continue);
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
        ("client.rack", "a"),
        ("queued.max.messages.kbytes", "2048"),
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
    assert!(!s3.conditional_writes);
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
    assert_eq!(rotation.partition_close, Some(Duration::from_secs(7 * 60)));
    assert!(plan.paused);
    assert_eq!(plan.commit.max_consecutive_failures, 9);
    let dead_letter = plan.dead_letter.as_ref().unwrap();
    assert!(matches!(dead_letter, DeadLetter::Topic { topic } if topic.as_str() == "orders.dlq"));
    assert_eq!((plan.pod.memory_budget, plan.pod.workers), (64 << 20, 5));
    assert_eq!(plan.pod.budget_origin, BudgetOrigin::Spec);
}

#[test]
fn half_the_session_timeout_is_for_draining_unless_the_spec_says_otherwise() {
    let drain = |source: Value| {
        valid(patched(local(), json!({"spec": {"source": source}})))
            .source
            .drain_timeout
    };
    let session = json!({"session.timeout.ms": "6000"});
    let half = drain(json!({"properties": session}));
    assert_eq!(half, Duration::from_secs(3));
    let given = drain(json!({"properties": session, "drainTimeout": "6s"}));
    assert_eq!(given, Duration::from_secs(6));
    // The broker's default, which is the client's.
    let by_broker = drain(json!({"properties": {"group.protocol": "consumer"}}));
    assert_eq!(by_broker, Duration::from_millis(22_500));
}

#[test]
fn sinks_share_three_quarters_of_the_containers_memory_limit() {
    let text = |name: &str, spec: Value| {
        let resource = json!({"metadata": {"name": name}, "spec": spec});
        serde_yaml_ng::to_string(&patched(local(), resource)).unwrap()
    };
    let budgets = |texts: &[String], limit: u64| {
        Plan::from_yaml_in(
            &texts.join("\n---\n"),
            &NoSecrets,
            Container::new(Some(limit)),
        )
        .map(|plans| plans.into_iter().map(|plan| plan.pod).collect::<Vec<_>>())
    };
    let [a, b] = ["a", "b"].map(|name| text(name, json!({})));
    let resting = text("c", json!({"paused": true}));
    let given = text("d", json!({"pod": {"memoryBudget": "700Mi"}}));

    let alone = budgets(&[a.clone(), resting], 512 << 20).unwrap();
    assert_eq!(alone[0].memory_budget, 384 << 20);
    let origin = BudgetOrigin::Container {
        limit: 512 << 20,
        sinks: 1,
    };
    assert_eq!(alone[0].budget_origin, origin);
    let two = budgets(&[a.clone(), b], 512 << 20).unwrap();
    assert_eq!(
        (two[0].memory_budget, two[1].memory_budget),
        (192 << 20, 192 << 20)
    );
    assert_eq!(
        budgets(&[given], 512 << 20).unwrap()[0].memory_budget,
        700 << 20
    );
    let errors = budgets(&[a], 20 << 20).unwrap_err().to_string();
    assert!(
        errors.contains("spec.pod.memoryBudget") && errors.contains("raise the limit"),
        "{errors}"
    );
}
