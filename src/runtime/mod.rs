//! The runtime: clients, threads and commits around the tasks.
//!
//! ```text
//! KafkaStreams ─┬─ control thread   Membership: assigned, revoked, lost ──► commands
//!               ├─ stream thread …  Consumer + Producer + tasks: poll → process → punctuate → commit
//!               ├─ restore thread … changelogs → stores, for all stream threads
//!               └─ global thread    topics → global stores
//! ```
//!
//! Deliberately absent: what operators do. The runtime knows tasks, not windows or joins.

mod assignment;
mod components;
mod control;
mod directory;
mod fencing;
mod global_thread;
mod handle;
mod host_info;
mod housekeeping;
mod launch;
mod matching;
mod queries;
mod rebalance;
mod reports;
mod restore;
mod shared;
mod sink;
mod standbys;
mod state;
mod state_dir;
mod stream_thread;
mod threads;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use self::components::{fingerprint, task_settings};
use self::directory::Directory;
use self::launch::{Launch, supervise};
use self::shared::Shared;
use self::state_dir::StateDir;
use self::threads::Thread;
use self::topics::Prepared;
use crate::config::StreamsConfig;
use crate::error::{Error, Result};
use crate::task::TaskBuilder;
use crate::telemetry::ClientMetrics;
use crate::topology::Topology;

pub use self::components::{Components, client_settings};
pub use self::handle::Handle;
pub use self::host_info::{HostInfo, KeyQueryMetadata, LagInfo, StreamsMetadata};
pub use self::queries::StoreQueryParameters;
pub use self::shared::{RestoreProgress, TaskInfo, TaskState};
pub use self::state::State;
pub use self::threads::{Scheduler, Threads};

/// Runs a topology on a cluster. Source: `org.apache.kafka.streams.KafkaStreams`.
///
/// ```no_run
/// # fn main() -> kstreams::Result<()> {
/// use kstreams::{KafkaStreams, StreamsBuilder, StreamsConfig};
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, String>("in").to("out");
/// let config = StreamsConfig::new("copy", "127.0.0.1:9092");
/// let mut streams = KafkaStreams::new(builder.build()?, config)?;
/// streams.start()?;
/// streams.wait()
/// # }
/// ```
pub struct KafkaStreams {
    topology: Arc<Topology>,
    config: Arc<StreamsConfig>,
    components: Components,
    prepared: Prepared,
    state_dir: Arc<StateDir>,
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    supervisor: Option<Thread>,
}

impl KafkaStreams {
    /// Prepares a client with the usual components.
    ///
    /// # Errors
    /// As [`with_components`](Self::with_components).
    pub fn new(topology: Topology, config: StreamsConfig) -> Result<Self> {
        config.validate()?;
        let components = Components::from_config(&config)?;
        Self::with_components(topology, config, components)
    }

    /// Checks settings and topics, creates internal topics, and locks the state folder. Nothing runs yet.
    ///
    /// # Errors
    /// `Invalid` for a setting, topic or folder that will not do, `Retriable` where no broker answers.
    pub fn with_components(
        topology: Topology,
        config: StreamsConfig,
        components: Components,
    ) -> Result<Self> {
        config.validate()?;
        let mut admin = components.clients.admin()?;
        let topology = Arc::new(topology);
        let prepared = topics::prepare(&topology, &config, &components.handlers, &mut *admin)?;
        let state_dir = Arc::new(StateDir::open(&config.state_dir, &config.application_id)?);
        let metrics = ClientMetrics::new(&config.application_id);
        let config = Arc::new(config);
        let settings = task_settings(&config, &components);
        let Prepared { topology: matched, plan, .. } = prepared.clone();
        let builder = TaskBuilder::new(matched, plan, settings);
        metrics.set_info(
            &fingerprint(&topology.describe()),
            builder.subtopologies.len(),
            config.processing_guarantee.name(),
        );
        let shared = Shared::new(metrics, &components);
        let directory = Directory::new(builder, config.clone(), components.clients.clone());
        Ok(Self {
            directory: Arc::new(directory),
            topology,
            config,
            components,
            prepared,
            state_dir,
            shared: Arc::new(shared),
            supervisor: None,
        })
    }

    /// Starts the threads, and returns at once; [`state`](Self::state) says when they run.
    ///
    /// # Errors
    /// `Invalid` when called twice, `Fatal` where a client cannot be made.
    pub fn start(&mut self) -> Result<()> {
        if self.shared.state() != State::Created {
            return Err(Error::invalid("start was called twice; build another KafkaStreams"));
        }
        self.shared.become_state(State::Rebalancing);
        let launch = Launch {
            topology: self.topology.clone(),
            config: self.config.clone(),
            components: self.components.clone(),
            prepared: self.prepared.clone(),
            state_dir: self.state_dir.clone(),
            shared: self.shared.clone(),
            directory: self.directory.clone(),
        };
        let shared = self.shared.clone();
        let threads = &self.components.threads;
        let supervisor = threads.spawn("control", move || supervise(launch, &shared))?;
        self.supervisor = Some(supervisor);
        Ok(())
    }

    /// What the client is doing.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// A view for other threads.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
            topology: self.topology.clone(),
            directory: self.directory.clone(),
        }
    }

    /// Waits until the client has stopped.
    ///
    /// # Errors
    /// The failure that stopped it.
    pub fn wait(&mut self) -> Result<()> {
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            self.shared.fail(Error::fatal("the control thread panicked"));
        }
        match self.shared.take_failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Stops in order: commits, closes the tasks, leaves the group.
    ///
    /// # Errors
    /// `Fatal` where that takes longer than `timeout`; the failure, where one had stopped the client before.
    pub fn close(&mut self, timeout: Duration) -> Result<()> {
        if self.supervisor.is_none() {
            return Ok(());
        }
        self.shared.request_stop();
        let done = |state| matches!(state, State::NotRunning | State::Error);
        if !self.shared.wait_for(done, timeout) {
            return Err(Error::fatal(format!(
                "the client did not stop within {} ms; what is uncommitted will be processed again",
                timeout.as_millis()
            )));
        }
        self.wait()
    }
}
