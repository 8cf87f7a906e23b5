//! A restore thread: opens the stores of its tasks and replays their changelogs, several side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::offsets::Offsets;
use super::replay::{Replay, Until};
use super::{Placements, ReplyTo, RestoreCommand, Restored, close_stores};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::Consumer;
use crate::runtime::fencing::Fencer;
use crate::runtime::shared::{RestoreProgress, Shared, TaskInfo, TaskState};
use crate::runtime::state_dir::StateDir;
use crate::runtime::stream_thread::Command;
use crate::task::{TaskBuilder, TaskStore};
use crate::telemetry::{Placed, RestoreMetrics};
use crate::time::Timestamp;

/// Changelogs that are read at once for tasks that are waited for, and for standbys that have not caught up yet; with a batch of 8 MiB and the
/// consumer's 2 to 3 MiB each, a thread stays below 70 MiB, and standbys that have caught up take little.
const CHANGELOGS_MAX: usize = 4;
const CATCHING_UP_MAX: usize = 2;
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Between two times that progress is told.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at what is still to be followed, and at committed offsets of inputs that are changelogs.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer may take: other tasks wait meanwhile.
const STANDBY_TIMEOUT: Duration = Duration::from_millis(500);

/// A task whose changelogs are read here.
pub(super) struct Followed {
    pub(super) folder: PathBuf,
    pub(super) stores: Vec<TaskStore>,
    /// Changelogs that are not complete.
    pub(super) replays: Vec<Replay>,
    /// Read so far in this role.
    pub(super) records: u64,
    pub(super) role: Role,
}

pub(super) enum Role {
    Active(Box<Active>),
    Standby(Standby),
}

/// A stream thread waits for it.
pub(super) struct Active {
    pub(super) reply: ReplyTo,
    pub(super) offsets: Offsets,
    pub(super) started: Timestamp,
    /// Of that moment and of the last word in the log, on the monotonic clock.
    pub(super) started_at: Duration,
    pub(super) logged_at: Duration,
    pub(super) eta: Placed,
}

#[derive(Default)]
pub(super) struct Standby {
    pub(super) is_caught_up: bool,
    /// An attempt to start the task has failed, and another one is to come.
    is_waited_for: bool,
}

impl Role {
    fn until(&self) -> Until {
        match self {
            Self::Active(_) => Until::End,
            Self::Standby(_) => Until::Stopped,
        }
    }
}

/// How many more changelogs may be read.
struct Room {
    active: usize,
    standby: usize,
}

impl Room {
    fn of(&mut self, until: Until) -> &mut usize {
        match until {
            Until::End => &mut self.active,
            Until::Stopped => &mut self.standby,
        }
    }
}

pub(in crate::runtime) struct RestoreThread {
    pub(in crate::runtime) index: usize,
    pub(in crate::runtime) builder: TaskBuilder,
    pub(in crate::runtime) consumer: Box<dyn Consumer>,
    pub(in crate::runtime) commands: Receiver<RestoreCommand>,
    pub(in crate::runtime) placements: Placements,
    pub(in crate::runtime) state_dir: Arc<StateDir>,
    pub(in crate::runtime) shared: Arc<Shared>,
    pub(in crate::runtime) request_timeout: Duration,
    /// `acceptable.recovery.lag`.
    pub(in crate::runtime) recovery_lag: u64,
    pub(in crate::runtime) metrics: RestoreMetrics,
    pub(in crate::runtime) fencer: Fencer,
}

/// What the thread has in hand.
struct Tasks {
    followed: BTreeMap<TaskId, Followed>,
    /// Standbys that could not be opened yet.
    wanted: Vec<TaskId>,
}

