//! What the threads of one client share: its state, its tasks' places, and the first failure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::components::Components;
use super::queries::StoreRegistry;
use super::state::State;
use super::threads::Threads;
use crate::error::Error;
use crate::ids::{TaskId, TopicPartition};
use crate::store::StoreView;
use crate::telemetry::ClientMetrics;
use crate::time::Clock;

/// Where a task is and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// The task.
    pub id: TaskId,
    /// What it does.
    pub state: TaskState,
    /// The number of its stream thread; of a standby, of its restore thread.
    pub thread: usize,
    /// Its input partitions.
    pub partitions: Vec<TopicPartition>,
    /// How far its last restoration is, from its first second on, or has come; of a standby, how far behind it is.
    pub progress: Option<RestoreProgress>,
}

/// How far the restoration of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Changelog records read.
    pub restored: u64,
    /// Changelog offsets that are left; compaction and transaction markers make it more than there are records.
    pub remaining: u64,
    /// How long that takes at the pace so far; `None` before the first record, and of a standby.
    pub eta: Option<Duration>,
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Its stores are being opened and restored.
    Restoring,
    /// It processes.
    Running,
    /// It waits for the group to settle.
    Suspended,
    /// It is another instance's, and its stores are kept up to date here.
    Standby,
    /// It tries again after an error that goes away by itself, a registry's outage for example.
    Retrying,
}

