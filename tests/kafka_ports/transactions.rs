//! Transactions and fencing on a real cluster.

use std::collections::BTreeMap;

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{
    CommittedOffset, ConsumerPurpose, KafkaClients, Membership, MembershipEvent, OutgoingRecord,
    Producer, StartOffset,
};
use kstreams::{ErrorKind, Headers, Timestamp, TopicPartition};
use test_support::unique;

use crate::broker::clients;
use crate::common::*;

struct Case {
    clients: LibrdkafkaClients,
    input: TopicPartition,
    output: TopicPartition,
}

fn case(name: &str) -> Case {
    let clients = clients(name);
    let (input, output) = (unique(&format!("{name}-in")), unique(&format!("{name}-out")));
    create_topic(&clients, &input, 1);
    create_topic(&clients, &output, 1);
    let partition = |topic: String| TopicPartition::new(topic, 0);
    Case { clients, input: partition(input), output: partition(output) }
}

impl Case {
    fn member(&self) -> Box<dyn Membership> {
        let mut member = self.clients.membership(std::slice::from_ref(&self.input.topic)).unwrap();
        assert!(matches!(next_event(&mut *member), MembershipEvent::Assigned(_)));
        member.acknowledge().unwrap();
        member
    }

    fn producer(&self) -> Box<dyn Producer> {
        let id = format!("{}-1", self.clients.settings().application_id);
        let mut producer = self.clients.producer(Some(&id)).unwrap();
        producer.init_transactions(WAIT).unwrap();
        producer
    }

    fn committed(&self) -> Option<CommittedOffset> {
        let mut consumer = self.clients.consumer(ConsumerPurpose::Main).unwrap();
        consumer.committed(std::slice::from_ref(&self.input), WAIT).unwrap().remove(0)
    }

    fn output(&self) -> (Vec<String>, i64) {
        let mut consumer = self.clients.consumer(ConsumerPurpose::Main).unwrap();
        let slot = consumer.assign(&self.output, StartOffset::Beginning).unwrap();
        let (records, end) = read_to_end(&mut *consumer, slot);
        (values(&records), end)
    }
}

#[test]
fn offsets_and_records_are_committed_together_and_an_abort_leaves_neither() {
    let case = case("commit");
    let member = case.member();
    let mut producer = case.producer();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &["committed"]);
    let seventh = CommittedOffset { offset: 7, metadata: "AgAAAAAAAAPo".to_owned() };
    let offsets = [(case.input.clone(), seventh.clone())];
    producer.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap();
    producer.commit_transaction(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &["aborted"]);
    producer.flush(WAIT).unwrap();
    producer
        .send_offsets(&[(case.input.clone(), 9.into())], &member.group_metadata(), WAIT)
        .unwrap();
    producer.abort_transaction(WAIT).unwrap();
    // An abort right after sending, with nothing acknowledged yet.
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &vec!["aborted"; 10_000]);
    producer.abort_transaction(WAIT).unwrap();
    producer.poll().unwrap();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &["committed too"]);
    producer.commit_transaction(WAIT).unwrap();
    let (records, end) = case.output();
    assert_eq!(records, ["committed", "committed too"]);
    assert!(end >= 6, "the end counts markers and aborted records: {end}");
    assert_eq!(case.committed(), Some(seventh));
    member.leave().unwrap();
}

#[test]
fn an_open_transaction_holds_the_end_back() {
    let case = case("open");
    let mut producer = case.producer();
    produce(&case.clients, &case.output, &["before"]);
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &["open"]);
    producer.flush(WAIT).unwrap();
    let mut consumer = case.clients.consumer(ConsumerPurpose::Main).unwrap();
    assert_eq!(consumer.offsets(&case.output, WAIT).unwrap(), (0, 1));
    assert_eq!(case.output(), (vec!["before".to_owned()], 1));
    producer.commit_transaction(WAIT).unwrap();
    assert_eq!(case.output().0, ["before", "open"]);
}

#[test]
fn a_fenced_producer_has_lost_its_tasks_at_every_call() {
    let case = case("fenced");
    let member = case.member();
    let mut old = case.producer();
    old.begin_transaction().unwrap();
    send(&mut *old, &case.output, &["zombie"]);
    old.flush(WAIT).unwrap();
    let mut new = case.producer();
    let offsets = [(case.input.clone(), 1.into())];
    let error = old.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    assert_eq!(old.commit_transaction(WAIT).unwrap_err().kind(), ErrorKind::TaskMigrated);
    assert_eq!(old.begin_transaction().unwrap_err().kind(), ErrorKind::TaskMigrated);
    new.begin_transaction().unwrap();
    send(&mut *new, &case.output, &["owner"]);
    new.commit_transaction(WAIT).unwrap();
    assert_eq!(case.output().0, ["owner"]);
    assert_eq!(case.committed(), None);
}

