//! A member of the group as its process sees it, and what the coordinator makes of it: the eager protocol, as `src/kafka/librdkafka` has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kstreams::kafka::{
    CommittedOffset, GroupMetadata, MemberName, Membership, MembershipEvent, OffsetCommitter,
};
use kstreams::{Error, Result, TopicPartition};

use super::Port;
use crate::broker::{GroupEvent, Joined, MemberId, migrated};
use crate::faults::Call;
use crate::world::{Event, State};

/// Between two looks at whether there is an event.
const LOOK: Duration = Duration::from_millis(10);

/// Identity and generation at an assignment.
pub(crate) struct Snapshot {
    member: MemberId,
    generation: i32,
    owned: BTreeSet<TopicPartition>,
    is_given_up: AtomicBool,
}

impl Snapshot {
    fn outside() -> Self {
        let owned = BTreeSet::new();
        Self { member: 0, generation: -1, owned, is_given_up: AtomicBool::new(true) }
    }

    /// What the client refuses before it asks the broker.
    pub(crate) fn fence(&self, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<()> {
        if self.is_given_up.load(Ordering::Relaxed) {
            return Err(migrated("the member is outside its group"));
        }
        let owns = |number| self.owned.iter().any(|owned| owned.partition == number);
        match offsets.iter().find(|(partition, _)| !owns(partition.partition)) {
            Some((partition, _)) => Err(migrated(format!("{partition} is not assigned"))),
            None => Ok(()),
        }
    }
}

/// What waits to be polled.
enum Pending {
    Assigned(Joined),
    Revoked,
    Lost,
}

/// A member's client: what goes on in it beside its process's polls.
pub(crate) struct Client {
    life: usize,
    topics: Vec<Arc<str>>,
    client_id: String,
    member: Option<MemberId>,
    snapshot: Arc<Snapshot>,
    inbox: VecDeque<Pending>,
    is_unanswered: bool,
    /// Whether an assignment was put into the inbox, and no end of it since.
    is_assigned: bool,
    /// Whether it waits for the answer to an end of its assignment.
    is_ending: bool,
    /// Whether a request to join is on its way, or was answered by a wait.
    is_joining: bool,
    last_poll: Duration,
    /// Left, or dropped.
    is_gone: bool,
}

pub(super) struct Member {
    port: Port,
    client: usize,
}

impl Member {
    pub(super) fn join(port: Port, topics: &[Arc<str>], name: MemberName<'_>) -> Result<Self> {
        port.enter(Call::Join)?;
        let client = {
            let mut state = port.world.lock();
            let process = name.process.map(|process| format!("-process.{process}"));
            let view = name.view.map(|view| format!("-view.{view}"));
            let (process, view) = (process.unwrap_or_default(), view.unwrap_or_default());
            let now = state.now;
            state.clients.push(Client {
                life: port.life,
                topics: topics.to_vec(),
                client_id: format!("simulated{}{process}{view}-membership", port.life),
                member: None,
                snapshot: Arc::new(Snapshot::outside()),
                inbox: VecDeque::new(),
                is_unanswered: false,
                is_assigned: false,
                is_ending: false,
                is_joining: false,
                last_poll: now,
                is_gone: false,
            });
            let client = state.clients.len() - 1;
            state.request_join(client);
            client
        };
        port.leave(Call::Join)?;
        Ok(Self { port, client })
    }

    fn next_event(&mut self) -> Result<Option<MembershipEvent>> {
        let mut state = self.port.world.lock();
        let now = state.now;
        let State { clients, broker, .. } = &mut *state;
        let client = &mut clients[self.client];
        client.last_poll = now;
        if let Some(missing) =
            client.topics.iter().find(|topic| !broker.topics.contains_key(&***topic))
        {
            return Err(Error::invalid(format!("there is no topic \"{missing}\"")));
        }
        if client.is_unanswered {
            return Ok(None);
        }
        let Some(pending) = client.inbox.pop_front() else { return Ok(None) };
        client.is_unanswered = true;
        let owned = || client.snapshot.owned.iter().cloned().collect();
        let event = match pending {
            Pending::Assigned(Joined { member, generation, owned, .. }) => {
                let partitions = owned.iter().cloned().collect();
                let is_given_up = AtomicBool::new(false);
                client.snapshot = Arc::new(Snapshot { member, generation, owned, is_given_up });
                MembershipEvent::Assigned(partitions)
            }
            // Thrown out after the revocation was queued: lost all the same.
            Pending::Revoked if client.member == Some(client.snapshot.member) => {
                MembershipEvent::Revoked(owned())
            }
            Pending::Revoked | Pending::Lost => {
                client.snapshot.is_given_up.store(true, Ordering::Relaxed);
                MembershipEvent::Lost(owned())
            }
        };
        let life = self.port.life;
        state.note(|| format!("process {life}: {event:?}"));
        Ok(Some(event))
    }
}

impl Membership for Member {
    fn poll(&mut self, timeout: Duration) -> Result<Option<MembershipEvent>> {
        let deadline = self.port.world.lock().now + timeout;
        loop {
            self.port.enter(Call::Poll)?;
            if let Some(event) = self.next_event()? {
                self.port.leave(Call::Poll)?;
                return Ok(Some(event));
            }
            let left = deadline.saturating_sub(self.port.world.lock().now);
            if left.is_zero() {
                return Ok(None);
            }
            self.port.pause(left.min(LOOK))?;
        }
    }

