//! Whether a consumer group has members, by librdkafka's admin call ListConsumerGroups: it tells the state of groups of
//! either protocol, where DescribeGroups knows the classic one only.
//!
//! Invariants: what is made for a call is destroyed with it, while the client, borrowed for the whole call, is alive;
//! nothing of an answer is looked at after its event is destroyed; no enum is read whose value a broker decides (states
//! are told by name, and the client makes its own numbers of them).

#![allow(
    unsafe_code,
    reason = "rdkafka has no safe interface to rd_kafka_ListConsumerGroups"
)]

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_consumer_group_state_t as State;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;

use super::SourceError;
use super::owned::Owned;

const WHAT: &str = "list consumer groups";
/// How much longer than its own timeout a call is waited for.
const MARGIN_MS: c_int = 500;
/// No such group, or none of its members is left. Any other state is that of a group that has some, and so, perhaps, is
/// one that is not told: brokers older than 2.6 tell none.
const WITHOUT_MEMBERS: [State; 2] = [
    State::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD,
    State::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY,
];

/// Asks all brokers, and waits for at most about `timeout`. A group that nobody lists has no members.
///
/// # Errors
/// When some broker does not answer: the group may be one of its.
pub(super) fn has_members<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    timeout: Duration,
) -> Result<bool, SourceError> {
    let failed = |message: String| SourceError::Lookup {
        what: WHAT,
        message,
    };
    let no_answer = || failed("no answer".into());
    let millis = c_int::try_from(timeout.as_millis()).map_err(|_| no_answer())?;
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive, `consumer` holds it. The options are written to while nothing else uses them; a
    // refused one keeps its default.
    let made = unsafe {
        let queue = Owned::new(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy);
        let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
        let options = rd::rd_kafka_AdminOptions_new(client, operation);
        let options = Owned::new(options, rd::rd_kafka_AdminOptions_destroy);
        queue.zip(options)
    };
    let (queue, options) = made.ok_or_else(no_answer)?;
    // SAFETY: all three are alive. The callee copies the options, and takes a reference of its own on the queue: an
    // answer that comes after this function's end goes nowhere.
    let event = unsafe {
        let (message, size) = (ptr::null_mut(), 0);
        rd::rd_kafka_AdminOptions_set_request_timeout(options.get(), millis, message, size);
        rd::rd_kafka_ListConsumerGroups(client, options.get(), queue.get());
        let event = rd::rd_kafka_queue_poll(queue.get(), millis.saturating_add(MARGIN_MS));
        Owned::new(event, rd::rd_kafka_event_destroy)
    };
    let event = event.ok_or_else(no_answer)?;
    // SAFETY: the event is alive and ours, to the end of this function; lists and what they point to are the event's. An
    // event with an error has no result; its error is the client's own, of a broker's it is in the list of errors.
    unsafe {
        let result = rd::rd_kafka_event_ListConsumerGroups_result(event.get());
        if result.is_null() {
            return Err(no_answer());
        }
        if rd::rd_kafka_event_error(event.get()) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(text(rd::rd_kafka_event_error_string(event.get()))));
        }
        let mut count = 0;
        let listed = rd::rd_kafka_ListConsumerGroups_result_valid(result, &mut count);
        for at in 0..count {
            let found = *listed.add(at);
            if text(rd::rd_kafka_ConsumerGroupListing_group_id(found)) == group {
                let state = rd::rd_kafka_ConsumerGroupListing_state(found);
                return Ok(!WITHOUT_MEMBERS.contains(&state));
            }
        }
        let mut count = 0;
        let errors = rd::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
        if count > 0 {
            return Err(failed(text(rd::rd_kafka_error_string(*errors))));
        }
    }
    Ok(false)
}

/// # Safety
/// Null, or a null-terminated string that is alive.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}
