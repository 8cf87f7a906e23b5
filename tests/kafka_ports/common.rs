//! What the tests share: topics, records, draining, waiting.

use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::{
    Consumer, KafkaClients, Membership, MembershipEvent, NewTopic, OutgoingRecord, PartitionSlot,
    Producer,
};
use kstreams::{Clock, Headers, RawRecord, SystemClock, Timestamp, TopicPartition};

pub(crate) const WAIT: Duration = Duration::from_secs(30);

pub(crate) fn create_topic(clients: &dyn KafkaClients, name: &str, partitions: i32) {
    let topic = NewTopic {
        name: name.into(),
        partitions,
        replication_factor: 1,
        configs: Default::default(),
    };
    let mut admin = clients.admin().unwrap();
    admin.create_topics(&[topic], WAIT).unwrap();
    until("the topic is known", || {
        admin
            .describe_topics(&[name], WAIT)
            .unwrap()
            .get(name)
            .is_some_and(|t| t.partitions == partitions)
    });
}

pub(crate) fn partitions(
    topic: &str,
    numbers: impl IntoIterator<Item = i32>,
) -> Vec<TopicPartition> {
    let topic: Arc<str> = topic.into();
    numbers.into_iter().map(|p| TopicPartition::new(Arc::clone(&topic), p)).collect()
}

/// Repeats until the condition holds; what it calls must wait by itself.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::default();
    while !holds() {
        assert!(clock.monotonic() < WAIT, "waited {WAIT:?} until {what}");
    }
}

/// Sends `values` to one partition, key = value, timestamp = 1000 + index.
pub(crate) fn send(producer: &mut dyn Producer, partition: &TopicPartition, values: &[&str]) {
    let topic = producer.topic(&partition.topic).unwrap();
    for (index, value) in values.iter().enumerate() {
        producer
            .send(OutgoingRecord {
                topic,
                partition: Some(partition.partition),
                timestamp: Timestamp::from_millis(1000 + index as i64),
                key: Some(value.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &Headers::default(),
            })
            .unwrap();
    }
}

pub(crate) fn produce(clients: &dyn KafkaClients, partition: &TopicPartition, values: &[&str]) {
    let mut producer = clients.producer(None).unwrap();
    send(&mut *producer, partition, values);
    producer.flush(WAIT).unwrap();
}

/// Drains until the end of the partition; the records and the end's offset.
pub(crate) fn read_to_end(
    consumer: &mut dyn Consumer,
    slot: PartitionSlot,
) -> (Vec<RawRecord>, i64) {
    let mut records = Vec::new();
    let mut end = None;
    until("the partition's end is reached", || {
        end =
            consumer.drain(slot, 100, &mut |record| records.push(record)).unwrap().end_of_partition;
        end.is_some() || {
            consumer.wait(Duration::from_millis(100)).unwrap();
            false
        }
    });
    (records, end.unwrap())
}

pub(crate) fn values(records: &[RawRecord]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.as_ref().unwrap().to_vec()).unwrap()).collect()
}

/// Polls a member until it has an event that is no trouble.
pub(crate) fn next_event(member: &mut dyn Membership) -> MembershipEvent {
    let mut found = None;
    until("the member has an event", || {
        match member.poll(Duration::from_millis(50)).unwrap() {
            Some(MembershipEvent::Trouble(text)) => eprintln!("trouble: {text}"),
            event => found = event,
        }
        found.is_some()
    });
    found.unwrap()
}
