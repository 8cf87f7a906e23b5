//! Brings stores up to their changelogs' ends, off the stream threads.
//!
//! A few threads (`StreamsConfig::restore_threads`), each with a consumer of its own; a task and all its stores belong to one of them. Ready tasks
//! go on meanwhile. For each task, in this order: its last writer fenced if that is dead, committed offsets (once no open transaction can change them), stores opened, changelogs
//! replayed from where the store stands to the log's end. The end is the high watermark, not the last stable offset: a
//! transaction that is decided but whose markers are still on their way would else be missed. Where an input topic is the changelog, the
//! end is the committed offset: what comes after it will be processed.
//!
//! A standby task is one whose changelogs are followed without an end. When it becomes active here, the rest is replayed as of any other task, from
//! where it stands: changelogs are assigned anew, so that their ends are newer than the committed offsets.
//!
//! Bounds: a thread reads so many changelogs at once, the others wait in line, and each has one batch in memory. Every batch commits
//! the position it ends at with its rows, so restoration goes on where it stood, after a kill too.

mod offsets;
mod progress;
mod replay;
mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::stream_thread::Command;
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::kafka::{CommittedOffset, Consumer, StartOffset};
use crate::store::StateStore;
use crate::task::TaskStore;

pub(super) use thread::RestoreThread;

/// What a restore thread is told.
pub(super) enum RestoreCommand {
    /// Open and restore the stores of a task; the answer goes to `reply`.
    Start {
        task: TaskId,
        folder: PathBuf,
        reply: ReplyTo,
    },
    /// The task has gone elsewhere: close what is open of it, and answer nothing.
    Cancel(TaskId),
    /// Keep a copy of the task's stores up to date, as soon as no stream thread has it any more. Where it is to be started later, it is with what
    /// it has.
    Follow(TaskId),
    /// No longer.
    Unfollow(TaskId),
    Stop,
}

/// The stream thread that waits for a task.
#[derive(Clone)]
pub(super) struct ReplyTo {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl ReplyTo {
    fn send(&self, command: Command) {
        // A thread that is gone needs no answer.
        let _ = self.commands.send(command);
        (self.wake)();
    }
}

/// A task that is ready: its stores, and where its inputs go on.
pub(super) struct Restored {
    pub(super) task: TaskId,
    pub(super) stores: Vec<TaskStore>,
    /// What is committed of each input partition; `None`: nothing committed.
    pub(super) committed: Vec<Option<CommittedOffset>>,
    /// Where to read each input partition from.
    pub(super) starts: Vec<StartOffset>,
}

/// Gives tasks to the restore threads; clones give to the same ones.
#[derive(Clone)]
pub(super) struct Restorer {
    threads: Arc<Vec<Inbox>>,
    placements: Placements,
    standbys: Arc<Mutex<BTreeSet<TaskId>>>,
}

struct Inbox {
    commands: Sender<RestoreCommand>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Restorer {
    /// For threads with these consumers; the receivers are theirs.
    pub(super) fn new(consumers: &[Box<dyn Consumer>]) -> (Self, Vec<Receiver<RestoreCommand>>) {
        let (inboxes, receivers): (Vec<Inbox>, _) = consumers
            .iter()
            .map(|consumer| {
                let (commands, receiver) = unbounded();
                (Inbox { commands, wake: consumer.waker() }, receiver)
            })
            .unzip();
        let placements = Placements::default();
        let standbys = Arc::default();
        (Self { threads: Arc::new(inboxes), placements, standbys }, receivers)
    }

    pub(super) fn placements(&self) -> Placements {
        self.placements.clone()
    }

    /// Has a task restored by the thread that has it already, or else by the one with the fewest.
    pub(super) fn start(&self, task: TaskId, folder: PathBuf, reply: ReplyTo) -> Result<()> {
        self.standbys().remove(&task);
        let thread = self.placements.enter(task, self.threads.len());
        self.send(thread, RestoreCommand::Start { task, folder, reply })
            .map_err(|()| Error::fatal("the restore thread has ended"))
    }

    /// Has a task that nobody waits for any more closed.
    pub(super) fn cancel(&self, task: TaskId) {
        if let Some(thread) = self.placements.of(task) {
            // A thread that has ended holds no stores.
            let _ = self.send(thread, RestoreCommand::Cancel(task));
        }
    }

    /// This instance is a standby of exactly these tasks now. Those that it has as `active` ones stay as they are: they are, or will be,
    /// started.
    pub(super) fn set_standbys(&self, tasks: BTreeSet<TaskId>, active: &BTreeSet<TaskId>) {
        let mut standbys = self.standbys();
        let gone = standbys.iter().filter(|task| !tasks.contains(task) && !active.contains(task));
        for task in gone.copied().collect::<Vec<_>>() {
            standbys.remove(&task);
            if let Some(thread) = self.placements.of(task) {
                let _ = self.send(thread, RestoreCommand::Unfollow(task)); // as in `cancel`
            }
        }
        for task in tasks {
            if !active.contains(&task) && standbys.insert(task) {
                let thread = self.placements.enter(task, self.threads.len());
                let _ = self.send(thread, RestoreCommand::Follow(task));
            }
        }
    }

    fn standbys(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        self.standbys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        for thread in 0..self.threads.len() {
            // It may have ended with the client's failure.
            let _ = self.send(thread, RestoreCommand::Stop);
        }
    }

    fn send(&self, thread: usize, command: RestoreCommand) -> std::result::Result<(), ()> {
        let inbox = &self.threads[thread];
        inbox.commands.send(command).map_err(drop)?;
        (inbox.wake)();
        Ok(())
    }
}

/// Which restore thread has a task, and for how many commands to start or follow it. A task that is cancelled and comes back at once goes to the same
/// thread, behind the cancellation: two threads would open its stores at the same time.
#[derive(Clone, Default)]
pub(super) struct Placements(Arc<Mutex<BTreeMap<TaskId, (usize, usize)>>>);

impl Placements {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, (usize, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, task: TaskId, threads: usize) -> usize {
        let mut placed = self.lock();
        let count = |thread: &usize| placed.values().filter(|(at, _)| at == thread).count();
        let emptiest = (0..threads).min_by_key(count).expect("there is at least one thread");
        let (thread, starts) = placed.entry(task).or_insert((emptiest, 0));
        *starts += 1;
        *thread
    }

