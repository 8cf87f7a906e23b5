//! Topics by name. Tells those that do not exist from those that this user may not see: the list of all topics shows neither.
#![allow(unsafe_code)] // the request and its answer are C objects

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::admin::{ClusterAdmin, Owned};
use super::client::{c_string, text_of};
use super::error;
use crate::error::Result;
use crate::kafka::TopicDescription;

/// As [`Admin::describe_topics`](crate::kafka::Admin::describe_topics).
pub(super) fn describe(
    admin: &ClusterAdmin,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, TopicDescription>> {
    let found = listed(admin, topics, timeout)?;
    let absent: Vec<&str> =
        topics.iter().copied().filter(|topic| !found.contains_key(*topic)).collect();
    if !absent.is_empty() {
        check_visible(admin, &absent, timeout)?;
    }
    Ok(found)
}

/// Those of `topics` that the list of all topics shows.
pub(super) fn listed(
    admin: &ClusterAdmin,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, TopicDescription>> {
    let (_, mut found) = admin.cluster(timeout)?;
    found.retain(|name, _| topics.contains(&name.as_str()));
    Ok(found)
}

/// Returns where `absent` topics are absent indeed.
///
/// # Errors
/// `Fatal`, naming all of them that this user has no right to see.
fn check_visible(admin: &ClusterAdmin, absent: &[&str], timeout: Duration) -> Result<()> {
    let names = absent.iter().map(|name| c_string(name)).collect::<Result<Vec<_>>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let request = Owned(
        // SAFETY: the names live until the end of this function and are copied.
        unsafe {
            ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len())
        },
        ffi::rd_kafka_TopicCollection_destroy,
    );
    let rk = admin.client.rk();
    let answer = admin.request("asking for topics by name", timeout, |options, queue| {
        // SAFETY: the request lives until the end of this function and is copied by the call.
        unsafe { ffi::rd_kafka_DescribeTopics(rk, request.0, options, queue) };
    })?;
    let mut hidden = Vec::new();
    // SAFETY: the answer is of this request and lives until the end of this function; its array has the length that it gives.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeTopics_result(answer.0);
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for index in 0..count {
            let topic = *topics.add(index);
            let code =
                Code::from(ffi::rd_kafka_error_code(ffi::rd_kafka_TopicDescription_error(topic)));
            if code == Code::TopicAuthorizationFailed {
                hidden.push(format!("\"{}\"", text_of(ffi::rd_kafka_TopicDescription_name(topic))));
            }
        }
    }
    match hidden.is_empty() {
        true => Ok(()),
        false => {
            let attempted = format!("asking for topic {}", hidden.join(", "));
            Err(error::from_code(Code::TopicAuthorizationFailed, &attempted, ""))
        }
    }
}
