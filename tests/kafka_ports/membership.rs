//! Group membership on a real cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{ConsumerPurpose, KafkaClients, Membership, MembershipEvent};
use kstreams::{ErrorKind, GroupProtocol, TopicPartition};
use test_support::unique;

use crate::broker::clients;
use crate::common::*;

/// Polls both members, answering everything, until each owns something and together they own all.
fn settle(members: &mut [Box<dyn Membership>], owned: &mut [Vec<TopicPartition>], total: usize) {
    until("the members share everything", || {
        for (member, owned) in members.iter_mut().zip(owned.iter_mut()) {
            match member.poll(Duration::from_millis(20)).unwrap() {
                Some(MembershipEvent::Assigned(partitions)) => *owned = partitions,
                Some(MembershipEvent::Revoked(gone) | MembershipEvent::Lost(gone)) => {
                    owned.retain(|partition| !gone.contains(partition));
                }
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

/// Clients that join by a protocol, with a session of 10 s unless said otherwise.
fn clients_by(name: &str, protocol: GroupProtocol) -> LibrdkafkaClients {
    let mut settings = clients(name).settings().clone();
    settings.group_protocol = protocol;
    LibrdkafkaClients::new(settings).unwrap()
}

#[test]
fn by_the_classic_protocol_everything_is_revoked() {
    members_share_copartitioned_topics(&clients_by("share", GroupProtocol::Classic), 8);
}

#[test]
fn by_the_consumer_protocol_only_what_moves_is_revoked() {
    members_share_copartitioned_topics(&clients_by("share", GroupProtocol::Consumer), 4);
}

/// The brokers under test have a session of 10 s.
#[test]
fn the_consumer_protocol_is_chosen_where_the_brokers_session_is_short_enough() {
    members_share_copartitioned_topics(&clients_by("auto", GroupProtocol::Auto), 4);
    let mut settings = clients_by("auto", GroupProtocol::Auto).settings().clone();
    settings.session_timeout = Duration::from_millis(9_999);
    members_share_copartitioned_topics(&LibrdkafkaClients::new(settings).unwrap(), 8);
}

/// Two members share two topics by range, and the first gets all when the other leaves. `moves`: how much is revoked for the second.
fn members_share_copartitioned_topics(clients: &LibrdkafkaClients, moves: usize) {
    let (a, b) = (unique("share-a"), unique("share-b"));
    create_topic(clients, &a, 4);
    create_topic(clients, &b, 4);
    let topics = [a.as_str().into(), b.as_str().into()];
    let mut first = clients.membership(&topics).unwrap();
    let MembershipEvent::Assigned(mut all) = next_event(&mut *first) else {
        panic!("not assigned")
    };
    // Unanswered: the protocol stands still, and polling gives nothing.
    assert_eq!(first.poll(Duration::from_millis(100)).unwrap(), None);
    first.acknowledge().unwrap();
    // By the consumer protocol the topics may come one after the other.
    while all.len() < 8 {
        let MembershipEvent::Assigned(more) = next_event(&mut *first) else {
            panic!("not assigned")
        };
        first.acknowledge().unwrap();
        all = more;
    }
    let second = clients.membership(&topics).unwrap();
    let MembershipEvent::Revoked(revoked) = next_event(&mut *first) else { panic!("not revoked") };
    assert_eq!(revoked.len(), moves);
    first.acknowledge().unwrap();
    let mut members = [first, second];
    let stays = all.into_iter().filter(|partition| !revoked.contains(partition)).collect();
    let mut owned = [stays, Vec::new()];
    settle(&mut members, &mut owned, 8);
    for owned in &owned {
        assert_eq!(numbers(owned, &a).len(), 2);
        assert_eq!(numbers(owned, &a), numbers(owned, &b), "co-partitioned");
    }
    let [first, second] = members;
    second.leave().unwrap();
    let mut members = [first];
    settle(&mut members, &mut owned[..1], 8);
    let [first] = members;
    first.leave().unwrap();
}

#[test]
fn the_member_never_fetches() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        the_member_never_fetches_by(protocol);
    }
}

fn the_member_never_fetches_by(protocol: GroupProtocol) {
    let clients = clients_by("nofetch", protocol);
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
fn impatient(name: &str, protocol: GroupProtocol) -> LibrdkafkaClients {
    let mut settings = clients_by(name, protocol).settings().clone();
    settings.session_timeout = Duration::from_secs(6);
    settings.consumer.insert("max.poll.interval.ms".into(), "6000".into());
    LibrdkafkaClients::new(settings).unwrap()
}

#[test]
fn a_member_that_nobody_polls_leaves_cannot_commit_and_hears_that_its_partitions_are_lost() {
    a_member_that_nobody_polls_loses_its_partitions_by(GroupProtocol::Classic);
}

#[test]
fn by_the_consumer_protocol_too_a_member_that_nobody_polls_loses_its_partitions() {
    a_member_that_nobody_polls_loses_its_partitions_by(GroupProtocol::Consumer);
}

fn a_member_that_nobody_polls_loses_its_partitions_by(protocol: GroupProtocol) {
    let clients = impatient("lost", protocol);
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
    let clients = impatient("evicted", GroupProtocol::Classic);
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
    let mut settings = clients_by("static", GroupProtocol::Classic).settings().clone();
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

/// Unlike by the classic protocol.
#[test]
fn by_the_consumer_protocol_a_static_id_is_refused_until_its_member_has_left() {
    let mut settings = clients_by("released", GroupProtocol::Consumer).settings().clone();
    settings.group_instance_id = Some("instance-1".into());
    let clients = LibrdkafkaClients::new(settings).unwrap();
    let topic = unique("released");
    create_topic(&clients, &topic, 1);
    let mut first = clients.membership(&[topic.as_str().into()]).unwrap();
    let MembershipEvent::Assigned(owned) = next_event(&mut *first) else { panic!() };
    first.acknowledge().unwrap();
    let mut second = clients.membership(&[topic.as_str().into()]).unwrap();
    let mut error = None;
    until("the second one's poll fails", || {
        error = second.poll(Duration::from_millis(100)).err();
        error.is_some()
    });
    assert_eq!(error.unwrap().kind(), ErrorKind::Retriable);
    drop(second);
    first.leave().unwrap();
    let mut second = clients.membership(&[topic.as_str().into()]).unwrap();
    assert_eq!(next_event(&mut *second), MembershipEvent::Assigned(owned));
    second.acknowledge().unwrap();
    second.leave().unwrap();
}

#[test]
fn a_missing_topic_is_invalid() {
    let clients = clients_by("missing", GroupProtocol::Classic);
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
