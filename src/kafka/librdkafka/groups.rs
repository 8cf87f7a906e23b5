//! Describing a consumer group, and asking what it has committed. Cold; waits, bounded, for the broker.
#![allow(unsafe_code)] // admin requests are C objects

use std::ptr;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::admin::{ClusterAdmin, Owned};
use super::client::{c_string, text_of};
use super::partitions::{self, OFFSET_INVALID, PartitionList};
use crate::error::{Error, Result};
use crate::ids::TopicPartition;
use crate::kafka::{CommittedOffset, GroupMember};

/// The members of a group; none where there is no such group.
pub(super) fn describe(
    admin: &ClusterAdmin,
    group: &str,
    timeout: Duration,
) -> Result<Vec<GroupMember>> {
    let attempted = format!("describing group \"{group}\"");
    let name = c_string(group)?;
    let mut pointer = name.as_ptr();
    let rk = admin.client.rk();
    let answer = admin.request(&attempted, timeout, |options, queue| {
        // SAFETY: the name ends with NUL, lives until the end of this function and is copied by the call.
        unsafe { ffi::rd_kafka_DescribeConsumerGroups(rk, &mut pointer, 1, options, queue) };
    })?;
    // SAFETY: the answer is of this request and lives until the end of this function, as does all that it points to.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeConsumerGroups_result(answer.0);
        let mut count = 0;
        let groups = ffi::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        if count == 0 {
            return Err(Error::retriable(format!("{attempted}: empty answer")));
        }
        let group = *groups;
        let failure = ffi::rd_kafka_ConsumerGroupDescription_error(group);
        if !failure.is_null() {
            let code = Code::from(ffi::rd_kafka_error_code(failure));
            let text = text_of(ffi::rd_kafka_error_string(failure));
            // Brokers from 4.0 on say so of a group that was never joined; older ones call it dead.
            return match code {
                Code::GroupIdNotFound | Code::NoError => Ok(Vec::new()),
                code => Err(admin.failed(code, &attempted, &text, timeout)),
            };
        }
        Ok(members_of(group))
    }
}

/// What a group has committed, without waiting for open transactions.
pub(super) fn offsets(
    admin: &ClusterAdmin,
    group: &str,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<CommittedOffset>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let attempted = format!("asking for the offsets of group \"{group}\"");
    let name = c_string(group)?;
    let list = PartitionList::new(partitions.iter().map(|p| (p, OFFSET_INVALID)))?;
    // SAFETY: the name ends with NUL; name and list are copied.
    let request = Owned(
        unsafe { ffi::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), list.as_ptr()) },
        ffi::rd_kafka_ListConsumerGroupOffsets_destroy,
    );
    let mut pointer = request.0;
    let rk = admin.client.rk();
    let answer = admin.request(&attempted, timeout, |options, queue| {
        // SAFETY: the request lives until the end of this function and is copied by the call.
        unsafe { ffi::rd_kafka_ListConsumerGroupOffsets(rk, &mut pointer, 1, options, queue) };
    })?;
    // SAFETY: the answer is of this request and lives until the end of this function, as does all that it points to.
    let found = unsafe {
        let result = ffi::rd_kafka_event_ListConsumerGroupOffsets_result(answer.0);
        let mut count = 0;
        let groups = ffi::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        if count == 0 {
            return Err(Error::retriable(format!("{attempted}: empty answer")));
        }
        let failure = ffi::rd_kafka_group_result_error(*groups);
        if !failure.is_null() {
            let code = Code::from(ffi::rd_kafka_error_code(failure));
            let text = text_of(ffi::rd_kafka_error_string(failure));
            return Err(admin.failed(code, &attempted, &text, timeout));
        }
        partitions::read_commits(ffi::rd_kafka_group_result_partitions(*groups))
    };
    let committed = |(_, committed, code): (_, CommittedOffset, _)| {
        (code == Code::NoError && committed.offset >= 0).then_some(committed)
    };
    Ok(found.into_iter().filter_map(committed).collect())
}

/// # Safety
/// `group` lives.
unsafe fn members_of(group: *const ffi::rd_kafka_ConsumerGroupDescription_t) -> Vec<GroupMember> {
    // SAFETY: the group lives, so do its members, and there are as many as it says.
    unsafe {
        let count = ffi::rd_kafka_ConsumerGroupDescription_member_count(group);
        (0..count)
            .map(|index| {
                let member = ffi::rd_kafka_ConsumerGroupDescription_member(group, index);
                let assignment = ffi::rd_kafka_MemberDescription_assignment(member);
                let list = match assignment.is_null() {
                    true => ptr::null(),
                    false => ffi::rd_kafka_MemberAssignment_partitions(assignment),
                };
                let instance = ffi::rd_kafka_MemberDescription_group_instance_id(member);
                GroupMember {
                    member_id: text_of(ffi::rd_kafka_MemberDescription_consumer_id(member)),
                    group_instance_id: (!instance.is_null())
                        .then(|| text_of(instance))
                        .filter(|id| !id.is_empty()),
                    client_id: text_of(ffi::rd_kafka_MemberDescription_client_id(member)),
                    partitions: partitions::read(list).into_iter().map(|entry| entry.0).collect(),
                }
            })
            .collect()
    }
}
