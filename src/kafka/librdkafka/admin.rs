//! Topic administration. Cold; every call waits, bounded, for the broker.
#![allow(unsafe_code)] // admin requests are C objects

use std::collections::BTreeMap;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};

use super::client::{Client, ErrorText, c_string, millis, text_of};
use super::config::ClientSettings;
use super::partitions::{self, PartitionList};
use super::queue::Queue;
use super::{configs, error, groups, topics};
use crate::error::{Error, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    Admin, ClusterHealth, CommittedOffset, GroupMember, NewTopic, TopicDescription,
};
use crate::time::{Clock, SystemClock};

/// Added to the broker's own time-out while waiting for its answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// Between two looks for a topic that was just created.
pub(super) const METADATA_PAUSE: Duration = Duration::from_millis(20);

/// The admin client. Fields drop in order: the queue before the client.
pub(super) struct ClusterAdmin {
    results: Queue,
    pub(super) client: Client,
}

/// An admin request's answer; freed on drop.
pub(super) struct Answer(pub(super) *mut ffi::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { ffi::rd_kafka_event_destroy(self.0) };
    }
}

/// A C object that is freed on drop.
pub(super) struct Owned<T>(pub(super) *mut T, pub(super) unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made by the constructor that belongs to the destructor, freed once.
        unsafe { self.1(self.0) };
    }
}

impl ClusterAdmin {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self> {
        let properties = settings.admin_properties();
        let client = Client::new(RDKafkaType::RD_KAFKA_PRODUCER, &properties)?;
        Ok(Self { results: Queue::new(&client), client })
    }

    /// Brokers and topics as the cluster has them now. Asks for all topics: asking for one by name would create it where
    /// the broker creates topics by itself.
    pub(super) fn cluster(
        &self,
        timeout: Duration,
    ) -> Result<(usize, BTreeMap<String, TopicDescription>)> {
        let mut topics = BTreeMap::new();
        let brokers = self.metadata(timeout, |topic, partitions| {
            let first = partitions.iter().find(|partition| partition.id == 0);
            let description = TopicDescription {
                partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                replication_factor: first.map_or(0, |partition| partition.replica_cnt),
            };
            topics.insert(topic, description);
        })?;
        Ok((brokers, topics))
    }

    /// Shows every topic with its partitions; says how many brokers there are.
    fn metadata(
        &self,
        timeout: Duration,
        mut show: impl FnMut(String, &[ffi::rd_kafka_metadata_partition]),
    ) -> Result<usize> {
        self.ask_metadata("asking for the topics", true, timeout, |answer| {
            // SAFETY: the answer's arrays have the lengths given beside them.
            unsafe {
                for topic in slice(answer.topics, answer.topic_cnt) {
                    if Code::from(topic.err) == Code::NoError && topic.partition_cnt > 0 {
                        show(text_of(topic.topic), slice(topic.partitions, topic.partition_cnt));
                    }
                }
            }
            usize::try_from(answer.broker_cnt).unwrap_or(0)
        })
    }

    /// Reads what a broker says of the cluster: its brokers, and all topics where they are wanted.
    pub(super) fn ask_metadata<T>(
        &self,
        attempted: &str,
        all_topics: bool,
        timeout: Duration,
        read: impl FnOnce(&ffi::rd_kafka_metadata) -> T,
    ) -> Result<T> {
        self.client.reach(timeout)?;
        let mut metadata = ptr::null();
        // SAFETY: the handle lives; the answer is read while it lives and then freed once.
        unsafe {
            let code = Code::from(ffi::rd_kafka_metadata(
                self.client.rk(),
                i32::from(all_topics),
                ptr::null_mut(),
                &mut metadata,
                millis(timeout),
            ));
            if code != Code::NoError {
                return Err(self.failed(code, attempted, "", timeout));
            }
            let found = read(&*metadata);
            ffi::rd_kafka_metadata_destroy(metadata);
            Ok(found)
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) fn request(
        &self,
        attempted: &str,
        timeout: Duration,
        send: impl FnOnce(*const ffi::rd_kafka_AdminOptions_t, *mut ffi::rd_kafka_queue_t),
    ) -> Result<Answer> {
        self.client.reach(timeout).map_err(|error| error.context(attempted))?;
        let mut text = ErrorText::default();
        // SAFETY: handle and queue live; options are copied by the request; the text buffer has the given size.
        let event = unsafe {
            let any = ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ANY;
            let options = Owned(
                ffi::rd_kafka_AdminOptions_new(self.client.rk(), any),
                ffi::rd_kafka_AdminOptions_destroy,
            );
            let code = ffi::rd_kafka_AdminOptions_set_request_timeout(
                options.0,
                millis(timeout),
                text.as_mut_ptr(),
                ErrorText::SIZE,
            );
            error::check(code, || format!("{attempted}: {}", text.get()))?;
            send(options.0, self.results.as_ptr());
            ffi::rd_kafka_queue_poll(self.results.as_ptr(), millis(timeout + ANSWER_MARGIN))
        };
        if event.is_null() {
            return Err(self.client.unreachable(timeout).context(attempted));
        }
        let answer = Answer(event);
        // SAFETY: the event lives.
        let (code, text) = unsafe {
            (
                Code::from(ffi::rd_kafka_event_error(answer.0)),
                text_of(ffi::rd_kafka_event_error_string(answer.0)),
            )
        };
        match code {
            Code::NoError => Ok(answer),
            code => Err(self.failed(code, attempted, &text, timeout)),
        }
    }

    /// The controller answers before brokers know a new topic; a subscription in between fails for a missing topic.
    fn wait_until_known(&self, topics: &[NewTopic], timeout: Duration) -> Result<()> {
        let clock = SystemClock::default();
        let deadline = clock.monotonic() + timeout;
        loop {
            let (_, known) = self.cluster(timeout)?;
            let Some(missing) = topics.iter().find(|topic| !known.contains_key(&topic.name)) else {
                return Ok(());
            };
            if clock.monotonic() > deadline {
                return Err(Error::retriable(format!(
                    "topic \"{}\" was created, but no broker knows it after {} s; try again",
                    missing.name,
                    timeout.as_secs_f64(),
                )));
            }
            std::thread::park_timeout(METADATA_PAUSE);
        }
    }

    pub(super) fn failed(
        &self,
        code: Code,
        attempted: &str,
        text: &str,
        timeout: Duration,
    ) -> Error {
        match code {
            Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::TimedOutQueue => self.client.unreachable(timeout).context(attempted),
            code => error::from_code(code, attempted, text),
        }
    }
}

impl Admin for ClusterAdmin {
    fn topics(&mut self, timeout: Duration) -> Result<BTreeMap<String, TopicDescription>> {
        Ok(self.cluster(timeout)?.1)
    }

