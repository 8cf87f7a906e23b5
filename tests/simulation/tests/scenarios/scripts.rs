//! What is asked of a cluster through the ports, and what it must answer. Names begin with the group's, so that scripts share nothing.

use std::time::Duration;

use kstreams::kafka::{
    CommittedOffset, ConsumerPurpose, KafkaClients, Membership, MembershipEvent, Producer,
    StartOffset,
};
use kstreams::{ErrorKind, TopicPartition};

use crate::common::*;

/// Gets clients, and the name of the group that they are in.
pub(crate) type Script = fn(&dyn KafkaClients, &str);

fn topic(clients: &dyn KafkaClients, group: &str, role: &str, partitions: i32) -> TopicPartition {
    let name = format!("{group}-{role}");
    create_topic(clients, &name, partitions);
    TopicPartition::new(name, 0)
}

fn assigned(clients: &dyn KafkaClients, input: &TopicPartition) -> Box<dyn Membership> {
    let mut member = clients.membership(std::slice::from_ref(&input.topic)).unwrap();
    assert!(matches!(next_event(&mut *member), MembershipEvent::Assigned(_)));
    member.acknowledge().unwrap();
    member
}

fn producer(clients: &dyn KafkaClients, group: &str) -> Box<dyn Producer> {
    let mut producer = clients.producer(Some(&format!("{group}-1"))).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer
}

fn committed(clients: &dyn KafkaClients, input: &TopicPartition) -> Option<CommittedOffset> {
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    consumer.committed(std::slice::from_ref(input), WAIT).unwrap().remove(0)
}

/// What readers of committed records see, once the stable end is `end` at least: markers come a little after the commit.
fn content(clients: &dyn KafkaClients, partition: &TopicPartition, end: i64) -> (Vec<String>, i64) {
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    until("the markers are written", || consumer.offsets(partition, WAIT).unwrap().1 >= end);
    let slot = consumer.assign(partition, StartOffset::Beginning).unwrap();
    let (records, end) = read_to_end(&mut *consumer, slot);
    (values(&records), end)
}

pub(crate) fn offsets_and_records_are_committed_together_and_an_abort_leaves_neither(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let (input, output) = (topic(clients, group, "in", 1), topic(clients, group, "out", 1));
    let member = assigned(clients, &input);
    let mut producer = producer(clients, group);
    producer.begin_transaction().unwrap();
    send(&mut *producer, &output, &["committed"]);
    let seventh = CommittedOffset { offset: 7, metadata: "AgAAAAAAAAPo".to_owned() };
    let offsets = [(input.clone(), seventh.clone())];
    producer.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap();
    producer.commit_transaction(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &output, &["aborted"]);
    producer.flush(WAIT).unwrap();
    let ninth = [(input.clone(), 9.into())];
    producer.send_offsets(&ninth, &member.group_metadata(), WAIT).unwrap();
    producer.abort_transaction(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &output, &["committed too"]);
    producer.commit_transaction(WAIT).unwrap();
    let (records, end) = content(clients, &output, 6);
    assert_eq!(records, ["committed", "committed too"]);
    assert_eq!(end, 6, "three records and the markers of three transactions");
    assert_eq!(committed(clients, &input), Some(seventh));
    member.leave().unwrap();
}

pub(crate) fn an_open_transaction_holds_the_end_back(clients: &dyn KafkaClients, group: &str) {
    let output = topic(clients, group, "out", 1);
    let mut producer = producer(clients, group);
    produce(clients, &output, &["before"]);
    producer.begin_transaction().unwrap();
    send(&mut *producer, &output, &["open"]);
    producer.flush(WAIT).unwrap();
    produce(clients, &output, &["after"]);
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    assert_eq!(consumer.offsets(&output, WAIT).unwrap(), (0, 1));
    let slot = consumer.assign(&output, StartOffset::Beginning).unwrap();
    let (records, end) = read_to_end(&mut *consumer, slot);
    assert_eq!((values(&records), end), (vec!["before".to_owned()], 1));
    assert_eq!(consumer.cached_end_offset(&output), Some(3), "the high watermark");
    producer.commit_transaction(WAIT).unwrap();
    let (records, end) = content(clients, &output, 4);
    assert_eq!(records, ["before", "open", "after"]);
    assert_eq!(end, 4, "three records and a marker");
}