    fn acknowledge(&mut self) -> Result<()> {
        self.port.enter(Call::Acknowledge)?;
        {
            let mut state = self.port.world.lock();
            let client = &mut state.clients[self.client];
            if std::mem::take(&mut client.is_unanswered)
                && client.is_ending
                && client.inbox.is_empty()
            {
                client.snapshot.is_given_up.store(true, Ordering::Relaxed);
                (client.is_ending, client.is_assigned) = (false, false);
                state.request_join(self.client);
            }
        }
        self.port.leave(Call::Acknowledge)
    }

    fn group_metadata(&self) -> GroupMetadata {
        GroupMetadata(self.port.world.lock().clients[self.client].snapshot.clone())
    }

    fn member_id(&self) -> Option<String> {
        self.port.world.lock().clients[self.client].member.map(|id| id.to_string())
    }

    fn committer(&self) -> Arc<dyn OffsetCommitter> {
        Arc::new(Committer { port: self.port.clone(), client: self.client })
    }

    fn leave(self: Box<Self>) -> Result<()> {
        self.port.world.lock().clients[self.client]
            .snapshot
            .is_given_up
            .store(true, Ordering::Relaxed);
        self.port.enter(Call::Leave)?;
        let mut state = self.port.world.lock();
        if state.is_connected(self.port.life) {
            state.remove_member(self.client);
        }
        state.clients[self.client].is_gone = true;
        Ok(())
    }
}

impl Drop for Member {
    /// Falls silent.
    fn drop(&mut self) {
        self.port.world.lock().clients[self.client].is_gone = true;
    }
}

struct Committer {
    port: Port,
    client: usize,
}

impl OffsetCommitter for Committer {
    fn commit(&self, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<()> {
        let (snapshot, member) = {
            let state = self.port.world.lock();
            let client = &state.clients[self.client];
            (client.snapshot.clone(), client.member)
        };
        snapshot.fence(offsets)?;
        if member != Some(snapshot.member) {
            return Err(migrated("the member has been thrown out of its group"));
        }
        self.port.reach(Call::Commit, Duration::from_secs(2))?;
        {
            let mut state = self.port.world.lock();
            state.check_commit(&snapshot, offsets)?;
            for (partition, committed) in offsets {
                state.commit_offset(partition.clone(), committed.clone());
            }
        }
        self.port.leave(Call::Commit)
    }
}

impl State {
    fn request_join(&mut self, client: usize) {
        self.clients[client].is_joining = true;
        let travel = Duration::from_micros(self.rng.u64(100..2_000));
        self.later(travel, Event::Group(GroupEvent::Join(client)));
    }

    /// A request to join arrives, unless its sender cannot send.
    pub(crate) fn join(&mut self, client: usize) {
        let life = self.clients[client].life;
        if self.clients[client].is_gone || self.lives[life].is_dead {
            return;
        }
        if !self.is_connected(life) {
            let later = self.connected_at(life).saturating_sub(self.now);
            self.later(later, Event::Group(GroupEvent::Join(client)));
            return;
        }
        let (now, limits) = (self.now, self.limits);
        let Client { member, client_id, topics, .. } = &self.clients[client];
        let group = &mut self.broker.group;
        let joined = group.join(*member, client, client_id, topics, now, limits);
        self.clients[client].member = Some(joined);
        self.note(|| format!("process {life} joins as member {joined}"));
    }

