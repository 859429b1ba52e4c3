#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::sync::Arc;

use super::staging::completed_part;
use super::*;
use crate::plan::{AwsCredentials, S3Access, Secret, Timeouts};
use crate::store::conformance::run_all;

fn plan(endpoint: &str, key: &str, secret: &str, bucket: &str) -> S3Plan {
    S3Plan {
        bucket: bucket.to_owned(),
        prefix: "raw/orders".to_owned(),
        access: S3Access {
            region: Some("us-east-1".to_owned()),
            endpoint: Some(endpoint.to_owned()),
            path_style: true,
            credentials: AwsCredentials::Static {
                access_key_id: Secret::new(key),
                secret_access_key: Secret::new(secret),
                session_token: None,
            },
            assume_role: None,
        },
        conditional_writes: true,
        encryption: Encryption::BucketDefault,
        storage_class: None,
        tags: BTreeMap::from([("team".to_owned(), "a + b=c".to_owned())]),
        checksum: Checksum::Crc64Nvme,
        part_size: 5 << 20,
        upload_concurrency: 4,
        timeouts: Timeouts {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(30),
            max_attempts: 3,
        },
    }
}

/// `TIDEWATER_TEST_S3=<endpoint>,<access key>,<secret key>,<bucket>`: a server to run against.
fn server() -> Option<S3Plan> {
    let setting = std::env::var("TIDEWATER_TEST_S3").ok();
    let Some(setting) = setting else {
        assert!(
            std::env::var_os("TIDEWATER_LAB").is_none(),
            "the lab gives its S3 server in TIDEWATER_TEST_S3, and did not"
        );
        eprintln!("SKIPPED: TIDEWATER_TEST_S3 is not set; nothing ran against an S3 server");
        return None;
    };
    let fields: Vec<_> = setting.split(',').collect();
    let [endpoint, key, secret, bucket] = fields.as_slice() else {
        panic!("TIDEWATER_TEST_S3 needs four fields");
    };
    Some(plan(endpoint, key, secret, bucket))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_s3_server_keeps_every_promise() {
    let Some(plan) = server() else { return };
    let store = S3Store::open(&plan).await.unwrap();
    let outcome = run_all(Arc::new(store)).await;
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

#[tokio::test]
async fn without_conditions_a_put_still_loses_to_what_another_wrote_before() {
    let Some(mut plan) = server() else { return };
    plan.conditional_writes = false;
    let store = S3Store::open(&plan).await.unwrap();
    let key = format!("unconditional/{}", uuid::Uuid::new_v4());
    let put = |body: &'static str, expect| store.put(&key, Bytes::from(body), expect);
    let first = put("1", Expect::Absent).await.unwrap();
    let second = put("2", Expect::Unchanged(first.clone())).await.unwrap();
    for expect in [Expect::Absent, Expect::Unchanged(first)] {
        let outcome = put("3", expect).await;
        assert!(matches!(outcome, Err(StoreError::Conflict { .. })));
    }
    let found = store.get(&key).await.unwrap();
    assert_eq!(found, Some((Bytes::from("2"), second)));
}

#[tokio::test]
async fn an_upload_completes_under_every_checksum_and_keeps_its_metadata() {
    let Some(mut plan) = server() else { return };
    for checksum in [
        Checksum::Crc32,
        Checksum::Crc32c,
        Checksum::Crc64Nvme,
        Checksum::Sha256,
        Checksum::None,
    ] {
        plan.checksum = checksum;
        let store = S3Store::open(&plan).await.unwrap();
        // Whoever completes may run with another setting.
        plan.checksum = Checksum::None;
        let successor = S3Store::open(&plan).await.unwrap();
        let key = format!("checksums/{}", uuid::Uuid::new_v4());
        let metadata = BTreeMap::from([("tidewater-sink".to_owned(), "a.b".to_owned())]);
        let id = store.begin(&key, &metadata).await.unwrap();
        let mut tags = Vec::new();
        for (number, size) in [(1, 5 << 20), (2, 10)] {
            let body = Bytes::from(vec![7; size]);
            tags.push(store.put_part(&key, &id, number, body).await.unwrap());
        }
        let done = successor.complete(&key, &id, &tags).await.unwrap();
        assert_eq!(done, Completed::Done, "{checksum:?}");
        let info = store.head(&key).await.unwrap().unwrap();
        assert_eq!(info.size, (5 << 20) + 10);
        assert_eq!(info.metadata, metadata);
    }
}

#[tokio::test]
async fn wrong_keys_and_missing_buckets_have_their_own_errors() {
    let Some(good) = server() else { return };
    let mut plan = good.clone();
    plan.bucket = "no-such-bucket-here".to_owned();
    let store = S3Store::open(&plan).await.unwrap();
    for expect in [Expect::Anything, Expect::Absent] {
        let outcome = store.put("k", Bytes::new(), expect).await;
        assert!(matches!(outcome, Err(StoreError::NoSuchRoot { .. })));
    }
    let outcome = store.list("").await;
    assert!(matches!(outcome, Err(StoreError::NoSuchRoot { .. })));

    let mut plan = good;
    plan.access.credentials = AwsCredentials::Static {
        access_key_id: Secret::new("somebody"),
        secret_access_key: Secret::new("nonsense"),
        session_token: None,
    };
    let store = S3Store::open(&plan).await.unwrap();
    for expect in [Expect::Anything, Expect::Absent] {
        let outcome = store.put("k", Bytes::new(), expect).await;
        let Err(error @ StoreError::Denied { .. }) = outcome else {
            panic!("{outcome:?}");
        };
        let line = crate::errors::OneLine(&error).to_string();
        assert!(!line.contains("nonsense"), "{line}");
    }
}

/// Nothing listens on a port that was just given back.
async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn without_a_server_a_conditional_put_is_unknown_and_a_plain_one_unavailable() {
    let mut plan = plan(&closed_port().await, "id", "key", "b");
    plan.timeouts.max_attempts = 1;
    let store = S3Store::open(&plan).await.unwrap();
    let outcome = store.put("k", Bytes::new(), Expect::Anything).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })));
    let outcome = store.put("k", Bytes::new(), Expect::Absent).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })));
}

#[test]
fn tags_are_encoded_as_a_query() {
    let tags = BTreeMap::from([
        ("team".to_owned(), "a & b=c".to_owned()),
        ("ü".to_owned(), String::new()),
    ]);
    assert_eq!(tag_header(&tags), "team=a%20%26%20b%3Dc&%C3%BC=");
}

#[test]
fn a_part_gives_back_the_checksum_it_was_given() {
    let tag = PartTag {
        number: 3,
        etag: "\"e\"".to_owned(),
        checksum: Some("crc32c:AAAAAA==".to_owned()),
    };
    let part = completed_part(&tag);
    assert_eq!(part.checksum_crc32_c(), Some("AAAAAA=="));
    assert_eq!(part.checksum_crc32(), None);
}
