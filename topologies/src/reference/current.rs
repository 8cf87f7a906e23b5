//! What a compacted topic holds now: the latest committed value of every key.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kstreams::kafka::{Consumer, ConsumerPurpose, KafkaClients, StartOffset};
use kstreams::serdes::Serde;
use kstreams::{Clock, Error, ErrorKind, Headers, RawRecord, Result, SystemClock, TopicPartition};

use super::entries::Entry;

/// Entries by key; `None`: the value there cannot be read.
pub type Current<T> = BTreeMap<String, Option<T>>;

/// Records that are taken over at once.
const BATCH_RECORDS: usize = 1_000;
/// Between two looks for records.
const WAIT: Duration = Duration::from_millis(100);

/// Reads the topic of `T` to its present end.
///
/// # Errors
/// `Invalid` where there is no such topic, `Retriable` where no broker or registry answers in time.
pub fn current<T: Entry>(
    clients: &dyn KafkaClients,
    serde: &Serde<T>,
    timeout: Duration,
) -> Result<Current<T>> {
    let found = clients.admin()?.describe_topics(&[T::TOPIC], timeout)?;
    let Some(topic) = found.get(T::TOPIC) else {
        return Err(Error::invalid(format!(
            "found no topic \"{}\", wanted it; run `aggregator topics apply`",
            T::TOPIC
        )));
    };
    let mut consumer = clients.consumer(ConsumerPurpose::Global)?;
    let mut latest: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    for partition in 0..topic.partitions {
        let partition = TopicPartition::new(T::TOPIC, partition);
        read_partition(&mut *consumer, &partition, timeout, &mut |record| {
            if let Some(key) = record.key {
                latest.insert(key, record.value);
            }
        })?;
    }
    let mut entries = Current::new();
    for (key, value) in latest {
        let Some(value) = value else { continue };
        let read = serde.deserializer().deserialize(T::TOPIC, &Headers::default(), Some(&value));
        let entry = match read {
            Ok(entry) => Some(entry),
            Err(error) if error.kind() == ErrorKind::BadRecord => None,
            Err(error) => return Err(error),
        };
        entries.insert(String::from_utf8_lossy(&key).into_owned(), entry);
    }
    Ok(entries)
}

fn read_partition(
    consumer: &mut dyn Consumer,
    partition: &TopicPartition,
    timeout: Duration,
    take: &mut dyn FnMut(RawRecord),
) -> Result<()> {
    let clock = SystemClock::default();
    let slot = consumer.assign(partition, StartOffset::Beginning)?;
    let mut deadline = clock.monotonic() + timeout;
    loop {
        let drained = consumer.drain(slot, BATCH_RECORDS, take)?;
        if drained.end_of_partition.is_some() {
            return consumer.unassign(slot);
        }
        if drained.records > 0 {
            deadline = clock.monotonic() + timeout;
        } else if clock.monotonic() > deadline {
            return Err(Error::retriable(format!(
                "{partition}: no record came within {} ms, wanted all up to the end; try again",
                timeout.as_millis()
            )));
        } else {
            consumer.wait(WAIT)?;
        }
    }
}
