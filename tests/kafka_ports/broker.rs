//! Consumer and admin on a real cluster.

use std::collections::BTreeMap;

use kstreams::kafka::librdkafka::{ClientSettings, LibrdkafkaClients};
use kstreams::kafka::{ConsumerPurpose, KafkaClients, StartOffset};
use kstreams::{ErrorKind, Timestamp, TopicPartition};
use test_support::{bootstrap, unique};

use crate::common::*;

/// Clients of the cluster under test, in a group of their own.
pub(crate) fn clients(name: &str) -> LibrdkafkaClients {
    LibrdkafkaClients::new(ClientSettings::new(bootstrap(), unique(name))).unwrap()
}

#[test]
fn a_drain_reads_everything_in_order_up_to_the_end() {
    let clients = clients("drain");
    let topic = unique("drain");
    create_topic(&clients, &topic, 1);
    let partition = TopicPartition::new(&*topic, 0);
    let sent: Vec<String> = (0..5000).map(|n| format!("value-{n}")).collect();
    produce(&clients, &partition, &sent.iter().map(String::as_str).collect::<Vec<_>>());
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let slot = consumer.assign(&partition, StartOffset::Beginning).unwrap();
    let (records, end) = read_to_end(&mut *consumer, slot);
    assert_eq!(values(&records), sent);
    assert!(records.iter().enumerate().all(|(index, record)| record.offset == index as i64));
    assert_eq!(end, 5000);
    assert_eq!(consumer.offsets(&partition, WAIT).unwrap(), (0, 5000));
    let at = |millis| Timestamp::from_millis(millis);
    assert_eq!(consumer.offset_for_time(&partition, at(1000 + 77), WAIT).unwrap(), 77);
    assert_eq!(consumer.offset_for_time(&partition, at(9_000_000), WAIT).unwrap(), 5000);
    // Back to an offset, as after an abort: nothing buffered before shows up.
    consumer.unassign(slot).unwrap();
    let slot = consumer.assign(&partition, StartOffset::At(4990)).unwrap();
    let (records, _) = read_to_end(&mut *consumer, slot);
    assert_eq!(values(&records), sent[4990..]);
}

#[test]
fn a_rewind_in_the_middle_of_buffered_records_starts_exactly_there() {
    let clients = clients("rewind");
    let topic = unique("rewind");
    create_topic(&clients, &topic, 1);
    let partition = TopicPartition::new(&*topic, 0);
    let sent: Vec<String> = (0..3000).map(|n| format!("value-{n}")).collect();
    produce(&clients, &partition, &sent.iter().map(String::as_str).collect::<Vec<_>>());
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    for round in 0..10 {
        let start = round * 300;
        let slot = consumer.assign(&partition, StartOffset::At(start)).unwrap();
        let mut records = Vec::new();
        until("some records are here", || {
            consumer.drain(slot, 50, &mut |record| records.push(record)).unwrap();
            !records.is_empty() || {
                consumer.wait(WAIT).unwrap();
                false
            }
        });
        assert_eq!(records[0].offset, start);
        consumer.unassign(slot).unwrap();
    }
}

#[test]
fn an_added_or_removed_partition_does_not_disturb_the_others() {
    let clients = clients("incremental");
    let topic = unique("incremental");
    create_topic(&clients, &topic, 3);
    let all = partitions(&topic, 0..3);
    for partition in &all {
        let sent: Vec<String> =
            (0..2000).map(|n| format!("p{}-{n}", partition.partition)).collect();
        produce(&clients, partition, &sent.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let first = consumer.assign(&all[0], StartOffset::Beginning).unwrap();
    let mut seen = Vec::new();
    let mut drain_some = |consumer: &mut dyn kstreams::kafka::Consumer, count: usize| {
        until("more records are here", || {
            let missing = count - seen.len();
            consumer.drain(first, missing, &mut |record| seen.push(record)).unwrap();
            seen.len() == count || {
                consumer.wait(WAIT).unwrap();
                false
            }
        });
        seen.len()
    };
    drain_some(&mut *consumer, 500);
    let second = consumer.assign(&all[1], StartOffset::Beginning).unwrap();
    let third = consumer.assign(&all[2], StartOffset::Beginning).unwrap();
    drain_some(&mut *consumer, 1000);
    consumer.unassign(second).unwrap();
    drain_some(&mut *consumer, 2000);
    assert!(seen.iter().enumerate().all(|(index, record)| record.offset == index as i64));
    assert!(values(&seen).iter().all(|value| value.starts_with("p0-")));
    let (records, _) = read_to_end(&mut *consumer, third);
    assert_eq!(records.len(), 2000);
    assert!(values(&records).iter().all(|value| value.starts_with("p2-")));
}

#[test]
fn an_offset_outside_the_log_is_a_corrupted_task() {
    let clients = clients("range");
    let topic = unique("range");
    create_topic(&clients, &topic, 1);
    let partition = TopicPartition::new(&*topic, 0);
    produce(&clients, &partition, &["a", "b", "c"]);
    clients.admin().unwrap().delete_records(&[(partition.clone(), 2)], WAIT).unwrap();
    let mut consumer = clients.consumer(ConsumerPurpose::Restore).unwrap();
    let slot = consumer.assign(&partition, StartOffset::At(0)).unwrap();
    let mut error = None;
    until("the drain fails", || {
        error = consumer.drain(slot, 10, &mut |_| ()).err();
        error.is_some() || {
            consumer.wait(WAIT).unwrap();
            false
        }
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::TaskCorrupted);
    assert_eq!(consumer.offsets(&partition, WAIT).unwrap(), (2, 3));
}

#[test]
fn topics_are_created_described_changed_and_extended() {
    let clients = clients("admin");
    let topic = unique("admin");
    let mut admin = clients.admin().unwrap();
    assert_eq!(admin.broker_count(WAIT).unwrap(), 1);
    assert!(admin.describe_topics(&[&topic], WAIT).unwrap().is_empty());
    create_topic(&clients, &topic, 2);
    create_topic(&clients, &topic, 2); // exists: left alone
    let change = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    admin.alter_topic_configs(&topic, &change, WAIT).unwrap();
    let change = BTreeMap::from([("retention.ms".to_owned(), "1234".to_owned())]);
    admin.alter_topic_configs(&topic, &change, WAIT).unwrap();
    until("the changes are there, both", || {
        let configs = admin.topic_configs(&topic, WAIT).unwrap();
        configs["cleanup.policy"] == "compact" && configs["retention.ms"] == "1234"
    });
    admin.create_partitions(&topic, 5, WAIT).unwrap();
    until("the partitions are there", || {
        admin.describe_topics(&[&topic], WAIT).unwrap()[&topic].partitions == 5
    });
    let change = BTreeMap::from([("cleanup.policy".to_owned(), "nonsense".to_owned())]);
    let error = admin.alter_topic_configs(&topic, &change, WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(admin.topic_configs("no-such-topic", WAIT).is_err());
}
