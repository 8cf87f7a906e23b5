//! A stream thread's answers to the control thread: tasks come, go, are suspended, are lost.

use std::time::Duration;

use super::restore::{Restored, close_stores};
use super::shared::{TaskInfo, TaskState};
use super::stream_thread::{Active, Command, Input, RETRY_BACKOFF_MIN, Report, Running};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TaskId;
use crate::kafka::GroupMetadata;
use crate::telemetry::{GroupEvent, Outcome, Trigger};

impl Running {
    pub(super) fn serve_commands(&mut self) -> Result<()> {
        while let Ok(command) = self.thread.commands.try_recv() {
            match command {
                Command::Assign { tasks, group, committer } => {
                    self.thread.committer = Some(committer);
                    self.assign(&tasks, group)?;
                }
                Command::Revoke { tasks, done } => {
                    self.revoke(&tasks)?;
                    let _ = done.send(()); // the control thread may have given up waiting
                }
                Command::Lost { done } => {
                    self.drop_tasks();
                    self.abort_or_replace()?;
                    let _ = done.send(());
                }
                Command::Restored(restored) => self.restored(restored)?,
                Command::RestoreFailed(task, error) => {
                    let waited_for = self.restoring.contains(&task);
                    if error.kind() == ErrorKind::Retriable && waited_for {
                        tracing::warn!(%task, error = ?error, "restoration is tried again");
                        self.start_restore(task)?;
                    } else if waited_for {
                        return Err(error.context(format!("restoration of task {task}")));
                    }
                }
                Command::Stop => self.stop = true,
            }
        }
        Ok(())
    }

    /// Commits and suspends those of the tasks that are here; one that is about to be restored waits for the next assignment too.
    fn revoke(&mut self, tasks: &[TaskId]) -> Result<()> {
        let here = |id: &&TaskId| self.tasks.contains_key(id) || self.restoring.contains(id);
        self.revoked = tasks.iter().filter(here).copied().collect();
        if self.revoked.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.commit_and_suspend(Trigger::Revoke, tasks) {
            self.react(error)?;
        }
        for id in &self.revoked {
            if let Some(active) = self.tasks.get_mut(id) {
                active.suspended = true;
                self.thread.shared.set_task_state(*id, TaskState::Suspended);
            }
        }
        Ok(())
    }

    /// Commits, and gives every processor of these tasks the chance to fetch in what is still outside. A commit before and after each, because waiting
    /// within an open transaction might outlast it.
    pub(super) fn commit_and_suspend(&mut self, trigger: Trigger, tasks: &[TaskId]) -> Result<()> {
        self.commit(trigger)?;
        for id in tasks {
            if self.thread.shared.is_poisoned() {
                return Ok(());
            }
            let running = self.tasks.get_mut(id).filter(|active| !active.suspended);
            if let Some(active) = running {
                active.task.suspend(&mut self.thread.sink)?;
                self.commit(trigger)?;
            }
        }
        Ok(())
    }

    /// Closes the tasks that go, resumes those that stay where they were suspended, and starts those that come.
    fn assign(&mut self, tasks: &[TaskId], group: GroupMetadata) -> Result<()> {
        self.group = Some(group);
        self.revoked.clear();
        // Before the first record, and not by losing the tasks once more at the first commit.
        if self.may_be_fenced && !tasks.is_empty() {
            self.replace_sink()?;
        }
        let gone: Vec<TaskId> =
            self.tasks.keys().filter(|task| !tasks.contains(task)).copied().collect();
        for task in gone {
            self.close_task(task);
        }
        let cancelled: Vec<TaskId> =
            self.restoring.iter().filter(|task| !tasks.contains(task)).copied().collect();
        for task in cancelled {
            self.cancel_restore(task);
        }
        for task in self.overtaken()? {
            self.close_task(task);
        }
        for task in tasks {
            if let Some(active) = self.tasks.get_mut(task) {
                if std::mem::take(&mut active.suspended) {
                    self.thread.shared.set_task_state(*task, TaskState::Running);
                }
            } else if !self.restoring.contains(task) {
                self.start_restore(*task)?;
                self.restoring.push(*task);
            }
        }
        Ok(())
    }

    /// Suspended tasks whose committed offsets are not where they left them: a member that joins too late for one
    /// generation gets its tasks back in the next one, after somebody else has worked on them.
    fn overtaken(&mut self) -> Result<Vec<TaskId>> {
        let (mut partitions, mut expected) = (Vec::new(), Vec::new());
        for (id, active) in self.tasks.iter().filter(|(_, active)| active.suspended) {
            for (input, partition) in active.inputs.iter().zip(active.task.partitions()) {
                partitions.push(partition.clone());
                expected.push((*id, input.committed));
            }
        }
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let committed = match self
            .thread
            .consumer
            .committed(&partitions, self.thread.config.request_timeout)
        {
            Ok(committed) => committed,
            Err(error) if error.kind() == ErrorKind::Retriable => {
                tracing::warn!(error = ?error, "committed offsets are not known; the tasks are restored");
                expected.dedup_by_key(|(id, _)| *id);
                return Ok(expected.into_iter().map(|(id, _)| id).collect());
            }
            Err(error) => return Err(error),
        };
        let mut overtaken: Vec<TaskId> = expected
            .into_iter()
            .zip(committed)
            .filter(|((_, left), found)| *left != found.as_ref().map(|found| found.offset))
            .map(|((id, _), _)| id)
            .collect();
        overtaken.dedup();
        Ok(overtaken)
    }

