//! The one module that speaks to librdkafka directly: a queue that all assigned partitions are forwarded to, drained
//! many messages a call. Half the CPU of polling record by record.
//!
//! Invariants: the queue is created and drained by one thread; it is destroyed before its client (it holds the client
//! alive); every message taken from it is destroyed exactly once; no view into a message outlives the message.

#![allow(
    unsafe_code,
    reason = "rdkafka has no safe interface to rd_kafka_consume_batch_queue"
)]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use crate::record::{Headers, TimestampType};

/// Messages of all forwarded partitions, in the order of each partition.
pub(super) struct DataQueue<C: ConsumerContext + 'static> {
    queue: NonNull<rd::rd_kafka_queue_t>,
    /// Where a call puts its messages. Null outside of a [`Drained`].
    messages: Vec<*mut rd::rd_kafka_message_t>,
    /// Unparked by librdkafka's threads when the queue becomes non-empty. They keep its address: an `Arc`, which unlike
    /// a `Box` may be moved while others read through it.
    wake: Arc<Thread>,
    /// After `queue` in this struct and dropped after it: a queue must not outlive its client.
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext + 'static> DataQueue<C> {
    /// At most `capacity` messages are drained a call. `wake` is unparked when messages arrive in an empty queue.
    pub(super) fn new(consumer: Arc<BaseConsumer<C>>, capacity: usize, wake: Thread) -> Self {
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive, `consumer` holds it.
        let queue = unsafe { rd::rd_kafka_queue_new(client) };
        #[allow(
            clippy::expect_used,
            reason = "librdkafka aborts the process itself when it cannot allocate"
        )]
        let queue = NonNull::new(queue).expect("rd_kafka_queue_new never returns null");
        let this = Self {
            queue,
            messages: vec![ptr::null_mut(); capacity.max(1)],
            wake: Arc::new(wake),
            consumer,
        };
        let opaque = Arc::as_ptr(&this.wake).cast_mut().cast();
        // SAFETY: the queue is alive. `opaque` points into the `Arc`'s allocation, which stays where it is when `this`
        // moves, is only ever read, and lives until `drop` has taken the callback away again.
        unsafe { rd::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(unpark), opaque) };
        this
    }

    /// Makes messages of the partition arrive here. To be called before each assignment of the partition, and again
    /// until its first message: stopping a partition's fetcher, which happens behind the back of a preceding
    /// unassignment, takes the forwarding away. Idempotent; false when there can be no such partition.
    pub(super) fn forward(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else {
            return false;
        };
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client is alive, the string is null-terminated and copied by the callee.
        let source = unsafe { rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        if source.is_null() {
            return false;
        }
        // SAFETY: both queues are alive: `source` is our own reference, given back right after. Forwarding takes its
        // own references, and moves messages that already wait in `source`, in order.
        unsafe {
            rd::rd_kafka_queue_forward(source, self.queue.as_ptr());
            rd::rd_kafka_queue_destroy(source);
        }
        true
    }

    /// What waits in the queue, without blocking. Also counts as a poll for `max.poll.interval.ms`.
    pub(super) fn drain(&mut self) -> Drained<'_> {
        let capacity = self.messages.len();
        // SAFETY: the queue is alive and `messages` has room for `capacity` pointers. `&mut self` keeps others from
        // draining into the same array while the result is in use.
        let filled = unsafe {
            rd::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                self.messages.as_mut_ptr(),
                capacity,
            )
        };
        let filled = usize::try_from(filled).unwrap_or(0).min(capacity);
        Drained {
            messages: &mut self.messages[..filled],
            taken: 0,
            full: filled == capacity,
        }
    }
}

impl<C: ConsumerContext + 'static> Drop for DataQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is alive and ours. The callback is called under the queue's lock, which disabling takes: no
        // call runs or follows when `wake` is freed. Destroying by the owner discards what still waits, which frees
        // the references these messages hold on the client.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

unsafe extern "C" fn unpark(_client: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the address of the shared `Thread` given with this callback, alive while the callback is
    // enabled, and only ever shared.
    let thread = unsafe { &*opaque.cast::<Thread>() };
    thread.unpark();
}

/// The messages of one call, destroyed one by one as they are looked at, and at the latest with this.
pub(super) struct Drained<'q> {
    messages: &'q mut [*mut rd::rd_kafka_message_t],
    /// Messages before it are destroyed; the one at `taken - 1`, if any, is being looked at.
    taken: usize,
    full: bool,
}

impl Drained<'_> {
    /// Whether more may wait: the call stopped for want of room.
    pub(super) fn full(&self) -> bool {
        self.full
    }

    /// The next message; the one before it is gone then.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Record<'_>> {
        self.discard_current();
        let message = NonNull::new(*self.messages.get(self.taken)?)?;
        self.taken += 1;
        Some(Record {
            message,
            lifetime: PhantomData,
        })
    }

    #[inline]
    fn discard_current(&mut self) {
        if let Some(last) = self.taken.checked_sub(1)
            && let Some(slot) = self.messages.get_mut(last)
            && !slot.is_null()
        {
            // SAFETY: a message librdkafka gave us, not destroyed before (it would be null), and no `Record` views it:
            // `&mut self` ends the borrow of the last one.
            unsafe { rd::rd_kafka_message_destroy(*slot) };
            *slot = ptr::null_mut();
        }
    }
}

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        for slot in self.messages.iter_mut().filter(|slot| !slot.is_null()) {
            // SAFETY: as in `discard_current`; nothing borrows from `self` any more.
            unsafe { rd::rd_kafka_message_destroy(*slot) };
            *slot = ptr::null_mut();
        }
    }
}