    fn describe_topics(
        &mut self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicDescription>> {
        topics::describe(self, topics, timeout)
    }

    fn create_topics(&mut self, topics: &[NewTopic], timeout: Duration) -> Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        let requests = topics.iter().map(native_topic).collect::<Result<Vec<_>>>()?;
        let mut pointers: Vec<_> = requests.iter().map(|request| request.0).collect();
        let attempted = format!("creating {} topics", topics.len());
        let rk = self.client.rk();
        let answer = self.request(&attempted, timeout, |options, queue| {
            // SAFETY: the requests live until the end of this function and are copied by the call.
            unsafe {
                let list = pointers.as_mut_ptr();
                ffi::rd_kafka_CreateTopics(rk, list, pointers.len(), options, queue);
            }
        })?;
        // SAFETY: the answer is of this request and lives until the end of this function.
        let outcomes = unsafe {
            let result = ffi::rd_kafka_event_CreateTopics_result(answer.0);
            topic_outcomes(|count| ffi::rd_kafka_CreateTopics_result_topics(result, count))
        };
        first_failure("creating topic", outcomes, &[Code::TopicAlreadyExists])?;
        self.wait_until_known(topics, timeout)
    }

    fn topic_configs(
        &mut self,
        topic: &str,
        timeout: Duration,
    ) -> Result<BTreeMap<String, String>> {
        configs::of_topic(self, topic, timeout)
    }

    fn broker_configs(
        &mut self,
        timeout: Duration,
    ) -> Result<BTreeMap<i32, BTreeMap<String, String>>> {
        configs::of_brokers(self, timeout)
    }

