//! A sealed file of a dataset, from its last bytes going up to what the ledger says of it.

use crate::engine::deliver::Failure;
use crate::files::Sealed;
use crate::layout::HivePartition;
use crate::ledger::PendingFile;
use crate::record::{Offset, TopicPartition};
use crate::store::upload::{Finish, NotStaged, StagedObject, Upload};

/// A sealed file of a dataset.
#[derive(Debug)]
pub struct DatasetFile {
    tp: TopicPartition,
    partition: Vec<String>,
    rows: u64,
    first: Offset,
    last: Offset,
    pub(super) bytes: Whereabouts,
}

/// Where a sealed file's bytes are.
#[derive(Debug)]
pub(super) enum Whereabouts {
    Going(Finish),
    Staged(StagedObject),
    /// Handed over to a commit, or failed.
    Gone,
}

impl DatasetFile {
    pub(super) fn of(tp: &TopicPartition, sealed: Sealed<HivePartition, Upload>) -> Option<Self> {
        let span = sealed.spans.get(tp)?;
        Some(Self {
            tp: tp.clone(),
            partition: sealed.key.values.clone(),
            rows: sealed.rows,
            first: Offset(span.first),
            last: Offset(span.last),
            bytes: Whereabouts::Going(sealed.upload.finish()),
        })
    }

    pub(super) async fn staged(&mut self) -> Result<PendingFile, Failure> {
        if let Whereabouts::Going(finish) = &mut self.bytes {
            let staged = finish.staged().await;
            if !matches!(staged, Err(NotStaged::Yet { .. })) {
                self.bytes = Whereabouts::Gone;
            }
            let (tp, first, last) = (&self.tp, self.first, self.last);
            let staged = staged.map_err(|error| {
                Failure::of_upload(&format_args!("upload of {tp} [{first}, {last}]"), &error)
            })?;
            self.bytes = Whereabouts::Staged(staged);
        }
        let Whereabouts::Staged(staged) = &self.bytes else {
            return Err(Failure::lost("a staged file is gone".to_owned()));
        };
        Ok(PendingFile {
            key: staged.key.clone(),
            upload: staged.upload.clone(),
            parts: staged.parts.clone(),
            size: staged.size,
            rows: self.rows,
            partition: self.partition.clone(),
            first_offset: self.first,
            last_offset: self.last,
        })
    }
}