    fn start_restore(&mut self, task: TaskId) -> Result<()> {
        let folder = self.thread.state_dir.task_folder(task)?;
        let partitions = self.thread.builder.source_partitions(task);
        self.thread.shared.set_task(TaskInfo {
            id: task,
            state: TaskState::Restoring,
            thread: self.thread.index,
            partitions,
            progress: None,
        });
        self.thread.restorer.start(task, folder, self.thread.reply.clone())
    }

    fn cancel_restore(&mut self, task: TaskId) {
        self.restoring.retain(|restoring| *restoring != task);
        self.thread.shared.remove_task(task);
        self.thread.restorer.cancel(task);
    }

    /// Builds a task on its restored stores and begins to read its inputs.
    fn restored(&mut self, restored: Restored) -> Result<()> {
        let Restored { task: id, stores, committed, starts } = restored;
        if !self.restoring.contains(&id) {
            close_stores(id, stores); // it has moved on meanwhile
            return Ok(());
        }
        self.restoring.retain(|restoring| *restoring != id);
        let counts = &self.thread.partition_counts;
        let task = self.thread.builder.build(id, stores, &committed, counts)?;
        let mut inputs = Vec::with_capacity(committed.len());
        for ((partition, committed), start) in task.partitions().iter().zip(committed).zip(starts) {
            let slot = self.thread.consumer.assign(partition, start)?;
            let committed = committed.map(|committed| committed.offset);
            let metrics = self.thread.topic_labels.input(partition);
            inputs.push(Input { slot, start, committed, metrics });
        }
        let active = Active {
            task,
            inputs,
            suspended: self.revoked.contains(&id),
            retry_at: None,
            retry_backoff: RETRY_BACKOFF_MIN,
            retrying_since: None,
        };
        let state = match active.suspended {
            true => TaskState::Suspended,
            false => TaskState::Running,
        };
        self.tasks.insert(id, active);
        self.thread.shared.set_task_state(id, state);
        Ok(())
    }

    /// Closes a task; what it had uncommitted is dropped.
    fn close_task(&mut self, id: TaskId) {
        let Some(active) = self.tasks.remove(&id) else { return };
        for input in &active.inputs {
            if let Err(error) = self.thread.consumer.unassign(input.slot) {
                tracing::warn!(task = %id, error = ?error, "unassign failed");
            }
        }
        close_stores(id, active.task.close());
        self.thread.shared.remove_task(id);
    }

    pub(super) fn drop_tasks(&mut self) {
        self.group = None;
        self.may_be_fenced = self.thread.config.is_exactly_once();
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        for task in tasks {
            self.close_task(task);
        }
        for task in std::mem::take(&mut self.restoring) {
            self.cancel_restore(task);
        }
    }

    /// Somebody else owns the tasks: drop them, and have the group joined anew.
    pub(super) fn migrated(&mut self, error: Error) -> Result<()> {
        tracing::warn!(error = ?error, "tasks have moved to another member");
        if self.thread.config.is_exactly_once() {
            self.thread.metrics.transaction(Outcome::Fenced, Duration::ZERO);
        }
        self.thread.shared.metrics.group_event(GroupEvent::Fenced);
        self.drop_tasks();
        self.bound_aborts(&error)?;
        self.abort_or_replace()?;
        // The control thread may be stopping already.
        let _ = self.thread.reports.send(Report::Migrated);
        Ok(())
    }

    /// Aborts the open transaction; a producer that cannot is replaced, and the broker aborts for it.
    pub(super) fn abort_or_replace(&mut self) -> Result<()> {
        if let Err(error) = self.thread.sink.abort(&self.thread.metrics) {
            // A fenced producer cannot abort, and need not: whoever fenced it did, be it the coordinator after
            // `transaction.timeout.ms`. One whose unsent records were purged may end in an invalid state: its client
            // asks for a new epoch, which aborts on the broker, and then for an abort of what is no longer there.
            tracing::warn!(error = ?error, "the producer cannot abort; another one takes its place");
            self.replace_sink()?;
        }
        Ok(())
    }

    pub(super) fn replace_sink(&mut self) -> Result<()> {
        self.thread.sink = (self.thread.new_sink)()?.replacing(&self.thread.sink)?;
        self.may_be_fenced = false;
        Ok(())
    }
}