    fn alter_topic_configs(
        &mut self,
        topic: &str,
        configs: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<()> {
        configs::alter_topic(self, topic, configs, timeout)
    }

    fn create_partitions(&mut self, topic: &str, total: i32, timeout: Duration) -> Result<()> {
        let name = c_string(topic)?;
        let mut text = ErrorText::default();
        // SAFETY: the name ends with NUL; the buffer has the given size.
        let pointer = unsafe {
            ffi::rd_kafka_NewPartitions_new(
                name.as_ptr(),
                usize::try_from(total).unwrap_or(0),
                text.as_mut_ptr(),
                ErrorText::SIZE,
            )
        };
        if pointer.is_null() {
            return Err(Error::invalid(format!(
                "{total} partitions of \"{topic}\": {}",
                text.get()
            )));
        }
        let request = Owned(pointer, ffi::rd_kafka_NewPartitions_destroy);
        let mut pointer = request.0;
        let rk = self.client.rk();
        let answer = self.request("adding partitions", timeout, |options, queue| {
            // SAFETY: the request lives until the end of this function and is copied by the call.
            unsafe { ffi::rd_kafka_CreatePartitions(rk, &mut pointer, 1, options, queue) };
        })?;
        // SAFETY: the answer is of this request and lives until the end of this function.
        let outcomes = unsafe {
            let result = ffi::rd_kafka_event_CreatePartitions_result(answer.0);
            topic_outcomes(|count| ffi::rd_kafka_CreatePartitions_result_topics(result, count))
        };
        first_failure("adding partitions to topic", outcomes, &[])
    }

    fn describe_group(&mut self, group: &str, timeout: Duration) -> Result<Vec<GroupMember>> {
        groups::describe(self, group, timeout)
    }

    fn group_offsets(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>> {
        groups::offsets(self, group, partitions, timeout)
    }

    fn cluster_health(&mut self, topics: &[&str], timeout: Duration) -> Result<ClusterHealth> {
        let mut health = ClusterHealth::default();
        health.brokers = self.metadata(timeout, |topic, partitions| {
            if topics.contains(&topic.as_str()) {
                let lacks = |one: &&ffi::rd_kafka_metadata_partition| one.isr_cnt < one.replica_cnt;
                health.under_replicated += partitions.iter().filter(lacks).count();
                health.offline += partitions.iter().filter(|one| one.leader < 0).count();
            }
        })?;
        Ok(health)
    }

    fn broker_count(&mut self, timeout: Duration) -> Result<usize> {
        Ok(self.cluster(timeout)?.0)
    }

    fn delete_records(
        &mut self,
        before: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<()> {
        if before.is_empty() {
            return Ok(());
        }
        let attempted = format!("deleting records of {} partitions", before.len());
        let list = PartitionList::new(before.iter().map(|(p, offset)| (p, *offset)))?;
        // SAFETY: the list lives and is copied.
        let request = Owned(
            unsafe { ffi::rd_kafka_DeleteRecords_new(list.as_ptr()) },
            ffi::rd_kafka_DeleteRecords_destroy,
        );
        let mut pointer = request.0;
        let rk = self.client.rk();
        let answer = self.request(&attempted, timeout, |options, queue| {
            // SAFETY: the request lives until the end of this function and is copied by the call.
            unsafe { ffi::rd_kafka_DeleteRecords(rk, &mut pointer, 1, options, queue) };
        })?;
        // SAFETY: the answer is of this request and lives until the end of this function.
        let entries = unsafe {
            let result = ffi::rd_kafka_event_DeleteRecords_result(answer.0);
            partitions::read(ffi::rd_kafka_DeleteRecords_result_offsets(result))
        };
        match entries.into_iter().find(|entry| entry.2 != Code::NoError) {
            Some((partition, _, code)) => {
                Err(error::from_code(code, &format!("deleting records of {partition}"), ""))
            }
            None => Ok(()),
        }
    }
}

fn native_topic(topic: &NewTopic) -> Result<Owned<ffi::rd_kafka_NewTopic_t>> {
    let name = c_string(&topic.name)?;
    let mut text = ErrorText::default();
    // SAFETY: the name ends with NUL; the buffer has the given size.
    let pointer = unsafe {
        ffi::rd_kafka_NewTopic_new(
            name.as_ptr(),
            topic.partitions,
            topic.replication_factor,
            text.as_mut_ptr(),
            ErrorText::SIZE,
        )
    };
    if pointer.is_null() {
        return Err(Error::invalid(format!("topic \"{}\": {}", topic.name, text.get())));
    }
    let request = Owned(pointer, ffi::rd_kafka_NewTopic_destroy);
    for (key, value) in &topic.configs {
        let (c_key, c_value) = (c_string(key)?, c_string(value)?);
        // SAFETY: the request lives, the strings end with NUL and are copied.
        let code = unsafe {
            ffi::rd_kafka_NewTopic_set_config(request.0, c_key.as_ptr(), c_value.as_ptr())
        };
        error::check(code, || format!("topic \"{}\", configuration \"{key}\"", topic.name))?;
    }
    Ok(request)
}

/// # Safety
/// `list` returns an array of live results and its length.
unsafe fn topic_outcomes(
    list: impl FnOnce(*mut usize) -> *mut *const ffi::rd_kafka_topic_result_t,
) -> Vec<(String, Code, String)> {
    let mut count = 0;
    let results = list(&mut count);
    // SAFETY: by the caller's promise.
    unsafe {
        (0..count)
            .map(|index| {
                let result = *results.add(index);
                (
                    text_of(ffi::rd_kafka_topic_result_name(result)),
                    ffi::rd_kafka_topic_result_error(result).into(),
                    text_of(ffi::rd_kafka_topic_result_error_string(result)),
                )
            })
            .collect()
    }
}

fn first_failure(
    attempted: &str,
    outcomes: Vec<(String, Code, String)>,
    accepted: &[Code],
) -> Result<()> {
    let failed = outcomes
        .into_iter()
        .find(|(_, code, _)| *code != Code::NoError && !accepted.contains(code));
    match failed {
        Some((topic, code, text)) => {
            Err(error::from_code(code, &format!("{attempted} \"{topic}\""), &text))
        }
        None => Ok(()),
    }
}

/// # Safety
/// `data` points to `count` live elements, or `count` is 0.
pub(super) unsafe fn slice<'a, T>(data: *const T, count: i32) -> &'a [T] {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(data, count) }
}
