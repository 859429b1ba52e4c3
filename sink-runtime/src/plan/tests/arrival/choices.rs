//! Fields of tables, and the other variants of every choice.

use super::*;

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
    assert_eq!(table.location.as_deref(), Some("s3://other/lake/orders"));
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
        recreate_columns: true,
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
        ("other", "lake")
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
    let ValueSchema::Inferred(found) = plan.decode.value else {
        panic!("not inferred");
    };
    assert_eq!(
        (found.sample_records, found.on_conflict, found.max_columns),
        (5, OnConflict::Reject, 1000)
    );

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
    assert_eq!(glue.glue.catalog_id.as_deref(), Some("123"));
    assert_eq!(glue.glue.access.region.as_deref(), Some("eu-west-1"));
    assert_eq!(
        glue.glue.access.endpoint.as_deref(),
        Some("http://127.0.0.1:4566")
    );
    assert_eq!(
        glue.glue.access.assume_role.as_ref().unwrap().session_name,
        "default.orders"
    );
    assert_eq!(glue.glue.timeouts.max_attempts, 2);
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
