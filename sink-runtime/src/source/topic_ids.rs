//! The ids of topics (KIP-516), by librdkafka's admin call DescribeTopics: the second module that speaks to librdkafka
//! directly.
//!
//! Invariants: what is made for a call is destroyed with it, while the client, borrowed for the whole call, is alive;
//! nothing of an answer is looked at after its event is destroyed; no enum is read whose value a broker decides.

#![allow(
    unsafe_code,
    reason = "rdkafka has no safe interface to rd_kafka_DescribeTopics"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::slice;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use super::owned::Owned;
use crate::record::TopicName;

/// How much longer than its own timeout a call is waited for.
const MARGIN_MS: c_int = 200;

/// Asks one broker, and waits for at most about `timeout`. Topics without an id in the answer (denied, unknown, of a
/// broker without ids) are absent. `None`: there was no answer.
pub(super) fn describe<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    broker: i32,
    topics: &[&TopicName],
    timeout: Duration,
) -> Option<BTreeMap<TopicName, String>> {
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|topic| CString::new(topic.as_str()).ok())
        .collect();
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = c_int::try_from(timeout.as_millis()).ok()?;
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive, `consumer` holds it. The names are null-terminated, alive, and copied by the callee;
    // the array has as many elements as told. The options are written to while nothing else uses them; a refused one
    // keeps its default.
    let (queue, collection, options) = unsafe {
        let queue = Owned::new(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy)?;
        let collection =
            rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let collection = Owned::new(collection, rd::rd_kafka_TopicCollection_destroy)?;
        let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = rd::rd_kafka_AdminOptions_new(client, operation);
        let options = Owned::new(options, rd::rd_kafka_AdminOptions_destroy)?;
        let (message, size) = (ptr::null_mut(), 0);
        rd::rd_kafka_AdminOptions_set_request_timeout(options.get(), millis, message, size);
        rd::rd_kafka_AdminOptions_set_broker(options.get(), broker, message, size);
        (queue, collection, options)
    };
    // SAFETY: all four are alive. The callee copies collection and options, and takes a reference of its own on the
    // queue: an answer that comes after this function's end goes nowhere.
    let event = unsafe {
        rd::rd_kafka_DescribeTopics(client, collection.get(), options.get(), queue.get());
        let event = rd::rd_kafka_queue_poll(queue.get(), millis.saturating_add(MARGIN_MS));
        Owned::new(event, rd::rd_kafka_event_destroy)?
    };
    // SAFETY: the event is alive and ours, to the end of this function; the list and what it points to are the event's.
    // A result of another kind is null, one of a failed call has no topics.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event.get());
        if result.is_null() {
            return None;
        }
        let failure = rd::rd_kafka_event_error_string(event.get());
        let mut count = 0;
        let described = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if described.is_null() || count == 0 {
            let failure = (!failure.is_null()).then(|| CStr::from_ptr(failure).to_string_lossy());
            tracing::debug!(broker, ?failure, "the broker does not describe topics");
            return None;
        }
        let described = slice::from_raw_parts(described, count);
        Some(described.iter().filter_map(|topic| entry(*topic)).collect())
    }
}

/// A topic's name and id, where it has both.
///
/// # Safety
/// Null, or a description whose event is alive.
unsafe fn entry(topic: *const rd::rd_kafka_TopicDescription_t) -> Option<(TopicName, String)> {
    if topic.is_null() {
        return None;
    }
    // SAFETY: the description is alive, by contract, and name, error and id are its own. The error is only compared to
    // null.
    unsafe {
        if !rd::rd_kafka_TopicDescription_error(topic).is_null() {
            return None;
        }
        let name = rd::rd_kafka_TopicDescription_name(topic);
        let id = rd::rd_kafka_TopicDescription_topic_id(topic);
        if name.is_null() || id.is_null() {
            return None;
        }
        let name = CStr::from_ptr(name).to_str().ok()?;
        let high = rd::rd_kafka_Uuid_most_significant_bits(id);
        let low = rd::rd_kafka_Uuid_least_significant_bits(id);
        Some((TopicName::new(name), text(high, low)?))
    }
}

/// As Kafka's own tools print it. Zero is no id: the broker is older than topic ids.
fn text(high: i64, low: i64) -> Option<String> {
    if high == 0 && low == 0 {
        return None;
    }
    let bytes = [high.to_be_bytes(), low.to_be_bytes()].concat();
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn an_id_reads_as_kafkas_tools_print_it_and_zero_is_none() {
        assert_eq!(text(0, 0), None);
        // Kafka's own metadata topic has the id 0:1.
        assert_eq!(text(0, 1).as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
        assert_eq!(text(-1, -1).as_deref(), Some("_____________________w"));
    }
}
