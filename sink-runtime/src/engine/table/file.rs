//! A sealed data file of a table, from its last bytes going up to what a manifest says of it.

use std::sync::Arc;

use super::shelf::DataUpload;
use super::target::Target;
use crate::engine::deliver::Failure;
use crate::files::Sealed;
use crate::layout::iceberg::IcebergPartition;
use crate::store::Completed;
use crate::store::upload::{Finish, NotStaged, StagedObject};

/// A sealed data file of a table.
#[derive(Debug)]
pub struct TableFile {
    sealed: SealedData,
    target: Arc<Target>,
    bytes: Whereabouts,
}

#[derive(Debug)]
struct SealedData {
    partition: Arc<IcebergPartition>,
    size: u64,
    metrics: crate::files::Metrics,
}

/// Where a sealed file's bytes are.
#[derive(Debug)]
enum Whereabouts {
    Going(Finish),
    Staged(StagedObject),
    /// A whole object of this key; no metadata names it before the commit.
    Object(String),
    Gone,
}

impl TableFile {
    pub(super) fn of(sealed: Sealed<IcebergPartition, DataUpload>) -> Self {
        let DataUpload { upload, target } = sealed.upload;
        let modes = target.wishes.modes(&target.columns.schema, &target.order);
        let metrics = sealed.metrics.unwrap_or_default().kept(&modes);
        Self {
            sealed: SealedData {
                partition: sealed.key,
                size: sealed.size,
                metrics,
            },
            target,
            bytes: Whereabouts::Going(upload.finish()),
        }
    }

    /// What its rows were written against.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Makes the object whole, and describes it.
    pub(super) async fn data_file(&mut self) -> Result<iceberg::spec::DataFile, Failure> {
        if let Whereabouts::Going(finish) = &mut self.bytes {
            let staged = finish.staged().await;
            if !matches!(staged, Err(NotStaged::Yet { .. })) {
                self.bytes = Whereabouts::Gone;
            }
            let staged =
                staged.map_err(|error| Failure::of_upload(&"upload of a data file", &error))?;
            self.bytes = Whereabouts::Staged(staged);
        }
        if let Whereabouts::Staged(staged) = &self.bytes {
            let store = self.target.uploader.store();
            let completed = store
                .complete(&staged.key, &staged.upload, &staged.parts)
                .await;
            let completed = completed.map_err(|error| Failure::of(&error))?;
            if completed == Completed::NoSuchUpload {
                let found = store
                    .head(&staged.key)
                    .await
                    .map_err(|error| Failure::of(&error))?;
                if found.is_none_or(|object| object.size != staged.size) {
                    let why = format!("staged data file \"{}\" vanished", staged.key);
                    self.bytes = Whereabouts::Gone;
                    return Err(Failure::lost(why));
                }
            }
            self.bytes = Whereabouts::Object(staged.key.clone());
        }
        let Whereabouts::Object(key) = &self.bytes else {
            return Err(Failure::lost("a data file is gone".to_owned()));
        };
        let location = format!("{}/{key}", self.target.location);
        let SealedData {
            partition,
            size,
            metrics,
        } = &self.sealed;
        let file = metrics.data_file(location, *size, partition.spec_id, partition.tuple.clone());
        file.map_err(|error| Failure::of(&error))
    }

    /// Gives the file up. A whole object stays: an attempt of unknown outcome may yet make the table name it.
    pub(super) fn abandon(self) {
        if let Whereabouts::Staged(staged) = self.bytes {
            self.target.uploader.discard(staged);
        }
    }
}
