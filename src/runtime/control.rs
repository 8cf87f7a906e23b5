//! The control thread: the group's events become commands to the stream threads.
//!
//! It alone talks to the [`Membership`]. Revoked: the threads commit and suspend those tasks, then the broker gets its answer. Lost: they drop everything.
//! Assigned: tasks are placed on threads. A thread that makes no progress for `max.poll.interval.ms` fails the client, and so gives its tasks up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::assignment::{place, tasks_of};
use super::matching::Matching;
use super::shared::Shared;
use super::standbys::OwnPlace;
use super::state::State;
use super::stream_thread::{Command, Report};
use super::topics::Prepared;
use crate::config::StreamsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{KafkaClients, MemberName, Membership, MembershipEvent};
use crate::task::TaskBuilder;
use crate::telemetry::GroupEvent;

const POLL: Duration = Duration::from_millis(50);
/// Before the group is joined again that could not be joined.
const REJOIN_BACKOFF: Duration = Duration::from_millis(500);
/// The broker's default of a session, by the protocol where it is the broker's to choose.
const REFUSED_MIN: Duration = Duration::from_secs(45);

/// A stream thread as the control thread sees it.
pub(super) struct ThreadHandle {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    pub(super) alive_at_ms: Arc<AtomicU64>,
}

impl ThreadHandle {
    pub(super) fn send(&self, command: Command) {
        // A thread that has ended has reported why.
        let _ = self.commands.send(command);
        (self.wake)();
    }
}

/// Why the control thread has ended.
pub(super) enum Ended {
    /// The client stops.
    Stopped,
    /// Patterns match other topics now: everything is to be started anew, on these.
    TopicsChanged(Box<Prepared>),
}

pub(super) struct ControlThread {
    pub(super) clients: Arc<dyn KafkaClients>,
    /// `None` before the group is joined, and between two memberships.
    pub(super) membership: Option<Box<dyn Membership>>,
    /// Where the topology has patterns.
    pub(super) matching: Option<Matching>,
    /// On the monotonic clock.
    pub(super) started_at: Duration,
    pub(super) topics: Vec<Arc<str>>,
    /// Of this process, over restarts; told to the other members.
    pub(super) process: String,
    pub(super) builder: TaskBuilder,
    pub(super) config: Arc<StreamsConfig>,
    pub(super) threads: Vec<ThreadHandle>,
    pub(super) reports: Receiver<Report>,
    pub(super) shared: Arc<Shared>,
    /// Told of every assignment, for the standbys.
    pub(super) own_place: Sender<OwnPlace>,
    /// Since when, on the monotonic clock, the group could not be joined, and when to try again.
    pub(super) refused_since: Option<Duration>,
    pub(super) join_at: Option<Duration>,
    /// Where each task was placed.
    pub(super) placed: BTreeMap<TaskId, usize>,
}

impl ControlThread {
    pub(super) fn run(&mut self) -> Result<Ended> {
        self.shared.metrics.set_threads(self.threads.len());
        if self.topics.is_empty() {
            self.become_running(); // nothing to be assigned, until a pattern matches
        }
        let mut ended = Ended::Stopped;
        while !self.shared.is_stopping() {
            if self.membership.is_none() && self.must_wait() {
                self.watch()?;
                // A thread that was fenced has no tasks any more, as the others: nothing is left to be done about it.
                let _ = self.shared.receive(&self.reports, POLL);
                continue;
            }
            let membership = match &mut self.membership {
                Some(membership) => membership,
                None => {
                    let view = self.matching.as_ref().map(Matching::view);
                    let name = MemberName { process: Some(&self.process), view };
                    let joined = self.clients.membership_as(&self.topics, name)?;
                    self.membership.insert(joined)
                }
            };
            match membership.poll(POLL) {
                Ok(Some(event)) => self.handle(event)?,
                Ok(None) => self.serve_reports()?,
                // A topic that was created a moment ago is not known to every broker yet.
                Err(error) if error.kind() == ErrorKind::Invalid && self.is_young() => {
                    tracing::warn!(error = ?error, "the group waits for its topics");
                }
                Err(error) if error.kind() == ErrorKind::Retriable => self.join_later(error)?,
                Err(error) => return Err(error),
            }
            if let Some(prepared) = self.look_at_topics()? {
                ended = Ended::TopicsChanged(Box::new(prepared));
                break;
            }
            self.watch()?;
        }
        self.stop_threads();
        self.shared.metrics.set_threads(0);
        Ok(ended)
    }

