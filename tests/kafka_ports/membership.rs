//! Group membership on a real cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{ConsumerPurpose, KafkaClients, Membership, MembershipEvent};
use kstreams::{ErrorKind, TopicPartition};
use test_support::unique;

use crate::broker::clients;
use crate::common::*;

/// Polls both members, answering everything, until each owns something and together they own all.
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

fn numbers(owned: &[TopicPartition], topic: &str) -> BTreeSet<i32> {
    owned.iter().filter(|p| &*p.topic == topic).map(|p| p.partition).collect()
}

#[test]
fn two_members_share_copartitioned_topics_by_range_and_the_first_gets_all_when_one_leaves() {
    let clients = clients("share");
    let (a, b) = (unique("share-a"), unique("share-b"));
    create_topic(&clients, &a, 4);
    create_topic(&clients, &b, 4);
    let topics = [a.as_str().into(), b.as_str().into()];
    let mut first = clients.membership(&topics).unwrap();
    let MembershipEvent::Assigned(all) = next_event(&mut *first) else { panic!("not assigned") };
    assert_eq!(all.len(), 8);
    // Unanswered: the protocol stands still, and polling gives nothing.
    assert_eq!(first.poll(Duration::from_millis(100)).unwrap(), None);
    first.acknowledge().unwrap();
    let second = clients.membership(&topics).unwrap();
    let MembershipEvent::Revoked(revoked) = next_event(&mut *first) else { panic!("not revoked") };
    assert_eq!(revoked.len(), 8);
    first.acknowledge().unwrap();
    let mut members = [first, second];
    let mut owned = [Vec::new(), Vec::new()];
    settle(&mut members, &mut owned, 8);
    for owned in &owned {
        assert_eq!(numbers(owned, &a).len(), 2);
        assert_eq!(numbers(owned, &a), numbers(owned, &b), "co-partitioned");
    }
    let [first, second] = members;
    second.leave().unwrap();
    let mut members = [first];
    settle(&mut members, &mut owned[..1], 8);
}

#[test]
fn the_member_never_fetches() {
    let clients = clients("nofetch");
    let topic = unique("nofetch");
    create_topic(&clients, &topic, 1);
    let partition = TopicPartition::new(&*topic, 0);
    let value = "v".repeat(1000);
    produce(&clients, &partition, &vec![&*value; 2000]);
    let mut member = clients.membership(&[topic.as_str().into()]).unwrap();
    assert!(matches!(next_event(&mut *member), MembershipEvent::Assigned(_)));
    member.acknowledge().unwrap();
    // A record fetched would come back as an error of the poll ("the member has fetched a record").
    for _ in 0..30 {
        assert_eq!(member.poll(Duration::from_millis(100)).unwrap(), None);
    }
    member.leave().unwrap();
}

/// Clients whose members must be polled every 6 s.
fn impatient(name: &str) -> LibrdkafkaClients {
    let mut settings = clients(name).settings().clone();
    settings.session_timeout = Duration::from_secs(6);
    settings.consumer.insert("max.poll.interval.ms".into(), "6000".into());
    LibrdkafkaClients::new(settings).unwrap()
}

#[test]
fn a_member_that_nobody_polls_leaves_cannot_commit_and_hears_that_its_partitions_are_lost() {
    let clients = impatient("lost");
    let topic = unique("lost");
    create_topic(&clients, &topic, 1);
    let mut member = clients.membership(&[topic.as_str().into()]).unwrap();
    let MembershipEvent::Assigned(owned) = next_event(&mut *member) else { panic!() };
    member.acknowledge().unwrap();
    let committer = member.committer();
    let mut last = 0;
    let mut error = None;
    until("a commit fails", || {
        error = committer.commit(&[(owned[0].clone(), (last + 1).into())]).err();
        last += i64::from(error.is_none());
        error.is_some()
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::TaskMigrated);
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    assert_eq!(consumer.committed(&owned, WAIT).unwrap(), [Some(last.into())]);
    assert_eq!(next_event(&mut *member), MembershipEvent::Lost(owned.clone()));
    member.acknowledge().unwrap();
    assert_eq!(next_event(&mut *member), MembershipEvent::Assigned(owned), "it comes back");
    member.leave().unwrap();
}

#[test]
fn a_member_that_the_broker_threw_out_in_a_rebalance_cannot_commit_what_another_owns() {
    let clients = impatient("evicted");
    let topic = unique("evicted");
    create_topic(&clients, &topic, 1);
    let mut member = clients.membership(&[topic.as_str().into()]).unwrap();
    let MembershipEvent::Assigned(owned) = next_event(&mut *member) else { panic!() };
    member.acknowledge().unwrap();
    let committer = member.committer();
    committer.commit(&[(owned[0].clone(), 1.into())]).unwrap();
    // The other's join waits for the first to rejoin, which nobody polls, until the broker gives it up.
    let mut other = clients.membership(&[topic.as_str().into()]).unwrap();
    assert_eq!(next_event(&mut *other), MembershipEvent::Assigned(owned.clone()));
    other.acknowledge().unwrap();
    // It may not know yet (then the event says "revoked"): the broker does.
    let error = committer.commit(&[(owned[0].clone(), 2.into())]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskMigrated, "{error}");
    let event = next_event(&mut *member);
    assert!(
        event == MembershipEvent::Revoked(owned.clone())
            || event == MembershipEvent::Lost(owned.clone())
    );
    other.committer().commit(&[(owned[0].clone(), 3.into())]).unwrap();
    let mut consumer = clients.consumer(ConsumerPurpose::Main).unwrap();
    assert_eq!(consumer.committed(&owned, WAIT).unwrap(), [Some(3.into())]);
    other.leave().unwrap();
    member.leave().unwrap();
}

#[test]
fn a_second_member_with_the_same_static_id_ends_the_first_for_good() {
    let mut settings = clients("static").settings().clone();
    settings.group_instance_id = Some("instance-1".into());
    let clients = LibrdkafkaClients::new(settings).unwrap();
    let topic = unique("static");
    create_topic(&clients, &topic, 1);
    let mut first = clients.membership(&[topic.as_str().into()]).unwrap();
    assert!(matches!(next_event(&mut *first), MembershipEvent::Assigned(_)));
    first.acknowledge().unwrap();
    let mut second = clients.membership(&[topic.as_str().into()]).unwrap();
    assert!(matches!(next_event(&mut *second), MembershipEvent::Assigned(_)));
    second.acknowledge().unwrap();
    let mut error = None;
    until("the first one's poll fails", || {
        error = first.poll(Duration::from_millis(100)).err();
        error.is_some()
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::Fatal);
    second.leave().unwrap();
}

#[test]
fn a_missing_topic_is_invalid() {
    let clients = clients("missing");
    let mut member = clients.membership(&["there-is-no-such-topic".into()]).unwrap();
    let mut error = None;
    until("the poll fails", || {
        error = member.poll(Duration::from_millis(100)).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("there-is-no-such-topic"), "{error}");
}