impl RestoreThread {
    pub(in crate::runtime) fn run(mut self) {
        let mut tasks = Tasks { followed: BTreeMap::new(), wanted: Vec::new() };
        let (mut told_at, mut looked_at) = (self.now(), self.now());
        while self.serve_commands(&mut tasks) && !self.shared.is_poisoned() {
            let moved = self.advance(&mut tasks);
            let now = self.now();
            if now.saturating_sub(told_at) >= TELL_INTERVAL {
                told_at = now;
                self.tell(&mut tasks.followed);
            }
            if now.saturating_sub(looked_at) >= STANDBY_INTERVAL {
                looked_at = now;
                self.open_wanted(&mut tasks);
                self.move_limits(&mut tasks);
            }
            if !moved && let Err(error) = self.consumer.wait(IDLE_WAIT) {
                self.shared.fail(error.context("restore consumer"));
            }
        }
        for (id, task) in tasks.followed {
            self.close(id, task);
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.builder.settings.clock.monotonic()
    }

    /// Whether the thread goes on.
    fn serve_commands(&mut self, tasks: &mut Tasks) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                RestoreCommand::Stop => return false,
                RestoreCommand::Cancel(id) => {
                    let is_waited_for = |task: &Followed| match &task.role {
                        Role::Active(_) => true,
                        Role::Standby(standby) => standby.is_waited_for,
                    };
                    if tasks.followed.get(&id).is_some_and(is_waited_for)
                        && let Some(gone) = tasks.followed.remove(&id)
                    {
                        self.close(id, gone);
                    }
                }
                RestoreCommand::Start { task, folder, reply } => {
                    self.start(task, folder, reply, tasks);
                }
                RestoreCommand::Follow(task) => {
                    tasks.wanted.push(task);
                    self.open_wanted(tasks);
                }
                RestoreCommand::Unfollow(id) => self.unfollow(id, tasks),
            }
        }
        true
    }

    fn start(&mut self, id: TaskId, folder: PathBuf, reply: ReplyTo, tasks: &mut Tasks) {
        self.drop_wanted(id, tasks);
        let opened = match self.offsets_of(id) {
            Ok(offsets) => {
                let standby = tasks.followed.remove(&id);
                standby.iter().for_each(|_| self.placements.leave(id));
                self.open_active(id, folder, &reply, offsets, standby)
            }
            Err(error) => {
                if let Some(Role::Standby(standby)) =
                    tasks.followed.get_mut(&id).map(|task| &mut task.role)
                {
                    standby.is_waited_for = true; // the next attempt takes it
                }
                Err(error)
            }
        };
        match opened {
            Ok(opened) => drop(tasks.followed.insert(id, opened)),
            Err(error) => {
                self.placements.leave(id);
                reply.send(Command::RestoreFailed(id, error));
            }
        }
    }

    /// A standby that could not be opened yet is not to be opened any more.
    fn drop_wanted(&self, id: TaskId, tasks: &mut Tasks) {
        let count = tasks.wanted.len();
        tasks.wanted.retain(|wanted| *wanted != id);
        (tasks.wanted.len()..count).for_each(|_| self.placements.leave(id));
    }

    /// Opens a task's stores, or goes on with those of its standby.
    fn open_active(
        &mut self,
        id: TaskId,
        folder: PathBuf,
        reply: &ReplyTo,
        offsets: Offsets,
        standby: Option<Followed>,
    ) -> Result<Followed> {
        let stores = match standby {
            Some(standby) => self.stores_of(id, standby)?,
            None => self.open_stores(id, &folder)?,
        };
        let now = self.now();
        let active = Active {
            reply: reply.clone(),
            offsets,
            started: self.builder.settings.clock.now(),
            started_at: now,
            logged_at: now,
            eta: self.metrics.eta(id),
        };
        Ok(self.follow(id, folder, stores, Role::Active(Box::new(active))))
    }

    /// The stores of a standby, with all that was read of their changelogs.
    fn stores_of(&mut self, id: TaskId, standby: Followed) -> Result<Vec<TaskStore>> {
        let Followed { mut stores, replays, records, .. } = standby;
        let mut outcome = Ok(());
        for mut replay in replays {
            // What cannot be applied is read again.
            let flushed = replay.flush(&mut stores[replay.store], &self.metrics);
            outcome = outcome.and(flushed).and(replay.close(&mut *self.consumer));
        }
        if let Err(error) = outcome {
            close_stores(id, stores);
            return Err(error);
        }
        tracing::info!(task = %id, followed = records, "standby becomes active");
        Ok(stores)
    }

    fn open_stores(&self, task: TaskId, folder: &Path) -> Result<Vec<TaskStore>> {
        let names = self.builder.store_names(task);
        names.iter().map(|name| self.open_store(task, name, folder)).collect()
    }

    fn open_store(&self, task: TaskId, name: &str, folder: &Path) -> Result<TaskStore> {
        match self.builder.open_store(name, folder) {
            Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                tracing::warn!(%task, store = %name, error = ?error, "store is damaged; wiped, restoring it whole");
                self.builder.wipe_store(name, folder)?;
                self.builder.open_store(name, folder)
            }
            opened => opened,
        }
    }

    fn follow(&self, id: TaskId, folder: PathBuf, stores: Vec<TaskStore>, role: Role) -> Followed {
        let mut task = Followed { folder, stores, replays: Vec::new(), records: 0, role };
        for index in 0..task.stores.len() {
            self.enter(id, &task.stores[index]);
            let replay = self.replay(id, &task, index);
            task.replays.extend(replay);
        }
        task
    }

    /// What has to be replayed of a store's changelog, if it has one.
    fn replay(&self, id: TaskId, task: &Followed, index: usize) -> Option<Replay> {
        let store = &task.stores[index];
        let topic = store.changelog.clone()?;
        let limit = match &task.role {
            Role::Active(active) => self.limit(id, &active.offsets.committed, store),
            // Nothing may be applied before it is known what is committed.
            Role::Standby(_) => store.is_source.then_some(0),
        };
        let (partition, until) = (TopicPartition::new(topic, id.partition), task.role.until());
        let replay = Replay::new(until, (id, index, store), partition, limit, &self.metrics);
        (!replay.is_complete).then_some(replay)
    }

    /// Opens standbys that were not opened yet.
    fn open_wanted(&mut self, tasks: &mut Tasks) {
        for id in std::mem::take(&mut tasks.wanted) {
            match self.open_standby(id) {
                Ok(Some(standby)) => drop(tasks.followed.insert(id, standby)),
                Ok(None) => tasks.wanted.push(id),
                Err(error) => {
                    // Nobody waits for it: it is tried again for as long as it is wanted.
                    tracing::warn!(task = %id, error = ?error, "standby could not be opened");
                    self.shared.remove_standby(id);
                    tasks.wanted.push(id);
                }
            }
        }
    }

    /// `None`: a stream thread has the task, or has not closed it yet.
    fn open_standby(&mut self, id: TaskId) -> Result<Option<Followed>> {
        let partitions = self.builder.source_partitions(id);
        let info = TaskInfo {
            id,
            state: TaskState::Standby,
            thread: self.index,
            partitions,
            progress: None,
        };
        if !self.shared.enter_standby(info) {
            return Ok(None);
        }
        let folder = self.state_dir.task_folder(id)?;
        let stores = self.open_stores(id, &folder)?;
        Ok(Some(self.follow(id, folder, stores, Role::Standby(Standby::default()))))
    }

    /// Where standbys' changelogs are input topics, lets them follow to what is committed now.
    fn move_limits(&mut self, tasks: &mut Tasks) {
        let is_standby = |task: &Followed| matches!(task.role, Role::Standby(_));
        let is_source = |task: &Followed| task.stores.iter().any(|store| store.is_source);
        for (id, task) in &mut tasks.followed {
            if !is_standby(task) || !is_source(task) {
                continue;
            }
            let sources = self.builder.source_partitions(*id);
            let committed = match self.consumer.committed(&sources, STANDBY_TIMEOUT) {
                Ok(committed) => committed,
                Err(error) => {
                    tracing::debug!(task = %id, error = ?error, "a standby's committed offsets are asked for again");
                    continue;
                }
            };
            for replay in &mut task.replays {
                let limit = self.limit(*id, &committed, &task.stores[replay.store]);
                limit.into_iter().for_each(|limit| replay.set_limit(limit));
            }
        }
    }

    fn unfollow(&mut self, id: TaskId, tasks: &mut Tasks) {
        self.drop_wanted(id, tasks);
        let is_standby = |task: &Followed| matches!(task.role, Role::Standby(_));
        if tasks.followed.get(&id).is_some_and(is_standby)
            && let Some(gone) = tasks.followed.remove(&id)
        {
            self.close(id, gone);
            self.shared.remove_standby(id);
        }
    }

    /// Reads what has come of the changelogs whose turn it is; answers for tasks that are complete. Says whether anything had come.
    fn advance(&mut self, tasks: &mut Tasks) -> bool {
        let (mut moved, mut finished) = (false, Vec::new());
        let mut room = Room { active: CHANGELOGS_MAX, standby: CATCHING_UP_MAX };
        for task in tasks.followed.values() {
            let is_read = |replay: &&Replay| replay.slot.is_some() && !replay.has_caught_up;
            let taken = task.replays.iter().filter(is_read).count();
            let left = room.of(task.role.until());
            *left = left.saturating_sub(taken);
        }
        for (id, task) in &mut tasks.followed {
            let room = room.of(task.role.until());
            match self.advance_task(*id, task, room) {
                Ok(progress) => {
                    moved |= progress;
                    if task.replays.is_empty() && matches!(task.role, Role::Active(_)) {
                        finished.push((*id, None));
                    }
                }
                Err(error) => finished.push((*id, Some(error))),
            }
        }
        moved |= !finished.is_empty();
        for (id, error) in finished {
            let task = tasks.followed.remove(&id).expect("it was just advanced");
            match (error, &task.role) {
                (None, _) => self.finish(id, task),
                (Some(error), Role::Active(active)) => {
                    let reply = active.reply.clone();
                    self.close(id, task);
                    reply.send(Command::RestoreFailed(id, error));
                }
                (Some(error), Role::Standby(_)) => {
                    tracing::warn!(task = %id, error = ?error, "standby stops, and is opened again");
                    close_followed(&mut *self.consumer, id, task);
                    self.shared.remove_standby(id);
                    tasks.wanted.push(id);
                }
            }
        }
        moved
    }

    fn advance_task(&mut self, id: TaskId, task: &mut Followed, room: &mut usize) -> Result<bool> {
        let (mut moved, now) = (false, self.now());
        for at in (0..task.replays.len()).rev() {
            let replay = &mut task.replays[at];
            let store = &mut task.stores[replay.store];
            if replay.slot.is_none() {
                if *room == 0 {
                    continue;
                }
                *room -= 1;
                replay.open(&mut *self.consumer, store)?;
            }
            match replay.step(&mut *self.consumer, store, &self.metrics, now) {
                Ok(read) => {
                    moved |= read > 0;
                    task.records += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                    let mut damaged = task.replays.remove(at);
                    damaged.close(&mut *self.consumer)?;
                    self.start_over(id, task, damaged.store, &error)?;
                    (moved, *room) = (true, *room + 1);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    tracing::warn!(task = %id, error = ?error, "restoration goes on when the broker does");
                }
                Err(error) => return Err(error),
            }
            if let Some(end) = replay.end {
                self.shared.stores.note_end(id, store.store.name(), end);
            }
            if replay.is_complete {
                replay.close(&mut *self.consumer)?;
                task.replays.remove(at);
                *room += 1;
            }
        }
        Ok(moved)
    }

    /// The store stands outside its changelog's range, or is damaged: wipe it alone, and read the changelog from the beginning.
    fn start_over(
        &mut self,
        id: TaskId,
        task: &mut Followed,
        index: usize,
        error: &Error,
    ) -> Result<()> {
        let name = task.stores[index].store.name().clone();
        tracing::warn!(task = %id, store = %name, error = ?error, "store does not fit its changelog; wiped, restoring it whole");
        let damaged = task.stores.remove(index);
        damaged.store.close()?;
        self.builder.wipe_store(&name, &task.folder)?;
        task.stores.insert(index, self.builder.open_store(&name, &task.folder)?);
        self.enter(id, &task.stores[index]);
        let replay = self.replay(id, task, index);
        task.replays.extend(replay);
        Ok(())
    }

    fn enter(&self, task: TaskId, store: &TaskStore) {
        self.shared.enter_store(task, store.store.name(), store.store.view());
    }

    fn finish(&mut self, id: TaskId, task: Followed) {
        let Role::Active(active) = task.role else { return };
        let elapsed = self.builder.settings.clock.now().since(active.started);
        tracing::info!(task = %id, records = task.records, ms = elapsed.as_millis(), "task restored");
        self.metrics.finished(elapsed);
        let restored = task.records;
        let done = RestoreProgress { restored, remaining: 0, eta: Some(Duration::ZERO) };
        self.shared.set_progress(id, done);
        let Active { reply, offsets: Offsets { committed, starts }, .. } = *active;
        self.placements.leave(id);
        let stores = task.stores;
        reply.send(Command::Restored(Restored { task: id, stores, committed, starts }));
    }

    fn close(&mut self, id: TaskId, task: Followed) {
        close_followed(&mut *self.consumer, id, task);
        self.placements.leave(id);
    }
}

fn close_followed(consumer: &mut dyn Consumer, id: TaskId, task: Followed) {
    for mut replay in task.replays {
        if let Err(error) = replay.close(consumer) {
            tracing::warn!(error = ?error, "unassign of a changelog failed");
        }
    }
    close_stores(id, task.stores);
}
