//! What comes out of the data queue: records into batches, ends of partitions, and errors in the place of records.

use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;

use super::super::assembly::Fields;
use super::super::inquiry::Question;
use super::super::partitions::{Phase, Place};
use super::super::{Pressure, SourceError, SourceEvent};
use super::Consumer;
use super::parting::Course;
use crate::record::{Offset, RawBatch};

impl Consumer {
    /// Takes what waits in the data queue. True when there may be more.
    pub(super) fn fetch(&mut self, now: Instant) -> bool {
        self.paused = match self.sink.pressure() {
            Pressure::High => true,
            Pressure::Low => false,
            Pressure::Between => self.paused,
        };
        if self.paused || self.course != Course::Running {
            return false;
        }
        self.forward_unsettled();
        // Errors are rare: they are put aside, so that the loop over records stays tight.
        let mut errors = Vec::new();
        let sink = &*self.sink;
        let mut drained = self.queue.drain();
        let more = drained.full();
        let mut of_run: Option<(usize, i32, Option<Place>)> = None;
        while let Some(record) = drained.next() {
            let place = match of_run {
                Some((topic, partition, place))
                    if topic == record.topic_id() && partition == record.partition() =>
                {
                    place
                }
                _ => {
                    let (topic, partition) = (record.topic(), record.partition());
                    let place = self.partitions.find(topic, partition);
                    of_run = Some((record.topic_id(), partition, place));
                    self.troubles.arrived(topic);
                    place
                }
            };
            let Some(place) = place else { continue };
            if record.error() == 0 {
                let fields = Fields::of(record, self.needs);
                let next = |full: Option<RawBatch>| {
                    full.into_iter().for_each(|batch| sink.push(batch));
                    sink.spare()
                };
                self.partitions.accept(place, fields, now, next);
            } else if record.error() == RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32 {
                if let Some(partition) = self.partitions.at_mut(place)
                    && partition.phase == Phase::Fetching
                    && record.offset() >= partition.next
                {
                    if let Some(batch) = partition.take_batch() {
                        sink.push(batch);
                    }
                    partition.settled = true;
                    partition.from_log_start = false;
                    partition.next = record.offset();
                    let at = Offset(record.offset());
                    let (tp, epoch) = (partition.tp.clone(), partition.epoch);
                    let _ = self.events.send(SourceEvent::CaughtUp { tp, epoch, at });
                }
            } else {
                let text = record.value().map(String::from_utf8_lossy);
                let text = text.unwrap_or_default().into_owned();
                if let Some(partition) = self.partitions.at_mut(place)
                    && ends_reading(record.error())
                    && partition.phase == Phase::Fetching
                {
                    // Nothing behind it may be delivered.
                    partition.phase = Phase::Halted;
                    partition.settled = true;
                    if let Some(batch) = partition.take_batch() {
                        sink.push(batch);
                    }
                    errors.push((Some(place), record.error(), record.offset(), text));
                } else if !ends_reading(record.error()) {
                    let text = format!("topic not available: {}: {text}", record.topic());
                    errors.push((None, record.error(), record.offset(), text));
                }
            }
        }
        drop(drained);
        if self.announcing {
            self.announce();
        }
        for (place, code, offset, text) in errors {
            self.record_error(place, code, offset, text, now);
        }
        more
    }

    /// Tells of the ends that were reached, with the batches before them delivered.
    pub(super) fn announce(&mut self) {
        let (sink, events) = (&*self.sink, &self.events);
        self.partitions.reached(|partition, batch| {
            batch.into_iter().for_each(|batch| sink.push(batch));
            let (tp, epoch) = (partition.tp.clone(), partition.epoch);
            let at = Offset(partition.next);
            let _ = events.send(SourceEvent::CaughtUp { tp, epoch, at });
        });
        self.announcing = self.partitions.iter().any(|p| p.announce.is_some());
    }

    /// Waiting for company pays only while there is something else to do.
    pub(super) fn deliver_to_idle(&mut self) {
        let sink = &*self.sink;
        self.partitions
            .hasty(|tp| sink.awaits(tp), |batch| sink.push(batch));
    }

    fn record_error(
        &mut self,
        halted: Option<Place>,
        code: i32,
        offset: i64,
        text: String,
        now: Instant,
    ) {
        let code_named = RDKafkaRespErr::try_from(code).map_or(Code::Unknown, Code::from);
        let halted = halted.and_then(|place| self.partitions.at(place));
        match halted {
            Some(partition) if out_of_range(code) => {
                let question = Question::Bounds(partition.tp.clone(), partition.epoch);
                self.inquiry.ask(question);
            }
            Some(partition) => {
                let error = SourceError::Unreadable {
                    tp: partition.tp.clone(),
                    offset: Offset(offset.max(partition.next)),
                    message: text,
                };
                self.fatal(error);
            }
            None => self.client_reports(code_named, &text, now),
        }
    }
}

/// The position is not in the log, or the log was cut behind it.
fn out_of_range(code: i32) -> bool {
    code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET as i32
        || code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__LOG_TRUNCATION as i32
        || code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as i32
}

/// Errors that the client passes over: records behind them arrive with a hole in front.
fn ends_reading(code: i32) -> bool {
    out_of_range(code)
        || code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__BAD_MSG as i32
        || code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__BAD_COMPRESSION as i32
        || code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED as i32
        || code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32
}
