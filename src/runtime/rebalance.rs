//! A stream thread's answers to the control thread: tasks come, go, are suspended, are lost.

use super::restore::{Restored, close_stores};
use super::shared::{TaskInfo, TaskState};
use super::stream_thread::{Active, Command, Input, RETRY_BACKOFF_MIN, Running};
use crate::error::{ErrorKind, Result};
use crate::ids::TaskId;
use crate::kafka::GroupMetadata;
use crate::telemetry::Trigger;

impl Running {
    pub(super) fn serve_commands(&mut self) -> Result<()> {
        while let Ok(command) = self.thread.commands.try_recv() {
            match command {
                Command::Assign { tasks, group, committer } => {
                    self.thread.committer = Some(committer);
                    self.assign(&tasks, group)?;
                }
                Command::Revoke { done } => {
                    if let Err(error) = self.commit_and_suspend(Trigger::Revoke) {
                        self.react(error)?;
                    }
                    for (id, active) in &mut self.tasks {
                        active.suspended = true;
                        self.thread.shared.set_task_state(*id, TaskState::Suspended);
                    }
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

    /// Commits, and gives every processor the chance to fetch in what is still outside. A commit before and after each, because waiting within an
    /// open transaction might outlast it.
    pub(super) fn commit_and_suspend(&mut self, trigger: Trigger) -> Result<()> {
        self.commit(trigger)?;
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            if self.thread.shared.is_poisoned() {
                return Ok(());
            }
            let running = self.tasks.get_mut(&id).filter(|active| !active.suspended);
            if let Some(active) = running {
                active.task.suspend(&mut self.thread.sink)?;
                self.commit(trigger)?;
            }
        }
        Ok(())
    }

    /// Resumes the tasks that stay, closes those that go, and starts those that come.
    fn assign(&mut self, tasks: &[TaskId], group: GroupMetadata) -> Result<()> {
        self.group = Some(group);
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
                active.suspended = false;
                self.thread.shared.set_task_state(*task, TaskState::Running);
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
        for (id, active) in &self.tasks {
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
                return Ok(self.tasks.keys().copied().collect());
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
            suspended: false,
            retry_at: None,
            retry_backoff: RETRY_BACKOFF_MIN,
            retrying_since: None,
        };
        self.tasks.insert(id, active);
        self.thread.shared.set_task_state(id, TaskState::Running);
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
}
