//! The raw limit: librdkafka alone copies request-events to another topic, as cheaply as it can.
//!
//! Batch consumption, `producev`, raw commits; no engine, no decoding. Each value is scanned once, as a stand-in
//! for a reader that touches it. One thread, one producer, a commit every 100 ms. The engine's figures are given
//! as a part of this. Deliberately not built on `kstreams::kafka`: the limit must not share its faults.
#![allow(unsafe_code)] // the raw calls are what is measured; each block says why it is sound

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::bindings as ffi;
use rdkafka::bindings::rd_kafka_resp_err_t::{
    RD_KAFKA_RESP_ERR__QUEUE_FULL, RD_KAFKA_RESP_ERR_NO_ERROR,
};
use rdkafka::bindings::rd_kafka_vtype_t as vtype;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::Guarantee;
use crate::data::Topic;
use crate::kafka::{Cluster, REQUEST_TIMEOUT, all_partitions};
use crate::usage::Stopwatch;

const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const BATCH_RECORDS: usize = 1000;

/// Copies the whole input topic to `output`, which it creates.
pub(crate) fn run(cluster: &Cluster, guarantee: Guarantee, output: &str) -> Result<Value> {
    let input = Topic::Requests.name(&cluster.prefix);
    let partitions = Topic::Requests.partitions();
    let configs = [("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")];
    cluster.create_topics(&[(output.to_owned(), partitions)], &configs)?;

    let consumer: BaseConsumer = cluster.consumer_config(output).create()?;
    let total = cluster.record_count(&input, partitions)?;
    let mut remaining = total;
    let mut sender = Sender::new(cluster, guarantee, output)?;
    consumer.assign(&all_partitions(&input, partitions)?)?;
    let mut batches = Batches::new(&consumer);

    let mut watch = None;
    let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
    let mut last_commit = now();
    while remaining > 0 {
        // The watch starts when the first batch has come, before any of its records is touched.
        let copied = batches.poll(|record| {
            watch.get_or_insert_with(Stopwatch::start);
            positions.insert(record.partition, record.offset + 1);
            sender.send(record)
        })?;
        remaining -= copied;
        if last_commit.elapsed() >= COMMIT_INTERVAL || remaining == 0 {
            sender.commit(&consumer, &input, &positions)?;
            positions.clear();
            last_commit = now();
        }
    }
    let Some(watch) = watch else { bail!("topic \"{input}\" is empty: fill it with `generate`") };
    watch.figures("passthrough", guarantee.name(), total)
}

// A bench measures the machine it runs on: no clock port between.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// Reads batches of messages from a consumer's queue.
struct Batches<'c> {
    queue: *mut ffi::rd_kafka_queue_t,
    messages: Vec<*mut ffi::rd_kafka_message_t>,
    // The queue belongs to this consumer and must go first.
    _consumer: &'c BaseConsumer,
}

impl<'c> Batches<'c> {
    fn new(consumer: &'c BaseConsumer) -> Self {
        // SAFETY: the consumer is alive; the returned reference to its queue is released in `drop`.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        assert!(!queue.is_null(), "a consumer with a group has a queue");
        Self { queue, messages: vec![std::ptr::null_mut(); BATCH_RECORDS], _consumer: consumer }
    }

    /// Hands over what has arrived, waiting at most 50 ms for the first record; returns how many there were.
    fn poll(
        &mut self,
        mut each: impl FnMut(&ffi::rd_kafka_message_t) -> Result<()>,
    ) -> Result<u64> {
        // SAFETY: the queue is alive and `messages` has room for as many pointers as stated.
        let count = unsafe {
            let (room, length) = (self.messages.as_mut_ptr(), self.messages.len());
            ffi::rd_kafka_consume_batch_queue(self.queue, 50, room, length)
        };
        let count = usize::try_from(count)?;
        let mut result = Ok(());
        for message in &self.messages[..count] {
            // SAFETY: librdkafka filled the first `count` entries with messages that are ours until destroyed, which
            // happens once, right after the last use.
            unsafe {
                let record = &**message;
                if result.is_ok() {
                    result = match record.err {
                        RD_KAFKA_RESP_ERR_NO_ERROR => each(record),
                        error => Err(anyhow::anyhow!("consuming: {error:?}")),
                    };
                }
                ffi::rd_kafka_message_destroy(*message);
            }
        }
        result.map(|()| count as u64)
    }
}

impl Drop for Batches<'_> {
    fn drop(&mut self) {
        // SAFETY: taken in `new`, released once.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) }
    }
}

/// Sends copies of messages, in transactions where exactly once is asked for.
struct Sender {
    producer: BaseProducer,
    topic: *mut ffi::rd_kafka_topic_t,
    guarantee: Guarantee,
    in_transaction: bool,
}

