//! Clients that note what an instance does, and can hold it up in a rebalance.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kstreams::kafka::{
    Admin, Consumer, ConsumerPurpose, GroupMetadata, KafkaClients, MemberName, Membership,
    MembershipEvent, OffsetCommitter, Producer,
};
use kstreams::{Components, KafkaStreams, Result, StreamsConfig, TopicPartition, Topology};
use test_support::DEADLINE;

/// What is noted.
#[derive(Default)]
pub(super) struct Notes {
    /// Transactional ids of producers that were made.
    pub(super) ids: Mutex<BTreeSet<String>>,
    /// What the group said.
    pub(super) events: Mutex<Vec<MembershipEvent>>,
    /// Held at its first revocation, where there is one, after the tasks were committed and before the broker hears it.
    pub(super) gate: Option<Gate>,
}

/// Holds a rebalance.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<(Option<Vec<TopicPartition>>, bool)>,
    changed: Condvar,
}

impl Gate {
    /// What was revoked, once it is held.
    pub(super) fn wait_for_revocation(&self) -> Vec<TopicPartition> {
        let state = self.state.lock().unwrap();
        let (state, timeout) =
            self.changed.wait_timeout_while(state, DEADLINE, |state| state.0.is_none()).unwrap();
        assert!(!timeout.timed_out(), "nothing was revoked");
        state.0.clone().unwrap()
    }

    pub(super) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn pass(&self, partitions: &[TopicPartition]) {
        let mut state = self.state.lock().unwrap();
        if !state.1 {
            state.0 = Some(partitions.to_vec());
            self.changed.notify_all();
            let held = self.changed.wait_timeout_while(state, DEADLINE, |state| !state.1);
            assert!(!held.unwrap().1.timed_out(), "nobody opened the gate");
        }
    }
}

/// Starts an instance whose clients note what they do.
pub(super) fn started(
    topology: Topology,
    config: StreamsConfig,
    notes: &Arc<Notes>,
) -> KafkaStreams {
    super::runtime::log();
    let mut components = Components::from_config(&config).unwrap();
    components.clients =
        Arc::new(WatchedClients { inner: components.clients, notes: Arc::clone(notes) });
    let mut streams = KafkaStreams::with_components(topology, config, components).unwrap();
    streams.start().unwrap();
    streams
}

struct WatchedClients {
    inner: Arc<dyn KafkaClients>,
    notes: Arc<Notes>,
}

impl KafkaClients for WatchedClients {
    fn membership_as(
        &self,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Box<dyn Membership>> {
        let (inner, notes) = (self.inner.membership_as(topics, name)?, Arc::clone(&self.notes));
        Ok(Box::new(WatchedMember { inner, notes, revoked: None }))
    }
    fn consumer(&self, purpose: ConsumerPurpose) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(purpose)
    }
    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        self.notes.ids.lock().unwrap().extend(transactional_id.map(str::to_owned));
        self.inner.producer(transactional_id)
    }
    fn admin(&self) -> Result<Box<dyn Admin>> {
        self.inner.admin()
    }
}

struct WatchedMember {
    inner: Box<dyn Membership>,
    notes: Arc<Notes>,
    /// Not answered yet.
    revoked: Option<Vec<TopicPartition>>,
}

impl Membership for WatchedMember {
    fn poll(&mut self, timeout: Duration) -> Result<Option<MembershipEvent>> {
        let event = self.inner.poll(timeout)?;
        if let Some(MembershipEvent::Revoked(partitions)) = &event {
            self.revoked = Some(partitions.clone());
        }
        self.notes.events.lock().unwrap().extend(event.clone());
        Ok(event)
    }
    fn acknowledge(&mut self) -> Result<()> {
        if let (Some(partitions), Some(gate)) = (self.revoked.take(), &self.notes.gate) {
            gate.pass(&partitions);
        }
        self.inner.acknowledge()
    }
    fn group_metadata(&self) -> GroupMetadata {
        self.inner.group_metadata()
    }
    fn committer(&self) -> Arc<dyn OffsetCommitter> {
        self.inner.committer()
    }
    fn leave(self: Box<Self>) -> Result<()> {
        self.inner.leave()
    }
}
