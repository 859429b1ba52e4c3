//! Metadata files of catalogs that keep a pointer to one (`local`, `glue`): names, reading, writing, and the removal
//! of expired ones.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult, TableMetadataRef};
use parking_lot::Mutex;

use super::CatalogError;

const SUFFIX: &str = ".metadata.json";

/// The metadata that were read or published last. A metadata file never changes: while the catalog points to the same one
/// it is not read and parsed again, which would cost every commit more with every snapshot that the table has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest(Arc<Mutex<Option<(String, TableMetadataRef, usize)>>>);

impl Latest {
    /// The metadata in this file and its length, where they are the last.
    pub(crate) fn get(&self, location: &str) -> Option<(TableMetadataRef, usize)> {
        let kept = self.0.lock();
        let (_, metadata, bytes) = kept.as_ref().filter(|(at, ..)| at == location)?;
        Some((Arc::clone(metadata), *bytes))
    }

    pub(crate) fn keep(&self, location: &str, metadata: TableMetadataRef, bytes: usize) {
        *self.0.lock() = Some((location.to_owned(), metadata, bytes));
    }
}

/// A failure of the file system or the object store under the warehouse. Our own storage reports want of rights as a
/// failed precondition, and a missing bucket as a missing namespace; anything else may pass.
pub(crate) fn io_error(operation: &'static str, error: iceberg::Error) -> CatalogError {
    let kind = error.kind();
    let source = error.into();
    match kind {
        iceberg::ErrorKind::PreconditionFailed => CatalogError::Denied { operation, source },
        iceberg::ErrorKind::NamespaceNotFound => CatalogError::Refused { operation, source },
        _ => CatalogError::Unavailable { operation, source },
    }
}

pub(crate) fn metadata_error(
    operation: &'static str,
    error: impl Into<crate::store::BoxError>,
) -> CatalogError {
    CatalogError::Metadata {
        operation,
        source: error.into(),
    }
}

/// Where manifests and metadata files of the table go.
pub(crate) fn directory(metadata: &TableMetadata) -> String {
    metadata
        .properties()
        .get("write.metadata.path")
        .map_or_else(
            || format!("{}/metadata", metadata.location()),
            |path| path.trim_end_matches('/').to_owned(),
        )
}

/// `<directory>/<version, five digits>-<uuid>[.gz].metadata.json`, one version after `current`.
pub(crate) fn next_location(metadata: &TableMetadata, current: Option<&str>) -> String {
    let version = current.map_or(0, |location| version_of(location) + 1);
    let zipped = if gzip(metadata) { ".gz" } else { "" };
    format!(
        "{}/{version:05}-{}{zipped}{SUFFIX}",
        directory(metadata),
        uuid::Uuid::new_v4()
    )
}

/// Of `00012-<uuid>.metadata.json` and `v12.metadata.json`: 12. Other writers' names may say nothing: 0.
fn version_of(location: &str) -> u64 {
    let name = location.rsplit('/').next().unwrap_or(location);
    let digits: String = name
        .trim_start_matches('v')
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or(0)
}

fn gzip(metadata: &TableMetadata) -> bool {
    metadata
        .properties()
        .get("write.metadata.compression-codec")
        .is_some_and(|codec| codec.eq_ignore_ascii_case("gzip"))
}

pub(crate) fn encode(metadata: &TableMetadata) -> Result<Bytes, CatalogError> {
    let operation = "encode metadata";
    let json = serde_json::to_vec(metadata).map_err(|e| metadata_error(operation, e))?;
    if !gzip(metadata) {
        return Ok(json.into());
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder
        .write_all(&json)
        .and_then(|()| encoder.finish())
        .map(Bytes::from)
        .map_err(|e| metadata_error(operation, e))
}

/// Gives the file's length.
#[cfg(feature = "cloud")]
pub(crate) async fn write(
    io: &FileIO,
    location: &str,
    metadata: &TableMetadata,
) -> Result<usize, CatalogError> {
    let operation = "write metadata file";
    let body = encode(metadata)?;
    let bytes = body.len();
    io.new_output(location)
        .map_err(|e| metadata_error(operation, e))?
        .write(body)
        .await
        .map_err(|e| io_error(operation, e))?;
    Ok(bytes)
}

/// The metadata, and the file's length.
#[cfg(feature = "cloud")]
pub(crate) async fn read(
    io: &FileIO,
    location: &str,
) -> Result<(TableMetadata, usize), CatalogError> {
    let operation = "read metadata file";
    let input = io
        .new_input(location)
        .map_err(|e| metadata_error(operation, e))?;
    let bytes = input.read().await.map_err(|e| io_error(operation, e))?;
    Ok((decode(&bytes)?, bytes.len()))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<TableMetadata, CatalogError> {
    let operation = "parse metadata file";
    let zipped = bytes.starts_with(&[0x1f, 0x8b]);
    if zipped {
        serde_json::from_reader(std::io::BufReader::new(flate2::read::GzDecoder::new(bytes)))
            .map_err(|e| metadata_error(operation, e))
    } else {
        serde_json::from_slice(bytes).map_err(|e| metadata_error(operation, e))
    }
}

/// Deletes the metadata files that fell out of the log, where the table asks for it. Best effort: one that stays is
/// garbage, nothing worse.
pub(crate) async fn remove_expired(io: &FileIO, built: &TableMetadataBuildResult) {
    let wanted = built
        .metadata
        .properties()
        .get("write.metadata.delete-after-commit.enabled")
        .is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if !wanted {
        return;
    }
    for entry in &built.expired_metadata_logs {
        if let Err(error) = io.delete(&entry.metadata_file).await {
            tracing::warn!(file = %entry.metadata_file, %error, "could not delete expired metadata file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn the_version_is_read_from_every_usual_name() {
        assert_eq!(version_of("s3://b/t/metadata/00012-1c8e.metadata.json"), 12);
        assert_eq!(version_of("/t/metadata/v7.metadata.json"), 7);
        assert_eq!(version_of("/t/metadata/snapshot.metadata.json"), 0);
    }
}