    fn of(&self, task: TaskId) -> Option<usize> {
        self.lock().get(&task).map(|(thread, _)| *thread)
    }

    /// One start of the task has come to its end.
    fn leave(&self, task: TaskId) {
        let mut placed = self.lock();
        if let Some((_, starts)) = placed.get_mut(&task) {
            *starts -= 1;
            if *starts == 0 {
                placed.remove(&task);
            }
        }
    }
}

/// Closes stores; what cannot be closed is logged, and restored the next time.
pub(super) fn close_stores(task: TaskId, stores: Vec<TaskStore>) {
    for store in stores {
        let name = store.store.name().clone();
        if let Err(error) = StateStore::close(store.store) {
            tracing::warn!(%task, store = %name, error = ?error, "store did not close cleanly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_stays_on_its_thread_until_every_start_has_ended() {
        let placements = Placements::default();
        let task = |partition| TaskId { subtopology: 0, partition };
        assert_eq!([0, 1, 2].map(|number| placements.enter(task(number), 2)), [0, 1, 0]);
        assert_eq!(placements.enter(task(1), 2), 1, "cancelled, and here again");
        placements.leave(task(1));
        assert_eq!(placements.of(task(1)), Some(1), "the second start goes on");
        placements.leave(task(1));
        assert_eq!(placements.of(task(1)), None);
        placements.leave(task(0));
        placements.leave(task(2));
        assert_eq!(placements.enter(task(1), 2), 0);
    }

    fn restorer(threads: usize) -> (Restorer, Vec<Receiver<RestoreCommand>>) {
        let (inboxes, receivers): (Vec<Inbox>, _) = (0..threads)
            .map(|_| {
                let (commands, receiver) = unbounded();
                (Inbox { commands, wake: Arc::new(|| ()) }, receiver)
            })
            .unzip();
        let placements = Placements::default();
        let standbys = Arc::default();
        (Restorer { threads: Arc::new(inboxes), placements, standbys }, receivers)
    }

    /// What each thread was told since the last call.
    fn told(receivers: &[Receiver<RestoreCommand>]) -> Vec<String> {
        let say = |command| match command {
            RestoreCommand::Start { task, .. } => format!("start {task}"),
            RestoreCommand::Cancel(task) => format!("cancel {task}"),
            RestoreCommand::Follow(task) => format!("follow {task}"),
            RestoreCommand::Unfollow(task) => format!("unfollow {task}"),
            RestoreCommand::Stop => "stop".to_owned(),
        };
        let all = |receiver: &Receiver<_>| receiver.try_iter().map(say).collect::<Vec<_>>();
        receivers.iter().map(|receiver| all(receiver).join(", ")).collect()
    }

    #[test]
    fn a_standby_is_started_by_the_thread_that_follows_it_and_is_not_taken_from_it_before() {
        let (restorer, receivers) = restorer(2);
        let tasks = |numbers: &[i32]| -> BTreeSet<TaskId> {
            numbers
                .iter()
                .map(|partition| TaskId { subtopology: 0, partition: *partition })
                .collect()
        };
        restorer.set_standbys(tasks(&[0, 1, 2]), &tasks(&[3]));
        assert_eq!(told(&receivers), ["follow 0_0, follow 0_2", "follow 0_1"]);
        restorer.set_standbys(tasks(&[0, 1, 2]), &tasks(&[3]));
        assert_eq!(told(&receivers), ["", ""], "nothing new");
        // Task 1 becomes active; its start comes later, from its stream thread.
        restorer.set_standbys(tasks(&[0, 2]), &tasks(&[1, 3]));
        assert_eq!(told(&receivers), ["", ""], "it stays until it is started");
        let (commands, _thread) = unbounded();
        let reply = ReplyTo { commands, wake: Arc::new(|| ()) };
        let task = TaskId { subtopology: 0, partition: 1 };
        restorer.start(task, PathBuf::new(), reply).unwrap();
        assert_eq!(told(&receivers), ["", "start 0_1"]);
        restorer.set_standbys(tasks(&[1, 2]), &tasks(&[3]));
        assert_eq!(told(&receivers), ["unfollow 0_0", "follow 0_1"], "it became a standby again");
    }
}
