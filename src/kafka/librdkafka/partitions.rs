//! librdkafka's list of partitions with offsets.
#![allow(unsafe_code)] // wraps a C structure

use std::ffi::CStr;
use std::sync::Arc;
use std::{ptr, slice};

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::c_string;
use crate::error::Result;
use crate::ids::TopicPartition;
use crate::kafka::CommittedOffset;

/// "No offset", as librdkafka writes it.
pub(super) const OFFSET_INVALID: i64 = ffi::RD_KAFKA_OFFSET_INVALID as i64;

/// An owned list.
pub(super) struct PartitionList(*mut ffi::rd_kafka_topic_partition_list_t);

impl PartitionList {
    /// A list of these partitions and offsets.
    pub(super) fn new<'a>(
        entries: impl IntoIterator<Item = (&'a TopicPartition, i64)>,
    ) -> Result<Self> {
        // SAFETY: makes a new, empty list, which grows as needed.
        let list = Self(unsafe { ffi::rd_kafka_topic_partition_list_new(8) });
        for (partition, offset) in entries {
            let topic = c_string(&partition.topic)?;
            // SAFETY: the list lives; the entry that `add` returns is inside it; the topic's name is copied.
            unsafe {
                let entry = ffi::rd_kafka_topic_partition_list_add(
                    list.0,
                    topic.as_ptr(),
                    partition.partition,
                );
                (*entry).offset = offset;
            }
        }
        Ok(list)
    }

    /// A list of offsets to commit, with their metadata.
    pub(super) fn of_commits(commits: &[(TopicPartition, CommittedOffset)]) -> Result<Self> {
        let list = Self::new(commits.iter().map(|(partition, commit)| (partition, commit.offset)))?;
        for (index, (_, commit)) in commits.iter().enumerate() {
            let bytes = commit.metadata.as_bytes();
            if bytes.is_empty() {
                continue;
            }
            // SAFETY: `new` has made as many entries; the list owns the copy and frees it with the allocator that made it.
            unsafe {
                let entry = (*list.0).elems.add(index);
                let copy = ffi::rd_kafka_mem_malloc(ptr::null_mut(), bytes.len());
                ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast(), bytes.len());
                (*entry).metadata = copy;
                (*entry).metadata_size = bytes.len();
            }
        }
        Ok(list)
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::rd_kafka_topic_partition_list_t {
        self.0
    }

    /// Partition, offset and error of every entry.
    pub(super) fn entries(&self) -> Vec<(TopicPartition, i64, Code)> {
        // SAFETY: the list lives.
        unsafe { read(self.0) }
    }

    /// Partition, committed offset with its metadata, and error of every entry.
    pub(super) fn commits(&self) -> Vec<(TopicPartition, CommittedOffset, Code)> {
        // SAFETY: the list lives.
        unsafe { read_commits(self.0) }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { ffi::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// Reads a list; null is an empty one.
///
/// # Safety
/// `list` is null or a live list.
pub(super) unsafe fn read(
    list: *const ffi::rd_kafka_topic_partition_list_t,
) -> Vec<(TopicPartition, i64, Code)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a live list has `cnt` entries at `elems`, each with a topic that ends with NUL.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count)
            .map(|index| {
                let entry = &*(*list).elems.add(index);
                let topic: Arc<str> = CStr::from_ptr(entry.topic).to_string_lossy().into();
                (TopicPartition::new(topic, entry.partition), entry.offset, entry.err.into())
            })
            .collect()
    }
}

/// As [`read`], with each offset's metadata.
///
/// # Safety
/// `list` is null or a live list.
pub(super) unsafe fn read_commits(
    list: *const ffi::rd_kafka_topic_partition_list_t,
) -> Vec<(TopicPartition, CommittedOffset, Code)> {
    let metadata = |index: usize| {
        // SAFETY: the list lives and has this entry, whose metadata is null or of the size it says.
        unsafe {
            let entry = &*(*list).elems.add(index);
            if entry.metadata.is_null() {
                return String::new();
            }
            let bytes = slice::from_raw_parts(entry.metadata.cast(), entry.metadata_size);
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    // SAFETY: by the caller's promise.
    let entries = unsafe { read(list) }.into_iter().enumerate();
    entries
        .map(|(index, (partition, offset, code))| {
            (partition, CommittedOffset { offset, metadata: metadata(index) }, code)
        })
        .collect()
}
