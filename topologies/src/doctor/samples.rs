//! The newest records of every topic: whether they lie where their keys belong, are in the contract's frame, and are not from the future.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{
    Consumer, ConsumerPurpose, KafkaClients as _, StartOffset, partition_for_key,
};
use kstreams::serdes::schema::AvroSchema;
use kstreams::serdes::{SchemaRegistry as _, wire};
use kstreams::{Clock as _, RawRecord, Result, SystemClock, Timestamp, TopicPartition};

use super::{Findings, Patient};
use crate::schemas;
use crate::topics::TOPICS;

/// Records taken from a partition at once.
const BATCH_RECORDS: usize = 500;
/// How long to sleep at most while records are on their way.
const WAIT: Duration = Duration::from_millis(100);

/// What the newest records of a topic are like.
#[derive(Debug, Default)]
struct Sample {
    records: usize,
    keyed: usize,
    /// Keys on another partition than theirs.
    misplaced: usize,
    /// Those of them that are where librdkafka's default puts them.
    by_crc32: usize,
    first_misplaced: Option<String>,
    newest: Option<Timestamp>,
    not_framed: usize,
    schema_ids: BTreeSet<u32>,
}

pub(super) fn look(
    patient: &mut Patient<'_>,
    clients: &LibrdkafkaClients,
    has_registry: bool,
    findings: &mut Findings,
) {
    let mut names = BTreeMap::new();
    for topic in TOPICS {
        let Some(description) = patient.topics.get(topic.name) else { continue };
        let sample = match sample(patient, clients, topic.name, description.partitions) {
            Ok(sample) => sample,
            Err(error) => {
                findings.blind("partitioner", topic.name, &error);
                continue;
            }
        };
        partitioner(topic.name, &sample, findings);
        future(patient, topic.name, &sample, findings);
        if has_registry
            && let Err(error) = frames(patient, topic.name, &sample, &mut names, findings)
        {
            findings.blind("frames", topic.name, &error);
        }
    }
}

fn sample(
    patient: &Patient<'_>,
    clients: &LibrdkafkaClients,
    topic: &str,
    partitions: i32,
) -> Result<Sample> {
    let mut consumer = clients.consumer(ConsumerPurpose::Main)?;
    let mut sample = Sample::default();
    let wanted = i64::try_from(patient.settings.doctor.sample_records).unwrap_or(i64::MAX);
    for partition in 0..partitions {
        let place = TopicPartition { topic: topic.into(), partition };
        let (first, end) = consumer.offsets(&place, patient.timeout)?;
        let start = first.max(end.saturating_sub(wanted));
        if start < end {
            let mut add = |record: RawRecord| sample.add(&place, &record, partitions);
            read(&mut *consumer, &place, (start, end), patient.timeout, &mut add)?;
        }
    }
    Ok(sample)
}

/// Shows the records of a partition from `start` to `end`; what does not come in time is left out.
fn read(
    consumer: &mut dyn Consumer,
    partition: &TopicPartition,
    (start, end): (i64, i64),
    timeout: Duration,
    show: &mut dyn FnMut(RawRecord),
) -> Result<()> {
    let clock = SystemClock::default();
    let deadline = clock.monotonic() + timeout;
    let slot = consumer.assign(partition, StartOffset::At(start))?;
    let mut next = start;
    while next < end && clock.monotonic() < deadline {
        let drained = consumer.drain(slot, BATCH_RECORDS, &mut |record| {
            next = record.offset + 1;
            show(record);
        })?;
        match (drained.records, drained.end_of_partition) {
            (0, Some(_)) => break,
            (0, None) => consumer.wait(WAIT)?,
            _ => {}
        }
    }
    consumer.unassign(slot)
}

impl Sample {
    fn add(&mut self, place: &TopicPartition, record: &RawRecord, partitions: i32) {
        self.records += 1;
        self.newest = self.newest.max(Some(record.timestamp));
        if let Some(value) = &record.value {
            match wire::split(value) {
                Ok((id, _)) => drop(self.schema_ids.insert(id)),
                Err(_) => self.not_framed += 1,
            }
        }
        let Some(key) = &record.key else { return };
        self.keyed += 1;
        let belongs = partition_for_key(key, partitions);
        if belongs == place.partition {
            return;
        }
        self.misplaced += 1;
        self.by_crc32 += usize::from(crc32_partition(key, partitions) == place.partition);
        self.first_misplaced.get_or_insert_with(|| {
            format!("{place}@{}, a key of partition {belongs}", record.offset)
        });
    }
}

