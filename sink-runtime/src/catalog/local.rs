//! Iceberg tables in a directory, without a catalog server: metadata files and one pointer, `version-hint.text`, that
//! holds the current file's name without `.metadata.json` (DuckDB and PyIceberg follow it). Touches the disk only.
//!
//! The pointer moves by rename under a file lock, after the metadata file is durable: several processes on one file
//! system commit safely, and a process that dies at any instruction leaves the old or the new version.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult, TableMetadataRef};

use super::metadata_file;
use super::{Base, CatalogError, CommitError, TableOps};

const HINT: &str = "version-hint.text";
const LOCK: &str = ".tidewater.lock";
const SUFFIX: &str = ".metadata.json";

#[derive(Clone, Debug)]
pub struct LocalTable {
    directory: PathBuf,
    name: String,
    io: FileIO,
    latest: metadata_file::Latest,
}

impl LocalTable {
    /// The table `namespace.table` of the warehouse directory `path`.
    ///
    /// # Errors
    /// A name that cannot be a directory.
    pub fn new(path: &Path, namespace: &[String], table: &str) -> Result<Self, CatalogError> {
        let operation = "name table directory";
        let refused = |source: crate::store::BoxError| CatalogError::Refused { operation, source };
        let mut directory = std::path::absolute(path).map_err(|e| refused(e.into()))?;
        for part in namespace.iter().map(String::as_str).chain([table]) {
            if part.is_empty() || part.starts_with('.') || part.contains(['/', '\0']) {
                return Err(refused(
                    format!("\"{part}\" cannot name a directory").into(),
                ));
            }
            directory.push(part);
        }
        if directory.to_str().is_none() {
            return Err(refused("the path is not valid UTF-8".into()));
        }
        Ok(Self {
            directory,
            name: format!("{}.{table}", namespace.join(".")),
            io: FileIO::new_with_fs(),
            latest: metadata_file::Latest::default(),
        })
    }

