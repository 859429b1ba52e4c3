//! What a resource says of its store reaches the store; and a store that is not all it should be.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockRetentionMode, ObjectLockRule, ServerSideEncryption, StorageClass,
    VersioningConfiguration,
};
use serde_json::json;
use tidewater_e2e::{Forwarder, Lab, await_until, orders};

use crate::dataset_sink::{DatasetSink, PATIENCE};

const CONDITIONS: &[&str] = &["if-match", "if-none-match"];

impl DatasetSink {
    async fn head(&self, key: &str) -> Result<HeadObjectOutput> {
        let request = self.s3().head_object().bucket(self.bucket()).key(key);
        request.send().await.with_context(|| key.to_owned())
    }

    async fn tags(&self, key: &str) -> Result<BTreeSet<(String, String)>> {
        let request = self.s3().get_object_tagging().bucket(self.bucket());
        let found = request.key(key).send().await?;
        let pair = |tag: &aws_sdk_s3::types::Tag| (tag.key().to_owned(), tag.value().to_owned());
        Ok(found.tag_set().iter().map(pair).collect())
    }

    /// Keys of everything in the bucket that is not a data file.
    async fn ledgers(&self) -> Result<BTreeSet<String>> {
        let request = self.s3().list_objects_v2().bucket(self.bucket());
        let listed = request.prefix("_tidewater/").send().await?;
        let keys = listed.contents().iter().filter_map(|object| object.key());
        Ok(keys.map(str::to_owned).collect())
    }

    async fn offsets(&self) -> Result<i64> {
        Ok(self.count().await?.1)
    }

    /// From now on the bucket keeps every version of an object, and nobody removes one for a day.
    async fn lock_bucket(&self) -> Result<()> {
        let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled);
        let request = self.s3().put_bucket_versioning().bucket(self.bucket());
        request
            .versioning_configuration(versions.build())
            .send()
            .await?;
        let retention = DefaultRetention::builder()
            .mode(ObjectLockRetentionMode::Compliance)
            .days(1);
        let rule = ObjectLockRule::builder().default_retention(retention.build());
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(rule.build());
        let request = self.s3().put_object_lock_configuration();
        let request = request.bucket(self.bucket());
        request
            .object_lock_configuration(lock.build())
            .send()
            .await?;
        Ok(())
    }

    /// Versions of an object, the newest first.
    async fn versions(&self, key: &str) -> Result<Vec<String>> {
        let request = self.s3().list_object_versions().bucket(self.bucket());
        let listed = request.prefix(key).send().await?;
        let ids = listed.versions().iter().filter_map(|v| v.version_id());
        Ok(ids.map(str::to_owned).collect())
    }
}