/// Where librdkafka puts a key by default: `consistent_random`.
fn crc32_partition(key: &[u8], partitions: i32) -> i32 {
    let partition = crc32fast::hash(key) % partitions.unsigned_abs();
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn partitioner(topic: &str, sample: &Sample, findings: &mut Findings) {
    let Sample { records, keyed, misplaced, by_crc32, first_misplaced, .. } = sample;
    let Some(first) = first_misplaced else {
        let found =
            format!("{keyed} keys of {records} sampled records lie where murmur2 puts them");
        return findings.ok("partitioner", topic, found);
    };
    let culprit = if by_crc32 == misplaced {
        "all of them where CRC32 puts them: librdkafka's default, also of its Python, Go and .NET clients"
    } else {
        "not by CRC32, librdkafka's default: by a partitioner or partition of the producer's own"
    };
    let found = format!(
        "found {misplaced} of {keyed} sampled keys on another partition than murmur2's (first: {first}), {culprit}"
    );
    let cure = "set partitioner=murmur2_random in that producer and send those records again: state of one key lies in two tasks";
    findings.fail("partitioner", topic, found, cure);
}

fn future(patient: &Patient<'_>, topic: &str, sample: &Sample, findings: &mut Findings) {
    let Some(newest) = sample.newest else { return };
    let now = patient.clock.now();
    let ahead_ms = newest.since(now).as_millis();
    let max_ms = patient.settings.doctor.clock_skew_max_ms;
    if ahead_ms > u128::from(max_ms) {
        let found = format!(
            "found a record that is {ahead_ms} ms in the future, wanted at most {max_ms} (doctor.clock_skew_max_ms)"
        );
        let cure = "set the clocks of this machine and of the producer by one NTP server (`chronyc tracking`)";
        findings.fail("clock", topic, found, cure);
    }
}

/// `names`: what the registry has said of an id.
fn frames(
    patient: &Patient<'_>,
    topic: &str,
    sample: &Sample,
    names: &mut BTreeMap<u32, Option<String>>,
    findings: &mut Findings,
) -> Result<()> {
    let before = findings.0.len();
    if sample.not_framed > 0 {
        let found = format!(
            "found {} of {} sampled values without a schema id before them",
            sample.not_framed, sample.records
        );
        let cure = "use the Avro serializer of the registry in that producer; such records become dead letters";
        findings.warn("frames", topic, found, cure);
    }
    let contracts = schemas::embedded()?;
    for id in &sample.schema_ids {
        if !names.contains_key(id) {
            let schema = patient.registry.schema_by_id(*id)?;
            let name =
                schema.map(|text| AvroSchema::parse(&text).map(|schema| schema.name().to_owned()));
            names.insert(*id, name.transpose()?);
        }
        let cure = "such records become dead letters (`aggregator dlq list`): see who writes them";
        match &names[id] {
            None => {
                let found = format!(
                    "found the schema id {id}, which the registry does not know: written with another registry"
                );
                let cure = "give that producer the registry of schema_registry.url; such records become dead letters";
                findings.fail("frames", topic, found, cure);
            }
            Some(name)
                if !contracts.iter().any(|one| one.topic == topic && one.schema.name() == name) =>
            {
                findings.warn(
                    "frames",
                    topic,
                    format!("found records of the type {name}, which no contract allows there"),
                    cure,
                );
            }
            Some(_) => {}
        }
    }
    if findings.0.len() == before {
        let found = format!(
            "{} sampled records are of {} known schemas",
            sample.records,
            sample.schema_ids.len()
        );
        findings.ok("frames", topic, found);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misplaced_keys_are_told_from_their_partitioner() {
        // Python's confluent-kafka 2.x on six partitions puts "north" by CRC32.
        let key = b"north";
        let (crc, murmur) = (crc32_partition(key, 6), partition_for_key(key, 6));
        assert_ne!(crc, murmur);
        let record = RawRecord {
            offset: 7,
            timestamp: Timestamp::from_millis(1),
            key: Some(key.as_slice().into()),
            value: None,
            headers: kstreams::Headers::default(),
        };
        for (partition, wanted) in [
            (murmur, (0, 0)),
            (crc, (1, 1)),
            ((0..6).find(|p| ![crc, murmur].contains(p)).unwrap(), (1, 0)),
        ] {
            let mut sample = Sample::default();
            sample.add(&TopicPartition { topic: "t".into(), partition }, &record, 6);
            assert_eq!((sample.misplaced, sample.by_crc32), wanted, "{partition}");
        }
    }
}
