//! Settings of topics and brokers. Cold; every call waits, bounded, for the broker.
#![allow(unsafe_code)] // admin requests are C objects

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

use super::admin::{ClusterAdmin, METADATA_PAUSE, Owned, slice};
use super::client::{c_string, text_of};
use super::error;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{Clock, SystemClock};

/// The effective settings of a topic. Whichever broker is asked may not know it yet although another does: then again, for at most `timeout`.
pub(super) fn of_topic(
    admin: &ClusterAdmin,
    topic: &str,
    timeout: Duration,
) -> Result<BTreeMap<String, String>> {
    let attempted = format!("asking for the configuration of topic \"{topic}\"");
    let clock = SystemClock::default();
    let deadline = clock.monotonic() + timeout;
    loop {
        match of_resource(admin, &attempted, &topic_resource(topic)?, timeout) {
            Err(error) if error.kind() == ErrorKind::Retriable && clock.monotonic() < deadline => {
                std::thread::park_timeout(METADATA_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// A setting of one of the brokers, whichever is named first; `None` where it knows no such setting.
pub(super) fn of_broker(
    admin: &ClusterAdmin,
    name: &str,
    timeout: Duration,
) -> Result<Option<String>> {
    let broker = broker_ids(admin, timeout)?.into_iter().min();
    let Some(broker) = broker else { return Err(admin.client.unreachable(timeout)) };
    Ok(of_broker_id(admin, broker, timeout)?.remove(name))
}

/// The effective settings of every broker, by its id.
pub(super) fn of_brokers(
    admin: &ClusterAdmin,
    timeout: Duration,
) -> Result<BTreeMap<i32, BTreeMap<String, String>>> {
    let ids = broker_ids(admin, timeout)?.into_iter();
    ids.map(|id| Ok((id, of_broker_id(admin, id, timeout)?))).collect()
}

fn broker_ids(admin: &ClusterAdmin, timeout: Duration) -> Result<Vec<i32>> {
    admin.ask_metadata("asking for the brokers", false, timeout, |answer| {
        // SAFETY: the answer's array has the length given beside it.
        let brokers = unsafe { slice(answer.brokers, answer.broker_cnt) };
        brokers.iter().map(|broker| broker.id).collect()
    })
}

fn of_broker_id(
    admin: &ClusterAdmin,
    id: i32,
    timeout: Duration,
) -> Result<BTreeMap<String, String>> {
    let attempted = format!("asking for the configuration of broker {id}");
    let kind = ffi::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER;
    of_resource(admin, &attempted, &config_resource(kind, &id.to_string())?, timeout)
}

fn of_resource(
    admin: &ClusterAdmin,
    attempted: &str,
    resource: &Owned<ffi::rd_kafka_ConfigResource_t>,
    timeout: Duration,
) -> Result<BTreeMap<String, String>> {
    let mut pointer = resource.0;
    let rk = admin.client.rk();
    let answer = admin.request(attempted, timeout, |options, queue| {
        // SAFETY: the resource lives until the end of this function and is copied by the call.
        unsafe { ffi::rd_kafka_DescribeConfigs(rk, &mut pointer, 1, options, queue) };
    })?;
    // SAFETY: the answer is of this request and lives until the end of this function, as does all that it points to.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeConfigs_result(answer.0);
        let resource = only_resource(attempted, |count| {
            ffi::rd_kafka_DescribeConfigs_result_resources(result, count)
        })?;
        let mut count = 0;
        let entries = ffi::rd_kafka_ConfigResource_configs(resource, &mut count);
        Ok((0..count)
            .map(|index| {
                let entry = *entries.add(index);
                let name = text_of(ffi::rd_kafka_ConfigEntry_name(entry));
                (name, text_of(ffi::rd_kafka_ConfigEntry_value(entry)))
            })
            .collect())
    }
}

/// Changes settings of a topic, leaving the others.
pub(super) fn alter_topic(
    admin: &ClusterAdmin,
    topic: &str,
    configs: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<()> {
    if configs.is_empty() {
        return Ok(());
    }
    let attempted = format!("changing the configuration of topic \"{topic}\"");
    let resource = topic_resource(topic)?;
    for (name, value) in configs {
        let (name, value) = (c_string(name)?, c_string(value)?);
        // SAFETY: the resource lives, the strings end with NUL and are copied.
        let result = unsafe {
            ffi::rd_kafka_ConfigResource_add_incremental_config(
                resource.0,
                name.as_ptr(),
                ffi::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
                value.as_ptr(),
            )
        };
        if let Some(failure) = error::Failure::take(result) {
            return Err(failure.into_error(&attempted));
        }
    }
    let mut pointer = resource.0;
    let rk = admin.client.rk();
    let answer = admin.request(&attempted, timeout, |options, queue| {
        // SAFETY: the resource lives until the end of this function and is copied by the call.
        unsafe { ffi::rd_kafka_IncrementalAlterConfigs(rk, &mut pointer, 1, options, queue) };
    })?;
    // SAFETY: the answer is of this request and lives until the end of this function.
    unsafe {
        let result = ffi::rd_kafka_event_IncrementalAlterConfigs_result(answer.0);
        only_resource(&attempted, |count| {
            ffi::rd_kafka_IncrementalAlterConfigs_result_resources(result, count)
        })
    }
    .map(drop)
}

fn topic_resource(topic: &str) -> Result<Owned<ffi::rd_kafka_ConfigResource_t>> {
    config_resource(ffi::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, topic)
}

fn config_resource(
    kind: ffi::rd_kafka_ResourceType_t,
    name: &str,
) -> Result<Owned<ffi::rd_kafka_ConfigResource_t>> {
    let c_name = c_string(name)?;
    // SAFETY: the name ends with NUL and is copied.
    let pointer = unsafe { ffi::rd_kafka_ConfigResource_new(kind, c_name.as_ptr()) };
    if pointer.is_null() {
        return Err(Error::invalid(format!("\"{name}\" cannot be a topic's name")));
    }
    Ok(Owned(pointer, ffi::rd_kafka_ConfigResource_destroy))
}

/// The one resource of a configuration answer.
///
/// # Safety
/// `list` returns an array of live resources and its length.
unsafe fn only_resource(
    attempted: &str,
    list: impl FnOnce(*mut usize) -> *mut *const ffi::rd_kafka_ConfigResource_t,
) -> Result<*const ffi::rd_kafka_ConfigResource_t> {
    let mut count = 0;
    let resources = list(&mut count);
    if count == 0 {
        return Err(Error::new(ErrorKind::Retriable, format!("{attempted}: empty answer")));
    }
    // SAFETY: by the caller's promise.
    let (resource, code, text) = unsafe {
        let resource = *resources;
        let code: RDKafkaRespErr = ffi::rd_kafka_ConfigResource_error(resource);
        (resource, Code::from(code), text_of(ffi::rd_kafka_ConfigResource_error_string(resource)))
    };
    match code {
        Code::NoError => Ok(resource),
        code => Err(error::from_code(code, attempted, &text)),
    }
}
