//! What a member's commits rest on: its identity at an assignment, and what it owned by it.
//!
//! Made by the membership, used by producers and committers on their threads. Cold: once a commit.
#![allow(unsafe_code)] // group metadata has no safe wrapper

use std::collections::BTreeSet;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::bindings as ffi;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::{Client, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::CommittedOffset;

/// Group, member and generation, as librdkafka has them at one moment.
pub(super) struct Identity(*mut ffi::rd_kafka_consumer_group_metadata_t);

// SAFETY: the object is immutable plain data, freed once on drop.
unsafe impl Send for Identity {}
// SAFETY: as above.
unsafe impl Sync for Identity {}

impl Identity {
    fn now(client: &Client) -> Self {
        // SAFETY: the handle lives; the object is ours to free.
        Self(unsafe { ffi::rd_kafka_consumer_group_metadata(client.rk()) })
    }

    pub(super) fn as_ptr(&self) -> *const ffi::rd_kafka_consumer_group_metadata_t {
        self.0
    }

    /// -1 outside the group; a member that joins by the consumer protocol has 0 until it is in.
    fn generation(&self) -> i32 {
        if self.0.is_null() {
            return -1;
        }
        // SAFETY: the object lives as long as `self`.
        unsafe { ffi::rd_kafka_consumer_group_metadata_generation_id(self.0) }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned, freed once.
            unsafe { ffi::rd_kafka_consumer_group_metadata_destroy(self.0) };
        }
    }
}

/// The group protocols that librdkafka speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Eager: at every rebalance everything is revoked, and assigned anew in another generation.
    Classic,
    /// KIP-848: what moves is revoked and assigned, and the rest stays, also while the member's epoch rises.
    Consumer,
}

/// The member at an assignment. Changes by the handling of rebalances only.
pub(super) struct GroupSnapshot {
    protocol: Protocol,
    identity: Mutex<Arc<Identity>>,
    owned: Mutex<BTreeSet<TopicPartition>>,
    /// Whether this member has answered for the loss of it: whoever owns it now may be its own successor.
    given_up: AtomicBool,
}

impl GroupSnapshot {
    /// Before the first assignment.
    pub(super) fn outside(protocol: Protocol) -> Self {
        let snapshot = Self::with(protocol, Identity(ptr::null_mut()), BTreeSet::new());
        snapshot.give_up();
        snapshot
    }

    pub(super) fn of(protocol: Protocol, client: &Client, owned: BTreeSet<TopicPartition>) -> Self {
        Self::with(protocol, Identity::now(client), owned)
    }

    fn with(protocol: Protocol, identity: Identity, owned: BTreeSet<TopicPartition>) -> Self {
        let (identity, owned) = (Mutex::new(Arc::new(identity)), Mutex::new(owned));
        Self { protocol, identity, owned, given_up: AtomicBool::new(false) }
    }

    fn generation(&self) -> i32 {
        lock(&self.identity).generation()
    }

    /// What is owned still; nothing after it was given up.
    pub(super) fn owned(&self) -> BTreeSet<TopicPartition> {
        match self.is_given_up() {
            true => BTreeSet::new(),
            false => lock(&self.owned).clone(),
        }
    }

    /// Whether the member is still in the group by this assignment.
    pub(super) fn is_current(&self, client: &Client) -> bool {
        let now = Identity::now(client).generation();
        match self.protocol {
            Protocol::Classic => now >= 0 && self.generation() == now,
            // A member that was thrown out has no epoch before its loss is answered.
            Protocol::Consumer => now > 0,
        }
    }

    /// Takes over the member's epoch where it has risen without moving anything. The broker raises it only for a member that has given up
    /// what was revoked, so what is owned here is owned in that epoch too; brokers before 4.3 refuse the earlier one.
    pub(super) fn follow_epoch(&self, client: &Client) {
        if self.protocol == Protocol::Classic || self.is_given_up() {
            return;
        }
        let now = Identity::now(client);
        if now.generation() > self.generation() {
            *lock(&self.identity) = Arc::new(now);
        }
    }

    /// These belong to somebody else from now on; the rest stays.
    pub(super) fn disown(&self, partitions: &[TopicPartition]) {
        lock(&self.owned).retain(|owned| !partitions.contains(owned));
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// What a failed commit with this identity means. "Fenced" ends the client where somebody else has taken its static id
    /// (Java's `FencedInstanceIdException`), and is an ordinary migration where this process itself has joined anew. An epoch that is
    /// not the member's any more is no migration by the consumer protocol: a new attempt has the new one, and who has really lost its
    /// tasks will hear of it.
    pub(super) fn explain(&self, error: Error, code: Option<Code>) -> Error {
        let is_stale = matches!(code, Some(Code::IllegalGeneration | Code::StaleMemberEpoch));
        match error.kind() {
            ErrorKind::Fatal if self.is_given_up() => {
                let text = "a commit of a membership that was given up";
                Error::new(ErrorKind::TaskMigrated, text).with_source(error)
            }
            ErrorKind::TaskMigrated
                if is_stale && self.protocol == Protocol::Consumer && !self.is_given_up() =>
            {
                let text = "a commit of an epoch before the member's present one";
                Error::new(ErrorKind::AbortTransaction, text).with_source(error)
            }
            _ => error,
        }
    }

    /// The identity to fence a commit of `offsets` with.
    ///
    /// # Errors
    /// `TaskMigrated` where the member was outside the group (a broker takes generation -1 without any fencing) or has given
    /// the assignment up, or where a partition was not in it.
    pub(super) fn fence(
        &self,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<Arc<Identity>> {
        let identity = Arc::clone(&lock(&self.identity));
        if identity.generation() < 0 || self.is_given_up() {
            return Err(Error::new(
                ErrorKind::TaskMigrated,
                "cannot commit offsets: the member is outside its group",
            ));
        }
        check_owned(&lock(&self.owned), offsets)?;
        Ok(identity)
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
