//! Properties that are taken, of the source and of tables.

use super::*;

#[cfg(feature = "cloud")]
#[test]
fn table_properties_are_obeyed_or_agree_with_the_field_that_is() {
    let plan = valid(patched(
        iceberg(),
        json!({"spec": {
            "parquet": {"compression": "Lz4", "pageSize": "64Ki", "bloomFilters": [{"column": "country"}]},
            "properties": {
                "owner": "shop",
                "read.split.target-size": "1",
                "write.delete.mode": "merge-on-read",
                "write.distribution-mode": "hash",
                "write.format.default": "PARQUET",
                "write.metadata.compression-codec": "gzip",
                "write.metadata.delete-after-commit.enabled": "true",
                "write.metadata.metrics.column.address.city": "full",
                "write.metadata.metrics.default": "counts",
                "write.metadata.metrics.max-inferred-column-defaults": "7",
                "write.metadata.path": "s3://lake/elsewhere",
                "write.object-storage.enabled": "true",
                "write.parquet.bloom-filter-enabled.column.country": "true",
                "write.parquet.bloom-filter-enabled.column.id": "false",
                "write.parquet.bloom-filter-fpp.column.country": "0.010",
                "write.parquet.compression-codec": "LZ4",
                "write.parquet.page-size-bytes": "65536",
                "write.parquet.row-group-size-bytes": "134217728",
                "write.target-file-size-bytes": "268435456",
            },
        }}),
    ));
    let Destination::Iceberg(table) = &plan.destination else {
        panic!("no table");
    };
    assert_eq!(unheeded(&table.properties, table), Vec::<String>::new());
}

#[cfg(feature = "cloud")]
#[test]
fn what_a_table_asks_for_in_vain_is_told() {
    let plan = valid(iceberg());
    let Destination::Iceberg(table) = &plan.destination else {
        panic!("no table");
    };
    let properties = [
        ("comment", "of no matter"),
        ("write.data.path", "s3://other/hot"),
        ("write.parquet.compression-codec", "zstd"),
        ("write.parquet.compression-level", "7"),
        ("write.parquet.dict-size-bytes", "1"),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    assert_eq!(
        unheeded(&properties.map(own).into(), table),
        [
            "\"write.data.path\" is \"s3://other/hot\", which the sink does not obey",
            "\"write.parquet.compression-level\" is \"7\", but files are written by spec.parquet.level, which says 3",
            "\"write.parquet.dict-size-bytes\" is \"1\", which the sink does not obey",
        ]
    );
}

#[test]
fn what_serves_producers_goes_with_a_dead_letter_topic_and_a_static_member_with_one_pod() {
    let properties =
        json!({"linger.ms": "5", "compression.type": "zstd", "group.instance.id": "a"});
    let plan = valid(patched(
        local(),
        json!({"spec": {"deadLetter": {"topic": "dead"}, "source": {"properties": properties}}}),
    ));
    assert_eq!(plan.source.properties["linger.ms"].expose(), "5");
}

#[cfg(feature = "cloud")]
#[test]
fn what_opens_files_or_runs_programs_is_for_whoever_runs_the_process_and_no_resource() {
    let properties = json!({
        "client.rack": "eu-west-1a",
        "sasl.kerberos.kinit.cmd": "sh -c id",
        "ssl.crl.location": "/etc/crl.pem",
    });
    let security = json!({"protocol": "SaslSsl", "sasl": {"mechanism": "Gssapi"}});
    let sink = patched(
        s3(),
        json!({"spec": {"source": {"properties": properties, "security": security}}}),
    );
    let plan = valid(sink.clone());
    assert_eq!(
        plan.source.properties["sasl.kerberos.kinit.cmd"].expose(),
        "sh -c id"
    );

    let named = patched(
        sink.clone(),
        json!({"spec": {"source": {"security": {"sasl": {"username": "u"}}}}}),
    );
    let refused = Plan::from_yaml(&named.to_string(), &NoSecrets).unwrap_err();
    assert_eq!(
        refused.problems[0].field,
        "spec.source.security.sasl.username"
    );

    let resource: tidewater_crds::KafkaS3Sink = serde_json::from_value(sink).unwrap();
    let refused = Plan::from_s3_sink(&resource, &NoSecrets).unwrap_err();
    let fields: Vec<_> = refused
        .problems
        .iter()
        .map(|problem| &problem.field)
        .collect();
    assert_eq!(
        fields,
        [
            "spec.source.properties[\"sasl.kerberos.kinit.cmd\"]",
            "spec.source.properties[\"ssl.crl.location\"]",
            "spec.source.security.sasl.mechanism",
        ]
    );
}

#[cfg(feature = "cloud")]
#[test]
fn a_check_of_certificates_is_switched_off_by_its_field() {
    let security = json!({"protocol": "Ssl", "tls": {"insecureSkipVerify": true}});
    let plan = valid(patched(
        s3(),
        json!({"spec": {"source": {"security": security}}}),
    ));
    let key = "enable.ssl.certificate.verification";
    assert_eq!(plan.source.properties[key].expose(), "false");
    assert_eq!(plan.source.connection[key].expose(), "false");
}
