//! The group membership of this process, with the range assignor: by the classic protocol, or by KIP-848 (see [`Protocol`]).
//!
//! Owned by the control thread, which polls it all the time. The member never fetches: every assignment is answered
//! with an **empty** list (DESIGN §3), so that its only traffic is heartbeats, joins and commits, and records are read by
//! consumers with manual assignment. What a member of a KIP-848 group reports as its own is what it was told, not the list.
#![allow(unsafe_code)] // rebalance answers and group metadata have no safe wrapper

use std::collections::BTreeSet;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};

use super::client::{Client, Rebalance, lock, millis, text_of};
use super::config::ClientSettings;
use super::error;
use super::partitions::{OFFSET_INVALID, PartitionList};
use super::protocol::Choice;
use super::snapshot::{GroupSnapshot, Protocol};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    CommittedOffset, GroupMetadata, MemberName, Membership, MembershipEvent, OffsetCommitter,
};

/// A member of the application's group.
pub(super) struct Member {
    protocol: Protocol,
    /// Told where the brokers turn out not to speak it.
    choice: Arc<Choice>,
    group: Arc<Group>,
    snapshot: Arc<GroupSnapshot>,
    /// The event that waits for its answer; no other is given out before.
    unanswered: Option<Unanswered>,
}

enum Unanswered {
    Assigned,
    Revoked(Vec<TopicPartition>),
}

/// The handle and what it owns, shared with committers on other threads.
struct Group {
    client: Client,
    owned: Mutex<Arc<GroupSnapshot>>,
}

impl Member {
    pub(super) fn join(
        settings: &ClientSettings,
        topics: &[Arc<str>],
        name: MemberName<'_>,
        choice: &Arc<Choice>,
    ) -> Result<Self> {
        let protocol = choice.of(settings);
        let properties = settings.membership_properties(name, protocol);
        let client = Client::new(RDKafkaType::RD_KAFKA_CONSUMER, &properties)?;
        let topics: Vec<TopicPartition> =
            topics.iter().map(|topic| TopicPartition::new(Arc::clone(topic), -1)).collect();
        if let Some(pattern) = topics.iter().find(|entry| entry.topic.starts_with('^')) {
            return Err(Error::invalid(format!("topic \"{}\" is not a topic name", pattern.topic)));
        }
        let list = PartitionList::new(topics.iter().map(|entry| (entry, OFFSET_INVALID)))?;
        // SAFETY: handle and list live; the list is copied.
        unsafe {
            error::check(ffi::rd_kafka_poll_set_consumer(client.rk()), || {
                "cannot redirect the member's main queue".into()
            })?;
            // Of no topic, which librdkafka refuses, there is nothing to be a member for.
            if !topics.is_empty() {
                error::check(ffi::rd_kafka_subscribe(client.rk(), list.as_ptr()), || {
                    format!("subscribing to {} topics", topics.len())
                })?;
            }
        }
        let snapshot = Arc::new(GroupSnapshot::outside(protocol));
        let owned = Mutex::new(Arc::clone(&snapshot));
        let (group, choice) = (Arc::new(Group { client, owned }), Arc::clone(choice));
        Ok(Self { protocol, choice, group, snapshot, unanswered: None })
    }

