//! The group membership of this process, by the classic protocol with the range assignor.
//!
//! Owned by the control thread, which polls it all the time. The member never fetches: every assignment is answered
//! with an **empty** list (DESIGN §3), so that its only traffic is heartbeats, joins and commits, and records are read by
//! consumers with manual assignment. The protocol is eager: everything is revoked and then assigned anew.
#![allow(unsafe_code)] // rebalance answers and group metadata have no safe wrapper

use std::collections::BTreeSet;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};

use super::client::{Client, Rebalance, lock, millis, text_of};
use super::config::ClientSettings;
use super::error;
use super::partitions::{OFFSET_INVALID, PartitionList};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{
    CommittedOffset, GroupMetadata, MemberName, Membership, MembershipEvent, OffsetCommitter,
};

/// A member of the application's group.
pub(super) struct ClassicMember {
    group: Arc<Group>,
    snapshot: Arc<GroupSnapshot>,
    /// The event that waits for its answer; no other is given out before.
    unanswered: Option<Unanswered>,
}

enum Unanswered {
    Assigned,
    Revoked,
}

/// The handle and what it owns, shared with committers on other threads.
struct Group {
    client: Client,
    owned: Mutex<Arc<GroupSnapshot>>,
}

impl ClassicMember {
    pub(super) fn join(
        settings: &ClientSettings,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Self> {
        let properties = settings.membership_properties(name);
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
        let snapshot = Arc::new(GroupSnapshot::outside());
        let owned = Mutex::new(Arc::clone(&snapshot));
        Ok(Self { group: Arc::new(Group { client, owned }), snapshot, unanswered: None })
    }

    fn next_event(&mut self) -> Result<Option<MembershipEvent>> {
        let fault = self.group.client.inbox().faults.pop_front();
        if let Some(fault) = fault {
            return event_of_fault(fault.code, fault.fatal, &fault.text).map(Some);
        }
        if self.unanswered.is_some() {
            return Ok(None);
        }
        let event = self.group.client.inbox().rebalances.pop_front();
        Ok(event.map(|event| match event {
            Rebalance::Assigned(partitions) => {
                self.unanswered = Some(Unanswered::Assigned);
                // The generation cannot change before this event is answered: the snapshot belongs to it.
                let owned = partitions.iter().cloned().collect();
                self.snapshot = Arc::new(GroupSnapshot::of(&self.group.client, owned));
                *lock(&self.group.owned) = Arc::clone(&self.snapshot);
                MembershipEvent::Assigned(partitions)
            }
            Rebalance::Revoked { partitions, lost } => {
                self.unanswered = Some(Unanswered::Revoked);
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
}

impl Membership for ClassicMember {
    fn poll(&mut self, timeout: Duration) -> Result<Option<MembershipEvent>> {
        if let Some(event) = self.next_event()? {
            return Ok(Some(event));
        }
        if let Some((code, text)) = self.serve(timeout) {
            return event_of_fault(code, false, &text).map(Some);
        }
        self.next_event()
    }

    fn acknowledge(&mut self) -> Result<()> {
        let Some(event) = self.unanswered.take() else {
            return Ok(());
        };
        let rk = self.group.client.rk();
        let code = match event {
            Unanswered::Assigned => {
                let nothing = PartitionList::new([])?;
                // SAFETY: handle and list live; the list is copied.
                unsafe { ffi::rd_kafka_assign(rk, nothing.as_ptr()) }
            }
            Unanswered::Revoked => {
                self.snapshot.give_up();
                // SAFETY: the handle lives; null means no assignment.
                unsafe { ffi::rd_kafka_assign(rk, ptr::null()) }
            }
        };
        error::check(code, || "answering a rebalance".into())
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
            self.unanswered = Some(Unanswered::Revoked);
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
            .map_err(|error| snapshot.explain(error))?;
        match list.entries().into_iter().find(|entry| entry.2 != Code::NoError) {
            Some((partition, _, code)) => {
                let attempted = format!("committing the offset of {partition}");
                Err(snapshot.explain(error::from_code(code, &attempted, "")))
            }
            None => Ok(()),
        }
    }
}

/// The broker does not check who owns what within a generation (DESIGN §3): we do.
///
/// By number, not by topic: a task owns the partitions of its number in all of its topics, even where these have
/// different counts and the group protocol has handed some of them to another member (see `runtime::assignment`).
fn check_owned(
    owned: &BTreeSet<TopicPartition>,
    offsets: &[(TopicPartition, CommittedOffset)],
) -> Result<()> {
    let owns = |number| owned.iter().any(|partition| partition.partition == number);
    match offsets.iter().find(|(partition, _)| !owns(partition.partition)) {
        Some((partition, _)) => Err(Error::new(
            ErrorKind::TaskMigrated,
            format!("cannot commit {partition}: it is not in this member's assignment any more"),
        )),
        None => Ok(()),
    }
}

/// A fault as an event, or as an error where the group can never be joined.
fn event_of_fault(code: Code, fatal: bool, text: &str) -> Result<MembershipEvent> {
    let attempted = "group membership";
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Err(error::with_kind(ErrorKind::Invalid, code, attempted, text))
        }
        // Somebody else uses the same group.instance.id: two processes that both retry would fence each other for ever.
        Code::FencedInstanceId | Code::UnreleasedInstanceId => {
            Err(error::with_kind(ErrorKind::Fatal, code, attempted, text))
        }
        _ if fatal => Err(error::with_kind(ErrorKind::Fatal, code, attempted, text)),
        _ => match error::kind_of(code) {
            ErrorKind::Fatal | ErrorKind::Invalid => Err(error::from_code(code, attempted, text)),
            _ => Ok(MembershipEvent::Trouble(format!("{text} ({code:?})"))),
        },
    }
}

/// Identity and generation of the member at an assignment, and what it owned by it.
pub(super) struct GroupSnapshot {
    /// Null before the first assignment.
    metadata: *mut ffi::rd_kafka_consumer_group_metadata_t,
    owned: BTreeSet<TopicPartition>,
    /// Whether this member has answered for the loss of it: whoever owns it now may be its own successor.
    given_up: AtomicBool,
}

// SAFETY: the metadata object is immutable plain data, freed once on drop.
unsafe impl Send for GroupSnapshot {}
// SAFETY: as above.
unsafe impl Sync for GroupSnapshot {}

impl GroupSnapshot {
    fn outside() -> Self {
        Self { metadata: ptr::null_mut(), owned: BTreeSet::new(), given_up: AtomicBool::new(true) }
    }

    fn of(client: &Client, owned: BTreeSet<TopicPartition>) -> Self {
        // SAFETY: the handle lives; the object is ours to free.
        let metadata = unsafe { ffi::rd_kafka_consumer_group_metadata(client.rk()) };
        Self { metadata, owned, given_up: AtomicBool::new(false) }
    }

    /// -1 outside the group.
    fn generation(&self) -> i32 {
        if self.metadata.is_null() {
            return -1;
        }
        // SAFETY: the object lives as long as `self`.
        unsafe { ffi::rd_kafka_consumer_group_metadata_generation_id(self.metadata) }
    }

    /// Whether the member is still in the generation of this snapshot.
    fn is_current(&self, client: &Client) -> bool {
        self.generation() >= 0
            && self.generation() == Self::of(client, BTreeSet::new()).generation()
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// What a failed commit with this identity means. "Fenced" ends the client where somebody else has taken its static id
    /// (Java's `FencedInstanceIdException`), and is an ordinary migration where this process itself has joined anew.
    pub(super) fn explain(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Fatal if self.given_up.load(Ordering::Acquire) => {
                let text = "a commit of a membership that was given up";
                Error::new(ErrorKind::TaskMigrated, text).with_source(error)
            }
            _ => error,
        }
    }

    /// The metadata to fence a commit of `offsets` with.
    ///
    /// # Errors
    /// `TaskMigrated` where the member was outside the group (a broker takes generation -1 without any fencing) or has given
    /// the assignment up, or where a partition was not in it.
    pub(super) fn fence(
        &self,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<*const ffi::rd_kafka_consumer_group_metadata_t> {
        if self.generation() < 0 || self.given_up.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::TaskMigrated,
                "cannot commit offsets: the member is outside its group",
            ));
        }
        check_owned(&self.owned, offsets)?;
        Ok(self.metadata)
    }
}

impl Drop for GroupSnapshot {
    fn drop(&mut self) {
        if !self.metadata.is_null() {
            // SAFETY: owned, freed once.
            unsafe { ffi::rd_kafka_consumer_group_metadata_destroy(self.metadata) };
        }
    }
}
