//! S3, and servers that speak its protocol. Conditional puts are sent once each and looked after here (`conditional`);
//! everything else is idempotent and left to the SDK's own jittered retries. A store that is not trusted with conditions
//! is not asked any: the object is looked at before each try, which finds every writer but one that comes in between.
//!
//! Over https the payload is not hashed for the signature: TLS protects it, and a checksum, where one is asked for,
//! is signed with the headers. Over plain http it is hashed. The storage class applies to staged uploads only: a
//! ledger in an archive class could not be read back.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ServerSideEncryption, StorageClass};
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::conditional::{Attempt, Target};
use self::failure::{Failure, Kind};
use super::{
    BoxError, Completed, Expect, ObjectInfo, OpenUpload, PartTag, Store, StoreError, UploadId,
    Version,
};
use crate::backoff::Backoff;
use crate::plan::{Checksum, Encryption, S3Plan};

mod conditional;
mod failure;
mod staging;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
    sse: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    bucket_key: Option<bool>,
    storage_class: Option<StorageClass>,
    /// As the header wants it: `a=b&c=d`.
    tags: Option<String>,
    checksum: Option<ChecksumAlgorithm>,
    hash_payload: bool,
    part_size: usize,
    attempts: u32,
    conditional_writes: bool,
}

/// The client's own form is pages long and none of it tells which store this is.
impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Store").field(&self.root()).finish()
    }
}

impl S3Store {
    /// Sends nothing to S3; resolving credentials may ask their service.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when no region is known.
    pub async fn open(plan: &S3Plan) -> Result<Self, StoreError> {
        let shared = Box::pin(crate::aws::aws_config(&plan.access, &plan.timeouts)).await;
        Self::with_config(plan, &shared)
    }

    /// With region, endpoint and credentials of `shared` instead of the plan's.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when no region is known.
    pub fn with_config(plan: &S3Plan, shared: &SdkConfig) -> Result<Self, StoreError> {
        let Some(region) = shared.region() else {
            return Err(StoreError::Refused {
                operation: "open",
                key: format!("s3://{}", plan.bucket),
                source: "no region: set it in the resource, or AWS_REGION in the environment"
                    .into(),
            });
        };
        tracing::debug!(bucket = plan.bucket, region = region.as_ref(), "s3 client");
        let calculation = match plan.checksum {
            Checksum::None => RequestChecksumCalculation::WhenRequired,
            _ => RequestChecksumCalculation::WhenSupported,
        };
        let config = Builder::from(shared)
            .force_path_style(plan.access.path_style)
            .request_checksum_calculation(calculation)
            .build();
        let (sse, kms_key, bucket_key) = match &plan.encryption {
            Encryption::BucketDefault => (None, None, None),
            Encryption::SseS3 => (Some(ServerSideEncryption::Aes256), None, None),
            Encryption::SseKms { key_id, bucket_key } => (
                Some(ServerSideEncryption::AwsKms),
                key_id.clone(),
                Some(*bucket_key),
            ),
        };
        let prefix = plan.prefix.trim_matches('/');
        let plain = shared
            .endpoint_url()
            .is_some_and(|url| url.starts_with("http://"));
        Ok(Self {
            client: Client::from_conf(config),
            bucket: plan.bucket.clone(),
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
            sse,
            kms_key,
            bucket_key,
            storage_class: plan.storage_class.as_deref().map(StorageClass::from),
            tags: (!plan.tags.is_empty()).then(|| tag_header(&plan.tags)),
            checksum: algorithm(plan.checksum),
            hash_payload: plain,
            part_size: plan.part_size,
            attempts: plan.timeouts.max_attempts.max(1),
            conditional_writes: plan.conditional_writes,
        })
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// `None` for keys outside the prefix.
    fn relative(&self, full: &str) -> Option<String> {
        full.strip_prefix(&self.prefix).map(str::to_owned)
    }

    fn error(&self, operation: &'static str, key: &str, failure: Failure) -> StoreError {
        failure.into_error(operation, key, &self.bucket)
    }

    /// `None` where the server says that what was asked for is not there, and that is an answer.
    fn unless<T, E>(
        &self,
        absent: Kind,
        operation: &'static str,
        key: &str,
        answer: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<Option<T>, StoreError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match answer {
            Ok(output) => Ok(Some(output)),
            Err(error) => match Failure::of(&error) {
                failure if failure.kind == absent => Ok(None),
                failure => Err(self.error(operation, key, failure)),
            },
        }
    }

    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let request = self.client.get_object().bucket(&self.bucket);
        let answer = Box::pin(request.key(self.full(key)).send()).await;
        let Some(output) = self.unless(Kind::NoSuchKey, "get", key, answer)? else {
            return Ok(None);
        };
        let version = version("get", key, output.e_tag)?;
        match output.body.collect().await {
            Ok(body) => Ok(Some((body.into_bytes(), version))),
            Err(error) => Err(StoreError::Unavailable {
                operation: "get",
                key: key.to_owned(),
                source: error.into(),
            }),
        }
    }