    fn next_event(&mut self) -> Result<Option<MembershipEvent>> {
        let fault = self.group.client.inbox().faults.pop_front();
        if let Some(fault) = fault {
            return self.event_of_fault(fault.code, fault.fatal, &fault.text).map(Some);
        }
        if self.unanswered.is_some() {
            return Ok(None);
        }
        let event = self.group.client.inbox().rebalances.pop_front();
        if event.is_none() {
            self.snapshot.follow_epoch(&self.group.client);
        }
        Ok(event.map(|event| match event {
            Rebalance::Assigned(partitions) => {
                self.unanswered = Some(Unanswered::Assigned);
                // The generation cannot change before this event is answered: the snapshot belongs to it.
                let mut owned = match self.protocol {
                    Protocol::Classic => BTreeSet::new(),
                    Protocol::Consumer => self.snapshot.owned(),
                };
                owned.extend(partitions);
                let all = owned.iter().cloned().collect();
                let snapshot = GroupSnapshot::of(self.protocol, &self.group.client, owned);
                self.snapshot = Arc::new(snapshot);
                *lock(&self.group.owned) = Arc::clone(&self.snapshot);
                MembershipEvent::Assigned(all)
            }
            Rebalance::Revoked { partitions, lost } => {
                self.unanswered = Some(Unanswered::Revoked(partitions.clone()));
                // Thrown out after the revocation was queued, before it was polled: lost all the same.
                if lost || !self.snapshot.is_current(&self.group.client) {
                    self.snapshot.give_up();
                    MembershipEvent::Lost(partitions)
                } else {
                    MembershipEvent::Revoked(partitions)
                }
            }
        }))
    }

    /// Serves the protocol once; a fault that came as a message is returned.
    fn serve(&mut self, timeout: Duration) -> Option<(Code, String)> {
        // SAFETY: the handle lives; the message is read and then destroyed once.
        unsafe {
            let message = ffi::rd_kafka_consumer_poll(self.group.client.rk(), millis(timeout));
            if message.is_null() {
                return None;
            }
            let fault = match Code::from((*message).err) {
                Code::NoError => (Code::Inconsistent, "the member has fetched a record".to_owned()),
                code => (code, text_of(ffi::rd_kafka_message_errstr(message))),
            };
            ffi::rd_kafka_message_destroy(message);
            Some(fault)
        }
    }

    /// A fault as an event, or as an error where the group cannot be joined.
    fn event_of_fault(&self, code: Code, fatal: bool, text: &str) -> Result<MembershipEvent> {
        let attempted = "group membership";
        // "Fatal" says that there is a cause.
        let cause = self.group.client.fatal_error().filter(|_| code == Code::Fatal);
        let (code, text) = cause.as_ref().map_or((code, text), |(code, text)| (*code, text));
        match code {
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                Err(error::with_kind(ErrorKind::Invalid, code, attempted, text))
            }
            Code::UnsupportedVersion | Code::UnsupportedFeature
                if self.protocol == Protocol::Consumer =>
            {
                self.choice.refused();
                Err(error::with_kind(ErrorKind::Retriable, code, attempted, text))
            }
            // By the consumer protocol a member that was killed holds its static id until its session ends. And librdkafka 2.12 joins with what it
            // owned before, which brokers refuse, where it was thrown out in the middle of a revocation: another member does not.
            Code::UnreleasedInstanceId | Code::InvalidRequest
                if self.protocol == Protocol::Consumer =>
            {
                Err(error::with_kind(ErrorKind::Retriable, code, attempted, text))
            }
            // Somebody else uses the same group.instance.id: two processes that both retry would fence each other for ever.
            Code::FencedInstanceId | Code::UnreleasedInstanceId => {
                Err(error::with_kind(ErrorKind::Fatal, code, attempted, text))
            }
            _ if fatal => Err(error::with_kind(ErrorKind::Fatal, code, attempted, text)),
            _ => match error::kind_of(code) {
                ErrorKind::Fatal | ErrorKind::Invalid => {
                    Err(error::from_code(code, attempted, text))
                }
                _ => Ok(MembershipEvent::Trouble(format!("{text} ({code:?})"))),
            },
        }
    }
}

impl Membership for Member {
    fn poll(&mut self, timeout: Duration) -> Result<Option<MembershipEvent>> {
        if let Some(event) = self.next_event()? {
            return Ok(Some(event));
        }
        if let Some((code, text)) = self.serve(timeout) {
            return self.event_of_fault(code, false, &text).map(Some);
        }
        self.next_event()
    }