    /// The table's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn metadata_directory(&self) -> PathBuf {
        self.directory.join("metadata")
    }

    fn location_of(&self, version: &str) -> String {
        format!("{}/metadata/{version}{SUFFIX}", self.directory.display())
    }

    fn missing(&self) -> CatalogError {
        CatalogError::NoSuchTable {
            table: self.name.clone(),
        }
    }

    fn current(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.metadata_directory().join(HINT)) {
            Ok(hint) => Ok(Some(hint.trim().to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read_current(&self) -> Result<Base, CatalogError> {
        let operation = "read local table";
        let unavailable = |e: io::Error| CatalogError::Unavailable {
            operation,
            source: e.into(),
        };
        let version = self
            .current()
            .map_err(unavailable)?
            .ok_or_else(|| self.missing())?;
        let location = self.location_of(&version);
        let (metadata, metadata_bytes) = match self.latest.get(&location) {
            Some(latest) => latest,
            None => {
                let bytes = fs::read(&location).map_err(unavailable)?;
                let metadata: TableMetadataRef = metadata_file::decode(&bytes)?.into();
                let length = bytes.len();
                self.latest.keep(&location, Arc::clone(&metadata), length);
                (metadata, length)
            }
        };
        Ok(Base {
            metadata,
            metadata_location: Some(location),
            version_token: Some(version),
            metadata_bytes,
        })
    }

    /// Waits for the other processes; released when the file is dropped.
    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.metadata_directory().join(LOCK))?;
        file.lock()?;
        Ok(file)
    }

    /// Makes `metadata` the current version; the caller holds the lock. Gives where it is, and its length.
    fn publish(
        &self,
        metadata: &TableMetadata,
        after: Option<&str>,
    ) -> Result<(String, usize), Publish> {
        let location = metadata_file::next_location(metadata, after);
        let version = location
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(SUFFIX))
            .unwrap_or_default()
            .to_owned();
        let body = metadata_file::encode(metadata).map_err(Publish::Metadata)?;
        let directory = self.metadata_directory();
        let path = directory.join(format!("{version}{SUFFIX}"));
        let scratch = directory.join(format!(".{version}.hint"));
        write_durably(&path, &body)
            .and_then(|()| write_durably(&scratch, version.as_bytes()))
            .and_then(|()| fs::rename(&scratch, directory.join(HINT)))
            .map_err(Publish::Before)?;
        File::open(&directory)
            .and_then(|d| d.sync_all())
            .map_err(Publish::After)?;
        Ok((self.location_of(&version), body.len()))
    }

    fn create_now(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        let operation = "create local table";
        let unavailable = |e: io::Error| CatalogError::Unavailable {
            operation,
            source: e.into(),
        };
        let wanted = self.directory.display().to_string();
        let initial = match initial.location() {
            "" => {
                initial
                    .into_builder(None)
                    .set_location(wanted)
                    .build()
                    .map_err(|e| metadata_file::metadata_error("build metadata", e))?
                    .metadata
            }
            location if location.trim_start_matches("file://") == wanted => initial,
            _ => {
                return Err(CatalogError::Refused {
                    operation,
                    source: format!("a local table lives in \"{wanted}\"").into(),
                });
            }
        };
        fs::create_dir_all(self.metadata_directory()).map_err(unavailable)?;
        let _lock = self.lock().map_err(unavailable)?;
        if self.current().map_err(unavailable)?.is_some() {
            return Err(CatalogError::TableExists {
                table: self.name.clone(),
            });
        }
        match self.publish(&initial, None) {
            Ok(_) => self.read_current(),
            Err(Publish::Metadata(e)) => Err(e),
            Err(Publish::Before(e) | Publish::After(e)) => Err(unavailable(e)),
        }
    }

    /// The pointer goes first: what is left of a removal that was cut short is no table.
    fn drop_now(&self, base: &Base) -> Result<(), CatalogError> {
        let operation = "drop local table";
        let unavailable = |e: io::Error| CatalogError::Unavailable {
            operation,
            source: e.into(),
        };
        let lock = match self.lock() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(self.missing()),
            other => other.map_err(unavailable)?,
        };
        if self.read_current()?.metadata.uuid() != base.metadata.uuid() {
            return Err(super::another(operation));
        }
        fs::remove_file(self.metadata_directory().join(HINT)).map_err(unavailable)?;
        drop(lock);
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(table = self.name, %error, "files of a dropped table are left");
        }
        Ok(())
    }

    fn commit_now(
        &self,
        base: &Base,
        metadata: &TableMetadata,
        requirements: &[TableRequirement],
    ) -> Result<(String, usize), CommitError> {
        let unavailable = |e: io::Error| CommitError::Unavailable(e.into());
        let _lock = match self.lock() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(CommitError::Refused(self.missing()));
            }
            other => other.map_err(unavailable)?,
        };
        let current = self
            .current()
            .map_err(unavailable)?
            .ok_or_else(|| CommitError::Refused(self.missing()))?;
        if base.version_token.as_deref() != Some(current.as_str())
            || requirements
                .iter()
                .any(|r| r.check(Some(&base.metadata)).is_err())
        {
            return Err(CommitError::Conflict);
        }
        match self.publish(metadata, base.metadata_location.as_deref()) {
            Ok(published) => Ok(published),
            Err(Publish::Metadata(e)) => Err(CommitError::Refused(e)),
            Err(Publish::Before(e)) => Err(unavailable(e)),
            Err(Publish::After(e)) => Err(CommitError::Unknown(e.into())),
        }
    }
}

/// Where publishing failed: before or after the pointer moved.
enum Publish {
    Metadata(CatalogError),
    Before(io::Error),
    After(io::Error),
}

fn write_durably(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

fn died(error: tokio::task::JoinError) -> CatalogError {
    CatalogError::Unavailable {
        operation: "wait for the disk",
        source: error.into(),
    }
}

#[async_trait]
impl TableOps for LocalTable {
    fn describe(&self) -> String {
        format!("local table {} in {}", self.name, self.directory.display())
    }

    fn file_io(&self) -> FileIO {
        self.io.clone()
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        let table = self.clone();
        blocking(move || table.read_current()).await.map_err(died)?
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        let table = self.clone();
        blocking(move || table.create_now(initial))
            .await
            .map_err(died)?
    }

    async fn commit(
        &self,
        base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError> {
        let (table, base) = (self.clone(), base.clone());
        let (built, outcome) = blocking(move || {
            let outcome = table.commit_now(&base, &built.metadata, &requirements);
            (built, outcome)
        })
        .await
        .map_err(|e| CommitError::Unknown(e.into()))?;
        let (location, bytes) = outcome?;
        metadata_file::remove_expired(&self.io, &built).await;
        self.latest.keep(&location, built.metadata.into(), bytes);
        Ok(())
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        let (table, base) = (self.clone(), base.clone());
        blocking(move || table.drop_now(&base))
            .await
            .map_err(died)?
    }
}

#[cfg(test)]
mod tests;