    async fn write(&self, key: &str, body: Bytes, expect: &Expect) -> Result<Version, Failure> {
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_server_side_encryption(self.sse.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_bucket_key_enabled(self.bucket_key)
            .set_tagging(self.tags.clone())
            .set_checksum_algorithm(self.checksum.clone())
            .body(ByteStream::from(body));
        request = match expect {
            _ if !self.conditional_writes => request,
            Expect::Anything => request,
            Expect::Absent => request.if_none_match("*"),
            Expect::Unchanged(Version(etag)) => request.if_match(etag),
        };
        let mut request = request.customize();
        if !self.hash_payload {
            request = request.disable_payload_signing();
        }
        if *expect != Expect::Anything {
            // The SDK's retry could not tell our own success, its answer lost, from another writer's.
            let once = Builder::new().retry_config(RetryConfig::disabled());
            request = request.config_override(once);
        }
        let output = Box::pin(request.send())
            .await
            .map_err(|error| Failure::of(&error))?;
        output
            .e_tag
            .map(Version)
            .ok_or_else(|| Failure::ambiguous("the answer has no ETag"))
    }
}

fn version(
    operation: &'static str,
    key: &str,
    etag: Option<String>,
) -> Result<Version, StoreError> {
    etag.map(Version).ok_or_else(|| StoreError::Refused {
        operation,
        key: key.to_owned(),
        source: "the answer has no ETag".into(),
    })
}

fn algorithm(checksum: Checksum) -> Option<ChecksumAlgorithm> {
    match checksum {
        Checksum::Crc32 => Some(ChecksumAlgorithm::Crc32),
        Checksum::Crc32c => Some(ChecksumAlgorithm::Crc32C),
        Checksum::Crc64Nvme => Some(ChecksumAlgorithm::Crc64Nvme),
        Checksum::Sha256 => Some(ChecksumAlgorithm::Sha256),
        Checksum::None => None,
    }
}

fn tag_header(tags: &BTreeMap<String, String>) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<_> = tags
        .iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect();
    pairs.join("&")
}

fn system_time(time: Option<DateTime>) -> Option<SystemTime> {
    time.and_then(|time| SystemTime::try_from(time).ok())
}

fn size(length: Option<i64>) -> u64 {
    length.map_or(0, |n| u64::try_from(n).unwrap_or(0))
}

/// One conditional put on its way.
struct ConditionalPut<'a> {
    store: &'a S3Store,
    key: &'a str,
    body: &'a Bytes,
    expect: &'a Expect,
}

