//! Records of a dataset that decode and have no folder: rejects, as the sink has them.

use arrow::datatypes::Schema;

use super::super::CliError;
use crate::commit::dataset::DatasetFileName;
use crate::decode::{Decoded, Reject};
use crate::failpoint::wall_clock;
use crate::files::Format;
use crate::layout::{HiveSplitter, LayoutError, Rows};
use crate::plan::{Destination, Plan, StorePlan};
use crate::record::RawBatch;

pub(super) struct Folders {
    store: StorePlan,
    extension: &'static str,
    splitter: HiveSplitter,
}

impl Folders {
    /// `None` where there are none to be named.
    pub(super) fn of(plan: &Plan) -> Result<Option<Self>, CliError> {
        let Destination::Dataset(dataset) = &plan.destination else {
            return Ok(None);
        };
        if dataset.partitioning.is_empty() {
            return Ok(None);
        }
        let splitter = HiveSplitter::new(&dataset.partitioning, &Schema::empty());
        Ok(Some(Self {
            store: dataset.store.clone(),
            extension: Format::new(dataset.output.clone(), 0).extension(),
            splitter: splitter.map_err(|error| failed(&error))?,
        }))
    }

    /// The same with the records that have no folder among the rejects.
    pub(super) fn sift(&mut self, raw: &RawBatch, decoded: Decoded) -> Result<Decoded, CliError> {
        let pick = |all: &[i64]| decoded.rows.iter().map(|row| all[*row as usize]).collect();
        let rows = Rows {
            tp: raw.tp.clone(),
            batch: decoded.batch.clone(),
            offsets: pick(&raw.offsets),
            timestamps: pick(&raw.timestamps),
        };
        let room = DatasetFileName::room(&self.store, &raw.tp, self.extension);
        let split = self.splitter.split(&rows, wall_clock(), room);
        let unfit = split.map_err(|error| failed(&error))?.unfit;
        if unfit.is_empty() {
            return Ok(decoded);
        }
        let others = rows.without(&unfit);
        let others = others.map_err(|error| failed(&LayoutError::Regroup(error)))?;
        let Decoded {
            rows, mut rejects, ..
        } = decoded;
        rejects.extend(unfit.iter().map(|unfit| Reject {
            row: rows[unfit.row],
            class: unfit.why.class,
            message: unfit.why.message.clone(),
        }));
        let missing = |at: usize| unfit.binary_search_by_key(&at, |unfit| unfit.row).is_ok();
        let kept = rows.iter().enumerate().filter(|(at, _)| !missing(*at));
        Ok(Decoded {
            batch: others.batch,
            rows: kept.map(|(_, row)| *row).collect(),
            rejects,
        })
    }
}

fn failed(error: &LayoutError) -> CliError {
    CliError(format!("find the folders of records: {error}"))
}
