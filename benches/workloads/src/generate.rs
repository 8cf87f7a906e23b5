//! Fills the input topics, and compares topics with the data set.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::assignment;
use crate::data::{self, InputRecord, Topic};
use crate::hash::crc32c;
use crate::kafka::Cluster;

/// How much of the data set is wanted.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Records on request-events.
    #[arg(long, default_value_t = data::REQUESTS)]
    requests: u32,
    /// Records on workflow-events.
    #[arg(long, default_value_t = data::ASSIGNMENTS)]
    assignments: u32,
}

/// Creates and fills the three input topics, and those of the application's topology.
pub(crate) fn fill(cluster: &Cluster, size: Size) -> Result<Value> {
    let topics = Topic::ALL.map(|topic| (topic.name(&cluster.prefix), topic.partitions()));
    let configs = [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")];
    cluster.create_topics(&topics, &configs)?;
    let names = topics.map(|(name, _)| name);
    let producer = producer(cluster)?;
    let mut counts = [0u64; 3];
    data::generate(size.requests, size.assignments, |record| {
        counts[record.topic as usize] += 1;
        send(&producer, &names[record.topic as usize], &record)
    })?;
    producer.flush(Duration::from_secs(120)).context("waiting for the last records")?;
    // A lost record would show as a wrong checksum of every workload; say so here, where the cause is.
    check(cluster, size)?;
    assignment::fill(cluster)?;
    Ok(json!({"requests": counts[0], "workflow": counts[1], "security": counts[2]}))
}

/// A producer that keeps the order of what it sends.
pub(crate) fn producer(cluster: &Cluster) -> Result<BaseProducer> {
    let mut config = cluster.config();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "65536")
        .set("queue.buffering.max.kbytes", "65536");
    Ok(config.create()?)
}

/// Sends a record to its partition, waiting while the local queue is full.
pub(crate) fn send(producer: &BaseProducer, topic: &str, record: &InputRecord<'_>) -> Result<()> {
    let next = BaseRecord::to(topic)
        .partition(record.partition)
        .timestamp(record.timestamp_ms)
        .key(record.key)
        .payload(record.value);
    queue(producer, next)
}

/// Hands a record to the producer, waiting while its queue is full.
pub(crate) fn queue(producer: &BaseProducer, mut next: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
    loop {
        match producer.send(next) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                producer.poll(Duration::from_millis(50));
                next = same;
            }
            Err((error, record)) => {
                return Err(error).context(format!("sending to \"{}\"", record.topic));
            }
        }
    }
}

/// The contents of one partition: its length and a hash over its records in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PartitionDigest {
    records: u64,
    hash: u64,
}

impl PartitionDigest {
    fn add(&mut self, timestamp_ms: i64, key: &[u8], value: &[u8]) {
        let length = (key.len() as u32).to_be_bytes();
        let crc = crc32c(&[&timestamp_ms.to_be_bytes(), &length, key, value]);
        self.records += 1;
        self.hash = (self.hash ^ u64::from(crc)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

/// Compares key, value, timestamp, partition and order of every record on the input topics with the data set.
///
/// # Errors
/// Names the first partition that differs.
pub(crate) fn check(cluster: &Cluster, size: Size) -> Result<Value> {
    let mut wanted: BTreeMap<(Topic, i32), PartitionDigest> = BTreeMap::new();
    data::generate(size.requests, size.assignments, |record| {
        let digest = wanted.entry((record.topic, record.partition)).or_default();
        digest.add(record.timestamp_ms, record.key, record.value);
        anyhow::Ok(())
    })?;
    let mut found: BTreeMap<(Topic, i32), PartitionDigest> = BTreeMap::new();
    for topic in Topic::ALL {
        cluster.read_topic(&topic.name(&cluster.prefix), |message| {
            found.entry((topic, message.partition())).or_default().add(
                message.timestamp().to_millis().unwrap_or(-1),
                message.key().unwrap_or_default(),
                message.payload().unwrap_or_default(),
            );
        })?;
    }
    let all: std::collections::BTreeSet<_> = wanted.keys().chain(found.keys()).copied().collect();
    for place in all {
        let (found, wanted) = (found.get(&place), wanted.get(&place));
        if found != wanted {
            let topic = place.0.name(&cluster.prefix);
            bail!("{topic}-{}: found {found:?}, wanted {wanted:?}; delete the topics", place.1);
        }
    }
    let records: u64 = found.values().map(|digest| digest.records).sum();
    Ok(json!({"partitions": found.len(), "records": records, "equal": true}))
}