#[tokio::test]
async fn encryption_and_storage_class_are_what_the_resource_says() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(orders(300, 1)).await?;
    let key = "arn:aws:kms:us-east-1:000000000000:key/0b1c2d3e-lake";
    let cases = [
        (json!({"type": "SseS3"}), ServerSideEncryption::Aes256, None),
        (
            json!({"type": "SseKms", "keyId": key}),
            ServerSideEncryption::AwsKms,
            Some(key),
        ),
    ];
    for (encryption, algorithm, key) in cases {
        let store = json!({"encryption": encryption, "storageClass": "STANDARD_IA"});
        let sink = DatasetSink::of(lab, &topic).await?.on_ministack().await?;
        let sink = sink.with(json!({
            "partitioning": [{"column": "status"}], "destination": {"s3": store},
        }));
        sink.catch_up().await?;
        sink.assert_once(300).await?;

        let (files, ledgers) = (sink.files().await?, sink.ledgers().await?);
        ensure!(files.len() >= 2, "{files:?}");
        ensure!(ledgers.len() >= 2, "{ledgers:?}");
        for name in files.iter().chain(&ledgers) {
            let head = sink.head(name).await?;
            assert_eq!(head.server_side_encryption(), Some(&algorithm), "{name}");
            assert_eq!(head.ssekms_key_id(), key, "{name}");
            // A ledger in an archive could not be read back.
            let class = files.contains(name).then_some(&StorageClass::StandardIa);
            assert_eq!(head.storage_class(), class, "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn files_and_ledgers_carry_the_tags_of_the_resource() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(orders(300, 1)).await?;
    let sink = DatasetSink::of(lab, &topic).await?.with(json!({
        "destination": {"s3": {"tags": {"team": "sales + returns", "cost:center": "42"}}},
    }));
    sink.catch_up().await?;
    sink.assert_once(300).await?;
    let tags = [("cost:center", "42"), ("team", "sales + returns")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let (files, ledgers) = (sink.files().await?, sink.ledgers().await?);
    ensure!(files.len() >= 2 && ledgers.len() >= 2);
    for name in files.iter().chain(&ledgers) {
        assert_eq!(
            sink.tags(name).await?,
            BTreeSet::from(tags.clone()),
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_role_is_taken_on_once_and_every_request_is_signed_with_what_it_gives() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    topic.produce(orders(300, 1)).await?;
    let sts = Forwarder::before(lab.ministack().host(), &[]).await?;
    let s3 = Forwarder::before(lab.ministack().host(), &[]).await?;
    let role = json!({
        "roleArn": "arn:aws:iam::000000000000:role/lake", "externalId": "orders-7", "sessionName": "tidewater-e2e",
    });
    let sink = DatasetSink::of(lab, &topic).await?.on_ministack().await?;
    let sink = sink
        .at(s3.endpoint())
        .with(json!({"destination": {"s3": {"assumeRole": role}}}));
    let ended = sink
        .run_to_the_end(&[("AWS_ENDPOINT_URL_STS", sts.endpoint())])
        .await?;
    ensure!(ended.status.success(), "{}", ended.log);
    assert_eq!(sink.count().await?, (300, 300));

    let own = format!("Credential={}/", lab.ministack().access_key);
    let signed = |passed: &tidewater_e2e::Passed| {
        let header = passed.header("authorization").unwrap_or_default();
        header.to_owned()
    };
    let asked = sts.passed();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(signed(&asked[0]).contains(&own), "{asked:?}");
    let form = &asked[0].form;
    for part in [
        "Action=AssumeRole&",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Flake",
        "ExternalId=orders-7",
        "RoleSessionName=tidewater-e2e",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
    let requests = s3.passed();
    ensure!(requests.len() > 4, "{requests:?}");
    for request in &requests {
        let signature = signed(request);
        assert!(signature.contains("Credential="), "{request:?}");
        assert!(!signature.contains(&own), "{request:?}");
        assert!(
            request.header("x-amz-security-token").is_some(),
            "{request:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_at_the_start_with_the_remedy() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    topic.produce(orders(100, 1)).await?;
    let careless = Forwarder::before(lab.ministack().host(), CONDITIONS).await?;
    let sink = DatasetSink::of(lab, &topic).await?.on_ministack().await?;
    let sink = sink.at(careless.endpoint());
    let ended = sink.run_to_the_end(&[]).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    for part in [
        "the store does not honour conditional writes",
        "spec.delivery: AtLeastOnce",
    ] {
        assert!(ended.log.contains(part), "{part}: {}", ended.log);
    }
    let without = careless.passed();
    ensure!(without.iter().any(|passed| !passed.left_out.is_empty()));
    // Nothing was begun, and the scratch object of the question is gone.
    assert_eq!(sink.files().await?, BTreeSet::new());
    assert_eq!(sink.ledgers().await?, BTreeSet::new());
    Ok(())
}

#[tokio::test]
async fn at_least_once_misses_nothing_on_a_store_that_ignores_conditions() -> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 2).await?;
    let careless = Forwarder::before(lab.ministack().host(), CONDITIONS).await?;
    let sink = DatasetSink::of(lab, &topic).await?.on_ministack().await?;
    let sink = sink.at(careless.endpoint()).alone().with(json!({
        "delivery": "AtLeastOnce", "partitioning": [{"column": "country"}], "rotation": {"maxOpen": "300ms"},
    }));
    let mut rows = 0;
    for (seed, failpoint) in (1..).zip([
        "engine.sealed",
        "dataset.before-cas",
        "dataset.after-cas",
        "dataset.after-first-complete",
        "dataset.after-completes",
    ]) {
        topic.produce(orders(200, seed)).await?;
        rows += 200;
        sink.die_at(failpoint).await?;
    }
    let tidewater = sink.start()?;
    topic.produce(orders(100, 9)).await?;
    rows += 100;
    await_until(PATIENCE, "every offset", async || {
        Ok(sink.offsets().await? == rows)
    })
    .await
    .with_context(|| tidewater.process().log_tail())?;
    tidewater.kill9();
    topic.produce(orders(100, 10)).await?;
    rows += 100;
    sink.catch_up().await?;
    assert_eq!(sink.offsets().await?, rows);
    // It does not rely on what it was told not to rely on.
    let passed = careless.passed();
    let conditional = passed.iter().find(|passed| !passed.left_out.is_empty());
    assert!(conditional.is_none(), "{conditional:?}");
    Ok(())
}

#[tokio::test]
async fn at_least_once_misses_nothing_when_two_processes_believe_to_own_a_partition() -> Result<()>
{
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 4).await?;
    let careless = Forwarder::before(lab.ministack().host(), CONDITIONS).await?;
    let sink = DatasetSink::of(lab, &topic).await?.on_ministack().await?;
    let sink = sink.at(careless.endpoint()).with(json!({
        "delivery": "AtLeastOnce",
    }));
    topic.produce(orders(300, 1)).await?;
    let sleeper = sink.start_with(&[("TIDEWATER_FAILPOINT", "dataset.before-cas!stop")])?;
    sleeper.await_stopped(PATIENCE).await?;
    assert_eq!(sink.offsets().await?, 0);
    ensure!(!sink.uploads().await?.is_empty(), "it holds nothing");

    let heir = sink.start()?;
    await_until(PATIENCE, "the heir's rows", async || {
        Ok(sink.offsets().await? == 300)
    })
    .await
    .with_context(|| heir.process().log_tail())?;
    // It finishes what it was about to do.
    sleeper.thaw();
    topic.produce(orders(100, 3)).await?;
    await_until(PATIENCE, "every offset", async || {
        Ok(sink.offsets().await? == 400)
    })
    .await
    .with_context(|| heir.process().log_tail())?;
    for tidewater in [&sleeper, &heir] {
        tidewater.sigterm();
        ensure!(tidewater.wait_exit(PATIENCE).await?.success());
    }
    sink.catch_up().await?;
    assert_eq!(sink.offsets().await?, 400);
    sink.assert_as_sent().await?;
    Ok(())
}

#[tokio::test]
async fn a_bucket_that_locks_its_objects_takes_a_dataset_whose_ledgers_go_on_in_new_versions()
-> Result<()> {
    let lab = Lab::shared().await?;
    let topic = lab.topic("orders", 1).await?;
    let sink = DatasetSink::of(lab, &topic).await?.alone();
    sink.lock_bucket().await?;
    topic.produce(orders(100, 1)).await?;
    sink.catch_up().await?;
    let ledgers = sink.ledgers().await?;
    let ledger = ledgers.iter().find(|key| key.ends_with("/0.json"));
    let ledger = ledger.with_context(|| format!("{ledgers:?}"))?;
    let before = sink.versions(ledger).await?;
    let first = before.last().context("no version")?;
    let request = sink.s3().delete_object();
    let request = request.bucket(sink.bucket()).key(ledger).version_id(first);
    ensure!(request.send().await.is_err(), "the bucket locks nothing");

    topic.produce(orders(130, 2)).await?;
    let tidewater = sink.start()?;
    sink.await_rows(230).await?;
    tidewater.kill9();
    topic.produce(orders(70, 3)).await?;
    sink.catch_up().await?;
    sink.assert_once(300).await?;
    let after = sink.versions(ledger).await?;
    ensure!(after.ends_with(&before), "{before:?}, {after:?}");
    ensure!(after.len() > before.len() + 1, "{before:?}, {after:?}");
    Ok(())
}