    /// The group cannot be joined yet, or not so: this membership is given up for another. Gives up itself where that takes longer than a
    /// session, which is how long a killed member holds its static id.
    fn join_later(&mut self, error: Error) -> Result<()> {
        let now = self.builder.settings.clock.monotonic();
        let since = *self.refused_since.get_or_insert(now);
        let limit = self.config.session_timeout.max(REFUSED_MIN) + self.config.request_timeout;
        if now.saturating_sub(since) > limit {
            let text = format!("the group could not be joined for {} s", limit.as_secs());
            return Err(Error::fatal(text).with_source(error));
        }
        tracing::warn!(error = ?error, "the group is joined again");
        self.tell_all(|done| Command::Lost { done });
        self.forget_tasks();
        self.membership = None;
        self.join_at = Some(now + REJOIN_BACKOFF);
        Ok(())
    }

    /// Whether it is too early to join again.
    fn must_wait(&self) -> bool {
        self.join_at.is_some_and(|at| self.builder.settings.clock.monotonic() < at)
    }

    pub(super) fn stop_threads(&self) {
        for thread in &self.threads {
            thread.send(Command::Stop);
        }
    }

    /// Leaves the group, for good where the threads have ended.
    pub(super) fn leave(&mut self) -> Result<()> {
        self.membership.take().map_or(Ok(()), Membership::leave)
    }

    fn handle(&mut self, event: MembershipEvent) -> Result<()> {
        match event {
            MembershipEvent::Assigned(partitions) => {
                self.shared.metrics.group_event(GroupEvent::Assigned);
                self.refused_since = None;
                match &mut self.matching {
                    None => self.place(&partitions),
                    Some(matching) => matching.wait_for_agreement(partitions),
                }
            }
            MembershipEvent::Revoked(partitions) => {
                tracing::info!(partitions = partitions.len(), "revoked");
                self.shared.metrics.group_event(GroupEvent::Revoked);
                self.matching.iter_mut().for_each(Matching::revoked);
                self.tell_place(OwnPlace::Unsettled);
                let tasks = Arc::new(tasks_of(&self.builder, &partitions));
                self.tell_all(|done| Command::Revoke { tasks: tasks.clone(), done });
            }
            MembershipEvent::Lost(partitions) => {
                tracing::warn!(
                    partitions = partitions.len(),
                    "lost: another member owns them already"
                );
                self.shared.metrics.group_event(GroupEvent::Lost);
                self.matching.iter_mut().for_each(Matching::revoked);
                self.tell_place(OwnPlace::Unsettled);
                self.tell_all(|done| Command::Lost { done });
                self.forget_tasks();
            }
            MembershipEvent::Trouble(text) => {
                tracing::warn!(text, "trouble with the brokers");
                return Ok(());
            }
        }
        self.membership.as_mut().map_or(Ok(()), |membership| membership.acknowledge())
    }

    /// Gives the threads the tasks of what was assigned.
    fn place(&mut self, partitions: &[TopicPartition]) {
        let Some(membership) = &self.membership else { return };
        let tasks = tasks_of(&self.builder, partitions);
        tracing::info!(tasks = %listed(&tasks), "assigned");
        let stayed = tasks.iter().filter(|task| self.placed.contains_key(task)).count();
        self.shared.metrics.tasks_moved(tasks.len() - stayed, self.placed.len() - stayed);
        let placed = place(&tasks, &self.placed, self.threads.len());
        self.placed.clear();
        for (index, (thread, tasks)) in self.threads.iter().zip(placed).enumerate() {
            self.placed.extend(tasks.iter().map(|task| (*task, index)));
            let group = membership.group_metadata();
            let committer = membership.committer();
            thread.send(Command::Assign { tasks, group, committer });
        }
        let is_empty = tasks.is_empty();
        let (member_id, tasks) = (membership.member_id(), tasks.iter().copied().collect());
        self.tell_place(OwnPlace::Assigned { member_id, tasks });
        if is_empty {
            self.become_running();
        }
    }

