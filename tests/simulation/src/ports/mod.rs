//! The engine's ports to the simulated cluster. Every call passes [`Port::enter`]: it may take time, meet a fault, or be its process's last.

mod admin;
mod consumer;
mod membership;
mod producer;

use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::{
    Admin, Consumer, ConsumerPurpose, KafkaClients, MemberName, Membership, Producer,
};
use kstreams::{Error, ErrorKind, Result};

use crate::faults::{Call, Moment};
use crate::fibers;
use crate::world::{State, World, killed};

pub(crate) use membership::Client;

/// A process's way to its ports.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) world: Arc<World>,
    pub(crate) life: usize,
}

impl Port {
    /// Begins a call.
    ///
    /// # Errors
    /// `Fatal` where the process is dead, before the call or by it.
    pub(crate) fn enter(&self, call: Call) -> Result<()> {
        self.pass(call, Moment::Before)
    }

    /// Ends a call that has done its work.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub(crate) fn leave(&self, call: Call) -> Result<()> {
        self.pass(call, Moment::After)
    }

    fn pass(&self, call: Call, moment: Moment) -> Result<()> {
        let pause = {
            let mut state = self.world.lock();
            let stalled = state.struck(self.life, call, moment);
            let travel = if call.is_remote() && !state.lives[self.life].is_dead {
                Duration::from_micros(state.rng.u64(50..1_500))
            } else {
                Duration::ZERO
            };
            stalled + travel
        };
        self.pause(pause)
    }

    /// Lets time pass, and then waits for as long as the process stands still.
    pub(crate) fn pause(&self, mut pause: Duration) -> Result<()> {
        loop {
            if !pause.is_zero() {
                fibers::pause(pause);
            }
            let state = self.world.lock();
            let life = &state.lives[self.life];
            if life.is_dead {
                return Err(killed());
            }
            pause = life.frozen_until.saturating_sub(state.now);
            if pause.is_zero() {
                return Ok(());
            }
        }
    }

    /// Waits until a broker can be reached, and lets errors happen that go away by themselves.
    ///
    /// # Errors
    /// `Retriable` after `timeout` without a broker.
    pub(crate) fn reach(&self, call: Call, timeout: Duration) -> Result<()> {
        let deadline = self.world.lock().now + timeout;
        self.enter(call)?;
        loop {
            let left = {
                let mut state = self.world.lock();
                if state.chance(|faults| faults.errors_per_mille) {
                    state.note(|| format!("{call:?} of process {} fails for now", self.life));
                    return Err(retriable(call));
                }
                if state.is_connected(self.life) {
                    return Ok(());
                }
                let wait = state.connected_at(self.life).saturating_sub(state.now);
                wait.min(deadline.saturating_sub(state.now))
            };
            if left.is_zero() {
                return Err(retriable(call));
            }
            self.pause(left)?;
        }
    }

    pub(crate) fn note(&self, text: impl FnOnce(&State) -> String) {
        let mut state = self.world.lock();
        if state.history.is_recorded() {
            let text = text(&state);
            let life = self.life;
            state.note(|| format!("process {life}: {text}"));
        }
    }
}

fn retriable(call: Call) -> Error {
    Error::new(ErrorKind::Retriable, format!("no answer to {call:?}"))
}

/// Makes the clients of one process.
pub(crate) struct SimulatedClients(pub(crate) Port);

impl KafkaClients for SimulatedClients {
    fn membership_as(
        &self,
        topics: &[Arc<str>],
        name: MemberName<'_>,
    ) -> Result<Box<dyn Membership>> {
        Ok(Box::new(membership::Member::join(self.0.clone(), topics, name)?))
    }

    fn consumer(&self, purpose: ConsumerPurpose) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(consumer::LogReader::new(self.0.clone(), purpose)))
    }

    fn producer(&self, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        Ok(Box::new(producer::LogWriter::new(self.0.clone(), transactional_id)))
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        Ok(Box::new(admin::Administrator(self.0.clone())))
    }
}