impl Sender {
    fn new(cluster: &Cluster, guarantee: Guarantee, output: &str) -> Result<Self> {
        let mut config = cluster.config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("batch.size", "262144")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "1048576")
            .set("retry.backoff.ms", "10")
            .set("delivery.report.only.error", "true");
        if guarantee == Guarantee::Eos {
            config.set("transactional.id", output).set("transaction.timeout.ms", "60000");
        }
        let producer: BaseProducer = config.create()?;
        if guarantee == Guarantee::Eos {
            producer.init_transactions(REQUEST_TIMEOUT)?;
        }
        let name = CString::new(output)?;
        // SAFETY: the producer is alive, the name is copied, the handle is released in `drop`, before the producer.
        let topic = unsafe {
            let client = producer.client().native_ptr();
            ffi::rd_kafka_topic_new(client, name.as_ptr(), std::ptr::null_mut())
        };
        assert!(!topic.is_null(), "a topic handle can be made for any valid name");
        Ok(Self { producer, topic, guarantee, in_transaction: false })
    }

    fn send(&mut self, record: &ffi::rd_kafka_message_t) -> Result<()> {
        if self.guarantee == Guarantee::Eos && !self.in_transaction {
            self.producer.begin_transaction()?;
            self.in_transaction = true;
        }
        // SAFETY: payload and length describe the message's value, which lives until it is destroyed.
        std::hint::black_box(scan(unsafe {
            std::slice::from_raw_parts(record.payload.cast::<u8>(), record.len)
        }));
        loop {
            // SAFETY: all pointers are valid for the call; RD_KAFKA_MSG_F_COPY makes librdkafka copy key and value.
            let error = unsafe {
                ffi::rd_kafka_producev(
                    self.producer.client().native_ptr(),
                    vtype::RD_KAFKA_VTYPE_RKT,
                    self.topic,
                    vtype::RD_KAFKA_VTYPE_PARTITION,
                    record.partition,
                    vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                    ffi::RD_KAFKA_MSG_F_COPY,
                    vtype::RD_KAFKA_VTYPE_VALUE,
                    record.payload.cast::<c_void>(),
                    record.len,
                    vtype::RD_KAFKA_VTYPE_KEY,
                    record.key.cast::<c_void>(),
                    record.key_len,
                    vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                    ffi::rd_kafka_message_timestamp(record, std::ptr::null_mut()),
                    vtype::RD_KAFKA_VTYPE_END,
                )
            };
            match error {
                RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(()),
                RD_KAFKA_RESP_ERR__QUEUE_FULL => self.producer.poll(Duration::from_millis(5)),
                error => bail!("producing: {error:?}"),
            }
        }
    }

    /// Makes durable what was sent, together with the input positions.
    fn commit(
        &mut self,
        consumer: &BaseConsumer,
        input: &str,
        positions: &BTreeMap<i32, i64>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in positions {
            offsets.add_partition_offset(input, *partition, Offset::Offset(*offset))?;
        }
        match self.guarantee {
            Guarantee::Alo => {
                self.producer.flush(REQUEST_TIMEOUT)?;
                Ok(consumer.commit(&offsets, CommitMode::Sync)?)
            }
            Guarantee::Eos => {
                let Some(group) = consumer.group_metadata() else { bail!("no group metadata") };
                self.producer.send_offsets_to_transaction(&offsets, &group, REQUEST_TIMEOUT)?;
                self.in_transaction = false;
                self.commit_transaction()
            }
        }
    }

    /// Commits without rust-rdkafka's flush, which waits in slices of 100 ms.
    fn commit_transaction(&self) -> Result<()> {
        let start = now();
        loop {
            // SAFETY: the producer is alive; an error object is ours and destroyed once, after its last use.
            unsafe {
                let error =
                    ffi::rd_kafka_commit_transaction(self.producer.client().native_ptr(), 200);
                if error.is_null() {
                    return Ok(());
                }
                let retriable = ffi::rd_kafka_error_is_retriable(error) != 0;
                let text = CStr::from_ptr(ffi::rd_kafka_error_string(error)).to_string_lossy();
                let text = text.into_owned();
                ffi::rd_kafka_error_destroy(error);
                if !retriable || start.elapsed() > REQUEST_TIMEOUT {
                    bail!("committing a transaction: {text}");
                }
            }
            self.producer.poll(Duration::ZERO);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // SAFETY: taken in `new`, released once, while the producer is alive.
        unsafe { ffi::rd_kafka_topic_destroy(self.topic) }
    }
}

fn scan(value: &[u8]) -> u64 {
    let (words, _) = value.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}
