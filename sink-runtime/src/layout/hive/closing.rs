//! Which topic-partitions hold rows of a folder whose time is over, by the rows' own times. Pure.
//!
//! Each topic-partition has a watermark: the latest time among its rows that is not ahead of the clock, so that one
//! producer with a wrong clock ends nothing. A folder is over once the watermark, less the allowed lateness, is past the
//! end of its time. Rows that come for a folder which is over already do not count: each would be a commit of its own.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Schema, SchemaRef, TimeUnit};

use super::level::ticks_of;
use super::time::{TimePath, Unit};
use super::{Place, fetch, find};
use crate::layout::{LayoutError, Rows};
use crate::plan::{PartitionExpr, TimeSource};
use crate::record::TopicPartition;

#[derive(Debug)]
pub struct Closing {
    source: TimeSource,
    path: TimePath,
    lateness_ms: i64,
    /// The schema it is bound to, and where in it the times are.
    schema: SchemaRef,
    place: Option<Place>,
    lanes: BTreeMap<TopicPartition, Lane>,
}

/// In milliseconds since the epoch; of a column without a zone, in its own local time.
#[derive(Debug, Default)]
struct Lane {
    watermark: Option<i64>,
    /// The stretch of time that has one folder, and that the watermark less the lateness lies in: what is before it is
    /// over.
    open: Option<(i64, i64)>,
    /// Earliest time among the rows that wait for a commit, without those that came late.
    earliest: Option<i64>,
}

impl Lane {
    fn is_over(&self, time: i64) -> bool {
        self.open.is_some_and(|(from, _)| time < from)
    }
}

impl Closing {
    /// `None` where no folder is by the rows' own time.
    ///
    /// # Errors
    /// When a format cannot be read.
    pub fn of(
        partitioning: &[PartitionExpr],
        lateness: std::time::Duration,
    ) -> Result<Option<Self>, LayoutError> {
        let found = partitioning.iter().find_map(|expr| match expr {
            PartitionExpr::Time {
                source: source @ (TimeSource::Column(_) | TimeSource::RecordTimestamp),
                timezone,
                levels,
            } => Some((source, timezone, levels)),
            _ => None,
        });
        let Some((source, timezone, levels)) = found else {
            return Ok(None);
        };
        Ok(Some(Self {
            source: source.clone(),
            path: TimePath::new(*timezone, levels)?,
            lateness_ms: i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX),
            schema: SchemaRef::new(Schema::empty()),
            place: None,
            lanes: BTreeMap::new(),
        }))
    }

    /// Takes note of rows that were written. Whether their topic-partition holds rows of a folder that is over.
    pub fn see(&mut self, rows: &Rows, wall_clock_ms: i64) -> bool {
        let (times, local) = self.times(rows);
        let unit = Unit {
            per_second: 1000,
            local,
        };
        self.path.use_unit(unit);
        let now = self.path.in_unit(wall_clock_ms);
        let lane = self.lanes.entry(rows.tp.clone()).or_default();
        let in_time = times.iter().copied().filter(|time| !lane.is_over(*time));
        lane.earliest = lane.earliest.into_iter().chain(in_time).min();
        let seen = times.iter().copied().filter(|time| *time <= now);
        lane.watermark = lane.watermark.into_iter().chain(seen).max();
        if let Some(watermark) = lane.watermark {
            let reached = watermark.saturating_sub(self.lateness_ms);
            if lane.open.is_none_or(|(_, to)| reached >= to)
                && let Some(stretch) = self.path.stretch(reached)
            {
                lane.open = Some(stretch);
            }
        }
        lane.earliest.is_some_and(|time| lane.is_over(time))
    }

    /// All rows of the topic-partition are on their way to a commit.
    pub fn cut(&mut self, tp: &TopicPartition) {
        if let Some(lane) = self.lanes.get_mut(tp) {
            lane.earliest = None;
        }
    }

    /// The topic-partition's rows are dropped, and perhaps come again.
    pub fn forget(&mut self, tp: &TopicPartition) {
        self.lanes.remove(tp);
    }

    /// The times that rows have, in milliseconds, and whether they are local ones.
    fn times(&mut self, rows: &Rows) -> (Vec<i64>, bool) {
        let TimeSource::Column(column) = &self.source else {
            let known = rows.timestamps.iter().copied().filter(|time| *time != -1);
            return (known.collect(), false);
        };
        let schema = rows.batch.schema_ref();
        if self.schema != *schema {
            self.place = find(schema, column).map(|(place, _)| place);
            self.schema = SchemaRef::clone(schema);
        }
        let Some((array, nulls)) = self
            .place
            .as_ref()
            .and_then(|place| fetch(&rows.batch, place))
        else {
            return (Vec::new(), false);
        };
        let known = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
        let rows = (0..array.len()).filter(known);
        match array.data_type() {
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().values();
                let times = rows.map(|row| i64::from(days[row]) * 86_400_000);
                (times.collect(), true)
            }
            DataType::Timestamp(unit, zone) => {
                let ticks = ticks_of(*unit, &array);
                let times: Vec<i64> = match unit {
                    TimeUnit::Second => rows.map(|row| ticks[row].saturating_mul(1000)).collect(),
                    TimeUnit::Millisecond => rows.map(|row| ticks[row]).collect(),
                    TimeUnit::Microsecond => rows.map(|row| ticks[row].div_euclid(1000)).collect(),
                    TimeUnit::Nanosecond => {
                        rows.map(|row| ticks[row].div_euclid(1_000_000)).collect()
                    }
                };
                (times, zone.is_none())
            }
            // All null; other types did not bind.
            _ => (Vec::new(), false),
        }
    }
}

#[cfg(test)]
mod tests;
