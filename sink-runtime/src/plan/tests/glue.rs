//! What `spec.glue` makes of a dataset.

use super::*;
use crate::catalog::hive::{Allowed, Deletion, HiveFormat, HivePlan, Partitions};

fn glued(spec: Value) -> HivePlan {
    let plan = valid(patched(s3(), json!({"spec": spec})));
    match plan.destination {
        Destination::Dataset(dataset) => dataset.glue.unwrap(),
        Destination::Iceberg(_) => panic!("no dataset"),
    }
}

#[test]
fn a_dataset_has_no_glue_table_unless_asked_for() {
    let Destination::Dataset(dataset) = valid(s3()).destination else {
        panic!("no dataset");
    };
    assert!(dataset.glue.is_none());
}

#[test]
fn what_spec_glue_leaves_out_has_the_documented_default() {
    let source = json!({"topics": ["Shop.Orders-v1"]});
    let s3 = json!({"bucket": "lake", "region": "eu-west-1",
        "assumeRole": {"roleArn": "arn:aws:iam::123456789012:role/lake"}});
    let plan =
        glued(json!({"source": source, "destination": {"s3": s3}, "glue": {"database": "raw"}}));
    assert_eq!(plan.name(), "raw.shop_orders_v1");
    assert_eq!(plan.location, "s3://lake/");
    assert_eq!(plan.format, HiveFormat::Parquet);
    assert!(!plan.create_database && !plan.adopt);
    assert_eq!(plan.partitions, Partitions::Register);
    assert_eq!(plan.keys, []);
    assert_eq!(plan.repair_interval, Duration::from_secs(3600));
    assert_eq!(plan.deletion, Deletion::Retain);
    let both = Allowed {
        add_columns: true,
        widen: true,
    };
    assert_eq!(plan.allowed, both);
    let access = &plan.access.access;
    assert_eq!(
        (access.region.as_deref(), access.endpoint.as_deref()),
        (Some("eu-west-1"), None)
    );
    assert_eq!(access.credentials, AwsCredentials::DefaultChain);
    assert!(access.assume_role.is_some(), "as the files are written");
}

#[test]
fn every_field_of_spec_glue_arrives_in_the_plan() {
    let plan = glued(json!({
        "destination": {"s3": {"bucket": "lake", "prefix": "raw/orders", "region": "us-east-1"}},
        "output": {"format": "Json"},
        "partitioning": [{"time": {"format": "year=%Y/month=%m/Dia=%d"}}, {"column": "country", "label": "Land"}, {"column": "id"}],
        "metadataColumns": {"offset": "Kafka_Offset"},
        "glue": {
            "database": "raw", "table": "all-orders", "createDatabase": true, "adopt": true, "partitions": "Projection",
            "projection": {"since": "2025-03-01", "columns": {"Land": {"values": ["ES", "FR"]}, "id": {"min": 0, "max": 9}}},
            "evolution": {"addColumns": false, "widen": false}, "repairInterval": "15m", "deletionPolicy": "Delete",
            "catalogId": "123456789012", "region": "eu-west-1", "endpoint": "http://127.0.0.1:4566",
            "assumeRole": {"roleArn": "arn:aws:iam::123456789012:role/glue"}, "timeouts": {"maxAttempts": 2},
        },
    }));
    assert_eq!(plan.sink, SinkId("default.orders".into()));
    assert_eq!(plan.name(), "raw.all-orders");
    assert_eq!(plan.location, "s3://lake/raw/orders/");
    assert!(plan.create_database && plan.adopt);
    assert_eq!(plan.format, HiveFormat::Json);
    let keys: Vec<String> = plan
        .keys
        .iter()
        .map(|k| format!("{} {} {}", k.name, k.folder, k.ty))
        .collect();
    assert_eq!(
        keys,
        [
            "year year= string",
            "month month= string",
            "dia Dia= string",
            "land Land= string",
            "id id= bigint"
        ]
    );
    let columns = plan.columns.unwrap();
    let columns: Vec<String> = columns
        .iter()
        .map(|c| format!("{} {}", c.name, c.ty))
        .collect();
    // `id` stands in the path only; `country` has another name there.
    assert_eq!(
        columns,
        [
            "created_at string",
            "day string",
            "country string",
            "ratio double",
            "address struct<city:string>",
            "kafka_offset bigint"
        ]
    );
    let Partitions::Projection(projection) = &plan.partitions else {
        panic!("{:?}", plan.partitions);
    };
    for (key, value) in [
        ("projection.enabled", "true"),
        ("projection.year.range", "2025,NOW+1YEARS"),
        ("projection.land.values", "ES,FR"),
        ("projection.id.range", "0,9"),
        (
            "storage.location.template",
            "s3://lake/raw/orders/year=${year}/month=${month}/Dia=${dia}/Land=${land}/id=${id}/",
        ),
    ] {
        assert_eq!(projection[key], value, "{key}");
    }
    assert!(!plan.allowed.add_columns && !plan.allowed.widen);
    assert_eq!(plan.repair_interval, Duration::from_secs(900));
    assert_eq!(plan.deletion, Deletion::Delete);
    let access = &plan.access;
    assert_eq!(access.catalog_id.as_deref(), Some("123456789012"));
    assert_eq!(access.access.region.as_deref(), Some("eu-west-1"));
    assert_eq!(
        access.access.endpoint.as_deref(),
        Some("http://127.0.0.1:4566")
    );
    let role = access.access.assume_role.as_ref().unwrap();
    assert_eq!(role.role_arn, "arn:aws:iam::123456789012:role/glue");
    assert_eq!(access.timeouts.max_attempts, 2);
}