impl Target for ConditionalPut<'_> {
    async fn attempt(&self) -> Attempt {
        let (key, expect) = (self.key, self.expect);
        if !self.store.conditional_writes {
            match self.store.read(key).await {
                Ok(found) if expect.holds(found.as_ref().map(|(_, version)| version)) => {}
                Ok(_) => return Attempt::Lost,
                Err(error @ StoreError::Unavailable { .. }) => return Attempt::NotApplied(error),
                Err(error) => return Attempt::Refused(error),
            }
        }
        let outcome = self.store.write(key, self.body.clone(), expect).await;
        let failure = match outcome {
            Ok(version) => return Attempt::Written(version),
            Err(failure) => failure,
        };
        let error = |failure| self.store.error("put", key, failure);
        match failure.kind {
            Kind::Precondition => Attempt::Lost,
            // A replacement of what is not there.
            Kind::NoSuchKey if matches!(expect, Expect::Unchanged(_)) => Attempt::Lost,
            Kind::Raced => Attempt::NotApplied(StoreError::Conflict {
                key: key.to_owned(),
            }),
            Kind::Throttled => Attempt::NotApplied(error(failure)),
            Kind::Ambiguous => Attempt::Ambiguous(failure.into_source()),
            Kind::NotImplemented => Attempt::Refused(StoreError::Unfit {
                probe: "a conditional put is not implemented",
            }),
            _ => Attempt::Refused(error(failure)),
        }
    }

    async fn look(&self) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.store.read(self.key).await
    }

    async fn pause(&self, failures: u32) {
        BACKOFF.pause(failures).await;
    }
}

#[async_trait]
impl Store for S3Store {
    fn root(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.read(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket);
        let answer = Box::pin(request.key(self.full(key)).send()).await;
        let Some(output) = self.unless(Kind::NoSuchKey, "head", key, answer)? else {
            return Ok(None);
        };
        Ok(Some(ObjectInfo {
            key: key.to_owned(),
            size: size(output.content_length),
            version: version("head", key, output.e_tag)?,
            modified: system_time(output.last_modified),
            metadata: output.metadata.into_iter().flatten().collect(),
        }))
    }

    async fn put(&self, key: &str, body: Bytes, expect: Expect) -> Result<Version, StoreError> {
        if expect == Expect::Anything {
            let written = self.write(key, body, &expect).await;
            return written.map_err(|failure| self.error("put", key, failure));
        }
        let target = ConditionalPut {
            store: self,
            key,
            body: &body,
            expect: &expect,
        };
        conditional::put(&target, key, &body, &expect, self.attempts).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&self.bucket);
        let answer = Box::pin(request.key(self.full(key)).send()).await;
        self.unless(Kind::NoSuchKey, "delete", key, answer)
            .map(|_| ())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        let mut pages = request.prefix(self.full(prefix)).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = Box::pin(pages.next()).await {
            let page = page.map_err(|e| self.error("list", prefix, Failure::of(&e)))?;
            for object in page.contents.into_iter().flatten() {
                let Some(key) = object.key.as_deref().and_then(|key| self.relative(key)) else {
                    continue;
                };
                found.push(ObjectInfo {
                    size: size(object.size),
                    version: version("list", &key, object.e_tag)?,
                    modified: system_time(object.last_modified),
                    metadata: BTreeMap::new(),
                    key,
                });
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn holds_any(&self, prefix: &str) -> Result<bool, StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        let request = request.prefix(self.full(prefix)).max_keys(1);
        let answer = Box::pin(request.send()).await;
        let page = answer.map_err(|e| self.error("list", prefix, Failure::of(&e)))?;
        Ok(page.contents.is_some_and(|objects| !objects.is_empty()))
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let full = self.full(prefix);
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        let request = request.prefix(&full).delimiter("/");
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = Box::pin(pages.next()).await {
            let page = page.map_err(|e| self.error("list", prefix, Failure::of(&e)))?;
            for folder in page.common_prefixes.into_iter().flatten() {
                let name = folder.prefix.as_deref().and_then(|p| p.strip_prefix(&full));
                found.extend(name.map(|name| name.trim_end_matches('/').to_owned()));
            }
        }
        Ok(found)
    }

    async fn begin(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        self.begin_upload(key, metadata).await
    }

    async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError> {
        self.upload_part(key, id, number, body).await
    }

    async fn complete(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        self.complete_upload(key, id, parts).await
    }

    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        self.abort_upload(key, id).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        self.open_uploads(prefix).await
    }

    async fn now(&self) -> Result<Option<SystemTime>, StoreError> {
        self.clock().await
    }

    fn part_size(&self) -> usize {
        self.part_size
    }
}

#[cfg(test)]
mod tests;