    fn tell_place(&self, place: OwnPlace) {
        // Nobody listens where there are no standbys.
        let _ = self.own_place.send(place);
    }

    fn become_running(&self) {
        self.shared.become_state(State::Rebalancing);
        self.shared.become_state(State::Running);
    }

    /// What a new match of the patterns makes; places tasks once all members have the same.
    fn look_at_topics(&mut self) -> Result<Option<Prepared>> {
        let Some(matching) = &mut self.matching else { return Ok(None) };
        let settings = &self.builder.settings;
        let found = matching.look(&self.config, settings)?;
        if found.is_none()
            && let Some(partitions) = matching.agreed(&self.config, settings)?
        {
            self.place(&partitions);
        }
        Ok(found)
    }

    /// Sends a command to every thread, and waits for their answers, no longer than a member may be silent.
    fn tell_all(&self, command: impl Fn(Sender<()>) -> Command) {
        let (done, answers) = bounded(self.threads.len());
        for thread in &self.threads {
            thread.send(command(done.clone()));
        }
        drop(done);
        let clock = &self.builder.settings.clock;
        let deadline = clock.monotonic() + self.config.max_poll_interval / 2;
        for _ in &self.threads {
            let left = deadline.saturating_sub(clock.monotonic());
            if self.shared.receive(&answers, left).is_none() {
                break; // a thread has ended, or the time is over
            }
        }
    }

    fn forget_tasks(&mut self) {
        self.shared.metrics.tasks_moved(0, self.placed.len());
        self.placed.clear();
    }

    /// A thread that was fenced has dropped its tasks; the others drop theirs, and the group is left, to be joined anew. In
    /// this order, as Java's `handleTaskMigrated` does (`unsubscribe`, `subscribe`): the broker may have thrown the old member
    /// out, which then rejoins by itself, and with a static id it would fence the new one.
    fn serve_reports(&mut self) -> Result<()> {
        let mut migrated = false;
        while let Ok(Report::Migrated) = self.reports.try_recv() {
            migrated = true;
        }
        if migrated {
            self.tell_all(|done| Command::Lost { done });
            self.matching.iter_mut().for_each(Matching::revoked);
            self.forget_tasks();
            self.leave()?;
        }
        Ok(())
    }

    fn is_young(&self) -> bool {
        let age = self.builder.settings.clock.monotonic().saturating_sub(self.started_at);
        age < self.config.request_timeout
    }

    fn watch(&self) -> Result<()> {
        let now = self.builder.settings.clock.monotonic();
        for (index, thread) in self.threads.iter().enumerate() {
            let alive = Duration::from_millis(thread.alive_at_ms.load(Ordering::Relaxed));
            let silent = now.saturating_sub(alive);
            if silent > self.config.max_poll_interval {
                return Err(Error::fatal(format!(
                    "stream thread {index} made no progress for {} s (max.poll.interval.ms)",
                    silent.as_secs()
                )));
            }
        }
        Ok(())
    }
}

fn listed(tasks: &[TaskId]) -> String {
    tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The topics a member subscribes to: all that tasks read.
pub(super) fn subscription(builder: &TaskBuilder) -> Vec<Arc<str>> {
    let mut topics: Vec<Arc<str>> = builder
        .plan
        .task_ids()
        .flat_map(|task| builder.source_partitions(task))
        .map(|TopicPartition { topic, .. }| topic)
        .collect();
    topics.sort();
    topics.dedup();
    topics
}
