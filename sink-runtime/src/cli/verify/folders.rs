//! Records of a dataset that decode and have no folder: rejects, as the sink has them.

use super::super::CliError;
use crate::commit::dataset::DatasetFileName;
use crate::decode::Decoded;
use crate::failpoint::wall_clock;
use crate::files::Format;
use crate::layout::{HiveSplitter, Rows};
use crate::plan::{DatasetPlan, Destination, Plan, StorePlan};
use crate::record::RawBatch;

pub(super) struct Folders<'a> {
    store: &'a StorePlan,
    extension: &'static str,
    splitter: HiveSplitter,
}

impl<'a> Folders<'a> {
    /// `None` where there are none to be named.
    pub(super) fn of(plan: &'a Plan) -> Result<Option<Self>, CliError> {
        let Destination::Dataset(DatasetPlan {
            store,
            partitioning,
            output,
            ..
        }) = &plan.destination
        else {
            return Ok(None);
        };
        if partitioning.is_empty() {
            return Ok(None);
        }
        let splitter = HiveSplitter::new(partitioning, &arrow::datatypes::Schema::empty())
            .map_err(|error| CliError(error.to_string()))?;
        Ok(Some(Self {
            store,
            extension: Format::new(output.clone(), 0).extension(),
            splitter,
        }))
    }

    /// The decoded records without a folder, as places among `decoded.rows`; ascending.
    pub(super) fn missing(
        &mut self,
        raw: &RawBatch,
        decoded: &Decoded,
    ) -> Result<Vec<usize>, CliError> {
        let pick = |all: &[i64]| decoded.rows.iter().map(|row| all[*row as usize]).collect();
        let rows = Rows {
            tp: raw.tp.clone(),
            batch: decoded.batch.clone(),
            offsets: pick(&raw.offsets),
            timestamps: pick(&raw.timestamps),
        };
        let room = DatasetFileName::room(self.store, &raw.tp, self.extension);
        let split = self.splitter.split(&rows, wall_clock(), room);
        let split = split.map_err(|error| CliError(error.to_string()))?;
        Ok(split.unfit.iter().map(|unfit| unfit.row).collect())
    }
}
