//! A running sink, as others see it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::TopicPartition;
use crate::runtime::State;

/// A view of a sink for other threads; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SinkHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    status: Mutex<Status>,
}

#[derive(Debug, Default)]
struct Status {
    state: Option<State>,
    failure: Option<String>,
    positions: BTreeMap<TopicPartition, i64>,
}

impl SinkHandle {
    /// Asks for an ordered stop, and returns at once.
    pub fn close(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }

    /// What the sink is doing.
    pub fn state(&self) -> State {
        self.status().state.unwrap_or(State::Created)
    }

    /// What ended it, if it has failed.
    pub fn failure(&self) -> Option<String> {
        self.status().failure.clone()
    }

    /// The partitions that it reads, each with the next offset that is not written.
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        self.status().positions.clone()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    pub(super) fn become_state(&self, state: State) {
        self.status().state = Some(state);
    }

    pub(super) fn fail(&self, failure: String) {
        self.status().failure = Some(failure);
        self.become_state(State::Error);
    }

    pub(super) fn tell_positions(&self, positions: impl Iterator<Item = (TopicPartition, i64)>) {
        self.status().positions = positions.collect();
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