impl TaskState {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Restoring, "restoring"),
        (Self::Running, "running"),
        (Self::Suspended, "suspended"),
        (Self::Standby, "standby"),
        (Self::Retrying, "retrying"),
    ];

    fn name(self) -> &'static str {
        let name = Self::NAMES.iter().find(|(state, _)| *state == self);
        name.expect("the table has every state").1
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    failure: Mutex<Option<Error>>,
    /// Once set, no thread commits any more: a panic may have left a store and its offsets apart.
    poisoned: AtomicBool,
    stop: AtomicBool,
    tasks: Mutex<BTreeMap<TaskId, TaskInfo>>,
    /// Committed offsets of repartition topics: what lies before them has been processed and may be deleted.
    processed: Mutex<BTreeMap<TopicPartition, i64>>,
    clock: Arc<dyn Clock>,
    threads: Threads,
    /// Since when, on the monotonic clock, not all tasks process.
    rebalancing_since: Mutex<Option<Duration>>,
    pub(super) metrics: ClientMetrics,
    /// What queries may read.
    pub(super) stores: StoreRegistry,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(metrics: ClientMetrics, components: &Components) -> Self {
        let shared = Self {
            state: Mutex::new(State::Created),
            changed: Condvar::new(),
            failure: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            tasks: Mutex::default(),
            processed: Mutex::default(),
            clock: components.clock.clone(),
            threads: components.threads.clone(),
            rebalancing_since: Mutex::default(),
            metrics,
            stores: StoreRegistry::default(),
        };
        shared.publish(State::Created);
        shared
    }

    fn publish(&self, now: State) {
        let states = State::ALL.iter().map(|state| (state.to_string(), *state == now));
        self.metrics.set_state(states);
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Takes a step; one that is not legal (a thread reports after the stop began) is passed over.
    pub(super) fn become_state(&self, next: State) {
        let mut state = lock(&self.state);
        if state.may_become(next) {
            tracing::info!(from = %*state, to = %next, "client state");
            *state = next;
            self.publish(next);
            self.time_rebalance(next);
            self.changed.notify_all();
        }
    }

    fn time_rebalance(&self, next: State) {
        let (mut since, now) = (lock(&self.rebalancing_since), self.clock.monotonic());
        match next {
            State::Rebalancing => *since = Some(now),
            State::Running => {
                if let Some(start) = since.take() {
                    let took = now.saturating_sub(start);
                    self.metrics.rebalanced(took, self.clock.now().as_millis());
                }
            }
            State::Created
            | State::PendingShutdown
            | State::NotRunning
            | State::PendingError
            | State::Error => *since = None,
        }
    }

    /// Waits until `done` holds of the state, or `timeout` is over; says whether it holds.
    pub(super) fn wait_for(&self, done: impl Fn(State) -> bool, timeout: Duration) -> bool {
        if let Some(scheduler) = self.threads.scheduler() {
            let deadline = self.clock.monotonic() + timeout;
            while !done(self.state()) && self.clock.monotonic() < deadline {
                scheduler.pause(deadline.saturating_sub(self.clock.monotonic()));
            }
            return done(self.state());
        }
        let state = lock(&self.state);
        let waiting = |state: &mut State| !done(*state);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        done(*state)
    }

    /// Waits for a message, for at most `timeout`; `None` as well where nobody can send any more.
    pub(super) fn receive<T>(&self, inbox: &Receiver<T>, timeout: Duration) -> Option<T> {
        self.threads.receive(inbox, timeout, &*self.clock)
    }

    /// Records the first failure and begins to close.
    pub(super) fn fail(&self, error: Error) {
        tracing::error!(error = ?error, "client failed");
        self.metrics.failed(error.kind());
        lock(&self.failure).get_or_insert(error);
        self.poisoned.store(true, Ordering::SeqCst);
        self.become_state(State::PendingError);
    }

    pub(super) fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    pub(super) fn failure_text(&self) -> Option<String> {
        lock(&self.failure).as_ref().map(|error| format!("{error:?}"))
    }

    /// Whether commits are forbidden.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    pub(super) fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.become_state(State::PendingShutdown);
    }

    /// As [`request_stop`](Self::request_stop), because of a failure that is about to be told. What was done before it may still be committed.
    pub(super) fn request_failing_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.become_state(State::PendingError);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.is_poisoned()
    }

    /// Notes that a repartition topic's records before `offset` are processed and committed.
    pub(super) fn note_processed(&self, partition: &TopicPartition, offset: i64) {
        lock(&self.processed).insert(partition.clone(), offset);
    }

    /// What was noted since the last call.
    pub(super) fn take_processed(&self) -> Vec<(TopicPartition, i64)> {
        std::mem::take(&mut *lock(&self.processed)).into_iter().collect()
    }

    pub(super) fn set_task(&self, info: TaskInfo) {
        lock(&self.tasks).insert(info.id, info);
        self.settle();
    }

    pub(super) fn set_task_state(&self, id: TaskId, state: TaskState) {
        if let Some(info) = lock(&self.tasks).get_mut(&id) {
            info.state = state;
        }
        self.settle();
    }

    pub(super) fn set_progress(&self, id: TaskId, progress: RestoreProgress) {
        let mut tasks = lock(&self.tasks);
        let is_here =
            |info: &TaskInfo| matches!(info.state, TaskState::Restoring | TaskState::Standby);
        let restoring = tasks.get_mut(&id).filter(|info| is_here(info));
        if let Some(info) = restoring {
            info.progress = Some(progress);
        }
    }

    /// Enters a standby, unless a stream thread has the task, or has not closed it yet.
    pub(super) fn enter_standby(&self, info: TaskInfo) -> bool {
        let mut tasks = lock(&self.tasks);
        if tasks.contains_key(&info.id) {
            return false;
        }
        tasks.insert(info.id, info);
        drop(tasks);
        self.settle();
        true
    }

    /// Forgets a task, if it is a standby still.
    pub(super) fn remove_standby(&self, id: TaskId) {
        let is_standby = |info: &TaskInfo| info.state == TaskState::Standby;
        if lock(&self.tasks).get(&id).is_some_and(is_standby) {
            self.remove_task(id);
        }
    }

    pub(super) fn remove_task(&self, id: TaskId) {
        self.stores.remove(id);
        lock(&self.tasks).remove(&id);
        self.settle();
    }

    pub(super) fn tasks(&self) -> Vec<TaskInfo> {
        lock(&self.tasks).values().cloned().collect()
    }

    /// Lets queries read a store that was opened, unless its task has gone meanwhile.
    pub(super) fn enter_store(&self, task: TaskId, name: &Arc<str>, view: Option<StoreView>) {
        if lock(&self.tasks).contains_key(&task) {
            self.stores.enter(task, name, view);
        }
    }

    /// Whether a task is here and processes.
    pub(super) fn runs(&self, task: TaskId) -> bool {
        let runs = |info: &TaskInfo| matches!(info.state, TaskState::Running | TaskState::Retrying);
        lock(&self.tasks).get(&task).is_some_and(runs)
    }

    /// Running once every task is; rebalancing else.
    fn settle(&self) {
        let tasks = lock(&self.tasks);
        let busy =
            |info: &TaskInfo| matches!(info.state, TaskState::Restoring | TaskState::Suspended);
        let next = if tasks.values().any(busy) { State::Rebalancing } else { State::Running };
        for (state, name) in TaskState::NAMES {
            let count = tasks.values().filter(|info| info.state == state).count();
            self.metrics.set_tasks(name, count);
        }
        let placement = tasks.values().map(|info| (info.id, info.thread, info.state.name()));
        self.metrics.set_placement(placement);
        drop(tasks);
        self.become_state(next);
    }
}
