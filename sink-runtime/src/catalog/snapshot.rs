//! What a snapshot consists of: its manifests, and their entries. Reads files; touches no catalog.

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{FormatVersion, ManifestFile, ManifestList, Snapshot, TableMetadata};

use super::CatalogError;
use super::manifest::{Entry, Form, Manifest, ManifestError, Status};
use super::metadata_file::{io_error, metadata_error};

/// The manifests of a snapshot, as its list has them.
///
/// # Errors
/// A list that cannot be read, or is encrypted.
pub(crate) async fn manifests(
    io: &FileIO,
    snapshot: &Snapshot,
    version: FormatVersion,
) -> Result<Vec<ManifestFile>, CatalogError> {
    let operation = "read manifest list";
    if snapshot.encryption_key_id().is_some() {
        return Err(metadata_error(
            operation,
            "encrypted tables are not supported",
        ));
    }
    let bytes = fetch(io, snapshot.manifest_list(), operation).await?;
    let list = ManifestList::parse_with_version(&bytes, version)
        .map_err(|e| metadata_error(operation, e))?;
    Ok(list.consume_entries().into_iter().collect())
}

/// A manifest's bytes.
///
/// # Errors
/// A file that cannot be read.
pub(crate) async fn fetch_manifest(
    io: &FileIO,
    manifest: &ManifestFile,
) -> Result<Bytes, CatalogError> {
    fetch(io, &manifest.manifest_path, "read manifest").await
}

async fn fetch(io: &FileIO, path: &str, operation: &'static str) -> Result<Bytes, CatalogError> {
    io.new_input(path)
        .map_err(|e| metadata_error(operation, e))?
        .read()
        .await
        .map_err(|e| io_error(operation, e))
}

/// A manifest's entries, with what they inherit from the list. Without `form`, their partition values are left out.
///
/// # Errors
/// Bytes that are no manifest, and those that `each` gives.
pub(crate) fn each_entry<E: From<ManifestError>>(
    manifest: &ManifestFile,
    bytes: &[u8],
    form: Option<&Form<'_>>,
    mut each: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut next_row_id = manifest.first_row_id.and_then(|id| i64::try_from(id).ok());
    Manifest::open(bytes)?.entries(form, |mut entry| {
        entry.inherit(manifest, &mut next_row_id);
        each(entry)
    })
}

/// The live data files of `main`.
///
/// # Errors
/// A manifest that cannot be read.
pub(crate) async fn data_files(
    io: &FileIO,
    metadata: &TableMetadata,
) -> Result<Vec<Entry>, CatalogError> {
    let Some(snapshot) = metadata.current_snapshot() else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for manifest in manifests(io, snapshot, metadata.format_version()).await? {
        let bytes = fetch_manifest(io, &manifest).await?;
        each_entry(&manifest, &bytes, None, |entry| {
            if entry.status != Status::Deleted && entry.is_data() {
                files.push(entry);
            }
            Ok::<_, ManifestError>(())
        })
        .map_err(|e| metadata_error("read manifest", e))?;
    }
    Ok(files)
}
