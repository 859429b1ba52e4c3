//! Staged uploads as S3's multipart uploads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat as Format};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use parking_lot::Mutex;

use super::failure::{Failure, Kind};
use super::{S3Store, system_time, version};
use crate::store::{Completed, OpenUpload, PartTag, StoreError, UploadId};

impl S3Store {
    pub(super) async fn begin_upload(
        &self,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<UploadId, StoreError> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_metadata(Some(metadata.clone().into_iter().collect()))
            .set_server_side_encryption(self.sse.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_bucket_key_enabled(self.bucket_key)
            .set_storage_class(self.storage_class.clone())
            .set_tagging(self.tags.clone())
            .set_checksum_algorithm(self.checksum.clone());
        let output = Box::pin(request.send())
            .await
            .map_err(|error| self.error("begin", key, Failure::of(&error)))?;
        output.upload_id.map(UploadId).ok_or_else(|| {
            let failure = Failure::ambiguous("the answer has no upload id");
            self.error("begin", key, failure)
        })
    }

    pub(super) async fn upload_part(
        &self,
        key: &str,
        id: &UploadId,
        number: i32,
        body: Bytes,
    ) -> Result<PartTag, StoreError> {
        let mut request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(&id.0)
            .part_number(number)
            .set_checksum_algorithm(self.checksum.clone())
            .body(ByteStream::from(body))
            .customize();
        if !self.hash_payload {
            request = request.disable_payload_signing();
        }
        let output = Box::pin(request.send())
            .await
            .map_err(|error| self.error("put part", key, Failure::of(&error)))?;
        let echoed = [
            ("crc32", output.checksum_crc32),
            ("crc32c", output.checksum_crc32_c),
            ("crc64nvme", output.checksum_crc64_nvme),
            ("sha256", output.checksum_sha256),
        ];
        let checksum = echoed
            .into_iter()
            .find_map(|(name, value)| Some(format!("{name}:{}", value?)));
        Ok(PartTag {
            number,
            etag: version("put part", key, output.e_tag)?.0,
            // Without the setting a server may still compute one of its own, and does not want it back.
            checksum: checksum.filter(|_| self.checksum.is_some()),
        })
    }

    pub(super) async fn complete_upload(
        &self,
        key: &str,
        id: &UploadId,
        parts: &[PartTag],
    ) -> Result<Completed, StoreError> {
        let parts = parts.iter().map(completed_part).collect();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(&id.0)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            );
        let answer = Box::pin(request.send()).await;
        let done = self.unless(Kind::NoSuchUpload, "complete", key, answer)?;
        Ok(done.map_or(Completed::NoSuchUpload, |_| Completed::Done))
    }

    pub(super) async fn abort_upload(&self, key: &str, id: &UploadId) -> Result<(), StoreError> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket);
        let request = request.key(self.full(key)).upload_id(&id.0);
        let answer = Box::pin(request.send()).await;
        self.unless(Kind::NoSuchUpload, "abort", key, answer)
            .map(|_| ())
    }

    pub(super) async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StoreError> {
        let mut open = Vec::new();
        let mut from: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(self.full(prefix))
                .set_key_marker(from.0.take())
                .set_upload_id_marker(from.1.take());
            let page = Box::pin(request.send())
                .await
                .map_err(|error| self.error("list uploads", prefix, Failure::of(&error)))?;
            for upload in page.uploads.into_iter().flatten() {
                let key = upload.key.as_deref().and_then(|key| self.relative(key));
                if let (Some(key), Some(id)) = (key, upload.upload_id) {
                    open.push(OpenUpload {
                        key,
                        id: UploadId(id),
                        initiated: system_time(upload.initiated),
                    });
                }
            }
            from = (page.next_key_marker, page.next_upload_id_marker);
            // A page that leads nowhere ends the listing, whatever it says.
            if page.is_truncated != Some(true) || from.0.is_none() {
                break;
            }
        }
        open.sort_by(|a, b| (&a.key, &a.id.0).cmp(&(&b.key, &b.id.0)));
        Ok(open)
    }
}

impl S3Store {
    /// By the `Date` of an answer to what a sweep asks for anyway.
    pub(super) async fn clock(&self) -> Result<Option<SystemTime>, StoreError> {
        let heard = Heard::default();
        let request = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .prefix(self.full(""))
            .max_uploads(1)
            .customize()
            .interceptor(heard.clone());
        Box::pin(request.send())
            .await
            .map_err(|error| self.error("list uploads", "", Failure::of(&error)))?;
        let date = heard.0.lock().take();
        let date = date.and_then(|date| DateTime::from_str(&date, Format::HttpDate).ok());
        Ok(system_time(date))
    }
}

/// Takes an answer's `Date`.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Option<String>>>);

impl Intercept for Heard {
    fn name(&self) -> &'static str {
        "date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        *self.0.lock() = date.map(str::to_owned);
        Ok(())
    }
}

/// The checksum with its algorithm: a later owner may run with another setting.
pub(super) fn completed_part(tag: &PartTag) -> CompletedPart {
    let part = CompletedPart::builder()
        .part_number(tag.number)
        .e_tag(&tag.etag);
    let checksum = tag.checksum.as_deref().and_then(|c| c.split_once(':'));
    match checksum {
        Some(("crc32", value)) => part.checksum_crc32(value),
        Some(("crc32c", value)) => part.checksum_crc32_c(value),
        Some(("crc64nvme", value)) => part.checksum_crc64_nvme(value),
        Some(("sha256", value)) => part.checksum_sha256(value),
        _ => part,
    }
    .build()
}
