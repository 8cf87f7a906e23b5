//! The basics, on librdkafka's mock cluster.

use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::librdkafka::{ClientSettings, LibrdkafkaClients, MockClients, MockCluster};
use kstreams::kafka::{
    CommittedOffset, ConsumerPurpose, Drained, KafkaClients, MembershipEvent, OutgoingRecord,
    StartOffset,
};
use kstreams::{Clock, ErrorKind, Headers, SystemClock, Timestamp, TopicPartition};

use crate::common::*;

pub(crate) fn cluster() -> MockClients {
    let cluster = Arc::new(MockCluster::start(1).unwrap());
    let mut settings = ClientSettings::new("overridden", "app");
    settings.exactly_once = false;
    MockClients::new(cluster, settings).unwrap()
}

#[test]
fn records_come_back_byte_for_byte_with_headers_nulls_and_the_end_of_the_partition() {
    let clients = cluster();
    create_topic(&clients, "t", 2);
    let mut producer = clients.producer(None).unwrap();
    let topic = producer.topic("t").unwrap();
    assert_eq!(producer.partition_count(topic, WAIT).unwrap(), 2);
    let mut headers = Headers::default();
    headers.add("a", Some(&b"1"[..]));
    headers.add("b", None::<&[u8]>);
    headers.add("a", Some(&b""[..]));
    let none = Headers::default();
    type Case<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a Headers);
    let cases: [Case<'_>; 4] = [
        (Some(b"key"), Some(b"value"), &headers),
        (Some(b"key"), None, &none),
        (None, Some(b"value"), &none),
        (Some(b""), Some(b""), &none),
    ];
    for (key, value, headers) in cases {
        let timestamp = Timestamp::from_millis(77);
        producer
            .send(OutgoingRecord { topic, partition: Some(1), timestamp, key, value, headers })
            .unwrap();
    }
    producer.flush(WAIT).unwrap();
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let partition = TopicPartition::new("t", 1);
    let slot = consumer.assign(&partition, StartOffset::Beginning).unwrap();
    let (records, end) = read_to_end(&mut *consumer, slot);
    assert_eq!(end, 4);
    assert_eq!(consumer.cached_end_offset(&partition), Some(4));
    for (index, (record, (key, value, headers))) in records.iter().zip(cases).enumerate() {
        assert_eq!(record.offset, index as i64);
        assert_eq!(record.timestamp, Timestamp::from_millis(77));
        assert_eq!(record.key.as_deref(), key);
        assert_eq!(record.value.as_deref(), value);
        assert_eq!(record.headers, *headers);
    }
    assert_eq!(
        consumer.drain(slot, 10, &mut |_| panic!("nothing is left")).unwrap(),
        Drained { records: 0, end_of_partition: Some(4) }
    );
}

#[test]
fn a_waiting_consumer_is_woken_by_a_record_and_by_its_waker_and_never_sleeps_through_either() {
    let clients = cluster();
    create_topic(&clients, "t", 1);
    let partition = TopicPartition::new("t", 0);
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let slot = consumer.assign(&partition, StartOffset::Beginning).unwrap();
    read_to_end(&mut *consumer, slot);
    let clock = SystemClock::default();
    let waker = consumer.waker();
    // Each round: one wake-up from another thread, racing with the start of the wait.
    for _ in 0..200 {
        let waker = Arc::clone(&waker);
        let thread = std::thread::spawn(move || waker());
        consumer.wait(WAIT).unwrap();
        thread.join().unwrap();
    }
    let producing = std::thread::scope(|scope| {
        scope.spawn(|| produce(&clients, &partition, &["x"]));
        let mut seen = 0;
        until("the record has arrived", || {
            consumer.wait(WAIT).unwrap();
            seen += consumer.drain(slot, 10, &mut |_| ()).unwrap().records;
            seen == 1
        });
        clock.monotonic()
    });
    assert!(producing < WAIT, "a wait slept through a wake-up: {producing:?}");
}

#[test]
fn a_drain_that_left_something_does_not_let_the_next_wait_sleep() {
    let clients = cluster();
    create_topic(&clients, "t", 1);
    let partition = TopicPartition::new("t", 0);
    produce(&clients, &partition, &["a", "b", "c", "d", "e"]);
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    let slot = consumer.assign(&partition, StartOffset::Beginning).unwrap();
    let clock = SystemClock::default();
    let mut seen = Vec::new();
    until("all records are here", || {
        consumer.wait(WAIT).unwrap();
        consumer.drain(slot, 2, &mut |record| seen.push(record)).unwrap();
        seen.len() == 5
    });
    assert_eq!(values(&seen), ["a", "b", "c", "d", "e"]);
    assert!(clock.monotonic() < WAIT);
}

#[test]
fn the_member_gets_its_partitions_commits_their_offsets_and_refuses_others() {
    let clients = cluster();
    create_topic(&clients, "t", 3);
    let mut member = clients.membership(&["t".into()]).unwrap();
    let owned = partitions("t", 0..3);
    assert_eq!(next_event(&mut *member), MembershipEvent::Assigned(owned.clone()));
    member.acknowledge().unwrap();
    let committer = member.committer();
    let fifth = CommittedOffset { offset: 5, metadata: "so far".to_owned() };
    committer.commit(&[(owned[1].clone(), fifth.clone())]).unwrap();
    let foreign = committer.commit(&[(TopicPartition::new("t", 9), 5.into())]).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::TaskMigrated);
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    assert_eq!(consumer.committed(&owned, WAIT).unwrap(), [None, Some(fifth), None]);
    member.leave().unwrap();
    assert_eq!(
        committer.commit(&[(owned[1].clone(), 6.into())]).unwrap_err().kind(),
        ErrorKind::TaskMigrated
    );
}

#[test]
fn a_broker_that_does_not_answer_is_named_with_advice_in_bounded_time() {
    // A port that nothing listens on: taken, and given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let clients = LibrdkafkaClients::new(ClientSettings::new(&address, "app")).unwrap();
    let mut admin = clients.admin().unwrap();
    let clock = SystemClock::default();
    let timeout = Duration::from_secs(1);
    for error in [
        admin.describe_topics(&["t"], timeout).unwrap_err(),
        admin.topic_configs("t", timeout).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Retriable);
        let text = error.to_string();
        assert!(
            text.contains(&format!("no broker answered at \"{address}\" within 1 s")),
            "{text}"
        );
        assert!(text.contains("check bootstrap.servers"), "{text}");
        assert!(text.contains("refused"), "{text}");
    }
    assert!(clock.monotonic() < Duration::from_secs(6), "{:?}", clock.monotonic());
}

#[test]
fn an_unknown_property_is_refused_by_name() {
    let mut settings = ClientSettings::new("127.0.0.1:1", "app");
    settings.consumer.insert("no.such.thing".into(), "1".into());
    let error =
        LibrdkafkaClients::new(settings).unwrap().consumer(ConsumerPurpose::Main).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("no.such.thing"), "{error}");
}