#[test]
fn a_fenced_producer_that_only_commits_has_lost_its_tasks() {
    let case = case("fenced-commit");
    let mut old = case.producer();
    old.begin_transaction().unwrap();
    send(&mut *old, &case.output, &["zombie"]);
    old.flush(WAIT).unwrap();
    let _new = case.producer();
    let error = old.commit_transaction(WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
}

#[test]
fn a_stale_generation_has_lost_its_tasks_and_the_transaction_can_be_aborted() {
    let case = case("stale");
    let mut member = case.member();
    let stale = member.group_metadata();
    // Another member comes and goes: the generation moves on.
    let other = case.clients.membership(std::slice::from_ref(&case.input.topic)).unwrap();
    assert!(matches!(next_event(&mut *member), MembershipEvent::Revoked(_)));
    member.acknowledge().unwrap();
    drop(other);
    let mut producer = case.producer();
    let MembershipEvent::Assigned(_) = next_event(&mut *member) else { panic!("not assigned") };
    member.acknowledge().unwrap();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &["stale"]);
    let offsets = [(case.input.clone(), 3.into())];
    let error = producer.send_offsets(&offsets, &stale, WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    producer.abort_transaction(WAIT).unwrap();
    assert_eq!(case.committed(), None);
    assert!(case.output().0.is_empty());
}

/// Java's `FencedInstanceIdException` ends the thread that meets it. A member that joins anew, under the same static id, may
/// fence what it had under way itself: nobody else is there.
#[test]
fn a_static_id_taken_by_another_is_fatal_to_a_commit_unless_the_member_had_left() {
    let mut case = case("static");
    let mut settings = case.clients.settings().clone();
    settings.group_instance_id = Some("instance-1".into());
    case.clients = LibrdkafkaClients::new(settings).unwrap();
    let first = case.member();
    let (of_first, committer) = (first.group_metadata(), first.committer());
    let second = case.member();
    let of_second = second.group_metadata();
    let offsets = [(case.input.clone(), 3.into())];
    let mut producer = case.producer();
    let mut commit = |group| {
        producer.begin_transaction().unwrap();
        let result = producer.send_offsets(&offsets, group, WAIT);
        if result.is_err() {
            producer.abort_transaction(WAIT).unwrap();
        } else {
            producer.commit_transaction(WAIT).unwrap();
        }
        result
    };
    let error = commit(&of_first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
    assert_eq!(committer.commit(&offsets).unwrap_err().kind(), ErrorKind::Fatal);
    second.leave().unwrap();
    let third = case.member();
    let error = commit(&of_second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    assert_eq!(case.committed(), None);
    commit(&third.group_metadata()).unwrap();
    assert_eq!(case.committed(), Some(3.into()));
    third.leave().unwrap();
}

#[test]
fn a_member_outside_the_group_and_a_partition_outside_the_assignment_cannot_be_committed() {
    let case = case("outside");
    let mut producer = case.producer();
    let outside = case.clients.membership(std::slice::from_ref(&case.input.topic)).unwrap();
    producer.begin_transaction().unwrap();
    let offsets = [(case.input.clone(), 3.into())];
    let error = producer.send_offsets(&offsets, &outside.group_metadata(), WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    drop(outside);
    let member = case.member();
    let offsets = [(TopicPartition::new(&*case.input.topic, 8), 3.into())];
    let error = producer.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    producer.abort_transaction(WAIT).unwrap();
    assert_eq!(case.committed(), None);
}

#[test]
fn a_record_too_large_is_refused_and_the_transaction_goes_on() {
    let case = case("large");
    let mut producer = case.producer();
    let topic = producer.topic(&case.output.topic).unwrap();
    let value = vec![0; 3_000_000];
    producer.begin_transaction().unwrap();
    let record = OutgoingRecord {
        topic,
        partition: None,
        timestamp: Timestamp::from_millis(1),
        key: None,
        value: Some(&value),
        headers: &Headers::default(),
    };
    assert_eq!(producer.send(record).unwrap_err().kind(), ErrorKind::BadRecord);
    let negative = OutgoingRecord { timestamp: Timestamp::from_millis(-1), value: None, ..record };
    assert_eq!(producer.send(negative).unwrap_err().kind(), ErrorKind::BadRecord);
    send(&mut *producer, &case.output, &["small"]);
    producer.commit_transaction(WAIT).unwrap();
    assert_eq!(case.output().0, ["small"]);
}

#[test]
fn a_record_that_the_broker_refuses_names_its_topic_and_a_new_producer_goes_on() {
    let case = case("refused");
    let limit = BTreeMap::from([("max.message.bytes".to_owned(), "1000".to_owned())]);
    case.clients.admin().unwrap().alter_topic_configs(&case.output.topic, &limit, WAIT).unwrap();
    let mut producer = case.producer();
    producer.begin_transaction().unwrap();
    // Not compressible: the broker looks at the compressed size.
    let mut seed = 1_u32;
    let noise: String = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (seed >> 24) as u8 % 90)
    })
    .take(5000)
    .collect();
    send(&mut *producer, &case.output, &[&noise]);
    let error = producer.commit_transaction(WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
    assert!(error.message().contains(&*case.output.topic), "{error}");
    producer.abort_transaction(WAIT).unwrap();
    // The refused batch left a gap in librdkafka's sequence numbers: fatal means a new producer.
    let mut producer = case.producer();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &["small"]);
    producer.commit_transaction(WAIT).unwrap();
    assert_eq!(case.output().0, ["small"]);
}

#[test]
fn a_full_local_queue_is_waited_for() {
    let mut case = case("full");
    let mut settings = case.clients.settings().clone();
    settings.producer.insert("queue.buffering.max.messages".into(), "100".into());
    case.clients = LibrdkafkaClients::new(settings).unwrap();
    let mut producer = case.producer();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &case.output, &vec!["x"; 5000]);
    producer.commit_transaction(WAIT).unwrap();
    assert_eq!(case.output().0.len(), 5000);
}
