//! The leader epochs in lists of partitions (KIP-320): another module that speaks to librdkafka directly.
//!
//! Invariants: an element belongs to its list, and is looked at only while the list is borrowed.

#![allow(
    unsafe_code,
    reason = "rdkafka has no safe interface to the leader epochs of a list"
)]

use std::ffi::CString;
use std::ptr::NonNull;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;

use crate::record::TopicPartition;

fn element(
    list: &TopicPartitionList,
    tp: &TopicPartition,
) -> Option<NonNull<rd::rd_kafka_topic_partition_t>> {
    let topic = CString::new(tp.topic.as_str()).ok()?;
    // SAFETY: the list is alive, the string is null-terminated and only read.
    let found =
        unsafe { rd::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), tp.partition) };
    NonNull::new(found)
}

/// That of the partition's offset, where the broker told it.
pub(super) fn told(list: &TopicPartitionList, tp: &TopicPartition) -> Option<i32> {
    let found = element(list, tp)?;
    // SAFETY: an element of the list, which is borrowed.
    let epoch = unsafe { rd::rd_kafka_topic_partition_get_leader_epoch(found.as_ptr()) };
    (epoch >= 0).then_some(epoch)
}

pub(super) fn set(list: &mut TopicPartitionList, tp: &TopicPartition, epoch: i32) {
    if let Some(found) = element(list, tp) {
        // SAFETY: an element of the list, which nobody else borrows.
        unsafe { rd::rd_kafka_topic_partition_set_leader_epoch(found.as_ptr(), epoch) };
    }
}