pub(crate) fn a_new_producer_aborts_what_the_old_one_left_open_and_fences_it(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let (input, output) = (topic(clients, group, "in", 1), topic(clients, group, "out", 1));
    let member = assigned(clients, &input);
    let mut old = producer(clients, group);
    old.begin_transaction().unwrap();
    send(&mut *old, &output, &["zombie"]);
    old.flush(WAIT).unwrap();
    let mut new = producer(clients, group);
    let offsets = [(input.clone(), 1.into())];
    let error = old.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    assert_eq!(old.commit_transaction(WAIT).unwrap_err().kind(), ErrorKind::TaskMigrated);
    assert_eq!(old.begin_transaction().unwrap_err().kind(), ErrorKind::TaskMigrated);
    new.begin_transaction().unwrap();
    send(&mut *new, &output, &["owner"]);
    new.commit_transaction(WAIT).unwrap();
    assert_eq!(content(clients, &output, 4).0, ["owner"]);
    assert_eq!(committed(clients, &input), None);
    member.leave().unwrap();
}

pub(crate) fn a_stale_generation_has_lost_its_tasks_and_the_transaction_can_be_aborted(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let (input, output) = (topic(clients, group, "in", 1), topic(clients, group, "out", 1));
    let mut member = assigned(clients, &input);
    let stale = member.group_metadata();
    let other = clients.membership(std::slice::from_ref(&input.topic)).unwrap();
    assert!(matches!(next_event(&mut *member), MembershipEvent::Revoked(_)));
    member.acknowledge().unwrap();
    drop(other);
    let mut producer = producer(clients, group);
    let MembershipEvent::Assigned(_) = next_event(&mut *member) else { panic!("not assigned") };
    member.acknowledge().unwrap();
    producer.begin_transaction().unwrap();
    send(&mut *producer, &output, &["stale"]);
    let offsets = [(input.clone(), 3.into())];
    let error = producer.send_offsets(&offsets, &stale, WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    producer.abort_transaction(WAIT).unwrap();
    assert_eq!(committed(clients, &input), None);
    assert!(content(clients, &output, 0).0.is_empty());
    member.leave().unwrap();
}

pub(crate) fn a_member_outside_the_group_and_a_partition_outside_the_assignment_cannot_be_committed(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let input = topic(clients, group, "in", 1);
    let mut producer = producer(clients, group);
    let outside = clients.membership(std::slice::from_ref(&input.topic)).unwrap();
    producer.begin_transaction().unwrap();
    let offsets = [(input.clone(), 3.into())];
    let error = producer.send_offsets(&offsets, &outside.group_metadata(), WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    drop(outside);
    let member = assigned(clients, &input);
    let offsets = [(TopicPartition::new(&*input.topic, 8), 3.into())];
    let error = producer.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    producer.abort_transaction(WAIT).unwrap();
    assert_eq!(committed(clients, &input), None);
    member.leave().unwrap();
}

pub(crate) fn committed_offsets_wait_for_the_transaction_that_changes_them(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let (input, output) = (topic(clients, group, "in", 1), topic(clients, group, "out", 1));
    let member = assigned(clients, &input);
    let mut producer = producer(clients, group);
    producer.begin_transaction().unwrap();
    send(&mut *producer, &output, &["open"]);
    let offsets = [(input.clone(), 5.into())];
    producer.send_offsets(&offsets, &member.group_metadata(), WAIT).unwrap();
    let mut consumer = clients.consumer(ConsumerPurpose::Restore).unwrap();
    let partitions = std::slice::from_ref(&input);
    let error = consumer.committed(partitions, Duration::from_secs(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retriable, "{error}");
    producer.commit_transaction(WAIT).unwrap();
    assert_eq!(consumer.committed(partitions, WAIT).unwrap(), [Some(5.into())]);
    member.leave().unwrap();
}

pub(crate) fn two_members_share_by_range_and_the_first_gets_all_when_one_leaves(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let input = topic(clients, group, "in", 3);
    let topics = std::slice::from_ref(&input.topic);
    let mut first = clients.membership(topics).unwrap();
    let MembershipEvent::Assigned(all) = next_event(&mut *first) else { panic!("not assigned") };
    assert_eq!(all.len(), 3);
    assert_eq!(first.poll(Duration::from_millis(100)).unwrap(), None, "it is not answered");
    first.acknowledge().unwrap();
    let second = clients.membership(topics).unwrap();
    let MembershipEvent::Revoked(revoked) = next_event(&mut *first) else { panic!("not revoked") };
    assert_eq!(revoked.len(), 3, "the protocol is eager");
    first.acknowledge().unwrap();
    let mut members = [first, second];
    let mut owned = [Vec::new(), Vec::new()];
    settle(&mut members, &mut owned, 3);
    let mut counts = owned.each_ref().map(Vec::len);
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
    let [first, second] = members;
    second.leave().unwrap();
    settle(&mut [first], &mut owned[..1], 3);
}

/// Polls members, answering everything, until each owns something and together they own all.
fn settle(members: &mut [Box<dyn Membership>], owned: &mut [Vec<TopicPartition>], total: usize) {
    until("the members share everything", || {
        for (member, owned) in members.iter_mut().zip(owned.iter_mut()) {
            match member.poll(Duration::from_millis(20)).unwrap() {
                Some(MembershipEvent::Assigned(partitions)) => *owned = partitions,
                Some(MembershipEvent::Revoked(_) | MembershipEvent::Lost(_)) => owned.clear(),
                Some(MembershipEvent::Trouble(_)) | None => continue,
            }
            member.acknowledge().unwrap();
        }
        owned.iter().all(|owned| !owned.is_empty())
            && owned.iter().map(Vec::len).sum::<usize>() == total
    });
}

pub(crate) fn a_commit_outside_transactions_ends_with_its_membership(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let input = topic(clients, group, "in", 1);
    let member = assigned(clients, &input);
    let committer = member.committer();
    committer.commit(&[(input.clone(), 4.into())]).unwrap();
    assert_eq!(committed(clients, &input), Some(4.into()));
    member.leave().unwrap();
    let error = committer.commit(&[(input.clone(), 5.into())]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    assert_eq!(committed(clients, &input), Some(4.into()));
}

pub(crate) fn reading_begins_where_it_is_asked_to_and_an_offset_outside_the_log_is_corrupted(
    clients: &dyn KafkaClients,
    group: &str,
) {
    let output = topic(clients, group, "out", 1);
    produce(clients, &output, &["a", "b", "c", "d"]);
    clients.admin().unwrap().delete_records(&[(output.clone(), 1)], WAIT).unwrap();
    let mut consumer = clients.consumer(ConsumerPurpose::Restore).unwrap();
    assert_eq!(consumer.offsets(&output, WAIT).unwrap(), (1, 4));
    for (start, wanted) in [
        (StartOffset::Beginning, &["b", "c", "d"][..]),
        (StartOffset::At(2), &["c", "d"]),
        (StartOffset::At(4), &[]),
        (StartOffset::End, &[]),
    ] {
        let slot = consumer.assign(&output, start).unwrap();
        let (records, end) = read_to_end(&mut *consumer, slot);
        assert_eq!(values(&records), wanted, "{start:?}");
        assert_eq!(end, 4, "{start:?}");
        consumer.unassign(slot).unwrap();
    }
    let slot = consumer.assign(&output, StartOffset::At(0)).unwrap();
    let mut error = None;
    until("the drain fails", || {
        error = consumer.drain(slot, 10, &mut |_| ()).err();
        error.is_some() || {
            consumer.wait(Duration::from_millis(100)).unwrap();
            false
        }
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::TaskCorrupted);
}

pub(crate) fn a_topic_that_is_missing_is_invalid(clients: &dyn KafkaClients, group: &str) {
    let mut member = clients.membership(&[format!("{group}-nowhere").into()]).unwrap();
    let mut error = None;
    until("the poll fails", || {
        error = member.poll(Duration::from_millis(100)).err();
        error.is_some()
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::Invalid);
}