/// A view of one message: a record, or an error of its partition.
#[derive(Clone, Copy)]
pub(super) struct Record<'m> {
    message: NonNull<rd::rd_kafka_message_t>,
    lifetime: PhantomData<&'m rd::rd_kafka_message_t>,
}

// In all of these: `message` is alive for `'m`, given by `Drained::next`. Fields are read through the raw pointer, never
// through a reference to the struct: a broker may send an error code that the enum of codes does not know.
impl<'m> Record<'m> {
    /// Zero for a record. Negative codes are librdkafka's, positive the broker's.
    #[inline]
    pub(super) fn error(self) -> i32 {
        // SAFETY: alive; the enum is `repr(i32)`, and any `i32` is a valid `i32`.
        unsafe {
            ptr::addr_of!((*self.message.as_ptr()).err)
                .cast::<i32>()
                .read()
        }
    }

    /// Equal for two messages of one drained batch exactly if their topics are: each message holds its topic alive.
    #[inline]
    pub(super) fn topic_id(self) -> usize {
        // SAFETY: alive.
        unsafe { (*self.message.as_ptr()).rkt as usize }
    }

    /// Empty when the message belongs to no topic.
    pub(super) fn topic(self) -> &'m str {
        // SAFETY: alive; the topic is held by the message, and its name is a null-terminated string that lives as long.
        unsafe {
            let topic = (*self.message.as_ptr()).rkt;
            if topic.is_null() {
                return "";
            }
            let name = rd::rd_kafka_topic_name(topic);
            if name.is_null() {
                return "";
            }
            CStr::from_ptr(name).to_str().unwrap_or("")
        }
    }

    #[inline]
    pub(super) fn partition(self) -> i32 {
        // SAFETY: alive.
        unsafe { (*self.message.as_ptr()).partition }
    }

    #[inline]
    pub(super) fn offset(self) -> i64 {
        // SAFETY: alive.
        unsafe { (*self.message.as_ptr()).offset }
    }

    /// `None` for a tombstone. Of an error: its text.
    #[inline]
    pub(super) fn value(self) -> Option<&'m [u8]> {
        // SAFETY: alive; librdkafka's pointer and length describe bytes that live as long as the message.
        unsafe {
            let message = self.message.as_ptr();
            bytes((*message).payload, (*message).len)
        }
    }

    #[inline]
    pub(super) fn key(self) -> Option<&'m [u8]> {
        // SAFETY: as in `value`.
        unsafe {
            let message = self.message.as_ptr();
            bytes((*message).key, (*message).key_len)
        }
    }

    /// Milliseconds since the epoch, -1 where there is none.
    #[inline]
    pub(super) fn timestamp(self) -> (i64, TimestampType) {
        let mut kind: u32 = 0;
        // SAFETY: alive; the enum is `repr(u32)`, so that the callee writes a `u32`. Read as such: no invalid enum value
        // can come to be.
        let at = unsafe {
            rd::rd_kafka_message_timestamp(self.message.as_ptr(), ptr::from_mut(&mut kind).cast())
        };
        let kind = match kind {
            1 => TimestampType::CreateTime,
            2 => TimestampType::LogAppendTime,
            _ => TimestampType::NotAvailable,
        };
        (at, kind)
    }

    #[inline]
    pub(super) fn leader_epoch(self) -> Option<i32> {
        // SAFETY: alive.
        let epoch = unsafe { rd::rd_kafka_message_leader_epoch(self.message.as_ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    pub(super) fn headers(self) -> Headers {
        let mut list = ptr::null_mut();
        // SAFETY: alive; the list stays the message's, which parses it on first use.
        let found = unsafe { rd::rd_kafka_message_headers(self.message.as_ptr(), &mut list) };
        let mut headers = Vec::new();
        if found as i32 != 0 || list.is_null() {
            return headers;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0_usize);
            // SAFETY: the list is alive with the message; the callee writes the three on success only, and an index
            // past the end is an error.
            let found = unsafe {
                rd::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size)
            };
            if found as i32 != 0 || name.is_null() {
                return headers;
            }
            // SAFETY: null-terminated name, and `size` bytes at `value` unless it is null, alive with the message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, size)) };
            headers.push((
                name.to_string_lossy().into_owned(),
                value.map(<[u8]>::to_vec),
            ));
        }
    }
}

/// # Safety
/// Unless null, `start` points to `len` bytes that nobody changes during `'m`.
#[inline]
unsafe fn bytes<'m>(start: *const c_void, len: usize) -> Option<&'m [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: by contract.
    Some(unsafe { slice::from_raw_parts(start.cast(), len) })
}