    fn acknowledge(&mut self) -> Result<()> {
        let Some(event) = self.unanswered.take() else {
            return Ok(());
        };
        if let Unanswered::Revoked(partitions) = &event {
            match self.protocol {
                Protocol::Classic => self.snapshot.give_up(),
                Protocol::Consumer => self.snapshot.disown(partitions),
            }
        }
        let (rk, nothing) = (self.group.client.rk(), PartitionList::new([])?);
        let (protocol, attempted) = (self.protocol, "answering a rebalance");
        // SAFETY: handle and list live; the list is copied; null means no assignment.
        unsafe {
            let failure = match (protocol, event) {
                (Protocol::Classic, Unanswered::Assigned) => {
                    let code = ffi::rd_kafka_assign(rk, nothing.as_ptr());
                    return error::check(code, || attempted.into());
                }
                (Protocol::Classic, Unanswered::Revoked(_)) => {
                    let code = ffi::rd_kafka_assign(rk, ptr::null());
                    return error::check(code, || attempted.into());
                }
                (Protocol::Consumer, Unanswered::Assigned) => {
                    ffi::rd_kafka_incremental_assign(rk, nothing.as_ptr())
                }
                (Protocol::Consumer, Unanswered::Revoked(_)) => {
                    ffi::rd_kafka_incremental_unassign(rk, nothing.as_ptr())
                }
            };
            error::Failure::take(failure)
                .map_or(Ok(()), |failure| Err(failure.into_error(attempted)))
        }
    }

    fn group_metadata(&self) -> GroupMetadata {
        GroupMetadata(Arc::clone(&self.snapshot) as _)
    }

    fn member_id(&self) -> Option<String> {
        // SAFETY: the handle lives; the text is copied and then given back to the client that made it.
        unsafe {
            let id = ffi::rd_kafka_memberid(self.group.client.rk());
            if id.is_null() {
                return None;
            }
            let text = text_of(id);
            ffi::rd_kafka_mem_free(self.group.client.rk(), id.cast());
            Some(text).filter(|id| !id.is_empty())
        }
    }

    fn committer(&self) -> Arc<dyn OffsetCommitter> {
        Arc::clone(&self.group) as _
    }

    fn leave(mut self: Box<Self>) -> Result<()> {
        // Close revokes everything once more, inside the call: the callback then answers by itself.
        self.group.client.inbox().closing = true;
        self.snapshot.give_up();
        if self.unanswered.is_some() || !self.group.client.inbox().rebalances.is_empty() {
            self.unanswered = Some(Unanswered::Revoked(Vec::new()));
            self.acknowledge()?;
        }
        // SAFETY: the handle lives; it is closed once, since `self` ends here.
        let code = unsafe { ffi::rd_kafka_consumer_close(self.group.client.rk()) };
        error::check(code, || "leaving the group".into())
    }
}

impl OffsetCommitter for Group {
    fn commit(&self, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        // librdkafka commits with the generation of now, which is none after the member was thrown out, and an empty
        // group's broker takes that from anybody: so check what the commit rests on. The lock is not held over the
        // request; a revocation waits for commits by the runtime's own order.
        let snapshot = Arc::clone(&lock(&self.owned));
        snapshot.fence(offsets)?;
        if !snapshot.is_current(&self.client) {
            return Err(Error::new(
                ErrorKind::TaskMigrated,
                "cannot commit offsets: the member has been thrown out of its group",
            ));
        }
        let list = PartitionList::of_commits(offsets)?;
        // SAFETY: handle and list live; 0 = wait for the answer.
        let code = unsafe { ffi::rd_kafka_commit(self.client.rk(), list.as_ptr(), 0) };
        error::check(code, || format!("committing {} offsets", offsets.len()))
            .map_err(|error| snapshot.explain(error, Some(code.into())))?;
        match list.entries().into_iter().find(|entry| entry.2 != Code::NoError) {
            Some((partition, _, code)) => {
                let attempted = format!("committing the offset of {partition}");
                Err(snapshot.explain(error::from_code(code, &attempted, ""), Some(code)))
            }
            None => Ok(()),
        }
    }
}
