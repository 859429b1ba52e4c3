//! A table in memory, with a strict compare-and-swap: the reference for the other catalogs, and what tests run on.

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableRequirement;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataBuildResult, TableMetadataRef};
use parking_lot::Mutex;

use super::{Base, CatalogError, CommitError, TableOps};

#[derive(Debug)]
pub struct MemoryTable {
    name: String,
    io: FileIO,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    metadata: Option<TableMetadataRef>,
    version: u64,
}

impl MemoryTable {
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            io: FileIO::new_with_memory(),
            state: Mutex::default(),
        }
    }

    /// As if someone dropped the table.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.metadata = None;
        state.version += 1;
    }

    fn missing(&self) -> CatalogError {
        CatalogError::NoSuchTable {
            table: self.name.clone(),
        }
    }
}

#[async_trait]
impl TableOps for MemoryTable {
    fn describe(&self) -> String {
        format!("memory table {}", self.name)
    }

    fn file_io(&self) -> FileIO {
        self.io.clone()
    }

    async fn load(&self) -> Result<Base, CatalogError> {
        let state = self.state.lock();
        let metadata = state.metadata.clone().ok_or_else(|| self.missing())?;
        Ok(Base {
            metadata,
            metadata_location: Some(format!("memory:///{:05}.metadata.json", state.version)),
            version_token: Some(state.version.to_string()),
            metadata_bytes: 0,
        })
    }

    async fn create(&self, initial: TableMetadata) -> Result<Base, CatalogError> {
        let initial = if initial.location().is_empty() {
            initial
                .into_builder(None)
                .set_location(format!("memory:///{}", self.name))
                .build()
                .map_err(|e| super::metadata_file::metadata_error("build metadata", e))?
                .metadata
        } else {
            initial
        };
        {
            let mut state = self.state.lock();
            if state.metadata.is_some() {
                return Err(CatalogError::TableExists {
                    table: self.name.clone(),
                });
            }
            state.metadata = Some(Arc::new(initial));
            state.version += 1;
        }
        self.load().await
    }

    async fn commit(
        &self,
        base: &Base,
        built: TableMetadataBuildResult,
        requirements: Vec<TableRequirement>,
    ) -> Result<(), CommitError> {
        let mut state = self.state.lock();
        let Some(current) = state.metadata.clone() else {
            return Err(CommitError::Refused(self.missing()));
        };
        if base.version_token != Some(state.version.to_string())
            || requirements
                .iter()
                .any(|r| r.check(Some(&current)).is_err())
        {
            return Err(CommitError::Conflict);
        }
        state.metadata = Some(Arc::new(built.metadata));
        state.version += 1;
        Ok(())
    }

    async fn drop_table(&self, base: &Base) -> Result<(), CatalogError> {
        let found = self.state.lock().metadata.clone();
        let found = found.ok_or_else(|| self.missing())?;
        if found.uuid() != base.metadata.uuid() {
            return Err(super::another("drop memory table"));
        }
        self.forget();
        Ok(())
    }
}
