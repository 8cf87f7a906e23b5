//! The group coordinator, by the classic protocol with the range assignor: joins, generations, sessions, committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::CommittedOffset;
use kstreams::{Result, TopicPartition};

use super::migrated;

pub(crate) type MemberId = u64;

/// How long a first join waits for others.
const INITIAL_DELAY: Duration = Duration::from_millis(100);

pub(crate) struct Member {
    /// The client that is this member.
    pub(crate) client: usize,
    pub(crate) client_id: String,
    topics: Vec<Arc<str>>,
    /// Whether it waits for the next generation.
    pub(crate) has_joined: bool,
    expires: Duration,
    pub(crate) owned: BTreeSet<TopicPartition>,
}

/// A rebalance under way.
struct Rebalance {
    not_before: Duration,
    deadline: Duration,
}

/// What the coordinator tells a member at the end of a rebalance.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(crate) client: usize,
    pub(crate) member: MemberId,
    pub(crate) generation: i32,
    pub(crate) owned: BTreeSet<TopicPartition>,
}

/// What happens to a group later.
#[derive(Debug, Clone)]
pub(crate) enum GroupEvent {
    /// A client's request to join arrives.
    Join(usize),
    /// Coordinator and members look at each other.
    Heartbeats,
    /// An answer arrives at its client.
    Assign(Joined),
}

/// The group of the application.
#[derive(Default)]
pub(crate) struct Group {
    generation: i32,
    rebalance: Option<Rebalance>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    last_member: MemberId,
    pub(crate) offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

impl Group {
    /// A member joins, or joins anew with its id.
    pub(crate) fn join(
        &mut self,
        member: Option<MemberId>,
        client: usize,
        client_id: &str,
        topics: &[Arc<str>],
        now: Duration,
        limits: Limits,
    ) -> MemberId {
        let id = member.filter(|id| self.members.contains_key(id)).unwrap_or_else(|| {
            self.last_member += 1;
            self.last_member
        });
        let owned = self.members.remove(&id).map(|member| member.owned).unwrap_or_default();
        let joined = Member {
            client,
            client_id: client_id.to_owned(),
            topics: topics.to_vec(),
            has_joined: true,
            expires: now + limits.session,
            owned,
        };
        self.members.insert(id, joined);
        self.begin_rebalance(now, limits);
        id
    }

    fn begin_rebalance(&mut self, now: Duration, limits: Limits) {
        if self.rebalance.is_none() && !self.members.is_empty() {
            let (not_before, deadline) = (now + INITIAL_DELAY, now + limits.rebalance);
            self.rebalance = Some(Rebalance { not_before, deadline });
        }
    }

    pub(crate) fn remove(&mut self, member: MemberId, now: Duration, limits: Limits) {
        if self.members.remove(&member).is_some() {
            if self.members.is_empty() {
                self.rebalance = None;
            }
            self.begin_rebalance(now, limits);
        }
    }

    pub(crate) fn heard_of(&mut self, member: MemberId, until: Duration) {
        if let Some(member) = self.members.get_mut(&member) {
            member.expires = until;
        }
    }

    /// Whether this member is asked to join anew.
    pub(crate) fn wants_rejoin(&self, member: MemberId) -> bool {
        self.rebalance.is_some() && self.members.get(&member).is_some_and(|one| !one.has_joined)
    }

    /// Throws out members that were silent for too long, or did not join in time.
    pub(crate) fn expire(&mut self, now: Duration, limits: Limits) -> Vec<MemberId> {
        let late = self.rebalance.as_ref().is_some_and(|rebalance| now > rebalance.deadline);
        let gone = |member: &Member| member.expires < now || (late && !member.has_joined);
        let expired = self.members.iter().filter(|(_, member)| gone(member));
        let expired: Vec<MemberId> = expired.map(|(id, _)| *id).collect();
        for member in &expired {
            self.remove(*member, now, limits);
        }
        expired
    }

    /// Ends the rebalance once all have joined.
    pub(crate) fn complete(
        &mut self,
        now: Duration,
        counts: &BTreeMap<String, i32>,
    ) -> Vec<Joined> {
        let ready = self.rebalance.as_ref().is_some_and(|rebalance| now >= rebalance.not_before);
        if !ready || !self.members.values().all(|member| member.has_joined) {
            return Vec::new();
        }
        self.rebalance = None;
        self.generation += 1;
        let topics: BTreeSet<Arc<str>> =
            self.members.values().flat_map(|member| member.topics.iter().cloned()).collect();
        for member in self.members.values_mut() {
            member.owned.clear();
            member.has_joined = false;
        }
        for topic in topics {
            let count = counts.get(&*topic).copied().unwrap_or(0);
            self.assign_range(&topic, count);
        }
        let joined = self.members.iter().map(|(id, member)| Joined {
            client: member.client,
            member: *id,
            generation: self.generation,
            owned: member.owned.clone(),
        });
        joined.collect()
    }

    fn assign_range(&mut self, topic: &Arc<str>, count: i32) {
        let members: Vec<&mut Member> =
            self.members.values_mut().filter(|member| member.topics.contains(topic)).collect();
        let subscribed = i32::try_from(members.len()).unwrap_or(i32::MAX);
        let mut next = 0;
        for (place, member) in (0..).zip(members) {
            let share = count / subscribed + i32::from(place < count % subscribed);
            let owned =
                (next..next + share).map(|number| TopicPartition::new(topic.clone(), number));
            member.owned.extend(owned);
            next += share;
        }
    }

    /// Whether a commit of this identity is taken.
    ///
    /// # Errors
    /// `TaskMigrated` where the member or its generation is over.
    pub(crate) fn check(&self, member: MemberId, generation: i32) -> Result<&Member> {
        let Some(found) = self.members.get(&member) else {
            return Err(migrated(format!("member {member} is unknown")));
        };
        if generation != self.generation {
            let text = format!("generation {generation} is over, it is {}", self.generation);
            return Err(migrated(text));
        }
        Ok(found)
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.rebalance.is_none()
    }
}

/// How long members may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) session: Duration,
    /// Between polls, and so for joining anew.
    pub(crate) rebalance: Duration,
}
