//! The control thread: the group's events become commands to the stream threads.
//!
//! It alone talks to the [`Membership`]. Revoked: the threads commit and suspend, then the broker gets its answer. Lost: they drop everything.
//! Assigned: tasks are placed on threads. A thread that makes no progress for `max.poll.interval.ms` fails the client, and so gives its tasks up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::assignment::{place, tasks_of};
use super::shared::Shared;
use super::state::State;
use super::stream_thread::{Command, Report};
use crate::config::StreamsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{KafkaClients, Membership, MembershipEvent};
use crate::task::TaskBuilder;
use crate::telemetry::GroupEvent;

const POLL: Duration = Duration::from_millis(50);

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

pub(super) struct ControlThread {
    pub(super) clients: Arc<dyn KafkaClients>,
    /// `None` before the group is joined, and between two memberships.
    pub(super) membership: Option<Box<dyn Membership>>,
    /// On the monotonic clock.
    pub(super) started_at: Duration,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) builder: TaskBuilder,
    pub(super) config: Arc<StreamsConfig>,
    pub(super) threads: Vec<ThreadHandle>,
    pub(super) reports: Receiver<Report>,
    pub(super) shared: Arc<Shared>,
    /// Where each task was placed.
    pub(super) placed: BTreeMap<TaskId, usize>,
}

impl ControlThread {
    pub(super) fn run(&mut self) -> Result<()> {
        self.shared.metrics.set_threads(self.threads.len());
        while !self.shared.is_stopping() {
            let membership = match &mut self.membership {
                Some(membership) => membership,
                None => self.membership.insert(self.clients.membership(&self.topics)?),
            };
            match membership.poll(POLL) {
                Ok(Some(event)) => self.handle(event)?,
                Ok(None) => self.serve_reports()?,
                // A topic that was created a moment ago is not known to every broker yet.
                Err(error) if error.kind() == ErrorKind::Invalid && self.is_young() => {
                    tracing::warn!(error = ?error, "the group waits for its topics");
                }
                Err(error) => return Err(error),
            }
            self.watch()?;
        }
        self.stop_threads();
        self.shared.metrics.set_threads(0);
        Ok(())
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
        let Some(membership) = &self.membership else { return Ok(()) };
        match event {
            MembershipEvent::Assigned(partitions) => {
                let tasks = tasks_of(&self.builder, &partitions);
                tracing::info!(tasks = %listed(&tasks), "assigned");
                self.shared.metrics.group_event(GroupEvent::Assigned);
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
                if tasks.is_empty() {
                    self.shared.become_state(State::Rebalancing);
                    self.shared.become_state(State::Running);
                }
            }
            MembershipEvent::Revoked(partitions) => {
                tracing::info!(partitions = partitions.len(), "revoked");
                self.shared.metrics.group_event(GroupEvent::Revoked);
                self.tell_all(|done| Command::Revoke { done });
            }
            MembershipEvent::Lost(partitions) => {
                tracing::warn!(
                    partitions = partitions.len(),
                    "lost: another member owns them already"
                );
                self.shared.metrics.group_event(GroupEvent::Lost);
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
            if answers.recv_timeout(left).is_err() {
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
