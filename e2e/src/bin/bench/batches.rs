//! Many records a call from a consumer's queue: the least that reading a topic can cost.
//!
//! Invariants: a queue lives no longer than the consumer it borrows; every message it hands out is destroyed once,
//! before the next call.

#![allow(
    unsafe_code,
    reason = "rdkafka has no safe interface to rd_kafka_consume_batch_queue"
)]

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// Records counted, and the bytes of their values.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The queue that a consumer's partitions are forwarded to.
pub(crate) struct Batches<'c> {
    queue: NonNull<rd::rd_kafka_queue_t>,
    messages: Vec<*mut rd::rd_kafka_message_t>,
    consumer: PhantomData<&'c BaseConsumer>,
}

impl<'c> Batches<'c> {
    pub(crate) fn of(consumer: &'c BaseConsumer, capacity: usize) -> Result<Self> {
        // SAFETY: the client is alive, `consumer` holds it.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Ok(Batches {
            queue: NonNull::new(queue).context("the client is no consumer")?,
            messages: vec![ptr::null_mut(); capacity],
            consumer: PhantomData,
        })
    }

    /// Counts and drops what the queue holds, at most `capacity` messages; waits for a first one until `patience` ends.
    pub(crate) fn drain(&mut self, patience: Duration) -> Result<Tally> {
        let patience = i32::try_from(patience.as_millis())?;
        let room = self.messages.len();
        // SAFETY: the queue is alive and `messages` has room for `room` pointers.
        let filled = unsafe {
            rd::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                patience,
                self.messages.as_mut_ptr(),
                room,
            )
        };
        let filled = usize::try_from(filled).context("consume a batch")?;
        let mut tally = Tally::default();
        let mut failure = 0;
        for message in &self.messages[..filled] {
            // SAFETY: the call above filled this slot with a message that is ours until destroyed, here and only here.
            // The error is read as the integer it is: a broker may send a code that the enum does not know.
            unsafe {
                let error = ptr::addr_of!((**message).err).cast::<i32>().read();
                if error == 0 {
                    tally.records += 1;
                    tally.bytes += (**message).len as u64;
                } else {
                    failure = error;
                }
                rd::rd_kafka_message_destroy(*message);
            }
        }
        ensure!(failure == 0, "librdkafka reports error {failure}");
        Ok(tally)
    }
}

impl Drop for Batches<'_> {
    fn drop(&mut self) {
        // SAFETY: our own reference, given back once.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}