    fn remove_member(&mut self, client: usize) {
        if let Some(member) = self.clients[client].member.take() {
            let (now, limits) = (self.now, self.limits);
            self.broker.group.remove(member, now, limits);
            self.note(|| format!("member {member} leaves"));
        }
    }

    /// The answer to a request to join arrives.
    pub(crate) fn deliver_assignment(&mut self, joined: Joined) {
        let client = &self.clients[joined.client];
        let life = client.life;
        if client.is_gone || self.lives[life].is_dead {
            return;
        }
        if !self.is_connected(life) {
            let later = self.connected_at(life).saturating_sub(self.now);
            self.later(later, Event::Group(GroupEvent::Assign(joined)));
            return;
        }
        let group = &self.broker.group;
        let has_rejoined = group.members.get(&joined.member).is_none_or(|one| one.has_joined);
        let client = &mut self.clients[joined.client];
        if client.member == Some(joined.member) && !has_rejoined {
            (client.is_assigned, client.is_joining) = (true, false);
            client.inbox.push_back(Pending::Assigned(joined));
        }
    }

    /// Every member that can tells the coordinator that it lives, and hears what the group is about.
    pub(crate) fn heartbeats(&mut self) {
        let (now, limits) = (self.now, self.limits);
        for member in self.broker.group.expire(now, limits) {
            self.note(|| format!("member {member} is thrown out"));
        }
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if client.is_gone || !self.is_connected(client.life) {
                continue;
            }
            let Some(member) = client.member else { continue };
            let is_silent = now.saturating_sub(client.last_poll) > limits.rebalance;
            if is_silent {
                self.remove_member(index);
                self.end_assignment(index, Pending::Lost);
            } else if !self.broker.group.members.contains_key(&member) {
                self.clients[index].member = None;
                self.end_assignment(index, Pending::Lost);
            } else {
                self.broker.group.heard_of(member, now + limits.session);
                if self.broker.group.wants_rejoin(member) {
                    self.end_assignment(index, Pending::Revoked);
                }
            }
        }
        let topics = self.broker.topics.iter();
        let counts = topics.map(|(name, topic)| {
            (name.clone(), i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        });
        let counts: BTreeMap<String, i32> = counts.collect();
        for joined in self.broker.group.complete(now, &counts) {
            self.note(|| {
                format!(
                    "generation {}: member {} gets {:?}",
                    joined.generation, joined.member, joined.owned
                )
            });
            let travel = Duration::from_micros(self.rng.u64(200..20_000));
            self.later(travel, Event::Group(GroupEvent::Assign(joined)));
        }
    }

    /// Tells a member that its assignment has ended; one that has none joins at once.
    fn end_assignment(&mut self, index: usize, how: Pending) {
        let client = &mut self.clients[index];
        if client.is_assigned {
            if !client.is_ending {
                client.is_ending = true;
                client.inbox.push_back(how);
            }
        } else if !client.is_joining || client.member.is_none() {
            self.request_join(index);
        } else if self.broker.group.wants_rejoin(client.member.unwrap_or_default()) {
            self.request_join(index); // its answer was overtaken by another rebalance
        }
    }

    /// What the broker says to a commit; and whether it should ever have been asked.
    pub(crate) fn check_commit(
        &mut self,
        snapshot: &Snapshot,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<()> {
        let member = self.broker.group.check(snapshot.member, snapshot.generation)?;
        let is_copartitioned = self.is_copartitioned;
        let owns = |partition: &TopicPartition| {
            let same = |owned: &TopicPartition| {
                owned.partition == partition.partition
                    && (!is_copartitioned || owned.topic == partition.topic)
            };
            member.owned.iter().any(same)
        };
        if let Some((partition, _)) = offsets.iter().find(|(partition, _)| !owns(partition)) {
            let text = format!(
                "member {} commits {partition}, which generation {} gives to another",
                snapshot.member, snapshot.generation
            );
            self.violate(text);
        }
        Ok(())
    }

    /// Sets a committed offset; exactly once, none goes back.
    pub(crate) fn commit_offset(&mut self, partition: TopicPartition, committed: CommittedOffset) {
        let before = self.broker.group.offsets.get(&partition).map(|committed| committed.offset);
        self.note(|| format!("committed: {partition} at {}", committed.offset));
        if self.is_exactly_once && before.is_some_and(|before| before > committed.offset) {
            let text = format!(
                "the committed offset of {partition} went back from {before:?} to {}",
                committed.offset
            );
            self.violate(text);
        }
        self.broker.group.offsets.insert(partition, committed);
    }
}
