//! Iceberg's file access over our S3 client: one client, and so one cached set of credentials, for all files. Meant for
//! metadata and manifests: a file is written in one piece.
//!
//! Errors that may pass are marked retryable; want of rights is a failed precondition, a missing bucket a missing
//! namespace (see `metadata_file::io_error`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::plan::{Checksum, Encryption, S3Plan};

/// How objects are written, beyond the client's configuration.
#[derive(Clone, Debug)]
pub(crate) struct ObjectOptions {
    pub(crate) path_style: bool,
    pub(crate) encryption: Encryption,
    pub(crate) checksums: bool,
}

impl ObjectOptions {
    /// Of the plan's storage, where there is one.
    pub(crate) fn of(storage: Option<&S3Plan>) -> Self {
        Self {
            path_style: storage.is_some_and(|s| s.access.path_style),
            encryption: storage.map_or(Encryption::BucketDefault, |s| s.encryption.clone()),
            checksums: storage.is_none_or(|s| s.checksum != Checksum::None),
        }
    }
}

/// File access to `s3://` paths with the credentials of `config`.
pub(crate) fn s3_file_io(config: &SdkConfig, options: ObjectOptions) -> FileIO {
    let mut builder =
        aws_sdk_s3::config::Builder::from(config).force_path_style(options.path_style);
    if !options.checksums {
        builder = builder
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    let storage = S3Storage {
        objects: Some(Objects {
            client: Client::from_conf(builder.build()),
            encryption: options.encryption,
        }),
    };
    FileIOBuilder::new(Arc::new(S3StorageFactory { storage })).build()
}

#[derive(Clone)]
struct Objects {
    client: Client,
    encryption: Encryption,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// The trait asks for serde; a client does not travel, so one that arrived by it refuses to work.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct S3Storage {
    #[serde(skip)]
    objects: Option<Objects>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct S3StorageFactory {
    storage: S3Storage,
}

#[typetag::serde(name = "TidewaterS3StorageFactory")]
impl StorageFactory for S3StorageFactory {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.storage.clone()))
    }
}

impl S3Storage {
    fn objects(&self) -> Result<&Objects> {
        self.objects
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Unexpected, "S3 storage without a client"))
    }
}

/// Bucket and key of `s3://bucket/key` (`s3a` and `s3n` mean the same).
fn split(path: &str) -> Result<(&str, &str)> {
    ["s3://", "s3a://", "s3n://"]
        .iter()
        .find_map(|scheme| path.strip_prefix(scheme))
        .and_then(|rest| rest.split_once('/'))
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::DataInvalid,
                format!("\"{path}\" is no S3 location"),
            )
        })
}

fn failed<E>(operation: &'static str, path: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|r| r.status().as_u16());
    let code = error.code().unwrap_or_default();
    let kind = if status == Some(403) || status == Some(401) {
        ErrorKind::PreconditionFailed
    } else if code == "NoSuchBucket" {
        ErrorKind::NamespaceNotFound
    } else if status == Some(404) || code == "NoSuchKey" {
        ErrorKind::DataInvalid
    } else {
        ErrorKind::Unexpected
    };
    Error::new(kind, format!("{operation} of \"{path}\" failed"))
        .with_retryable(kind == ErrorKind::Unexpected)
        .with_source(error)
}

async fn get(objects: &Objects, path: &str, range: Option<Range<u64>>) -> Result<Bytes> {
    let (bucket, key) = split(path)?;
    let mut request = objects.client.get_object().bucket(bucket).key(key);
    if let Some(range) = range {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
    }
    let answer = Box::pin(request.send())
        .await
        .map_err(|e| failed("read", path, e))?;
    answer
        .body
        .collect()
        .await
        .map(|body| body.into_bytes())
        .map_err(|e| {
            Error::new(
                ErrorKind::Unexpected,
                format!("read of \"{path}\" broke off"),
            )
            .with_retryable(true)
            .with_source(e)
        })
}

async fn put(objects: &Objects, path: &str, body: Bytes) -> Result<()> {
    let (bucket, key) = split(path)?;
    let mut request = objects
        .client
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(ByteStream::from(body));
    match &objects.encryption {
        Encryption::BucketDefault => {}
        Encryption::SseS3 => {
            request = request.server_side_encryption(ServerSideEncryption::Aes256);
        }
        Encryption::SseKms { key_id, bucket_key } => {
            request = request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .set_ssekms_key_id(key_id.clone())
                .bucket_key_enabled(*bucket_key);
        }
    }
    Box::pin(request.send())
        .await
        .map(drop)
        .map_err(|e| failed("write", path, e))
}

#[async_trait]
#[typetag::serde(name = "TidewaterS3Storage")]
impl Storage for S3Storage {
    async fn exists(&self, path: &str) -> Result<bool> {
        let (bucket, key) = split(path)?;
        let request = self.objects()?.client.head_object().bucket(bucket).key(key);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(true),
            Err(e) if e.raw_response().is_some_and(|r| r.status().as_u16() == 404) => Ok(false),
            Err(e) => Err(failed("look-up", path, e)),
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let (bucket, key) = split(path)?;
        let request = self.objects()?.client.head_object().bucket(bucket).key(key);
        let head = Box::pin(request.send())
            .await
            .map_err(|e| failed("look-up", path, e))?;
        let size = head.content_length().unwrap_or_default();
        Ok(FileMetadata {
            size: u64::try_from(size).unwrap_or_default(),
        })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        get(self.objects()?, path, None).await
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        Ok(Box::new(S3Reader {
            objects: self.objects()?.clone(),
            path: path.to_owned(),
        }))
    }

    async fn write(&self, path: &str, body: Bytes) -> Result<()> {
        put(self.objects()?, path, body).await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        split(path)?;
        Ok(Box::new(S3Writer {
            objects: self.objects()?.clone(),
            path: path.to_owned(),
            body: BytesMut::new(),
        }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let (bucket, key) = split(path)?;
        let request = self
            .objects()?
            .client
            .delete_object()
            .bucket(bucket)
            .key(key);
        Box::pin(request.send())
            .await
            .map(drop)
            .map_err(|e| failed("deletion", path, e))
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        let objects = self.objects()?;
        let path = format!("{}/", path.trim_end_matches('/'));
        let (bucket, prefix) = split(&path)?;
        let mut pages = objects
            .client
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| failed("listing", &path, e))?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                self.delete(&format!("s3://{bucket}/{key}")).await?;
            }
        }
        Ok(())
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        split(path)?;
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        split(path)?;
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct S3Reader {
    objects: Objects,
    path: String,
}

#[async_trait]
impl FileRead for S3Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        get(&self.objects, &self.path, Some(range)).await
    }
}

/// Collects what is written and puts it on close: nothing is visible, or left, before.
struct S3Writer {
    objects: Objects,
    path: String,
    body: BytesMut,
}

#[async_trait]
impl FileWrite for S3Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.body.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let body = self.body.split().freeze();
        put(&self.objects, &self.path, body).await
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn locations_are_split_into_bucket_and_key() {
        for path in ["s3://b/k/e.y", "s3a://b/k/e.y"] {
            assert_eq!(split(path).ok(), Some(("b", "k/e.y")));
        }
        for path in ["s3://b", "s3:///k", "file:///k", "/k", "s3://b/"] {
            assert!(split(path).is_err(), "{path}");
        }
    }
}
